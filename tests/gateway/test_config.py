"""The configuration file: defaults, documentation, and errors that name line and key."""

import pytest

from gateway import config
from gateway.settings import Config


def test_no_file_is_needed() -> None:
    assert config.parse("") == Config()


def test_documented_defaults_are_the_defaults() -> None:
    assert config.parse(config.document()) == Config()


def test_every_setting_is_documented_even_those_commented_out() -> None:
    text = config.document()
    live = config.parse(
        "\n".join(
            line.removeprefix("#") if line.startswith("#") and ("[[" in line or " = " in line) else line
            for line in text.splitlines()
        )
    )
    assert live.upstream[0].name == "cloud"
    assert len(live.radio.module) == 1


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        pytest.param("[mqtt]\n\nport = 70000\n", 3, "mqtt.port", "<= 65535", id="out of range"),
        pytest.param("[mqtt]\nport = 'x'\n", 2, "mqtt.port", "expected `int`", id="wrong type"),
        pytest.param("[http]\nprot = 1\n", 2, "http.prot", "no such setting", id="misspelled"),
        pytest.param("\n[htpp]\nport = 1\n", 2, "htpp", "no such setting", id="misspelled section"),
        pytest.param(
            "[[radio.module]]\nsf = 7\n[[radio.module]]\nrole = 'rx'\nsf = 13\n",
            5,
            "radio.module[1].sf",
            "<= 12",
            id="second module",
        ),
        pytest.param("[[upstream]]\nname = 'a'\n", 1, "upstream[0]", "missing setting `host`", id="missing"),
        pytest.param(
            "[[upstream]]\nname='a'\nhost='h'\n[[upstream]]\nname='a'\nhost='i'\n",
            5,
            "upstream[1].name",
            "used twice",
            id="same cursor twice",
        ),
        pytest.param("[gateway\n", 1, "", "not TOML", id="not TOML"),
    ],
)
def test_errors_name_line_and_key(text: str, line: int, key: str, words: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, "fluxgate.toml")
    assert (caught.value.line, caught.value.key) == (line, key)
    assert words in str(caught.value)
    assert f"fluxgate.toml, line {line}" in str(caught.value)


def test_shown_configuration_is_the_one_in_force_without_passwords() -> None:
    text = (
        "[mqtt]\nport = 1884\n[[radio.module]]\nsf = 9\n[[upstream]]\nname='a'\nhost='h'\npassword='secret'\n"
    )
    shown = config.show(config.parse(text))
    assert "secret" not in shown
    again = config.parse(shown)
    assert (again.mqtt.port, again.radio.module[0].sf, again.upstream[0].host) == (1884, 9, "h")

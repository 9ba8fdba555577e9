"""Layouts are read whole or refused with line and place."""

from __future__ import annotations

import contextlib
import random
import re
from pathlib import Path

import pytest

from gateway.provisioning.errors import LayoutError
from gateway.provisioning.layout import marked, metadata_of, parse, secrets_of
from gateway.provisioning.lines import keys_of, line_of, spelled

PAGE = Path(__file__).resolve().parents[3] / "docs" / "provision.md"
EXAMPLE = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]


def test_the_example_of_the_page_is_a_layout() -> None:
    layout = parse(EXAMPLE)
    assert layout.site == "north barn"
    assert layout.thing[1].rights == {
        "commands": frozenset({"subscribe"}),
        "climate": frozenset({"subscribe"}),
    }
    assert marked(layout, layout.channel[1]) == {"unit": "stables", "site": "north barn"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "[[thing]]\nname = 'a'\npublsh = []\n",
            r"line 3: thing\[0\].publsh: there is no such",
            id="misspelt",
        ),
        pytest.param("[[thing]]\nid = 'a'\n", r"line 1: thing\[0\]: name is missing", id="no name"),
        pytest.param(
            "[[thing]]\nname = 'a'\n[[thing]]\nname = 'a'\n",
            r"line 4: thing\[1\].name: 'a' stands twice",
            id="twice",
        ),
        pytest.param("[[user]]\nemail='A@b'\n[[user]]\nemail='a@B'\n", "line 4", id="one person twice"),
        pytest.param(
            "[[thing]]\nname='a'\nid='i'\n[[thing]]\nname='b'\nid='i'\n",
            r"line 6: thing\[1\].id",
            id="one id twice",
        ),
        pytest.param("[[thing]]\nname='a'\nkey='secret'\n", "line 3", id="a secret in the file"),
        pytest.param("[[device]]\ndev_eui='70b3'\n", "line 2", id="a short DevEUI"),
        pytest.param("[[user]]\nemail='a@b'\nrole='king'\n", "line 3", id="no such role"),
        pytest.param("[[channel]]\nname='a'\nmetadata={site='x'}\n", "line 3.*mark", id="the mark"),
        pytest.param(
            "[[channel]]\nname='a'\nmetadata='[]'\n", "line 3.*JSON object", id="metadata that is a list"
        ),
        pytest.param("[[channel]]\nname='a'\nmetadata={at=2026-01-01}\n", "", id="a date"),
        pytest.param(
            "[[group]]\nname='a'\nparent='b'\n[[group]]\nname='b'\nparent='a'\n",
            "below itself",
            id="a circle",
        ),
        pytest.param("[[policy]]\nname='a'\n", "line 1.*either document or file", id="an empty policy"),
        pytest.param(
            "[[codec]]\nname='a'\nsource='x'\nfile='y'\n", "either source or file", id="two sources"
        ),
        pytest.param("site = \n", "line 1: not TOML", id="no TOML"),
        pytest.param("[things]\n", "there is no such field", id="no such table"),
        pytest.param("site = 'a/b'\n", "line 1: site", id="a bad site"),
    ],
)
def test_what_a_layout_may_not_say_is_told_with_its_line(text: str, said: str) -> None:
    if not said:
        assert parse(text).channel[0].name == "a"  # JSON writes it as text
        return
    with pytest.raises(LayoutError, match=said):
        parse(text, "site.toml")


def test_lines_are_found_in_tables_of_all_kinds() -> None:
    text = "site = 'a'\n[[thing]]\nname = 'x'\n[[thing]]\n'name' = 'y'\n[thing.metadata]\n\"a b\" = 1\n"
    assert line_of(text, ("site",)) == 1
    assert line_of(text, ("thing", 1, "name")) == 5
    assert line_of(text, ("thing", 1, "metadata", "a b")) == 7
    assert line_of(text, ("thing", 0, "nothing")) == 2
    assert line_of(text, ("user", 0)) == 0
    assert spelled(keys_of("$.thing[2].metadata.a-b")) == "thing[2].metadata.a-b"


def test_secrets_come_from_the_environment_and_what_is_missing_is_named() -> None:
    layout = parse("[[thing]]\nname='a'\nkey='env:A_KEY'\n[[user]]\nemail='x@y'\npassword='env:NOT_THERE'\n")
    found, missing = secrets_of(layout, {"A_KEY": "0123456789abcdef"})
    assert found == {"env:A_KEY": "0123456789abcdef"}
    assert missing == ["user x@y: password is to come from $NOT_THERE, which is not set"]


def test_metadata_with_null_is_written_as_json() -> None:
    layout = parse("[[channel]]\nname='a'\nmetadata='{\"owner\": null}'\n")
    assert metadata_of(layout.channel[0]) == {"owner": None}


def test_damaged_layouts_let_no_other_error_out() -> None:
    chance = random.Random(20261016)
    for _ in range(1500):
        damaged = list(EXAMPLE)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.randint(0, 9)] = chance.choice(
                [
                    "[[",
                    "]]",
                    "=",
                    '"',
                    "'''",
                    "{",
                    "\n",
                    "1979-05-27",
                    "é",
                    "\x00",
                    "name = 1\n",
                    "[thing]\n",
                    "nan",
                ]
            )
        with contextlib.suppress(LayoutError):
            parse("".join(damaged))

"""Bulk files, paging, metadata, following and exporting, several gateways, second factor: the rest of the commands."""

from __future__ import annotations

import contextlib
import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.rest.client import REFUSED, SIGNED_OUT, USAGE, ApiError
from gateway.rest.entities import bulk_items
from gateway.rest.gateways import fingerprint_of
from gateway.rest.kept import Gateways
from gateway.rest.messages import time_of

Shell = Any  # of conftest.py
PASSPHRASE = "a long passphrase"


def test_many_things_are_made_from_csv_or_json_and_found_again(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    table, array, keys = tmp_path / "t.csv", tmp_path / "t.json", tmp_path / "keys.csv"
    table.write_text('name,metadata,id\nlamp 1,"{""floor"": 1}",lamp-1\nlamp 2,"{""floor"": 2}",\n')
    made = shell("things", "bulk", str(table), "--keys-file", str(keys))
    assert "lamp-1" in made.stdout
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    rows = keys.read_text().splitlines()
    assert rows[0] == "id,name,key"
    key = rows[1].split(",")[2]
    assert len(key) > 40
    assert key not in made.output
    array.write_text(json.dumps([{"name": f"pump {n}"} for n in range(120)]))
    assert len(shell.json("things", "bulk", str(array))) == 120
    page = shell("things", "list")
    assert "100 of 122" in page.stderr
    assert len(shell.json("things", "list", "--limit", "0")) == 122
    assert len(shell.json("things", "list", "--limit", "110", "--offset", "20")) == 102
    assert [each["name"] for each in shell.json("things", "list", "--metadata", '{"floor": 2}')] == ["lamp 2"]
    assert [
        each["name"]
        for each in shell.json("things", "list", "--name", "lamp", "--order", "name", "--descending")
    ] == ["lamp 2", "lamp 1"]
    shell("channels", "bulk", "-", stdin="name\nred\ngreen\n")
    shell("things", "connect", "lamp 1", "red", "green")
    assert len(shell.json("things", "show", "lamp-1")["channels"]) == 2
    shell("things", "disconnect", "lamp 1", "red")
    shell("channels", "update", "green", "--name", "blue", "--metadata", '{"a": 1}')
    assert shell.json("channels", "show", "blue")["metadata"] == {"a": 1}
    shell("things", "update", "lamp 1", "--metadata", "@" + str(_file(tmp_path, '{"floor": 9}')))
    assert shell.json("things", "show", "lamp 1")["metadata"] == {"floor": 9}
    assert "nothing to change" in shell("things", "update", "lamp 1", status=USAGE).stderr
    gone = shell("things", "delete", "lamp 1", "nobody", status=REFUSED)
    assert "no thing 'nobody'" in gone.stderr
    assert shell.json("things", "show", "lamp 1"), "where one is not there, none is removed"


def _file(folder: Path, text: str) -> Path:
    path = folder / "given.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "holds no things|columns", id="nothing"),
        pytest.param("[]", "holds no things", id="an empty array"),
        pytest.param("[1]", "holds no things", id="numbers"),
        pytest.param("[{", "t:", id="not JSON"),
        pytest.param("nam\nx\n", "line 1", id="a wrong column"),
        pytest.param("name,metadata\nx,{\n", "line 2", id="metadata that is no JSON"),
        pytest.param('name\n"x\n', "line", id="an open quote"),
        pytest.param("[" + ",".join(['{"name":"x"}'] * 1001) + "]", "1001", id="too many"),
    ],
)
def test_a_file_of_many_that_cannot_be_read_names_the_line(text: str, said: str) -> None:
    with pytest.raises(ApiError, match=said) as found:
        bulk_items("thing", text, "t")
    assert found.value.status == USAGE


def test_a_damaged_file_of_many_lets_no_other_error_out() -> None:
    chance = random.Random(20261016)
    whole = 'name,id,metadata\nlamp,l-1,"{""floor"": 1}"\npump,,\n[{"name": "x"}]\x00"'
    for _ in range(3000):
        damaged = list(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.randint(0, 3)] = chance.choice(
                ['"', ",", "\n", "[", "\0", "\udcff", "{", "é"]
            )
        with contextlib.suppress(ApiError):
            bulk_items("thing", "".join(damaged), "t")


def test_a_key_goes_to_a_file_for_its_owner_alone_or_comes_from_a_pipe(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    file = tmp_path / "pump.key"
    made = shell("things", "create", "pump", "--key-file", str(file))
    key = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in made.output
    channel = shell.json("channels", "create", "field")["id"]
    shell("channels", "connect", "field", "pump")
    shell("messages", "send", channel, "{}", "--type", "application/json", FLUXGATE_KEY=key)
    shell("things", "rekey", "pump", "--key-stdin", stdin="a-key-of-my-own-1234\n")
    refused = shell("messages", "send", channel, "{}", status=SIGNED_OUT, FLUXGATE_KEY=key)
    assert "rekey" in refused.stderr
    shell(
        "messages", "send", channel, "{}", "--type", "application/json", FLUXGATE_KEY="a-key-of-my-own-1234"
    )
    assert "empty" in shell("things", "rekey", "pump", "--key-stdin", status=USAGE).stderr


def test_messages_are_followed_and_exported(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    thing, channel = shell.json("things", "create", "pump"), shell.json("channels", "create", "field")["id"]
    shell("channels", "connect", "field", "pump")
    for level in (1, 2):
        pack = json.dumps([{"n": "level", "u": "m", "v": level}])
        shell("messages", "send", channel, pack, "--key", thing["key"], "--subtopic", "tank/a")
    file = _file(tmp_path, '{"door": "open"}')
    shell("messages", "send", channel, f"@{file}", "--key", thing["key"], "--type", "application/json")
    seen = shell("messages", "follow", "field", "--after", "0", "--count", "3").stdout.splitlines()
    assert [line.split("  ", 2)[1] for line in seen] == ["tank.a", "tank.a", "-"]
    assert '"door": "open"' in seen[2]
    events = shell(
        "messages", "follow", "field", "--subtopic", "tank.+", "--after", "0", "--count", "2", "--json"
    ).stdout
    assert [json.loads(line)["subtopic"] for line in events.splitlines()] == ["tank.a", "tank.a"]
    target = tmp_path / "out.csv"
    shell("messages", "export", "field", "--output", str(target), "--from", "1h", "--publisher", "pump")
    assert target.read_text().count("level") == 2
    assert list(tmp_path.glob("*.part")) == []
    lines = shell("messages", "export", "field", "--format", "jsonl", "--to", "2001-01-01").stdout
    assert lines == ""
    assert "csv" in shell("messages", "export", "field", "--format", "xml", status=USAGE).stderr
    assert len(shell.json("messages", "read", "field", "--limit", "1")) == 1
    assert "no time" in shell("messages", "read", "field", "--from", "yesterday", status=USAGE).stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("12.5", 12.5),
        ("2h", 1_000_000 - 7200),
        ("30d", 1_000_000 - 30 * 86400),
        ("1970-01-02", 86400),
        ("1970-01-02T00:00:01+01:00", 86401 - 3600),
    ],
)
def test_times_are_written_as_people_do(text: str, seconds: float) -> None:
    assert time_of(text, 1_000_000) == seconds


@pytest.mark.parametrize("text", ["", "h", "5x", "2026-13-01", "\u0661h", "-1h"])
def test_other_times_are_a_sentence(text: str) -> None:
    with pytest.raises(ApiError, match=r"time|span"):
        time_of(text, 0)


def test_several_gateways_are_kept_by_name(shell: Shell) -> None:
    shell("gateways", "add", "barn", shell.hub.url, FLUXGATE_URL="")
    shell("gateways", "add", "shed", "http://127.0.0.1:1/", FLUXGATE_URL="")
    assert [(each["name"], each["default"]) for each in shell.json("gateways", "list")] == [
        ("barn", "*"),
        ("shed", ""),
    ]
    shell(
        "login",
        "--email",
        "owner@example.org",
        "--passphrase-stdin",
        stdin=PASSPHRASE + "\n",
        FLUXGATE_URL="",
    )
    assert shell.json("things", "list", FLUXGATE_URL="barn") == []
    assert shell.json("whoami", FLUXGATE_URL="")["gateway"] == shell.hub.url
    shell("gateways", "use", "shed")
    assert "127.0.0.1:1" in shell("things", "list", status=3, FLUXGATE_URL="").stderr
    shell("gateways", "remove", "shed")
    assert "no gateway 'shed'" in shell("gateways", "use", "shed", status=USAGE).stderr
    assert "no gateway 'shed'" in shell("gateways", "remove", "shed", status=USAGE).stderr
    assert "letters" in shell("gateways", "add", "a b", "http://x", status=USAGE).stderr
    (file,) = shell.home.rglob("gateways.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_of_the_environment_or_of_an_option_takes_the_place_of_signing_in(shell: Shell) -> None:
    shell.sign_in()
    token = next(iter(json.loads(shell.tokens.read_text()).values()))
    shell.tokens.write_text("{}")
    shell("things", "list", status=SIGNED_OUT)
    assert shell.json("things", "list", FLUXGATE_TOKEN=token) == []
    shell("things", "list", "--token", token)
    shell("login", "--api-key", "--passphrase-stdin", stdin="no such key\n", status=SIGNED_OUT)
    shell("login", "--api-key", "--passphrase-stdin", stdin=token + "\n")
    assert shell.json("whoami")["email"] == "owner@example.org"


def test_passphrases_are_changed_by_their_owner_and_by_an_administrator(shell: Shell) -> None:
    shell.sign_in()
    shell(
        "users", "create", "t@example.org", "--role", "viewer", "--passphrase-stdin", stdin=PASSPHRASE + "\n"
    )
    assert shell.json("users", "show", "T@example.org")["role"] == "viewer"
    shell("users", "passphrase", "t@example.org", "--passphrase-stdin", stdin="another passphrase\n")
    shell("login", "--email", "t@example.org", "--passphrase-stdin", stdin="another passphrase\n")
    assert "administrator" in shell("users", "list", status=REFUSED).stderr
    shell("users", "passphrase", "--passphrase-stdin", stdin="another passphrase\n" + PASSPHRASE + "\n")
    shell("whoami", status=SIGNED_OUT)
    shell("login", stdin=f"t@example.org\n{PASSPHRASE}\n")
    assert shell.json("whoami")["email"] == "t@example.org"


def test_files_that_somebody_else_wrote_are_passed_over(shell: Shell) -> None:
    shell.tokens.parent.mkdir(parents=True)
    for text in ("[]", "{", '{"gateways": {"a": 1}}'):
        shell.tokens.write_text(text)
        (shell.tokens.parent / "gateways.json").write_text(text)
        shell("things", "list", status=SIGNED_OUT)
        assert shell.json("gateways", "list") == []


def test_a_fingerprint_is_that_of_openssl() -> None:
    with pytest.raises(ApiError):
        fingerprint_of("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----")
    with pytest.raises(ApiError):
        fingerprint_of("nothing")
    assert Gateways is not None

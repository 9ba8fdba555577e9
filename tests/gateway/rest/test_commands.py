"""The commands that manage a gateway over its REST API, against a real hub; what goes wrong is a sentence."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from gateway.rest.client import REFUSED, SIGNED_OUT, UNREACHABLE, USAGE

Shell = Any  # of conftest.py
EMAIL, PASSPHRASE = "owner@example.org", "a long passphrase"
DENY = '{"subjects": ["<.*>"], "actions": ["publish"], "resources": ["<.*>"], "effect": "deny"}'


def test_from_signing_in_to_a_message_and_back(shell: Shell) -> None:
    shell.sign_in()
    thing = shell.json("things", "create", "pump", "--metadata", '{"floor": 2}')
    channel = shell.json("channels", "create", "field")
    shell("channels", "connect", "field", "pump")
    assert shell.json("things", "show", "pump")["channels"] == [channel["id"]]
    assert shell.json("channels", "show", channel["id"])["things"] == [thing["id"]]
    pack = '[{"n":"level","u":"m","v":1.5}]'
    shell("messages", "send", channel["id"], pack, "--key", thing["key"], "--subtopic", "tank.a")
    shell("messages", "send", channel["id"], "-", stdin=pack, FLUXGATE_KEY=thing["key"])
    table = shell("messages", "read", "field").stdout
    assert table.count("level") == 2
    assert "1.5" in table
    assert [
        record["subtopic"] for record in shell.json("messages", "read", "field", "--subtopic", "tank.a")
    ] == ["tank.a"]
    listed = shell("things", "list").stdout
    assert thing["id"] in listed
    assert '{"floor": 2}' in listed
    shell("things", "rename", "pump", "fan")
    fresh = shell.json("things", "rekey", "fan")["key"]
    shell("messages", "send", channel["id"], pack, "--key", thing["key"], status=SIGNED_OUT)
    shell("messages", "send", channel["id"], pack, "--key", fresh)
    shell("channels", "disconnect", "field", "fan", "--publish")
    refused = shell("messages", "send", channel["id"], pack, "--key", fresh, status=REFUSED)
    assert "not for publishing" in refused.stderr
    shell("things", "delete", "fan")
    shell("channels", "delete", "field")
    assert shell.json("things", "list") == shell.json("channels", "list") == []


def test_the_token_is_kept_for_its_owner_alone_and_forgotten(shell: Shell) -> None:
    shell("login", "--email", EMAIL, "--passphrase-stdin", stdin=PASSPHRASE + "\n")
    (file,) = shell.home.rglob("tokens.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSPHRASE not in file.read_text()
    shell("users", "list")
    shell("logout")
    assert json.loads(file.read_text()) == {}
    assert "fluxgate login" in shell("users", "list", status=SIGNED_OUT).stderr
    shell("logout")


def test_a_token_that_has_ended_asks_to_sign_in_again(shell: Shell) -> None:
    shell.sign_in()
    registry = shell.hub.hub.registry
    registry.change_password(registry.users()[0].id, "another passphrase")
    assert "sign in again" in shell("things", "list", status=SIGNED_OUT).stderr
    shell("logout")


def test_people_are_added_given_roles_and_removed(shell: Shell) -> None:
    shell.sign_in()
    shell("users", "create", "t@example.org", "--passphrase-stdin", stdin=PASSPHRASE + "\n")
    shell("users", "role", "t@example.org", "viewer")
    assert [(each["email"], each["role"]) for each in shell.json("users", "list")] == [
        (EMAIL, "admin"),
        ("t@example.org", "viewer"),
    ]
    shell("users", "delete", "t@example.org")
    assert "last" in shell("users", "delete", EMAIL, status=REFUSED).stderr
    assert "nobody" in shell("users", "role", "x@example.org", "viewer", status=REFUSED).stderr


def test_policies_are_checked_put_explained_and_removed(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    thing = shell.json("things", "create", "pump")["id"]
    channel = shell.json("channels", "create", "field")["id"]
    shell("channels", "connect", channel, thing)
    good, wrong = tmp_path / "good.json", tmp_path / "wrong.json"
    good.write_text(DENY)
    wrong.write_text(DENY.replace("publish", "publsh"))
    assert "deny" in shell("policies", "check", str(good)).stdout
    assert "line 1" in shell("policies", "check", str(wrong), status=REFUSED).stderr
    asked = ("policies", "explain", "publish", "--thing", thing, "--channel", channel)
    assert shell(*asked).stdout.startswith("yes: the thing is connected")
    assert "1 statements in force" in shell("policies", "put", "night", "-", stdin=DENY).stdout
    assert "publsh" in shell("policies", "put", "night", str(wrong), status=REFUSED).stderr
    assert shell(*asked, status=1).stdout.startswith("no: policy night/1 denies it")
    assert shell("policies", "show", "night").stdout.strip() == DENY
    assert [each["name"] for each in shell.json("policies", "list")] == ["night"]
    shell("policies", "delete", "night")
    assert shell.json("policies", "list") == []


def test_what_goes_wrong_is_a_sentence_with_a_status_of_its_own(shell: Shell, tmp_path: Path) -> None:
    wrong = shell("login", "--email", EMAIL, "--passphrase-stdin", stdin="nonsense\n", status=SIGNED_OUT)
    assert "wrong" in wrong.stderr
    shell.sign_in()
    for _ in range(2):
        shell("things", "create", "twin")
    assert "take an id" in shell("things", "show", "twin", status=REFUSED).stderr
    assert "no thing 'nobody'" in shell("things", "show", "nobody", status=REFUSED).stderr
    assert "JSON" in shell("things", "create", "x", "--metadata", "[", status=USAGE).stderr
    assert "object" in shell("things", "create", "x", "--metadata", "[]", status=USAGE).stderr
    assert "--key" in shell("messages", "send", "c", "x", status=USAGE).stderr
    assert "No such file" in shell("policies", "put", "a", str(tmp_path / "none"), status=USAGE).stderr
    gone = shell("things", "list", "--url", "http://127.0.0.1:1", status=UNREACHABLE)
    assert "is it running" in gone.stderr
    assert "--url" in shell("things", "list", "--url", "http://[", status=UNREACHABLE).stderr

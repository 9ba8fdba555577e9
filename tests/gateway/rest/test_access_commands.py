"""Keys, certificates, groups, applications, sessions, the audit log and the second factor, from the command line."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pyotp
import typer
from pyotp.totp import TOTP

from gateway.rest.client import REFUSED, SIGNED_OUT, USAGE
from gateway.rest.naming import completion

Shell = Any  # of conftest.py
EMAIL, PASSPHRASE = "owner@example.org", "a long passphrase"


def test_api_keys_are_made_used_rotated_and_removed(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    file = tmp_path / "key"
    made = shell(
        "keys", "create", "script", "--scope", "things:read", "--expires", "90d", "--key-file", str(file)
    )
    value = file.read_text().strip()
    assert value not in made.output
    assert shell.json("things", "list", FLUXGATE_TOKEN=value) == []
    assert shell("things", "create", "x", status=REFUSED, FLUXGATE_TOKEN=value).stderr
    (listed,) = shell.json("keys", "list")
    assert listed["scopes"] == ["things:read"]
    assert "value" not in listed
    assert listed["expires_at"]
    fresh = shell.json("keys", "rotate", "script")["value"]
    shell("things", "list", status=SIGNED_OUT, FLUXGATE_TOKEN=value)
    shell("things", "list", FLUXGATE_TOKEN=fresh)
    assert shell.json("keys", "show", listed["id"])["name"] == "script"
    shell("keys", "delete", "script")
    shell("things", "list", status=SIGNED_OUT, FLUXGATE_TOKEN=fresh)
    assert "no key 'script'" in shell("keys", "show", "script", status=REFUSED).stderr
    assert "span" in shell("keys", "create", "x", "--expires", "soon", status=USAGE).stderr
    shell("things", "create", "pump")
    of_thing = shell.json("keys", "create", "second", "--thing", "pump")
    assert [each["id"] for each in shell.json("keys", "list", "--thing", "pump")] == [of_thing["id"]]
    shell("keys", "delete", "second", "--thing", "pump")


def test_certificates_are_written_to_files_and_revoked(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    shell("things", "create", "pump 1")
    folder = tmp_path / "pki"
    made = shell("certs", "issue", "pump 1", "--output", str(folder), "--for", "365d")
    assert "PRIVATE KEY" not in made.output
    assert {each.name for each in folder.iterdir()} == {"pump-1.pem", "pump-1.key", "authority.pem"}
    assert stat.S_IMODE((folder / "pump-1.key").stat().st_mode) == 0o600
    shell("certs", "authority", "--output", str(tmp_path / "root.pem"))
    judged = subprocess.run(
        [
            "openssl",
            "verify",
            "-CAfile",
            tmp_path / "root.pem",
            "-untrusted",
            folder / "pump-1.pem",
            folder / "pump-1.pem",
        ],
        capture_output=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stderr
    (one,) = shell.json("certs", "list", "--thing", "pump 1", "--state", "good")
    assert "BEGIN CERTIFICATE" in shell.json("certs", "show", one["serial"])["certificate"]
    shell("certs", "revoke", one["serial"], "--reason", "lost")
    assert shell.json("certs", "list", "--state", "revoked")[0]["reason"] == "lost"
    assert "X509 CRL" in shell("certs", "deny-list").stdout
    shell("certs", "revoke", "--thing", "pump 1")
    assert "either" in shell("certs", "revoke", status=USAGE).stderr
    assert (
        "no folder"
        in shell("certs", "issue", "pump 1", "--output", str(folder / "pump-1.key"), status=USAGE).stderr
    )
    fingerprint = shell("certs", "authority").stderr.split()[-1]
    words = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", tmp_path / "root.pem"],
        capture_output=True,
        check=True,
    )
    assert words.stdout.decode().strip().endswith(fingerprint)


def test_groups_hold_people_things_and_channels(shell: Shell) -> None:
    shell.sign_in()
    shell("groups", "create", "Farm", "--description", "all of it")
    below = shell.json("groups", "create", "Stables", "--parent", "Farm")
    shell("things", "create", "fan")
    shell("channels", "create", "air")
    shell(
        "users", "create", "k@example.org", "--role", "member", "--passphrase-stdin", stdin=PASSPHRASE + "\n"
    )
    shell(
        "groups",
        "add",
        "Stables",
        "--user",
        "k@example.org",
        "--thing",
        "fan",
        "--channel",
        "air",
        "--role",
        "technician",
    )
    held = {(each["type"], each["role"]) for each in shell.json("groups", "members", "Stables")}
    assert held == {("users", "technician"), ("things", ""), ("channels", "")}
    table = shell("groups", "list").stdout
    assert "Farm" in table
    assert "Stables" in table
    shell("groups", "update", "Stables", "--name", "Barn")
    assert shell.json("groups", "show", "Barn")["id"] == below["id"]
    shell("groups", "remove", "Barn", "--thing", "fan")
    assert len(shell.json("groups", "members", "Barn")) == 2
    assert "--user" in shell("groups", "add", "Barn", status=USAGE).stderr
    assert "nothing to change" in shell("groups", "update", "Barn", status=USAGE).stderr
    assert "no thing 'x'" in shell("groups", "add", "Barn", "--thing", "x", status=REFUSED).stderr
    shell("groups", "delete", "Barn")
    assert [each["name"] for each in shell.json("groups", "list")] == ["Farm"]


def test_applications_get_a_secret_once_and_scopes(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    file = tmp_path / "secret"
    made = shell("apps", "create", "board", "--scope", "messages:read", "--key-file", str(file))
    assert file.read_text().strip() not in made.output
    assert shell.json("apps", "show", "board")["scopes"] == ["messages:read"]
    shell("apps", "update", "board", "--scope", "messages:read", "--scope", "things:read")
    assert sorted(shell.json("apps", "list")[0]["scopes"]) == ["messages:read", "things:read"]
    assert shell.json("apps", "secret", "board")["secret"] != file.read_text().strip()
    shown = shell("apps", "create", "phone", "--public", "--redirect-uri", "https://app.example.org/back")
    assert "secret" not in shown.stdout
    assert shell.json("apps", "consents") == []
    assert "nothing to change" in shell("apps", "update", "board", status=USAGE).stderr
    shell("apps", "delete", "board")
    assert "`fluxgate apps list`" in shell("apps", "show", "board", status=REFUSED).stderr


def test_sessions_are_listed_and_ended_and_the_audit_log_tells(shell: Shell) -> None:
    shell.sign_in()
    first = json.loads(shell.tokens.read_text())
    shell.sign_in()
    rows = shell.json("sessions", "list")
    assert [each["current"] for each in rows].count(True) == 1
    other = next(each for each in rows if not each["current"])
    assert "1 ended" in shell("sessions", "end").stdout
    shell("things", "list", status=SIGNED_OUT, FLUXGATE_TOKEN=next(iter(first.values())))
    assert shell("sessions", "end", other["id"], status=REFUSED).stderr
    assert "*" in shell("sessions", "list", "--all").stdout
    shell("things", "create", "pump")
    lines = shell.json("audit", "list", "--kind", "thing", "--from", "1h")
    assert len(lines) == 1
    assert shell("audit", "list", "--limit", "3").stdout.count("\n") == 4
    assert shell.json("audit", "verify")["intact"] is True
    assert shell("audit", "export", "--format", "jsonl").stdout.count("\n") >= 1
    assert "csv or jsonl" in shell("audit", "export", "--format", "xml", status=REFUSED).stderr


def test_a_second_factor_is_turned_on_asked_for_and_turned_off(shell: Shell, monkeypatch: Any) -> None:
    shell.sign_in()
    said: list[str] = []

    def shows(words: str, **options: Any) -> str:
        """The app beside the terminal: it reads the secret that the terminal shows."""
        said.append(words)
        if not words.startswith("Code"):
            return PASSPHRASE
        secret = pyotp.parse_uri(shell.uri).secret
        later_s = 30 * (sum(each.startswith("Code") for each in said) - 1)  # a code is good once
        return str(TOTP(secret).at(shell.hub.hub.clock()[0] // 10**9 + later_s))

    echo = typer.echo

    def heard(text: Any = "", **options: Any) -> None:
        for line in str(text).splitlines():
            if line.startswith("otpauth:"):
                shell.uri = line
        echo(text, **options)

    monkeypatch.setattr("typer.prompt", shows)
    monkeypatch.setattr("typer.echo", heard)
    codes = shell("users", "totp", "on").stdout.splitlines()[-10:]
    assert shell.json("users", "totp", "status")["on"] is True
    shell("login", "--email", EMAIL, "--code", codes[0])
    assert shell.json("users", "totp", "status")["recovery_codes"] == 9
    shell("login", "--email", EMAIL)
    assert any("second factor" in words for words in said)
    renewed = shell("users", "totp", "recovery", "--code", codes[1]).stdout.splitlines()
    assert len(renewed) == 10
    shell("users", "totp", "off", "--code", renewed[0])
    assert shell.json("users", "totp", "status")["on"] is False


def test_ids_and_names_are_completed_from_the_gateway(shell: Shell, monkeypatch: Any) -> None:
    shell.sign_in()
    ids = [shell.json("things", "create", name)["id"] for name in ("pump", "pump 2", "lamp")]
    monkeypatch.setenv("FLUXGATE_URL", shell.hub.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home))
    monkeypatch.delenv("FLUXGATE_TOKEN", raising=False)
    complete = completion("/things?limit=100", "things")
    assert dict(complete("")) == {"pump": ids[0], ids[1]: "pump 2", "lamp": ids[2]}
    assert complete("pu") == [("pump", ids[0])]
    assert dict(complete(ids[2][:30])) == {ids[2]: "lamp"}
    assert completion("/nothing", "things")("") == []
    shell.tokens.write_text("{}")
    assert complete("") == []
    monkeypatch.setenv("FLUXGATE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLUXGATE_TOKEN", "x")
    assert complete("") == []

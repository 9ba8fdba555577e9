"""Somebody at a command line, in front of a real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.real_hub import RealHub

COMMAND = typer.main.get_command(app)
EMAIL, PASSPHRASE = "owner@example.org", "a long passphrase"


@dataclass
class Shell:
    """A terminal whose commands go to the hub."""

    hub: RealHub
    home: Path

    def __call__(self, *words: str, stdin: str = "", status: int = 0, **env: str) -> Result:
        environment = {"FLUXGATE_URL": self.hub.url, "XDG_CONFIG_HOME": str(self.home), **env}
        answer = CliRunner().invoke(app, [*words], input=stdin, env=environment)
        assert answer.exit_code == status, (answer.output, answer.stderr, answer.exception)
        return answer

    def json(self, *words: str, **env: str) -> Any:
        return json.loads(self(*words, "--json", stdin="", status=0, **env).stdout)

    def sign_in(self) -> None:
        """As `fluxgate login` leaves it, without the time that a passphrase takes."""
        registry, now_s = self.hub.hub.registry, self.hub.hub.clock()[0] / 1e9
        token = registry.issue_token(registry.users()[0].id, now_s)
        self.tokens.parent.mkdir(parents=True, exist_ok=True)
        self.tokens.write_text(json.dumps({self.hub.url: token}))

    @property
    def tokens(self) -> Path:
        return self.home / "fluxgate" / "tokens.json"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    # All commands are built once, and not for each line that is typed.
    monkeypatch.setattr("typer.testing._get_command", lambda _: COMMAND)
    hub = RealHub(tmp_path / "data", EMAIL, PASSPHRASE)
    yield Shell(hub, tmp_path / "home")
    hub.close()

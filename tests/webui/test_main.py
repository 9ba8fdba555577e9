"""The command line of the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from webui.__main__ import settings
from webui.config import WebuiConfig


@pytest.fixture(autouse=True)
def no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


def test_without_arguments_the_defaults_hold() -> None:
    assert settings([]) == WebuiConfig()


def test_everything_can_be_said_on_the_command_line() -> None:
    given = "--host 0.0.0.0 --port 80 --api http://127.0.0.1:9 --trusted-host a.local --trusted-host b.local"
    assert settings([*given.split(), "--secure-cookies"]) == WebuiConfig(
        host="0.0.0.0",
        port=80,
        api_url="http://127.0.0.1:9",
        trusted_hosts=("a.local", "b.local"),
        secure_cookies=True,
    )


def test_sessions_survive_a_restart_where_systemd_gives_a_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", os.fspath(tmp_path))
    assert settings([]).sessions_path == str(tmp_path / "sessions.db")


def test_a_port_is_a_number() -> None:
    with pytest.raises(SystemExit):
        settings(["--port", "http"])

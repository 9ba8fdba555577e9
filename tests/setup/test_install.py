"""install.sh without changing anything; prove_install.sh installs for real, in fresh systems."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["install.sh", "tests/setup/prove_install.sh"]
DEBIAN = shutil.which("apt-get") is not None


def install(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DESTDIR"}
    return subprocess.run(
        [str(ROOT / "install.sh"), *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    answer = subprocess.run(
        ["shellcheck", "--enable=quote-safe-variables", str(ROOT / script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.skipif(not DEBIAN, reason="not a Debian system")
def test_dry_run_tells_every_step_and_changes_nothing() -> None:
    answer = install("--dry-run", "--board", "dragino-hat")
    assert answer.returncode == 0, answer.stderr
    assert "Nothing was changed" in answer.stdout
    for step in (
        "Checking the machine",
        "System packages",
        "Users",
        "SPI",
        "Programs",
        "Settings",
        "Services",
    ):
        assert f"==> {step}" in answer.stdout
    for unit in ("radio", "gateway", "webui"):
        assert f"fluxgate-{unit}.service" in answer.stdout


@pytest.mark.skipif(not DEBIAN, reason="not a Debian system")
def test_without_a_board_the_radio_stays_off() -> None:
    answer = install("--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert "the radio service stays off" in answer.stdout or "kept as it is" in answer.stdout


def test_dry_uninstall_keeps_settings_and_data() -> None:
    answer = install("--dry-run", "--uninstall")
    assert answer.returncode == 0, answer.stderr
    assert "/opt/fluxgate" in answer.stdout
    assert not re.search(r"would run: rm .*(/etc/fluxgate|/var/lib/fluxgate)", answer.stdout)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--dry-run", "--board", "toaster"], "unknown board: toaster; known are"),
        (["--dry-run", "--purge"], "--purge goes with --uninstall"),
        (["--dry-run", "--root", "/nonexistent"], "there is no directory /nonexistent"),
        (["--dry-run", "--wheelhouse"], "--wheelhouse needs a value"),
        (["--frobnicate"], "unknown option: --frobnicate"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_done(options: list[str], complaint: str) -> None:
    answer = install(*options)
    assert answer.returncode == 1
    assert complaint in answer.stderr
    assert "==>" not in answer.stdout


def test_the_manual_names_every_option_and_every_board() -> None:
    manual = (ROOT / "docs" / "install.md").read_text()
    options = set(re.findall(r"--[a-z][a-z-]+", install("--help").stdout))
    assert {option for option in options if option not in manual} == set()
    boards = {path.stem for path in (ROOT / "radio/data/boards").glob("*.toml") if "-sim-" not in path.stem}
    assert {board for board in boards if f"`{board}`" not in manual} == set()

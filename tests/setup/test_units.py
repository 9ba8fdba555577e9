"""The systemd units: valid, closed as far as a Python daemon can be, and starting commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from gateway.cli import app
from gateway.settings import RadioSection

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
PROGRAM = "/opt/fluxgate/current/bin/fluxgate"

# Exposure times ten, as `systemd-analyze security` of systemd 252 counts it. What remains is the host's network
# (0.8), asking the kernel about its clock (0.3), and for the radio its devices (0.4) and servers anywhere (0.2).
THRESHOLDS = {"fluxgate-radio": 17, "fluxgate-gateway": 14, "fluxgate-webui": 10}

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings(unit: str) -> dict[str, str]:
    lines = (UNITS / f"{unit}.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_every_unit_is_valid(tmp_path: Path) -> None:
    copies = []
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.target")]:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
        copies.append(str(copy))
    answer = run("systemd-analyze", "verify", *copies)
    ours = [line for line in answer.stderr.splitlines() if "fluxgate" in line]
    assert ours == []
    assert len(copies) == 4


@pytest.mark.parametrize("unit", THRESHOLDS)
def test_exposure_stays_low(unit: str) -> None:
    answer = run(
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={THRESHOLDS[unit]}",
        str(UNITS / f"{unit}.service"),
    )
    assert answer.returncode == 0, answer.stdout.splitlines()[-1]


def test_every_unit_starts_a_command_that_exists() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for unit in THRESHOLDS:
        program, command, *rest = settings(unit)["ExecStart"].split()
        assert program == PROGRAM
        assert command in commands
        assert rest == ["--config", "/etc/fluxgate/fluxgate.toml"]


def test_every_process_is_a_user_of_its_own() -> None:
    users = {settings(unit)["User"] for unit in THRESHOLDS}
    assert users == {"fluxgate", "fluxgate-radio", "fluxgate-webui"}


def test_only_the_radio_opens_devices() -> None:
    for unit in THRESHOLDS:
        assert ("DeviceAllow" in settings(unit)) == (unit == "fluxgate-radio")
        assert settings(unit)["DevicePolicy"] == "closed"


def test_the_folder_the_radio_may_write_is_the_one_its_settings_name() -> None:
    folder = settings("fluxgate-radio")["StateDirectory"]
    assert RadioSection().state_dir == f"/var/lib/{folder}"
    assert f"$ROOT/var/lib/{folder}" in (ROOT / "install.sh").read_text(), "--purge removes it"


def test_the_gateway_may_ask_the_radio_where_the_settings_say() -> None:
    radio = settings("fluxgate-radio")
    assert RadioSection().control_socket == f"/run/{radio['RuntimeDirectory']}/radio.sock"
    assert radio["RuntimeDirectoryMode"] == "0750"
    for unit in ("fluxgate-radio", "fluxgate-gateway"):
        assert "AF_UNIX" in settings(unit)["RestrictAddressFamilies"]
    assert "m fluxgate fluxgate-radio" in (UNITS / "fluxgate.sysusers").read_text().splitlines()


def test_the_pages_give_way_to_the_radio() -> None:
    assert int(settings("fluxgate-webui")["Nice"]) > 0
    assert settings("fluxgate-radio")["CPUSchedulingPolicy"] == "fifo"
    scores = {unit: int(settings(unit)["OOMScoreAdjust"]) for unit in THRESHOLDS}
    assert scores["fluxgate-radio"] < scores["fluxgate-gateway"] < scores["fluxgate-webui"]


def test_users_are_the_same_for_sysusers_and_for_the_installer() -> None:
    declared = (UNITS / "fluxgate.sysusers").read_text()
    installer = (ROOT / "install.sh").read_text()
    for user in re.findall(r"^u (\S+)", declared, re.MULTILINE):
        groups = re.findall(rf"^m {user} (\S+)", declared, re.MULTILINE)
        found = re.search(rf"^    ensure_user {user} \S+(.*)$", installer, re.MULTILINE)
        assert found is not None, user
        assert found[1].split() == groups


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_sysusers_makes_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    answer = run("systemd-sysusers", f"--root={tmp_path}", str(UNITS / "fluxgate.sysusers"))
    assert answer.returncode == 0, answer.stderr
    groups = {
        line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().splitlines()
    }
    assert groups["fluxgate"] == "fluxgate-radio,fluxgate-webui"
    assert groups["spi"] == groups["gpio"] == groups["dialout"] == "fluxgate-radio"
    assert groups["fluxgate-radio"] == "fluxgate"

"""The log and the registry on disks that are really full and really read-only: a small file system of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from .disk_scenarios import SCENARIOS

SCRIPT = Path(__file__).with_name("disk_scenarios.py")
ROOT = Path(__file__).resolve().parents[2]
DISK_BYTES = 40 << 20


@cache
def namespace() -> tuple[str, ...] | None:
    """How to get a mount namespace of our own here: as root, or through a user namespace; None where neither goes."""
    for way in (("unshare", "-m"), ("unshare", "-Urm")):
        try:
            done = subprocess.run(
                [*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return way
    return None


Run = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Run:
    """Run a scenario in a namespace where `tmp_path` is a file system of DISK_BYTES."""
    way = namespace()
    if way is None:
        pytest.skip("no mount namespace can be had here (needs root or user namespaces)")

    def run(name: str) -> subprocess.CompletedProcess[str]:
        script = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$3" && exec "$0" "$1" "$2" "$3"'
        command = [*way, "sh", "-c", script, sys.executable, str(SCRIPT), name, str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=120
        )

    return run


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not name.startswith("fill")])
def test_nothing_acknowledged_is_lost_and_it_goes_on_by_itself(on_a_small_disk: Run, name: str) -> None:
    done = on_a_small_disk(name)
    assert done.stdout == "ok\n", done.stderr

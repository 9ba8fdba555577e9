"""A gateway whose disk is full, then read-only: every door says so, reading goes on, and it gets well by itself."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from torture import shim
from torture.zygote import HERE, PYTHONPATH

DISK = "size=40m"


@cache
def namespace() -> tuple[str, ...] | None:
    """How to get a mount namespace of our own: as root, or through a user namespace; None where neither goes."""
    for way in (("unshare", "-m"), ("unshare", "-Urm")):
        command = [*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return way
    return None


def test_a_gateway_without_room_says_so_on_every_door_and_gets_well_by_itself(tmp_path: Path) -> None:
    way = namespace()
    if way is None:
        pytest.skip("no mount namespace can be had here (needs root or user namespaces)")
    script = f'mount -t tmpfs -o {DISK} tmpfs "$2" && LD_PRELOAD="$3" exec "$0" "$1" "$2"'
    arguments = [sys.executable, str(HERE / "small_disk.py"), str(tmp_path), str(shim.build())]
    environment = shim.environment() | {"PYTHONPATH": PYTHONPATH}
    del environment["LD_PRELOAD"]
    done = subprocess.run(
        [*way, "sh", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=200,
    )
    print(done.stdout)
    assert done.stdout.endswith("ok\n"), done.stderr[-3000:]

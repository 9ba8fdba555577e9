"""Builds `diskshim.c` and drives it from inside the process it is preloaded into."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("diskshim.c")


class Call(enum.IntFlag):
    """Calls that can be made to fail; the bits of `enum call`."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4
    OPEN = 8
    RENAME = 16
    UNLINK = 32
    ANY = WRITE | SYNC | TRUNCATE | OPEN | RENAME | UNLINK


def build() -> Path:
    """The shared object, compiled once per source and machine. Raises CalledProcessError."""
    mark = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"fluxgate-diskshim-{os.getuid()}-{mark}.so"
    if not target.exists():
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", fresh, SOURCE],
            check=True,
        )
        fresh.replace(target)
    return target


def environment() -> dict[str, str]:
    """For a process that is to run over the shim."""
    return os.environ | {"LD_PRELOAD": str(build())}


class Shim:
    """The shim of this process. Raises OSError where it is not preloaded."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(None)
            self._start = library.torture_start
            self._mark = library.torture_mark
            self._fault = library.torture_fault
            self._counted = library.torture_counted
        except AttributeError as error:
            raise OSError("the disk shim is not preloaded") from error
        self._mark.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._start.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint]
        self._fault.argtypes = [ctypes.c_uint, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._counted.restype = ctypes.c_long

    def start(self, folder: Path, trace: Path, sync_delay_us: int = 0) -> None:
        """Record what happens to files in `folder` into `trace`."""
        fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._start(os.fsencode(folder), fd, sync_delay_us)

    def mark(self, text: str) -> None:
        """Put a mark between the calls of the trace."""
        raw = text.encode()
        self._mark(raw, len(raw))

    def fail(self, calls: Call, at: int, error: int, *, forever: bool, partial: bool = False) -> None:
        """From now on the `at`-th of these calls fails with `error`, and with `forever` all after it.

        With `partial` half of a failing write arrives. `at` 0 only counts.
        """
        self._fault(int(calls), at, error, int(forever), int(partial))

    def counted(self) -> int:
        """How many calls have been counted since `fail`."""
        return int(self._counted())

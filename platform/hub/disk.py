"""The disk below the data directory: what an error says about it, whether it can be written, and a reserve.

A disk that is full or read-only passes (somebody frees space, checks the card, mounts it again), so nothing ends
for it: what needs the disk is refused with a sentence, and goes on by itself. Everything else an I/O error may
mean is not told apart here and stays fatal.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import sqlite3
from pathlib import Path

from .database import is_environment, primary_code

log = logging.getLogger("hub.disk")

BALLAST_BYTES = 4 << 20  # room for thousands of sign-ins, and for counters until somebody has looked
MIN_ROOM = 1 << 20  # free beside the ballast before messages are taken again, so that it does not flap
PROBE_BYTES = 64 << 10  # more than the index of a WAL, which is what SQLite first needs room for

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FLUSHES = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class DiskState(enum.StrEnum):
    """Whether the data directory can be written."""

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read-only"


def words(state: DiskState) -> str:
    """The sentence people read; "" where nothing is wrong."""
    match state:
        case DiskState.FULL:
            return "the disk is full: new messages are refused until there is room again"
        case DiskState.READ_ONLY:
            return "the disk is read-only: nothing can be stored until it can be written again"
        case _:
            return ""


def trouble(error: sqlite3.Error | OSError, folder: Path) -> DiskState | None:
    """What `error` says about the disk; None where it is neither full nor read-only, or a flush has failed.

    SQLite tells the reason of some failures only as "cannot open" or "I/O error": then the folder is asked.
    """
    if isinstance(error, OSError):
        return _of_errno(error)
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskState.FULL
    if code == sqlite3.SQLITE_READONLY:
        return DiskState.READ_ONLY
    if not is_environment(error) or getattr(error, "sqlite_errorcode", 0) in _FLUSHES:
        return None
    return probe(folder)


def probe(folder: Path) -> DiskState | None:
    """What keeps a small file from being written in `folder`; None where nothing does."""
    path = folder / ".probe"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(handle, bytes(PROBE_BYTES)) < PROBE_BYTES:
                return DiskState.FULL
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)
    except OSError as error:
        return _of_errno(error)
    return None


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write; 0 where it cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _of_errno(error: OSError) -> DiskState | None:
    if error.errno in _FULL:
        return DiskState.FULL
    return DiskState.READ_ONLY if error.errno in _READ_ONLY else None


class Ballast:
    """A file of BALLAST_BYTES that is given up when the disk is full.

    Sign-in, LoRaWAN counters and the databases' own files can then still be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def give_up(self) -> bool:
        """Free its room; False where there is none left to free, or the disk does not let go of it."""
        try:
            self._path.unlink()
        except OSError:
            return False
        log.error("%s is given up: the disk is full", self._path.name)
        return True

    def ensure(self) -> bool:
        """Take the room again where there is enough; False where there is not."""
        try:
            if self._path.exists() and self._path.stat().st_size == BALLAST_BYTES:
                return True
            if free_bytes(self._path.parent) < BALLAST_BYTES + MIN_ROOM:
                return False
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, BALLAST_BYTES)
            finally:
                os.close(handle)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        return True

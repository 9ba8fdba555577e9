"""What the hub's tests share: messages to append, and connections that fail on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from hub.message import SENML_JSON, Message

CHANNEL = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"
PUBLISHER = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c002"

MakeMessage = Callable[..., Message]


@pytest.fixture
def make_message() -> MakeMessage:
    """A message whose payload says which one it is."""

    def make(n: int = 0, *, channel: str = CHANNEL, payload: bytes | None = None, **more: object) -> Message:
        body = b'[{"n":"urn:dev:mac:0011223344556677","v":%d}]' % n if payload is None else payload
        fields = {
            "subtopic": "",
            "content_type": SENML_JSON,
            "created_ns": 1_700_000_000_000_000_000 + n,
        } | more
        return Message(channel=channel, publisher=PUBLISHER, protocol="lora", payload=body, **fields)  # type: ignore[arg-type]

    return make


class FailingDisk(sqlite3.Connection):
    """A connection whose disk fails once `fault` is set, at each statement that begins with `at`."""

    fault: sqlite3.OperationalError | None = None
    at = "COMMIT"
    attempts = 0

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        if FailingDisk.fault and sql.startswith(FailingDisk.at):
            FailingDisk.attempts += 1
            raise FailingDisk.fault
        return super().execute(sql, *args)  # type: ignore[arg-type]


@pytest.fixture
def failing_disk() -> type[FailingDisk]:
    FailingDisk.fault, FailingDisk.at, FailingDisk.attempts = None, "COMMIT", 0
    return FailingDisk


def disk_error(code: int, text: str) -> sqlite3.OperationalError:
    """An error as SQLite raises it, with its result code."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def io_error() -> sqlite3.OperationalError:
    return disk_error(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error")


@pytest.fixture
def full_error() -> sqlite3.OperationalError:
    return disk_error(sqlite3.SQLITE_FULL, "database or disk is full")

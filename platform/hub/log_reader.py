"""Reading the log: committed messages after a sequence number, over a read-only connection.

Each thread that reads has a reader of its own; `Log` holds one for the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .database import open_reader
from .message import Message

STEP = 256  # rows fetched at once: about 64 KiB of bodies


class LogReader:
    """Reads messages in ascending order of their numbers."""

    def __init__(self, path: Path) -> None:
        self._conn = open_reader(path)
        self._decode = msgspec.msgpack.Decoder(Message).decode

    def scan(
        self,
        after_seq: int,
        match: Callable[[Message], bool] | None,
        limit: int,
        *,
        max_rows: int | None = None,
        up_to: int | None = None,
    ) -> tuple[list[Message], int]:
        """Up to `limit` messages that match, and the number up to which the log has been looked through.

        Looks at no more than `max_rows` rows and not beyond `up_to`, so that a rare match cannot hold a
        caller up.
        """
        found: list[Message] = []
        seen = after_seq
        left = max_rows if max_rows is not None else (1 << 62)
        last = up_to if up_to is not None else (1 << 62)
        while len(found) < limit and left > 0:
            step = min(STEP, left) if match else min(STEP, left, limit - len(found))
            rows = self._conn.execute(
                "SELECT seq, body FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (seen, last, step),
            ).fetchall()
            for seq, body in rows:
                message = self._decode(body)
                seen = seq
                if match is None or match(message):
                    found.append(message)
                    if len(found) == limit:
                        break
            left -= len(rows)
            if len(rows) < step:
                break
        else:
            return found, seen
        if len(found) < limit and up_to is not None:
            seen = max(seen, up_to)  # nothing more up to there
        return found, seen

    def read_one(self, seq: int) -> Message | None:
        """The message with this number, or None where it is not (or no longer) there."""
        row = self._conn.execute("SELECT body FROM log WHERE seq = ?", (seq,)).fetchone()
        return self._decode(row[0]) if row else None

    def query(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Any reading statement over the log's file, other parts' tables included."""
        return self._conn.execute(sql, params).fetchall()

    def close(self) -> None:
        self._conn.close()


def is_damage(error: sqlite3.Error) -> bool:
    """True where SQLite found the file itself damaged (SQLITE_CORRUPT, SQLITE_NOTADB)."""
    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 where the error did not come from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1

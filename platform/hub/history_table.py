"""The tables of the history's file, and a chunk as a row of one."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .database import Migration, migrate
from .history_chunks import ChunkDamaged, Head, Values, encode

MIGRATIONS: Final = (
    Migration(
        "history/2",
        (
            "CREATE TABLE series(id INTEGER PRIMARY KEY, channel TEXT NOT NULL, subtopic TEXT NOT NULL, "
            "publisher TEXT NOT NULL, protocol TEXT NOT NULL, format TEXT NOT NULL, name TEXT NOT NULL, "
            "unit TEXT NOT NULL, UNIQUE (channel, subtopic, publisher, protocol, format, name, unit))",
            # Clocks that were not synchronised; number 0 stands for all that were.
            "CREATE TABLE boot(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
            # AUTOINCREMENT: a number is never used again, so a decoded chunk may be remembered by it.
            "CREATE TABLE chunk(id INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, "
            "boot INTEGER NOT NULL, upto INTEGER NOT NULL, count INTEGER NOT NULL, first REAL NOT NULL, "
            "last REAL NOT NULL, sum REAL, min REAL, max REAL, hours BLOB, body BLOB NOT NULL)",
            "CREATE INDEX chunk_by ON chunk(series, boot, last, first, count, upto)",
            # How far each series is in chunks, where that is farther than `done`: a compaction under way.
            "CREATE TABLE ahead(series INTEGER PRIMARY KEY, upto INTEGER NOT NULL)",
            "CREATE TABLE damaged(id INTEGER PRIMARY KEY, series INTEGER, boot INTEGER, upto INTEGER, "
            "count INTEGER, first REAL, last REAL, sum REAL, min REAL, max REAL, hours BLOB, body BLOB)",
            "CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
            "INSERT INTO state(name, value) VALUES ('done', 0), ('damaged_records', 0)",
        ),
    ),
)

CHUNK_COLUMNS: Final = "id, series, boot, upto, count, first, last, sum, min, max, hours, body"
# A damaged value may say it is text, which sqlite3 would refuse to read; the checksum judges it.
_SELECT: Final = (
    "SELECT id, series, boot, upto, count, first, last, sum, min, max, CAST(hours AS BLOB), "
    "CAST(body AS BLOB) FROM chunk WHERE id "
)
SELECT_CHUNK: Final = _SELECT + "= ?"
CHUNKS_SELECTED: Final = 64
SELECT_CHUNKS: Final = _SELECT + f"IN ({', '.join('?' * CHUNKS_SELECTED)})"
INSERT: Final = (
    "INSERT INTO chunk(series, boot, upto, count, first, last, sum, min, max, hours, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NAN: Final = float("nan")


class Chunk(NamedTuple):
    """A row of the table `chunk`."""

    id: int
    head: Head
    hours: bytes | None
    body: bytes

    @classmethod
    def of(cls, row: Sequence[Any]) -> Chunk:
        """Raises ChunkDamaged where the row holds values of other kinds than were written."""
        number, series, boot, upto, count, first, last, total, low, high, hours, body = row
        try:
            head = Head(
                series,
                boot,
                upto,
                count,
                first,
                last,
                _NAN if total is None else total,
                _NAN if low is None else low,
                _NAN if high is None else high,
            )
            head.packed()
        except Exception as error:  # struct.error, TypeError, OverflowError by what a damaged row holds
            raise ChunkDamaged(f"its row: {error}") from None
        if not isinstance(body, bytes) or not isinstance(hours, bytes | None):
            raise ChunkDamaged("its body is no blob")
        return cls(number, head, hours, body)


def create(path: Path) -> None:
    """A new file that can give free pages back: that has to be said before anything is written to it."""
    if path.exists() and path.stat().st_size:
        return
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        migrate(conn, ())
    finally:
        conn.close()


def row_of(series: int, boot: int, upto: int, times: array[float], values: Values) -> tuple[Any, ...]:
    head, hours, body = encode(series, boot, upto, times, values)
    return (series, boot, upto, head.count, head.first, head.last, head.sum, head.min, head.max, hours, body)

"""Bringing over the file of an earlier version, which kept each record as a row.

The old file is renamed and read in the background, in the order of its keys; each step adds chunks and remembers
in the same transaction how far it has come. The old file is removed when all of it is in chunks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from .database import open_writer, set_aside, sync_directory
from .history_chunks import Item
from .history_model import SeriesKey
from .history_store import HistoryStore, Place
from .senml import arrival_s

log = logging.getLogger("hub.history")

STEP_ROWS: Final = 4096  # rows brought over in one step: about 10 ms
OTHER_ROWS: Final = 256  # of messages, which may be long
RECORDS, MESSAGES = 0, 1  # what a place is in: the table of records, or that of other messages

Row = tuple[SeriesKey, float, Item]  # series, time, value


class OldHistory:
    """The renamed file. Built on the caller's thread, then belongs to the store's."""

    def __init__(self, path: Path, conn: sqlite3.Connection) -> None:
        self._path = path
        self._conn = conn
        self.done = False
        (self.cursor,) = conn.execute(
            "SELECT CAST(coalesce(sum(value), 0) AS INTEGER) FROM state WHERE name = 'cursor'"
        ).fetchone()

    @classmethod
    def adopt(cls, path: Path) -> OldHistory | None:
        """Rename the file at `path` where an earlier version made it, and open it; None where there is none."""
        aside = path.with_name(path.name + ".rows")
        if not aside.exists() and path.exists() and os.access(path.parent, os.W_OK) and _is_old(path):
            for suffix in ("-wal", "-shm"):  # moved into the file by the last connection, if it could
                part = path.with_name(path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            path.rename(aside)
            sync_directory(path.parent)
        if not aside.exists():
            return None
        try:
            return cls(aside, open_writer(aside))
        except sqlite3.DatabaseError as error:
            log.error("the rows of an earlier version cannot be read: %s", error)
            set_aside(aside)
            return None

    def close(self) -> None:
        self._conn.close()

    def remove(self) -> None:
        """All of it is in chunks."""
        self._conn.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def read(self, store: HistoryStore) -> tuple[list[Row], Place]:
        """The next rows behind what `store` has, and how far they reach. None, and `done`, at the end."""
        kind, *after = store.imported() or (RECORDS,)
        return self._records(after) if kind == RECORDS else self._messages(after)

    def _records(self, after: list[Any]) -> tuple[list[Row], Place]:
        rows = self._conn.execute(
            "SELECT series, time, seq, n, v, vs, vb, vd, sum, update_time, channel, subtopic, publisher, "
            "protocol, name, unit FROM record JOIN series ON series.id = record.series "
            "WHERE (series, time, seq, n) > (?, ?, ?, ?) ORDER BY series, time, seq, n LIMIT ?",
            (*(after or (-1, 0.0, 0, 0)), STEP_ROWS),
        ).fetchall()
        if not rows:
            return [], (MESSAGES,)
        found: list[Row] = []
        for row in rows:
            channel, subtopic, publisher, protocol, name, unit = row[10:]
            key = SeriesKey(channel, subtopic, publisher, protocol, "", name, unit)
            found.append((key, row[1], _item(*row[4:10])))
        return found, (RECORDS, *rows[-1][:4])

    def _messages(self, after: list[Any]) -> tuple[list[Row], Place]:
        rows = self._conn.execute(
            "SELECT channel, created_ns, seq, n, format, subtopic, publisher, protocol, content_type, payload "
            "FROM other WHERE (channel, created_ns, seq, n) > (?, ?, ?, ?) "
            "ORDER BY channel, created_ns, seq, n LIMIT ?",
            (*(after or ("", 0, 0, 0)), OTHER_ROWS),
        ).fetchall()
        if not rows:
            self.done = True
            return [], (MESSAGES, *after)
        found: list[Row] = []
        for channel, created_ns, _, _, form, subtopic, publisher, protocol, content_type, payload in rows:
            key = SeriesKey(channel, subtopic, publisher, protocol, form, "", content_type)
            found.append((key, arrival_s(created_ns), (created_ns, payload)))
        return found, (MESSAGES, *rows[-1][:4])


def _is_old(path: Path) -> bool:
    """True where an earlier version's tables are in the file. Closing the connection empties its WAL."""
    try:
        conn = open_writer(path)
    except sqlite3.Error:
        return False  # damaged or out of reach: opening it properly says what to do
    try:
        return conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'record'").fetchone() is not None
    except sqlite3.Error:
        return False
    finally:
        conn.close()


def _item(v: Any, vs: Any, vb: Any, vd: Any, total: Any, update_time: Any) -> Any:
    value = v
    if value is None:
        value = vs if vs is not None else bool(vb) if vb is not None else vd
    return value if total is None and update_time is None else [value, total, update_time]

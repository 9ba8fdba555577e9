"""A second copy of what must outlive a damaged log: identity and counters of other parts that live in its file.

A migration says which of its tables are copied and how soon a change must be there. The copy is one file with a
checksum, replaced as a whole, made in a thread of its own through a connection that only reads. When the database
had to be set aside, the fresh one takes these tables from the copy, and statements of the migration then make
counters jump forward by more than they can have moved since.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .database import Migration, is_environment, open_reader, write_durably

log = logging.getLogger("hub.log")

_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM)\s+(\w+)", re.IGNORECASE)


class _Table(msgspec.Struct, array_like=True):
    columns: list[str]
    rows: list[list[Any]]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, _Table]).decode


class TableCopy:
    """`changed` is called by the writer after its commits; the rest happens in a timer's thread."""

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        self._path = path
        self._target = _copy_of(path)
        self._delays = {name: delay for one in migrations for name, delay in one.copied.items()}
        self._after = [sql for one in migrations for sql in one.after_copy]
        self._delay_of: dict[str, float | None] = {}  # by statement
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._due_s = 0.0  # monotonic, of the timer

    def delay_of(self, sql: str) -> float | None:
        """How soon what `sql` changes must be in the copy, in s; None where it changes nothing that is copied."""
        try:
            return self._delay_of[sql]
        except KeyError:
            delays = [self._delays[name] for name in _TABLE.findall(sql) if name in self._delays]
            # Statements are constants; one that is built anew each time is not
            if len(self._delay_of) > 1_000:
                self._delay_of.clear()
            return self._delay_of.setdefault(sql, min(delays, default=None))

    def changed(self, delay_s: float) -> None:
        """Have the copy made within `delay_s`."""
        due_s = time.monotonic() + delay_s
        with self._lock:
            if self._timer is not None:
                if self._due_s <= due_s:
                    return
                self._timer.cancel()
            self._due_s = due_s
            self._timer = threading.Timer(delay_s, self._make)
            self._timer.name, self._timer.daemon = "hub-log-copy", True
            self._timer.start()

    def finish(self, *, clean: bool) -> None:
        """Make the copy now where one was due and the end is `clean`. Called by the writer at its end."""
        with self._lock:
            due = self._timer is not None
            if self._timer:
                self._timer.cancel()
        if due and clean:
            self._make()

    def _make(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self._write()
            except (sqlite3.Error, OSError) as error:
                log.warning("%s stays as it was: %s", self._target.name, error)

    def _write(self) -> None:
        tables = {}
        with contextlib.closing(open_reader(self._path)) as conn:
            conn.execute("BEGIN")  # all of one moment
            for name in self._delays:
                cursor = conn.execute(f'SELECT * FROM "{name}"')
                rows = [list(row) for row in cursor.fetchall()]
                tables[name] = _Table([column for column, *_ in cursor.description], rows)
        packed = _pack(tables)
        write_durably(self._target, packed + zlib.crc32(packed).to_bytes(4, "big"))

    def restore(self, conn: sqlite3.Connection) -> int:
        """Fill the tables of a fresh database from the copy, once; returns how many rows that were.

        Says in the database that it was done, so that a crash in between repeats it and nothing else does.
        """
        (done,) = conn.execute("SELECT count(*) FROM state WHERE name = 'copy'").fetchone()
        if done:
            return 0
        found = _read(self._target)
        try:
            rows = self._fill(conn, found)
        except sqlite3.Error as error:
            if is_environment(error):
                raise
            log.error("%s does not fit and is ignored: %s", self._target.name, error)
            found, rows = {}, self._fill(conn, {})
        if found:
            log.error(
                "%d rows were taken from %s: what changed last before the damage may be missing",
                rows,
                self._target.name,
            )
        return rows

    def _fill(self, conn: sqlite3.Connection, found: dict[str, _Table]) -> int:
        rows = 0
        conn.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in self._inserts(conn, found):
                conn.executemany(sql, values)
                rows += len(values)
            for sql in self._after if found else ():
                conn.execute(sql)
            conn.execute("INSERT INTO state(name, value) VALUES ('copy', ?)", (rows,))
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")
        return rows

    def _inserts(
        self, conn: sqlite3.Connection, found: dict[str, _Table]
    ) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
        """Statement and rows of each table; columns that one side lacks are left out."""
        for name in self._delays:
            table = found.get(name)
            if table is None:
                continue
            here = {column for _, column, *_ in conn.execute(f'PRAGMA table_info("{name}")')}
            places = [n for n, column in enumerate(table.columns) if column in here]
            columns = ", ".join(f'"{table.columns[n]}"' for n in places)
            marks = ", ".join("?" * len(places))
            sql = f'INSERT OR REPLACE INTO "{name}"({columns}) VALUES ({marks})'
            yield sql, [tuple(row[n] for n in places) for row in table.rows]


def copied_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What the copy of the database at `path` holds, by table and column; empty where there is none that is whole.

    For rows of the database that turn out to be damaged although SQLite can read them.
    """
    tables = _read(_copy_of(path))
    return {
        name: [dict(zip(table.columns, row, strict=False)) for row in table.rows]
        for name, table in tables.items()
    }


def _copy_of(path: Path) -> Path:
    return path.with_name(path.name + ".copy")


def _read(target: Path) -> dict[str, _Table]:
    """The copy; empty where there is none or where it is damaged as well."""
    try:
        content = target.read_bytes()
        if zlib.crc32(content[:-4]) == int.from_bytes(content[-4:], "big"):
            return _unpack(content[:-4])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.error("%s: %s", target.name, error)
    log.error("%s is damaged and ignored", target.name)
    return {}


def soonest(copy: TableCopy, statements: Iterable[str]) -> float | None:
    """The shortest delay any of `statements` asks for; None where none changes what is copied."""
    delays = (copy.delay_of(sql) for sql in statements)
    return min((delay for delay in delays if delay is not None), default=None)

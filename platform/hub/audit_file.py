"""The audit log's file: lines in a chain, bounded by size, and the chain's head a second time outside it.

One thread writes (`hub.audit`); who looks does so through a connection of his own. A crash loses nothing committed;
the head beside the file may then be one batch behind, never ahead.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from .audit_chain import START, Line, Link, Mark, Verdict, check, is_ours, line_hash, mark
from .database import Migration, migrate, open_or_set_aside, open_reader, open_writer, write_durably
from .database import check as check_database

log = logging.getLogger("hub.audit")

MAX_AUDIT_BYTES = 32 << 20  # some 80,000 lines; then the oldest tenth goes
CHECK_EVERY = 500  # lines between two looks at the size
HEAD_SUFFIX = ".head"

MIGRATIONS = (
    Migration(
        "audit/1",
        (
            """CREATE TABLE line(
                n INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, quality TEXT NOT NULL, boot TEXT NOT NULL,
                kind TEXT NOT NULL, outcome TEXT NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL,
                door TEXT NOT NULL, resource TEXT NOT NULL, detail TEXT NOT NULL, count INTEGER NOT NULL,
                before BLOB NOT NULL, hash BLOB NOT NULL)""",
            "CREATE TABLE anchor(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, hash BLOB NOT NULL, seal BLOB NOT NULL)",
            "CREATE TABLE setting(name TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID",
        ),
    ),
)

_FIELDS = "n, time_ns, quality, boot, kind, outcome, who, address, door, resource, detail, count"


class AuditFile:
    """The connection that writes; belongs to one thread."""

    def __init__(self, path: Path, key: bytes, max_bytes: int = MAX_AUDIT_BYTES) -> None:
        """Open, or create. Raises sqlite3.Error or OSError where the disk does not let it.

        `note` is then a sentence where the file is not the one that was left: damaged, shortened or exchanged.
        """
        self._path, self._key, self._max_bytes = path, key, max_bytes
        self._since_check = 0
        self._conn, aside = open_or_set_aside(path, self._open)
        self.note = ""
        row = self._conn.execute("SELECT n, hash FROM line ORDER BY n DESC LIMIT 1").fetchone()
        place: tuple[int, bytes] | None = row or self._conn.execute("SELECT n, hash FROM anchor").fetchone()
        self._n, self._hash = place or (0, START)
        head = read_head(path)
        if head is None or not is_ours(key, "head", head):
            if self._n:
                self.note = "the mark of its end was missing or not ours"
        elif head.n > self._n:
            self.note = f"lines {self._n + 1} to {head.n} are missing"
            self._n, self._hash = head.n, head.hash
        elif head.n and not self._holds(head):
            self.note = f"line {head.n} is not the one that was written"
        if aside is not None:
            self.note = (
                f"its file was damaged and is kept as {aside.name}; {self.note or 'nothing was in it'}"
            )
        if self.note:
            log.error("the audit log is not as it was left: %s", self.note)

    def append(self, lines: Sequence[Line], settings: Mapping[str, bytes] | None = None) -> None:
        """Add lines, whose number is still 0, in one durable transaction; then move the head outside.

        `settings` replaces what `settings()` gives. Raises sqlite3.Error or OSError; then nothing was added.
        """
        n, at = self._n, self._hash
        rows = []
        for draft in lines:
            n += 1
            line = msgspec.structs.replace(draft, n=n)
            before, at = at, line_hash(self._key, at, line)
            rows.append((*msgspec.structs.astuple(line), before, at))
        conn = self._conn
        try:
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(f"INSERT INTO line VALUES ({', '.join('?' * 14)})", rows)
            if settings is not None:
                conn.execute("DELETE FROM setting")
                conn.executemany("INSERT INTO setting VALUES (?, ?)", settings.items())
            self._since_check += len(rows)
            if self._since_check >= CHECK_EVERY:
                self._make_room()
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        self._n, self._hash = n, at
        head = mark(self._key, "head", n, at)
        text = f"{head.n} {head.hash.hex()} {head.seal.hex()}\n"
        try:
            write_durably(head_path(self._path), text.encode())
        except OSError as error:  # the lines are there; the head follows with the next ones
            log.warning("the mark of the audit log's end stays behind: %s", error)

    def settings(self) -> dict[str, bytes]:
        """The digests of the settings that the gateway ran with before."""
        return dict(self._conn.execute("SELECT name, digest FROM setting"))

    def close(self) -> None:
        self._conn.close()

    def _holds(self, head: Mark) -> bool:
        row = self._conn.execute("SELECT hash FROM line WHERE n = ?", (head.n,)).fetchone()
        row = row or self._conn.execute("SELECT hash FROM anchor WHERE n = ?", (head.n,)).fetchone()
        return row is not None and row[0] == head.hash

    def _make_room(self) -> None:
        """Remove the oldest tenth where the file is full, and anchor what is left. Within a transaction."""
        self._since_check = 0
        conn = self._conn
        pages, free, size = (
            conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size <= self._max_bytes:
            return
        first, last = conn.execute("SELECT min(n), max(n) FROM line").fetchone()
        upto = first + (last - first) // 10
        row = conn.execute(
            "SELECT n, hash FROM line WHERE n <= ? ORDER BY n DESC LIMIT 1", (upto,)
        ).fetchone()
        anchor = mark(self._key, "anchor", *row)
        conn.execute("DELETE FROM line WHERE n <= ?", (upto,))
        conn.execute("INSERT OR REPLACE INTO anchor VALUES (1, ?, ?, ?)", anchor)

    def _open(self) -> sqlite3.Connection:
        conn = open_writer(self._path)
        try:
            check_database(conn, self._path)
            migrate(conn, MIGRATIONS)
        except BaseException:
            conn.close()
            raise
        return conn


class Reader:
    """Looks into the file beside the writer."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error where there is no such file, or no audit log in it."""
        self._path = path
        self._conn = open_reader(path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    def lines(self, where: str, parameters: Sequence[object], limit: int) -> list[Line]:
        """Lines for which `where` holds, the newest first."""
        sql = f"SELECT {_FIELDS} FROM line WHERE {where} ORDER BY n DESC LIMIT ?"
        return [Line(*row) for row in self._conn.execute(sql, (*parameters, limit))]

    def verify(self, key: bytes) -> Verdict:
        """Check the whole chain, in one state of the file. Some seconds for a full one."""
        self._conn.execute("BEGIN")
        # Read before the lines: a batch that is committed meanwhile leaves the head behind, never ahead.
        head = read_head(self._path)
        row = self._conn.execute("SELECT n, hash, seal FROM anchor").fetchone()
        return check(key, self._links(), Mark(*row) if row else None, head)

    def _links(self) -> Iterator[Link]:
        for row in self._conn.execute(f"SELECT {_FIELDS}, before, hash FROM line ORDER BY n"):
            yield Link(Line(*row[:-2]), row[-2], row[-1])


def verify_file(path: Path, key: bytes) -> Verdict:
    """The chain of the audit log at `path`, also of a running gateway. Raises sqlite3.Error."""
    with Reader(path) as reader:
        return reader.verify(key)


def head_path(path: Path) -> Path:
    """Where the chain's head is kept a second time."""
    return path.with_name(path.name + HEAD_SUFFIX)


def read_head(path: Path) -> Mark | None:
    """The mark beside the file; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        n, at, seal = head_path(path).read_bytes()[:256].decode("ascii").split()
        return Mark(int(n), bytes.fromhex(at), bytes.fromhex(seal))
    return None

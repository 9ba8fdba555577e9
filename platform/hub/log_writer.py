"""The log's writer thread: takes one batch at a time, commits it, reports back.

A batch is one transaction: messages, other parts' writes, moved cursors, the reserved block of numbers and a
small step of retention. It holds the only connection that writes the file.
"""

from __future__ import annotations

import errno
import itertools
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .database import (
    Migration,
    check,
    grow_wal,
    is_damage,
    migrate,
    open_or_set_aside,
    open_writer,
    primary_code,
    write_durably,
)
from .errors import LogFailed, LogFull, WriteRefused
from .log_batch import Batch, Limits, Outcome, Unit, Write
from .log_reader import encode_row
from .message import Message

log = logging.getLogger("hub.log")

# Small pages spare the card where commits are small, large ones the CPU at full load. Against 4 KiB pages, 2
# KiB write 0.75 of the bytes of a lone commit (1 KiB: 0.64) and take about as long a message in groups (1
# KiB: 1.5 times).
PAGE_SIZE = 2048
MAX_SEQ = 1 << 53  # the largest number that JSON readers keep exactly; reached in 19,000 years at 15,000/s
RESERVE = 262_144  # numbers reserved ahead; four times what may wait uncommitted
RETENTION_STEP = 1_000  # messages deleted in one commit at most: about 1 ms

_SCHEMA = (
    Migration(
        "log/1",
        (
            "CREATE TABLE log(seq INTEGER PRIMARY KEY, body BLOB NOT NULL)",
            "CREATE TABLE cursor(name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
            # What a reader has missed: messages removed before its cursor had passed them.
            "CREATE TABLE gap(id INTEGER PRIMARY KEY, cursor TEXT NOT NULL, first INTEGER NOT NULL, "
            "last INTEGER NOT NULL, messages INTEGER NOT NULL)",
            # Numbers reserved and not given to a stored message: nothing is missing there.
            "CREATE TABLE hole(first INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
            "CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
            "INSERT INTO state(name, value) VALUES ('reserved', 0)",
        ),
    ),
    Migration(
        "log/2",
        (
            # How far the stamps of a boot were wrong (hub.timekeeping), and what the last process knew of the clock.
            "CREATE TABLE correction(id INTEGER PRIMARY KEY, boot TEXT NOT NULL, up_to_seq INTEGER NOT NULL, "
            "offset_ns INTEGER NOT NULL, quality TEXT NOT NULL)",
            "CREATE TABLE clock(id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL, "
            "offset_ns INTEGER NOT NULL, quality TEXT NOT NULL, wall_ns INTEGER NOT NULL)",
        ),
    ),
)

# One statement a batch, whatever its length: sqlite3 gives up the interpreter lock around every step and,
# beside a busy event loop, waits up to a switch interval (5 ms) to get it back. A statement a row would pay
# that per row.
_INSERT = (
    "INSERT INTO log(seq, body) SELECT ?1 + key, substr(?2, (value >> 32) + 1, value & 4294967295) "
    "FROM json_each(?3)"
)

# SQLite's answers that blame the statement, not the disk: SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE,
# RANGE.
_STATEMENT_ERRORS = frozenset({1, 18, 19, 20, 21, 25})


class LogWriter:
    """Owns the write connection. Built on the caller's thread, then `start` moves it to its own."""

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        limits: Limits,
        connection: type[sqlite3.Connection],
    ) -> None:
        self._path = path
        self._mark = path.with_name(path.name + ".reserved")
        self._suspect = path.with_name(path.name + ".suspect")
        self._limits = limits
        self._conn, self.set_aside = open_or_set_aside(path, lambda: self._open(connection))
        self._suspect.unlink(missing_ok=True)
        try:
            migrate(self._conn, migrations)
        except BaseException:
            self._conn.close()
            raise
        self.size_bytes = self._used_bytes()
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._report: Callable[[Outcome], None] = lambda outcome: None
        self._thread = threading.Thread(target=self._run, name="hub-log-writer", daemon=True)

    # Opening: start equals recovery

    def _open(self, connection: type[sqlite3.Connection]) -> sqlite3.Connection:
        conn = open_writer(self._path, page_size=PAGE_SIZE, connection=connection)
        try:
            check(conn, self._path, thorough=self._suspect.exists())
            migrate(conn, _SCHEMA)
            self._recover(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _recover(self, conn: sqlite3.Connection) -> None:
        """Find where the log ends and reserve the next block.

        Numbers left from the last run become a hole.
        """
        self.first_seq, self.last_seq = conn.execute(
            "SELECT coalesce((SELECT min(seq) FROM log), 0), coalesce((SELECT max(seq) FROM log), 0)"
        ).fetchone()
        (reserved,) = conn.execute(
            "SELECT CAST(sum(value) AS INTEGER) FROM state WHERE name = 'reserved'"
        ).fetchone()
        ended: int = max(reserved or 0, self._read_mark(), self.last_seq)
        if ended > MAX_SEQ:
            raise sqlite3.DatabaseError(f"number {ended} is out of range")
        conn.execute("BEGIN IMMEDIATE")
        if ended > self.last_seq and self.last_seq:
            conn.execute("INSERT OR REPLACE INTO hole(first, last) VALUES (?, ?)", (self.last_seq + 1, ended))
        self._extend_reservation(conn, ended)
        conn.execute("COMMIT")
        grow_wal(self._path, PAGE_SIZE)
        self.next_seq = self._expected = ended + 1
        self.first_seq = self.first_seq or self.next_seq
        self.count = 0
        if self.last_seq:
            holes = conn.execute(
                "SELECT first, CAST(last AS INTEGER) FROM hole WHERE first >= ? AND last < ?",
                (self.first_seq, self.last_seq),
            ).fetchall()
            self.count = self.last_seq - self.first_seq + 1 - sum(last - first + 1 for first, last in holes)
        self.cursors: dict[str, int] = dict(conn.execute("SELECT name, CAST(seq AS INTEGER) FROM cursor"))
        (missed,) = conn.execute("SELECT CAST(coalesce(sum(messages), 0) AS INTEGER) FROM gap").fetchone()
        self.gap_messages: int = missed

    def _extend_reservation(self, conn: sqlite3.Connection, ended: int) -> None:
        """Reserve up to `ended` + RESERVE: first in a file of its own, which outlives a damaged database."""
        reserved = ended + RESERVE
        write_durably(self._mark, b"%d\n" % reserved)
        conn.execute("INSERT OR REPLACE INTO state(name, value) VALUES ('reserved', ?)", (reserved,))
        self.reserved = reserved

    def _read_mark(self) -> int:
        try:
            number = int(self._mark.read_bytes()[:20])
        except FileNotFoundError:
            return 0
        except ValueError:
            number = -1
        if not 0 <= number <= MAX_SEQ:
            log.error("%s is damaged and ignored", self._mark.name)
            return 0
        return number

    # Running

    def start(self, report: Callable[[Outcome], None]) -> None:
        """Begin taking batches; `report` is called in the writer thread with each outcome."""
        self._report = report
        self._thread.start()

    def put(self, batch: Batch) -> None:
        self._queue.put(batch)

    def stop(self) -> None:
        """End after the batches handed in so far; blocks until the connection is closed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        clean = True
        while clean and (batch := self._queue.get()) is not None:
            outcome = self._write(batch)
            clean = outcome.error is None or isinstance(outcome.error, LogFull)
            self._report(outcome)
        if clean:
            self._give_back_reservation()
        self._conn.close()

    def _give_back_reservation(self) -> None:
        """After a clean end the next start goes on without a hole."""
        last = self.next_seq - 1
        try:
            self._conn.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (last,))
            write_durably(self._mark, b"%d\n" % last)
        except (sqlite3.Error, OSError) as error:
            log.warning("the reserved numbers stay reserved: %s", error)

    def _write(self, batch: Batch) -> Outcome:
        outcome = Outcome(batch)
        try:
            try:
                self._transact(batch, outcome, one_by_one=False)
            except sqlite3.Error as error:
                if primary_code(error) not in _STATEMENT_ERRORS and not _misused(error):
                    raise
                # Somebody's statement is wrong and nothing has been written: find whose, keep the others.
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                self._transact(batch, outcome, one_by_one=True)
        except (sqlite3.Error, OSError) as error:
            outcome.error = self._failed(error)
        if batch.messages:
            self.next_seq = batch.messages[-1].seq + 1
        outcome.first_seq = self.first_seq
        outcome.reserved = self.reserved
        outcome.count = self.count
        outcome.size_bytes = self.size_bytes
        return outcome

    def _transact(self, batch: Batch, outcome: Outcome, *, one_by_one: bool) -> None:
        conn = self._conn
        reserved = self.reserved
        conn.execute("BEGIN IMMEDIATE")
        if batch.messages:
            first = batch.messages[0].seq
            if first > self._expected:  # a batch before this one found no room on the disk
                conn.execute(
                    "INSERT OR REPLACE INTO hole(first, last) VALUES (?, ?)", (self._expected, first - 1)
                )
            self._insert(batch.messages)
            if batch.messages[-1].seq > reserved - RESERVE // 2:
                self._extend_reservation(conn, batch.messages[-1].seq)
        dropped = 0
        if one_by_one:
            dropped = self._run_units(batch.units, outcome)
        else:
            writes = itertools.chain.from_iterable(unit.also for unit in batch.units)
            for sql, run in itertools.groupby(writes, key=_sql_of):
                conn.executemany(sql, [params for _, params in run])
        for sql, params in batch.lasting:
            conn.execute(sql, params)
        for name, seq in batch.cursors.items():
            if seq is None:
                conn.execute("DELETE FROM cursor WHERE name = ?", (name,))
            else:
                conn.execute("INSERT OR REPLACE INTO cursor(name, seq) VALUES (?, ?)", (name, seq))
        kept = len(batch.messages) - dropped
        step = self._retain(kept)
        conn.execute("COMMIT")
        # Only now do these hold.
        self.count += kept - step.messages
        self.first_seq = step.first_seq or self.first_seq
        if batch.messages:
            self._expected = batch.messages[-1].seq + 1
        self.cursors.update({name: seq for name, seq in batch.cursors.items() if seq is not None})
        for name in [name for name, seq in batch.cursors.items() if seq is None]:
            self.cursors.pop(name, None)
        outcome.gap_messages = step.gap_messages

    def _insert(self, messages: list[Message]) -> None:
        bodies = [encode_row(message) for message in messages]
        places = []
        offset = 0
        for body in bodies:
            size = len(body)
            places.append(offset << 32 | size)
            offset += size
        index = msgspec.json.encode(places).decode()
        self._conn.execute(_INSERT, (messages[0].seq, b"".join(bodies), index))

    def _run_units(self, units: Sequence[Unit], outcome: Outcome) -> int:
        """Run each unit's writes behind a savepoint; one that is refused takes its messages with it.

        Returns how many messages that were.
        """
        dropped = 0
        conn = self._conn
        for index, unit in enumerate(units):
            conn.execute("SAVEPOINT unit")
            try:
                for sql, params in unit.also:
                    conn.execute(sql, params)
            except sqlite3.Error as error:
                if primary_code(error) not in _STATEMENT_ERRORS and not _misused(error):
                    raise
                conn.execute("ROLLBACK TO unit")
                outcome.refused[index] = WriteRefused(str(error))
                if unit.last >= unit.first:
                    conn.execute("DELETE FROM log WHERE seq BETWEEN ? AND ?", (unit.first, unit.last))
                    conn.execute("INSERT INTO hole(first, last) VALUES (?, ?)", (unit.first, unit.last))
                    dropped += unit.last - unit.first + 1
            conn.execute("RELEASE unit")
        return dropped

    def _failed(self, error: sqlite3.Error | OSError) -> LogFailed:
        """Undo what can be undone and name the failure.

        A full disk passes; anything else ends this thread.
        """
        full = primary_code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._suspect.touch()
        try:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
        except sqlite3.Error as second:
            log.error("rollback failed as well: %s", second)
            full = False
        return LogFull(f"no room on the disk: {error}") if full else LogFailed(f"commit failed: {error}")

    # Retention

    @dataclass(frozen=True, slots=True)
    class _Step:
        messages: int = 0
        first_seq: int = 0
        gap_messages: int = 0

    def _retain(self, added: int) -> _Step:
        """Remove the oldest messages beyond the bounds, a step at a time, inside the open transaction."""
        over = self.count + added - self._limits.max_messages
        self.size_bytes = self._used_bytes()
        if self.size_bytes > self._limits.max_bytes:
            over = max(over, added + RETENTION_STEP // 10)
        # Deleting a few rows costs as much as deleting many; let some gather unless the log is tiny.
        if over < min(64, max(1, self._limits.max_messages // 100)):
            return self._Step()
        conn = self._conn
        last, removed = conn.execute(
            "SELECT max(seq), count(*) FROM (SELECT seq FROM log ORDER BY seq LIMIT ?)",
            (min(over, RETENTION_STEP + added),),
        ).fetchone()
        missed = self._record_gaps(last)
        conn.execute("DELETE FROM log WHERE seq <= ?", (last,))
        conn.execute("DELETE FROM hole WHERE last <= ?", (last,))
        (first,) = conn.execute("SELECT coalesce(min(seq), ?) FROM log", (last + 1,)).fetchone()
        return self._Step(removed, first, missed)

    def _record_gaps(self, last: int) -> int:
        """Write down, for each cursor that has not reached `last`, what it loses; extends its newest gap."""
        missed = 0
        conn = self._conn
        for name, seq in conn.execute("SELECT name, seq FROM cursor WHERE seq < ?", (last,)).fetchall():
            first, count = conn.execute(
                "SELECT min(seq), count(*) FROM log WHERE seq > ? AND seq <= ?", (seq, last)
            ).fetchone()
            if not count:
                continue
            missed += count
            extended = conn.execute(
                "UPDATE gap SET last = ?, messages = messages + ? WHERE id = "
                "(SELECT max(id) FROM gap WHERE cursor = ?) AND last >= ?",
                (last, count, name, seq),
            ).rowcount
            if not extended:
                conn.execute(
                    "INSERT INTO gap(cursor, first, last, messages) VALUES (?, ?, ?, ?)",
                    (name, first, last, count),
                )
        return missed

    def _used_bytes(self) -> int:
        """Bytes of the file in use: pages less free ones."""
        (pages,) = self._conn.execute("PRAGMA page_count").fetchone()
        (free,) = self._conn.execute("PRAGMA freelist_count").fetchone()
        return int((pages - free) * PAGE_SIZE)


def _sql_of(write: Write) -> str:
    return write[0]


def _misused(error: sqlite3.Error) -> bool:
    """True for errors the sqlite3 module raises itself: wrong number or type of parameters."""
    return isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))

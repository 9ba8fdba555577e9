"""The log's writer thread: takes one batch at a time, commits it, reports back.

A batch is one transaction: messages, other parts' writes, moved cursors, the reserved block of numbers and a
small step of retention. It holds the only connection that writes the file.
"""

from __future__ import annotations

import logging
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import disk
from .database import (
    Migration,
    check,
    grow_wal,
    is_damage,
    migrate,
    open_or_set_aside,
    open_writer,
    write_durably,
)
from .disk import Ballast, DiskState, words
from .errors import LogFailed, LogFull
from .log_batch import Batch, Limits, Outcome
from .log_copy import TableCopy, soonest
from .log_retention import Retention, Step
from .log_source import ReaderSource
from .log_tables import SCHEMA, insert, is_statement_error, put_cursors, run_together, run_units

log = logging.getLogger("hub.log")

# Small pages spare the card where commits are small, large ones the CPU at full load. Against 4 KiB pages, 2
# KiB write 0.75 of the bytes of a lone commit (1 KiB: 0.64) and take about as long a message in groups (1
# KiB: 1.5 times).
PAGE_SIZE = 2048
MAX_SEQ = 1 << 53  # the largest number that JSON readers keep exactly; reached in 19,000 years at 15,000/s
RESERVE = 262_144  # numbers reserved ahead; four times what may wait uncommitted
RANDOM_BLOCKS = 4_096  # to choose from where no block can be reserved
MAX_WAL_BYTES = 256 << 20  # a WAL this long has been held up by another program for hours: no more messages
SMALL_RATE = 200  # messages/s up to which rows are compressed: below 1 % of a core
SMALL_BATCH = 256  # messages of a commit up to which they are: about 10 ms
PROBE_S = 2.0  # how often a full or read-only disk is tried again
LOOK_S = 1.0  # how often the disk's free room and the WAL's length are looked at, while there is work
IDLE_S = 0.01  # between two steps of tidying up

_HELD_UP = (
    "another program has been reading log.db for too long, and its write-ahead log cannot be emptied: "
    "new messages are refused until that program ends"
)


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
        self._migrations = migrations
        self._factory = connection
        self._copy = TableCopy(path, (*SCHEMA, *migrations))
        self._ballast = Ballast(path.with_name(path.name + ".ballast"))
        self._ballast_owed = 0  # bytes given up that must be free again before messages are taken
        self._retention = Retention(path, limits)
        self._conn: sqlite3.Connection | None = None
        self.source = ReaderSource(path, (*SCHEMA, *migrations))
        self.set_aside: Path | None = None
        self.lost_commits = 0
        self.given = 0  # highest number the event loop has given; it writes this, we read it
        self._next_probe_s = 0.0  # monotonic, as all here
        self.reason = ""
        self._saying = True  # once, not with each try
        self.state = self._try_open()
        self._saying = False
        if self.state is not DiskState.OK:
            self._open_for_reading()
        elif self._ballast_owed:  # the file opened because the ballast made room, which is not for messages
            self._enter(DiskState.FULL)
        else:
            self._ballast.ensure()
        self._next_look_s = 0.0
        self._inserted_s = time.monotonic()
        self._took_s = 0.0  # the last step of tidying up
        self._more = True  # there may be something to remove or to give back
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._report: Callable[[Outcome], None] = lambda outcome: None
        self._thread = threading.Thread(target=self._run, name="hub-log-writer", daemon=True)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file in use."""
        return self._retention.size_bytes

    # Opening: start equals recovery

    def _try_open(self) -> DiskState:
        """Open the file for writing; what keeps us from it where the disk is full or read-only.

        Raises sqlite3.Error, OSError for any other reason.
        """
        while True:
            try:
                conn, aside = open_or_set_aside(self._path, self._open)
                try:
                    self._suspect.unlink(missing_ok=True)
                    migrate(conn, self._migrations)
                    self._copy.restore(conn)
                except BaseException:
                    conn.close()
                    raise
            except (sqlite3.Error, OSError) as error:
                state = disk.trouble(error, self._path.parent)
                if state is None:
                    raise
                if state is DiskState.FULL and self._give_up_ballast():
                    continue
                if self._saying:
                    log.error("%s cannot be opened for writing: %s", self._path.name, error)
                self.reason = words(state)
                return state
            else:
                self._conn = conn
                self.set_aside = aside or self.set_aside
                self.reason = ""
                return DiskState.OK

    def _open(self) -> sqlite3.Connection:
        conn = open_writer(
            self._path,
            page_size=PAGE_SIZE,
            connection=self._factory,
            incremental_vacuum=True,
            on_loss=self._lost,
        )
        try:
            check(conn, self._path, thorough=self._suspect.exists())
            migrate(conn, SCHEMA)
            self._reserve(conn, self._look(conn))
        except BaseException:
            conn.close()
            raise
        return conn

    def _lost(self, commits: int) -> None:
        self.lost_commits += commits

    def _open_for_reading(self) -> None:
        """Start without a disk to write: what is stored can be read, and live messages get numbers.

        No number can be reserved, so they come from a block chosen at random: another start like this one
        will hardly give them again.
        """
        self.source.cut_off()
        ended = self._look(self.source.open())
        self.reserved = 0
        self._expected = ended + 1
        self.next_seq = ended + 1 + RESERVE * (1 + secrets.randbelow(RANDOM_BLOCKS))

    def _look(self, conn: sqlite3.Connection) -> int:
        """Find what the log holds; returns the highest number that may have been given before this start."""
        first, last = conn.execute(
            "SELECT coalesce((SELECT min(seq) FROM log), 0), coalesce((SELECT max(seq) FROM log), 0)"
        ).fetchone()
        self.first_seq, self.last_seq = int(first), int(last)
        (reserved,) = conn.execute(
            "SELECT CAST(sum(value) AS INTEGER) FROM state WHERE name = 'reserved'"
        ).fetchone()
        mark = self._read_mark()
        if mark and not reserved:
            log.error("%s is new, but an earlier one held messages: what it held is lost", self._path.name)
        ended: int = max(reserved or 0, mark, self.last_seq, self.given)
        if ended > MAX_SEQ:
            raise sqlite3.DatabaseError(f"number {ended} is out of range")
        self.first_seq = self.first_seq or ended + 1
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
        self._retention.measure(conn)
        return ended

    def _reserve(self, conn: sqlite3.Connection, ended: int) -> None:
        """Reserve the next block after `ended`. Numbers left from the last run become a hole."""
        conn.execute("BEGIN IMMEDIATE")
        (removed,) = conn.execute(
            "SELECT CAST(coalesce(sum(value), 0) AS INTEGER) FROM state WHERE name = 'removed'"
        ).fetchone()
        if ended > (stored := max(self.last_seq, removed)):
            conn.execute("INSERT OR REPLACE INTO hole(first, last) VALUES (?, ?)", (stored + 1, ended))
        self._extend_reservation(conn, ended)
        conn.execute("COMMIT")
        grow_wal(self._path, PAGE_SIZE)
        self.next_seq = self._expected = ended + 1

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
        while clean:
            try:
                batch = self._queue.get(timeout=self._patience_s())
            except queue.Empty:
                clean = self._between()
                continue
            if batch is None:
                break
            outcome = self._write(batch)
            self._report(outcome)
            clean = outcome.error is None or isinstance(outcome.error, LogFull)
            if clean and self.state is not DiskState.OK and time.monotonic() >= self._next_probe_s:
                clean = self._between()
        self._copy.finish(clean=clean and self._conn is not None)
        if self._conn is not None:
            if clean:
                self._give_back_reservation()
            self._conn.close()

    def _patience_s(self) -> float | None:
        """How long to wait for a batch before there is something else to do."""
        if self.state is not DiskState.OK:
            return max(0.0, self._next_probe_s - time.monotonic())
        return max(IDLE_S, self._took_s) if self._more else None

    def _give_back_reservation(self) -> None:
        """After a clean end the next start goes on without a hole."""
        conn = self._open_conn()
        last = max(self.next_seq - 1, self.given)
        try:
            conn.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (last,))
            write_durably(self._mark, b"%d\n" % last)
        except (sqlite3.Error, OSError) as error:
            log.warning("the reserved numbers stay reserved: %s", error)

    def _between(self) -> bool:
        """One small piece of work between batches: see whether the disk is back, or tidy up.

        False where the disk failed over it.
        """
        outcome = Outcome(None)
        try:
            if self.state is not DiskState.OK:
                self._next_probe_s = time.monotonic() + PROBE_S
                if not self._is_back(outcome):
                    return True
                self._enter(DiskState.OK)
            elif not self._tidy(outcome):
                return True
        except (sqlite3.Error, OSError) as error:
            outcome.error = self._failed(error)
        self._fill(outcome)
        self._report(outcome)
        return outcome.error is None or isinstance(outcome.error, LogFull)

    def _is_back(self, outcome: Outcome) -> bool:
        """Whether messages can be stored again: tried, not guessed."""
        if self._conn is None:
            with self.source.lock:
                if not self.source.shared:
                    self.source.let_go()
                try:
                    state = self._try_open()
                except (sqlite3.Error, OSError) as error:  # still no disk to speak of; nothing was promised
                    log.debug("%s cannot be opened for writing: %s", self._path.name, error)
                    return False
                if state is not DiskState.OK:
                    self.state = state
                    return False
                self.source.join()
            outcome.opened = True
        elif self._wal_bytes() > MAX_WAL_BYTES:
            (held_up, *_) = self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if held_up:
                return False
        if disk.free_bytes(self._path.parent) < self._ballast_owed + disk.MIN_ROOM:
            return False
        self._ballast.ensure()
        self._ballast_owed = 0
        conn = self._open_conn()
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("INSERT OR REPLACE INTO state(name, value) VALUES ('trial', ?)", (self.next_seq,))
        conn.execute("COMMIT")
        return True

    def _tidy(self, outcome: Outcome) -> bool:
        """One step of retention or of giving back free pages; False where there was nothing to do."""
        conn = self._open_conn()
        start_s = time.monotonic()
        try:
            return self._tidy_step(conn, outcome)
        finally:
            self._took_s = time.monotonic() - start_s  # and as long a rest, for a card that is slow

    def _tidy_step(self, conn: sqlite3.Connection, outcome: Outcome) -> bool:
        self._retention.measure(conn)
        if not self._retention.behind(self.count, self.first_seq):
            self._retention.look_further(conn)
        if not self._retention.behind(self.count, self.first_seq):
            self._more = self._retention.give_back(conn)
            return False
        conn.execute("BEGIN IMMEDIATE")
        step = self._retention.step(conn, self.count, 0, 0)
        conn.execute("COMMIT")
        self._apply(step, 0)
        self._more = bool(step.messages)
        outcome.gap_messages = step.gap_messages
        return bool(step.messages)

    def _open_conn(self) -> sqlite3.Connection:
        assert self._conn is not None
        return self._conn

    def _enter(self, state: DiskState, reason: str = "") -> None:
        if state is not self.state:
            self.reason = reason or words(state)
            if state is DiskState.OK:
                log.warning("the log can be written again")
            else:
                log.error("%s", self.reason)
            self.state = state
            self._next_probe_s = time.monotonic() + PROBE_S

    def _fill(self, outcome: Outcome) -> None:
        """How the log stands after what `outcome` is about."""
        outcome.first_seq = self.first_seq
        outcome.reserved = self.reserved
        outcome.count = self.count
        outcome.size_bytes = self.size_bytes
        outcome.state = self.state
        outcome.reason = self.reason

    def _write(self, batch: Batch) -> Outcome:
        outcome = Outcome(batch)
        conn = self._conn
        if conn is None:
            outcome.error = LogFull(self.reason)
        else:
            try:
                self._write_to(conn, batch, outcome)
            except (sqlite3.Error, OSError) as error:
                outcome.error = self._failed(error)
        if batch.messages:
            self.next_seq = batch.messages[-1].seq + 1
        self._fill(outcome)
        return outcome

    def _write_to(self, conn: sqlite3.Connection, batch: Batch, outcome: Outcome) -> None:
        try:
            self._transact(conn, batch, outcome, one_by_one=False)
        except sqlite3.Error as error:
            if not is_statement_error(error):
                raise
            # Somebody's statement is wrong and nothing has been written: find whose, keep the others.
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            self._transact(conn, batch, outcome, one_by_one=True)
        if batch.trusted_time:
            self._retention.look_at_age(conn, *batch.trusted_time)
            self._more = True
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            self._retention.look_at_disk()
            self._retention.measure(conn)  # what other parts keep here counts, too
            self._more = True
            if self._wal_bytes() > MAX_WAL_BYTES:
                self._enter(DiskState.FULL, _HELD_UP)

    def _transact(
        self, conn: sqlite3.Connection, batch: Batch, outcome: Outcome, *, one_by_one: bool
    ) -> None:
        reserved = self.reserved
        size = 0
        conn.execute("BEGIN IMMEDIATE")
        if batch.messages:
            first = batch.messages[0].seq
            if first > self._expected:  # a batch before this one found no room on the disk
                conn.execute(
                    "INSERT OR REPLACE INTO hole(first, last) VALUES (?, ?)", (self._expected, first - 1)
                )
            now_s = time.monotonic()
            small = len(batch.messages) <= min(SMALL_RATE * (now_s - self._inserted_s), SMALL_BATCH)
            self._inserted_s = now_s
            size = insert(conn, batch.messages, small=small)
            if batch.messages[-1].seq > reserved - RESERVE // 2:
                self._extend_reservation(conn, batch.messages[-1].seq)
        dropped = 0
        if one_by_one:
            statements = [sql for unit in batch.units for sql, _ in unit.also]
            dropped = run_units(conn, batch.units, outcome)
        else:
            statements = run_together(conn, batch.units)
        for sql, params in batch.lasting:
            conn.execute(sql, params)
            statements.append(sql)
        put_cursors(conn, batch.cursors)
        kept = len(batch.messages) - dropped
        step = self._retention.step(conn, self.count + kept, kept, size)
        conn.execute("COMMIT")
        # Only now do these hold.
        self._apply(step, kept)
        if (copy_in_s := soonest(self._copy, statements)) is not None:
            self._copy.changed(copy_in_s)
        if batch.messages:
            self._expected = batch.messages[-1].seq + 1
        self.cursors.update({name: seq for name, seq in batch.cursors.items() if seq is not None})
        for name in [name for name, seq in batch.cursors.items() if seq is None]:
            self.cursors.pop(name, None)
        outcome.gap_messages = step.gap_messages

    def _apply(self, step: Step, added: int) -> None:
        self.count += added - step.messages
        self.first_seq = step.first_seq or self.first_seq

    def _failed(self, error: sqlite3.Error | OSError) -> LogFailed:
        """Undo what can be undone and name the failure.

        A full or read-only disk passes; anything else ends this thread.
        """
        state = disk.trouble(error, self._path.parent)
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._suspect.touch()
        conn = self._conn
        try:
            if conn is not None and conn.in_transaction:
                conn.execute("ROLLBACK")
        except sqlite3.Error as second:
            log.error("rollback failed as well: %s", second)
            state = None
        if state is None:
            return LogFailed(f"commit failed: {error}")
        if state is DiskState.FULL:
            self._give_up_ballast()
        elif conn is not None:
            conn.close()  # what a disk does that became read-only is seen by opening the file again
            self._conn = None
        self._enter(state)
        return LogFull(f"{self.reason} ({error})")

    def _give_up_ballast(self) -> bool:
        given_up = self._ballast.give_up()
        if given_up:
            self._ballast_owed = disk.BALLAST_BYTES
        return given_up

    def _wal_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0

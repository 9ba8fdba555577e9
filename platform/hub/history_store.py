"""The history's file: chunks of records by series, written by compaction in short transactions.

Belongs to one thread at a time; `hub.history` gives it one, queries read over connections of their own. A step of
compaction is one transaction: the new chunks, the small ones they replace, and for each series the message up to
which it is now in chunks. When all series have come that far, `done` moves there and those marks go. So a step
that was cut off never happened, and one that happened is not repeated.

A step does not wait for the disk. The WAL keeps the order of what was written, and the log has all records until
`done` has moved, which does wait: a power cut takes some of the newest steps, and they are done again. After a flush
that failed nobody knows what is on the disk: nothing more is written and `done` stays, until the next start.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from . import history_pieces, wal
from .database import (
    check,
    migrate,
    open_or_set_aside,
    open_reader,
    open_unwritten,
    open_writer,
    way_to_read,
)
from .history_chunks import ChunkDamaged, Item, Values, decode
from .history_model import SeriesKey
from .history_pieces import groups, in_order, joined, parts, turn
from .history_table import CHUNK_COLUMNS, INSERT, MIGRATIONS, SELECT_CHUNK, Chunk, create, row_of
from .history_tail import MAX_SERIES, Piece, Series, Tail
from .timekeeping import Correction

log = logging.getLogger("hub.history")

FULL_SHARE: Final = 0.75  # of history_pieces.CHUNK_POINTS: from there on a chunk is left alone
STEP_S: Final = 0.004  # a step takes on no further series after this; its commit comes on top
STEP_POINTS: Final = 1024  # records of one series taken at once: about 0.7 ms
BREATH_S: Final = 50e-6  # for whoever waits for the interpreter, between two series and after each HELD_S
HELD_S: Final = 0.001
CHECKPOINT_FRAMES: Final = 256  # pages in the WAL that are moved into the file: 1 MiB
DROP_STEP: Final = 2000  # chunks removed in one transaction: about 5 ms
VACUUM_PAGES: Final = 256  # given back in one step: 1 MiB
FREE_SHARE: Final = 4  # given back once one part in so many is free, and more than VACUUM_SLACK
VACUUM_SLACK: Final = 16 << 20
KEPT_DAMAGED: Final = 1000  # damaged chunks kept for a technician; of further ones only the count
DAY_S: Final = 86_400.0

Place = tuple[Any, ...]  # in an earlier version's file


@dataclass(slots=True)
class Step:
    """What one step of compaction did."""

    pieces: list[Piece] = field(default_factory=list)
    busy_s: float = 0.0  # from its beginning to its commit
    held_s: float = 0.0  # the longest of it in which nobody else was offered the interpreter
    # After that, where one was due: compaction waits for the disk, and nobody for compaction
    checkpoint_s: float = 0.0
    damaged: list[int] = field(default_factory=list)  # chunks found damaged, to be set aside


class HistoryStore:
    """Owns the connection that writes."""

    def __init__(self, path: Path, done: int = 0) -> None:
        """`done`: up to which message an earlier version's file went, if there is one to import."""
        self.path = path
        self.read_only = False  # the disk takes nothing: what is there can be read, see `reopen`
        self._suspect = path.with_name(path.name + ".suspect")
        self._way = ""  # of reading meanwhile
        self._unflushed = False
        self.set_aside: Path | None = None
        try:
            self._open_to_write()
        except (sqlite3.Error, OSError) as error:
            log.error("%s cannot be written: %s", path.name, error)
            self._open_to_read()
            return
        if done and not self.done and self.imported() is None:
            self.finish(done)
            self.put({}, (0,))

    def _open_to_write(self) -> None:
        """Raises sqlite3.Error, OSError where the disk is full or takes nothing."""
        conn, aside = open_or_set_aside(self.path, lambda: self._open(self.path))
        self.set_aside = aside or self.set_aside
        try:
            self._suspect.unlink(missing_ok=True)
        except OSError:
            conn.close()
            raise
        self._conn = conn
        self.read_only = False

    def _open_to_read(self) -> None:
        self.read_only = True
        self._way = way_to_read(self.path, MIGRATIONS)
        self._conn = open_unwritten(self._way, MIGRATIONS)
        self._load(self._conn)

    def reopen(self) -> None:
        """Try again to write, where the disk took nothing before. No reader may be open: see `reader`."""
        done = self.done
        self._conn.close()
        try:
            self._open_to_write()
        except (sqlite3.Error, OSError):
            self._open_to_read()
        if self.done != done:
            raise sqlite3.OperationalError(f"{self.path.name} changed while it could not be written")

    def reader(self) -> sqlite3.Connection:
        """A connection for queries."""
        return open_unwritten(self._way, MIGRATIONS) if self.read_only else open_reader(self.path)

    def _open(self, path: Path) -> sqlite3.Connection:
        create(path)
        conn = open_writer(path, relaxed=True)
        try:
            conn.execute("PRAGMA wal_autocheckpoint = 0")  # see _settle
            conn.execute("PRAGMA secure_delete = OFF")  # else removing a day writes every page of it
            check(conn, path, thorough=self._suspect.exists())
            migrate(conn, MIGRATIONS)
            (series,) = conn.execute("SELECT count(*) FROM series").fetchone()
            if series > MAX_SERIES // 2:  # names that nobody uses any more make room
                conn.execute("DELETE FROM series WHERE id NOT IN (SELECT series FROM chunk)")
            self._load(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _load(self, conn: sqlite3.Connection) -> None:
        (done,) = conn.execute("SELECT CAST(sum(value) AS INTEGER) FROM state WHERE name = 'done'").fetchone()
        self.done: int = done or 0
        (lost,) = conn.execute(
            "SELECT CAST(sum(value) AS INTEGER) FROM state WHERE name = 'damaged_records'"
        ).fetchone()
        self.damaged_records: int = lost or 0
        (self.damaged_chunks,) = conn.execute("SELECT count(*) FROM damaged").fetchone()
        self._boots: dict[str, int] = dict(conn.execute("SELECT CAST(name AS TEXT), id FROM boot"))

    def tail(self) -> Tail:
        """An empty tail that knows all series of the file and goes on where its chunks end."""
        conn = self._conn
        tail = Tail(self.done, self._boots)
        counts: Counter[int] = Counter()
        reach: dict[int, dict[int, float]] = {}
        for series_id, boot, count, last in conn.execute(
            "SELECT series, boot, CAST(sum(count) AS INTEGER), max(last) FROM chunk GROUP BY series, boot"
        ):
            counts[series_id] += count
            reach.setdefault(series_id, {})[boot] = last
        for series_id, *key in conn.execute(
            "SELECT id, channel, subtopic, publisher, protocol, format, name, unit FROM series LIMIT ?",
            (MAX_SERIES,),
        ):
            tail.add_series(
                series_id, SeriesKey(*key), counts[series_id], reach.get(series_id, {}), saved=True
            )
        tail.skip = dict(conn.execute("SELECT series, CAST(upto AS INTEGER) FROM ahead"))
        return tail

    def close(self) -> None:
        self._conn.close()

    # Compaction

    def compact(
        self, tail: Tail, series: Sequence[Series], upto: int, corrections: Sequence[Correction]
    ) -> Step:
        """Move the first records up to message `upto` of some of `series` into chunks: as many as a step has time for.

        The caller drops the pieces of the answer from the tail and calls again until none are left.
        """
        self._check_flushed()
        began = breath = time.perf_counter()
        step = Step()
        rows: list[tuple[Any, ...]] = []
        small: list[tuple[Any, ...]] = []  # lie together: they go together, and leave whole pages free
        replaced: list[int] = []
        for one in series:
            piece = tail.piece(one, upto, STEP_POINTS)
            if piece is None:
                continue
            step.pieces.append(piece)
            for boot, side, times, values, last_seq in groups(piece, corrections, tail.boots):
                times, values = self._with_small(
                    one.id, boot, side, times, values, replaced, step, corrections, tail.boots
                )
                part_rows = [row_of(one.id, boot, last_seq, *part) for part in parts(times, values)]
                if part_rows[-1][3] < history_pieces.CHUNK_POINTS * FULL_SHARE:
                    small.append(part_rows.pop())
                rows += part_rows
            now = time.perf_counter()
            if now - began > STEP_S:
                break
            if now - breath > HELD_S:
                step.held_s = max(step.held_s, now - breath)
                time.sleep(BREATH_S)
                breath = time.perf_counter()
        boots = dict(tail.boots)  # the loop may add to them meanwhile
        with self._transaction(flushed=False) as conn:
            self._save_series([piece.series for piece in step.pieces], boots)
            conn.executemany("DELETE FROM chunk WHERE id = ?", [(number,) for number in replaced])
            conn.executemany(INSERT, rows + small)
            conn.executemany(
                "INSERT OR REPLACE INTO ahead(series, upto) VALUES (?, ?)",
                [(piece.series.id, piece.seqs[-1]) for piece in step.pieces],
            )
            step.held_s = max(step.held_s, time.perf_counter() - breath)
        self._boots = boots
        step.busy_s = time.perf_counter() - began
        step.checkpoint_s = self._settle()
        return step

    def finish(self, upto: int, *, begin_again: bool = False) -> None:
        """Every series is in chunks up to message `upto`; some may be farther, where a start came in between.

        `begin_again`: the log's numbers went back, so none is farther.
        """
        self._check_flushed()
        with self._transaction() as conn:
            conn.execute("INSERT OR REPLACE INTO state(name, value) VALUES ('done', ?)", (upto,))
            conn.execute("DELETE FROM ahead WHERE upto <= ? OR ?", (upto, begin_again))
        self.done = upto
        self._settle()

    def _save_series(self, series: Sequence[Series], boots: dict[str, int]) -> None:
        self._conn.executemany(
            "INSERT OR IGNORE INTO series(id, channel, subtopic, publisher, protocol, format, name, unit) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(one.id, *one.key) for one in series if not one.saved],
        )
        if len(boots) > len(self._boots):
            self._conn.executemany("INSERT OR IGNORE INTO boot(name, id) VALUES (?, ?)", list(boots.items()))

    def _with_small(
        self,
        series: int,
        boot: int,
        side: int,
        times: array[float],
        values: Values,
        replaced: list[int],
        step: Step,
        corrections: Sequence[Correction],
        boots: dict[str, int],
    ) -> tuple[array[float], Values]:
        """The records, together with those of the newest chunks that are small beside them.

        A chunk takes part when it is no more than twice as long, so that a record is rewritten a few times at
        most, however slowly its series grows.
        """
        conn = self._conn
        below = 1 << 62
        while len(times) < history_pieces.CHUNK_POINTS:
            (newest,) = conn.execute(
                "SELECT max(id) FROM chunk WHERE series = ? AND boot = ? AND id < ?", (series, boot, below)
            ).fetchone()
            if newest is None:
                break
            row = conn.execute(SELECT_CHUNK, (newest,)).fetchone()
            count, upto, size = row[4], row[3], len(row[11])
            if (
                count >= history_pieces.CHUNK_POINTS * FULL_SHARE
                or count > 2 * len(times)
                or size > history_pieces.CHUNK_BYTES // 4
                or turn(boot, upto, corrections, boots) != side
            ):
                break
            below = newest
            try:
                chunk = Chunk.of(row)
                old_times, old_values = decode(chunk.head, chunk.hours, chunk.body)
            except ChunkDamaged:
                step.damaged.append(newest)
                continue
            replaced.append(newest)
            times, values = in_order(old_times + times, joined(old_values, values))
        return times, values

    # Import

    def imported(self) -> Place | None:
        """Up to where an import of an earlier version's file has come; None before it begins."""
        rows = self._conn.execute(
            "SELECT value FROM state WHERE name LIKE 'import%' ORDER BY name"
        ).fetchall()
        return tuple(value for (value,) in rows) or None

    def put(self, records: Mapping[Series, Sequence[tuple[float, Item]]], place: Place) -> None:
        """Add records of an earlier version, by time in each series, and remember how far the import has come."""
        rows = []
        for series, items in records.items():
            times = array("d", [time_s for time_s, _ in items])
            for part_times, part_values in parts(*in_order(times, [item for _, item in items])):
                rows.append(row_of(series.id, 0, self.done, part_times, part_values))
        with self._transaction() as conn:
            self._save_series(list(records), {})
            conn.executemany(INSERT, rows)
            conn.execute("DELETE FROM state WHERE name LIKE 'import%'")
            conn.executemany(
                "INSERT INTO state(name, value) VALUES (?, ?)",
                [(f"import{index}", part) for index, part in enumerate(place)],
            )
        self._settle()

    # Damage

    def suspect(self) -> None:
        """Have the next start check every page."""
        with contextlib.suppress(OSError):
            self._suspect.touch()

    def set_chunk_aside(self, number: int) -> tuple[int, int]:
        """Move a damaged chunk out of the way; returns its series and how many records it said it holds."""
        with self._transaction() as conn:
            row = conn.execute("SELECT series, count FROM chunk WHERE id = ?", (number,)).fetchone()
            if row is None:  # somebody else did
                return 0, 0
            series, count = (value if isinstance(value, int) else 0 for value in row)
            conn.execute(
                f"INSERT INTO damaged({CHUNK_COLUMNS}) SELECT {CHUNK_COLUMNS} FROM chunk WHERE id = ? "
                "AND (SELECT count(*) FROM damaged) < ?",
                (number, KEPT_DAMAGED),
            )
            conn.execute("DELETE FROM chunk WHERE id = ?", (number,))
            conn.execute("UPDATE state SET value = value + ? WHERE name = 'damaged_records'", (count,))
        self._settle()
        self.damaged_chunks += 1
        self.damaged_records += count
        log.error("chunk %d of the history is damaged: %d records set aside", number, count)
        return series, count

    # Retention

    def oldest(self) -> float | None:
        """The time at which the oldest chunk ends."""
        (last,) = self._conn.execute("SELECT min(last) FROM chunk INDEXED BY chunk_by").fetchone()
        return None if last is None else float(last)

    def newest(self) -> float | None:
        """The time at which the newest chunk ends."""
        (last,) = self._conn.execute("SELECT max(last) FROM chunk INDEXED BY chunk_by").fetchone()
        return None if last is None else float(last)

    def drop_before(self, end_s: float) -> Iterator[dict[int, int]]:
        """Remove every chunk that ends before `end_s`, a step at a time.

        Yields after each step what it removed: records by series.
        """
        found = self._conn.execute(
            "SELECT id, series, count FROM chunk INDEXED BY chunk_by WHERE last < ?", (end_s,)
        ).fetchall()
        found.sort()  # chunks that were written together lie together
        for at in range(0, len(found), DROP_STEP):
            part = found[at : at + DROP_STEP]
            with self._transaction() as conn:
                conn.executemany("DELETE FROM chunk WHERE id = ?", [(number,) for number, _, _ in part])
            self._settle()
            removed: dict[int, int] = {}
            for _, series, count in part:
                removed[series] = removed.get(series, 0) + count
            yield removed

    def used_bytes(self) -> int:
        """Bytes of the file in use: pages less free ones."""
        pages, free, size = self._pages()
        return (pages - free) * size

    def give_back(self) -> bool:
        """Return a step of free pages to the disk, where many are free; True while there are more."""
        pages, free, size = self._pages()
        if free * FREE_SHARE < pages or free * size < VACUUM_SLACK:
            return False
        self._conn.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        self._settle()
        return self._pages()[1] < free  # none go where the file was made without auto_vacuum

    def _pages(self) -> tuple[int, int, int]:
        conn = self._conn
        return (
            int(conn.execute("PRAGMA page_count").fetchone()[0]),
            int(conn.execute("PRAGMA freelist_count").fetchone()[0]),
            int(conn.execute("PRAGMA page_size").fetchone()[0]),
        )

    # Writing

    @contextlib.contextmanager
    def _transaction(self, *, flushed: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk at its end, with all that was written before, or need not be."""
        conn = self._conn
        conn.execute(f"PRAGMA synchronous = {'FULL' if flushed else 'NORMAL'}")
        conn.execute("BEGIN IMMEDIATE")
        try:
            yield conn
            conn.execute("COMMIT")
        except BaseException as error:
            self._note_failed_flush(error)
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise

    def _settle(self) -> float:
        """Move the WAL into the file where it has grown by CHECKPOINT_FRAMES; returns the seconds it took.

        Not left to SQLite, which does it in the commit that comes to its bound, four times as late, and keeps it to
        itself where the disk fails.
        """
        if wal.frames(self.path) < CHECKPOINT_FRAMES:
            return 0.0
        began = time.perf_counter()
        try:
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            self._note_failed_flush(error)
            raise
        return time.perf_counter() - began

    def _note_failed_flush(self, error: BaseException) -> None:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_FSYNC:
            self._unflushed = True

    def _check_flushed(self) -> None:
        """Raises sqlite3.OperationalError after a failed flush: the next one would say that all is well."""
        if self._unflushed:
            raise sqlite3.OperationalError("the disk failed to keep what was written; the next start looks")

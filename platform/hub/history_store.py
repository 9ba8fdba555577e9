"""The history's file: chunks of records by series, written by compaction in short transactions.

Belongs to one thread at a time; `hub.history` gives it one, queries read over connections of their own. A step of
compaction is one transaction: the new chunks, the small ones they replace, and for each series the message up to
which it is now in chunks. When all series have come that far, `done` moves there and those marks go. So a step
that was cut off never happened, and one that happened is not repeated.
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
from typing import Any, Final, NamedTuple

from . import history_pieces
from .database import (
    Migration,
    check,
    migrate,
    open_or_set_aside,
    open_reader,
    open_unwritten,
    open_writer,
    way_to_read,
)
from .history_chunks import ChunkDamaged, Head, Item, Values, decode, encode
from .history_model import SeriesKey
from .history_pieces import groups, in_order, joined, parts, turn
from .history_tail import MAX_SERIES, Piece, Series, Tail
from .timekeeping import Correction

log = logging.getLogger("hub.history")

FULL_SHARE: Final = 0.75  # of history_pieces.CHUNK_POINTS: from there on a chunk is left alone
STEP_S: Final = 0.004  # a step takes on no further series after this; its commit comes on top
STEP_POINTS: Final = 1024  # records of one series taken at once: about 1 ms
BREATH_S: Final = 50e-6  # between two series: whoever waits for the interpreter gets it
DROP_STEP: Final = 2000  # chunks removed in one transaction: about 5 ms
VACUUM_PAGES: Final = 256  # given back in one step: 1 MiB
FREE_SHARE: Final = 4  # given back once one part in so many is free, and more than VACUUM_SLACK
VACUUM_SLACK: Final = 16 << 20
KEPT_DAMAGED: Final = 1000  # damaged chunks kept for a technician; of further ones only the count
DAY_S: Final = 86_400.0

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
SELECT_CHUNK: Final = (
    "SELECT id, series, boot, upto, count, first, last, sum, min, max, CAST(hours AS BLOB), "
    "CAST(body AS BLOB) FROM chunk WHERE id = ?"
)
_INSERT: Final = (
    "INSERT INTO chunk(series, boot, upto, count, first, last, sum, min, max, hours, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NAN: Final = float("nan")

Place = tuple[Any, ...]  # in an earlier version's file


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


@dataclass(slots=True)
class Step:
    """What one step of compaction did."""

    pieces: list[Piece] = field(default_factory=list)
    more: bool = False  # of the series given, some are not done yet
    busy_s: float = 0.0  # from its beginning to its commit
    damaged: list[int] = field(default_factory=list)  # chunks found damaged, to be set aside


class HistoryStore:
    """Owns the connection that writes."""

    def __init__(self, path: Path, done: int = 0) -> None:
        """`done`: up to which message an earlier version's file went, if there is one to import."""
        self.path = path
        self.read_only = False  # the disk takes nothing: what is there can be read, see `reopen`
        self._suspect = path.with_name(path.name + ".suspect")
        self._way = ""  # of reading meanwhile
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
        self._conn, aside = open_or_set_aside(self.path, lambda: self._open(self.path))
        self.set_aside = aside or self.set_aside
        self._suspect.unlink(missing_ok=True)
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
        _create(path)
        conn = open_writer(path)
        try:
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
        """Move records up to message `upto` of some of `series` into chunks: as many as a step has time for.

        The caller drops the pieces of the answer from the tail and calls again with the rest of the series.
        """
        began = time.perf_counter()
        conn = self._conn
        step = Step()
        rows: list[tuple[Any, ...]] = []
        small: list[tuple[Any, ...]] = []  # lie together: they go together, and leave whole pages free
        replaced: list[int] = []
        for index, one in enumerate(series):
            piece = tail.piece(one, upto, STEP_POINTS)
            if piece is None:
                continue
            step.pieces.append(piece)
            more = len(one.run.seqs) > len(piece.seqs) and one.run.seqs[len(piece.seqs)] <= upto
            for boot, side, times, values, last_seq in groups(piece, corrections, tail.boots):
                times, values = self._with_small(
                    one.id, boot, side, times, values, replaced, step, corrections, tail.boots
                )
                part_rows = [_row(one.id, boot, last_seq, *part) for part in parts(times, values)]
                if part_rows[-1][3] < history_pieces.CHUNK_POINTS * FULL_SHARE:
                    small.append(part_rows.pop())
                rows += part_rows
            if more or (index + 1 < len(series) and time.perf_counter() - began > STEP_S):
                step.more = more or index + 1 < len(series)
                break
            time.sleep(BREATH_S)
        boots = dict(tail.boots)  # the loop may add to them meanwhile
        conn.execute("BEGIN IMMEDIATE")
        try:
            self._save_series([piece.series for piece in step.pieces], boots)
            conn.executemany("DELETE FROM chunk WHERE id = ?", [(number,) for number in replaced])
            conn.executemany(_INSERT, rows + small)
            conn.executemany(
                "INSERT OR REPLACE INTO ahead(series, upto) VALUES (?, ?)",
                [(piece.series.id, piece.seqs[-1]) for piece in step.pieces],
            )
            conn.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        self._boots = boots
        step.busy_s = time.perf_counter() - began
        return step

    def finish(self, upto: int, *, begin_again: bool = False) -> None:
        """Every series is in chunks up to message `upto`; some may be farther, where a start came in between.

        `begin_again`: the log's numbers went back, so none is farther.
        """
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            conn.execute("INSERT OR REPLACE INTO state(name, value) VALUES ('done', ?)", (upto,))
            conn.execute("DELETE FROM ahead WHERE upto <= ? OR ?", (upto, begin_again))
            conn.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        self.done = upto

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
                rows.append(_row(series.id, 0, self.done, part_times, part_values))
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            self._save_series(list(records), {})
            conn.executemany(_INSERT, rows)
            conn.execute("DELETE FROM state WHERE name LIKE 'import%'")
            conn.executemany(
                "INSERT INTO state(name, value) VALUES (?, ?)",
                [(f"import{index}", part) for index, part in enumerate(place)],
            )
            conn.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    # Damage

    def suspect(self) -> None:
        """Have the next start check every page."""
        with contextlib.suppress(OSError):
            self._suspect.touch()

    def set_chunk_aside(self, number: int) -> tuple[int, int]:
        """Move a damaged chunk out of the way; returns its series and how many records it said it holds."""
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            row = conn.execute("SELECT series, count FROM chunk WHERE id = ?", (number,)).fetchone()
            if row is None:  # somebody else did
                conn.execute("COMMIT")
                return 0, 0
            series, count = (value if isinstance(value, int) else 0 for value in row)
            conn.execute(
                f"INSERT INTO damaged({CHUNK_COLUMNS}) SELECT {CHUNK_COLUMNS} FROM chunk WHERE id = ? "
                "AND (SELECT count(*) FROM damaged) < ?",
                (number, KEPT_DAMAGED),
            )
            conn.execute("DELETE FROM chunk WHERE id = ?", (number,))
            conn.execute("UPDATE state SET value = value + ? WHERE name = 'damaged_records'", (count,))
            conn.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
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
        conn = self._conn
        found = conn.execute(
            "SELECT id, series, count FROM chunk INDEXED BY chunk_by WHERE last < ?", (end_s,)
        ).fetchall()
        found.sort()  # chunks that were written together lie together
        for at in range(0, len(found), DROP_STEP):
            part = found[at : at + DROP_STEP]
            conn.execute("BEGIN IMMEDIATE")
            try:
                conn.executemany("DELETE FROM chunk WHERE id = ?", [(number,) for number, _, _ in part])
                conn.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
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
        return self._pages()[1] < free  # none go where the file was made without auto_vacuum

    def _pages(self) -> tuple[int, int, int]:
        conn = self._conn
        return (
            int(conn.execute("PRAGMA page_count").fetchone()[0]),
            int(conn.execute("PRAGMA freelist_count").fetchone()[0]),
            int(conn.execute("PRAGMA page_size").fetchone()[0]),
        )

    def _rollback(self) -> None:
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")


def _create(path: Path) -> None:
    """A new file that can give free pages back: that has to be said before anything is written to it."""
    if path.exists() and path.stat().st_size:
        return
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        migrate(conn, ())
    finally:
        conn.close()


def _row(series: int, boot: int, upto: int, times: array[float], values: Values) -> tuple[Any, ...]:
    head, hours, body = encode(series, boot, upto, times, values)
    return (series, boot, upto, head.count, head.first, head.last, head.sum, head.min, head.max, hours, body)

"""One look at the history: the tail as it is, then the chunks of one read transaction, each record exactly once.

In: a query. Out: sources for `history_merge`, decoded chunks, counts. Belongs to the thread that
answers queries. The order matters: what has left the tail before it was looked at is in chunks by then, and what
the file says is in chunks is passed over in the tail.
"""

from __future__ import annotations

import math
import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import add, eq, ge, gt, le, lt
from typing import Any, Final

from .errors import Invalid
from .history_chunks import ChunkDamaged, Item, Values, decode, verify
from .history_merge import TAIL_UPTO, Order, Source, Span
from .history_model import Query, data_bytes
from .history_table import CHUNKS_SELECTED, SELECT_CHUNK, SELECT_CHUNKS, Chunk
from .history_tail import Run, Series, Tail, reaching
from .message import TimeQuality
from .timekeeping import Correction, shift

MAX_DECODED = 20_000  # chunks one query may open: 10 million records, a few seconds
CACHED_POINTS: Final = 262_144  # of decoded chunks kept for the next query: 4 MiB of numbers
NO_MESSAGE: Final = -1  # 0 stands for what an earlier version took in
_INF: Final = math.inf

Pick = Callable[[Values], list[int]]  # places of the values that a query is about

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {"eq": eq, "lt": lt, "le": le, "gt": gt, "ge": ge}


class ChunkCache:
    """Decoded chunks by number, those used last."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[int, tuple[array[float], Values]] = OrderedDict()
        self._points = 0

    def get(self, number: int) -> tuple[array[float], Values] | None:
        found = self._chunks.get(number)
        if found is not None:
            self._chunks.move_to_end(number)
        return found

    def put(self, number: int, columns: tuple[array[float], Values]) -> None:
        if not isinstance(columns[1], array):
            return  # text and messages may be large
        self._chunks[number] = columns
        self._points += len(columns[0])
        while self._points > CACHED_POINTS:
            _, (times, _) = self._chunks.popitem(last=False)
            self._points -= len(times)


@dataclass(frozen=True, slots=True)
class Window:
    """from_s <= time < to_s, of one series."""

    from_s: float = -_INF
    to_s: float = _INF


@dataclass(frozen=True, slots=True)
class Seen:
    """The tail of one series as it was when looked at."""

    series: Series
    run: Run
    count: int

    @classmethod
    def of(cls, series: Series) -> Seen:
        run = series.run
        return cls(series, run, len(run.seqs))


class View:
    """Opened for one query; `close` ends its read transaction."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        cache: ChunkCache,
        tail: Tail,
        corrections: Sequence[Correction],
        query: Query,
    ) -> None:
        self.damaged: list[int] = []  # chunks that did not decode
        self._decoded = 0
        self._conn = conn
        self._cache = cache
        self._corrections = corrections
        self._pick = _pick(query)
        self._narrow, self._limits = _narrowing(query)
        self.seen = [Seen.of(one) for one in tail.matching(query)]
        self._clocks = {number: name for name, number in dict(tail.boots).items()}
        conn.execute("BEGIN")
        try:
            (done,) = conn.execute("SELECT value FROM state WHERE name = 'done'").fetchone()
            self._done = int(done)
            self._ahead: dict[int, int] = dict(conn.execute("SELECT series, upto FROM ahead"))
        except BaseException:
            self.close()
            raise
        self._shifts: dict[tuple[int, int], float] = {}
        corrected = {correction.boot for correction in corrections}
        self._moved = {number for number, name in self._clocks.items() if name in corrected}
        self._tails: dict[int, list[Span]] = {}

    def close(self) -> None:
        if self._conn.in_transaction:
            self._conn.execute("COMMIT")

    # Times

    def shift_s(self, boot: int, upto: int) -> float:
        """What corrections add to the times that the clock of `boot` gave up to message `upto`."""
        if not boot or not self._corrections:
            return 0.0
        known = self._shifts.get((boot, upto))
        if known is None:
            offset_ns, _ = shift(self._clocks.get(boot, ""), upto, TimeQuality.UNSET, self._corrections)
            known = self._shifts[boot, upto] = offset_ns / 1e9
        return known

    # Sources

    def streams(self, windows: Sequence[Window], *, newest_first: bool) -> list[Iterator[Source]]:
        """The sources of each series within its window."""
        found: list[Iterator[Source]] = []
        for seen, window in zip(self.seen, windows, strict=True):
            if window.from_s >= window.to_s:
                continue
            found += self._tail_streams(seen, window, newest_first)
            found += self._chunk_streams(seen, window, newest_first)
        return found

    def _tail_streams(self, seen: Seen, window: Window, newest_first: bool) -> list[Iterator[Source]]:
        run, count = seen.run, seen.count
        # Of a thousand series some are asked for more than their newest time
        if newest_first and run.boots is None:
            if not count or run.seqs[count - 1] <= self._upto(seen.series.id):
                return []
            source = Source(
                min(max(run.times[:count]), window.to_s),
                seen.series,
                (0, TAIL_UPTO, 0),
                lambda: next(iter(self.tail_spans(seen, window)), None),
            )
            return [iter((source,))] if source.reach >= window.from_s else []
        return [
            iter(
                (
                    Source(
                        span.times[span.hi - 1] if newest_first else span.times[span.lo],
                        span.series,
                        span.order,
                        lambda span=span: span,  # type: ignore[misc]
                    ),
                )
            )
            for span in self.tail_spans(seen, window)
        ]

    def _chunk_streams(self, seen: Seen, window: Window, newest_first: bool) -> list[Iterator[Source]]:
        series = seen.series
        streams = []
        # What was in the tail when it was looked at may be in chunks by now.
        for boot, reach in sorted(reaching(seen.run, seen.count).items()):
            moved = boot in self._moved
            if moved or not newest_first:
                # Sorted here: corrections of one clock differ, and the index is by where chunks end.
                rows = self._headers(series.id, boot, window, moved=moved)
                side = 1 if newest_first else 0
                rows.sort(key=lambda row, at=side: row[3 + at] * (-1 if at else 1))  # type: ignore[misc]
                streams.append(self._sources(series, iter(rows), window, newest_first))
            elif reach >= window.from_s:
                streams.append(self._from_newest(series, boot, window, min(reach, window.to_s)))
        return streams

    def _from_newest(self, series: Series, boot: int, window: Window, reach: float) -> Iterator[Source]:
        """Chunks of one clock, which are looked for only when the merge has come down to `reach`."""
        yield Source(reach, series, (boot, TAIL_UPTO, TAIL_UPTO), lambda: None)
        rows = self._conn.execute(
            "SELECT id, upto, count, first, last, 0.0 FROM chunk WHERE series = ? AND boot = ? "
            f"AND last >= ? AND first < ?{self._narrow} ORDER BY last DESC",
            (series.id, boot, window.from_s, window.to_s, *self._limits),
        )
        yield from self._sources(series, rows, window, True, boot=boot)

    def _boots_of(self, series: int) -> list[int]:
        """Clocks that gave times to chunks of a series; 0 stands for right times."""
        if not self._clocks:
            return [0]
        found: list[int] = []
        last = -1
        while True:
            row = self._conn.execute(
                "SELECT boot FROM chunk WHERE series = ? AND boot > ? ORDER BY boot LIMIT 1", (series, last)
            ).fetchone()
            if row is None:
                return found
            last = int(row[0])
            found.append(last)

    def _headers(
        self, series: int, boot: int, window: Window, *, moved: bool, filtered: bool = True
    ) -> list[tuple[int, int, int, float, float, float, int]]:
        """Chunks of one clock that reach into the window: id, upto, count, first, last, shift, boot."""
        narrow, limits = (self._narrow, self._limits) if filtered else ("", ())
        if moved:
            rows = self._conn.execute(
                f"SELECT id, upto, count, first, last FROM chunk WHERE series = ? AND boot = ?{narrow}",
                (series, boot, *limits),
            )
        else:
            rows = self._conn.execute(
                "SELECT id, upto, count, first, last FROM chunk WHERE series = ? AND boot = ? "
                f"AND last >= ? AND first < ?{narrow}",
                (series, boot, window.from_s, window.to_s, *limits),
            )
        found = []
        for number, upto, count, first, last in rows:
            by = self.shift_s(boot, upto)
            if last + by >= window.from_s and first + by < window.to_s:
                found.append((number, upto, count, first + by, last + by, by, boot))
        return found

    def headers(
        self, series: int, window: Window, *, filtered: bool = True
    ) -> list[tuple[int, int, int, float, float, float, int]]:
        """Chunks of a series that reach into the window: id, upto, count, first, last, shift, boot."""
        found = []
        for boot in self._boots_of(series):
            found += self._headers(series, boot, window, moved=boot in self._moved, filtered=filtered)
        return found

    def _sources(
        self,
        series: Series,
        rows: Iterator[tuple[Any, ...]],
        window: Window,
        newest_first: bool,
        boot: int | None = None,
    ) -> Iterator[Source]:
        for row in rows:
            number, upto, _, first, last, by = row[:6]
            clock = row[6] if boot is None else boot
            order = (clock, upto, number)

            def opened(number: int = number, order: Order = order, by: float = by) -> Span | None:
                return self.span(series, order, window, by)

            yield Source(last if newest_first else first, series, order, opened)

    def span(
        self, series: Series, order: Order, window: Window, by: float, *, filtered: bool = True
    ) -> Span | None:
        """What of a chunk lies in the window and, `filtered`, passes the query's filter on values."""
        columns = self.columns(order[2])
        if columns is None:
            return None
        times, values = columns
        if by:
            times = array("d", [time + by for time in times])
        lo, hi = bisect_left(times, window.from_s), bisect_left(times, window.to_s)
        span = Span(series, order, times, values, lo, hi)
        if filtered:
            span = self.filtered(span)
        return span if span.lo < span.hi else None

    def filtered(self, span: Span) -> Span:
        """What of a span passes the query's filter on values."""
        if self._pick is None:
            return span
        kept = [place for place in self._pick(span.values) if span.lo <= place < span.hi]
        times, values = _picked(span.times, span.values, kept)
        return Span(span.series, span.order, times, values, 0, len(kept), kept)

    def tail_spans(self, seen: Seen, window: Window, *, filtered: bool = True) -> list[Span]:
        """The part of a tail that is not in chunks, a span for each clock it has times of."""
        spans = self._tails.get(seen.series.id)
        if spans is None:
            spans = self._tails[seen.series.id] = self._whole_tail(seen)
        found = []
        for span in spans:
            lo, hi = bisect_left(span.times, window.from_s), bisect_left(span.times, window.to_s)
            part = Span(span.series, span.order, span.times, span.values, lo, hi)
            if filtered:
                part = self.filtered(part)
            if part.lo < part.hi:
                found.append(part)
        return found

    def _upto(self, series: int) -> int:
        """The message up to which chunks hold a series."""
        return max(self._done, self._ahead.get(series, 0))

    def _whole_tail(self, seen: Seen) -> list[Span]:
        run, count = seen.run, seen.count
        start = bisect_right(run.seqs, self._upto(seen.series.id), 0, count)
        if start >= count:
            return []
        all_times, all_values = run.times[start:count], run.values[start:count]
        boots = array("i", [0]) if run.boots is None else run.boots[start:count]
        clocks = sorted(set(boots))
        spans = []
        for boot in clocks:
            # Of one clock, as a rule; of none that was wrong, the places do not matter.
            places = [place for place, clock in enumerate(boots) if clock == boot]
            times, values = (
                (all_times, all_values) if len(clocks) == 1 else _picked(all_times, all_values, places)
            )
            if boot in self._moved:
                shifts = [self.shift_s(boot, run.seqs[start + place]) for place in places]
                times = array("d", map(add, times, shifts))
            if not all(map(le, times, times[1:])):
                times, values = _picked(times, values, sorted(range(len(times)), key=times.__getitem__))
            spans.append(Span(seen.series, (boot, TAIL_UPTO, 0), times, values, 0, len(times)))
        return spans

    # The last message of a series

    def last_seq(self, seen: Seen) -> int:
        """The number of the message that a series' last record came with; NO_MESSAGE where it has no records."""
        if seen.count:
            return seen.run.seqs[seen.count - 1]
        (last,) = self._conn.execute(
            "SELECT max(upto) FROM chunk WHERE series = ?", (seen.series.id,)
        ).fetchone()
        return NO_MESSAGE if last is None else int(last)

    def brought(self, seen: Seen, seq: int) -> list[tuple[float, Item]]:
        """Times and values that message `seq`, a series' last one, came with; of a chunk those of its newest time.

        Empty where the chunk is damaged.
        """
        run, count = seen.run, seen.count
        start = bisect_left(run.seqs, seq, 0, count)
        if start < count:
            boots = [0] * count if run.boots is None else run.boots
            return [
                (run.times[at] + self.shift_s(boots[at], seq), run.values[at]) for at in range(start, count)
            ]
        number, boot = self._conn.execute(
            "SELECT id, boot FROM chunk WHERE series = ? AND upto = ? ORDER BY last DESC LIMIT 1",
            (seen.series.id, seq),
        ).fetchone()
        columns = self.columns(number)
        if columns is None:
            return []
        times, values = columns
        by = self.shift_s(boot, seq)
        return [(times[at] + by, values[at]) for at in range(bisect_left(times, times[-1]), len(times))]

    # Chunks

    def columns(self, number: int) -> tuple[array[float], Values] | None:
        """Times and values of a chunk; None where it is damaged, which is noted."""
        columns = self._cache.get(number)
        if columns is not None:
            return columns
        try:
            chunk = self._row(number)
            columns = decode(chunk.head, chunk.hours, chunk.body)
        except ChunkDamaged:
            self._note(number)
            return None
        self._cache.put(number, columns)
        return columns

    def chunks(self, numbers: Sequence[int]) -> dict[int, Chunk]:
        """Rows of chunks, checked against their checksums; those that are damaged are noted and left out."""
        found = {}
        for at in range(0, len(numbers), CHUNKS_SELECTED):
            some = numbers[at : at + CHUNKS_SELECTED]
            self._count_decoded(len(some))
            for row in self._conn.execute(SELECT_CHUNKS, [*some, *[None] * (CHUNKS_SELECTED - len(some))]):
                try:
                    chunk = Chunk.of(row)
                    verify(chunk.head, chunk.hours, chunk.body)
                except ChunkDamaged:
                    continue
                found[chunk.id] = chunk
        for number in numbers:
            if number not in found:
                self._note(number)
        return found

    def _row(self, number: int) -> Chunk:
        """Raises ChunkDamaged, and Invalid after MAX_DECODED chunks."""
        self._count_decoded(1)
        row = self._conn.execute(SELECT_CHUNK, (number,)).fetchone()
        if row is None:
            raise ChunkDamaged("the index knows it and the table does not")
        return Chunk.of(row)

    def _count_decoded(self, count: int) -> None:
        self._decoded += count
        if self._decoded > MAX_DECODED:
            raise Invalid("too much to look through; ask for less time, or for a name")

    def _note(self, number: int) -> None:
        if number not in self.damaged:
            self.damaged.append(number)

    # Counting

    def count(self, seen: Seen, window: Window) -> int:
        """Records of a series in the window that pass the filter."""
        whole = window.from_s == -_INF and window.to_s == _INF
        if whole and self._pick is None:
            return seen.run.chunked + seen.count
        total = sum(span.hi - span.lo for span in self.tail_spans(seen, window))
        for number, upto, count, first, last, by, boot in self.headers(seen.series.id, window):
            if self._pick is None and first >= window.from_s and last < window.to_s:
                total += count
            else:
                span = self.span(seen.series, (boot, upto, number), window, by)
                total += span.hi - span.lo if span else 0
        return total


def _picked(times: array[float], values: Values, places: Sequence[int]) -> tuple[array[float], Values]:
    some = [values[place] for place in places]
    return array("d", [times[place] for place in places]), array("d", some) if isinstance(
        values, array
    ) else some


def _narrowing(query: Query) -> tuple[str, tuple[float, ...]]:
    """A condition for chunks that may hold what a filter on values wants; NULL bounds: not numbers alone."""
    if not query.filters_values:
        return "", ()
    if query.v is None:
        return " AND max IS NULL", ()
    low = query.v if query.comparator in ("eq", "ge", "gt") else -_INF
    high = query.v if query.comparator in ("eq", "le", "lt") else _INF
    return " AND (max IS NULL OR (max >= ? AND min <= ?))", (low, high)


def _pick(query: Query) -> Pick | None:
    """The filter on values of a query; None where it has none. Raises Invalid."""
    if not query.filters_values:
        return None
    tests: list[Callable[[Any], bool]] = []
    compare = _COMPARE[query.comparator]
    limit = query.v
    if limit is not None:
        tests.append(lambda value: type(value) is float and compare(value, limit))
    if query.vs is not None:
        text = query.vs
        tests.append(lambda value: type(value) is str and compare(value, text))
    if query.vb is not None:
        truth = query.vb
        tests.append(lambda value: value is truth)
    if query.vd is not None:
        octets = data_bytes(query.vd)
        tests.append(lambda value: type(value) is bytes and value == octets)
    numbers_only = limit is not None and len(tests) == 1

    def pick(values: Values) -> list[int]:
        if isinstance(values, array):
            if not numbers_only:
                return []
            return [place for place, value in enumerate(values) if compare(value, limit)]
        return [
            place
            for place, item in enumerate(values)
            if all(test(item[0] if type(item) is list else item) for test in tests)
        ]

    return pick

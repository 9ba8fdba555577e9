"""Putting the sources of an answer in order: chunks and tail runs of many series, newest or oldest first.

Pure. A source is a chunk that has not been opened yet, known by the time it reaches to, or a span: arrays of
records, ascending. Spans give up their records in slices, as long as nothing else comes in between; a source is
opened only when its turn comes. So the newest ten records of a thousand series open about ten of them.

The order of records is total: by time, then series, then whose clock, then age of the chunk, then arrival.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .history_chunks import Values
from .history_tail import Series

Order = tuple[int, int, int]  # boot, upto, chunk: how sources of one series stand to each other
TAIL_UPTO: Final = 1 << 62  # the tail comes after every chunk


@dataclass(slots=True)
class Span:
    """Some records of one source, ascending by time."""

    series: Series
    order: Order
    times: array[float]
    values: Values
    lo: int = 0
    hi: int = 0
    kept: Sequence[int] | None = None  # where a filter on values took its pick: their places in the source

    def place(self, index: int) -> int:
        """Where record `index` stands in its source."""
        return index if self.kept is None else self.kept[index]


class Slice(NamedTuple):
    """Records start to stop of a span, in the direction of the merge."""

    span: Span
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Source:
    """What can be opened: it has no record beyond `reach` (newest first: after it; oldest first: before it)."""

    reach: float
    series: Series
    order: Order
    open: Callable[[], Span | None]  # None: nothing in it after all


def merge(streams: Sequence[Iterator[Source]], *, newest_first: bool) -> Iterator[Slice]:
    """The records of all streams in order. Each stream gives its sources by `reach`, nearest first."""
    sign = -1 if newest_first else 1
    waiting: list[tuple[float, int, int, int, int, int]] = []  # reach, series, order, and which stream
    heads: list[Source] = []
    for number, stream in enumerate(streams):
        source = next(stream, None)
        if source is None:
            heads.append(_NOTHING)
            continue
        heads.append(source)
        waiting.append((*_key(source.reach, source.series, source.order, sign), number))
    heapq.heapify(waiting)
    ready: list[tuple[float, int, int, int, int, int]] = []
    spans: list[Span] = []
    while waiting or ready:
        if not ready or (waiting and waiting[0][:5] <= ready[0][:5]):
            number = waiting[0][5]
            span = heads[number].open()
            source = next(streams[number], None)
            if source is None:
                heapq.heappop(waiting)
            else:
                heads[number] = source
                heapq.heapreplace(waiting, (*_key(source.reach, source.series, source.order, sign), number))
            if span is not None and span.lo < span.hi:
                spans.append(span)
                heapq.heappush(ready, (*_span_key(span, sign), len(spans) - 1))
            continue
        head = heapq.heappop(ready)
        span = spans[head[5]]
        other = min((heap[0] for heap in (ready, waiting) if heap), default=None)
        start, stop = _take(span, other, head, sign)
        if span.lo < span.hi:
            heapq.heappush(ready, (*_span_key(span, sign), head[5]))
        yield Slice(span, start, stop)


def _take(
    span: Span,
    other: tuple[float, int, int, int, int, int] | None,
    head: tuple[float, int, int, int, int, int],
    sign: int,
) -> tuple[int, int]:
    """Take from `span` what comes before everything else; it is the nearest, so at least one record."""
    lo, hi = span.lo, span.hi
    if other is None:
        span.lo = span.hi
        return lo, hi
    limit = sign * other[0]
    # Of records that are exactly as old as the next one elsewhere, the order of the sources decides.
    ties = (other[1:5]) > (head[1:5])
    if sign < 0:
        cut = (bisect_left if ties else bisect_right)(span.times, limit, lo, hi)
        span.hi = cut if cut < hi else bisect_left(span.times, span.times[hi - 1], lo, hi)
        return span.hi, hi
    cut = (bisect_right if ties else bisect_left)(span.times, limit, lo, hi)
    span.lo = cut if cut > lo else bisect_right(span.times, span.times[lo], lo, hi)
    return lo, span.lo


def _key(time: float, series: Series, order: Order, sign: int) -> tuple[float, int, int, int, int]:
    return sign * time, sign * series.id, sign * order[0], sign * order[1], sign * order[2]


def _span_key(span: Span, sign: int) -> tuple[float, int, int, int, int]:
    return _key(span.times[span.hi - 1] if sign < 0 else span.times[span.lo], span.series, span.order, sign)


_NOTHING: Final = Source(0.0, None, (0, 0, 0), lambda: None)  # type: ignore[arg-type]

"""Answering queries: pages newest first, pages by token, aggregates, and the batches of an export.

Belongs to a thread of its own with a read-only connection; compaction and queries do not wait for each other.
"""

from __future__ import annotations

import base64
import math
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from .errors import Invalid
from .history_chunks import HOUR_S
from .history_merge import Slice, Span, merge
from .history_model import (
    HistoryMessage,
    HistoryPage,
    HistoryRecord,
    Place,
    Query,
    SeriesKey,
    check,
    read_token,
    write_token,
)
from .history_store import HistoryStore
from .history_sums import Sums
from .history_tail import Tail
from .history_view import ChunkCache, Seen, View, Window
from .message import JSON
from .senml import arrival_s
from .timekeeping import Correction

MAX_MERGED = 10_000  # series one query may run over
MAX_BUCKETS = 200_000  # of one aggregation: 1,000 series over 8 days of hours

_decode_json = msgspec.json.Decoder().decode


class Bucket(NamedTuple):
    """The numbers of one series in one interval."""

    series: SeriesKey
    start_s: float
    count: int  # type: ignore[assignment]
    sum: float
    min: float
    max: float

    @property
    def avg(self) -> float:
        return self.sum / self.count


class HistoryReader:
    """Answers from chunks and tail. `damaged` gathers chunks that did not decode, for the store to set aside."""

    def __init__(self, store: HistoryStore, tail: Tail) -> None:
        self._conn = store.reader()
        self.tail = tail
        self._cache = ChunkCache()
        self.damaged: set[int] = set()

    def close(self) -> None:
        self._conn.close()

    def reopen(self, store: HistoryStore) -> None:
        """Have the store try to write again; in the thread of queries, so that none is under way."""
        self._conn.close()
        try:
            store.reopen()
        finally:
            self._conn = store.reader()

    def look(self, query: Query, corrections: Sequence[Correction]) -> _Closing:
        """A view of what the query is about, for the length of a `with`. Raises Invalid."""
        return _Closing(self, query, corrections)

    def page(self, query: Query, corrections: Sequence[Correction]) -> HistoryPage:
        """The page asked for, newest first. Raises Invalid for values outside their limits."""
        check(query)
        if query.aggregation is not None:
            return self._aggregated_page(query, corrections)
        with _Closing(self, query, corrections) as view:
            window = Window(
                -math.inf if query.from_s is None else query.from_s,
                math.inf if query.to_s is None else query.to_s,
            )
            matching = sum(view.count(seen, window) for seen in view.seen)
            newest_first = query.before is None
            token = query.after if newest_first else query.before
            found, more = _cut_out(
                _ordered(view, window, token, newest_first=newest_first),
                query.offset,
                query.limit,
                newest_first=newest_first,
            )
            if not newest_first:
                found = [Slice(span, start, stop) for span, start, stop in reversed(found)]
            following, previous = "", query.before or ""
            if found:
                first, last = found[0], found[-1]
                previous = write_token(_place(view, first.span, first.stop - 1))
                if more or not newest_first:
                    following = write_token(_place(view, last.span, last.start))
            messages = [item for part in found for item in _shown(part, newest_first=True)]
            return HistoryPage(query.offset, query.limit, matching, messages, following, previous)  # type: ignore[arg-type]

    def batch(
        self, query: Query, limit: int, corrections: Sequence[Correction]
    ) -> tuple[list[HistoryRecord] | list[HistoryMessage], str]:
        """Up to `limit` records, oldest first, after those of the token `query.before`; and the next token.

        The token is "" where there are no more. Raises Invalid.
        """
        check(replace(query, offset=0, limit=1))
        with _Closing(self, query, corrections) as view:
            window = Window(
                -math.inf if query.from_s is None else query.from_s,
                math.inf if query.to_s is None else query.to_s,
            )
            slices = _ordered(view, window, query.before, newest_first=False)
            found, more = _cut_out(slices, 0, limit, newest_first=False)
            token = ""
            if more:
                last = found[-1]
                token = write_token(_place(view, last.span, last.stop - 1))
            return [item for part in found for item in _shown(part, newest_first=False)], token  # type: ignore[return-value]

    # Aggregates

    def aggregate(self, query: Query, corrections: Sequence[Correction]) -> list[Bucket]:
        """The numbers of each series in each interval that has any; newest first, then by series."""
        check(query)
        interval = query.interval_s or HOUR_S
        with _Closing(self, query, corrections) as view:
            window = Window(
                -math.inf if query.from_s is None else query.from_s,
                math.inf if query.to_s is None else query.to_s,
            )
            buckets: list[Bucket] = []
            for seen in view.seen:
                sums = Sums(interval)
                sums.add_series(view, seen, window, plain=not query.filters_values)
                if len(buckets) + len(sums.found) > MAX_BUCKETS:
                    raise Invalid(
                        f"more than {MAX_BUCKETS} intervals; ask for less time or a longer interval"
                    )
                key = seen.series.key
                buckets += [Bucket(key, index * interval, *entry) for index, entry in sums.found.items()]
        buckets.sort(key=itemgetter(1), reverse=True)
        return buckets

    def _aggregated_page(self, query: Query, corrections: Sequence[Correction]) -> HistoryPage:
        buckets = self.aggregate(query, corrections)
        what = query.aggregation or ""
        part = buckets[query.offset : query.offset + query.limit]
        messages = [
            HistoryRecord(
                bucket.series.channel,
                bucket.series.publisher,
                bucket.series.protocol,
                bucket.series.name,
                bucket.start_s,
                bucket.series.subtopic,
                bucket.series.unit,
                float(getattr(bucket, what)),
            )
            for bucket in part
        ]
        return HistoryPage(query.offset, query.limit, len(buckets), messages)


class _Closing:
    """A view for the length of a `with`; what it found damaged is kept for the store."""

    def __init__(self, reader: HistoryReader, query: Query, corrections: Sequence[Correction]) -> None:
        self._reader = reader
        self._view = View(reader._conn, reader._cache, reader.tail, corrections, query)

    def __enter__(self) -> View:
        if len(self._view.seen) > MAX_MERGED:
            self._view.close()
            raise Invalid(f"more than {MAX_MERGED} series; ask for a name or publisher")
        return self._view

    def __exit__(self, *_: object) -> None:
        self._reader.damaged.update(self._view.damaged)
        try:
            self._view.close()
        except sqlite3.Error:
            self._reader._conn.rollback()


# Places


def _ordered(view: View, window: Window, token: str | None, *, newest_first: bool) -> Iterator[Slice]:
    """All records of the view in the window, from behind the token on."""
    windows = [window] * len(view.seen)
    extra: list[Slice] = []
    if token:
        place = read_token(token)
        after = math.nextafter(place.time, math.inf)
        windows = []
        for seen in view.seen:
            # At the token's very time, series before it in the order are done and those behind it are not.
            if newest_first:
                edge = after if seen.series.id < place.series else place.time
                windows.append(Window(window.from_s, min(window.to_s, edge)))
            else:
                edge = place.time if seen.series.id > place.series else after
                windows.append(Window(max(window.from_s, edge), window.to_s))
            if seen.series.id == place.series and window.from_s <= place.time < window.to_s:
                extra = _ties_behind(view, seen, place, newest_first=newest_first)
    yield from extra
    yield from merge(view.streams(windows, newest_first=newest_first), newest_first=newest_first)


def _ties(view: View, seen: Seen, time: float) -> list[Span]:
    """Where a series has records at exactly `time`, in the order of arrival and unfiltered."""
    at = Window(time, math.nextafter(time, math.inf))
    spans = view.tail_spans(seen, at, filtered=False)
    for number, upto, _, _, _, by, boot in view.headers(seen.series.id, at, filtered=False):
        span = view.span(seen.series, (boot, upto, number), at, by, filtered=False)
        if span is not None:
            spans.append(span)
    return sorted(spans, key=lambda span: span.order)


def _ties_behind(view: View, seen: Seen, place: Place, *, newest_first: bool) -> list[Slice]:
    """Of the records that are exactly as old as the token's, in its series, those behind it."""
    found: list[Slice] = []
    rank = 0
    for span in _ties(view, seen, place.time):
        last = rank + span.hi - span.lo
        # Newest first, what is behind has arrived before it; else after it.
        lo, hi = (rank, min(last, place.rank)) if newest_first else (max(rank, place.rank + 1), last)
        if lo < hi:
            part = view.filtered(replace(span, lo=span.lo + lo - rank, hi=span.lo + hi - rank))
            if part.lo < part.hi:
                found.append(Slice(part, part.lo, part.hi))
        rank = last
    return found[::-1] if newest_first else found


def _place(view: View, span: Span, index: int) -> Place:
    """The place of a record among all, as a token keeps it."""
    time = span.times[index]
    seen = next(one for one in view.seen if one.series is span.series)
    rank = 0
    for other in _ties(view, seen, time):
        if other.order == span.order:
            rank += span.place(index) - other.lo
            break
        rank += other.hi - other.lo
    return Place(time, span.series.id, rank)


def _cut_out(
    slices: Iterator[Slice], offset: int, limit: int, *, newest_first: bool
) -> tuple[list[Slice], bool]:
    """`limit` records from `offset` on, and whether more follow."""
    found: list[Slice] = []
    for span, start, stop in slices:
        size = stop - start
        if offset >= size:
            offset -= size
            continue
        if not limit:
            return found, True
        count = min(size - offset, limit)
        if newest_first:
            found.append(Slice(span, stop - offset - count, stop - offset))
        else:
            found.append(Slice(span, start + offset, start + offset + count))
        limit -= count
        if offset + count < size:
            return found, True
        offset = 0
    return found, False


# Showing


def _shown(part: Slice, *, newest_first: bool) -> list[HistoryRecord] | list[HistoryMessage]:
    span, start, stop = part
    key = span.series.key
    channel, subtopic, publisher, protocol, name, unit = *key[:4], key.name, key.unit
    times, values = span.times[start:stop], span.values[start:stop]
    if newest_first:
        times, values = times[::-1], values[::-1]
    if isinstance(values, array):
        return [
            HistoryRecord(channel, publisher, protocol, name, time, subtopic, unit, value)
            for time, value in zip(times, values, strict=True)
        ]
    if key.format:
        return [_message(key, time, *item) for time, item in zip(times, values, strict=True)]
    return [record_of(key, time, item) for time, item in zip(times, values, strict=True)]


def record_of(key: SeriesKey, time: float, item: Any) -> HistoryRecord:
    """A record as readers show it; `item` is what the series keeps at `time`."""
    value, its_sum, update_time = item if type(item) is list else (item, None, None)
    kind = type(value)
    return HistoryRecord(
        channel=key.channel,
        subtopic=key.subtopic,
        publisher=key.publisher,
        protocol=key.protocol,
        name=key.name,
        unit=key.unit,
        time=time,
        update_time=update_time,
        value=value if kind is float else None,
        string_value=value if kind is str else None,
        bool_value=value if kind is bool else None,
        data_value=base64.urlsafe_b64encode(value).rstrip(b"=").decode() if kind is bytes else None,
        sum=its_sum,
    )


def _message(key: SeriesKey, time: float, created_ns: int, payload: bytes) -> HistoryMessage:
    moved = time - arrival_s(created_ns)  # by a correction of the clock
    if moved:
        created_ns += round(moved * 1e6) * 1000
    shown: Any = None
    content_type = key.unit
    if content_type == JSON:
        try:
            shown, content_type = _decode_json(payload), ""
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            content_type = JSON
    if content_type:
        shown = base64.b64encode(payload).decode()
    return HistoryMessage(
        key.channel, created_ns, key.publisher, key.protocol, shown, key.subtopic, content_type
    )

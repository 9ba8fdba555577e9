"""Adding up the numbers of a series by intervals: from records, or from what chunks say of themselves.

A chunk that lies within one interval is added as its row says, and where intervals are whole hours any other one as its
hours say. Decoded are only the tail, chunks that reach over the edge of what is asked for, and those without hours.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import Final

from .history_chunks import HOUR_S, Hour, read_hours, total
from .history_merge import Span
from .history_view import Seen, View, Window

AT_ONCE: Final = 256  # chunks whose rows are in memory together: about 400 KB


class Sums:
    """Count, sum, smallest and largest by interval."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.found: dict[int, tuple[int, float, float, float]] = {}

    def add_series(self, view: View, seen: Seen, window: Window, *, plain: bool) -> None:
        """What a series has in the window; `plain`: values are not filtered."""
        for span in view.tail_spans(seen, window):
            self._add_span(span)
        headers = view.headers(seen.series.id, window)
        for at in range(0, len(headers), AT_ONCE):
            self._add_chunks(view, seen, window, headers[at : at + AT_ONCE], plain=plain)

    def _add_chunks(
        self,
        view: View,
        seen: Seen,
        window: Window,
        headers: list[tuple[int, int, int, float, float, float, int]],
        *,
        plain: bool,
    ) -> None:
        interval = self.interval
        whole_hours = interval % HOUR_S == 0
        whole = [
            number
            for number, _, _, first, last, _, _ in headers
            if plain and first >= window.from_s and last < window.to_s
        ]
        chunks = view.chunks(whole)
        damaged = set(whole) - chunks.keys()
        for number, upto, _, first, last, by, boot in headers:
            if number in damaged:
                continue
            chunk = chunks.get(number)
            if chunk is not None:
                head = chunk.head
                index = math.floor(first / interval)
                if head.sum == head.sum and index == math.floor(last / interval):
                    self._add(index, (head.count, head.sum, head.min, head.max))
                    continue
                if chunk.hours is not None and whole_hours and by % HOUR_S == 0:
                    self._add_hours(read_hours(chunk.hours), int(by) // HOUR_S)
                    continue
            span = view.span(seen.series, (boot, upto, number), window, by)
            if span is not None:
                self._add_span(span)

    def _add(self, index: int, some: tuple[int, float, float, float]) -> None:
        known = self.found.get(index)
        if known is not None:
            count, summed, low, high = some
            some = (count + known[0], summed + known[1], min(low, known[2]), max(high, known[3]))
        self.found[index] = some

    def _add_span(self, span: Span) -> None:
        times, values, at, hi = span.times, span.values, span.lo, span.hi
        if not isinstance(values, array):
            times, values, at, hi = _numbers(span)
        while at < hi:
            index = math.floor(times[at] / self.interval)
            to = max(at + 1, bisect_left(times, (index + 1) * self.interval, at, hi))
            part = values[at:to]
            self._add(index, (to - at, total(part), min(part), max(part)))
            at = to

    def _add_hours(self, hours: list[Hour], by: int) -> None:
        """`by`: hours that a correction of the clock moves them."""
        size = int(self.interval) // HOUR_S
        found = self.found
        for one in hours:
            index = (one[0] + by) // size
            if index in found:
                self._add(index, one[1:])
            else:
                found[index] = one[1:]


def _numbers(span: Span) -> tuple[array[float], array[float], int, int]:
    times, values = array("d"), array("d")
    for place in range(span.lo, span.hi):
        item = span.values[place]
        value = item[0] if type(item) is list else item
        if type(value) is float:
            times.append(span.times[place])
            values.append(value)
    return times, values, 0, len(times)

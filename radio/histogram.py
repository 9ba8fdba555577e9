"""Counts of a measured quantity by size, as the gateway, the pages and `/metrics` show them.

Written by one thread and read by others without a lock: a reader may see a value in `counts` that is not
yet in `sum`, never a torn number.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

# Bounds, in microseconds, of what is measured of downlinks. Slack: from an order's acceptance to its start; below
# the least an order is refused, an answer in RX1 should come a good half a second ahead. Armed: what is left when the
# frame is in the chip; below 0 it starts late. Start error: later than ordered is positive.
SLACK_US: Final = (
    10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 900_000, 1_000_000, 2_000_000, 5_000_000, 60_000_000,
)  # fmt: skip
ARMED_US: Final = (0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500)
START_ERROR_US: Final = (
    -1000, -500, -200, -100, -50, -20, -10, -5, 0, 5, 10, 20, 50, 100, 200, 500, 1000,
)  # fmt: skip


class Histogram:
    """How many values were at most each bound; the last count is of those above them all.

    Bounds are upper ends, included (the `le` of a Prometheus bucket, which is the running sum of `counts`).
    Raises ValueError unless they rise.
    """

    def __init__(self, bounds: Sequence[int], unit: str) -> None:
        if not bounds or any(b <= a for a, b in pairwise(bounds)):
            raise ValueError(f"histogram bounds do not rise: {list(bounds)}")
        self.bounds = tuple(bounds)
        self.unit = unit
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0
        self._min: int | None = None
        self._max: int | None = None

    def add(self, value: int) -> None:
        """Count one value, in `unit`."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value
        self._min = value if self._min is None else min(self._min, value)
        self._max = value if self._max is None else max(self._max, value)

    def status(self) -> dict[str, Any]:
        """Plain values; `min` and `max` are None while nothing was counted."""
        counts = list(self._counts)
        return {
            "unit": self.unit,
            "bounds": list(self.bounds),
            "counts": counts,
            "count": sum(counts),
            "sum": self._sum,
            "min": self._min,
            "max": self._max,
        }

"""How long an RN2483 thinks between the end of a command and its answer: measured with every answer. Pure.

A `radio tx` takes longer the more hexadecimal digits it has to read, so its delay is a straight line over the length,
fitted to the last ones seen. Before the first, the answers to plain commands stand in.
"""

from collections import deque
from statistics import median
from typing import Any, Final

KEPT: Final = 32
FIRST_GUESS_NS: Final = 1_500_000
LONGEST_NS: Final = 50_000_000  # more is no thinking but a queue somewhere; such measurements are left out


class Turnaround:
    """The measured delays of one module."""

    def __init__(self) -> None:
        self._plain: deque[int] = deque(maxlen=KEPT)
        self._sent: deque[tuple[int, int]] = deque(maxlen=KEPT)

    def plain(self, delay_ns: int) -> None:
        """From the last bit of a plain command to the first of its answer."""
        if 0 <= delay_ns <= LONGEST_NS:
            self._plain.append(delay_ns)

    def transmit(self, length: int, delay_ns: int) -> None:
        """The same for a `radio tx` of `length` bytes."""
        if 0 <= delay_ns <= LONGEST_NS:
            self._sent.append((length, delay_ns))

    def estimate_ns(self, length: int) -> int:
        """What a `radio tx` of `length` bytes will take."""
        if not self._sent:
            return round(median(self._plain)) if self._plain else FIRST_GUESS_NS
        count = len(self._sent)
        mean_x = sum(x for x, _ in self._sent) / count
        mean_y = sum(y for _, y in self._sent) / count
        spread = sum((x - mean_x) ** 2 for x, _ in self._sent)
        if spread < count:  # all of one length: no slope to be had
            return round(median(y for _, y in self._sent))
        slope = sum((x - mean_x) * (y - mean_y) for x, y in self._sent) / spread
        return max(0, min(LONGEST_NS, round(mean_y + slope * (length - mean_x))))

    def status(self) -> dict[str, Any]:
        """For people: microseconds, and over how many transmissions."""
        return {
            "plain_us": round(median(self._plain) / 1000) if self._plain else None,
            "tx_us": round(self.estimate_ns(20) / 1000),
            "measured": len(self._sent),
        }

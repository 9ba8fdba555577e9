"""How long an RN2483 thinks between the end of a command and its answer: measured with every answer. Pure.

A `radio tx` takes longer the more hexadecimal digits it has to read, so its delay is a straight line over the length,
fitted to the last ones seen. Before the first, the answers to plain commands stand in. An answer may be read late,
behind a USB adapter by 16 ms, and never early: so the quickest ones count, not the average.
"""

from collections import deque
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
            return min(self._plain, default=FIRST_GUESS_NS)
        count = len(self._sent)
        mean_x = sum(x for x, _ in self._sent) / count
        mean_y = sum(y for _, y in self._sent) / count
        spread = sum((x - mean_x) ** 2 for x, _ in self._sent)
        if spread < count:  # all of one length: no slope to be had
            return min(y for _, y in self._sent)
        slope = max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in self._sent) / spread)
        quickest = min(y - slope * x for x, y in self._sent)
        return max(0, min(LONGEST_NS, round(quickest + slope * length)))

    def status(self) -> dict[str, Any]:
        """For people: microseconds, and over how many transmissions."""
        return {
            "plain_us": round(min(self._plain) / 1000) if self._plain else None,
            "tx_us": round(self.estimate_ns(20) / 1000),
            "measured": len(self._sent),
        }

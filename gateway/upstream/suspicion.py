"""Finding the one message over which a destination breaks the connection, without blaming it for a bad line.

A destination that says what it has against a message is believed at once. One that just closes the connection
each time may be broken itself. So the first message of the queue is passed over only when, again and again, a message
from further back got through on the same connection and this one then broke it, and when that lasted `hold_s`.
"""

from __future__ import annotations

LOSSES = 5  # connections in a row that broke without progress before anything is suspected
VERDICTS = 10  # times that another message got through and this one did not


class Suspicion:
    """About the message at the front of the queue. Times are monotonic seconds."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._seq = 0
        self._since = 0.0
        self._losses = 0
        self._verdicts = 0

    def cleared(self) -> None:
        """The front of the queue got through."""
        self._seq = self._losses = self._verdicts = 0

    def lost(self, seq: int, now: float, *, after_another: bool) -> None:
        """A connection broke with message `seq` at the front; `after_another` had got through on it."""
        if seq != self._seq:
            self._seq, self._since = seq, now
            self._losses = self._verdicts = 0
        self._losses += 1
        self._verdicts += after_another

    @property
    def aroused(self) -> bool:
        """Time to send the first message alone, after another one."""
        return self._losses >= LOSSES

    def patience_over(self, now: float) -> bool:
        """Whether it has lasted `hold_s`."""
        return now - self._since >= self._hold_s

    def convicted(self, now: float) -> bool:
        """Whether the message is to be passed over."""
        return self._verdicts >= VERDICTS and self.patience_over(now)

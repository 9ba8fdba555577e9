"""Slows down guessing of passphrases and claim codes: five free tries, then waits that double.

Counted per sender address. The gateway behind sees only this process, so the limit has to be here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

FREE_TRIES = 5
MAX_WAIT_S = 15 * 60.0
FORGET_AFTER_S = 3600.0
MAX_ADDRESSES = 1024  # the longest quiet address is forgotten first


class Throttle:
    """Failures per address; time (monotonic seconds) is an argument. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds this address still has to wait before its next try; 0 when it may try now."""
        with self._lock:
            count, last_s = self._failures.get(address, (0, now_s))
        if count < FREE_TRIES or now_s - last_s > FORGET_AFTER_S:
            return 0.0
        # The exponent is capped before the power: a long attack must not build a thousand-digit number.
        wait_s = min(2.0 ** min(count - FREE_TRIES + 1, 10), MAX_WAIT_S)
        return max(0.0, last_s + wait_s - now_s)

    def failed(self, address: str, now_s: float) -> None:
        with self._lock:
            count, last_s = self._failures.pop(address, (0, now_s))
            if now_s - last_s > FORGET_AFTER_S:
                count = 0
            self._failures[address] = (count + 1, now_s)
            while len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)

"""How fast somebody may do something: token buckets by name, with the time as argument."""

from __future__ import annotations


class Rates:
    """`rate` tokens a second for each name, at most `burst` of them saved up; at most `names` buckets are kept.

    A bucket that is full again says the same as none, so the ones used longest ago are dropped first.
    """

    def __init__(self, rate: float, burst: int, names: int = 4096) -> None:
        self._rate, self._burst, self._names = rate, burst, names
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, and when that was true

    def wait_s(self, name: str, now_s: float) -> float:
        """Take one token of `name`; 0 where there was one, else the seconds until there is.

        `now_s` is monotonic.
        """
        left = self._left(name, now_s)
        allowed = left >= 1.0
        self._buckets[name] = (left - 1.0 if allowed else left, now_s)
        return 0.0 if allowed else (1.0 - left) / self._rate

    def owes_s(self, name: str, tokens: int, now_s: float) -> float:
        """Take `tokens` of `name`, also those it does not have; the seconds until nothing is owed.

        For what has happened already and cannot be refused. `now_s` is monotonic.
        """
        left = self._left(name, now_s) - tokens
        self._buckets[name] = (left, now_s)
        return max(0.0, -left / self._rate)

    def _left(self, name: str, now_s: float) -> float:
        """Take the bucket of `name` out, filled up to now; there is room for it to be put back as the newest."""
        left, then_s = self._buckets.pop(name, (float(self._burst), now_s))
        if len(self._buckets) >= self._names:
            del self._buckets[next(iter(self._buckets))]
        return min(float(self._burst), left + (now_s - then_s) * self._rate)

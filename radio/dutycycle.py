"""How much a gateway has sent in each sub-band during the last hour, and how much it still may. Pure.

Duty cycle (ETSI EN 300 220-1, 4.3.3) is a share of time on air in any hour. A transmission counts from the
moment it is promised until an hour after its end, rounded up to whole seconds; that bounds the memory to one
entry a second and errs on the safe side. Orders may come in any order of their starts.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

from radio.regions import DUTY_WINDOW_S, SubBand

SECOND_NS: Final = 1_000_000_000


class DutyCycle:
    """The books of all sub-bands. Times are ns of the monotonic clock, given by the caller."""

    def __init__(self, sub_bands: Iterable[SubBand]) -> None:
        self._books = {band: _Book(band) for band in sub_bands if band.duty < 1}

    @property
    def bands(self) -> tuple[SubBand, ...]:
        """The sub-bands that have a limit."""
        return tuple(self._books)

    def try_reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> bool:
        """Book a transmission if the budget allows it.

        Everything counts that could share an hour with it, all that is promised for later included.
        """
        book = self._books.get(band)
        if book is None:
            return True
        book.expire(now_ns)
        if book.used_at(start_ns) + airtime_us > book.budget_us:
            return False
        book.add(until_s(start_ns, airtime_us), airtime_us)
        return True

    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None:
        """Take a booking back: the frame was never sent."""
        book = self._books.get(band)
        if book is not None:
            book.remove(until_s(start_ns, airtime_us), airtime_us)

    def allowed_from(self, band: SubBand, start_ns: int, airtime_us: int) -> int | None:
        """The first moment, not before `start_ns`, the budget allows it; None where it never will."""
        book = self._books.get(band)
        return start_ns if book is None else book.allowed_from(start_ns, airtime_us)

    def used_us(self, band: SubBand, now_ns: int) -> int:
        """Time on air that counts against the budget now."""
        book = self._books.get(band)
        return 0 if book is None else book.used_at(now_ns)

    def budget_us(self, band: SubBand) -> int | None:
        """Time on air an hour may hold; None without limit."""
        book = self._books.get(band)
        return None if book is None else book.budget_us

    def count(self, band: SubBand, until_second: int, airtime_us: int) -> None:
        """Book what was sent before this process started; it counts until that second."""
        self._books[band].add(until_second, airtime_us)

    def uncount(self, band: SubBand, until_second: int, airtime_us: int) -> None:
        """Take back what `count` booked, as far as it still counts."""
        self._books[band].remove(until_second, airtime_us)

    def entries(self, band: SubBand, now_ns: int) -> list[tuple[int, int]]:
        """Time on air by the second in which it stops counting, ascending."""
        book = self._books[band]
        book.expire(now_ns)
        return book.entries()


class _Book:
    """One sub-band: time on air by the second in which it stops counting, ascending."""

    def __init__(self, band: SubBand) -> None:
        self.budget_us = round(band.duty * DUTY_WINDOW_S * 1_000_000)
        self._total_us = 0
        self._until_s: list[int] = []
        self._airtime_us: list[int] = []

    def expire(self, now_ns: int) -> None:
        gone = bisect_right(self._until_s, now_ns // SECOND_NS)
        if gone:
            self._total_us -= sum(self._airtime_us[:gone])
            del self._until_s[:gone], self._airtime_us[:gone]

    def used_at(self, t_ns: int) -> int:
        gone = bisect_right(self._until_s, t_ns // SECOND_NS)
        return self._total_us - sum(self._airtime_us[:gone])

    def add(self, until_second: int, airtime_us: int) -> None:
        at = bisect_left(self._until_s, until_second)
        if at == len(self._until_s) or self._until_s[at] != until_second:
            self._until_s.insert(at, until_second)
            self._airtime_us.insert(at, 0)
        self._airtime_us[at] += airtime_us
        self._total_us += airtime_us

    def remove(self, until_second: int, airtime_us: int) -> None:
        at = bisect_left(self._until_s, until_second)
        if at < len(self._until_s) and self._until_s[at] == until_second:
            self._airtime_us[at] -= airtime_us
            self._total_us -= airtime_us

    def entries(self) -> list[tuple[int, int]]:
        return list(zip(self._until_s, self._airtime_us, strict=True))

    def allowed_from(self, start_ns: int, airtime_us: int) -> int | None:
        if airtime_us > self.budget_us:
            return None
        used_us = self._total_us
        for until_second, expired_us in self.entries():
            if until_second * SECOND_NS <= start_ns:
                used_us -= expired_us
                continue
            if used_us + airtime_us <= self.budget_us:
                return start_ns
            start_ns = until_second * SECOND_NS
            used_us -= expired_us
        return start_ns


def until_s(start_ns: int, airtime_us: int) -> int:
    """The second from which a transmission no longer counts."""
    end_ns = start_ns + airtime_us * 1000
    return -(-end_ns // SECOND_NS) + DUTY_WINDOW_S

"""The machine's two clocks, and how far the wall clock can be trusted.

The only place of the gateway process that reads a clock; everything else takes an `Instant`.
"""

from __future__ import annotations

import ctypes
import time

from gateway.lorawan.clock import Instant
from hub.message import TimeQuality

QUALITY_AGE_NS = 5_000_000_000  # the kernel is asked about synchronisation this often
BUILD_TIME_NS = 1_767_225_600_000_000_000  # 2026-01-01: a wall clock before it has never been set

_STA_UNSYNC = 0x0040  # adjtimex(2): the clock is not synchronised


class SystemClock:
    """CLOCK_MONOTONIC and UTC, with the kernel's word on synchronisation asked now and then."""

    def __init__(self) -> None:
        self._quality = TimeQuality.UNSET
        self._asked_ns: int | None = None

    @staticmethod
    def mono_ns() -> int:
        """The monotonic clock alone."""
        return time.monotonic_ns()

    def now(self) -> Instant:
        """Both clocks now."""
        mono, wall = time.monotonic_ns(), time.time_ns()
        if self._asked_ns is None or mono - self._asked_ns > QUALITY_AGE_NS:
            self._asked_ns = mono
            self._quality = _quality(wall)
        return Instant(mono, wall, self._quality)


def _quality(wall_ns: int) -> TimeQuality:
    if wall_ns < BUILD_TIME_NS:
        return TimeQuality.UNSET
    return TimeQuality.NTP if _synchronised() else TimeQuality.RESTORED


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2): `modes` 0 only asks; the rest beyond `status` is not looked at."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def _synchronised() -> bool:
    answer = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(answer)) < 0:
        return False
    return not answer.status & _STA_UNSYNC

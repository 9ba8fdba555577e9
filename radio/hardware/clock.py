"""The monotonic clock of the machine: the only place of the radio package that asks what time it is."""

import contextlib
import os
import selectors
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from radio.seam import Readable

# A sleep overshoots by scheduling latency; the rest is spun. 300 us covers an idle kernel with real-time
# priority and costs that much of a core for each downlink.
SPIN_NS: Final = 300_000


class MonotonicClock:
    """CLOCK_MONOTONIC, which gpiod stamps edges with as well. One per owner thread; only `wake` is for others."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._watched: set[int] = set()

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait(self, lines: Sequence[Readable], until_ns: int | None) -> None:
        """See `radio.seam.Clock`. Lines without a descriptor are not watched."""
        for line in lines:
            fd = line.fileno()
            if fd is not None and fd not in self._watched:
                self._selector.register(fd, selectors.EVENT_READ)
                self._watched.add(fd)
        timeout_s = None if until_ns is None else max(0, until_ns - time.monotonic_ns()) / 1e9
        self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def sleep_until(self, t_ns: int) -> None:
        """See `radio.seam.Clock`: sleeps, then spins over the last stretch."""
        left_ns = t_ns - time.monotonic_ns() - SPIN_NS
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        while time.monotonic_ns() < t_ns:
            pass

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)


def utc_ns(mono_ns: int) -> int:
    """The wall time of a monotonic time, as the system knows it now; for display, never for timers."""
    return mono_ns + time.time_ns() - time.monotonic_ns()


def boot_id() -> str:
    """Names the machine's present boot, and with it the origin of CLOCK_MONOTONIC; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""

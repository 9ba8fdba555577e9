"""The machine's two clocks, how far the wall clock can be trusted, and what becomes known when it is set.

The only place of the gateway process that reads a clock; everything else takes an `Instant`. The rules for a wall
clock that was wrong are in `hub.timekeeping`; here is what they are fed with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from gateway.lorawan.clock import Instant
from hub.message import TimeQuality
from hub.timekeeping import STEP_NS, TRUSTED, ClockWatch, Correction, KeptClock
from radio.hardware.wallclock import kernel_error_ns

log = logging.getLogger(__name__)

QUALITY_AGE_NS = 5_000_000_000  # the kernel is asked about synchronisation this often
LOOK_S = 5.0  # how soon a step is noticed where nothing is stamped
KEEP_INTERVAL_NS = 300_000_000_000  # how often the time is written down for the next start
BUILD_TIME_NS = 1_767_225_600_000_000_000  # 2026-01-01: a wall clock before it has never been set
TOLD_APART_NS = 50_000_000  # what a receiver's time may differ from ours before ours follows
TOLD_HOLD_NS = 60_000_000_000  # how long a receiver's word holds; it is asked every few seconds
APART_NS = 1_000_000  # between two readings that are to be of one moment
READINGS = 4  # on a busy machine the kernel may interrupt between any two of them


class ClockLog(Protocol):
    """What the clock needs of `hub.log.Log`."""

    @property
    def kept_clock(self) -> KeptClock | None: ...
    def keep_clock(self, kept: KeptClock) -> None: ...
    def correct(self, boot: str, offset_ns: int, quality: TimeQuality) -> Correction: ...


class SystemClock:
    """CLOCK_MONOTONIC and UTC, with the kernel's word on synchronisation asked now and then.

    Once it follows a log, the wall time never begins before the last one that was seen: a machine that starts
    in 1970 goes on from there until the clock is set. When it is set, the log is told by how much.
    """

    def __init__(
        self,
        clocks: Callable[[], tuple[int, int]] | None = None,
        synchronised: Callable[[], bool] | None = None,
    ) -> None:
        """`clocks` returns both clocks in ns, `synchronised` the kernel's word; defaults ask this machine."""
        self._clocks = clocks or _both_clocks
        self._synchronised = synchronised or _synchronised
        self._quality = TimeQuality.UNSET
        self._asked_ns: int | None = None
        self._watch = ClockWatch()
        self._ahead_ns = 0  # our wall time less the system's
        self._system_offset_ns = 0  # the system's wall less monotonic time, when `_ahead_ns` was found
        self._known = False  # some earlier start has left a time to go on from
        self._log: ClockLog | None = None
        self._boot = ""
        self._kept_ns = 0  # monotonic
        self._told_until_ns: int | None = None  # monotonic: a GNSS receiver vouches for the time until then

    @staticmethod
    def mono_ns() -> int:
        """The monotonic clock alone."""
        return time.monotonic_ns()

    def now(self) -> Instant:
        """Both clocks now. Tells the log where the wall clock was set since the last call."""
        mono, system = self._clocks()
        if self._asked_ns is None or mono - self._asked_ns > QUALITY_AGE_NS:
            self._ask(mono, system)
        if self._ahead_ns and abs(system - mono - self._system_offset_ns) > STEP_NS:
            self._ahead_ns = 0  # somebody has set the clock: that is better than where we went on from
        wall = system + self._ahead_ns
        step = self._watch.observe(mono, wall, self._quality)
        if step is not None:
            self._ask(mono, system)  # who sets a clock often also says that it is right now
            wall = system + self._ahead_ns
            step += self._watch.observe(mono, wall, self._quality) or 0
            self._tell(step, mono, wall)
        return Instant(mono, wall, self._quality)

    def told(self, mono_ns: int, utc_ns: int) -> None:
        """A GNSS receiver says which UTC was at a moment of the monotonic clock.

        A clock that the kernel calls synchronised is left alone. Any other one is taken for what the receiver says:
        on a site without internet that is the only good time there is.
        """
        mono, system = self._clocks()
        self._told_until_ns = mono + TOLD_HOLD_NS
        if not self._synchronised():
            ahead_ns = utc_ns + mono - mono_ns - system
            if abs(ahead_ns - self._ahead_ns) > TOLD_APART_NS:
                self._ahead_ns, self._system_offset_ns = ahead_ns, system - mono
        self._ask(mono, system)

    def follow(self, kept_in: ClockLog, boot: str) -> None:
        """Go on from what the log knows of the clock, and tell it of every step from now on."""
        kept = kept_in.kept_clock
        mono, wall = self._clocks()
        self._log, self._boot, self._known = kept_in, boot, kept is not None
        self._ask(mono, wall)
        if self._quality not in TRUSTED:
            floor = BUILD_TIME_NS
            if kept:
                floor = max(floor, kept.wall_ns)
                if kept.boot == boot:
                    floor = max(floor, mono + kept.offset_ns if wall < floor else 0)
            self._ahead_ns = max(0, floor - wall)
            self._system_offset_ns = wall - mono
            if self._ahead_ns:
                log.warning("the clock was never set: going on from the last time seen, which is late")
        same_boot = kept is not None and bool(boot) and kept.boot == boot
        self._watch = ClockWatch(kept.offset_ns, kept.quality) if kept and same_boot else ClockWatch()
        self._keep(self.now())

    async def keep(self) -> None:
        """Notice steps where nothing is stamped, and write the time down now and then; runs until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                now = self.now()
                if now.mono_ns - self._kept_ns >= KEEP_INTERVAL_NS:
                    self._keep(now)
        finally:
            self._keep(self.now())

    def _tell(self, step_ns: int, mono: int, wall: int) -> None:
        if self._log is None:
            return
        log.warning("the clock was set by %.3f s, its time is now %s", step_ns / 1e9, self._quality)
        self._log.correct(self._boot, step_ns, self._quality)
        self._keep(Instant(mono, wall, self._quality))

    def _keep(self, now: Instant) -> None:
        self._kept_ns = now.mono_ns
        if self._log is not None:
            kept = KeptClock(self._boot, now.wall_ns - now.mono_ns, now.quality, now.wall_ns)
            self._log.keep_clock(kept)

    def _ask(self, mono: int, wall: int) -> None:
        """See how far the system's `wall` can be trusted."""
        self._asked_ns = mono
        vouched = self._told_until_ns is not None and mono < self._told_until_ns
        if vouched and not self._synchronised():
            self._quality = TimeQuality.GNSS
        elif wall < BUILD_TIME_NS:
            self._quality = TimeQuality.RESTORED if self._known else TimeQuality.UNSET
        elif self._synchronised():
            self._quality, self._ahead_ns = TimeQuality.NTP, 0
        else:
            self._quality = TimeQuality.RESTORED


def _both_clocks() -> tuple[int, int]:
    """CLOCK_MONOTONIC and UTC of one moment; of the last try where the machine is too busy for one."""
    mono, wall = time.monotonic_ns(), time.time_ns()
    for _ in range(READINGS):
        if time.monotonic_ns() - mono < APART_NS:
            break
        mono, wall = time.monotonic_ns(), time.time_ns()
    return mono, wall


def _synchronised() -> bool:
    return kernel_error_ns() is not None

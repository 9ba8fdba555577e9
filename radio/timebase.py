"""What time it is: monotonic clock, UTC and GPS time of one gateway, with a bound on the error. Pure.

Three sources, and the one with the smallest bound is used: PPS edges labelled by a receiver and fitted by a straight
line, which also tells how wrong the gateway's crystal is; messages of a receiver without PPS; the system's clock. Each
bound grows while nothing new comes in (holdover). Inside, time is GPS time, which knows no leap seconds.

One thread adds; any thread may ask: what is asked is one immutable line, replaced whole.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import mul
from typing import Any, Final

from radio.gnss.leap import BUILT_IN, LeapSeconds

US: Final = 1_000
MS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

# Edges; two minutes: the slope to 0.02 ppm with 5 us of jitter, and a crystal keeps still so long
WINDOW: Final = 128
MIN_EDGES: Final = 4
FORGET_NS: Final = 300 * SECOND_NS  # after a gap, edges from before it say little about the crystal now
STAMP_ERROR_NS: Final = 10 * US  # a kernel's stamp of an edge is late by 2 to 10 us, always
OUTLIER_NS: Final = 100 * US
RESTART_AFTER: Final = 10  # edges in a row that fit each other but not the line
WANDER_PPM: Final = 2.0  # what a warming crystal may do between edges
UNFITTED_PPM: Final = 100.0  # what any crystal may be wrong by

MESSAGES: Final = 32
MESSAGE_DELAY_NS: Final = (0, 700 * MS)  # a sentence begins so long after the second it names

SYSTEM_EVERY_NS: Final = SECOND_NS
MAX_ERROR_NS: Final = SECOND_NS  # of a receiver's time; a worse one is none
GPS_ERROR_NS: Final = 1 * MS  # what a GPS-timed transmission may be wrong by


@dataclass(frozen=True, slots=True)
class SystemTime:
    """The system's clock and the monotonic one, read together."""

    mono_ns: int
    utc_ns: int
    error_ns: int | None  # what the kernel's clock discipline vouches for; None where it is not synchronised


@dataclass(frozen=True, slots=True)
class Timeline:
    """A straight line from monotonic to GPS time. `rate` is GPS ns gained a monotonic ns."""

    mono_ns: int
    gps_ns: int
    rate: float
    error_ns: int  # at `mono_ns`
    growth_ppm: float
    source: str

    def at(self, mono_ns: int) -> int:
        """GPS time of a monotonic one."""
        since_ns = mono_ns - self.mono_ns
        return self.gps_ns + since_ns + round(since_ns * self.rate)

    def mono_of(self, gps_ns: int) -> int:
        """The inverse."""
        since_ns = gps_ns - self.gps_ns
        return self.mono_ns + since_ns - round(since_ns * self.rate / (1 + self.rate))

    def error_at(self, mono_ns: int) -> int:
        """The bound, with what the crystal may have done since."""
        return self.error_ns + round(abs(mono_ns - self.mono_ns) * self.growth_ppm / 1e6)


def fit(points: Iterable[tuple[int, int]]) -> tuple[Timeline, float] | None:
    """A least-squares line through (monotonic, GPS) edges, anchored at the newest; and its residual (rms, ns).

    None for fewer than MIN_EDGES. Differences are taken in integers first: floats hold no ns since 1980.
    """
    pairs = list(points)
    count = len(pairs)
    if count < MIN_EDGES:
        return None
    mono0, gps0 = pairs[-1]
    xs = [float(mono - mono0) for mono, _ in pairs]
    ys = [float((gps - gps0) - (mono - mono0)) for mono, gps in pairs]
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    dxs = [x - mean_x for x in xs]
    spread = sum([dx * dx for dx in dxs])
    rate = sum(map(mul, dxs, ys)) / spread
    at_newest = mean_y - rate * mean_x
    left = sum([(y - mean_y - rate * dx) ** 2 for dx, y in zip(dxs, ys, strict=True)])
    residual_ns = math.sqrt(left / (count - 2))
    # Of the line at its newest end, and of its slope; three standard deviations bound them.
    end_ns = residual_ns * math.sqrt(1 / count + mean_x**2 / spread)
    slope_ppm = 3e6 * residual_ns / math.sqrt(spread)
    line = Timeline(
        mono_ns=mono0,
        gps_ns=gps0 + round(at_newest),
        rate=rate,
        error_ns=STAMP_ERROR_NS + round(3 * end_ns),
        growth_ppm=WANDER_PPM + slope_ppm,
        source="pps",
    )
    return line, residual_ns


class TimeBase:
    """The gateway's time. Times given are ns of the monotonic clock, which frames are stamped with."""

    def __init__(
        self, leap: LeapSeconds = BUILT_IN, system: Callable[[], SystemTime | None] | None = None
    ) -> None:
        self.leap = leap
        self.rejected = 0  # edges that did not fit
        self.restarts = 0  # lines begun anew
        self.residual_ns: float | None = None
        self._system = system  # asked when a conversion is, at most once a second
        self._edges: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._odd: deque[tuple[int, int]] = deque(maxlen=RESTART_AFTER)
        self._messages: deque[tuple[int, int]] = deque(maxlen=MESSAGES)
        self._pps: Timeline | None = None
        self._message: Timeline | None = None
        self._clock: tuple[SystemTime, Timeline] | None = None
        self._now_ns = 0

    # --- what it is told ----------------------------------------------------------------------------

    def add_edge(self, mono_ns: int, gps_s: int) -> bool:
        """A PPS edge and the second that began with it; False where it does not fit the others."""
        self._now_ns = max(self._now_ns, mono_ns)
        point = (mono_ns, gps_s * SECOND_NS)
        line = self._pps
        if line is not None:
            off_ns = abs(line.at(mono_ns) - point[1])
            if off_ns > OUTLIER_NS + line.error_at(mono_ns) - STAMP_ERROR_NS:
                self.rejected += 1
                self._odd.append(point)
                if len(self._odd) == RESTART_AFTER and _steady(self._odd):
                    self._begin_anew(self._odd)
                return False
        self._odd.clear()
        if self._edges and mono_ns <= self._edges[-1][0]:
            return False
        while self._edges and mono_ns - self._edges[0][0] > FORGET_NS:
            self._edges.popleft()
        self._edges.append(point)
        self._fit()
        return True

    def add_message(self, mono_ns: int, gps_ns: int) -> None:
        """A sentence that began at `mono_ns` names this instant, which is over by then."""
        self._now_ns = max(self._now_ns, mono_ns)
        self._messages.append((mono_ns, gps_ns))
        low_ns, high_ns = MESSAGE_DELAY_NS
        # The least delayed of them comes nearest; how much it was delayed is anywhere within the bounds.
        mono0, gps0 = max(self._messages, key=lambda pair: pair[1] - pair[0])
        age_ns = mono_ns - mono0
        self._message = Timeline(
            mono_ns=mono_ns,
            gps_ns=gps0 + age_ns + (low_ns + high_ns) // 2,
            rate=0.0,
            error_ns=(high_ns - low_ns) // 2 + round(age_ns * UNFITTED_PPM / 1e6),
            growth_ppm=UNFITTED_PPM,
            source="nmea",
        )

    def forget(self) -> None:
        """The receiver was wrong, or is believed anew after a jump: begin again."""
        self._edges.clear()
        self._odd.clear()
        self._messages.clear()
        self._pps = self._message = None
        self.residual_ns = None
        self.restarts += 1

    # --- what it is asked ---------------------------------------------------------------------------

    def utc_ns(self, mono_ns: int) -> int | None:
        """UTC in Unix ns, as good as it is known; None without any source."""
        line = self._best(mono_ns)
        if line is None:
            return None
        gps_s, fraction_ns = divmod(line.at(mono_ns), SECOND_NS)
        return self.leap.unix_s(gps_s) * SECOND_NS + fraction_ns

    def gps_ms(self, mono_ns: int) -> int | None:
        """GPS milliseconds since 1980-01-06; None unless known to a millisecond."""
        line = self._precise(mono_ns)
        return None if line is None else (line.at(mono_ns) + MS // 2) // MS

    def mono_of_gps_ms(self, ms: int) -> int | None:
        """When the monotonic clock shows a GPS time; None unless that will be known to a millisecond then."""
        line = self._precise(self._now_ns)
        if line is None:
            return None
        mono_ns = line.mono_of(ms * MS)
        return mono_ns if line.error_at(mono_ns) <= GPS_ERROR_NS else None

    def gps_of(self, mono_ns: int) -> int | None:
        """GPS time in ns, however rough."""
        line = self._best(mono_ns)
        return None if line is None else line.at(mono_ns)

    def received(self, mono_ns: int) -> Timeline | None:
        """What the receiver says alone, while its bound is below a second."""
        return min(self._usable(mono_ns), key=lambda line: line.error_at(mono_ns), default=None)

    def system(self, mono_ns: int) -> Timeline | None:
        """What the system's clock says, where it is synchronised."""
        line = self._from_system(mono_ns)
        return None if line is None or line.source != "ntp" else line

    def error_ns(self, mono_ns: int) -> int | None:
        """How wrong an answer for that time may be; None where nobody vouches for it."""
        line = self._best(mono_ns)
        return None if line is None or line.source == "system" else line.error_at(mono_ns)

    def quality_at(self, mono_ns: int) -> str:
        """`gnss`, `ntp` or `unset`, as messages carry it."""
        line = self._best(mono_ns)
        if line is None or line.source == "system":
            return "unset"
        return "ntp" if line.source == "ntp" else "gnss"

    @property
    def quality(self) -> str:
        """The quality at the latest time it has seen."""
        return self.quality_at(self._now_ns)

    @property
    def ppm(self) -> float | None:
        """By how much the gateway's clock runs fast; None before there is a line."""
        line = self._pps
        return None if line is None else -1e6 * line.rate / (1 + line.rate)

    def status(self, mono_ns: int) -> dict[str, Any]:
        """For people and `/metrics`."""
        line = self._best(mono_ns)
        error_ns = self.error_ns(mono_ns)
        utc_ns = self.utc_ns(mono_ns)
        unix_s = None if utc_ns is None else utc_ns // SECOND_NS
        return {
            "quality": self.quality_at(mono_ns),
            "source": None if line is None else line.source,
            "error_us": None if error_ns is None else round(error_ns / US, 1),
            "age_s": None if line is None else round((mono_ns - line.mono_ns) / SECOND_NS, 1),
            "ppm": None if self.ppm is None else round(self.ppm, 3),
            "residual_us": None if self.residual_ns is None else round(self.residual_ns / US, 2),
            "edges": len(self._edges),
            "rejected": self.rejected,
            "restarts": self.restarts,
            "gps_time": self._precise(mono_ns) is not None,
            # One moment in the three ways it is told: frames' counter, GPS time, UTC.
            "tmst": mono_ns // US % (1 << 32),
            "gps_ms": self.gps_ms(mono_ns),
            "utc_ms": None if utc_ns is None else utc_ns // MS,
            "leap_s": None if unix_s is None else self.leap.at_utc(unix_s),
            "leap_source": self.leap.source,
            "leap_sure": unix_s is not None and self.leap.sure(unix_s),
        }

    # --- inside -------------------------------------------------------------------------------------

    def _fit(self) -> None:
        made = fit(self._edges)
        if made is not None:
            self._pps, self.residual_ns = made

    def _begin_anew(self, points: Iterable[tuple[int, int]]) -> None:
        kept = list(points)
        self.forget()
        self._edges.extend(kept)
        self._fit()

    def _usable(self, mono_ns: int) -> list[Timeline]:
        lines = (self._pps, self._message)
        return [line for line in lines if line is not None and line.error_at(mono_ns) <= MAX_ERROR_NS]

    def _best(self, mono_ns: int) -> Timeline | None:
        self._now_ns = max(self._now_ns, mono_ns)
        lines = self._usable(mono_ns)
        system = self._from_system(mono_ns)
        if system is not None and (system.source == "ntp" or not lines):
            lines.append(system)
        return min(lines, key=lambda line: line.error_at(mono_ns), default=None)

    def _precise(self, mono_ns: int) -> Timeline | None:
        line = self._best(mono_ns)
        if line is None or line.source == "system" or line.error_at(mono_ns) > GPS_ERROR_NS:
            return None
        return line

    def _from_system(self, mono_ns: int) -> Timeline | None:
        known = self._clock
        if self._system is not None and (known is None or mono_ns - known[0].mono_ns >= SYSTEM_EVERY_NS):
            read = self._system()
            if read is not None:
                known = self._clock = (read, self._line_of(read))
        return None if known is None else known[1]

    def _line_of(self, read: SystemTime) -> Timeline:
        unix_s, fraction_ns = divmod(read.utc_ns, SECOND_NS)
        return Timeline(
            mono_ns=read.mono_ns,
            gps_ns=self.leap.gps_s(unix_s) * SECOND_NS + fraction_ns,
            rate=0.0,
            error_ns=0 if read.error_ns is None else read.error_ns,
            growth_ppm=UNFITTED_PPM,
            source="system" if read.error_ns is None else "ntp",
        )


def _steady(points: Iterable[tuple[int, int]]) -> bool:
    """Whether edges lie on a line of their own, with a slope a crystal can have."""
    made = fit(points)
    return made is not None and made[1] <= OUTLIER_NS and abs(made[0].rate) * 1e6 <= UNFITTED_PPM

"""Leap seconds: GPS time minus UTC, from a table with an expiry date. Pure, but for `system_leap_seconds`.

Nothing can know leap seconds beyond the half year the IERS has announced. So every answer has a source and is sure
only until a date; what is after that is used and said to be unsure.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from radio.errors import LeapListError

GPS_EPOCH_S: Final = 315_964_800  # 1980-01-06 in Unix time
TAI_MINUS_GPS_S: Final = 19
NTP_EPOCH_S: Final = 2_208_988_800  # 1900-01-01 before 1970-01-01
LIST_FILE: Final = Path("/usr/share/zoneinfo/leap-seconds.list")  # kept up to date by Debian's tzdata
MAX_LIST: Final = 64 * 1024
HALF_YEAR_S: Final = 182 * 86_400


@dataclass(frozen=True, slots=True)
class LeapSeconds:
    """When GPS minus UTC took which value; ascending Unix times."""

    steps: tuple[tuple[int, int], ...]  # (from this Unix second on, GPS minus UTC)
    expires_s: int  # Unix time until which no change can have been missed
    source: str

    def at_utc(self, unix_s: int) -> int:
        """GPS minus UTC at a UTC."""
        index = bisect_right(self.steps, unix_s, key=lambda step: step[0])
        return self.steps[max(0, index - 1)][1]

    def gps_s(self, unix_s: int) -> int:
        """GPS seconds since their epoch."""
        return unix_s - GPS_EPOCH_S + self.at_utc(unix_s)

    def unix_s(self, gps_s: int) -> int:
        """The inverse; a leap second itself shares the Unix time of the second after it."""
        for since_s, value in reversed(self.steps):
            if gps_s >= since_s - GPS_EPOCH_S + value - 1:
                return max(gps_s + GPS_EPOCH_S - value, since_s)
        return gps_s + GPS_EPOCH_S - self.steps[0][1]

    def sure(self, unix_s: int) -> bool:
        """Whether the value at that time is certain."""
        return unix_s < self.expires_s

    def inserted(self, unix_s: int) -> "LeapSeconds":
        """A 23:59:60 was seen: from the midnight after it on, one second more. What was known already stays."""
        if any(since_s == unix_s for since_s, _value in self.steps):
            return self
        kept = tuple(step for step in self.steps if step[0] < unix_s)
        return replace(self, steps=(*kept, (unix_s, kept[-1][1] + 1 if kept else 1)))

    def confirmed(self, current_s: int, unix_s: int) -> "LeapSeconds":
        """A satellite told the present value: right for half a year."""
        steps = self.steps if self.at_utc(unix_s) == current_s else ((0, current_s),)
        return LeapSeconds(steps, max(self.expires_s, unix_s + HALF_YEAR_S), "receiver")


# IERS Bulletin C 70 (July 2025): none at the end of 2025; its list expires on 2026-06-28.
BUILT_IN: Final = LeapSeconds(
    steps=(
        (1_136_073_600, 14),  # 2006-01-01
        (1_230_768_000, 15),  # 2009-01-01
        (1_341_100_800, 16),  # 2012-07-01
        (1_435_708_800, 17),  # 2015-07-01
        (1_483_228_800, 18),  # 2017-01-01
    ),
    expires_s=1_782_604_800,  # 2026-06-28
    source="built in",
)


def fixed(value_s: int) -> LeapSeconds:
    """What a person has set."""
    return LeapSeconds(((0, value_s),), 1 << 40, "setting")


def parse_leap_list(text: str, source: str = "leap-seconds.list") -> LeapSeconds:
    """The IERS's list: lines of NTP seconds and TAI minus UTC, and `#@` before its expiry. Raises LeapListError."""
    if len(text) > MAX_LIST:
        raise LeapListError(f"a list of leap seconds of {len(text)} bytes")
    expires_s: int | None = None
    steps: list[tuple[int, int]] = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if line.startswith("#@"):
            expires_s = _ntp(line[2:].strip()) - NTP_EPOCH_S
        elif words:
            if len(words) != 2 or re.fullmatch(r"\d{1,3}", words[1], re.ASCII) is None:
                raise LeapListError(f"no line of a list of leap seconds: {line[:40]!r}")
            steps.append((_ntp(words[0]) - NTP_EPOCH_S, int(words[1]) - TAI_MINUS_GPS_S))
    if expires_s is None or not steps or steps != sorted(set(steps)):
        raise LeapListError("a list of leap seconds needs an expiry date and entries in order")
    return LeapSeconds(tuple(steps), expires_s, source)


def _ntp(text: str) -> int:
    if re.fullmatch(r"\d{1,11}", text, re.ASCII) is None:
        raise LeapListError(f"{text[:20]!r} is no time in NTP seconds")
    return int(text)


def system_leap_seconds(path: Path = LIST_FILE) -> LeapSeconds:
    """The machine's own list where it is newer than what is built in."""
    try:
        listed = parse_leap_list(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, LeapListError):
        return BUILT_IN
    return listed if listed.expires_s > BUILT_IN.expires_s else BUILT_IN

"""GPS time, in which LoRaWAN tells devices the time and times its beacons (1.0.3, 5.10 and 10; 1.1, 5.9 and 13).

Counted since 6 January 1980 without leap seconds, so it is ahead of UTC by the leap seconds since: 18 s at present.
Nothing can know them further than half a year ahead: the table (`radio.gnss.leap`) has an end, and what is after it is
used and said to be unsure. A gateway with a GNSS receiver tells GPS time itself (`tmms`), and then no table is asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from gateway.lorawan.clock import Instant
from hub.timekeeping import TRUSTED
from radio.gnss.leap import BUILT_IN, LeapSeconds
from radio.gwmp import RxPacket

MS_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
BELIEVED_LAG_NS: Final = 100 * MS_NS  # a frame's own UTC counts where it is so little before ours
# A receiver that is off by more has lost its week number (each 1024 weeks) or lies
WRONG_WEEK_MS: Final = 60_000


def gps_ms_of_utc(utc_ns: int, leap: LeapSeconds = BUILT_IN) -> int:
    """Milliseconds since the GPS epoch of a Unix time in ns, rounded down."""
    unix_s, fraction_ns = divmod(utc_ns, SECOND_NS)
    return leap.gps_s(unix_s) * 1000 + fraction_ns // MS_NS


def utc_ns_of_gps(gps_ms: int, leap: LeapSeconds = BUILT_IN) -> int:
    """Unix time in ns of a GPS time in ms; a leap second shares the Unix time of the second after it."""
    gps_s, fraction_ms = divmod(gps_ms, 1000)
    return leap.unix_s(gps_s) * SECOND_NS + fraction_ms * MS_NS


def gps_ms_of(rx: RxPacket, now: Instant, leap: LeapSeconds = BUILT_IN) -> int | None:
    """GPS time in ms when the frame ended: the gateway's own where it has GNSS, else from UTC.

    None where neither is trusted. A receiver's time that is minutes from a trusted clock is not believed.
    """
    if now.quality not in TRUSTED:
        return rx.tmms
    utc_ns = now.wall_ns
    if rx.time_ns is not None and 0 <= utc_ns - rx.time_ns <= BELIEVED_LAG_NS:
        utc_ns = rx.time_ns
    from_utc = gps_ms_of_utc(utc_ns, leap)
    if rx.tmms is not None and abs(rx.tmms - from_utc) <= WRONG_WEEK_MS:
        return rx.tmms
    return from_utc


def seconds_and_fraction(gps_ms: int) -> tuple[int, int]:
    """As DeviceTimeAns carries it: whole seconds (u32, it wraps in 2116) and 1/256 s."""
    gps_s, fraction_ms = divmod(gps_ms, 1000)
    return gps_s % (1 << 32), fraction_ms * 256 // 1000


def leap_words(now: Instant, leap: LeapSeconds = BUILT_IN) -> str:
    """How many leap seconds are counted, from where, and how long that is certain; for people."""
    unix_s = now.wall_ns // SECOND_NS
    end = datetime.fromtimestamp(min(leap.expires_s, 1 << 36), UTC).date()
    value = leap.at_utc(unix_s)
    if leap.source == "setting":
        return f"GPS is {value} s ahead of UTC (setting)"
    if leap.sure(unix_s):
        return f"GPS is {value} s ahead of UTC ({leap.source}, certain until {end})"
    return f"GPS is {value} s ahead of UTC ({leap.source}, which ended {end}: a newer leap second would be missing)"

"""GPS time, and the microsecond counter that Basics Station calls `xtime`.

`xtime` is opaque to a server, which copies it from an uplink into the answer. The client made it: bits 0 to 47 count
microseconds of the radio, 48 to 55 are a number of its session that is never 0, 56 to 62 the radio unit, bit 63
is 0.
"""

from typing import Final

from radio.gnss.leap import BUILT_IN

SECOND_US: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

COUNTER_BITS: Final = 48
COUNTER_MASK: Final = (1 << COUNTER_BITS) - 1
SESSION_MASK: Final = 0xFF
UNIT_SHIFT: Final = 56
UNIT_MASK: Final = 0x7F


def gps_us(utc_ns: int) -> int:
    """GPS time in us of a UTC time in ns since 1970."""
    seconds, ns = divmod(utc_ns, SECOND_NS)
    return BUILT_IN.gps_s(seconds) * SECOND_US + ns // 1000


def utc_ns(gps_us: int) -> int:
    """UTC in ns since 1970 of a GPS time in us."""
    seconds, us = divmod(gps_us, SECOND_US)
    return BUILT_IN.unix_s(seconds) * SECOND_NS + us * 1000


def xtime_of(count_us: int, session: int, unit: int = 0) -> int:
    """The `xtime` of a radio's counter; `session` is 1 to 255, `unit` 0 to 127."""
    high = (unit & UNIT_MASK) << UNIT_SHIFT | (session & SESSION_MASK) << COUNTER_BITS
    return high | count_us & COUNTER_MASK


def session_of(xtime: int) -> int:
    """The session that an `xtime` was made in."""
    return xtime >> COUNTER_BITS & SESSION_MASK


def unit_of(xtime: int) -> int:
    """The radio unit that an `xtime` was made by."""
    return xtime >> UNIT_SHIFT & UNIT_MASK


def tmst_of(xtime: int) -> int:
    """The low 32 bits: what GWMP calls `tmst`."""
    return xtime & 0xFFFF_FFFF

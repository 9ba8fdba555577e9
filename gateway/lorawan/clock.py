"""The time as an argument: both clocks read at one moment.

Timers, windows and limits compare `mono_ns`; records and people get `wall_ns` with how far it can be trusted.
"""

from __future__ import annotations

import msgspec

from hub.message import TimeQuality


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One is made for every datagram, so it is a cheap one."""

    mono_ns: int  # monotonic; its zero means nothing
    wall_ns: int  # UTC, nanoseconds since 1970
    quality: TimeQuality = TimeQuality.UNSET

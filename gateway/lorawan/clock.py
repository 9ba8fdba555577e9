"""The time as an argument: both clocks read at one moment.

Timers, windows and limits compare `mono_ns`; records and people get `wall_ns` with how far it can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.message import TimeQuality


@dataclass(frozen=True, slots=True)
class Instant:
    mono_ns: int  # monotonic; its zero means nothing
    wall_ns: int  # UTC, nanoseconds since 1970
    quality: TimeQuality = TimeQuality.UNSET

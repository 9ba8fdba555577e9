"""Is a device silent? Its reports against the interval that is expected of it. Pure: times are arguments.

A report is missed once it is later than a grace that sensors with cheap clocks need. While the gateway was not
running nothing could be heard, so counting begins with its start.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

GRACE = 0.5  # of an interval
MIN_GRACE_S = 60.0
MAX_GRACE_S = 3600.0
LOW_BATTERY = 25  # of 254 (DevStatusAns): a tenth
_SECOND_NS = 10**9


class State(enum.StrEnum):
    """How a device stands, the gravest that is true."""

    MOVED = "moved"  # another gateway serves it
    REFUSED = "refused"  # its frames are heard and cannot be accepted
    NEVER_HEARD = "never_heard"
    OVERDUE = "overdue"
    LOW_BATTERY = "low_battery"
    OK = "ok"

    @property
    def needs_attention(self) -> bool:
        return self not in (State.OK, State.MOVED)


@dataclass(frozen=True, slots=True)
class Missed:
    """Reports that should have come: how many, and since when (UTC) the first one is missing."""

    count: int = 0
    since_ns: int | None = None


NONE = Missed()


def missed(last_seen_ns: int | None, interval_s: int, listening_since_ns: int, now_ns: int) -> Missed:
    """What is missing at `now_ns`. Nothing is where the interval is unknown (0) or the device was never heard."""
    if not interval_s or last_seen_ns is None:
        return NONE
    grace_s = min(max(interval_s * GRACE, MIN_GRACE_S), MAX_GRACE_S)
    begin_ns = max(last_seen_ns, listening_since_ns)
    count = int(((now_ns - begin_ns) / _SECOND_NS - grace_s) // interval_s)
    if count <= 0:
        return NONE
    return Missed(count, begin_ns + interval_s * _SECOND_NS)


def state(
    *, moved: bool, problem: str, last_seen_ns: int | None, missing: Missed, battery: int | None
) -> State:
    """`battery` as DevStatusAns gives it: 0 external power, 1..254, 255 not known."""
    if moved:
        return State.MOVED
    if problem:
        return State.REFUSED
    if last_seen_ns is None:
        return State.NEVER_HEARD
    if missing.count:
        return State.OVERDUE
    if battery is not None and 0 < battery <= LOW_BATTERY:
        return State.LOW_BATTERY
    return State.OK

"""When something happened, told so that a later run of the gateway knows how long ago that was.

Within one boot of the machine the monotonic clock goes on over restarts of the process, and alone decides. Over
a reboot only the wall clock can tell, and only where it was trustworthy at both ends; where it was not, nothing
but the time of this run counts, so that nothing ends too early. Pure.
"""

from __future__ import annotations

import msgspec

from hub.message import TimeQuality

_TRUSTED = frozenset({TimeQuality.GNSS, TimeQuality.NTP})


class Moment(msgspec.Struct, frozen=True):
    """One instant on both clocks."""

    boot: str  # boot id of the machine; "" where it has none
    mono_s: float
    wall_ns: int  # UTC
    trusted: bool  # the wall clock was synchronised


def moment(boot: str, mono_s: float, stamp: tuple[int, TimeQuality]) -> Moment:
    """The instant of a monotonic time and a stamp of the hub's clock."""
    return Moment(boot, mono_s, stamp[0], stamp[1] in _TRUSTED)


def on_this_clock(then: Moment, now: Moment, started: Moment) -> Moment:
    """`then` on the monotonic clock of this boot; itself where that cannot be told yet.

    Asked again later, when the wall clock may have been synchronised. `started` is the beginning of this run.
    """
    if (then.boot == now.boot and then.boot) or not (then.trusted and now.trusted):
        return then
    ago_s = max((now.wall_ns - then.wall_ns) / 1e9, now.mono_s - started.mono_s)
    return Moment(now.boot, now.mono_s - ago_s, then.wall_ns, then.trusted)


def seconds_since(then: Moment, now: Moment, started: Moment) -> float:
    """How long ago `then` was, at least; never negative."""
    if then.boot == now.boot:
        return max(0.0, now.mono_s - then.mono_s)
    return max(0.0, now.mono_s - started.mono_s)

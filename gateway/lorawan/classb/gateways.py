"""What gateways know of GPS time: whose orders by GPS time can be kept, where they stand, and what time it is.

A gateway shows it by `tmms` beside the frames it hears. The radio of this machine says more: how wrong it may be, its
place, and what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.lorawan.clock import Instant
from gateway.lorawan.gpstime import MS_NS, gps_ms_of_utc
from hub.timekeeping import TRUSTED
from radio.gnss.leap import BUILT_IN, LeapSeconds

MAX_GATEWAYS: Final = 64
FRESH_NS: Final = 600 * 10**9  # how long GPS time is reckoned on from a gateway's word
UNLOCKED_NS: Final = 600 * 10**9  # how long a gateway that refused for want of GPS time is left alone
OWN_STALE_NS: Final = 30 * 10**9  # the radio of this machine is asked every few seconds


@dataclass(frozen=True, slots=True)
class RadioTime:
    """What the radio of this machine says of its time at one moment."""

    gps_ms: int | None  # None: it cannot send by GPS time
    mono_ns: int  # of our clock, when it was `gps_ms`
    error_us: float | None = None
    # Latitude and longitude in degrees, as roughly as they may be told
    place: tuple[float, float] | None = None
    missing: str = ""  # why it cannot, and what to do


def of_radio(status: Mapping[str, Any], now: Instant) -> RadioTime:
    """Read the status of the radio process; whatever does not fit is as if it were not there."""
    now_ns = now.mono_ns
    if not status.get("reachable"):
        return RadioTime(
            None, now_ns, missing=f"the radio does not answer: {status.get('problem') or 'not running'}"
        )
    time, gnss = _table(status.get("time")), _table(status.get("gnss"))
    gps_ms, error_us = time.get("gps_ms"), time.get("error_us")
    place = _table(status.get("position"))
    where = (place.get("latitude"), place.get("longitude"))
    mono_ns = status.get("mono_ns")
    return RadioTime(
        gps_ms if isinstance(gps_ms, int) and time.get("gps_time") else None,
        mono_ns if isinstance(mono_ns, int) and 0 <= now_ns - mono_ns <= OWN_STALE_NS else now_ns,
        error_us if isinstance(error_us, int | float) else None,
        where if all(isinstance(each, int | float) for each in where) else None,  # type: ignore[arg-type]
        "" if time.get("gps_time") else _missing(time, gnss, status.get("gnss") is not None),
    )


def _missing(time: Mapping[str, Any], gnss: Mapping[str, Any], receiver: bool) -> str:
    error_us = time.get("error_us")
    known = "nobody vouches for its clock"
    if isinstance(error_us, int | float):
        known = f"its clock ({time.get('source')}) may be wrong by {error_us / 1000:.3g} ms"
    if not receiver:
        return f"the radio has no GNSS receiver ([gnss] port and pps_line): {known}, and 1 ms is the most"
    if gnss.get("fault"):
        return f"the GNSS receiver cannot be read: {gnss['fault']}"
    if gnss.get("pps") is None:
        return f"the GNSS receiver's pulse is not connected ([gnss] pps_line): {known}, and 1 ms is the most"
    if gnss.get("state") != "fix":
        return f"the GNSS receiver is {gnss.get('state')} ({gnss.get('reason') or 'no fix'}): {known}"
    return f"the GNSS receiver has a fix and too few pulses yet: {known}"


class Gateways:
    """Bounded: the gateway that was heard longest ago gives way."""

    def __init__(self, leap: LeapSeconds = BUILT_IN) -> None:
        self.own: RadioTime | None = None
        self.own_eui = b""
        self._leap = leap
        self._told_ns: dict[bytes, int] = {}  # by EUI: when it last knew GPS time; the latest last
        self._unlocked_ns: dict[bytes, int] = {}  # by EUI: when it refused for want of it
        self._offset_ms: int | None = None  # GPS less monotonic time
        self._offset_ns = 0  # monotonic, when that was told

    def heard(self, eui: bytes, tmms: int, now: Instant) -> None:
        """A gateway has stamped a frame with GPS time."""
        self._told_ns.pop(eui, None)
        if len(self._told_ns) >= MAX_GATEWAYS:
            del self._told_ns[next(iter(self._told_ns))]
        self._told_ns[eui] = now.mono_ns
        self._reckon(tmms, now.mono_ns)

    def told(self, eui: bytes, time: RadioTime) -> None:
        """The radio of this machine has said how its time is."""
        self.own_eui, self.own = eui, time
        if time.gps_ms is not None:
            self._unlocked_ns.pop(eui, None)
            self._reckon(time.gps_ms, time.mono_ns)

    def refused(self, eui: bytes, now: Instant) -> None:
        """A gateway answered that it has no GPS time."""
        if len(self._unlocked_ns) >= MAX_GATEWAYS:
            del self._unlocked_ns[next(iter(self._unlocked_ns))]
        self._unlocked_ns[eui] = now.mono_ns
        self._told_ns.pop(eui, None)

    def kept(self, eui: bytes, now: Instant) -> None:
        """A gateway has accepted an order by GPS time."""
        self._unlocked_ns.pop(eui, None)
        if eui in self._told_ns:
            self._told_ns[eui] = now.mono_ns

    def why_not(self, eui: bytes, now: Instant) -> str:
        """Why a gateway cannot send at a GPS time, as far as is known; "" where it may well."""
        if eui == self.own_eui and self.own is not None:
            if now.mono_ns - self.own.mono_ns > OWN_STALE_NS:
                return "the radio does not answer"
            return self.own.missing
        refused_ns = self._unlocked_ns.get(eui)
        if refused_ns is not None and now.mono_ns - refused_ns < UNLOCKED_NS:
            return f"gateway {eui.hex()} answered that it has no GPS time"
        return ""

    def error_us(self, eui: bytes) -> float | None:
        """How wrong a gateway's time may be; None where it has not told."""
        return self.own.error_us if self.own is not None and eui == self.own_eui else None

    def place(self, eui: bytes) -> tuple[float, float] | None:
        return self.own.place if self.own is not None and eui == self.own_eui else None

    def gps_ms(self, now: Instant) -> int | None:
        """GPS time to about a tenth of a second: enough to say which slot is next. None: nobody knows."""
        if self._offset_ms is not None and now.mono_ns - self._offset_ns < FRESH_NS:
            return self._offset_ms + now.mono_ns // MS_NS
        return gps_ms_of_utc(now.wall_ns, self._leap) if now.quality in TRUSTED else None

    def _reckon(self, gps_ms: int, mono_ns: int) -> None:
        self._offset_ms, self._offset_ns = gps_ms - mono_ns // MS_NS, mono_ns


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

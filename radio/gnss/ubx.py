"""UBX-NAV-TIMELS: what a u-blox receiver says about leap seconds (u-blox 8/M8 protocol description, 32.17.18). Pure."""

import struct
from dataclasses import dataclass
from typing import Final

from radio.errors import NmeaError
from radio.gnss.stream import UBX_SYNC, fletcher

NAV_TIMELS: Final = b"\x01\x26"
# iTOW, version, reserved, source, current, source of change, change, time to event, week, day, reserved, valid
_LAYOUT: Final = struct.Struct("<IB3xBbBbiHH3xB")
_UNSURE_SOURCES: Final = (0, 255)  # "default (hardcoded in the firmware)" and "unknown"


@dataclass(frozen=True, slots=True)
class LeapReport:
    """GPS minus UTC now, and the next change, where the receiver knows them from a satellite."""

    current_s: int | None
    change_s: int | None  # +1, 0 or -1
    change_in_s: int | None  # seconds until it happens; negative: ago


def parse_timels(frame: bytes) -> LeapReport | None:
    """A frame's class, id, length and payload; None for another kind. Raises NmeaError."""
    if not frame.startswith(NAV_TIMELS):
        return None
    payload = frame[4:]
    if len(payload) != _LAYOUT.size:
        raise NmeaError(f"NAV-TIMELS with {len(payload)} bytes, {_LAYOUT.size} expected")
    _tow, version, source, current, _from, change, until_s, _week, _day, valid = _LAYOUT.unpack(payload)
    if version != 0:
        raise NmeaError(f"NAV-TIMELS version {version} is not known")
    sure = bool(valid & 1) and source not in _UNSURE_SOURCES
    planned = bool(valid & 2)
    return LeapReport(current if sure else None, change if planned else None, until_s if planned else None)


def poll(kind: bytes = NAV_TIMELS) -> bytes:
    """The question; a receiver of another make passes over it."""
    body = kind + b"\0\0"
    return UBX_SYNC + body + fletcher(body)

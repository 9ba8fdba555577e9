"""Cayenne Low Power Payload: a run of (channel, type, big-endian value), made of the IPSO objects 3200 to
3342.

A value is named after its type and channel: `temperature_1`, `gps_2_lat`. Units are those of the SenML
registry: primary ones (RFC 8428) where the conversion is exact, and three secondary ones (RFC 8798) whose
primary form nobody reads: ppm, kWh, and dBm elsewhere. Raw numbers are divided, not multiplied, so that 272
tenths are 27.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from gateway.codecs.base import CodecError
from hub.senml import Record

G_M_S2 = 9.80665  # standard gravity


@dataclass(frozen=True, slots=True)
class _Scalar:
    """One number: raw / divisor * factor."""

    name: str
    unit: str
    layout: Struct
    divisor: int = 1
    factor: int = 1


@dataclass(frozen=True, slots=True)
class _Flag:
    """One number, 0 or not."""

    name: str
    layout: Struct


@dataclass(frozen=True, slots=True)
class _Vector:
    """Several numbers, each a record of its own with a suffix: (suffix, unit, scale)."""

    name: str
    layout: Struct
    parts: tuple[tuple[str, str, Callable[[int], float]], ...]


_U8, _U16, _I16, _U32 = Struct(">B"), Struct(">H"), Struct(">h"), Struct(">I")
_3U8, _3I16 = Struct(">3B"), Struct(">3h")
_GPS = Struct(">3s3s3s")  # struct knows no 24-bit integers


def _axes(unit: str, scale: Callable[[int], float]) -> tuple[tuple[str, str, Callable[[int], float]], ...]:
    return tuple((axis, unit, scale) for axis in ("x", "y", "z"))


_TYPES: dict[int, _Scalar | _Flag | _Vector] = {
    0: _Scalar("digital_input", "/", _U8),  # RFC 8428: "/" is also the value of a switch, 0 or 1
    1: _Scalar("digital_output", "/", _U8),
    2: _Scalar("analog_input", "", _I16, 100),
    3: _Scalar("analog_output", "", _I16, 100),
    100: _Scalar("generic", "", _U32),
    101: _Scalar("illuminance", "lx", _U16),
    102: _Flag("presence", _U8),
    103: _Scalar("temperature", "Cel", _I16, 10),
    104: _Scalar("humidity", "%RH", _U8, 2),
    113: _Vector("accelerometer", _3I16, _axes("m/s2", lambda raw: round(raw * G_M_S2 / 1000, 5))),
    115: _Scalar("pressure", "Pa", _U16, factor=10),  # 0.1 hPa
    116: _Scalar("voltage", "V", _U16, 100),
    117: _Scalar("current", "A", _U16, 1000),
    118: _Scalar("frequency", "Hz", _U32),
    120: _Scalar("percentage", "/", _U8, 100),
    121: _Scalar("altitude", "m", _I16),
    125: _Scalar("concentration", "ppm", _U16),
    128: _Scalar("power", "W", _U16),
    130: _Scalar("distance", "m", _U32, 1000),
    131: _Scalar("energy", "kWh", _U32, 1000),
    132: _Scalar("direction", "deg", _U16),
    133: _Scalar("time", "s", _U32),
    134: _Vector(
        "gyrometer", _3I16, _axes("", lambda raw: raw / 100)
    ),  # degrees/s, for which no unit is registered
    135: _Vector("colour", _3U8, tuple((part, "", float) for part in ("red", "green", "blue"))),
    136: _Vector(
        "gps",
        _GPS,
        (
            ("lat", "lat", lambda raw: raw / 10_000),
            ("lon", "lon", lambda raw: raw / 10_000),
            ("alt", "m", lambda raw: raw / 100),
        ),
    ),
    142: _Flag("switch", _U8),
}


class Cayenne:
    name = "cayenne"

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        records: list[Record] = []
        at = 0
        size = len(payload)
        while at < size:
            kind = _TYPES.get(payload[at + 1]) if at + 1 < size else None
            if kind is None:
                raise CodecError(_fault(payload, at))
            channel = payload[at]
            at += 2
            layout = kind.layout
            if at + layout.size > size:
                raise CodecError(f"{kind.name} of channel {channel} is cut short")
            raw = layout.unpack_from(payload, at)
            at += layout.size
            name = f"{base_name}{kind.name}_{channel}"
            if type(kind) is _Scalar:
                records.append(Record(name, kind.unit, time_s, raw[0] * kind.factor / kind.divisor))
            elif type(kind) is _Flag:
                records.append(Record(name, "", time_s, None, None, raw[0] != 0))
            else:
                records += _vector(kind, raw, name, time_s)
        if not records:
            raise CodecError("an empty payload")
        return records


def _vector(kind: object, raw: tuple[int | bytes, ...], name: str, time_s: float) -> list[Record]:
    assert isinstance(kind, _Vector)
    records = []
    for value, (suffix, unit, scale) in zip(raw, kind.parts, strict=True):
        number = value if isinstance(value, int) else int.from_bytes(value, "big", signed=True)
        records.append(Record(f"{name}_{suffix}", unit, time_s, scale(number)))
    return records


def _fault(payload: bytes, at: int) -> str:
    if at + 1 == len(payload):
        return f"channel {payload[at]} at the end has no type"
    return f"type {payload[at + 1]} of channel {payload[at]} is unknown"

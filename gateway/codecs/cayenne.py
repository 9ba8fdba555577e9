"""Cayenne Low Power Payload: a run of (channel, type, big-endian value), made of the IPSO objects 3200 to
3342.

A value is named after its type and channel: `temperature_1`, `gps_2_lat`. Units are those of the SenML
registry: primary ones (RFC 8428) where the conversion is exact, and three secondary ones (RFC 8798) whose
primary form nobody reads: ppm, kWh, and dBm elsewhere. Raw numbers are divided, not multiplied, so that 272
tenths are 27.2.

Downlinks are written with the same names and units: `{"digital_output_1": 1, "gps_2": [52.5, 13.4, 34]}`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct

from gateway.codecs import polyline
from gateway.codecs.base import CodecError, Value, port_of
from hub.senml import Record

G_M_S2 = 9.80665  # standard gravity
DEFAULT_PORT = 1
MAX_PAYLOAD = 242  # bytes; no data rate of any region carries more


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
class _Part:
    """One of several numbers: its suffix and unit, raw / divisor * factor, rounded to so many digits."""

    suffix: str
    unit: str
    divisor: int = 1
    factor: float = 1
    digits: int | None = None

    def value(self, raw: int) -> float:
        if self.digits is None:
            return raw * self.factor / self.divisor
        return round(raw * self.factor / self.divisor, self.digits)


@dataclass(frozen=True, slots=True)
class _Vector:
    """Several numbers, each a record of its own with a suffix."""

    name: str
    layout: Struct
    parts: tuple[_Part, ...]


_U8, _U16, _I16, _U32 = Struct(">B"), Struct(">H"), Struct(">h"), Struct(">I")
_I24 = Struct(">3s")
_3U8, _3I16, _3I24 = Struct(">3B"), Struct(">3h"), Struct(">3s3s3s")


def _axes(unit: str, divisor: int, factor: float = 1, digits: int | None = None) -> tuple[_Part, ...]:
    return tuple(_Part(axis, unit, divisor, factor, digits) for axis in ("x", "y", "z"))


_Kind = _Scalar | _Flag | _Vector

_TYPES: dict[int, _Kind] = {
    0: _Scalar("digital_input", "/", _U8),  # RFC 8428: "/" is also the value of a switch, 0 or 1
    1: _Scalar("digital_output", "/", _U8),
    2: _Scalar("analog_input", "", _I16, 100),
    3: _Scalar("analog_output", "", _I16, 100),
    4: _Scalar("counter", "count", _U16),
    100: _Scalar("generic", "", _U32),
    101: _Scalar("illuminance", "lx", _U16),
    102: _Flag("presence", _U8),
    103: _Scalar("temperature", "Cel", _I16, 10),
    104: _Scalar("humidity", "%RH", _U8, 2),
    113: _Vector("accelerometer", _3I16, _axes("m/s2", 1000, G_M_S2, 5)),
    115: _Scalar("pressure", "Pa", _U16, factor=10),  # 0.1 hPa
    116: _Scalar("voltage", "V", _U16, 100),
    117: _Scalar("current", "A", _U16, 1000),
    118: _Scalar("frequency", "Hz", _U32),
    120: _Scalar("percentage", "/", _U8, 100),
    121: _Scalar("altitude", "m", _I16),
    122: _Vector("load", _I24, (_Part("", "kg", 1000),)),
    125: _Scalar("concentration", "ppm", _U16),
    128: _Scalar("power", "W", _U16),
    130: _Scalar("distance", "m", _U32, 1000),
    131: _Scalar("energy", "kWh", _U32, 1000),
    132: _Scalar("direction", "deg", _U16),
    133: _Scalar("time", "s", _U32),
    134: _Vector("gyrometer", _3I16, _axes("", 100)),  # degrees/s, for which no unit is registered
    135: _Vector("colour", _3U8, (_Part("red", ""), _Part("green", ""), _Part("blue", ""))),
    136: _Vector(
        "gps", _3I24, (_Part("lat", "lat", 10_000), _Part("lon", "lon", 10_000), _Part("alt", "m", 100))
    ),
    142: _Flag("switch", _U8),
}
POLYLINE = 240
_NUMBERS = {kind.name: number for number, kind in _TYPES.items()}


class Cayenne:
    name = "cayenne"

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        records: list[Record] = []
        at = 0
        size = len(payload)
        while at < size:
            kind = _TYPES.get(payload[at + 1]) if at + 1 < size else None
            if kind is None:
                at = _line(payload, at, time_s, base_name, records)
                continue
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

    def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        """Values by the names that `decode` gives, in any order; those of one vector belong together."""
        port = port_of(fport, DEFAULT_PORT)
        payload = b"".join(
            bytes((channel, number)) + _packed(number, channel, parts)
            for (number, channel), parts in _grouped(value).items()
        )
        if not payload:
            raise CodecError("there is no value to send")
        if len(payload) > MAX_PAYLOAD:
            raise CodecError(f"{len(payload)} bytes are more than any frame carries ({MAX_PAYLOAD})")
        return port, payload


# Reading


def _vector(kind: object, raw: tuple[int | bytes, ...], name: str, time_s: float) -> list[Record]:
    assert isinstance(kind, _Vector)
    records = []
    for value, part in zip(raw, kind.parts, strict=True):
        number = value if isinstance(value, int) else int.from_bytes(value, "big", signed=True)
        whole = f"{name}_{part.suffix}" if part.suffix else name
        records.append(Record(whole, part.unit, time_s, part.value(number)))
    return records


def _line(payload: bytes, at: int, time_s: float, base_name: str, records: list[Record]) -> int:
    """Read a polyline, the one type of varying length; returns where the next value begins."""
    if at + 1 >= len(payload):
        raise CodecError(f"channel {payload[at]} at the end has no type")
    channel, number = payload[at], payload[at + 1]
    if number != POLYLINE:
        raise CodecError(f"type {number} of channel {channel} is unknown")
    try:
        points, size = polyline.read(payload[at + 2 :])
    except ValueError as error:
        raise CodecError(f"polyline of channel {channel} {error}") from None
    for index, (lat, lon) in enumerate(points):
        name = f"{base_name}polyline_{channel}_{index}"
        records.append(Record(f"{name}_lat", "lat", time_s, lat))
        records.append(Record(f"{name}_lon", "lon", time_s, lon))
    return at + 2 + size


# Writing

_NAME = re.compile(r"([a-z_]+?)_(\d{1,3})(?:_([a-z]+))?", re.ASCII)
_Parts = dict[str, object]  # by suffix; "" is the value as a whole


def _grouped(value: Value) -> dict[tuple[int, int], _Parts]:
    """The parts of each (type, channel), in the order in which they were first named."""
    grouped: dict[tuple[int, int], _Parts] = {}
    for name, each in _named(value):
        match = _NAME.fullmatch(name)
        number = _NUMBERS.get(match[1]) if match else None
        if match is not None and match[1] == "polyline":
            number = POLYLINE
        if match is None or number is None or int(match[2]) > 255:
            raise CodecError(
                f"{name!r} is not a name of Cayenne LPP, such as digital_output_1: type, channel (0 to 255)"
            )
        parts = grouped.setdefault((number, int(match[2])), {})
        suffix = match[3] or ""
        if suffix in parts:
            raise CodecError(f"{name} is named twice")
        parts[suffix] = each
    return grouped


def _named(value: Value) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from value.items()
        return
    for record in value:
        name = record.name.rpartition(":")[2]
        yield name, record.bool_value if record.value is None else record.value


def _packed(number: int, channel: int, parts: _Parts) -> bytes:
    if number == POLYLINE:
        try:
            return polyline.write(_points(parts))
        except ValueError as error:
            raise CodecError(f"polyline_{channel} {error}") from None
    kind = _TYPES[number]
    name = f"{kind.name}_{channel}"
    if isinstance(kind, _Vector):
        numbers = _whole(kind, name, parts)
        raw = [
            _round(each, f"{name} {part.suffix}".strip(), part.divisor, part.factor)
            for each, part in zip(numbers, kind.parts, strict=True)
        ]
        if kind.layout in (_I24, _3I24):
            return b"".join(_i24(each, name) for each in raw)
    else:
        if set(parts) != {""}:
            raise CodecError(f"{name} is one value, without anything after its channel")
        single = parts[""]
        if isinstance(kind, _Flag):
            raw = [1 if _round(single, name) else 0]
        else:
            raw = [_round(single, name, kind.divisor, kind.factor)]
    try:
        return kind.layout.pack(*raw)
    except struct.error:
        raise CodecError(f"{name} is out of range: {kind.layout.size} bytes hold no such value") from None


def _whole(kind: _Vector, name: str, parts: _Parts) -> list[object]:
    """The numbers of a vector: given one by one, as a list, or as a mapping."""
    suffixes = [part.suffix for part in kind.parts]
    if set(parts) == {""} and suffixes != [""]:
        whole = parts[""]
        if isinstance(whole, Mapping):
            parts = {str(key): each for key, each in whole.items()}
        elif isinstance(whole, list | tuple) and len(whole) == len(suffixes):
            return list(whole)
    if set(parts) != set(suffixes):
        raise CodecError(f"{name} needs {', '.join(each or 'one number' for each in suffixes)}")
    return [parts[suffix] for suffix in suffixes]


def _round(value: object, name: str, divisor: int = 1, factor: float = 1) -> int:
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise CodecError(f"{name} is not a number: {str(value)[:32]!r}")
    return round(value * divisor / factor)


def _i24(value: int, name: str) -> bytes:
    try:
        return value.to_bytes(3, "big", signed=True)
    except OverflowError:
        raise CodecError(f"{name} is out of range: 3 bytes hold no such value") from None


def _points(parts: _Parts) -> list[tuple[float, float]]:
    """Raises ValueError."""
    whole = parts.get("")
    if set(parts) != {""} or not isinstance(whole, list | tuple):
        raise ValueError("is a list of [latitude, longitude]")
    points = []
    for each in whole:
        match each:
            case [int() | float() as lat, int() | float() as lon]:
                points.append((float(lat), float(lon)))
            case _:
                raise ValueError("is a list of [latitude, longitude]")
    return points

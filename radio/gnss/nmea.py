"""NMEA 0183 sentences: RMC, GGA, GSA and ZDA of any talker. Pure.

`parse` takes one sentence from `$` to its checksum. What a receiver without a fix leaves empty is None. Angles are
degrees, north and east positive; a two-digit year counts from 2000 (from 80 on, from 1900).
"""

import datetime
import re
from dataclasses import dataclass
from typing import Final

from radio.errors import NmeaError

MAX_SENTENCE: Final = 120  # bytes; the standard says 82, receivers of several systems write more
LEAP_SECOND: Final = 86_400  # of the day: 23:59:60

_SHAPE = re.compile(rb"\$([A-Z]{2})([A-Z]{3}),([\x20-\x7e]*)\*([0-9A-Fa-f]{2})")
_OTHER = re.compile(rb"\$[A-Z0-9]{3,8},[\x20-\x7e]*\*[0-9A-Fa-f]{2}")
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?", re.ASCII)
_ANGLE = re.compile(r"(\d{2,3})(\d\d(?:\.\d{1,9})?)", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,7}(?:\.\d{0,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """UTC; `second` is 0..86399, or LEAP_SECOND for 23:59:60."""

    second: int
    ns: int = 0  # the fraction


@dataclass(frozen=True, slots=True)
class Place:
    """Where the antenna is, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Rmc:
    """Recommended minimum: validity, time, date, place."""

    valid: bool
    time: TimeOfDay | None
    date: datetime.date | None
    place: Place | None


@dataclass(frozen=True, slots=True)
class Gga:
    """Fix data."""

    time: TimeOfDay | None
    quality: int  # 0 none, 1 GNSS, 2 differential, 4 and 5 RTK, 6 estimated, 7 manual, 8 simulated
    satellites: int | None
    hdop: float | None
    place: Place | None
    altitude_m: float | None  # above mean sea level


@dataclass(frozen=True, slots=True)
class Gsa:
    """Kind of fix."""

    dimensions: int  # 1 none, 2 or 3
    hdop: float | None


@dataclass(frozen=True, slots=True)
class Zda:
    """Time and date with a year of four digits."""

    time: TimeOfDay | None
    date: datetime.date | None


Sentence = Rmc | Gga | Gsa | Zda


def checksum(body: bytes) -> int:
    """The exclusive or of everything between `$` and `*`."""
    total = 0
    for byte in body:
        total ^= byte
    return total


def parse(data: bytes) -> Sentence | None:
    """A sentence without its CR LF; None for a sound one of another kind. Raises NmeaError."""
    if len(data) > MAX_SENTENCE:
        raise NmeaError(f"{len(data)} bytes are too many for a sentence")
    if _OTHER.fullmatch(data) is None:
        raise NmeaError(f"not a sentence: {data[:32]!r}")
    if checksum(data[1:-3]) != int(data[-2:], 16):
        raise NmeaError(f"checksum of {data[:16]!r} is wrong")
    shape = _SHAPE.fullmatch(data)
    if shape is None:
        return None  # proprietary
    fields = shape[3].decode("ascii").split(",")
    match shape[2]:
        case b"RMC":
            return _rmc(fields)
        case b"GGA":
            return _gga(fields)
        case b"GSA":
            return _gsa(fields)
        case b"ZDA":
            return _zda(fields)
    return None


def _rmc(fields: list[str]) -> Rmc:
    _at_least(fields, 9, "RMC")
    if fields[1] not in ("A", "V", ""):
        raise NmeaError(f"RMC status {fields[1]!r} is neither A nor V")
    return Rmc(fields[1] == "A", _time(fields[0]), _date_ddmmyy(fields[8]), _place(fields[2:6]))


def _gga(fields: list[str]) -> Gga:
    _at_least(fields, 10, "GGA")
    quality = _number(fields[5])
    return Gga(
        time=_time(fields[0]),
        quality=0 if quality is None else _whole(quality, 0, 9),
        satellites=None if (count := _number(fields[6])) is None else _whole(count, 0, 999),
        hdop=_number(fields[7]),
        place=_place(fields[1:5]),
        altitude_m=_number(fields[8]),
    )


def _gsa(fields: list[str]) -> Gsa:
    _at_least(fields, 17, "GSA")
    dimensions = _number(fields[1])
    return Gsa(1 if dimensions is None else _whole(dimensions, 1, 3), _number(fields[15]))


def _zda(fields: list[str]) -> Zda:
    _at_least(fields, 4, "ZDA")
    day, month, year = (_number(field) for field in fields[1:4])
    if day is None or month is None or year is None:
        return Zda(_time(fields[0]), None)
    return Zda(_time(fields[0]), _date(_whole(year, 1980, 9999), _whole(month, 1, 12), _whole(day, 1, 31)))


def _at_least(fields: list[str], count: int, kind: str) -> None:
    if len(fields) < count:
        raise NmeaError(f"{kind} with {len(fields)} fields, {count} or more expected")


def _time(text: str) -> TimeOfDay | None:
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise NmeaError(f"{text[:16]!r} is no time of day")
    hour, minute, second = (int(match[i]) for i in (1, 2, 3))
    leap = (hour, minute, second) == (23, 59, 60)
    if not leap and (hour > 23 or minute > 59 or second > 59):
        raise NmeaError(f"{text[:16]!r} is no time of day")
    fraction = (match[4] or "").ljust(9, "0")
    return TimeOfDay(hour * 3600 + minute * 60 + second, int(fraction))


def _date_ddmmyy(text: str) -> datetime.date | None:
    if not text:
        return None
    if re.fullmatch(r"\d{6}", text, re.ASCII) is None:
        raise NmeaError(f"{text[:16]!r} is no date")
    year = int(text[4:])
    return _date(year + (1900 if year >= 80 else 2000), int(text[2:4]), int(text[:2]))


def _date(year: int, month: int, day: int) -> datetime.date:
    try:
        return datetime.date(year, month, day)
    except ValueError as error:
        raise NmeaError(f"{year}-{month}-{day} is no date") from error


def _place(fields: list[str]) -> Place | None:
    if not all(fields):
        return None
    latitude = _angle(fields[0], fields[1], "NS", 90)
    longitude = _angle(fields[2], fields[3], "EW", 180)
    return Place(latitude, longitude)


def _angle(text: str, side: str, sides: str, limit: int) -> float:
    match = _ANGLE.fullmatch(text)
    if match is None or len(side) != 1 or side not in sides:
        raise NmeaError(f"{text[:16]!r} {side[:4]!r} is no angle")
    minutes = float(match[2])
    degrees = int(match[1]) + minutes / 60
    if minutes >= 60 or degrees > limit:
        raise NmeaError(f"{text[:16]!r} is no angle up to {limit} degrees")
    return degrees if side == sides[0] else -degrees


def _number(text: str) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise NmeaError(f"{text[:16]!r} is no number")
    return float(text)


def _whole(value: float, low: int, high: int) -> int:
    if value != int(value) or not low <= value <= high:
        raise NmeaError(f"{value:g} is not one of {low} to {high}")
    return int(value)

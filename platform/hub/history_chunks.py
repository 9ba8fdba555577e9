"""A chunk: up to a few hundred records of one series, times and values as compressed columns. Bytes to arrays and back.

Pure; the standard library's deflate is the only compression. `history_columns` makes few bytes of times and numbers;
text, booleans, data, sums and whole messages are msgpack under the same deflate. What comes back is bit for bit what
went in; a checksum over the chunk and what its row says about it lets only ChunkDamaged out otherwise.

    body     crc32 (4 bytes, big-endian, over head, hours and the rest), kind (1 byte), raw deflate of
             length of a header (1 byte), header (msgpack), times, then the values: the same again, or msgpack
    header   [exponent, order, width, smallest, first ...]; exponent -1: doubles, no scale
    hours    msgpack of what each whole UTC hour in the chunk holds, for means without decoding
"""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from . import history_columns as columns
from .errors import HubError

NUMBERS: Final = 1  # values is array('d')
ITEMS: Final = 2  # values is a list of `Item`

LEVEL: Final = 6  # of deflate; 9 saves 1 % for twice the time
HOUR_S: Final = 3600
HOUR_POINTS: Final = 4  # an hour with fewer records costs no more to decode than to read its summary
MAX_RAW = 4 << 20  # bytes of a chunk when inflated; the largest message and its chunk's other records

_HEAD: Final = struct.Struct(">QQQIddddd")

Hour: TypeAlias = tuple[int, int, float, float, float]  # hours since 1970, count, sum, smallest, largest
# A record that is not just a number: text, boolean, data, nothing; [value, sum, update time]; or of a message
# that is not SenML: (time created in ns, payload).
Item: TypeAlias = float | str | bool | bytes | list[Any] | tuple[Any, ...] | None
Values: TypeAlias = "array[float] | list[Any]"

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


class ChunkDamaged(HubError):
    """The bytes of a chunk are not those that were written."""


class Head(NamedTuple):
    """What a chunk's row says about it beside the body, and the checksum covers."""

    series: int
    boot: int  # 0: times are right; else whose clock they came from
    upto: int  # number of the last message it took from
    count: int  # type: ignore[assignment]
    first: float  # UTC seconds
    last: float
    sum: float = math.nan  # of numbers; NaN where there are others
    min: float = math.nan
    max: float = math.nan

    def packed(self) -> bytes:
        return _HEAD.pack(*self)


def encode(
    series: int, boot: int, upto: int, times: array[float], values: Values
) -> tuple[Head, bytes | None, bytes]:
    """The head, the hours (None where there is nothing to gain) and the body of a chunk of ascending `times`."""
    hours = None
    plain = columns.write(times, (1, 2), ascending=True).raw
    summed = low = high = math.nan
    if isinstance(values, array):
        kind = NUMBERS
        column, exponent, integers = columns.write(values, (0, 1))
        plain += column
        parts = _by_hour(times, values if integers is None else integers)
        if integers is None:
            low, high, summed = min(values), max(values), total(values)
        else:
            scale = columns.SCALES[exponent]
            low, high = min([part[2] for part in parts]) / scale, max([part[3] for part in parts]) / scale
            summed = sum([part[4] for part in parts]) / scale
        hours = _write_hours(parts, exponent)
    else:
        kind = ITEMS
        plain += _pack(values)
    head = Head(series, boot, upto, len(times), times[0], times[-1], summed, low, high)
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    rest = bytes((kind,)) + deflate.compress(plain) + deflate.flush()
    return head, hours, _checksum(head, hours, rest) + rest


def verify(head: Head, hours: bytes | None, body: bytes) -> None:
    """Raises ChunkDamaged where any of the three is not what was written."""
    if not isinstance(body, bytes) or body[:4] != _checksum(head, hours, body[4:]):
        raise ChunkDamaged("the checksum does not match")


def decode(head: Head, hours: bytes | None, body: bytes) -> tuple[array[float], Values]:
    """Times and values of a chunk. Raises ChunkDamaged."""
    verify(head, hours, body)
    try:
        inflate = zlib.decompressobj(-15)
        plain = inflate.decompress(body[5:], MAX_RAW)
        times, used = columns.read(plain, 0, head.count)
        values: Values
        if body[4] == NUMBERS:
            values, used = columns.read(plain, used, head.count)
        elif body[4] == ITEMS:
            values = _unpack(plain[used:])
        else:
            raise ChunkDamaged("of an unknown kind")
    except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ChunkDamaged(f"does not decode: {error}") from None
    if len(times) != head.count or len(values) != head.count:
        raise ChunkDamaged("holds another number of records than it says")
    return times, values


def read_hours(raw: bytes) -> list[Hour]:
    """What each whole UTC hour in a chunk holds, ascending. Verify the chunk first. Raises ChunkDamaged."""
    try:
        exponent, hour, *fields = _unpack(raw)
        parts = iter(fields)
        if exponent < 0:
            return [
                (hour := hour + step, count, summed, low, high)
                for step, count, low, high, summed in zip(parts, parts, parts, parts, parts, strict=True)
            ]
        scale = columns.SCALES[exponent]
        return [
            (hour := hour + step, count, (excess + low * count) / scale, low / scale, (low + spread) / scale)
            for step, count, low, spread, excess in zip(parts, parts, parts, parts, parts, strict=True)
        ]
    except (msgspec.MsgspecError, ValueError, IndexError, TypeError, OverflowError) as error:
        raise ChunkDamaged(f"hours do not decode: {error}") from None


def _checksum(head: Head, hours: bytes | None, rest: bytes) -> bytes:
    crc = zlib.crc32(head.packed())
    if hours:
        crc = zlib.crc32(hours, crc)
    return zlib.crc32(rest, crc).to_bytes(4, "big")


def total(values: Sequence[float]) -> float:
    """The sum, exact before it is rounded once, or infinite."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


# Hours


def _by_hour(times: array[float], column: array[float] | array[int]) -> list[tuple[int, int, Any, Any, Any]]:
    """Hour, count, smallest, largest and sum of each hour; one for all where hours are not worth writing."""
    add_up: Callable[[Any], Any] = total if column.typecode == "d" else sum
    start = int(times[0] // HOUR_S)
    parts: list[tuple[int, int, Any, Any, Any]] = []
    count = len(times)
    if start != int(times[-1] // HOUR_S) and count >= HOUR_POINTS * 2:
        at = 0
        while at < count and (len(parts) + 1) * HOUR_POINTS <= count:
            hour = int(times[at] // HOUR_S)
            to = bisect_left(times, (hour + 1) * float(HOUR_S), at)
            part = column[at:to].tolist()
            parts.append((hour, to - at, min(part), max(part), add_up(part)))
            at = to
        if at == count:
            return parts
    return [(start, count, min(column), max(column), add_up(column))]


def _write_hours(parts: Sequence[tuple[int, int, Any, Any, Any]], exponent: int) -> bytes | None:
    if len(parts) == 1:
        return None
    last = parts[0][0]
    fields: list[float] = [exponent, last]
    for hour, count, low, high, summed in parts:
        if exponent < 0:
            fields += (hour - last, count, low, high, summed)
        else:
            fields += (hour - last, count, low, high - low, summed - low * count)
        last = hour
    return _pack(fields)

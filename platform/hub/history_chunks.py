"""A chunk: up to a few hundred records of one series, times and values as compressed columns. Bytes to arrays and back.

Pure; the standard library's deflate is the only compression. Times become differences, or differences of
differences, of exactly scaled integers; numbers become such integers or their differences where that is exact
for every one of them, else stay doubles. Integers are counted from the smallest, in as few bytes as the largest
needs, and byte-shuffled, so that deflate finds the high bytes side by side. Text, booleans, data, sums and whole
messages are msgpack under the same deflate. What comes back is bit for bit what went in; a checksum over the
chunk and what its row says about it lets only ChunkDamaged out otherwise.

    body     crc32 (4 bytes, big-endian, over head, hours and the rest), kind (1 byte), raw deflate of
             length of a header (1 byte), header (msgpack), times, then the values: the same again, or msgpack
    header   [exponent, order, width, smallest, first ...]; exponent -1: doubles, no scale
    hours    msgpack of what each whole UTC hour in the chunk holds, for means without decoding
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise, repeat
from operator import add, sub
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from .errors import HubError

NUMBERS: Final = 1  # values is array('d')
ITEMS: Final = 2  # values is a list of `Item`

LEVEL: Final = 6  # of deflate; 9 saves 1 % for twice the time
HOUR_S: Final = 3600
HOUR_POINTS: Final = 4  # an hour with fewer records costs no more to decode than to read its summary
MAX_RAW = 4 << 20  # bytes of a chunk when inflated; the largest message and its chunk's other records

_SCALES: Final = tuple(float(10**exponent) for exponent in range(10))
_EXACT: Final = float(2**53)  # integers a double holds exactly
_SAMPLE: Final = 64  # records that decide how a column is written
_HEAD: Final = struct.Struct(">QQQIddddd")
_TYPES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

# A record that is not just a number: text, boolean, data, nothing; [value, sum, update time]; or of a message
# that is not SenML: (time created in ns, payload).
Item: TypeAlias = float | str | bool | bytes | list[Any] | tuple[Any, ...] | None
Values: TypeAlias = "array[float] | list[Any]"

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode
_unpack_header = msgspec.msgpack.Decoder(list[int]).decode


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


class Hour(NamedTuple):
    """What one whole UTC hour in a chunk holds; `start` is a multiple of 3600."""

    start: int
    count: int  # type: ignore[assignment]
    sum: float
    min: float
    max: float


def encode(
    series: int, boot: int, upto: int, times: array[float], values: Values
) -> tuple[Head, bytes | None, bytes]:
    """The head, the hours (None where there is nothing to gain) and the body of a chunk of ascending `times`."""
    hours = None
    plain = _write_column(times, (1, 2))[0]
    summed = low = high = math.nan
    if isinstance(values, array):
        kind = NUMBERS
        column, exponent, integers = _write_column(values, (0, 1))
        plain += column
        low, high = min(values), max(values)
        summed = total(values) if integers is None else sum(integers) / _SCALES[exponent]
        hours = _write_hours(times, values, exponent, integers)
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
        times, used = _read_column(plain, 0, head.count)
        values: Values
        if body[4] == NUMBERS:
            values, used = _read_column(plain, used, head.count)
        elif body[4] == ITEMS:
            values = _unpack(plain[used:])
        else:
            raise ChunkDamaged("of an unknown kind")
    except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ChunkDamaged(f"does not decode: {error}") from None
    if len(times) != head.count or len(values) != head.count:
        raise ChunkDamaged("holds another number of records than it says")
    return times, values


def read_hours(hours: bytes) -> list[Hour]:
    """The hours of a chunk, ascending. Verify the chunk first. Raises ChunkDamaged."""
    try:
        fields = _unpack(hours)
        exponent, start = fields[0], fields[1]
        scale = _SCALES[exponent] if exponent >= 0 else 1.0
        found = []
        parts = iter(fields[2:])
        for step, count, low, spread, excess in zip(parts, parts, parts, parts, parts, strict=True):
            start += step
            found.append(
                Hour(
                    start * HOUR_S,
                    count,
                    (excess + low * count) / scale if exponent >= 0 else excess,
                    low / scale,
                    (low + spread) / scale if exponent >= 0 else spread,
                )
            )
        return found
    except (msgspec.MsgspecError, ValueError, IndexError, TypeError) as error:
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


def _write_hours(
    times: array[float], values: array[float], exponent: int, integers: list[int] | None
) -> bytes | None:
    start = int(times[0] // HOUR_S)
    end = int(times[-1] // HOUR_S)
    if start == end or len(times) < HOUR_POINTS * 2:
        return None
    fields: list[float] = [exponent, start]
    column: Sequence[float] = values if integers is None else integers
    at = hours = 0
    last = start
    while at < len(times):
        hour = int(times[at] // HOUR_S)
        to = bisect_left(times, (hour + 1) * float(HOUR_S), at)
        part = column[at:to]
        low, high = min(part), max(part)
        if integers is None:
            fields += (hour - last, to - at, low, high, total(part))
        else:
            fields += (hour - last, to - at, low, high - low, sum(part) - low * (to - at))
        last, at = hour, to
        hours += 1
    if len(times) < HOUR_POINTS * hours:
        return None
    return _pack(fields)


# Columns


def _write_column(column: array[float], orders: tuple[int, int]) -> tuple[bytes, int, list[int] | None]:
    """A column of doubles, the exponent of its scale and the integers it became; -1 and None if none fits."""
    exponent, integers = _scaled(column)
    if integers is None:
        header = _pack([-1, 0, 8, 0])
        return bytes((len(header),)) + header + _shuffle(_little(column), 8), -1, None
    order = _order(integers, orders)
    starts = []
    rest = integers
    for _ in range(min(order, len(integers))):
        starts.append(rest[0])
        rest = list(map(sub, rest[1:], rest))
    smallest = min(rest, default=0)
    spread = max(rest, default=0) - smallest
    width = 1 if spread < 1 << 8 else 2 if spread < 1 << 16 else 4 if spread < 1 << 32 else 8
    raw = _little(array(_TYPES[width], map(sub, rest, repeat(smallest)) if smallest else rest))
    header = _pack([exponent, order, width, smallest, *starts])
    return bytes((len(header),)) + header + _shuffle(raw, width), exponent, integers


def _read_column(plain: bytes, at: int, count: int) -> tuple[array[float], int]:
    start = at + 1 + plain[at]
    exponent, _, width, smallest, *starts = _unpack_header(plain[at + 1 : start])
    if exponent < 0:
        end = start + 8 * count
        return _from_little("d", _unshuffle(plain[start:end], 8)), end
    rest = count - len(starts)
    end = start + rest * width
    numbers: Any = _from_little(_TYPES[width], _unshuffle(plain[start:end], width))
    # Adding the smallest back and summing up are one pass each, in C.
    if smallest:
        numbers = map(add, numbers, repeat(smallest))
    for first in reversed(starts):
        numbers = accumulate(numbers, initial=first)
    if exponent:
        scale = _SCALES[exponent]
        return array("d", [number / scale for number in numbers]), end
    return array("d", numbers), end


def _scaled(column: array[float]) -> tuple[int, list[int] | None]:
    """The smallest power of ten that makes whole numbers of all, bit for bit reversibly."""
    count = len(column)
    sample = column[:: max(1, count // 8)]
    high, low = max(column), min(column)
    largest = max(abs(high), abs(low))
    if not largest < _EXACT:  # also where one is NaN
        return -1, None
    raw = column.tobytes()
    for exponent, scale in enumerate(_SCALES):
        if largest * scale >= _EXACT:
            break
        if any(round(number * scale) / scale != number for number in sample):
            continue
        integers = [round(number * scale) for number in column] if exponent else list(map(round, column))
        # Compared as bytes: -0.0 equals 0.0 and is something else.
        if array("d", [integer / scale for integer in integers]).tobytes() == raw:
            return exponent, integers
    return -1, None


def _order(integers: list[int], orders: tuple[int, int]) -> int:
    """How often to take differences: the one of `orders` that leaves the smaller numbers, judged by a sample."""
    column = integers[:_SAMPLE]
    for _ in range(orders[0]):
        column = [after - before for before, after in pairwise(column)]
    if len(column) < 3:
        return orders[0]
    differences = [after - before for before, after in pairwise(column)]
    return orders[1] if _scatter(differences) < _scatter(column) else orders[0]


def _scatter(numbers: list[int]) -> float:
    centre = sorted(numbers)[len(numbers) // 2]
    return sum(abs(number - centre) for number in numbers) / len(numbers)


def _shuffle(raw: bytes, width: int) -> bytes:
    return raw if width == 1 else b"".join([raw[byte::width] for byte in range(width)])


def _unshuffle(shuffled: bytes, width: int) -> bytes:
    if width == 1:
        return shuffled
    count = len(shuffled) // width
    raw = bytearray(count * width)
    for byte in range(width):
        raw[byte::width] = shuffled[byte * count : (byte + 1) * count]
    return bytes(raw)


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _from_little(kind: str, raw: bytes) -> array[Any]:
    numbers = array(kind, raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

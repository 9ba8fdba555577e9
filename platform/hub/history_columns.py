"""A column of a chunk: doubles to few bytes and back, bit for bit.

Pure. Doubles become exactly scaled integers, and those their differences or differences of differences where that
makes them smaller. They are counted from the smallest, in as few bytes as the largest needs, and byte-shuffled so
that deflate finds the high bytes side by side. docs/history.md has the layout.

A column is worked on as a whole, as the 64-bit digits of one long integer: one subtraction of such integers takes all
differences of a column, at a tenth of the cost of a loop over its numbers. The result of each digit has to be within
0 to 2**64 - 1, so what may be negative is kept as so much more than 2**63: the comments say "from -2**63".
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add, sub, truediv
from typing import Any, Final, NamedTuple

import msgspec

SCALES: Final = tuple(float(10**exponent) for exponent in range(10))
# A product of a number and a scale below this is off by at most 1/8, and the integer that gives the number again when
# divided by the scale is at most 1/4 away: rounding the product finds it.
_FOUND: Final = float(2**51)
_SAMPLE: Final = 64  # records that decide how a column is written
_TYPES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FROM: Final = 1 << 63

# Of a double (IEEE 754, 3.4): sign, 11 bits of exponent, 52 of fraction.
_FRACTION_BITS: Final = 52
_EXPONENTS: Final = 0x7FF
_UNIT: Final = 1075  # value = (2**52 + fraction) * 2**(exponent - 1075)
# How NaN, infinities and -0.0, which equals 0.0 and is something else, begin.
_UNSCALED: Final = frozenset((0x7F, 0x80, 0xFF))

_SHIFTED: Final = bytes(range(256)) * 2

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[int]).decode


class Written(NamedTuple):
    """A column as it stands in a chunk, and what it was scaled to: -1 and None where no scale fits."""

    raw: bytes
    exponent: int
    integers: array[int] | None


def write(column: array[float], orders: tuple[int, int], *, ascending: bool = False) -> Written:
    """The column as bytes; `orders`: the two ways to choose from, by how often to take differences."""
    low, high = (column[0], column[-1]) if ascending else (min(column), max(column))
    exponent, integers = _scaled(column, low, high)
    if integers is None:
        header = _pack([-1, 0, 8, 0])
        return Written(bytes((len(header),)) + header + _shuffle(_little(column), 8), -1, None)
    count = len(integers)
    starts, order = _starts(integers[:_SAMPLE].tolist(), orders)
    raw, rest = _little(integers), integers
    digits = int.from_bytes(raw, "little") ^ _all(count, _FROM)  # from -2**63
    if order:
        for _ in range(order):
            count -= 1
            digits = (digits >> 64) + _all(count, _FROM) - (digits & _all(count, (1 << 64) - 1))
        raw = (digits ^ _all(count, _FROM)).to_bytes(8 * count, "little")
        rest = _from_little("q", raw)
    distinct = set(rest)
    smallest = min(distinct, default=0)
    spread = max(distinct, default=0) - smallest
    width = 1 if spread < 1 << 8 else 2 if spread < 1 << 16 else 4 if spread < 1 << 32 else 8
    if width == 1:
        at = -smallest & 0xFF
        shuffled = raw[::8].translate(_SHIFTED[at : at + 256])
    else:
        raw = (digits - _all(count, 1) * (_FROM + smallest)).to_bytes(8 * count, "little")
        shuffled = b"".join([raw[byte::8] for byte in range(width)])
    header = _pack([exponent, order, width, smallest, *starts])
    return Written(bytes((len(header),)) + header + shuffled, exponent, integers)


def read(plain: bytes, at: int, count: int) -> tuple[array[float], int]:
    """The column of `count` doubles that begins at `at`, and where it ends.

    Raises msgspec.MsgspecError, ValueError, IndexError, KeyError, OverflowError where there is none.
    """
    start = at + 1 + plain[at]
    exponent, _, width, smallest, *starts = _unpack(plain[at + 1 : start])
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
        scale = SCALES[exponent]
        return array("d", [number / scale for number in numbers]), end
    return array("d", numbers), end


# Scaling


def _scaled(column: array[float], low: float, high: float) -> tuple[int, array[int] | None]:
    """The smallest power of ten that makes whole numbers of all, bit for bit reversibly."""
    raw = _little(column)
    if not _UNSCALED.isdisjoint(raw[7::8]):
        return -1, None
    largest = max(-low, high)
    sample = column[:: max(1, len(column) // 4)].tolist()
    known: dict[float, int] = {}
    for exponent, scale in enumerate(SCALES):
        if not largest * scale < _FOUND:
            break
        if [round(number * scale) / scale for number in sample] != sample:
            continue
        if low > 0:
            fits, integers = _scaled_alike(raw, low, high, 10**exponent)
            if integers is not None:
                return exponent, integers
            if fits is False:
                continue
        known = {number: round(number * scale) for number in known or set(column)}
        if list(map(truediv, known.values(), repeat(scale))) == list(known):
            return exponent, array("q", map(known.__getitem__, column))
    return -1, None


def _scaled_alike(raw: bytes, low: float, high: float, scale: int) -> tuple[bool | None, array[int] | None]:
    """Whether the numbers times `scale`, rounded, are the same doubles again when divided by it; and those integers.

    For positive numbers between two powers of two, as times are. None where they are not, or too far apart.
    """
    count = len(raw) // 8
    exponent = int.from_bytes(raw[:8], "little") >> _FRACTION_BITS
    unit = _UNIT - exponent  # every number is a multiple of 1 / 2**unit, and has no neighbour that is closer
    whole = int(low)
    most = (scale - 1) // 2
    if not scale < 1 << unit or (high - whole + 1) * scale * 2.0**unit >= _FROM:
        return None, None
    digits = int.from_bytes(raw, "little")
    if (digits >> _FRACTION_BITS) & _all(count, _EXPONENTS) != _all(count, exponent):
        return None, None
    # Each digit becomes (number - whole) * scale, in units of 1 / 2**unit. Its integer is the one at most half of
    # `scale` such units away; a number that is farther off is closer to another double.
    digits &= _all(count, (1 << _FRACTION_BITS) - 1)
    digits = digits * scale + _all(count, 1) * (((1 << _FRACTION_BITS) - (whole << unit)) * scale + most)
    beyond = (digits & _all(count, (1 << unit) - 1)) + _all(count, (1 << unit) - 1 - 2 * most)
    if beyond & _all(count, 1 << unit):
        return False, None
    digits = ((digits >> unit) & _all(count, (1 << 64 - unit) - 1)) + _all(count, 1) * (whole * scale)
    return True, _from_little("q", digits.to_bytes(len(raw), "little"))


@lru_cache(256)
def _all(count: int, digit: int) -> int:
    """`count` times the same digit of 64 bits."""
    return _ones(count) * digit


@lru_cache(64)
def _ones(count: int) -> int:
    return ((1 << 64 * count) - 1) // ((1 << 64) - 1)


def _starts(column: list[int], orders: tuple[int, int]) -> tuple[list[int], int]:
    """With what a column and its differences begin, and how often to take them.

    So often that the smaller numbers are left, judged by the beginning of the column.
    """
    starts = []
    for _ in range(orders[0]):
        starts.append(column[0])
        column = list(map(sub, column[1:], column))
    if len(column) < 3:
        return starts, orders[0]
    differences = list(map(sub, column[1:], column))
    if _scatter(differences) >= _scatter(column):
        return starts, orders[0]
    return [*starts, column[0]], orders[1]


def _scatter(numbers: list[int]) -> float:
    centre = sorted(numbers)[len(numbers) // 2]
    return float(sum(map(abs, map(sub, numbers, repeat(centre))))) / len(numbers)


def _shuffle(raw: bytes, width: int) -> bytes:
    return b"".join([raw[byte::width] for byte in range(width)])


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

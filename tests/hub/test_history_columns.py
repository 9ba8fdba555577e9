"""Columns worked on as a whole are those that a loop over their numbers makes, to the byte."""

from __future__ import annotations

import math
import random
import struct
from array import array
from fractions import Fraction
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.history_columns import read, write


def plain_scaled(column: list[float]) -> tuple[int, list[int]] | None:
    """The smallest power of ten, tried on one number after the other, with exact products."""
    if not all(map(math.isfinite, column)):
        return None
    for exponent in range(10):
        scale = 10**exponent
        products = [Fraction(number) * scale for number in column]
        if not all(abs(product) < 2**51 for product in products):
            return None
        integers = [round(product) for product in products]
        again = [integer / scale for integer in integers]
        if struct.pack(f"{len(column)}d", *again) == struct.pack(f"{len(column)}d", *column):
            return exponent, integers
    return None


def plain(column: list[float], order: int) -> bytes:
    """The layout of docs/history.md, for an order that is known."""
    scaled = plain_scaled(column)
    if scaled is None:
        header = msgspec.msgpack.encode([-1, 0, 8, 0])
        words = [struct.pack("<d", number) for number in column]
        return bytes((len(header),)) + header + bytes(word[byte] for byte in range(8) for word in words)
    exponent, rest = scaled
    starts = []
    for _ in range(order):
        starts.append(rest[0])
        rest = [after - before for before, after in pairwise(rest)]
    smallest = min(rest, default=0)
    spread = max(rest, default=0) - smallest
    width = next(width for width in (1, 2, 4, 8) if spread < 1 << 8 * width)
    words = [(number - smallest).to_bytes(width, "little") for number in rest]
    header = msgspec.msgpack.encode([exponent, order, width, smallest, *starts])
    return bytes((len(header),)) + header + bytes(word[byte] for byte in range(width) for word in words)


def order_of(raw: bytes) -> int:
    return int(msgspec.msgpack.decode(raw[1 : 1 + raw[0]])[1])


def is_plain(column: list[float], orders: tuple[int, int]) -> None:
    written = write(array("d", column), orders)
    order = order_of(written.raw)
    assert order in (0, *orders)
    assert written.raw == plain(column, order)
    scaled = plain_scaled(column)
    if scaled is None:
        assert (written.exponent, written.integers) == (-1, None)
    else:
        assert written.integers is not None
        assert (written.exponent, written.integers.tolist()) == scaled
    again, end = read(written.raw + b"more", 0, len(column))
    assert end == len(written.raw)
    assert again.tobytes() == array("d", column).tobytes()


scales = st.integers(0, 9).map(lambda exponent: 10**exponent)
walks = st.builds(
    lambda start, steps, scale: [(start + sum(steps[:index])) / scale for index in range(len(steps))],
    st.integers(-(1 << 52), 1 << 52)
    | st.integers(-300, 300)
    | st.integers(1_700_000_000_000, 1_800_000_000_000),
    st.lists(st.integers(-3, 3) | st.integers(-(1 << 40), 1 << 40), min_size=1, max_size=70),
    scales,
)
alike = st.builds(
    lambda exponent, fractions: [math.ldexp(1 + fraction / (1 << 52), exponent) for fraction in fractions],
    st.integers(-70, 60),
    st.lists(st.integers(0, (1 << 52) - 1), min_size=1, max_size=30),
)


@given(walks | alike | st.lists(st.floats(), min_size=1, max_size=40), st.sampled_from(((0, 1), (1, 2))))
@example([0.0, -0.0], (0, 1))
@example([5e-324], (0, 1))
@example([2.0**53 - 1, 2.0**52], (1, 2))
@example([2.0**53], (0, 1))
@example([2.0**51 - 1, -(2.0**51) + 1], (0, 1))
@example([2.0**51], (0, 1))
@example([4294967296.0, 4294967296.029425, 4294967296.0], (0, 1))
@example([1.0, math.nan, 2.0], (0, 1))
@example([1.0, 2.0, math.inf, 2.0], (0, 1))
@example([0.5, 0.1, 1e-9, 0.999999999], (0, 1))
@example([-1.5] * 9, (0, 1))
@settings(deadline=None, max_examples=150)
def test_a_column_is_written_as_number_by_number(column: list[float], orders: tuple[int, int]) -> None:
    is_plain(column, orders)


@pytest.mark.parametrize("scale", [10**exponent for exponent in range(10)])
def test_the_double_beside_a_decimal_fraction_is_told_from_it(scale: int) -> None:
    """One number that is not quite a decimal fraction makes the column another one."""
    rng = random.Random(scale)
    for _ in range(60):
        low = rng.choice((1, 20, 1_000, 1_700_000_000))
        column = [low + rng.randrange(scale) / scale for _ in range(20)]
        is_plain(column, (0, 1))
        at = rng.randrange(1, 20)
        column[at] = math.nextafter(column[at], rng.choice((0.0, math.inf)))
        is_plain(column, (0, 1))


def test_ascending_times_are_written_the_same_with_and_without_saying_so() -> None:
    rng = random.Random(5)
    times = array("d", sorted(round(1.7e9 + rng.random() * 30_000, 3) for _ in range(512)))
    assert write(times, (1, 2), ascending=True) == write(times, (1, 2))
    assert write(times, (1, 2)).exponent == 3

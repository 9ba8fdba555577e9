"""The codec of a chunk: what goes in comes out bit for bit, and damage never comes out as data."""

from __future__ import annotations

import math
import random
import struct
import zlib
from array import array
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.history_chunks import ChunkDamaged, Head, decode, encode, read_hours, verify

numbers = st.one_of(
    st.floats(),  # also NaN, infinities, -0.0, subnormals
    st.integers(-(1 << 60), 1 << 60).map(float),
    st.integers(-30000, 30000).map(lambda tenths: tenths / 10),
    st.sampled_from((0.0, -0.0, 1e300, 5e-324, 2.0**53, 2.0**53 + 2, 0.1 + 0.2)),
)
seconds = st.one_of(
    st.floats(-1e12, 1e12),
    st.integers(1_700_000_000_000, 1_700_000_900_000).map(lambda ms: ms / 1000),
    st.integers(1_700_000_000_000_000, 1_700_000_000_900_000).map(lambda us: us / 1e6),
)
items = st.one_of(
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.booleans(),
    st.binary(max_size=20),
    st.tuples(st.none() | st.floats(allow_nan=False), st.none() | st.floats(allow_nan=False), st.none()).map(
        list
    ),
    st.tuples(st.integers(0, 1 << 62), st.binary(max_size=30)).map(list),
)


def bits(column: array[float]) -> bytes:
    return column.tobytes()


@given(st.lists(st.tuples(seconds, numbers), min_size=1, max_size=80))
@settings(deadline=None)
def test_numbers_come_out_bit_for_bit(records: list[tuple[float, float]]) -> None:
    records.sort(key=lambda record: record[0])
    times = array("d", [time for time, _ in records])
    values = array("d", [value for _, value in records])
    head, hours, body = encode(7, 3, 99, times, values)
    again, found = decode(head, hours, body)
    assert isinstance(found, array)
    assert bits(again) == bits(times)
    assert bits(found) == bits(values)
    assert (head.count, head.first, head.last) == (len(records), times[0], times[-1])
    if all(map(math.isfinite, values)):
        assert head.min == min(values)
        assert head.max == max(values)
        assert not math.isfinite(head.sum) or math.isclose(
            head.sum, float(sum(map(Fraction, values))), rel_tol=1e-12
        )


@given(st.lists(st.tuples(seconds, items), min_size=1, max_size=40))
@settings(deadline=None)
def test_other_values_come_out_as_they_went_in(records: list[tuple[float, Any]]) -> None:
    records.sort(key=lambda record: record[0])
    times = array("d", [time for time, _ in records])
    values = [value for _, value in records]
    head, hours, body = encode(1, 0, 5, times, values)
    again, found = decode(head, hours, body)
    assert bits(again) == bits(times)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]
    assert hours is None
    assert math.isnan(head.sum)


@given(
    st.lists(
        st.tuples(st.integers(1_700_000_000, 1_700_030_000), st.integers(-1000, 1000)),
        min_size=8,
        max_size=120,
    ),
    st.sampled_from((1.0, 10.0, 1000.0)),
)
@settings(deadline=None)
def test_hours_add_up_to_what_the_records_say(records: list[tuple[int, int]], scale: float) -> None:
    records.sort(key=lambda record: record[0])
    times = array("d", [float(time) for time, _ in records])
    values = array("d", [value / scale for _, value in records])
    head, hours, body = encode(1, 0, 5, times, values)
    verify(head, hours, body)
    if hours is None:
        return
    expected = {}
    for (time, _), value in zip(records, values, strict=True):
        expected.setdefault(time // 3600 * 3600, []).append(value)
    found = read_hours(hours)
    assert [(hour, count, low, high) for hour, count, _, low, high in found] == [
        (start // 3600, len(part), min(part), max(part)) for start, part in sorted(expected.items())
    ]
    for hour, _, summed, _, _ in found:
        assert summed == pytest.approx(math.fsum(expected[hour * 3600]), abs=1e-9)


def test_hours_of_unscaled_doubles_keep_them() -> None:
    values = array("d", [math.pi * number for number in range(20)])
    times = array("d", [1_700_006_400.0 + 900 * number for number in range(20)])
    _, hours, _ = encode(1, 0, 5, times, values)
    assert hours is not None
    first = read_hours(hours)[0]
    assert first == (1_700_006_400 // 3600, 4, math.fsum(values[:4]), 0.0, values[3])


def test_the_layout_is_that_of_the_documentation() -> None:
    """A body taken apart by hand, with docs/history.md beside it."""
    times = array("d", [1_700_000_000.0, 1_700_000_060.0, 1_700_000_121.0])
    values = array("d", [20.5, 20.6, 20.4])
    _, hours, body = encode(1, 0, 5, times, values)
    assert hours is None
    packed = struct.pack(">QQQIddddd", 1, 0, 5, 3, times[0], times[-1], 61.5, 20.4, 20.6)
    assert int.from_bytes(body[:4], "big") == zlib.crc32(packed + body[4:])
    assert body[4] == 1
    plain = zlib.decompress(body[5:], -15)
    length = plain[0]
    exponent, order, width, smallest, *first = msgspec.msgpack.decode(plain[1 : 1 + length])
    assert (exponent, order, width, smallest, first) == (0, 1, 1, 60, [1_700_000_000])
    assert plain[1 + length : 3 + length] == bytes((0, 1))
    rest = plain[3 + length :]
    exponent, order, width, smallest, *first = msgspec.msgpack.decode(rest[1 : 1 + rest[0]])
    assert (exponent, order, width, smallest, first) == (1, 0, 1, 204, [])
    assert rest[1 + rest[0] :] == bytes((1, 2, 0))


def test_a_minute_series_with_jitter_takes_under_three_bytes_a_record() -> None:
    rng = random.Random(2)
    value = 200
    times, values = array("d"), array("d")
    for minute in range(512):
        value += rng.choice((-1, 0, 0, 1))
        times.append((1_700_000_000_000 + 60_000 * minute + rng.randrange(60)) / 1000)
        values.append(value / 10)
    head, hours, body = encode(1, 0, 5, times, values)
    assert hours is not None
    assert (len(body) + len(hours)) / head.count < 1.8


SEEDS = [
    encode(1, 0, 9, array("d", [1.7e9 + n for n in range(40)]), array("d", [n / 10 for n in range(40)])),
    encode(2, 1, 9, array("d", [1.7e9 + 900 * n for n in range(40)]), array("d", map(math.sqrt, range(40)))),
    encode(3, 0, 9, array("d", [1.7e9, 1.7e9, 1.8e9]), ["text", True, [1.5, 2.0, None]]),
    encode(4, 0, 9, array("d", [1.7e9]), [[1_700_000_000_000_000_000, b'{"a":1}']]),
]


def damage(rng: random.Random, wire: bytes) -> bytes:
    data = bytearray(wire)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 6))
            case 4:
                del data[at:]
    return bytes(data)


def test_a_damaged_chunk_is_never_decoded() -> None:
    rng = random.Random(3720)
    for _ in range(8000):
        head, hours, body = rng.choice(SEEDS)
        wire, said = body, hours
        if hours is not None and rng.random() < 0.2:
            said = damage(rng, hours)
        else:
            wire = damage(rng, body)
        if (wire, said) == (body, hours):
            continue
        with pytest.raises(ChunkDamaged):
            decode(head, said, wire)


@pytest.mark.parametrize("field", ["series", "boot", "upto", "count", "first", "last", "sum", "min", "max"])
def test_a_row_that_says_something_else_is_damaged(field: str) -> None:
    head, hours, body = SEEDS[0]
    with pytest.raises(ChunkDamaged):
        decode(head._replace(**{field: getattr(head, field) + 1}), hours, body)


def test_even_with_a_matching_checksum_only_the_declared_error_escapes() -> None:
    """Whoever can write the file can also write checksums."""
    rng = random.Random(1952)
    refused = 0
    for _ in range(8000):
        head, hours, body = rng.choice(SEEDS)
        if rng.random() < 0.5:
            rest = damage(rng, body[4:])
        else:
            plain = damage(rng, zlib.decompress(body[5:], -15))
            deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
            rest = body[4:5] + deflate.compress(plain) + deflate.flush()
        crc = zlib.crc32(rest, zlib.crc32(hours or b"", zlib.crc32(head.packed())))
        try:
            times, values = decode(head, hours, crc.to_bytes(4, "big") + rest)
        except ChunkDamaged:
            refused += 1
            continue
        assert len(times) == len(values) == head.count
    assert refused > 1000


def test_damaged_hours_let_only_the_declared_error_out() -> None:
    rng = random.Random(2038)
    hours = SEEDS[1][1]
    assert hours is not None
    for _ in range(4000):
        try:
            read_hours(damage(rng, hours))
        except ChunkDamaged:
            continue


def test_a_chunk_does_not_inflate_without_bound() -> None:
    head = Head(1, 0, 1, 1, 0.0, 0.0)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = b"\x02" + deflate.compress(bytes(64 << 20)) + deflate.flush()
    crc = zlib.crc32(rest, zlib.crc32(head.packed()))
    with pytest.raises(ChunkDamaged):
        decode(head, None, crc.to_bytes(4, "big") + rest)

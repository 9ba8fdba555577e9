"""The tail: rows of numbers that gather hold the same as records that are taken in one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_mock import MockerFixture

from hub import history_tail, senml, senml_kept
from hub.history_tail import GATHER, Tail
from hub.message import SENML_JSON, Message, TimeQuality
from hub.senml import Record
from hub.senml_kept import Numbers

NOW_NS = 1_763_878_000_123_456_000
NAMES = (("a", "b"), ("a", "b", "c"), ("b", "a"), ("a", "a"), ("d",))


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    senml_kept.forget()
    yield
    senml_kept.forget()


def numbers(rng: random.Random, seq: int, device: str, names: tuple[str, ...]) -> tuple[Message, Numbers]:
    """A message of nothing but numbers of its arrival, and what it says."""
    said = Numbers(names, tuple("m" for _ in names), tuple(float(rng.randrange(100)) for _ in names))
    quality = rng.choice((TimeQuality.NTP, TimeQuality.NTP, TimeQuality.UNSET))
    created_ns = NOW_NS + seq * 1_000_000
    trusted = quality is TimeQuality.NTP
    arrival_s = senml.arrival_s(created_ns)
    records = said.records(arrival_s)
    # Without a base name each record tells its time itself, as several records of one name may.
    payload = senml.encode_json(records, arrival_s=None if trusted else arrival_s)
    boot = "" if trusted else rng.choice(("boot1", "boot2"))
    return (
        Message("c", device, "p", "lora", SENML_JSON, payload, created_ns, seq=seq, time=quality, boot=boot),
        said,
    )


def text(seq: int, device: str) -> Message:
    payload = senml.encode_json([Record("a", "m", NOW_NS / 1e9, string_value="text")])
    return Message("c", device, "p", "lora", SENML_JSON, payload, NOW_NS, seq=seq, time=TimeQuality.NTP)


def held(tail: Tail) -> dict[Any, Any]:
    tail.spread()
    return {
        one.key: (list(run.times), list(run.values), run.boots and list(run.boots), list(run.seqs))
        for one in tail.series.values()
        for run in (one.run,)
    }


@pytest.mark.parametrize("seed", range(40))
def test_rows_that_gather_hold_what_records_hold(seed: int) -> None:
    rng = random.Random(seed)
    gathered, plain = Tail(0, {}), Tail(0, {})
    favourite = {device: rng.choice(NAMES) for device in "xyz"}
    for seq in range(1, 200):
        device = rng.choice("xyz")
        if rng.random() < 0.03:
            message = text(seq, device)
            plain.take([message])
            gathered.take([message])
            continue
        names = favourite[device] if rng.random() < 0.9 else rng.choice(NAMES)
        message, said = numbers(rng, seq, device, names)
        plain.take([message])
        trusted = message.time is TimeQuality.NTP
        senml_kept.keep(SENML_JSON, message.payload, senml.arrival_s(message.created_ns), said, not trusted)
        gathered.take([message])
        assert (gathered.records, gathered.seq, gathered.messages) == (plain.records, seq, seq)
        if rng.random() < 0.05:
            assert held(gathered) == held(plain)
    assert held(gathered) == held(plain)
    assert gathered.size_bytes == plain.size_bytes


def fed(tail: Tail, count: int, names: tuple[str, ...] = ("a", "b"), first: int = 1) -> None:
    rng = random.Random(first)
    for seq in range(first, first + count):
        message, said = numbers(rng, seq, "x", names)
        trusted = message.time is TimeQuality.NTP
        senml_kept.keep(SENML_JSON, message.payload, senml.arrival_s(message.created_ns), said, not trusted)
        tail.take([message])


def test_rows_gather_and_no_more_of_them_than_a_few() -> None:
    tail = Tail(0, {})
    fed(tail, 1)  # makes the series
    (run, _) = (one.run for one in tail.series.values())
    for seq in range(2, 50):
        fed(tail, 1, first=seq)
        assert len(run.seqs) == 1 + (seq - 1) // GATHER * GATHER
        assert tail.records == 2 * seq
    tail.spread()
    assert list(run.seqs) == list(range(1, 50))


def test_rows_of_so_many_sources_gather_and_what_others_bring_is_there_at_once(mocker: MockerFixture) -> None:
    mocker.patch.object(history_tail, "MAX_GATHERING", 2)
    tail = Tail(0, {})
    devices, left = "uvwxyz", 0
    rng = random.Random(1)
    for seq in range(1, 4 * len(devices) + 1):
        message, said = numbers(rng, seq, devices[seq % len(devices)], ("a", "b"))
        trusted = message.time is TimeQuality.NTP
        senml_kept.keep(SENML_JSON, message.payload, senml.arrival_s(message.created_ns), said, not trusted)
        tail.take([message])
        left = sum(len(source.rows) > 0 for source in tail._sources.values())
        assert left == len([one for one in tail._gathering if one.rows]) <= 2
    assert left == 2
    assert tail.records == sum(len(run[3]) for run in held(tail).values()) == 2 * 4 * len(devices)
    assert all(list(run[3]) == sorted(run[3]) for run in held(tail).values())


def test_what_a_device_says_twice_in_a_message_does_not_gather() -> None:
    """The numbers of its messages rise in each series: by them a tail is cut."""
    tail = Tail(0, {})
    fed(tail, 20, ("a", "a"))
    (series,) = tail.series.values()
    assert list(series.run.seqs) == sorted([*range(1, 21), *range(1, 21)])


def test_numbers_of_too_many_series_are_counted_each_time(mocker: MockerFixture) -> None:
    mocker.patch.object(history_tail, "MAX_SERIES", 1)
    tail = Tail(0, {})
    fed(tail, 20)
    assert (tail.records, tail.refused, len(tail.series)) == (20, 20, 1)


def test_what_chunks_hold_already_is_not_taken_again() -> None:
    tail = Tail(0, {})
    fed(tail, 1)
    tail.skip = {1: 10}
    fed(tail, 20, first=2)
    assert [len(run[3]) for run in held(tail).values()] == [1 + 11, 1 + 20]

"""Any queries, in any interleaving of messages, steps of compaction, crashes and clock corrections, against a list.

The model is a list of records with their series, time, arrival and value, sorted and filtered in the plainest way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import history_pieces, history_store, history_view
from hub.history_model import MESSAGES, HistoryRecord, Query, SeriesKey
from hub.history_query import Bucket, HistoryReader
from hub.history_store import HistoryStore
from hub.history_tail import Tail
from hub.message import SENML_JSON, Message, TimeQuality
from hub.timekeeping import Correction, shift

T0 = 1_700_000_000
CHANNEL = "channel"
OPERATORS = {
    "eq": lambda a, b: a == b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@dataclass
class Told:
    """One record of the model."""

    key: SeriesKey
    time: float
    value: Any  # float, str, bool
    total: float | None
    seq: int
    arrival: int
    boot: str  # "" where the time does not depend on a clock


@dataclass
class World:
    """The history's parts without an event loop, a log that is a list, and the model."""

    path: Path
    log: list[Message] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self, read_back: int = 1 << 30) -> None:
        self.store = HistoryStore(self.path)
        self.tail: Tail = self.store.tail()
        self.tail.take(self.log[self.store.done : self.store.done + read_back])
        self.reader = HistoryReader(self.store, self.tail)
        self.upto = 0  # of the compaction under way; 0: none

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def send(self, rng: random.Random, records: int, boot: str) -> None:
        """A message of a few records, some with times of their own and some stamped on arrival."""
        seq = len(self.log) + 1
        created = T0 + rng.randrange(20)
        publisher = rng.choice(("p1", "p2"))
        pack: list[str] = []
        told = []
        for _ in range(records):
            name = rng.choice("abc")
            own_time = rng.random() < 0.6
            time = T0 + rng.randrange(20) if own_time else created
            value: Any = rng.choice((0, 1, 2.5, -3, 0.1, 7.25, 1e300))
            total = None
            if rng.random() < 0.15:
                value = rng.choice(("", "x", True, False))
            elif rng.random() < 0.1:
                total = 5.0
            label, text = (
                ("vs", f'"{value}"')
                if isinstance(value, str)
                else ("vb", str(value).lower())
                if isinstance(value, bool)
                else ("v", repr(value))
            )
            pack.append(
                f'{{"n":"{name}","{label}":{text}'
                + (f',"t":{time}' if own_time else "")
                + (f',"s":{total}' if total is not None else "")
                + "}"
            )
            key = SeriesKey(CHANNEL, "", publisher, "mqtt", "", name, "")
            told.append(
                Told(
                    key,
                    float(time),
                    float(value) if type(value) in (int, float) else value,
                    total,
                    seq,
                    0,
                    "" if own_time else boot,
                )
            )
        told.sort(key=lambda one: one.time)
        for one in told:
            one.arrival = len(self.told)
            self.told.append(one)
        payload = ("[" + ",".join(pack) + "]").encode()
        quality = TimeQuality.UNSET if boot else TimeQuality.NTP
        message = Message(
            CHANNEL, "", publisher, "mqtt", SENML_JSON, payload, created * 10**9, seq, quality, boot
        )
        self.log.append(message)
        self.tail.take([message])

    def step(self, between: Query | None = None) -> None:
        """One step of compaction, as `hub.history` drives it; `between`: asked when tail and file overlap."""
        if not self.upto:
            self.upto = self.tail.seq
        todo = [one for one in self.tail.series.values() if one.run.seqs and one.run.seqs[0] <= self.upto]
        if todo:
            step = self.store.compact(self.tail, todo[:2], self.upto, self.corrections)
            if between is not None:
                self.check(between)
            for piece in step.pieces:
                piece.series.saved = True
                self.tail.drop(piece, len(piece.seqs))
        else:
            self.store.finish(self.upto)
            self.tail.skip = {key: seq for key, seq in self.tail.skip.items() if seq > self.upto}
            self.upto = 0

    def crash(self, read_back: int) -> None:
        """Start again, read a part of the log back, compact that, read the rest."""
        self.close()
        self.open(read_back)
        if self.tail.seq < len(self.log):
            self.compact()
            self.tail.take(self.log[self.tail.seq :])

    def compact(self) -> None:
        self.step()
        while self.upto:
            self.step()

    def correct(self, boot: str, offset_s: int) -> None:
        self.corrections.append(Correction(boot, len(self.log), offset_s * 10**9, TimeQuality.NTP))

    # The model

    def expected(self, query: Query) -> list[Told]:
        """Matching records in the order of a page: newest first."""
        ids = {series.key: series.id for series in self.tail.series.values()}
        found = []
        for one in self.told:
            time = one.time
            if one.boot:
                time += shift(one.boot, one.seq, TimeQuality.UNSET, self.corrections)[0] / 1e9
            kind = type(one.value)
            if (
                (query.name is None or one.key.name == query.name)
                and (query.publisher is None or one.key.publisher == query.publisher)
                and (query.from_s is None or time >= query.from_s)
                and (query.to_s is None or time < query.to_s)
                and (query.v is None or (kind is float and OPERATORS[query.comparator](one.value, query.v)))
                and (query.vs is None or (kind is str and OPERATORS[query.comparator](one.value, query.vs)))
                and (query.vb is None or one.value is query.vb)
            ):
                found.append(replace(one, time=time))
        clocks = self.tail.boots
        found.sort(key=lambda one: (one.time, ids[one.key], clocks.get(one.boot, 0), one.arrival))
        return found[::-1]

    def check(self, query: Query) -> None:
        expected = self.expected(query)
        page = self.reader.page(query, self.corrections)
        assert page.total == len(expected)
        assert shown(page.messages) == list(map(plain, expected[query.offset : query.offset + query.limit]))
        assert not self.reader.damaged

    def check_pages(self, query: Query) -> None:
        """By token forwards, backwards and in an export: every record once, in order."""
        expected = list(map(plain, self.expected(query)))
        query = replace(query, offset=0)
        pages = [self.reader.page(query, self.corrections)]
        while pages[-1].next:
            pages.append(self.reader.page(replace(query, after=pages[-1].next), self.corrections))
        assert [record for page in pages for record in shown(page.messages)] == expected
        back = shown(pages[-1].messages)
        page = pages[-1]
        while page.messages and len(back) <= len(expected):
            page = self.reader.page(replace(query, before=page.previous), self.corrections)
            back = shown(page.messages) + back
        assert back == expected
        exported = list(self.export(query, 3))
        assert exported == expected[::-1]

    def export(self, query: Query, limit: int) -> Iterator[tuple[Any, ...]]:
        token: str | None = None
        while token != "":
            part, token = self.reader.batch(replace(query, before=token), limit, self.corrections)
            yield from shown(part)

    def check_sums(self, query: Query) -> None:
        interval = query.interval_s or 0.0
        buckets: dict[tuple[SeriesKey, int], list[float]] = {}
        for one in self.expected(query):
            if type(one.value) is float:
                buckets.setdefault((one.key, math.floor(one.time / interval)), []).append(one.value)
        found: dict[tuple[SeriesKey, int], Bucket] = {
            (bucket.series, round(bucket.start_s / interval)): bucket
            for bucket in self.reader.aggregate(query, self.corrections)
        }
        assert set(found) == set(buckets)
        for key, values in buckets.items():
            bucket = found[key]
            assert (bucket.count, bucket.min, bucket.max) == (len(values), min(values), max(values))
            assert bucket.sum == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-9)


def plain(one: Told) -> tuple[Any, ...]:
    return one.key.publisher, one.key.name, one.time, type(one.value), one.value, one.total


def shown(records: Any) -> list[tuple[Any, ...]]:
    found = []
    for record in records:
        assert isinstance(record, HistoryRecord)
        kinds = [record.value, record.string_value, record.bool_value]
        value = next(value for value in kinds if value is not None)
        found.append((record.publisher, record.name, record.time, type(value), value, record.sum))
    return found


times = st.none() | st.integers(-3, 60).map(lambda second: float(T0 + second)) | st.just(T0 + 7.5)
queries = st.builds(
    Query,
    st.just(CHANNEL),
    st.integers(0, 12),
    st.integers(1, 9),
    st.just(MESSAGES),
    name=st.none() | st.sampled_from("abcd"),
    publisher=st.none() | st.sampled_from(("p1", "p2")),
    v=st.none() | st.none() | st.sampled_from((0.0, 1.0, 2.5)),
    vs=st.none() | st.none() | st.none() | st.sampled_from(("", "x")),
    vb=st.none() | st.none() | st.none() | st.booleans(),
    comparator=st.sampled_from(sorted(OPERATORS)),
    from_s=times,
    to_s=times,
)
sums = st.builds(
    Query,
    st.just(CHANNEL),
    name=st.none() | st.sampled_from("ab"),
    v=st.none() | st.none() | st.just(0.0),
    from_s=times,
    to_s=times,
    aggregation=st.just("avg"),
    interval_s=st.sampled_from((1.0, 4.0, 7.0, 3600.0)),
)
acts = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1 << 30)),
    st.tuples(st.just("send"), st.integers(0, 1 << 30)),
    st.tuples(st.just("step"), st.integers(1, 6)),
    st.tuples(st.just("compact"), st.just(0)),
    st.tuples(st.just("overlap"), queries),
    st.tuples(st.just("crash"), st.integers(1, 60)),
    st.tuples(st.just("correct"), st.sampled_from((-7, 3, 40))),
    st.tuples(st.just("ask"), queries),
    st.tuples(st.just("pages"), queries),
    st.tuples(st.just("sums"), sums),
)


def act(world: World, name: str, argument: Any) -> None:
    match name:
        case "send":
            rng = random.Random(argument)
            for _ in range(rng.randint(1, 8)):
                world.send(rng, rng.randint(1, 4), rng.choice(("", "boot-1", "boot-2")))
        case "step":
            for _ in range(argument):
                world.step()
        case "compact":
            world.compact()
        case "overlap":
            world.step(between=argument)
        case "crash":
            world.crash(argument)
        case "correct":
            world.correct("boot-1", argument)
        case "ask":
            world.check(argument)
        case "pages":
            world.check_pages(argument)
        case "sums":
            world.check_sums(argument)


@given(st.lists(acts, min_size=4, max_size=24), queries, sums)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_query_says_what_the_model_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], query: Query, sum_query: Query
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_pieces, "CHUNK_POINTS", 6)
        patch.setattr(history_store, "STEP_POINTS", 7)
        patch.setattr(history_store, "BREATH_S", 0)
        patch.setattr(history_view, "CACHED_POINTS", 20)
        world = World(tmp_path_factory.mktemp("world") / "history.db")
        try:
            for name, argument in steps:
                act(world, name, argument)
            world.check(query)
            world.check_pages(query)
            world.check_sums(sum_query)
            world.crash(1 << 30)
            world.check(replace(query, offset=0, limit=1000))
        finally:
            world.close()

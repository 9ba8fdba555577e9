"""The history against InfluxDB on the same data, in one run: taking in, size at rest, queries, retention, start.

    python tests/bench/bench_store.py [--points 3000000] [--rounds 15] [--folder DIR] [--without-influx]

Points come in the order of time: every series once a minute for 35 days, a jitter of 60 ms in whole milliseconds,
values that walk in steps of 0.1. The history takes them as SenML JSON messages of four records, as the hub does after
their commit; decoding them, which happens at the door that takes a message in, is timed by itself. InfluxDB takes lines
in requests of 5,000. Making the data is not timed. The answers of both are compared before they are timed. Times are
medians and, in brackets, the worst. A step's time has parts: while it encodes it holds the interpreter, which
others feel; for a checkpoint only the compaction itself waits. What it computes is CPU time: the rest of a step is
rests, the disk, and whatever else the machine does.
`--points 50000000` is the whole comparison: about a quarter of an hour and 1 GB. Of more than 3 million points the
rest goes into the tail as arrays; rates are of those that came as messages.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))
sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import influx

from hub import senml, senml_kept
from hub.history import History
from hub.history_model import Query, SeriesKey
from hub.history_query import HistoryReader
from hub.history_store import DAY_S, HistoryStore
from hub.history_tail import TAIL_MESSAGES, Tail
from hub.log import Log
from hub.message import SENML_JSON, Message, TimeQuality

DAYS = 35
MINUTES = DAYS * 1440
DEVICE = 4  # series of one device, in one message
START_MS = 1_700_006_400_000  # midnight UTC
DECODED = 3_000_000  # points that come as messages; more come as arrays, to be there soon
CHANNEL = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"
NAMES = [f"r{number}" for number in range(DEVICE)]


class Field:
    """Devices that measure once a minute."""

    def __init__(self, series: int) -> None:
        self.series = series
        self._rng = random.Random(50)
        self._values = array("i", [self._rng.randrange(100, 400) for _ in range(series)])
        self._steps = [-1, 0, 0, 1]

    def minutes(self) -> Iterator[list[tuple[int, int, list[int]]]]:
        """For each minute: device, time in ms, and tenths of its series."""
        rng, values = self._rng, self._values
        devices = range(self.series // DEVICE)
        for minute in range(MINUTES):
            base = START_MS + minute * 60_000
            found = []
            for device in devices:
                at = device * DEVICE
                for series in range(at, at + DEVICE):
                    values[series] += self._steps[rng.getrandbits(2)]
                found.append((device, base + rng.randrange(60), values[at : at + DEVICE].tolist()))
            yield found


def messages(minute: list[tuple[int, int, list[int]]], seq: int) -> list[Message]:
    found = []
    for device, at_ms, tenths in minute:
        seq += 1
        parts = ",".join(
            f'{{"n":"{name}","v":{value / 10}}}' for name, value in zip(NAMES, tenths, strict=True)
        )
        payload = f'[{{"bn":"urn:dev:{device}:","bt":{at_ms / 1000}}},{parts}]'.encode()
        found.append(
            Message(
                CHANNEL,
                "",
                f"thing-{device}",
                "lora",
                SENML_JSON,
                payload,
                at_ms * 10**6,
                seq,
                TimeQuality.NTP,
            )
        )
    return found


def lines(minute: list[tuple[int, int, list[int]]]) -> list[str]:
    return [
        f"m,s={device * DEVICE + index} v={value / 10} {at_ms}"
        for device, at_ms, tenths in minute
        for index, value in enumerate(tenths)
    ]


class Ours:
    """The history's parts, driven as `hub.history` drives them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.db"
        self.store = HistoryStore(self.path)
        self.tail: Tail = self.store.tail()
        self.seq = 0
        self.known: dict[tuple[int, str], Any] = {}
        self.check_s = self.take_s = self.take_cpu_s = self.compact_s = self.compact_cpu_s = 0.0
        self.steps: list[float] = []
        self.steps_cpu: list[float] = []  # with the checkpoint after each
        self.held: list[
            float
        ] = []  # of each step: the longest in which nobody else was offered the interpreter
        self.checkpoints: list[float] = []

    def take(self, batch: list[Message]) -> None:
        began = time.perf_counter()
        for message in batch:
            senml_kept.check(message.content_type, message.payload, senml.arrival_s(message.created_ns))
        self.check_s += time.perf_counter() - began
        wall, cpu = time.perf_counter(), time.thread_time()
        self.tail.take(batch)
        self.take_s += time.perf_counter() - wall
        self.take_cpu_s += time.thread_time() - cpu
        self.seq = self.tail.seq
        if self.tail.due:
            self.compact()

    def load(self, minute: list[tuple[int, int, list[int]]]) -> None:
        """As `take`, but straight into the tail's arrays: to have many points soon."""
        tail, seq = self.tail, self.tail.seq
        for device, at_ms, tenths in minute:
            seq += 1
            for name, value in zip(NAMES, tenths, strict=True):
                series = self.known.get((device, name))
                if series is None:
                    key = (CHANNEL, "", f"thing-{device}", "lora", "", f"urn:dev:{device}:{name}", "")
                    series = self.known[device, name] = tail.find(SeriesKey(*key))
                    assert series is not None
                run = series.run
                run.values.append(value / 10)
                run.times.append(at_ms / 1000)
                run.seqs.append(seq)
        tail.records += len(minute) * DEVICE
        tail.messages += len(minute)
        tail.seq = self.seq = seq
        if tail.due:
            self.compact()

    def compact(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        upto, count = self.tail.seq, self.tail.messages
        todo = [one for one in self.tail.series.values() if one.run.seqs]
        at = 0
        while at < len(todo):
            began_cpu = time.thread_time()
            step = self.store.compact(self.tail, todo[at : at + 64], upto, ())
            self.steps_cpu.append(time.thread_time() - began_cpu)
            self.steps.append(step.busy_s)
            self.held.append(step.held_s)
            if step.checkpoint_s:
                self.checkpoints.append(step.checkpoint_s)
            for piece in step.pieces:
                piece.series.saved = True
                self.tail.drop(piece, len(piece.seqs))
            while at < len(todo) and not todo[at].run.seqs:
                at += 1
        self.store.finish(upto)
        self.tail.messages -= count
        self.compact_s += time.perf_counter() - wall
        self.compact_cpu_s += time.thread_time() - cpu

    def size_bytes(self) -> int:
        self.store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return self.path.stat().st_size


def timed(rounds: int, work: Callable[[int], object]) -> str:
    """Median and worst of single calls, in ms."""
    took = []
    for number in range(rounds):
        began = time.perf_counter()
        work(number)
        took.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(took):8.2f} ({max(took):.2f})"


def forget_pages(path: Path) -> None:
    """Have the system drop its cached pages of a file."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def day_of(series: int, day: int = DAYS - 2) -> Query:
    start = START_MS / 1000 + day * DAY_S
    device, index = divmod(series, DEVICE)
    return Query(
        CHANNEL,
        publisher=f"thing-{device}",
        name=f"urn:dev:{device}:{NAMES[index]}",
        from_s=start,
        to_s=start + DAY_S,
    )


def month_of(series: int) -> Query:
    device, index = divmod(series, DEVICE)
    end = START_MS / 1000 + (DAYS - 1) * DAY_S
    return Query(
        CHANNEL,
        publisher=f"thing-{device}",
        name=f"urn:dev:{device}:{NAMES[index]}",
        from_s=end - 30 * DAY_S,
        to_s=end,
        aggregation="avg",
        interval_s=3600.0,
    )


def influx_day(peer: influx.Influx, series: int) -> list[list[Any]]:
    query = day_of(series)
    assert query.from_s is not None
    assert query.to_s is not None
    found = peer.ask(
        f"SELECT v FROM m WHERE s = '{series}' AND time >= {int(query.from_s * 1000)}ms "
        f"AND time < {int(query.to_s * 1000)}ms"
    )
    return list(found[0]["values"])


def influx_month(peer: influx.Influx, series: int) -> list[list[Any]]:
    query = month_of(series)
    assert query.from_s is not None
    assert query.to_s is not None
    found = peer.ask(
        f"SELECT mean(v) FROM m WHERE s = '{series}' AND time >= {int(query.from_s * 1000)}ms "
        f"AND time < {int(query.to_s * 1000)}ms GROUP BY time(1h)"
    )
    return list(found[0]["values"])


def compare(reader: HistoryReader, peer: influx.Influx, series: int) -> None:
    """Both give the same answers, or the times are worth nothing."""
    mine, _ = reader.batch(day_of(series), 5000, ())
    theirs = influx_day(peer, series)
    if [(round(one.time * 1000), one.value) for one in mine] != [tuple(row) for row in theirs]:  # type: ignore[union-attr]
        sys.exit(f"series {series}: the days differ")
    buckets = reader.aggregate(month_of(series), ())[::-1]
    means = influx_month(peer, series)
    if [round(bucket.start_s * 1000) for bucket in buckets] != [row[0] for row in means]:
        sys.exit(f"series {series}: the hours differ")
    if not all(
        math.isclose(bucket.avg, row[1], rel_tol=1e-9) for bucket, row in zip(buckets, means, strict=True)
    ):
        sys.exit(f"series {series}: the means differ")


async def lateness(until: asyncio.Future[Any] | asyncio.Task[Any]) -> list[float]:
    """By how many ms the event loop is late for something due every 2 ms."""
    late = []
    while not until.done():
        began = time.perf_counter()
        await asyncio.sleep(0.002)
        late.append((time.perf_counter() - began) * 1e3 - 2)
    return sorted(late)


def beside_the_loop(folder: Path) -> None:
    """Read as many messages back from the log as a tail may hold, then compact them beside the event loop."""

    async def main() -> None:
        log = Log.open(folder / "log.db")
        batch: list[Message] = []
        for number in range(TAIL_MESSAGES - 1):
            payload = b'[{"n":"urn:dev:%d:t","t":%d,"v":21.5}]' % (number % 1000, 1_700_000_000 + number)
            batch.append(
                Message(CHANNEL, "", f"thing-{number % 1000}", "lora", SENML_JSON, payload, START_MS * 10**6)
            )
            if len(batch) == 4096:
                await log.append(batch)
                batch = []
        await log.append(batch)
        took, cpu = [], []
        for last in (False, False, True):
            began, began_cpu = time.perf_counter(), time.thread_time()
            history = History.open(folder / "tail.db", log)
            took.append(time.perf_counter() - began)
            cpu.append(time.thread_time() - began_cpu)
            assert history.tail_records == TAIL_MESSAGES - 1
            if last:
                idle = await lateness(asyncio.ensure_future(asyncio.sleep(2)))
                busy = await lateness(asyncio.ensure_future(history._compact()))
            await history.close()
        await log.close()
        print(
            f"start with a full tail        {statistics.median(took):.2f} s ({statistics.median(cpu):.2f} s CPU) "
            f"for {TAIL_MESSAGES - 1:,} messages of one record"
        )
        for name, late in (("idle", idle), ("compacting", busy)):
            print(
                f"event loop late by, ms        {name}: median {statistics.median(late):.2f}, "
                f"99 % {late[int(len(late) * 0.99)]:.2f}, worst {late[-1]:.2f}"
            )

    asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--without-influx", action="store_true")
    options = parser.parse_args()
    series = max(DEVICE, options.points // MINUTES // DEVICE * DEVICE)
    points = series * MINUTES
    print(f"{points:,} points: {series} series, every minute for {DAYS} days")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        peer = None
        if not options.without_influx and influx.installed():
            (folder / "influx").mkdir()
            peer = influx.Influx(folder / "influx")
        try:
            run(folder, peer, series, points, options.rounds)
        finally:
            if peer:
                peer.close()


def run(folder: Path, peer: influx.Influx | None, series: int, points: int, rounds: int) -> None:
    ours = Ours(folder)
    peer_s = 0.0
    pending: list[str] = []
    decoded = 0
    for minute in Field(series).minutes():
        if decoded < DECODED:
            ours.take(messages(minute, ours.seq))
            decoded += len(minute) * DEVICE
        else:
            ours.load(minute)
        if peer:
            pending += lines(minute)
            while len(pending) >= 5000:
                body = "\n".join(pending[:5000]).encode()
                del pending[:5000]
                began = time.perf_counter()
                peer.write(body)
                peer_s += time.perf_counter() - began
    if peer and pending:
        began = time.perf_counter()
        peer.write("\n".join(pending).encode())
        peer_s += time.perf_counter() - began
    ours.compact()
    tail_us, check_us, compact_us = (
        ours.take_s / decoded * 1e6,
        ours.check_s / decoded * 1e6,
        ours.compact_s / points * 1e6,
    )
    rate = 1e6 / (tail_us + compact_us)
    print(f"taken in, points/s            history {rate:12,.0f}", end="")
    print(f"   InfluxDB {points / peer_s:12,.0f}   ratio {rate * peer_s / points:.1f}" if peer else "")
    print(f"  with decoding and checking    history {1e6 / (tail_us + check_us + compact_us):12,.0f}")
    tail_cpu, compact_cpu = ours.take_cpu_s / decoded * 1e6, ours.compact_cpu_s / points * 1e6
    print(f"  CPU, us/record: tail {tail_cpu:.2f} + compaction {compact_cpu:.2f}", end="")
    print(f"   InfluxDB's server {peer.cpu_s() / points * 1e6:.2f}" if peer else "")
    for text, took in (
        ("steps of compaction", ours.steps),
        ("  of which they computed", ours.steps_cpu),
        ("  the interpreter held", ours.held),
        ("checkpoints between them", ours.checkpoints),
    ):
        some_s = sorted(took) or [0.0]
        print(
            f"  {text}: {len(took)}, median {statistics.median(some_s) * 1e3:.1f} ms, "
            f"99 % {some_s[int(len(some_s) * 0.99)] * 1e3:.1f} ms, longest {some_s[-1] * 1e3:.1f} ms"
        )
    size = ours.size_bytes()
    print(f"at rest, bytes/point          history {size / points:12.2f}", end="")
    if peer:
        time.sleep(20)  # it compresses files that nothing was written to for 5 s
        print(f"   InfluxDB {peer.size_bytes() / points:12.2f}   ratio {peer.size_bytes() / size:.1f}")
    else:
        print()

    rng = random.Random(1)
    some = [rng.randrange(series) for _ in range(max(rounds, 20))]
    reader = HistoryReader(ours.store, ours.tail)
    if peer:
        checked = HistoryReader(ours.store, ours.tail)  # what it has decoded is not warm for the queries
        for one in some[:10]:
            compare(checked, peer, one)
        checked.close()
    queries(ours, reader, peer, series, some, rounds)
    began = time.perf_counter()
    removed = sum(sum(part.values()) for part in ours.store.drop_before(START_MS / 1000 + DAY_S))
    print(f"drop a day, s                 history {time.perf_counter() - began:12.3f} ({removed:,} records)")
    reader.close()
    ours.store.close()
    beside_the_loop(folder)


def queries(
    ours: Ours, reader: HistoryReader, peer: influx.Influx | None, series: int, some: list[int], rounds: int
) -> None:
    def cold(query: Query, ask: Callable[[HistoryReader, Query], object]) -> None:
        one = HistoryReader(ours.store, ours.tail)
        forget_pages(ours.path)
        began = time.perf_counter()
        ask(one, query)
        took.append((time.perf_counter() - began) * 1e3)
        one.close()

    def warm(work: Callable[[Query], object], text: str) -> None:
        same = day_of(some[0])
        work(same)
        print(f"  {text:42} warm, same again {timed(rounds, lambda _: work(same))}")
        print(f"  {'':42} warm, any series {timed(rounds, lambda n: work(day_of(some[n])))}")

    print("queries, ms: median (worst)")
    warm(lambda query: reader.batch(query, 5000, ()), "24 h of one series, 1,440 records")
    warm(lambda query: reader.page(query, ()), "24 h of one series, first page of 10")
    took: list[float] = []
    for one in some[:rounds]:
        cold(day_of(one), lambda reader, query: reader.batch(query, 5000, ()))
    print(f"  {'':42} cold             {statistics.median(took):8.2f} ({max(took):.2f})")
    took.clear()
    for one in some[:rounds]:
        cold(month_of(one), lambda reader, query: reader.aggregate(query, ()))
    for one in some[:rounds]:  # into the system's memory again
        reader.aggregate(month_of(one), ())
    print(
        f"  {'30 d of hourly means of one series':42} warm, any series "
        f"{timed(rounds, lambda n: reader.aggregate(month_of(some[n]), ()))}"
    )
    print(f"  {'':42} cold             {statistics.median(took):8.2f} ({max(took):.2f})")
    print(
        f"  {'newest 10 of a channel of ' + str(series) + ' series':42} warm             "
        f"{timed(rounds, lambda _: reader.page(Query(CHANNEL), ()))}"
    )
    if peer:
        for one in some[:rounds]:
            influx_day(peer, one)
            influx_month(peer, one)
        day = timed(rounds, lambda n: influx_day(peer, some[n]))
        month = timed(rounds, lambda n: influx_month(peer, some[n]))
        print(f"  {'InfluxDB: 24 h of one series':42} warm, any series {day}")
        print(f"  {'InfluxDB: 30 d of hourly means':42} warm, any series {month}")


if __name__ == "__main__":
    main()

"""InfluxDB as an independent judge: the same points, the same ranges and aggregates."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.history import History
from hub.history_model import HistoryRecord, Query
from hub.log import Log
from hub.message import SENML_JSON, Message

PEER = Path(__file__).resolve().parents[1] / "bench" / "influx.py"
T0_MS = 1_700_006_400_000
SERIES = 3
POINTS = 2500


def load() -> Any:
    spec = importlib.util.spec_from_file_location("influx", PEER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


influx = load()
pytestmark = pytest.mark.skipif(not influx.installed(), reason="influxd is not installed (Debian: influxdb)")


def points() -> list[tuple[int, int, float]]:
    """Series, time in ms, value; out of order in places, with gaps, each (series, time) once."""
    rng = random.Random(1600)
    found = {}
    for series in range(SERIES):
        at = T0_MS
        for _ in range(POINTS):
            at += rng.choice((1, 999, 60_000, 60_001, 900_000 if rng.random() < 0.05 else 30_000))
            value = rng.randrange(-500, 500) / 10 if series else rng.uniform(-1e6, 1e6)
            found[series, at] = value
    order = [(series, at, value) for (series, at), value in found.items()]
    order.sort(key=lambda point: point[1] + rng.randrange(600_000))
    return order


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = influx.Influx(tmp_path_factory.mktemp("influx"))
    running.write("\n".join(f"m,s={series} v={value!r} {at}" for series, at, value in points()).encode())
    yield running
    running.close()


async def fill(folder: Path) -> tuple[Log, History]:
    log = Log.open(folder / "log.db")
    history = History.open(folder / "history.db", log)
    everything = points()
    for start in range(0, len(everything), 600):
        await log.append(
            [
                Message(
                    "c",
                    "",
                    "thing",
                    "mqtt",
                    SENML_JSON,
                    f'[{{"n":"s{series}","t":{at / 1000!r},"v":{value!r}}}]'.encode(),
                    T0_MS * 10**6,
                )
                for series, at, value in everything[start : start + 600]
            ]
        )
        if start % 1200 == 0:
            await history.query(Query("c"))
            await history._compact()
    return log, history


RANGES = [
    (T0_MS, T0_MS + 86_400_000),
    (T0_MS + 3_600_000, T0_MS + 5 * 3_600_000 + 1),
    (T0_MS + 12_345_678, T0_MS + 65_432_100),
    (T0_MS - 1000, T0_MS + 1),
]


def test_ranges_hold_the_same_points(tmp_path: Path, peer: Any) -> None:
    async def main() -> None:
        log, history = await fill(tmp_path)
        for series in range(SERIES):
            for start, end in RANGES:
                answer = peer.ask(
                    f"SELECT v FROM m WHERE s = '{series}' AND time >= {start}ms AND time < {end}ms"
                )
                expected = [tuple(row) for row in answer[0]["values"]] if answer else []
                query = Query("c", name=f"s{series}", from_s=start / 1000, to_s=end / 1000)
                got = []
                async for part in history.export(query, records=97):
                    for record in part:
                        assert isinstance(record, HistoryRecord)
                        got.append((round(record.time * 1000), record.value))
                assert got == expected
                assert (await history.query(query)).total == len(expected)
        await history.close()
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("interval_s", [1, 60, 600, 3600, 7200, 86_400])
def test_aggregates_are_the_same(tmp_path: Path, peer: Any, interval_s: int) -> None:
    async def main() -> None:
        log, history = await fill(tmp_path)
        start, end = RANGES[2]
        for series in range(SERIES):
            for begin, until in (RANGES[0], (start, end)):
                (answer,) = peer.ask(
                    f"SELECT count(v), sum(v), min(v), max(v), mean(v) FROM m WHERE s = '{series}' "
                    f"AND time >= {begin}ms AND time < {until}ms GROUP BY time({interval_s}s) fill(none)"
                )
                query = Query(
                    "c",
                    name=f"s{series}",
                    from_s=begin / 1000,
                    to_s=until / 1000,
                    aggregation="avg",
                    interval_s=float(interval_s),
                )
                buckets = (await history.aggregate(query))[::-1]
                expected = [row for row in answer["values"] if row[1]]
                assert [(round(one.start_s * 1000), one.count, one.min, one.max) for one in buckets] == [
                    (at, count, low, high) for at, count, _, low, high, _ in expected
                ]
                for bucket, (_, _, total, _, _, mean) in zip(buckets, expected, strict=True):
                    assert bucket.sum == pytest.approx(total, rel=1e-9, abs=1e-6)
                    assert bucket.avg == pytest.approx(mean, rel=1e-9, abs=1e-6)
        await history.close()
        await log.close()

    asyncio.run(main())

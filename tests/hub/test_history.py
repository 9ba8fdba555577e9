"""The history: every filter of the reader, exactly-once intake, its bounds, and its place behind live messages."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from pytest_mock import MockerFixture

from hub import history as history_module
from hub import history_store
from hub.errors import Invalid
from hub.history import History, HistoryPage, Query
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message

CHANNEL = "channel-1"
T0 = 1_700_000_000.0


def message(
    payload: bytes,
    *,
    at: float = 0.0,
    channel: str = CHANNEL,
    publisher: str = "thing-1",
    protocol: str = "mqtt",
    subtopic: str = "",
    content_type: str = SENML_JSON,
) -> Message:
    return Message(channel, subtopic, publisher, protocol, content_type, payload, int((T0 + at) * 1e9))


def run(folder: Path, body: Callable[[Log, History], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log, **options)
        await body(log, history)
        await history.close()
        await log.close()

    asyncio.run(main())


MIXED = [
    message(b'[{"n":"t","u":"Cel","v":20},{"n":"h","u":"%RH","v":0}]', at=0),
    message(b'[{"n":"t","u":"Cel","v":21}]', at=1, protocol="lora", publisher="thing-2"),
    message(b'[{"n":"t","u":"Cel","v":0}]', at=2, subtopic="a.b"),
    message(b'[{"n":"label","vs":"warm"},{"n":"open","vb":false},{"n":"raw","vd":"aGkgCg"}]', at=3),
    message(b'[{"n":"open","vb":true},{"n":"label","vs":""}]', at=4),
    message(b'[{"n":"energy","u":"W","s":100}]', at=5),
    message(b'[{"n":"t","u":"Cel","v":99}]', at=6, channel="channel-2"),
    message(bytes.fromhex("81a2006174020a"), at=7, content_type=SENML_CBOR),  # t = 10, no unit
    message(b'{"a":1}', at=8, content_type=JSON, subtopic="x.weather"),
    message(b'[{"a":2},{"a":3}]', at=9, content_type=JSON, subtopic="weather"),
    message(b"\x00\xff", at=10, content_type=OCTET_STREAM),
]


def shown(page: HistoryPage) -> list[object]:
    """name and value of each record."""
    wire = msgspec.json.decode(msgspec.json.encode(page.messages))
    keys = ("value", "string_value", "bool_value", "data_value", "sum")
    return [(item["name"], next(item[key] for key in keys if key in item)) for item in wire]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"name": "t"}, [("t", 10), ("t", 0), ("t", 21), ("t", 20)], id="name"),
        pytest.param({"v": 0.0}, [("t", 0), ("h", 0)], id="value 0"),
        pytest.param({"vb": False}, [("open", False)], id="boolean false"),
        pytest.param({"vb": True}, [("open", True)], id="boolean true"),
        pytest.param({"vs": ""}, [("label", "")], id="empty string"),
        pytest.param({"vs": "warm"}, [("label", "warm")], id="string"),
        pytest.param({"vs": "a", "comparator": "gt"}, [("label", "warm")], id="string after"),
        pytest.param({"vd": "aGkgCg"}, [("raw", "aGkgCg")], id="data"),
        pytest.param({"v": 20.0, "comparator": "ge"}, [("t", 21), ("t", 20)], id="ge"),
        pytest.param({"v": 20.0, "comparator": "gt"}, [("t", 21)], id="gt"),
        pytest.param({"v": 10.0, "comparator": "le"}, [("t", 10), ("t", 0), ("h", 0)], id="le"),
        pytest.param({"v": 10.0, "comparator": "lt"}, [("t", 0), ("h", 0)], id="lt"),
        pytest.param({"publisher": "thing-2"}, [("t", 21)], id="publisher"),
        pytest.param({"protocol": "lora"}, [("t", 21)], id="protocol"),
        pytest.param({"subtopic": "a.b"}, [("t", 0)], id="subtopic with dots"),
        pytest.param({"subtopic": "a/b"}, [("t", 0)], id="subtopic with slashes"),
        pytest.param({"subtopic": "", "name": "h"}, [("h", 0)], id="no subtopic"),
        pytest.param({"from_s": T0 + 1, "to_s": T0 + 3}, [("t", 0), ("t", 21)], id="from and to"),
        pytest.param({"to_s": T0}, [], id="to is excluded"),
        pytest.param({"to_s": T0 + 0.5}, [("h", 0), ("t", 20)], id="fractions"),
        pytest.param({"to_s": 0.0}, [], id="to 0 is a value"),
        pytest.param({"from_s": T0 + 5}, [("t", 10), ("energy", 100)], id="from"),
        pytest.param({"name": "t", "publisher": "thing-1", "v": 20.0}, [("t", 20)], id="several"),
        pytest.param({"name": "'; DROP TABLE record; --"}, [], id="no SQL from names"),
        pytest.param({"channel": "channel-2"}, [("t", 99)], id="channel"),
        pytest.param({"channel": "channel-3"}, [], id="unknown channel"),
    ],
)
def test_records_are_found_newest_first(
    tmp_path: Path, asked: dict[str, Any], expected: list[object]
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([msgspec.structs.replace(item) for item in MIXED])
        page = await history.query(Query(**({"channel": CHANNEL} | asked)))
        assert shown(page) == expected
        assert page.total == len(expected)

    run(tmp_path, body)


def test_a_record_reads_as_mainflux_shows_it(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append(
            [message(b'[{"bn":"urn:x:","n":"t","u":"Cel","v":0,"ut":60}]', at=1, subtopic="a.b")]
        )
        page = await history.query(Query(CHANNEL))
        assert msgspec.json.decode(msgspec.json.encode(page)) == {
            "offset": 0,
            "limit": 10,
            "total": 1,
            "messages": [
                {
                    "channel": CHANNEL,
                    "subtopic": "a.b",
                    "publisher": "thing-1",
                    "protocol": "mqtt",
                    "name": "urn:x:t",
                    "unit": "Cel",
                    "time": T0 + 1,
                    "update_time": 60,
                    "value": 0,
                }
            ],
        }

    run(tmp_path, body)


def test_other_messages_are_found_by_their_format(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([msgspec.structs.replace(item) for item in MIXED])
        page = await history.query(Query(CHANNEL, format="weather"))
        wire = msgspec.json.decode(msgspec.json.encode(page))
        assert [item["payload"] for item in wire["messages"]] == [{"a": 3}, {"a": 2}, {"a": 1}]
        assert wire["total"] == 3
        assert wire["messages"][2] == {
            "channel": CHANNEL,
            "created": int((T0 + 8) * 1e9),
            "subtopic": "x.weather",
            "publisher": "thing-1",
            "protocol": "mqtt",
            "payload": {"a": 1},
        }
        page = await history.query(Query(CHANNEL, format="weather", subtopic="x/weather"))
        assert page.total == 1
        page = await history.query(Query(CHANNEL, format="octets"))
        assert msgspec.to_builtins(page.messages)[0]["payload"] == "AP8="
        assert (await history.query(Query(CHANNEL, format="nothing"))).messages == []

    run(tmp_path, body)


def test_pages_of_many_series_fit_together(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        rng = random.Random(5)
        times = [rng.randrange(1000) for _ in range(300)]
        await log.append(
            [message(b'[{"n":"s%d","v":%d}]' % (n % 7, n), at=time) for n, time in enumerate(times)]
        )
        # newest first; of one time, the last appended first
        order = sorted(range(300), key=lambda n: (times[n], n), reverse=True)
        got: list[object] = []
        for offset in range(0, 330, 33):
            page = await history.query(Query(CHANNEL, offset=offset, limit=33))
            assert page.total == 300
            got += [value for _, value in shown(page)]
        assert got == order

    run(tmp_path, body)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"offset": history_store.MAX_REACH},
        {"comparator": "ne"},
        {"vd": "a"},
    ],
)
def test_values_outside_their_limits_are_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL, **asked))

    run(tmp_path, body)


def test_a_query_over_too_many_series_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_store, "MAX_MERGED", 3)

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"s%d","v":1}]' % n) for n in range(4)])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL))
        assert (await history.query(Query(CHANNEL, name="s1"))).total == 1

    run(tmp_path, body)


def test_records_of_too_many_series_are_counted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_store, "MAX_SERIES", 3)

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"s%d","v":1}]' % (n % 5)) for n in range(10)])
        assert (await history.query(Query(CHANNEL))).total == 6
        assert history.series_refused == 4

    run(tmp_path, body)


def test_each_record_is_kept_once_whatever_is_closed_in_between(tmp_path: Path) -> None:
    async def first(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(600)])

    async def later(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]', at=1000)])
        assert (await history.query(Query(CHANNEL))).total == 601
        assert log.cursor(history_module.CURSOR) == log.committed_seq == history.cursor
        assert history.behind == 0

    run(tmp_path, first)
    run(tmp_path, later)


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = history_store.HistoryStore(tmp_path / "history.db", 1 << 30)
    good = msgspec.structs.replace(message(b'[{"n":"a","v":1}]'), seq=1)

    def broken(_: Message) -> list[Any]:
        raise OSError("the disk is gone")

    monkeypatch.setattr(history_store, "_other_rows", broken)
    with pytest.raises(OSError, match="disk"):
        store.take([good, msgspec.structs.replace(message(b"x", content_type=OCTET_STREAM), seq=2)], 2)
    assert store.query(Query(CHANNEL)).total == 0
    assert store.cursor == 0
    store.take([good], 1)
    assert store.query(Query(CHANNEL)).total == 1
    store.take([good], 1)  # seen twice, kept once
    assert len(store.query(Query(CHANNEL)).messages) == 1
    store.close()


def test_a_damaged_history_is_built_again_from_the_log(tmp_path: Path) -> None:
    async def fill(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(10)])
        assert (await history.query(Query(CHANNEL))).total == 10

    async def again(log: Log, history: History) -> None:
        assert history.set_aside is not None
        assert (await history.query(Query(CHANNEL))).total == 10

    run(tmp_path, fill)
    (tmp_path / "history.db").write_bytes(b"\0" * 20_000)
    run(tmp_path, again)


def test_a_full_disk_leaves_the_history_behind_and_not_dead(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        assert (await history.query(Query(CHANNEL))).total == 1
        full = sqlite3.OperationalError("database or disk is full")
        tried = asyncio.Event()
        refused = iter((None, tried))

        def step(up_to: int) -> int:
            second = next(refused)
            if second is not None:
                loop.call_soon_threadsafe(second.set)
            raise full

        loop = asyncio.get_running_loop()
        step_of_history = mocker.patch.object(history, "_step", side_effect=step)
        await log.append([message(b'[{"n":"a","v":2}]', at=1)])
        assert (await history.query(Query(CHANNEL))).total == 1
        history._wake.set()
        await tried.wait()
        assert history.behind == 1
        mocker.stop(step_of_history)
        assert (await history.query(Query(CHANNEL))).total == 2
        assert not history._task.done()

    run(tmp_path, body)
    assert "the history is 1 messages behind: database or disk is full" in caplog.text


def test_the_oldest_records_go_when_the_file_is_too_large(tmp_path: Path) -> None:
    bound = 400_000

    async def body(log: Log, history: History) -> None:
        for day in range(12):
            await log.append(
                [
                    message(b'[{"n":"s%d","vs":"%s"}]' % (n % 5, b"x" * 50), at=day * 86_400 + n)
                    for n in range(900)
                ]
            )
            await history.query(Query(CHANNEL))
        await log.append([message(b"y" * 100, content_type=OCTET_STREAM, at=12 * 86_400)])
        page = await history.query(Query(CHANNEL, limit=1000))
        assert history.used_bytes <= bound + 200_000
        assert 900 < page.total < 12 * 900
        times = [item.time for item in page.messages]  # type: ignore[union-attr]
        assert times[0] == T0 + 11 * 86_400 + 899
        oldest = await history.query(Query(CHANNEL, to_s=T0 + 2 * 86_400))
        assert oldest.total == 0
        assert (await history.query(Query(CHANNEL, format="octets"))).total == 1

    run(tmp_path, body, max_bytes=bound)


def test_it_gathers_and_starts_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "GATHER", 50)

    async def body(log: Log, history: History) -> None:
        await asyncio.sleep(0.05)  # its start has looked at the empty log
        await log.append([message(b'[{"n":"a","v":1}]') for _ in range(49)])
        await asyncio.sleep(0.05)
        assert history.cursor == 0
        await log.append([message(b'[{"n":"a","v":1}]')])
        for _ in range(3000):
            if history.cursor == 50:
                break
            await asyncio.sleep(0.01)
        assert history.cursor == 50

    run(tmp_path, body)


def test_it_rests_longer_while_the_log_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]') for _ in range(600)])
        now = iter(range(10_000))
        clock = SimpleNamespace(monotonic=lambda: float(next(now)))
        monkeypatch.setattr(history_module, "time", clock)

        async def rest(seconds: float) -> None:
            rests.append(seconds)

        monkeypatch.setattr(history_module, "BUSY", 10)
        monkeypatch.setattr(history_module.asyncio, "sleep", rest)
        await history._catch_up(256, None, patient=True)
        for _ in range(11):
            log.post([message(b'[{"n":"a","v":1}]')])
        await history._catch_up(512, None, patient=True)
        monkeypatch.undo()

    run(tmp_path, body)
    assert rests == [history_module.REST, history_module.REST_BUSY]


def test_messages_that_are_no_senml_are_counted_and_passed_over(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b"no senml"), message(b'[{"n":"a","v":1}]')])
        assert (await history.query(Query(CHANNEL))).total == 1
        assert history.undecodable == 1

    run(tmp_path, body)

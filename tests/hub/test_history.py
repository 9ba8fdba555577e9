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
from hub import (
    history_intake,
    history_model,
    history_pieces,
    history_query,
    history_store,
    history_tail,
    history_view,
)
from hub.errors import Busy, Invalid
from hub.history import History, HistoryPage, HistoryRecord, Query
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, TimeQuality

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


def test_what_one_publisher_sent_is_found_in_its_channel_alone(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        sent = [
            message(b'[{"n":"t","v":%d}]' % number, at=number, channel=f"channel-{number % 2}", publisher=who)
            for number, who in enumerate(["thing-1", "thing-1", "thing-2", "thing-2", "thing-1", "thing-10"])
        ]
        await log.append(sent)
        for channel, publisher, expected in (
            ("channel-0", "thing-1", [4.0, 0.0]),
            ("channel-1", "thing-1", [1.0]),
            ("channel-1", "thing-10", [5.0]),
            ("channel-0", "thing-10", []),
        ):
            page = await history.query(Query(channel, publisher=publisher))
            assert [record.value for record in page.messages if isinstance(record, HistoryRecord)] == expected

    run(tmp_path, body)


def test_a_record_reads_as_mainflux_shows_it(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append(
            [message(b'[{"bn":"urn:x:","n":"t","u":"Cel","v":0,"ut":60}]', at=1, subtopic="a.b")]
        )
        page = await history.query(Query(CHANNEL))
        wire = msgspec.json.decode(msgspec.json.encode(page))
        assert wire.pop("previous")
        assert wire == {
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
        # newest first; of one time by series, of one series the last appended first
        order = sorted(range(300), key=lambda n: (times[n], n % 7, n), reverse=True)
        for _ in range(2):
            got: list[object] = []
            for offset in range(0, 330, 33):
                page = await history.query(Query(CHANNEL, offset=offset, limit=33))
                assert page.total == 300
                got += [value for _, value in shown(page)]
            assert got == order
            await history._compact()

    run(tmp_path, body)


@pytest.mark.parametrize("compacted", [True, False])
def test_the_newest_of_many_series_are_had_without_asking_for_each(
    tmp_path: Path, compacted: bool, mocker: MockerFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        for at in range(3):
            await log.append(
                [message(f'[{{"n":"s{n}","u":"Cel","v":{at}}}]'.encode(), at=60 * at) for n in range(300)]
            )
        if compacted:
            await history._compact()
        headers = mocker.spy(history_view.View, "_sources")
        tails = mocker.spy(history_view.View, "tail_spans")
        page = await history.query(Query(CHANNEL, limit=10))
        assert [record.name for record in page.messages] == [f"s{n}" for n in range(299, 289, -1)]
        assert page.total == 900
        assert headers.call_count + tails.call_count <= 24
        early = await history.query(Query(CHANNEL, to_s=T0 + 60, limit=300))
        assert {record.value for record in early.messages} == {0}
        assert len(early.messages) == 300
        headers.reset_mock()
        tails.reset_mock()
        assert (await history.query(Query(CHANNEL, from_s=T0 + 121, limit=300))).messages == []
        assert headers.call_count + tails.call_count <= 300  # the count alone looks at tails

    run(tmp_path, body)


def test_tokens_lead_through_records_that_arrive_meanwhile(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n // 4) for n in range(40)])
        got: list[Any] = []
        page = await history.query(Query(CHANNEL, limit=7))
        newest = page.previous
        while True:
            got += [value for _, value in shown(page)]
            if not page.next:
                break
            await log.append([message(b'[{"n":"a","v":-1}]', at=len(got) % 3 + 20)])
            await history._compact()
            page = await history.query(Query(CHANNEL, limit=7, after=page.next))
        assert got == list(range(39, -1, -1))
        page = await history.query(Query(CHANNEL, limit=1000, before=newest))
        assert [value for _, value in shown(page)] == [-1] * 5
        page = await history.query(Query(CHANNEL, before=page.previous))
        assert page.messages == []
        assert page.previous  # to ask again with

    run(tmp_path, body)


@pytest.mark.parametrize("token", ["x", "AAAA", "é" * 8, "A" * 65, "AAAAAAAAAAAA"])
def test_a_token_that_is_none_of_ours_is_refused(tmp_path: Path, token: str) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL, after=token))

    run(tmp_path, body)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"offset": history_model.MAX_REACH},
        {"comparator": "ne"},
        {"vd": "a"},
        {"after": "a", "before": "b"},
        {"aggregation": "avg"},
        {"interval_s": 5.0},
        {"aggregation": "median", "interval_s": 5.0},
        {"aggregation": "avg", "interval_s": 0.0},
        {"aggregation": "avg", "interval_s": 5.0, "format": "json"},
    ],
)
def test_values_outside_their_limits_are_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL, **asked))

    run(tmp_path, body)


def test_a_query_over_too_many_series_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_query, "MAX_MERGED", 3)

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"s%d","v":1}]' % n) for n in range(4)])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL))
        assert (await history.query(Query(CHANNEL, name="s1"))).total == 1

    run(tmp_path, body)


def test_records_of_too_many_series_are_counted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_tail, "MAX_SERIES", 3)

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
        await history._compact()
        assert (await history.query(Query(CHANNEL))).total == 601
        assert log.cursor(history_module.CURSOR) == log.committed_seq == history.cursor
        assert history.behind == 0
        assert history.tail_records == 0

    run(tmp_path, first)
    run(tmp_path, later)


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, mocker: MockerFixture) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(5)])
        assert (await history.query(Query(CHANNEL))).total == 5
        mocker.patch.object(history_store, "INSERT", "INSERT INTO chunk(series) VALUES (?)")
        with pytest.raises(sqlite3.Error):
            await history._compact()
        mocker.stopall()
        assert history.cursor == 0
        assert (await history.query(Query(CHANNEL))).total == 5
        await history._compact()
        assert (await history.query(Query(CHANNEL))).total == len(
            (await history.query(Query(CHANNEL))).messages
        )

    run(tmp_path, body)


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
        tried = asyncio.Event()
        loop = asyncio.get_running_loop()

        def step(*_: object) -> None:
            loop.call_soon_threadsafe(tried.set)
            raise sqlite3.OperationalError("database or disk is full")

        full = mocker.patch.object(history._store, "compact", side_effect=step)
        mocker.patch.object(history_tail, "TAIL_RECORDS", 2)
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(3)])
        assert (await history.query(Query(CHANNEL))).total == 3
        await tried.wait()
        assert (await history.query(Query(CHANNEL))).total == 3
        assert history.cursor == 0
        mocker.stop(full)
        history._wake.set()
        await until(lambda: history.cursor == 3)
        assert (await history.query(Query(CHANNEL))).total == 3

    run(tmp_path, body)
    assert "the history is 3 messages behind: database or disk is full" in caplog.text


def test_a_tail_that_cannot_be_compacted_stays_within_its_bound(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        full = mocker.patch.object(
            history._store, "compact", side_effect=sqlite3.OperationalError("database or disk is full")
        )
        mocker.patch.object(history_tail, "TAIL_RECORDS", 100)
        for part in range(10):
            await log.append([message(b'[{"n":"a","v":%d}]' % n, at=100 * part + n) for n in range(100)])
            await history.query(Query(CHANNEL))
        assert history.tail_records <= 200 + history_intake.TAKE
        assert history.behind > 0
        mocker.stop(full)
        history._wake.set()
        await until(lambda: history.behind == 0)
        assert (await history.query(Query(CHANNEL))).total == 1000
        await log.append([message(b'[{"n":"a","v":1}]', at=5000)])
        assert (await history.query(Query(CHANNEL))).total == 1001

    run(tmp_path, body)
    assert "behind" in caplog.text


def test_a_question_misses_nothing_that_came_faster_than_memory_takes_it(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        mocker.patch.object(history_tail, "TAIL_RECORDS", 100)
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(2000)])
        while history._intake.waiting:  # noqa: ASYNC110  (a turn at a time, until what waits is let go)
            await asyncio.sleep(0)
        assert history.behind > 1000
        assert (await history.query(Query(CHANNEL))).total == 2000

    run(tmp_path, body)


def test_a_commit_larger_than_what_may_wait_in_memory_is_read_from_the_log(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(history_intake, "MAX_WAITING", 500)

    async def body(log: Log, history: History) -> None:
        scanned = mocker.spy(history._intake, "next_from_log")
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(500)])
        assert history._intake.waiting
        assert (await history.query(Query(CHANNEL))).total == 500
        assert scanned.call_count == 0  # the control
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(500, 1001)])
        assert not history._intake.waiting
        assert (await history.query(Query(CHANNEL))).total == 1001
        assert scanned.call_count > 0
        await log.append([message(b'[{"n":"a","v":1}]', at=1001)])
        assert history._intake.waiting  # from commits again
        assert (await history.query(Query(CHANNEL))).total == 1002

    run(tmp_path, body)


def test_the_more_waits_the_more_is_taken_in_a_turn(tmp_path: Path, mocker: MockerFixture) -> None:
    async def body(log: Log, history: History) -> None:
        taken = mocker.spy(history._tail, "take")
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(16 * history_intake.TAKE)])
        while history._intake.waiting:  # noqa: ASYNC110  (a turn at a time)
            await asyncio.sleep(0)
        sizes = [len(call.args[0]) for call in taken.call_args_list]
        assert sizes[0] == 2 * history_intake.TAKE
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-2] == history_intake.TAKE
        assert sum(sizes) == 16 * history_intake.TAKE

    run(tmp_path, body)


def test_a_question_that_would_wait_too_long_is_refused(tmp_path: Path, mocker: MockerFixture) -> None:
    async def body(log: Log, history: History) -> None:
        reached = asyncio.Event()
        mocker.patch.object(history_tail, "TAIL_RECORDS", 100)
        mocker.patch.object(history_module, "CATCH_UP_S", 0.1)
        compact = mocker.patch.object(history, "_compact", side_effect=reached.wait)
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(2000)])
        with pytest.raises(Busy, match="messages behind"):
            await history.query(Query(CHANNEL))
        mocker.stop(compact)
        reached.set()
        mocker.patch.object(history_module, "CATCH_UP_S", 60)
        assert (await history.query(Query(CHANNEL))).total == 2000

    run(tmp_path, body)


async def until(true: Callable[[], bool]) -> None:
    """Wait for background work."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


def test_the_oldest_records_go_when_the_file_is_too_large(tmp_path: Path) -> None:
    bound = 200_000

    async def body(log: Log, history: History) -> None:
        rng = random.Random(3)
        for day in range(12):
            await log.append(
                [
                    message(b'[{"n":"s%d","v":%r}]' % (n % 5, rng.random()), at=day * 86_400 + n)
                    for n in range(4000)
                ]
            )
            await history.query(Query(CHANNEL))
            await history._compact()
            await history._keep_house()
        await log.append([message(b"y" * 100, content_type=OCTET_STREAM, at=12 * 86_400)])
        page = await history.query(Query(CHANNEL, limit=1000))
        assert history.used_bytes <= bound
        assert 4000 < page.total < 12 * 4000
        times = [item.time for item in page.messages]  # type: ignore[union-attr]
        assert times[0] == T0 + 11 * 86_400 + 3999
        oldest = await history.query(Query(CHANNEL, to_s=T0 + 2 * 86_400))
        assert oldest.total == 0
        everything = [len(part) async for part in history.export(Query(CHANNEL))]
        assert sum(everything) == page.total == history.records - 1
        assert history.counters.removed == 12 * 4000 - page.total
        assert (await history.query(Query(CHANNEL, format="octets"))).total == 1

    run(tmp_path, body, max_bytes=bound)


@pytest.mark.parametrize(
    ("clock", "kept"),
    [
        pytest.param(T0 + 10 * 86_400, 4, id="right clock"),
        pytest.param(4e9, 4, id="a clock far ahead goes by the newest record"),
        pytest.param(0.0, 11, id="a clock that was never set"),
    ],
)
def test_records_older_than_the_limit_go(tmp_path: Path, clock: float, kept: int) -> None:
    async def body(log: Log, history: History) -> None:
        for day in range(11):
            await log.append([message(b'[{"n":"a","v":%d}]' % day, at=day * 86_400)])
            await history.query(Query(CHANNEL))
            # Of one chunk all or nothing goes; here each day has its own.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(history_pieces, "CHUNK_POINTS", 1)
                await history._compact()
        await history._keep_house()
        page = await history.query(Query(CHANNEL, limit=100))
        assert [value for _, value in shown(page)] == list(range(10, 10 - kept, -1))
        assert page.total == kept

    run(tmp_path, body, max_age_s=3 * 86_400.0, clock=lambda: clock)


def test_room_that_became_free_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_store, "VACUUM_SLACK", 4096)

    async def body(log: Log, history: History) -> None:
        rng = random.Random(3)
        for day in range(10):
            await log.append(
                [message(b'[{"n":"s","v":%r}]' % rng.random(), at=day * 86_400 + n) for n in range(9000)]
            )
            await history.query(Query(CHANNEL))
            await history._compact()
        history._store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = (tmp_path / "history.db").stat().st_size
        await history._drop_before(T0 + 8.5 * 86_400)
        await history._keep_house()
        history._store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (tmp_path / "history.db").stat().st_size < before / 2
        assert (await history.query(Query(CHANNEL))).total == 9000

    run(tmp_path, body)


def test_enough_messages_start_a_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_tail, "TAIL_MESSAGES", 50)

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]') for _ in range(49)])
        await history.query(Query(CHANNEL))
        assert not history._intake.due()
        await log.append([message(b'[{"n":"a","v":1}]')])
        await until(lambda: history.counters.compactions == 1)
        assert history.cursor == 50

    run(tmp_path, body)


def test_a_log_about_to_drop_messages_starts_a_compaction(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        history = History.open(tmp_path / "history.db", log)
        for part in range(50):
            await log.append([message(b'[{"n":"a","v":%d}]' % n, at=part) for n in range(100)])
            assert (await history.query(Query(CHANNEL))).total == 100 * (part + 1)
            await until(lambda: not history._intake.due())
        assert log.gaps() == []
        assert history.counters.compactions > 2
        await history.close()
        await log.close()

    asyncio.run(main())


def test_it_rests_longer_while_the_log_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def body(log: Log, history: History) -> None:
        clock = SimpleNamespace(monotonic=lambda: 11.0)
        monkeypatch.setattr(history_module, "time", clock)

        async def rest(seconds: float) -> None:
            rests.append(seconds)

        monkeypatch.setattr(history_module, "BUSY", 10)
        monkeypatch.setattr(history_module.asyncio, "sleep", rest)
        await history._rest(10.0)
        for _ in range(11):
            log.post([message(b'[{"n":"a","v":1}]')])
        await history._rest(10.0)
        monkeypatch.undo()

    run(tmp_path, body)
    assert rests == [history_module.REST, history_module.REST_BUSY]


def test_messages_that_are_no_senml_are_counted_and_passed_over(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b"no senml"), message(b'[{"n":"a","v":1}]')])
        assert (await history.query(Query(CHANNEL))).total == 1
        assert history.undecodable == 1

    run(tmp_path, body)


def test_a_damaged_chunk_is_set_aside_counted_and_never_shown(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(20)])
        await log.append([message(b'[{"n":"b","v":%d}]' % n, at=n) for n in range(5)])
        await history.query(Query(CHANNEL))
        await history._compact()
        history._store._conn.execute(
            "UPDATE chunk SET body = substr(body, 1, 20) || x'55' || substr(body, 22) WHERE count = 20"
        )
        page = await history.query(Query(CHANNEL, limit=100))
        assert {name for name, _ in shown(page)} == {"b"}  # type: ignore[misc]
        await until(lambda: history.counters.damaged_chunks == 1)
        assert history.counters.damaged_records == 20
        page = await history.query(Query(CHANNEL, limit=100))
        assert page.total == 5
        assert history._store._conn.execute("SELECT count(*) FROM damaged").fetchone() == (1,)

    run(tmp_path, body)


def test_times_from_an_unset_clock_shift_and_given_times_do_not(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        stamped = msgspec.structs.replace(message(b'[{"n":"a","v":1}]', at=-1000), boot="boot-1")
        given = b'[{"n":"b","v":2,"t":%d},{"n":"c","v":3,"t":-5}]' % T0
        mixed = msgspec.structs.replace(message(given, at=-1000), boot="boot-1")
        other = msgspec.structs.replace(message(b"x", at=-1000, content_type=OCTET_STREAM), boot="boot-1")
        await log.append([stamped, mixed, other])
        for compacted in (False, True):
            if compacted:
                log.correct("boot-1", 1_000_000_000_000, TimeQuality.NTP)
            page = await history.query(Query(CHANNEL))
            by = 0 if compacted else -1000
            found = {item.name: item.time - T0 for item in page.messages}  # type: ignore[union-attr]
            assert found == {"a": by, "b": 0, "c": by - 5}
            octets = await history.query(Query(CHANNEL, format="octets"))
            assert octets.messages[0].created == int((T0 + by) * 1e9)  # type: ignore[union-attr]
            await history._compact()
            again = await history.query(Query(CHANNEL))
            assert msgspec.json.encode(again.messages) == msgspec.json.encode(page.messages)
        in_range = await history.query(Query(CHANNEL, from_s=T0 - 0.5, to_s=T0 + 0.5))
        assert in_range.total == 2

    run(tmp_path, body)


def test_numbers_of_the_log_that_began_again_are_taken(tmp_path: Path) -> None:
    async def fill(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(10)])
        await history.query(Query(CHANNEL))
        await history._compact()

    async def again(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":10}]', at=10)])
        assert (await history.query(Query(CHANNEL))).total == 11

    run(tmp_path, fill)
    for path in tmp_path.glob("log.db*"):
        path.unlink()
    run(tmp_path, again)


def test_a_start_reads_no_more_of_the_log_back_than_the_tail_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(3000)])

    async def again(log: Log, history: History) -> None:
        assert history.tail_records < 1200
        await until(lambda: history.behind == 0)
        assert (await history.query(Query(CHANNEL))).total == 3000

    run(tmp_path, fill)
    monkeypatch.setattr(history_tail, "TAIL_RECORDS", 600)
    run(tmp_path, again)


def test_a_disk_that_takes_nothing_leaves_the_history_readable_until_it_does(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async def fill(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n) for n in range(10)])
        await history.query(Query(CHANNEL))
        await history._compact()

    def refused(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    async def again(log: Log, history: History) -> None:
        assert history.read_only
        assert history.set_aside is None
        await log.append([message(b'[{"n":"a","v":10}]', at=10)])
        assert (await history.query(Query(CHANNEL))).total == 11
        await until(lambda: "the disk takes nothing" in caplog.text)
        mocker.stop(broken)
        history._wake.set()
        await until(lambda: not history.read_only)
        assert (await history.query(Query(CHANNEL))).total == 11
        await history._compact()
        assert (await history.query(Query(CHANNEL))).total == 11
        assert history.tail_records == 0

    run(tmp_path, fill)
    broken = mocker.patch.object(history_store, "open_writer", side_effect=refused)
    run(tmp_path, again)


def test_what_says_it_is_json_and_is_not_is_kept_as_it_is(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        payloads = [b"[1, 2", b"[" * 5000, b'{"a"', b"[]"]
        await log.append([message(payload, content_type=JSON) for payload in payloads])
        page = await history.query(Query(CHANNEL, format="json"))
        assert page.total == 3  # an empty array holds nothing
        shown = msgspec.to_builtins(page.messages)
        assert shown[-1]["payload"] == "WzEsIDI="
        assert shown[-1]["content_type"] == JSON
        await history._compact()
        assert msgspec.to_builtins((await history.query(Query(CHANNEL, format="json"))).messages) == shown

    run(tmp_path, body)


def test_names_that_nobody_uses_make_room_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"s%d","v":1}]' % n, at=n * 86_400) for n in range(20)])
        await history.query(Query(CHANNEL))
        await history._compact()
        await history._drop_before(T0 + 15.5 * 86_400)
        assert (await history.query(Query(CHANNEL))).total == 4

    async def again(log: Log, history: History) -> None:
        assert history.series == 4
        await log.append([message(b'[{"n":"new","v":1}]', at=30 * 86_400)])
        page = await history.query(Query(CHANNEL))
        assert [name for name, _ in shown(page)] == ["new", "s19", "s18", "s17", "s16"]  # type: ignore[misc]

    run(tmp_path, body)
    monkeypatch.setattr(history_store, "MAX_SERIES", 10)
    run(tmp_path, again)


def test_a_history_that_is_closed_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await history.close()
        with pytest.raises(Busy):
            await history.query(Query(CHANNEL))
        await log.close()

    asyncio.run(main())


def test_it_closes_also_when_it_is_woken_at_that_moment(tmp_path: Path) -> None:
    """A cancellation must not be lost between the wake-up and the wait; power-cut runs met this as a hang."""

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        while "wait" not in str(history._task.get_coro().cr_await):  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0)  # until it has nothing to do
        history._wake.set()
        closing = asyncio.create_task(history.close())
        await asyncio.wait({closing}, timeout=10)
        assert closing.done()
        await log.close()

    asyncio.run(main())

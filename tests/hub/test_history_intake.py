"""What the history takes in: each message once, within bounds, behind live messages."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from pytest_mock import MockerFixture

from hub import history as history_module
from hub import (
    history_intake,
    history_tail,
)
from hub.errors import Busy
from hub.history import History, Query
from hub.history_tail import Tail
from hub.log import Log
from hub.message import JSON
from tests.hub.history_world import CHANNEL, message, run, until


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


def test_how_many_records_there_are_is_known_without_looking_at_each_series(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1},{"n":"b","v":2}]', at=n) for n in range(20)])
        await history.query(Query(CHANNEL))
        spread = mocker.patch.object(Tail, "spread", side_effect=AssertionError("rows are to gather on"))
        known, history._tail.series = history._tail.series, {}
        assert history.records == 40
        history._tail.series = known
        mocker.stop(spread)

    run(tmp_path, body)


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

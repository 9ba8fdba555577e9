"""What befalls a history: full and failing disks, damage, age, size, and its end."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from hub import (
    history_pieces,
    history_store,
    history_tail,
)
from hub.errors import Busy
from hub.history import History, Query
from hub.log import Log
from hub.message import OCTET_STREAM
from tests.hub.history_world import CHANNEL, T0, message, run, shown, until


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
        assert page.total == kept == history.records

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
        assert page.total == 5 == history.records
        assert history._store._conn.execute("SELECT count(*) FROM damaged").fetchone() == (1,)

    run(tmp_path, body)


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

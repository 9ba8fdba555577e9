"""Steps of compaction do not wait for the disk: what a power cut and a failed flush make of that."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from hub import history_store, wal
from hub.database import open_writer
from hub.history import CURSOR, History
from hub.history_model import HistoryRecord, Query
from hub.log import Log
from hub.message import SENML_JSON, Message

from .conftest import FailingDisk, disk_error

SERIES = 12
MESSAGES = 240
HEADER, FRAME, PAGE = 32, 24, 4096  # of a WAL, in bytes


async def fill(log: Log, first: int = 0, count: int = MESSAGES) -> None:
    await log.append(
        [
            Message(
                "channel",
                "",
                "thing",
                "mqtt",
                SENML_JSON,
                b'[{"n":"s%d","t":%d,"v":%d}]' % (number % SERIES, 1_700_000_000 + number, number),
                1_700_000_000 * 10**9,
            )
            for number in range(first, first + count)
        ]
    )


async def values(history: History) -> Counter[float]:
    found: Counter[float] = Counter()
    async for part in history.export(Query("channel")):
        for record in part:
            assert isinstance(record, HistoryRecord)
            assert record.value is not None
            found[record.value] += 1
    assert (await history.query(Query("channel"))).total == found.total() == history.records
    return found


async def compact(history: History, *, to_the_end: bool = True) -> None:
    """A step for each series; without its end as if the power went before it."""
    if to_the_end:
        await history._compact()
        return
    finish = history._store.finish
    history._store.finish = cut_off  # type: ignore[method-assign, assignment]
    with pytest.raises(InterruptedError):
        await history._compact()
    history._store.finish = finish  # type: ignore[method-assign]


def cut_off(upto: int) -> None:
    raise InterruptedError


def after_a_power_cut(folder: Path, copy: Path, kept: int) -> Path:
    """The files as they lie on the disk when only `kept` commits of the history's WAL have come there."""
    copy.mkdir()
    for path in folder.glob("*.db*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, copy / path.name)
    commits = wal.look(copy / "history.db").commits
    frames = commits[kept - 1] if kept else 0
    os.truncate(copy / "history.db-wal", HEADER + frames * (FRAME + PAGE) + (PAGE // 2 if kept % 2 else 0))
    return copy


@pytest.fixture(autouse=True)
def a_step_for_each_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_store, "STEP_S", 0.0)


def test_what_a_power_cut_takes_of_a_compaction_is_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()

    async def before() -> int:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log)
        await fill(log)
        await compact(history)
        await fill(log, MESSAGES)
        flushed = len(wal.look(folder / "history.db").commits)
        await values(history)
        await compact(history, to_the_end=False)
        assert history.tail_records == 0
        commits = len(wal.look(folder / "history.db").commits)
        assert commits >= flushed + SERIES
        for kept in range(flushed, commits + 1, 3):
            after_a_power_cut(folder, tmp_path / str(kept), kept)
        await history.close()
        await log.close()
        return commits - flushed

    async def after(folder: Path) -> tuple[int, int]:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log)
        again, lost = len(history._tail.skip), history.lost
        assert await values(history) == Counter(map(float, range(2 * MESSAGES)))
        await compact(history)
        assert await values(history) == Counter(map(float, range(2 * MESSAGES)))
        assert not lost
        await history.close()
        await log.close()
        return again, history.cursor

    steps = asyncio.run(before())
    skipped = [
        asyncio.run(after(part))
        for part in sorted(tmp_path.iterdir(), key=lambda path: path.name.rjust(9))
        if part != folder
    ]
    assert [series for series, _ in skipped] == list(range(0, steps + 1, 3))
    assert {cursor for _, cursor in skipped} == {2 * MESSAGES}


@pytest.mark.parametrize("dropped", [0, 100])
def test_what_is_gone_although_it_was_flushed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dropped: int
) -> None:
    """No power cut does this, a damaged WAL does. What the log has no more is missing."""
    folder, copy = tmp_path / "whole", tmp_path / "copy"
    folder.mkdir()

    async def before() -> None:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log)
        opened = len(wal.look(folder / "history.db").commits)
        await fill(log)
        await history.query(Query("channel"))
        await compact(history)
        await log.append([])
        await log.flush()
        after_a_power_cut(folder, copy, opened)
        await history.close()
        await log.close()

    async def after() -> None:
        log = Log.open(copy / "log.db")
        assert log.cursor(CURSOR) == MESSAGES
        history = History.open(copy / "history.db", log)
        assert await values(history) == Counter(map(float, range(dropped, MESSAGES)))
        if dropped:
            assert history.lost.startswith(f"messages 1 to {dropped} are missing from the history")
        else:
            assert history.lost == ""
        await history.close()
        await log.close()

    asyncio.run(before())
    with contextlib.closing(sqlite3.connect(copy / "log.db")) as conn, conn:
        conn.execute("DELETE FROM log WHERE seq <= ?", (dropped,))
    with caplog.at_level(logging.ERROR, "hub.history"):
        asyncio.run(after())
    assert f"ends at message 0 and had come to {MESSAGES}" in caplog.text


class Spied(sqlite3.Connection):
    """Notes for each commit whether it waits for the disk."""

    commits: ClassVar[list[bool]] = []

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT":
            (level,) = super().execute("PRAGMA synchronous").fetchone()
            Spied.commits.append(level >= 2)
        return super().execute(sql, *args)  # type: ignore[arg-type]


def test_only_the_end_of_a_compaction_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await fill(log)
        await history.query(Query("channel"))
        del Spied.commits[:]
        await compact(history)
        assert Spied.commits == [False] * SERIES + [True]
        del Spied.commits[:]
        assert history._store.set_chunk_aside(1) != (0, 0)
        assert sum(len(removed) for removed in history._store.drop_before(2e9)) == SERIES - 1
        assert Spied.commits == [True, True]
        await history.close()
        await log.close()

    monkeypatch.setattr(history_store, "open_writer", partial(open_writer, connection=Spied))
    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "at", "goes_on"),
    [
        pytest.param(sqlite3.SQLITE_IOERR_FSYNC, "COMMIT", False, id="flush at the end"),
        pytest.param(sqlite3.SQLITE_IOERR_FSYNC, "PRAGMA wal_checkpoint", False, id="flush of a checkpoint"),
        pytest.param(sqlite3.SQLITE_FULL, "COMMIT", True, id="control: a full disk"),
    ],
)
def test_after_a_failed_flush_nothing_more_is_called_compacted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing_disk: type[FailingDisk],
    code: int,
    at: str,
    *,
    goes_on: bool,
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await fill(log)
        await history.query(Query("channel"))
        await compact(history, to_the_end=False)
        failing_disk.at, failing_disk.fault = at, disk_error(code, "disk I/O error")
        with pytest.raises(sqlite3.OperationalError, match="I/O error"):
            await asyncio.to_thread(history._store.finish, MESSAGES)
        failing_disk.fault = None  # the disk says it is well again; its promise is worth nothing
        await fill(log, MESSAGES)
        await history.query(Query("channel"))
        if goes_on:
            await compact(history)
        else:
            with pytest.raises(sqlite3.OperationalError, match="the next start"):
                await compact(history)
            assert log.cursor(CURSOR) == 0
        assert await values(history) == Counter(map(float, range(2 * MESSAGES)))
        await history.close()
        await log.close()

    async def later() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await values(history)
        await compact(history)
        assert await values(history) == Counter(map(float, range(2 * MESSAGES)))
        assert log.cursor(CURSOR) == history.cursor == 2 * MESSAGES
        await history.close()
        await log.close()

    with monkeypatch.context() as patch:
        patch.setattr(history_store, "open_writer", partial(open_writer, connection=failing_disk))
        patch.setattr(history_store, "CHECKPOINT_FRAMES", 1)
        asyncio.run(main())
    asyncio.run(later())


def test_the_wal_moves_into_the_file_before_it_is_long(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        for number in range(6):
            await fill(log, number * MESSAGES)
            await history.query(Query("channel"))
            await compact(history)
            assert wal.frames(tmp_path / "history.db") <= 3 * 8
        assert history.counters.longest_checkpoint_s > 0
        assert history.counters.longest_step_s >= history.counters.longest_held_s > 0
        await history.close()
        await log.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_store, "CHECKPOINT_FRAMES", 8)
        asyncio.run(main())

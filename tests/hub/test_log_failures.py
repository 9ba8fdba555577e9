"""What the log does when the disk fails, when it is full, and when its file is damaged."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import sqlite3
from pathlib import Path

import pytest

from hub import database, disk, log_writer
from hub import log as log_module
from hub.database import Migration
from hub.disk import DiskState
from hub.errors import Busy, LogFailed, LogFull
from hub.log import Log

from .conftest import FailingDisk, MakeMessage, disk_error


@pytest.mark.parametrize("at", ["COMMIT", "BEGIN", "INSERT INTO log"])
def test_nothing_is_acknowledged_after_a_failed_commit_and_nothing_is_tried_again(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    io_error: sqlite3.OperationalError,
    at: str,
) -> None:
    async def main() -> None:
        failures: list[LogFailed] = []
        committed: list[int] = []
        log = Log.open(tmp_path / "log.db", connection=failing_disk, on_failure=failures.append)
        log.on_commit(lambda messages: committed.extend(message.seq for message in messages))
        await log.append([make_message(0)])
        failing_disk.at, failing_disk.fault = at, io_error

        first = [asyncio.create_task(log.append([make_message(n)])) for n in range(1, 4)]
        await asyncio.sleep(0)  # they are with the writer; these wait for its next commit
        later = [asyncio.create_task(log.append([make_message(n)])) for n in range(4, 7)]
        answers = await asyncio.gather(*first, *later, return_exceptions=True)

        assert [type(answer) for answer in answers] == [LogFailed] * 6
        assert committed == [1]
        assert len(failures) == 1
        assert failing_disk.attempts == 1

        failing_disk.fault = None  # the disk says it is well again; its promise is worth nothing
        with pytest.raises(LogFailed):
            await log.append([make_message(7)])
        with pytest.raises(LogFailed):
            log.post([make_message(8)])
        assert log.committed_seq == 1
        await log.close()

        log = Log.open(tmp_path / "log.db")  # the process starts again
        assert [message.payload for message in log.read(0)] == [make_message(0).payload]
        (seq,) = await log.append([make_message(9)])
        assert seq > 7  # numbers that live listeners have seen are not used again
        await log.close()

    asyncio.run(main())


def test_callbacks_hear_of_the_failure(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    io_error: sqlite3.OperationalError,
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", connection=failing_disk)
        failing_disk.fault = io_error
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        log.submit([make_message()], (), answer.set_result)
        assert isinstance(await answer, LogFailed)
        await log.close()

    asyncio.run(main())


def test_a_full_disk_refuses_and_recovers_without_a_restart(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    full_error: sqlite3.OperationalError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_writer, "PROBE_S", 0.01)

    async def main() -> None:
        failures: list[LogFailed] = []
        states: list[DiskState] = []
        log = Log.open(tmp_path / "log.db", connection=failing_disk, on_failure=failures.append)
        log.on_state(states.append)
        await log.append([make_message(0)])
        log.move_cursor("cloud", 7)
        failing_disk.fault = full_error
        with pytest.raises(LogFull) as refused:
            await log.append([make_message(1)])
        assert (refused.value.mqtt_reason, refused.value.http_status) == (0x97, 507)
        assert "the disk is full" in refused.value.reason
        assert (log.state, states) == ("full", [DiskState.FULL])
        assert "full" in log.state_reason
        with pytest.raises(LogFull):  # not tried: it is known already
            await log.append([make_message(1)])
        with pytest.raises(LogFull):
            await log.flush()
        live: list[int] = []
        log.on_append(lambda messages: live.extend(message.seq for message in messages))
        (shown,) = log.post([make_message(2)])  # nobody was promised anything: who listens sees it
        assert live == [shown]
        failing_disk.fault = None
        await state_is(log, DiskState.OK)
        assert log.state_reason == ""
        (seq,) = await log.append([make_message(3)])
        assert seq > shown
        assert [message.seq for message in log.read(0)] == [1, seq]
        assert log.counters.failed == 3
        assert log.query("SELECT seq FROM cursor") == [(7,)]  # moved although its first commit failed
        assert log.message_count == log.count_after(0) == 2
        assert failures == []
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert log.message_count == log.count_after(0) == 2
        await log.close()

    asyncio.run(main())


def test_counters_are_still_written_where_messages_find_no_room(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    full_error: sqlite3.OperationalError,
) -> None:
    """A frame counter that came with a message lasts, although the message itself could not be kept."""
    table = Migration("test/1", ("CREATE TABLE counter(n INTEGER)",))

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", connection=failing_disk, migrations=[table])
        failing_disk.at, failing_disk.fault = "INSERT INTO log", full_error
        log.post([make_message(1)], [("INSERT INTO counter VALUES (1)", ())])
        with pytest.raises(LogFull):
            await log.append([make_message(2)], [("INSERT INTO counter VALUES (2)", ())])
        assert log.state == "full"
        await log.write([("INSERT INTO counter VALUES (3)", ())])
        log.post([make_message(4)], [("INSERT INTO counter VALUES (4)", ())])
        await log.write([("INSERT INTO counter VALUES (5)", ())])
        assert log.query("SELECT n FROM counter") == [(1,), (3,), (4,), (5,)]
        assert log.read(0) == []
        await log.close()

    asyncio.run(main())


def test_writes_that_wait_for_a_full_disk_are_bounded(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    full_error: sqlite3.OperationalError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "MAX_PENDING", 20)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", connection=failing_disk, commit_interval_s=3600)
        failing_disk.fault = full_error
        with pytest.raises(LogFull):
            await log.append([make_message()])
        for _ in range(20):
            log.post([make_message()], [("DELETE FROM gap", ())])
        with pytest.raises(Busy):
            log.post([make_message()], [("DELETE FROM gap", ())])
        assert log.counters.busy == 1
        await log.close()

    asyncio.run(main())


def test_a_log_that_ends_while_the_disk_is_full_ends(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    full_error: sqlite3.OperationalError,
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", connection=failing_disk, commit_interval_s=3600)
        failing_disk.fault = full_error
        log.post([make_message(1)])
        log.move_cursor("cloud", 3)
        with pytest.raises(LogFull):
            await log.append([make_message(2)])
        await log.close()
        failing_disk.fault = None
        log = Log.open(tmp_path / "log.db")
        (seq,) = await log.append([make_message(3)])
        assert seq > 2
        await log.close()

    asyncio.run(main())


def test_a_disk_that_becomes_read_only_while_running_is_waited_for(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ext4 does with errors=remount-ro: each write fails as an I/O error from then on."""
    monkeypatch.setattr(log_writer, "PROBE_S", 0.01)
    write_error = disk_error(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error")
    found: list[DiskState | None] = [DiskState.READ_ONLY]
    monkeypatch.setattr(disk, "probe", lambda folder: found[0])

    async def main() -> None:
        failures: list[LogFailed] = []
        log = Log.open(tmp_path / "log.db", connection=failing_disk, on_failure=failures.append)
        await log.append([make_message(0)])
        failing_disk.at, failing_disk.fault = "BEGIN", write_error
        with pytest.raises(LogFull, match="read-only"):
            await log.append([make_message(1)])
        assert (log.state, failures) == ("read-only", [])
        assert [message.seq for message in log.read(0)] == [1]
        for refused in (log.append([make_message(2)]), log.write([("DELETE FROM state", ())])):
            with pytest.raises(LogFull, match="read-only"):
                await refused
        (shown,) = log.post([make_message(3)])
        failing_disk.fault, found[0] = None, None
        await state_is(log, DiskState.OK)
        (seq,) = await log.append([make_message(4)])
        assert seq > shown
        assert [message.seq for message in log.read(0)] == [1, seq]
        assert log.count_after(0) == log.message_count == 2
        await log.close()

    asyncio.run(main())


def test_a_failed_flush_is_fatal_whatever_the_disk_says(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    io_error: sqlite3.OperationalError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk, "probe", lambda folder: DiskState.READ_ONLY)

    async def main() -> None:
        failures: list[LogFailed] = []
        log = Log.open(tmp_path / "log.db", connection=failing_disk, on_failure=failures.append)
        failing_disk.fault = io_error
        with pytest.raises(LogFailed) as failed:
            await log.append([make_message(1)])
        assert not isinstance(failed.value, LogFull)
        assert failures == [failed.value]
        await log.close()

    asyncio.run(main())


async def state_is(log: Log, state: DiskState) -> None:
    changed = asyncio.Event()
    forget = log.on_state(lambda now: changed.set() if now is state else None)
    if log.state is not state:
        await asyncio.wait_for(changed.wait(), 30)
    forget()


def test_a_really_full_file_refuses_and_recovers(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself runs out of pages, in the middle of a transaction."""
    monkeypatch.setattr(log_writer, "PROBE_S", 0.01)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        conn = log._writer._conn
        assert conn
        (pages,) = conn.execute("PRAGMA page_count").fetchone()
        conn.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(LogFull):
            await log.append([make_message(n, payload=bytes(1000)) for n in range(100)])
        assert log.read(0) == []
        conn.execute("PRAGMA max_page_count = 1000000")
        await state_is(log, DiskState.OK)
        await log.append([make_message(1)])
        assert len(log.read(0)) == 1
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"\0" * len(data), id="all zeros"),
        pytest.param(lambda data: random.Random(1).randbytes(len(data)), id="noise"),
        pytest.param(lambda data: data[:3000], id="cut short"),
        pytest.param(lambda data: data[:16] + b"\xff" * 84 + data[100:], id="header"),
        pytest.param(lambda data: data[:1024] + b"\xa5" * (len(data) - 1024), id="pages"),
        pytest.param(lambda data: b"SQLite format 2\0" + data[16:], id="other version"),
    ],
)
def test_a_damaged_file_is_set_aside_and_said_so(
    tmp_path: Path,
    make_message: MakeMessage,
    caplog: pytest.LogCaptureFixture,
    damage: object,
) -> None:
    path = tmp_path / "log.db"

    async def main() -> None:
        log = Log.open(path)
        await log.append([make_message(n) for n in range(50)])
        last = log.committed_seq
        await log.close()
        damaged = damage(path.read_bytes())  # type: ignore[operator]
        path.write_bytes(damaged)
        with caplog.at_level(logging.ERROR):
            log = Log.open(path)
        assert log.set_aside is not None
        assert log.set_aside.read_bytes() == damaged
        assert log.counters.set_aside == 1
        assert "is damaged" in caplog.text
        (seq,) = await log.append([make_message()])
        assert seq > last  # the numbers survive the database
        assert len(log.read(0)) == 1
        await log.close()
        log = Log.open(path)
        assert log.set_aside is None
        await log.close()

    asyncio.run(main())


def test_an_empty_file_is_a_new_log(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        (tmp_path / "log.db").touch()
        log = Log.open(tmp_path / "log.db")
        assert log.set_aside is None
        assert await log.append([make_message()]) == [1]
        await log.close()

    asyncio.run(main())


def test_a_log_that_is_gone_is_said_so(
    tmp_path: Path, make_message: MakeMessage, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        (last,) = await log.append([make_message()])
        await log.close()
        assert "what it held is lost" not in caplog.text
        (tmp_path / "log.db").unlink()
        log = Log.open(tmp_path / "log.db")
        assert "what it held is lost" in caplog.text
        (seq,) = await log.append([make_message()])
        assert seq > last
        await log.close()

    asyncio.run(main())


def test_only_the_last_damaged_files_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(database.KEPT_DAMAGED + 2):
            (tmp_path / "log.db").write_bytes(b"no database, no database, no database" * 100)
            await Log.open(tmp_path / "log.db").close()

    asyncio.run(main())
    assert len(list(tmp_path.glob("log.db.damaged-?"))) == database.KEPT_DAMAGED


def test_random_damage_never_keeps_the_log_from_starting(tmp_path: Path, make_message: MakeMessage) -> None:
    path = tmp_path / "log.db"
    rng = random.Random(7)

    async def build() -> None:
        log = Log.open(path)
        await log.append([make_message(n) for n in range(300)])
        log.move_cursor("cloud", 100)
        await log.close()

    asyncio.run(build())
    whole = path.read_bytes()

    passed_over = 0

    async def start() -> bool:
        nonlocal passed_over
        log = Log.open(path)
        (seq,) = await log.append([make_message()])
        kept = log.read(0, None, 1000)
        assert [message.payload for message in kept[:-1]] == [
            make_message(m.seq - 1).payload for m in kept[:-1]
        ]
        assert kept[-1].seq == seq
        passed_over += log.damaged_rows
        aside = log.set_aside is not None
        await log.close()
        return aside

    set_aside = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        set_aside += asyncio.run(start())
    assert set_aside > 20
    assert passed_over > 20


def test_damage_found_while_running_is_looked_for_at_the_next_start(
    tmp_path: Path,
    make_message: MakeMessage,
    failing_disk: type[FailingDisk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file too large to be checked page by page at each start is, once SQLite has stumbled over it."""
    monkeypatch.setattr(database, "FULL_CHECK_BYTES", 0)
    path = tmp_path / "log.db"
    thorough: list[bool] = []
    plain_check = database.check

    def check(conn: sqlite3.Connection, checked: Path, *, thorough_: bool = False, **more: bool) -> None:
        thorough.append(more.get("thorough", thorough_))
        plain_check(conn, checked, **more)

    monkeypatch.setattr(log_writer, "check", check)

    async def main() -> None:
        log = Log.open(path, connection=failing_disk)
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        failing_disk.at, failing_disk.fault = "INSERT INTO log", error  # type: ignore[assignment]
        with pytest.raises(LogFailed):
            await log.append([make_message()])
        failing_disk.fault = None
        await log.close()
        await Log.open(path).close()
        await Log.open(path).close()

    asyncio.run(main())
    assert thorough == [False, True, False]


def test_a_large_file_is_looked_through_for_a_few_seconds_at_most(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time is up, a file in which damage was met gives way, and another is taken as it is."""
    path = tmp_path / "log.db"
    monkeypatch.setattr(database, "CHECK_S", -1.0)
    monkeypatch.setattr(database, "CHECK_TURNS", 1)
    monkeypatch.setattr(database, "FULL_CHECK_BYTES", 100_000)

    async def start(kept: int, aside: bool) -> None:
        log = Log.open(path)
        assert log.message_count == kept
        assert (log.set_aside is not None) is aside
        await log.append(
            [make_message(n, payload=bytes(random.Random(n).randbytes(2_000))) for n in range(100)]
        )
        await log.close()

    asyncio.run(start(0, False))
    asyncio.run(start(100, False))
    path.with_name("log.db.suspect").touch()
    asyncio.run(start(0, True))
    asyncio.run(start(100, False))


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take a part of what is written, and refuse the rest."""
    path = tmp_path / "file"
    database.write_durably(path, b"before")
    room = [3, 4, 0]
    write = os.write

    def scarce(handle: int, data: bytes) -> int:
        part = room.pop(0)
        if not part:
            raise OSError(errno.ENOSPC, "no space left")
        return write(handle, data[:part])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", scarce)
        with pytest.raises(OSError, match="no space"):
            database.write_durably(path, b"0123456789")
        assert path.read_bytes() == b"before"
        assert os.listdir(tmp_path) == ["file"]
        room[:] = [3, 4, 100]
        database.write_durably(path, b"0123456789")
    assert path.read_bytes() == b"0123456789"


def test_numbers_left_unused_by_a_crash_are_no_loss(tmp_path: Path, make_message: MakeMessage) -> None:
    """A log that was not closed begins a new block; the hole counts neither as messages nor as a gap."""
    path = tmp_path / "log.db"

    async def crash(expected: int) -> int:
        log = Log.open(path, max_messages=1000)
        log.cursor("cloud")
        await log.append([make_message(n) for n in range(30)])
        assert log.message_count == expected == log.query("SELECT count(*) FROM log")[0][0]
        seq = log.committed_seq
        # end the writer as a kill would: without giving the reserved numbers back
        log._writer._give_back_reservation = lambda: None  # type: ignore[method-assign]
        await log.close()
        return seq

    first = asyncio.run(crash(30))
    second = asyncio.run(crash(60))
    third = asyncio.run(crash(90))
    assert first == 30
    assert second > first + log_writer.RESERVE // 2
    assert third > second + log_writer.RESERVE // 2


def test_a_damaged_mark_is_ignored(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([make_message()])
        await log.close()
        (tmp_path / "log.db.reserved").write_bytes(b"\xff\xfe what")
        log = Log.open(tmp_path / "log.db")
        assert await log.append([make_message()]) == [2]
        await log.close()

    asyncio.run(main())


def test_numbers_are_reserved_again_before_a_block_ends(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RESERVE", 100)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        for n in range(50):
            seqs = await log.append([make_message(n) for _ in range(20)])
            (reserved,) = log.query("SELECT value FROM state WHERE name = 'reserved'")[0]
            assert reserved > seqs[-1] + 40
            assert int((tmp_path / "log.db.reserved").read_text()) >= reserved
        await log.close()

    asyncio.run(main())


def test_a_damaged_row_is_passed_over_by_every_reader_and_counted_once(
    tmp_path: Path, make_message: MakeMessage, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([make_message(n) for n in range(5)])
        await log.write([("UPDATE log SET body = zeroblob(length(body)) WHERE seq = 3", ())])
        other = log.reader()
        for _ in range(2):
            assert [message.seq for message in log.read(0)] == [1, 2, 4, 5]
            assert [message.seq for message in other.scan(0, None, 10)[0]] == [1, 2, 4, 5]
        assert log.read_one(3) is None
        assert log.damaged_rows == 1
        other.close()
        await log.close()

    asyncio.run(main())
    assert caplog.text.count("row 3 of the log is damaged") == 1

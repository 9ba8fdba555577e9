"""What the log lets go: by count, bytes, age and the disk's room; in steps, and never silently."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub import disk, log_retention, log_writer
from hub.errors import LogFull
from hub.log import Gap, Log
from hub.message import TimeQuality
from hub.timekeeping import KeptClock

from .conftest import MakeMessage

S = 1_000_000_000
HOUR = 3_600 * S
NOW = 1_790_000_000 * S
NTP, UNSET, RESTORED = TimeQuality.NTP, TimeQuality.UNSET, TimeQuality.RESTORED


async def settled(log: Log) -> None:
    """Wait until the writer has nothing left to tidy up."""
    await log.flush()
    for _ in range(3_000):
        if not log._writer._more:
            break
        await asyncio.sleep(0.01)
    await log.flush()


def at(now_ns: int, quality: TimeQuality = NTP) -> KeptClock:
    return KeptClock("boot", 0, quality, now_ns)


def test_messages_go_once_they_are_too_old_and_what_a_reader_misses_is_recorded(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_age_s=3_600)
        log.move_cursor("slow", 4)
        for n in range(3_000):
            log.post([make_message(created_ns=NOW + n * S, time=NTP, boot="boot")])
        await log.flush()
        log.keep_clock(at(NOW + 3_599 * S))
        await settled(log)
        assert log.first_seq == 1
        log.keep_clock(at(NOW + HOUR + 2_500 * S))
        await settled(log)
        assert log.first_seq == 2_501
        assert log.message_count == log.count_after(0) == 500
        assert log.gaps() == [Gap("slow", 5, 2_500, 2_496)]
        assert log.counters.gap_messages == 2_496
        await log.close()

    asyncio.run(main())


def test_nothing_goes_for_its_age_while_the_time_is_not_trusted(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_age_s=3_600)
        await log.append([make_message(created_ns=NOW, time=NTP, boot="boot") for _ in range(10)])
        for quality in (UNSET, RESTORED):
            log.keep_clock(at(2 * NOW, quality))  # 2083, says a clock nobody has set
            await settled(log)
        assert log.message_count == 10
        await log.close()

    asyncio.run(main())


def test_a_message_of_unknown_time_goes_with_the_next_known_one_after_it(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_age_s=3_600)
        await log.append([make_message(created_ns=5, time=UNSET, boot="never") for _ in range(10)])
        log.keep_clock(at(NOW))
        await settled(log)
        assert log.first_seq == 1  # 1970, they say; nobody knows
        await log.append([make_message(created_ns=NOW, time=NTP, boot="boot")])
        await log.append([make_message(created_ns=7, time=UNSET, boot="late") for _ in range(10)])
        log.keep_clock(at(NOW + 2 * HOUR))
        await settled(log)
        assert log.first_seq == 12
        log.correct("late", NOW - 7, NTP)  # they turn out to be of NOW as well
        log.keep_clock(at(NOW + 2 * HOUR))
        await settled(log)
        assert log.message_count == 0
        await log.close()

    asyncio.run(main())


def test_a_bound_that_was_lowered_is_reached_in_small_steps(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_retention, "SPARE_PAGES", 100)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        for n in range(20):
            await log.append([make_message(n * 500 + k, payload=bytes(500)) for k in range(500)])
        size = log.path.stat().st_size
        await log.close()
        log = Log.open(tmp_path / "log.db", max_messages=1_000)
        first: list[int] = []
        for n in range(3):
            await log.append([make_message(n)])
            first.append(log.first_seq)
        assert first[0] <= log_retention.RETENTION_STEP + 2
        monkeypatch.setattr(log_writer, "IDLE_S", 0.001)
        await settled(log)
        assert log.message_count == log.count_after(0) <= 1_000 + 64
        await log.close()
        assert log.path.stat().st_size < size // 3  # given back to the disk
        log = Log.open(tmp_path / "log.db")
        assert log.query("PRAGMA integrity_check") == [("ok",)]
        await log.close()

    asyncio.run(main())


def test_a_short_disk_costs_only_what_all_have_read(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LOOK_S", 0.0)
    free = [1 << 40]
    monkeypatch.setattr(disk, "free_bytes", lambda folder: free[0])

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", min_free_bytes=64 << 20)
        await log.append([make_message(n) for n in range(100)])
        log.move_cursor("one", 60)
        log.move_cursor("other", 30)
        await settled(log)
        assert log.first_seq == 1
        free[0] = 1 << 20
        await log.append([make_message()])
        await log.append([make_message()])
        assert (log.first_seq, log.gaps()) == (31, [])
        log.drop_cursor("one")
        log.drop_cursor("other")
        await log.append([make_message()])
        await log.append([make_message()])
        assert log.first_seq == 31  # with nobody to ask, everything stays
        await log.close()

    asyncio.run(main())


def test_the_wal_is_bounded_while_another_program_reads_without_end(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 6 << 20
    monkeypatch.setattr(log_writer, "MAX_WAL_BYTES", bound)
    monkeypatch.setattr(log_writer, "LOOK_S", 0.0)
    monkeypatch.setattr(log_writer, "PROBE_S", 0.01)
    wal = tmp_path / "log.db-wal"

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([make_message()])
        reader = log.reader()
        reader.connection.execute("BEGIN")
        reader.connection.execute("SELECT * FROM log").fetchall()
        stored = 1
        while log.state == "ok":
            await log.append([make_message(k, payload=bytes(1_000)) for k in range(100)])
            stored += 100
        with pytest.raises(LogFull, match="another program"):
            await log.append([make_message()])
        assert wal.stat().st_size < bound + (1 << 20)
        reader.connection.execute("COMMIT")
        reader.close()
        back = asyncio.Event()
        log.on_state(lambda state: back.set())
        if log.state != "ok":
            await asyncio.wait_for(back.wait(), 30)
        await log.append([make_message()])
        assert wal.stat().st_size < bound
        assert log.count_after(0) == stored + 1
        await log.close()

    asyncio.run(main())


def test_a_slow_reader_of_the_log_holds_no_wal_up(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        reader = log.reader()
        for _ in range(60):
            await log.append([make_message(k, payload=bytes(1_000)) for k in range(200)])
            reader.scan(0, None, 100)  # it never gets further
        assert (tmp_path / "log.db-wal").stat().st_size < 10 << 20
        reader.close()
        await log.close()

    asyncio.run(main())

"""Identity and counters that live in the log's file outlive its damage."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from hub import log_copy
from hub.database import Migration
from hub.log import Log
from hub.message import TimeQuality
from hub.timekeeping import KeptClock

from .conftest import MakeMessage

DEVICES = Migration(
    "test/1",
    (
        "CREATE TABLE device(eui TEXT PRIMARY KEY, key BLOB, fcnt INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE seen(eui TEXT PRIMARY KEY, n INTEGER)",
    ),
    copied={"device": 0.01},
    after_copy=("UPDATE device SET fcnt = fcnt + 512",),
)
ROWS = [("a", b"\x00\xff", 5), ("b", None, 7)]
INSERT = "INSERT INTO device VALUES (?, ?, ?)"


async def until(found: Path, before: bytes | None = None) -> None:
    for _ in range(3_000):
        if found.exists() and found.read_bytes() != before:  # noqa: ASYNC240
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{found.name} is not made")


def damage(path: Path) -> None:
    path.write_bytes(b"\0" * 20_000)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def build(path: Path) -> Log:
    log = Log.open(path, migrations=[DEVICES])
    await log.write([(INSERT, row) for row in ROWS])
    await until(path.with_name("log.db.copy"))
    return log


def test_a_damaged_log_takes_identity_from_the_copy_and_counters_jump_forward(
    tmp_path: Path, make_message: MakeMessage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"

    async def main() -> None:
        log = await build(path)
        await log.close()
        damage(path)
        log = Log.open(path, migrations=[DEVICES])
        assert log.set_aside is not None
        assert log.query("SELECT * FROM device") == [("a", b"\x00\xff", 517), ("b", None, 519)]
        assert "2 rows were taken from log.db.copy" in caplog.text
        await log.append([make_message()])
        await log.close()
        log = Log.open(path, migrations=[DEVICES])  # taken once, not at each start
        assert log.query("SELECT fcnt FROM device") == [(517,), (519,)]
        await log.close()

    asyncio.run(main())


def test_a_log_that_was_removed_takes_its_copy_too(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def main() -> None:
        await (await build(path)).close()
        path.unlink()
        log = Log.open(path, migrations=[DEVICES])
        assert log.query("SELECT eui, fcnt FROM device") == [("a", 517), ("b", 519)]
        await log.close()

    asyncio.run(main())


def test_a_change_of_a_copied_table_and_of_no_other_makes_a_new_copy(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    copy = path.with_name("log.db.copy")

    async def main() -> None:
        log = await build(path)
        first = copy.read_bytes()
        writer = log._writer._copy
        assert writer.delay_of("INSERT INTO seen VALUES (?, ?)") is None
        assert writer.delay_of("DELETE FROM device WHERE eui IN (SELECT eui FROM seen)") == 0.01
        assert writer.delay_of("update device set fcnt = 1") == 0.01
        await log.write([("UPDATE device SET fcnt = 9 WHERE eui = 'a'", ())])
        await until(copy, first)
        await log.close()

    asyncio.run(main())


def test_a_change_that_is_not_yet_copied_is_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Migration("test/1", DEVICES.statements, copied={"device": 3_600.0})
    path = tmp_path / "log.db"

    async def main() -> None:
        log = Log.open(path, migrations=[slow])
        await log.write([(INSERT, row) for row in ROWS])
        await log.close()
        path.unlink()
        log = Log.open(path, migrations=[slow])
        assert log.query("SELECT * FROM device") == ROWS
        await log.close()

    asyncio.run(main())


def test_columns_that_were_added_or_dropped_since_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    later = Migration(
        "test/1",
        ("CREATE TABLE device(eui TEXT PRIMARY KEY, fcnt INTEGER, name TEXT DEFAULT 'new')",),
        copied={"device": 1.0},
    )

    async def main() -> None:
        await (await build(path)).close()
        path.unlink()
        log = Log.open(path, migrations=[later])
        assert log.query("SELECT * FROM device") == [("a", 5, "new"), ("b", 7, "new")]
        await log.close()

    asyncio.run(main())


def test_a_copy_that_does_not_fit_is_ignored_and_the_log_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"
    strict = Migration(
        "test/1",
        ("CREATE TABLE device(eui TEXT PRIMARY KEY, fcnt INTEGER CHECK (fcnt > 100))",),
        {"device": 1.0},
    )

    async def main() -> None:
        await (await build(path)).close()
        path.unlink()
        log = Log.open(path, migrations=[strict])
        assert log.query("SELECT * FROM device") == []
        assert "does not fit and is ignored" in caplog.text
        await log.close()

    asyncio.run(main())


def test_a_damaged_copy_is_never_taken(tmp_path: Path) -> None:
    """A thousand damages: none is taken for whole, and none keeps the log from starting."""
    path = tmp_path / "log.db"
    asyncio.run(close_again(path))
    copy = path.with_name("log.db.copy")
    whole = copy.read_bytes()
    assert [tuple(row.values()) for row in log_copy.copied_rows(path)["device"]] == ROWS
    rng = random.Random(5)
    for _ in range(1_000):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        copy.write_bytes(data)
        assert log_copy.copied_rows(path) == {}

    async def start() -> None:
        log = Log.open(path, migrations=[DEVICES])
        assert log.query("SELECT * FROM device") == []
        await log.close()

    path.unlink()
    asyncio.run(start())


async def close_again(path: Path) -> None:
    await (await build(path)).close()


def test_a_crash_while_taking_the_copy_takes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    asyncio.run(close_again(path))
    damage(path)

    class Cut(Exception):
        pass

    def cut(self: log_copy.TableCopy, conn: sqlite3.Connection, found: object) -> int:
        raise Cut

    async def start() -> None:
        log = Log.open(path, migrations=[DEVICES])
        assert len(log.query("SELECT * FROM device")) == 2
        await log.close()

    with monkeypatch.context() as patched:
        patched.setattr(log_copy.TableCopy, "_fill", cut)
        with pytest.raises(Cut):
            asyncio.run(start())
    asyncio.run(start())


def test_what_is_known_of_the_clock_outlives_a_damaged_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def main() -> None:
        log = Log.open(path)
        kept = KeptClock("boot", 5, TimeQuality.NTP, 1_790_000_000_000_000_000)
        log.keep_clock(kept)
        await log.close()
        damage(path)
        log = Log.open(path)
        assert log.kept_clock == kept
        await log.close()

    asyncio.run(main())

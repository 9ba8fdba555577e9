"""A disk without room: nothing is acknowledged, nothing half done stays, and it goes on when there is room."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from hub.disk import DiskState

Open = Callable[..., Any]


class Disk(sqlite3.Connection):
    """A database whose disk is full while `full` is set."""

    full = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and Disk.full:
            super().execute("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return super().execute(sql, *args)


async def recovered(world: Any) -> None:
    """The log tries the disk again by itself."""
    async with asyncio.timeout(20):
        while world.hub.log.state is not DiskState.OK:  # noqa: ASYNC110 (the log tries in its own thread)
            await asyncio.sleep(0.01)


def test_nothing_is_acknowledged_while_the_disk_is_full(
    open_world: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(database=Disk) as world:
            a, _ = await world.session("a", "keeper", clean=False)
            b = await world.client("b")
            await b.subscribe((b.topic + "/#", 1))
            a.publish(a.topic + "/state", b"old", 1, 1, retain=True)
            assert await a.read() == (0x40, b"\x00\x01")
            assert (await b.message())[1] == b"old"
            monkeypatch.setattr("hub.log_writer.PROBE_S", 0.01)
            monkeypatch.setattr(Disk, "full", True)
            a.publish(a.topic + "/state", b"new", 2, 7, retain=True)
            assert await a.closed()
            assert await b.fence() == []
            assert world.door.counters["log_failures"] >= 1
            monkeypatch.setattr(Disk, "full", False)
            await recovered(world)
            a, present = await world.session("a", "keeper", clean=False)
            assert present
            a.publish(a.topic + "/event", b"again", 2, 7, dup=True)
            assert await a.read() == (0x50, b"\x00\x07")
            assert (await b.message())[1] == b"again"
            await b.subscribe((b.topic + "/state", 0), packet_id=2)
            assert (await b.message())[1] == b"old"
            await world.hub.log.write(())
            assert [m.payload for m in world.hub.log.read(0)] == [b"old", b"again"]

    asyncio.run(main())

"""The clock of downlinks: it asks when the server says, at once where that changes, and gives others their turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.downlink_clock import DownlinkClock
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Due
from gateway.lorawan.server import NetworkServer

FAR_NS = 1 << 62


@dataclass
class Server:
    """Something is due at `at_ns`, `left` times."""

    at_ns: int = FAR_NS
    left: int = 0
    asked: int = 0

    def next_due_ns(self, _now: Instant) -> int:
        return self.at_ns

    def due(self, _now: Instant) -> Due:
        self.asked += 1
        if not self.left:
            self.at_ns = FAR_NS
            return Due()
        self.left -= 1
        return Due(writes=[("", ())])


@dataclass
class Carried:
    done: list[Due] = field(default_factory=list)

    def carry_out(self, due: Due) -> None:
        self.done.append(due)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (many conditions, no event of their own)
            await asyncio.sleep(0)


def test_it_sleeps_until_something_is_due_and_a_change_wakes_it() -> None:
    async def main() -> None:
        server, carried = Server(), Carried()
        clock = DownlinkClock(cast(NetworkServer, server), cast(Any, carried), lambda: Instant(0, 0))
        task = asyncio.create_task(clock.run())
        await asyncio.sleep(0)
        assert server.asked == 0
        server.at_ns, server.left = 0, 3
        clock.wake()
        await until(lambda: len(carried.done) == 3)
        await until(lambda: server.asked == 4)
        assert len(carried.done) == 3, "nothing is carried out where nothing came of it"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_however_much_is_due_others_get_their_turn() -> None:
    async def main() -> None:
        server, carried = Server(0, 10_000), Carried()
        clock = DownlinkClock(cast(NetworkServer, server), cast(Any, carried), lambda: Instant(0, 0))
        task = asyncio.create_task(clock.run())
        for _ in range(5):
            await asyncio.sleep(0)
        assert 0 < len(carried.done) < 100
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

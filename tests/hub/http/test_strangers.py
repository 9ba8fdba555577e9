"""Whoever shows no valid credential hears so at a bounded rate, without others at his address being shut out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hub.http.limits import Limits
from hub.http.strangers import DELAY_S, MAX_WAITING, Strangers

Run = Callable[..., None]
LIMITS = Limits(stranger_rate=1.0, stranger_burst=3)
HERE, NEIGHBOUR, THERE = ("192.0.2.1", 1), ("192.0.2.2", 1), ("2001:db8::1", 1)


class World:
    """Answers at a clock that stands; `slept` is how long each answer waited that did."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.strangers = Strangers(LIMITS, lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def answer(self, status: int, client: Any = HERE, kind: str = "http.response.start") -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.strangers.patient({"client": client}, send)({"type": kind, "status": status})
        assert len(sent) == 1


def test_refusals_of_one_address_beyond_its_rate_wait_and_no_others_do() -> None:
    async def main() -> None:
        world = World()
        for _ in range(3):
            await world.answer(401)
        for status in (200, 202, 403, 404):
            await world.answer(status)
        await world.answer(401, NEIGHBOUR)
        assert world.slept == []
        await world.answer(401)
        await world.answer(401, kind="websocket.http.response.start")
        assert world.slept == [DELAY_S] * 2
        await world.answer(202)  # somebody else behind the same NAT, or the key was mended
        world.now += 1.0
        await world.answer(401)
        assert (world.slept, world.strangers.delayed) == ([DELAY_S] * 2, 2)

    asyncio.run(main())


def test_addresses_of_one_line_of_ipv6_share_the_rate_and_the_own_host_has_none() -> None:
    async def main() -> None:
        world = World()
        for n in range(5):
            await world.answer(401, (f"2001:db8::{n}", 1))
        assert len(world.slept) == 2
        for _ in range(9):
            await world.answer(401, ("127.0.0.1", 1))
            await world.answer(401, ("::ffff:127.0.0.1", 1))
            await world.answer(401, None)
        assert len(world.slept) == 2

    asyncio.run(main())


def test_without_a_rate_no_answer_waits() -> None:
    async def main() -> None:
        world = World()
        world.strangers = Strangers(
            Limits(stranger_rate=0.0, stranger_burst=1), lambda: world.now, world.sleep
        )
        for _ in range(200):
            await world.answer(401)
        assert world.slept == []

    asyncio.run(main())


def test_no_more_answers_wait_than_may() -> None:
    async def main() -> None:
        world = World()
        world.strangers.waiting = MAX_WAITING
        for _ in range(9):
            await world.answer(401)
        assert (world.slept, world.strangers.waiting) == ([], MAX_WAITING)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/things", "/channels/none/messages"])
def test_the_door_asks_at_every_request(run: Run, mocker: Any, path: str) -> None:
    async def scenario(site: Any) -> None:
        asked = mocker.patch("hub.http.strangers.address_of", return_value="192.0.2.1")
        wrong = {"authorization": "Thing wrong"}
        for method in ("GET", "POST"):
            answer: httpx.Response = await site.client.request(method, path, headers=wrong)
            assert answer.status_code == 401
        assert asked.call_count == 2
        assert "fluxgate_http_strangers_delayed_total 0" in (await site.client.get("/metrics")).text

    run(scenario)

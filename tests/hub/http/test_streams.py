"""Event streams through a real server: what the gateway's own routes rely on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.http.auth import principal_of, require_user
from hub.http.door import HttpDoor
from hub.http.problem import Problem
from hub.http.sse import Event, Feed, sse

Run = Callable[..., None]


class Source:
    """A route that streams what a test puts into it."""

    def __init__(self) -> None:
        self.feeds: list[Feed[Event]] = []
        self.connected = asyncio.Event()

    async def stream(self, request: Request) -> Response:
        require_user(request)
        feed: Feed[Event] = Feed(limit=2)
        response = sse(request, aiter(feed), lambda: principal_of(request) is not None)
        self.feeds.append(feed)
        self.connected.set()
        return response

    async def boom(self, request: Request) -> Response:
        raise Problem(418, "short and stout")

    @property
    def routes(self) -> list[Route]:
        return [Route("/live", self.stream), Route("/boom", self.boom)]


async def chunks(response: Any) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_raw():
        yield chunk


def test_events_reach_the_client_and_a_lagging_one_hears_what_it_missed(run: Run) -> None:
    source = Source()

    async def scenario(site: Any) -> None:
        assert (await site.client.get("/live")).status_code == 401
        assert (await site.client.get("/live", headers=site.thing)).status_code == 403
        assert (await site.client.get("/boom")).status_code == 418
        async with site.client.stream("GET", "/live", headers=site.user) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            parts = chunks(response)
            assert await anext(parts) == b": open\n\n"
            (feed,) = source.feeds
            feed.put(Event('{"n":1}', id="1"))
            assert await anext(parts) == b'id: 1\ndata: {"n":1}\n\n'
            for n in range(5):
                feed.put(Event(str(n)))
            feed.close()
            rest = b"".join([part async for part in parts])
            assert rest == b"event: lost\ndata: 3\n\ndata: 3\n\ndata: 4\n\n"
        assert (site.app.streams.open, site.app.streams.lost) == (0, 3)

    run(scenario, routes=source.routes)


def test_a_stream_ends_when_its_token_does(run: Run) -> None:
    source = Source()

    async def scenario(site: Any) -> None:
        async with site.client.stream("GET", "/live", headers=site.user) as response:
            parts = chunks(response)
            await anext(parts)
            site.hub.registry.revoke_token(site.token)
            source.feeds[0].put(Event("secret"))
            assert [part async for part in parts] == []

    run(scenario, routes=source.routes)


def test_a_quiet_stream_sends_heartbeats_and_ends_with_the_door(run: Run) -> None:
    source = Source()

    async def scenario(site: Any) -> None:
        site.app.streams.heartbeat_s = 0.01
        async with site.client.stream("GET", "/live", headers=site.user) as response:
            parts = chunks(response)
            await anext(parts)
            assert await anext(parts) == b": still here\n\n"
            site.app.streams.heartbeat_s = 3600
            closing = asyncio.create_task(site.door.close())
            async for part in parts:
                assert part == b": still here\n\n"
            await closing
        assert site.app.streams.open == 0
        second = HttpDoor(site.hub, site.app)  # another door's streams go on
        await second.start()
        url = f"http://127.0.0.1:{second.port}/live"
        async with site.client.stream("GET", url, headers=site.user) as response:
            parts = chunks(response)
            await anext(parts)
            source.feeds[-1].put(Event("on"))
            assert await anext(parts) == b"data: on\n\n"
        await second.close()

    run(scenario, routes=source.routes)


def test_clients_above_the_limit_are_told_to_come_back(run: Run) -> None:
    source = Source()

    async def scenario(site: Any) -> None:
        site.app.streams.limit = 1
        async with site.client.stream("GET", "/live", headers=site.user) as response:
            await anext(chunks(response))
            second = await site.get("/live")
            assert (second.status_code, second.headers["retry-after"]) == (503, "10")
            assert site.app.streams.refused == 1
        status = 503
        while status == 503:  # until the server has noticed that the first one left
            async with site.client.stream("GET", "/live", headers=site.user) as response:
                status = response.status_code
        assert status == 200

    run(scenario, routes=source.routes)

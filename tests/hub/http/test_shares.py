"""What callers share is bounded for each of them too, so that one key or token cannot hold all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from hub.http.problem import Problem
from hub.http.shares import Shares
from hub.http.websocket import MAX_UNDER_WAY

Run = Callable[..., None]


def test_share_of_one_is_full_before_all_of_it_is() -> None:
    shares = Shares(3, 2, "streams are open")
    with shares.taken("things/a"), shares.taken("things/a"):
        with pytest.raises(Problem) as mine:
            shares.admit("things/a")
        assert (mine.value.status, mine.value.headers) == (429, {"retry-after": "1"})
        assert "of yours" in mine.value.detail
        shares.admit("things/b")
        with shares.taken("things/b"), pytest.raises(Problem) as everybody:
            shares.admit("things/c")
        assert everybody.value.status == 503
        assert shares.refused == 2
    shares.admit("things/a")
    assert (shares.open, dict(shares.by_caller)) == (0, {})  # nothing is kept of who has none


def test_one_key_cannot_hold_all_streams(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.app.streams.each = 1
        events = {**site.thing, "accept": "text/event-stream"}
        async with site.client.stream("GET", site.messages, headers=events) as response:
            assert response.status_code == 200
            await anext(response.aiter_text())
            second = await site.client.get(site.messages, headers=events)
            assert (second.status_code, second.headers["retry-after"]) == (429, "10")
            other = {**site.user, "accept": "text/event-stream"}
            async with site.client.stream("GET", site.messages, headers=other) as theirs:
                assert theirs.status_code == 200
        metrics = (await site.client.get("/metrics")).text
        assert "fluxgate_http_streams_refused_total 1" in metrics

    run(scenario)


def test_one_key_cannot_hold_all_queries_or_exports(run: Run) -> None:
    async def scenario(site: Any) -> None:
        state = site.app._starlette.state
        for shares, path in ((state.reads, site.messages), (state.exports, f"{site.messages}?export=csv")):
            with shares.taken(f"things/{site.thing_id}"):
                shares.each = 1
                assert (await site.client.get(path, headers=site.thing)).status_code == 429
                assert (await site.get(path)).status_code == 200
            assert (await site.client.get(path, headers=site.thing)).status_code == 200
            assert shares.open == 0
        metrics = (await site.client.get("/metrics")).text
        assert "fluxgate_http_reads_refused_total 1" in metrics
        assert "fluxgate_http_exports_refused_total 1" in metrics

    run(scenario)


@pytest.mark.parametrize("frame", [b"no envelope", b'{"id": 1, "payload": 1}'], ids=["refused", "stored"])
def test_socket_of_who_does_not_read_his_answers_takes_no_more_frames(run: Run, frame: bytes) -> None:
    async def scenario(site: Any) -> None:
        taken = 0
        stuck, leave = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal taken
            if taken == 0:
                taken = 1
                return {"type": "websocket.connect"}
            if leave.is_set():
                return {"type": "websocket.disconnect"}
            taken += 1
            await asyncio.sleep(0)
            return {"type": "websocket.receive", "bytes": frame}

        async def send(event: dict[str, Any]) -> None:
            if event["type"] == "websocket.send":
                assert json.loads(event["text"])["type"] in ("ack", "error")
                stuck.set()
                await leave.wait()  # its socket's buffer is full

        scope = {
            "type": "websocket",
            "path": site.messages,
            "query_string": b"envelope=1",
            "headers": [(b"authorization", site.thing["authorization"].encode())],
            "client": ("192.0.2.1", 1),
        }
        serving = asyncio.create_task(site.app(scope, receive, send))
        await stuck.wait()
        before = -1
        while taken != before and taken < 10 * MAX_UNDER_WAY:  # until it takes no more
            before = taken
            for _ in range(MAX_UNDER_WAY):
                await asyncio.sleep(0)
            await site.hub.log.flush()
        assert taken <= MAX_UNDER_WAY + 4
        leave.set()
        await serving

    run(scenario)

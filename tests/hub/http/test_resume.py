"""Followers of a server that is killed again and again: each message once and in order, with a repeating publisher."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.hub.http.serving import KEY, MESSAGES, Served

KILLS = 4
BETWEEN = 25  # messages acknowledged from one kill to the next
APP = {"authorization": "Thing " + "a" * 43}


async def publish(served: Served, first: int, count: int) -> None:
    """Publish numbers one after the other, each until it is acknowledged."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        for n in range(first, first + count):
            headers = {"authorization": KEY, "content-type": "application/json", "idempotency-key": f"n{n}"}
            while True:
                try:
                    answer = await client.post(served.url + MESSAGES, content=str(n), headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.01)
                    continue
                assert answer.status_code == 202
                break


async def follow_events(served: Served, seen: list[tuple[int, int]], until: int) -> None:
    """As a browser's EventSource: read, and after a break go on after the last id."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while len(seen) < until:
            last = str(seen[-1][0]) if seen else "0"
            headers = {**APP, "accept": "text/event-stream", "last-event-id": last}
            try:
                async with client.stream("GET", served.url + MESSAGES, headers=headers) as response:
                    assert response.status_code == 200
                    seq, kind = 0, ""
                    async for line in response.aiter_lines():
                        if not line:
                            kind = ""
                        elif line.startswith("event: "):
                            kind = line[7:]
                        elif line.startswith("id: "):
                            seq = int(line[4:])
                        elif line.startswith("data: ") and kind == "gap":
                            assert not seen, "only numbers that a process took and was killed with"
                        elif line.startswith("data: "):
                            seen.append((seq, int(line[6:])))
                            if len(seen) == until:
                                return
            except httpx.TransportError:
                await asyncio.sleep(0.01)


async def follow_socket(served: Served, seen: list[tuple[int, int]], until: int) -> None:
    while len(seen) < until:
        after = seen[-1][0] if seen else 0
        url = f"ws://127.0.0.1:{served.port}{MESSAGES}?envelope=1&after={after}"
        try:
            async with connect(url, additional_headers=APP, proxy=None, close_timeout=0.2) as client:
                async for text in client:
                    message = json.loads(text)
                    if message.get("type") == "gap":
                        assert not seen, "only numbers that a process took and was killed with"
                        continue
                    seen.append((message["seq"], message["payload"]))
                    if len(seen) == until:
                        return
        except (OSError, WebSocketException, EOFError):
            await asyncio.sleep(0.01)


def test_nothing_is_missed_or_seen_twice_over_kills(tmp_path: Path) -> None:
    total = KILLS * BETWEEN + BETWEEN
    served = Served(tmp_path / "data")
    rng = random.Random(2)

    async def main() -> None:
        events: list[tuple[int, int]] = []
        frames: list[tuple[int, int]] = []
        followers = asyncio.gather(follow_events(served, events, total), follow_socket(served, frames, total))
        for kill in range(KILLS + 1):
            publishing = asyncio.create_task(publish(served, kill * BETWEEN, BETWEEN))
            if kill < KILLS:
                for _ in range(rng.randrange(400)):
                    await asyncio.sleep(0)
                await asyncio.to_thread(served.restart)
            await publishing
        await followers
        assert [value for _, value in events] == list(range(total))
        assert events == frames
        assert [seq for seq, _ in events] == sorted({seq for seq, _ in events})

    try:
        asyncio.run(main())
    finally:
        served.kill()

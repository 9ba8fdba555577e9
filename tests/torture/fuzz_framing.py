"""Damaged requests and WebSocket frames against the connection alone: the app behind it answers at once, or listens.

What `fuzz_web` does through the whole door is slow for its app; here the framing gets its millions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

from starlette.types import Receive, Scope, Send

from hub.http.app import HttpApp, create_app
from hub.http.door import HttpDoor
from hub.hub import Hub

from .fuzz import Target
from .fuzz_seeds import CHANNEL, HTTP_WORDS, KEY, WEBSOCKET_SEEDS, WEBSOCKET_WORDS, http_seeds
from .fuzz_web import HANDSHAKE, frame
from .fuzz_world import Transport, World, opened_world

OPEN = 24  # connections that wait for the loop's next turn
LIFE = 24  # inputs of one WebSocket


class _Quick:
    """In place of the app: a request is read and answered, a WebSocket accepted and listened to."""

    def __init__(self, hub: Hub) -> None:
        app = create_app(hub)
        self.publisher, self.proxies, self.add_counters = app.publisher, app.proxies, app.add_counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Framing:
    """The connections of a door, made as they come."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._door = HttpDoor(world.hub, cast(HttpApp, _Quick(world.hub)))
        self._made = self._waiting = 0
        self._make: Any = None
        self._more: dict[str, Any] = {}
        self._transport: Transport | None = None  # of the WebSocket in use
        self._left = 0  # inputs that it has before it

    def __enter__(self) -> Self:
        self.world.loop.run_until_complete(self._door.start())
        server = self._door._server
        assert server is not None
        self._make = server.config.http_protocol_class
        self._more = {"config": server.config, "server_state": server.server_state, "app_state": {}}
        return self

    def __exit__(self, *_: object) -> None:
        self.world.loop.run_until_complete(self._door.close())

    def turns(self, count: int) -> None:
        """Let the loop do what waits."""

        async def wait() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self._waiting = 0
        self.world.loop.run_until_complete(wait())

    def settle(self) -> None:
        """After a batch: nothing may be left over but the WebSocket in use."""
        self.turns(8)
        self.world.loop.run_until_complete(self.world.durable())
        self.turns(2)
        if problems := self.world.found():
            raise RuntimeError(problems[0])
        there = self._transport is not None and not self._transport.lost
        if self._door.wire.open != there:
            raise RuntimeError(f"{self._door.wire.open} connections are counted, {int(there)} there")

    def request(self, data: bytes) -> bool:
        """One input on a connection of its own; whether a request in it was understood."""
        heard = bytearray()
        transport = self._connect(heard)
        try:
            transport.feed(data)
        finally:
            transport.close()
            self._waiting += 1
            if self._waiting >= OPEN:
                self.turns(4)
        # What is answered at once the framing has refused: the app, the log and a WebSocket answer later.
        protocol: Any = transport.protocol
        return not bytes(heard) and (not hasattr(protocol, "_begun") or protocol._begun > 0)

    def frame(self, data: bytes) -> bool:
        """One input on a WebSocket that goes on; whether it did.

        What begins as the last frame of a message does goes there as it is, anything else in a frame that is right. A
        damaged frame may be the begin of a longer one, so it is the last input of its connection.
        """
        transport = self._transport
        if transport is None or transport.closed or self._left <= 0:
            if transport is not None:
                transport.close()
            transport = self._transport = self._upgraded()
            self._left = LIFE
        raw = data[:1] >= b"\x80"
        self._left = 0 if raw else self._left - 1
        transport.feed(data if raw else frame(data))
        self._waiting += 1
        if self._waiting >= LIFE // 3:
            self.turns(2)
        return not transport.closed

    def _upgraded(self) -> Transport:
        heard = bytearray()
        transport = self._connect(heard)
        transport.feed(HANDSHAKE % (CHANNEL.encode(), b"", KEY.encode()))
        self.turns(4)
        if not heard.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"a handshake that is right was answered {bytes(heard[:200])!r}")
        return transport

    def _connect(self, heard: bytearray) -> Transport:
        self._made += 1
        peer = f"198.18.{self._made >> 8 & 0xFF}.{self._made & 0xFF}"
        protocol = self._make(**self._more, _loop=self.world.loop)
        transport = Transport(self.world.loop, protocol, heard.extend, peer)
        protocol.connection_made(transport)
        return transport


@contextmanager
def requests() -> Iterator[Target]:
    with opened_world() as world, Framing(world) as framing:
        seeds, _ = http_seeds(world.token, world.other)
        yield Target(seeds, framing.request, HTTP_WORDS, framing.settle)


@contextmanager
def frames() -> Iterator[Target]:
    with opened_world() as world:
        raw = (*(frame(seed) for seed in WEBSOCKET_SEEDS), frame(b"", 9), frame(b"pong", 10))
        with Framing(world) as framing:
            yield Target((*WEBSOCKET_SEEDS, *raw), framing.frame, WEBSOCKET_WORDS, framing.settle)


FRAMING = {"http framing": requests, "websocket framing": frames}

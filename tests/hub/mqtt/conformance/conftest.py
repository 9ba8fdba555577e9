"""Clients that speak bytes, in both versions, against the real door on a real hub."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5, Packet, Props, Will

PATIENCE_S = 20.0  # for one answer on a busy machine; nothing waits this long when all is well


@pytest.fixture(params=[pytest.param(V4, id="3.1.1"), pytest.param(V5, id="5.0")])
def version(request: pytest.FixtureRequest) -> int:
    """The protocol level."""
    level: int = request.param
    return level


class Client:
    """One connection."""

    def __init__(
        self,
        version: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        commit: Callable[[], Awaitable[None]],
    ) -> None:
        self.version = version
        self._commit = commit
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._ahead: deque[Packet] = deque()  # read while something else was waited for
        self.connack: Packet

    def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    async def read(self) -> Packet:
        """The next packet, checked against the format. Raises IncompleteReadError where there is none."""
        if self._ahead:
            return self._ahead.popleft()
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readexactly(2)
            while head[-1] & 0x80:
                assert len(head) < 5
                head += await self._reader.readexactly(1)
            size = wire.Reader(head[1:]).length()
            body = await self._reader.readexactly(size)
        return wire.decode(self.version, head[0], body, len(head) + size)

    async def expect(self, kind: int) -> Packet:
        """The next packet, which has to be of this kind."""
        packet = await self.read()
        assert packet.kind == kind, f"{packet} instead of {wire.NAMES[kind]}"
        return packet

    async def message(self, *, acknowledge: bool = True) -> Packet:
        """The next packet, a PUBLISH; QoS 1 and 2 are acknowledged to the end."""
        found = await self.expect(wire.PUBLISH)
        if acknowledge:
            await self.acknowledge(found)
        return found

    async def acknowledge(self, found: Packet) -> None:
        """To the end of the exchange; what comes in between is read later."""
        if found.qos == 1:
            self.send(wire.ack(self.version, wire.PUBACK, found.packet_id))
        elif found.qos == 2:
            self.send(wire.ack(self.version, wire.PUBREC, found.packet_id))
            between = []
            while (packet := await self.read()).kind != wire.PUBREL:
                between.append(packet)
            assert packet.packet_id == found.packet_id
            self._ahead.extendleft(reversed(between))
            self.send(wire.ack(self.version, wire.PUBCOMP, found.packet_id))

    async def fence(self) -> list[Packet]:
        """Everything that comes until the server has dealt with all that was sent, and has committed it."""
        seen = []
        for _ in range(2):
            self.send(wire.PING)
            while (packet := await self.read()).kind != wire.PINGRESP:
                seen.append(packet)
            await self._commit()
        return seen

    async def end(self) -> list[Packet]:
        """What comes until the server closes the connection, which it has to."""
        seen = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                seen.append(await self.read())
        return seen

    async def read_until_closed_or(self, kind: int) -> list[Packet]:
        """What comes until there is a packet of this kind, or nothing more."""
        seen = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not seen or seen[-1].kind != kind:
                seen.append(await self.read())
        return seen

    async def closed_for(self, *reasons: int) -> None:
        """The server closes; in 5.0 it says so with DISCONNECT and one of these reasons (4.13)."""
        last = [packet for packet in await self.end() if packet.kind == wire.DISCONNECT]
        if self.version == V5:
            assert len(last) == 1, "closed without DISCONNECT"
            assert last[0].code in reasons, f"reason {last[0].code:#x}"
            assert last[0].get("session_expiry_interval") is None
        else:
            assert not last

    def publish(self, topic: str | bytes, payload: bytes = b"", qos: int = 0, **more: Any) -> int:
        """Send a PUBLISH with a packet id of its own; returns that."""
        packet_id = (more.pop("packet_id", 0) or next(self._ids)) if qos else 0
        self.send(wire.publish(self.version, topic, payload, qos, packet_id or None, **more))
        return packet_id

    async def published(self, topic: str | bytes, payload: bytes = b"", qos: int = 1, **more: Any) -> Packet:
        """Publish and wait for the end of the exchange; the last answer."""
        packet_id = self.publish(topic, payload, qos, **more)
        answer = await self.expect(wire.PUBACK if qos == 1 else wire.PUBREC)
        assert answer.packet_id == packet_id
        if qos == 2 and answer.code < 0x80:
            self.send(wire.ack(self.version, wire.PUBREL, packet_id))
            answer = await self.expect(wire.PUBCOMP)
            assert answer.packet_id == packet_id
        return answer

    async def subscribe(self, *filters: tuple[str | bytes, int], props: Props = ()) -> tuple[int, ...]:
        """The codes of the SUBACK, which has to be the next packet."""
        packet_id = next(self._ids)
        self.send(wire.subscribe(self.version, packet_id, filters, props))
        answer = await self.expect(wire.SUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    async def unsubscribe(self, *filters: str | bytes) -> tuple[int, ...]:
        packet_id = next(self._ids)
        self.send(wire.unsubscribe(self.version, packet_id, filters))
        answer = await self.expect(wire.UNSUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    async def leave(self, code: int | None = None, props: Props | None = None) -> None:
        """DISCONNECT, and wait until the server has closed."""
        self.send(wire.disconnect(self.version, code, props))
        assert await self.end() == []

    def cut(self) -> None:
        """Drop the connection without a word."""
        self._writer.transport.abort()

    async def hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Arena:
    """One hub with its door; things "a" and "b" on one channel, "stranger" on none."""

    def __init__(self, world: Any, version: int) -> None:
        self.world = world
        self.version = version
        self.topic: str = world.topic  # channels/<id>/messages
        self._clients: list[Client] = []

    async def dial(self, version: int | None = None) -> Client:
        """A connection without CONNECT."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.world.door.port)
        client = Client(version or self.version, reader, writer, lambda: self.world.hub.log.write(()))
        self._clients.append(client)
        return client

    def login(self, thing: str) -> dict[str, str]:
        return {"user": self.world.ids[thing], "password": self.world.keys[thing]}

    def connect_wire(self, thing: str, client_id: str | bytes, version: int = 0, **more: Any) -> bytes:
        return wire.connect(version or self.version, client_id, **(self.login(thing) | more))

    async def client(
        self, thing: str = "a", client_id: str | None = None, *, version: int = 0, **more: Any
    ) -> Client:
        """A connected client. `kept` True: its session lasts (clean session 0; in 5.0 with an expiry)."""
        level = version or self.version
        kept = more.pop("kept", None)
        if kept is not None:
            more.setdefault("clean", False)
            if level == V5:
                expiry = [("session_expiry_interval", 3600)] if kept else []
                more["props"] = [*more.get("props", ()), *expiry]
        client = await self.dial(level)
        name = f"of-{thing}" if client_id is None else client_id
        client.send(self.connect_wire(thing, name, level, **more))
        client.connack = await client.expect(wire.CONNACK)
        assert client.connack.code == 0, f"CONNACK {client.connack.code:#x}"
        return client

    async def refused(self, *reasons: int, **connect: Any) -> Packet:
        """A CONNECT that is answered with one of these reasons and closed for."""
        client = await self.dial()
        client.send(self.connect_wire(connect.pop("thing", "a"), connect.pop("client_id", "c"), **connect))
        answer = await client.expect(wire.CONNACK)
        assert answer.code in reasons, f"CONNACK {answer.code:#x}"
        assert not answer.session_present
        assert await client.end() == []
        return answer

    async def gone(self, count: int) -> None:
        """Wait until the door counts only so many connections."""
        await self.world.gone(count)

    def pass_time(self, seconds: float) -> None:
        """Move the door's monotonic clock and the hub's wall clock, and have the door look at them."""
        hub = self.world.hub
        before = hub.clock

        def later() -> tuple[int, Any]:
            now_ns, quality = before()
            return now_ns + int(seconds * 1e9), quality

        hub.clock = later
        self.world.pass_time(seconds)

    def will(self, payload: bytes = b"gone", below: str = "/will", **more: Any) -> Will:
        return Will(self.topic + below, payload, **more)

    async def hang_up(self) -> None:
        for client in self._clients:
            await client.hang_up()


OpenArena = Callable[..., AbstractAsyncContextManager[Arena]]


@pytest.fixture
def open_arena(open_world: Any) -> OpenArena:
    """`async with open_arena(version) as arena`; a second opening finds the same data."""

    @contextlib.asynccontextmanager
    async def opening(version: int, **limits: Any) -> AsyncIterator[Arena]:
        async with open_world(**limits) as world:
            arena = Arena(world, version)
            try:
                yield arena
            finally:
                await arena.hang_up()

    return opening

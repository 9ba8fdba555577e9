"""A hub with an MQTT door, a few things on one channel, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from hub.hub import Clock, Hub, HubSettings, system_clock
from hub.mqtt import MIGRATIONS, Limits, MqttDoor
from hub.mqtt.fields import encode_length, read_length
from hub.mqtt.replies import encode_publish
from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.conftest import Arena

PATIENCE_S = 20.0  # for one answer on a busy machine; nothing waits this long when all is well


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


class Client:
    """A client at the level of packets; what it reads it keeps as (first byte, body)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.topic = ""

    def send(self, wire: bytes) -> None:
        self.writer.write(wire)

    def packet(self, first: int, body: bytes) -> None:
        self.send(bytes((first,)) + encode_length(len(body)) + body)

    def connect(
        self,
        client_id: str,
        user: str | None,
        key: str | None,
        *,
        clean: bool = True,
        keepalive: int = 60,
        will: tuple[str, bytes, int, bool] | None = None,
    ) -> None:
        flags = 2 * clean | 0x80 * (user is not None) | 0x40 * (key is not None)
        payload = text(client_id)
        if will:
            topic, content, qos, retain = will
            flags |= 4 | qos << 3 | 0x20 * retain
            payload += text(topic) + text(content)
        if user is not None:
            payload += text(user)
        if key is not None:
            payload += text(key)
        self.packet(0x10, b"\x00\x04MQTT\x04" + bytes((flags,)) + keepalive.to_bytes(2, "big") + payload)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        packet_id: int = 0,
        *,
        retain: bool = False,
        dup: bool = False,
    ) -> None:
        self.send(encode_publish(topic.encode(), payload, qos, packet_id, retain=retain, dup=dup))

    async def subscribe(self, *filters: tuple[str, int], packet_id: int = 1) -> bytes:
        """Returns the codes of SUBACK; nothing else may come before it."""
        body = packet_id.to_bytes(2, "big")
        for name, qos in filters:
            body += text(name) + bytes((qos,))
        self.packet(0x82, body)
        first, answer = await self.read()
        assert (first, answer[:2]) == (0x90, packet_id.to_bytes(2, "big"))
        return answer[2:]

    async def read(self) -> tuple[int, bytes]:
        """The next packet. Raises IncompleteReadError where the server has closed."""
        async with asyncio.timeout(PATIENCE_S):
            first = (await self.reader.readexactly(1))[0]
            head = b""
            while (found := read_length(head, 0)) is None:
                head += await self.reader.readexactly(1)
            return first, await self.reader.readexactly(found[0])

    async def message(self) -> tuple[str, bytes, int, int, bool, bool]:
        """The next packet as (topic, payload, qos, packet id, retain, dup)."""
        first, body = await self.read()
        assert first >> 4 == 3, f"{first:#x} {body!r}"
        end = 2 + int.from_bytes(body[:2], "big")
        qos = first >> 1 & 3
        packet_id = int.from_bytes(body[end : end + 2], "big") if qos else 0
        payload = body[end + 2 :] if qos else body[end:]
        return body[2:end].decode(), payload, qos, packet_id, bool(first & 1), bool(first & 8)

    async def fence(self) -> list[tuple[int, bytes]]:
        """Everything that arrives before the answer to a ping."""
        self.send(b"\xc0\x00")
        seen = []
        while (packet := await self.read()) != (0xD0, b""):
            seen.append(packet)
        return seen

    async def closed(self) -> bool:
        """True where nothing more comes: the server has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(1) == b""
        return True

    def cut(self) -> None:
        """Drop the connection without DISCONNECT."""
        self.writer.transport.abort()


class World:
    """One hub with its door; things "a" and "b" are on channel `channel`, "stranger" is on none."""

    def __init__(self, hub: Hub, door: MqttDoor, now: list[float]) -> None:
        self.hub = hub
        self.door = door
        self.now = now  # [monotonic seconds]: the door's clock
        self.ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.channel = ""
        self._clients: list[Client] = []

    @property
    def topic(self) -> str:
        return f"channels/{self.channel}/messages"

    async def dial(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.door.port)
        client = Client(reader, writer)
        client.topic = self.topic
        return self.keep(client)

    def keep(self, client: Client) -> Client:
        """Have a client hung up at the end."""
        self._clients.append(client)
        return client

    async def client(self, thing: str = "a", client_id: str = "", **connect: Any) -> Client:
        """A connected client of a thing."""
        client, _present = await self.session(thing, client_id or f"of-{thing}", **connect)
        return client

    async def session(self, thing: str, client_id: str, **connect: Any) -> tuple[Client, bool]:
        """A connected client and whether the server had its session."""
        client = await self.dial()
        client.connect(client_id, self.ids[thing], self.keys[thing], **connect)
        first, body = await client.read()
        assert (first, body[1]) == (0x20, 0)
        return client, bool(body[0])

    async def gone(self, count: int = 0) -> None:
        """Wait until only `count` clients are connected."""
        async with asyncio.timeout(PATIENCE_S):
            while self.door.counters["connections_now"] > count:  # noqa: ASYNC110 (a gauge, not an event)
                await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        self.now[0] += seconds
        self.door.sweep()

    async def hang_up(self) -> None:
        for client in self._clients:
            client.writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await client.writer.wait_closed()


OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def open_site(open_world: OpenWorld) -> OpenWorld:
    """`async with open_site() as site`: the same with clients of MQTT 5; `site.world` is the world."""

    @contextlib.asynccontextmanager
    async def opening(**how: Any) -> AsyncIterator[Arena]:
        async with open_world(**how) as world:
            site = Arena(world, wire.V5)
            try:
                yield site
            finally:
                await site.hang_up()

    return opening  # type: ignore[return-value]


@pytest.fixture
def open_world(tmp_path: Path) -> OpenWorld:
    """`async with open_world(in_flight=2) as world`: limits by name; a second opening finds the same data.

    `at_s` is where the door's monotonic clock stands, `boot` the machine's boot, `clock` the hub's wall clock.
    """
    ids: dict[str, str] = {}
    keys: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def opening(
        *,
        log_messages: int = 100_000,
        database: type[sqlite3.Connection] = sqlite3.Connection,
        tls: ssl.SSLContext | None = None,
        at_s: float = 1000.0,
        boot: str | None = None,
        clock: Clock = system_clock,
        gateway: str = "",
        **limits: Any,
    ) -> AsyncIterator[World]:
        settings = HubSettings(commit_interval_s=0.01, max_messages=log_messages)
        hub = Hub.open(
            tmp_path / "data", migrations=MIGRATIONS, settings=settings, connection=database, clock=clock
        )
        hub.boot = hub.boot if boot is None else boot
        now = [at_s]
        door = MqttDoor(
            hub,
            "127.0.0.1",
            0,
            ssl=tls,
            limits=Limits(**limits),
            clock=lambda: now[0],
            gateway=gateway,
            version="1.2.3",
        )
        world = World(hub, door, now)
        if not ids:
            for name in ("a", "b", "stranger"):
                thing, keys[name] = hub.registry.create_thing(name)
                ids[name] = thing.id
            ids["channel"] = hub.registry.create_channel("room").id
            hub.registry.connect([ids["channel"]], [ids["a"], ids["b"]])
        world.ids, world.keys, world.channel = ids, keys, ids["channel"]
        await door.start()
        try:
            yield world
        finally:
            await world.hang_up()
            await door.close()
            await hub.close()

    return opening

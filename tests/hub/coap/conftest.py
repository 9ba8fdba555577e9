"""A hub with a CoAP door, a few things on one channel, and a client that speaks datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from hub.coap import MIGRATIONS, CoapDoor, Limits
from hub.coap.admission import Address
from hub.coap.packets import ACK, CON, NON, RST, Code, Opt, Option, Packet, decode, encode, encode_empty, uint
from hub.hub import Hub, HubSettings

PATIENCE_S = 20.0  # for one answer on a busy machine; nothing waits this long when all is well
SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'


class Client:
    """A client at the level of datagrams, over a real socket."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.received: asyncio.Queue[Packet] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport
        self.mid = 0
        self.proven = False

    async def open(self) -> Client:
        client = self

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                client.received.put_nowait(decode(data))

        self.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Protocol, remote_addr=("127.0.0.1", self.world.door.port)
        )
        return self

    def send(self, wire: bytes) -> bytes:
        self.transport.sendto(wire)
        return wire

    def request(self, code: int, thing: str | None = "a", **parts: Any) -> bytes:
        """Send a request to the channel; what it was."""
        self.mid += 1
        return self.send(self.world.request(code, thing, mid=self.mid, **parts))

    async def read(self) -> Packet:
        async with asyncio.timeout(PATIENCE_S):
            return await self.received.get()

    async def ask(self, code: int, thing: str | None = "a", **parts: Any) -> Packet:
        """The answer to a request."""
        self.request(code, thing, **parts)
        return await self.read()

    async def post(self, payload: bytes = SENML, thing: str | None = "a", **parts: Any) -> Packet:
        return await self.ask(Code.POST, thing, payload=payload, **parts)

    async def fence(self) -> list[Packet]:
        """Everything that arrives before the answer to a ping."""
        self.mid += 1
        self.send(encode_empty(CON, self.mid))
        seen = []
        while (packet := await self.read())[1:3] != (0, self.mid):
            seen.append(packet)
        return seen

    def acknowledge(self, packet: Packet) -> None:
        self.send(encode_empty(ACK, packet.mid))

    async def pong(self) -> None:
        """Answer the ping with which the door asks whether this address is real."""
        ping = await self.read()
        assert (ping.type, ping.code) == (CON, 0)
        self.send(encode_empty(RST, ping.mid))
        self.proven = True


class World:
    """One hub with its door; things "a" and "b" are on channel `channel`, "stranger" is on none."""

    def __init__(self, hub: Hub, door: CoapDoor, now: list[float]) -> None:
        self.hub = hub
        self.door = door
        self.now = now  # [monotonic seconds]: the door's clock
        self.ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.channel = ""
        self._clients: list[Client] = []

    @property
    def counters(self) -> dict[str, int]:
        return self.door.counters

    def uri(self, sub: str = "", thing: str = "a") -> str:
        path = f"channels/{self.channel}/messages" + (f"/{sub}" if sub else "")
        return f"coap://127.0.0.1:{self.door.port}/{path}?auth={self.keys[thing]}"

    def request(
        self,
        code: int,
        thing: str | None = "a",
        *,
        sub: str = "",
        path: tuple[str, ...] | None = None,
        mid: int = 1,
        token: bytes = b"tk",
        kind: int = CON,
        options: tuple[Option, ...] = (),
        queries: tuple[str, ...] = (),
        fmt: int | None = None,
        payload: bytes = b"",
    ) -> bytes:
        """A request as bytes. `thing` None: without a key."""
        if path is None:
            path = ("channels", self.channel, "messages", *(sub.split("/") if sub else ()))
        found: list[Option] = [(Opt.URI_PATH, part.encode()) for part in path]
        if fmt is not None:
            found.append((Opt.CONTENT_FORMAT, uint(fmt)))
        found += [(Opt.URI_QUERY, query.encode()) for query in queries]
        if thing is not None:
            found.append((Opt.URI_QUERY, b"auth=" + self.keys[thing].encode()))
        found += options
        found.sort(key=lambda option: option[0])
        return encode(kind, code, mid, token, tuple(found), payload)

    async def client(self) -> Client:
        client = await Client(self).open()
        self._clients.append(client)
        return client

    def pass_time(self, seconds: float) -> None:
        self.now[0] += seconds
        self.door.tick()

    def payloads(self) -> list[bytes]:
        """What the log holds."""
        return [message.payload for message in self.hub.log.read(0, None, 100_000)]

    def hang_up(self) -> None:
        for client in self._clients:
            client.transport.close()


OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def open_world(tmp_path: Path) -> OpenWorld:
    """`async with open_world(observers=2) as world`: limits by name; a second opening finds the same data."""
    ids: dict[str, str] = {}
    keys: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def opening(
        *,
        database: type[sqlite3.Connection] = sqlite3.Connection,
        max_payload: int = 256 * 1024,
        host: str = "127.0.0.1",
        **limits: Any,
    ) -> AsyncIterator[World]:
        settings = HubSettings(commit_interval_s=0.01, max_payload=max_payload)
        hub = Hub.open(tmp_path / "data", migrations=MIGRATIONS, settings=settings, connection=database)
        now = [1000.0]
        door = CoapDoor(hub, host, 0, limits=Limits(**limits), clock=lambda: now[0])
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
            world.hang_up()
            await door.close()
            await hub.close()

    return opening


__all__ = ["ACK", "CON", "NON", "SENML", "Address", "Client", "OpenWorld", "World"]

"""MQTT over WebSocket: MQTT 3.1.1 and 5.0, 6. The frames are made by the `websockets` library."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.mqtt.websocket import asgi_app
from tests.hub.mqtt.conformance import wire

PATIENCE_S = 20.0


@contextlib.asynccontextmanager
async def listening(arena: Any) -> AsyncIterator[str]:
    """The arena's door behind an HTTP door as well; yields the address."""
    hub = arena.world.hub
    door = HttpDoor(hub, create_app(hub, mqtt=asgi_app(arena.world.door)))
    await door.start()
    try:
        yield f"ws://127.0.0.1:{door.port}/mqtt"
    finally:
        await door.close()


class Socket:
    """Packets over frames."""

    def __init__(self, version: int, connection: ClientConnection) -> None:
        self.version = version
        self.connection = connection
        self.rest = b""

    async def frame(self, data: bytes) -> None:
        await self.connection.send(data)

    async def read(self) -> wire.Packet:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(AssertionError):
                    fields = wire.Reader(self.rest[1:])
                    size = fields.length()
                    body = fields.take(size)
                    first, self.rest = self.rest[0], fields.body
                    break
                data = await self.connection.recv()
                assert isinstance(data, bytes), "a server sends binary frames only"
                self.rest += data
        return wire.decode(self.version, first, body)

    async def end(self) -> list[wire.Packet]:
        """What comes until the connection is closed, which it has to be."""
        seen = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                seen.append(await self.read())
        return seen


@contextlib.asynccontextmanager
async def dialled(arena: Any, address: str) -> AsyncIterator[Socket]:
    async with connect(address, subprotocols=["mqtt"]) as connection:
        yield Socket(arena.version, connection)


@contextlib.asynccontextmanager
async def joined(arena: Any, address: str, thing: str = "a", **more: Any) -> AsyncIterator[Socket]:
    async with dialled(arena, address) as socket:
        await socket.frame(arena.connect_wire(thing, f"ws-{thing}", **more))
        assert (await socket.read()).code == 0
        yield socket


def test_the_subprotocol_is_chosen_by_its_name(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena, listening(arena) as address:
            for offered in (["mqtt"], ["other", "mqtt"]):
                async with connect(address, subprotocols=offered) as connection:  # type: ignore[arg-type]
                    assert connection.subprotocol == "mqtt"

    asyncio.run(main())


@pytest.mark.parametrize("offered", [None, ["mqttv3.1"], ["MQTT"]])
def test_without_the_subprotocol_the_upgrade_is_refused(open_arena: Any, offered: Any) -> None:
    async def main() -> None:
        async with open_arena(5) as arena, listening(arena) as address:
            with pytest.raises(InvalidStatus) as refused:
                async with connect(address, subprotocols=offered):
                    pass
            assert refused.value.response.status_code == 400
            assert arena.world.door.counters["connections_accepted"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_need_not_align_with_packets(open_arena: Any, version: int, size: int) -> None:
    async def main() -> None:
        async with (
            open_arena(version) as arena,
            listening(arena) as address,
            dialled(arena, address) as socket,
        ):
            stream = (
                arena.connect_wire("a", "ws")
                + wire.subscribe(version, 1, [(arena.topic, 1)])
                + wire.publish(version, arena.topic, b"x" * 300, 1, 2)
                + wire.PING
            )
            for at in range(0, len(stream), size):
                await socket.frame(stream[at : at + size])
            kinds = [(await socket.read()).kind for _ in range(5)]
            assert kinds[0] == wire.CONNACK
            assert sorted(kinds[1:]) == sorted([wire.SUBACK, wire.PUBACK, wire.PUBLISH, wire.PINGRESP])

    asyncio.run(main())


def test_a_text_frame_closes_with_1003_and_the_will_is_sent(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena, listening(arena) as address:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            async with joined(arena, address, will=arena.will(b"gone", qos=1)) as socket:
                await socket.connection.send("text")
                await socket.end()
                assert socket.connection.close_code == 1003
            assert (await listener.message()).payload == b"gone"

    asyncio.run(main())


def test_both_transports_carry_the_same_messages(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena, listening(arena) as address:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 1))
            async with joined(arena, address) as socket:
                await socket.frame(wire.subscribe(version, 1, [(arena.topic, 1)]))
                assert (await socket.read()).kind == wire.SUBACK
                for size in (0, 1, 200_000):
                    await sender.published(arena.topic, bytes(size))
                    assert len((await listener.message()).payload) == size
                    found = await socket.read()
                    assert len(found.payload) == size
                    await socket.frame(wire.ack(version, wire.PUBACK, found.packet_id))

    asyncio.run(main())


def test_a_malformed_packet_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena, listening(arena) as address:
            async with joined(arena, address) as socket:
                await socket.frame(b"\x00\x00")
                assert [packet.kind for packet in await socket.end()] == (
                    [wire.DISCONNECT] if version == 5 else []
                )
            assert arena.world.door.counters["malformed"] == 1

    asyncio.run(main())


def test_a_reader_that_stops_is_bounded_and_holds_up_nobody(open_arena: Any, version: int) -> None:
    """QoS 0 it does not keep up with is dropped and counted; the others receive all."""

    async def main() -> None:
        async with open_arena(version, buffered_bytes=100_000) as arena, listening(arena) as address:
            sender, quick = await arena.client("a"), await arena.client("b")
            await quick.subscribe((arena.topic, 0))
            async with joined(arena, address) as socket:
                await socket.frame(wire.subscribe(version, 1, [(arena.topic, 0)]))
                assert (await socket.read()).kind == wire.SUBACK
                transport = socket.connection.transport
                transport.pause_reading()
                for n in range(300):
                    await sender.published(arena.topic, bytes(60_000))
                    found = await quick.message()
                    assert len(found.payload) == 60_000, n
                assert arena.world.door.counters["dropped_qos0"] > 0
                transport.resume_reading()
                received = 0
                await socket.frame(wire.PING)
                while (await socket.read()).kind == wire.PUBLISH:
                    received += 1
                assert received == 300 - arena.world.door.counters["dropped_qos0"]

    asyncio.run(main())


def test_the_door_ends_its_websockets_when_it_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with (
            open_arena(version) as arena,
            listening(arena) as address,
            dialled(arena, address) as socket,
        ):
            await socket.frame(arena.connect_wire("a", "ws"))
            await socket.read()
            await arena.world.door.close()
            told = [(packet.kind, packet.code) for packet in await socket.end()]
            assert told == ([(wire.DISCONNECT, 0x8B)] if version == 5 else [])  # server shutting down

    asyncio.run(main())


def test_a_client_that_vanishes_is_counted_out(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with (
            open_arena(version) as arena,
            listening(arena) as address,
            joined(arena, address) as socket,
        ):
            assert arena.world.door.counters["connections_now"] == 1
            socket.connection.transport.abort()
            await arena.gone(0)

    asyncio.run(main())


def test_silence_without_connect_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with (
            open_arena(version, connect_timeout_s=10) as arena,
            listening(arena) as address,
            dialled(arena, address) as socket,
        ):
            async with asyncio.timeout(PATIENCE_S):
                while not arena.world.door.counters["connections_accepted"]:  # noqa: ASYNC110 (a counter)
                    await asyncio.sleep(0)
            arena.pass_time(11)
            assert await socket.end() == []

    asyncio.run(main())

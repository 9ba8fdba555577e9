"""Damaged requests and frames on living connections of the HTTP door: parser, short way, app, WebSockets."""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.message import SENML_JSON
from hub.mqtt import MqttDoor
from hub.mqtt.websocket import asgi_app

from . import mqtt_client
from .fuzz import GROUP, Door
from .fuzz_seeds import (
    ASKING_KEY,
    CHANNEL,
    HTTP_WORDS,
    KEY,
    MQTT_WORDS,
    SENML,
    WEBSOCKET_SEEDS,
    WEBSOCKET_WORDS,
    http_seeds,
    packets_of,
    request,
)
from .fuzz_world import Transport, World, opened_world

CLIENTS = 4 * GROUP  # connections: some of them wait for the disk or a thread
LIFE = 24  # inputs of a connection that the door has no reason to close
TURNS = 6  # of the loop after a group: as many as a request needs that waits for nothing
PATIENCE = 40  # groups that an input may have no answer to, before its connection is given up
PATIENCE_FIRST = 5000  # the same of a seed, which has to be answered however busy the machine is
HANDSHAKE = (
    b"GET /channels/%s/messages/ws?%s HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Thing %s\r\n\r\n"
)


class Client:
    """One connection, what was fed to it last, and what it has heard since."""

    def __init__(self) -> None:
        self.transport: Transport
        self.data = b""
        self.heard = b""  # the first bytes
        self.inputs = 0
        self.since = 0  # the group in which `data` was fed
        self.busy = False

    def answered(self, data: bytes) -> None:
        if len(self.heard) < 32:
            self.heard += data[:32]


class Web(Door):
    """What both kinds of target share: the door, its connections, and who is free to take an input."""

    def __init__(self, world: World, mqtt: ASGIApp | None = None) -> None:
        super().__init__(world.loop)
        self.world = world
        self._door = HttpDoor(world.hub, create_app(world.hub, mqtt=mqtt))
        self._clients: list[Client] = []
        self._group = self._connected = 0
        self._make: Any = None
        self._more: dict[str, Any] = {}

    async def start(self) -> None:
        await self._door.start()
        server = self._door._server
        assert server is not None
        self._make = server.config.http_protocol_class
        self._more = {"config": server.config, "server_state": server.server_state, "app_state": {}}

    async def close(self) -> None:
        await self._door.close()

    def open(self, client: Client) -> None:
        client.transport = self._connect(client.answered)
        client.heard = b""
        client.inputs = 0

    def _connect(self, answered: Callable[[bytes], None]) -> Transport:
        """From an address that was not here lately: who is refused again and again from one is answered late."""
        self._connected += 1
        peer = f"198.18.{self._connected >> 8 & 0xFF}.{self._connected & 0xFF}"
        protocol = self._make(**self._more, _loop=self.loop)
        transport = Transport(self.loop, protocol, answered, peer)
        protocol.connection_made(transport)
        return transport

    def free(self) -> Client:
        """A client that waits for nothing, the one that has rested longest."""
        for index, client in enumerate(self._clients):
            if not client.busy:
                self._clients.append(self._clients.pop(index))
                return client
        assert len(self._clients) < CLIENTS + GROUP, "nobody is answered any more"
        client = Client()
        self.open(client)
        self._clients.append(client)
        return client

    async def turn(self) -> None:
        self._group += 1
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._look()
        # An answer waits for the disk; which input it belongs to must not hang on how fast that is.
        await self.world.durable()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._look()
        while sum(client.busy for client in self._clients) > CLIENTS - GROUP:
            self._group += 1  # or who is not answered would be waited for in vain
            await asyncio.sleep(0.001)
            self._look()

    def late(self, client: Client, groups: int) -> bool:
        """Whether the input has had no answer for so many groups."""
        return self._group - client.since > (groups if self.hurried else PATIENCE_FIRST)

    def _look(self) -> None:
        for client in self._clients:
            if client.busy:
                self.look(client)

    @abstractmethod
    def look(self, client: Client) -> None:
        """See what has become of the input: busy no more, and taken where it meant something."""

    async def settle(self) -> None:
        while any(client.busy for client in self._clients):
            self._group += 1
            await self.world.durable()
            await asyncio.sleep(0.001)
            self._look()
        await self.ask()
        await self._find_held_streams()
        if self._door.wire.open > len(self._clients):
            self.problems.append(f"{self._door.wire.open} connections are counted, {len(self._clients)} open")
        self.problems += self.world.found()

    async def _find_held_streams(self) -> None:
        """No stream outlives its connection, or the thing's share of them would be used up."""
        streams = self._door._app.streams
        living = sum(not client.transport.closed for client in self._clients)
        for _ in range(PATIENCE_FIRST):
            if streams.open <= living:
                return
            await asyncio.sleep(0.001)
        self.problems.append(f"{streams.open} streams are held, {living} connections are open")

    @abstractmethod
    async def ask(self) -> None:
        """A client that does nothing wrong is answered."""

    async def answer_to(self, *said: bytes) -> bytes:
        """What the door says to one input, until something is in it, then to the next; or the connection is closed."""
        heard = bytearray()
        transport = self._connect(heard.extend)
        for data, enough in zip(said[::2], said[1::2], strict=True):
            transport.feed(data)
            while enough not in heard and not transport.closed:
                await self.world.durable()
                await asyncio.sleep(0.001)
        transport.close()
        await asyncio.sleep(0)
        return bytes(heard)


class Requests(Web):
    """Requests, damaged: one after the other on a connection that both sides keep open."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seeds, self.starts = http_seeds(world.token, world.other)
        self.words = HTTP_WORDS

    def feed(self, data: bytes) -> None:
        client = self.free()
        if client.transport.closed or client.inputs >= LIFE:
            client.transport.close()
            self.open(client)
        client.data, client.heard = data, b""
        client.inputs += 1
        client.busy, client.since = True, self._group
        client.transport.feed(data)

    def look(self, client: Client) -> None:
        """See what has become of the input."""
        protocol: Any = client.transport.protocol
        if client.heard[9:10] in (b"1", b"2"):
            self.taken(client.data)
        if client.transport.closed:
            client.busy = False
            return
        cycle = getattr(protocol, "cycle", None)
        arriving = getattr(protocol, "_mid_message", False)
        if client.heard:
            client.busy = False
            if arriving or cycle is None or not cycle.response_complete:
                self._answered_early(client)
        elif arriving or not getattr(protocol, "_begun", 0) or self.late(client, PATIENCE):
            # Half a request: the next input would be taken for its rest. One in eight is.
            client.busy = False
            client.inputs += LIFE // 8
            if len(client.data) % 8:
                client.transport.close()

    def _answered_early(self, client: Client) -> None:
        """A stream, a WebSocket, or an answer to half a request: a later input goes into it, then it ends."""
        client.inputs += LIFE // 2

    async def ask(self) -> None:
        messages, asking = f"/channels/{CHANNEL}/messages", f"Thing {ASKING_KEY}"
        for data, line in (
            (
                request("POST", f"{messages}/asks", SENML, Content_Type=SENML_JSON, Authorization=asking),
                b"HTTP/1.1 202 ",
            ),
            (request("GET", f"{messages}?limit=1", Authorization=asking), b"HTTP/1.1 200 "),
        ):
            answer = await self.answer_to(data, b"\r\n\r\n")
            if not answer.startswith(line):
                self.problems.append(f"a client that does nothing wrong heard {answer[:300]!r}")


class Frames(Web):
    """Handshakes and frames, damaged: raw ones, and payloads in frames that are right.

    An input that begins as a request does is a handshake on a connection of its own; one that begins as the first byte
    of a last frame does (0x80 and above) goes to a connection as it is; any other is the payload of a whole frame.
    """

    def __init__(self, world: World, mqtt: ASGIApp | None = None) -> None:
        super().__init__(world, mqtt)
        plain, envelope = self._handshake(b""), self._handshake(b"envelope=1")
        self.seeds = (envelope, *WEBSOCKET_SEEDS)
        self.starts = (
            plain,
            *(frame(seed) for seed in WEBSOCKET_SEEDS),
            frame(b"", 9),
            frame(b"\x03\xe8", 8),
        )
        self.words = WEBSOCKET_WORDS
        self._opened = self._upgraded = 0

    @staticmethod
    def _handshake(query: bytes, key: str = KEY) -> bytes:
        return HANDSHAKE % (CHANNEL.encode(), query, key.encode())

    def feed(self, data: bytes) -> None:
        client = self.free()
        handshake = data[:2] == b"GE"
        client.data = data
        client.busy, client.since = True, self._group
        if handshake or client.transport.closed or client.inputs >= LIFE:
            client.transport.close()
            self.open(client)
            self._opened += not handshake
            query = b"envelope=1" if self._opened % 4 else b""
            client.transport.feed(data if handshake else self._handshake(query))
            client.inputs = LIFE if handshake else 0
        else:
            self._send(client)

    def _wire(self, data: bytes) -> bytes:
        return data if data[:1] >= b"\x80" else frame(data)

    def _send(self, client: Client) -> None:
        data = client.data
        client.heard = b""
        client.inputs += 1
        client.since = self._group
        client.transport.feed(self._wire(data))

    def look(self, client: Client) -> None:
        late = self.late(client, TURNS)
        if client.heard.startswith(b"HTTP/1.1 101") and not client.inputs:
            self._send(client)  # the handshake is over, now comes the input
            return
        upgraded = client.heard.startswith(b"HTTP/1.1 101")
        self._upgraded += upgraded
        # Of handshakes one in eight: nearly all inputs would be some, and each needs a connection of its own.
        if b'"ack"' in client.heard or (upgraded and (client.data in self.seeds or self._upgraded % 8 == 0)):
            self.taken(client.data)
        if client.transport.closed or client.heard or late:
            client.busy = False

    async def ask(self) -> None:
        asked = frame(b'{"id":"asks","payload":21.5}')
        handshake = self._handshake(b"envelope=1", ASKING_KEY)
        answer = await self.answer_to(handshake, b"\r\n\r\n", asked, b'"asks"')
        if not answer.startswith(b"HTTP/1.1 101 ") or b'"ack"' not in answer:
            self.problems.append(f"a client that does nothing wrong heard {answer[-300:]!r}")


class MqttFrames(Frames):
    """MQTT in frames at /mqtt: each connection begins with a valid CONNECT, then one input in four is a raw frame."""

    def __init__(self, world: World) -> None:
        self._mqtt = MqttDoor(world.hub, port=0)
        super().__init__(world, asgi_app(self._mqtt))
        packets = packets_of(5)[:8]
        self.seeds = (self._handshake(b""), *(packet for packet in packets if packet[0] >> 4 in (3, 8, 12)))
        self.starts = (*packets, *(frame(packet, 2) for packet in packets), frame(b"", 9))
        self.words = (*MQTT_WORDS, *WEBSOCKET_WORDS)
        self._sent = 0

    @staticmethod
    def _handshake(query: bytes, key: str = KEY) -> bytes:
        plain = HANDSHAKE.replace(b"/channels/%s/messages/ws?%s", b"/mqtt")
        return plain[: plain.index(b"Authorization")] + b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"

    async def start(self) -> None:
        await self._mqtt.start()
        await super().start()

    async def close(self) -> None:
        await super().close()
        await self._mqtt.close()

    def _wire(self, data: bytes) -> bytes:
        self._sent += 1
        return data if self._sent % 4 == 0 and data not in self.seeds else frame(data, 2)

    def _send(self, client: Client) -> None:
        if not client.inputs:
            connect = mqtt_client.connect(f"ws{self._sent % 16}", "", KEY, version=5)
            client.transport.feed(frame(connect, 2))
        super()._send(client)

    def look(self, client: Client) -> None:
        if client.heard.startswith(b"HTTP/1.1 101") and not client.inputs:
            self._send(client)
        elif client.transport.closed:
            client.busy = False
        elif self._group - client.since > 1 or client.inputs == LIFE:
            client.busy = False
            if client.inputs < LIFE or client.data in self.seeds:
                self.taken(client.data)

    async def ask(self) -> None:
        connect = frame(mqtt_client.connect("asks", "", KEY, version=5), 2)
        heard = await self.answer_to(self._handshake(b""), b"\r\n\r\n", connect, b"\x20\x16\x00\x00")
        if b"\x20\x16\x00\x00" not in heard:
            self.problems.append(f"a client that does nothing wrong heard {heard[-300:]!r}")


def frame(payload: bytes, opcode: int = 0) -> bytes:
    """A masked frame (RFC 6455, 5.2); without `opcode` a text where the payload is one, else bytes."""
    if not opcode:
        try:
            payload.decode()
            opcode = 1
        except UnicodeDecodeError:
            opcode = 2
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | (size if size < 126 else 126)))
    if size >= 126:
        head += size.to_bytes(2, "big")
    key = hashlib.blake2b(payload, digest_size=4).digest()
    pad = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return head + key + masked


@contextmanager
def http() -> Iterator[Door]:
    with opened_world() as world:
        yield from _served(world, Requests(world))


@contextmanager
def websocket() -> Iterator[Door]:
    with opened_world() as world:
        yield from _served(world, Frames(world))


@contextmanager
def mqtt_websocket() -> Iterator[Door]:
    with opened_world() as world:
        yield from _served(world, MqttFrames(world))


def _served(world: World, door: Web) -> Iterator[Door]:
    world.loop.run_until_complete(door.start())
    yield door
    world.loop.run_until_complete(door.close())

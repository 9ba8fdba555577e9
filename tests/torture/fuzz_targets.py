"""What the fuzzer feeds: every parser that strangers reach, and the doors behind them on a transport in memory."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from hub import content, convert, senml, topics, wire
from hub.coap import MIGRATIONS as COAP_MIGRATIONS
from hub.coap import CoapDoor
from hub.coap.admission import Address
from hub.coap.packets import BadPacket
from hub.coap.packets import decode as decode_coap
from hub.errors import BadMessage, SenmlError, TopicError, WireError
from hub.http import MIGRATIONS as HTTP_MIGRATIONS
from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.hub import Hub, HubSettings
from hub.message import SENML_CBOR, SENML_JSON
from hub.mqtt import MIGRATIONS as MQTT_MIGRATIONS
from hub.mqtt import MqttDoor
from hub.mqtt.connection import Connection
from hub.mqtt.decoder import Decoder
from hub.mqtt.reasons import PacketError
from radio import gwmp
from radio.errors import GwmpError

from .cuts import memory_folder
from .fuzz import Opener, Target
from .fuzz_seeds import (
    CBOR_SEEDS,
    CBOR_WORDS,
    CHANNEL,
    COAP_SEEDS,
    COAP_WORDS,
    FAULTS_5,
    GWMP_WORDS,
    HTTP_SEEDS,
    HTTP_WORDS,
    JSON_SEEDS,
    KEY,
    MQTT_WORDS,
    RFC_CBOR,
    SENML,
    SENML_WORDS,
    TOPIC,
    connects_of,
    gwmp_seeds,
    packets_of,
    wire_seeds,
)


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop whose unhandled errors are kept and raised by `settle`."""
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class World:
    """A hub with a thing on a channel, in memory, and its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.failures: list[str] = []
        loop.set_exception_handler(lambda _loop, context: self.failures.append(repr(context)))
        self.folder = memory_folder()
        self.hub: Hub
        self.thing = ""

    async def open(self) -> None:
        self.hub = Hub.open(
            self.folder,
            migrations=(*MQTT_MIGRATIONS, *HTTP_MIGRATIONS, *COAP_MIGRATIONS),
            settings=HubSettings(commit_interval_s=0.05, max_messages=2000),
        )
        registry = self.hub.registry
        registry.create_channel("fuzzed", id=CHANNEL)
        thing, _ = registry.create_thing("fuzzed", key=KEY)
        registry.connect([CHANNEL], [thing.id])
        self.thing = thing.id

    def turn(self) -> None:
        """Let the loop run through what is ready."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def check(self) -> None:
        self.turn()
        if self.failures:
            failures, self.failures = self.failures, []
            raise AssertionError(f"an error on the loop: {failures[0]}")


@contextmanager
def _world() -> Iterator[World]:
    with _loop() as loop:
        world = World(loop)
        try:
            loop.run_until_complete(world.open())
            yield world
            loop.run_until_complete(world.hub.close())
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)


class Transport(asyncio.Transport):
    """The door's side of a connection that nobody is at the other end of."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 1)})
        self._loop, self.protocol = loop, protocol
        self.closed = False
        self.written = 0
        self.first = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)
        if len(self.first) < 16:
            self.first += bytes(data[:16])

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._lost)  # the protocol may change until then

    def _lost(self) -> None:
        self.protocol.connection_lost(None)

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return not self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def feed(self, data: bytes) -> None:
        """Bytes from the peer, in one or two reads."""
        middle = len(data) * (data[-1] if data else 0) // 512
        for piece in (data[:middle], data[middle:]) if middle % 3 else (data,):
            if self.closed:
                return
            self.protocol.data_received(piece)


# MQTT


def mqtt_decoder(version: int) -> Opener:
    connects, packets = connects_of(version), packets_of(version)

    @contextmanager
    def opened() -> Iterator[Target]:
        def feed(data: bytes) -> bool:
            decoder = Decoder(65536)
            decoder.max_alias = 16
            found: list[Any] = []
            try:
                decoder.feed(data, found)
                decoder.feed(b"", found)  # what stands behind a CONNECT
            except PacketError:
                return False
            return bool(found)

        seeds = [connects[0] + packet for packet in packets] + connects
        yield Target(seeds, feed, (*MQTT_WORDS, *FAULTS_5))

    return opened


@contextmanager
def mqtt_session() -> Iterator[Target]:
    """A whole session: the valid CONNECT of either version, then what the fuzzer makes of its packets."""
    with _world() as world:
        door = MqttDoor(world.hub, port=0)
        world.loop.run_until_complete(door.start())

        def feed(data: bytes) -> bool:
            connection = Connection(door)
            transport = Transport(world.loop, connection)
            connection.connection_made(transport)
            transport.feed(data)
            world.turn()
            alive = not transport.closed
            transport.close()
            world.turn()
            return alive

        def settle() -> None:
            for _ in range(20):
                world.check()

        seeds = [
            connect + b"".join(packets[n : n + 3])
            for version in (4, 5)
            for packets in [packets_of(version)[:-1] if version == 4 else packets_of(version)[:12]]
            for connect in connects_of(version)
            for n in range(len(packets) - 2)
        ]
        yield Target(_alive(seeds, feed), feed, (*MQTT_WORDS, *packets_of(4), *packets_of(5)), settle)
        world.loop.run_until_complete(door.close())


def _alive(seeds: list[bytes], feed: Callable[[bytes], bool]) -> list[bytes]:
    """Those sequences that a server need not end: some valid packets make no sense in a row."""
    return [seed for seed in seeds if feed(seed)]


# HTTP


@contextmanager
def http() -> Iterator[Target]:
    """Bytes of a connection, through the door's parser, its short way and the app."""
    with _world() as world:
        app = create_app(world.hub)
        door = HttpDoor(world.hub, app)
        world.loop.run_until_complete(door.start())
        server = door._server
        assert server
        make: Any = server.config.http_protocol_class

        def feed(data: bytes) -> bool:
            protocol = make(
                config=server.config, server_state=server.server_state, app_state={}, _loop=world.loop
            )
            transport = Transport(world.loop, protocol)
            protocol.connection_made(transport)
            transport.feed(data)
            for _ in range(4):
                world.turn()
            good = transport.first[9:10] in (b"1", b"2")
            transport.close()
            world.turn()
            return good

        def settle() -> None:
            world.check()
            for _ in range(1000):
                if not door.wire.open:
                    break
                world.loop.run_until_complete(asyncio.sleep(0.01))  # what waits for a thread of its own
            assert door.wire.open == 0, f"{door.wire.open} connections are still counted"

        yield Target(HTTP_SEEDS, _lenient(feed), HTTP_WORDS, settle)
        world.loop.run_until_complete(door.close())


def _lenient(feed: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """For seeds that are rightly refused (a claim with a wrong code): the first round does not count."""
    first = set(HTTP_SEEDS)

    def fed(data: bytes) -> bool:
        good = feed(data)
        if data in first:
            first.discard(data)
            return True
        return good

    return fed


@contextmanager
def websocket() -> Iterator[Target]:
    """Frames of a client in the envelope form, through the app; frames are told apart by NUL, LF."""
    with _world() as world:
        app = create_app(world.hub)
        scope = {
            "type": "websocket",
            "path": f"/channels/{CHANNEL}/messages/ws",
            "raw_path": b"",
            "query_string": b"envelope=1",
            "headers": [(b"authorization", b"Thing " + KEY.encode())],
            "client": ("192.0.2.1", 1),
            "server": ("192.0.2.2", 1),
            "scheme": "ws",
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}},
            "http_version": "1.1",
        }

        async def talk(data: bytes) -> bool:
            frames = data.split(b"\0\n")
            inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            inbox.put_nowait({"type": "websocket.connect"})
            for frame in frames:
                event: dict[str, Any] = {"type": "websocket.receive"}
                try:
                    event["text"] = frame.decode()
                except UnicodeDecodeError:
                    event["bytes"] = frame
                inbox.put_nowait(event)
            answers: list[dict[str, Any]] = []
            enough = asyncio.Event()

            async def send(event: Any) -> None:
                answers.append(event)
                if len(answers) > len(frames) or event["type"] == "websocket.close":
                    enough.set()

            serving = asyncio.ensure_future(app(dict(scope), inbox.get, send))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await enough.wait()
            inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await serving
            return any('"ack"' in answer.get("text", "") for answer in answers)

        def feed(data: bytes) -> bool:
            return bool(world.loop.run_until_complete(talk(data)))

        seeds = [
            b'{"id":1,"payload":[{"n":"t","v":1}],"content_type":"application/senml+json"}',
            b'{"id":"a","payload":{"door":"open"},"subtopic":"x.y"}',
            b'{"payload_base64":"AQID","idempotency_key":"k"}',
            b'{"id":1,"payload":1}\0\n{"id":2,"payload":"x","subtopic":"a/b"}\0\n{"id":3,"payload_base64":""}',
        ]
        words = (
            b"\0\n",
            b'"id":',
            b'"payload":',
            b'"subtopic":"',
            b"null",
            b"1e999",
            b"\xff",
            b"[" * 40,
            b"\\ud800",
        )
        yield Target([seed for seed in seeds if feed(seed)], feed, words, world.check)


# CoAP


@contextmanager
def coap_decoder() -> Iterator[Target]:
    def feed(data: bytes) -> bool:
        try:
            decode_coap(data)
        except BadPacket:
            return False
        return True

    yield Target(COAP_SEEDS, feed, COAP_WORDS)


@contextmanager
def coap_door() -> Iterator[Target]:
    """Admission, deduplication, block-wise, observe and OSCORE, with datagrams from many forged addresses."""
    with _world() as world:
        now = 0.0
        door = CoapDoor(world.hub, port=0, clock=lambda: now)
        world.loop.run_until_complete(door.start())
        sent = [0]
        door.endpoint.send = door.endpoint.outgoing._send = lambda data, _to: sent.__setitem__(
            0, sent[0] + len(data)
        )

        def feed(data: bytes) -> bool:
            nonlocal now
            now += 0.01
            sent[0] = 0
            port = sum(data[:8]) % 5000 + 1
            door.receive(data, Address((f"192.0.2.{port % 250}", port)))
            world.turn()
            return sent[0] > 0

        def settle() -> None:
            world.check()
            door.tick()

        yield Target(
            [seed for seed in COAP_SEEDS if feed(seed)] or list(COAP_SEEDS), feed, COAP_WORDS, settle
        )
        world.loop.run_until_complete(door.close())


# Content


def _plain(
    seeds: list[bytes], take: Callable[[bytes], object], errors: Any, words: tuple[bytes, ...]
) -> Opener:
    """A function of bytes with declared errors."""

    @contextmanager
    def opened() -> Iterator[Target]:
        def feed(data: bytes) -> bool:
            try:
                take(data)
            except errors:
                return False
            return True

        yield Target(seeds, feed, words)

    return opened


def _both_ways(content_type: str) -> Callable[[bytes], object]:
    def take(data: bytes) -> object:
        records = senml.decode(content_type, data, 1.7e9)
        senml.encode_json(records)
        senml.encode_cbor(records)
        return convert.transcode(content_type, data, SENML_CBOR if content_type == SENML_JSON else SENML_JSON)

    return take


def _content(data: bytes) -> object:
    kind, _, payload = data.partition(b"\n")
    name = kind.decode("latin-1")
    convert.negotiate(name, SENML_JSON)
    return content.check(name, payload, 1.7e9)


def _topic(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    refused = 0
    for parse in (topics.parse_topic, topics.parse_filter, topics.parse_subtopic):
        try:
            parse(text)
        except TopicError:
            refused += 1
    if refused == 3:
        raise TopicError("all three")
    return text


SLOW = frozenset({"mqtt session", "http", "websocket", "coap door"})

TARGETS: dict[str, Opener] = {
    "mqtt 3.1.1 decoder": mqtt_decoder(4),
    "mqtt 5 decoder": mqtt_decoder(5),
    "mqtt session": mqtt_session,
    "http": http,
    "websocket": websocket,
    "coap decoder": coap_decoder,
    "coap door": coap_door,
    "senml json": _plain(JSON_SEEDS, _both_ways(SENML_JSON), SenmlError, SENML_WORDS),
    "senml cbor": _plain(CBOR_SEEDS, _both_ways(SENML_CBOR), SenmlError, CBOR_WORDS),
    "wire": _plain(
        wire_seeds(), wire.decode, WireError, (b"\x0a", b"\xff" * 9 + b"\x01", b"\x80\x80", b"\x7a\x02")
    ),
    "gwmp": _plain(gwmp_seeds(), gwmp.decode, GwmpError, GWMP_WORDS),
    "topics": _plain(
        [
            TOPIC.encode(),
            f"channels/{CHANNEL}/messages/+/#".encode(),
            b"mainflux/channels/x/messages/senml-json",
            b"a.b",
        ],
        _topic,
        TopicError,
        (b"/", b"+", b"#", b"$", b".", b"*", b">", b"\x00", b"\xed\xa0\x80", b"//", b"messages"),
    ),
    "content": _plain(
        [
            SENML_JSON.encode() + b"\n" + SENML,
            SENML_CBOR.encode() + b"\n" + RFC_CBOR,
            b"application/json; charset=utf-8\n{}",
        ],
        _content,
        BadMessage,
        (b"\n", b";q=", b"*/*", b"application/", b"senml+json", b"[{", b"\xff"),
    ),
}

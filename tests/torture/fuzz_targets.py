"""What the fuzzer feeds: every parser that strangers reach, and the doors behind them on a transport in memory."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cbor2
import uvloop

from hub import content, convert, senml, topics, wire
from hub.coap import MIGRATIONS as COAP_MIGRATIONS
from hub.coap import CoapDoor
from hub.coap.admission import Address
from hub.coap.packets import BadPacket, encode
from hub.coap.packets import decode as decode_coap
from hub.errors import BadMessage, SenmlError, TopicError, WireError
from hub.http import MIGRATIONS as HTTP_MIGRATIONS
from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.hub import Hub, HubSettings
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, Properties
from hub.mqtt import MIGRATIONS as MQTT_MIGRATIONS
from hub.mqtt import MqttDoor
from hub.mqtt.connection import Connection
from hub.mqtt.decoder import Decoder
from hub.mqtt.reasons import PacketError
from radio import gwmp
from radio.errors import GwmpError
from radio.lora import LoRaModulation

from . import mqtt_client as client
from .cuts import memory_folder
from .fuzz import Opener, Target

CHANNEL = "a3f6c1b2-0000-4000-8000-000000000001"
KEY = "key-of-the-fuzzed-thing-0001"
TOPIC = f"channels/{CHANNEL}/messages/a/b"
SENML = b'[{"bn":"urn:dev:mac:0011223344556677:","bt":1.6e9,"bu":"Cel","bver":10,"n":"t","v":21.5},{"n":"h","vs":"x"}]'
RFC_CBOR = cbor2.dumps(
    [
        {
            -2: "urn:dev:ow:10e2073a0108006:",
            -3: 1276020076.001,
            -4: "A",
            -1: 10,
            0: "voltage",
            1: "V",
            2: 120.1,
        },
        {0: "current", 6: -5, 2: 1.2},
        {0: "open", 4: True},
        {0: "blob", 8: b"\x01\x02"},
    ]
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


def _connects(version: int) -> list[bytes]:
    return [
        client.connect("fuzz", "", KEY, version=version),
        client.connect("kept", "", KEY, version=version, clean=False),
        client.connect("will", "", KEY, version=version, will=(TOPIC, b"gone")),
    ]


def _packets(version: int) -> list[bytes]:
    subscription = f"channels/{CHANNEL}/messages/#"
    packets = [
        client.publish(TOPIC, b"", 0, version=version, retain=True),
        client.publish(TOPIC, b"hello", 1, 1, version=version),
        client.publish(TOPIC, SENML, 2, 2, version=version),
        client.publish(f"channels/{CHANNEL}/messages/senml-json", SENML, 1, 9, version=version, retain=True),
        client.subscribe(3, subscription, 2, version=version),
        client.subscribe(4, f"channels/{CHANNEL}/messages/+/b", 1, version=version),
        client.packet(0xA2, b"\x00\x05" + (b"\x00" if version == 5 else b"") + client.text(subscription)),
        b"\xc0\x00",
        *(client.answer(first, 2) for first in (0x40, 0x50, 0x62, 0x70)),
        b"\xe0\x00",
    ]
    if version == 5:
        name = client.text(TOPIC)
        properties = (
            b"\x01\x01\x02\x00\x00\x00\x3c\x03" + client.text("text/plain") + b"\x08" + client.text("r/t")
        )
        properties += (
            b"\x09" + client.text(b"\x01") + b"\x26" + client.text("k") + client.text("v") + b"\x23\x00\x02"
        )
        packets += [
            client.packet(0x32, name + b"\x00\x07" + bytes((len(properties),)) + properties + b"payload"),
            client.packet(0x82, b"\x00\x08\x02\x0b\x07" + client.text(subscription) + b"\x2e"),
            client.packet(0x82, b"\x00\x09\x00" + client.text(f"$share/g/{subscription}") + b"\x01"),
            client.packet(0x50, b"\x00\x02\x10\x00"),
            client.packet(0xE0, b"\x04\x05\x11\x00\x00\x00\x0a"),
        ]
    return packets


MQTT_WORDS = (
    b"\x00\x04MQTT",
    b"\x00\x06MQIsdp",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x00",
    b"\xff\xff\xff\xff\xff",
    b"\x00\x00",
    b"\xff\xff",
    b"#",
    b"+",
    b"/",
    b"$share/",
    b"$SYS/#",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\x1f",
    b"\x26\x00\x01a\x00\x01b",
    b"\x0b\x80\x01",
    b"\x11\xff\xff\xff\xff",
    b"\x21\x00\x00",
    b"\x22\xff\xff",
    b"\x15\x00\x01x",
)


FAULTS_5 = (  # whole packets that a server must end the connection for
    client.packet(0x30, client.text("") + b"\x03\x23\x00\x03payload"),  # an alias nobody has set
    client.packet(0xF0, b"\x00\x00"),  # AUTH where no method was agreed on
)


def mqtt_decoder(version: int) -> Opener:
    connects, packets = _connects(version), _packets(version)

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
            for packets in [_packets(version)[:-1] if version == 4 else _packets(version)[:12]]
            for connect in _connects(version)
            for n in range(len(packets) - 2)
        ]
        yield Target(_alive(seeds, feed), feed, (*MQTT_WORDS, *_packets(4), *_packets(5)), settle)
        world.loop.run_until_complete(door.close())


def _alive(seeds: list[bytes], feed: Callable[[bytes], bool]) -> list[bytes]:
    """Those sequences that a server need not end: some valid packets make no sense in a row."""
    return [seed for seed in seeds if feed(seed)]


# HTTP


def _request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "gateway", "Authorization": f"Thing {KEY}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HTTP_SEEDS = (
    _request("POST", f"/channels/{CHANNEL}/messages/a/b", SENML, Content_Type=SENML_JSON),
    _request(
        "POST", f"/channels/{CHANNEL}/messages", RFC_CBOR, Content_Type=SENML_CBOR, Idempotency_Key='"k1"'
    ),
    _request("POST", f"/http/channels/{CHANNEL}/messages", b"x", Content_Type=OCTET_STREAM),
    _request(
        "GET", f"/channels/{CHANNEL}/messages?limit=3&offset=1&name=t&v=1.5&comparator=lt&from=1&to=2e9"
    ),
    _request("GET", f"/channels/{CHANNEL}/messages/a.b?vs=x&vb=true&vd=AQI&format=json", Accept=SENML_CBOR),
    _request("GET", "/version"),
    _request("GET", "/metrics"),
    _request("GET", "/things?limit=2&name=f"),
    _request("POST", "/tokens", b'{"email":"a@b.c","password":"x"}', Content_Type=JSON),
    _request(
        "POST", "/claim", b'{"code":"AAAA-BBBB","email":"a@b.c","password":"password"}', Content_Type=JSON
    ),
    _request("PUT", "/things/1", b'{"name":"n","metadata":{}}', Content_Type=JSON, If_None_Match='"1"'),
    _request("OPTIONS", "/"),
    b"POST /channels/"
    + CHANNEL.encode()
    + b"/messages HTTP/1.1\r\nHost: g\r\nAuthorization: Thing "
    + KEY.encode()
    + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /channels/"
    + CHANNEL.encode()
    + b"/messages HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade"
    b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Thing "
    + KEY.encode()
    + b"\r\n\r\n\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e\x88\x80\x01\x02\x03\x04",
)
HTTP_WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: application/json; charset=utf-7\r\n",
    b"Authorization: Basic YTpi\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Last-Event-ID: 99999999999999999999\r\n",
    b"Accept: */*;q=nan, application/senml+cbor;q=0.1\r\n",
    b"Upgrade: websocket\r\n",
    b"%00",
    b"%2e%2e/",
    b"%ff",
    b"..",
    b"?limit=1e9",
    b"&offset=-1",
    b"&v=nan",
    b"&from=inf",
    b"/stream",
    b"HTTP/2.0",
    b"\x00",
    b"fffffffffffffffff\r\n",
)


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

COAP_SEEDS = tuple(
    encode(0, code, 0x1234, b"to", tuple(sorted(options)), payload)
    for code, options, payload in (
        (
            2,
            [
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (12, b"\x6e"),
                (15, b"auth=" + KEY.encode()),
            ],
            SENML,
        ),
        (
            1,
            [
                (6, b""),
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (15, b"auth=" + KEY.encode()),
                (17, b"\x70"),
            ],
            b"",
        ),
        (
            2,
            [
                (11, b"channels"),
                (11, CHANNEL.encode()),
                (11, b"messages"),
                (11, b"a"),
                (15, b"auth=" + KEY.encode()),
                (27, b"\x0e"),
            ],
            bytes(1024),
        ),
        (1, [(11, b".well-known"), (11, b"core"), (23, b"\x06")], b""),
        (5, [(9, b"\x09\x01\x00"), (252, b"12345678")], bytes(20)),
        (3, [(11, b"x"), (3, b"host"), (7, b"\x16\x33"), (60, b"\x01"), (258, b"\x02")], b"x"),
    )
)
COAP_WORDS = (
    b"\xff",
    b"\xd0\x00",
    b"\xe0\xff\xff",
    b"\xdd\xff\xff",
    b"\xbb",
    b"auth=",
    b"\x0f\x0f",
    b"\x61\x45",
    b"\x70\x00",
)


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


SENML_WORDS = (
    b'"bn":',
    b'"v":',
    b'"vs":',
    b'"vd":"AQ=="',
    b'"t":-1',
    b"1e999",
    b"-0",
    b"null",
    b"\\ud800",
    b"[" * 99,
    b"1" * 400,
)
CBOR_WORDS = (
    b"\x9f",
    b"\xbf",
    b"\xff",
    b"\xfb\x7f\xf0" + bytes(6),
    b"\xc4\x82",
    b"\x81" * 50,
    b"\xd9\xd9\xf7",
    b"\xf9\x7e\x00",
    b"\x1b" + b"\xff" * 8,
    b"\x5b" + b"\xff" * 8,
    b"\xd8\x1c",
    b"\xd8\x1d\x00",
)
CBOR_SEEDS = [RFC_CBOR, cbor2.dumps([{0: "x", 2: cbor2.CBORTag(4, [-1, 215])}])]
JSON_SEEDS = [
    SENML,
    b'[{"bn":"urn:dev:ow:10e2073a01080063","t":1.276020076e+09,"u":"Cel","v":23.1}]',
    b'[{"n":"urn:x","vb":true},{"n":"urn:y","vd":"AQID"},{"n":"urn:z","s":1,"ut":5,"t":-10,"v":0}]',
]


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


def _wire_seeds() -> list[bytes]:
    plain = Message(CHANNEL, "a.b", "thing", "mqtt", SENML_JSON, SENML, 1_700_000_000_000_000_000, 7)
    rich = Message(
        CHANNEL,
        "",
        "thing",
        "mqtt",
        OCTET_STREAM,
        b"\x00",
        1,
        9,
        qos=1,
        retain=True,
        boot="boot",
        properties=Properties(1, 5, "r/t", b"\x01", (("a", "b"),), "text/plain"),
    )
    return [wire.encode(message, "02f10f6a7e0000aa") for message in (plain, rich)]


def _gwmp_seeds() -> list[bytes]:
    eui = bytes(range(8))
    rx = gwmp.RxPacket(
        1,
        868_100_000,
        0,
        0,
        1,
        LoRaModulation(7, 125_000),
        -80,
        7.5,
        b"\x40data",
        1_700_000_000_000_000_000,
        5,
    )
    tx = gwmp.TxPacket(1000, False, 868_100_000, 0, 14, LoRaModulation(9, 125_000), True, b"\x60x", False, 8)
    return [
        gwmp.encode(one)
        for one in (
            gwmp.PushData(1, eui, (rx, rx), None),
            gwmp.PullData(2, eui),
            gwmp.PullResp(3, tx),
            gwmp.TxAck(4, eui, gwmp.TxError.TOO_LATE),
            gwmp.PushAck(5),
            gwmp.PullAck(6),
        )
    ] + [
        b"\x02\x00\x07\x00"
        + eui
        + b'{"stat":{"time":"2014-01-12 08:59:28 GMT","lati":46.2,"long":3.2,"alti":145,"rxnb":2}}'
    ]


GWMP_WORDS = (
    b'"rxpk":[',
    b'"tmst":',
    b'"freq":',
    b'"datr":"SF7BW125"',
    b'"datr":50000',
    b'"data":"',
    b"1e999",
    b"-1",
    b"null",
    b"4294967296",
    b"[" * 60,
    b'"stat":{',
)

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
        _wire_seeds(), wire.decode, WireError, (b"\x0a", b"\xff" * 9 + b"\x01", b"\x80\x80", b"\x7a\x02")
    ),
    "gwmp": _plain(_gwmp_seeds(), gwmp.decode, GwmpError, GWMP_WORDS),
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

"""A real mosquitto on a free port, a broker that acknowledges as told, a subscriber that keeps all."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.demo.broker import free_port
from gateway.upstream.relay import Relay
from hub.message import OCTET_STREAM, Message
from tests.gateway.upstream.servers import DEADLINE_S, Server

CHANNEL = "6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c10"


def new_message(n: int, *, device: str = "device-1", **changes: object) -> Message:
    values: dict[str, object] = {
        "channel": CHANNEL,
        "subtopic": "",
        "publisher": device,
        "protocol": "lora",
        "content_type": OCTET_STREAM,
        "payload": b"%s %d" % (device.encode(), n),
        "created_ns": 1_790_000_000_000_000_000 + n,
    }
    return Message(**(values | changes))  # type: ignore[arg-type]


@dataclass
class Mosquitto(Server):
    """Keeps what it is told to keep on the disk."""

    ready = b"running"

    settings: Sequence[str] = ("allow_anonymous true",)

    def command(self) -> list[str]:
        config = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence true",
            f"persistence_location {self.folder}/",
            "max_queued_messages 0",
            *self.settings,
        ]
        config.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program, "these tests need Debian's mosquitto"
        return [program, "-c", str(config)]


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    started: list[Mosquitto] = []

    def start(*settings: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(started)}"
        folder.mkdir()
        broker = Mosquitto(folder, settings or ("allow_anonymous true",))
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.stop(signal.SIGKILL)


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    return start_mosquitto()


class Cloud:
    """An independent client with a persistent session that keeps every message it is sent."""

    def __init__(self, port: int, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> None:
        self.heard: queue.Queue[MQTTMessage] = queue.Queue()
        self.kept: list[MQTTMessage] = []
        self._subscribed: queue.Queue[None] = queue.Queue()
        of_5 = protocol is MQTTProtocolVersion.MQTTv5
        self.client = Client(
            CallbackAPIVersion.VERSION2, "cloud", protocol=protocol, clean_session=None if of_5 else False
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: self._subscribed.put(None)
        self.client.on_message = lambda client, userdata, heard: self.heard.put(heard)
        if of_5:
            kept_for_a_day = Properties(PacketTypes.CONNECT)
            kept_for_a_day.SessionExpiryInterval = 86_400
            self.client.connect("127.0.0.1", port, clean_start=False, properties=kept_for_a_day)
        else:
            self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self) -> None:
        """Until the next subscription, the first or the one after a broken connection, is in force."""
        self._subscribed.get(timeout=DEADLINE_S)

    async def collect(self, enough: Callable[[list[MQTTMessage]], bool]) -> list[MQTTMessage]:
        """Everything heard so far, waiting until it is `enough`."""
        while not enough(self.kept):
            self.kept.append(await asyncio.to_thread(self.heard.get, timeout=DEADLINE_S))
        return self.kept

    async def collect_payloads(self, wanted: set[bytes]) -> list[bytes]:
        heard = await self.collect(lambda kept: wanted <= {bytes(each.payload) for each in kept})
        return [bytes(each.payload) for each in heard]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def cloud_of() -> Iterator[Callable[..., Cloud]]:
    clouds: list[Cloud] = []

    def connect(broker: Mosquitto, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> Cloud:
        clouds.append(Cloud(broker.port, protocol))
        return clouds[-1]

    yield connect
    for cloud in clouds:
        cloud.close()


@contextlib.asynccontextmanager
async def run_relay(relay: Relay) -> AsyncIterator[Relay]:
    """The relay's task for the length of a block; what it raises fails the test."""
    task = asyncio.create_task(relay.run(), name="relay")
    try:
        yield relay
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - any condition, not one event
            await asyncio.sleep(0.002)


class StubBroker:
    """A broker whose acknowledgements the test decides; packets per MQTT 3.1.1, properties left unread.

    `answer(index, packet id)` is called for each PUBLISH, index counting from 0 over all connections,
    and returns bytes to send. Nothing is acknowledged by itself.
    """

    def __init__(self, *, connack: bytes = b"\x20\x03\x00\x00\x00") -> None:
        self.connack = connack
        self.answer: Callable[[int, int], bytes] = lambda index, mid: b""
        self.pongs = True
        self.published: list[bytes] = []
        self.connections = 0
        self.pings = 0
        self.writer: asyncio.StreamWriter | None = None
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[StubBroker]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Break the connection without a word."""
        if self.writer is not None:
            self.writer.transport.abort()

    def cut_after_flush(self) -> None:
        """Close once what was written has left."""
        if self.writer is not None:
            self.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, body = await self._packet(reader)
                if kind & 0xF0 == 0x10:
                    writer.write(self.connack)
                elif kind & 0xF0 == 0x30:
                    topic_length = int.from_bytes(body[:2], "big")
                    mid = int.from_bytes(body[2 + topic_length : 4 + topic_length], "big")
                    self.published.append(body)
                    writer.write(self.answer(len(self.published) - 1, mid))
                elif kind & 0xF0 == 0xC0:
                    self.pings += 1
                    if self.pongs:
                        writer.write(b"\xd0\x00")
        writer.close()

    async def _packet(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        kind = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return kind, await reader.readexactly(length)


class BadLine:
    """A line to a server on this machine that breaks again and again, after as many bytes as the dice say.

    One break in three is a black hole: the connection stands, and nothing comes through any more, either way or
    one way only. `mend` ends all that.
    """

    def __init__(self, port: int, *, seed: int, most_bytes: int, black_holes: bool = True) -> None:
        self.breaks = 0
        self.port = 0
        self._good = False
        self._to = port
        self._rng = random.Random(seed)
        self._most = most_bytes
        self._black_holes = black_holes
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def standing(self) -> AsyncIterator[BadLine]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._cut()
            await asyncio.sleep(0)

    def mend(self) -> None:
        """Cut what is open a last time; what comes then stands."""
        self._good = True
        self._cut()

    def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to}
        budget = [1 << 60 if self._good else self._rng.randrange(1, self._most)]
        # which directions still get through once the budget is spent; None: the connection is cut
        fates: list[set[str] | None] = [set(), {"out"}, None, None, None, None]
        fate = self._rng.choice(fates) if self._black_holes else None
        ways = (self._carry(reader, to, "out", budget, fate), self._carry(there, writer, "in", budget, fate))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(*ways)
        for each in (writer, to):
            each.transport.abort()
            self._open.discard(each)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: str,
        budget: list[int],
        fate: set[str] | None,
    ) -> None:
        while data := await reader.read(4096):
            part = data[: max(0, budget[0])]
            budget[0] -= len(data)
            if budget[0] > 0 or (fate is not None and way in fate):
                writer.write(data)
                continue
            writer.write(part)
            if part:
                self.breaks += 1
            if fate is None:
                raise ConnectionResetError
        raise ConnectionResetError  # one side has ended: so does the other


def encode_puback(mid: int, reason: int = 0) -> bytes:
    """MQTT 5.0, 3.4."""
    return b"\x40\x03" + mid.to_bytes(2, "big") + bytes([reason])


@pytest.fixture
def message() -> Callable[..., Message]:
    return new_message


@pytest.fixture
def running() -> Callable[[Relay], contextlib.AbstractAsyncContextManager[Relay]]:
    return run_relay


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return wait_until


@pytest.fixture
def stub_broker() -> Callable[..., StubBroker]:
    return StubBroker


@pytest.fixture
def bad_line() -> Callable[..., BadLine]:
    return BadLine


@pytest.fixture
def puback() -> Callable[..., bytes]:
    return encode_puback


@pytest.fixture
def unused_port() -> int:
    return free_port()

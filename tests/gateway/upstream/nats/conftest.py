"""A real nats-server on a free port, that can be killed, frozen and started again, and a plain client to judge by."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nats
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from gateway.demo.broker import free_port
from gateway.upstream.backoff import Backoff
from gateway.upstream.nats import NatsSink
from gateway.upstream.nats_config import NatsServers, NatsSinkConfig, StreamSettings
from gateway.upstream.refusals import MIGRATIONS
from gateway.upstream.relay import Relay
from hub.log import Log
from tests.gateway.upstream.servers import DEADLINE_S, Server

GATEWAY = "0102030405060708"


@dataclass
class NatsServer(Server):
    """JetStream keeps its files in `folder`; `settings` and `jetstream` are further lines of the configuration.

    `jetstream` None switches it off.
    """

    ready = b"Server is ready"

    settings: Sequence[str] = ()
    jetstream: str | None = ""

    def command(self) -> list[str]:
        config = self.folder / "nats.conf"
        lines = [
            f"listen: 127.0.0.1:{self.port}",
            *self.settings,
        ]
        if self.jetstream is not None:
            lines += ["jetstream {", f'store_dir: "{self.folder}/jetstream"', self.jetstream, "}"]
        config.write_text("\n".join(lines) + "\n")
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program, "these tests need nats-server"
        return [program, "-c", str(config)]

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        super().stop(number)


@pytest.fixture
def start_nats(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    started: list[NatsServer] = []

    def start(*settings: str, jetstream: str | None = "") -> NatsServer:
        folder = tmp_path / f"nats-{len(started)}"
        folder.mkdir()
        server = NatsServer(folder, settings, jetstream)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def nats_cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three servers that replicate."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    servers = []
    for n, port in enumerate(ports):
        folder = tmp_path / f"node-{n}"
        folder.mkdir()
        cluster = f"cluster {{ name: fleet, listen: 127.0.0.1:{port}, routes: [{routes}] }}"
        servers.append(NatsServer(folder, (f"server_name: node-{n}", cluster)))
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def nats_server(start_nats: Callable[..., NatsServer]) -> NatsServer:
    return start_nats()


class Stored(NamedTuple):
    """One message of a stream, as a plain client reads it."""

    id: str
    subject: str
    data: bytes
    headers: dict[str, str]


@contextlib.asynccontextmanager
async def connected(server: NatsServer, **options: object) -> AsyncIterator[Client]:
    """A plain client."""
    client = await nats.connect(f"nats://127.0.0.1:{server.port}", **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


async def read_stream(server: NatsServer, stream: str = "channels", **options: object) -> list[Stored]:
    """Everything in the stream, in its order."""
    async with connected(server, **options) as client:
        stream_api = client.jetstream()
        info = await stream_api.stream_info(stream)
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        reading = await stream_api.pull_subscribe("", stream=stream, config=config)
        found: list[Stored] = []
        while len(found) < info.state.messages:
            for each in await reading.fetch(min(500, info.state.messages - len(found)), timeout=DEADLINE_S):
                headers = dict(each.headers or {})
                found.append(Stored(headers.get("Nats-Msg-Id", ""), each.subject, each.data, headers))
        return found


def mainflux_message(data: bytes) -> tuple[str, str, str, str, bytes, int]:
    """What a Mainflux service makes of it: its six fields."""
    message = _MAINFLUX.FromString(data)
    return (
        message.channel,
        message.subtopic,
        message.publisher,
        message.protocol,
        message.payload,
        message.created,
    )


def _mainflux_class() -> type:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="mainflux.proto", package="messaging", syntax="proto3")
    kind = file.message_type.add(name="Message")
    text, raw, number = kinds.TYPE_STRING, kinds.TYPE_BYTES, kinds.TYPE_INT64
    fields = {"channel": text, "subtopic": text, "publisher": text, "protocol": text, "payload": raw}
    for place, (name, kind_of) in enumerate((fields | {"created": number}).items(), start=1):
        kind.field.add(name=name, number=place, type=kind_of, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("messaging.Message"))


_MAINFLUX = _mainflux_class()


def servers_of(*servers: NatsServer, **settings: object) -> NatsServers:
    addresses = tuple(f"127.0.0.1:{server.port}" for server in servers)
    return NatsServers(**({"servers": addresses, "tls": False, "keepalive_s": 5} | settings))  # type: ignore[arg-type]


def sink_of(
    *servers: NatsServer,
    kind: type[NatsSink] = NatsSink,
    cluster: dict[str, object] | None = None,
    stream: dict[str, object] | None = None,
    **settings: object,
) -> NatsSink:
    config = NatsSinkConfig(
        name="fleet",
        cluster=servers_of(*servers, **(cluster or {})),
        stream=StreamSettings(**(stream or {})),  # type: ignore[arg-type]
        **settings,  # type: ignore[arg-type]
    )
    return kind(config, GATEWAY)


def relay_over(log: Log, sink: NatsSink) -> Relay:
    return Relay(log, sink, backoff=Backoff(base_s=0.02, cap_s=0.05))


def open_log_at(folder: Path, max_messages: int = 1_000_000) -> Log:
    return Log.open(folder / "log.db", migrations=MIGRATIONS, max_messages=max_messages)


def orders_of(stored: Sequence[Stored]) -> dict[str, list[int]]:
    """Sequence numbers of each subject, in the order of the stream."""
    orders = defaultdict(list)
    for each in stored:
        orders[each.subject].append(int(each.id.rpartition("/")[2]))
    return orders


@pytest.fixture
def plain_client() -> Callable[..., contextlib.AbstractAsyncContextManager[Client]]:
    return connected


@pytest.fixture
def stream_of() -> Callable[..., object]:
    return read_stream


@pytest.fixture
def mainflux() -> Callable[[bytes], tuple[str, str, str, str, bytes, int]]:
    return mainflux_message


@pytest.fixture
def cluster_of() -> Callable[..., NatsServers]:
    return servers_of


@pytest.fixture
def sink_to() -> Callable[..., NatsSink]:
    return sink_of


@pytest.fixture
def relay_to() -> Callable[[Log, NatsSink], Relay]:
    return relay_over


@pytest.fixture
def open_log(tmp_path: Path) -> Callable[..., Log]:
    return partial(open_log_at, tmp_path)


@pytest.fixture
def orders() -> Callable[[Sequence[Stored]], dict[str, list[int]]]:
    return orders_of

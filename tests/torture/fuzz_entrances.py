"""What strangers send before a door has a connection: PROXY headers and TLS handshakes, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hub.authority import profile
from hub.authority.doorkeeper import entrance_of
from hub.mqtt import MqttDoor
from hub.mqtt.connection import Connection
from hub.mqtt.proxied import ProxiedListener

from . import mqtt_client as client
from .fuzz import GROUP, Door
from .fuzz_seeds import KEY
from .fuzz_strangers import PROXY_SEEDS, PROXY_WORDS
from .fuzz_world import World, opened_world

CONNACK = b"\x20\x02\x00\x00"
HELLO = client.connect("hello", "", KEY)
TURNS = 8  # of the loop after a group
ANSWER_S = 20.0  # the most that a client waits, on a machine however busy
TLS_WORDS = (
    *(b"\x16\x03\x01", b"\x15\x03\x03\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\xff\xff"),
    *(
        b"\x00\x0b\x00\x00\x00",
        b"\x18\x03\x02\x00\x03\x01\x40\x00",
        b"\x00\x2b\x00\x02\x03\x05",
        b"GET / HTTP/1.1\r\n",
    ),
)


class Entrances(Door):
    """Each input is a connection of its own, which its client leaves as soon as it has spoken."""

    def __init__(self, world: World) -> None:
        super().__init__(world.loop)
        self.world = world
        self._door = MqttDoor(world.hub, port=0)
        self._fed: list[tuple[bytes, socket.socket]] = []

    async def start(self) -> None:
        await self._door.start()

    async def close(self) -> None:
        await self._door.close()

    @abstractmethod
    def accept(self, accepted: socket.socket) -> None:
        """Take the door's end of a connection."""

    @abstractmethod
    def under_way(self) -> int:
        """Connections that have not come to a door yet, nor to an end."""

    def connect(self) -> socket.socket:
        ours, accepted = socket.socketpair()
        for each in (ours, accepted):
            each.setblocking(False)
        self.accept(accepted)
        return ours

    def feed(self, data: bytes) -> None:
        ours = self.connect()
        ours.send(data)
        self._fed.append((data, ours))

    async def turn(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await self.world.durable()
        for data, ours in self._fed:
            if _heard(ours):
                self.taken(data)
            ours.close()
        self._fed.clear()
        await self._rest(GROUP)

    async def settle(self) -> None:
        await self._rest(0)
        self._door.sweep()
        await self.ask()
        self.problems += self.world.found()

    async def _rest(self, most: int) -> None:
        """Until no more than `most` are under way."""
        for _ in iter(lambda: self.under_way() <= most, True):
            await asyncio.sleep(0.001)

    @abstractmethod
    async def ask(self) -> None:
        """A client that does nothing wrong is answered."""


def _heard(ours: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return ours.recv(4096)
    return b""


class Announcements(Entrances):
    """A PROXY header, damaged, and MQTT behind it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._listener = ProxiedListener(
            partial(Connection, self._door), lambda _peer: True, self._door.misannounced, self._door.limits
        )
        heads = [seed[: seed.rindex(b"\r\n") + 2] for seed in PROXY_SEEDS[:3]]
        blocks = [seed[: 16 + seed[15]] for seed in PROXY_SEEDS[3:]]
        self.seeds = [head + HELLO for head in (*heads, *blocks)]
        self.words = (*PROXY_WORDS, HELLO)

    def accept(self, accepted: socket.socket) -> None:
        task = self.loop.create_task(self._listener._open(accepted, "192.0.2.1"))
        self._listener._opening.add(task)
        task.add_done_callback(self._listener._opening.discard)

    def under_way(self) -> int:
        return len(self._listener._opening)

    async def ask(self) -> None:
        ours = self.connect()
        ours.send(self.seeds[0])
        heard = await asyncio.wait_for(self.loop.sock_recv(ours, 4), 60)
        ours.close()
        if heard != CONNACK:
            self.problems.append(f"a client that does nothing wrong heard {heard!r}")


class Handshakes(Entrances):
    """Bytes in place of a handshake, and records of a client in the middle of one or behind it.

    The first byte says how many of its own flights the client sends rightly before it sends the rest of the input.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        now_s = world.hub.now_s()
        root = profile.make_root("fuzzed", ("localhost",), now_s)
        issuing = profile.make_issuing(root, 1, ("localhost",), now_s)
        pair = profile.make_server(issuing, profile.Names(("localhost",)), now_s)
        file = Path(world.folder) / "tls.pem"
        file.write_text(profile.key_pem(pair.key) + profile.pem([pair.certificate, issuing.certificate]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=profile.pem([root.certificate]))
        context.verify_mode = ssl.CERT_OPTIONAL
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.load_verify_locations(cadata=profile.pem([root.certificate]))
        self._entrance = entrance_of(world.hub, context, "mqtt")
        self._talks: set[asyncio.Task[None]] = set()
        hello = self._client()[1]
        self.seeds = [b"\x00" + hello]
        self.starts = [
            b"\x01\x14\x03\x03\x00\x01\x01",
            b"\x01" + hello,
            b"\x00GET / HTTP/1.1\r\n\r\n",
            b"\x02" + hello,
        ]
        self.words = TLS_WORDS

    def _client(self) -> tuple[ssl.SSLObject, bytes, ssl.MemoryBIO, ssl.MemoryBIO]:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = self._context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
        return made, outgoing.read(), incoming, outgoing

    async def close(self) -> None:
        await self._entrance.close()
        await super().close()

    def accept(self, accepted: socket.socket) -> None:
        self._entrance.begin(accepted, "192.0.2.1", lambda shown: Connection(self._door, "", shown))

    def under_way(self) -> int:
        return len(self._entrance._under_way) + len(self._talks)

    def feed(self, data: bytes) -> None:
        task = self.loop.create_task(self._talk(data[:1], data[1:]))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _talk(self, flights: bytes, rest: bytes) -> None:
        ours = self.connect()
        with contextlib.closing(ours), contextlib.suppress(OSError, TimeoutError):
            if sum(flights) % 4:
                await self._shake_hands(ours, sum(flights) % 4)
            ours.send(rest)
            ours.shutdown(socket.SHUT_WR)
            if await self._answer(ours):
                self.taken(flights + rest)

    async def _answer(self, ours: socket.socket) -> bytes:
        return await asyncio.wait_for(self.loop.sock_recv(ours, 65536), ANSWER_S)

    async def _shake_hands(self, ours: socket.socket, flights: int) -> bytes:
        """As many flights as a client sends rightly; what it reads in the end."""
        made, wire, incoming, outgoing = self._client()
        heard = b""
        for flight in range(flights):
            ours.send(wire)
            if flight + 1 < flights:
                incoming.write(await self._answer(ours))
                with contextlib.suppress(ssl.SSLWantReadError):
                    made.do_handshake()
                    if flight == 0:
                        made.write(HELLO)
                    heard = made.read()
                wire = outgoing.read()
        return heard

    async def ask(self) -> None:
        with contextlib.closing(self.connect()) as ours:
            heard = await self._shake_hands(ours, 4)
        if heard != CONNACK:
            self.problems.append(f"a client that does nothing wrong heard {heard!r}")


@contextmanager
def announcements() -> Iterator[Door]:
    with opened_world() as world:
        yield from _served(world, Announcements(world))


@contextmanager
def handshakes() -> Iterator[Door]:
    with opened_world() as world:
        yield from _served(world, Handshakes(world))


def _served(world: World, door: Entrances) -> Iterator[Door]:
    world.loop.run_until_complete(door.start())
    yield door
    world.loop.run_until_complete(door.close())

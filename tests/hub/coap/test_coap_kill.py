"""The door's process is killed at random instants under load: what was acknowledged is there, and there once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gateway.demo.broker import free_port
from hub.coap.packets import CON, Code, Opt, decode, encode, uint
from hub.database import open_reader
from hub.log_reader import decode_row
from tests.hub.coap.test_coap_clients import Served

CLIENTS = 4
ROUNDS = 6
SENT_AGAIN_S = 0.05  # instead of 2 s: more copies under way when the process dies


class Publisher:
    """A client that sends one request after the other and each until it is acknowledged (RFC 7252, 4.2)."""

    def __init__(self, name: str, served: Served) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", served.facts["port"]))
        self.socket.setblocking(False)
        self.path = ("channels", served.facts["channel"], "messages")
        self.key = served.facts["a"][1]
        self.n = 0
        self.acknowledged = 0
        self.wire = b""
        self.on_acknowledged: Callable[[int], None] = lambda _n: None

    def next(self) -> None:
        self.n += 1
        options = [(int(Opt.URI_PATH), part.encode()) for part in self.path]
        options.append((int(Opt.CONTENT_FORMAT), uint(42)))
        options.append((int(Opt.URI_QUERY), b"auth=" + self.key.encode()))
        payload = f"{self.name}/{self.n}".encode()
        self.wire = encode(CON, Code.POST, self.n & 0xFFFF, uint(self.n), tuple(options), payload)

    def send(self) -> None:
        try:
            self.socket.send(self.wire)
        except OSError:  # nobody listens just now
            return

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        if not self.wire:
            self.next()
        while not stop.is_set():
            self.send()
            try:
                async with asyncio.timeout(SENT_AGAIN_S):
                    answer = decode(await loop.sock_recv(self.socket, 2048))
            except (TimeoutError, OSError):
                continue
            if answer.mid == self.n & 0xFFFF and answer.code == Code.CHANGED:
                self.acknowledged = self.n
                self.on_acknowledged(self.n)
                self.next()


class Lives:
    """One data directory through many lives of the door's process, under load."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.flags = flags
        self.port = free_port(kind=socket.SOCK_DGRAM)  # not one that a socket may get while nobody listens
        self.served = Served(folder, self.port)
        self.publishers = [Publisher(f"p{n}", self.served) for n in range(CLIENTS)]

    def kill_after(self, seconds: float) -> None:
        """A life that ends with a kill, and the beginning of the next one."""

        async def load() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, stop.set)
            loop.call_later(seconds, self.served.kill)
            await asyncio.gather(*(publisher.run(stop) for publisher in self.publishers))

        asyncio.run(load())
        self.served = Served(self.folder, self.port, *self.flags)

    def settle(self) -> None:
        """Each publisher's last request, a copy of which the life before may have stored."""

        async def last() -> None:
            for publisher in self.publishers:
                stop = asyncio.Event()
                mark = publisher.n
                publisher.on_acknowledged = lambda n, mark=mark, stop=stop: stop.set() if n >= mark else None
                async with asyncio.timeout(60):
                    await publisher.run(stop)

        asyncio.run(last())

    def stored(self) -> Counter[bytes]:
        """How often each payload is in the log."""
        with contextlib.closing(open_reader(self.folder / "log.db")) as reader:
            rows = reader.execute("SELECT seq, CAST(body AS BLOB) FROM log").fetchall()
        messages = [decode_row(seq, body) for seq, body in rows]
        return Counter(message.payload for message in messages if message is not None)

    def end(self) -> None:
        self.served.stop()
        for publisher in self.publishers:
            publisher.socket.close()


def test_acknowledged_is_never_lost_and_nothing_is_stored_twice(tmp_path: Path) -> None:
    rng = random.Random(1)
    lives = Lives(tmp_path / "data")
    for _ in range(ROUNDS):
        lives.kill_after(0.1 + rng.random() * 0.3)
        lives.settle()
    found = lives.stored()
    lives.end()
    assert [payload for payload, times in found.items() if times > 1] == []
    for publisher in lives.publishers:
        assert publisher.acknowledged > ROUNDS
        missing = [
            n for n in range(1, publisher.acknowledged + 1) if not found[f"{publisher.name}/{n}".encode()]
        ]
        assert missing == []


def test_a_door_that_forgets_what_it_stored_would_store_it_twice(tmp_path: Path) -> None:
    rng = random.Random(2)
    lives = Lives(tmp_path / "data", "forgetful")
    twice: list[bytes] = []
    for _ in range(ROUNDS * 10):  # about one copy a kill; one is enough
        lives.kill_after(0.1 + rng.random() * 0.2)
        lives.settle()
        twice = [payload for payload, times in lives.stored().items() if times > 1]
        if twice:
            break
    lives.end()
    assert twice

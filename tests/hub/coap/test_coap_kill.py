"""The door's process is killed at random instants under load: what was acknowledged is there, and there once."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.coap import MIGRATIONS
from hub.coap.packets import CON, Code, Opt, decode, encode, uint
from hub.hub import Hub
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


@pytest.mark.parametrize("seed", [1])
def test_acknowledged_is_never_lost_and_nothing_is_stored_twice(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "data"
    served = Served(folder)
    port = served.facts["port"]
    publishers = [Publisher(f"p{n}", served) for n in range(CLIENTS)]

    async def load(seconds: float) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        asyncio.get_running_loop().call_later(seconds, served.kill)
        await asyncio.gather(*(publisher.run(stop) for publisher in publishers))

    for _ in range(ROUNDS):
        asyncio.run(load(0.1 + rng.random() * 0.3))
        served = Served(folder, port)

    async def settle() -> None:
        """Each publisher's last request, a copy of which the run before may have stored."""
        for publisher in publishers:
            stop = asyncio.Event()
            mark = publisher.n
            publisher.on_acknowledged = lambda n, mark=mark, stop=stop: stop.set() if n >= mark else None
            async with asyncio.timeout(60):
                await publisher.run(stop)

    asyncio.run(settle())
    served.stop()
    for publisher in publishers:
        publisher.socket.close()

    async def stored() -> Counter[bytes]:
        hub = Hub.open(folder, migrations=MIGRATIONS)
        found = Counter(message.payload for message in hub.log.read(0, None, 1_000_000))
        await hub.close()
        return found

    found = asyncio.run(stored())
    assert [payload for payload, times in found.items() if times > 1] == []
    for publisher in publishers:
        assert publisher.acknowledged > ROUNDS
        missing = [
            n for n in range(1, publisher.acknowledged + 1) if not found[f"{publisher.name}/{n}".encode()]
        ]
        assert missing == []

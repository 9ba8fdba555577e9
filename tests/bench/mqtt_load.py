"""The load of bench_mqtt.py: clients at the level of packets (MQTT 3.1.1), counting rather than parsing.

All PUBLISH packets of one run have the same size, so that a read is counted by division; the generator has
one core and must not be what is measured. Sizes in bytes, times in seconds unless a name says otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

PAYLOAD = bytes(range(100))
WINDOW = 10_000  # QoS 0 deliveries under way in all, so that no server has a reason to drop
UNACKNOWLEDGED = 20  # QoS 1 and 2 messages of each publisher; mosquitto takes no more of QoS 2
BURST = 50  # QoS 0 messages written at once
STALL_S = 4.0  # nothing has arrived for this long: the rest is lost


class Target(Protocol):
    """What the load needs of a server."""

    port: int
    topic: str
    user: str
    key: str
    window: int

    def cpu_s(self) -> float: ...


class Result(NamedTuple):
    rate: float  # messages delivered per second, all subscribers together
    cpu_us: float  # the server's CPU per delivered message
    delivered: int
    lost: int  # expected and not delivered


class Latency(NamedTuple):
    p50_ms: float
    p99_ms: float
    cpu_us: float  # the server's CPU per message
    lost: int


# Packets, as few as the load needs


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(first: int, body: bytes) -> bytes:
    length = len(body)
    head = bytearray((first,))
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def connect(client_id: str, server: Target) -> bytes:
    login = text(server.user.encode()) + text(server.key.encode()) if server.user else b""
    flags = b"\xc2" if server.user else b"\x02"
    return packet(0x10, text(b"MQTT") + b"\x04" + flags + b"\x00\x00" + text(client_id.encode()) + login)


def publish(topic: str, qos: int, packet_id: int = 0, payload: bytes = PAYLOAD) -> bytes:
    ids = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, text(topic.encode()) + ids + payload)


class Peer(asyncio.Protocol):
    """A client; `on_data` is called with what a read brought, once it is connected."""

    def __init__(self, hello: bytes, answer: int) -> None:
        self._hello = hello
        self._answer = answer  # bytes of the server's answer
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=1 << 20)
        transport.write(self._hello)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("refused"))

    def data_received(self, data: bytes) -> None:
        if self._answer:
            taken = min(self._answer, len(data))
            self._answer -= taken
            data = data[taken:]
            if not self._answer:
                self.ready.set_result(None)
        if data:
            self.on_data(data)


async def peer(server: Target, client_id: str, more: bytes = b"", answer: int = 4) -> Peer:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(
        lambda: Peer(connect(client_id, server) + more, answer), "127.0.0.1", server.port
    )
    await asyncio.wait_for(protocol.ready, 20)
    return protocol


async def subscriber(server: Target, name: str, qos: int) -> Peer:
    wanted = packet(0x82, b"\x00\x01" + text(server.topic.encode()) + bytes((qos,)))
    return await peer(server, name, wanted, 4 + 5)


class Receiver:
    """One subscriber: counts PUBLISH packets and acknowledges them as their QoS asks."""

    def __init__(self, client: Peer, qos: int, size: int, count: Callable[[int], None]) -> None:
        self._client = client
        self._size = size
        self._count = count
        self._rest = b""
        self._left = 0
        client.on_data = (self._qos0, self._qos1, self._qos2)[qos]

    def _qos0(self, data: bytes) -> None:
        whole, self._left = divmod(self._left + len(data), self._size)
        self._count(whole)

    def _qos1(self, data: bytes) -> None:
        data = self._rest + data
        size = self._size
        whole, left = divmod(len(data), size)
        self._rest = data[len(data) - left :] if left else b""
        at = size - len(PAYLOAD) - 2
        acks = [b"\x40\x02" + data[n : n + 2] for n in range(at, whole * size, size)]
        self._client.transport.write(b"".join(acks))
        self._count(whole)

    def _qos2(self, data: bytes) -> None:
        data = self._rest + data
        size, end, at, whole = self._size, len(data), 0, 0
        ids = size - len(PAYLOAD) - 2
        answers = []
        while at < end:
            if data[at] == 0x62:  # PUBREL
                if at + 4 > end:
                    break
                answers.append(b"\x70\x02" + data[at + 2 : at + 4])
                at += 4
            else:
                if at + size > end:
                    break
                answers.append(b"\x50\x02" + data[at + ids : at + ids + 2])
                whole += 1
                at += size
        self._rest = data[at:]
        self._client.transport.write(b"".join(answers))
        self._count(whole)


class Sender:
    """One publisher of QoS 1 or 2 that keeps UNACKNOWLEDGED messages under way until told to stop."""

    def __init__(self, client: Peer, topic: str, qos: int) -> None:
        self._client = client
        self._wires = [publish(topic, qos, packet_id) for packet_id in range(1, 1001)]
        self._rest = b""
        self.sent = 0
        self.stopped = False
        client.on_data = self._acknowledged

    def more(self, count: int) -> None:
        if not self.stopped:
            sent = self.sent
            self._client.transport.write(b"".join([self._wires[n % 1000] for n in range(sent, sent + count)]))
            self.sent += count

    def _acknowledged(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        releases = []
        done = 0
        for at in range(0, whole, 4):
            if data[at] == 0x50:  # PUBREC
                releases.append(b"\x62\x02" + data[at + 2 : at + 4])
            else:
                done += 1
        if releases:
            self._client.transport.write(b"".join(releases))
        if done:
            self.more(done)


class Load:
    """So many publishers send as fast as they may for a while; everything they sent is waited for."""

    def __init__(self, server: Target, qos: int, publishers: int, subscribers: int, seconds: float) -> None:
        self._server = server
        self._qos = qos
        self._publishers = publishers
        self._subscribers = subscribers
        self._seconds = seconds
        self._received = 0
        self._sent = 0
        self._last_s = 0.0
        self._moved = asyncio.Event()

    async def run(self) -> Result:
        server, qos = self._server, self._qos
        readers = [await subscriber(server, f"reader-{n}", qos) for n in range(self._subscribers)]
        for reader in readers:
            Receiver(reader, qos, len(publish(server.topic, qos, 1)), self._count)
        writers = [await peer(server, f"writer-{n}") for n in range(self._publishers)]
        cpu_s, start_s = server.cpu_s(), time.perf_counter()
        self._last_s = start_s
        if qos:
            senders = [Sender(writer, server.topic, qos) for writer in writers]
            for sender in senders:
                sender.more(UNACKNOWLEDGED)
            await asyncio.sleep(self._seconds)
            for sender in senders:
                sender.stopped = True
            self._sent = sum(sender.sent for sender in senders)
        else:
            await self._send_qos0(writers, start_s + self._seconds)
        expected = self._sent * self._subscribers
        await self._settle(expected)
        took_s = self._last_s - start_s
        cpu_us = (server.cpu_s() - cpu_s) * 1e6 / max(1, self._received)
        for client in (*readers, *writers):
            client.transport.write(b"\xe0\x00")
            client.transport.close()
        await asyncio.sleep(0.05)
        rate = self._received / took_s if took_s else 0.0
        return Result(rate, cpu_us, self._received, expected - self._received)

    def _count(self, whole: int) -> None:
        self._received += whole
        self._last_s = time.perf_counter()
        self._moved.set()

    async def _send_qos0(self, writers: list[Peer], end_s: float) -> None:
        burst = publish(self._server.topic, 0) * BURST
        fan = self._subscribers
        turn = 0
        while time.perf_counter() < end_s:
            while self._sent * fan - self._received + BURST * fan > self._server.window:
                if not await self._wait():
                    return
            writer = writers[turn % len(writers)]
            await writer.writable.wait()
            writer.transport.write(burst)
            turn += 1
            self._sent += BURST
            if turn % 10 == 0:
                await asyncio.sleep(0)

    async def _settle(self, expected: int) -> None:
        while self._received < expected and await self._wait():
            pass

    async def _wait(self) -> bool:
        """Until something arrives; False where nothing does any more."""
        before = self._received
        self._moved.clear()
        try:
            await asyncio.wait_for(self._moved.wait(), STALL_S)
        except TimeoutError:
            return self._received != before
        return True


async def latency(server: Target, qos: int, per_second: int, seconds: float) -> Latency:
    """One publisher at an even pace, one subscriber; the time of sending travels in the payload."""
    taken_ns: list[int] = []
    stamp = len(publish(server.topic, qos, 1)) - len(PAYLOAD)
    size = stamp + len(PAYLOAD)
    reader = await subscriber(server, "reader", qos)
    writer = await peer(server, "writer")
    rest = b""

    def on_data(data: bytes) -> None:
        nonlocal rest
        now = time.perf_counter_ns()
        data = rest + data
        whole = len(data) // size
        acks = []
        for at in range(0, whole * size, size):
            sent = int.from_bytes(data[at + stamp : at + stamp + 8], "big")
            taken_ns.append(now - sent)
            if qos:
                acks.append(b"\x40\x02" + data[at + stamp - 2 : at + stamp])
        rest = data[whole * size :]
        if acks:
            reader.transport.write(b"".join(acks))

    reader.on_data = on_data
    total = int(per_second * seconds)
    cpu_s, start_s = server.cpu_s(), time.perf_counter()
    for n in range(total):
        pause_s = start_s + n / per_second - time.perf_counter()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        payload = time.perf_counter_ns().to_bytes(8, "big") + PAYLOAD[8:]
        writer.transport.write(publish(server.topic, qos, n % 60_000 + 1, payload))
    seen, end_s = 0, 0.0
    while len(taken_ns) < total and (len(taken_ns) > seen or time.perf_counter() < end_s):
        if len(taken_ns) > seen:
            seen, end_s = len(taken_ns), time.perf_counter() + STALL_S
        await asyncio.sleep(0.01)
    cpu_us = (server.cpu_s() - cpu_s) * 1e6 / total
    for client in (reader, writer):
        client.transport.write(b"\xe0\x00")
        client.transport.close()
    await asyncio.sleep(0.05)
    order = sorted(taken_ns) or [0]
    at_99 = order[min(len(order) - 1, len(order) * 99 // 100)]
    return Latency(order[len(order) // 2] / 1e6, at_99 / 1e6, cpu_us, total - len(taken_ns))


async def idle(server: Target, count: int) -> list[Peer]:
    """Connect so many clients, each with a subscription, that then say nothing."""
    wanted = packet(0x82, b"\x00\x01" + text(server.topic.encode()) + b"\x00")
    return [await peer(server, f"idle-{n}", wanted, 4 + 5) for n in range(count)]

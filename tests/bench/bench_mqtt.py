"""MQTT throughput of the hub's door beside mosquitto's, in the same run and with the same load generator.

    python tests/bench/bench_mqtt.py [--rounds 5] [--only QOS0_1]

Each server is a process of its own. 100-byte payloads. QoS 0: one or 50 publishers, one subscriber, at most WINDOW
messages under way, so that neither server has a reason to drop. QoS 1: 50 publishers with 20 unacknowledged each,
one subscriber at QoS 1 that acknowledges. DURABLE: mosquitto writes down what it acknowledges (persistence with
autosave_on_changes); MEMORY: it keeps nothing, as by default. Its queue bound is raised, or it would drop most
of what it acknowledged. The hub commits before it acknowledges in both, and stores QoS 0 messages as well.
Prints messages per second, CPU per message, losses, and the ratio hub to mosquitto of each round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAYLOAD = bytes(range(100))
WINDOW = 10_000  # QoS 0 messages under way in all
UNACKNOWLEDGED = 20  # QoS 1 messages of each publisher
BURST = 100  # QoS 0 messages a publisher writes at once
STALL_S = 10.0  # nothing arrives for this long: the rest is lost
TICKS = os.sysconf("SC_CLK_TCK")


class Case(NamedTuple):
    name: str
    qos: int
    publishers: int
    messages: int
    durable: bool  # mosquitto writes down what it acknowledges
    messages_mosquitto: int  # fewer where it would take minutes


CASES = (
    Case("QOS0_1", 0, 1, 200_000, False, 200_000),
    Case("QOS0_50", 0, 50, 200_000, False, 200_000),
    Case("QOS1_50_DURABLE", 1, 50, 50_000, True, 3_000),
    Case("QOS1_50_MEMORY", 1, 50, 50_000, False, 50_000),
)


@dataclass
class Server:
    """One running server and how to log in."""

    name: str
    process: subprocess.Popen[str]
    port: int
    topic: str
    user: str = ""
    key: str = ""

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Result(NamedTuple):
    rate: float  # messages per second, delivered
    cpu_us: float  # server's CPU per message
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


def connect(client_id: str, server: Server) -> bytes:
    login = (
        b"\x04\xc2\x00\x00"
        + text(client_id.encode())
        + text(server.user.encode())
        + text(server.key.encode())
        if server.user
        else b"\x04\x02\x00\x00" + text(client_id.encode())
    )
    return packet(0x10, text(b"MQTT") + login)


def publish(topic: str, qos: int, packet_id: int = 0) -> bytes:
    ids = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, text(topic.encode()) + ids + PAYLOAD)


class Peer(asyncio.Protocol):
    """A client that counts; `on_data` is called with what a read brought, once it is connected."""

    def __init__(self, hello: bytes, answer: int) -> None:
        self._hello = hello
        self._answer = answer  # bytes of the server's answer
        self.ready = asyncio.get_running_loop().create_future()
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        if self._answer:
            taken = min(self._answer, len(data))
            self._answer -= taken
            data = data[taken:]
            if not self._answer:
                self.ready.set_result(None)
        if data:
            self.on_data(data)


async def peer(server: Server, client_id: str, more: bytes = b"", answer: int = 4) -> Peer:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(
        lambda: Peer(connect(client_id, server) + more, answer), "127.0.0.1", server.port
    )
    await asyncio.wait_for(protocol.ready, 10)
    return protocol


class Load:
    """One case against one server."""

    def __init__(self, case: Case, server: Server) -> None:
        self.case = case
        self.server = server
        self.size = len(publish(server.topic, case.qos, 1))
        self.received = 0
        self.sent = 0
        self.last_s = 0.0
        self.rest = b""
        self.publishers: list[Peer] = []
        self.subscriber: Peer
        self.moved = asyncio.Event()

    async def run(self) -> Result:
        case, server = self.case, self.server
        wanted = packet(0x82, b"\x00\x01" + text(server.topic.encode()) + bytes((case.qos,)))
        self.subscriber = await peer(server, "subscriber", wanted, 4 + 5)
        self.subscriber.on_data = self.on_qos0 if case.qos == 0 else self.on_qos1
        self.publishers = [await peer(server, f"publisher-{n}") for n in range(case.publishers)]
        cpu_s, start_s = server.cpu_s(), time.perf_counter()
        self.last_s = start_s
        if case.qos:
            self.start_qos1()
            await self.settle()
        else:
            await self.send_qos0()
        took_s = self.last_s - start_s
        cpu_us = (server.cpu_s() - cpu_s) * 1e6 / case.messages
        for client in (self.subscriber, *self.publishers):
            client.transport.write(b"\xe0\x00")
            client.transport.close()
        return Result(self.received / took_s, cpu_us, case.messages - self.received)

    async def settle(self) -> None:
        """Wait until all has arrived, or nothing moves any more."""
        while self.received < self.case.messages:
            before = self.received
            self.moved.clear()
            try:
                await asyncio.wait_for(self.moved.wait(), STALL_S)
            except TimeoutError:
                if self.received == before:
                    return

    async def send_qos0(self) -> None:
        burst = publish(self.server.topic, 0) * BURST
        turn = 0
        while self.sent < self.case.messages:
            while self.sent - self.received + BURST > WINDOW:
                before = self.received
                self.moved.clear()
                try:
                    await asyncio.wait_for(self.moved.wait(), STALL_S)
                except TimeoutError:
                    if self.received == before:
                        return
            self.publishers[turn % len(self.publishers)].transport.write(burst)
            turn += 1
            self.sent += BURST
            if turn % 10 == 0:
                await asyncio.sleep(0)
        await self.settle()

    def on_qos0(self, data: bytes) -> None:
        whole, left = divmod(len(self.rest) + len(data), self.size)
        self.rest = bytes(left)  # every packet has the same size: only the count matters
        self.count(whole)

    def count(self, whole: int) -> None:
        self.received += whole
        self.last_s = time.perf_counter()
        self.moved.set()

    def on_qos1(self, data: bytes) -> None:
        data = self.rest + data
        whole, left = divmod(len(data), self.size)
        self.rest = data[len(data) - left :] if left else b""
        at = self.size - len(PAYLOAD) - 2
        size = self.size
        self.subscriber.transport.write(
            b"".join([b"\x40\x02" + data[n : n + 2] for n in range(at, whole * size, size)])
        )
        self.count(whole)

    def start_qos1(self) -> None:
        share = self.case.messages // len(self.publishers)
        wires = [publish(self.server.topic, 1, packet_id) for packet_id in range(1, 1001)]
        for publisher in self.publishers:
            self.feed(publisher, wires, share)

    def feed(self, publisher: Peer, wires: list[bytes], share: int) -> None:
        """Keep UNACKNOWLEDGED messages under way; each PUBACK is four bytes and lets one more go."""
        sent = left = 0

        def more(count: int) -> None:
            nonlocal sent
            count = min(count, share - sent)
            if count > 0:
                publisher.transport.write(b"".join([wires[n % 1000] for n in range(sent, sent + count)]))
                sent += count

        def on_data(data: bytes) -> None:
            nonlocal left
            acknowledged, left = divmod(left + len(data), 4)
            more(acknowledged)

        publisher.on_data = on_data
        more(UNACKNOWLEDGED)


# Servers


def start_hub(folder: Path) -> Server:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/hub/mqtt/serve.py"), str(folder / "hub")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "platform")},
    )
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    topic = f"channels/{facts['channel']}/messages"
    return Server("hub", process, facts["port"], topic, *facts["a"])


def start_mosquitto(folder: Path, topic: str, *, durable: bool) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = folder / f"mosquitto-{port}"
    where.mkdir()
    where.chmod(0o777)  # it may drop to a user of its own
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "user root", "set_tcp_nodelay true"]
    lines.append("max_queued_messages 100000")
    if durable:
        lines += [
            "persistence true",
            f"persistence_location {where}/",
            "autosave_on_changes true",
            "autosave_interval 1",
        ]
    (where / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        ["mosquitto", "-c", str(where / "mosquitto.conf")], stderr=subprocess.DEVNULL, text=True
    )
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return Server("mosquitto", process, port, topic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    arguments = parser.parse_args()
    # On the disk of this tree: what is called durable must reach one.
    with tempfile.TemporaryDirectory(dir=HERE) as name:
        folder = Path(name)
        hub = start_hub(folder)
        plain = start_mosquitto(folder, hub.topic, durable=False)
        durable = start_mosquitto(folder, hub.topic, durable=True)
        try:
            for case in CASES:
                if arguments.only in (None, case.name):
                    compare(case, hub, durable if case.durable else plain, arguments.rounds)
        finally:
            for server in (hub, plain, durable):
                server.stop()


def compare(case: Case, hub: Server, other: Server, rounds: int) -> None:
    print(f"{case.name}: {case.publishers} to 1, QoS {case.qos}, {case.messages:,} messages")
    ratios = []
    for round_ in range(rounds):
        pair = (hub, other) if round_ % 2 else (other, hub)  # neither always goes first
        results = {}
        for server in pair:
            messages = case.messages if server is hub else case.messages_mosquitto
            results[server.name] = asyncio.run(Load(case._replace(messages=messages), server).run())
        ours, theirs = results["hub"], results["mosquitto"]
        ratios.append(ours.rate / theirs.rate)
        print(
            f"  hub {ours.rate:9,.0f}/s {ours.cpu_us:6.1f} us CPU, {ours.lost} lost"
            f" | mosquitto {theirs.rate:9,.0f}/s {theirs.cpu_us:6.1f} us CPU, {theirs.lost} lost"
            f" | ratio {ratios[-1]:.2f}"
        )
    print(f"  median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()

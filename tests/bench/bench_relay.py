"""An outage's backlog leaving over MQTT: rate, memory, restart, and what live traffic feels meanwhile.

    python tests/bench/bench_relay.py [--backlog 200000] [--live 100] [--json]

`--backlog 5000000` is a week at 8 messages a second. Three processes: one fills a log and ends; a broker that
acknowledges everything and watches the order; and the relay with its log, to which `--live` messages a second are
appended during the drain. Memory is that of the relay's process, above what it needs before it reads anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.mqtt import MqttSink
from gateway.upstream.relay import Relay
from hub.log import Log
from hub.message import OCTET_STREAM, Message

GATEWAY = "0102030405060708"
CHANNELS = [f"6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c{n:02d}" for n in range(16)]
PADDING = b" " * 84
FILL = 5000  # messages a commit while the log is filled
LIVE_EVERY_S = 0.1


def message(n: int) -> Message:
    """Of device n % 16; its payload says which message it is, in 100 bytes."""
    channel = CHANNELS[n % len(CHANNELS)]
    return Message(
        channel, "", channel, "lora", OCTET_STREAM, b"%015d;" % n + PADDING, 1_790_000_000_000_000_000 + n
    )


# The broker: a process of its own


class Broker(asyncio.Protocol):
    """Acknowledges every PUBLISH of QoS 1; `first_copies` and `out_of_order` are over all connections."""

    def __init__(self, seen: dict[str, int], newest: dict[bytes, int]) -> None:
        self.seen = seen
        self.newest = newest  # by topic: number of the newest message
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.buffer += data
        replies = bytearray()
        while (packet := self.next_packet()) is not None:
            kind, body = packet
            if kind & 0xF0 == 0x10:
                replies += b"\x20\x03\x00\x00\x00"
            elif kind & 0xF0 == 0x30:
                end = 2 + int.from_bytes(body[:2], "big")
                self.count(bytes(body[2:end]), int(body[-100:-85]))
                replies += b"\x40\x02" + body[end : end + 2]
            elif kind & 0xF0 == 0xC0:
                replies += b"\xd0\x00"
        self.transport.write(bytes(replies))

    def next_packet(self) -> tuple[int, bytearray] | None:
        length = shift = 0
        for place in range(1, min(5, len(self.buffer))):
            byte = self.buffer[place]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = place + 1 + length
                if len(self.buffer) < end:
                    return None
                packet = self.buffer[0], self.buffer[place + 1 : end]
                del self.buffer[:end]
                return packet
        return None

    def count(self, topic: bytes, n: int) -> None:
        """Numbers of a topic are 16 apart: a larger step is a loss, a smaller one a second copy."""
        newest = self.newest.get(topic)
        if newest is None or n == newest + len(CHANNELS):
            self.seen["first_copies"] += 1
            self.newest[topic] = n
        elif n > newest:
            self.seen["out_of_order"] += 1
        else:
            self.seen["again"] += 1


async def serve() -> None:
    """Print the port, run until standard input ends, print what was seen."""
    loop = asyncio.get_running_loop()
    seen = {"first_copies": 0, "again": 0, "out_of_order": 0}
    newest: dict[bytes, int] = {}
    server = await loop.create_server(lambda: Broker(seen, newest), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps(seen), flush=True)


# The log and the relay


async def fill(path: Path, count: int) -> None:
    log = Log.open(path, max_messages=2 * count + 1_000_000, max_bytes=1 << 40)
    for first in range(0, count, FILL):
        await log.append([message(n) for n in range(first, min(count, first + FILL))])
    log.cursor("upstream/cloud")
    await log.flush()
    await log.close()


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def drain(path: Path, port: int, backlog: int, live: int) -> dict[str, float]:
    """Relay everything; figures as printed."""
    began = time.perf_counter()
    log = Log.open(path, max_messages=2 * backlog + 1_000_000, max_bytes=1 << 40)
    sink = MqttSink(UpstreamMqttConfig("cloud", "127.0.0.1", port=port, tls=False), GATEWAY)
    relay = Relay(log, sink)
    queued = relay.status().queued
    start_s = time.perf_counter() - began
    before = peak = rss_mb()
    task = asyncio.create_task(relay.run())
    began = time.perf_counter()
    latencies: list[float] = []
    sent = backlog
    backlog_s = 0.0
    while log.cursor("upstream/cloud") < log.committed_seq or sent == backlog:
        batch = max(1, int(live * LIVE_EVERY_S)) if live and not backlog_s else 0
        if batch:
            asked = time.perf_counter()
            await log.append([message(n) for n in range(sent, sent + batch)])
            latencies.append(time.perf_counter() - asked)
            sent += batch
        elif not live:
            sent = -1
        await asyncio.sleep(LIVE_EVERY_S)
        peak = max(peak, rss_mb())
        if not backlog_s and relay.status().delivered >= backlog:
            backlog_s = time.perf_counter() - began
    total_s = time.perf_counter() - began
    delivered = relay.status().delivered
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.close()
    latencies.sort()
    return {
        "backlog": backlog,
        "sent": max(sent, backlog),
        "queued_at_start": queued,
        "start_s": round(start_s, 3),
        "delivered": delivered,
        "per_s": round(delivered / total_s),
        "rss_before_mb": round(before, 1),
        "rss_growth_mb": round(peak - before, 1),
        "live_commits": len(latencies),
        "live_commit_p50_ms": round(1000 * statistics.median(latencies), 2) if latencies else 0,
        "live_commit_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2) if latencies else 0,
    }


def run(backlog: int, live: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="bench-relay-"))
    me = [sys.executable, __file__]
    try:
        path = folder / "log.db"
        subprocess.run([*me, "--part", "fill", "--path", str(path), "--backlog", str(backlog)], check=True)
        broker = subprocess.Popen(
            [*me, "--part", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert broker.stdout is not None
        port = broker.stdout.readline().strip()
        options = ["--path", str(path), "--port", port, "--backlog", str(backlog), "--live", str(live)]
        drained = subprocess.run(
            [*me, "--part", "drain", *options], check=True, capture_output=True, text=True
        )
        seen, _ = broker.communicate("")
        found: dict[str, float] = json.loads(drained.stdout)
        found.update(json.loads(seen))
        return found
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backlog", type=int, default=200_000)
    parser.add_argument("--live", type=int, default=100, help="messages a second appended during the drain")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=("fill", "serve", "drain"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.part:
        case "fill":
            asyncio.run(fill(options.path, options.backlog))
        case "serve":
            asyncio.run(serve())
        case "drain":
            print(json.dumps(asyncio.run(drain(options.path, options.port, options.backlog, options.live))))
        case _:
            found = run(options.backlog, options.live)
            if options.json:
                print(json.dumps(found))
            else:
                for name, value in found.items():
                    print(f"{name:20} {value}")


if __name__ == "__main__":
    main()

"""Gateways feeding one JetStream server, and a hub reading from it, against nats-py publishing one by one.

    python tests/bench/bench_nats.py [--messages 20000] [--rounds 3] [--only sink]

nats-server is a process of its own with a file store, once as it comes (it syncs every two minutes) and once with
`sync_interval: always` (each acknowledged message is on the disk). Each gateway is a process with a log that holds the
messages already, 100 bytes each, of 16 channels; measured is from the first gateway's start to the last one's last
acknowledgement. `plain` awaits each publish of the same bytes and headers before the next. `source` is a hub
that stores what the stream holds. After each run the stream (or the log) is compared with what was sent. `ids`: the
server's memory for what it remembers of message ids.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import nats
from nats.aio.client import Client

from gateway import nats_place
from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.upstream.nats import NatsSink, headers_for, subject_for
from gateway.upstream.nats_config import NatsServers, NatsSinkConfig
from gateway.upstream.relay import Relay
from hub import wire
from hub.hub import Hub
from hub.log import Log
from hub.message import OCTET_STREAM, Message

CHANNELS = [f"6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c{n:02d}" for n in range(16)]
GATEWAY = "01020304050607"
ALWAYS = "sync_interval: always"
IDS = 150_000  # fewer are lost in what the server's memory does by itself
PLAIN_ALWAYS = 2000  # messages one by one, each on the disk: more would take minutes
FILL = 5000
TICKS = os.sysconf("SC_CLK_TCK")


def message(n: int) -> Message:
    channel = CHANNELS[n % len(CHANNELS)]
    return Message(channel, "", channel, "lora", OCTET_STREAM, b"%0100d" % n, 1_790_000_000_000_000_000 + n)


class Server:
    """nats-server with its files in a folder that goes with it."""

    def __init__(self, setting: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-nats-"))
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = int(sock.getsockname()[1])
        lines = [f"listen: 127.0.0.1:{self.port}", "jetstream {", f'store_dir: "{self.folder}"', setting, "}"]
        config = self.folder / "nats.conf"
        config.write_text("\n".join(lines))
        program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program, "nats-server is not installed"
        self.process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if b"Server is ready" in line:
                break

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        shutil.rmtree(self.folder)


@contextmanager
def server(setting: str) -> Iterator[Server]:
    running = Server(setting)
    try:
        yield running
    finally:
        running.stop()


# A gateway: a process of its own, with a log that is full already


async def gateway(port: int, name: str, count: int) -> None:
    """Fill a log, say so, wait for a line, relay everything, print when it began and ended."""
    folder = Path(tempfile.mkdtemp(prefix="bench-gateway-"))
    try:
        log = Log.open(folder / "log.db")
        for first in range(0, count, FILL):
            await log.append([message(n) for n in range(first, min(count, first + FILL))])
        config = NatsSinkConfig("fleet", NatsServers((f"127.0.0.1:{port}",), tls=False))
        relay = Relay(log, NatsSink(config, name))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        cpu = time.process_time()
        task = asyncio.create_task(relay.run())
        while relay.status().delivered < count:  # noqa: ASYNC110 - looked at like a page does
            await asyncio.sleep(0.005)
        print(json.dumps([began, time.monotonic(), time.process_time() - cpu]), flush=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()
    finally:
        shutil.rmtree(folder)


def feed(running: Server, gateways: int, count: int) -> tuple[float, str]:
    """Messages a second of all gateways together."""
    each = count // gateways
    command = [sys.executable, __file__, "--part", "gateway", "--port", str(running.port)]
    started = [
        subprocess.Popen(
            [*command, "--name", f"{GATEWAY}{n:02x}", "--messages", str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(gateways)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    server_cpu = running.cpu_s()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    spans = [json.loads(process.communicate()[0]) for process in started]
    server_cpu = running.cpu_s() - server_cpu
    total = each * gateways
    stored = asyncio.run(count_stream(running))
    assert stored == total, f"{stored} of {total} messages are in the stream"
    seconds = max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)
    cpu_us = 1e6 * sum(cpu for _, _, cpu in spans) / total
    return total / seconds, f"CPU us/message: gateway {cpu_us:.0f}, server {1e6 * server_cpu / total:.0f}"


async def count_stream(running: Server) -> int:
    client = await nats.connect(f"nats://127.0.0.1:{running.port}")
    info = await client.jetstream().stream_info("channels")
    await client.close()
    return int(info.state.messages)


def sink(gateways: int) -> Callable[[Server, int], tuple[float, str]]:
    return lambda running, count: feed(running, gateways, count)


# What one writes first


async def publish_one_by_one(client: Client, count: int) -> None:
    stream = client.jetstream()
    for n in range(count):
        one = msgspec.structs.replace(message(n), seq=n + 1)
        headers = headers_for(GATEWAY, "channels", one)
        await stream.publish(subject_for("channels", one), wire.encode(one, GATEWAY), headers=headers)


def plain(running: Server, count: int) -> tuple[float, str]:
    async def run() -> float:
        client = await nats.connect(f"nats://127.0.0.1:{running.port}")
        await client.jetstream().add_stream(name="channels", subjects=["channels.>"])
        began = time.monotonic()
        await publish_one_by_one(client, count)
        seconds = time.monotonic() - began
        await client.close()
        return seconds

    seconds = asyncio.run(run())
    assert asyncio.run(count_stream(running)) == count
    return count / seconds, ""


# The other way


def source(running: Server, count: int) -> tuple[float, str]:
    """A hub that stores what another gateway has sent."""
    feed(running, 1, count)

    async def run() -> float:
        folder = Path(tempfile.mkdtemp(prefix="bench-hub-"))
        hub = Hub.open(folder, migrations=nats_place.MIGRATIONS)
        for channel in CHANNELS:
            hub.registry.create_channel(channel, id=channel)
        config = NatsSourceConfig("all", NatsServers((f"127.0.0.1:{running.port}",), tls=False))
        reader = NatsSource(hub, config, "ffffffffffffffff")
        began = time.monotonic()
        task = asyncio.create_task(reader.run())
        while reader.status().stored < count:  # noqa: ASYNC110 - looked at like a page does
            await asyncio.sleep(0.005)
        seconds = time.monotonic() - began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert hub.log.message_count == count
        await hub.close()
        shutil.rmtree(folder)
        return seconds

    return count / asyncio.run(run()), "stored and acknowledged"


def ids(running: Server, count: int) -> tuple[float, str]:
    """The server's memory above that of a stream with the same messages and a window of 100 ms."""

    count = max(count, IDS)

    async def fill(name: str, window_s: float) -> float:
        client = await nats.connect(f"nats://127.0.0.1:{running.port}")
        stream = client.jetstream()
        await stream.add_stream(name=name, subjects=[f"{name}.>"], duplicate_window=window_s)
        before = running.rss_mb()
        for first in range(0, count, 500):
            futures = [
                await stream.publish_async(
                    f"{name}.{n % 16}", b"%0100d" % n, headers={"Nats-Msg-Id": f"{GATEWAY}00/{n}"}
                )
                for n in range(first, first + 500)
            ]
            await asyncio.gather(*futures)
        grown = running.rss_mb() - before
        await client.close()
        return grown

    short = asyncio.run(fill("short", 0.1))
    remembered = asyncio.run(fill("long", 7200))
    return (remembered - short) * (
        1 << 20
    ) / count, f"bytes an id; server grew {remembered:.0f} and {short:.0f} MB"


CASES: tuple[tuple[str, str, Callable[[Server, int], tuple[float, str]]], ...] = (
    ("plain, default sync", "", plain),
    ("sink, default sync, 1 gateway", "", sink(1)),
    ("sink, default sync, 4 gateways", "", sink(4)),
    ("sink, default sync, 8 gateways", "", sink(8)),
    ("plain, sync always", ALWAYS, plain),
    ("sink, sync always, 1 gateway", ALWAYS, sink(1)),
    ("sink, sync always, 4 gateways", ALWAYS, sink(4)),
    ("sink, sync always, 8 gateways", ALWAYS, sink(8)),
    ("source, default sync", "", source),
    ("ids", "", ids),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--part", choices=("gateway",), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        asyncio.run(gateway(options.port, options.name, options.messages))
        return
    chosen = [case for case in CASES if options.only in case[0]]
    found: dict[str, list[float]] = {name: [] for name, _, _ in chosen}
    notes: dict[str, str] = {}
    for _ in range(options.rounds):
        for name, setting, case in chosen:
            count = min(options.messages, PLAIN_ALWAYS) if case is plain and setting else options.messages
            with server(setting) as running:
                rate, notes[name] = case(running, count)
            found[name].append(rate)
            print(".", end="", flush=True)
    print()
    for name, rates in found.items():
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        unit = "" if name == "ids" else "messages/s"
        print(f"{name:32} {statistics.median(rates):9.0f} {unit} ({spread})  {notes[name]}")


if __name__ == "__main__":
    main()

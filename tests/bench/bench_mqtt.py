"""The hub's MQTT door beside other brokers, in the same run and with the same load generator.

    python tests/bench/bench_mqtt.py [--quick] [--rounds 3] [--only throughput] [--without amqtt]

Four parts, 100-byte payloads, MQTT 3.1.1, every server a process of its own:

idle        memory of 1,000 connected and subscribed clients that say nothing, right after the start.
throughput  QoS 0, 1 and 2 from 1 publisher to 1 subscriber, 50 to 1 and 1 to 50. mosquitto and amqtt as they come:
            they keep nothing on disk, the hub commits before it acknowledges and stores QoS 0 as well.
durable     QoS 1, 1 to 1 and 50 to 1, against settings that keep what they acknowledge: mosquitto writing its
            database after each change, and nats-server's MQTT listener over JetStream with `sync_interval: always`.
latency     one publisher at an even pace to one subscriber: half and 99 % of the messages take no longer than.

Rounds are interleaved and start with another server each; medians are printed, losses of all rounds added up. Each
run lasts for a fixed time and then waits for what is under way. The whole takes about four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.mqtt_load import Latency, Load, Result, idle, latency
from bench.mqtt_servers import Missing, Server, start_amqtt, start_hub, start_mosquitto, start_nats

HERE = Path(__file__).resolve().parent
PACE = 1_000  # messages a second of the latency part
IDLE = 1_000  # connections
PARTS = ("idle", "throughput", "durable", "latency")  # memory first, while the servers are fresh


class Shape(NamedTuple):
    publishers: int
    subscribers: int

    def __str__(self) -> str:
        return f"{self.publishers} to {self.subscribers}"


SHAPES = (Shape(1, 1), Shape(50, 1), Shape(1, 50))
DURABLE_SHAPES = SHAPES[:2]


class Effort(NamedTuple):
    """How long is measured."""

    rounds: int
    send_s: float  # of each run
    pace_s: float

    def rounds_of(self, server: Server) -> int:
        return 1 if server.name == "amqtt" else self.rounds  # slow enough to be clear the first time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="one short round: shows that it works, measures little"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--without", choices=("amqtt", "mosquitto", "nats"), action="append", default=[])
    arguments = parser.parse_args()
    effort = Effort(1, 0.3, 0.5) if arguments.quick else Effort(arguments.rounds, 1.0, 3.0)
    makers: dict[str, Callable[[Path], Server]] = {
        "hub": start_hub,
        "mosquitto": lambda folder: start_mosquitto(folder, durable=False),
        "mosquitto durable": lambda folder: start_mosquitto(folder, durable=True),
        "nats": start_nats,
        "amqtt": start_amqtt,
    }
    for left_out in arguments.without:
        makers = {name: make for name, make in makers.items() if not name.startswith(left_out)}
    # On the disk of this tree: what is called durable must reach one.
    with tempfile.TemporaryDirectory(dir=HERE) as name, running(Path(name), makers) as servers:
        for part in PARTS:
            if arguments.only in (None, part):
                globals()[f"measure_{part}"](servers, effort)


@contextlib.contextmanager
def running(folder: Path, makers: dict[str, Callable[[Path], Server]]) -> Iterator[dict[str, Server]]:
    """The servers that start, by their short names; the others are said to be missing."""
    servers: dict[str, Server] = {}
    try:
        for name, make in makers.items():
            try:
                servers[name] = make(folder)
            except Missing as reason:
                print(f"without {name}: {reason}")
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def chosen(servers: dict[str, Server], *names: str) -> list[Server]:
    return [servers[name] for name in names if name in servers]


def measure_throughput(servers: dict[str, Server], effort: Effort) -> None:
    for qos in range(3):
        for shape in SHAPES:
            compare(chosen(servers, "hub", "mosquitto", "amqtt"), qos, shape, effort)


def measure_durable(servers: dict[str, Server], effort: Effort) -> None:
    for shape in DURABLE_SHAPES:
        compare(chosen(servers, "hub", "mosquitto durable", "nats"), 1, shape, effort, "durable ")


def compare(servers: list[Server], qos: int, shape: Shape, effort: Effort, what: str = "") -> None:
    """Interleaved rounds of one case; prints a line per server."""
    results: dict[str, list[Result]] = {server.name: [] for server in servers}
    for round_ in range(effort.rounds):
        turn = round_ % len(servers)
        for server in servers[turn:] + servers[:turn]:
            if len(results[server.name]) < effort.rounds_of(server):
                load = run_load(server, qos, shape, effort.send_s)
                results[server.name].append(load)
    print(f"{what}QoS {qos}, {shape}")
    hub = results["hub"]
    for name, found in results.items():
        rate = statistics.median(result.rate for result in found)
        cpu_us = statistics.median(result.cpu_us for result in found)
        lost = sum(result.lost for result in found)
        expected = sum(result.lost + result.delivered for result in found)
        line = f"  {name:22} {rate:10,.0f}/s {cpu_us:8.1f} us CPU each, lost {lost:,} of {expected:,}"
        if name != "hub" and rate:
            ratios = [
                ours.rate / theirs.rate for ours, theirs in zip(hub, found, strict=False) if theirs.rate
            ]
            line += f", hub {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line, flush=True)


def run_load(server: Server, qos: int, shape: Shape, send_s: float) -> Result:
    async def run() -> Result:
        return await Load(server, qos, *shape, send_s).run()

    return asyncio.run(run())


def measure_latency(servers: dict[str, Server], effort: Effort) -> None:
    for qos in (0, 1):
        names = ("hub", "mosquitto", "amqtt") if qos == 0 else tuple(servers)
        taken: dict[str, list[Latency]] = {server.name: [] for server in chosen(servers, *names)}
        rounds = min(2, effort.rounds)
        for _ in range(rounds):
            for server in chosen(servers, *names):
                taken[server.name].append(asyncio.run(latency(server, qos, PACE, effort.pace_s)))
        print(f"latency, QoS {qos}, {PACE:,} messages a second")
        for name, found in taken.items():
            p50, p99, cpu = (statistics.median(column) for column in list(zip(*found, strict=True))[:3])
            lost = sum(result.lost for result in found)
            print(
                f"  {name:22} p50 {p50:7.2f} ms, p99 {p99:7.2f} ms, {cpu:6.0f} us CPU each, lost {lost}",
                flush=True,
            )


def measure_idle(servers: dict[str, Server], _effort: Effort) -> None:
    print(f"memory of {IDLE:,} idle connections")
    for server in chosen(servers, "hub", "mosquitto", "amqtt", "nats"):
        before = server.rss_mb()
        after = asyncio.run(connected_rss(server))
        each = (after - before) * 1024 / IDLE
        print(
            f"  {server.name:22} {before:6.1f} MiB before, {after:6.1f} with them, {each:5.1f} KiB each",
            flush=True,
        )


async def connected_rss(server: Server) -> float:
    clients = await idle(server, IDLE)
    after = server.rss_mb()
    for client in clients:
        client.transport.close()
    await asyncio.sleep(0.2)
    return after


if __name__ == "__main__":
    main()

"""What signing in costs: CPU and memory of one, how many a second, and what a flood of sign-ins does to MQTT.

    python tests/bench/bench_signin.py [seconds of each part]

The hub with its doors runs in a process of its own, the flood and the publisher in others. The flood comes from ever
new addresses with ever new names, so that no pause stops it: argon2 and its bounded line are what it meets. Quiet and
flooded seconds alternate in one run. Figures of one machine at one moment: compare ratios.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import aiomqtt  # noqa: E402
import httpx  # noqa: E402
import uvloop  # noqa: E402

from hub import mqtt, passwords  # noqa: E402
from hub.errors import HubError  # noqa: E402
from hub.http import MIGRATIONS  # noqa: E402
from hub.http.app import create_app  # noqa: E402
from hub.http.door import HttpDoor  # noqa: E402
from hub.http.proxies import Proxies  # noqa: E402
from hub.hub import Hub  # noqa: E402

KEY = "k" * 43
PASSWORD = "four or five easy words"
CALLERS = 16  # of the flood, each with one request at a time
RATE = 100  # messages a second whose way is timed


def cost(seconds: float) -> None:
    """CPU and memory of one check, and checks a second with as many at a time as there may be."""
    encoded = passwords.hash_password(PASSWORD)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        passwords.check_password(encoded, "not the password")
        count += 1
    wall = time.perf_counter() - began
    each_ms = 1000 * (time.process_time() - cpu) / count
    print(f"one check: {each_ms:.1f} ms CPU; {count / wall:.1f}/s one after the other")

    counts: Counter[str] = Counter()
    ends = time.perf_counter() + seconds

    def work() -> None:
        while time.perf_counter() < ends:
            try:
                passwords.check_password(encoded, "not the password")
                counts["checked"] += 1
            except HubError:
                counts["busy"] += 1
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{CALLERS} callers at once: {counts['checked'] / seconds:.1f} checks/s, {counts['busy']} told to come back"
    )
    print(f"memory: {(after.ru_maxrss - before.ru_maxrss) / 1024:.0f} MiB more at the peak than before")


def serve(folder: str, told: Connection) -> None:
    """The hub with HTTP and MQTT, until told to stop."""

    async def main() -> None:
        hub = Hub.open(folder, migrations=(*MIGRATIONS, *mqtt.MIGRATIONS))
        owner = hub.registry.create_user("owner@example.org", PASSWORD)
        thing, key = hub.registry.create_thing("sensor")
        channel = hub.registry.create_channel("field")
        hub.registry.connect([channel.id], [thing.id])
        http = HttpDoor(hub, create_app(hub, proxies=Proxies(pages_key=KEY)))
        broker = mqtt.MqttDoor(hub, "127.0.0.1", 0)
        await http.start()
        await broker.start()
        told.send((http.port, broker.port, thing.id, key, channel.id, owner.email))
        while not await asyncio.to_thread(told.poll, 0.2):
            pass
        told.send(hub.audit.counters())
        await broker.close()
        await http.close()
        await hub.close()

    sys.setswitchinterval(0.001)  # as the gateway's process does
    uvloop.run(main())


def flood(port: int, until: float, counts: Connection) -> None:
    """Sign in with wrong passwords as fast as answers come; sends how many got which answer."""
    answers: Counter[int] = Counter()

    async def call(caller: int, client: httpx.AsyncClient) -> None:
        n = 0
        while time.monotonic() < until:
            n += 1
            address = f"10.{caller}.{n // 250 % 250}.{n % 250}"
            body = {"email": f"{caller}-{n}@example.org", "password": f"guess number {n}"}
            try:
                answer = await client.post(
                    "/tokens", json=body, headers={"X-Fluxgate-Pages": f"{KEY} {address}"}
                )
                answers[answer.status_code] += 1
            except httpx.HTTPError:
                answers[0] += 1

    async def main() -> None:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30
        ) as client:
            await asyncio.gather(*(call(caller, client) for caller in range(CALLERS)))

    asyncio.run(main())
    counts.send(dict(answers))


async def publish_for(client: aiomqtt.Client, topic: str, seconds: float) -> list[float]:
    """Ways there and back of messages with QoS 1 that are published RATE times a second, in ms; paced, not queued."""
    ways: list[float] = []
    pack = b'[{"n":"t","v":21.5}]'
    began = time.perf_counter()
    for n in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, began + n / RATE - time.perf_counter()))
        sent = time.perf_counter()
        await client.publish(topic, pack, qos=1, timeout=30)
        ways.append(1000 * (time.perf_counter() - sent))
    return ways


def words(ways: list[float]) -> str:
    ordered = sorted(ways)
    return (
        f"p50 {statistics.median(ordered):.2f} ms, p99 {ordered[int(0.99 * len(ordered))]:.2f} ms,"
        f" slowest {ordered[-1]:.1f} ms of {len(ordered)}"
    )


async def under_flood(seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe()
        server = context.Process(target=serve, args=(folder, theirs))
        server.start()
        http_port, mqtt_port, thing, key, channel, _ = ours.recv()
        quiet: list[float] = []
        flooded: list[float] = []
        answers: Counter[int] = Counter()
        async with aiomqtt.Client("127.0.0.1", mqtt_port, username=thing, password=key) as client:
            topic = f"channels/{channel}/messages"
            await publish_for(client, topic, 1.0)
            for _ in range(3):
                quiet += await publish_for(client, topic, seconds)
                mine, its = context.Pipe()
                attacker = context.Process(
                    target=flood, args=(http_port, time.monotonic() + seconds + 1.0, its)
                )
                attacker.start()
                await asyncio.sleep(1.0)  # until it has started
                flooded += await publish_for(client, topic, seconds)
                answers.update(await asyncio.to_thread(mine.recv))
                attacker.join()
        ours.send("stop")
        audited = ours.recv()
        server.join()
    print(f"MQTT QoS 1, {RATE}/s, quiet:   {words(quiet)}")
    print(f"MQTT QoS 1, {RATE}/s, flooded: {words(flooded)}")
    told = ", ".join(f"{count} times {status}" for status, count in sorted(answers.items()))
    print(f"the flood of {CALLERS} callers, in all: {told}")
    print(
        f"audit log: {audited['fluxgate_audit_lines_total']:.0f} lines,"
        f" {audited['fluxgate_audit_refusals_gathered_total']:.0f} refusals gathered,"
        f" {audited['fluxgate_audit_lines_lost_total']:.0f} lost"
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    cost(seconds)
    asyncio.run(under_flood(seconds))


if __name__ == "__main__":
    main()

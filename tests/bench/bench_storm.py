"""A storm of clients that all connect at once, as after a power cut: how long until each is in, and what it costs.

    python tests/bench/bench_storm.py [--clients 1000] [--rounds 3] [--ways plain tls] [--no-uvloop]

The server is a process of its own, a hub with its MQTT door. The load generator opens `--clients` connections at the
same moment, each of a thing of its own, over TCP with its key, or over TLS with a client certificate that the hub's own
authority has made (P-256) and no password. A client that is turned away comes again after 50..150 ms, as a device
would; how often is shown. Measured: time until the median, 99 % and the last have their CONNACK; the longest time that
the server's event loop did not turn; processor time a client; the server's memory before and with all connected.
Sockets, handshakes and keys of the clients cost this process, too: on two cores the TLS figure is the two together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from hub.authority import profile  # noqa: E402
from hub.hub import Hub  # noqa: E402
from hub.mqtt import MIGRATIONS, Limits, MqttDoor  # noqa: E402
from hub.tls import door_context, load_pem  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
TURN_S = 0.002  # how often the server's loop looks at the clock
GIVE_UP_S = 120.0


# --- server -------------------------------------------------------------------------------------------------------


async def serve(folder: Path, clients: int) -> None:
    """Print one line of JSON when it listens; then one for each line read: the longest stall since the last."""
    hub = Hub.open(folder / "hub", migrations=MIGRATIONS)
    now_s = hub.now_s()
    registry = hub.registry
    authority = registry.authority
    authority.names = profile.Names(("localhost",), ("127.0.0.1",))
    authority.ensure(now_s)
    server = authority.new_server(now_s)
    pair = authority.key_of(server)
    assert pair is not None
    things = []
    for number in range(clients):
        thing, key = registry.create_thing(f"node {number}")
        issued = registry.certificates.issue(thing.id, now_s, "bench")
        path = folder / f"{number}.pem"
        path.write_text(issued.chain + issued.key)
        things.append([thing.id, key, str(path)])
    context = door_context(authority.trusted(), client_cert_required=True)
    chain = [held.certificate for held in authority.generations()]
    load_pem(context, profile.pem([server.certificate, *chain]) + profile.key_pem(pair.key))
    door = MqttDoor(hub, "127.0.0.1", 0, limits=Limits(connections=2 * clients))
    await door.start()
    tls = await door.listen("127.0.0.1", 0, ssl=context)
    roots = folder / "roots.pem"
    roots.write_text(profile.pem(authority.trusted()))
    loop = asyncio.get_running_loop()
    stall = 0.0
    seen = time.monotonic()

    def turn() -> None:
        nonlocal seen, stall
        now = time.monotonic()
        stall = max(stall, now - seen - TURN_S)
        seen = now
        loop.call_later(TURN_S, turn)

    turn()
    print(json.dumps({"plain": door.port, "tls": tls, "things": things, "roots": str(roots)}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        counters = {name: door.counters[name] for name in ("connections_now", "refused_connections")}
        print(json.dumps({"stall_ms": stall * 1e3, **counters}), flush=True)
        stall = 0.0
    await door.close()
    await hub.close()


# --- load ---------------------------------------------------------------------------------------------------------


def connect_packet(thing_id: str, key: str) -> bytes:
    """CONNECT of MQTT 3.1.1 with a clean session; without a key nothing but the name."""
    flags = 0x82 | 0x40 * bool(key)
    texts = [f"storm-{thing_id}", thing_id, *([key] if key else [])]
    body = b"\0\4MQTT\4" + bytes((flags,)) + b"\0\0"
    body += b"".join(len(each).to_bytes(2, "big") + each.encode() for each in texts)
    size = bytearray()
    rest = len(body)
    while True:
        rest, low = divmod(rest, 128)
        size.append(low | 0x80 * bool(rest))
        if not rest:
            return b"\x10" + bytes(size) + body


class Storm:
    """Clients that connect at once, and what came of it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.again = 0
        self.open: list[asyncio.StreamWriter] = []

    async def client(
        self, port: int, packet: bytes, context: ssl.SSLContext | None, start: asyncio.Event
    ) -> None:
        await start.wait()
        began = time.monotonic()
        chance = random.Random(packet)
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
                )
                writer.write(packet)
                answer = await reader.readexactly(4)
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                self.again += 1
                await asyncio.sleep(chance.uniform(0.05, 0.15))
                continue
            assert answer == b"\x20\2\0\0", answer
            self.times.append(time.monotonic() - began)
            self.open.append(writer)
            return

    async def run(self, port: int, packets: list[bytes], contexts: list[ssl.SSLContext | None]) -> None:
        start = asyncio.Event()
        tasks = [
            asyncio.create_task(self.client(port, packet, context, start))
            for packet, context in zip(packets, contexts, strict=True)
        ]
        await asyncio.sleep(0)
        start.set()
        async with asyncio.timeout(GIVE_UP_S):
            await asyncio.gather(*tasks)

    async def end(self) -> None:
        for writer in self.open:
            writer.transport.abort()
        await asyncio.sleep(0.2)


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def contexts_of(facts: dict[str, Any], way: str) -> list[ssl.SSLContext | None]:
    if way == "plain":
        return [None] * len(facts["things"])
    found: list[ssl.SSLContext | None] = []
    for _, _, path in facts["things"]:
        context = ssl.create_default_context(cafile=facts["roots"])
        context.load_cert_chain(path)
        found.append(context)
    return found


def one_round(process: subprocess.Popen[str], facts: dict[str, Any], way: str) -> dict[str, float]:
    contexts = contexts_of(facts, way)
    packets = [connect_packet(thing, key if way == "plain" else "") for thing, key, _ in facts["things"]]
    told(process)  # forgets the stalls of before
    before_mb, before_s = rss_mb(process.pid), cpu_s(process.pid)

    async def main() -> dict[str, float]:
        storm = Storm()
        await storm.run(facts[way], packets, contexts)
        found = await asyncio.to_thread(told, process)
        assert found["connections_now"] == len(packets), found
        times = sorted(storm.times)
        used_s, held_mb = cpu_s(process.pid) - before_s, rss_mb(process.pid)
        await storm.end()
        return {
            "median_ms": statistics.median(times) * 1e3,
            "p99_ms": times[int(len(times) * 0.99)] * 1e3,
            "last_ms": times[-1] * 1e3,
            "stall_ms": found["stall_ms"],
            "again": storm.again,
            "cpu_ms": used_s / len(times) * 1e3,
            "before_mb": before_mb,
            "held_mb": held_mb,
        }

    return asyncio.run(main())


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=("plain", "tls"), default=["plain", "tls"])
    parser.add_argument("--no-uvloop", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        if not asked.no_uvloop:
            import uvloop

            uvloop.install()
        asyncio.run(serve(Path(asked.serve), asked.clients))
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder, "--clients", str(asked.clients)]
        command += ["--no-uvloop"] if asked.no_uvloop else []
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            names = ("median_ms", "p99_ms", "last_ms", "stall_ms", "again", "cpu_ms", "before_mb", "held_mb")
            print(
                f"{asked.clients} clients at once; cpu_ms is the server's a client, again: turned away and back"
            )
            print("way  " + "".join(f"{name:>11}" for name in names))
            for way in asked.ways:
                for _ in range(asked.rounds):
                    found = one_round(process, facts, way)
                    print(f"{way:<5}" + "".join(f"{found[name]:>11.1f}" for name in names), flush=True)
        finally:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()

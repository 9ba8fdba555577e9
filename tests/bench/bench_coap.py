"""Durable CoAP publishes a second: the hub's door against a plain aiocoap server with a commit a request, in one run.

    python tests/bench/bench_coap.py [--seconds 3] [--rounds 5] [--clients 16]

Both answer 2.04 only after `fsync`. The load generator is this process: one confirmable POST of SenML under way for
each client (NSTART 1, RFC 7252, 4.7), each with a socket, a thing and message IDs of its own. The servers are child
processes that take turns within a round. After each run the number of stored messages must equal the number of 2.04s,
and none may have been sent twice. Compare the ratio and the server's CPU time for a request; wall time drifts.

Servers:
  fluxgate   CoapDoor over a hub in a fresh directory, uvloop
  aiocoap    the plain way: an aiocoap resource that checks the key, parses, inserts and commits
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import select
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hub.coap.packets import CON, Code, Opt, encode, uint

SENML = json.dumps(
    [
        {"bn": "urn:dev:mac:0004a30b001c0530:", "n": "temperature", "u": "Cel", "v": 21.5},
        {"n": "humidity", "u": "%RH", "v": 44},
        {"n": "battery", "u": "V", "v": 3.61},
        {"n": "open", "vb": False},
    ]
).encode()
KINDS = ("fluxgate", "aiocoap")
PEER_KEY = "peer-key"


@dataclass(frozen=True)
class Run:
    accepted: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds


# --- load ---------------------------------------------------------------------------------------------------------


class Client:
    """One thing: sends the next request when the last is answered."""

    def __init__(self, port: int, channel: str, key: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.n = 0
        self.sent_at = 0.0
        path = ("channels", channel, "messages")
        options = [(int(Opt.URI_PATH), part.encode()) for part in path]
        options += [(int(Opt.CONTENT_FORMAT), uint(110)), (int(Opt.URI_QUERY), b"auth=" + key.encode())]
        self.options = tuple(options)

    def send(self) -> None:
        self.n += 1
        wire = encode(CON, Code.POST, self.n & 0xFFFF, self.n.to_bytes(4, "big"), self.options, SENML)
        self.sent_at = time.perf_counter()
        self.socket.send(wire)

    def receive(self) -> float:
        """The seconds until the answer."""
        answer = self.socket.recv(2048)
        if answer[1] != Code.CHANGED or answer[4:8] != self.n.to_bytes(4, "big"):
            raise SystemExit(f"refused: {answer!r}")
        return time.perf_counter() - self.sent_at


def load(clients: list[Client], seconds: float) -> tuple[list[float], float]:
    """Latencies of all answered requests, and the seconds they took together."""
    poll = select.epoll()
    by_handle = {client.socket.fileno(): client for client in clients}
    latencies: list[float] = []
    started = time.perf_counter()
    deadline = started + seconds
    for handle, client in by_handle.items():
        poll.register(handle, select.EPOLLIN)
        client.send()
    waiting = len(clients)
    while waiting:
        events = poll.poll(10)
        if not events:
            raise SystemExit("no answer for 10 s")
        for handle, _ in events:
            client = by_handle[handle]
            latencies.append(client.receive())
            if time.perf_counter() < deadline:
                client.send()
            else:
                waiting -= 1
    poll.close()
    return latencies, time.perf_counter() - started


# --- servers (child processes) ------------------------------------------------------------------------------------


async def serve_fluxgate(directory: Path, clients: int) -> None:
    from hub.coap import MIGRATIONS, CoapDoor, Limits
    from hub.hub import Hub

    sys.setswitchinterval(0.001)  # this and the collector's threshold as the gateway's process sets them
    hub = Hub.open(directory, migrations=MIGRATIONS)
    channel = hub.registry.create_channel(name="load")
    keys = []
    for n in range(clients):
        thing, key = hub.registry.create_thing(name=f"load {n}")
        hub.registry.connect([channel.id], [thing.id])
        keys.append(key)
    limits = Limits(
        address_rate=1e6, address_burst=1e6, thing_rate=1e6, thing_burst=1e6
    )  # all are one address here
    door = CoapDoor(hub, "127.0.0.1", 0, limits=limits)
    await door.start()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    say({"port": door.port, "channel": channel.id, "keys": keys})
    await asyncio.to_thread(sys.stdin.readline)
    await door.close()
    stored = len(hub.log.read(0, None, 10_000_000))
    await hub.close()
    say({"stored": stored})


async def serve_aiocoap(directory: Path, clients: int) -> None:
    """What one would write first: check the key, parse, insert, commit, answer."""
    import aiocoap
    from aiocoap import resource

    db = sqlite3.connect(directory / "peer.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(
        "CREATE TABLE message("
        "id INTEGER PRIMARY KEY, channel TEXT, publisher TEXT, type INTEGER, body BLOB, created REAL)"
    )

    class Messages(resource.Resource):
        async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
            if f"auth={PEER_KEY}" not in request.opt.uri_query:
                return aiocoap.Message(code=aiocoap.UNAUTHORIZED)
            records = json.loads(request.payload)
            if not all("n" in record or "bn" in record for record in records):
                return aiocoap.Message(code=aiocoap.BAD_REQUEST)
            with db:
                db.execute(
                    "INSERT INTO message(channel, publisher, type, body, created) VALUES (?, ?, ?, ?, ?)",
                    ("peer", "peer", int(request.opt.content_format), request.payload, time.time()),
                )
            return aiocoap.Message(code=aiocoap.CHANGED)

    site = resource.Site()
    site.add_resource(("channels", "peer", "messages"), Messages())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", port), transports=["simplesocketserver"]
    )
    say({"port": port, "channel": "peer", "keys": [PEER_KEY] * clients})
    await asyncio.to_thread(sys.stdin.readline)
    await server.shutdown()
    (stored,) = db.execute("SELECT count(*) FROM message").fetchone()
    say({"stored": stored})


def say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def serve(kind: str, directory: Path, clients: int) -> None:
    import uvloop

    main = serve_fluxgate if kind == "fluxgate" else serve_aiocoap
    uvloop.run(main(directory, clients))


# --- the comparison -----------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, count: int, seconds: float) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-coap-") as directory:
        child = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, "--directory", directory, "--clients", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            where = json.loads(child.stdout.readline())
            clients = [Client(where["port"], where["channel"], key) for key in where["keys"]]
            warm, _ = load(clients, 0.5)
            cpu = cpu_seconds(child.pid)
            latencies, elapsed = load(clients, seconds)
            cpu = cpu_seconds(child.pid) - cpu
            for client in clients:
                client.socket.close()
            child.stdin.write("stop\n")
            child.stdin.flush()
            stored = json.loads(child.stdout.readline())["stored"]
        finally:
            child.stdin.close()
            child.terminate()
            child.wait(timeout=20)
            child.stdout.close()
    if stored != len(warm) + len(latencies):
        raise SystemExit(f"{kind}: {len(warm) + len(latencies)} messages acknowledged, {stored} stored")
    latencies.sort()
    return Run(
        accepted=len(latencies),
        seconds=elapsed,
        cpu_s=cpu,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.directory, args.clients)
        return
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    for number in range(1, args.rounds + 1):
        for kind in KINDS:
            run = measure(kind, args.clients, args.seconds)
            runs[kind].append(run)
            print(
                f"round {number}  {kind:9} {run.rate:8.0f} POST/s   p50 {run.p50_ms:6.2f} ms   p99 {run.p99_ms:7.2f} ms"
                f"   server CPU {run.cpu_s / run.accepted * 1e6:6.1f} us/POST   stored = acknowledged",
                flush=True,
            )
    print()
    for kind in KINDS:
        rates = [run.rate for run in runs[kind]]
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(runs[KINDS[0]], runs[kind], strict=True)]
        print(
            f"{kind:9} median {statistics.median(rates):8.0f} POST/s ({min(rates):.0f} to {max(rates):.0f});"
            f" {KINDS[0]} / {kind}: median {statistics.median(ratios):5.1f}x"
        )


if __name__ == "__main__":
    main()

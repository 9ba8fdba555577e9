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
import select
import socket
import sqlite3
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.turns import SENML, Load, Run, compare, measured, say

from hub.coap.packets import ACK, CON, Code, Opt, encode, encode_empty, uint

KINDS = ("fluxgate", "aiocoap")
PEER_KEY = "peer-key"


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

    def receive(self) -> float | None:
        """The seconds until the answer; None where a server says that it will come later (RFC 7252, 5.2.2)."""
        answer = self.socket.recv(2048)
        if answer[:2] == encode_empty(ACK, 0)[:2]:
            return None
        if answer[0] >> 4 & 3 == CON:
            self.socket.send(encode_empty(ACK, int.from_bytes(answer[2:4], "big")))
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
            latency = client.receive()
            if latency is None:
                continue
            latencies.append(latency)
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
    # All are one address here
    limits = Limits(address_rate=1e6, address_burst=1e6, thing_rate=1e6, thing_burst=1e6)
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

    async def post(request: aiocoap.Message) -> aiocoap.Message:
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

    messages = resource.Resource()
    messages.render_post = post  # asked for by the method's name
    site = resource.Site()
    site.add_resource(("channels", "peer", "messages"), messages)
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


def serve(kind: str, directory: Path, clients: int) -> None:
    import uvloop

    main = serve_fluxgate if kind == "fluxgate" else serve_aiocoap
    uvloop.run(main(directory, clients))


# --- the comparison -----------------------------------------------------------------------------------------------


def measure(kind: str, count: int, seconds: float) -> Run:
    clients: list[Client] = []

    def load_on(where: dict[str, Any]) -> Load:
        clients.extend(Client(where["port"], where["channel"], key) for key in where["keys"])
        return partial(load, clients)

    try:
        command = [sys.executable, __file__, "--serve", kind, "--clients", str(count)]
        return measured(kind, command, load_on, seconds)
    finally:
        for client in clients:
            client.socket.close()


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
    compare(KINDS, args.rounds, lambda kind: measure(kind, args.clients, args.seconds), "POST")


if __name__ == "__main__":
    main()

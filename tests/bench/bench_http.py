"""Durable HTTP publishes a second: the hub's door against Flask on waitress with a commit a request, in one run.

    python tests/bench/bench_http.py [--seconds 3] [--rounds 5] [--connections 64]

Both answer 202 only after `fsync`. The load generator is this process (epoll, one request
under way on each connection). The servers are child processes; their kinds alternate within a round, so
a noisy machine is noisy for all. After each run the number of stored messages must equal the number of 202s.
Wall time on a shared machine drifts; the ratio and the server's CPU time for a request are what to compare.

Servers:
  fluxgate   HttpDoor over a hub in a fresh directory, uvloop where installed
  waitress   the plain way: Flask on waitress with its four threads, keep-alive, a SQLite commit for each request;
             made in an environment of its own below ~/.cache/fluxgate-bench at the first run
  a2wsgi     the same Flask app under a2wsgi and uvicorn
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
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.turns import SENML, Load, Run, compare, measured, say

if TYPE_CHECKING:
    from flask import Flask

T = TypeVar("T")

KINDS = ("fluxgate", "waitress", "a2wsgi")
PEERS = ("flask==3.1.2", "waitress==3.0.2")


# --- load ---------------------------------------------------------------------------------------------------------


def load(port: int, request: bytes, connections: int, seconds: float) -> tuple[list[float], float]:
    """Latencies of all answered requests, and the seconds they took together.

    One request is under way on each connection. Plain epoll, no event loop: the generator shares the machine with
    the server it measures. A connection that the server closes after an answer is dialled again.
    """
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    sent_at: dict[int, float] = {}
    latencies: list[float] = []
    now = time.perf_counter

    def dial() -> None:
        began = now()
        one = socket.create_connection(("127.0.0.1", port), timeout=30)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(one, select.EPOLLIN)
        sockets[one.fileno()] = one
        one.sendall(request)
        sent_at[one.fileno()] = began

    def hang_up(handle: int) -> None:
        poll.unregister(handle)
        sockets.pop(handle).close()

    started = now()
    deadline = started + seconds
    for _ in range(connections):
        dial()
    while sockets:
        for handle, _ in poll.poll(30) or _nothing():
            one = sockets[handle]
            answer = one.recv(65536)
            while not _complete(answer):
                more = one.recv(65536)  # blocks: the rest of an answer is on its way
                if not more:
                    raise SystemExit(f"cut off: {answer!r}")
                answer += more
            if not answer.startswith(b"HTTP/1.1 202"):
                raise SystemExit(f"refused: {answer!r}")
            answered = now()
            latencies.append(answered - sent_at[handle])
            if answered >= deadline:
                hang_up(handle)
            elif b"onnection: close\r" in answer:
                hang_up(handle)
                dial()
            else:
                one.sendall(request)
                sent_at[handle] = answered
    poll.close()
    return latencies, now() - started


def _complete(answer: bytes) -> bool:
    """Whether an answer is whole: every server here ends it with the same JSON text."""
    return answer.rstrip().endswith(b'"message sent"}')


def _nothing() -> list[tuple[int, int]]:
    raise SystemExit("no answer for 30 s")


def request_bytes(path: str, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Thing {key}\r\n"
        f"Content-Type: application/senml+json\r\nContent-Length: {len(SENML)}\r\n\r\n"
    )
    return head.encode() + SENML


# --- servers (child processes) ------------------------------------------------------------------------------------


async def serve_fluxgate(directory: Path) -> None:
    from hub.http.door import HttpDoor
    from hub.http.idempotency import MIGRATIONS
    from hub.hub import Hub

    sys.setswitchinterval(0.001)  # this and the collector's threshold as the gateway's process sets them
    hub = Hub.open(directory, migrations=MIGRATIONS)
    thing, key = hub.registry.create_thing(name="load")
    channel = hub.registry.create_channel(name="load")
    hub.registry.connect([channel.id], [thing.id])
    door = HttpDoor(hub)
    await door.start()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    say({"port": door.port, "path": f"/channels/{channel.id}/messages", "key": key})
    await asyncio.to_thread(sys.stdin.readline)
    await door.close()
    stored = len(hub.log.read(0, None, 10_000_000))
    await hub.close()
    say({"stored": stored})


def flask_app(directory: Path) -> Flask:
    """What one would write first: check the key, parse, insert, commit, answer."""
    from flask import Flask, request

    db = sqlite3.connect(directory / "peer.db", check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(
        "CREATE TABLE message(id INTEGER PRIMARY KEY, channel TEXT, publisher TEXT, type TEXT, body BLOB, created REAL)"
    )
    writing = threading.Lock()  # SQLite has one writer; waiting here is quicker than its busy handler
    app = Flask(__name__)

    @app.post("/channels/<channel>/messages")
    def publish(channel: str) -> tuple[dict[str, Any], int]:
        if request.headers.get("Authorization") != "Thing peer-key":
            return {"error": "bad key"}, 401
        records = json.loads(request.data)
        if not all("n" in record or "bn" in record for record in records):
            return {"error": "bad SenML"}, 400
        with writing, db:
            db.execute(
                "INSERT INTO message(channel, publisher, type, body, created) VALUES (?, ?, ?, ?, ?)",
                (channel, "peer", request.content_type, request.data, time.time()),
            )
        return {"response": "message sent"}, 202

    return app


def finish_peer(directory: Path) -> None:
    sys.stdin.readline()
    db = sqlite3.connect(directory / "peer.db")
    (stored,) = db.execute("SELECT count(*) FROM message").fetchone()
    say({"stored": stored})


def serve_waitress(directory: Path) -> None:
    import logging

    from waitress import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of each request that waits
    server = create_server(flask_app(directory), host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    say({"port": server.effective_port, "path": "/channels/peer/messages", "key": "peer-key"})
    finish_peer(directory)
    os._exit(0)  # worker threads wait on their connections


def serve_a2wsgi(directory: Path) -> None:
    import uvicorn
    from a2wsgi import WSGIMiddleware

    listener = socket.create_server(("127.0.0.1", 0))
    application: Any = flask_app(directory)  # both sides type WSGI (PEP 3333), each in its own words
    config = uvicorn.Config(WSGIMiddleware(application), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    say({"port": listener.getsockname()[1], "path": "/channels/peer/messages", "key": "peer-key"})
    finish_peer(directory)
    os._exit(0)


def serve(kind: str, directory: Path) -> None:
    if kind == "fluxgate":
        run_loop(serve_fluxgate(directory))
    elif kind == "waitress":
        serve_waitress(directory)
    else:
        serve_a2wsgi(directory)


# --- the comparison -----------------------------------------------------------------------------------------------


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def python_of(kind: str) -> str:
    """The interpreter that has what a server needs: ours, or one in an environment made for the peers."""
    if kind != "waitress":
        return sys.executable
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "fluxgate-bench" / "-".join(PEERS).replace("==", "-")
    if not (folder / "complete").exists():
        print(f"making an environment for {' and '.join(PEERS)} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([folder / "bin/pip", "install", "-q", *PEERS], check=True)
        (folder / "complete").touch()
    return str(folder / "bin/python")


def measure(kind: str, connections: int, seconds: float) -> Run:
    def load_on(where: dict[str, Any]) -> Load:
        return partial(load, where["port"], request_bytes(where["path"], where["key"]), connections)

    return measured(kind, [python_of(kind), __file__, "--serve", kind], load_on, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.directory)
        return
    compare(args.kinds, args.rounds, lambda kind: measure(kind, args.connections, args.seconds), "req")


if __name__ == "__main__":
    main()

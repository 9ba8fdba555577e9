"""What a reverse proxy costs: publishes and questions to /auth/check a second, at the gateway's door and through nginx.

    python tests/bench/bench_proxy.py [--seconds 2] [--rounds 3] [--connections 32]

The real nginx runs with the shipped configuration, its limits for one address lifted and with a plain listener
besides, so that TLS is not what is measured. A publish is answered after `fsync`. The ways alternate within a round;
the ratios are what to compare. Ways:
  door         publish at the gateway's own door
  forwarded    the same with the headers that a trusted proxy adds
  nginx        publish through nginx
  of_2017      publish through the front of 2017: a question to the gateway before each message
  check        the question alone, as nginx asks it: may this thing publish there?
  service      through nginx to another service, with the question in front
  service_open through nginx to the same service, without
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from gateway.demo.broker import free_port  # noqa: E402
from tests.proxy.conftest import Front, services  # noqa: E402

BODY = b'[{"bn":"urn:dev:mac:0004a30b001c0530:","n":"temperature","u":"Cel","v":21.5}]'


def serve(folder: Path) -> None:
    """The child: nginx, the gateway and a service until standard input ends; the first line tells where."""
    front = Front(folder)
    plain = free_port()

    def adjust(_: Front) -> None:
        services(front)
        nginx = front.nginx
        nginx.change(
            "http.conf", ("rate=100r/s", "rate=1000000r/s"), ("connections 200;", "connections 2000;")
        )
        nginx.change("parts/as-2017.conf", ("connections 200;", "connections 2000;"))
        over_tls = f"listen 127.0.0.1:{nginx.ports['https']} ssl http2;"
        nginx.change("http.conf", (over_tls, f"{over_tls}\n    listen 127.0.0.1:{plain};"))
        text = nginx.file("site/services.conf").read_text()
        to_echo = f"proxy_pass http://127.0.0.1:{front.echo.port};"
        text += f"location ^~ /open/ {{ include fluxgate/parts/headers.conf; {to_echo} }}"
        nginx.file("site/services.conf").write_text(text)

    front.start(adjust)
    device = front.site.device
    told = {
        "door": front.site.http.port,
        "nginx": plain,
        "of_2017": front.nginx.ports["of_2017"],
        "path": device.messages,
        "key": device.key,
        "token": front.site.owner.token,
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    front.stop()


def load(port: int, wire: bytes, connections: int, seconds: float) -> tuple[list[float], float]:
    """Latencies of all requests and the seconds they took together; one is under way on each connection."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    sent_at: dict[int, float] = {}
    latencies: list[float] = []

    def dial() -> None:
        one = socket.create_connection(("127.0.0.1", port), timeout=30)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(one, select.EPOLLIN)
        sockets[one.fileno()] = one
        one.sendall(wire)
        sent_at[one.fileno()] = time.perf_counter()

    began = time.perf_counter()
    for _ in range(connections):
        dial()
    while sockets:
        for handle, _ in poll.poll(30):
            one = sockets[handle]
            answer = whole(one)
            if answer[9:12] not in (b"200", b"202"):
                raise SystemExit(f"refused: {answer!r}")
            answered = time.perf_counter()
            latencies.append(answered - sent_at[handle])
            over = answered - began >= seconds
            if over or b"onnection: close\r" in answer:
                poll.unregister(handle)
                sockets.pop(handle).close()
                if not over:
                    dial()
            else:
                one.sendall(wire)
                sent_at[handle] = answered
    return latencies, time.perf_counter() - began


def whole(one: socket.socket) -> bytes:
    """One answer, of the length that it says."""
    answer = one.recv(65536)
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        if end:
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length is None or len(body) >= int(length[1]):
                return answer
        more = one.recv(65536)
        if not more:
            raise SystemExit(f"cut off: {answer!r}")
        answer += more


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join((f"{line} HTTP/1.1", "Host: localhost", *headers, *length, "", "")).encode() + body


def ways(told: dict[str, str]) -> dict[str, tuple[int, bytes]]:
    """Port and request of each way."""
    thing, person = f"Authorization: Thing {told['key']}", f"Authorization: Bearer {told['token']}"
    publish = (f"POST {told['path']}", thing, "Content-Type: application/senml+json")
    added = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    asked = ("X-Original-Method: POST", f"X-Original-URI: {told['path']}")
    door, nginx, of_2017 = (int(told[name]) for name in ("door", "nginx", "of_2017"))
    return {
        "door": (door, request(*publish, body=BODY)),
        "forwarded": (door, request(*publish, *added, body=BODY)),
        "nginx": (nginx, request(*publish, body=BODY)),
        "of_2017": (of_2017, request(*publish, body=BODY)),
        "check": (door, request("GET /auth/check", thing, *asked, *added)),
        "service": (nginx, request("GET /solver/x", person)),
        "service_open": (nginx, request("GET /open/x", person)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdin is not None
        try:
            measure(json.loads(child.stdout.readline()), given.seconds, given.rounds, given.connections)
        finally:
            child.stdin.close()
            child.wait(30)


def measure(told: dict[str, str], seconds: float, rounds: int, connections: int) -> None:
    rates: dict[str, list[float]] = defaultdict(list)
    slow: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for way, (port, wire) in ways(told).items():
            latencies, spent = load(port, wire, connections, seconds)
            rates[way].append(len(latencies) / spent)
            slow[way].append(statistics.quantiles(latencies, n=100)[98] * 1000)
    print(f"{connections} connections, median of {rounds} rounds of {seconds:g} s")
    print(f"{'way':14} {'per second':>10} {'p99 ms':>8} {'of door':>8}")
    door = statistics.median(rates["door"])
    for way, found in rates.items():
        rate = statistics.median(found)
        print(f"{way:14} {rate:10,.0f} {statistics.median(slow[way]):8.1f} {rate / door:8.2f}")


if __name__ == "__main__":
    main()

"""What the interoperability tests share: the hub in a process of its own, certificates, and how to run a client."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gateway.demo.broker import free_port
from tests.hub.mqtt.own_process import OwnProcess
from tests.hub.pki import Authority, Pair

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 60.0  # for a whole exchange on a busy machine


WAYS = ("tcp", "tls", "mutual", "ws")


def kept_ports(count: int) -> set[int]:
    """That no connection gets while nobody listens."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return found


class Whole(OwnProcess):
    """The hub over one data directory, on plain TCP, TLS, TLS with client certificates, and WebSocket.

    `kill` is SIGKILL; started again it has the same ports and data.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("serve_whole.py")
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger")
        self.gateway = self.authority.server()
        self._given = folder / "given.json"
        self.facts = {
            "folder": str(folder / "data"),
            "ports": dict(zip(WAYS, kept_ports(len(WAYS)), strict=True)),
            "cert": str(self.gateway.cert),
            "key": str(self.gateway.key),
            "authority": str(self.authority.cert),
        }

    def start(self) -> None:
        self._given.write_text(json.dumps(self.facts))
        self.run(str(self._given))

    def port(self, way: str = "tcp") -> int:
        port: int = self.facts["ports"][way]
        return port

    def key(self, thing: str) -> tuple[str, str]:
        user, key = self.facts[thing]
        return user, key

    def login(self, thing: str, way: str = "tcp") -> list[str]:
        """Options of the mosquitto clients."""
        user, key = self.key(thing)
        return ["-h", "127.0.0.1", "-p", str(self.port(way)), "-u", user, "-P", key]

    def certified(self, pair: Pair | None, way: str = "mutual") -> list[str]:
        """Options of the mosquitto clients for a client certificate instead of a password."""
        options = ["-h", "127.0.0.1", "-p", str(self.port(way)), "--cafile", str(self.authority.cert)]
        return options + (["--cert", str(pair.cert), "--key", str(pair.key)] if pair else [])


@contextlib.contextmanager
def whole_server(folder: Path) -> Iterator[Whole]:
    server = Whole(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a client to its end; `text` is its standard input."""
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@contextlib.contextmanager
def listening(*options: str) -> Iterator[Iterator[str]]:
    """mosquitto_sub, subscribed; yields the lines it prints from then on, packets as well."""
    command = ["stdbuf", "-oL", "mosquitto_sub", *options, "-d"]  # -d prints a line for each packet
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sub:
        assert sub.stdout is not None
        try:
            assert any("Subscribed" in line for line in sub.stdout)
            yield (line.strip() for line in sub.stdout)
        finally:
            sub.kill()

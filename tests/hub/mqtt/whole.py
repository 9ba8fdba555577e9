"""What the interoperability tests share: the hub in a process of its own, certificates, and how to run a client."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hub.pki import Authority, Pair

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 60.0  # for a whole exchange on a busy machine


class Whole:
    """The hub over one data directory, on plain TCP, TLS, TLS with client certificates, and WebSocket.

    `kill` is SIGKILL; started again it has the same ports and data.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger")
        self.gateway = self.authority.server()
        self._given = folder / "given.json"
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {
            "folder": str(folder / "data"),
            "ports": dict.fromkeys(("tcp", "tls", "mutual", "ws"), 0),
            "cert": str(self.gateway.cert),
            "key": str(self.gateway.key),
            "authority": str(self.authority.cert),
        }

    def start(self) -> None:
        self._given.write_text(json.dumps(self.facts))
        path = os.pathsep.join([str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "serve_whole.py"), str(self._given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.facts = json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    @property
    def topic(self) -> str:
        return f"channels/{self.facts['channel']}/messages"

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

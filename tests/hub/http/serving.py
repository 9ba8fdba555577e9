"""An HTTP door in a process of its own, to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from gateway.demo.broker import free_port

KEY = "k" * 43
MESSAGES = "/channels/field/messages"

_SERVE = """
import asyncio, json, sys
from pathlib import Path
from hub.http import MIGRATIONS
from hub.http.door import HttpDoor
from hub.hub import Hub

async def main():
    hub = Hub.open(Path(sys.argv[1]), migrations=MIGRATIONS)
    registry = hub.registry
    if registry.thing("node") is None:
        registry.create_thing("node", id="node", key="k" * 43)
        registry.create_thing("app", id="app", key="a" * 43)
    if registry.channel("field") is None:
        registry.create_channel("field", id="field")
        registry.connect(["field"], ["node", "app"])
    door = HttpDoor(hub, port=int(sys.argv[2]))
    await door.start()
    print(json.dumps(door.port), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Served:
    """A running server; `restart` kills it and starts another on the same port and data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()  # not one that a connection may get while nobody listens
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        self.kill()
        self._start()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _start(self) -> None:
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self._directory), str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'platform'}"},
        )
        assert self._process.stdout is not None
        self.port = json.loads(self._process.stdout.readline())

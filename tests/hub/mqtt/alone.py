"""A hub with its MQTT door in a process of its own, for tests that kill it."""

from __future__ import annotations

from pathlib import Path

from gateway.demo.broker import free_port
from tests.hub.mqtt.own_process import OwnProcess


class Server(OwnProcess):
    """The hub over one data directory; started again it keeps its port."""

    def __init__(self, folder: Path) -> None:
        super().__init__("serve.py")
        self.folder = folder
        self.port = free_port()  # not one that a connection may get while nobody listens

    def start(self) -> None:
        self.run(str(self.folder), str(self.port))

    def login(self, thing: str) -> list[str]:
        """Options of the mosquitto clients."""
        user, key = self.facts[thing]
        return ["-h", "127.0.0.1", "-p", str(self.facts["port"]), "-u", user, "-P", key]

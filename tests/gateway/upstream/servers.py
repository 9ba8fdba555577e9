"""A broker or server as a process on a free port, that a test can stop, kill, freeze and start again."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from gateway.demo.broker import free_port

DEADLINE_S = 60.0  # of any single wait in these tests: reached only when something is broken


@dataclass
class Server(ABC):
    """Keeps its files in `folder`, and its port over all its lives. A child says what is run, and in which words."""

    ready: ClassVar[bytes]  # in the line of the log that says that it listens

    folder: Path
    port: int = field(default_factory=free_port, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, kw_only=True)

    @abstractmethod
    def command(self) -> list[str]:
        """What to run, with a configuration that is written by then."""

    def start(self) -> None:
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        listens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, args=(self.process.stderr, listens))
        self._reading.start()
        assert listens.get(timeout=DEADLINE_S), f"{type(self).__name__} did not start"

    def _read(self, log: IO[bytes], listens: queue.SimpleQueue[bool]) -> None:
        """To its end: a server whose log nobody reads stops when the pipe is full."""
        with log:
            for line in log:
                if self.ready in line:
                    listens.put(True)
        listens.put(False)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        self.process = None

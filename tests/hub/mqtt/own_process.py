"""A hub in a process of its own, which a test kills and starts again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class OwnProcess:
    """Runs a script of this folder, whose first line of output is its facts as JSON; `kill` is SIGKILL."""

    def __init__(self, script: str) -> None:
        self._script = HERE / script
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}

    def run(self, *arguments: str) -> None:
        path = os.pathsep.join([str(HERE.parents[2] / "platform"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(self._script), *arguments],
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

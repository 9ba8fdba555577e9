"""Several processes of the gateway as one: start them, stop them together, first failure stops all.

What systemd does on a Raspberry Pi, `fluxgate run` and `fluxgate demo` do on a laptop with this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0  # from SIGTERM to SIGKILL


class ProcessFailed(Exception):
    """A process ended although nobody asked it to."""

    def __init__(self, name: str, code: int, log_file: Path | None) -> None:
        self.name, self.code, self.log_file = name, code, log_file
        where = f"; its last words are in {log_file}" if log_file else ""
        super().__init__(f"process {name} {_ending(code)}{where}")


@dataclass(frozen=True, slots=True)
class Program:
    """One process: a name for people, its command line, and where its output goes (None: ours)."""

    name: str
    command: Sequence[str]
    log_file: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()


class Supervisor:
    """Runs programs until `stop` or until one of them ends."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, program: Program) -> None:
        """Start one program; it inherits our environment with the program's additions."""
        with contextlib.ExitStack() as files:
            output = files.enter_context(program.log_file.open("ab")) if program.log_file else None
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **dict(program.environment)},
            )
        self._running[program.name] = process
        self._watchers[program.name] = asyncio.create_task(
            self._watch(program, process), name=f"watch {program.name}"
        )
        log.info("started %s (pid %d)", program.name, process.pid)

    def pid(self, name: str) -> int:
        """Process id of a running program."""
        return self._running[name].pid

    async def failure(self) -> None:
        """Wait until a program ends unasked. Raises ProcessFailed."""
        await asyncio.shield(self._failure)

    async def stop(self, *names: str) -> None:
        """Stop the named programs, or all of them, the last started first."""
        chosen = [name for name in reversed(self._running) if not names or name in names]
        for name in chosen:
            watcher = self._watchers.pop(name)
            watcher.cancel()
            await _end(self._running.pop(name), name)

    async def _watch(self, program: Program, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not self._failure.done():
            self._failure.set_exception(ProcessFailed(program.name, code, program.log_file))
            self._failure.exception()  # retrieved here, so that nobody needs to be waiting


def _ending(code: int) -> str:
    """How a process ended, in words; a negative code is the signal that ended it."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


async def _end(process: asyncio.subprocess.Process, name: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        log.warning("%s did not stop in %.0f s and is killed", name, STOP_TIMEOUT_S)
        process.kill()
        await process.wait()

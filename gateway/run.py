"""`fluxgate run`: radio, gateway and pages on this machine under one supervisor."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from gateway.settings import Config
from gateway.supervisor import ProcessFailed, Program, Supervisor


class RunFailed(Exception):
    """A process ended, or there is nothing to run."""


async def run(config: Config, config_file: Path | None) -> None:
    """Run until SIGINT or SIGTERM. Without `[[radio.module]]` the frames come from other forwarders.

    Raises RunFailed when a process ends by itself; the others have been stopped then.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = ["--config", str(config_file)] if config_file else []
    names = ["gateway", "webui"] + (["radio"] if config.radio.module else [])
    supervisor = Supervisor()
    try:
        for name in names:
            await supervisor.start(Program(name, [sys.executable, "-m", "gateway", name, *settings]))
        stopped = asyncio.create_task(stop.wait(), name="stop")
        failed = asyncio.create_task(supervisor.failure(), name="failure")
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if failed.done():
            failed.result()
        failed.cancel()
    except ProcessFailed as error:
        raise RunFailed(str(error)) from error
    finally:
        await supervisor.stop()

"""Lets the diagnosis look round every few seconds, and stores what it has found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from gateway.diagnosis import store
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.lorawan.clock import Instant
from hub.errors import HubError
from hub.log import Log

log = logging.getLogger(__name__)

INTERVAL_S = 5.0


class DiagnosisClock:
    """One task, `run`."""

    def __init__(self, diagnoser: Diagnoser, hub_log: Log, clock: Callable[[], Instant]) -> None:
        """Gives the diagnosis what was stored before."""
        self._diagnoser = diagnoser
        self._log = hub_log
        self._clock = clock
        with contextlib.closing(hub_log.reader()) as reader:
            diagnoser.restore(store.load(reader.connection))

    async def run(self) -> None:
        """Look and store, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.look()

    def look(self) -> None:
        """Once."""
        writes = self._diagnoser.tick(self._clock())
        if writes:
            try:
                self._log.post((), writes)
            except HubError as error:
                self._diagnoser.book.not_written()
                log.debug("findings are not stored: %s", error)

"""Wakes the LoRaWAN server when a downlink is due that answers no uplink: class B and C, groups, repetitions, expiry.

The server says when it wants to be asked next, and that changes with each order, uplink and report; `wake` is how
the clock is told. It sleeps on monotonic time, and never for longer than LONGEST_S, so that an expiry in wall time
follows a clock that is set meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from gateway.downlinks import Downlinks
from gateway.lorawan.clock import Instant
from gateway.lorawan.server import NetworkServer

LONGEST_S = 60.0
PAUSE_S = 0.01  # where nothing came of what was due


class DownlinkClock:
    """One task, `run`."""

    def __init__(self, server: NetworkServer, downlinks: Downlinks, clock: Callable[[], Instant]) -> None:
        self._server = server
        self._downlinks = downlinks
        self._clock = clock
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """What is due may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Carry out what is due, for ever."""
        while True:
            self._woken.clear()
            now = self._clock()
            wait_s = (self._server.next_due_ns(now) - now.mono_ns) / 1e9
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, LONGEST_S)):
                        await self._woken.wait()
                continue
            due = self._server.due(now)
            if due:
                self._downlinks.carry_out(due)
            await asyncio.sleep(0 if due else PAUSE_S)  # others get their turn, however much is due

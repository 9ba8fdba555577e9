"""Ends grants whose time has passed, so that what was opened with them ends too, within a second.

Access refuses them at that very second; this tells everything that is open, and takes the rows away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hub.tokens.grants import Grant, Grants

TICK_S = 0.5  # between two looks at the clock: the wall clock may jump, so no timer is set for the end itself


class Expiry:
    """Belongs to the event loop's thread. `ended` is told of each grant that was ended."""

    def __init__(self, grants: Grants, now_s: Callable[[], float], ended: Callable[[Grant], None]) -> None:
        """`now_s` gives UTC seconds."""
        self._grants = grants
        self._now_s = now_s
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        next_s = self._grants.next_over
        if next_s is not None and self._now_s() >= next_s and self._task is None:
            self._task = self._loop.create_task(self.end_over(), name="tokens: end grants")

    async def end_over(self) -> None:
        """End what is over now."""
        try:
            for grant in await asyncio.to_thread(self._grants.end_over, self._now_s()):
                self._ended(grant)
        finally:
            self._task = None

    async def close(self) -> None:
        """Look no more, and wait for what has begun."""
        self._timer.cancel()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

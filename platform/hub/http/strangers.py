"""Requests that show no valid credential: how fast one address may hear so.

The usual stranger is a thing with a replaced key that tries without a pause. Beyond a rate each further 401 of its
address waits, so a connection asks twice in four seconds and not thousands of times. Nobody is shut out: what shows a
valid credential from the same address, behind one NAT, is answered at once. The own host is not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.types import Message, Scope, Send

from hub.http.auth import address_of
from hub.http.limits import Limits
from hub.http.proxies import parse_address
from hub.lockout import network_of
from hub.rates import Rates

DELAY_S = 2.0  # that an answer waits
MAX_WAITING = 512  # answers that wait at a time; further ones leave at once
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class Strangers:
    """One per app. `clock` is monotonic seconds."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        rate = limits.stranger_rate
        self._rates = Rates(rate, limits.stranger_burst) if rate else None
        self._clock = clock
        self._sleep = sleep
        self.waiting = 0
        self.delayed = 0

    def patient(self, scope: Scope, send: Send) -> Send:
        """`send` of a request; a 401 leaves when it is time."""

        async def in_time(message: Message) -> None:
            if message.get("status") == 401 and message["type"] in _STARTS:
                await self._wait(address_of(scope))
            await send(message)

        return in_time

    async def _wait(self, address: str) -> None:
        rates, parsed = self._rates, parse_address(address)
        if rates is None or parsed is None or parsed.is_loopback or self.waiting >= MAX_WAITING:
            return
        if not rates.wait_s(network_of(str(parsed)), self._clock()):
            return
        self.delayed += 1
        self.waiting += 1
        try:
            await self._sleep(DELAY_S)
        finally:
            self.waiting -= 1

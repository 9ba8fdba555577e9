"""What a destination offers to the relay, and what the relay says about it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.log import Gap
from hub.message import Message
from hub.timekeeping import Correction

Rejected = Callable[[Message, str], None]


def ignore_rejected(message: Message, reason: str) -> None:
    """What a sink calls that no relay listens to."""


class Sink(Protocol):
    """One destination. It keeps nothing across a restart: its memory is the cursor in the log.

    `window` is the largest batch it wants; what it has on the way at a time, and an interruption can send twice,
    is its own, smaller affair.
    """

    name: str
    window: int
    on_rejected: Rejected  # called with each message settled without delivery, and why

    @property
    def rejected(self) -> int:
        """Messages settled without delivery, because the destination can never take them."""
        ...

    async def open(self, on_lost: Callable[[], None]) -> None:
        """Connect. `on_lost` is called, on the loop, when the connection ends later. Raises SinkError."""

    def check(self) -> None:
        """Raises the SinkError that ended the connection, if it has ended."""

    async def deliver(self, batch: Sequence[Message]) -> int:
        """Hand `batch` over in its order; return how many of its first messages are safely there.

        Fewer than the batch: the connection ended on the way and the next call says why. Raises SinkError
        where not even the first one got there.
        """
        ...

    async def announce(self, news: Correction | Gap) -> str:
        """Tell the other side that the times of earlier messages were wrong, or that messages are gone.

        Returns when it knows ("") or will not take it: then why. Raises SinkError when the connection ends.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection, if any. Never raises."""


class UpstreamState(enum.StrEnum):
    CONNECTED = "connected"
    CONNECTING = "connecting"  # the first attempt after a start or a pause
    OFFLINE = "offline"  # no answer; tried again with growing pauses
    REFUSED = "refused"  # answered, and said no; tried again as well
    PAUSED = "paused"  # by a person


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """How one destination fares, for the pages and the API."""

    name: str
    state: UpstreamState
    detail: str  # "" while connected
    queued: int  # committed messages that it has not acknowledged
    delivered: int  # acknowledged since the gateway started
    rejected: int  # refused for good by the destination since the gateway started
    rejected_detail: str  # why the latest of them was refused; "" without one
    missed: int  # removed by retention before they could be delivered, ever
    since: float  # Unix seconds at which `state` was entered

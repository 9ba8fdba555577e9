"""What a sink has sent and not yet been told about: the window, and how far a batch has arrived.

Acknowledgements may come in any order; what counts is how many messages from the front of the batch are settled
without a gap, because a cursor can say nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from .errors import SinkOffline


class Owed(NamedTuple):
    """One message sent and not acknowledged."""

    place: int  # in the batch
    size: int  # bytes
    topic: str


class Pipeline:
    """The messages of one batch under way, each known by the token its acknowledgement will carry."""

    def __init__(self) -> None:
        self._owed: dict[int, Owed] = {}
        self._bytes = 0
        self._settled: set[int] = set()
        self._progress = asyncio.Event()

    def begin(self) -> None:
        """A new batch: whatever was owed before will not be counted any more."""
        self._owed.clear()
        self._bytes = 0
        self._settled.clear()

    def __len__(self) -> int:
        """How many are owed."""
        return len(self._owed)

    def has_room(self, size: int, *, window: int, window_bytes: int) -> bool:
        """Whether one more of `size` bytes may be sent; one always may."""
        return not self._owed or (len(self._owed) < window and self._bytes + size <= window_bytes)

    def sent(self, token: int, index: int, size: int, topic: str) -> None:
        self._owed[token] = Owed(index, size, topic)
        self._bytes += size

    def settle(self, index: int) -> None:
        """Message `index` needs no acknowledgement (any more)."""
        self._settled.add(index)

    def answered(self, token: int) -> Owed | None:
        """Take back what `token` stands for; None where it is from an earlier batch."""
        owed = self._owed.pop(token, None)
        if owed is not None:
            self._bytes -= owed.size
            self._progress.set()
        return owed

    def first_to(self, topic: str) -> tuple[int, Owed] | None:
        """Token and message of the first one owed that went to `topic`, given in lower case."""
        return next(
            ((token, owed) for token, owed in self._owed.items() if owed.topic.lower() == topic), None
        )

    def front(self) -> int:
        """How many messages from the front of the batch are settled without a gap."""
        count = 0
        while count in self._settled:
            count += 1
        return count

    def wake(self) -> None:
        """Have whoever waits look again: the connection has ended."""
        self._progress.set()

    async def wait(self, check: Callable[[], object], timeout_s: float) -> None:
        """Until something was answered. `check` raises what ended the connection.

        Raises SinkOffline when nothing is answered for `timeout_s`.
        """
        self._progress.clear()
        check()
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            raise SinkOffline("the other side takes messages and acknowledges none") from None
        check()

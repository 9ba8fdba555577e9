"""What sinks with many messages on the way have in common: a batch is sent ahead of its acknowledgements.

A child sends a message and says how long to wait for answers; answers come by `_pipeline`, in any order.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from hub.message import Message

from .errors import SinkError, SinkOffline
from .pipeline import Pipeline
from .refusals import Refusals
from .sink import Rejected, ignore_rejected


class Link(Protocol):
    """A connection."""

    def check(self) -> None:
        """Raises the SinkError that ended it, if it has ended."""

    def end(self, reason: SinkError) -> None: ...


L = TypeVar("L", bound=Link)


class PipelinedSink(ABC, Generic[L]):
    """See `gateway.upstream.sink.Sink`."""

    def __init__(self, name: str, window: int, refusal_hold_s: float) -> None:
        self.name = name
        self.window = window
        self.rejected = 0
        self.on_rejected: Rejected = ignore_rejected
        self._link: L | None = None
        self._batch: Sequence[Message] = ()
        self._pipeline = Pipeline()
        self._refusals = Refusals(refusal_hold_s)
        self._announcing = False
        self._refusal = ""  # why what was announced is not taken
        self._on_lost: Callable[[], None] = lambda: None

    def check(self) -> None:
        self._connected()

    async def deliver(self, batch: Sequence[Message]) -> int:
        link = self._connected()
        self._batch = batch
        self._pipeline.begin()
        try:
            for index, message in enumerate(batch):
                await self._send(link, index, message)
            while self._pipeline:
                await self._wait(link)
        except SinkError as error:
            link.end(error)
            if not (arrived := self._pipeline.front()):
                raise
            return arrived
        finally:
            self._batch = ()
        return len(batch)

    @abstractmethod
    async def _send(self, link: L, index: int, message: Message) -> None:
        """Send message `index` of the batch as soon as there is room, or reject it. Raises SinkError."""

    @abstractmethod
    async def _wait(self, link: L) -> None:
        """Until an answer came. Raises SinkError when the connection ends or none comes for too long."""

    @contextlib.contextmanager
    def _announcement(self, link: L) -> Iterator[None]:
        """One message that is not of a batch; `_refusal` is what became of it."""
        self._pipeline.begin()
        self._announcing, self._refusal = True, ""
        try:
            yield
        except SinkError as error:
            link.end(error)
            raise
        finally:
            self._announcing = False

    def _connected(self) -> L:
        """Raises the SinkError that ended the connection."""
        if self._link is None:
            raise SinkOffline("not connected")
        self._link.check()
        return self._link

    def _end(self, error: SinkError) -> None:
        if self._link is not None:
            self._link.end(error)

    def _reject(self, index: int, reason: str) -> None:
        """Message `index` of the batch can never be delivered."""
        self.rejected += 1
        self._pipeline.settle(index)
        self.on_rejected(self._batch[index], reason)

    def _lost(self) -> None:
        self._pipeline.wake()
        self._on_lost()

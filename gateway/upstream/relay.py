"""The relay: reads the log after a cursor, hands batches to a sink, moves the cursor over what arrived.

There is no queue. Whatever the length of an outage, one batch is in memory; the rest waits in the log. After
a crash the cursor may lag behind what was acknowledged, never run ahead of it: messages may arrive twice,
with the same identity, and none is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from hub.errors import HubError
from hub.log import Gap, Write
from hub.message import Message
from hub.timekeeping import Correction, corrected

from . import refusals
from .backoff import Backoff
from .errors import SinkError, SinkRefused
from .sink import Sink, UpstreamState, UpstreamStatus

log = logging.getLogger("gateway.upstream")

BATCH_BYTES = 4 << 20  # payload bytes aimed at in one batch: keeps the relay small beside large messages
SCAN_ROWS = 1000  # looked through in one turn where only some messages are for the sink
STEADY_S = 10.0  # a connection that stood this long ends an outage even if nothing had to be sent


class LogReader(Protocol):
    """What the relay needs of `hub.log.Log`."""

    committed_seq: int

    def count_after(self, seq: int) -> int: ...
    def corrections(self) -> Sequence[Correction]: ...
    def post(self, messages: Sequence[Message], also: Sequence[Write] = ()) -> list[int]: ...
    def scan(
        self, after_seq: int, match: Callable[[Message], bool] | None, limit: int, *, max_rows: int
    ) -> tuple[Sequence[Message], int]: ...
    def cursor(self, name: str, start: int = 0) -> int: ...
    def gaps(self, name: str | None = None) -> Sequence[Gap]: ...
    def move_cursor(self, name: str, seq: int) -> None: ...
    def on_commit(self, fn: Callable[[Sequence[Message]], None]) -> Callable[[], None]: ...


def taken_in_here(message: Message) -> bool:
    """What another gateway took in is that gateway's to send: nothing goes round in circles."""
    return not message.origin


class Relay:
    """Carries the log to one sink. `run` is a task; everything else is called on the same loop."""

    def __init__(
        self,
        log: LogReader,
        sink: Sink,
        *,
        cursor: str | None = None,
        match: Callable[[Message], bool] = taken_in_here,
        backoff: Backoff | None = None,
    ) -> None:
        self._log = log
        self._sink = sink
        self._cursor_name = cursor or f"upstream/{sink.name}"
        self._match = match
        self._backoff = backoff or Backoff()
        self._cursor = log.cursor(self._cursor_name)
        self._fitting = BATCH_BYTES  # messages of the size seen last that make a batch of BATCH_BYTES
        self._queued = log.count_after(self._cursor)  # at most: some may not be for the sink
        self._delivered = 0
        self._rejected_detail = ""
        self._paused = False
        self._wake = asyncio.Event()
        self._state = UpstreamState.CONNECTING
        self._detail = ""
        self._entered = time.monotonic()
        sink.on_rejected = self._rejected

    def status(self) -> UpstreamStatus:
        return UpstreamStatus(
            name=self._sink.name,
            state=self._state,
            detail=self._detail,
            queued=self._queued,
            delivered=self._delivered,
            rejected=self._sink.rejected,
            rejected_detail=self._rejected_detail,
            missed=sum(gap.messages for gap in self._log.gaps(self._cursor_name)),
            # counted back from now: the wall clock may be set while the state lasts
            since=time.time() - (time.monotonic() - self._entered),
        )

    def pause(self) -> None:
        """Stop delivering after the batch under way; messages keep gathering in the log."""
        self._paused = True
        self._wake.set()

    def resume(self) -> None:
        self._paused = False
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        unsubscribe = self._log.on_commit(self._committed)
        try:
            while True:
                await self._while_paused()
                pause_s = await self._one_connection()
                if pause_s is not None:
                    await self._rest(pause_s)
        finally:
            unsubscribe()

    async def _while_paused(self) -> None:
        while self._paused:
            self._enter(UpstreamState.PAUSED, "paused here; messages are kept")
            await self._news()
        if self._state is UpstreamState.PAUSED:
            self._enter(UpstreamState.CONNECTING)

    async def _one_connection(self) -> float | None:
        """Connect and deliver until the connection ends; the seconds to wait then, None after `pause`."""
        opened = None
        try:
            await self._sink.open(self._wake.set)
            opened = time.monotonic()
            # A broker that refuses the messages themselves admits us each time: say so until one got through.
            if self._state is not UpstreamState.REFUSED or not self._queued:
                self._enter(UpstreamState.CONNECTED)
            await self._deliver_all()
        except SinkError as error:
            now = time.monotonic()
            if opened is not None and now - opened >= STEADY_S:
                self._backoff.reset()
            refused = isinstance(error, SinkRefused)
            self._enter(UpstreamState.REFUSED if refused else UpstreamState.OFFLINE, error.words)
            return self._backoff.pause_s(now)
        finally:
            await self._sink.close()
        return None

    async def _deliver_all(self) -> None:
        """Deliver until told to pause. Raises SinkError when the connection ends."""
        while not self._paused:
            limit = max(1, min(self._sink.window, self._fitting))
            batch, looked = self._log.scan(self._cursor, self._match, limit, max_rows=SCAN_ROWS)
            caught_up = len(batch) < limit and looked >= self._log.committed_seq
            if caught_up:
                self._queued = len(batch)
            if batch:
                corrections = self._log.corrections()
                arrived = await self._sink.deliver([corrected(message, corrections) for message in batch])
                self._settled(batch, arrived, looked)
            elif looked > self._cursor:
                self._move(looked)
                await asyncio.sleep(0)  # others' turn: a long stretch may hold nothing for this sink
            else:
                await self._news()
                self._sink.check()

    def _settled(self, batch: Sequence[Message], count: int, looked: int) -> None:
        if not count:
            return
        self._move(looked if count == len(batch) else batch[count - 1].seq)
        self._delivered += count
        self._enter(UpstreamState.CONNECTED)
        self._queued = max(0, self._queued - count)
        self._backoff.reset()
        largest = max(len(message.payload) for message in batch)
        self._fitting = BATCH_BYTES // max(1, largest)

    def _move(self, seq: int) -> None:
        self._cursor = seq
        self._log.move_cursor(self._cursor_name, seq)

    def _committed(self, messages: Sequence[Message]) -> None:
        self._queued += sum(map(self._match, messages))
        self._wake.set()

    def _rejected(self, message: Message, reason: str) -> None:
        """Write down and say that a message is passed over."""
        name = self._sink.name
        self._rejected_detail = f"message {message.seq}: {reason}"
        log.warning(
            "upstream %s: message %d of channel %s is passed over: %s",
            name,
            message.seq,
            message.channel,
            reason,
        )
        with contextlib.suppress(HubError):  # no room just now; it stays counted and said
            self._log.post((), refusals.record(name, message.seq, reason, time.time_ns()))

    async def _news(self) -> None:
        """Wait until something was committed, the connection ended or a person paused or resumed."""
        await self._wake.wait()
        self._wake.clear()

    async def _rest(self, pause_s: float) -> None:
        """Wait out a pause between attempts; a person's pause ends it early."""
        # not wait_for: before Python 3.12 it can swallow the cancellation that ends this task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                while not self._paused:
                    await self._news()

    def _enter(self, state: UpstreamState, detail: str = "") -> None:
        self._detail = detail
        if state is not self._state:
            self._state = state
            self._entered = time.monotonic()

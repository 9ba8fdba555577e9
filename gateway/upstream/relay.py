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
from hub.registry_items import EVENTS
from hub.timekeeping import TRUSTED, Correction, corrected

from . import refusals
from .backoff import Backoff
from .errors import SinkError, SinkHeld, SinkRefused
from .sink import Sink, UpstreamState, UpstreamStatus
from .suspicion import Suspicion

log = logging.getLogger("gateway.upstream")

# Payload bytes of a batch; with READ_AT_ONCE messages more it has 8 MiB at most, at the hub's limit for one
BATCH_BYTES = 4 << 20
READ_AT_ONCE = 16
SCAN_ROWS = 1000  # looked through in one turn where only some messages are for the sink
SAY_EVERY_S = 60.0  # a warning about messages passed over; each is counted and the latest recorded
MAX_BROKEN_ANNOUNCEMENTS = 2  # connections that may break over a correction before none is sent any more
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
    def on_correction(self, fn: Callable[[Correction], None]) -> Callable[[], None]: ...


def taken_in_here(message: Message) -> bool:
    """What another gateway took in is that gateway's to send: nothing goes round in circles.

    Who changed what here stays here.
    """
    return not message.origin and message.channel != EVENTS


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
        hold_s: float = refusals.HOLD_S,
    ) -> None:
        """`hold_s`: how long one message over which the connection breaks may hold up those behind it."""
        self._log = log
        self._sink = sink
        self._cursor_name = cursor or f"upstream/{sink.name}"
        self._match = match
        self._backoff = backoff or Backoff()
        self._cursor = log.cursor(self._cursor_name)
        self._queued = log.count_after(self._cursor)  # at most: some may not be for the sink
        self._delivered = 0
        self._passed_over = 0
        self._rejected_detail = ""
        self._said = float("-inf")
        self._suspicion = Suspicion(hold_s)
        self._under_way = 0  # number of the first message being delivered, 0 for none
        self._after_another = False  # that went through before it on this connection
        self._corrections: list[Correction] = []  # to be told to the sink
        self._announcing = False
        self._broken_announcements = 0
        self._telling: Gap | None = None  # of what is gone, under way
        self._doubt = Suspicion(hold_s)  # that the sink can be told of it
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
            rejected=self._sink.rejected + self._passed_over,
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
        unsubscribe_corrections = self._log.on_correction(self._clock_corrected)
        self._corrections = list(self._log.corrections())  # told again after each start
        try:
            while True:
                await self._while_paused()
                pause_s = await self._one_connection()
                if pause_s is not None:
                    await self._rest(pause_s)
        finally:
            unsubscribe()
            unsubscribe_corrections()

    async def _while_paused(self) -> None:
        while self._paused:
            self._enter(UpstreamState.PAUSED, "paused here; messages are kept")
            await self._news()
        if self._state is UpstreamState.PAUSED:
            self._enter(UpstreamState.CONNECTING)

    async def _one_connection(self) -> float | None:
        """Connect and deliver until the connection ends; the seconds to wait then, None after `pause`."""
        opened = None
        self._after_another = False
        try:
            await self._sink.open(self._wake.set)
            self._queued = self._log.count_after(self._cursor)
            opened = time.monotonic()
            # A broker that refuses the messages themselves admits us each time: say so until one got through.
            if self._state is not UpstreamState.REFUSED or not self._queued:
                self._enter(UpstreamState.CONNECTED)
            await self._deliver_all()
        except SinkError as error:
            now = time.monotonic()
            self._broke(error, now)
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
            if self._corrections:
                await self._announce()
            if self._suspicion.aroused:
                await self._examine()
                continue
            batch, looked = self._next_batch()
            gap = self._untold(len(batch), looked)
            if gap is not None:
                await self._tell(gap)
                continue
            caught_up = len(batch) < self._sink.window and looked >= self._log.committed_seq
            if caught_up:
                self._queued = len(batch)
            if batch:
                self._settled(batch, await self._deliver(batch), looked)
            elif looked > self._cursor:
                self._move(looked)
                await asyncio.sleep(0)  # others' turn: a long stretch may hold nothing for this sink
            else:
                await self._news()
                self._sink.check()

    def _next_batch(self) -> tuple[list[Message], int]:
        """What the sink is to be given next, and the number up to which the log was looked through for it.

        Read a little at a time, for messages can be large.
        """
        batch: list[Message] = []
        looked, size, window = self._cursor, 0, self._sink.window
        while len(batch) < window and size < BATCH_BYTES:
            wanted = min(READ_AT_ONCE, window - len(batch))
            found, looked = self._log.scan(looked, self._match, wanted, max_rows=SCAN_ROWS)
            batch += found
            size += sum(len(message.payload) for message in found)
            if len(found) < wanted:
                break
        return batch, looked

    async def _deliver(self, batch: Sequence[Message]) -> int:
        """How many arrived. Raises SinkError."""
        corrections = self._log.corrections()
        self._under_way = batch[0].seq
        arrived = await self._sink.deliver([_with_known_time(message, corrections) for message in batch])
        if arrived:
            self._under_way = 0
        return arrived

    # One message that breaks connections

    def _broke(self, error: SinkError, now: float) -> None:
        """The connection ended: over what?"""
        if self._announcing:
            self._broken_announcements += 1
            self._announcing = False
        elif self._telling is not None:
            self._doubt.lost(self._telling.first_seq, now, after_another=True)
            self._telling = None
        elif self._under_way and not isinstance(error, SinkHeld):
            self._suspicion.lost(self._under_way, now, after_another=self._after_another)
        self._under_way = 0

    async def _examine(self) -> None:
        """Send another message first, then the suspect alone. Raises SinkError when the connection ends."""
        found, _ = self._log.scan(self._cursor, self._match, 1, max_rows=SCAN_ROWS)
        gap = self._untold(0, found[0].seq if found else self._cursor + 1)
        if gap is not None or not found:
            self._suspicion.cleared()
            return
        suspect = found[0]
        other = self._another(suspect)
        if other is not None and not self._after_another:
            if await self._sink.deliver([other]) != 1:
                self._sink.check()
                return
            self._after_another = True
        if self._after_another and self._suspicion.convicted(time.monotonic()):
            self._passed_over += 1
            self._rejected(
                suspect, "the connection breaks each time this message is sent, and others get through"
            )
            self._move(suspect.seq)
            self._suspicion.cleared()
            return
        self._settled(found, await self._deliver(found), suspect.seq)

    def _another(self, suspect: Message) -> Message | None:
        """A message behind `suspect`; of its own channel, whose order counts, only when patience is over."""

        def of_another_channel(message: Message) -> bool:
            return message.channel != suspect.channel and self._match(message)

        found, _ = self._log.scan(suspect.seq, of_another_channel, 1, max_rows=SCAN_ROWS)
        if not found and self._suspicion.patience_over(time.monotonic()):
            found, _ = self._log.scan(suspect.seq, self._match, 1, max_rows=SCAN_ROWS)
        return found[0] if found else None

    # What is gone

    def _untold(self, found: int, looked: int) -> Gap | None:
        """What retention took between the cursor and message `looked`, of which `found` are there; None: nothing.

        Looked for after the messages were read: what goes meanwhile is not passed over.
        """
        if found == looked - self._cursor:
            return None
        return next((gap for gap in self._log.gaps(self._cursor_name) if gap.last_seq > self._cursor), None)

    async def _tell(self, gap: Gap) -> None:
        """Say that messages are gone, before those that follow them. Raises SinkError when the connection ends."""
        if self._doubt.convicted(time.monotonic()):
            refusal = "the connection breaks each time it is said"
        else:
            self._telling = gap
            refusal = await self._sink.announce(gap)
            self._telling = None
        self._doubt.cleared()
        if refusal:
            self._passed_over += 1
            self._note(
                gap.first_seq, f"it cannot be told that messages up to {gap.last_seq} are gone: {refusal}"
            )
        self._move(gap.last_seq)

    # Corrections of the clock

    def _clock_corrected(self, correction: Correction) -> None:
        self._corrections.append(correction)
        self._wake.set()

    async def _announce(self) -> None:
        """Tell the sink which times were wrong. A destination that cannot bear it is spared."""
        while self._corrections and self._broken_announcements < MAX_BROKEN_ANNOUNCEMENTS:
            self._announcing = True
            refusal = await self._sink.announce(self._corrections[0])
            self._announcing = False
            if refusal:
                log.warning("upstream %s: it takes no time corrections: %s", self._sink.name, refusal)
            del self._corrections[0]
        self._corrections.clear()

    def _settled(self, batch: Sequence[Message], count: int, looked: int) -> None:
        if not count:
            return
        self._move(looked if count == len(batch) else batch[count - 1].seq)
        self._delivered += count
        self._enter(UpstreamState.CONNECTED)
        self._queued = max(0, self._queued - count)
        self._backoff.reset()
        self._suspicion.cleared()

    def _move(self, seq: int) -> None:
        self._cursor = seq
        self._log.move_cursor(self._cursor_name, seq)

    def _committed(self, messages: Sequence[Message]) -> None:
        self._queued += sum(map(self._match, messages))
        self._wake.set()

    def _rejected(self, message: Message, reason: str) -> None:
        """Write down and say that a message is passed over."""
        self._note(message.seq, reason)

    def _note(self, seq: int, reason: str) -> None:
        name = self._sink.name
        self._rejected_detail = f"message {seq}: {reason}"
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            log.warning("upstream %s: passed over %s", name, self._rejected_detail)
        with contextlib.suppress(HubError):  # no room just now; it stays counted and said
            self._log.post((), refusals.record(name, seq, reason, time.time_ns()))

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


def _with_known_time(message: Message, corrections: Sequence[Correction]) -> Message:
    """With the corrected time once that can be trusted; until then as stamped, and the receiver corrects it."""
    found = corrected(message, corrections)
    return found if found.time in TRUSTED else message

"""The durable log: every message that enters is appended once, gets a number, and is committed in groups.

In: messages of every door, with other parts' writes that belong to them. Out: their numbers at once, the
message to live subscribers at once, and to readers that keep promises after the commit. One thread writes;
nothing here blocks the event loop on the disk, except `open`.

Whoever waits (`append`, `submit`, `write`) forces the next commit, which begins as soon as a turn of the loop brings
nothing more for it, and all that wait share it. What is posted gathers for up to `commit_interval_s`. After a failed
commit nothing is acknowledged and nothing tried again: `on_failure` is called and the process ends; starting again is
the recovery.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import force_setattr

from .database import Migration
from .disk import DiskState
from .errors import Busy, HubError, Invalid, LogFailed, LogFull
from .log_batch import Batch, Limits, LogCounters, Outcome, Unit, Write
from .log_clock import ClockRecord
from .log_listeners import LogListeners
from .log_marks import LogMarks
from .log_view import Gap, LogView
from .log_writer import RESERVE, LogWriter
from .message import Message

__all__ = ["Gap", "Limits", "Log", "LogCounters", "Migration", "Write"]

log = logging.getLogger("hub.log")

MAX_MESSAGES = 5_000_000  # a week upstream-less at 8 messages/s; about 1 GB
MAX_BYTES = 2 << 30  # of a 16 GB card
MIN_FREE_BYTES = 64 << 20  # of the disk: for sign-ins, the system's own log, an update's download
MAX_PENDING = RESERVE // 4  # messages not yet committed: about 64 MB with their overhead
MAX_PENDING_BYTES = 64 << 20  # payload bytes not yet committed
EARLY_MESSAGES = 4_096  # this many posted messages do not wait for the interval
EARLY_BYTES = 4 << 20
# A commit that somebody waits for begins when the loop finds nothing more to take in: fewer, larger commits, and the
# writer thread need not contend with a busy loop for the interpreter, each try of which costs both a system call. A
# loop that never finds an end gives the commit away after this.
GATHER_S = 0.005

Done = Callable[[HubError | None], None]


class Log(LogView, LogMarks):
    """All methods belong to the event loop's thread; other threads read through `reader()`."""

    limits: Limits

    def __init__(
        self,
        path: Path,
        writer: LogWriter,
        loop: asyncio.AbstractEventLoop,
        commit_interval_s: float,
        on_failure: Callable[[LogFailed], None] | None,
    ) -> None:
        LogView.__init__(self, writer.source, writer.last_seq)
        LogListeners.__init__(self, loop)
        self.path = path
        self.commit_interval_s = commit_interval_s
        self.counters = LogCounters(
            gap_messages=writer.gap_messages,
            set_aside=1 if writer.set_aside else 0,
            lost_commits=writer.lost_commits,
        )
        self.set_aside = writer.set_aside
        self.first_seq = writer.first_seq
        self.message_count = writer.count
        self.size_bytes = writer.size_bytes
        self._writer = writer
        self._on_failure = on_failure
        self._clock = ClockRecord(self._reader)
        self._next_seq = writer.next_seq
        self._reserved = writer.reserved
        self._cursors = dict(writer.cursors)
        self._gather = Batch()
        self._writing: Batch | None = None
        self._pending = 0
        self._pending_bytes = 0
        self._failure: LogFailed | None = None
        self._state, self._state_reason = writer.state, writer.reason
        self._closing = False
        self._scheduled = False  # the end of each turn of the loop looks whether to hand over
        self._seen = 0  # of what has gathered, at the end of the turn before
        self._gather_until_s = 0.0
        self._commit_timer: asyncio.TimerHandle | None = None
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._room: list[asyncio.Future[None]] = []
        self._idle: list[asyncio.Future[None]] = []

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        migrations: Sequence[Migration] = (),
        commit_interval_s: float = 1.0,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        max_age_s: int = 0,
        min_free_bytes: int = MIN_FREE_BYTES,
        on_failure: Callable[[LogFailed], None] | None = None,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> Log:
        """Open or create the log inside the running loop; blocks while it recovers.

        A damaged file is renamed and a fresh one begun: `set_aside` then names it. On a full or read-only
        disk the log opens all the same: see `state`. `on_failure` is called on the loop after a failed commit,
        when nothing can be promised any more; the process should end.
        """
        path = Path(path)
        limits = Limits(max_messages, max_bytes, max_age_s, min_free_bytes)
        writer = LogWriter(path, migrations, limits, connection)
        self = cls(path, writer, asyncio.get_running_loop(), commit_interval_s, on_failure)
        self.limits = limits
        writer.start(self._report)
        return self

    async def close(self) -> None:
        """Commit what has been taken, end the writer thread and close the file."""
        self._closing = True
        tries = 1 if self._state is DiskState.FULL else 0
        while (self._gather or self._writing) and not self._failure:
            if self._writing is None and self._state is not DiskState.OK:
                if not tries:
                    log.error("what was to be written last is not stored: %s", self._state_reason)
                    break
                tries -= 1
            self._hand_over()
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
        for timer in (self._commit_timer, self._cursor_timer):
            if timer:
                timer.cancel()
        # Before the writer: the last connection to close moves the WAL into the file, and a reader cannot.
        self._reader.close()
        await asyncio.to_thread(self._writer.stop)

    @property
    def state(self) -> DiskState:
        """ "ok", "full" or "read-only": whether messages can be stored now. It recovers by itself."""
        return self._state

    @property
    def state_reason(self) -> str:
        """A sentence for people; "" while all is well."""
        return self._state_reason

    @property
    def pending(self) -> int:
        """Messages that have a number and are not committed yet."""
        return self._pending

    @property
    def next_seq(self) -> int:
        """The number the next message gets: for writes that name it and go with it, before anything is awaited."""
        return self._next_seq

    # Appending

    async def append(self, messages: Sequence[Message], also: Sequence[Write] = ()) -> list[int]:
        """Store `messages` and run `also` in one transaction; returns their numbers when that is durable.

        Waits while too much is uncommitted. Raises LogFailed (nothing was promised), WriteRefused where the
        database refused `also`. A caller that is cancelled no longer waits; its messages may still be stored.
        """
        while self._full(messages) and not self._failure:
            room = self._loop.create_future()
            self._room.append(room)
            await room
        durable: asyncio.Future[None] = self._loop.create_future()

        def done(error: HubError | None) -> None:
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        seqs = self.submit(messages, also, done)
        await durable
        return seqs

    def submit(self, messages: Sequence[Message], also: Sequence[Write], done: Done) -> list[int]:
        """As `append`, for a caller without a task: `done(None)` is called on the loop when all is durable.

        `done(error)` where it is not. Raises Busy, LogFailed.
        """
        first = self._next_seq
        seqs = self._take(messages, (Unit(first, first + len(messages) - 1, also, done),))
        self._gather.forced = True
        if not self._scheduled:
            self._hand_over_soon()
        return seqs

    def post(self, messages: Sequence[Message], also: Sequence[Write] = ()) -> list[int]:
        """Store `messages` and run `also` with the next commit, at the latest after `commit_interval_s`.

        Promises nothing: use it where no acknowledgement depends on it. Raises Busy, LogFailed.
        """
        return self._take(messages, _units(self._next_seq, messages, also, None))

    def post_each(self, posts: Sequence[tuple[Sequence[Message], Sequence[Write]]]) -> None:
        """As `post` for each, all at once: listeners are told of them together. Busy is raised for all or none."""
        seq = self._next_seq
        messages: list[Message] = []
        units: list[Unit] = []
        for own, also in posts:
            messages += own
            units += _units(seq, own, also, None)
            seq += len(own)
        self._take(messages, units)

    async def write(self, also: Sequence[Write]) -> None:
        """Run `also` durably, without a message. Raises LogFailed, WriteRefused."""
        await self.append((), also)

    async def flush(self) -> None:
        """Return when everything taken so far is durable. Raises LogFailed."""
        await self.append(())

    def _take(self, messages: Sequence[Message], units: Sequence[Unit]) -> list[int]:
        """Give numbers, put everything into the gathering batch, show the messages to live listeners.

        `units` name the numbers from `next_seq` on. Several come from `post_each`, where nobody waits.
        """
        if self._failure or self._closing:
            raise self._failure or LogFailed("the log is closed")
        if self._full(messages):
            self.counters.busy += 1
            raise Busy("too many messages are waiting for the disk")
        stored = self._state is DiskState.OK
        done, also = (units[0].done, units[0].also) if units else (None, ())
        if not stored and done and (messages or not also or self._state is DiskState.READ_ONLY):
            self.counters.failed += len(messages)
            raise LogFull(self._state_reason)
        first = seq = self._next_seq
        size = 0
        for message in messages:
            if message.seq:
                raise Invalid(f"message {message.seq} is in the log already")
            # The one place that gives a number; to everyone else a message never changes.
            force_setattr(message, "seq", seq)
            size += len(message.payload)
            if message.properties is not None:
                size += message.properties.size
            seq += 1
        self._next_seq = seq
        if not stored:
            return self._show_only(messages, first, units)
        batch = self._gather
        batch.messages.extend(messages)
        batch.size += size
        batch.units += units
        self._pending += seq - first
        self._pending_bytes += size
        self.counters.appended += seq - first
        if len(batch.messages) >= EARLY_MESSAGES or batch.size >= EARLY_BYTES:
            batch.forced = True
            self._hand_over()
        elif done is None and self._commit_timer is None:
            self._commit_timer = self._loop.call_later(self.commit_interval_s, self._on_commit_timer)
        if messages and self._on_append:
            self._tell(self._on_append, messages)
        return list(range(first, seq))

    def _show_only(self, messages: Sequence[Message], first: int, new: Sequence[Unit]) -> list[int]:
        """Messages nobody waits for, while none can be stored: live listeners see them all the same.

        Writes that came along are tried where the disk is only full: a counter must not go back.
        """
        self._writer.given = self._next_seq - 1
        self.counters.failed += len(messages)
        units = self._gather.units
        if new and self._state is DiskState.FULL:
            if len(units) >= MAX_PENDING:
                self.counters.busy += 1
                raise Busy("too many writes are waiting for a disk that is full")
            for unit in new:
                unit.first, unit.last = first, first - 1
            units += new
            if len(units) >= EARLY_MESSAGES:
                self._gather.forced = True
                self._hand_over()
            elif self._commit_timer is None:
                self._commit_timer = self._loop.call_later(self.commit_interval_s, self._on_commit_timer)
        if messages:
            self._tell(self._on_append, messages)
        return list(range(first, first + len(messages)))

    @property
    def pending_messages(self) -> int:
        """Messages with a number that are not committed yet."""
        return self._pending

    @property
    def pending_bytes(self) -> int:
        """Payload bytes of `pending_messages`."""
        return self._pending_bytes

    def _full(self, messages: Sequence[Message]) -> bool:
        if self._pending + len(messages) <= MAX_PENDING and self._pending_bytes <= MAX_PENDING_BYTES:
            return False
        if not self._pending:
            raise Invalid(f"at most {MAX_PENDING} messages at once")
        return True

    # Committing

    def _hand_over_soon(self) -> None:
        """Give the gathered batch to the writer after the first turn of the loop that adds nothing to it."""
        if self._writing is None and not self._scheduled:
            self._scheduled = True
            self._seen = 0
            self._gather_until_s = self._loop.time() + GATHER_S
            self._loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        gathered = self._gather.count
        if gathered != self._seen and self._loop.time() < self._gather_until_s:
            self._seen = gathered
            self._loop.call_soon(self._end_of_turn)
            return
        self._scheduled = False
        self._hand_over()

    def _on_commit_timer(self) -> None:
        self._commit_timer = None
        self._gather.forced = True
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the gathered batch to the writer, if that is idle; otherwise the end of its commit does."""
        if self._writing is not None or not self._gather or self._failure:
            return
        if self._state is DiskState.READ_ONLY:
            return  # what has to last is written when the disk can be
        if self._commit_timer:
            self._commit_timer.cancel()
            self._commit_timer = None
        if self._cursor_timer:
            self._cursor_timer.cancel()
            self._cursor_timer = None
        self._writing, self._gather = self._gather, Batch()
        self._writer.put(self._writing)

    def _report(self, outcome: Outcome) -> None:
        """Called in the writer thread."""
        try:
            self._loop.call_soon_threadsafe(self._settle, outcome)
        except RuntimeError:
            log.warning("the event loop closed before its last commit was reported")

    def _settle(self, outcome: Outcome) -> None:
        """A batch is over.

        Tell those who waited, then the readers, then go on with what gathered meanwhile.
        """
        batch = outcome.batch
        self._stand(outcome)
        if batch is not None:
            self._writing = None
            self._pending -= len(batch.messages)
            self._pending_bytes -= batch.size
        if outcome.error is not None:
            self._settle_failed(batch or Batch(), outcome.error)
        elif batch is not None:
            self._settle_committed(batch, outcome)
        if self._closing and self._state is DiskState.OK:
            self._hand_over()
        elif self._gather.forced:
            self._hand_over_soon()
        if self._writing is None and (not self._gather or self._failure or self._state is not DiskState.OK):
            _wake(self._idle)
        _wake(self._room)

    def _stand(self, outcome: Outcome) -> None:
        """Take over how the log stands now."""
        self.first_seq = outcome.first_seq
        self.message_count = outcome.count
        self.size_bytes = outcome.size_bytes
        self._reserved = outcome.reserved
        self.counters.gap_messages += outcome.gap_messages
        if outcome.opened:
            writer = self._writer
            self._next_seq = max(self._next_seq, writer.next_seq)
            self.committed_seq = writer.last_seq
            self._cursors = writer.cursors | self._cursors
            self.set_aside = writer.set_aside
            self.counters.set_aside = 1 if writer.set_aside else 0
            self.counters.lost_commits = writer.lost_commits
            self.counters.gap_messages = writer.gap_messages
        if outcome.state is not self._state:
            self._state, self._state_reason = outcome.state, outcome.reason
            self._gather.forced = self._gather.forced or outcome.state is DiskState.OK
            self._tell(self._on_state, self._state)

    def _settle_committed(self, batch: Batch, outcome: Outcome) -> None:
        messages: Sequence[Message] = batch.messages
        counters = self.counters
        counters.commits += 1
        if messages:
            self.committed_seq = messages[-1].seq
        if outcome.refused:
            messages = self._without_refused(batch, outcome)
        counters.committed += len(messages)
        refused = outcome.refused
        for index, unit in enumerate(batch.units):
            done = unit.done
            if done is not None:
                try:  # as `_call`, without a call for each of many
                    done(refused.get(index) if refused else None)
                except Exception as error:
                    self._failed_call(done, error)
        if messages:
            self._tell(self._on_commit, messages)

    def _without_refused(self, batch: Batch, outcome: Outcome) -> list[Message]:
        gone: set[int] = set()
        for index, error in outcome.refused.items():
            unit = batch.units[index]
            gone.update(range(unit.first, unit.last + 1))
            self.counters.refused += 1
            if not unit.done:
                log.error("a posted write was refused: %s", error)
        self.counters.failed += len(gone)
        return [message for message in batch.messages if message.seq not in gone]

    def _settle_failed(self, batch: Batch, error: LogFailed) -> None:
        self.counters.failed += len(batch.messages)
        if isinstance(error, LogFull):
            self._settle_full(batch, error)
            return
        self._failure = error
        self.counters.failed += len(self._gather.messages)
        lost, self._gather = (batch, self._gather), Batch()
        log.critical("the log has failed, nothing more is acknowledged: %s", error)
        for one in lost:
            self._refuse(one.units, error)
        if self._on_failure:
            self._on_failure(self._failure)

    def _settle_full(self, batch: Batch, error: LogFull) -> None:
        """Nothing of `batch` is stored. What lasts waits, writes without a message are tried once more."""
        gather = self._gather
        for name, seq in batch.cursors.items():
            gather.cursors.setdefault(name, seq)
        gather.lasting[:0] = batch.lasting
        again: list[Unit] = []
        refused: list[Unit] = []
        units, messages = [*batch.units, *gather.units], gather.messages
        gather.units = []
        for unit in units:
            waits = unit.done and unit.last >= unit.first
            (refused if waits or unit.tried or self._state is DiskState.READ_ONLY else again).append(unit)
        # Numbers given since are of messages that cannot be stored either.
        self.counters.failed += len(messages)
        self._pending -= len(messages)
        self._pending_bytes -= gather.size
        gather.messages, gather.size = [], 0
        if messages:
            self._writer.given = max(self._writer.given, messages[-1].seq)
        for unit in again:
            unit.tried = True
            unit.last = unit.first - 1
        gather.units = again
        gather.forced = bool(again)
        if batch.messages or messages:
            log.error("%d messages not stored: %s", len(batch.messages) + len(messages), error)
        self._refuse(refused, error)

    def _refuse(self, units: Sequence[Unit], error: LogFailed) -> None:
        for unit in units:
            if unit.done:
                self._call(unit.done, error)


def _units(
    first: int, messages: Sequence[Message], also: Sequence[Write], done: Done | None
) -> Sequence[Unit]:
    """What succeeds or is refused together, as the batch holds it; none where that is nothing but messages."""
    return (Unit(first, first + len(messages) - 1, also, done),) if also or done else ()


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()

"""The history: a reader of the log that makes records queryable by series and time, in a file of its own.

What is committed goes into a tail in memory at once; a query looks at tail and file and never waits for either.
Every few hundred thousand records the tail moves into compressed chunks, in short steps in a thread of its own,
with rests in between that grow while messages wait for the disk. A restart reads the tail back from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from .database import is_damage
from .errors import Busy
from .history_chunks import Item
from .history_import import OldHistory
from .history_intake import Intake
from .history_last import last_kept, last_seq
from .history_model import HistoryMessage, HistoryPage, HistoryRecord, Query
from .history_query import Bucket, HistoryReader
from .history_store import DAY_S, HistoryStore, Step
from .history_tail import Series
from .log import Log
from .message import Message
from .timekeeping import Correction
from .topics import Filter

__all__ = ["Bucket", "History", "HistoryCounters", "HistoryMessage", "HistoryPage", "HistoryRecord", "Query"]

log = logging.getLogger("hub.history")

T = TypeVar("T")

CURSOR: Final = "history"  # its name among the log's cursors

MAX_BYTES = 2 << 30  # of the file: 800 million numbers
SERIES_STEP: Final = 64  # series a step of compaction looks at
HOUSEKEEPING_S: Final = 3600.0
RETRY_S: Final = 60.0  # after a step that the disk had no room for
CATCH_UP_S: Final = 5.0  # a question waits for the log to be read, where more came than memory takes
LOOK_AGAIN_S: Final = 0.05  # how far that has come
BUSY: Final = 512  # messages waiting for the disk that make the log busy
REST, REST_BUSY = 1.0, 8.0  # pause after a step, as a multiple of its length
EXPORT_RECORDS: Final = 4096  # of one part of an export


@dataclass(slots=True)
class HistoryCounters:
    """Since this start, except what is damaged, which the file keeps."""

    compactions: int = 0
    steps: int = 0
    longest_step_s: float = 0.0  # its commit included
    longest_held_s: float = 0.0  # of a step, in which nobody else was offered the interpreter
    longest_checkpoint_s: float = 0.0  # between two steps; waits for the disk
    compacted: int = 0  # records moved into chunks
    removed: int = 0  # records that retention removed
    damaged_chunks: int = 0
    damaged_records: int = 0


class History:
    """Belongs to the event loop's thread; the store has a thread of its own, and queries another."""

    def __init__(
        self,
        log: Log,
        store: HistoryStore,
        old: OldHistory | None,
        max_bytes: int,
        max_age_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._store = store
        self._old = old
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self.set_aside = store.set_aside
        self.lost = ""  # a sentence, where damage took what the log no longer has
        self._begin_after_log()
        self._tail = store.tail()
        self._reader = HistoryReader(store, self._tail)
        self.used_bytes = store.used_bytes()
        self.counters = HistoryCounters(
            damaged_chunks=store.damaged_chunks, damaged_records=store.damaged_records
        )
        self._writing = ThreadPoolExecutor(1, "hub-history")
        self._asking = ThreadPoolExecutor(1, "hub-history-query")
        self._lock = asyncio.Lock()  # one step at a time in the writing thread
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._intake = Intake(log, self._tail, self._wake.set)
        self._stuck = False  # the last step failed, and nothing is read on until the next try
        self._closed = False
        log.cursor(CURSOR, store.done)
        log.move_cursor(CURSOR, store.done)
        self._intake.begin()
        self._task = asyncio.create_task(self._run(), name="hub-history")

    @classmethod
    def open(
        cls,
        path: Path | str,
        log: Log,
        *,
        max_bytes: int = MAX_BYTES,
        max_age_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> History:
        """Open or create the history inside the running loop; blocks while it reads its tail back.

        Records older than `max_age_s` (0: none) go, and the oldest beyond `max_bytes` of the file. `clock` is
        UTC seconds. A damaged file is built again from the log.
        """
        old = OldHistory.adopt(Path(path))
        return cls(log, HistoryStore(Path(path), old.cursor if old else 0), old, max_bytes, max_age_s, clock)

    async def close(self) -> None:
        """Stop; what is not in chunks is read back from the log at the next start."""
        self._closed = True
        self._intake.stop()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._asking.shutdown)
        self._reader.close()
        self._intake.close()
        self._store.close()
        if self._old is not None:
            self._old.close()

    # Asking

    def subtopics(self, channel: str) -> set[str]:
        """The subtopics of a channel of which there are records, dotted."""
        return self._tail.subtopics(channel)

    async def query(self, query: Query) -> HistoryPage:
        """The page asked for, of all that is committed. Raises Invalid, Busy: the file is unreadable or far behind."""
        return await self._ask(self._reader.page, query)

    async def aggregate(self, query: Query) -> list[Bucket]:
        """What each series has in each `interval_s`, newest first. Raises as `query`."""
        return await self._ask(self._reader.aggregate, query)

    async def last_seq(self, wanted: Filter) -> int:
        """The number of the last message of `wanted`, of one channel; NO_MESSAGE: none. Raises Busy."""
        return await self._ask(partial(last_seq, self._reader, wanted), Query(wanted.channel))

    async def last_kept(self, wanted: Filter) -> Message | None:
        """The last message of `wanted` as its records give it, see `history_last`. Raises Busy."""
        return await self._ask(partial(last_kept, self._reader, wanted), Query(wanted.channel))

    async def export(
        self, query: Query, *, records: int = EXPORT_RECORDS
    ) -> AsyncIterator[Sequence[HistoryRecord] | Sequence[HistoryMessage]]:
        """All records of a query, oldest first, in parts of up to `records`; in memory is one part at a time.

        `offset` and `limit` do not apply. A record that is there from the first part to the last comes exactly
        once, whatever is added or compressed meanwhile. Raises as `query`.
        """

        def part(
            query: Query, corrections: Sequence[Correction]
        ) -> tuple[list[HistoryRecord] | list[HistoryMessage], str]:
            return self._reader.batch(query, records, corrections)

        query = replace(query, before=None, after=None, aggregation=None, interval_s=None)
        more = True
        while more:
            found, token = await self._ask(part, query)
            if found:
                yield found
            query = replace(query, before=token)
            more = bool(token)

    async def _ask(self, answer: Callable[[Query, Sequence[Correction]], T], query: Query) -> T:
        """Have `answer` called in the thread for queries, once the tail holds all that is committed now.

        While the disk takes nothing it is what the tail holds: better the half than nothing, and `behind` tells.
        """
        if self._closed:
            raise Busy("the history is closed")
        target = self._log.committed_seq
        until_s = self._loop.time() + CATCH_UP_S
        while self._tail.seq < target:
            if self._intake.waiting:
                self._intake.take_some()
                await asyncio.sleep(0)
            elif self._intake.live or self._stuck or self._store.read_only:
                break
            elif self._loop.time() < until_s:
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                raise Busy(f"the history is {self.behind} messages behind: ask again in a moment")
        self._tail.spread()
        try:
            return await self._loop.run_in_executor(self._asking, answer, query, self._log.corrections())
        except sqlite3.Error as error:
            log.error("the history cannot be read: %s", error)
            if is_damage(error):
                self._store.suspect()
            raise Busy("the history cannot be read") from None
        finally:
            if self._reader.damaged:
                self._wake.set()

    # What it says about itself

    @property
    def read_only(self) -> bool:
        """The disk takes nothing: queries see what is there and what the log has, as far as the tail reaches."""
        return self._store.read_only

    @property
    def cursor(self) -> int:
        """Everything up to this message is in chunks."""
        return self._store.done

    @property
    def behind(self) -> int:
        """Committed numbers not looked at yet: a query waits for them, or is refused, unless the disk takes nothing."""
        return int(max(0, self._log.committed_seq - self._tail.seq))

    @property
    def tail_records(self) -> int:
        """Records in memory that are not in chunks yet; the log has them."""
        return self._tail.records

    @property
    def records(self) -> int:
        """Records and messages that queries can find."""
        return self._tail.records + self._tail.chunked

    @property
    def series(self) -> int:
        """Series known."""
        return len(self._tail.series)

    @property
    def series_refused(self) -> int:
        """Records not kept because there were too many series."""
        return self._tail.refused

    @property
    def undecodable(self) -> int:
        """Messages not kept because their SenML did not decode."""
        return self._tail.undecodable

    # Starting

    def _begin_after_log(self) -> None:
        """Say what a damaged file took, and see that the log's numbers go on where this file ends."""
        first = self._log.first_seq
        if self.set_aside is not None:
            self.lost = (
                f"{self.set_aside.name} was damaged and set aside; the history was built again from message "
                f"{first} on, the oldest that the log still has"
            )
            log.error("%s", self.lost)
        kept = self._log.cursor(CURSOR, self._store.done)
        given: int = self._log.committed_seq if self._log.message_count else first - 1
        if given < self._store.done:
            log.error("the log begins again at message %d; the history goes on there", given + 1)
            self._store.finish(given, begin_again=True)
        elif self._store.done < kept and self.set_aside is None and not self._store.read_only:
            # The log's mark moves only after a flush of this file.
            log.error(
                "%s ends at message %d and had come to %d; what is missing is read from the log again",
                self._store.path.name,
                self._store.done,
                kept,
            )
            if self._store.done + 1 < first:
                self.lost = (
                    f"messages {self._store.done + 1} to {first - 1} are missing from the history: its file "
                    "lost them, and the log has them no more"
                )
                log.error("%s", self.lost)

    # Working

    async def _run(self) -> None:
        """Work whenever there is something to do: chunks to make, old ones to remove, damaged ones to set aside."""
        kept_house = -math.inf
        while True:
            self._wake.clear()
            wait_s = HOUSEKEEPING_S
            try:
                self._stuck = False
                if self._store.read_only:
                    async with self._lock:
                        await self._loop.run_in_executor(self._asking, self._reader.reopen, self._store)
                if self._store.read_only:
                    await self._catch_up()
                    raise OSError("the disk takes nothing")
                await self._set_aside_damaged()
                await self._import_old()
                worked = await self._catch_up()
                if worked or self._loop.time() - kept_house >= HOUSEKEEPING_S:
                    await self._keep_house()
                    kept_house = self._loop.time()
            except (sqlite3.Error, OSError) as error:
                self._stuck = True
                # A full disk, as a rule. The log keeps what is not in chunks, so nothing is lost yet.
                log.error("the history is %d messages behind: %s", self._messages_behind(), error)
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    self._store.suspect()
                wait_s = RETRY_S
            except Exception:
                self._stuck = True
                log.exception("the history is %d messages behind", self._messages_behind())
                wait_s = RETRY_S
            # Not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up (CPython #86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _messages_behind(self) -> int:
        return int(max(0, self._log.committed_seq - self._store.done))

    async def _catch_up(self) -> bool:
        """Read on in the log where commits do not come in by themselves, and compact what is due."""
        worked = False
        while True:
            if self._intake.due():
                if self._store.read_only:
                    return worked
                await self._compact()
                worked = True
            elif self._intake.live:
                return worked
            else:
                began = time.monotonic()
                self._intake.take_from_log(*await self._in_thread(self._intake.next_from_log))
                await self._rest(began)

    async def _compact(self) -> None:
        """Move all that is in the tail now into chunks, a step at a time."""
        tail = self._tail
        upto, messages = tail.seq, tail.messages
        tail.spread()
        self._intake.compacting()
        corrections = self._log.corrections()
        todo: deque[Series] = deque(one for one in list(tail.series.values()) if one.run.seqs)
        while todo:
            began = time.monotonic()
            some = [todo[index] for index in range(min(SERIES_STEP, len(todo)))]
            step = await self._in_thread(partial(self._store.compact, tail, some, upto, corrections))
            for piece in step.pieces:
                piece.series.saved = True
                tail.drop(piece, len(piece.seqs))
                self.counters.compacted += len(piece.seqs)
            self._reader.damaged.update(step.damaged)
            self._count(step)
            while todo and not (todo[0].run.seqs and todo[0].run.seqs[0] <= upto):
                todo.popleft()
            await self._rest(began)
        await self._in_thread(partial(self._store.finish, upto))
        self._log.move_cursor(CURSOR, upto)
        tail.messages -= messages
        tail.skip = {series: seq for series, seq in tail.skip.items() if seq > upto}
        self.counters.compactions += 1
        await self._set_aside_damaged()

    def _count(self, step: Step) -> None:
        counters = self.counters
        counters.steps += 1
        counters.longest_step_s = max(counters.longest_step_s, step.busy_s)
        counters.longest_held_s = max(counters.longest_held_s, step.held_s)
        counters.longest_checkpoint_s = max(counters.longest_checkpoint_s, step.checkpoint_s)

    async def _import_old(self) -> None:
        """Bring over what an earlier version kept as rows."""
        old, store, tail = self._old, self._store, self._tail
        while old is not None:
            began = time.monotonic()
            rows, place = await self._in_thread(partial(old.read, store))
            chunks: dict[Series, list[tuple[float, Item]]] = {}
            for key, time_s, item in rows:
                series = tail.find(key)
                if series is not None:
                    chunks.setdefault(series, []).append((time_s, item))
            for series, items in chunks.items():  # before they are there to be found
                run = series.run
                run.reach = {
                    **run.reach,
                    0: max(run.reach.get(0, -math.inf), max(time_s for time_s, _ in items)),
                }
            await self._in_thread(partial(store.put, chunks, place))
            for series, items in chunks.items():
                series.saved = True
                tail.count_chunked(series, len(items))
            if not rows and old.done:
                await self._in_thread(old.remove)
                old = self._old = None
            await self._rest(began)

    async def _set_aside_damaged(self) -> None:
        while self._reader.damaged:
            number = self._reader.damaged.pop()
            series, count = await self._in_thread(partial(self._store.set_chunk_aside, number))
            self._removed({series: count})
            self.counters.damaged_chunks = self._store.damaged_chunks
            self.counters.damaged_records = self._store.damaged_records

    async def _keep_house(self) -> None:
        """Remove what is too old or too much, and give free room back."""
        store = self._store
        if self._max_age_s:
            newest = await self._in_thread(store.newest)
            if newest is not None:
                # Not by the clock alone: one that is years ahead must not empty the history.
                await self._drop_before(min(self._clock(), newest) - self._max_age_s)
        while (used := await self._in_thread(store.used_bytes)) > self._max_bytes:
            oldest, newest = await self._in_thread(store.oldest), await self._in_thread(store.newest)
            if oldest is None or newest is None:
                break
            # A day; less where all there is spans only a few.
            day_end = (oldest // DAY_S + 1) * DAY_S
            await self._drop_before(math.nextafter(min(day_end, oldest + (newest - oldest) / 8), math.inf))
        self.used_bytes = used
        while await self._in_thread(store.give_back):
            await self._rest(time.monotonic())

    async def _drop_before(self, end_s: float) -> None:
        steps = self._store.drop_before(end_s)
        while True:
            began = time.monotonic()
            removed = await self._in_thread(partial(next, steps, None))
            if removed is None:
                return
            self._removed(removed)
            self.counters.removed += sum(removed.values())
            await self._rest(began)

    def _removed(self, counts: dict[int, int]) -> None:
        for series_id, count in counts.items():
            series = self._tail.series.get(series_id)
            if series is not None:
                self._tail.count_chunked(series, -count)

    async def _rest(self, began: float) -> None:
        """Live messages come first."""
        rest = REST_BUSY if self._log.pending > BUSY else REST
        await asyncio.sleep((time.monotonic() - began) * rest)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run a step in the writing thread, to its end also where the caller is cancelled meanwhile."""
        async with self._lock:
            future = self._loop.run_in_executor(self._writing, work)
            return await asyncio.shield(future)

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
from .history_model import HistoryMessage, HistoryPage, HistoryRecord, Query
from .history_query import Bucket, HistoryReader
from .history_store import DAY_S, HistoryStore
from .history_tail import Series
from .log import Log
from .message import Message
from .timekeeping import Correction

__all__ = ["Bucket", "History", "HistoryCounters", "HistoryMessage", "HistoryPage", "HistoryRecord", "Query"]

log = logging.getLogger("hub.history")

T = TypeVar("T")

CURSOR: Final = "history"  # its name among the log's cursors

MAX_BYTES = 2 << 30  # of the file: 800 million numbers
TAKE: Final = 256  # messages a turn of the loop: about 0.5 ms
SERIES_STEP: Final = 64  # series a step of compaction looks at
TAIL_AGE_S: Final = 6 * 3600.0  # the longest that records stay out of the file; the log has them meanwhile
HOUSEKEEPING_S: Final = 3600.0
RETRY_S: Final = 60.0  # after a step that the disk had no room for
BUSY: Final = 512  # messages waiting for the disk that make the log busy
REST, REST_BUSY = 1.0, 8.0  # pause after a step, as a multiple of its length
LOG_SHARE: Final = 4  # compact when one part in so many of what the log may keep is not in chunks
LEAST_DUE: Final = 64  # messages below which the log's retention does not hurry a compaction
EXPORT_RECORDS: Final = 4096  # of one part of an export


@dataclass(slots=True)
class HistoryCounters:
    """Since this start, except what is damaged, which the file keeps."""

    compactions: int = 0
    steps: int = 0
    longest_step_s: float = 0.0  # its commit included
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
        self._log_reader = log.reader()
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
        self._fresh: deque[Message] = deque()  # committed, not in the tail yet
        self._taking = False
        self._live = False  # the tail is fed by commits; else from the log's file, by the task
        self._tail_since = self._loop.time()
        self._tail_age_s = min(TAIL_AGE_S, (log.limits.max_age_s or math.inf) / LOG_SHARE)
        self._closed = False
        log.cursor(CURSOR, store.done)
        log.move_cursor(CURSOR, store.done)
        self._read_back()
        self._forget = log.on_commit(self._on_commit)
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
        self._forget()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._asking.shutdown)
        self._reader.close()
        self._log_reader.close()
        self._store.close()
        if self._old is not None:
            self._old.close()

    # Asking

    def subtopics(self, channel: str) -> set[str]:
        """The subtopics of a channel of which there are records, dotted."""
        return self._tail.subtopics(channel)

    async def query(self, query: Query) -> HistoryPage:
        """The page asked for, of all that is committed. Raises Invalid, Busy where the file cannot be read."""
        return await self._ask(self._reader.page, query)

    async def aggregate(self, query: Query) -> list[Bucket]:
        """What each series has in each `interval_s`, newest first. Raises as `query`."""
        return await self._ask(self._reader.aggregate, query)

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
        """Have `answer` called in the thread for queries, once the tail holds all that is committed now."""
        if self._closed:
            raise Busy("the history is closed")
        target = self._log.committed_seq
        while self._fresh and self._tail.seq < target:
            self._take_some()
            await asyncio.sleep(0)
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
        """Committed numbers not looked at yet; queries do not see them."""
        return int(max(0, self._log.committed_seq - self._tail.seq))

    @property
    def tail_records(self) -> int:
        """Records in memory that are not in chunks yet; the log has them."""
        return self._tail.records

    @property
    def records(self) -> int:
        """Records and messages that queries can find."""
        return sum(len(one.run.seqs) + one.run.chunked for one in self._tail.series.values())

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

    # Taking in

    def _begin_after_log(self) -> None:
        """Say what a damaged file took, and see that the log's numbers go on where this file ends."""
        first = self._log.first_seq
        if self.set_aside is not None:
            self.lost = (
                f"{self.set_aside.name} was damaged and set aside; the history was built again from message "
                f"{first} on, the oldest that the log still has"
            )
            log.error("%s", self.lost)
        given: int = self._log.committed_seq if self._log.message_count else first - 1
        if given < self._store.done:
            log.error("the log begins again at message %d; the history goes on there", given + 1)
            self._store.finish(given, begin_again=True)

    def _read_back(self) -> None:
        """Fill the tail from the log as far as it may grow; what is beyond comes in the background."""
        while not self._live and not self._tail.due:
            messages, seen = self._next_from_log()
            self._take_from_log(messages, seen)

    def _next_from_log(self) -> tuple[list[Message], int]:
        return self._log_reader.scan(self._tail.seq, None, TAKE, up_to=self._log.committed_seq)

    def _take_from_log(self, messages: Sequence[Message], seen: int) -> None:
        self._tail.take(messages)
        self._tail.seq = max(self._tail.seq, seen)
        self._live = self._tail.seq >= self._log.committed_seq

    def _on_commit(self, messages: Sequence[Message]) -> None:
        if not self._live:
            return
        self._fresh.extend(messages)
        if not self._taking:
            self._taking = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Take a few messages a turn of the loop, so that a large commit holds nobody up."""
        self._take_some()
        self._taking = bool(self._fresh) and not self._closed
        if self._taking:
            self._loop.call_soon(self._take_turn)

    def _take_some(self) -> None:
        fresh = self._fresh
        if self._tail.full:  # what the log has need not be in memory
            fresh.clear()
            self._live = False
            return
        self._tail.take([fresh.popleft() for _ in range(min(TAKE, len(fresh)))])
        if self._due():
            self._wake.set()

    def _due(self) -> bool:
        """Time for a compaction: enough has gathered, has waited long, or the log is about to drop it."""
        tail, limits = self._tail, self._log.limits
        if tail.due or (tail.records and self._loop.time() - self._tail_since > self._tail_age_s):
            return True
        share = tail.messages * LOG_SHARE
        return tail.messages >= LEAST_DUE and (
            share >= limits.max_messages
            or (share >= self._log.message_count and self._log.size_bytes * 2 >= limits.max_bytes)
        )

    # Working

    async def _run(self) -> None:
        """Work whenever there is something to do: chunks to make, old ones to remove, damaged ones to set aside."""
        kept_house = -math.inf
        while True:
            self._wake.clear()
            wait_s = HOUSEKEEPING_S
            try:
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
                # A full disk, as a rule. The log keeps what is not in chunks, so nothing is lost yet.
                log.error("the history is %d messages behind: %s", self._messages_behind(), error)
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    self._store.suspect()
                wait_s = RETRY_S
            except Exception:
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
            if self._due():
                if self._store.read_only:
                    return worked
                await self._compact()
                worked = True
            elif self._live:
                return worked
            else:
                began = time.monotonic()
                messages, seen = await self._in_thread(self._next_from_log)
                self._take_from_log(messages, seen)
                await self._rest(began)

    async def _compact(self) -> None:
        """Move all that is in the tail now into chunks, a step at a time."""
        tail = self._tail
        upto, messages = tail.seq, tail.messages
        self._tail_since = self._loop.time()
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
            self.counters.steps += 1
            self.counters.longest_step_s = max(self.counters.longest_step_s, step.busy_s)
            while todo and not (todo[0].run.seqs and todo[0].run.seqs[0] <= upto):
                todo.popleft()
            await self._rest(began)
        await self._in_thread(partial(self._store.finish, upto))
        self._log.move_cursor(CURSOR, upto)
        tail.messages -= messages
        tail.skip = {series: seq for series, seq in tail.skip.items() if seq > upto}
        self.counters.compactions += 1
        await self._set_aside_damaged()

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
                series.run.chunked += len(items)
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
                series.run.chunked -= count

    async def _rest(self, began: float) -> None:
        """Live messages come first."""
        rest = REST_BUSY if self._log.pending > BUSY else REST
        await asyncio.sleep((time.monotonic() - began) * rest)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run a step in the writing thread, to its end also where the caller is cancelled meanwhile."""
        async with self._lock:
            future = self._loop.run_in_executor(self._writing, work)
            return await asyncio.shield(future)

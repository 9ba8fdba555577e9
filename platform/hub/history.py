"""The history: a reader of the log that makes SenML records queryable, in a file and a thread of its own.

It stays behind on purpose. Placing records by series touches a page a record, so it gathers many messages
before a step (an hour or `GATHER` messages) and catches up when somebody asks. Live messages come first:
steps are short and it pauses between them, longer while the log is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .history_store import HistoryMessage, HistoryPage, HistoryRecord, HistoryStore, Query
from .log import Log
from .log_reader import LogReader
from .message import Message

__all__ = ["History", "HistoryMessage", "HistoryPage", "HistoryRecord", "Query"]

log = logging.getLogger("hub.history")

CURSOR = "history"  # its name among the log's cursors

STEP = 256  # messages a step: about 10 ms
GATHER = 8192  # messages that start a catch-up
GATHER_S = 3600.0  # and the longest they wait; bounds what a restart has to catch up with
RETRY_S = 60.0  # after a step that the disk had no room for
QUERY_STEPS = 64  # steps a query waits for at most: 16,384 messages, under a second
BUSY = 512  # messages waiting for the disk that make the log busy
REST, REST_BUSY = 1.0, 8.0  # pause after a step, as a multiple of its length


class History:
    """Belongs to the event loop's thread; the store and its reader belong to the history's own."""

    def __init__(self, log: Log, store: HistoryStore) -> None:
        self._log = log
        self._store = store
        self._reader: LogReader = log.reader()
        self._thread = ThreadPoolExecutor(1, "hub-history")
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._waiting = 0
        self.set_aside = store.set_aside
        self.cursor = store.cursor
        log.cursor(CURSOR)
        log.move_cursor(CURSOR, store.cursor)
        self._forget = log.on_commit(self._on_commit)
        self._task = asyncio.create_task(self._run(), name="hub-history")

    @classmethod
    def open(cls, path: Path | str, log: Log, *, max_bytes: int = 2 << 30) -> History:
        """Open or create the history inside the running loop.

        Blocks. A damaged file is built again from the log.
        """
        return cls(log, HistoryStore(Path(path), max_bytes))

    async def close(self) -> None:
        """Stop; what was not taken yet is taken after the next start."""
        self._forget()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        async with self._lock:  # a step that a query began
            await asyncio.to_thread(self._thread.shutdown)
        self._reader.close()
        self._store.close()

    async def query(self, query: Query) -> HistoryPage:
        """Answer after having caught up with all that is committed, as far as QUERY_STEPS reach.

        Where the disk is full, with what it has. Raises Invalid.
        """
        try:
            await self._catch_up(self._log.committed_seq, QUERY_STEPS, patient=False)
        except (sqlite3.Error, OSError) as error:
            log.error("the history is %d messages behind: %s", self.behind, error)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._store.query, query)

    @property
    def behind(self) -> int:
        """Committed numbers not looked at yet."""
        behind: int = self._log.committed_seq - self.cursor
        return max(0, behind)

    @property
    def series_refused(self) -> int:
        """Records not kept because there were too many series."""
        return self._store.series_refused

    @property
    def undecodable(self) -> int:
        """Messages not kept because their SenML did not decode."""
        return self._store.undecodable

    def _on_commit(self, messages: Sequence[Message]) -> None:
        self._waiting += len(messages)
        if self._waiting >= GATHER:
            self._wake.set()

    async def _run(self) -> None:
        """Catch up at start and then whenever enough has gathered, or has waited long enough."""
        while True:
            self._wake.clear()
            self._waiting = 0
            wait_s = GATHER_S
            try:
                await self._catch_up(self._log.committed_seq, None, patient=True)
            except (sqlite3.Error, OSError) as error:
                # A full disk, as a rule. The log keeps what the history has not taken, so nothing is lost yet.
                log.error("the history is %d messages behind: %s", self.behind, error)
                wait_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait_s)

    async def _catch_up(self, up_to: int, steps: int | None, *, patient: bool) -> None:
        loop = asyncio.get_running_loop()
        while self.cursor < up_to and (steps is None or steps > 0):
            async with self._lock:
                if self.cursor >= up_to:
                    return
                began = time.monotonic()
                self.cursor = await loop.run_in_executor(self._thread, self._step, up_to)
                self._log.move_cursor(CURSOR, self.cursor)
            if steps is not None:
                steps -= 1
            if patient:
                rest = REST_BUSY if self._log.pending > BUSY else REST
                await asyncio.sleep((time.monotonic() - began) * rest)

    def _step(self, up_to: int) -> int:
        """In the history's thread.

        Take the next messages, and make room where the file has grown too large.
        """
        messages, seen = self._reader.scan(self._store.cursor, None, STEP, up_to=up_to)
        self._store.take(messages, seen)
        self._store.trim()
        self.used_bytes = self._store.used_bytes()
        return seen

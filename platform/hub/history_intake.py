"""What the history takes in: each committed message into the tail once, and when the tail is due for compaction.

In: the log's commits while they fit, else its file, from where the tail ends. Out: a tail that is live, or says by
its number how far it has come. What is in memory is bounded: where the tail is full, the rest stays in the log and is
read from there once compaction has made room. Compaction itself and questions are `hub.history`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from . import senml_kept
from .history_tail import Tail
from .log import Log
from .message import Message

TAKE: Final = 256  # messages a turn of the loop, or a step of reading from the log: about 0.5 ms
# A turn takes one in so many of what waits, where that is more: so it keeps up with any flood
SHARE: Final = 8
# Committed messages that wait in memory; a turn takes up to 4,096 of them, in about 8 ms
MAX_WAITING = 32_768
TAIL_AGE_S: Final = 6 * 3600.0  # the longest that records stay out of the file; the log has them meanwhile
LOG_SHARE: Final = 4  # compact when one part in so many of what the log may keep is not in chunks
LEAST_DUE: Final = 64  # messages below which the log's retention does not hurry a compaction


class Intake:
    """Belongs to the event loop's thread; `next_from_log` alone may be called in another."""

    _forget: Callable[[], None]

    def __init__(self, log: Log, tail: Tail, wake: Callable[[], None]) -> None:
        """`wake` is called where commits have made the tail due, or came faster than memory takes them."""
        self.live = False  # fed by commits; else from the log's file
        self._log = log
        self._tail = tail
        self._wake = wake
        self._log_reader = log.reader()
        self._loop = asyncio.get_running_loop()
        self._fresh: deque[Message] = deque()  # committed, not in the tail yet
        self._taking = False
        self._stopped = False
        self._tail_since = self._loop.time()
        self._tail_age_s = min(TAIL_AGE_S, (log.limits.max_age_s or math.inf) / LOG_SHARE)

    def begin(self) -> None:
        """Fill the tail from the log as far as it may grow, and listen; what is beyond comes in the background."""
        while not self.live and not self._tail.due:
            self.take_from_log(*self.next_from_log())
        self._forget = self._log.on_commit(self._on_commit)

    def stop(self) -> None:
        """Take nothing more from commits."""
        self._stopped = True
        self._forget()

    def close(self) -> None:
        """After `stop`, once nobody is in `next_from_log`."""
        self._log_reader.close()

    # From the log's file

    def next_from_log(self) -> tuple[list[Message], int]:
        """The next messages behind the tail, and up to which number there are no others."""
        return self._log_reader.scan(self._tail.seq, None, TAKE, up_to=self._log.committed_seq)

    def take_from_log(self, messages: Sequence[Message], seen: int) -> None:
        """Put what `next_from_log` gave into the tail; from its end on commits feed it."""
        self._tail.take(messages)
        self._tail.seq = max(self._tail.seq, seen)
        self.live = self._tail.seq >= self._log.committed_seq
        if self.live:
            senml_kept.forget()  # it was for commits that were not taken from memory

    # From commits

    @property
    def waiting(self) -> bool:
        """Committed messages are in memory that are not in the tail: `take_some` puts them there."""
        return bool(self._fresh)

    def _on_commit(self, messages: Sequence[Message]) -> None:
        if not self.live:
            return
        if len(self._fresh) + len(messages) > MAX_WAITING:
            self._let_go()
            self._wake()
            return
        self._fresh.extend(messages)
        if not self._taking:
            self._taking = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Take a few messages a turn of the loop, so that a large commit holds nobody up."""
        self.take_some()
        self._taking = bool(self._fresh) and not self._stopped
        if self._taking:
            self._loop.call_soon(self._take_turn)

    def take_some(self) -> None:
        """Put some of what waits into the tail, or let all of it go where the tail is full."""
        fresh = self._fresh
        if self._tail.full:
            self._let_go()
            return
        some = min(len(fresh), max(TAKE, len(fresh) // SHARE))
        self._tail.take([fresh.popleft() for _ in range(some)])
        if self.due():
            self._wake()

    def _let_go(self) -> None:
        """What the log has need not be in memory: it is read from there."""
        self._fresh.clear()
        self.live = False

    # When it is enough

    def due(self) -> bool:
        """Time for a compaction: enough has gathered, has waited long, or the log is about to drop it."""
        tail, limits = self._tail, self._log.limits
        if tail.due or (tail.records and self._loop.time() - self._tail_since > self._tail_age_s):
            return True
        share = tail.messages * LOG_SHARE
        return tail.messages >= LEAST_DUE and (
            share >= limits.max_messages
            or (share >= self._log.message_count and self._log.size_bytes * 2 >= limits.max_bytes)
        )

    def compacting(self) -> None:
        """A compaction of all that is in the tail begins now: what comes later waits anew."""
        self._tail_since = self._loop.time()

"""Following a channel: messages of the log after a number, then those that come, each once and in order.

A follower that keeps up takes messages as they are committed. One that falls behind, or begins in the past, reads the
log, which is bounded and kept anyway: slowness costs no memory and loses nothing. What retention has removed before it
could be read is announced as a `Gap`. Nothing is shown before it is committed; who may see it is asked by whoever
sends it on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.hub import Hub
from hub.message import Message
from hub.topics import Filter, subtopic_fits

QUEUE = 256  # committed messages waiting for one follower before it is sent to read the log
ROWS = 256  # rows of the log read at once: about 1 ms of the event loop


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that were asked for and are no longer kept, both ends included."""

    first: int
    last: int


class Followers:
    """All followers of one hub's log; belongs to the event loop's thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._by_channel: dict[str, set[Follower]] = {}
        self._forget: Callable[[], None] | None = None
        self.gaps = 0  # announced
        self.fell_behind = 0  # times a live follower was sent to read the log

    def follow(
        self, wanted: Filter, after: int | None, ready: asyncio.Event, *, without: str = ""
    ) -> Follower:
        """A follower of one channel, after the number `after` or, where that is None, from now on.

        `ready` is set whenever `take` may have something. Messages published by `without` are left out. To be
        closed by the caller.
        """
        follower = Follower(self, self._hub, wanted, after, ready, without)
        self._by_channel.setdefault(wanted.channel, set()).add(follower)
        if self._forget is None:
            self._forget = self._hub.log.on_commit(self._on_commit)
        return follower

    def leave(self, follower: Follower) -> None:
        """End a follower; once more does no harm."""
        those = self._by_channel.get(follower.channel, set())
        those.discard(follower)
        if not those:
            self._by_channel.pop(follower.channel, None)
        if not self._by_channel and self._forget is not None:
            self._forget()
            self._forget = None

    def wake(self) -> None:
        """A right was taken away: have each one's owner look, though there may be nothing to take."""
        for those in self._by_channel.values():
            for follower in those:
                follower.wake()

    def _on_commit(self, messages: Sequence[Message]) -> None:
        by_channel = self._by_channel
        for message in messages:
            for follower in by_channel.get(message.channel, ()):
                follower.offer(message)


class Follower:
    """One reader of one channel. `position` is the number up to which everything has been taken or passed over."""

    def __init__(
        self,
        followers: Followers,
        hub: Hub,
        wanted: Filter,
        after: int | None,
        ready: asyncio.Event,
        without: str,
    ) -> None:
        self.channel = wanted.channel
        self._followers = followers
        self._hub = hub
        self._subtopic = wanted.subtopic
        self._without = without
        self._ready = ready
        self._queue: deque[Message | Gap] = deque()
        self._live = after is None or after >= hub.log.committed_seq
        self._position = hub.log.committed_seq if after is None else after

    def offer(self, message: Message) -> None:
        """A message of this channel has been committed."""
        if not self._live or not self._wants(message):
            return
        if len(self._queue) >= QUEUE:
            self._live = False
            self._followers.fell_behind += 1
        else:
            self._queue.append(message)
            self._position = message.seq
            self._ready.set()

    def wake(self) -> None:
        """Set `ready`."""
        self._ready.set()

    def take(self, limit: int) -> list[Message | Gap]:
        """Up to `limit` items that can be had now; with none, `ready` tells when to ask again."""
        if not self._queue and not self._live:
            self._read_on()
        queue = self._queue
        return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def close(self) -> None:
        """Follow no longer."""
        self._followers.leave(self)

    def _read_on(self) -> None:
        log = self._hub.log
        before = self._position
        messages, seen = log.scan(before, self._wanted_here, QUEUE, max_rows=ROWS)
        # Asked after the reading: what retention took in between counts as missing, never the reverse.
        ((first,),) = log.query("SELECT min(seq) FROM log")
        first = log.first_seq if first is None else first
        if first > before + 1:
            self._miss(before + 1, first - 1)
            seen = max(seen, first - 1)
        self._queue.extend(messages)
        self._position = seen
        self._live = seen >= log.committed_seq
        self._ready.set()

    def _miss(self, first: int, last: int) -> None:
        """Announce the numbers from `first` to `last` as missing, but for those no message ever had."""
        unused = self._hub.log.query(
            "SELECT first, CAST(last AS INTEGER) FROM hole WHERE last >= ? AND first <= ? ORDER BY first",
            (first, last),
        )
        for start, end in unused:
            if start <= first:
                first = max(first, end + 1)
            if end >= last:
                last = min(last, start - 1)
        if first <= last:
            self._followers.gaps += 1
            self._queue.append(Gap(first, last))

    def _wanted_here(self, message: Message) -> bool:
        return message.channel == self.channel and self._wants(message)

    def _wants(self, message: Message) -> bool:
        return subtopic_fits(self._subtopic, message.subtopic) and message.publisher != self._without

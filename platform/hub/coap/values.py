"""What a channel last said: the answer to a GET.

A value is looked for in the log when it is first asked for, and from then on kept up to date by each commit. The
search goes backwards in small steps and not beyond a bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence

from hub.coap.limits import Limits
from hub.log import Log
from hub.message import Message
from hub.router import Router
from hub.topics import REST, Filter

STEP = 256  # messages looked at before others have their turn: about 2 ms

_WINDOW = "SELECT min(seq) FROM (SELECT seq FROM log WHERE seq < ? ORDER BY seq DESC LIMIT ?)"


class LastValues:
    """The newest message of each filter that somebody asked for."""

    def __init__(self, log: Log, limits: Limits) -> None:
        self._log = log
        self._limits = limits
        self._router: Router[Filter] = Router()
        self._values: OrderedDict[Filter, Message | None] = OrderedDict()  # the longest unused first
        self._searches: Counter[Filter] = Counter()  # under way
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def known(self, wanted: Filter) -> bool:
        """Whether `find` answers without a search."""
        return wanted in self._values and wanted not in self._searches

    def find(self, wanted: Filter) -> Message | None:
        """The newest message, where it is known; None where there is none."""
        message = self._values.get(wanted)
        if wanted in self._values:
            self._values.move_to_end(wanted)
        return message

    async def search(self, wanted: Filter) -> Message | None:
        """Look through the newest messages of the log, and remember what was found."""
        self._searches[wanted] += 1
        try:
            return await self._search(wanted)
        finally:
            self._searches[wanted] -= 1
            if not self._searches[wanted]:
                del self._searches[wanted]

    async def _search(self, wanted: Filter) -> Message | None:
        if wanted not in self._values:
            self._keep(wanted, None)
        below = self._log.committed_seq + 1
        for _ in range(self._limits.search_messages // STEP):
            first = self._log.query(_WINDOW, (below, STEP))[0][0]
            if first is None:
                break
            found, _ = self._log.scan(first - 1, lambda one: matches(wanted, one), STEP, max_rows=STEP)
            newest = self._values.get(wanted)  # a commit may have been faster than the search
            if newest is None and found and found[-1].seq < below:
                newest = found[-1]
                self._keep(wanted, newest)
            if newest is not None:
                return newest
            below = first
            await asyncio.sleep(0)
        return self._values.get(wanted)

    def on_commit(self, messages: Sequence[Message]) -> None:
        """Take over what has become durable."""
        if not self._values:
            return
        for message in messages:
            for wanted in self._router.match(message.channel, message.subtopic, message.content_type):
                self._keep(wanted, message)

    def _keep(self, wanted: Filter, message: Message | None) -> None:
        if wanted not in self._values:
            self._router.add(wanted, wanted)
        self._bytes += _size(message) - _size(self._values.get(wanted))
        self._values[wanted] = message
        limits = self._limits
        while len(self._values) > limits.last_values or self._bytes > limits.last_values_bytes:
            oldest, dropped = self._values.popitem(last=False)
            self._bytes -= _size(dropped)
            self._router.remove(oldest, oldest)


def matches(wanted: Filter, message: Message) -> bool:
    """Whether `message` is one that `wanted` asks for (MQTT 5.0, 4.7.1, with a channel given)."""
    if message.channel != wanted.channel:
        return False
    if wanted.content_type is not None and message.content_type != wanted.content_type:
        return False
    if wanted.subtopic == message.subtopic:
        return True
    pattern = wanted.subtopic.split(".") if wanted.subtopic else []
    elements = message.subtopic.split(".") if message.subtopic else []
    for at, element in enumerate(pattern):
        if element == REST:
            return True
        if at >= len(elements) or element not in ("+", elements[at]):
            return False
    return len(pattern) == len(elements)


def _size(message: Message | None) -> int:
    return len(message.payload) if message is not None else 0

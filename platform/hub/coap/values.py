"""What a channel last said: the answer to a GET.

A value is looked for when it is first asked for, and from then on kept up to date by each commit. The search goes
backwards through the newest messages of the log in small steps, and from there to the history, which knows at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from hub.coap.limits import Limits
from hub.log import Log
from hub.message import Message
from hub.reading import matches
from hub.router import Router
from hub.topics import Filter

STEP = 256  # messages looked at before others have their turn: about 2 ms

_WINDOW = "SELECT min(seq) FROM (SELECT seq FROM log WHERE seq < ? ORDER BY seq DESC LIMIT ?)"


class LastValues:
    """The newest message of each filter that somebody asked for."""

    def __init__(
        self, log: Log, older: Callable[[Filter], Awaitable[Message | None]], limits: Limits
    ) -> None:
        self._log = log
        self._older = older  # asked for what is not among the newest messages
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
        """Look through the newest messages of the log, then ask the history, and remember what was found.

        Raises Busy where the history cannot be read.
        """
        self._searches[wanted] += 1
        try:
            return await self._search(wanted)
        except BaseException:
            self._forget(wanted)  # nobody knows whether there is none
            raise
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
                newest = self._found(wanted, found[-1])
            if newest is not None:
                return newest
            below = first
            await asyncio.sleep(0)
        return await self._ask_history(wanted)

    async def _ask_history(self, wanted: Filter) -> Message | None:
        message = await self._older(wanted)
        newest = self._values.get(wanted)
        return self._found(wanted, message) if newest is None and message is not None else newest

    def _found(self, wanted: Filter, message: Message) -> Message:
        """Remember what was found, unless commits went by unseen since the search began."""
        if wanted in self._values:
            self._keep(wanted, message)
        return message

    def on_commit(self, messages: Sequence[Message]) -> None:
        """Take over what has become durable."""
        if not self._values:
            return
        for message in messages:
            for wanted in self._router.match(message.channel, message.subtopic, message.content_type):
                self._keep(wanted, message)

    def _forget(self, wanted: Filter) -> None:
        """Search again with the next request, unless something came meanwhile."""
        if wanted in self._values and self._values[wanted] is None:
            del self._values[wanted]
            self._router.remove(wanted, wanted)

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


def _size(message: Message | None) -> int:
    return len(message.payload) if message is not None else 0

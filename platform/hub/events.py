"""Events: every change of things, channels, people, groups and rights as a message on a channel of its own.

A change and its event are one transaction of the registry (`hub.events_outbox`). From there each event goes into the
log, in order, with its number in the same transaction of the log: so it is there exactly once, whenever the power goes.
The operations are those of Mainflux (thing.create, thing.connect and so on) and those of what Mainflux did not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from .audit import attempt
from .database import Migration
from .errors import HubError, LogFull
from .events_outbox import Waiting
from .log import Log
from .message import JSON, Message, TimeQuality
from .registry import Registry, Rights
from .registry_items import EVENTS, Change

log = logging.getLogger("hub.events")

PROTOCOL = "events"
PIECE = 256  # events put into the log at once
RETRY_S = 2.0  # until a full disk is tried again

MIGRATIONS = (
    Migration("events/1", ("CREATE TABLE event_cursor(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",)),
)

_TYPES = {Rights.PUBLISH: "publish", Rights.SUBSCRIBE: "subscribe"}


def acting() -> str:
    """Who changes something now: "users/<id>", "things/<id>", or "gateway" where no request of anybody does."""
    under_way = attempt()
    return "gateway" if under_way is None else under_way.who or "nobody"


class Events:
    """Takes events from the registry to the log; belongs to the event loop's thread."""

    def __init__(
        self, registry: Registry, messages: Log, clock: Callable[[], tuple[int, TimeQuality]], boot: str
    ) -> None:
        self._registry = registry
        self._log = messages
        self._clock = clock
        self._boot = boot
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._forget: Callable[[], None] = lambda: None
        self._cursor = 0
        self.told = 0  # events put into the log since the start
        self.lost = 0  # that went before the log could take them

    async def start(self) -> None:
        """Make the channel, and go on where the last run ended."""
        rows = self._log.query("SELECT seq FROM event_cursor")
        self._cursor = rows[0][0] if rows else 0
        await asyncio.to_thread(self._registry.begin_events, self._cursor)
        await self._make_channel()
        self._forget = self._registry.on_change(self._changed)
        self._task = asyncio.create_task(self._run(), name="hub-events")

    async def close(self) -> None:
        """What is not in the log yet waits for the next start."""
        self._forget()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def counters(self) -> dict[str, float]:
        return {"fluxgate_events_total": self.told, "fluxgate_events_lost_total": self.lost}

    def _changed(self, change: Change) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            events = await asyncio.to_thread(self._registry.events_after, self._cursor, PIECE)
            if not events:
                await self._wake.wait()
                continue
            try:
                await self._make_channel()
                await self._put(events)
            except LogFull as error:
                log.warning("events wait: %s", error.reason)
                await asyncio.sleep(RETRY_S)

    async def _make_channel(self) -> None:
        """On a disk that cannot be written another time will do."""
        if self._registry.channel(EVENTS) is None:
            with contextlib.suppress(HubError):
                await asyncio.to_thread(self._registry.create_channel, EVENTS, {"type": "events"}, EVENTS)

    async def _put(self, events: list[Waiting]) -> None:
        last = events[-1].seq
        missing = events[0].seq - self._cursor - 1
        messages = [self._message(each) for each in events]
        if missing:
            body = msgspec.json.encode({"operation": "events.lost", "count": missing, "who": "gateway"})
            messages.insert(0, self._of("events", "gateway", body, events[0].at_ns))
        await self._log.append(
            messages, also=[("INSERT OR REPLACE INTO event_cursor(id, seq) VALUES (1, ?)", (last,))]
        )
        self._cursor = last
        self.told += len(events)
        self.lost += missing
        self._registry.events_are_in(last)

    def _message(self, event: Waiting) -> Message:
        body = {"operation": event.operation, **msgspec.json.decode(event.body, type=dict[str, object])}
        metadata = body.get("metadata")
        if isinstance(metadata, str):
            body["metadata"] = msgspec.Raw(metadata.encode())
        types = body.get("types")
        if isinstance(types, int):
            body["types"] = [word for right, word in _TYPES.items() if right & types]
        shown = {name: value for name, value in body.items() if value is not None}
        noun = event.operation.partition(".")[0]
        return self._of(noun, event.who, msgspec.json.encode({**shown, "who": event.who}), event.at_ns)

    def _of(self, noun: str, who: str, body: bytes, at_ns: int) -> Message:
        now_ns, quality = self._clock()
        publisher = who.rpartition("/")[2]
        return Message(
            EVENTS, noun, publisher, PROTOCOL, JSON, body, at_ns or now_ns, time=quality, boot=self._boot
        )

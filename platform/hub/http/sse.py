"""Server-sent events: a bounded feed for each client, heartbeats, and a limit on clients.

A stream promises nothing: it shows what is happening now. A client that reads too slowly loses the oldest events
of its own feed; it is told how many (an event `lost`) and the counter shows it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.http.shares import Shares, caller_of

HEARTBEAT_S = 15.0  # below the 30 to 60 s after which home routers and proxies forget an idle connection
CHECK_S = 0.5  # a right that ends by itself, such as a token's time, is noticed this soon
MAX_STREAMS = 256  # streams and WebSockets; each holds a connection, a task and a queue
MAX_STREAMS_EACH = 64  # of them, of one thing or person
RETRY_S = 10  # when to come again: somebody has to leave
MAX_FEED = 256  # events waiting for one client

# In the scope's state: the event with which a door ends its streams, to stop without waiting for browsers to leave.
DOOR_CLOSING = "door_closing"

_LINE_END = re.compile(r"\r\n|\r|\n")  # the only three of the standard; str.splitlines knows more

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """One event (WHATWG HTML, 9.2). `data` is text, usually one JSON object; `id` comes back as Last-Event-ID."""

    data: str
    id: str | None = None
    name: str | None = None  # the browser's event type; None means "message"

    def encode(self) -> bytes:
        """The event's wire form. Line ends inside a field would end it, so they are cut or split."""
        lines = []
        if self.name is not None:
            lines.append(f"event: {_one_line(self.name)}")
        if self.id is not None:
            lines.append(f"id: {_one_line(self.id)}")
        lines += [f"data: {line}" for line in _LINE_END.split(self.data)]
        return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


class Feed(Generic[T]):
    """What waits for one slow reader: the newest `limit` items, with a count of those pushed out.

    `put` is called from callbacks on the loop and never blocks; iterating waits for the next item.
    """

    def __init__(self, limit: int = MAX_FEED) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._ready = asyncio.Event()
        self._closed = False
        self.lost = 0

    def put(self, item: T) -> None:
        """Append `item`; the oldest goes when the feed is full."""
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.lost += 1
        self._items.append(item)
        self._ready.set()

    def close(self) -> None:
        """Nothing more comes; the iteration ends after what is here."""
        self._closed = True
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._items.popleft()


@dataclass
class Streams(Shares):
    """All event streams and WebSockets of one app."""

    limit: int = MAX_STREAMS
    each: int = MAX_STREAMS_EACH
    what: str = "streams are open already"
    retry_s: int = RETRY_S
    heartbeat_s: float = HEARTBEAT_S
    check_s: float = CHECK_S
    lost: int = 0
    revoked: asyncio.Event = field(default_factory=asyncio.Event)  # of now: each time another one

    def recheck(self) -> None:
        """A right was taken away: each stream asks whether it may go on."""
        revoked, self.revoked = self.revoked, asyncio.Event()
        revoked.set()


def sse(
    request: Request, events: AsyncIterator[Event | bytes], allowed: Callable[[], bool] = lambda: True
) -> Response:
    """Answer `request` with `events` until they end, the client leaves, its right goes or the door closes.

    `bytes` are events in their wire form already. `allowed` is asked before each event, whenever a right was taken
    away and twice a second, so a revoked token stops a stream at once. Raises Problem 503 when as many clients as
    allowed are listening, 429 when they are the caller's own.
    """
    streams: Streams = request.app.state.streams
    caller = caller_of(request)
    streams.admit(caller)
    return EventStream(events, streams, allowed, caller)


class EventStream(Response):
    """The response: sends events as they come, and a comment when none came for a heartbeat."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Event | bytes],
        streams: Streams,
        allowed: Callable[[], bool],
        caller: str,
    ) -> None:
        self._caller = caller
        self._events = events
        self._streams = streams
        self._allowed = allowed
        self.status_code = 200
        self.background = None
        # X-Accel-Buffering: nginx would otherwise gather events until its buffer is full.
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the stream (ASGI). One task reads the events, one notices that the client has left."""
        with self._streams.taken(self._caller):
            await self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._streams
        gone = asyncio.create_task(_disconnected(receive), name="sse: client gone")
        door_closing: asyncio.Event = scope.get("state", {}).get(DOOR_CLOSING) or asyncio.Event()
        closing = asyncio.create_task(door_closing.wait(), name="sse: door closing")
        upcoming: asyncio.Task[Event | bytes | None] | None = None
        revoked: asyncio.Task[Any] | None = None
        lost = 0
        sent_s = time.monotonic()
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await _send_chunk(send, b": open\n\n")  # headers leave now, not with the first event
            while True:
                upcoming = upcoming or asyncio.create_task(_next(self._events), name="sse: next event")
                if revoked is None or revoked.done():
                    revoked = asyncio.create_task(streams.revoked.wait(), name="sse: a right was taken away")
                done, _ = await asyncio.wait(
                    {upcoming, gone, closing, revoked},
                    timeout=min(streams.check_s, streams.heartbeat_s),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone in done or closing in done or not self._allowed():
                    break
                if upcoming not in done:
                    if time.monotonic() - sent_s >= streams.heartbeat_s:
                        sent_s = time.monotonic()
                        await _send_chunk(send, b": still here\n\n")
                    continue
                event = upcoming.result()
                upcoming = None
                if event is None:
                    break
                sent_s = time.monotonic()
                missed = getattr(self._events, "lost", 0) - lost
                if missed:
                    lost += missed
                    streams.lost += missed
                    await _send_chunk(send, Event(str(missed), name="lost").encode())
                await _send_chunk(send, event if isinstance(event, bytes) else event.encode())
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _cancel(gone, closing, upcoming, revoked)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


def _one_line(text: str) -> str:
    return _LINE_END.split(text, maxsplit=1)[0]


async def _next(events: AsyncIterator[Event | bytes]) -> Event | bytes | None:
    """The next event, or None after the last: a task cannot carry StopAsyncIteration."""
    return await anext(events, None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_chunk(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

"""Server-sent events of a channel: `GET /channels/<id>/messages[/<filter>]` with `Accept: text/event-stream`.

Each event's id is the message's number, so a browser that reconnects goes on where it was. Only committed messages are
shown; access is asked again for each.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from hub.access import Action, Circumstances, Principal, Resource
from hub.errors import TopicError
from hub.http.auth import Credentials, address_of, authorization, certified_thing
from hub.http.envelope import Shown, as_text, envelope, gap, show
from hub.http.follow import Follower, Followers, Gap
from hub.http.problem import Problem
from hub.http.reach import refused
from hub.http.sse import Event, Streams, sse
from hub.hub import Hub
from hub.message import Message
from hub.timekeeping import corrected
from hub.topics import ANY_CHANNEL, REST, Filter, parse_filter

PIECE = 64  # messages sent on at once
EVENT_STREAM = "text/event-stream"


@dataclass(slots=True)
class Shared:
    """What all streams of one app share."""

    hub: Hub
    credentials: Credentials
    followers: Followers
    streams: Streams
    gateway: str


class Listener:
    """One client that follows a channel: what it asked for, and whether it still may.

    Raises Problem where it asks for what there is not, or may not.
    """

    def __init__(self, shared: Shared, connection: HTTPConnection, *, last_event_id: str = "") -> None:
        self.shared = shared
        given = connection.query_params
        self._header = authorization(connection)
        self._certified = certified_thing(connection.scope)
        principal = self._principal()
        if principal is None:
            raise Credentials.refusal(self._header)
        self.principal = principal
        self.wanted = _filter(connection.path_params)
        self.enveloped = flag(given, "envelope")
        self.accept = given.get("accept") or self.wanted.content_type or ""
        committed = shared.hub.log.committed_seq
        if _unheard_of(last_event_id, committed):
            self.after: int | None = None
        else:
            self.after = _after(last_event_id or given.get("after", ""), committed)
        self._resource = Resource(self.wanted.channel, self.wanted.subtopic)
        self.source_ip = address_of(connection.scope)
        protocol = "ws" if connection.scope["type"] == "websocket" else "http"
        self._context = Circumstances(protocol, self.source_ip)
        decision = shared.hub.access.decide(principal, Action.SUBSCRIBE, self._resource, self._context)
        if not decision.allowed:
            raise refused(shared.hub, principal, self.wanted.channel, decision)

    def follow(self, ready: asyncio.Event, *, without: str = "") -> Follower:
        """Begin to follow; see `Followers.follow`."""
        return self.shared.followers.follow(self.wanted, self.after, ready, without=without)

    def allowed(self) -> bool:
        """Whether the credential still holds and the channel may still be followed."""
        principal = self._principal()
        if principal is None:
            return False
        return self.shared.hub.access.decide(
            principal, Action.SUBSCRIBE, self._resource, self._context
        ).allowed

    def may_see(self, message: Message) -> bool:
        """Whether this message may be delivered, asked for each."""
        resource = Resource(message.channel, message.subtopic)
        return self.shared.hub.access.decide(self.principal, Action.DELIVER, resource, self._context).allowed

    def envelope(self, message: Message, shown: Shown) -> bytes:
        """The envelope of one message, with the time it should have been stamped with."""
        corrections = self.shared.hub.log.corrections()
        return envelope(corrected(message, corrections), shown, self.shared.gateway)

    def _principal(self) -> Principal | None:
        return self.shared.credentials.of_request(self._header, self._certified)


async def stream(request: Request) -> Response:
    """`GET /channels/<id>/messages` for a client that accepts events."""
    shared = cast(Shared, request.app.state.shared)
    listener = Listener(shared, request, last_event_id=request.headers.get("last-event-id", ""))
    return sse(request, _events(listener), listener.allowed)


async def _events(listener: Listener) -> AsyncIterator[Event | bytes]:
    ready = asyncio.Event()
    follower = listener.follow(ready)
    try:
        while True:
            ready.clear()
            items = follower.take(PIECE)
            if items:
                yield b"".join(_event(listener, item) for item in items)
            elif ready.is_set():
                await asyncio.sleep(0)  # far behind, in a stretch of the log where nothing matches
            else:
                await ready.wait()
    finally:
        follower.close()


def _event(listener: Listener, item: Message | Gap) -> bytes:
    """An event in its wire form; b"" for what this client is not shown."""
    if isinstance(item, Gap):
        return Event(gap(item).decode(), str(item.last), "gap").encode()
    if not listener.may_see(item) or (shown := show(item, listener.accept)) is None:
        return b""
    if listener.enveloped:
        return Event(listener.envelope(item, shown).decode(), str(item.seq)).encode()
    if not listener.accept:
        shown = as_text(shown)
    if shown.text:
        return Event(shown.payload.decode(), str(item.seq)).encode()
    return Event(base64.b64encode(shown.payload).decode(), str(item.seq), "binary").encode()


def flag(given: Mapping[str, str], name: str) -> bool:
    """A parameter that is `1`, `true` or empty where it is set. Raises Problem 400 for another text."""
    text = given.get(name)
    if text is None or text.lower() in ("0", "false"):
        return False
    if text.lower() in ("", "1", "true"):
        return True
    raise Problem(400, f"{name} is 1 or 0")


def wants_events(request: Request) -> bool:
    """Whether the client asks for a stream rather than a page."""
    return request.method == "GET" and EVENT_STREAM in request.headers.get("accept", "").lower()


def _filter(path_params: Mapping[str, str]) -> Filter:
    """Channel and filter of a path; all of a channel where it names no subtopic. Raises TopicError."""
    channel, below = path_params["channel_id"], path_params.get("subtopic", "")
    if channel == ANY_CHANNEL:
        raise TopicError("follow one channel at a time: put its id into the path")
    return parse_filter(f"channels/{channel}/messages/{below or REST}")


def _unheard_of(last_event_id: str, committed: int) -> bool:
    """Whether a browser comes back with a number that was never given here.

    The gateway was restored from a backup, or it is another one. An EventSource cannot be told to forget the number:
    refused, it would give up for ever.
    """
    return _is_number(last_event_id) and int(last_event_id) > committed


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16


def _after(text: str, committed: int) -> int | None:
    """The number to go on after; None for "from now on". Raises Problem 400."""
    if not text:
        return None
    if not _is_number(text):
        raise Problem(400, "after (or Last-Event-ID) is the number of a message, 0 for all that is kept")
    if int(text) > committed:
        raise Problem(400, f"the newest message has the number {committed}; leave after out to begin there")
    return int(text)

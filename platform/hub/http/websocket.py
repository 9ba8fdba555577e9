"""WebSockets on a channel: `ws://host/channels/<id>/messages[/<subtopic>]` (Mainflux 0.13), payloads both ways.

In: frames to publish, each acknowledged only in the envelope form and only when it is durable. Out: the channel's
committed messages, after a number where one is given, without those that the same thing published. With `?envelope=1`
frames are JSON objects: `message`, `ack`, `error` and `gap` to the client; `{id, payload, ...}` from it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import Counter, deque
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.routing import compile_path
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from hub.errors import BadMessage, Busy, HubError, LogFailed, TooLarge, TopicError
from hub.http.auth import address_of, authorization, certified_thing
from hub.http.envelope import gap, show
from hub.http.follow import Follower, Gap
from hub.http.idempotency import parse_key
from hub.http.problem import PROBLEM_JSON, Problem, of_hub_error, problem_body
from hub.http.publish import Publisher, wire_headers
from hub.http.shares import name_of
from hub.http.stream import PIECE, Listener, Shared
from hub.message import JSON, OCTET_STREAM, Message
from hub.topics import Address, parse_subtopic, parse_topic

PROTOCOL = "ws"
MAX_UNDER_WAY = 64  # frames of one client whose answer it has not got; the next ones wait in its socket
MAX_REASON = 120  # bytes of a close frame's reason (RFC 6455, 5.5: 125 with the code)

# Why we close (RFC 6455, 7.4.1, and the range for private use).
GOING_AWAY, BAD_PAYLOAD, FORBIDDEN, TOO_BIG, OUR_FAULT, TRY_LATER = 1001, 1007, 1008, 1009, 1011, 1013
MESSAGES_GONE = 4410  # a client of plain payloads cannot be told of a gap in any other way

log = logging.getLogger("hub.http")

_PATHS = [
    compile_path(path)[0]
    for path in ("/channels/{channel_id}/messages", "/channels/{channel_id}/messages/{subtopic:path}")
]


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """What a client in the envelope form sends to publish; one of the payloads is given."""

    id: str | int | None = None  # comes back in the acknowledgement
    payload: msgspec.Raw = msgspec.Raw(b"")  # JSON, kept byte by byte
    payload_base64: str | None = None
    content_type: str = ""  # application/json for `payload`, application/octet-stream for `payload_base64`
    subtopic: str | None = None  # instead of the path's
    idempotency_key: str = ""


_decode_frame = msgspec.json.Decoder(Frame).decode
_encode = msgspec.json.Encoder().encode


class Sockets:
    """ASGI app for WebSockets on channels. `counts` is frames by what became of them."""

    def __init__(self, shared: Shared, publisher: Publisher) -> None:
        self._shared = shared
        self._publisher = publisher
        self.open = 0
        self.counts: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        await receive()  # websocket.connect
        try:
            listener = self._listener(scope)
            caller = name_of(listener.principal)
            self._shared.streams.admit(caller)
        except (Problem, HubError) as error:
            refusal = error if isinstance(error, Problem) else of_hub_error(error)
            if refusal.status == 401 or isinstance(error, TopicError):
                self._note(refusal.detail, scope)
            await deny(send, refusal)
            return
        self.open += 1
        try:
            with self._shared.streams.taken(caller):
                await send({"type": "websocket.accept"})
                await _Socket(self, listener, self._publisher, scope).serve(receive, send)
        finally:
            self.open -= 1

    def _note(self, why: str, scope: Scope) -> None:
        """Audit what the access seam was never asked."""
        shared = self._shared
        connection = HTTPConnection(scope)
        shared.hub.note_refusal(
            *(PROTOCOL, why),
            principal=shared.credentials.of_request(authorization(connection), certified_thing(scope)),
            address=address_of(scope),
            resource=f"follow {scope['path']}",
        )

    def _listener(self, scope: Scope) -> Listener:
        """Raises Problem, HubError."""
        for path in _PATHS:
            found = path.match(scope["path"])
            if found:
                scope["path_params"] = found.groupdict()
                break
        else:
            raise Problem(404, "WebSockets are at /channels/<id>/messages and, for MQTT, at /mqtt")
        connection = HTTPConnection(scope)
        if not authorization(connection) and not certified_thing(scope):
            # 403, as Mainflux answers; a credential that is wrong gets 401.
            raise Problem(403, "send a credential: the header Authorization, or the parameter authorization")
        return Listener(self._shared, connection)


class _Socket:
    """One open WebSocket: a task that reads and publishes, and a loop that writes."""

    def __init__(self, sockets: Sockets, listener: Listener, publisher: Publisher, scope: Scope) -> None:
        self._counts = sockets.counts
        self._listener = listener
        self._publisher = publisher
        self._path: str = scope["path"]
        self._content_type = HTTPConnection(scope).query_params.get("content-type", "")
        self._ready = asyncio.Event()
        self._room = asyncio.Event()  # a frame is stored, or its answer has left
        self._under_way = 0
        self._answers: deque[bytes] = deque()
        self._close: tuple[int, str] | None = None

    async def serve(self, receive: Receive, send: Send) -> None:
        """Until the client leaves, its right goes, or one of its frames cannot be taken."""
        listener = self._listener
        own = listener.principal.id if listener.principal.kind == "thing" else ""
        follower = listener.follow(self._ready, without=own)
        reader = asyncio.create_task(self._read(receive), name="ws: frames in")
        try:
            await self._write(follower, send, reader)
            if reader.done():
                reader.result()
        finally:
            follower.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._close is not None:
            code, reason = self._close
            reason = reason.encode()[:MAX_REASON].decode(errors="ignore")
            await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _write(self, follower: Follower, send: Send, reader: asyncio.Task[None]) -> None:
        check_s = self._listener.shared.streams.check_s
        while not reader.done():
            self._ready.clear()
            while self._answers:
                await send({"type": "websocket.send", "text": self._answers.popleft().decode()})
                self._room.set()
            if self._close is not None:
                return
            if not self._listener.allowed():
                self._close = (FORBIDDEN, "the right to this channel, or the credential, has ended")
                return
            items = follower.take(PIECE)
            for item in items:
                event = self._shown(item)
                if event is not None:
                    await send(event)
            if items or self._answers:
                continue
            if self._ready.is_set():
                await asyncio.sleep(0)  # far behind, in a stretch of the log where nothing matches
                continue
            waiting = asyncio.create_task(self._ready.wait(), name="ws: something to send")
            await asyncio.wait({waiting, reader}, timeout=check_s, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    def _shown(self, item: Message | Gap) -> Event | None:
        """The frame for one item; None for what this client is not shown."""
        listener = self._listener
        if isinstance(item, Gap):
            if listener.enveloped:
                return {"type": "websocket.send", "text": gap(item).decode()}
            self._close = (
                MESSAGES_GONE,
                f"messages {item.first} to {item.last} are no longer kept; go on after {item.last}",
            )
            return None
        if self._close is not None or not listener.may_see(item):
            return None
        shown = show(item, listener.accept)
        if shown is None:
            return None
        if listener.enveloped:
            return {"type": "websocket.send", "text": listener.envelope(item, shown).decode()}
        if shown.text:
            return {"type": "websocket.send", "text": shown.payload.decode()}
        return {"type": "websocket.send", "bytes": shown.payload}

    # Frames in

    async def _read(self, receive: Receive) -> None:
        """Until the client has left."""
        while True:
            event = await receive()
            if event["type"] != "websocket.receive":
                return
            while self._under_way + len(self._answers) >= MAX_UNDER_WAY:
                self._room.clear()
                await self._room.wait()
            if self._close is None:
                self._take(event)

    def _take(self, event: Event) -> None:
        text = event.get("text")
        data = text.encode() if text is not None else event["bytes"]
        frame_id: str | int | None = None
        try:
            if self._listener.enveloped:
                frame = _frame(data)
                frame_id = frame.id
                where, payload, key = self._opened(frame)
            else:
                where, payload, key = self._plain(data, text is not None)
            self._publish(where, payload, key, frame_id)
        except (Problem, HubError) as error:
            self._refuse(frame_id, error)

    def _publish(self, where: Address, payload: bytes, key: str, frame_id: str | int | None) -> None:
        def done(seq: int, error: HubError | None) -> None:
            self._under_way -= 1
            self._room.set()
            if error is not None:
                self._refuse(frame_id, error)
                return
            self._counts["accepted"] += 1
            if self._listener.enveloped:
                self._answers.append(_encode({"type": "ack", "id": frame_id, "seq": seq}))
                self._ready.set()

        self._under_way += 1
        try:
            self._publisher.store(
                self._listener.principal,
                PROTOCOL,
                where,
                payload,
                done,
                key=key,
                source_ip=self._listener.source_ip,
            )
        except (Problem, HubError):
            self._under_way -= 1
            raise

    def _plain(self, data: bytes, text: bool) -> tuple[Address, bytes, str]:
        """A frame that is nothing but a payload. Raises TopicError."""
        where = parse_topic(self._path)
        named = where.content_type or self._content_type or _guess(data, text)
        return where._replace(content_type=named), data, ""

    def _opened(self, frame: Frame) -> tuple[Address, bytes, str]:
        """A frame in the envelope form. Raises Problem 400, TopicError."""
        payload = bytes(frame.payload)
        if bool(payload) == (frame.payload_base64 is not None):
            raise Problem(400, "send payload (JSON) or payload_base64, one of the two")
        guess = JSON
        if frame.payload_base64 is not None:
            guess = OCTET_STREAM
            try:
                payload = base64.b64decode(frame.payload_base64, validate=True)
            except (binascii.Error, ValueError):
                raise Problem(400, "payload_base64 is not base64") from None
        if frame.subtopic is None:
            where = parse_topic(self._path)
        else:
            where = Address(self._listener.wanted.channel, parse_subtopic(frame.subtopic))
        key = parse_key(frame.idempotency_key.encode("latin-1", "replace")) if frame.idempotency_key else ""
        return where._replace(content_type=frame.content_type or where.content_type or guess), payload, key

    def _refuse(self, frame_id: str | int | None, error: Problem | HubError) -> None:
        """Say what was wrong with a frame: in its answer, or without envelopes by closing."""
        problem = error if isinstance(error, Problem) else of_hub_error(error)
        self._counts["refused"] += 1
        if isinstance(error, TopicError):
            listener = self._listener
            listener.shared.hub.note_refusal(
                *(PROTOCOL, problem.detail),
                principal=listener.principal,
                address=listener.source_ip,
                resource=f"publish {self._path}",
            )
        if self._listener.enveloped:
            answer: dict[str, Any] = {
                "type": "error",
                "id": frame_id,
                "status": problem.status,
                "detail": problem.detail,
            }
            self._answers.append(_encode(answer))
        elif self._close is None:
            self._close = (_close_code(error), problem.detail)
        self._ready.set()


def _frame(data: bytes) -> Frame:
    """Raises Problem 400."""
    try:
        return _decode_frame(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"a frame is a JSON object with id and payload: {error}") from None


def _guess(data: bytes, text: bool) -> str:
    """The type of a frame that names none: JSON where its text is JSON (SenML is found there), else bytes."""
    if not text:
        return OCTET_STREAM
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return OCTET_STREAM
    return JSON


def _close_code(error: Problem | HubError) -> int:
    if isinstance(error, TooLarge):
        return TOO_BIG
    if isinstance(error, BadMessage):
        return BAD_PAYLOAD
    if isinstance(error, (Busy, LogFailed)) or (isinstance(error, Problem) and error.status == 429):
        return TRY_LATER
    return FORBIDDEN


async def deny(send: Send, refusal: Problem) -> None:
    """Answer an upgrade with a problem document instead of a WebSocket."""
    body = problem_body(refusal.status, refusal.detail)
    headers = [("content-type", PROBLEM_JSON), *(refusal.headers or {}).items()]
    await send(
        {
            "type": "websocket.http.response.start",
            "status": refusal.status,
            "headers": wire_headers(headers),
        }
    )
    await send({"type": "websocket.http.response.body", "body": body})

"""One connection of the HTTP door: uvicorn's parser and framing, with the bounds that uvicorn leaves open.

A thing that reports sends the same head again and again. A head that was parsed once, and with which a thing has
published, is not parsed again: its request goes straight to the log and its answer straight to the socket, without
parser, task or ASGI messages between. Everything else, the first request of each kind included, goes the usual way.
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections import Counter
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from hub.authority.judge import Shown
from hub.http.auth import CERTIFIED
from hub.http.body import DRAIN, MAX_BODY
from hub.http.burst import Burst
from hub.http.limits import Limits
from hub.http.problem import PROBLEM_JSON, problem_body
from hub.http.proxies import Proxies, below_prefix, parse_address
from hub.http.publish import ACCEPTED, Head, Publisher
from hub.http.sse import DOOR_CLOSING

_HEAD_END = b"\r\n\r\n"
_ACCEPTED_LINE = b"HTTP/1.1 202 Accepted\r\n"
# What uvicorn logs, with a traceback, of a client's fault
_NO_TEXT = "Invalid UTF-8 sequence received from client."

# What a peer sends wrongly is counted, not logged line by line, and a WebSocket's address may hold a credential; our
# own tracebacks still pass.
wire_log = logging.getLogger("hub.http.wire")


def _is_ours(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    stopped = kind is not None and issubclass(kind, asyncio.CancelledError)  # under way when the door closed
    theirs = record.msg == _NO_TEXT
    return record.levelno >= logging.ERROR and not stopped and not theirs


wire_log.addFilter(_is_ours)


class Wire:
    """Bounds and counters that the connections of one door share."""

    def __init__(self, publisher: Publisher, limits: Limits, proxies: Proxies | None = None) -> None:
        self.publisher = publisher
        self.proxies = Proxies() if proxies is None else proxies
        self.limits = limits
        self.open = 0
        self.addresses: Counter[str] = Counter()  # connections by address, the own host's left out
        self.refused = 0  # over a limit of connections
        self.malformed = 0  # not HTTP, or a head above its limit
        self.timeouts = 0  # request not complete in time
        self.direct = 0  # requests whose head was known
        self.burst = Burst(publisher)
        self.closing = asyncio.Event()
        self._dated: list[tuple[bytes, bytes]] | None = None
        self._accepted = b""

    def admit(self, address: str) -> bool:
        """Count a new connection; False where a limit is reached."""
        limits = self.limits
        if self.open >= limits.connections or self.addresses[address] >= limits.connections_per_address:
            self.refused += 1
            if not self.addresses[address]:
                del self.addresses[address]
            return False
        self.open += 1
        if address:
            self.addresses[address] += 1
        return True

    def turn_away(self) -> None:
        """A connection was refused before it was one: too many do their handshake."""
        self.refused += 1

    def leave(self, address: str) -> None:
        """A connection that was admitted is gone."""
        self.open -= 1
        if address:
            self.addresses[address] -= 1
            if not self.addresses[address]:
                del self.addresses[address]

    def accepted(self, headers: list[tuple[bytes, bytes]], seq: int) -> bytes:
        """The whole answer to the message `seq`; uvicorn makes a new list of `headers` each second."""
        if headers is not self._dated:
            self._dated = headers
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            self._accepted = _ACCEPTED_LINE + lines.replace(b"%", b"%%") + ACCEPTED
        return self._accepted % seq


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection, bounded in number, in the size of a head and in time, with the short way to publish."""

    wire: Wire  # set by protocol_of

    def __init__(self, *args: Any, shown: Shown | None = None, **kwargs: Any) -> None:
        """`shown` is what the client's certificate has come to; None without TLS, or where it has shown none."""
        super().__init__(*args, **kwargs)
        self.logger = wire_log
        self._shown = shown
        self._publisher = self.wire.publisher
        self._address = self._peer = ""
        self._behind_proxy = False
        self._counted = False
        self._head_bytes = 0
        self._mid_message = False  # the parser has seen the begin of a request and not its end
        self._begun = 0  # requests whose begin the parser has seen
        self._under_way = False  # a request that took the short way waits for its answer
        self._held = b""  # what came meanwhile
        self._moves = 0  # reads from this connection
        # What the last sweep saw arriving: a request, or after how many reads
        self._waiting_for: object = None
        self._waiting_since = 0.0
        self._leaving = False
        self._running: Any = None  # uvicorn's cycle of the request that is being answered, or was last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state: dict[str, object] = {DOOR_CLOSING: self.wire.closing}
        if self._shown is not None:
            self.app_state[CERTIFIED] = self._shown
        super().connection_made(transport)
        self._address = _address(self.client, self.wire.proxies)
        self._peer = self.client[0] if self.client else ""  # as policies ask for it, the own host's too
        self._behind_proxy = self.wire.proxies.trusts(self._peer)
        self._raw = transport
        self._writer = _OneWrite(transport)
        self.transport = cast(asyncio.Transport, self._writer)
        self._waiting_since = time.monotonic()
        self._counted = self.wire.admit(self._address)
        if not self._counted:
            transport.abort()

    def on_response_complete(self) -> None:
        self._writer.flush()  # the answer to HEAD has no body to leave with
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        running = self._running
        if self._is_answering:  # uvicorn tells only the last of the requests that stand in a row
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps all this for as long where a connection broke

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        """Whether a request that takes the usual way has not been answered whole."""
        return self._running is not None and not self._running.response_complete

    def data_received(self, data: bytes) -> None:
        self._moves += 1
        if self._shown is not None and self._shown.refusal:  # which is in the audit log already
            self._refuse(401, self._shown.refusal)
            return
        if self._under_way:
            self._held += data
            self._raw.pause_reading()
            return
        if self._mid_message or (self.cycle is not None and not self.cycle.response_complete):
            self._parse(data)
            return
        end = data.find(_HEAD_END) + len(_HEAD_END)
        head = data[:end]
        known = self._publisher.known_head(head)
        if known is not None and len(data) == end + known.length:
            self._publish(known, data[end:])
            return
        cycle, begun = self.cycle, self._begun
        self._parse(data)
        # Only the head of a request that came alone, and is being answered now, is surely the one in `head`.
        if known is None and self.cycle is not cycle and self._begun == begun + 1:
            self._learn(head)

    def _learn(self, head: bytes) -> None:
        scope = self.cycle.scope
        whole = head.endswith(_HEAD_END) and self.cycle.keep_alive
        path = below_prefix(scope["path"])
        if whole and Publisher.wants(scope["method"], path):
            caller = self.wire.proxies.way(scope["headers"])
            if caller is not None:
                self._publisher.learn(head, path, scope["headers"], caller)

    def _publish(self, head: Head, payload: bytes) -> None:
        """The short way: one message, from a head that is known."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()  # of an answer that took the usual way; here the sweep sees to it
        self._under_way = True
        self.wire.direct += 1
        source_ip = head.caller if head.caller and self._behind_proxy else self._peer
        self.wire.burst.add(self, head, payload, source_ip)

    def stored(self, seq: int) -> None:
        """The message that took the short way is durable: answer, then go on with what came meanwhile."""
        self._under_way = False
        if self._raw.is_closing():
            return  # the client has left; its message is kept all the same
        self._publisher.counts[202] += 1
        self._raw.write(self.wire.accepted(self.server_state.default_headers, seq))
        if self._leaving or self._held:
            self._go_on()

    def failed(self, error: Exception) -> None:
        """The message that took the short way is refused, or not stored."""
        self._under_way = False
        if self._raw.is_closing():
            return
        refusal = self._publisher.refusal(error)
        self._raw.write(_problem(refusal.status, refusal.detail, dict(refusal.headers or {})))
        if self._leaving or self._held:
            self._go_on()

    def _go_on(self) -> None:
        if self._leaving:
            self._raw.close()
            return
        held, self._held = self._held, b""
        if not self.flow.write_paused:
            self._raw.resume_reading()
        self.data_received(held)

    def _parse(self, data: bytes) -> None:
        cycle = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_complete:
            # A head is arriving; or, after an early answer, the rest of a body that nobody reads.
            head_bytes = self.wire.limits.head_bytes
            limit = head_bytes if cycle is None or not cycle.more_body else MAX_BODY * DRAIN
            if self._head_bytes > limit:
                self.wire.malformed += 1
                self._refuse(431, f"the request line and headers are longer than {head_bytes} bytes")
                return
            self._head_bytes += len(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._head_bytes = 0

    def on_message_begin(self) -> None:
        self._mid_message = True
        self._begun += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._mid_message = False
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self._is_answering:  # an answer to an earlier request would be written between frames
            self.wire.malformed += 1
            self._raw.abort()
            return
        self._leave()  # the WebSocket counts itself
        self.transport = self._raw
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self.wire.malformed += 1
        self._refuse(400, "this is not an HTTP/1.1 request")

    def shutdown(self) -> None:
        if self._under_way:
            self._leaving = True
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._raw.pause_reading()  # who does not read its answers sends no further requests

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.flow.read_paused:
            self._raw.resume_reading()

    def overdue(self, now: float) -> bool:
        """Whether the request now arriving takes longer than it may, or none has come for too long.

        Called about once a second with monotonic seconds.
        """
        cycle = self.cycle
        answering = self._under_way or (
            cycle is not None and not cycle.more_body and not cycle.response_complete
        )
        arriving = self._mid_message or not self._moves
        waiting_for: object = cycle if arriving else self._moves
        if answering or waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            self._waiting_since = now
            return False
        limits = self.wire.limits
        return now - self._waiting_since > (limits.request_s if arriving else limits.idle_s)

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self.wire.leave(self._address)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without an app and close: what follows on this connection cannot be trusted."""
        if self.transport.is_closing():
            return
        self.transport.write(_problem(status, detail, {"connection": "close"}))
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket connection, counted like any other."""

    wire: Wire

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = wire_log
        self.conn.logger = wire_log
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._address = _address(self.client, self.wire.proxies)
        if not self.wire.admit(self._address):
            self._address = "?"
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address != "?":
            self.wire.leave(self._address)
            self._address = "?"
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception as error:  # the reading of a bad handshake lets out more than it means to
            self.wire.malformed += 1
            wire_log.debug("a WebSocket that is none: %r", error)
            self.transport.abort()
        else:
            # The request came whole: what is no handshake now will never be one, and nobody else closes it.
            if not self.handshake_initiated and not self.transport.is_closing():
                self.wire.malformed += 1
                detail = "this is not a WebSocket handshake"
                self.transport.write(_problem(400, detail, {"connection": "close"}))
                self.transport.close()

    def handle_parser_exception(self) -> None:
        """Frames that break the protocol, or a text that is none: uvicorn closes with the code that says so."""
        self.wire.malformed += 1
        super().handle_parser_exception()

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn, which takes an upgrade that was refused for one that was forgotten, and logs an error."""
        if self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True


class _OneWrite:
    """A transport for uvicorn's answers: the head waits for the first piece of the body and leaves with it.

    uvicorn writes them apart, each a system call and a packet; under load that is a third of what an answer costs.
    An interim answer (100 Continue) looks like a head and must not wait.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
        elif (
            data.endswith(_HEAD_END) and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1")
        ):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()


def protocol_of(wire: Wire) -> type[BoundedProtocol]:
    """The connection class of one door: uvicorn makes them, so the shared state rides on the class."""
    return type("DoorProtocol", (BoundedProtocol,), {"wire": wire})


def websocket_of(wire: Wire) -> type[BoundedWebSocket]:
    """As `protocol_of`, of WebSockets."""
    return type("DoorWebSocket", (BoundedWebSocket,), {"wire": wire})


def _address(client: tuple[str, int] | None, proxies: Proxies) -> str:
    """The peer's address as connections are counted by it; "" for the own host and proxies: they carry everybody's."""
    address = parse_address(client[0]) if client else None
    return "" if address is None or address.is_loopback or proxies.trusts(str(address)) else str(address)


def _problem(status: int, detail: str, headers: dict[str, str]) -> bytes:
    """A whole answer that no app has a part in."""
    body = problem_body(status, detail)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
        f"content-length: {len(body)}\r\n{lines}\r\n"
    )
    return head.encode() + body

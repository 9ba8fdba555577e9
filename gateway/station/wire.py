"""One connection of the Station listener: uvicorn's parsers, with the bounds they leave open.

A request without a WebSocket has its time and then the connection ends. The certificate that a client has shown
rides in the state of the scope.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

CERTIFICATE = "certificate"  # in the state of a scope: what `getpeercert` says, None without one
MAX_CONNECTIONS = 128  # each gateway needs one, and a second while it connects anew
REQUEST_S = 20.0  # for a request and its answer

# What a peer sends wrongly is counted, not logged line by line; our own tracebacks still pass.
wire_log = logging.getLogger("gateway.station.wire")


def _is_ours(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    stopped = kind is not None and issubclass(kind, asyncio.CancelledError)  # when the door closed
    return record.levelno >= logging.ERROR and not stopped


wire_log.addFilter(_is_ours)


class Wire:
    """What the connections of one listener share."""

    def __init__(self) -> None:
        self.open = 0
        self.refused = 0  # one too many
        self.malformed = 0  # neither HTTP nor a WebSocket
        self.timeouts = 0


class StationHttp(H11Protocol):
    """A connection until it becomes a WebSocket, or has asked the CUPS."""

    wire: Wire  # set by protocols_of

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = wire_log
        self.access_log = False
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {CERTIFICATE: transport.get_extra_info("peercert")}
        if self.wire.open >= MAX_CONNECTIONS:
            self.wire.refused += 1
            transport.abort()
            return
        self.wire.open += 1
        self._overdue = self.loop.call_later(REQUEST_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._leave()  # the WebSocket counts itself
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        self.wire.malformed += 1
        super().send_400_response(msg)

    def _give_up(self) -> None:
        self.wire.timeouts += 1
        self.transport.abort()

    def _leave(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
            self.wire.open -= 1


class StationSocket(WebSocketsSansIOProtocol):
    """A WebSocket connection."""

    wire: Wire

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = wire_log
        self.conn.logger = wire_log
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._counted = True
        self.wire.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.wire.open -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception as error:  # the reading of a bad handshake lets out more than it means to
            wire_log.debug("a WebSocket that is none: %r", error)
            self.wire.malformed += 1
            self.transport.abort()
        else:
            # The request came whole: what is no handshake now will never be one, and nobody else closes it.
            if not self.handshake_initiated and not self.transport.is_closing():
                self.wire.malformed += 1
                self.transport.close()


def protocols_of(wire: Wire) -> tuple[type[StationHttp], type[StationSocket]]:
    """The connection classes of one listener: uvicorn makes them, so the shared state rides on the class."""
    http = type("ListenerHttp", (StationHttp,), {"wire": wire})
    return http, type("ListenerSocket", (StationSocket,), {"wire": wire})

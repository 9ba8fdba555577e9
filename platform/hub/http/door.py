"""The HTTP listener: uvicorn inside the running loop, with the bounds that uvicorn leaves open.

uvicorn parses and frames; this module owns the socket, limits connections, header sizes and the time a request may
take to arrive, and stops without waiting for clients that never leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket
import ssl as tls
import time
from collections.abc import Generator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.http.app import HttpApp, create_app
from hub.http.body import DRAIN, MAX_BODY
from hub.http.problem import PROBLEM_JSON, problem_body
from hub.http.sse import DOOR_CLOSING
from hub.hub import Hub

MAX_CONNECTIONS = 1024  # about 20 KB each; a gateway serves one site
MAX_HEAD = 32 * 1024  # bytes of request line and headers; uvicorn's httptools parser itself knows no bound
REQUEST_S = 20.0  # for a request to arrive whole: 256 KiB at 13 KB/s
IDLE_S = 30  # keep-alive between requests; a node that reports every 10 s keeps its connection
STOP_S = 2  # for requests under way when the door closes
# A peer that is gone, or that never reads, is dropped by the kernel after this long.
DEAD_PEER_MS = 60_000
BACKLOG = 1024


class HttpDoor:
    """One listener of `app` (the hub's own where none is given); several may share one app.

    `port` is the real one after `start`, also where 0 was asked for.
    """

    def __init__(
        self,
        hub: Hub,
        app: HttpApp | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        request_s: float = REQUEST_S,
    ) -> None:
        self._app = app or create_app(hub)
        self._host = host
        self._ssl = ssl
        self._request_s = request_s
        self.port = port
        self.wire = Wire(max_connections)
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Raises OSError where the address is taken or not ours."""
        listener = _listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=_protocol(self.wire),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the client's address is used to slow down guessing; never take it from a header
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
        config.load()
        config.ssl = self._ssl
        server = self._server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]), name=f"http door {self.port}")
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if serving.done():
            await serving
        self._app.add_counters(self.counters)
        self._tasks = [serving, asyncio.create_task(self._sweep(server), name=f"http sweep {self.port}")]

    async def close(self) -> None:
        """Stop listening, end streams, give requests under way two seconds."""
        if self._server is None:
            return
        self.wire.closing.set()
        self._server.should_exit = True
        serving, sweep = self._tasks
        sweep.cancel()
        await asyncio.gather(serving, sweep, return_exceptions=True)
        self._server = None

    def counters(self) -> dict[str, float]:
        """This listener's numbers for `/metrics`, told apart from other listeners' by port."""
        numbers = {
            "connections": self.wire.open,
            "connections_refused_total": self.wire.refused,
            "malformed_total": self.wire.malformed,
            "timeouts_total": self.wire.timeouts,
        }
        return {f'fluxgate_http_{name}{{port="{self.port}"}}': value for name, value in numbers.items()}

    async def failed(self) -> None:
        """Return only when the listener has stopped by itself; raises what stopped it."""
        await asyncio.shield(self._tasks[0])

    async def _sweep(self, server: uvicorn.Server) -> None:
        """Close connections whose request takes longer than allowed to arrive (slow-loris)."""
        while True:
            await asyncio.sleep(min(1.0, self._request_s / 4))
            now = time.monotonic()
            for connection in list(server.server_state.connections):
                if isinstance(connection, BoundedProtocol) and connection.overdue(now, self._request_s):
                    self.wire.timeouts += 1
                    connection.transport.abort()


class Wire:
    """Bounds and counters that the connections of one door share."""

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self.open = 0
        self.refused = 0  # over max_connections
        self.malformed = 0  # not HTTP, or a head above MAX_HEAD
        self.timeouts = 0  # request not complete in time
        self.closing = asyncio.Event()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection, with a bound on the number of them, on the head's size and on its time."""

    wire: Wire  # set by _protocol

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _wire_log
        self.app_state = {DOOR_CLOSING: self.wire.closing}
        self._counted = False
        self._head_bytes = 0
        self._waiting_for: object = None  # the request that was arriving at the last sweep
        self._waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.wire.open >= self.wire.max_connections:
            self.wire.refused += 1
            transport.abort()
            return
        self._counted = True
        self.wire.open += 1
        self._waiting_since = time.monotonic()

        self._writer = _OneWrite(transport)
        self.transport = cast(asyncio.Transport, self._writer)

    def on_response_complete(self) -> None:
        self._writer.flush()  # the answer to HEAD has no body to leave with
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.wire.open -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_complete:
            # A head is arriving; or, after an early answer, the rest of a body that nobody reads.
            limit = MAX_HEAD if cycle is None or not cycle.more_body else MAX_BODY * DRAIN
            if self._head_bytes > limit:
                self.wire.malformed += 1
                self._refuse(431, f"the request line and headers are longer than {MAX_HEAD} bytes")
                return
            self._head_bytes += len(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._head_bytes = 0

    def send_400_response(self, msg: str) -> None:
        self.wire.malformed += 1
        self._refuse(400, "this is not an HTTP/1.1 request")

    def overdue(self, now: float, allowed_s: float) -> bool:
        """Whether the request now arriving has been doing so for longer than `allowed_s`.

        Called about once a second; an idle keep-alive connection waits for nothing and is uvicorn's to close.
        """
        cycle = self.cycle
        answering = cycle is not None and not cycle.more_body and not cycle.response_complete
        idle = self.timeout_keep_alive_task is not None
        if answering or idle or cycle is not self._waiting_for:
            self._waiting_for = cycle
            self._waiting_since = now
            return False
        return now - self._waiting_since > allowed_s

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without an app and close: what follows on this connection cannot be trusted."""
        if self.transport.is_closing():
            return
        body = problem_body(status, detail)
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


class _OneWrite:
    """A transport that sends an answer's head together with its first body bytes.

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
            data.endswith(b"\r\n\r\n")
            and data.startswith(b"HTTP/1.1 ")
            and not data.startswith(b"HTTP/1.1 1")
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


class _Server(uvicorn.Server):
    """uvicorn's server as a guest of a running loop: signals belong to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _protocol(wire: Wire) -> type[BoundedProtocol]:
    """The connection class of one door: uvicorn makes them, so the shared state rides on the class."""
    return type("DoorProtocol", (BoundedProtocol,), {"wire": wire})


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    # Accepted sockets inherit both: a vanished peer, or one that never reads its stream, is dropped in time.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    listener.setblocking(False)
    return listener


# What a peer sends wrongly is counted, not logged line by line; our own tracebacks still pass.
_wire_log = logging.getLogger("hub.http.wire")
_wire_log.addFilter(lambda record: record.levelno >= logging.ERROR)

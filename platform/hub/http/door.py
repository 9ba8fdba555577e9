"""The HTTP listener: uvicorn inside the running loop, with the bounds that uvicorn leaves open.

uvicorn parses and frames; this module owns the socket, watches over time (`hub.http.connection` over size and number)
and stops without waiting for clients that never leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl as tls
import time
from collections.abc import Generator
from typing import Any, cast

import uvicorn

from hub.authority.doorkeeper import entrance_of
from hub.authority.entrance import HANDSHAKE_S, Entrance
from hub.http.app import HttpApp, create_app
from hub.http.connection import BoundedProtocol, Wire, protocol_of, websocket_of
from hub.http.limits import Limits
from hub.hub import Hub

STOP_S = 2  # for requests under way when the door closes
PING_S = 20.0  # between pings to a WebSocket, and for their answer
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
        limits: Limits | None = None,
    ) -> None:
        self._hub = hub
        self._app = app or create_app(hub)
        self._host = host
        self._ssl = ssl
        self._limits = limits or Limits()
        self.port = port
        self.wire = Wire(self._app.publisher, self._limits, self._app.proxies)
        self._entrance: Entrance | None = None
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Raises OSError where the address is taken or not ours."""
        listener = _listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=protocol_of(self.wire),
            ws=websocket_of(self.wire),
            ws_max_size=self._limits.frame_bytes,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # messages are small, and each connection would keep 64 KiB for it
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # hub.http.proxies says whose headers name a client
            timeout_keep_alive=math.ceil(self._limits.idle_s),
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
        config.load()
        if self._ssl is not None:
            self._entrance = entrance_of(
                *(self._hub, self._ssl, "http"),
                handshake_s=min(HANDSHAKE_S, self._limits.request_s),
                turned_away=self.wire.turn_away,
            )
        server = self._server = _Server(config)
        # Over TLS uvicorn has no socket: connections come to it when their handshake is done.
        sockets = [] if self._entrance is not None else [listener]
        serving = asyncio.create_task(server.serve(sockets), name=f"http door {self.port}")
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if serving.done():
            await serving
        if self._entrance is not None:
            make = cast(Any, config.http_protocol_class)
            self._entrance.listen(
                listener,
                lambda shown: make(
                    config=config,
                    server_state=server.server_state,
                    app_state=server.lifespan.state,
                    shown=shown,
                ),
            )
        self._app.add_counters(self.counters)
        self._tasks = [serving, asyncio.create_task(self._sweep(server), name=f"http sweep {self.port}")]

    async def close(self) -> None:
        """Stop listening, end streams, give requests under way two seconds."""
        if self._server is None:
            return
        self.wire.closing.set()
        if self._entrance is not None:
            await self._entrance.close()
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
            "known_heads_total": self.wire.direct,
        }
        return {f'fluxgate_http_{name}{{port="{self.port}"}}': value for name, value in numbers.items()}

    async def failed(self) -> None:
        """Return only when the listener has stopped by itself; raises what stopped it."""
        await asyncio.shield(self._tasks[0])

    async def _sweep(self, server: uvicorn.Server) -> None:
        """Close connections whose request takes longer than allowed to arrive (slow-loris), and idle ones."""
        while True:
            await asyncio.sleep(min(1.0, self._limits.request_s / 4, self._limits.idle_s / 4))
            now = time.monotonic()
            for connection in list(server.server_state.connections):
                if isinstance(connection, BoundedProtocol) and connection.overdue(now):
                    self.wire.timeouts += 1
                    connection.transport.abort()


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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    # Accepted sockets inherit both: a vanished peer, or one that never reads its stream, is dropped in time.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    listener.setblocking(False)
    return listener

"""The listener for concentrators: /router-info and one WebSocket each for the LNS, /update-info for the CUPS.

Nothing is kept for who has not shown a token or certificate: that is looked at before a WebSocket is accepted. On
loopback the listener may do without TLS, for a Basics Station on this machine; it then takes a listed gateway at its
word, as the GWMP link does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl as tls
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from gateway.lorawan.clock import Instant
from gateway.lorawan.server import Downlink
from gateway.station import cups as cups_protocol
from gateway.station.cups import Cups
from gateway.station.lns import Lns, Session
from gateway.station.registry import KnownGateway, Registry
from gateway.station.wire import CERTIFICATE, Wire, protocols_of
from hub.rates import Rates
from radio.station import codec
from radio.station.errors import StationError
from radio.station.messages import MAX_MESSAGE, DiscoveryAnswer

log = logging.getLogger(__name__)

DISCOVERY_PATH = "/router-info"
GATEWAY_PATH = "/gateway/"  # and the EUI
DISCOVERY_S = 10.0
HANDSHAKE_S = 10.0
PING_S = 20.0  # between pings, and for their answer
MESSAGES_A_SECOND = 500.0  # of one gateway; a concentrator hears 219 frames a second at most
BURST = 2000
MAX_OUTBOX = 64  # messages that wait for a gateway to read
STOP_S = 2.0
EXPIRE_INTERVAL_S = 1.0
LOG_INTERVAL_S = 60.0  # at most one line about refused connections in this time
NOT_ALLOWED = 1008  # WebSocket close code of a policy

_MUXS = re.compile(r"/gateway/([0-9a-f]{16})")


class StationDoor:
    """One listener. `transmit` and `reaches` are the LNS's, for `gateway.links`."""

    def __init__(
        self,
        lns: Lns,
        registry: Registry,
        cups: Cups,
        clock: Callable[[], Instant],
        *,
        host: str,
        port: int,
        ssl: tls.SSLContext | None,
        uri: str = "",
    ) -> None:
        """`uri` is where gateways find this listener (wss://host:port); where empty, where they have asked."""
        self.lns = lns
        self.port = port
        self.counters = {
            "refused_credentials": 0,
            "refused_identities": 0,
            "discoveries": 0,
            "cups_requests": 0,
            "cups_updates": 0,
            "too_fast": 0,
            "too_slow": 0,
        }
        self._registry = registry
        self._cups = cups
        self._clock = clock
        self._host = host
        self._ssl = ssl
        self._uri = uri.rstrip("/")
        self._wire = Wire()
        self._rates = Rates(MESSAGES_A_SECOND, BURST)
        self._server: asyncio.Server | None = None
        self._state = ServerState()
        self._logged_s = -LOG_INTERVAL_S

    async def start(self) -> None:
        """Listen; `port` is the real one afterwards. Raises OSError where the address is taken."""
        http, socket = protocols_of(self._wire)
        config = uvicorn.Config(
            self._app,
            http=http,
            ws=socket,
            ws_max_size=MAX_MESSAGE,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        config.load()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: http(config, self._state, {}),
            self._host,
            self.port,
            ssl=self._ssl,
            ssl_handshake_timeout=HANDSHAKE_S if self._ssl else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and say good-bye to the gateways."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def expire(self) -> None:
        """Give up, as time goes by, on downlinks that nobody reports; runs until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            self.lns.expire(self._clock().mono_ns)

    def reaches(self, eui: bytes) -> bool:
        """Whether this gateway is connected here."""
        return self.lns.reaches(eui)

    def reachable(self) -> list[bytes]:
        """Every gateway that is connected here."""
        return list(self.lns.sessions)

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """Order a downlink from the gateway `eui`."""
        self.lns.transmit(downlink, eui, self._clock())

    def status(self) -> list[dict[str, Any]]:
        """The connected gateways."""
        return self.lns.status(self._clock().mono_ns)

    def metrics(self) -> dict[str, float]:
        """Counters for /metrics."""
        own: dict[str, float] = {
            f"fluxgate_station_{name}_total": n for name, n in (self.lns.counters | self.counters).items()
        }
        return own | {
            "fluxgate_station_gateways": len(self.lns.sessions),
            "fluxgate_station_open_connections": self._wire.open,
            "fluxgate_station_refused_connections_total": self._wire.refused,
            "fluxgate_station_malformed_requests_total": self._wire.malformed,
            "fluxgate_station_timeouts_total": self._wire.timeouts,
        }

    # ASGI

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["type"] == "http":
            await self._http(scope, path, receive, send)
            return
        with contextlib.suppress(OSError):  # uvicorn's word for a client that has left
            muxs = _MUXS.fullmatch(path)
            if path != DISCOVERY_PATH and muxs is None:
                await _refuse_socket(
                    send, 404, "nothing is served here; tc.uri is wss://<host>:<port> without a path"
                )
                return
            gateway = self._who(scope)
            if gateway is None and not self._open_to_local:
                self._refused(scope)
                await _refuse_socket(send, 401, "a token or a client certificate is needed")
                return
            if muxs is None:
                await self._discovery(scope, gateway, receive, send)
                return
            eui = bytes.fromhex(muxs[1])
            gateway = gateway or self._registry.get(eui)
            if gateway is None or gateway.eui != eui:
                self.counters["refused_identities"] += 1
                await _refuse_socket(send, 403, "the credentials are those of another gateway")
                return
            await self._session(scope, gateway, receive, send)

    @property
    def _open_to_local(self) -> bool:
        """Without TLS, which is for loopback only, a gateway is taken at its word."""
        return self._ssl is None

    def _who(self, scope: Scope) -> KnownGateway | None:
        """The gateway whose token or certificate was shown; a token that is shown is the one that counts."""
        for name, value in scope["headers"]:
            if name == b"authorization":
                return self._registry.of_token(value.decode("latin-1"))
        return self._registry.of_certificate(scope["state"].get(CERTIFICATE))

    def _refused(self, scope: Scope) -> None:
        self.counters["refused_credentials"] += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning(
                "a concentrator at %s shows no credentials that are listed in [[station.gateway]] "
                "(%d refused since the start)",
                _address(scope),
                self.counters["refused_credentials"],
            )

    # LNS

    async def _discovery(
        self, scope: Scope, gateway: KnownGateway | None, receive: Receive, send: Send
    ) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            async with asyncio.timeout(DISCOVERY_S):
                message = await receive()
        except TimeoutError:
            await send({"type": "websocket.close", "code": NOT_ALLOWED, "reason": "nothing was asked"})
            return
        if message["type"] != "websocket.receive":
            return
        try:
            router = codec.decode_discovery(message.get("text") or message.get("bytes") or b"").router
        except StationError as error:
            self.lns.counters["malformed"] += 1
            await send({"type": "websocket.close", "code": NOT_ALLOWED, "reason": str(error)[:100]})
            return
        self.counters["discoveries"] += 1
        known = gateway or self._registry.get(router)
        if known is None or known.eui != router:
            self.counters["refused_identities"] += 1
            words = f"the credentials are not those of gateway {router.hex()}; see [[station.gateway]]"
            answer = DiscoveryAnswer(router, b"", error=words)
        else:
            base = self._uri or _asked_for(scope, self.port)
            answer = DiscoveryAnswer(router, bytes(8), f"{base}{GATEWAY_PATH}{router.hex()}")
        await send({"type": "websocket.send", "text": codec.encode_discovery_answer(answer)})
        await send({"type": "websocket.close", "code": 1000})

    async def _session(self, scope: Scope, gateway: KnownGateway, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        outbox: asyncio.Queue[str] = asyncio.Queue(MAX_OUTBOX)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def end(why: str) -> None:
            if not ended.done():
                ended.set_result(why)

        def deliver(text: str) -> None:
            try:
                outbox.put_nowait(text)
            except asyncio.QueueFull:
                self.counters["too_slow"] += 1
                end("the gateway does not read what it is sent")

        session = self.lns.connect(gateway, deliver, end, _address(scope), self._clock())
        log.info("gateway %s is connected from %s", gateway.eui.hex(), session.address)
        tasks = [
            asyncio.create_task(self._read(session, receive, end), name=f"from gateway {gateway.eui.hex()}"),
            asyncio.create_task(_write(outbox, send), name=f"to gateway {gateway.eui.hex()}"),
        ]
        try:
            waited_for: set[asyncio.Future[Any]] = {*tasks, ended}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.warning("gateway %s is disconnected: %s", gateway.eui.hex(), ended.result())
                await send({"type": "websocket.close", "code": NOT_ALLOWED, "reason": ended.result()})
            else:
                log.info("gateway %s has left", gateway.eui.hex())
        finally:
            self.lns.disconnect(session)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                    raise outcome

    async def _read(self, session: Session, receive: Receive, end: Callable[[str], None]) -> None:
        name = session.gateway.eui.hex()
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            now = self._clock()
            if self._rates.wait_s(name, now.mono_ns / 1e9):
                self.counters["too_fast"] += 1
                end(f"more than {MESSAGES_A_SECOND:g} messages a second")
                return
            self.lns.message(session, message.get("text") or message.get("bytes") or b"", now)

    # CUPS

    async def _http(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        if path != cups_protocol.PATH:
            await _answer(
                send, 404, b"nothing is served here; cups.uri is https://<host>:<port> without a path"
            )
        elif scope["method"] != "POST":
            await _answer(send, 405, b"POST is what this takes")
        else:
            await self._update_info(scope, receive, send)

    async def _update_info(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.counters["cups_requests"] += 1
        gateway = self._who(scope)
        if gateway is None and not self._open_to_local:
            self._refused(scope)
            await _answer(send, 401, b"a token or a client certificate is needed")
            return
        body = await _body(receive, cups_protocol.MAX_REQUEST)
        if body is None:
            await _answer(send, 413, b"the request is too long")
            return
        try:
            request = cups_protocol.decode_request(body)
        except StationError as error:
            await _answer(send, 400, f"not understood: {error}".encode())
            return
        gateway = gateway or self._registry.get(request.router)
        if gateway is None or gateway.eui != request.router:
            self.counters["refused_identities"] += 1
            await _answer(send, 403, b"the credentials are those of another gateway")
            return
        answer = self._cups.answer(request, gateway)
        if answer.changes:
            self.counters["cups_updates"] += 1
            log.info("gateway %s is told: %s", gateway.eui.hex(), ", ".join(answer.changes))
        await _answer(send, 200, answer.encode(), b"application/octet-stream")


async def _write(outbox: asyncio.Queue[str], send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": await outbox.get()})


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The body of a request; None where it is longer than `limit`, or the client has left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > limit:
            return None
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8") -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse_socket(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": words.encode()})


def _asked_for(scope: Scope, port: int) -> str:
    """Where the client has found us. Basics Station wants a port in every address."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not re.fullmatch(r"[\w.:\[\]-]{1,255}", host):
        host = "localhost"
    return f"{scope['scheme']}://{host if re.search(r':[0-9]+$', host) else f'{host}:{port}'}"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "somewhere"

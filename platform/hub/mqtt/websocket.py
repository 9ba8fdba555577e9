"""MQTT over WebSocket (MQTT 5.0 and 3.1.1, 6): the transport of a `Connection` that a browser can open.

An ASGI application stands where the listening socket stands otherwise. Binary frames carry the byte stream in
both directions, cut wherever it suits the sender. What the client does not read is bounded as on TCP: the
connection is told to pause. One task reads and one writes, however many packets pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from hub.http.auth import certified_thing
from hub.mqtt.connection import Connection
from hub.mqtt.door import MqttDoor

SUBPROTOCOL = "mqtt"  # 6: offered by the client, chosen by the server
FRAME_BYTES = 64 << 10  # a frame to the client: small enough for a gateway in between to pass on at once
HIGH_BYTES = 64 << 10  # buffered before the connection is told to pause, until it says how much it wants

NORMAL, UNSUPPORTED_DATA = 1000, 1003  # close codes (RFC 6455, 7.4.1)

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
Application: TypeAlias = Callable[[Event, Receive, Send], Awaitable[None]]


def asgi_app(door: MqttDoor) -> Application:
    """An application for WebSocket upgrades, to be mounted at /mqtt; its connections are the door's."""

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if SUBPROTOCOL not in scope["subprotocols"]:
            await _refuse(scope, send)
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        # A browser shows its certificate on any page's behalf, so for another site's page there is none.
        connection = Connection(door, "", certified_thing(scope))
        await WebSocketTransport(scope, receive, send, connection).serve()

    return application


async def _refuse(scope: Event, send: Send) -> None:
    """6.0.0-3: a client that does not offer the subprotocol is told so instead of upgraded."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": 400, "headers": headers})
    body = b"MQTT over WebSocket: offer the subprotocol mqtt\n"
    await send({"type": "websocket.http.response.body", "body": body})


class WebSocketTransport(asyncio.Transport):
    """What a `Connection` takes for its socket. `serve` runs until either side has closed."""

    def __init__(self, scope: Event, receive: Receive, send: Send, connection: Connection) -> None:
        peer = scope.get("client") or ("?", 0)
        super().__init__({"peername": tuple(peer)})
        self._receive = receive
        self._send = send
        self._connection = connection
        self._readable = asyncio.Event()
        self._readable.set()
        self._writable = asyncio.Event()  # there is something to write, or to close
        self._out = bytearray()
        self._high, self._low = HIGH_BYTES, HIGH_BYTES // 4
        self._told_to_pause = False
        self._closing = False
        self._aborted = False
        self._code = NORMAL  # sent when the server closes
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """From the handshake to the end; the connection hears of both."""
        self._connection.connection_made(self)
        try:
            if not self._aborted:
                self._tasks = [
                    asyncio.create_task(self._read(), name="mqtt websocket read"),
                    asyncio.create_task(self._write(), name="mqtt websocket write"),
                ]
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in self._tasks:
                task.cancel()
            results = await asyncio.gather(*self._tasks, return_exceptions=True)
            self._connection.connection_lost(None)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    async def _read(self) -> None:
        """Returns when the client is gone. What is no binary frame closes (6.0.0-1)."""
        while True:
            await self._readable.wait()
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return
            data = event.get("bytes")
            if self._closing:
                continue  # until the writer has said so
            if data is None:
                self._code = UNSUPPORTED_DATA
                self._out.clear()
                self.close()
            else:
                self._connection.data_received(data)

    async def _write(self) -> None:
        """Returns when the server has closed and everything before that has been sent."""
        while True:
            await self._writable.wait()
            while self._out:
                frame = bytes(self._out[:FRAME_BYTES])
                await self._send({"type": "websocket.send", "bytes": frame})
                del self._out[: len(frame)]
                if self._told_to_pause and len(self._out) <= self._low:
                    self._told_to_pause = False
                    self._connection.resume_writing()
            if self._closing:
                await self._send({"type": "websocket.close", "code": self._code})
                return
            self._writable.clear()

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._out += data
        self._writable.set()
        if not self._told_to_pause and len(self._out) > self._high:
            self._told_to_pause = True
            self._connection.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Close behind what is buffered."""
        self._closing = True
        self._writable.set()

    def abort(self) -> None:
        """Close at once."""
        self._closing = self._aborted = True
        self._out.clear()
        for task in self._tasks:
            task.cancel()

"""As much of MQTT as a load needs, written from the specification: 3.1.1 and 5.0, sections as in 5.0."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK = 0x20, 0x40, 0x50, 0x62, 0x70, 0x90
DISCONNECT = b"\xe0\x00"  # normal: the will is dropped (3.14)
REFUSED = 0x80  # reason codes from here on (2.4)
Handler = Callable[[int, bytes], None]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    """Fixed header and body (2.1)."""
    size = len(body)
    length = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes((first,)) + length + body


def connect(
    client_id: str,
    user: str,
    key: str,
    *,
    clean: bool = True,
    version: int = 4,
    will: tuple[str, bytes] | None = None,
) -> bytes:
    """3.1; a kept session of version 5 asks for an hour of expiry."""
    flags = 0xC0 | (2 if clean else 0) | (0x0C if will else 0)  # a will has QoS 1
    properties = (b"\x00" if clean else b"\x05\x11\x00\x00\x0e\x10") if version == 5 else b""
    body = text("MQTT") + bytes((version, flags)) + (60).to_bytes(2, "big") + properties + text(client_id)
    if will:
        body += (b"\x00" if version == 5 else b"") + text(will[0]) + text(will[1])
    return packet(0x10, body + text(user) + text(key))


def publish(
    topic: str,
    payload: bytes,
    qos: int,
    packet_id: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
    version: int = 4,
) -> bytes:
    """3.3."""
    first = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + (b"\x00" if version == 5 else b"")
    return packet(first, body + payload)


def answer(first: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7)."""
    return bytes((first, 2)) + packet_id.to_bytes(2, "big")


def subscribe(packet_id: int, topic_filter: str, qos: int, *, version: int = 4) -> bytes:
    """3.8."""
    properties = b"\x00" if version == 5 else b""
    return packet(0x82, packet_id.to_bytes(2, "big") + properties + text(topic_filter) + bytes((qos,)))


def packet_id_of(body: bytes) -> int:
    return int.from_bytes(body[:2], "big")


def reason_of(body: bytes) -> int:
    """The reason code of a PUBACK or PUBREC; 0 where it is left out, as in 3.1.1."""
    return body[2] if len(body) > 2 else 0


class Published(NamedTuple):
    """A PUBLISH that came in."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    dup: bool
    retain: bool


def read_publish(first: int, body: bytes, version: int) -> Published:
    size = int.from_bytes(body[:2], "big")
    topic, at = body[2 : 2 + size].decode(), 2 + size
    qos = first >> 1 & 3
    packet_id = 0
    if qos:
        packet_id, at = packet_id_of(body[at : at + 2]), at + 2
    if version == 5:
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += length
    return Published(topic, body[at:], qos, packet_id, bool(first & 8), bool(first & 1))


class Link(asyncio.Protocol):
    """One connection; `handler` gets each packet as first byte and body, `lost` is set at its end."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._buffer = b""

    @classmethod
    async def open(cls, port: int, handler: Handler) -> Link:
        """Connect to loopback. Raises OSError."""
        _, link = await asyncio.get_running_loop().create_connection(lambda: cls(handler), "127.0.0.1", port)
        return link

    def send(self, wire: bytes) -> None:
        self.transport.write(wire)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while len(data) - at >= 2:
            size = shift = 0
            start = at + 1
            while start < len(data):
                byte = data[start]
                size |= (byte & 0x7F) << shift
                shift += 7
                start += 1
                if byte < 0x80:
                    break
            else:
                break
            if len(data) < start + size:
                break
            self.handler(data[at], data[start : start + size])
            at = start + size
        self._buffer = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def close(self) -> None:
        self.transport.abort()

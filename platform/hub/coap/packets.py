"""The CoAP message format (RFC 7252, 3): bytes to `Packet` and back, and the numbers the door speaks.

Pure, and the first to touch what a stranger sent: options are checked for structure here and nowhere else.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

CON, NON, ACK, RST = range(4)


class Code(enum.IntEnum):
    """Codes as on the wire: class << 5 | detail (RFC 7252, 12.1; RFC 7959, 2.9; RFC 8132; RFC 8516)."""

    EMPTY = 0
    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4
    FETCH = 5
    PATCH = 6
    IPATCH = 7
    VALID = 0x43
    CHANGED = 0x44
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    INCOMPLETE = 0x88
    TOO_LARGE = 0x8D
    UNSUPPORTED_FORMAT = 0x8F
    TOO_MANY_REQUESTS = 0x9D
    INTERNAL = 0xA0
    UNAVAILABLE = 0xA3
    NO_PROXY = 0xA5


class Opt(enum.IntEnum):
    """Option numbers (RFC 7252, 12.2; RFC 7641; RFC 7959; RFC 8613; RFC 9175). Odd ones are critical."""

    URI_HOST = 3
    ETAG = 4
    OBSERVE = 6
    URI_PORT = 7
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    REQUEST_TAG = 292


MAX_OPTIONS = 64  # of one message: a subtopic has at most 32 elements; bounds the work for one datagram

PAYLOAD_MARKER = 0xFF
# Integers are converted once and not looked up in an enumeration: this runs for every datagram.
_ONCE = frozenset(
    int(number)
    for number in (
        *(Opt.URI_HOST, Opt.OBSERVE, Opt.URI_PORT, Opt.OSCORE, Opt.CONTENT_FORMAT, Opt.ACCEPT),
        *(Opt.BLOCK1, Opt.BLOCK2, Opt.SIZE1, Opt.ECHO),
    )
)

Option = tuple[int, bytes]
NOTHING_KNOWN: Mapping[bytes, tuple[Option, ...]] = MappingProxyType({})


class BadPacket(Exception):
    """Bytes that are no CoAP message. `reset` is the Reset owed to the sender (RFC 7252, 4.2), or None."""

    def __init__(self, reason: str, reset: bytes | None = None) -> None:
        super().__init__(reason)
        self.reset = reset


class Packet(NamedTuple):
    """One message. `options` are (number, value) in the order of the wire, numbers rising."""

    type: int
    code: int
    mid: int
    token: bytes
    options: tuple[Option, ...] = ()
    payload: bytes = b""

    @property
    def is_request(self) -> bool:
        return 0 < self.code < 32

    def first(self, number: int) -> bytes | None:
        """The value of the first option with this number, or None."""
        for found, value in self.options:
            if found == number:
                return value
        return None

    def uint(self, number: int) -> int | None:
        """The first option with this number as an unsigned integer (RFC 7252, 3.2), or None."""
        value = self.first(number)
        return None if value is None else int.from_bytes(value, "big")


def decode(data: bytes, known: Mapping[bytes, tuple[Option, ...]] = NOTHING_KNOWN) -> Packet:
    """Parse one datagram (RFC 7252, 3). Raises BadPacket.

    `known` are options parsed before, by their bytes; none of these may hold 0xff, so that what follows them and
    does is the payload marker.
    """
    if len(data) < 4:
        raise BadPacket("shorter than a header")
    first, code = data[0], data[1]
    if first >> 6 != 1:
        raise BadPacket("unknown version")  # silently ignored (3)
    kind = first >> 4 & 3
    length = first & 15
    mid = data[2] << 8 | data[3]
    end = 4 + length
    if length > 8 or end > len(data):
        raise _malformed(data, "token length")
    if code == 0:
        if len(data) > 4:
            raise _malformed(data, "an empty message with content")
        return Packet(kind, 0, mid, b"")
    if known:
        marker = data.find(PAYLOAD_MARKER, end)
        remembered = known.get(data[end:marker])
        if remembered is not None and 0 < marker < len(data) - 1:
            return Packet(kind, code, mid, data[4:end], remembered, data[marker + 1 :])
    options, payload = _decode_options(data, end)
    return Packet(kind, code, mid, data[4:end], options, payload)


def _decode_options(data: bytes, at: int) -> tuple[tuple[Option, ...], bytes]:
    """Options and payload from `at` on (RFC 7252, 3.1)."""
    options: list[Option] = []
    number = 0
    size = len(data)
    while at < size:
        byte = data[at]
        at += 1
        if byte == PAYLOAD_MARKER:
            if at == size:
                raise _malformed(data, "a payload marker without payload")
            return tuple(options), data[at:]
        delta, length = byte >> 4, byte & 15
        if delta > 12:
            delta, at = _extended(data, delta, at)
        if length > 12:
            length, at = _extended(data, length, at)
        number += delta
        start, at = at, at + length
        if at > size or number > 0xFFFF:
            raise _malformed(data, "an option beyond the end")
        options.append((number, data[start:at]))
        if len(options) > MAX_OPTIONS:
            raise _malformed(data, "too many options")
    return tuple(options), b""


def _extended(data: bytes, nibble: int, at: int) -> tuple[int, int]:
    """An option delta or length that does not fit its four bits, and where it ends."""
    if nibble == 13 and at < len(data):
        return data[at] + 13, at + 1
    if nibble == 14 and at + 1 < len(data):
        return (data[at] << 8 | data[at + 1]) + 269, at + 2
    raise _malformed(data, "an option cut short")


def _malformed(data: bytes, reason: str) -> BadPacket:
    """A confirmable message that cannot be understood is rejected, any other ignored (RFC 7252, 4.2, 4.3)."""
    confirmable = data[0] >> 4 & 3 == CON
    return BadPacket(reason, encode_empty(RST, data[2] << 8 | data[3]) if confirmable else None)


def encode(
    kind: int, code: int, mid: int, token: bytes, options: tuple[Option, ...] = (), payload: bytes = b""
) -> bytes:
    """A message as bytes; `options` must be in rising order of their numbers."""
    head = bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)) + token
    if not options:
        return head + b"\xff" + payload if payload else head
    parts = [head]
    number = 0
    for found, value in options:
        parts.append(_option_head(found - number, len(value)))
        parts.append(value)
        number = found
    if payload:
        parts.append(b"\xff")
        parts.append(payload)
    return b"".join(parts)


def encode_empty(kind: int, mid: int) -> bytes:
    """An empty message: acknowledgement, Reset, or a ping (RFC 7252, 4.3)."""
    return bytes((0x40 | kind << 4, 0, mid >> 8, mid & 255))


def _option_head(delta: int, length: int) -> bytes:
    delta_nibble, delta_more = _nibble(delta)
    length_nibble, length_more = _nibble(length)
    return bytes((delta_nibble << 4 | length_nibble,)) + delta_more + length_more


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")


def uint(value: int) -> bytes:
    """An unsigned integer as an option carries it: as few bytes as hold it, none for 0 (RFC 7252, 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def dotted(code: int) -> str:
    """A code as people write it: 4.04."""
    return f"{code >> 5}.{code & 31:02}"


def unknown_critical(packet: Packet, known: frozenset[int]) -> int | None:
    """The first critical option that is not `known` or repeated against its definition (RFC 7252, 5.4.1, 5.4.5)."""
    seen = -1
    for number, _ in packet.options:
        if number & 1 and (number not in known or (number == seen and number in _ONCE)):
            return number
        seen = number
    return None

"""MQTT control packets: bytes to values and back, as a server sees them (MQTT 3.1.1).

The first step behind the socket: `Decoder.feed` takes what one read brought and appends every complete
packet to a list. What the server sends is in `replies`. All integers are big-endian. Nothing but PacketError
escapes, whatever the bytes. Section numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

import msgspec

LEVEL_3_1_1 = 4
MAX_REMAINING_LENGTH = 268_435_455  # 2.2.3: four bytes of seven bits
_TOPICS_REMEMBERED = 256  # per connection: a thing publishes to a handful of topics, so each is checked once


class ConnectCode(enum.IntEnum):
    """CONNACK return codes (3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


class PacketError(Exception):
    """The peer broke the protocol; the connection is to be closed (4.8).

    `connack` is the code to send first, where the protocol has a word for the fault.
    """

    def __init__(self, reason: str, connack: ConnectCode | None = None) -> None:
        super().__init__(reason)
        self.connack = connack


class Will(msgspec.Struct, frozen=True):
    """What the server publishes when the connection ends without DISCONNECT (3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int  # 0..2
    retain: bool


class Connect(msgspec.Struct, frozen=True):
    """3.1. `username` and `password` are None where their flag is 0, which differs from being empty."""

    level: int
    clean: bool
    keepalive_s: int  # 0..65535; 0 switches the mechanism off
    client_id: str
    will: Will | None
    username: str | None
    password: bytes | None


class Publish(msgspec.Struct, frozen=True, gc=False):
    """3.3. `packet_id` is 0 at QoS 0, else 1..65535."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """3.4: the client has a QoS 1 message."""

    packet_id: int


class PubRec(msgspec.Struct, frozen=True, gc=False):
    """3.5: the client has a QoS 2 message."""

    packet_id: int


class PubRel(msgspec.Struct, frozen=True, gc=False):
    """3.6: the client will not send this QoS 2 message again."""

    packet_id: int


class PubComp(msgspec.Struct, frozen=True, gc=False):
    """3.7: the client has forgotten the packet id."""

    packet_id: int


class Subscribe(msgspec.Struct, frozen=True):
    """3.8. `filters` holds (topic filter, wanted QoS), at least one."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    """3.10."""

    packet_id: int
    filters: tuple[str, ...]


class PingReq(msgspec.Struct, frozen=True):
    """3.12."""


class Disconnect(msgspec.Struct, frozen=True):
    """3.14: a clean end, which drops the will."""


Packet: TypeAlias = (
    Connect | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | Unsubscribe | PingReq | Disconnect
)

_PINGREQ = PingReq()
_DISCONNECT = Disconnect()

_CONNECT_BYTE = 0x10  # first byte of a CONNECT: packet type and its fixed flags (2.2.1, 2.2.2)


class Decoder:
    """Cuts the byte stream of one client into packets.

    `max_packet` (bytes, header included) is checked at the fixed header, before anything is kept; the
    server raises it once the client has authenticated. Decoding stops after a CONNECT: what follows it is
    read with the limits that the server sets then, by `feed(b"", ...)`.
    """

    __slots__ = ("_need", "_rest", "_topics", "level", "max_packet")

    def __init__(self, max_packet: int) -> None:
        self.max_packet = max_packet
        self.level = 0  # protocol level of the CONNECT; 0 before it
        self._rest = bytearray()  # a packet that has not arrived whole; at most max_packet and one read
        self._need = 0  # bytes that _rest must hold before it is worth looking again
        self._topics: dict[bytes, str] = {}

    @property
    def buffered(self) -> int:
        """Bytes held back: an incomplete packet, or what came behind CONNECT."""
        return len(self._rest)

    def feed(self, data: bytes, packets: list[Packet]) -> None:
        """Append every packet that is complete with `data` to `packets`.

        Raises PacketError at the first malformed one; those before it are in `packets` all the same.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = 0
        end = len(data)
        self._need = 0
        while at < end:
            first = data[at]
            if at + 1 >= end:
                break
            length = data[at + 1]
            body = at + 2
            if length >= 0x80:
                if body < end and data[body] < 0x80:  # two bytes, the common case: no call
                    length += (data[body] << 7) - 0x80
                    body += 1
                elif (found := read_length(data, at + 1)) is None:
                    break
                else:
                    length, body = found
            stop = body + length
            if stop - at > self.max_packet:
                raise PacketError(f"packet of {stop - at} bytes, {self.max_packet} allowed")
            if stop > end:
                self._need = stop - at
                break
            if first & 0xF0 == 0x30 and self.level:
                packets.append(self._publish(first, data, body, stop))
                at = stop
                continue
            packet = self._other(first, data[body:stop])
            packets.append(packet)
            at = stop
            if first == _CONNECT_BYTE:
                break
        if at < end:
            self._rest += data[at:]

    def _publish(self, first: int, data: bytes, at: int, stop: int) -> Publish:
        """3.3. Written out flat: this runs once per message."""
        if at + 2 > stop:
            raise PacketError("PUBLISH without a topic")
        start = at + 2
        at = start + (data[at] << 8 | data[at + 1])
        raw = data[start:at]
        topic = self._topics.get(raw)
        if topic is None:
            if at > stop:
                raise PacketError("PUBLISH topic longer than the packet")
            topic = self._new_topic(raw)
        qos = first >> 1 & 3
        packet_id = 0
        if qos:
            if qos == 3:
                raise PacketError("PUBLISH with QoS 3")
            packet_id = _packet_id(data, at, stop)
            at += 2
        elif first & 8:
            raise PacketError("DUP set at QoS 0")
        if at > stop:
            raise PacketError("PUBLISH topic longer than the packet")
        return Publish(topic, data[at:stop], qos, first & 1 == 1, first & 8 == 8, packet_id)

    def _new_topic(self, raw: bytes) -> str:
        topic = _topic_name(_text(raw))
        if len(self._topics) >= _TOPICS_REMEMBERED:
            self._topics.clear()
        self._topics[raw] = topic
        return topic

    def _other(self, first: int, body: bytes) -> Packet:
        if not self.level:
            if first != _CONNECT_BYTE:
                raise PacketError(f"first packet is {first:#04x}, not CONNECT")
            connect = _connect(body)
            self.level = connect.level
            return connect
        read = _READERS.get(first)
        if read is None:
            raise PacketError(f"packet {first:#04x}: reserved, wrong flags, or not for a client to send")
        return read(body)


def read_length(data: bytes, at: int) -> tuple[int, int] | None:
    """Read a remaining length (2.2.3): seven bits a byte, least significant first.

    Returns (length, position behind it), or None while more bytes are needed.
    Raises PacketError where a fourth byte still says "continue".
    """
    value = 0
    for used, byte in enumerate(data[at : at + 4]):
        value |= (byte & 0x7F) << (7 * used)
        if byte < 0x80:
            return value, at + used + 1
    if len(data) - at >= 4:
        raise PacketError("remaining length longer than 4 bytes")
    return None


def _packet_id(data: bytes, at: int, stop: int) -> int:
    """2.3.1: two bytes, not 0."""
    if at + 2 > stop:
        raise PacketError("packet id missing")
    packet_id = data[at] << 8 | data[at + 1]
    if not packet_id:
        raise PacketError("packet id 0")
    return packet_id


def _only_packet_id(body: bytes) -> int:
    if len(body) != 2:
        raise PacketError("acknowledgement is not 2 bytes long")
    return _packet_id(body, 0, 2)


def _text(raw: bytes) -> str:
    """1.5.3: UTF-8 without surrogates and without U+0000."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PacketError("text is not UTF-8") from None
    if "\0" in text:
        raise PacketError("text holds U+0000")
    return text


def _topic_name(topic: str) -> str:
    """4.7.1, 4.7.3: a topic to publish to has no wildcard and at least one character."""
    if not topic:
        raise PacketError("empty topic")
    if "+" in topic or "#" in topic:
        raise PacketError("wildcard in a topic name")
    return topic


def _topic_filter(text: str) -> str:
    """4.7.1: `#` only as the whole last level, `+` only as a whole level."""
    if not text:
        raise PacketError("empty topic filter")
    if "#" in text or "+" in text:
        levels = text.split("/")
        for level in levels[:-1]:
            if "#" in level or ("+" in level and level != "+"):
                raise PacketError("wildcard is not a level of its own")
        if ("#" in levels[-1] or "+" in levels[-1]) and len(levels[-1]) > 1:
            raise PacketError("wildcard is not a level of its own")
    return text


class _Fields:
    """Reads the fields of one packet body in their order."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.body) - self.at

    def take(self, count: int) -> bytes:
        if self.left < count:
            raise PacketError("packet ends within a field")
        self.at += count
        return self.body[self.at - count : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        return _text(self.binary())

    def packet_id(self) -> int:
        packet_id = self.u16()
        if not packet_id:
            raise PacketError("packet id 0")
        return packet_id

    def end(self) -> None:
        if self.left:
            raise PacketError(f"{self.left} bytes behind the last field")


def _connect(body: bytes) -> Connect:
    """3.1. Fields are read in the order of the payload: client id, will, user name, password."""
    fields = _Fields(body)
    name = fields.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise PacketError("not MQTT")
    level = fields.u8()
    if name != b"MQTT" or level != LEVEL_3_1_1:
        raise PacketError(
            f"protocol level {level} of {name.decode()} is not spoken here", ConnectCode.UNACCEPTABLE_PROTOCOL
        )
    flags = fields.u8()
    if flags & 1:
        raise PacketError("reserved CONNECT flag set")
    keepalive_s = fields.u16()
    client_id = fields.text()
    will = _will(flags, fields)
    username = fields.text() if flags & 0x80 else None
    password = None
    if flags & 0x40:
        if username is None:
            raise PacketError("password without user name")
        password = fields.binary()
    fields.end()
    clean = bool(flags & 2)
    if not client_id and not clean:
        raise PacketError("empty client id asks for a kept session", ConnectCode.IDENTIFIER_REJECTED)
    return Connect(level, clean, keepalive_s, client_id, will, username, password)


def _will(flags: int, fields: _Fields) -> Will | None:
    """3.1.2.5 to 3.1.2.7, 3.1.3.2, 3.1.3.3."""
    qos = flags >> 3 & 3
    if not flags & 4:
        if flags & 0x38:
            raise PacketError("will QoS or will retain without a will")
        return None
    if qos == 3:
        raise PacketError("will with QoS 3")
    return Will(_topic_name(fields.text()), fields.binary(), qos, bool(flags & 0x20))


def _subscribe(body: bytes) -> Subscribe:
    """3.8."""
    fields = _Fields(body)
    packet_id = fields.packet_id()
    filters = []
    while fields.left:
        text = _topic_filter(fields.text())
        qos = fields.u8()
        if qos > 2:
            raise PacketError("subscription with reserved QoS bits")
        filters.append((text, qos))
    if not filters:
        raise PacketError("SUBSCRIBE without a filter")
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(body: bytes) -> Unsubscribe:
    """3.10."""
    fields = _Fields(body)
    packet_id = fields.packet_id()
    filters = []
    while fields.left:
        filters.append(_topic_filter(fields.text()))
    if not filters:
        raise PacketError("UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, tuple(filters))


def _pingreq(body: bytes) -> PingReq:
    _Fields(body).end()
    return _PINGREQ


def _disconnect(body: bytes) -> Disconnect:
    _Fields(body).end()
    return _DISCONNECT


def _second_connect(_body: bytes) -> Connect:
    """3.1.0-2."""
    raise PacketError("second CONNECT")


_READERS: dict[int, Callable[[bytes], Packet]] = {  # by first byte: type and fixed flags (2.2.1, 2.2.2)
    _CONNECT_BYTE: _second_connect,
    0x40: lambda body: PubAck(_only_packet_id(body)),
    0x50: lambda body: PubRec(_only_packet_id(body)),
    0x62: lambda body: PubRel(_only_packet_id(body)),
    0x70: lambda body: PubComp(_only_packet_id(body)),
    0x82: _subscribe,
    0xA2: _unsubscribe,
    0xC0: _pingreq,
    0xE0: _disconnect,
}

"""The bodies of all packets but PUBLISH, MQTT 3.1.1 and 5.0, as a server reads them.

Pure; section numbers are the same in both versions unless one is named. Only PacketError escapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hub.mqtt.fields import Fields, shared, topic_filter, topic_name
from hub.mqtt.packets import (
    CONNECT_BYTE,
    Asked,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
    Will,
)
from hub.mqtt.properties import On, Properties, read_properties
from hub.mqtt.reasons import FROM_CLIENT, LEVEL_3_1_1, LEVEL_5_0, PacketError, Reason

_PINGREQ = PingReq()
_DISCONNECT = Disconnect()

A = TypeVar("A", PubAck, PubRec, PubRel, PubComp)


def read(level: int, first: int, body: bytes) -> Packet:
    """The packet behind the fixed header `first` of an open connection. Raises PacketError."""
    reader = (_READERS_5_0 if level == LEVEL_5_0 else _READERS_3_1_1).get(first)
    if reader is not None:
        return reader(body)
    if first == CONNECT_BYTE:
        raise PacketError("second CONNECT", Reason.PROTOCOL_ERROR)  # 3.1.0-2
    if first in _OF_SERVERS:
        raise PacketError(f"packet {first:#04x} is for a server to send", Reason.PROTOCOL_ERROR)
    raise PacketError(f"packet {first:#04x}: reserved, or wrong flags")


def connect(body: bytes) -> Connect:
    """3.1. Raises PacketError, with the level in whose form it is to be answered."""
    fields = Fields(body)
    name = fields.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise PacketError("not MQTT")
    level = fields.u8()
    try:
        if name != b"MQTT" or level not in (LEVEL_3_1_1, LEVEL_5_0):
            raise PacketError(
                f"protocol level {level} of {name.decode()} is not spoken here",
                Reason.UNSUPPORTED_PROTOCOL_VERSION,
            )
        return _connect(fields, level)
    except PacketError as error:
        error.level = LEVEL_5_0 if level >= LEVEL_5_0 else LEVEL_3_1_1
        raise


def _connect(fields: Fields, level: int) -> Connect:
    """Behind the protocol level, in the order of the payload: client id, will, user name, password."""
    flags = fields.u8()
    if flags & 1:
        raise PacketError("reserved CONNECT flag set")
    keepalive_s = fields.u16()
    properties = read_properties(fields, On.CONNECT) if level == LEVEL_5_0 else None
    client_id = fields.text()
    will = _will(flags, fields, level)
    username = fields.text() if flags & 0x80 else None
    password = None
    if flags & 0x40:
        if username is None and level == LEVEL_3_1_1:
            raise PacketError("password without user name")
        password = fields.binary()
    fields.end()
    clean = bool(flags & 2)
    if not client_id and not clean and level == LEVEL_3_1_1:
        raise PacketError("empty client id asks for a kept session", Reason.CLIENT_IDENTIFIER_NOT_VALID)
    return Connect(level, clean, keepalive_s, client_id, will, username, password, properties)


def _will(flags: int, fields: Fields, level: int) -> Will | None:
    """3.1.2.5 to 3.1.2.7, 3.1.3.2, 3.1.3.3."""
    qos = flags >> 3 & 3
    if not flags & 4:
        if flags & 0x38:
            raise PacketError("will QoS or will retain without a will")
        return None
    if qos == 3:
        raise PacketError("will with QoS 3")
    properties = read_properties(fields, On.WILL) if level == LEVEL_5_0 else None
    return Will(topic_name(fields.text()), fields.binary(), qos, bool(flags & 0x20), properties)


def _old_answer(packet: type[A]) -> Callable[[bytes], A]:
    """PUBACK, PUBREC, PUBREL or PUBCOMP of 3.1.1: a packet id and nothing else."""

    def read_answer(body: bytes) -> A:
        fields = Fields(body)
        found = packet(fields.packet_id())
        fields.end()
        return found

    return read_answer


def _answer(packet: type[A], first: int, on: On) -> Callable[[bytes], A]:
    """PUBACK, PUBREC, PUBREL or PUBCOMP of 5.0: reason code and properties may be left out (3.4.2.1)."""

    def read_answer(body: bytes) -> A:
        if len(body) == 2:
            return packet(Fields(body).packet_id())
        fields = Fields(body)
        found = packet(fields.packet_id(), _code(fields, first))
        if fields.left:
            read_properties(fields, on)
        fields.end()
        return found

    return read_answer


def _code(fields: Fields, first: int) -> int:
    code = fields.u8()
    if code not in FROM_CLIENT[first]:
        raise PacketError(f"packet {first:#04x} with reason code {code:#04x}", Reason.PROTOCOL_ERROR)
    return code


def _old_subscribe(body: bytes) -> Subscribe:
    """3.1.1, 3.8."""
    fields = Fields(body)
    packet_id = fields.packet_id()
    filters = []
    while fields.left:
        text = topic_filter(fields.text())
        qos = fields.u8()
        if qos > 2:
            raise PacketError("subscription with reserved QoS bits")
        filters.append(Asked(text, qos))
    if not filters:
        raise PacketError("SUBSCRIBE without a filter")
    return Subscribe(packet_id, tuple(filters))


def _subscribe(body: bytes) -> Subscribe:
    """5.0, 3.8."""
    fields = Fields(body)
    packet_id = fields.packet_id()
    properties = read_properties(fields, On.SUBSCRIBE)
    filters = []
    while fields.left:
        filters.append(_asked(fields))
    if not filters:
        raise PacketError("SUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(filters), properties)


def _asked(fields: Fields) -> Asked:
    """5.0, 3.8.3.1: a filter with its options."""
    text = topic_filter(fields.text())
    share, _ = shared(text)
    options = fields.u8()
    qos, handling = options & 3, options >> 4 & 3
    if options & 0xC0:
        raise PacketError("subscription with reserved bits")
    if qos == 3 or handling == 3:
        raise PacketError("subscription with QoS 3 or retain handling 3", Reason.PROTOCOL_ERROR)
    if share and options & 4:
        raise PacketError("No Local on a shared subscription", Reason.PROTOCOL_ERROR)  # 3.8.3-4
    return Asked(text, qos, bool(options & 4), bool(options & 8), handling)


def _unsubscribe_fields(fields: Fields, packet_id: int, *, level: int) -> Unsubscribe:
    filters = []
    while fields.left:
        text = topic_filter(fields.text())
        if level == LEVEL_5_0:
            shared(text)
        filters.append(text)
    if not filters:
        raise PacketError("UNSUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters))


def _old_unsubscribe(body: bytes) -> Unsubscribe:
    """3.1.1, 3.10."""
    fields = Fields(body)
    return _unsubscribe_fields(fields, fields.packet_id(), level=LEVEL_3_1_1)


def _unsubscribe(body: bytes) -> Unsubscribe:
    """5.0, 3.10."""
    fields = Fields(body)
    packet_id = fields.packet_id()
    read_properties(fields, On.UNSUBSCRIBE)
    return _unsubscribe_fields(fields, packet_id, level=LEVEL_5_0)


def _pingreq(body: bytes) -> PingReq:
    Fields(body).end()
    return _PINGREQ


def _old_disconnect(body: bytes) -> Disconnect:
    Fields(body).end()
    return _DISCONNECT


def _disconnect(body: bytes) -> Disconnect:
    """5.0, 3.14: an empty body says "normal disconnection"."""
    if not body:
        return _DISCONNECT
    fields = Fields(body)
    code = _code(fields, 0xE0)
    properties = read_properties(fields, On.DISCONNECT) if fields.left else None
    fields.end()
    if properties is not None and properties.server_reference is not None:
        raise PacketError("server reference from a client", Reason.PROTOCOL_ERROR)
    return Disconnect(code, properties.session_expiry_s if properties else None)


def _auth(body: bytes) -> Auth:
    """5.0, 3.15."""
    if not body:
        return Auth(0)
    fields = Fields(body)
    code = _code(fields, 0xF0)
    properties: Properties | None = read_properties(fields, On.AUTH) if fields.left else None
    fields.end()
    if properties is None or properties.authentication_method is None:
        raise PacketError("AUTH without an authentication method", Reason.PROTOCOL_ERROR)
    return Auth(code)


_READERS_3_1_1: dict[int, Callable[[bytes], Packet]] = {  # by first byte: type and fixed flags
    0x40: _old_answer(PubAck),
    0x50: _old_answer(PubRec),
    0x62: _old_answer(PubRel),
    0x70: _old_answer(PubComp),
    0x82: _old_subscribe,
    0xA2: _old_unsubscribe,
    0xC0: _pingreq,
    0xE0: _old_disconnect,
}
_READERS_5_0: dict[int, Callable[[bytes], Packet]] = {
    0x40: _answer(PubAck, 0x40, On.PUBACK),
    0x50: _answer(PubRec, 0x50, On.PUBREC),
    0x62: _answer(PubRel, 0x62, On.PUBREL),
    0x70: _answer(PubComp, 0x70, On.PUBCOMP),
    0x82: _subscribe,
    0xA2: _unsubscribe,
    0xC0: _pingreq,
    0xE0: _disconnect,
    0xF0: _auth,
}
_OF_SERVERS = frozenset({0x20, 0x90, 0xB0, 0xD0})  # CONNACK, SUBACK, UNSUBACK, PINGRESP

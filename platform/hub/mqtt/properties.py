"""The properties of MQTT 5 packets (2.2.2): bytes to values and back, in both directions.

Pure and strict: an identifier that is unknown, or not for this packet, is malformed (0x81), one that comes twice
or holds a value outside its range a protocol error (0x82). Only PacketError escapes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.fields import Fields, encode_binary, encode_length, topic_name
from hub.mqtt.reasons import PacketError, Reason


class On(enum.IntFlag):
    """The packets a property may stand on (2.2.2.2). WILL is the will's block within CONNECT."""

    CONNECT = enum.auto()
    WILL = enum.auto()
    CONNACK = enum.auto()
    PUBLISH = enum.auto()
    PUBACK = enum.auto()
    PUBREC = enum.auto()
    PUBREL = enum.auto()
    PUBCOMP = enum.auto()
    SUBSCRIBE = enum.auto()
    SUBACK = enum.auto()
    UNSUBSCRIBE = enum.auto()
    UNSUBACK = enum.auto()
    DISCONNECT = enum.auto()
    AUTH = enum.auto()


class Properties(msgspec.Struct):
    """The properties of one packet; None where one is not there."""

    payload_format: int | None = None  # 0 bytes, 1 UTF-8 text
    message_expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()  # 1..268_435_455; one on SUBSCRIBE, any number on PUBLISH
    session_expiry_s: int | None = None  # 0xFFFF_FFFF: never
    assigned_client_id: str | None = None
    server_keepalive_s: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_s: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None  # 1..65_535
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None  # 1..65_535
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()  # in their order; names may repeat
    maximum_packet_size: int | None = None  # bytes, at least 1
    wildcards_available: int | None = None
    subscription_ids_available: int | None = None
    shared_available: int | None = None


class Kind(NamedTuple):
    """A data type (1.5): how it is read and written."""

    read: Callable[[Fields], Any]
    write: Callable[[Any], bytes]


class Property(NamedTuple):
    """One row of table 2-4."""

    number: int
    field: str
    kind: Kind
    on: On
    allowed: tuple[int, int] | None = None  # smallest and largest value, where the type allows more
    wrong: Reason = Reason.PROTOCOL_ERROR  # what is said about a value outside


_U8 = Kind(Fields.u8, lambda value: bytes((value,)))
_U16 = Kind(Fields.u16, lambda value: int(value).to_bytes(2, "big"))
_U32 = Kind(Fields.u32, lambda value: int(value).to_bytes(4, "big"))
_LENGTH = Kind(Fields.length, encode_length)
_BINARY = Kind(Fields.binary, encode_binary)
_TEXT = Kind(Fields.text, lambda value: encode_binary(value.encode()))
_PAIR = Kind(
    lambda fields: (fields.text(), fields.text()),
    lambda pair: encode_binary(pair[0].encode()) + encode_binary(pair[1].encode()),
)

_BOTH = On.PUBLISH | On.WILL
_ENTRY = On.CONNECT | On.CONNACK
_SIGNED = On.CONNECT | On.CONNACK | On.AUTH
_ANSWERS = (
    On.CONNACK
    | On.PUBACK
    | On.PUBREC
    | On.PUBREL
    | On.PUBCOMP
    | On.SUBACK
    | On.UNSUBACK
    | On.DISCONNECT
    | On.AUTH
)
_EVERYWHERE = ~On(0)
_FLAG = (0, 1)

TABLE = (  # 2.2.2.2, table 2-4
    Property(0x01, "payload_format", _U8, _BOTH, _FLAG),
    Property(0x02, "message_expiry_s", _U32, _BOTH),
    Property(0x03, "content_type", _TEXT, _BOTH),
    Property(0x08, "response_topic", _TEXT, _BOTH),
    Property(0x09, "correlation_data", _BINARY, _BOTH),
    Property(0x0B, "subscription_ids", _LENGTH, On.PUBLISH | On.SUBSCRIBE, (1, 268_435_455)),
    Property(0x11, "session_expiry_s", _U32, _ENTRY | On.DISCONNECT),
    Property(0x12, "assigned_client_id", _TEXT, On.CONNACK),
    Property(0x13, "server_keepalive_s", _U16, On.CONNACK),
    Property(0x15, "authentication_method", _TEXT, _SIGNED),
    Property(0x16, "authentication_data", _BINARY, _SIGNED),
    Property(0x17, "request_problem_information", _U8, On.CONNECT, _FLAG),
    Property(0x18, "will_delay_s", _U32, On.WILL),
    Property(0x19, "request_response_information", _U8, On.CONNECT, _FLAG),
    Property(0x1A, "response_information", _TEXT, On.CONNACK),
    Property(0x1C, "server_reference", _TEXT, On.CONNACK | On.DISCONNECT),
    Property(0x1F, "reason_string", _TEXT, _ANSWERS),
    Property(0x21, "receive_maximum", _U16, _ENTRY, (1, 65_535)),
    Property(0x22, "topic_alias_maximum", _U16, _ENTRY),
    Property(0x23, "topic_alias", _U16, On.PUBLISH, (1, 65_535), Reason.TOPIC_ALIAS_INVALID),
    Property(0x24, "maximum_qos", _U8, On.CONNACK, _FLAG),
    Property(0x25, "retain_available", _U8, On.CONNACK, _FLAG),
    Property(0x26, "user", _PAIR, _EVERYWHERE),
    Property(0x27, "maximum_packet_size", _U32, _ENTRY, (1, 0xFFFF_FFFF)),
    Property(0x28, "wildcards_available", _U8, On.CONNACK, _FLAG),
    Property(0x29, "subscription_ids_available", _U8, On.CONNACK, _FLAG),
    Property(0x2A, "shared_available", _U8, On.CONNACK, _FLAG),
)
BY_NUMBER = {row.number: row for row in TABLE}
_REPEATED = frozenset({"user", "subscription_ids"})

MAX_USER_PROPERTIES = 64  # of one packet: what is kept and forwarded is bounded (CVE-2021-41039 elsewhere)
MAX_USER_BYTES = 8 << 10  # names and values of one packet, with their lengths


def read_properties(fields: Fields, on: On) -> Properties | None:
    """Read a block with its length (2.2.2.1); None where it is empty. Raises PacketError."""
    size = fields.length()
    if not size:
        return None
    if size > fields.left:
        raise PacketError("properties longer than the packet")
    block = Fields(fields.body, fields.at, fields.at + size)
    fields.at = block.stop
    found = Properties()
    user: list[tuple[str, str]] = []
    user_bytes = 0
    seen = set()
    while block.left:
        number = block.length()
        row = BY_NUMBER.get(number)
        if row is None or not row.on & on:
            raise PacketError(f"property {number:#04x} is unknown or not for this packet")
        start = block.at
        value = row.kind.read(block)
        if row.allowed and not row.allowed[0] <= value <= row.allowed[1]:
            raise PacketError(f"{row.field} is {value}", row.wrong)
        if row.field == "user":
            user.append(value)
            user_bytes += block.at - start
            if len(user) > MAX_USER_PROPERTIES or user_bytes > MAX_USER_BYTES:
                raise PacketError("too many user properties", Reason.QUOTA_EXCEEDED)
            continue
        if row.number in seen and (row.field not in _REPEATED or not on & On.PUBLISH):
            raise PacketError(f"{row.field} stands there twice", Reason.PROTOCOL_ERROR)
        seen.add(row.number)
        if row.field == "subscription_ids":
            found.subscription_ids += (value,)
        else:
            setattr(found, row.field, value)
    found.user = tuple(user)
    _check(found)
    return found


def _check(found: Properties) -> None:
    """What one property says about another, or about its text."""
    if found.response_topic is not None:
        topic_name(found.response_topic)
    if found.authentication_data is not None and found.authentication_method is None:
        raise PacketError("authentication data without a method", Reason.PROTOCOL_ERROR)


def encode_properties(properties: Properties | None) -> bytes:
    """The block with its length. The caller sees to it that each property is for its packet."""
    if properties is None:
        return b"\x00"
    out = bytearray()
    for row in TABLE:
        value = getattr(properties, row.field)
        if row.field in _REPEATED:
            for each in value:
                out.append(row.number)
                out += row.kind.write(each)
        elif value is not None:
            out.append(row.number)
            out += row.kind.write(value)
    return encode_length(len(out)) + bytes(out)

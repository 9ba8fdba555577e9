"""The packets a client sends, MQTT 3.1.1 and 5.0, as values.

`decoder` makes them out of bytes; what the server sends is in `replies`. Section numbers are the same in both
versions unless one is named.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from hub.mqtt.properties import Properties

CONNECT_BYTE = 0x10  # first byte of a CONNECT: packet type and its fixed flags (2.1.2, 2.1.3)


class Will(msgspec.Struct, frozen=True):
    """What the server publishes when the connection ends without DISCONNECT (3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int  # 0..2
    retain: bool
    properties: Properties | None = None


class Connect(msgspec.Struct, frozen=True):
    """3.1. `username` and `password` are None where their flag is 0, which differs from being empty."""

    level: int  # 4: 3.1.1, 5: 5.0
    clean: bool  # clean session, or clean start
    keepalive_s: int  # 0..65535; 0 switches the mechanism off
    client_id: str
    will: Will | None
    username: str | None
    password: bytes | None
    properties: Properties | None = None


class Publish(msgspec.Struct, frozen=True, gc=False):
    """3.3. `packet_id` is 0 at QoS 0, else 1..65535. A topic alias is resolved already."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    properties: Properties | None = None


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """3.4: the client has a QoS 1 message, or refuses it."""

    packet_id: int
    code: int = 0


class PubRec(msgspec.Struct, frozen=True, gc=False):
    """3.5: the client has a QoS 2 message, or refuses it."""

    packet_id: int
    code: int = 0


class PubRel(msgspec.Struct, frozen=True, gc=False):
    """3.6: the client will not send this QoS 2 message again."""

    packet_id: int
    code: int = 0


class PubComp(msgspec.Struct, frozen=True, gc=False):
    """3.7: the client has forgotten the packet id."""

    packet_id: int
    code: int = 0


class Asked(NamedTuple):
    """One topic filter of a SUBSCRIBE with its options (5.0, 3.8.3.1; 3.1.1 knows QoS alone)."""

    filter: str
    qos: int  # 0..2, the highest wanted
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0  # 0 send retained messages, 1 only to a new subscription, 2 do not


class Subscribe(msgspec.Struct, frozen=True):
    """3.8. At least one filter."""

    packet_id: int
    filters: tuple[Asked, ...]
    properties: Properties | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """3.10."""

    packet_id: int
    filters: tuple[str, ...]


class PingReq(msgspec.Struct, frozen=True):
    """3.12."""


class Disconnect(msgspec.Struct, frozen=True):
    """3.14: a clean end, which drops the will where `code` is 0."""

    code: int = 0
    session_expiry_s: int | None = None


class Auth(msgspec.Struct, frozen=True):
    """5.0, 3.15."""

    code: int


Packet: TypeAlias = (
    Connect
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | Unsubscribe
    | PingReq
    | Disconnect
    | Auth
)

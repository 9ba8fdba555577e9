"""MQTT packets as a client builds and reads them, written from the specifications alone.

A second opinion: nothing of the hub is used here. The encoders say whatever they are told, also what is wrong.
The decoder is strict: what a server may not send in the format of the version is an AssertionError, so every
test that reads a packet also checks fields, flags, reason codes, properties and lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

V4, V5 = 4, 5  # protocol levels of 3.1.1 and 5.0

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
NAMES = (
    *("reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"),
    *("SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"),
)

Props = Sequence[tuple[str, Any]]

PROPERTIES = {  # MQTT 5.0, 2.2.2.2: identifier -> name, kind
    0x01: ("payload_format_indicator", "byte"),
    0x02: ("message_expiry_interval", "four"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation_data", "binary"),
    0x0B: ("subscription_identifier", "length"),
    0x11: ("session_expiry_interval", "four"),
    0x12: ("assigned_client_identifier", "text"),
    0x13: ("server_keep_alive", "two"),
    0x15: ("authentication_method", "text"),
    0x16: ("authentication_data", "binary"),
    0x17: ("request_problem_information", "byte"),
    0x18: ("will_delay_interval", "four"),
    0x19: ("request_response_information", "byte"),
    0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"),
    0x23: ("topic_alias", "two"),
    0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"),
    0x26: ("user_property", "pair"),
    0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcard_subscription_available", "byte"),
    0x29: ("subscription_identifier_available", "byte"),
    0x2A: ("shared_subscription_available", "byte"),
}
IDENTIFIERS = {name: (identifier, kind) for identifier, (name, kind) in PROPERTIES.items()}

_PROBLEM = {"reason_string", "user_property"}
FROM_SERVER = {  # which properties a server may send (2.2.2.2), by packet
    CONNACK: _PROBLEM
    | {
        "session_expiry_interval",
        "receive_maximum",
        "maximum_qos",
        "retain_available",
        "maximum_packet_size",
        "assigned_client_identifier",
        "topic_alias_maximum",
        "wildcard_subscription_available",
        "subscription_identifier_available",
        "shared_subscription_available",
        "server_keep_alive",
        "response_information",
        "server_reference",
        "authentication_method",
        "authentication_data",
    },
    PUBLISH: {
        "payload_format_indicator",
        "message_expiry_interval",
        "topic_alias",
        "response_topic",
        "correlation_data",
        "user_property",
        "subscription_identifier",
        "content_type",
    },
    PUBACK: _PROBLEM,
    PUBREC: _PROBLEM,
    PUBREL: _PROBLEM,
    PUBCOMP: _PROBLEM,
    SUBACK: _PROBLEM,
    UNSUBACK: _PROBLEM,
    DISCONNECT: _PROBLEM | {"server_reference"},
    AUTH: _PROBLEM | {"authentication_method", "authentication_data"},
}
REPEATABLE = {"user_property", "subscription_identifier"}

_ACKED = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
REASONS = {  # reason codes a server may send (MQTT 5.0, 2.4), by packet
    CONNACK: {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: _ACKED,
    PUBREC: _ACKED,
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {
        *(0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90),
        *range(0x93, 0xA3),
    },
    AUTH: {0x00, 0x18},
}
RETURN_CODES = {CONNACK: set(range(6)), SUBACK: {0, 1, 2, 0x80}}  # 3.1.1, 3.2.2.3 and 3.9.3
FLAGS = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}  # 2.1.3, where they are not 0


# Encoding


def two(value: int) -> bytes:
    return value.to_bytes(2, "big")


def binary(value: bytes) -> bytes:
    return two(len(value)) + value


def text(value: str | bytes) -> bytes:
    """Bytes stand for themselves, so that damaged text can be sent."""
    return binary(value if isinstance(value, bytes) else value.encode())


def length(value: int) -> bytes:
    """A variable byte integer (5.0, 1.5.5; 3.1.1, 2.2.3)."""
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def packet(kind: int, body: bytes, flags: int | None = None) -> bytes:
    return bytes((kind << 4 | (FLAGS.get(kind, 0) if flags is None else flags),)) + length(len(body)) + body


def properties(props: Props) -> bytes:
    body = b""
    for name, value in props:
        identifier, kind = IDENTIFIERS[name]
        body += bytes((identifier,))
        if kind == "pair":
            body += text(value[0]) + text(value[1])
        elif kind in ("text", "binary"):
            body += text(value)
        elif kind == "length":
            body += length(value)
        else:
            body += value.to_bytes({"byte": 1, "two": 2, "four": 4}[kind], "big")
    return length(len(body)) + body


@dataclass(frozen=True)
class Will:
    topic: str | bytes
    payload: bytes
    qos: int = 0
    retain: bool = False
    props: Props = ()


def connect(
    version: int,
    client_id: str | bytes = "",
    *,
    user: str | bytes | None = None,
    password: str | bytes | None = None,
    clean: bool = True,
    keepalive: int = 0,
    will: Will | None = None,
    props: Props = (),
    name: bytes = b"MQTT",
    flags: int | None = None,
) -> bytes:
    """`flags` replaces the connect flags that follow from the fields."""
    bits = clean << 1 | (user is not None) << 7 | (password is not None) << 6
    payload = text(client_id)
    if will is not None:
        bits |= 4 | will.qos << 3 | will.retain << 5
        payload += (
            (properties(will.props) if version == V5 else b"") + text(will.topic) + binary(will.payload)
        )
    for value in (user, password):
        if value is not None:
            payload += text(value)
    head = binary(name) + bytes((version, bits if flags is None else flags)) + two(keepalive)
    return packet(CONNECT, head + (properties(props) if version == V5 else b"") + payload)


def publish(
    version: int,
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 0,
    packet_id: int | None = None,
    *,
    retain: bool = False,
    dup: bool = False,
    props: Props = (),
) -> bytes:
    body = text(topic)
    if packet_id is not None:
        body += two(packet_id)
    if version == V5:
        body += properties(props)
    return packet(PUBLISH, body + payload, dup << 3 | qos << 1 | retain)


def ack(
    version: int, kind: int, packet_id: int, code: int | None = None, props: Props | None = None
) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP; in 5.0 the code and the properties may be left out."""
    body = two(packet_id)
    if version == V5 and code is not None:
        body += bytes((code,)) + (b"" if props is None else properties(props))
    return packet(kind, body)


def subscribe(
    version: int, packet_id: int, filters: Sequence[tuple[str | bytes, int]], props: Props = ()
) -> bytes:
    """`filters`: topic filter and the byte of options behind it."""
    body = two(packet_id) + (properties(props) if version == V5 else b"")
    return packet(SUBSCRIBE, body + b"".join(text(name) + bytes((options,)) for name, options in filters))


def unsubscribe(version: int, packet_id: int, filters: Sequence[str | bytes], props: Props = ()) -> bytes:
    body = two(packet_id) + (properties(props) if version == V5 else b"")
    return packet(UNSUBSCRIBE, body + b"".join(text(name) for name in filters))


def disconnect(version: int, code: int | None = None, props: Props | None = None) -> bytes:
    if version == V4 or code is None:
        return packet(DISCONNECT, b"")
    return packet(DISCONNECT, bytes((code,)) + (b"" if props is None else properties(props)))


def auth(code: int, props: Props = ()) -> bytes:
    return packet(AUTH, bytes((code,)) + properties(props))


PING = packet(PINGREQ, b"")


# Decoding


@dataclass(frozen=True)
class Packet:
    """What a server sent."""

    kind: int
    packet_id: int = 0
    code: int = 0
    codes: tuple[int, ...] = ()
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    props: tuple[tuple[str, Any], ...] = field(default=())
    size: int = 0  # bytes on the wire

    def __repr__(self) -> str:
        return (
            f"<{NAMES[self.kind]} {self.packet_id} {self.code:#x} {self.codes} {self.topic} {self.payload!r}>"
        )

    def get(self, name: str) -> Any:
        """The value of a property; None where it is not there."""
        return next((value for key, value in self.props if key == name), None)

    def all(self, name: str) -> list[Any]:
        return [value for key, value in self.props if key == name]


class Reader:
    """The fields of a body in their order."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def take(self, count: int) -> bytes:
        assert len(self.body) >= count, "packet ends within a field"
        taken, self.body = self.body[:count], self.body[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def length(self) -> int:
        value = 0
        for position in range(4):
            byte = self.number(1)
            value |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                assert byte or not position, "not the shortest form of a length"
                return value
        raise AssertionError("length of five bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        value = self.binary().decode()
        assert "\0" not in value
        return value

    def properties(self, kind: int) -> tuple[tuple[str, Any], ...]:
        inner = Reader(self.take(self.length()))
        found: list[tuple[str, Any]] = []
        while inner.body:
            name, form = PROPERTIES[inner.number(1)]
            assert name in FROM_SERVER[kind], f"{name} in {NAMES[kind]}"
            assert name in REPEATABLE or name not in dict(found), f"{name} twice"
            value: Any
            match form:
                case "pair":
                    value = (inner.text(), inner.text())
                case "text":
                    value = inner.text()
                case "binary":
                    value = inner.binary()
                case "length":
                    value = inner.length()
                case _:
                    value = inner.number({"byte": 1, "two": 2, "four": 4}[form])
            found.append((name, value))
        return tuple(found)


def decode(version: int, first: int, body: bytes, size: int = 0) -> Packet:
    """A packet of a server. AssertionError where a server may not send it so."""
    kind, flags = first >> 4, first & 15
    assert kind in {*FROM_SERVER, PINGRESP}, f"a server does not send {NAMES[kind]}"
    assert version == V5 or kind not in (DISCONNECT, AUTH), f"no {NAMES[kind]} from a server in 3.1.1"
    fields = Reader(body)
    if kind == PUBLISH:
        return _publish(version, flags, fields, size)
    assert flags == FLAGS.get(kind, 0), f"flags {flags:#x} of {NAMES[kind]}"
    found: dict[str, Any] = {"size": size}
    if kind == CONNACK:
        present = fields.number(1)
        assert present in (0, 1)
        found["session_present"] = present == 1
        found["code"] = fields.number(1)
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK):
        found["packet_id"] = fields.number(2)
        assert found["packet_id"]
    if version == V5:
        if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH):
            found["code"] = fields.number(1) if fields.body else 0
        if kind in (CONNACK, SUBACK, UNSUBACK) or fields.body:
            found["props"] = fields.properties(kind) if kind in FROM_SERVER else ()
    if kind == SUBACK or (kind == UNSUBACK and version == V5):
        found["codes"] = tuple(fields.take(len(fields.body)))
        assert found["codes"]
    assert not fields.body, f"{len(fields.body)} bytes too many in {NAMES[kind]}"
    known = REASONS.get(kind) if version == V5 else RETURN_CODES.get(kind)
    for code in (*found.get("codes", ()), found.get("code", 0)):
        assert known is None or code in known, f"{code:#x} in {NAMES[kind]}"
    return Packet(kind, **found)


def _publish(version: int, flags: int, fields: Reader, size: int) -> Packet:
    dup, qos, retain = flags & 8 == 8, flags >> 1 & 3, flags & 1 == 1
    assert qos < 3
    assert qos or not dup, "DUP at QoS 0"
    topic = fields.text()
    assert not set(topic) & {"+", "#"}
    packet_id = fields.number(2) if qos else 0
    assert bool(packet_id) == bool(qos)
    props = fields.properties(PUBLISH) if version == V5 else ()
    assert topic or "topic_alias" in dict(props)
    return Packet(
        PUBLISH,
        packet_id=packet_id,
        topic=topic,
        payload=fields.body,
        qos=qos,
        retain=retain,
        dup=dup,
        props=props,
        size=size,
    )

"""The packets a server sends, MQTT 3.1.1 and 5.0, as bytes.

The last step before the socket. All integers are big-endian. Section numbers are the same in both versions
unless one is named.
"""

from __future__ import annotations

from hub.mqtt.fields import encode_length
from hub.mqtt.properties import Properties, encode_properties
from hub.mqtt.reasons import ConnectCode, Reason

PUBACK = 0x40
PUBREC = 0x50
PUBREL = 0x62
PUBCOMP = 0x70
SUBSCRIBE_FAILED = 0x80  # SUBACK return code (3.1.1, 3.9.3)
PINGRESP = b"\xd0\x00"  # 3.13


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_length(len(body)) + body


def encode_connack(code: ConnectCode, *, session_present: bool = False) -> bytes:
    """3.1.1, 3.2: session_present only together with ACCEPTED."""
    return bytes((0x20, 2, session_present, code))


def encode_connack_5(
    reason: Reason, properties: Properties | None = None, *, session_present: bool = False
) -> bytes:
    """5.0, 3.2: session_present only together with SUCCESS."""
    return _packet(0x20, bytes((session_present, reason)) + encode_properties(properties))


def encode_answer(first: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP that says all is well: the same bytes in both versions (3.4 to 3.7)."""
    return bytes((first, 2)) + packet_id.to_bytes(2, "big")


def encode_answer_5(first: int, packet_id: int, reason: int, reason_string: str = "") -> bytes:
    """5.0, 3.4 to 3.7, with a reason code."""
    if not reason and not reason_string:
        return encode_answer(first, packet_id)
    body = packet_id.to_bytes(2, "big") + bytes((reason,))
    if reason_string:
        body += encode_properties(Properties(reason_string=reason_string))
    return _packet(first, body)


def encode_puback(packet_id: int) -> bytes:
    """3.4: the QoS 1 message is durable."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def encode_pubrec(packet_id: int) -> bytes:
    """3.5: the QoS 2 message is durable and its packet id remembered."""
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


def encode_pubrel(packet_id: int) -> bytes:
    """3.6."""
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


def encode_pubcomp(packet_id: int) -> bytes:
    """3.7: the packet id may be used again."""
    return b"\x70\x02" + packet_id.to_bytes(2, "big")


def encode_suback(packet_id: int, codes: bytes) -> bytes:
    """3.1.1, 3.9: one granted QoS or SUBSCRIBE_FAILED per filter, in the order of the SUBSCRIBE."""
    return _packet(0x90, packet_id.to_bytes(2, "big") + codes)


def encode_suback_5(packet_id: int, codes: bytes, reason_string: str = "") -> bytes:
    """5.0, 3.9: one reason code per filter, in the order of the SUBSCRIBE."""
    properties = Properties(reason_string=reason_string) if reason_string else None
    return _packet(0x90, packet_id.to_bytes(2, "big") + encode_properties(properties) + codes)


def encode_unsuback(packet_id: int) -> bytes:
    """3.1.1, 3.11."""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def encode_unsuback_5(packet_id: int, codes: bytes) -> bytes:
    """5.0, 3.11: one reason code per filter, in the order of the UNSUBSCRIBE."""
    return _packet(0xB0, packet_id.to_bytes(2, "big") + b"\x00" + codes)


def encode_disconnect(reason: Reason, reason_string: str = "") -> bytes:
    """5.0, 3.14; a server of 3.1.1 sends none."""
    body = bytes((reason,))
    if reason_string:
        body += encode_properties(Properties(reason_string=reason_string))
    return _packet(0xE0, body)


def publish_head(topic: bytes, payload_size: int, qos: int, *, retain: bool = False) -> bytes:
    """The start of a PUBLISH of 3.1.1 (3.3) up to the packet id (QoS 1 and 2) or the payload (QoS 0).

    The same for every message of one topic and size, so callers keep it.
    """
    size = 2 + len(topic) + payload_size + (2 if qos else 0)
    return bytes((0x30 | qos << 1 | retain,)) + encode_length(size) + len(topic).to_bytes(2, "big") + topic


def publish_head_5(
    topic: bytes,
    block: bytes,
    payload_size: int,
    qos: int,
    packet_id: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """Everything of a PUBLISH of 5.0 (3.3) before the payload; `block` is its properties without their length."""
    length = encode_length(len(block))
    size = 2 + len(topic) + (2 if qos else 0) + len(length) + len(block) + payload_size
    first = bytes((0x30 | dup << 3 | qos << 1 | retain,))
    head = first + encode_length(size) + len(topic).to_bytes(2, "big") + topic
    return (head + packet_id.to_bytes(2, "big") if qos else head) + length + block


def encode_publish(
    topic: bytes, payload: bytes, qos: int, packet_id: int = 0, *, retain: bool = False, dup: bool = False
) -> bytes:
    """3.1.1, 3.3. `topic` is UTF-8; `packet_id` 1..65535 at QoS 1 and 2, not sent at QoS 0."""
    head = publish_head(topic, len(payload), qos, retain=retain)
    if not qos:
        return head + payload
    if dup:
        head = bytes((head[0] | 8,)) + head[1:]
    return head + packet_id.to_bytes(2, "big") + payload

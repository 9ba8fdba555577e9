"""The packets a server sends (MQTT 3.1.1), as bytes.

The last step before the socket. All integers are big-endian; section numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

from hub.mqtt.packets import ConnectCode

SUBSCRIBE_FAILED = 0x80  # SUBACK return code (3.9.3)
PINGRESP = b"\xd0\x00"  # 3.13


def encode_length(length: int) -> bytes:
    """Write a remaining length (2.2.3), 0..268_435_455."""
    if length < 0x80:
        return bytes((length,))
    out = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        if not length:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def encode_connack(code: ConnectCode, *, session_present: bool = False) -> bytes:
    """3.2: session_present only together with ACCEPTED."""
    return bytes((0x20, 2, session_present, code))


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
    """3.9: one granted QoS or SUBSCRIBE_FAILED per filter, in the order of the SUBSCRIBE."""
    return b"\x90" + encode_length(2 + len(codes)) + packet_id.to_bytes(2, "big") + codes


def encode_unsuback(packet_id: int) -> bytes:
    """3.11."""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def publish_head(topic: bytes, payload_size: int, qos: int, *, retain: bool = False) -> bytes:
    """The start of a PUBLISH (3.3) up to where the packet id stands (QoS 1 and 2) or the payload (QoS 0).

    The same for every message of one topic and size, so callers keep it.
    """
    size = 2 + len(topic) + payload_size + (2 if qos else 0)
    return bytes((0x30 | qos << 1 | retain,)) + encode_length(size) + len(topic).to_bytes(2, "big") + topic


def encode_publish(
    topic: bytes, payload: bytes, qos: int, packet_id: int = 0, *, retain: bool = False, dup: bool = False
) -> bytes:
    """3.3. `topic` is UTF-8; `packet_id` 1..65535 at QoS 1 and 2, not sent at QoS 0."""
    head = publish_head(topic, len(payload), qos, retain=retain)
    if not qos:
        return head + payload
    if dup:
        head = bytes((head[0] | 8,)) + head[1:]
    return head + packet_id.to_bytes(2, "big") + payload

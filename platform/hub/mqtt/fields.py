"""Reading the fields of one packet: integers, text, binary data (MQTT 3.1.1 and 5.0, 1.5), topics (4.7).

Pure. All integers are big-endian. Only PacketError escapes.
"""

from __future__ import annotations

from hub.mqtt.reasons import PacketError, Reason

MAX_LENGTH = 268_435_455  # a variable byte integer: four bytes of seven bits


class Fields:
    """Reads the fields of one packet body in their order, from `at` up to `stop`."""

    __slots__ = ("at", "body", "stop")

    def __init__(self, body: bytes, at: int = 0, stop: int | None = None) -> None:
        self.body = body
        self.at = at
        self.stop = len(body) if stop is None else stop

    @property
    def left(self) -> int:
        return self.stop - self.at

    def take(self, count: int) -> bytes:
        if self.stop - self.at < count:
            raise PacketError("packet ends within a field")
        self.at += count
        return self.body[self.at - count : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def length(self) -> int:
        """A variable byte integer, 0..MAX_LENGTH."""
        found = read_length(self.body[self.at : min(self.stop, self.at + 4)], 0)
        if found is None:
            raise PacketError("packet ends within a variable byte integer")
        value, used = found
        if used > 1 and not self.body[self.at + used - 1]:
            raise PacketError("variable byte integer longer than it need be")  # 5.0, 1.5.5-1
        self.at += used
        return value

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        return text(self.binary())

    def packet_id(self) -> int:
        found = self.u16()
        if not found:
            raise PacketError("packet id 0", Reason.PROTOCOL_ERROR)
        return found

    def end(self) -> None:
        if self.left:
            raise PacketError(f"{self.left} bytes behind the last field")


def read_length(data: bytes, at: int) -> tuple[int, int] | None:
    """Read a remaining length (2.2.3) or variable byte integer (5.0, 1.5.5): seven bits a byte, lowest first.

    Returns (length, position behind it), or None while more bytes are needed.
    Raises PacketError where a fourth byte still says "continue".
    """
    value = 0
    for used, byte in enumerate(data[at : at + 4]):
        value |= (byte & 0x7F) << (7 * used)
        if byte < 0x80:
            return value, at + used + 1
    if len(data) - at >= 4:
        raise PacketError("length longer than 4 bytes")
    return None


def encode_length(length: int) -> bytes:
    """Write a remaining length or variable byte integer, 0..MAX_LENGTH."""
    if length < 0x80:
        return bytes((length,))
    if length < 0x4000:
        return bytes((length & 0x7F | 0x80, length >> 7))
    out = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        if not length:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def encode_binary(value: bytes) -> bytes:
    """Length in two bytes, then the bytes; at most 65,535 of them."""
    return len(value).to_bytes(2, "big") + value


def text(raw: bytes) -> str:
    """3.1.1, 1.5.3 and 5.0, 1.5.4: UTF-8 without surrogates and without U+0000."""
    try:
        value = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PacketError("text is not UTF-8") from None
    if "\0" in value:
        raise PacketError("text holds U+0000")
    return value


def topic_name(topic: str) -> str:
    """4.7.1, 4.7.3: a topic to publish to has no wildcard and at least one character."""
    if not topic:
        raise PacketError("empty topic", Reason.PROTOCOL_ERROR)
    if "+" in topic or "#" in topic:
        raise PacketError("wildcard in a topic name")
    return topic


def topic_filter(value: str) -> str:
    """4.7.1: `#` only as the whole last level, `+` only as a whole level. 5.0, 4.8.2: the form of `$share`."""
    if not value:
        raise PacketError("empty topic filter", Reason.PROTOCOL_ERROR)
    if "#" in value or "+" in value:
        levels = value.split("/")
        for level in levels[:-1]:
            if "#" in level or ("+" in level and level != "+"):
                raise PacketError("wildcard is not a level of its own")
        if ("#" in levels[-1] or "+" in levels[-1]) and len(levels[-1]) > 1:
            raise PacketError("wildcard is not a level of its own")
    return value


SHARE = "$share/"


def shared(value: str) -> tuple[str, str]:
    """Split a filter of MQTT 5 into (share name, filter); the name is "" where it is not shared (5.0, 4.8.2)."""
    if not value.startswith(SHARE):
        return "", value
    name, slash, rest = value.removeprefix(SHARE).partition("/")
    if not name or "+" in name or "#" in name:
        raise PacketError("share name is empty or holds a wildcard")
    if not slash or not rest:
        raise PacketError("shared subscription without a filter")
    return name, rest

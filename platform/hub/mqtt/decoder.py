"""Bytes of one client to packets, MQTT 3.1.1 and 5.0.

The first step behind the socket: `Decoder.feed` takes what one read brought and appends every complete
packet to a list. All integers are big-endian. Nothing but PacketError escapes, whatever the bytes.
"""

from __future__ import annotations

from hub.mqtt import bodies
from hub.mqtt.fields import Fields, read_length, text, topic_name
from hub.mqtt.packets import CONNECT_BYTE, Packet, PubAck, PubComp, Publish, PubRec, PubRel
from hub.mqtt.properties import On, Properties, read_properties
from hub.mqtt.reasons import LEVEL_5_0, PacketError, Reason

_TOPIC_BYTES = 16 << 10  # per connection: a thing publishes to a handful of topics, so each is checked once
_LONGEST_TOPIC = 1280  # bytes that are remembered of one topic; the hub has no place for a longer one
_BLOCKS_REMEMBERED = 16  # per connection: property blocks that come again and again, so each is read once
_BLOCK_BYTES = 256  # longest block remembered
_ANSWERS: dict[int, type[PubAck | PubRec | PubRel | PubComp]] = {  # a packet id and no more: all is well
    0x40: PubAck,
    0x50: PubRec,
    0x62: PubRel,
    0x70: PubComp,
}


class Decoder:
    """Cuts the byte stream of one client into packets.

    `max_packet` (bytes, header included) is checked at the fixed header, before anything is kept; the
    server raises it once the client has authenticated. Decoding stops after a CONNECT: what follows it is
    read with the limits that the server sets then (`max_packet`, `max_alias`), by `feed(b"", ...)`.
    """

    __slots__ = (
        "_aliases",
        "_blocks",
        "_need",
        "_rest",
        "_topic_bytes",
        "_topics",
        "level",
        "max_alias",
        "max_packet",
    )

    def __init__(self, max_packet: int) -> None:
        self.max_packet = max_packet
        self.max_alias = 0  # topic alias maximum as announced; 0: the client may use none
        self.level = 0  # protocol level of the CONNECT; 0 before it
        self._rest = bytearray()  # a packet that has not arrived whole; at most max_packet and one read
        self._need = 0  # bytes that _rest must hold before it is worth looking again
        self._topics: dict[bytes, str] = {}
        self._topic_bytes = 0  # of its keys
        self._blocks: dict[bytes, Properties] = {}
        self._aliases: dict[int, str] = {}  # at most max_alias

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
                if not data[body - 1] and self.level == LEVEL_5_0:
                    raise PacketError("remaining length longer than it need be")  # 1.5.5-1
            stop = body + length
            if stop - at > self.max_packet:
                raise PacketError(
                    f"packet of {stop - at} bytes, {self.max_packet} allowed", Reason.PACKET_TOO_LARGE
                )
            if stop > end:
                self._need = stop - at
                break
            if first & 0xF0 == 0x30 and self.level:
                packets.append(self._publish(first, data, body, stop))
                at = stop
                continue
            if length == 2 and self.level and first in _ANSWERS:  # no call: as many as there are messages
                packet_id = data[body] << 8 | data[body + 1]
                if not packet_id:
                    raise PacketError("packet id 0", Reason.PROTOCOL_ERROR)
                packets.append(_ANSWERS[first](packet_id))
                at = stop
                continue
            packet = self._other(first, data[body:stop])
            packets.append(packet)
            at = stop
            if first == CONNECT_BYTE:
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
            if at + 2 > stop:
                raise PacketError("packet id missing")
            packet_id = data[at] << 8 | data[at + 1]
            if not packet_id:
                raise PacketError("packet id 0", Reason.PROTOCOL_ERROR)
            at += 2
        elif first & 8:
            raise PacketError("DUP set at QoS 0")
        if self.level == LEVEL_5_0:
            properties = None
            if at < stop and not data[at]:
                at += 1
            else:
                properties, at = self._publish_properties(data, at, stop)
            if not topic or (properties is not None and properties.topic_alias is not None):
                topic = self._aliased(topic, properties)
            return Publish(topic, data[at:stop], qos, first & 1 == 1, first & 8 == 8, packet_id, properties)
        if at > stop:
            raise PacketError("PUBLISH topic longer than the packet")
        return Publish(topic, data[at:stop], qos, first & 1 == 1, first & 8 == 8, packet_id)

    def _new_topic(self, raw: bytes) -> str:
        if not raw and self.level == LEVEL_5_0:
            return ""  # stands for an alias
        topic = topic_name(text(raw))
        if len(raw) <= _LONGEST_TOPIC:
            self._topic_bytes += len(raw)
            if self._topic_bytes > _TOPIC_BYTES:
                self._topics.clear()
                self._topic_bytes = len(raw)
            self._topics[raw] = topic
        return topic

    def _publish_properties(self, data: bytes, at: int, stop: int) -> tuple[Properties | None, int]:
        """5.0, 3.3.2.3: the block at `at`, and the position behind it."""
        fields = Fields(data, at, stop)
        size = fields.length()
        end = fields.at + size
        block = data[at:end]
        found = self._blocks.get(block)
        if found is not None and end <= stop:
            return found, end
        fields.at = at
        found = read_properties(fields, On.PUBLISH)
        if found is None:
            return None, fields.at
        if found.subscription_ids:
            raise PacketError("subscription identifier from a client", Reason.PROTOCOL_ERROR)  # 3.3.4-6
        if len(block) <= _BLOCK_BYTES:
            if len(self._blocks) >= _BLOCKS_REMEMBERED:
                self._blocks.clear()
            self._blocks[block] = found
        return found, fields.at

    def _aliased(self, topic: str, properties: Properties | None) -> str:
        """5.0, 3.3.2.3.4: what an alias stands for, or learn it."""
        alias = properties.topic_alias if properties is not None else None
        if alias is None:
            raise PacketError("neither topic nor topic alias", Reason.PROTOCOL_ERROR)
        if alias > self.max_alias:
            raise PacketError(f"topic alias {alias}, {self.max_alias} allowed", Reason.TOPIC_ALIAS_INVALID)
        if topic:
            if len(topic) <= _LONGEST_TOPIC:
                self._aliases[alias] = topic
            else:
                self._aliases.pop(alias, None)
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise PacketError(f"topic alias {alias} stands for nothing", Reason.PROTOCOL_ERROR)
        return known

    def _other(self, first: int, body: bytes) -> Packet:
        if not self.level:
            if first != CONNECT_BYTE:
                raise PacketError(f"first packet is {first:#04x}, not CONNECT", Reason.PROTOCOL_ERROR)
            connect = bodies.connect(body)
            self.level = connect.level
            return connect
        return bodies.read(self.level, first, body)

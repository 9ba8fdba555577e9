"""What goes to one client: gathered, bounded, written once per turn of the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hub.mqtt import replies
from hub.mqtt.properties import Properties, encode_properties
from hub.mqtt.reasons import LEVEL_3_1_1, LEVEL_5_0

if TYPE_CHECKING:
    from hub.mqtt.door import MqttDoor

WIRE_OVERHEAD = 64  # bytes a queued packet costs beside its own, about


class Outbox:
    """The sending half of a connection."""

    def __init__(self, door: MqttDoor) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._buffer_limit = 0
        self._aliases: dict[bytes, int] = {}  # towards the client; at most max_aliases
        self.closing_s: float | None = None  # monotonic; nothing is queued any more
        self.level = LEVEL_3_1_1
        self.max_packet = 0  # bytes the client takes (5.0, 3.1.2.11.4); 0: any
        self.max_aliases = 0
        self.out: list[bytes] = []  # for this turn
        self.out_bytes = 0
        self.full = False  # the client does not keep up: what can wait or be dropped is not queued

    def fits(self, wire: bytes) -> bool:
        """Whether the client takes a packet of this size (5.0, 3.1.2-24)."""
        return not self.max_packet or len(wire) <= self.max_packet

    def send(self, wire: bytes) -> None:
        """Queue a packet for the end of this turn."""
        self.put(b"", wire)

    def put(self, head: bytes, payload: bytes) -> None:
        """Queue a packet in two parts, so that a payload many clients receive is not copied for each."""
        if self.closing_s is not None:
            return
        if not self.out_bytes:
            self._door.wants_flush(self)
        self.out += (head, payload)
        self.out_bytes += len(head) + len(payload) + WIRE_OVERHEAD
        if self.out_bytes > self._buffer_limit:
            self.flush()  # what the socket takes of a burst now need not wait or be dropped

    def flush(self) -> None:
        """Write what has been gathered."""
        out, self.out = self.out, []
        self.out_bytes = 0
        if out and self._transport is not None:
            wire = b"".join(out)
            self._door.counters["bytes_sent"] += len(wire)
            self._transport.write(wire)

    def publish_head(
        self,
        topic: bytes,
        block: bytes,
        size: int,
        qos: int,
        packet_id: int,
        *,
        retain: bool,
        dup: bool,
        alias: bool,
    ) -> bytes | None:
        """The start of a PUBLISH of MQTT 5; None where this client takes no packet that large (3.1.2-24).

        `alias`: the packet is queued next, so that a topic alias may be used or begun.
        """
        if self.max_packet:
            head = replies.publish_head_5(topic, block, size, qos, packet_id, retain=retain, dup=dup)
            if len(head) + size > self.max_packet:
                return None
            if len(head) + size + 5 > self.max_packet:
                return head  # no room to begin an alias
        if alias and self.max_aliases:
            topic, block = self._aliased(topic, block)
        return replies.publish_head_5(topic, block, size, qos, packet_id, retain=retain, dup=dup)

    def _aliased(self, topic: bytes, block: bytes) -> tuple[bytes, bytes]:
        """3.3.2.3.4: the first topics of a connection get an alias each."""
        number = self._aliases.get(topic)
        if number is not None:
            return b"", b"\x23" + number.to_bytes(2, "big") + block
        if len(self._aliases) < self.max_aliases:
            number = self._aliases[topic] = len(self._aliases) + 1
            return topic, b"\x23" + number.to_bytes(2, "big") + block
        return topic, block

    def send_system(self, topic: str, value: str, identifiers: tuple[int, ...], *, retain: bool) -> None:
        """A value of `$SYS` at QoS 0."""
        if self.full:
            self._door.counters["dropped_qos0"] += 1
            return
        name, payload = topic.encode(), value.encode()
        if self.level == LEVEL_5_0:
            block = encode_properties(Properties(subscription_ids=identifiers))[1:]
            head = self.publish_head(name, block, len(payload), 0, 0, retain=retain, dup=False, alias=False)
        else:
            head = replies.publish_head(name, len(payload), 0, retain=retain)
        if head is not None:
            self._door.counters["sent_qos0"] += 1
            self.put(head, payload)

    def limit_buffer(self, size: int) -> None:
        """What may be buffered towards this client, in bytes; takes effect at once."""
        if self._transport is not None and size != self._buffer_limit:
            self._buffer_limit = size
            self._transport.set_write_buffer_limits(high=size, low=size // 4)

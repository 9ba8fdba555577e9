"""One client's connection: bytes in, packets handled, bytes out.

The shell around `packets` and `session`. Every complete packet of a read is handled in one pass; what goes to
the client is gathered and written once per turn of the loop. There is no task, future or timer per packet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, cast

from hub.access import Action, Principal, Resource
from hub.errors import AccessDenied, HubError, TopicError
from hub.message import Message, TimeQuality
from hub.mqtt import packets as mqtt
from hub.mqtt import replies
from hub.mqtt.decoder import Decoder
from hub.mqtt.delivery import Interest
from hub.mqtt.reasons import ConnectCode, PacketError
from hub.mqtt.session import Session, Subscription
from hub.topics import ANY_CHANNEL, Filter, parse_filter, parse_topic

if TYPE_CHECKING:
    from hub.mqtt.door import MqttDoor

log = logging.getLogger("hub.mqtt")

MAX_PLACES = 256  # topics whose parsing and permission are remembered, per connection
WIRE_OVERHEAD = 64  # bytes a queued packet costs beside its payload, about


class Place(NamedTuple):
    """A topic this client may publish to."""

    channel: str
    subtopic: str
    content_type: str | None  # where the topic's last word names it


class Connection(asyncio.Protocol):
    """From accept to the end. Until CONNECT has authenticated it is a small buffer and nothing else."""

    def __init__(self, door: MqttDoor) -> None:
        self._door = door
        self._decoder = Decoder(door.limits.connect_bytes)
        self._transport: asyncio.Transport | None = None
        self._places: dict[str, Place] = {}
        self._epoch = -1
        self._taken: list[Message] = []  # published in this read
        self._answers: list[bytes] = []  # owed for this read once it is durable
        self._stamp = (0, TimeQuality.UNSET)  # time of this read
        self._buffer_limit = 0
        self.peer = ""
        self.accepted_s = 0.0  # monotonic
        self.heard_s = 0.0  # monotonic time of the last bytes
        self.closing_s: float | None = None
        self.paused = False  # not read from, because the disk does not keep up
        self.keepalive_s = 0
        self.principal: Principal
        self.session: Session  # from the accepted CONNECT on
        self.authenticated = False
        self.will: mqtt.Will | None = None
        self.interests: dict[str, Interest] = {}
        self.resending: deque[int] = deque()  # packet ids owed again since the reconnect
        self.unsaved = False  # the kept session has moved on since its row was written
        self.out: list[bytes] = []  # for this turn
        self.out_bytes = 0
        self.full = False  # the client does not keep up: what can wait or be dropped is not queued

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.limit_buffer(self._door.buffer_share())
        self.peer = str(transport.get_extra_info("peername", ("?",))[0])
        self.accepted_s = self.heard_s = self._door.clock()
        if not self._door.admit(self):
            self.closing_s = self.accepted_s
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.closing_s is not None:
            return
        self.heard_s = self._door.clock()
        found: list[mqtt.Packet] = []
        fault: PacketError | None = None
        try:
            self._decoder.feed(data, found)
            if not self.authenticated and found:
                self._door.connect(self, cast(mqtt.Connect, found.pop()))
                if not self.authenticated:
                    return
                self._decoder.max_packet = self._door.limits.packet_bytes
                self._decoder.feed(b"", found)
        except PacketError as error:
            fault = error
        try:
            self._handle(found)
        except PacketError as error:
            fault = error
        except HubError as error:
            self._door.refused(self, error)
        if fault is not None:
            self._door.malformed(self, fault)

    def eof_received(self) -> bool:
        return False  # close; what a client cannot read any more need not be kept open for

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.lost(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._door.wants_pump(self)

    # Towards the client

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
        self.out_bytes += len(payload) + WIRE_OVERHEAD
        if self.out_bytes > self._buffer_limit:
            self.flush()  # what the socket takes of a burst now need not wait or be dropped

    def flush(self) -> None:
        """Write what has been gathered."""
        out, self.out = self.out, []
        self.out_bytes = 0
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def limit_buffer(self, size: int) -> None:
        """What may be buffered towards this client, in bytes; takes effect at once."""
        if self._transport is not None and size != self._buffer_limit:
            self._buffer_limit = size
            self._transport.set_write_buffer_limits(high=size, low=size // 4)

    def refuse(self, code: ConnectCode) -> None:
        """Answer a CONNECT with a refusal and close (3.2.2.3)."""
        if self._transport is not None:
            self._transport.write(replies.encode_connack(code))
        self.close()

    def close(self) -> None:
        """Close once what is buffered has been sent; the sweep ends it where the client does not read."""
        if self.closing_s is None:
            self.flush()
            self.closing_s = self._door.clock()
            self._door.detach(self)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def abandon(self, reason: str) -> None:
        """Close because a promise cannot be kept; the client sends again what was not acknowledged."""
        log.warning("mqtt %s closed: %s", self.peer, reason)
        self.close()

    def pause(self) -> None:
        """Stop reading from this client."""
        self.paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on. Silence while it was not read from is not the client's."""
        self.paused = False
        self.heard_s = self._door.clock()
        if self._transport is not None:
            self._transport.resume_reading()

    # From the client

    def _handle(self, found: list[mqtt.Packet]) -> None:
        """Handle the packets of one read in order. After PacketError or HubError it is to be closed."""
        if self._epoch != self._door.epoch:
            self._epoch = self._door.epoch
            self._places.clear()
        self._stamp = self._door.stamp()
        try:
            for packet in found:
                if self.closing_s is not None:
                    return
                if type(packet) is mqtt.Publish:
                    self._publish(packet)
                else:
                    self._other(packet)
        finally:
            self._hand_in()

    def _other(self, packet: mqtt.Packet) -> None:
        match packet:
            case mqtt.PubAck():
                if self.session.acknowledged(packet.packet_id):
                    self._room()
            case mqtt.PubRec():
                self._pubrec(packet.packet_id)
            case mqtt.PubRel():
                self._pubrel(packet.packet_id)
            case mqtt.PubComp():
                if self.session.completed(packet.packet_id):
                    self._room()
            case mqtt.Subscribe():
                self._subscribe(packet)
            case mqtt.Unsubscribe():
                self._unsubscribe(packet)
            case mqtt.PingReq():
                self.send(replies.PINGRESP)
            case mqtt.Disconnect():
                self.will = None
                self.close()

    def _hand_in(self) -> None:
        """Give the intake what this read brought: one entry each, however many packets."""
        if self._taken:
            self._door.intake.take(self, self._taken)
            self._taken = []
        if self._answers:
            self._door.intake.answer(self, b"".join(self._answers))
            self._answers = []

    def _publish(self, packet: mqtt.Publish) -> None:
        """3.3. QoS 1 and 2 are answered when the message is durable, by way of the intake."""
        place = self._places.get(packet.topic) or self._place(packet.topic)
        message = self._door.message(self.principal, place, packet, self._stamp)
        qos = packet.qos
        if qos == 2 and not self.session.begin_receiving(packet.packet_id):
            self._answers.append(replies.encode_pubrec(packet.packet_id))
            return
        if packet.retain:
            self._door.retain(message)
        self._taken.append(message)
        if qos == 1:
            self._answers.append(replies.encode_puback(packet.packet_id))
        elif qos == 2:
            session = self.session
            if session.kept:
                self._door.intake.save(session)
            self._door.intake.undo(lambda: session.receiving.discard(packet.packet_id))
            self._answers.append(replies.encode_pubrec(packet.packet_id))

    def _place(self, topic: str) -> Place:
        """Parse a topic and ask whether this client may publish there. Raises TopicError, AccessDenied."""
        address = parse_topic(topic)
        place = Place(address.channel, address.subtopic, address.content_type)
        decision = self._door.access.decide(
            self.principal, Action.PUBLISH, Resource(place.channel, place.subtopic)
        )
        if not decision.allowed:
            raise AccessDenied(decision.reason)
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[topic] = place
        return place

    def _pubrec(self, packet_id: int) -> None:
        """For a kept session the row says so before PUBREL leaves: the message must never be sent again."""
        changed = self.session.received(packet_id)
        self._answer_when_saved(replies.encode_pubrel(packet_id), changed=changed)

    def _pubrel(self, packet_id: int) -> None:
        """For a kept session the id is forgotten durably before the client may use it for a new message."""
        changed = self.session.release(packet_id)
        self._answer_when_saved(replies.encode_pubcomp(packet_id), changed=changed)

    def _room(self) -> None:
        session = self.session
        self.unsaved = True
        if session.behind or session.waiting:
            self._door.wants_pump(self)

    def _subscribe(self, packet: mqtt.Subscribe) -> None:
        """3.8. The answer follows the row of a kept session; retained messages follow the answer."""
        codes = bytearray()
        granted: list[tuple[Filter, int]] = []
        for text, qos, *_ in packet.filters:
            wanted = self._wanted(text)
            if wanted is None:
                self._door.counters["refused_subscriptions"] += 1
                codes.append(replies.SUBSCRIBE_FAILED)
                continue
            codes.append(qos)
            granted.append((wanted, qos))
            old = self.session.subscriptions.get(text)
            since = old.since if old else self._door.delivery.last_seq
            self.session.subscriptions[text] = Subscription(qos, since)
            self.listen(text, wanted)
        self._answer_when_saved(replies.encode_suback(packet.packet_id, bytes(codes)))
        shown = [(wanted, qos) for wanted, qos in granted if self._door.retained.matching(wanted)]
        if shown and (self.session.kept or any(qos for _, qos in shown)):
            # What QoS 1 and 2 bring is durable, a message retained a moment ago included.
            self._door.intake.then(lambda: self._show_retained(shown))
        elif shown:
            self._show_retained(shown)

    def _show_retained(self, shown: list[tuple[Filter, int]]) -> None:
        if self.closing_s is not None:
            return
        for wanted, qos in shown:
            self._door.delivery.show_retained(self, wanted, qos)
        if self.session.waiting:
            self._door.wants_pump(self)

    def _unsubscribe(self, packet: mqtt.Unsubscribe) -> None:
        """3.10."""
        for text in packet.filters:
            self.session.subscriptions.pop(text, None)
            interest = self.interests.pop(text, None)
            if interest is not None:
                self._door.delivery.remove(interest)
        self._answer_when_saved(replies.encode_unsuback(packet.packet_id))

    def _answer_when_saved(self, wire: bytes, *, changed: bool = True) -> None:
        """For a kept session: behind its row, also where that was on its way to the disk already."""
        if self.session.kept:
            if changed:
                self._door.intake.save(self.session)
            self._answers.append(wire)
        else:
            self.send(wire)

    def _wanted(self, text: str) -> Filter | None:
        """The filter behind `text`, or None where this client may not have it."""
        held = self.session.subscriptions
        if text not in held and len(held) >= self._door.limits.subscriptions:
            return None
        return self.allowed_filter(text)

    def allowed_filter(self, text: str) -> Filter | None:
        """Parse a filter and ask for it; wildcards stand only below one channel's `messages`."""
        try:
            wanted = parse_filter(text)
        except TopicError:
            return None
        start = f"channels/{wanted.channel}/messages"
        plain = text.removeprefix("/").removeprefix("mainflux/")
        if wanted.channel == ANY_CHANNEL or not plain.startswith(start):
            return None
        decision = self._door.access.decide(
            self.principal, Action.SUBSCRIBE, Resource(wanted.channel, wanted.subtopic)
        )
        return wanted if decision.allowed else None

    def listen(self, text: str, wanted: Filter) -> None:
        """Have the delivery bring what a subscription of the session matches."""
        old = self.interests.pop(text, None)
        if old is not None:
            self._door.delivery.remove(old)
        subscription = self.session.subscriptions[text]
        interest = Interest(self, text, wanted, subscription.qos, subscription.since)
        self.interests[text] = interest
        self._door.delivery.add(interest)

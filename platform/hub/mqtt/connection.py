"""One client's connection: bytes in, packets handled, bytes out.

The shell around `decoder` and `session`. Every complete packet of a read is handled in one pass; what goes to
the client is gathered and written once per turn of the loop. There is no task, future or timer per packet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from hub.access import Circumstances, Principal
from hub.authority.judge import Shown
from hub.errors import HubError, LogFull
from hub.message import Message, TimeQuality
from hub.mqtt import packets as mqtt
from hub.mqtt import replies
from hub.mqtt.decoder import Decoder
from hub.mqtt.outbox import Outbox
from hub.mqtt.properties import Properties
from hub.mqtt.publishing import PROTOCOL, Place
from hub.mqtt.reasons import CONNECT_CODES, LEVEL_5_0, ConnectCode, PacketError, Reason
from hub.mqtt.routes import Interest
from hub.mqtt.session import Session
from hub.mqtt.sharing import Group
from hub.mqtt.subscribing import Subscribing
from hub.proxy_protocol import begins_header

if TYPE_CHECKING:
    from hub.mqtt.door import MqttDoor

log = logging.getLogger("hub.mqtt")

MAX_PLACES = 256  # topics whose parsing and permission are remembered, per connection
MAX_REASON = 200  # characters of a reason string


class Reply:
    """What a client of MQTT 5 is owed for one read: it can be told that a message was not taken."""

    __slots__ = ("_binding", "_connection", "_promises", "_wires")

    def __init__(
        self, connection: Connection, wires: list[bytes], promises: list[tuple[int, int, int]], binding: bool
    ) -> None:
        self._connection = connection
        self._wires = wires
        self._promises = promises  # (index into wires, PUBACK or PUBREC, packet id)
        self._binding = binding  # something else than publishing depends on it

    def settle(self, error: HubError | None) -> None:
        connection = self._connection
        connection.unanswered -= sum(first == replies.PUBACK for _, first, _ in self._promises)
        if error is not None:
            if self._binding or not isinstance(error, LogFull):
                connection.abandon("the log did not take the message", Reason(error.mqtt_reason))
                return
            for index, first, packet_id in self._promises:
                self._wires[index] = connection.refusal(first, packet_id, error)
        connection.send(b"".join(self._wires))


class Connection(Outbox, asyncio.Protocol):
    """From accept to the end. Until CONNECT has authenticated it is a small buffer and nothing else."""

    def __init__(self, door: MqttDoor, announced: str = "", shown: Shown | None = None) -> None:
        """`announced` is the client's address where a trusted proxy has told it, `shown` what its certificate is."""
        super().__init__(door)
        self._decoder = Decoder(door.limits.connect_bytes)
        self._places: dict[str, Place] = {}
        self._epoch = -1
        self._taken: list[Message] = []  # published in this read
        self._answers: list[bytes] = []  # owed for this read once it is durable
        self._promises: list[tuple[int, int, int]] = []  # of these in MQTT 5, see Reply
        self._binding = False
        self._stamp = (0, TimeQuality.UNSET)  # time of this read
        self.subscribing = Subscribing(door, self)
        self.peer = announced
        self.circumstances = Circumstances(PROTOCOL)
        self.certificate = shown  # None without TLS, or where the client has shown none
        self.accepted_s = 0.0  # monotonic
        self.heard_s = 0.0  # monotonic time of the last bytes
        self._pauses = 0  # reasons not to read from it: the disk does not keep up, it publishes too fast
        self.keepalive_s = 0
        self.principal: Principal
        self.token = ""  # see entry.Login
        self.ends_s: float | None = None
        self.session: Session  # from the accepted CONNECT on
        self.authenticated = False
        self.interests: dict[str, Interest] = {}
        self.resending: deque[int] = deque()  # packet ids owed again since the reconnect
        self._held: bytearray | None = None  # what came behind a CONNECT that is not answered yet
        self.unsaved = False  # the kept session has moved on since its row was written
        # MQTT 5
        self.says_why = True  # reason strings are wanted (3.1.2.11.7)
        self.unanswered = 0  # QoS 1 messages taken and not acknowledged
        self._open: set[int] = set()  # QoS 2 ids received on this connection, not released

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.limit_buffer(self._door.buffer_share())
        self.peer = self.peer or str((transport.get_extra_info("peername") or ("?",))[0])
        self.circumstances = Circumstances(PROTOCOL, self.peer)
        self.accepted_s = self.heard_s = self._door.clock()
        if not self._door.admit(self):
            self.closing_s = self.accepted_s
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.closing_s is not None:
            return
        self.heard_s = self._door.clock()
        self._door.counters["bytes_received"] += len(data)
        if self._held is not None:
            self._held += data  # of a read that was under way when reading was paused
            return
        self._read(data)

    def _read(self, data: bytes) -> None:
        if not self.authenticated and begins_header(data):
            self._door.misannounced(self.peer, "a PROXY header is taken on mqtt.proxy_port only")
            self.close()
            return
        found: list[mqtt.Packet] = []
        fault: PacketError | None = None
        try:
            self._decoder.feed(data, found)
            if not self.authenticated and found:
                self._door.connect(self, cast(mqtt.Connect, found.pop()))
                if not self.authenticated or self._held is not None:
                    return
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

    # CONNECT

    def welcome(self, packet: mqtt.Connect) -> None:
        """The CONNECT was accepted: the limits of both sides hold from now on."""
        limits = self._door.limits
        self.authenticated = True
        self.level = packet.level
        self._decoder.max_packet = limits.packet_bytes
        receive_maximum = limits.in_flight
        if self.level == LEVEL_5_0:
            asked = packet.properties or Properties()
            self._decoder.max_alias = limits.topic_aliases
            self.max_aliases = min(asked.topic_alias_maximum or 0, limits.topic_aliases)
            self.max_packet = asked.maximum_packet_size or 0
            self.says_why = asked.request_problem_information != 0
            receive_maximum = asked.receive_maximum or receive_maximum
            self.session.max_receiving = 2 * limits.receiving  # those of its last connection included
        self.session.connected(receive_maximum)

    def hold(self) -> None:
        """The CONNECT was accepted and is answered later; until `go_on` nothing more is read."""
        self._held = bytearray()
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """CONNACK has been sent, and what is owed with it: handle what came behind the CONNECT, and read on."""
        held, self._held = self._held, None
        if held is None:
            return
        self._read(bytes(held))
        if self._transport is not None and not self._pauses:
            self._transport.resume_reading()

    def refuse(self, level: int, reason: Reason, why: str = "", packet: mqtt.Connect | None = None) -> None:
        """Answer a CONNECT with a refusal and close (3.2.2.2, 3.2.2.3); `packet` where it could be read."""
        if packet is not None and packet.properties is not None:
            self.max_packet = packet.properties.maximum_packet_size or 0
        if level == LEVEL_5_0:
            properties = Properties(reason_string=why[:MAX_REASON]) if why else None
            wire = replies.encode_connack_5(reason, properties)
            if not self.fits(wire):
                wire = replies.encode_connack_5(reason)
        else:
            wire = replies.encode_connack(CONNECT_CODES.get(reason, ConnectCode.NOT_AUTHORIZED))
        if self._transport is not None and self.fits(wire):
            self._transport.write(wire)
        self.close()

    def show_system(self, text: str) -> None:
        """The values of now to a new subscription to `$SYS`."""
        if self.closing_s is None:
            self._door.system.show(self, text, self._door.clock())

    def close(self, reason: Reason | None = None, why: str = "") -> None:
        """Close once what is buffered has been sent; the sweep ends it where the client does not read.

        A client of MQTT 5 is told `reason` by DISCONNECT (4.13).
        """
        if self.closing_s is None:
            answered = self.authenticated and self._held is None  # no DISCONNECT before CONNACK (3.14.0-1)
            if reason is not None and answered and self.level == LEVEL_5_0:
                wire = replies.encode_disconnect(reason, why[:MAX_REASON])
                if not self.fits(wire):
                    wire = replies.encode_disconnect(reason)
                if self.fits(wire):
                    self.send(wire)
            self.flush()
            self.closing_s = self._door.clock()
            self._door.detach(self)
        if self._transport is not None:
            self._transport.close()

    def cut(self, reason: Reason, why: str) -> None:
        """Close because a right is gone, without what was not sent yet: who reads slowly gets no more of it."""
        self.out, self.out_bytes = [], 0
        unread = self.unsent_bytes > 0
        self.close(reason, why)
        if unread:
            self.abort()

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def abandon(self, reason: str, code: Reason = Reason.UNSPECIFIED_ERROR) -> None:
        """Close because a promise cannot be kept; the client sends again what was not acknowledged."""
        log.warning("mqtt %s closed: %s", self.peer, reason)
        self.close(code, reason)

    @property
    def paused(self) -> bool:
        """Whether it is not read from. Silence meanwhile is not the client's."""
        return self._pauses > 0

    def pause(self) -> None:
        """Stop reading from this client, until `resume` was called as often."""
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None and self.closing_s is None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """One reason less not to read from it."""
        self._pauses -= 1
        if self._pauses:
            return
        self.heard_s = self._door.clock()
        if self._transport is not None and self.closing_s is None:
            self._transport.resume_reading()

    # From the client

    def _handle(self, found: list[mqtt.Packet]) -> None:
        """Handle the packets of one read in order. After PacketError or HubError it is to be closed."""
        if not found:
            return
        if self._epoch != self._door.epoch:
            self._epoch = self._door.epoch
            self._places.clear()
        self._stamp = self._door.stamp()
        publish = self._publish_5 if self.level == LEVEL_5_0 else self._publish
        acknowledged = self.session.acknowledged
        room = False
        try:
            for packet in found:
                if self.closing_s is not None:
                    return
                if type(packet) is mqtt.Publish:
                    publish(packet)
                elif type(packet) is mqtt.PubAck:
                    room = acknowledged(packet.packet_id) or room
                else:
                    self._other(packet)
        finally:
            if room:
                self._room()
            self._hand_in()

    def _other(self, packet: mqtt.Packet) -> None:
        match packet:
            case mqtt.PubRec():
                self._pubrec(packet)
            case mqtt.PubRel():
                self._pubrel(packet.packet_id)
            case mqtt.PubComp():
                if self.session.completed(packet.packet_id):
                    self._room()
            case mqtt.Subscribe():
                self.subscribing.subscribe(packet)
            case mqtt.Unsubscribe():
                self.subscribing.unsubscribe(packet)
            case mqtt.PingReq():
                self.send(replies.PINGRESP)
            case mqtt.Disconnect():
                self._disconnect(packet)
            case mqtt.Auth():
                raise PacketError(
                    "AUTH on a connection without enhanced authentication", Reason.PROTOCOL_ERROR
                )

    def _disconnect(self, packet: mqtt.Disconnect) -> None:
        """3.14. Only a normal disconnection drops the will (5.0, 3.1.2.5)."""
        if packet.session_expiry_s is not None:
            if packet.session_expiry_s and not self.session.expiry_s:
                # 3.14.2.2.2
                raise PacketError("session expiry on a session that ends", Reason.PROTOCOL_ERROR)
            self.session.expiry_s = min(packet.session_expiry_s, self._door.limits.session_expiry_s)
        if packet.code == Reason.SUCCESS and self.session.will is not None:
            self._door.wills.drop(self.session)
        self.close()

    def _hand_in(self) -> None:
        """Give the intake what this read brought: one entry each, however many packets."""
        if self._taken:
            self._door.intake.take(self, self._taken)
            self._door.pace.published(self, len(self._taken))
            self._taken = []
        if not self._answers:
            return
        if self.level == LEVEL_5_0:
            self._door.intake.reply(Reply(self, self._answers, self._promises, self._binding))
            self._promises, self._binding = [], False
        else:
            self._door.intake.answer(self, b"".join(self._answers))
        self._answers = []

    def _publish(self, packet: mqtt.Publish) -> Message | None:
        """3.3. QoS 1 and 2 are answered when the message is durable, by way of the intake.

        None where a QoS 2 message came again. Raises HubError where it is refused.
        """
        place = self._places.get(packet.topic) or self._place(packet.topic, len(packet.payload))
        session = self.session
        client = session.client_id if session.no_local else ""
        message = self._door.publishing.message(self.principal, place, packet, self._stamp, client)
        qos = packet.qos
        if qos == 2 and not session.begin_receiving(packet.packet_id):
            self._answers.append(replies.encode_pubrec(packet.packet_id))
            return None
        if packet.retain:
            self._door.publishing.retain(message)
        self._taken.append(message)
        if qos == 1:
            self._answers.append(replies.encode_puback(packet.packet_id))
        elif qos == 2:
            if session.kept:
                self._door.intake.save(session)
            self._door.intake.undo(lambda: session.receiving.discard(packet.packet_id))
            self._answers.append(replies.encode_pubrec(packet.packet_id))
        return message

    def _publish_5(self, packet: mqtt.Publish) -> None:
        """The same in MQTT 5, which has a word for a refusal, and counts what is not acknowledged (4.9)."""
        if packet.qos:
            open_now = self.unanswered + len(self._open)
            if open_now >= self._door.limits.receiving and packet.packet_id not in self._open:
                raise PacketError(
                    f"more than {self._door.limits.receiving} messages not acknowledged",
                    Reason.RECEIVE_MAXIMUM_EXCEEDED,
                )
        try:
            message = self._publish(packet)
        except HubError as error:
            self._refuse(packet, error)
            return
        if not packet.qos:
            return
        first = replies.PUBACK if packet.qos == 1 else replies.PUBREC
        if packet.qos == 1:
            self.unanswered += 1
        else:
            self._open.add(packet.packet_id)
        if message is None:
            return
        self._promises.append((len(self._answers) - 1, first, packet.packet_id))
        if not self._door.routes.wanted(message):
            self._answers[-1] = replies.encode_answer_5(
                first, packet.packet_id, Reason.NO_MATCHING_SUBSCRIBERS
            )

    def _refuse(self, packet: mqtt.Publish, error: HubError) -> None:
        """A PUBLISH is not taken. At QoS 0 there is no answer but to close the connection."""
        if not packet.qos:
            self._door.refused(self, error)
            return
        self._door.count_refused(self, error)
        if packet.qos == 2:
            self.session.release(packet.packet_id)
            self._open.discard(packet.packet_id)
        first = replies.PUBACK if packet.qos == 1 else replies.PUBREC
        self._answers.append(self.refusal(first, packet.packet_id, error))

    def refusal(self, first: int, packet_id: int, error: HubError) -> bytes:
        """PUBACK or PUBREC that says why a message is not taken; what is too large is a quota there."""
        reason = error.mqtt_reason if error.mqtt_reason != Reason.PACKET_TOO_LARGE else Reason.QUOTA_EXCEEDED
        if first == replies.PUBREC:
            self._open.discard(packet_id)
        why = error.reason[:MAX_REASON] if self.says_why else ""
        wire = replies.encode_answer_5(first, packet_id, reason, why)
        return wire if self.fits(wire) else replies.encode_answer_5(first, packet_id, reason)

    def _place(self, topic: str, size: int) -> Place:
        """Parse a topic and ask whether this client may publish `size` bytes there. Raises TopicError, AccessDenied."""
        place = self._door.publishing.place(self.principal, topic, size, self.peer)
        if self._door.access.lasting:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[topic] = place
        return place

    def _pubrec(self, packet: mqtt.PubRec) -> None:
        """For a kept session the row says so before PUBREL leaves: the message must never be sent again."""
        session, packet_id = self.session, packet.packet_id
        known = packet_id in session.in_flight
        changed = session.received(packet_id)
        if packet.code >= Reason.UNSPECIFIED_ERROR:
            if known:
                session.drop(packet_id)
                self._room()
            return
        reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
        self.answer_when_saved(self._answer(replies.PUBREL, packet_id, reason), changed=changed)

    def _pubrel(self, packet_id: int) -> None:
        """For a kept session the id is forgotten durably before the client may use it for a new message."""
        changed = self.session.release(packet_id)
        self._open.discard(packet_id)
        reason = Reason.SUCCESS if changed else Reason.PACKET_IDENTIFIER_NOT_FOUND
        self.answer_when_saved(self._answer(replies.PUBCOMP, packet_id, reason), changed=changed)

    def _answer(self, first: int, packet_id: int, reason: Reason) -> bytes:
        if self.level == LEVEL_5_0:
            return replies.encode_answer_5(first, packet_id, reason)
        return replies.encode_answer(first, packet_id)

    def _room(self) -> None:
        session = self.session
        self.unsaved = True
        if session.behind or session.waiting or self.resending or session.groups:
            self._door.wants_pump(self)

    def answer_when_saved(self, wire: bytes, *, changed: bool = True) -> None:
        """For a kept session: behind its row, also where that was on its way to the disk already."""
        if self.session.kept:
            if changed:
                self._door.intake.save(self.session)
            self._answers.append(wire)
            self._binding = True
        else:
            self.send(wire)

    def groups(self) -> Iterator[Group]:
        """The shared subscriptions of which messages wait."""
        for group in self.session.groups.values():
            if group.waits:
                yield group

"""From the log to the clients: at which QoS a message leaves, and now or later.

QoS 0 leaves when a message enters the log. QoS 1 and 2 leave after its commit: straight from the commit where
a session has seen everything before, otherwise read from the log from its cursor on. There is no other queue.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hub.log import Log
from hub.message import Message, size_of
from hub.mqtt.intake import Intake
from hub.mqtt.replies import encode_pubrel, publish_head
from hub.mqtt.retained import Retained, key_of
from hub.mqtt.routes import Interest, Receiver, Routes, own
from hub.mqtt.session import Flight, Session, Subscription
from hub.mqtt.shared_delivery import SharedDelivery
from hub.mqtt.showing import Showing
from hub.topics import Filter, format_topic

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

log = logging.getLogger("hub.mqtt")

MAX_HEADS = 32  # payload sizes whose PUBLISH head is remembered, per receiver
SCAN_ROWS = 512  # messages looked at in one go for a session that lags: a few milliseconds of the loop
LOG_ROWS = 512  # messages read from the log in one turn, for all sessions together; others have the next turn
TAIL_MESSAGES = 8192  # newest QoS 1 and 2 messages kept in memory, so that who lags a little reads no disk
TAIL_BYTES = 2 << 20


class Delivery:
    """Brings messages of the log to the connected clients."""

    def __init__(
        self,
        hub_log: Log,
        routes: Routes,
        intake: Intake,
        retained: Retained,
        showing: Showing,
        counters: dict[str, int],
    ) -> None:
        self._log = hub_log
        self._routes = routes
        self._intake = intake
        self._retained = retained
        self._showing = showing
        self._counters = counters
        self.shared = SharedDelivery(self, routes, intake)
        self.last_seq = hub_log.committed_seq  # given to a message, not necessarily durable
        self._tail: list[Message] = []  # every committed QoS 1 and 2 message after _tail_after
        self._tail_after = hub_log.committed_seq
        self._tail_bytes = 0
        self._rows_left = LOG_ROWS

    # Live

    def on_append(self, messages: Sequence[Message]) -> None:
        """Messages have entered the log: QoS 0 leaves at once."""
        self.last_seq = messages[-1].seq
        known = self._routes.fresh()
        sent = dropped = 0
        for message in messages:
            route = known.get((message.channel, message.subtopic, message.content_type))
            if route is None:
                route = self._routes.of(message)
            for receiver in route.receivers.values():
                if not receiver.plain:
                    self._put_0(receiver, message)
                    continue
                if receiver.qos and message.qos:
                    continue  # leaves after the commit
                connection = receiver.connection
                if connection.full:
                    dropped += 1
                    continue
                payload = message.payload
                connection.put(
                    receiver.heads.get(len(payload) << 2) or self._head(receiver, len(payload), 0), payload
                )
                sent += 1
            if not message.qos:
                for group in route.groups:
                    self.shared.offer_0(group, message)
        self._counters["sent_qos0"] += sent
        self._counters["dropped_qos0"] += dropped

    def _put_0(self, receiver: Receiver, message: Message) -> None:
        """As above, for a client of MQTT 5."""
        if message.client:
            found = own(receiver, message)
            if found is None:
                return
            receiver = found
        if not (receiver.qos and message.qos):
            self.send_0(receiver, message)

    def send_0(self, receiver: Receiver, message: Message, *, retain: bool = False) -> None:
        """Put a QoS 0 PUBLISH on the wire, or count that it was dropped."""
        if receiver.connection.full:
            self._counters["dropped_qos0"] += 1
            return
        parts = self._parts(receiver, message, 0, 0, retain=retain)
        if parts is not None:
            self._counters["sent_qos0"] += 1
            receiver.connection.put(*parts)

    def _head(self, receiver: Receiver, size: int, qos: int) -> bytes:
        """The start of a PUBLISH to a client of 3.1.1 that is not remembered in `receiver.heads` yet."""
        if len(receiver.heads) >= MAX_HEADS:
            receiver.heads.clear()
        head = receiver.heads[size << 2 | qos] = publish_head(receiver.topic, size, qos)
        return head

    def _parts(
        self,
        receiver: Receiver,
        message: Message,
        qos: int,
        packet_id: int,
        *,
        retain: bool = False,
        dup: bool = False,
        alias: bool = True,
    ) -> tuple[bytes, bytes] | None:
        """A PUBLISH before its payload, and the payload; None where the client takes no packet that large."""
        if receiver.plain:
            if retain or dup:
                head = publish_head(receiver.topic, len(message.payload), qos, retain=retain)
                head = bytes((head[0] | dup << 3,)) + head[1:]
            else:
                size = len(message.payload)
                head = receiver.heads.get(size << 2 | qos) or self._head(receiver, size, qos)
            return (head + packet_id.to_bytes(2, "big") if qos else head), message.payload
        payload, converted = message.payload, ""
        if receiver.accept:
            payload, converted = self._showing.form(message, receiver.accept)
        typed = bool(receiver.accept)
        block = receiver.identifiers + self._showing.block(message, converted, typed=typed)
        retain = retain or (message.retain and receiver.retain_as_published)
        fitting = None
        if qos and (missed := receiver.connection.session.untold):
            told = block + self._showing.missed(missed)
            fitting = receiver.connection.publish_head(
                receiver.topic, told, len(payload), qos, packet_id, retain=retain, dup=dup, alias=alias
            )
            if fitting is not None:
                receiver.connection.session.telling = packet_id, missed
        if fitting is None:
            fitting = receiver.connection.publish_head(
                receiver.topic, block, len(payload), qos, packet_id, retain=retain, dup=dup, alias=alias
            )
        if fitting is None:
            self._counters["dropped_too_large"] += 1
            return None
        return fitting, payload

    def on_commit(self, messages: Sequence[Message]) -> None:
        """Messages are durable: QoS 1 and 2 leave for the sessions that have seen everything before."""
        lasting = [message for message in messages if message.qos]
        self._tail += lasting
        self._tail_bytes += size_of(lasting)
        if self._routes.later:
            self._offer(lasting)
        self._intake.committed = messages[-1].seq
        if len(self._tail) > TAIL_MESSAGES or self._tail_bytes > TAIL_BYTES:
            self._shorten_tail()

    def _offer(self, messages: Sequence[Message]) -> None:
        """Durable messages of QoS 1 and 2: each to its receivers, or noted as what they are behind with."""
        known = self._routes.fresh()
        for message in messages:
            route = known.get((message.channel, message.subtopic, message.content_type))
            if route is None:
                route = self._routes.of(message)
            for receiver in route.receivers.values():
                if message.client:
                    found = own(receiver, message)
                    if found is None:
                        continue
                    receiver = found
                if not receiver.qos or message.seq <= receiver.since:
                    continue
                session = receiver.connection.session
                if session.behind or message.seq <= session.cursor:
                    continue
                if session.room > 0 and not receiver.connection.full:
                    self.send(receiver, message)
                else:
                    session.behind = True
                    session.cursor = message.seq - 1
            for group in route.groups:
                self.shared.offer(group, message)

    def _shorten_tail(self) -> None:
        """Cut the tail to half its bounds: rarely, so that it costs little."""
        gone = max(0, len(self._tail) - TAIL_MESSAGES // 2)
        size = self._tail_bytes - size_of(self._tail[:gone])
        while size > TAIL_BYTES // 2:
            size -= self._tail[gone].size
            gone += 1
        self._tail_after = self._tail[gone - 1].seq
        del self._tail[:gone]
        self._tail_bytes = size

    def send(self, receiver: Receiver, message: Message, *, retained: str = "", group: str = "") -> None:
        """Put one QoS 1 or 2 message in flight; for QoS 2 of a kept session its row comes first.

        Otherwise a crash would forget under which packet id the client holds the message, and send it twice.
        """
        qos = min(receiver.qos, message.qos)
        connection = receiver.connection
        session = connection.session
        packet_id = session.send(message.seq, qos, retained=retained, group=group)
        later = qos == 2 and session.kept
        parts = self._parts(receiver, message, qos, packet_id, retain=bool(retained), alias=not later)
        if parts is None:
            session.drop(packet_id)  # as if the client had acknowledged it (5.0, 3.1.2-25)
            return
        self._counters["sent_qos2" if qos == 2 else "sent_qos1"] += 1
        if later:
            self._intake.save(session)
            self._intake.answer(connection, parts[0] + parts[1])
        else:
            connection.unsaved = True
            connection.put(*parts)

    # Behind

    def begin_turn(self) -> None:
        """A turn of pumping begins: the log may be read again."""
        self._rows_left = LOG_ROWS

    @property
    def spent(self) -> bool:
        """Whether this turn has read from the log what one turn may: the next client waits for the next turn."""
        return self._rows_left <= 0

    def pump(self, connection: Connection) -> bool:
        """Send what waits for this client, as far as its window and buffer allow.

        What was in flight before comes first, then retained messages, then the log. True where there is more
        to look at in another turn.
        """
        self._resend(connection)
        session = connection.session
        while session.waiting and not connection.resending and session.room > 0 and not connection.full:
            waiting = next(iter(session.waiting))
            del session.waiting[waiting]
            self._send_retained(connection, waiting)
        if connection.resending or session.waiting:
            return False
        more = session.behind and session.room > 0 and not connection.full and self._read_on(connection)
        for group in connection.groups():
            more = self.shared.pump(group) or more
        return more

    def _read_on(self, connection: Connection) -> bool:
        session = connection.session
        if self.catch_up(session):
            connection.unsaved = True
        receivers: list[Receiver] = []  # of what is found
        known = self._routes.fresh()

        def wants(message: Message) -> bool:
            if not message.qos:
                return False
            route = known.get((message.channel, message.subtopic, message.content_type))
            if route is None:
                route = self._routes.of(message)
            receiver = route.receiver(connection, message)
            if receiver is None or not receiver.qos or message.seq <= receiver.since:
                return False
            receivers.append(receiver)
            return True

        found, seen = self.scan(session.cursor, wants, session.room)
        for receiver, message in zip(receivers, found, strict=True):
            if connection.full:
                return False
            if not self.expired(message):
                self.send(receiver, message)
            session.cursor = message.seq
            connection.unsaved = True
        session.cursor = seen
        session.behind = seen < self._log.committed_seq
        return session.behind and session.room > 0 and not connection.full

    def scan(self, after_seq: int, wants: Callable[[Message], bool], limit: int) -> tuple[list[Message], int]:
        """As `Log.scan`, a bounded step, from memory where that reaches back far enough.

        Nothing is found where this turn has read enough from the log.
        """
        if after_seq >= self._tail_after:
            return self._scan_tail(after_seq, wants, limit)
        if self.spent:
            return [], after_seq
        found, seen = self._log.scan(after_seq, wants, limit, max_rows=self._rows_left)
        self._rows_left -= max(1, seen - after_seq)
        return found, seen

    @property
    def committed_seq(self) -> int:
        seq: int = self._log.committed_seq
        return seq

    def read_one(self, seq: int) -> Message | None:
        """The committed message with this number; None where it is gone, which is counted, or has expired."""
        message = self._log.read_one(seq)
        if message is None:
            self._counters["lost_to_retention"] += 1
            return None
        return None if self.expired(message) else message

    def expired(self, message: Message) -> bool:
        """Whether nobody is to get it any more, which is counted (5.0, 3.3.2-5)."""
        if not self._showing.expired(message):
            return False
        self._counters["expired"] += 1
        return True

    def catch_up(self, session: Session) -> int:
        """Move a session past what retention took before it had come there; its client is to be told how many."""
        session.cursor, lost = self.reached(session.name, session.cursor, noted=session.kept)
        session.missed += lost
        return lost

    def reached(self, name: str, cursor: int, *, noted: bool) -> tuple[int, int]:
        """Where a reader goes on, at its cursor or behind what retention took, and how many messages that were.

        They are counted, for this reader or not: nobody can say any more. `noted`: the log keeps its cursor, and a
        record of what was removed before that.
        """
        first_seq: int = self._log.first_seq
        if cursor >= first_seq - 1:
            return cursor, 0
        lost = first_seq - 1 - cursor
        if noted:  # over a restart numbers may be missing that no message ever had
            gaps = self._log.gaps(name)
            lost = sum(min(gap.messages, gap.last_seq - cursor) for gap in gaps if gap.last_seq > cursor)
        if lost:
            self._counters["lost_to_retention"] += lost
            log.warning("%s: %d messages were removed before it read them", name, lost)
        return first_seq - 1, lost

    def _scan_tail(
        self, after_seq: int, wants: Callable[[Message], bool], limit: int
    ) -> tuple[list[Message], int]:
        """As `Log.scan`, from memory. What has been committed and not yet told to `on_commit` is not seen."""
        found: list[Message] = []
        start = bisect_right(self._tail, after_seq, key=_seq_of)
        for message in self._tail[start : start + SCAN_ROWS]:
            if wants(message):
                found.append(message)
                if len(found) == limit:
                    return found, message.seq
        if start + SCAN_ROWS < len(self._tail):
            return found, self._tail[start + SCAN_ROWS - 1].seq
        return found, max(after_seq, self._intake.committed)

    def _resend(self, connection: Connection) -> None:
        """After a reconnect: what was in flight, same ids and order, DUP set (4.4); only then (5.0, 4.4)."""
        session = connection.session
        while connection.resending and not connection.full:
            packet_id = connection.resending[0]
            flight = session.in_flight.get(packet_id)
            if flight is not None and not flight.released and not session.may_resend():
                return
            connection.resending.popleft()
            if flight is None:
                continue
            if flight.released:
                connection.send(encode_pubrel(packet_id))
                continue
            parts = self._again(connection, packet_id, flight)
            if parts is None:
                session.drop(packet_id)
                connection.unsaved = True
                continue
            session.resent(packet_id)
            self._counters["resent"] += 1
            connection.put(*parts)

    def _again(self, connection: Connection, packet_id: int, flight: Flight) -> tuple[bytes, bytes] | None:
        """The packet of a message in flight once more; None where it is gone or no longer allowed."""
        key = flight.retained.partition("\n")[0]
        message = self._retained.get(key) if key else self._log.read_one(flight.seq)
        if message is None:
            self._counters["lost_to_retention"] += 1
            if not key:
                connection.session.missed += 1
            return None
        receiver = self._receiver_again(connection, message, flight)
        if receiver is None:
            return None
        retain = bool(flight.retained)
        return self._parts(receiver, message, flight.qos, packet_id, retain=retain, dup=True, alias=False)

    def _receiver_again(self, connection: Connection, message: Message, flight: Flight) -> Receiver | None:
        if not self._routes.may_receive(connection, message.channel, message.subtopic):
            return None
        if flight.group:
            for interest in connection.interests.values():
                if interest.group is not None and interest.group.key == flight.group:
                    return Receiver([interest], message.channel, message.subtopic)
        receiver = self._routes.of(message).receiver(connection, message)
        if receiver is None:
            text = format_topic(message.channel, message.subtopic)  # unsubscribed meanwhile
            wanted = Filter(message.channel, message.subtopic)
            interest = Interest(connection, text, wanted, Subscription(flight.qos, 0))
            return Receiver([interest], message.channel, message.subtopic)
        return receiver

    # Retained

    def show_retained(self, interest: Interest) -> None:
        """A new subscription is shown the retained messages it matches (3.3.1.3)."""
        session = interest.connection.session
        for message in self._retained.matching(interest.wanted):
            if min(interest.subscription.qos, message.qos):
                session.waiting[f"{key_of(message)}\n{interest.text}"] = None
            else:
                receiver = self._receiver_of_retained(interest, message)
                if receiver is not None:
                    self.send_0(receiver, message, retain=True)

    def _send_retained(self, connection: Connection, waiting: str) -> None:
        key, _, text = waiting.partition("\n")
        message = self._retained.get(key)
        interest = connection.interests.get(text)
        if message is None or interest is None:
            return
        receiver = self._receiver_of_retained(interest, message)
        if receiver is None:
            return
        if min(receiver.qos, message.qos):
            self.send(receiver, message, retained=waiting)
        else:
            self.send_0(receiver, message, retain=True)

    def drop_expired_retained(self) -> None:
        """Retained messages whose time is over make room."""
        for write in self._retained.drop_expired(self._showing.expired):
            self._intake.write(write)

    def _receiver_of_retained(self, interest: Interest, message: Message) -> Receiver | None:
        """How a retained message is shown to one subscription; None where it is not."""
        if self.expired(message):
            return None
        if not self._routes.may_publish(message) or not self._routes.may_receive(
            interest.connection, message.channel, message.subtopic
        ):
            return None
        return Receiver([interest], message.channel, message.subtopic)


def _seq_of(message: Message) -> int:
    return message.seq

"""From the log to the clients: who gets a message, at which QoS, and now or later.

QoS 0 leaves when a message enters the log. QoS 1 and 2 leave after its commit: straight from the commit where
a session has seen everything before, otherwise read from the log from its cursor on. There is no other queue.
Access is asked for each address and client, and asked again whenever it may have changed.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from hub.access import Access, Action, Principal, Resource
from hub.log import Log
from hub.message import Message
from hub.mqtt.intake import Intake
from hub.mqtt.replies import encode_publish, encode_pubrel, publish_head
from hub.mqtt.retained import Retained, key_of
from hub.mqtt.session import Flight, Session
from hub.router import Router
from hub.topics import Filter, format_topic

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

log = logging.getLogger("hub.mqtt")

MAX_ROUTES = 10_000  # addresses whose receivers are remembered; then the memory starts afresh
MAX_HEADS = 32  # payload sizes whose PUBLISH head is remembered, per receiver
SCAN_ROWS = 512  # messages looked at in one go for a session that lags: a few milliseconds of the loop
SCAN_FOUND = 64  # messages taken from the log in one go
TAIL_MESSAGES = 2048  # newest QoS 1 and 2 messages kept in memory, so that who lags a little reads no disk
TAIL_BYTES = 2 << 20


class Interest:
    """One subscription of one connected client, as the router holds it."""

    __slots__ = ("connection", "prefix", "qos", "since", "wanted")

    def __init__(self, connection: Connection, text: str, wanted: Filter, qos: int, since: int) -> None:
        self.connection = connection
        self.wanted = wanted
        self.qos = qos  # granted
        self.since = since  # messages up to this number are older than the subscription
        # A client is answered in the form it asked in: the topic must match its filter (3.3.2-3).
        self.prefix = text[: text.index("channels/")]

    def topic(self, channel: str, subtopic: str) -> bytes:
        """The topic under which this subscriber receives."""
        return (self.prefix + format_topic(channel, subtopic, self.wanted.content_type)).encode()


class Receiver:
    """One client that gets the messages of one address: its overlapping filters in one (3.3.5)."""

    __slots__ = ("connection", "heads", "qos", "since", "topic")

    def __init__(self, connection: Connection, topic: bytes, qos: int, since: int) -> None:
        self.connection = connection
        self.topic = topic
        self.qos = qos
        self.since = since
        self.heads: dict[int, bytes] = {}  # of PUBLISH packets, by payload size << 2 | QoS


Route = dict["Connection", Receiver]


class Delivery:
    """Brings messages of the log to the connected clients."""

    def __init__(
        self, hub_log: Log, access: Access, intake: Intake, retained: Retained, counters: dict[str, int]
    ) -> None:
        self._log = hub_log
        self._access = access
        self._intake = intake
        self._retained = retained
        self._counters = counters
        self._router: Router[Interest] = Router()
        self._routes: dict[tuple[str, str, str], Route] = {}
        self.last_seq = hub_log.committed_seq  # given to a message, not necessarily durable
        self._tail: list[Message] = []  # every committed QoS 1 and 2 message after _tail_after
        self._tail_after = hub_log.committed_seq
        self._tail_bytes = 0

    # Subscriptions

    def add(self, interest: Interest) -> None:
        """A connected client subscribes."""
        self._router.add(interest.wanted, interest)
        self._routes.clear()

    def remove(self, interest: Interest) -> None:
        """A client unsubscribes or is gone."""
        self._router.remove(interest.wanted, interest)
        self._routes.clear()

    def access_changed(self) -> None:
        """Ask again before the next delivery."""
        self._routes.clear()

    def route(self, message: Message) -> Route:
        """The connected clients that get a message like this one; each once, at its highest granted QoS."""
        key = (message.channel, message.subtopic, message.content_type)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            route = self._routes[key] = self._find(*key)
        return route

    def _find(self, channel: str, subtopic: str, content_type: str) -> Route:
        best: dict[Connection, Interest] = {}
        since: dict[Connection, int] = {}
        for interest in self._router.match(channel, subtopic, content_type):
            connection = interest.connection
            since[connection] = min(since.get(connection, interest.since), interest.since)
            if connection not in best or interest.qos > best[connection].qos:
                best[connection] = interest
        return {
            connection: Receiver(
                connection, interest.topic(channel, subtopic), interest.qos, since[connection]
            )
            for connection, interest in best.items()
            if self._may_receive(connection.principal, channel, subtopic)
        }

    def _may_receive(self, principal: Principal, channel: str, subtopic: str) -> bool:
        return self._access.decide(principal, Action.DELIVER, Resource(channel, subtopic)).allowed

    def _may_publish(self, message: Message) -> bool:
        """Whether the publisher of a retained message is still allowed to publish it (CVE-2018-12546)."""
        principal = Principal("thing", message.publisher)
        return self._access.decide(
            principal, Action.PUBLISH, Resource(message.channel, message.subtopic)
        ).allowed

    # Live

    def on_append(self, messages: Sequence[Message]) -> None:
        """Messages have entered the log: QoS 0 leaves at once."""
        self.last_seq = messages[-1].seq
        routes = self._routes
        sent = dropped = 0
        for message in messages:
            route = routes.get((message.channel, message.subtopic, message.content_type))
            if route is None:
                route = self.route(message)
            for receiver in route.values():
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
        self._counters["sent_qos0"] += sent
        self._counters["dropped_qos0"] += dropped

    def _head(self, receiver: Receiver, size: int, qos: int) -> bytes:
        key = size << 2 | qos
        head = receiver.heads.get(key)
        if head is None:
            if len(receiver.heads) >= MAX_HEADS:
                receiver.heads.clear()
            head = receiver.heads[key] = publish_head(receiver.topic, size, qos)
        return head

    def on_commit(self, messages: Sequence[Message]) -> None:
        """Messages are durable: QoS 1 and 2 leave for the sessions that have seen everything before."""
        for message in messages:
            if not message.qos:
                continue
            self._tail.append(message)
            self._tail_bytes += len(message.payload)
            for receiver in self.route(message).values():
                if not receiver.qos or message.seq <= receiver.since:
                    continue
                session = receiver.connection.session
                if session.behind or message.seq <= session.cursor:
                    continue
                if session.room > 0 and not receiver.connection.full:
                    self._send(receiver, message)
                else:
                    session.behind = True
                    session.cursor = message.seq - 1
        self._intake.committed = messages[-1].seq
        if len(self._tail) > TAIL_MESSAGES or self._tail_bytes > TAIL_BYTES:
            self._shorten_tail()

    def _shorten_tail(self) -> None:
        """Cut the tail to half its bounds: rarely, so that it costs little."""
        keep = len(self._tail)
        size = 0
        for message in reversed(self._tail):
            size += len(message.payload)
            if len(self._tail) - keep >= TAIL_MESSAGES // 2 or size > TAIL_BYTES // 2:
                break
            keep -= 1
        if keep:
            self._tail_after = self._tail[keep - 1].seq
            del self._tail[:keep]
            self._tail_bytes = sum(len(message.payload) for message in self._tail)

    def _send(self, receiver: Receiver, message: Message) -> None:
        """Put one QoS 1 or 2 message in flight; for QoS 2 of a kept session its row comes first.

        Otherwise a crash would forget under which packet id the client holds the message, and send it twice.
        """
        qos = min(receiver.qos, message.qos)
        packet_id = receiver.connection.session.send(message.seq, qos)
        head = self._head(receiver, len(message.payload), qos) + packet_id.to_bytes(2, "big")
        self._leave(receiver.connection, head, message.payload, qos)

    def _leave(self, connection: Connection, head: bytes, payload: bytes, qos: int) -> None:
        session = connection.session
        self._counters["sent_qos2" if qos == 2 else "sent_qos1"] += 1
        if qos == 2 and session.kept:
            self._intake.save(session)
            self._intake.answer(connection, head + payload)
        else:
            connection.unsaved = True
            connection.put(head, payload)

    # Behind

    def pump(self, connection: Connection) -> bool:
        """Send what waits for this client, as far as its window and buffer allow.

        What was in flight before comes first, then retained messages, then the log. True where there is more
        to look at in another turn.
        """
        self._resend(connection)
        session = connection.session
        while session.waiting and not connection.resending and session.room > 0 and not connection.full:
            self._send_retained(connection, session.waiting.popleft())
        if connection.resending or session.waiting or not session.behind:
            return False
        if session.room <= 0 or connection.full:
            return False
        return self._read_on(connection)

    def _read_on(self, connection: Connection) -> bool:
        session = connection.session
        if session.cursor < self._log.first_seq - 1:
            self._skip_removed(session)

        def wants(message: Message) -> bool:
            if not message.qos:
                return False
            receiver = self.route(message).get(connection)
            return receiver is not None and receiver.qos > 0 and message.seq > receiver.since

        limit = min(session.room, SCAN_FOUND)
        if session.cursor >= self._tail_after:
            found, seen = self._scan_tail(session.cursor, wants, limit)
        else:
            found, seen = self._log.scan(session.cursor, wants, limit, max_rows=SCAN_ROWS)
        for message in found:
            if connection.full:
                return False
            self._send(self.route(message)[connection], message)
            session.cursor = message.seq
            connection.unsaved = True
        session.cursor = seen
        session.behind = seen < self._log.committed_seq
        return session.behind and session.room > 0 and not connection.full

    def _skip_removed(self, session: Session) -> None:
        """Retention was faster than the client: go on with what is there, and count what is not."""
        first_seq = self._log.first_seq
        lost = first_seq - 1 - session.cursor
        if session.kept:  # over a restart numbers may be missing that no message ever had
            gaps = self._log.gaps(session.name)
            lost = sum(gap.messages for gap in gaps if gap.last_seq > session.cursor)
        if lost:
            self._counters["lost_to_retention"] += lost
            log.warning("%s: %d messages were removed before it read them", session.name, lost)
        session.cursor = first_seq - 1

    def _scan_tail(
        self, after_seq: int, wants: Callable[[Message], bool], limit: int
    ) -> tuple[list[Message], int]:
        """As `Log.scan`, from memory. What has been committed and not yet told to `on_commit` is not seen."""
        found: list[Message] = []
        start = bisect_right(self._tail, after_seq, key=_seq_of)
        for message in islice(self._tail, start, start + SCAN_ROWS):
            if wants(message):
                found.append(message)
                if len(found) == limit:
                    return found, message.seq
        if start + SCAN_ROWS < len(self._tail):
            return found, self._tail[start + SCAN_ROWS - 1].seq
        return found, max(after_seq, self._intake.committed)

    def _resend(self, connection: Connection) -> None:
        """After a reconnect: what was in flight, same ids and order, DUP set (4.4)."""
        session = connection.session
        while connection.resending and not connection.full:
            packet_id = connection.resending.popleft()
            flight = session.in_flight.get(packet_id)
            if flight is None:
                continue
            if flight.released:
                connection.send(encode_pubrel(packet_id))
                continue
            wire = self._again(connection, packet_id, flight)
            if wire is None:
                session.drop(packet_id)
                connection.unsaved = True
                continue
            self._counters["resent"] += 1
            connection.send(wire)

    def _again(self, connection: Connection, packet_id: int, flight: Flight) -> bytes | None:
        """The packet of a message in flight once more; None where it is gone or no longer allowed."""
        message = self._retained.get(flight.retained) if flight.retained else self._log.read_one(flight.seq)
        if message is None:
            self._counters["lost_to_retention"] += 1
            return None
        receiver = self.route(message).get(connection)
        if receiver is not None:
            topic = receiver.topic
        elif self._may_receive(connection.principal, message.channel, message.subtopic):
            topic = format_topic(message.channel, message.subtopic).encode()  # unsubscribed meanwhile
        else:
            return None
        return encode_publish(
            topic, message.payload, flight.qos, packet_id, retain=bool(flight.retained), dup=True
        )

    # Retained

    def show_retained(self, connection: Connection, wanted: Filter, granted: int) -> None:
        """A new subscription is shown the retained messages it matches (3.3.1.3)."""
        for message in self._retained.matching(wanted):
            if min(granted, message.qos):
                connection.session.waiting.append(key_of(message))
            else:
                self._send_retained_qos0(connection, message)

    def _send_retained(self, connection: Connection, key: str) -> None:
        message = self._retained.get(key)
        if message is None or not self._may_publish(message):
            return
        receiver = self.route(message).get(connection)
        if receiver is None:
            return
        qos = min(receiver.qos, message.qos)
        if not qos:
            self._send_retained_qos0(connection, message)
            return
        packet_id = connection.session.send(message.seq, qos, retained=key)
        head = publish_head(receiver.topic, len(message.payload), qos, retain=True)
        self._leave(connection, head + packet_id.to_bytes(2, "big"), message.payload, qos)

    def _send_retained_qos0(self, connection: Connection, message: Message) -> None:
        receiver = self.route(message).get(connection)
        if receiver is None or not self._may_publish(message):
            return
        if connection.full:
            self._counters["dropped_qos0"] += 1
            return
        self._counters["sent_qos0"] += 1
        connection.send(encode_publish(receiver.topic, message.payload, 0, retain=True))


def _seq_of(message: Message) -> int:
    return message.seq

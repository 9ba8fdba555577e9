"""The MQTT door: the listening socket, who is connected, and what they may do.

Wires the rooms of this package together: connections hand messages to the intake, the intake to the log, the
log to the delivery, the delivery to the connections. Authenticates before any session is touched; a session
belongs to a thing and its client id. One timer sweeps for everything that time decides.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from hub import content
from hub.access import Action, Principal, Resource
from hub.errors import AccessDenied, BadMessage, HubError, TooLarge, TopicError
from hub.hub import Hub
from hub.message import JSON, OCTET_STREAM, Message, TimeQuality
from hub.mqtt import store
from hub.mqtt.connection import Connection, Place
from hub.mqtt.delivery import Delivery
from hub.mqtt.intake import Intake
from hub.mqtt.limits import COUNTERS, Limits
from hub.mqtt.packets import Connect, Publish, Will
from hub.mqtt.reasons import CONNECT_CODES, LEVEL_3_1_1, ConnectCode, PacketError
from hub.mqtt.replies import encode_connack
from hub.mqtt.retained import Retained
from hub.mqtt.session import Session
from hub.topics import parse_topic

log = logging.getLogger("hub.mqtt")

SWEEP_S = 1.0  # how late a timeout or the row of a kept session may be
LINGER_S = 5.0  # how long a closing connection may take to read its last bytes
BACKLOG = 1024  # connections the kernel completes ahead: all of a site reconnect at once after an outage
IDLE_CURSOR = 10_000  # messages after which the cursor of a session without any for it is moved all the same

# For the technician who reads the log: the client is told the number only.
WHY_REFUSED = {
    ConnectCode.BAD_CREDENTIALS: "the password is no thing's key, or the user name is not that thing's id",
    ConnectCode.NOT_AUTHORIZED: "no key as password, or no right to connect or to publish the will",
    ConnectCode.SERVER_UNAVAILABLE: "too many connections or kept sessions, of this thing or of all",
}

SessionKey = tuple[str, str]  # thing id, client id


class MqttDoor:
    """An MQTT 3.1.1 server on one address of one hub.

    `port` 0 lets the system choose; `self.port` tells. `ssl` is a server context, or None for plain TCP.
    `counters` never fall, except `connections_now`.
    """

    def __init__(
        self,
        hub: Hub,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        ssl: tls.SSLContext | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.clock = clock
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.access = hub.access
        self.epoch = hub.registry.epoch
        self.intake: Intake
        self.delivery: Delivery
        self.retained = Retained(self.limits.retained_messages, self.limits.retained_bytes)
        self._hub = hub
        self._boot = hub.boot
        self._max_payload = hub.settings.max_payload
        self._ssl = ssl
        self._waiting: dict[Connection, None] = {}  # accepted, no CONNECT yet; in the order of arrival
        self._live: dict[SessionKey, Connection] = {}
        self._closing: dict[Connection, None] = {}
        self._per_thing: Counter[str] = Counter()
        self._kept: dict[SessionKey, Session] = {}  # kept sessions, connected or not
        self._kept_per_thing: Counter[str] = Counter()
        self._cursors: dict[SessionKey, int] = {}  # as last told to the log
        self._pumps: dict[Connection, None] = {}
        self._to_flush: list[Connection] = []
        self._unsubscribe: list[Callable[[], None]] = []
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._anonymous = 0

    async def start(self) -> None:
        """Take over the kept sessions and retained messages, then listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        hub_log = self._hub.log
        self.intake = Intake(hub_log, loop, self.limits, self.counters, self._flush_clients)
        self.delivery = Delivery(hub_log, self.access, self.intake, self.retained, self.counters)
        self._load()
        self._unsubscribe = [
            hub_log.on_append(self.delivery.on_append),
            hub_log.on_commit(self._on_commit),
            self.access.on_revoke(self.recheck),
            self._hub.registry.on_change(lambda _change: self._rights_changed()),
        ]
        self.port = await self.listen(self.host, self.port, ssl=self._ssl)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep_again)

    async def listen(self, host: str, port: int, *, ssl: tls.SSLContext | None = None) -> int:
        """Listen on a further address for the same sessions, TLS beside plain TCP; returns the port. Raises OSError."""
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            host,
            port,
            backlog=BACKLOG,
            ssl=ssl,
            ssl_handshake_timeout=self.limits.connect_timeout_s if ssl else None,
        )
        self._servers.append(server)
        chosen: int = server.sockets[0].getsockname()[1]
        return chosen

    async def close(self) -> None:
        """End every connection as lost, wills included, and wait until what was taken is durable."""
        for server in self._servers:
            server.close()
        for connection in [*self._live.values(), *self._waiting]:
            connection.close()
        await self.intake.drain()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for connection in list(self._closing):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()

    def _load(self) -> None:
        """Read the rows of the last run. One that cannot be read is left out and said so."""
        for thing, client, row in self._hub.log.query(store.SELECT_SESSIONS):
            session = self._new_session(thing, client, kept=True)
            try:
                session.load(row.encode())
            except ValueError:
                log.error("the kept session %s of %s is damaged and starts afresh", client, thing)
                continue
            self._keep((thing, client), session)
        unreadable = self.retained.load(self._hub.log.query(store.SELECT_RETAINED))
        if unreadable:
            log.error("%d retained messages are damaged and left out", unreadable)

    # Connections come and go

    def admit(self, connection: Connection) -> bool:
        """A TCP connection was accepted; False where there are too many without a CONNECT."""
        if len(self._waiting) >= self.limits.unauthenticated:
            self.counters["refused_connections"] += 1
            return False
        self._waiting[connection] = None
        self.counters["connections_accepted"] += 1
        return True

    def connect(self, connection: Connection, packet: Connect) -> None:
        """Answer a CONNECT (3.1.4): authenticate, then look for the session."""
        if packet.level != LEVEL_3_1_1:
            connection.refuse(ConnectCode.UNACCEPTABLE_PROTOCOL)
            return
        principal = self._authenticate(packet)
        if isinstance(principal, ConnectCode):
            self.counters["refused_credentials"] += 1
            self._refuse(connection, packet, principal)
            return
        connection.principal = principal
        code = self._may_connect(principal, packet)
        if code is not ConnectCode.ACCEPTED:
            self._refuse(connection, packet, code)
            return
        self._waiting.pop(connection, None)
        self._attach(connection, packet)

    @staticmethod
    def _refuse(connection: Connection, packet: Connect, code: ConnectCode) -> None:
        log.info("mqtt %s: CONNECT as %.64r refused: %s", connection.peer, packet.username, WHY_REFUSED[code])
        connection.refuse(code)

    def _authenticate(self, packet: Connect) -> Principal | ConnectCode:
        """User name: thing id, or nothing; password: its key."""
        if packet.password is None:
            return ConnectCode.NOT_AUTHORIZED
        try:
            key = packet.password.decode()
        except UnicodeDecodeError:
            return ConnectCode.BAD_CREDENTIALS
        principal = self._hub.authenticate_thing(key)
        if principal is None or (packet.username and packet.username != principal.id):
            return ConnectCode.BAD_CREDENTIALS
        if not self.access.decide(principal, Action.CONNECT, Resource()).allowed:
            return ConnectCode.NOT_AUTHORIZED
        return principal

    def _may_connect(self, principal: Principal, packet: Connect) -> ConnectCode:
        key = (principal.id, packet.client_id)
        if packet.will is not None and not self._may_publish_to(principal, packet.will.topic):
            self.counters["refused_publishes"] += 1
            return ConnectCode.NOT_AUTHORIZED
        takes_over = key in self._live
        if not takes_over and (
            len(self._live) >= self.limits.connections
            or self._per_thing[principal.id] >= self.limits.connections_per_thing
        ):
            self.counters["refused_connections"] += 1
            return ConnectCode.SERVER_UNAVAILABLE
        if (
            not packet.clean
            and key not in self._kept
            and (
                len(self._kept) >= self.limits.sessions
                or self._kept_per_thing[principal.id] >= self.limits.sessions_per_thing
            )
        ):
            self.counters["refused_sessions"] += 1
            return ConnectCode.SERVER_UNAVAILABLE
        return ConnectCode.ACCEPTED

    def _may_publish_to(self, principal: Principal, topic: str) -> bool:
        try:
            address = parse_topic(topic)
        except TopicError:
            return False
        where = Resource(address.channel, address.subtopic)
        return self.access.decide(principal, Action.PUBLISH, where).allowed

    def _attach(self, connection: Connection, packet: Connect) -> None:
        """Give the connection its session and send CONNACK."""
        thing = connection.principal.id
        client = packet.client_id
        if not client:
            self._anonymous += 1
            client = f"\0{self._anonymous}"  # no client can send U+0000, so this is nobody else's
        key = (thing, client)
        old = self._live.get(key)
        if old is not None:
            self.counters["takeovers"] += 1
            old.close()
        stored = self._kept.get(key)
        if packet.clean:
            if stored is not None:
                self._forget(key)
            session = self._new_session(thing, client, kept=False)
        else:
            session = stored or self._new_session(thing, client, kept=True)
            self._keep(key, session)
        connection.session = session
        connection.authenticated = True
        connection.keepalive_s = packet.keepalive_s
        connection.will = packet.will
        self._live[key] = connection
        self._per_thing[thing] += 1
        self.counters["connections_now"] = len(self._live)
        resumed = stored is not None and not packet.clean
        connection.send(encode_connack(ConnectCode.ACCEPTED, session_present=resumed))
        if resumed:
            self._resume(connection)
        elif session.kept:
            self.intake.save(session)

    def _resume(self, connection: Connection) -> None:
        """Take up a kept session: what it subscribed is asked for again, what was in flight is owed again."""
        session = connection.session
        for text in list(session.subscriptions):
            wanted = connection.allowed_filter(text)
            if wanted is None:
                del session.subscriptions[text]
                self.counters["refused_subscriptions"] += 1
            else:
                connection.listen(text, wanted)
        connection.resending = deque(packet_id for packet_id, _ in session.to_resend())
        # The row first: a QoS 2 message must not leave before its packet id is durable.
        self.intake.save(session)
        self.intake.then(lambda: self.wants_pump(connection))

    def detach(self, connection: Connection) -> None:
        """The connection ends: its will is published unless it said goodbye."""
        self._waiting.pop(connection, None)
        self._closing[connection] = None
        self.intake.forget(connection)
        if not connection.authenticated:
            return
        session = connection.session
        del self._live[session.identity, session.client_id]
        self._per_thing[session.identity] -= 1
        if not self._per_thing[session.identity]:
            del self._per_thing[session.identity]
        self.counters["connections_now"] = len(self._live)
        for interest in connection.interests.values():
            self.delivery.remove(interest)
        connection.interests.clear()
        if not session.behind:
            session.cursor = max(session.cursor, self.intake.committed)
            session.behind = True
        if session.kept:
            self._save(session)
        if connection.will is not None:
            self._publish_will(connection)

    def lost(self, connection: Connection) -> None:
        """The socket is closed, by whichever side."""
        if connection.closing_s is None:
            connection.close()
        self._closing.pop(connection, None)

    def malformed(self, connection: Connection, fault: PacketError) -> None:
        """The peer broke the protocol: say so where the protocol has a word for it, and close (4.8)."""
        self.counters["malformed"] += 1
        level = logging.WARNING if connection.authenticated else logging.INFO  # a stranger's fault is no news
        log.log(level, "mqtt %s: %s", connection.peer, fault)
        if fault.code in CONNECT_CODES and not connection.authenticated:
            connection.refuse(CONNECT_CODES[fault.code])
        else:
            connection.close()

    def refused(self, connection: Connection, error: HubError) -> None:
        """A PUBLISH was refused. MQTT 3.1.1 has no answer for that but to close the connection (3.3.5-2)."""
        denied = isinstance(error, AccessDenied | TopicError)
        self.counters["refused_publishes" if denied else "refused_contents"] += 1
        log.warning("mqtt %s: PUBLISH of %s refused: %s", connection.peer, connection.principal.id, error)
        connection.close()

    def buffer_share(self) -> int:
        """Bytes that may be buffered towards one client, so that all together stay within the total."""
        share = self.limits.buffered_total_bytes // max(1, len(self._live))
        return min(self.limits.buffered_bytes, share)

    # Sessions

    def _new_session(self, thing: str, client: str, *, kept: bool) -> Session:
        return Session(
            thing,
            client,
            kept=kept,
            window=self.limits.in_flight,
            max_receiving=self.limits.receiving,
            cursor=max(self._hub.log.committed_seq, self._hub.log.first_seq - 1),
        )

    def _keep(self, key: SessionKey, session: Session) -> None:
        if key not in self._kept:
            self._kept[key] = session
            self._kept_per_thing[key[0]] += 1

    def _forget(self, key: SessionKey) -> None:
        """Drop a kept session and its row."""
        session = self._kept.pop(key)
        self.intake.discard(session)
        self._kept_per_thing[key[0]] -= 1
        self.intake.write(store.delete_session(*key))
        self._cursors.pop(key, None)
        self._hub.log.drop_cursor(session.name)

    def _save(self, session: Session) -> None:
        """Write the row of a kept session with the next commit, and tell the log how far it is."""
        key = (session.identity, session.client_id)
        if self._kept.get(key) is not session:
            return
        self.intake.save(session)
        done = session.needed_from()
        if self._cursors.get(key) != done:
            self._cursors[key] = done
            self._hub.log.move_cursor(session.name, done)

    # Messages

    def stamp(self) -> tuple[int, TimeQuality]:
        """The time that messages taken now carry: UTC in ns, and how far it can be trusted."""
        return self._hub.clock()

    def message(
        self, principal: Principal, place: Place, publish: Publish | Will, stamp: tuple[int, TimeQuality]
    ) -> Message:
        """The message of a PUBLISH. Raises BadMessage where the payload breaks the type its topic names."""
        now_ns, quality = stamp
        payload = publish.payload
        self.counters[_RECEIVED[publish.qos]] += 1
        if len(payload) > self._max_payload:
            raise TooLarge(f"a payload has at most {self._max_payload} bytes")
        if publish.retain and not payload:
            content_type = OCTET_STREAM  # no pack, but how a retained message is cleared
        elif place.content_type is None and payload[:1] not in _JSON_STARTS:
            content_type = OCTET_STREAM
        else:
            content_type = _content_type(place.content_type, payload, now_ns / 1e9)
        return Message(
            place.channel,
            place.subtopic,
            principal.id,
            "mqtt",
            content_type,
            payload,
            now_ns,
            0,
            quality,
            self._boot,
            publish.qos,
        )

    def retain(self, message: Message) -> None:
        """RETAIN was set (3.3.1.3): keep the message in the transaction that stores it."""
        undo = self.retained.undo(message)
        write = self.retained.keep(message)
        if write is None:
            self.counters["refused_retained"] += 1
            return
        self.intake.write(write)
        if message.qos:
            self.intake.undo(undo)

    def _publish_will(self, connection: Connection) -> None:
        """3.1.2.5. Asked for again: the right to publish may be gone by now."""
        will, connection.will = connection.will, None
        if will is None or not self._may_publish_to(connection.principal, will.topic):
            return
        address = parse_topic(will.topic)
        try:
            message = self.message(connection.principal, Place(*address), will, self.stamp())
        except HubError as error:
            self.counters["refused_contents"] += 1
            log.warning("mqtt %s: will refused: %s", connection.peer, error)
            return
        self.counters["wills"] += 1
        if will.retain:
            self.retain(message)
        self.intake.take(connection, (message,))

    def _on_commit(self, messages: Sequence[Message]) -> None:
        self.delivery.on_commit(messages)
        self.intake.relax()

    def wants_flush(self, connection: Connection) -> None:
        """Something was queued for this client; it is written at the end of the turn."""
        self._to_flush.append(connection)
        self.intake.schedule()

    def wants_pump(self, connection: Connection) -> None:
        """Something waits for this client and there may be room for it now."""
        if connection.authenticated and connection.closing_s is None:
            self._pumps[connection] = None
            self.intake.schedule()

    def _flush_clients(self) -> None:
        """At the end of a turn: read on for who lags, then write to each client once."""
        pumps, self._pumps = self._pumps, {}
        for connection in pumps:
            if connection.closing_s is None and self.delivery.pump(connection):
                self.wants_pump(connection)
        to_flush, self._to_flush = self._to_flush, []
        for connection in to_flush:
            connection.flush()

    # Time and rights

    def _sweep_again(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_again)
        self.sweep()

    def sweep(self) -> None:
        """Everything that time decides, once a second: timeouts, lingering sockets, rows of kept sessions."""
        now = self.clock()
        for connection in list(self._waiting):
            if now - connection.accepted_s > self.limits.connect_timeout_s:
                self.counters["connect_timeouts"] += 1
                connection.close()
        share = self.buffer_share()
        for connection in list(self._live.values()):
            connection.limit_buffer(share)
            keepalive_s = connection.keepalive_s
            if keepalive_s and now - connection.heard_s > 1.5 * keepalive_s and not connection.paused:
                self.counters["keepalive_timeouts"] += 1
                connection.close()
            elif connection.session.kept:
                self._save_if_moved(connection)
        for connection in list(self._closing):
            if connection.closing_s is not None and now - connection.closing_s > LINGER_S:
                connection.abort()
        self.intake.relax()

    def _save_if_moved(self, connection: Connection) -> None:
        session = connection.session
        told = self._cursors.get((session.identity, session.client_id), 0)
        idle = not session.behind and self.intake.committed - told > IDLE_CURSOR
        if connection.unsaved or idle:
            connection.unsaved = False
            if idle:
                session.cursor = max(session.cursor, self.intake.committed)
            self._save(session)

    def _rights_changed(self) -> None:
        self.epoch = self._hub.registry.epoch
        self.delivery.access_changed()

    def recheck(self) -> None:
        """Rights were taken away: ask again for everything that lives, and cut what is no longer allowed."""
        self._rights_changed()
        for connection in list(self._live.values()):
            if not self._still_allowed(connection):
                self.counters["revoked"] += 1
                log.warning("mqtt %s: rights of %s were revoked", connection.peer, connection.principal.id)
                connection.close()
        for key in [key for key in self._kept if self._hub.registry.thing(key[0]) is None]:
            self._forget(key)

    def _still_allowed(self, connection: Connection) -> bool:
        if not self.access.decide(connection.principal, Action.CONNECT, Resource()).allowed:
            return False
        return all(connection.allowed_filter(text) for text in connection.interests)


def _content_type(named: str | None, payload: bytes, now_s: float) -> str:
    """What the topic names, checked; where it names nothing, what the bytes are. Raises BadMessage."""
    if named is not None:
        return content.check(named, payload, now_s)
    try:
        return content.check(JSON, payload, now_s)
    except BadMessage:
        return OCTET_STREAM


_JSON_STARTS = frozenset((b"[", b"{", b" ", b"\t", b"\r", b"\n"))
_RECEIVED = ("received_qos0", "received_qos1", "received_qos2")

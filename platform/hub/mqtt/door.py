"""The MQTT door: who is connected, and what they may do.

Wires the rooms of this package together: connections hand messages to the intake, the intake to the log, the
log to the delivery, the delivery to the connections. Authenticates before any session is touched; a session
belongs to an identity and its client id. One timer sweeps for everything that time decides.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hub.disk import DiskState
from hub.errors import AccessDenied, HubError, TopicError
from hub.hub import Hub
from hub.message import Message, TimeQuality
from hub.mqtt import entry, store
from hub.mqtt.connection import Connection
from hub.mqtt.delivery import Delivery
from hub.mqtt.intake import Intake
from hub.mqtt.limits import COUNTERS, Limits
from hub.mqtt.listening import Listening
from hub.mqtt.outbox import Outbox
from hub.mqtt.pace import Pace
from hub.mqtt.packets import Connect
from hub.mqtt.publishing import Publishing
from hub.mqtt.reasons import CONNECT_CODES, LEVEL_5_0, PacketError, Reason
from hub.mqtt.replies import encode_connack, encode_connack_5
from hub.mqtt.retained import Retained
from hub.mqtt.rights import Rights
from hub.mqtt.routes import Routes
from hub.mqtt.session import identity_of
from hub.mqtt.sessions import SessionKey, Sessions
from hub.mqtt.showing import Showing
from hub.mqtt.system import System
from hub.mqtt.waiting import Waiting
from hub.mqtt.wills import Wills, delay_s

log = logging.getLogger("hub.mqtt")

SWEEP_S = 1.0  # how late a timeout or the row of a kept session may be
SLOW_SWEEP_S = 60.0  # how late a token's end or an expired retained message may be noticed
LINGER_S = 5.0  # how long a closing connection may take to read its last bytes


class MqttDoor:
    """An MQTT server, 3.1.1 and 5.0, of one hub.

    `port` 0 lets the system choose; `self.port` tells. `ssl` is a server context, or None for plain TCP.
    `gateway` names this gateway in what MQTT 5 subscribers are told of a message, `version` is for `$SYS`.
    `counters` never fall, except those that end in `_now` and `wills_waiting`.
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
        gateway: str = "",
        version: str = "",
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
        self.publishing: Publishing
        self.pace = Pace(self.limits, self.counters, clock)
        self.routes = Routes(hub.access)
        self.retained = Retained(self.limits.retained_messages, self.limits.retained_bytes)
        self.wills = Wills(hub, self.counters)
        self.sessions = Sessions(hub, self.limits, self.counters, clock, self.wills)
        self.system = System(hub, version, self._system_values, clock())
        self._hub = hub
        self._gateway = gateway
        self._ssl = ssl
        self._waiting = Waiting(self.limits)
        self._live: dict[SessionKey, Connection] = {}
        self._closing: dict[Connection, None] = {}
        self._per_owner: Counter[str] = Counter()  # connections of one thing or user
        self._pumps: dict[Connection, None] = {}
        self._to_flush: list[Outbox] = []
        self._not_begun: list[Connection] = []  # resumed while nothing could be stored; tried by the sweep
        self._unsubscribe: list[Callable[[], None]] = []
        self._rights = Rights(hub, self._live.values, self.counters)
        self._listening = Listening(self, hub)
        self._sweeper: asyncio.TimerHandle | None = None
        self._slow_sweep_s = clock()
        self._anonymous = 0

    async def start(self) -> None:
        """Take over the kept sessions and retained messages, then listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        hub, hub_log = self._hub, self._hub.log
        self.intake = Intake(hub_log, loop, self.limits, self.counters, self._flush_clients)
        showing = Showing(self._gateway, hub_log, lambda: hub.clock())
        self.delivery = Delivery(hub_log, self.routes, self.intake, self.retained, showing, self.counters)
        self.delivery.shared.wake = self.wants_pump
        self.publishing = Publishing(
            hub.access, self.intake, self.retained, self.counters, hub.boot, hub.settings.max_payload
        )
        unreadable = self.retained.load(hub_log.query(store.SELECT_RETAINED))
        if unreadable:
            log.error("%d retained messages are damaged and left out", unreadable)
        self.sessions.load(self.intake, self.delivery, self.routes)
        self.wills.load(self.intake, self.publishing)
        self.sessions.sweep()  # what is due before its client can be back
        self._unsubscribe = [
            hub_log.on_append(self.delivery.on_append),
            hub_log.on_commit(self._on_commit),
            self.access.on_revoke(self.recheck),
            hub.registry.on_change(lambda _change: self._rights_changed()),
        ]
        self.port = await self.listen(self.host, self.port, ssl=self._ssl)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep_again)

    async def listen(self, host: str, port: int, *, ssl: tls.SSLContext | None = None) -> int:
        """Listen on a further address, for the same sessions: TLS beside plain TCP. Returns the port.

        Raises OSError.
        """
        return await self._listening.listen(host, port, ssl)

    def listen_behind_proxy(
        self, host: str, port: int, trusts: Callable[[str], bool], *, ssl: tls.SSLContext | None = None
    ) -> int:
        """Listen on a further address for proxies that `trusts` knows: each connection begins with a PROXY header.

        Returns the port. Raises OSError.
        """
        return self._listening.listen_behind_proxy(host, port, trusts, ssl)

    async def stop_listening(self) -> None:
        """Take no new connections; those that are there go on."""
        await self._listening.stop()

    async def close(self) -> None:
        """End every connection as lost, wills included, and wait until what was taken is durable."""
        await self.stop_listening()
        for connection in [*self._live.values(), *self._waiting]:
            connection.close(Reason.SERVER_SHUTTING_DOWN)
        await self.intake.drain()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for connection in list(self._closing):
            connection.abort()
        await self._listening.ended()

    # Connections come and go

    def admit(self, connection: Connection) -> bool:
        """A TCP connection was accepted; False where there are too many without a CONNECT."""
        if not self._waiting.add(connection):
            self.counters["refused_connections"] += 1
            return False
        self.counters["connections_accepted"] += 1
        return True

    def connect(self, connection: Connection, packet: Connect) -> None:
        """Answer a CONNECT (3.1.4): authenticate, then look for the session."""
        certificate = connection.certificate
        if certificate is not None and certificate.refusal:  # which is in the audit log already
            self.counters["refused_credentials"] += 1
            connection.refuse(packet.level, Reason.NOT_AUTHORIZED, certificate.refusal, packet)
            return
        login = entry.authenticate(self._hub, packet, connection.certificate, connection.peer)
        if isinstance(login, entry.Refusal):
            self.counters["refused_credentials"] += 1
            if login in entry.UNKNOWN:  # of others the access seam has told
                self._hub.note_refusal("mqtt", login.why, address=connection.peer, resource="connect")
            self._refuse(connection, packet, login)
            return
        connection.principal, connection.token, connection.ends_s = login
        assigned = ""
        if not packet.client_id and packet.level == LEVEL_5_0:
            assigned = entry.new_client_id()
        key = (identity_of(login.principal), assigned or packet.client_id)
        refusal = self._may_connect(connection, packet, key)
        if refusal is not None:
            self._refuse(connection, packet, refusal)
            return
        self._waiting.remove(connection)
        self._attach(connection, packet, key, assigned)

    @staticmethod
    def _refuse(connection: Connection, packet: Connect, refusal: entry.Refusal) -> None:
        log.info("mqtt %s: CONNECT as %.64r refused: %s", connection.peer, packet.username, refusal.why)
        connection.refuse(packet.level, refusal.reason, refusal.why, packet)

    def _may_connect(self, connection: Connection, packet: Connect, key: SessionKey) -> entry.Refusal | None:
        refusal = entry.check_will(self.publishing, connection.principal, packet, connection.peer)
        if refusal is not None:
            self.counters["refused_publishes"] += 1
            return refusal
        takes_over = key in self._live
        if not takes_over and (
            len(self._live) >= self.limits.connections
            or self._per_owner[connection.principal.id] >= self.limits.connections_per_thing
        ):
            self.counters["refused_connections"] += 1
            return entry.TOO_MANY_CONNECTIONS
        if entry.session_expiry_s(self.limits, packet) and not self.sessions.may_keep(key):
            self.counters["refused_sessions"] += 1
            return entry.TOO_MANY_SESSIONS
        return None

    def _attach(self, connection: Connection, packet: Connect, key: SessionKey, assigned: str) -> None:
        """Give the connection its session and send CONNACK."""
        identity, client = key
        if not client:
            self._anonymous += 1
            client = f"\0{self._anonymous}"  # no client can send U+0000, so this is nobody else's
            key = (identity, client)
        old = self._live.get(key)
        if old is not None:
            self.counters["takeovers"] += 1
            old.close(Reason.SESSION_TAKEN_OVER)
        expiry_s = entry.session_expiry_s(self.limits, packet)
        stored = self.sessions.get(key)
        if packet.clean and stored is not None:
            self.sessions.forget(key)
            stored = None
        session = stored or self.sessions.new(identity, client, expiry_s=expiry_s)
        self.sessions.come(session)
        session.expiry_s = expiry_s
        session.will = packet.will
        session.version = connection.principal.version or 0
        if expiry_s:
            self.sessions.keep(session)
        connection.session = session
        connection.keepalive_s = entry.keepalive_s(self.limits, packet)
        connection.welcome(packet)
        self._live[key] = connection
        self._per_owner[session.owner] += 1
        self.counters["connections_now"] = len(self._live)
        if session.kept and stored is None:
            self.sessions.save(session)
        answer = partial(self._answer, connection, packet, assigned, present=stored is not None)
        if packet.will is None:
            answer()
        else:
            self._answer_when_kept(connection, answer)

    def _answer_when_kept(self, connection: Connection, answer: Callable[[], None]) -> None:
        """The will has to be durable first, except on a disk that is full, which keeps nobody out."""

        def without() -> None:
            if self._hub.log.state is DiskState.OK:
                connection.abandon("the log did not take the will")
            else:
                answer()

        connection.hold()
        self.wills.keep(connection.session, connection.principal)
        self.intake.then(answer)
        self.intake.undo(without)

    def _answer(self, connection: Connection, packet: Connect, assigned: str, *, present: bool) -> None:
        """Send CONNACK, and what is owed to the session."""
        if connection.closing_s is not None:
            return
        connection.send(self._connack(connection, packet, assigned, present=present))
        if present:
            self._resume(connection)
        connection.go_on()

    def _connack(self, connection: Connection, packet: Connect, assigned: str, *, present: bool) -> bytes:
        if packet.level != LEVEL_5_0:
            return encode_connack(CONNECT_CODES[Reason.SUCCESS], session_present=present)
        session = connection.session
        if present and session.behind:
            self.delivery.catch_up(session)
        missed = session.missed
        properties = entry.connack_properties(self._hub, self.limits, connection, packet, assigned, missed)
        if properties.user:
            session.telling = 0, missed
        return encode_connack_5(Reason.SUCCESS, properties, session_present=present)

    def _resume(self, connection: Connection) -> None:
        """Take up a kept session: what it subscribed is asked for again, what was in flight is owed again."""
        session = connection.session
        connection.subscribing.resume()
        connection.resending = deque(packet_id for packet_id, _ in session.to_resend())
        self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        """Send what is owed, the row first: a QoS 2 message must not leave before its packet id is durable."""
        self.intake.save(connection.session)
        self.intake.then(lambda: self.wants_pump(connection))
        self.intake.undo(lambda: self._not_begun.append(connection))

    def detach(self, connection: Connection) -> None:
        """The connection ends: its will is published unless it said goodbye, or waits for its delay."""
        self._waiting.remove(connection)
        self._closing[connection] = None
        self.intake.forget(connection)
        if not connection.authenticated:
            return
        session = connection.session
        key = (session.identity, session.client_id)
        del self._live[key]
        self._per_owner[session.owner] -= 1
        if not self._per_owner[session.owner]:
            del self._per_owner[session.owner]
        self.counters["connections_now"] = len(self._live)
        connection.subscribing.silence_all()
        if not session.behind:
            session.cursor = max(session.cursor, self.intake.committed)
            session.behind = True
        survives = session.kept and session.expiry_s > 0
        if session.will is not None and (not survives or not delay_s(session.will)):
            self.wills.leave(session, connection.principal)
        if survives:
            self.sessions.leave(session)
            self.sessions.save(session)
        elif session.kept:
            self.sessions.forget(key)
        else:
            self.sessions.end(session)

    def lost(self, connection: Connection) -> None:
        """The socket is closed, by whichever side."""
        if connection.closing_s is None:
            connection.close()
        self._closing.pop(connection, None)

    def malformed(self, connection: Connection, fault: PacketError) -> None:
        """The peer broke the protocol: say so where the protocol has a word for it, and close (5.0, 4.13)."""
        self.counters["refused_properties" if fault.code == Reason.QUOTA_EXCEEDED else "malformed"] += 1
        level = logging.WARNING if connection.authenticated else logging.INFO  # a stranger's fault is no news
        log.log(level, "mqtt %s: %s", connection.peer, fault)
        if connection.authenticated:
            self.note_refusal(connection, "a packet", str(fault))
            connection.close(fault.code, str(fault))
        elif fault.level == LEVEL_5_0 or (fault.level and fault.code in CONNECT_CODES):
            connection.refuse(fault.level, fault.code, str(fault))
        else:
            connection.close()

    def misannounced(self, peer: str, why: str) -> None:
        """Somebody has told a client's address where he may not, or has not where he must: the connection ends."""
        self.counters["refused_announcements"] += 1
        log.info("mqtt %s: %s", peer, why)
        self._hub.audit.record("proxy", "refused", address=peer, door="mqtt", detail=why)

    def note_refusal(self, connection: Connection, what: str, why: str) -> None:
        """Audit what the access seam was never asked."""
        self._hub.note_refusal(
            *("mqtt", why), principal=connection.principal, address=connection.peer, resource=what
        )

    def count_refused(self, connection: Connection, error: HubError) -> None:
        """A PUBLISH was refused."""
        denied = isinstance(error, AccessDenied | TopicError)
        if isinstance(error, TopicError):
            self.note_refusal(connection, "publish", error.reason)
        self.counters["refused_publishes" if denied else "refused_contents"] += 1
        log.warning("mqtt %s: PUBLISH of %s refused: %s", connection.peer, connection.principal.id, error)

    def refused(self, connection: Connection, error: HubError) -> None:
        """The same where there is no answer but to close the connection (3.1.1, 3.3.5-2; 5.0 at QoS 0)."""
        self.count_refused(connection, error)
        connection.close(Reason(error.mqtt_reason), error.reason)

    def buffer_share(self) -> int:
        """Bytes that may be buffered towards one client, so that all together stay within the total."""
        share = self.limits.buffered_total_bytes // max(1, len(self._live))
        return min(self.limits.buffered_bytes, share)

    def unsent_bytes(self) -> int:
        """What clients' sockets have not taken yet, of all connections, closing ones included."""
        return sum(connection.unsent_bytes for connection in (*self._live.values(), *self._closing))

    # Messages

    def stamp(self) -> tuple[int, TimeQuality]:
        """The time that messages taken now carry: UTC in ns, and how far it can be trusted."""
        return self._hub.clock()

    def _on_commit(self, messages: Sequence[Message]) -> None:
        self.delivery.on_commit(messages)
        self.intake.relax()

    def wants_flush(self, connection: Outbox) -> None:
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
        if self._pumps:
            self._pump()
        to_flush, self._to_flush = self._to_flush, []
        for outbox in to_flush:
            outbox.flush()

    def _pump(self) -> None:
        """Send what waits; who is not reached in this turn comes first in the next."""
        pumps, self._pumps = self._pumps, {}
        self.delivery.begin_turn()
        waiting = iter(pumps)
        for connection in waiting:
            if connection.closing_s is None and self.delivery.pump(connection):
                self.wants_pump(connection)
            if self.delivery.spent:
                break
        self._pumps = dict.fromkeys(waiting) | self._pumps
        if self._pumps:
            self.intake.schedule()

    # Time and rights

    def _sweep_again(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_again)
        self.sweep()

    def sweep(self) -> None:
        """Everything that time decides, once a second: timeouts, lingering sockets, rows, expiry, `$SYS`."""
        now, wall_s = self.clock(), self._hub.now_s()
        for connection in list(self._waiting):
            if now - connection.accepted_s > self.limits.connect_timeout_s:
                self.counters["connect_timeouts"] += 1
                connection.close()
        share = self.buffer_share()
        for connection in list(self._live.values()):
            connection.limit_buffer(share)
            keepalive_s = connection.keepalive_s
            if connection.ends_s is not None and wall_s >= connection.ends_s:
                self._rights.cut(connection)
            elif keepalive_s and now - connection.heard_s > 1.5 * keepalive_s and not connection.paused:
                self.counters["keepalive_timeouts"] += 1
                connection.close(Reason.KEEP_ALIVE_TIMEOUT)
            elif connection.session.kept:
                moved, connection.unsaved = connection.unsaved, False
                self.sessions.save_if_moved(connection.session, moved=moved)
        for connection in list(self._closing):
            if connection.closing_s is not None and now - connection.closing_s > LINGER_S:
                connection.abort()
        not_begun, self._not_begun = self._not_begun, []
        for connection in not_begun:
            if connection.closing_s is None:
                self._begin(connection)
        self.sessions.save_groups()
        self.wills.publish_due()
        self.sessions.sweep()
        self.system.sweep(now)
        if now - self._slow_sweep_s >= SLOW_SWEEP_S:
            self._slow_sweep_s = now
            self.delivery.drop_expired_retained()
            self._rights.recheck_tokens()
        self.intake.relax()

    def _rights_changed(self) -> None:
        self.epoch = self._hub.registry.epoch
        self.routes.access_changed()

    def recheck(self) -> None:
        """Rights were taken away: ask again for everything that lives, and cut what is no longer allowed."""
        self._rights_changed()
        self._rights.recheck()
        self.sessions.forget_strangers()

    def _system_values(self) -> Mapping[str, int]:
        """The door's own part of `$SYS/broker/`."""
        counters = self.counters
        absent = len(self.sessions) - sum(c.session.kept for c in self._live.values())
        return {
            "clients/connected": len(self._live),
            "clients/total": len(self._live) + absent,
            "clients/expired": counters["sessions_expired"],
            "subscriptions/count": len(self.routes),
            "shared_subscriptions/count": len(self.delivery.shared.groups),
            "retained messages/count": len(self.retained),
            "messages/received": sum(counters[f"received_qos{qos}"] for qos in range(3)),
            "messages/sent": sum(counters[f"sent_qos{qos}"] for qos in range(3)),
            "messages/dropped": counters["dropped_qos0"] + counters["dropped_too_large"],
            "bytes/received": counters["bytes_received"],
            "bytes/sent": counters["bytes_sent"],
        }

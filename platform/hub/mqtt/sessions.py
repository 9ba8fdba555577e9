"""The sessions that outlive their connection: rows, bounds, expiry, and wills that wait for their delay.

A session belongs to (identity, client id). While its client is away it is no more than its row, a position in
the log, and the filters by which the door knows that somebody wants a message.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from hub.disk import DiskState
from hub.errors import TopicError
from hub.hub import Hub
from hub.mqtt import store
from hub.mqtt.delivery import Delivery
from hub.mqtt.fields import shared
from hub.mqtt.intake import Intake
from hub.mqtt.limits import Limits
from hub.mqtt.moments import Moment, moment, on_this_clock, seconds_since
from hub.mqtt.reasons import PacketError
from hub.mqtt.routes import Routes
from hub.mqtt.session import NEVER, Session, grant_of, owner_of
from hub.mqtt.sharing import Group
from hub.mqtt.wills import Wills, delay_s
from hub.topics import Filter, parse_filter

log = logging.getLogger("hub.mqtt")

IDLE_CURSOR = 10_000  # messages after which the cursor of a reader without any for it is moved all the same

SessionKey = tuple[str, str]  # identity, client id


class Sessions:
    """The kept sessions of a door, connected or not."""

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        counters: dict[str, int],
        clock: Callable[[], float],
        wills: Wills,
    ) -> None:
        self._hub = hub
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._wills = wills
        self._kept: dict[SessionKey, Session] = {}
        self._absent: dict[SessionKey, Session] = {}  # of these, those without a connection
        self._per_owner: Counter[str] = Counter()
        self._cursors: dict[str, int] = {}  # as last told to the log, by cursor's name
        self._intake: Intake
        self._delivery: Delivery
        self._routes: Routes
        self._started = self.now()

    def now(self) -> Moment:
        return moment(self._hub.boot, self._clock(), self._hub.clock())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: SessionKey) -> Session | None:
        return self._kept.get(key)

    def new(self, identity: str, client: str, *, expiry_s: int) -> Session:
        """A fresh session that sees what is published from now on."""
        session = Session(
            identity,
            client,
            kept=expiry_s > 0,
            window=self._limits.in_flight,
            max_receiving=self._limits.receiving,
            cursor=max(self._hub.log.committed_seq, self._hub.log.first_seq - 1),
        )
        session.expiry_s = expiry_s
        return session

    # The last run

    def load(self, intake: Intake, delivery: Delivery, routes: Routes) -> None:
        """Read the rows of the last run. One that cannot be read is left out and said so."""
        self._intake, self._delivery, self._routes = intake, delivery, routes
        self._started = self.now()
        for identity, client, row in self._hub.log.query(store.SELECT_SESSIONS):
            session = self.new(identity, client, expiry_s=NEVER)
            try:
                session.load(row.encode())
            except ValueError:
                log.error("the kept session %s of %s is damaged and starts afresh", client, identity)
                continue
            if session.ended is None:
                session.ended = self._started  # it had a connection when the last run ended
            self._kept[identity, client] = session
            self._per_owner[session.owner] += 1
            for text in session.subscriptions:
                self._join(session, text)
            self.leave(session)
        self._load_groups()

    def _load_groups(self) -> None:
        groups = self._delivery.shared.groups
        for key, row in self._hub.log.query(store.SELECT_GROUPS):
            group = groups.get(key)
            if group is None:
                self._intake.write(store.delete_group(key))
                continue
            try:
                group.load(row.encode())
            except ValueError:
                log.error("the shared subscription %s is damaged and starts afresh", key)

    # Coming and going

    def may_keep(self, key: SessionKey) -> bool:
        """Whether there is room for a kept session under `key`."""
        return key in self._kept or (
            len(self._kept) < self._limits.sessions
            and self._per_owner[owner_of(key[0])] < self._limits.sessions_per_thing
        )

    def keep(self, session: Session) -> None:
        """From now on the session outlives its connection."""
        key = (session.identity, session.client_id)
        session.kept = True
        if key not in self._kept:
            self._kept[key] = session
            self._per_owner[session.owner] += 1

    def come(self, session: Session) -> None:
        """A client takes its session up: no will is due (5.0, 3.1.3-9)."""
        key = (session.identity, session.client_id)
        if self._absent.pop(key, None) is not None:
            for text, wanted in _filters(session):
                self._routes.absent.remove(wanted, (*key, text))
        session.ended = None
        session.will = None

    def leave(self, session: Session) -> None:
        """The connection of a kept session has ended: expiry and will delay run from now on, or from then."""
        key = (session.identity, session.client_id)
        if session.ended is None:
            session.ended = self.now()
        self._absent[key] = session
        for text, wanted in _filters(session):
            self._routes.absent.add(wanted, (*key, text))

    def forget(self, key: SessionKey, *, will: bool = True) -> None:
        """End a kept session: its row, its place in the log, its shared subscriptions. A waiting will is due."""
        session = self._kept.pop(key)
        if will and session.will is not None:
            self._wills.leave_late(session, ended=True)
        self.come(session)
        self._intake.discard(session)
        self._per_owner[session.owner] -= 1
        if not self._per_owner[session.owner]:
            del self._per_owner[session.owner]
        self._intake.write(store.delete_session(*key))
        self._cursors.pop(session.name, None)
        self._hub.log.drop_cursor(session.name)
        self.end(session)

    def end(self, session: Session) -> None:
        """A session is over, kept or not: it leaves its shared subscriptions."""
        session.kept = False
        for text in list(session.groups):
            self.unshare(session, text, ended=True)

    # Shared subscriptions

    def share(self, session: Session, text: str) -> Group | None:
        """The group of a shared subscription, which the session joins; None where `text` is not shared."""
        group = self._join(session, text)
        if group is not None and group.durable:
            self._tell(group.cursor_name, group.needed_from())
        return group

    def _join(self, session: Session, text: str) -> Group | None:
        try:
            name, plain = shared(text)
            if not name:
                return None
            wanted = parse_filter(plain)
        except (PacketError, TopicError):
            return None
        group = self._delivery.shared.join(f"{name}/{plain}", wanted, session)
        session.groups[text] = group
        return group

    def may_share(self, text: str) -> bool:
        """Whether there is room for the group of this filter."""
        name, plain = shared(text)
        groups = self._delivery.shared.groups
        return f"{name}/{plain}" in groups or len(groups) < self._limits.shared_groups

    def unshare(self, session: Session, text: str, *, ended: bool = False) -> None:
        """The session leaves a group; one without members is forgotten."""
        group = session.groups.pop(text, None)
        if group is None:
            return
        if self._delivery.shared.leave(group, session, ended=ended):
            self._intake.discard_group(group)
            self._intake.write(store.delete_group(group.key))
            self._cursors.pop(group.cursor_name, None)
            self._hub.log.drop_cursor(group.cursor_name)

    # Rows

    def save(self, session: Session) -> None:
        """Write the row of a kept session with the next commit, and tell the log how far it is."""
        if self._kept.get((session.identity, session.client_id)) is not session:
            return
        self._intake.save(session)
        self._tell(session.name, session.needed_from())

    def _tell(self, name: str, done: int) -> None:
        if self._cursors.get(name) != done:
            self._cursors[name] = done
            self._hub.log.move_cursor(name, done)

    def _told(self, name: str) -> int:
        return self._cursors.get(name, 0)

    def save_if_moved(self, session: Session, *, moved: bool) -> None:
        """Once a second: the row of a connected session that has moved, or has long had nothing to move for."""
        idle = not session.behind and self._intake.committed - self._told(session.name) > IDLE_CURSOR
        if idle:
            session.cursor = max(session.cursor, self._intake.committed)
        if moved or idle:
            self.save(session)

    def save_groups(self) -> None:
        """The rows of shared subscriptions that have moved."""
        for group in self._delivery.shared.groups.values():
            idle = not group.behind and self._intake.committed - self._told(group.cursor_name) > IDLE_CURSOR
            if (group.unsaved or idle) and group.durable:
                if idle:
                    group.cursor = max(group.cursor, self._intake.committed)
                self._intake.save_group(group)
                self._tell(group.cursor_name, group.needed_from())
            group.unsaved = False

    # Time

    def sweep(self) -> None:
        """What is due: wills whose delay is over, sessions that have expired."""
        now = self.now()
        waiting = 0
        for key, session in list(self._absent.items()):
            if session.ended is None or (session.will is None and session.expiry_s == NEVER):
                continue
            session.ended = on_this_clock(session.ended, now, self._started)
            ago_s = seconds_since(session.ended, now, self._started)
            if session.will is not None and self._hub.log.state is not DiskState.OK:
                waiting += 1
            elif session.expiry_s != NEVER and ago_s >= session.expiry_s:
                self._counters["sessions_expired"] += 1
                self.forget(key)
            elif session.will is not None:
                if ago_s >= delay_s(session.will):
                    # In one transaction: after a crash the will has been published, or still waits.
                    self._wills.leave_late(session, ended=False)
                    self._intake.save(session)
                else:
                    waiting += 1
        self._counters["wills_waiting"] = waiting
        self._counters["sessions_now"] = len(self._kept)

    def forget_strangers(self) -> None:
        """Sessions of things and users that are no more, or through keys and consents that are not."""
        registry = self._hub.registry
        for key in list(self._kept):
            owner, grant = owner_of(key[0]), grant_of(key[0])
            stranger = registry.thing(owner) is None and registry.user(owner) is None
            if stranger or (grant and registry.grants.get(grant) is None):
                self.forget(key, will=False)


def _filters(session: Session) -> list[tuple[str, Filter]]:
    """The filters of a session, apart from shared ones, whose group knows itself, and `$SYS`."""
    found = []
    for text in session.subscriptions:
        if not text.startswith("$"):
            try:
                found.append((text, parse_filter(text)))
            except TopicError:
                continue
    return found

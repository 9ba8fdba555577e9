"""Wills (3.1.2.5): what is published for a client whose connection ends without a goodbye.

In: the will of a CONNECT. Out: its message, at the end of the connection or after its delay, asked for again at the
access seam. A will is durable before its CONNACK: a gateway that is killed, or loses its power, publishes it at its
next start. The will of a kept session is part of that session's row; the will of any other connection has a row of
its own, which goes in the transaction that stores its message.
"""

from __future__ import annotations

import logging

import msgspec

from hub.access import Principal
from hub.disk import DiskState
from hub.errors import AccessDenied, HubError, TopicError
from hub.hub import Hub
from hub.mqtt import store
from hub.mqtt.intake import Intake
from hub.mqtt.packets import Will
from hub.mqtt.publishing import Publishing
from hub.mqtt.session import Session, grant_of

log = logging.getLogger("hub.mqtt")

MAX_DUE = 1_000  # wills that wait for a disk with room; one more is not published: wills_lost


class Left(msgspec.Struct, frozen=True):
    """A will and whose it is."""

    principal: Principal
    will: Will


class Wills:
    """The wills of a door."""

    def __init__(self, hub: Hub, counters: dict[str, int]) -> None:
        self._hub = hub
        self._counters = counters
        self._intake: Intake
        self._publishing: Publishing
        self._last_row = 0
        self._due: dict[int, Left] = {}  # by row: to be published as soon as the disk takes it

    def load(self, intake: Intake, publishing: Publishing) -> None:
        """The connections of the last run are over: what they left is due."""
        self._intake, self._publishing = intake, publishing
        for number, row in self._hub.log.query(store.SELECT_WILLS):
            self._last_row = max(self._last_row, number)
            try:
                self._due[number] = msgspec.msgpack.decode(row, type=Left)
            except ValueError:
                log.error("a will of the last run is damaged and not published")
                intake.write(store.delete_will(number))
        self.publish_due()

    def keep(self, session: Session, principal: Principal) -> None:
        """Have the will of a new connection outlive this process, with the commit of this turn."""
        if session.will is None:
            return
        if session.kept:
            self._intake.save(session)
            return
        self._last_row += 1
        session.will_row = self._last_row
        left = msgspec.msgpack.encode(Left(principal, session.will))
        self._intake.write(store.save_will(session.will_row, left))

    def drop(self, session: Session) -> None:
        """The client said goodbye: nothing is published, and nothing after a restart either."""
        session.will = None
        if session.will_row:
            self._intake.write(store.delete_will(session.will_row))
            session.will_row = 0
        self._at_once()

    def leave(self, session: Session, principal: Principal) -> None:
        """The connection has ended and its will is due."""
        will, session.will = session.will, None
        row, session.will_row = session.will_row, 0
        if will is not None:
            self._due_now(row, Left(principal, will))

    def leave_late(self, session: Session, *, ended: bool) -> None:
        """The delay of a will is over, or its session has ended; its row is written or deleted by the caller.

        Who left it is asked for again, by the key he showed then.
        """
        will, session.will = session.will, None
        if will is None:
            return
        grant = grant_of(session.identity)
        version = None if grant else session.version or None
        principal = Principal("thing", session.owner, version, grant)
        if ended:
            self._due_now(0, Left(principal, will))
        else:
            self._publish(principal, will)
            self._intake.undo(lambda: setattr(session, "will", will))  # it waits on

    def publish_due(self) -> None:
        """At the start, and once a second: what could not be stored before is tried again."""
        if self._due and self._hub.log.state is DiskState.OK:
            due, self._due = self._due, {}
            for row, left in due.items():
                self._due_now(row, left)

    def _due_now(self, row: int, left: Left) -> None:
        """In one transaction: after a crash the will has been published, or is still due."""
        self._publish(left.principal, left.will)
        if row:
            self._intake.write(store.delete_will(row))
        self._intake.undo(lambda: self._wait(row, left))

    def _wait(self, row: int, left: Left) -> None:
        """The disk did not take it."""
        if len(self._due) >= MAX_DUE:
            self._counters["wills_lost"] += 1
            return
        if not row:
            self._last_row = row = self._last_row + 1
        self._due[row] = left

    def _publish(self, principal: Principal, will: Will) -> None:
        try:
            message = self._publishing.will(principal, will, self._hub.clock())
        except (AccessDenied, TopicError):
            return  # it was allowed at CONNECT; the right is gone
        except HubError as error:
            self._counters["refused_contents"] += 1
            log.warning("mqtt: will of %s refused: %s", principal.id, error)
            return
        self._counters["wills"] += 1
        self._intake.take(None, (message,))
        self._at_once()

    def _at_once(self) -> None:
        """Force the commit of this turn, and hear of it should it fail."""
        self._intake.then(lambda: None)


def delay_s(will: Will) -> int:
    """The will delay interval (5.0, 3.1.3.2.2); 0 in 3.1.1."""
    return (will.properties.will_delay_s or 0) if will.properties is not None else 0

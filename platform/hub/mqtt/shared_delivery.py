"""Messages for shared subscriptions: each to one member of the group, whoever has room (5.0, 4.8.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hub.message import Message
from hub.mqtt.intake import Intake
from hub.mqtt.routes import Interest, Receiver, Routes
from hub.mqtt.session import Session
from hub.mqtt.sharing import Group
from hub.topics import Filter

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection
    from hub.mqtt.delivery import Delivery

BATCH = 64  # messages given out in one go before others have their turn


class SharedDelivery:
    """The groups of a door, by key."""

    def __init__(self, delivery: Delivery, routes: Routes, intake: Intake) -> None:
        self._delivery = delivery
        self._routes = routes
        self._intake = intake
        self.groups: dict[str, Group] = {}
        self.wake: Callable[[Connection], None] = lambda _connection: None

    # Members

    def join(self, key: str, wanted: Filter, session: Session) -> Group:
        """A session subscribes, or was found to have. A new group begins with the next message."""
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key, wanted, self._delivery.last_seq)
            self._routes.add_group(group)
        group.sessions[session] = None
        group.unsaved = True
        return group

    def come(self, interest: Interest) -> None:
        """A member is connected."""
        group = interest.group
        assert group is not None
        group.members.append(interest)
        if group.waits:
            self.wake(interest.connection)

    def go(self, interest: Interest, *, lost: bool) -> None:
        """A member is gone; where its connection is, what it did not acknowledge goes to another, if there is one."""
        group = interest.group
        assert group is not None
        group.members.remove(interest)
        session = interest.connection.session
        if group.members and lost:
            group.put_back(session.take_back(group.key))
            for member in group.members:
                self.wake(member.connection)
        elif not group.members and not group.behind:
            group.cursor = max(group.cursor, self._intake.committed)
            group.behind = True
        group.unsaved = True

    def leave(self, group: Group, session: Session, *, ended: bool) -> bool:
        """A session unsubscribes or has ended; True where the group is no more.

        An ended session cannot acknowledge: its QoS 1 messages go to another. Begun QoS 2 ones must not.
        """
        group.sessions.pop(session, None)
        group.unsaved = True
        if group.sessions:
            if ended:
                group.put_back(session.take_back(group.key))
                for member in group.members:
                    self.wake(member.connection)
            return False
        if self.groups.pop(group.key, None) is not None:
            self._routes.remove_group(group)
        return True

    # Messages

    def offer_0(self, group: Group, message: Message) -> None:
        """A QoS 0 message: whoever is there."""
        member = group.pick(lambda interest: not interest.connection.full and self._may(interest, message))
        if member is not None:
            self._delivery.send_0(Receiver([member], message.channel, message.subtopic), message)

    def offer(self, group: Group, message: Message) -> None:
        """A durable message: to a member with room, or it waits in the log."""
        if group.behind or message.seq <= group.cursor:
            return
        if not self._give(group, message):
            group.behind = True
            group.cursor = message.seq - 1
        group.unsaved = True

    def _give(self, group: Group, message: Message) -> bool:
        member = group.pick(
            lambda interest: (
                _has_room(interest) and not interest.connection.resending and self._may(interest, message)
            )
        )
        if member is None:
            return False
        receiver = Receiver([member], message.channel, message.subtopic)
        if receiver.qos:
            if group.missed and not receiver.plain:  # this member's client is told, with this message
                member.connection.session.missed += group.missed
                group.missed = 0
            self._delivery.send(receiver, message, group=group.key)
        else:
            self._delivery.send_0(receiver, message)
        return True

    def _may(self, interest: Interest, message: Message) -> bool:
        return self._routes.may_receive(interest.connection, message.channel, message.subtopic)

    def pump(self, group: Group) -> bool:
        """Give out what waits; True where there is more to look at in another turn."""
        given = 0
        while group.again and given < BATCH:
            message = self._delivery.read_one(group.again[0])
            if message is not None and not self._give(group, message):
                return False
            group.again.pop(0)
            group.unsaved = True
            given += 1
        if group.again or not group.behind:
            return bool(group.again)
        if not any(_has_room(member) for member in group.members):
            return False
        return self._read_on(group)

    def _read_on(self, group: Group) -> bool:
        cursor, lost = self._delivery.reached(group.cursor_name, group.cursor, noted=group.durable)
        group.missed += lost

        def wants(message: Message) -> bool:
            return message.qos > 0 and group in self._routes.of(message).groups

        found, seen = self._delivery.scan(cursor, wants, BATCH)
        group.unsaved = True
        for message in found:
            if self._delivery.expired(message) or self._give(group, message):
                cursor = message.seq
                continue
            group.cursor = cursor
            return False
        group.cursor = seen
        group.behind = seen < self._delivery.committed_seq
        return group.behind


def _has_room(interest: Interest) -> bool:
    connection = interest.connection
    return not connection.full and (connection.session.room > 0 or not interest.subscription.qos)

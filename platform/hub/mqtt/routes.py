"""Who gets a message: from the subscriptions of the connected clients to one receiver per client and address.

Overlapping filters of a client become one receiver with the highest QoS (3.3.5) and, in MQTT 5, the identifiers
of all of them. Access is asked for each address and client, and asked again whenever it may have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access import Access, Action, Circumstances, Principal, Resource
from hub.message import Message
from hub.mqtt.fields import encode_length
from hub.mqtt.reasons import LEVEL_3_1_1
from hub.mqtt.session import Subscription
from hub.mqtt.sharing import Group
from hub.router import Router
from hub.topics import Filter, format_topic

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

MAX_ROUTES = 10_000  # addresses whose receivers are remembered; then the memory starts afresh


class Interest:
    """One subscription of one connected client."""

    __slots__ = ("connection", "group", "prefix", "subscription", "text", "wanted")

    def __init__(
        self,
        connection: Connection,
        text: str,
        wanted: Filter,
        subscription: Subscription,
        group: Group | None = None,
    ) -> None:
        self.connection = connection
        self.text = text  # the filter as the client wrote it
        self.wanted = wanted
        self.subscription = subscription
        self.group = group  # where it is shared
        # A client is answered in the form it asked in: the topic must match its filter (3.3.2-3).
        plain = text.split("/", 2)[2] if group else text
        self.prefix = plain[: plain.index("channels/")]

    def topic(self, channel: str, subtopic: str) -> bytes:
        """The topic under which this subscriber receives."""
        return (self.prefix + format_topic(channel, subtopic, self.wanted.content_type)).encode()


class Receiver:
    """One client that gets the messages of one address.

    `plain` ones, of MQTT 3.1.1, get a PUBLISH whose head depends on the payload's size alone.
    """

    __slots__ = (
        "accept",
        "connection",
        "heads",
        "identifiers",
        "own",
        "plain",
        "qos",
        "retain_as_published",
        "since",
        "topic",
    )

    def __init__(self, interests: list[Interest], channel: str, subtopic: str) -> None:
        best = max(interests, key=lambda interest: interest.subscription.qos)
        subscriptions = [interest.subscription for interest in interests]
        self.connection = best.connection
        self.topic = best.topic(channel, subtopic)
        self.qos = best.subscription.qos
        self.since = min(subscription.since for subscription in subscriptions)
        self.accept = best.subscription.accept
        self.retain_as_published = any(subscription.retain_as_published for subscription in subscriptions)
        self.identifiers = b"".join(
            b"\x0b" + encode_length(identifier)
            for identifier in sorted({subscription.identifier for subscription in subscriptions} - {0})
        )
        self.plain = best.connection.level == LEVEL_3_1_1
        self.heads: dict[int, bytes] = {}  # of plain PUBLISH packets, by payload size << 2 | QoS
        self.own: Receiver | None = self  # for what the client published itself: without No Local
        foreign = [interest for interest in interests if interest.subscription.no_local]
        if foreign:
            others = [interest for interest in interests if not interest.subscription.no_local]
            self.own = Receiver(others, channel, subtopic) if others else None


class Route:
    """Everybody who is connected and gets the messages of one address."""

    __slots__ = ("groups", "receivers")

    def __init__(self, receivers: dict[Connection, Receiver], groups: tuple[Group, ...]) -> None:
        self.receivers = receivers
        self.groups = groups

    def receiver(self, connection: Connection, message: Message) -> Receiver | None:
        """How `connection` gets `message`, apart from shared subscriptions."""
        found = self.receivers.get(connection)
        return own(found, message) if found is not None and message.client else found


def own(receiver: Receiver, message: Message) -> Receiver | None:
    """No Local (5.0, 3.8.3.1): the receiver, or what is left of it for a message its client published itself."""
    session = receiver.connection.session
    if message.client == session.client_id and message.publisher == session.owner:
        return receiver.own
    return receiver


class Routes:
    """The subscriptions of connected clients and of groups; what they come to is remembered per address."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._interests: Router[Interest] = Router()
        self._groups: Router[Group] = Router()
        self.absent: Router[tuple[str, str, str]] = Router()  # identity, client id, filter
        self.known: dict[tuple[str, str, str], Route] = {}
        self._passing = access.passing
        self._later = 0  # of the subscriptions: those of QoS 1 and 2

    def __len__(self) -> int:
        return len(self._interests) + len(self.absent)

    @property
    def later(self) -> bool:
        """Whether there is anybody who may get messages after their commit: at QoS 1 or 2, or for a group."""
        return bool(self._later or len(self._groups))

    def add(self, interest: Interest) -> None:
        if self._interests.add(interest.wanted, interest):
            self._later += interest.subscription.qos > 0
        self.known.clear()

    def remove(self, interest: Interest) -> None:
        if self._interests.remove(interest.wanted, interest):
            self._later -= interest.subscription.qos > 0
        self.known.clear()

    def add_group(self, group: Group) -> None:
        self._groups.add(group.wanted, group)
        self.known.clear()

    def remove_group(self, group: Group) -> None:
        self._groups.remove(group.wanted, group)
        self.known.clear()

    def access_changed(self) -> None:
        """Ask again before the next delivery."""
        self.known.clear()

    def fresh(self) -> dict[tuple[str, str, str], Route]:
        """What is remembered, without what time alone has made wrong: asked for once for messages of one moment.

        By channel, subtopic and content type.
        """
        if self._access.passing != self._passing:
            self._passing = self._access.passing
            self.known.clear()
        return self.known

    def of(self, message: Message) -> Route:
        """Who gets a message like this one."""
        key = (message.channel, message.subtopic, message.content_type)
        route = self.fresh().get(key)
        if route is None:
            if len(self.known) >= MAX_ROUTES:
                self.known.clear()
            route = self.known[key] = self._find(*key)
        return route

    def wanted(self, message: Message) -> bool:
        """Whether anybody over MQTT has subscribed to it, connected or not."""
        route = self.of(message)
        return bool(
            route.receivers
            or route.groups
            or self.absent.match(message.channel, message.subtopic, message.content_type)
        )

    def _find(self, channel: str, subtopic: str, content_type: str) -> Route:
        interests: dict[Connection, list[Interest]] = {}
        for interest in self._interests.match(channel, subtopic, content_type):
            interests.setdefault(interest.connection, []).append(interest)
        receivers = {
            connection: Receiver(found, channel, subtopic)
            for connection, found in interests.items()
            if self.may_receive(connection, channel, subtopic)
        }
        return Route(receivers, self._groups.match(channel, subtopic, content_type))

    def may_receive(self, connection: Connection, channel: str, subtopic: str) -> bool:
        where = Resource(channel, subtopic)
        return self._access.decide(
            connection.principal, Action.DELIVER, where, connection.circumstances
        ).allowed

    def may_publish(self, message: Message) -> bool:
        """Whether the publisher of a retained message is still allowed to publish it (CVE-2018-12546)."""
        principal = Principal("thing", message.publisher)
        where = Resource(message.channel, message.subtopic)
        context = Circumstances(message.protocol, "", len(message.payload), message.content_type)
        return self._access.decide(principal, Action.PUBLISH, where, context).allowed

"""SUBSCRIBE and UNSUBSCRIBE of one connection: who may have which filter, and what a filter then brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access import Access, Action, Resource
from hub.errors import TopicError
from hub.mqtt import system
from hub.mqtt.fields import shared
from hub.mqtt.packets import Asked, Subscribe, Unsubscribe
from hub.mqtt.reasons import LEVEL_5_0, PacketError, Reason
from hub.mqtt.replies import (
    SUBSCRIBE_FAILED,
    encode_suback,
    encode_suback_5,
    encode_unsuback,
    encode_unsuback_5,
)
from hub.mqtt.routes import Interest
from hub.mqtt.session import Subscription
from hub.topics import ANY_CHANNEL, Filter, parse_filter

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection
    from hub.mqtt.door import MqttDoor

MAX_FILTER = 1280  # characters, share name included: a session's row repeats it
MAX_ACCEPT = 256  # characters of the user property `accept`
# Names the media types in which a subscriber of MQTT 5 wants payloads, as HTTP's header does
ACCEPT = "accept"


class Refused(Exception):
    """A filter that is not granted; `unasked`: for what it is, without asking the access seam, which would audit it."""

    def __init__(self, reason: Reason, why: str, *, unasked: bool = True) -> None:
        super().__init__(why)
        self.reason = reason
        self.unasked = unasked


def allowed_filter(access: Access, connection: Connection, text: str) -> Filter | None:
    """Parse a filter and ask for it; None for `$SYS`. Raises Refused.

    Wildcards stand only below one channel's `messages`.
    """
    if len(text) > MAX_FILTER:
        raise Refused(Reason.TOPIC_FILTER_INVALID, f"a filter has at most {MAX_FILTER} characters")
    if system.is_system(text):
        if not access.administers(connection.principal):
            raise Refused(Reason.NOT_AUTHORIZED, "$SYS is for administrators")
        return None
    try:
        _, plain = shared(text)
        wanted = parse_filter(plain)
    except (PacketError, TopicError) as error:
        raise Refused(Reason.TOPIC_FILTER_INVALID, str(error)) from None
    start = f"channels/{wanted.channel}/messages"
    if wanted.channel == ANY_CHANNEL or not plain.removeprefix("/").removeprefix("mainflux/").startswith(
        start
    ):
        raise Refused(Reason.TOPIC_FILTER_INVALID, "wildcards stand below channels/<id>/messages")
    where = Resource(wanted.channel, wanted.subtopic)
    decision = access.decide(connection.principal, Action.SUBSCRIBE, where, connection.circumstances)
    if not decision.allowed:
        raise Refused(Reason.NOT_AUTHORIZED, decision.reason, unasked=False)
    return wanted


class Subscribing:
    """The subscriptions of a connection and its session."""

    def __init__(self, door: MqttDoor, connection: Connection) -> None:
        self._door = door
        self._connection = connection

    def subscribe(self, packet: Subscribe) -> None:
        """3.8. The answer follows the row of a kept session; retained messages follow the answer."""
        connection = self._connection
        codes = bytearray()
        why = ""
        fresh: list[Interest] = []
        system_filters: list[str] = []
        for asked in packet.filters:
            held = connection.session.subscriptions.get(asked.filter)
            try:
                wanted = self._wanted(asked)
            except Refused as refusal:
                self._door.counters["refused_subscriptions"] += 1
                if refusal.unasked:
                    self._door.note_refusal(connection, f"subscribe {asked.filter}", str(refusal))
                codes.append(refusal.reason if connection.level == LEVEL_5_0 else SUBSCRIBE_FAILED)
                why = why or str(refusal)
                continue
            subscription = self._subscription(asked, packet, held, granted=asked.qos if wanted else 0)
            codes.append(subscription.qos)
            connection.session.subscriptions[asked.filter] = subscription
            self.listen(asked.filter, wanted)
            shows = asked.retain_handling == 0 or (asked.retain_handling == 1 and held is None)
            if wanted is None and shows:
                system_filters.append(asked.filter)
            elif shows and connection.interests[asked.filter].group is None:
                fresh.append(connection.interests[asked.filter])
        connection.session.subscriptions_changed()
        if connection.level == LEVEL_5_0:
            wire = encode_suback_5(packet.packet_id, bytes(codes), why if connection.says_why else "")
            if not connection.fits(wire):
                wire = encode_suback_5(packet.packet_id, bytes(codes))
            connection.answer_when_saved(wire)
        else:
            connection.answer_when_saved(encode_suback(packet.packet_id, bytes(codes)))
        self._show(fresh, system_filters)

    def _wanted(self, asked: Asked) -> Filter | None:
        """The filter that is granted, None for `$SYS`. Raises Refused."""
        held = self._connection.session.subscriptions
        wanted = allowed_filter(self._door.access, self._connection, asked.filter)
        if asked.filter not in held and len(held) >= self._door.limits.subscriptions:
            raise Refused(
                Reason.QUOTA_EXCEEDED, f"a session has at most {len(held)} subscriptions", unasked=False
            )
        if wanted is not None and not self._door.sessions.may_share(asked.filter):
            raise Refused(
                Reason.QUOTA_EXCEEDED, "there are too many groups of shared subscriptions", unasked=False
            )
        return wanted

    def _subscription(
        self, asked: Asked, packet: Subscribe, held: Subscription | None, *, granted: int
    ) -> Subscription:
        properties = packet.properties
        identifier, accept = 0, ""
        if properties is not None:
            identifier = properties.subscription_ids[0] if properties.subscription_ids else 0
            accept = next((value[:MAX_ACCEPT] for name, value in properties.user if name == ACCEPT), "")
        since = held.since if held else self._door.delivery.last_seq
        return Subscription(granted, since, asked.no_local, asked.retain_as_published, identifier, accept)

    def _show(self, fresh: list[Interest], system_filters: list[str]) -> None:
        """What is retained, behind the SUBACK."""
        door, connection = self._door, self._connection
        for text in system_filters:
            door.intake.then(lambda text=text: connection.show_system(text))  # type: ignore[misc]
        shown = [interest for interest in fresh if door.retained.any(interest.wanted.channel)]
        if shown and (connection.session.kept or any(interest.subscription.qos for interest in shown)):
            # What QoS 1 and 2 bring is durable, a message retained a moment ago included.
            door.intake.then(lambda: self._show_retained(shown))
        elif shown:
            self._show_retained(shown)

    def _show_retained(self, shown: list[Interest]) -> None:
        connection = self._connection
        if connection.closing_s is not None:
            return
        for interest in shown:
            self._door.delivery.show_retained(interest)
        if connection.session.waiting:
            self._door.wants_pump(connection)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """3.10."""
        connection = self._connection
        codes = bytearray()
        for text in packet.filters:
            held = connection.session.subscriptions.pop(text, None)
            codes.append(Reason.SUCCESS if held else Reason.NO_SUBSCRIPTION_EXISTED)
            self.silence(text)
            self._door.sessions.unshare(connection.session, text)
        connection.session.subscriptions_changed()
        if connection.level == LEVEL_5_0:
            connection.answer_when_saved(encode_unsuback_5(packet.packet_id, bytes(codes)))
        else:
            connection.answer_when_saved(encode_unsuback(packet.packet_id))

    def resume(self) -> None:
        """A session was taken up: what it subscribed to is asked for again (CVE-2021-34434)."""
        session = self._connection.session
        for text in list(session.subscriptions):
            try:
                wanted = allowed_filter(self._door.access, self._connection, text)
            except Refused:
                del session.subscriptions[text]
                self._door.sessions.unshare(session, text)
                self._door.counters["refused_subscriptions"] += 1
            else:
                self.listen(text, wanted)
        session.subscriptions_changed()

    def listen(self, text: str, wanted: Filter | None) -> None:
        """Have the delivery bring what a subscription of the session matches."""
        connection, door = self._connection, self._door
        subscription = connection.session.subscriptions[text]
        held = connection.interests.get(text)
        if held is not None and held.group is not None:
            held.subscription = subscription
            return
        self.silence(text)
        if wanted is None:
            door.system.subscribe(connection, text, subscription.identifier)
            return
        group = door.sessions.share(connection.session, text)
        interest = Interest(connection, text, wanted, subscription, group)
        connection.interests[text] = interest
        if group is None:
            door.routes.add(interest)
        else:
            door.delivery.shared.come(interest)

    def silence(self, text: str, *, lost: bool = False) -> None:
        """The reverse; the subscription of the session is not touched. `lost`: because the connection is."""
        interest = self._connection.interests.pop(text, None)
        if interest is None:
            self._door.system.unsubscribe(self._connection, text)
        elif interest.group is None:
            self._door.routes.remove(interest)
        else:
            self._door.delivery.shared.go(interest, lost=lost)

    def silence_all(self) -> None:
        """The connection ends."""
        for text in list(self._connection.interests):
            self.silence(text, lost=True)
        self._door.system.forget(self._connection)

    def still_allowed(self) -> bool:
        """Whether everything it listens to is still granted."""
        access, principal = self._door.access, self._connection.principal
        if self._door.system.serves(self._connection) and not access.administers(principal):
            return False
        return all(
            access.decide(
                principal,
                Action.SUBSCRIBE,
                Resource(interest.wanted.channel, interest.wanted.subtopic),
                self._connection.circumstances,
            ).allowed
            for interest in self._connection.interests.values()
        )

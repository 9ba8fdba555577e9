"""The state of one MQTT session (3.1.1: 3.1.2.4, 5.0: 4.1): what is subscribed, in flight, half received.

Between the packets and the log: the door asks the session for packet ids and tells it what the client
acknowledged. A session is a reader of the log: `cursor` is the last sequence number it has dealt with, and
the messages themselves stay in the log. Pure; belongs to one (identity, client id), never to two identities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from hub.access import Principal
from hub.mqtt.moments import Moment
from hub.mqtt.packets import Will
from hub.mqtt.reasons import PacketError, Reason

if TYPE_CHECKING:
    from hub.mqtt.sharing import Group

MAX_PACKET_ID = 65_535
NEVER = 0xFFFF_FFFF  # session expiry interval (5.0, 3.1.2.11.2): the session does not expire
PacketId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_PACKET_ID)]


def identity_of(principal: Principal) -> str:
    """Whose sessions are his: his id, and the grant he acts through, whose holder is not its owner himself."""
    return f"{principal.id}#{principal.grant}" if principal.grant else principal.id


def owner_of(identity: str) -> str:
    """The id of the thing or user."""
    return identity.partition("#")[0]


def grant_of(identity: str) -> str:
    """The grant; "" for the owner himself."""
    return identity.partition("#")[2]


class Subscription(msgspec.Struct):
    """One topic filter of a session, with the options it was asked for (5.0, 3.8.3.1)."""

    qos: int  # granted, 0..2
    since: int  # sequence number at the time of the SUBSCRIBE; only later messages belong to it
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int = 0  # 1..268_435_455, 0 for none
    accept: str = ""  # media types the client takes, as in HTTP; "" as published


class Flight(msgspec.Struct, gc=False):
    """One QoS 1 or 2 message sent and not yet acknowledged to the end."""

    seq: int  # in the log
    qos: int  # 1 or 2
    released: bool = False  # QoS 2: PUBREC has come, PUBREL is what is owed (4.3.3)
    retained: str = ""  # where it was sent because of a new subscription (3.3.1.3): see `Session.waiting`
    group: str = ""  # where it was sent for a shared subscription: key of its group


class SessionState(msgspec.Struct):
    """What a kept session stores as one row, so that it survives a restart."""

    subscriptions: dict[str, Subscription]
    cursor: int
    in_flight: dict[PacketId, Flight]
    receiving: list[PacketId]
    waiting: list[str]
    expiry_s: int = NEVER
    ended: Moment | None = None
    will: Will | None = None
    version: int = 0  # of the thing's key, with which the will was left; 0 where there was none
    missed: int = 0


class Session:
    """A client's session, kept across connections where it asked for that.

    `window` bounds what is in flight towards the client, `max_receiving` the QoS 2 packet ids the client may
    hold open. What a client has been sent is forgotten when it says so, or when the session ends.
    """

    __slots__ = (
        "_max_window",
        "_next_id",
        "behind",
        "client_id",
        "cursor",
        "ended",
        "expiry_s",
        "groups",
        "identity",
        "in_flight",
        "kept",
        "max_receiving",
        "missed",
        "no_local",
        "owed",
        "receiving",
        "subscriptions",
        "telling",
        "version",
        "waiting",
        "will",
        "will_row",
        "window",
    )

    def __init__(
        self, identity: str, client_id: str, *, kept: bool, window: int, max_receiving: int, cursor: int = 0
    ) -> None:
        self.identity = identity  # see `identity_of`
        self.client_id = client_id
        self.kept = kept  # it has a row: it outlives its connection, or did so when that began
        self.expiry_s = NEVER if kept else 0  # from the end of its connection on
        self.ended: Moment | None = None  # when its connection ended; None while it has one
        self.will: Will | None = None  # of its connection, or waiting for its delay
        self.will_row = 0  # of a will that is not part of the session's own row; 0 for none
        self.version = 0  # of the key shown at its CONNECT; 0 for none
        self.window = window
        self.max_receiving = max_receiving
        self.cursor = cursor
        self.behind = False  # the log holds committed messages that this session has not looked at
        self.subscriptions: dict[str, Subscription] = {}  # by filter, as the client wrote it
        self.groups: dict[str, Group] = {}  # of its shared subscriptions, by filter
        self.no_local = False  # some subscription does not want what this client publishes itself
        self.in_flight: dict[int, Flight] = {}  # by packet id, in the order of sending
        self.owed: set[int] = set()  # of in_flight: not sent on this connection, so outside its window
        self.receiving: set[int] = set()  # QoS 2 ids received, not released: a message counts once
        self.waiting: dict[str, None] = {}  # "<retained key>\n<filter>" of what waits for room in the window
        self.missed = 0  # messages that retention took before their turn, as far as the client may not know
        self.telling: tuple[int, int] | None = None  # packet id, how many missed it tells; 0: CONNACK does
        self._max_window = window
        self._next_id = 1

    @property
    def owner(self) -> str:
        """The thing or user whose session it is."""
        return owner_of(self.identity)

    @property
    def name(self) -> str:
        """Its cursor's name in the log; an identity holds no slash."""
        return f"mqtt/{self.identity}/{self.client_id}"

    @property
    def room(self) -> int:
        """How many more QoS 1 and 2 messages may be sent now (5.0, 4.9)."""
        if not self.owed:
            return self.window - len(self.in_flight)
        on_the_wire = len(self.in_flight) - len(self.owed)
        return min(self.window - on_the_wire, self._max_window - len(self.in_flight))

    @property
    def untold(self) -> int:
        """How many missed messages the next packet may tell of: one at a time does, until it is acknowledged."""
        return self.missed if self.telling is None else 0

    def connected(self, receive_maximum: int) -> None:
        """A connection takes the session up; its client takes `receive_maximum` messages at a time."""
        self.window = min(receive_maximum, self._max_window)
        self.owed = set(self.in_flight)
        self.ended = None
        self.telling = None  # who may not have read it is told again

    def subscriptions_changed(self) -> None:
        """To be called whenever `subscriptions` was."""
        self.no_local = any(subscription.no_local for subscription in self.subscriptions.values())

    def send(self, seq: int, qos: int, *, retained: str = "", group: str = "") -> int:
        """Put a message in flight and return its packet id, 1..65535. The caller has seen `room`."""
        packet_id = self._next_id
        while packet_id in self.in_flight:
            packet_id = packet_id % MAX_PACKET_ID + 1
        self._next_id = packet_id % MAX_PACKET_ID + 1
        self.in_flight[packet_id] = Flight(seq, qos, retained=retained, group=group)
        return packet_id

    def may_resend(self) -> bool:
        """Whether the window of this connection takes one more of what is owed."""
        return len(self.in_flight) - len(self.owed) < self.window

    def resent(self, packet_id: int) -> None:
        """A message that was owed is on the wire again."""
        self.owed.discard(packet_id)

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK (4.3.2). False where nothing was in flight under that id, which is harmless.

        Raises PacketError where the id belongs to a QoS 2 message.
        """
        flight = self.in_flight.get(packet_id)
        if flight is None:
            return False
        if flight.qos != 1:
            raise PacketError("PUBACK for a QoS 2 message", Reason.PROTOCOL_ERROR)
        if self.telling is not None:
            self._told(packet_id)
        del self.in_flight[packet_id]
        if self.owed:
            self.owed.discard(packet_id)
        return True

    def _told(self, packet_id: int) -> None:
        """A packet is acknowledged: what it, or CONNACK before it, told of missed messages has been read."""
        assert self.telling is not None
        by, missed = self.telling
        if by in (0, packet_id):
            self.missed -= missed
            self.telling = None

    def received(self, packet_id: int) -> bool:
        """PUBREC (4.3.3): from here on the message is never sent again, only PUBREL.

        False where this was known, or nothing is in flight under that id; PUBREL is owed all the same, so
        that the client can let go of the id.
        Raises PacketError where the id belongs to a QoS 1 message.
        """
        flight = self.in_flight.get(packet_id)
        if flight is None or flight.released:
            return False
        if flight.qos != 2:
            raise PacketError("PUBREC for a QoS 1 message", Reason.PROTOCOL_ERROR)
        if self.telling is not None:
            self._told(packet_id)
        flight.released = True
        return True

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP (4.3.3). False where nothing waited for it."""
        flight = self.in_flight.get(packet_id)
        if flight is None or not flight.released:
            return False
        self.drop(packet_id)
        return True

    def drop(self, packet_id: int) -> None:
        """Forget a message in flight: it is done, gone, refused by the client or no longer allowed."""
        self.in_flight.pop(packet_id, None)
        if self.owed:
            self.owed.discard(packet_id)
        if self.telling is not None and self.telling[0] == packet_id:
            self.telling = None  # it was never sent, or has not been read

    def take_back(self, group: str) -> list[int]:
        """Forget the QoS 1 messages in flight for a shared subscription; their numbers, for another client."""
        ids = [
            packet_id
            for packet_id, flight in self.in_flight.items()
            if flight.group == group and flight.qos == 1
        ]
        seqs = [self.in_flight[packet_id].seq for packet_id in ids]
        for packet_id in ids:
            self.drop(packet_id)
        return seqs

    def flying(self, group: str) -> list[int]:
        """The numbers of the QoS 1 messages in flight for a shared subscription."""
        return [f.seq for f in self.in_flight.values() if f.group == group and f.qos == 1]

    def begin_receiving(self, packet_id: int) -> bool:
        """A QoS 2 PUBLISH arrived; False where it is one seen before, to be answered but not published again.

        Raises PacketError where the client holds more ids open than it may (CVE-2023-28366 elsewhere).
        """
        if packet_id in self.receiving:
            return False
        if len(self.receiving) >= self.max_receiving:
            raise PacketError(
                f"more than {self.max_receiving} QoS 2 messages not released", Reason.RECEIVE_MAXIMUM_EXCEEDED
            )
        self.receiving.add(packet_id)
        return True

    def release(self, packet_id: int) -> bool:
        """PUBREL (4.3.3): the id may be used for a new message. False where it was not held."""
        if packet_id not in self.receiving:
            return False
        self.receiving.discard(packet_id)
        return True

    def to_resend(self) -> Iterator[tuple[int, Flight]]:
        """What is owed after a reconnect, same ids, in the order of sending (4.4, 4.6)."""
        yield from list(self.in_flight.items())

    def needed_from(self) -> int:
        """The last sequence number this session needs no more: what retention may take without a loss."""
        owed = (f.seq - 1 for f in self.in_flight.values() if not f.released and not f.retained)
        return min(self.cursor, min(owed, default=self.cursor))

    def state(self) -> bytes:
        """The row of a kept session, as JSON."""
        return msgspec.json.encode(
            SessionState(
                self.subscriptions,
                self.cursor,
                self.in_flight,
                sorted(self.receiving),
                list(self.waiting),
                self.expiry_s,
                self.ended,
                self.will,
                self.version,
                self.missed,
            )
        )

    def load(self, row: bytes) -> None:
        """Take over what `state` wrote. Raises ValueError where the row is damaged."""
        state = msgspec.json.decode(row, type=SessionState)
        self.subscriptions = state.subscriptions
        self.subscriptions_changed()
        self.expiry_s = state.expiry_s
        self.ended = state.ended
        self.will = state.will
        self.version = state.version
        self.missed = state.missed
        self.cursor = state.cursor
        self.behind = True
        self.in_flight = state.in_flight
        self.receiving = set(state.receiving)
        self.waiting = dict.fromkeys(state.waiting)
        self._next_id = max(self.in_flight, default=0) % MAX_PACKET_ID + 1

"""The state of one MQTT session (MQTT 3.1.1, 3.1.2.4, 4.3): what is subscribed, in flight, half received.

Between the packets and the log: the door asks the session for packet ids and tells it what the client
acknowledged. A session is a reader of the log: `cursor` is the last sequence number it has dealt with, and
the messages themselves stay in the log. Pure; belongs to one (identity, client id), never to two identities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec

from hub.mqtt.reasons import PacketError

MAX_PACKET_ID = 65_535
PacketId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_PACKET_ID)]


class Subscription(msgspec.Struct):
    """One topic filter of a session."""

    qos: int  # granted, 0..2
    since: int  # sequence number at the time of the SUBSCRIBE; only later messages belong to it


class Flight(msgspec.Struct, gc=False):
    """One QoS 1 or 2 message sent and not yet acknowledged to the end."""

    seq: int  # in the log
    qos: int  # 1 or 2
    released: bool = False  # QoS 2: PUBREC has come, PUBREL is what is owed (4.3.3)
    retained: str = (
        ""  # where it was sent because of a new subscription (3.3.1.3): key of the retained message
    )


class SessionState(msgspec.Struct):
    """What a kept session stores as one row, so that it survives a restart."""

    subscriptions: dict[str, Subscription]
    cursor: int
    in_flight: dict[PacketId, Flight]
    receiving: list[PacketId]
    waiting: list[str]


class Session:
    """A client's session, kept across connections where it asked for that.

    `window` bounds what is in flight towards the client, `max_receiving` the QoS 2 packet ids the client may
    hold open. What a client has been sent is forgotten when it says so, or when a clean session ends.
    """

    __slots__ = (
        "_next_id",
        "behind",
        "client_id",
        "cursor",
        "identity",
        "in_flight",
        "kept",
        "max_receiving",
        "receiving",
        "subscriptions",
        "waiting",
        "window",
    )

    def __init__(
        self, identity: str, client_id: str, *, kept: bool, window: int, max_receiving: int, cursor: int = 0
    ) -> None:
        self.identity = identity  # thing id
        self.client_id = client_id
        self.kept = kept  # clean session flag was 0
        self.window = window
        self.max_receiving = max_receiving
        self.cursor = cursor
        self.behind = False  # the log holds committed messages that this session has not looked at
        self.subscriptions: dict[str, Subscription] = {}  # by filter, as the client wrote it
        self.in_flight: dict[int, Flight] = {}  # by packet id, in the order of sending
        self.receiving: set[int] = set()  # QoS 2 ids received, not released: a message counts once
        self.waiting: deque[str] = deque()  # keys of retained messages that wait for room in the window
        self._next_id = 1

    @property
    def name(self) -> str:
        """Its cursor's name in the log; a thing id holds no slash."""
        return f"mqtt/{self.identity}/{self.client_id}"

    @property
    def room(self) -> int:
        """How many more QoS 1 and 2 messages may be in flight."""
        return self.window - len(self.in_flight)

    def send(self, seq: int, qos: int, *, retained: str = "") -> int:
        """Put a message in flight and return its packet id, 1..65535. The caller has seen `room`."""
        packet_id = self._next_id
        while packet_id in self.in_flight:
            packet_id = packet_id % MAX_PACKET_ID + 1
        self._next_id = packet_id % MAX_PACKET_ID + 1
        self.in_flight[packet_id] = Flight(seq, qos, retained=retained)
        return packet_id

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK (4.3.2). False where nothing was in flight under that id, which is harmless.

        Raises PacketError where the id belongs to a QoS 2 message.
        """
        flight = self.in_flight.get(packet_id)
        if flight is None:
            return False
        if flight.qos != 1:
            raise PacketError("PUBACK for a QoS 2 message")
        del self.in_flight[packet_id]
        return True

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
            raise PacketError("PUBREC for a QoS 1 message")
        flight.released = True
        return True

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP (4.3.3). False where nothing waited for it."""
        flight = self.in_flight.get(packet_id)
        if flight is None or not flight.released:
            return False
        del self.in_flight[packet_id]
        return True

    def drop(self, packet_id: int) -> None:
        """Forget a message in flight whose content is gone or no longer allowed."""
        self.in_flight.pop(packet_id, None)

    def begin_receiving(self, packet_id: int) -> bool:
        """A QoS 2 PUBLISH arrived; False where it is one seen before, to be answered but not published again.

        Raises PacketError where the client holds more ids open than it may (CVE-2023-28366 elsewhere).
        """
        if packet_id in self.receiving:
            return False
        if len(self.receiving) >= self.max_receiving:
            raise PacketError(f"more than {self.max_receiving} QoS 2 messages not released")
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
            )
        )

    def load(self, row: bytes) -> None:
        """Take over what `state` wrote. Raises ValueError where the row is damaged."""
        state = msgspec.json.decode(row, type=SessionState)
        self.subscriptions = state.subscriptions
        self.cursor = state.cursor
        self.behind = True
        self.in_flight = state.in_flight
        self.receiving = set(state.receiving)
        self.waiting = deque(state.waiting)
        self._next_id = max(self.in_flight, default=0) % MAX_PACKET_ID + 1

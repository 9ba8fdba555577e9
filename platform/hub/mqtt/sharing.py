"""Shared subscriptions (5.0, 4.8.2): clients of one share name and filter take turns.

The group, not its members, stands at a position in the log, so that what no member can take now waits there and
nothing is lost when one goes. A QoS 1 message that a member did not acknowledge goes to another when its
connection ends; a QoS 2 message stays with the session it was begun with. A group that a kept session belongs
to survives restarts as a row of the log's database.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from hub.mqtt.session import Session
from hub.topics import Filter

if TYPE_CHECKING:
    from hub.mqtt.routes import Interest


class GroupState(msgspec.Struct):
    """What a group stores as one row."""

    cursor: int
    again: list[int]
    missed: int = 0


class Group:
    """One share name with one filter. `members` are connected, `sessions` all that hold the subscription."""

    __slots__ = (
        "_turn",
        "again",
        "behind",
        "cursor",
        "key",
        "members",
        "missed",
        "sessions",
        "unsaved",
        "wanted",
    )

    def __init__(self, key: str, wanted: Filter, cursor: int) -> None:
        self.key = key  # "<share name>/<filter as written>"
        self.wanted = wanted
        self.cursor = cursor  # done up to here, while `behind`; before its first message: its beginning
        self.behind = False
        self.again: list[int] = []  # numbers of messages that a member went away with, ascending
        self.members: list[Interest] = []
        self.sessions: dict[Session, None] = {}
        self.missed = 0  # messages that retention took before their turn, of which no member knows yet
        self.unsaved = False
        self._turn = 0

    @property
    def durable(self) -> bool:
        return any(session.kept for session in self.sessions)

    @property
    def waits(self) -> bool:
        """There may be messages for a member that has room."""
        return self.behind or bool(self.again)

    @property
    def cursor_name(self) -> str:
        """Its cursor's name in the log; no identity begins with a dollar sign."""
        return f"mqtt/$share/{self.key}"

    def pick(self, fits: Callable[[Interest], bool]) -> Interest | None:
        """The next member in turn that fits; None where there is none now."""
        count = len(self.members)
        for step in range(count):
            at = (self._turn + step) % count
            if fits(self.members[at]):
                self._turn = at + 1
                return self.members[at]
        return None

    def put_back(self, seqs: Iterable[int]) -> None:
        """Messages that another member is to get."""
        for seq in seqs:
            insort(self.again, seq)
            self.unsaved = True

    def needed_from(self) -> int:
        """The last number that retention may take."""
        owed = [*self.again, *self._in_unkept_hands()]
        return min([self.cursor, *(seq - 1 for seq in owed)])

    def _in_unkept_hands(self) -> list[int]:
        return [seq for s in self.sessions if not s.kept for seq in s.flying(self.key)]

    def state(self) -> bytes:
        """The row, as JSON: after a crash, what sessions without a row had in flight goes to somebody again."""
        again = sorted({*self.again, *self._in_unkept_hands()})
        return msgspec.json.encode(GroupState(self.cursor, again, self.missed))

    def load(self, row: bytes) -> None:
        """Take over what `state` wrote. Raises ValueError where the row is damaged."""
        state = msgspec.json.decode(row, type=GroupState)
        self.cursor = state.cursor
        self.again = sorted(state.again)
        self.missed = state.missed
        self.behind = True

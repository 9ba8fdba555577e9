"""Messages that a destination will not take: how long one may hold the queue up, and what is written down.

A refusal that lies in the message itself is final at once. One that lies in rights or settings can be mended, so it
holds the queue, but not for ever: after `hold_s` the messages for that topic are passed over, each recorded, until
the topic takes one again. Nothing is passed over silently.
"""

from __future__ import annotations

from hub.database import Migration
from hub.log import Write

HOLD_S = 3600.0  # time for somebody to mend rights before messages are passed over
MAX_TOPICS = 1000  # remembered refusing topics; the oldest is forgotten and held anew
KEPT = 1000  # rows of the table for each destination

MIGRATIONS = (
    Migration(
        "upstream: messages a destination refused for good",
        (
            "CREATE TABLE upstream_refused("
            "upstream TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, at_ns INTEGER NOT NULL, "
            "PRIMARY KEY(upstream, seq)) WITHOUT ROWID",
        ),
    ),
)


def record(upstream: str, seq: int, reason: str, at_ns: int) -> list[Write]:
    """Write down that message `seq` was passed over; the newest KEPT of a destination are kept."""
    return [
        (
            "INSERT OR REPLACE INTO upstream_refused(upstream, seq, reason, at_ns) VALUES (?, ?, ?, ?)",
            (upstream, seq, reason, at_ns),
        ),
        (
            "DELETE FROM upstream_refused WHERE upstream = ?1 AND seq <= (SELECT seq FROM upstream_refused "
            "WHERE upstream = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            (upstream, KEPT),
        ),
    ]


class Refusals:
    """Which topics are refused, and since when. Times are monotonic seconds."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._since: dict[str, float] = {}

    def given_up(self, topic: str, now: float) -> bool:
        """Note a refusal of `topic`; True once it has lasted so long that its messages are passed over."""
        if topic not in self._since and len(self._since) >= MAX_TOPICS:
            del self._since[next(iter(self._since))]
        return now - self._since.setdefault(topic, now) >= self._hold_s

    def accepted(self, topic: str) -> None:
        """The topic has taken a message."""
        if self._since:
            self._since.pop(topic, None)

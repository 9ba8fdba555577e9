"""`$SYS`: how the door is doing, as topics for administrators.

Values are read once an interval and sent to who subscribed, at QoS 0; a new subscription is shown the values of
now as if they were retained. They are not messages of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hub.hub import Hub

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

PREFIX = "$SYS"
INTERVAL_S = 10.0

TOPICS: Mapping[str, str] = {
    "$SYS/broker/version": "the gateway's version",
    "$SYS/broker/uptime": "seconds since the door was opened",
    "$SYS/broker/clients/connected": "clients connected now",
    "$SYS/broker/clients/total": "clients connected now, and kept sessions whose client is away",
    "$SYS/broker/clients/expired": "kept sessions that have expired",
    "$SYS/broker/subscriptions/count": "subscriptions of connected clients and kept sessions",
    "$SYS/broker/shared_subscriptions/count": "groups of shared subscriptions",
    "$SYS/broker/retained messages/count": "retained messages",
    "$SYS/broker/messages/received": "PUBLISH packets received",
    "$SYS/broker/messages/sent": "PUBLISH packets sent",
    "$SYS/broker/messages/dropped": "PUBLISH packets not sent to a client that did not keep up",
    "$SYS/broker/bytes/received": "bytes received",
    "$SYS/broker/bytes/sent": "bytes sent",
    "$SYS/broker/log/messages": "messages in the log",
    "$SYS/broker/log/bytes": "size of the log's file",
    "$SYS/broker/log/committed": "number of the newest durable message",
    "$SYS/broker/log/first": "number of the oldest message",
}


def is_system(text: str) -> bool:
    """Whether a filter asks for `$SYS` topics; `#` and `+/...` never do (4.7.2)."""
    return text == PREFIX or text.startswith(PREFIX + "/")


def matches(text: str, topic: str) -> bool:
    """4.7.1, for a filter that `is_system` accepted."""
    wanted, levels = text.split("/"), topic.split("/")
    for depth, level in enumerate(wanted):
        if level == "#":
            return True
        if depth >= len(levels) or level not in ("+", levels[depth]):
            return False
    return len(wanted) == len(levels)


class System:
    """The `$SYS` topics of one door."""

    def __init__(self, hub: Hub, version: str, values: Callable[[], Mapping[str, int]], now_s: float) -> None:
        self._hub = hub
        self._version = version
        self._values = values
        self._started_s = now_s
        self._sent_s = now_s
        self._subscribers: dict[Connection, dict[str, int]] = {}  # filter: subscription identifier or 0

    def subscribe(self, connection: Connection, text: str, identifier: int) -> None:
        self._subscribers.setdefault(connection, {})[text] = identifier

    def unsubscribe(self, connection: Connection, text: str) -> None:
        held = self._subscribers.get(connection)
        if held is not None:
            held.pop(text, None)
            if not held:
                del self._subscribers[connection]

    def serves(self, connection: Connection) -> bool:
        """Whether this client has subscribed to any of it."""
        return connection in self._subscribers

    def forget(self, connection: Connection) -> None:
        self._subscribers.pop(connection, None)

    def show(self, connection: Connection, text: str, now_s: float) -> None:
        """The values of now to a new subscription, with RETAIN set."""
        identifier = self._subscribers.get(connection, {}).get(text, 0)
        for topic, value in self.read(now_s).items():
            if matches(text, topic):
                connection.send_system(topic, value, (identifier,) if identifier else (), retain=True)

    def sweep(self, now_s: float) -> None:
        """Once an interval: the values of now to everybody."""
        if not self._subscribers or now_s - self._sent_s < INTERVAL_S:
            return
        self._sent_s = now_s
        values = self.read(now_s)
        for connection, held in self._subscribers.items():
            for topic, value in values.items():
                found = [identifier for text, identifier in held.items() if matches(text, topic)]
                if found:
                    identifiers = tuple(sorted({*found} - {0}))
                    connection.send_system(topic, value, identifiers, retain=False)

    def read(self, now_s: float) -> dict[str, str]:
        """Every topic with its value."""
        log = self._hub.log
        values = {
            "$SYS/broker/version": self._version,
            "$SYS/broker/uptime": str(int(now_s - self._started_s)),
            "$SYS/broker/log/messages": str(log.message_count),
            "$SYS/broker/log/bytes": str(log.size_bytes),
            "$SYS/broker/log/committed": str(log.committed_seq),
            "$SYS/broker/log/first": str(log.first_seq),
        }
        values |= {f"$SYS/broker/{name}": str(value) for name, value in self._values().items()}
        return {topic: values[topic] for topic in TOPICS}

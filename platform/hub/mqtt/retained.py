"""Retained messages (3.3.1.3): the last one of each address, in memory and as a row.

In: what is published with RETAIN set. Out: what a new subscription is shown first. Bounded by count and
bytes. Who may still see a message is asked by the door at delivery.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import msgspec

from hub.message import Message
from hub.mqtt import store
from hub.topics import ANY, REST, Filter


class Retained:
    """The retained messages by channel and subtopic."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._channels: dict[str, dict[str, Message]] = {}
        self._count = 0
        self.bytes = 0  # held: payloads and properties

    def __len__(self) -> int:
        return self._count

    def load(self, rows: Iterable[tuple[str, str, bytes]]) -> int:
        """Take over the rows of the database; returns how many could not be read and were left out."""
        unreadable = 0
        for _channel, _subtopic, row in rows:
            try:
                self._put(msgspec.msgpack.decode(row, type=Message))
            except ValueError:
                unreadable += 1
        return unreadable

    def get(self, key: str) -> Message | None:
        """The retained message under `key` (see `key_of`)."""
        channel, _, subtopic = key.partition("/")
        return self._channels.get(channel, {}).get(subtopic)

    def keep(self, message: Message) -> store.Write | None:
        """Retain `message`, or clear its address where the payload is empty; the row belonging to it.

        None where a bound is reached: the address then keeps what it had.
        """
        if not message.payload:
            self._remove(message.channel, message.subtopic)
            return store.delete_retained(message.channel, message.subtopic)
        old = self.get(key_of(message))
        count = self._count + (old is None)
        size = self.bytes + message.size - (old.size if old else 0)
        if count > self._max_messages or size > self._max_bytes:
            return None
        self._put(message)
        return store.save_retained(message)

    def undo(self, message: Message) -> Callable[[], None]:
        """How to bring back what `keep(message)` is about to replace, should its transaction fail."""
        old = self.get(key_of(message))

        def bring_back() -> None:
            self._remove(message.channel, message.subtopic)
            if old is not None:
                self._put(old)

        return bring_back

    def drop_expired(self, expired: Callable[[Message], bool]) -> list[store.Write]:
        """Forget messages whose expiry interval has passed; the rows belonging to them (5.0, 3.3.2.3.3)."""
        gone = [
            message
            for held in self._channels.values()
            for message in held.values()
            if message.properties is not None and expired(message)
        ]
        for message in gone:
            self._remove(message.channel, message.subtopic)
        return [store.delete_retained(message.channel, message.subtopic) for message in gone]

    def any(self, channel: str) -> bool:
        """Whether a channel has any."""
        return channel in self._channels

    def matching(self, wanted: Filter) -> list[Message]:
        """The retained messages a filter of one channel matches, in the order of their subtopics."""
        held = self._channels.get(wanted.channel)
        if held is None:
            return []
        pattern = wanted.subtopic.split(".") if wanted.subtopic else []
        literal = list(itertools.takewhile(lambda element: element not in (ANY, REST), pattern))
        if len(literal) == len(pattern):
            found = [held[wanted.subtopic]] if wanted.subtopic in held else []
        else:
            start = ".".join(literal)  # most of a full channel is passed over by its first letters
            found = [
                held[subtopic]
                for subtopic in sorted(name for name in held if name.startswith(start))
                if _matches(pattern, subtopic.split(".") if subtopic else [])
            ]
        return [message for message in found if wanted.content_type in (None, message.content_type)]

    def _put(self, message: Message) -> None:
        self._remove(message.channel, message.subtopic)
        self._channels.setdefault(message.channel, {})[message.subtopic] = message
        self._count += 1
        self.bytes += message.size

    def _remove(self, channel: str, subtopic: str) -> None:
        held = self._channels.get(channel)
        old = held.pop(subtopic, None) if held else None
        if old is None:
            return
        self._count -= 1
        self.bytes -= old.size
        if not held:
            del self._channels[channel]


def key_of(message: Message) -> str:
    """One string for an address; a channel id holds no slash."""
    return f"{message.channel}/{message.subtopic}"


def _matches(pattern: list[str], elements: list[str]) -> bool:
    """4.7.1: `+` is one level, a last `#` its parent and everything below."""
    if pattern and pattern[-1] == REST:
        pattern = pattern[:-1]
        if len(elements) < len(pattern):
            return False
        elements = elements[: len(pattern)]
    return len(pattern) == len(elements) and all(
        want in (ANY, have) for want, have in zip(pattern, elements, strict=True)
    )

"""Who wants a message: a trie of subscriptions, so that no regular expression is ever built from input.

In: filters with their subscribers. Out: the subscribers of one address. Access is not decided here; each
delivery is asked for at `hub.access`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from .topics import ANY, REST, Filter

S = TypeVar("S", bound=Hashable)

MAX_CACHED = 10_000  # addresses whose subscribers are remembered; then the memory starts afresh


class _Node(Generic[S]):
    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S]] = {}
        self.subscribers: dict[tuple[S, str | None], None] = {}  # ordered: first come, first served


class Router(Generic[S]):
    """Subscriptions by filter. `match` is remembered per address until a subscription changes."""

    def __init__(self) -> None:
        self._root: _Node[S] = _Node()
        self._matches: dict[tuple[str, str, str | None], tuple[S, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return self._count

    def add(self, wanted: Filter, subscriber: S) -> bool:
        """Subscribe; False where `subscriber` already holds exactly this filter."""
        node = self._root
        for element in _path(wanted):
            node = node.children.setdefault(element, _Node())
        entry = (subscriber, wanted.content_type)
        if entry in node.subscribers:
            return False
        node.subscribers[entry] = None
        self._count += 1
        self._matches.clear()
        return True

    def remove(self, wanted: Filter, subscriber: S) -> bool:
        """Unsubscribe and forget branches left empty; False where there was no such subscription."""
        trail: list[tuple[_Node[S], str]] = []
        node = self._root
        for element in _path(wanted):
            if element not in node.children:
                return False
            trail.append((node, element))
            node = node.children[element]
        entry = (subscriber, wanted.content_type)
        if entry not in node.subscribers:
            return False
        del node.subscribers[entry]
        self._count -= 1
        self._matches.clear()
        for parent, element in reversed(trail):
            child = parent.children[element]
            if child.children or child.subscribers:
                break
            del parent.children[element]
        return True

    def match(self, channel: str, subtopic: str, content_type: str | None = None) -> tuple[S, ...]:
        """The subscribers whose filters match, each once, in no promised order."""
        key = (channel, subtopic, content_type)
        found = self._matches.get(key)
        if found is None:
            if len(self._matches) >= MAX_CACHED:
                self._matches.clear()
            elements = [channel, *subtopic.split(".")] if subtopic else [channel]
            entries: dict[S, None] = {}
            for node in self._walk(elements):
                for subscriber, wanted_type in node.subscribers:
                    if wanted_type is None or wanted_type == content_type:
                        entries[subscriber] = None
            found = self._matches[key] = tuple(entries)
        return found

    def _walk(self, elements: list[str]) -> list[_Node[S]]:
        """The nodes at which filters matching `elements` end.

        `#` also matches its parent (MQTT 5.0, 4.7.1.2).
        """
        ends: list[_Node[S]] = []
        level = [self._root]
        for element in elements:
            ends += [node.children[REST] for node in level if REST in node.children]
            level = [
                node.children[name] for node in level for name in (element, ANY) if name in node.children
            ]
        ends += level
        ends += [node.children[REST] for node in level if REST in node.children]
        return ends


def _path(wanted: Filter) -> list[str]:
    return [wanted.channel, *wanted.subtopic.split(".")] if wanted.subtopic else [wanted.channel]

"""Findings, merged by subject and kind, in two bounded shelves: those of registered devices, and of strangers.

A subject is a DevEUI (16 hex digits), a DevAddr (8) or "" for the gateway itself. Whoever sends frames can add to
the strangers' shelf only, and there the oldest give way: they never push out what is known of a registered device.
Pure; what is to be kept leaves as writes, a few at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.diagnosis import store
from gateway.diagnosis.finding import GATEWAY, Evidence, Finding
from gateway.diagnosis.reasons import Heals, Kind
from gateway.lorawan.outcome import Writes

MAX_PER_DEVICE = 32  # kinds of one device; the one not seen for longest gives way
MAX_OWN = 8192  # findings of registered devices; about 1 KB each
MAX_STRANGERS = 512  # findings about senders that are not registered


@dataclass(slots=True)
class BookCounters:
    """Since the start of the process."""

    found: int = 0
    pushed_out: int = 0  # the oldest, to make room
    resolved: int = 0


class Shelf:
    """Findings by subject and kind, at most so many, the one seen longest ago first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._found: OrderedDict[tuple[str, Kind], Finding] = OrderedDict()
        self._kinds: dict[str, dict[Kind, Finding]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Finding]:
        """The newest first."""
        return reversed(self._found.values())

    def of(self, subject: str) -> list[Finding]:
        return list(self._kinds.get(subject, {}).values())

    def get(self, subject: str, kind: Kind) -> Finding | None:
        return self._found.get((subject, kind))

    def put(self, finding: Finding) -> list[Finding]:
        """Take it as the newest; returns what had to go for it."""
        key = finding.subject, finding.kind
        kinds = self._kinds.setdefault(finding.subject, {})
        kinds[finding.kind] = finding
        self._found[key] = finding
        self._found.move_to_end(key)
        gone = []
        if len(kinds) > MAX_PER_DEVICE:
            gone.append(min(kinds.values(), key=lambda each: each.last_ns))
        elif len(self._found) > self.limit:
            gone.append(next(iter(self._found.values())))
        for each in gone:
            self.drop(each)
        return gone

    def drop(self, finding: Finding) -> None:
        self._found.pop((finding.subject, finding.kind), None)
        kinds = self._kinds.get(finding.subject, {})
        kinds.pop(finding.kind, None)
        if not kinds:
            self._kinds.pop(finding.subject, None)


@dataclass(slots=True)
class Book:
    """All findings, and which of them the store does not have yet."""

    own: Shelf = field(default_factory=lambda: Shelf(MAX_OWN))
    strangers: Shelf = field(default_factory=lambda: Shelf(MAX_STRANGERS))
    counters: BookCounters = field(default_factory=BookCounters)
    ailing: dict[str, int] = field(default_factory=dict)  # subjects with open findings -> how many
    # Of ailing subjects whose findings an uplink leaves as they are: the sentence to show. Gone with each change.
    lasting: dict[str, str] = field(default_factory=dict)
    strangers_left: int = 0  # how many of the strangers' findings may still be written
    _changed: dict[tuple[str, Kind], Finding] = field(default_factory=dict)
    _gone: dict[tuple[str, Kind], None] = field(default_factory=dict)
    _stored: set[tuple[str, Kind]] = field(default_factory=set)

    def restore(self, found: Iterable[Finding], registered: Iterable[str]) -> None:
        """Take back what was stored, oldest first."""
        known = set(registered)
        for finding in found:
            self._stored.add((finding.subject, finding.kind))
            own = finding.subject in known or finding.subject == GATEWAY
            self._shelve(self.own if own else self.strangers, finding)
            if finding.resolved_ns is None:
                self._opened(finding.subject)

    def add(
        self, subject: str, kind: Kind, words: str, evidence: Evidence, at_ns: int, *, own: bool = True
    ) -> Finding:
        """Note a finding at UTC `at_ns`; one of its kind is brought up to date."""
        self.counters.found += 1
        self.lasting.pop(subject, None)
        shelf = self.own if own else self.strangers
        finding = shelf.get(subject, kind)
        if finding is None:
            finding = Finding(subject, kind, words, evidence, at_ns, at_ns)
            self._opened(subject)
        else:
            if finding.resolved_ns is not None:
                self._opened(subject)
            finding.words, finding.evidence, finding.last_ns = words, evidence, at_ns
            finding.count += 1
            finding.resolved_ns = None
        self._shelve(shelf, finding)
        self._changed[subject, kind] = finding
        return finding

    def resolve(self, finding: Finding, at_ns: int) -> None:
        """It is over."""
        if finding.resolved_ns is None:
            finding.resolved_ns = at_ns
            self.counters.resolved += 1
            self._changed[finding.subject, finding.kind] = finding
            self._closed(finding.subject)

    def resolve_all(self, subject: str, heals: Heals, at_ns: int) -> None:
        """End the open findings of a subject that such an event ends."""
        for finding in self.own.of(subject):
            if finding.explanation.heals is heals:
                self.resolve(finding, at_ns)

    def forget(self, subject: str) -> None:
        """The device is removed; what is heard of it from now on is a stranger's."""
        for shelf in (self.own, self.strangers):
            for finding in shelf.of(subject):
                shelf.drop(finding)
                self._lost(finding)

    def open_of(self, subject: str) -> list[Finding]:
        """What is wrong now, the worst first."""
        found = [
            each for each in (*self.own.of(subject), *self.strangers.of(subject)) if not each.resolved_ns
        ]
        return sorted(found, key=lambda each: (each.explanation.weight, each.last_ns), reverse=True)

    def all_of(self, subject: str) -> list[Finding]:
        """What is wrong now, the worst first, then what was, the newest first."""
        over = [each for each in (*self.own.of(subject), *self.strangers.of(subject)) if each.resolved_ns]
        over.sort(key=lambda each: each.last_ns, reverse=True)
        return self.open_of(subject) + over

    def __iter__(self) -> Iterator[Finding]:
        """Everything, the newest first."""
        every = [*self.own, *self.strangers]
        every.sort(key=lambda each: each.last_ns, reverse=True)
        return iter(every)

    def writes(self, most: int) -> Writes:
        """What the store does not have yet: up to `most` findings, of them `strangers_left` of strangers."""
        writes: Writes = []
        for key in list(self._gone)[:most]:
            del self._gone[key]
            writes.append(store.gone(*key))
        for key, finding in list(self._changed.items()):
            if len(writes) >= most:
                break
            if self.own.get(*key) is None:
                if self.strangers_left <= 0:
                    continue
                self.strangers_left -= 1
            del self._changed[key]
            self._stored.add(key)
            writes.append(store.kept(finding))
        return writes

    def not_written(self) -> None:
        """The last writes were refused: everything is to be written again."""
        for finding in self.own:
            self._changed[finding.subject, finding.kind] = finding

    @property
    def unwritten(self) -> int:
        return len(self._changed) + len(self._gone)

    def _shelve(self, shelf: Shelf, finding: Finding) -> None:
        for gone in shelf.put(finding):
            self.counters.pushed_out += 1
            self._lost(gone)

    def _lost(self, finding: Finding) -> None:
        key = finding.subject, finding.kind
        if finding.resolved_ns is None:
            self._closed(finding.subject)
        self._changed.pop(key, None)
        if key in self._stored:
            self._stored.discard(key)
            self._gone[key] = None

    def _opened(self, subject: str) -> None:
        self.ailing[subject] = self.ailing.get(subject, 0) + 1

    def _closed(self, subject: str) -> None:
        self.lasting.pop(subject, None)
        left = self.ailing.get(subject, 0) - 1
        if left > 0:
            self.ailing[subject] = left
        else:
            self.ailing.pop(subject, None)

"""A disk that loses what was not synced: built from a trace of the shim, at any point of it.

What POSIX promises and no more. Data and length of a file are safe after an fsync of the file, names after an
fsync of the folder. Of everything else each 512-byte sector may hold what it held before, what was written last
or anything in between; a sector may be torn, so that its first bytes are new and its last bytes old.
"""

from __future__ import annotations

import enum
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
_HEAD = struct.Struct("=IIQII")


class Kind(enum.IntEnum):
    """What a record is about; `enum kind` of diskshim.c."""

    CREATE = 1
    OPEN = 2
    WRITE = 3
    TRUNCATE = 4
    SYNC = 5
    RENAME = 6
    UNLINK = 7
    SYNCDIR = 8
    MARK = 9
    FAULT = 10


class Event(NamedTuple):
    kind: int
    file: int
    offset: int
    data: bytes


def read_trace(path: Path) -> list[Event]:
    """All events in order; a last one that was cut short by a kill is left out."""
    raw = path.read_bytes()
    events = []
    at = 0
    while at + _HEAD.size <= len(raw):
        kind, file, offset, length, _ = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        if at + length > len(raw):
            break
        events.append(Event(kind, file, offset, raw[at : at + length]))
        at += length
    return events


class Cut(enum.Enum):
    """How a power cut treats what was not synced."""

    NOTHING = "nothing unsynced is there"
    EVERYTHING = "everything unsynced is there"
    PREFIX = "in order up to one write, which is torn"
    SECTORS = "each sector by chance"


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: the length becomes this

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def image(self, cut: Cut, rng: random.Random) -> bytes | bytearray:
        """What the disk holds of it."""
        if not self.pending or cut is Cut.NOTHING:
            return self.durable
        content = bytearray(self.durable)
        if cut is Cut.EVERYTHING:
            for offset, data in self.pending:
                _apply(content, offset, data)
            return content
        if cut is Cut.PREFIX:
            kept = rng.randrange(len(self.pending) + 1)
            for offset, data in self.pending[:kept]:
                _apply(content, offset, data)
            if kept < len(self.pending):
                offset, data = self.pending[kept]
                if data is not None:
                    _apply(content, offset, data[: rng.randrange(len(data) + 1)])
            return content
        return self._by_sector(content, rng)

    def _by_sector(self, content: bytearray, rng: random.Random) -> bytearray:
        """Each sector old or new, some torn; the length is one of those it had since the last sync."""
        lengths = [length := len(content)]
        share = rng.choice((0.1, 0.5, 0.9))
        for offset, data in self.pending:
            if data is None:
                length = offset
            else:
                length = max(length, offset + len(data))
                _scatter(content, offset, data, share, rng)
            lengths.append(length)
        final = rng.choice(lengths)
        if final < len(content):
            del content[final:]
        else:
            content.extend(bytes(final - len(content)))
        return content


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _scatter(content: bytearray, offset: int, data: bytes, share: float, rng: random.Random) -> None:
    """Write those sectors of `data` that chance keeps."""
    end = offset + len(data)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    at = offset
    chance = rng.random
    while at < end:
        stop = min(end, at - at % SECTOR + SECTOR)
        if chance() < share:
            if chance() < 0.05:  # torn
                stop_at = at + rng.randrange(stop - at + 1)
                content[at:stop_at] = data[at - offset : stop_at - offset]
            else:
                content[at:stop] = data[at - offset : stop - offset]
        at = stop


class Disk:
    """Files as they may be on the disk after the events so far."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` holds what was there, durably, before the trace began."""
        self._files: dict[int, _File] = {}
        self._names: dict[str, _File] = {}  # durable
        self._now: dict[str, _File] = {}  # as the running system sees it
        self._changes: list[tuple[tuple[str, _File | None], ...]] = []  # of names, not synced
        if folder is not None:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith("-shm"):
                    name = str(path.relative_to(folder))
                    self._names[name] = self._now[name] = _File(bytearray(path.read_bytes()))

    def apply(self, event: Event) -> None:
        """One more call of the trace."""
        match event.kind:
            case Kind.WRITE:
                self._files[event.file].pending.append((event.offset, event.data))
            case Kind.SYNC:
                self._files[event.file].sync()
            case Kind.TRUNCATE:
                self._files[event.file].pending.append((event.offset, None))
            case Kind.CREATE:
                self._files[event.file] = file = _File()
                self._rename((event.data.decode(), file))
            case Kind.OPEN:
                self._files[event.file] = self._now[event.data.decode()]
            case Kind.RENAME:
                old, new = event.data.decode().split("\0")
                moved = self._now[old]
                self._rename((old, None), (new, moved))
            case Kind.UNLINK:
                self._rename((event.data.decode(), None))
            case Kind.SYNCDIR:
                self._sync_names(event.data.decode())

    def _rename(self, *change: tuple[str, _File | None]) -> None:
        _set(self._now, change)
        self._changes.append(change)

    def _sync_names(self, folder: str) -> None:
        left = []
        for change in self._changes:
            if any(os.path.dirname(name) == folder for name, _ in change):
                _set(self._names, change)
            else:
                left.append(change)
        self._changes = left

    def cut(self, cut: Cut, rng: random.Random) -> dict[str, bytes | bytearray]:
        """The files by name after a power cut now."""
        names = dict(self._names)
        for change in self._kept_changes(cut, rng):
            _set(names, change)
        return {name: file.image(cut, rng) for name, file in names.items()}

    def _kept_changes(self, cut: Cut, rng: random.Random) -> Iterator[tuple[tuple[str, _File | None], ...]]:
        """Changes of names come in order on a journalling file system, and by chance in the worst case."""
        if cut is Cut.NOTHING:
            return
        if cut is Cut.EVERYTHING:
            yield from self._changes
        elif cut is Cut.PREFIX:
            yield from self._changes[: rng.randrange(len(self._changes) + 1)]
        else:
            for change in self._changes:
                if rng.random() < 0.5:
                    yield change


def _set(names: dict[str, _File], change: tuple[tuple[str, _File | None], ...]) -> None:
    for name, file in change:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def write_files(folder: Path, files: dict[str, bytes | bytearray]) -> None:
    """Put an image into an empty or missing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if "/" in name:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)

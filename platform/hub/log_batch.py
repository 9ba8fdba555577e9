"""What the event loop hands to the log's writer thread, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .disk import DiskState
from .errors import HubError, LogFailed, WriteRefused
from .message import Message
from .timekeeping import Correction

Write = tuple[str, tuple[Any, ...]]


class Unit(msgspec.Struct):
    """One call of append, submit or write, or a post with writes: what succeeds or is refused together."""

    first: int  # numbers of its messages, first > last where it has none
    last: int
    also: Sequence[Write]
    done: Callable[[HubError | None], None] | None
    tried: bool = False  # met a full disk once already


@dataclass(slots=True)
class Batch:
    """One transaction. Numbers of `messages` are consecutive."""

    messages: list[Message] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    cursors: dict[str, int | None] = field(default_factory=dict)  # None drops the cursor
    lasting: list[Write] = field(default_factory=list)  # the log's own writes; a full disk only delays them
    # UTC now and all corrections, for retention by age
    trusted_time: tuple[int, Sequence[Correction]] | None = None
    size: int = 0  # payload bytes
    forced: bool = False  # somebody waits

    def __bool__(self) -> bool:
        return bool(self.messages or self.units or self.cursors or self.lasting)

    @property
    def count(self) -> int:
        """Of everything in it; it only ever rises."""
        return len(self.messages) + len(self.units) + len(self.cursors) + len(self.lasting)


@dataclass(slots=True)
class Outcome:
    """What became of a batch, and how the log stands; with None for a batch only the latter."""

    batch: Batch | None
    error: LogFailed | None = None
    refused: dict[int, WriteRefused] = field(default_factory=dict)  # by index into batch.units
    first_seq: int = 0
    reserved: int = 0
    count: int = 0  # messages kept
    size_bytes: int = 0
    gap_messages: int = 0  # removed in this step before some cursor had passed them
    state: DiskState = DiskState.OK
    reason: str = ""
    # The file has been opened after a start without it: cursors and numbers are known now
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of retention; the oldest messages go first."""

    max_messages: int
    max_bytes: int
    max_age_s: int = 0  # 0: as long as the other bounds allow
    # Of the disk; below it, what every cursor has passed goes and free pages are given back
    min_free_bytes: int = 0


@dataclass(slots=True)
class LogCounters:
    """Since this start, except `gap_messages`, which the file keeps."""

    appended: int = 0  # messages that were given a number
    committed: int = 0
    commits: int = 0
    busy: int = 0  # calls handed back because too much was waiting
    refused: int = 0  # units whose writes the database refused
    failed: int = 0  # messages given a number and then not stored
    set_aside: int = 0  # damaged files put aside
    lost_commits: int = 0  # durable ones, at least so many, that a damaged write-ahead log took with it
    gap_messages: int = 0  # messages removed before some cursor had passed them
    listener_errors: int = 0

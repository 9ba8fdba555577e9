"""What the event loop hands to the log's writer thread, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import HubError, LogFailed, WriteRefused
from .message import Message

Write = tuple[str, tuple[Any, ...]]


@dataclass(slots=True)
class Unit:
    """One call of append, submit or write, or a post with writes: what succeeds or is refused together."""

    first: int  # numbers of its messages, first > last where it has none
    last: int
    also: Sequence[Write]
    done: Callable[[HubError | None], None] | None


@dataclass(slots=True)
class Batch:
    """One transaction. Numbers of `messages` are consecutive."""

    messages: list[Message] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    cursors: dict[str, int | None] = field(default_factory=dict)  # None drops the cursor
    lasting: list[Write] = field(default_factory=list)  # the log's own writes; a full disk only delays them
    size: int = 0  # payload bytes
    forced: bool = False  # somebody waits

    def __bool__(self) -> bool:
        return bool(self.messages or self.units or self.cursors or self.lasting)


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    batch: Batch
    error: LogFailed | None = None
    refused: dict[int, WriteRefused] = field(default_factory=dict)  # by index into batch.units
    first_seq: int = 0
    reserved: int = 0
    count: int = 0  # messages kept
    size_bytes: int = 0
    gap_messages: int = 0  # removed in this step before some cursor had passed them


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of retention; the oldest messages go first."""

    max_messages: int
    max_bytes: int

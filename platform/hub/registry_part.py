"""What a part of the registry works with: API keys, groups, certificates and the like each keep their own tables.

A part holds its state in memory, as the registry does, and writes it through the desk before it counts. It is loaded
with the registry and hears of every change while the lock is held, so that what belonged to a thing or an account
that is gone goes with it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from .keys import ServerKey
from .registry_items import Change, Channel, Thing
from .users import Statement, User


class Desk:
    """Whoever changes something holds `lock`, writes, changes its memory, and says so with `changed`."""

    def __init__(
        self,
        key: ServerKey,
        lock: threading.RLock,
        write: Callable[[Sequence[Statement]], None],
        changed: Callable[[Change], None],
    ) -> None:
        self.key = key
        self.lock = lock
        self.write = write  # one durable transaction; raises RegistryFailed
        self.changed = changed


class Directory(Protocol):
    """What a part may ask the registry: who and what there is."""

    def thing(self, thing_id: str) -> Thing | None: ...
    def channel(self, channel_id: str) -> Channel | None: ...
    def user(self, user_id: str) -> User | None: ...


class Part(Protocol):
    """One of the registry's parts. Called with the lock held."""

    def load(self, conn: sqlite3.Connection) -> None:
        """Read everything anew. Raises sqlite3.DatabaseError for what can only be damage."""

    def follow(self, change: Change) -> None:
        """Forget what hung on things, channels or accounts that are gone; their rows went by the schema."""

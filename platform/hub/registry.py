"""Who and what the gateway knows: things, channels, connections between them, and people.

All of it is in memory for the hot path and in `registry.db` before it counts. Changes are rare and each is
one durable transaction, so a caller on the event loop hands them to a thread (`asyncio.to_thread`); every
method may be called from any thread. Listeners are told on the loop the registry was opened in.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from .applications import Applications
from .authority.certificates import Certificates
from .authority.generations import Authority
from .errors import NotFound
from .events_outbox import Acting, Waiting
from .groups import Groups
from .keys import ServerKey
from .oauth.flows import Flows
from .policy.engine import PolicySet
from .policy.errors import PolicyError
from .policy.statement import Statement as PolicyStatement
from .registry_file import RegistryFailed, RegistryFile
from .registry_items import (
    Change,
    ChangeKind,
    Channel,
    Metadata,
    Page,
    Rights,
    Thing,
)
from .registry_part import Desk, Part
from .registry_people import People
from .registry_policies import Policies, Policy
from .registry_things import Things
from .sessions import Sessions
from .tokens.grants import Grants
from .tokens.signing import SigningKeys
from .totp import Totps
from .users import User, Users

__all__ = [
    "Change",
    "ChangeKind",
    "Channel",
    "Metadata",
    "Page",
    "Policy",
    "Registry",
    "Rights",
    "Thing",
    "User",
]

log = logging.getLogger("hub.registry")


class Registry(Things, People):
    """`epoch` rises with every change after it took effect; whoever caches what it read compares it."""

    def __init__(self, path: Path, key: ServerKey, acting: Acting | None = None) -> None:
        self._key = key
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Change], None]] = []
        self._loop, self._thread = _running_loop(), threading.get_ident()
        self.epoch = 1
        desk = Desk(key, self._lock, lambda statements: self._file.write(statements), self._changed)
        self.groups = Groups(desk, self)
        self.sessions = Sessions(desk, self.assigned)
        self.totp = Totps(desk, self.assigned)
        self.grants = Grants(desk, self)
        self.signing = SigningKeys(desk)
        self.applications = Applications(desk, self, self.grants)
        self.oauth = Flows(desk, self, self.grants, self.sessions)
        self.authority = Authority(desk)
        self.certificates = Certificates(desk, self, self.authority)
        self._parts: tuple[Part, ...] = (
            *(self.groups, self.sessions, self.totp),
            *(self.grants, self.signing),
            *(self.authority, self.certificates),
            *(self.applications, self.oauth),
        )
        self._file = RegistryFile(path, self._load, acting)
        self.set_aside = self._file.set_aside

    @classmethod
    def open(cls, path: Path | str, key: ServerKey, acting: Acting | None = None) -> Registry:
        """Open or create the registry; blocks. A damaged file is set aside and the copy beside it taken.

        With `acting` every change leaves an event, which says who made it (`hub.events`).

        The copy is made whenever the registry has opened well, some seconds after a change, and when it
        closes. On a full or read-only disk the registry opens all the same and refuses changes.
        """
        return cls(Path(path), key, acting)

    def close(self) -> None:
        """Keep when tokens were last used, and close the file; a disk that is full now costs only that."""
        with self._lock:
            try:
                if not self._file.failed:
                    self._file.write([*self.sessions.last_uses(), *self.grants.last_uses()])
            except RegistryFailed as error:
                log.warning("the last use of tokens is not kept: %s", error)
            finally:
                self._file.close()

    # Policies

    @property
    def policy_set(self) -> PolicySet:
        """The statements in force."""
        return self._policies.set

    def policies(self) -> list[Policy]:
        """All documents, by name."""
        return self._policies.all()

    def policy(self, name: str) -> Policy | None:
        return self._policies.get(name)

    def policy_statements(self, name: str) -> tuple[PolicyStatement, ...]:
        """What a document says; nothing for one that is not there."""
        return self._policies.statements(name)

    def change_policies(
        self, changes: Mapping[str, str | None], now_s: float, *, whole: bool = False
    ) -> list[Policy]:
        """Put documents, or with None remove them; `whole`: these and no others. All or nothing.

        Takes some ms a hundred statements: call it in a thread. Raises NotFound for one that is to be removed and is
        not there, PolicyError with line and reason, Invalid.
        """
        with self._lock:
            for name, document in changes.items():
                if document is None and self._policies.get(name) is None:
                    raise NotFound("no such policy")
            after = self._policies.checked(changes, now_s, whole=whole)
            self._file.write(self._policies.writes(after))
            self._policies.take(after)
            self._changed(Change(ChangeKind.REVOKED))
            return self._policies.all()

    # Events

    def begin_events(self, after: int) -> None:
        """Give new events numbers above `after`."""
        with self._lock:
            self._file.begin_events(after)

    def events_after(self, after: int, limit: int) -> list[Waiting]:
        """Events of durable changes after the number `after`, the oldest first."""
        with self._lock:
            return self._file.events_after(after, limit)

    def events_are_in(self, last: int) -> None:
        """Events up to the number `last` are safe elsewhere."""
        with self._lock:
            self._file.events_are_in(last)

    # Changes

    def on_change(self, fn: Callable[[Change], None]) -> Callable[[], None]:
        """Have `fn` called on the loop after each change. Returns an unsubscriber."""
        self._listeners.append(fn)

        def unsubscribe() -> None:
            if fn in self._listeners:
                self._listeners.remove(fn)

        return unsubscribe

    def _changed(self, change: Change) -> None:
        for part in self._parts:
            part.follow(change)
        self.epoch += 1  # after the change, so that who reads the new epoch reads the new state
        if self._loop is None or threading.get_ident() == self._thread:
            self._tell(change)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, change)

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners):
            listener(change)

    # Loading

    def _load(self, conn: sqlite3.Connection) -> None:
        """Fill the memory from the file. Raises sqlite3.DatabaseError for what can only be damage."""
        self.epoch += 1  # also when a disk can be written again and the file is read anew
        self._policies = Policies()
        self._users = Users(self._key, lambda statements: self._file.write(statements))
        self._load_things(conn)
        self._users.load(conn)
        try:
            self._policies.load(conn)
        except PolicyError as error:
            raise sqlite3.DatabaseError(f"policies: {error}") from error
        for part in self._parts:
            part.load(conn)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

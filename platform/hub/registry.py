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
from .groups import Groups
from .keys import ServerKey
from .oauth.flows import Flows
from .passwords import check_password, hash_password
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
from .registry_policies import Policies, Policy
from .registry_things import Things
from .tokens.grants import Grants
from .tokens.signing import SigningKeys
from .users import ADMIN, User, Users

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


class Registry(Things):
    """`epoch` rises with every change after it took effect; whoever caches what it read compares it."""

    def __init__(self, path: Path, key: ServerKey) -> None:
        self._key = key
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Change], None]] = []
        self._loop, self._thread = _running_loop(), threading.get_ident()
        self.epoch = 1
        desk = Desk(key, self._lock, lambda statements: self._file.write(statements), self._changed)
        self.groups = Groups(desk, self)
        self.grants = Grants(desk, self)
        self.signing = SigningKeys(desk)
        self.applications = Applications(desk, self, self.grants)
        self.oauth = Flows(desk, self, self.grants)
        self.authority = Authority(desk)
        self.certificates = Certificates(desk, self, self.authority)
        self._parts: tuple[Part, ...] = (
            *(self.groups, self.grants, self.signing),
            *(self.authority, self.certificates),
            *(self.applications, self.oauth),
        )
        self._file = RegistryFile(path, self._load)
        self.set_aside = self._file.set_aside

    @classmethod
    def open(cls, path: Path | str, key: ServerKey) -> Registry:
        """Open or create the registry; blocks. A damaged file is set aside and the copy beside it taken.

        The copy is made whenever the registry has opened well, some seconds after a change, and when it
        closes. On a full or read-only disk the registry opens all the same and refuses changes.
        """
        return cls(Path(path), key)

    def close(self) -> None:
        """Keep when tokens were last used, and close the file; a disk that is full now costs only that."""
        with self._lock:
            try:
                if not self._file.failed:
                    self._file.write([*self._users.last_uses(), *self.grants.last_uses()])
            except RegistryFailed as error:
                log.warning("the last use of tokens is not kept: %s", error)
            finally:
                self._file.close()

    # People

    @property
    def claimed(self) -> bool:
        """True once the gateway has an owner."""
        return self._users.claimed

    def claim_code(self) -> str | None:
        """The code that makes its holder the owner; None once claimed. Show it, and never store it."""
        with self._lock:
            return self._users.claim_code()

    def claim(self, code: str, email: str, password: str) -> User:
        """Make the first account. Takes tens of ms: call it in a thread.

        Raises Invalid (wrong code, address or password), TooManyTries once a new code is needed, Conflict
        when claimed.
        """
        encoded = hash_password(password)
        with self._lock:
            self._users.check_code(code)
            user = self._users.create(email, encoded, more=[("DELETE FROM claim", ())])
            self._users.end_claim()
            self._changed(Change(ChangeKind.GRANTED, users=frozenset({user.id})))
        return user

    def create_user(self, email: str, password: str, role: str = ADMIN) -> User:
        """Add an account. Takes tens of ms: call it in a thread. Raises Conflict, Invalid, Busy."""
        encoded = hash_password(password)
        with self._lock:
            user = self._users.create(email, encoded, role)
            self._changed(Change(ChangeKind.GRANTED, users=frozenset({user.id})))
        return user

    def verify_password(self, email: str, password: str, now_s: float) -> User | None:
        """The account, or None for a wrong address or password. Takes tens of ms: call it in a thread.

        Raises TooManyTries while the account's pause lasts, Busy.
        """
        with self._lock:
            user, encoded = self._users.begin_try(email, now_s)
        right = check_password(encoded, password)
        with self._lock:
            return self._users.end_try(user, right)

    def change_password(self, user_id: str, password: str) -> None:
        """Give an account another password and end its tokens.

        Call it in a thread. Raises NotFound, Invalid.
        """
        encoded = hash_password(password)
        with self._lock:
            self._users.set_password(user_id, encoded)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))

    def set_role(self, user_id: str, role: str) -> User:
        """Give an account another role, which reaches its live sessions. Raises NotFound, Invalid."""
        with self._lock:
            user = self._users.set_role(user_id, role)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))
        return user

    def remove_user(self, user_id: str) -> None:
        """Remove an account and its tokens. Raises NotFound, Invalid for the last one."""
        with self._lock:
            self._users.remove(user_id)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))

    def user(self, user_id: str) -> User | None:
        return self._users.get(user_id)

    def user_by_email(self, email: str) -> User | None:
        return self._users.by_email(email)

    def users(self) -> list[User]:
        return self._users.all()

    def issue_token(self, user_id: str, now_s: float) -> str:
        """A new token of 256 random bits, good until unused for 10 h or 7 days old. Raises NotFound."""
        with self._lock:
            return self._users.issue_token(user_id, now_s)

    def user_by_token(self, token: str, now_s: float) -> User | None:
        """The account a live token belongs to; notes that it was used."""
        with self._lock:
            return self._users.by_token(token, now_s)

    def revoke_token(self, token: str) -> bool:
        """End a token; False where there is no such."""
        with self._lock:
            revoked = self._users.revoke_token(token)
            if revoked:
                self._changed(Change(ChangeKind.REVOKED))
            return revoked

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

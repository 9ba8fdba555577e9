"""People in the registry: the claim, accounts with passwords and roles, and what ends their sessions.

`registry.Registry` inherits it. How often somebody may try to sign in is decided before this: `hub.sign_in`.
"""

from __future__ import annotations

import abc
import threading

import msgspec

from .keys import ServerKey
from .passwords import check_password, hash_password
from .registry_file import RegistryFile
from .registry_items import Change, ChangeKind
from .sessions import Sessions
from .totp import Totps
from .users import ADMIN, VIEWER, User, Users


class People(abc.ABC):
    """What `Registry` inherits, which gives it key, lock, file, parts and listeners."""

    sessions: Sessions
    totp: Totps
    second_factor_for: frozenset[str] = frozenset()  # roles that nobody has without a second factor
    _key: ServerKey
    _lock: threading.RLock
    _file: RegistryFile
    _users: Users

    @abc.abstractmethod
    def _changed(self, change: Change) -> None:
        """Let the change be known; the lock is held."""

    # The claim

    @property
    def claimed(self) -> bool:
        """True once the gateway has an owner."""
        return self._users.claimed

    def claim_code(self, shown: str = "") -> str | None:
        """The code that makes its holder the owner. Show it, and never store it.

        None once claimed, and where the code in force is known to nobody but who has it on paper; `shown` is what this
        machine showed before, if that is still known.
        """
        with self._lock:
            return self._users.claim_code(shown)

    def new_claim_code(self) -> str | None:
        """Another code in place of the one in force; None once claimed."""
        with self._lock:
            return self._users.new_claim_code()

    def claim(self, code: str, email: str, password: str) -> User:
        """Make the first account. Takes tens of ms: call it in a thread.

        Raises Invalid (wrong code, address or password), TooManyTries once a new code is needed, Conflict
        when claimed.
        """
        encoded = hash_password(password, email)
        with self._lock:
            self._users.check_code(code)
            user = self._users.create(email, encoded, more=[("DELETE FROM claim", ())])
            self._users.end_claim()
            self._changed(Change(ChangeKind.GRANTED, users=frozenset({user.id})))
        return user

    # Accounts

    def create_user(self, email: str, password: str, role: str = ADMIN) -> User:
        """Add an account. Takes tens of ms: call it in a thread. Raises Conflict, Invalid, Busy."""
        return self.create_account(email, hash_password(password, email), role)

    def create_account(self, email: str, encoded: str, role: str = ADMIN) -> User:
        """As `create_user`, with a password that is hashed already."""
        with self._lock:
            user = self._users.create(email, encoded, role)
            self._changed(Change(ChangeKind.GRANTED, users=frozenset({user.id})))
        return user

    def verify_password(self, email: str, password: str) -> User | None:
        """The account, or None for a wrong address or password, which takes as long.

        Takes tens of ms: call it in a thread. Raises Busy.
        """
        user = self._users.by_email(email)
        right = check_password(self._users.password(user.id) if user else None, password)
        return self.user(user.id) if user is not None and right else None

    def change_password(self, user_id: str, password: str) -> None:
        """Give an account another password and end its sessions.

        Call it in a thread. Raises NotFound, Invalid.
        """
        user = self._users.get(user_id)
        encoded = hash_password(password, user.email if user else "")
        with self._lock:
            self._users.set_password(user_id, encoded, self.sessions.ended_with(user_id))
            self.sessions.drop(user_id)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))

    def set_role(self, user_id: str, role: str) -> User:
        """Give an account another role, and end its sessions. Raises NotFound, Invalid."""
        with self._lock:
            before = self._users.get(user_id)
            if before is not None and before.role == role:
                return before
            user = self._users.set_role(user_id, role, self.sessions.ended_with(user_id))
            self.sessions.drop(user_id)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))
        return user

    def remove_user(self, user_id: str) -> None:
        """Remove an account and its sessions. Raises NotFound, Invalid for the last one."""
        with self._lock:
            self._users.remove(user_id)
            self._changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))

    def user(self, user_id: str) -> User | None:
        """The account, with the role it may use now: who must have a second factor and has none yet only looks."""
        user = self._users.get(user_id)
        if user is not None and user.role in self.second_factor_for and not self.totp.on(user_id):
            return msgspec.structs.replace(user, role=VIEWER)
        return user

    def assigned(self, user_id: str) -> User | None:
        """The account with the role it was given."""
        return self._users.get(user_id)

    def user_by_email(self, email: str) -> User | None:
        """As `user`."""
        found = self._users.by_email(email)
        return self.user(found.id) if found else None

    def users(self) -> list[User]:
        """All accounts, with the roles they were given."""
        return self._users.all()

    # Sessions

    def issue_token(self, user_id: str, now_s: float, *, address: str = "", agent: str = "") -> str:
        """The secret of a new session, good until unused for 10 h or 7 days old. Raises NotFound."""
        return self.sessions.open(user_id, now_s, address=address, agent=agent)[0]

    def user_by_token(self, token: str, now_s: float) -> User | None:
        """The account a live session belongs to; notes that it was used."""
        session = self.sessions.by_secret(token, now_s)
        return self.user(session.user_id) if session else None

    def revoke_token(self, token: str) -> bool:
        """End a session; False where there is no such. Raises RegistryFailed."""
        return self.sessions.end_secret(token)

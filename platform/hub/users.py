"""People: accounts, and the claim that makes the first one. Their sessions are in `hub.sessions`.

A gateway fresh from the box has no account and no default password. The process shows a code once; whoever
types it back becomes its owner.
"""

from __future__ import annotations

import hmac
import re
import sqlite3
import uuid
from collections.abc import Callable, Sequence

import msgspec

from .errors import Conflict, Invalid, NotFound, TooManyTries
from .keys import ServerKey, new_code, normal_code

Statement = tuple[str, tuple[object, ...]]
WriteStatements = Callable[[Sequence[Statement]], None]

MAX_USERS = 1000
CLAIM_TRIES = 5

# Each may what those before it may; a member, nothing but what the groups he is in give him.
MEMBER, VIEWER, TECHNICIAN, ADMIN = ROLES = ("member", "viewer", "technician", "admin")

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")


class WrongCode(Invalid):
    """Not the claim code."""


class User(msgspec.Struct, frozen=True):
    """One account: a viewer reads, a technician manages things, channels and devices, an administrator all else."""

    id: str
    email: str
    role: str = ADMIN


class Users:
    """Accounts in memory, written through `write` before they count.

    The registry holds the lock.
    """

    def __init__(self, key: ServerKey, write: WriteStatements) -> None:
        self._key = key
        self._write = write
        self._users: dict[str, User] = {}
        self._ids: dict[str, str] = {}  # by e-mail address, lower case
        self._passwords: dict[str, str] = {}
        self._code_hash: bytes | None = None
        self._code_tries = 0
        self._code: str | None = None

    # Loading

    def load(self, conn: sqlite3.Connection) -> None:
        for user_id, email, role, password in conn.execute(
            "SELECT id, email, role, password FROM user ORDER BY rowid"
        ):
            self._keep(User(user_id, email, role), password)
        for code, tries in conn.execute("SELECT code, tries FROM claim"):
            self._code_hash, self._code_tries = code, tries

    def _keep(self, user: User, encoded: str) -> None:
        self._users[user.id] = user
        self._ids[user.email.lower()] = user.id
        self._passwords[user.id] = encoded

    # Accounts

    @property
    def claimed(self) -> bool:
        return bool(self._users)

    def get(self, user_id: str) -> User | None:
        return self._users.get(user_id)

    def by_email(self, email: str) -> User | None:
        user_id = self._ids.get(email.lower())
        return self._users[user_id] if user_id else None

    def all(self) -> list[User]:
        return list(self._users.values())

    def create(self, email: str, encoded: str, role: str = ADMIN, more: Sequence[Statement] = ()) -> User:
        """Add an account with an encoded password; `more` runs in the same transaction."""
        _check_role(role)
        if not _EMAIL.fullmatch(email):
            raise Invalid("that is no e-mail address")
        if email.lower() in self._ids:
            raise Conflict("that e-mail address has an account")
        if len(self._users) >= MAX_USERS:
            raise Invalid(f"at most {MAX_USERS} accounts")
        user = User(str(uuid.uuid4()), email, role)
        row = (user.id, user.email, user.role, encoded)
        self._write([("INSERT INTO user(id, email, role, password) VALUES (?, ?, ?, ?)", row), *more])
        self._keep(user, encoded)
        return user

    def password(self, user_id: str) -> str | None:
        """The encoded password."""
        return self._passwords.get(user_id)

    def set_password(self, user_id: str, encoded: str, more: Sequence[Statement] = ()) -> None:
        """Replace the password; `more` runs in the same transaction."""
        if user_id not in self._users:
            raise NotFound("no such user")
        self._write([("UPDATE user SET password = ? WHERE id = ?", (encoded, user_id)), *more])
        self._passwords[user_id] = encoded

    def remove(self, user_id: str) -> None:
        user = self._users.get(user_id)
        if user is None:
            raise NotFound("no such user")
        if len(self._users) == 1:
            raise Invalid("the last account stays: without it anyone near could claim the gateway")
        self._keep_an_administrator(user)
        self._write([("DELETE FROM user WHERE id = ?", (user_id,))])
        del self._users[user_id], self._ids[user.email.lower()], self._passwords[user_id]

    def set_role(self, user_id: str, role: str, more: Sequence[Statement] = ()) -> User:
        """Give an account another role; `more` runs in the same transaction. The last administrator stays one."""
        _check_role(role)
        user = self._users.get(user_id)
        if user is None:
            raise NotFound("no such user")
        if role != ADMIN:
            self._keep_an_administrator(user)
        self._write([("UPDATE user SET role = ? WHERE id = ?", (role, user_id)), *more])
        changed = self._users[user_id] = msgspec.structs.replace(user, role=role)
        return changed

    def _keep_an_administrator(self, user: User) -> None:
        if user.role == ADMIN and sum(each.role == ADMIN for each in self._users.values()) == 1:
            raise Invalid("the last administrator stays one: nobody else could give the role back")

    # Claiming

    def claim_code(self, shown: str = "") -> str | None:
        """The code to show: the one in force, or a new one where there is none or its tries are used up.

        Only its hash is kept. A process that starts again may hand in what was shown before, which holds on if it is
        the one in force. None once claimed, and where a code is in force that nobody here knows any more: whoever has
        it on paper can still use it, and `new_claim_code` makes another.
        """
        if self.claimed:
            return None
        if self._code_hash is None or self._code_tries >= CLAIM_TRIES:
            return self.new_claim_code()
        if self._code is None and hmac.compare_digest(self._digest(shown), self._code_hash):
            self._code = shown
        return self._code

    def new_claim_code(self) -> str | None:
        """Another code; the one before stops working. None once claimed."""
        if self.claimed:
            return None
        code = new_code()
        digest = self._digest(code)
        self._write([("INSERT OR REPLACE INTO claim(id, code, tries) VALUES (1, ?, 0)", (digest,))])
        self._code, self._code_hash, self._code_tries = code, digest, 0
        return code

    def _digest(self, code: str) -> bytes:
        return self._key.digest("claim", normal_code(code))

    def check_code(self, code: str) -> None:
        """Count a try and compare. Raises Conflict once claimed, TooManyTries, Invalid for a wrong code."""
        if self.claimed:
            raise Conflict("this gateway is claimed")
        if self._code_hash is None or self._code_tries >= CLAIM_TRIES:
            raise TooManyTries("the code is used up; the gateway must show a new one")
        self._write([("UPDATE claim SET tries = tries + 1 WHERE id = 1", ())])
        self._code_tries += 1
        if not hmac.compare_digest(self._digest(code), self._code_hash):
            left = CLAIM_TRIES - self._code_tries
            raise WrongCode(f"wrong code; {left} tries left" if left else "wrong code; a new one is needed")

    def end_claim(self) -> None:
        self._code = self._code_hash = None


def has_role(user: User, role: str) -> bool:
    """Whether the account may what `role` may."""
    return ROLES.index(user.role) >= ROLES.index(role)


def higher(one: str | None, other: str | None) -> str | None:
    """The role that may more; None is no role."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=ROLES.index)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid(f"a role is one of {', '.join(ROLES)}")

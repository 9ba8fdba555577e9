"""People: accounts, their tokens, and the claim that makes the first one.

A gateway fresh from the box has no account and no default password. The process shows a code once; whoever
types it back becomes its owner.
"""

from __future__ import annotations

import hmac
import logging
import re
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from .errors import Conflict, HubError, Invalid, NotFound, TooManyTries
from .keys import ServerKey, new_code, new_secret, normal_code
from .passwords import Guard

log = logging.getLogger("hub.users")

Statement = tuple[str, tuple[object, ...]]
WriteStatements = Callable[[Sequence[Statement]], None]

MAX_USERS = 1000
MAX_TOKENS = 32  # of one user: logins on as many devices; the one used longest ago goes
IDLE_S = 10 * 3600.0  # a token unused for this long ends; Mainflux's login tokens live as long
ABSOLUTE_S = 7 * 24 * 3600.0  # and any token after this
CLAIM_TRIES = 5

# Each may what those before it may; a member, nothing but what the groups he is in give him.
MEMBER, VIEWER, TECHNICIAN, ADMIN = ROLES = ("member", "viewer", "technician", "admin")

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")


class User(msgspec.Struct, frozen=True):
    """One account: a viewer reads, a technician manages things, channels and devices, an administrator all else."""

    id: str
    email: str
    role: str = ADMIN


@dataclass(slots=True)
class _Token:
    user_id: str
    issued_s: float
    used_s: float


class Users:
    """Accounts and tokens in memory, written through `write` before they count.

    The registry holds the lock.
    """

    def __init__(self, key: ServerKey, write: WriteStatements) -> None:
        self._key = key
        self._write = write
        self._guard = Guard()
        self._users: dict[str, User] = {}
        self._ids: dict[str, str] = {}  # by e-mail address, lower case
        self._passwords: dict[str, str] = {}
        self._tokens: dict[bytes, _Token] = {}
        self._code_hash: bytes | None = None
        self._code_tries = 0
        self._code: str | None = None

    # Loading

    def load(self, conn: sqlite3.Connection) -> None:
        for user_id, email, role, password in conn.execute(
            "SELECT id, email, role, password FROM user ORDER BY rowid"
        ):
            self._keep(User(user_id, email, role), password)
        for digest, user_id, issued_s, used_s in conn.execute(
            "SELECT hash, user, issued_s, used_s FROM token"
        ):
            self._tokens[digest] = _Token(user_id, issued_s, used_s)
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

    def set_password(self, user_id: str, encoded: str) -> None:
        """Replace the password and end all of the account's tokens."""
        if user_id not in self._users:
            raise NotFound("no such user")
        self._write(
            [
                ("UPDATE user SET password = ? WHERE id = ?", (encoded, user_id)),
                ("DELETE FROM token WHERE user = ?", (user_id,)),
            ]
        )
        self._passwords[user_id] = encoded
        self._forget_tokens(user_id)

    def remove(self, user_id: str) -> None:
        user = self._users.get(user_id)
        if user is None:
            raise NotFound("no such user")
        if len(self._users) == 1:
            raise Invalid("the last account stays: without it anyone near could claim the gateway")
        self._keep_an_administrator(user)
        self._write(
            [
                ("DELETE FROM token WHERE user = ?", (user_id,)),
                ("DELETE FROM user WHERE id = ?", (user_id,)),
            ]
        )
        del self._users[user_id], self._ids[user.email.lower()], self._passwords[user_id]
        self._forget_tokens(user_id)

    def set_role(self, user_id: str, role: str) -> User:
        """Give an account another role. The last administrator stays one."""
        _check_role(role)
        user = self._users.get(user_id)
        if user is None:
            raise NotFound("no such user")
        if role != ADMIN:
            self._keep_an_administrator(user)
        self._write([("UPDATE user SET role = ? WHERE id = ?", (role, user_id))])
        changed = self._users[user_id] = msgspec.structs.replace(user, role=role)
        return changed

    def _keep_an_administrator(self, user: User) -> None:
        if user.role == ADMIN and sum(each.role == ADMIN for each in self._users.values()) == 1:
            raise Invalid("the last administrator stays one: nobody else could give the role back")

    def begin_try(self, email: str, now_s: float) -> tuple[User | None, str | None]:
        """The account to check a password for and its encoded password. Raises TooManyTries."""
        user = self.by_email(email)
        if user is None:
            return None, None
        self._guard.begin(user.id, now_s)
        return user, self._passwords[user.id]

    def end_try(self, user: User | None, right: bool) -> User | None:
        if user is None or not right:
            return None
        self._guard.succeeded(user.id)
        return self._users.get(user.id)

    # Tokens

    def issue_token(self, user_id: str, now_s: float) -> str:
        if user_id not in self._users:
            raise NotFound("no such user")
        ended = [digest for digest, token in self._tokens.items() if self._is_over(token, now_s)]
        mine = sorted(
            (token.used_s, digest)
            for digest, token in self._tokens.items()
            if token.user_id == user_id and digest not in ended
        )
        ended += [digest for _, digest in mine[: max(0, len(mine) - MAX_TOKENS + 1)]]
        secret = new_secret()
        digest = self._key.digest("token", secret)
        statements: list[Statement] = [("DELETE FROM token WHERE hash = ?", (old,)) for old in ended]
        statements.append(
            (
                "INSERT INTO token(hash, user, issued_s, used_s) VALUES (?, ?, ?, ?)",
                (digest, user_id, now_s, now_s),
            )
        )
        try:
            self._write(statements)
        except HubError as error:
            # Who comes to see what is wrong with the disk must get in; such a token ends with this process.
            log.warning("a sign-in is remembered until the next start only: %s", error.reason)
        for old in ended:
            del self._tokens[old]
        self._tokens[digest] = _Token(user_id, now_s, now_s)
        return secret

    def by_token(self, secret: str, now_s: float) -> User | None:
        token = self._tokens.get(self._key.digest("token", secret))
        if token is None or self._is_over(token, now_s):
            return None
        token.used_s = now_s
        return self._users.get(token.user_id)

    def revoke_token(self, secret: str) -> bool:
        digest = self._key.digest("token", secret)
        if digest not in self._tokens:
            return False
        self._write([("DELETE FROM token WHERE hash = ?", (digest,))])
        del self._tokens[digest]
        return True

    def last_uses(self) -> list[Statement]:
        """What brings the kept times of use up to date; written when the registry closes."""
        return [
            ("UPDATE token SET used_s = ? WHERE hash = ?", (token.used_s, digest))
            for digest, token in self._tokens.items()
        ]

    @staticmethod
    def _is_over(token: _Token, now_s: float) -> bool:
        return now_s - token.used_s > IDLE_S or now_s - token.issued_s > ABSOLUTE_S

    def _forget_tokens(self, user_id: str) -> None:
        for digest in [digest for digest, token in self._tokens.items() if token.user_id == user_id]:
            del self._tokens[digest]

    # Claiming

    def claim_code(self) -> str | None:
        """The code to show: the same for this process until its tries are used up, then a new one."""
        if self.claimed:
            return None
        if self._code is None or self._code_tries >= CLAIM_TRIES:
            code = new_code()
            digest = self._key.digest("claim", normal_code(code))
            self._write(
                [("INSERT OR REPLACE INTO claim(id, code, tries) VALUES (1, ?, 0)", (digest,))],
            )
            self._code, self._code_hash, self._code_tries = code, digest, 0
        return self._code

    def check_code(self, code: str) -> None:
        """Count a try and compare. Raises Conflict once claimed, TooManyTries, Invalid for a wrong code."""
        if self.claimed:
            raise Conflict("this gateway is claimed")
        if self._code_hash is None or self._code_tries >= CLAIM_TRIES:
            raise TooManyTries("the code is used up; the gateway must show a new one")
        self._write([("UPDATE claim SET tries = tries + 1 WHERE id = 1", ())])
        self._code_tries += 1
        if not hmac.compare_digest(self._key.digest("claim", normal_code(code)), self._code_hash):
            left = CLAIM_TRIES - self._code_tries
            raise Invalid(f"wrong code; {left} tries left" if left else "wrong code; a new one is needed")

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

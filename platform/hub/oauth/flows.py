"""What the flows leave in the registry: authorization codes, and for each grant the one refresh token that is good.

Neither is kept itself, only a keyed hash. A refresh token names its grant and carries a tag of ours, so that one that
was replaced is known for what it is however old it has become: whoever shows it again has a copy, and the whole grant
ends (RFC 9700, 4.14.2). A code that is shown again ends what was granted with it (RFC 6749, 4.1.2).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import sqlite3
import threading
import uuid

import msgspec

from hub.errors import Busy
from hub.registry_items import Change, ChangeKind
from hub.registry_part import Desk, Directory
from hub.sessions import Session, Sessions
from hub.tokens.grants import Grants
from hub.tokens.scopes import ScopeError, Scopes, parse
from hub.users import Statement

CODE_S = 60.0  # from the decision to the exchange; an application does it at once
CODE_KEPT_S = 24 * 3600.0  # a used code, to know it again
MAX_CODES = 10_000
MAX_CODES_OF_USER = 64  # not used yet; then the oldest go

_CODE, _REFRESH = "oauth code", "oauth refresh token"
_TAG = "oauth refresh tag"
_PREFIX = "fgr_"  # of refresh tokens, so that a secret scanner and a reader know what they see
_ID, _RANDOM, _TAG_BYTES = 16, 32, 16


class Code(msgspec.Struct, frozen=True):
    """What a person agreed to, until the application has fetched its tokens. Times are UTC seconds."""

    application_id: str
    user_id: str
    redirect_uri: str
    scopes: Scopes
    challenge: str  # PKCE, S256
    nonce: str
    resource: str
    issued_s: float
    auth_s: float  # when the person had signed in
    grant_id: str = ""  # once it was used
    session: str = ""  # in which the person signed in to the gateway's own pages, for those alone

    def over(self, now_s: float) -> bool:
        return not 0 <= now_s - self.issued_s < CODE_S


class Refresh(msgspec.Struct, frozen=True):
    """The refresh token of a grant."""

    grant_id: str
    digest: bytes
    resource: str
    auth_s: float
    expires_s: float  # moves with each use
    session: str = ""  # as of the code

    def over(self, now_s: float) -> bool:
        return now_s >= self.expires_s


class Flows:
    """A part of the registry. Whoever changes holds the lock, over looking and taking alike."""

    def __init__(self, desk: Desk, directory: Directory, grants: Grants, sessions: Sessions) -> None:
        self._desk = desk
        self._directory = directory
        self._grants = grants
        self._sessions = sessions
        self._codes: dict[bytes, Code] = {}  # in the order they were made
        self._refresh: dict[str, Refresh] = {}  # by grant

    @property
    def lock(self) -> threading.RLock:
        """The registry's lock."""
        return self._desk.lock

    # The registry's part

    def load(self, conn: sqlite3.Connection) -> None:
        self._codes, self._refresh = {}, {}
        try:
            for digest, app, user, uri, scopes, *more in conn.execute(
                "SELECT hash, application, user, redirect_uri, scopes, challenge, nonce, resource, issued_s, auth_s,"
                " grant_id, session FROM oauth_code ORDER BY issued_s"
            ):
                self._codes[digest] = Code(app or "", user, uri, parse(scopes), *more)
        except ScopeError as error:
            raise sqlite3.DatabaseError(f"codes: {error.reason}") from error
        for row in conn.execute(
            "SELECT grant_id, hash, resource, auth_s, expires_s, session FROM oauth_refresh"
        ):
            self._refresh[row[0]] = Refresh(*row)

    def follow(self, change: Change) -> None:
        if change.kind is not ChangeKind.REVOKED:
            return
        if change.users and any(each.session for each in self._refresh.values()):
            self._grants.forget(*self._without_session())
        for grant_id in [each for each in self._refresh if self._grants.get(each) is None]:
            del self._refresh[grant_id]
        for digest in [digest for digest, code in self._codes.items() if not self._exists(code)]:
            del self._codes[digest]

    def _without_session(self) -> list[str]:
        """Grants of the gateway's own pages whose session was ended; their rows went with its row."""
        live = {each.id for each in self._sessions.all(0.0)}
        return [each.grant_id for each in self._refresh.values() if each.session and each.session not in live]

    def _exists(self, code: Code) -> bool:
        """Whether there still are the application and the person; the gateway's own pages are no thing."""
        there = not code.application_id or self._directory.thing(code.application_id) is not None
        return there and self._directory.user(code.user_id) is not None

    # Codes

    def add_code(self, code: Code) -> str:
        """Keep it, and return what stands for it. Blocks. Raises Busy, RegistryFailed."""
        secret = f"fgc_{secrets.token_urlsafe(_RANDOM)}"
        digest = self._desk.key.digest(_CODE, secret)
        with self._desk.lock:
            gone = self._outdated(code.issued_s, code.user_id)
            if len(self._codes) - len(gone) >= MAX_CODES:
                raise Busy("too many applications are being signed in to; try again in a minute")
            row = (
                *(digest, code.application_id or None, code.user_id, code.redirect_uri, str(code.scopes)),
                *(code.challenge, code.nonce, code.resource, code.issued_s, code.auth_s, code.grant_id),
                code.session,
            )
            statements: list[Statement] = [("DELETE FROM oauth_code WHERE hash = ?", (old,)) for old in gone]
            statements.append(("INSERT INTO oauth_code VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
            self._desk.write(statements)
            for old in gone:
                del self._codes[old]
            self._codes[digest] = code
        return secret

    def _outdated(self, now_s: float, user_id: str) -> list[bytes]:
        """Codes that need not be kept any longer; used ones are, while there is a grant to end."""
        gone = [digest for digest, code in self._codes.items() if self._is_outdated(code, now_s)]
        waiting = [
            d for d, c in self._codes.items() if c.user_id == user_id and not c.grant_id and d not in gone
        ]
        return gone + waiting[: max(0, len(waiting) - MAX_CODES_OF_USER + 1)]

    def _is_outdated(self, code: Code, now_s: float) -> bool:
        if not code.grant_id:
            return code.over(now_s)
        return now_s - code.issued_s > CODE_KEPT_S or self._grants.get(code.grant_id) is None

    def code(self, secret: str) -> Code | None:
        return self._codes.get(self._desk.key.digest(_CODE, secret))

    # Tokens

    def begin(self, secret: str, grant_id: str, now_s: float, idle_s: float | None) -> str:
        """Mark a code as used for a grant, and give the grant its first refresh token: "" where `idle_s` is None.

        The caller holds the lock and has looked at the code. Blocks. Raises RegistryFailed.
        """
        digest = self._desk.key.digest(_CODE, secret)
        code = msgspec.structs.replace(self._codes[digest], grant_id=grant_id)
        statements: list[Statement] = [
            ("UPDATE oauth_code SET grant_id = ? WHERE hash = ?", (grant_id, digest))
        ]
        token, refresh = "", None
        if idle_s is not None:
            token, refresh = self._made(grant_id, code.resource, code.auth_s, now_s + idle_s, code.session)
            statements.append(_kept(refresh))
        self._desk.write(statements)
        self._codes[digest] = code
        if refresh is not None:
            self._refresh[grant_id] = refresh
        return token

    def rotate(self, refresh: Refresh, now_s: float, idle_s: float) -> str:
        """Replace a grant's refresh token. The caller holds the lock. Blocks. Raises RegistryFailed."""
        token, made = self._made(
            *(refresh.grant_id, refresh.resource, refresh.auth_s, now_s + idle_s, refresh.session)
        )
        self._desk.write([_kept(made)])
        self._refresh[refresh.grant_id] = made
        return token

    def refresh(self, token: str) -> tuple[Refresh, bool] | None:
        """The row of the grant that a refresh token names, and whether this is the one that is good.

        None for what never was a token of ours, or whose grant is gone.
        """
        grant_id = self._grant_of(token)
        found = self._refresh.get(grant_id)
        if found is None:
            return None
        return found, hmac.compare_digest(found.digest, self._desk.key.digest(_REFRESH, token))

    def session_of(self, grant_id: str, now_s: float) -> Session | None:
        """The live session that a grant of the gateway's own pages hangs on; notes that it was used."""
        refresh = self._refresh.get(grant_id)
        if refresh is None or not refresh.session:
            return None
        for session in self._sessions.all(now_s):
            if session.id == refresh.session:
                session.used_s = now_s
                return session
        return None

    def ended(self, now_s: float) -> list[str]:
        """Grants whose refresh token was not used in time."""
        return [refresh.grant_id for refresh in self._refresh.values() if refresh.over(now_s)]

    def _made(
        self, grant_id: str, resource: str, auth_s: float, expires_s: float, session: str
    ) -> tuple[str, Refresh]:
        body = uuid.UUID(grant_id).bytes + secrets.token_bytes(_RANDOM)
        token = _PREFIX + base64.urlsafe_b64encode(body + self._tag(body)).decode()
        digest = self._desk.key.digest(_REFRESH, token)
        return token, Refresh(grant_id, digest, resource, auth_s, expires_s, session)

    def _grant_of(self, token: str) -> str:
        """The grant that a token was made for, "" where we never made it."""
        if not token.startswith(_PREFIX) or len(token) > 128:
            return ""
        try:
            text = token[len(_PREFIX) :].encode("ascii")
            data = base64.b64decode(text, b"-_", validate=True)
        except (binascii.Error, ValueError):
            return ""
        if base64.urlsafe_b64encode(data) != text:  # unused bits of the last character make it none of ours
            return ""
        body, tag = data[: _ID + _RANDOM], data[_ID + _RANDOM :]
        if len(tag) != _TAG_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            return ""
        return str(uuid.UUID(bytes=body[:_ID]))

    def _tag(self, body: bytes) -> bytes:
        return self._desk.key.digest(_TAG, body.hex())[:_TAG_BYTES]


def _kept(refresh: Refresh) -> Statement:
    return (
        "INSERT OR REPLACE INTO oauth_refresh VALUES (?, ?, ?, ?, ?, ?)",
        msgspec.structs.astuple(refresh),
    )

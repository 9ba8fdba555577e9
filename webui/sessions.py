"""Who is signed in, kept on the server so that signing out really ends it.

The browser holds a random id. This table holds its hash and, sealed under a key only the id yields, the
gateway's tokens: neither a copy of the table nor a cookie alone is worth anything.
Times are seconds of the monotonic clock: a gateway without a battery clock jumps by years at its first NTP
answer and must not sign everybody out. The file therefore belongs in a runtime directory, emptied at boot.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import sqlite3
import threading
from dataclasses import dataclass, field

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_SESSIONS = 256  # far above the people of one site; the longest unused goes first
TOUCH_EVERY_S = 60.0  # "last seen" is written at most this often
MAX_NOTICE = 500

_Sealed = tuple[str, str, str, float | None, float | None]  # Tokens; JSON has no infinity

_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    id_hash BLOB PRIMARY KEY,
    email TEXT NOT NULL,
    sealed_token BLOB NOT NULL,
    opened_s REAL NOT NULL,
    seen_s REAL NOT NULL,
    notice TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the gateway gave for a sign-in. Times are seconds of the monotonic clock."""

    token: str = field(repr=False)  # to ask with
    sign_in: str = field(default="", repr=False)  # the gateway's session; "" where it is `token` itself
    refresh: str = field(default="", repr=False)
    renew_s: float = math.inf
    over_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Session:
    email: str
    tokens: Tokens  # of the gateway; never sent to the browser
    key: bytes  # names the session in memory (limits, streams) without being the cookie

    @property
    def token(self) -> str:
        """What the gateway is asked with."""
        return self.tokens.token

    @property
    def sign_in(self) -> str:
        """What signing out ends."""
        return self.tokens.sign_in or self.tokens.token


def new_id() -> str:
    """43 characters of 256 random bits."""
    return secrets.token_urlsafe(32)


def is_id(text: str) -> bool:
    """Whether a cookie value can be one of ours at all (length and alphabet)."""
    return len(text) == 43 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def form_token(session_id: str) -> str:
    """The token every form carries: only who can read our pages knows it (cookies travel by themselves)."""
    return hashlib.sha256(b"form token of " + session_id.encode()).hexdigest()[:32]


class Sessions:
    """Safe to call from any thread."""

    def __init__(self, path: str, idle_s: float, max_s: float) -> None:
        self._idle_s = idle_s
        self._max_s = max_s
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")  # losing a session costs one sign-in
        self._db.execute(_SCHEMA)

    def open(self, email: str, tokens: Tokens | str, now_s: float) -> str:
        """Start a session and return its new id (a sign-in never keeps an id from before)."""
        session_id = new_id()
        sealed = _sealed(session_id, Tokens(tokens) if isinstance(tokens, str) else tokens)
        with self._lock:
            self._db.execute(
                "INSERT INTO session (id_hash, email, sealed_token, opened_s, seen_s) VALUES (?, ?, ?, ?, ?)",
                (_hash(session_id), email, sealed, now_s, now_s),
            )
            self._db.execute(
                "DELETE FROM session WHERE seen_s < ? OR opened_s < ?",
                (now_s - self._idle_s, now_s - self._max_s),
            )
            self._db.execute(
                "DELETE FROM session WHERE id_hash IN"
                " (SELECT id_hash FROM session ORDER BY seen_s DESC LIMIT -1 OFFSET ?)",
                (MAX_SESSIONS,),
            )
        return session_id

    def find(self, session_id: str, now_s: float) -> Session | None:
        """The live session of this id; None for unknown, ended and expired ones."""
        if not is_id(session_id):
            return None
        key = _hash(session_id)
        with self._lock:
            row = self._db.execute(
                "SELECT email, sealed_token, opened_s, seen_s FROM session WHERE id_hash = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            email, sealed, opened_s, seen_s = row
            if now_s - seen_s > self._idle_s or now_s - opened_s > self._max_s:
                self._db.execute("DELETE FROM session WHERE id_hash = ?", (key,))
                return None
            if now_s - seen_s > TOUCH_EVERY_S:
                self._db.execute("UPDATE session SET seen_s = ? WHERE id_hash = ?", (now_s, key))
        try:
            opened = AESGCM(_seal_key(session_id)).decrypt(sealed[:12], sealed[12:], None)
            token, sign_in, refresh, renew_s, over_s = msgspec.json.decode(opened, type=_Sealed)
        except (InvalidTag, msgspec.MsgspecError):
            return None
        ends = (math.inf if each is None else each for each in (renew_s, over_s))
        return Session(email, Tokens(token, sign_in, refresh, *ends), key)

    def renew(self, session_id: str, tokens: Tokens) -> None:
        """Give a session other tokens; nothing where it has ended meanwhile."""
        with self._lock:
            self._db.execute(
                "UPDATE session SET sealed_token = ? WHERE id_hash = ?",
                (_sealed(session_id, tokens), _hash(session_id)),
            )

    def end(self, session_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM session WHERE id_hash = ?", (_hash(session_id),))

    def leave_notice(self, session: Session, text: str) -> None:
        """One sentence for the next page of this session (after a redirect)."""
        with self._lock:
            self._db.execute(
                "UPDATE session SET notice = ? WHERE id_hash = ?", (text[:MAX_NOTICE], session.key)
            )

    def take_notice(self, session: Session) -> str:
        with self._lock:
            row = self._db.execute("SELECT notice FROM session WHERE id_hash = ?", (session.key,)).fetchone()
            if row is None or not row[0]:
                return ""
            self._db.execute("UPDATE session SET notice = '' WHERE id_hash = ?", (session.key,))
        return str(row[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(b"session " + session_id.encode()).digest()


def _sealed(session_id: str, tokens: Tokens) -> bytes:
    nonce = secrets.token_bytes(12)
    content = msgspec.json.encode(
        [tokens.token, tokens.sign_in, tokens.refresh, _finite(tokens.renew_s), _finite(tokens.over_s)]
    )
    return nonce + AESGCM(_seal_key(session_id)).encrypt(nonce, content, None)


def _finite(time_s: float) -> float | None:
    return None if math.isinf(time_s) else time_s


def _seal_key(session_id: str) -> bytes:
    # The id carries 256 random bits already: one labelled hash is enough of a derivation.
    return hashlib.sha256(b"seals the token of " + session_id.encode()).digest()

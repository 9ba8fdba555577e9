"""Machine secrets: the server's own key, random secrets, and the hashes under which they are kept.

A secret of 256 random bits cannot be guessed, so a keyed hash keeps it: whoever reads the database without
the key file can neither use a secret nor test a guess. Passwords of people are another matter:
`hub.passwords`.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
from pathlib import Path

from .database import sync_directory

log = logging.getLogger("hub.keys")

KEY_BYTES = 32
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without letters that a person mistakes: I, L, O, U
CODE_LENGTH = 8  # 40 bits; with 5 tries a guess succeeds once in 2 * 10**11


class ServerKey:
    """The 256-bit key of this gateway, in a file only its user can read. Its repr shows nothing of it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a server key has {KEY_BYTES} bytes")
        self._key = key

    def __repr__(self) -> str:
        return "ServerKey(...)"

    @classmethod
    def load(cls, path: Path) -> ServerKey:
        """Read the key, or make one where there is none. Raises ValueError where the file is not a key."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            pass
        key = secrets.token_bytes(KEY_BYTES)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, key)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(path.parent)
        log.info("made %s", path.name)
        return cls(key)

    def digest(self, purpose: str, secret: str) -> bytes:
        """The keyed hash (HMAC-SHA-256) of `secret`; `purpose` keeps a token from passing as a thing key."""
        return hmac.digest(self._key, f"{purpose}\0{secret}".encode("utf-8", "surrogatepass"), "sha256")


def new_secret() -> str:
    """256 random bits as 43 URL-safe characters."""
    return secrets.token_urlsafe(KEY_BYTES)


def new_code() -> str:
    """A claim code as a person reads it, `XXXX-XXXX`."""
    code = "".join(secrets.choice(CROCKFORD) for _ in range(CODE_LENGTH))
    return f"{code[:4]}-{code[4:]}"


def normal_code(text: str) -> str:
    """A typed code as it is compared: letters large, O as 0, I and L as 1, hyphens and spaces dropped."""
    return re.sub(r"[\s-]", "", text[:64].upper()).translate(str.maketrans("OIL", "011"))

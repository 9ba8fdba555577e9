"""Machine secrets: the server's own key, random secrets, and the hashes under which they are kept.

A secret of 256 random bits cannot be guessed, so a keyed hash keeps it: whoever reads the database without
the key file can neither use a secret nor test a guess. Passwords of people are another matter:
`hub.passwords`.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from pathlib import Path

from .database import write_durably

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
        """Read the key, from its copy where the file is damaged, or make one where there is none.

        Where both are damaged they are set aside and a new key is made: keys of things and tokens are then
        void, and the log says so; the gateway starts all the same.
        """
        copy = path.with_name(path.name + ".copy")
        found = [file for file in (path, copy) if file.exists()]
        for file in found:
            key = file.read_bytes()
            if len(key) == KEY_BYTES:
                break
        else:
            for file in found:
                log.error("%s is damaged: things need new keys and people must log in again", file.name)
                file.rename(file.with_name(file.name + ".damaged"))
            key = secrets.token_bytes(KEY_BYTES)
        for file in (path, copy):
            if not file.exists() or file.read_bytes() != key:
                write_durably(file, key)
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

"""Machine secrets: the server's own key, random secrets, and the hashes under which they are kept.

A secret of 256 random bits cannot be guessed, so a keyed hash keeps it: whoever reads the database without
the key file can neither use a secret nor test a guess. Passwords of people are another matter:
`hub.passwords`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .database import write_durably
from .errors import HubError

log = logging.getLogger("hub.keys")

KEY_BYTES = 32
CHECKSUM_BYTES = 8
NONCE_BYTES = 12  # random; a gateway seals some thousand secrets in its life, far from 2**32
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without letters that a person mistakes: I, L, O, U
CODE_LENGTH = 8  # 40 bits; with 5 tries a guess succeeds once in 2 * 10**11


class Unreadable(HubError):
    """A sealed secret that this server key does not open."""


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
        """Read the key, or make it. Where it had to be made anew keys of things and tokens are void."""
        return cls(load_secret(path, KEY_BYTES, "things need new keys and people must log in again"))

    def digest(self, purpose: str, secret: str) -> bytes:
        """The keyed hash (HMAC-SHA-256) of `secret`; `purpose` keeps a token from passing as a thing key."""
        return hmac.digest(self._key, f"{purpose}\0{secret}".encode("utf-8", "surrogatepass"), "sha256")

    def seal(self, purpose: str, secret: bytes) -> bytes:
        """`secret` as it may lie in a database (AES-256-GCM under a key of its purpose); `unseal` opens it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._sealing(purpose).encrypt(nonce, secret, purpose.encode())

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """What was sealed for this purpose. Raises Unreadable for anything else, or sealed under another server key."""
        try:
            return self._sealing(purpose).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode()
            )
        except (InvalidTag, ValueError):
            raise Unreadable("sealed under another key of this gateway, or damaged") from None

    def _sealing(self, purpose: str) -> AESGCM:
        return AESGCM(self.digest("seal", purpose))


def load_secret(path: Path, size: int, loss: str) -> bytes:
    """The `size` random bytes kept in `path` and, a second time, beside it; made where there are none.

    Each file ends in a checksum, so a flipped bit is noticed and the other file taken. Where both are damaged
    they are set aside, new bytes are made and `loss` says in the log what that means; the start goes on.
    """
    files = (path, path.with_name(path.name + ".copy"))
    contents = [file.read_bytes() for file in files if file.exists()]
    whole = [content[:size] for content in contents if content == _with_checksum(content[:size], path.name)]
    if not whole and len(set(contents)) == 1 and len(contents[0]) == size:
        whole = contents  # written before there were checksums
    if whole:
        secret = whole[0]
    else:
        if contents:
            log.error("%s and its copy are damaged and set aside: %s", path.name, loss)
        for file in files:
            if file.exists():
                file.rename(file.with_name(file.name + ".damaged"))
        secret = secrets.token_bytes(size)
    kept = _with_checksum(secret, path.name)
    for file in files:
        try:
            if not file.exists() or file.read_bytes() != kept:
                write_durably(file, kept)
        except OSError as error:
            if not whole:
                raise
            log.error("%s stays as it was: %s", file.name, error)  # a full disk: the other file is whole
    return secret


def _with_checksum(secret: bytes, name: str) -> bytes:
    """The name is part of it: another key's file in this one's place is no key."""
    return secret + hashlib.sha256(f"fluxgate {name}\0".encode() + secret).digest()[:CHECKSUM_BYTES]


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

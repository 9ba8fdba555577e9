"""NATS keys: the seed of an account's user, as a file of its own or inside a `.creds` file, and what it signs.

A key is base32 without padding: one or two bytes that say what it is, 32 bytes, and a CRC-16 (XMODEM), low byte
first. The seed is that of an Ed25519 key; a server is shown the public half and the signature of its nonce.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PREFIX_SEED = 18 << 3  # shows as S
PREFIX_USER = 20 << 3  # shows as U
SEED_BYTES = 2 + 32 + 2

_JWT = re.compile(r"-{3,}BEGIN NATS USER JWT-{3,}\s+([\w.-]+)\s+-{3,}END", re.ASCII)
_SEED = re.compile(r"-{3,}BEGIN USER NKEY SEED-{3,}\s+(\w+)\s+-{3,}END", re.ASCII)


class NatsKey:
    """A user's key pair; its text form shows the public half only. Raises ValueError: no seed of a user."""

    def __init__(self, seed: str) -> None:
        try:
            raw = base64.b32decode(seed.strip() + "=" * (-len(seed.strip()) % 8))
        except (binascii.Error, ValueError):
            raise ValueError("no NATS seed: it is not base32") from None
        if len(raw) != SEED_BYTES or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
            raise ValueError("no NATS seed: length or check sum is wrong")
        # 5 bits "seed", then 8 bits of what it is a seed of, then 3 that are not used
        if raw[0] & 0xF8 != PREFIX_SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != PREFIX_USER:
            raise ValueError("no NATS seed of a user: it begins with SU")
        self._private = Ed25519PrivateKey.from_private_bytes(raw[2:-2])
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        body = bytes([PREFIX_USER]) + public
        check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
        self.public = base64.b32encode(body + check).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"NatsKey({self.public})"

    def sign(self, nonce: str) -> bytes:
        """The signature of a server's nonce, in base64."""
        return base64.b64encode(self._private.sign(nonce.encode()))


def read_seed(path: str) -> NatsKey:
    """The key whose seed is the only line of a file. Raises OSError, ValueError."""
    return NatsKey(_read(path))


def read_creds(path: str) -> tuple[str, NatsKey]:
    """JWT and key of a `.creds` file. Raises OSError, ValueError."""
    text = _read(path)
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise ValueError("no credentials: a user's JWT and its seed belong in it")
    return jwt.group(1), NatsKey(seed.group(1))


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(64 << 10).decode("ascii", "replace")

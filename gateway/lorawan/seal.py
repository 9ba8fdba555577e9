"""Keys at rest: AES-256-GCM under one key of the gateway, which the caller keeps.

It guards a copied database or backup. Whoever can read the gateway's key file as well can open the keys.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEAL_KEY_SIZE = 32  # bytes
_NONCE_SIZE = 12  # random; far below 2**32 seals a key (NIST SP 800-38D, 8.3)


class Sealer:
    """`seal` and `unseal` for `store.Store`. `context` says what the bytes are for and must match."""

    def __init__(self, key: bytes) -> None:
        if len(key) != SEAL_KEY_SIZE:
            raise ValueError(f"a sealing key has {SEAL_KEY_SIZE} bytes")
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, data, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Raises ValueError for another key, another context or damaged bytes."""
        try:
            if len(sealed) < _NONCE_SIZE:
                raise InvalidTag
            return self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], context)
        except InvalidTag:
            raise ValueError("sealed under another key, for another purpose, or damaged") from None

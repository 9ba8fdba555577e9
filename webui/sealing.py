"""A passphrase on its way from one form to the next, so that nobody types it twice for a code.

The browser carries it, sealed under a key that only this process has, for this visitor and five minutes.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LIFE_S = 300.0
MAX_SEALED = 2048  # characters
_NONCE = 12


class Sealer:
    """Time is an argument, seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._key = AESGCM(secrets.token_bytes(32))

    def seal(self, text: str, visitor_id: str, now_s: float) -> str:
        """`text`, for a form of this visitor's next page."""
        nonce = secrets.token_bytes(_NONCE)
        plain = struct.pack(">d", now_s + LIFE_S) + text.encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(nonce + self._key.encrypt(nonce, plain, visitor_id.encode())).decode()

    def unseal(self, sealed: str, visitor_id: str, now_s: float) -> str:
        """What was sealed; "" for anything else, another visitor, or where it took too long."""
        if len(sealed) > MAX_SEALED:
            return ""
        try:
            wire = base64.b64decode(sealed, altchars=b"-_", validate=True)
            plain = self._key.decrypt(wire[:_NONCE], wire[_NONCE:], visitor_id.encode())
        except (binascii.Error, ValueError, InvalidTag):
            return ""
        (until_s,) = struct.unpack_from(">d", plain)
        return plain[8:].decode("utf-8", "surrogatepass") if now_s <= until_s else ""

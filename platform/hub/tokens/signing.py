"""The keys that tokens are signed with: a part of the registry, sealed at rest, rotated, published as a JWK set.

ES256 only (P-256, RFC 7518 3.4): the key is made here, never given. A key that was replaced goes on verifying until
the last token it signed is over; then it is forgotten.
"""

from __future__ import annotations

import base64
import logging
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.errors import Invalid
from hub.keys import Unreadable
from hub.registry_items import Change, ChangeKind
from hub.registry_part import Desk
from hub.tokens.verifier import LEEWAY_S, MAX_LIFE_S, VerifyingKey
from hub.users import Statement

MAX_KEYS = 8  # the one that signs and replaced ones that still verify; rotating oftener forgets the oldest
ROTATE_S = 90 * 24 * 3600.0  # age at which a key is replaced when next asked to sign
ALGORITHM = "ES256"

_PURPOSE = "signing key"

log = logging.getLogger("hub.tokens")


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    private: ec.EllipticCurvePrivateKey
    created_s: float
    retired_s: float | None = None

    def __repr__(self) -> str:
        return f"_Key({self.kid!r}, ...)"

    def over(self, now_s: float) -> bool:
        """Whether no token that this key signed can be valid any more."""
        return self.retired_s is not None and now_s > self.retired_s + MAX_LIFE_S + LEEWAY_S


class SigningKeys:
    """Signs tokens and knows the keys to verify them with."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._keys: dict[str, _Key] = {}  # the last one signs

    def load(self, conn: sqlite3.Connection) -> None:
        self._keys = {}
        rows = conn.execute("SELECT kid, private, created_s, retired_s FROM signing_key ORDER BY rowid")
        for kid, sealed, created_s, retired_s in rows:
            try:
                private = _private(self._desk.key.unseal(_PURPOSE, sealed))
            # The server key was made anew: what it signed is void, as are keys and sessions
            except Unreadable:
                log.error("signing key %s cannot be opened: tokens that it signed are void", kid)
                continue
            except ValueError as error:
                raise sqlite3.DatabaseError(f"signing key: {error}") from error
            self._keys[kid] = _Key(kid, private, created_s, retired_s)

    def follow(self, change: Change) -> None:
        """Keys belong to nobody."""

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """A token with these claims, made at `iat`. The first one makes a key, which is written: call it in a thread.

        Raises Invalid where it would live longer than tokens may, RegistryFailed.
        """
        if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFE_S:
            raise Invalid(f"a token lives for at most {MAX_LIFE_S:.0f} s")
        now_s = float(claims["iat"])
        with self._desk.lock:
            key = next(reversed(self._keys.values()), None)
            if key is None or key.retired_s is not None or now_s - key.created_s > ROTATE_S:
                self.rotate(now_s)
                key = next(reversed(self._keys.values()))
        return jwt.encode(dict(claims), key.private, ALGORITHM, headers={"kid": key.kid, "typ": typ})

    def rotate(self, now_s: float, *, void: bool = False) -> str:
        """Sign with a new key from now on; returns its name. Raises RegistryFailed.

        With `void`, because a key may have become known, tokens of the earlier keys are refused at once.
        """
        new = _Key(secrets.token_urlsafe(12), ec.generate_private_key(ec.SECP256R1()), now_s)
        sealed = self._desk.key.seal(_PURPOSE, _bytes(new.private))
        with self._desk.lock:
            retired = [
                _Key(key.kid, key.private, key.created_s, now_s if key.retired_s is None else key.retired_s)
                for key in self._keys.values()
            ]
            kept = [] if void else [key for key in retired if not key.over(now_s)][-(MAX_KEYS - 1) :]
            gone = self._keys.keys() - {key.kid for key in kept}
            statements: list[Statement] = [("DELETE FROM signing_key WHERE kid = ?", (kid,)) for kid in gone]
            statements += [
                ("UPDATE signing_key SET retired_s = ? WHERE kid = ?", (key.retired_s, key.kid))
                for key in kept
            ]
            row = (new.kid, sealed, new.created_s, None)
            statements.append(
                ("INSERT INTO signing_key(kid, private, created_s, retired_s) VALUES (?, ?, ?, ?)", row)
            )
            self._desk.write(statements)
            self._keys = {key.kid: key for key in (*kept, new)}
            if gone:
                self._desk.changed(Change(ChangeKind.REVOKED))
        return new.kid

    def key_of(self, kid: str) -> VerifyingKey | None:
        """The key of this name, to verify with."""
        key = self._keys.get(kid)
        return VerifyingKey(ALGORITHM, key.private.public_key()) if key else None

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517, 5), the one that signs first."""
        return {"keys": [_jwk(key) for key in reversed(self._keys.values())]}


def _jwk(key: _Key) -> dict[str, str]:
    """RFC 7518, 6.2.1: coordinates of 32 bytes each."""
    numbers = key.private.public_key().public_numbers()
    x, y = (
        base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y)
    )
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": key.kid, "use": "sig", "alg": ALGORITHM}


def _bytes(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private(data: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError for anything but a key on P-256."""
    private = serialization.load_der_private_key(data, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError("no key on P-256")
    return private

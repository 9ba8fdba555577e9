"""The one place where a signed token (JWT, RFC 7519) is believed or not.

In: the text as it came, what kind of token is expected, and the time. Out: its claims, or `TokenRefused`. The caller's
text chooses nothing: the key is one of ours by its name, the algorithm is the key's (RFC 8725, 3.1), and headers that
bring or point to keys are refused, as is everything that two readers could understand differently.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from jwt.types import Options

from hub.errors import HubError

MAX_TOKEN = 8 * 1024  # characters; longer ones are not even looked at
MAX_TEXT = 1024  # characters of a claim that names somebody
LEEWAY_S = 60.0  # how far the clock may have been put back or forward since the token was made
MAX_LIFE_S = 24 * 3600.0  # from iat to exp; ours live 600 s, and nothing signed should outlive a day

ACCESS_TOKEN = "at+jwt"  # RFC 9068, 2.1
ID_TOKEN = "JWT"
REQUIRED = ("iss", "aud", "sub", "jti", "iat", "exp")

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_HEADERS = {"alg", "typ", "kid"}


class TokenRefused(HubError):
    """A token that is not believed; `reason` is for our log, since a stranger need not know how close he came."""

    http_status = 401
    mqtt_reason = 0x86  # Bad User Name or Password


class VerifyingKey(NamedTuple):
    """A public key and the one algorithm it is used with."""

    algorithm: str  # "ES256"
    public: EllipticCurvePublicKey


class Claims(NamedTuple):
    """What a token says, after everything that all tokens must say was checked. `rest` are its other claims."""

    iss: str
    aud: str
    sub: str
    jti: str
    iat: float  # UTC seconds
    exp: float  # UTC seconds
    rest: dict[str, Any]

    def text(self, name: str) -> str:
        """A further claim that is a text; "" where it is left out. Raises TokenRefused for anything else."""
        value = self.rest.get(name, "")
        if not isinstance(value, str):
            raise TokenRefused(f"{name} is no text")
        return value


class Verifier:
    """Believes tokens of one issuer. Pure: keys come from `key_of`, the time from the caller."""

    def __init__(self, key_of: Callable[[str], VerifyingKey | None], issuer: Callable[[], str]) -> None:
        """`key_of` gives the key of a name (`kid`), `issuer` the only text that `iss` may have."""
        self._key_of = key_of
        self._issuer = issuer

    def verify(self, token: str, *, typ: str, audience: str, now_s: float) -> Claims:
        """The claims of a token of this type for this audience (RFC 8725, 3). Raises TokenRefused, and nothing else."""
        if len(token) > MAX_TOKEN:
            raise TokenRefused(f"longer than {MAX_TOKEN} characters")
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenRefused("not three parts")
        header, payload, _ = (_decoded(part) for part in parts)
        key = self._key(_object(header), typ)
        claims = _object(payload)
        self._check_signature(token, key, claims)
        return self._claims(claims, audience, now_s)

    def _key(self, header: dict[str, Any], typ: str) -> VerifyingKey:
        if header.keys() != _HEADERS:
            raise TokenRefused("the header has alg, typ and kid, and nothing else")
        name = header["kid"]
        key = self._key_of(name) if isinstance(name, str) else None
        if key is None:
            raise TokenRefused("signed with no key of ours")
        if header["alg"] != key.algorithm:
            raise TokenRefused(f"the key is for {key.algorithm}")
        if header["typ"] != typ:
            raise TokenRefused(f"its type is not {typ}")
        return key

    @staticmethod
    def _check_signature(token: str, key: VerifyingKey, claims: dict[str, Any]) -> None:
        try:
            # PyJWT asks the system's clock, so times and claims are checked here and not there.
            signed = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                options=_SIGNATURE_ONLY,
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(f"the signature is not right: {error}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise TokenRefused(f"unreadable: {error}") from None
        if signed != claims:
            raise TokenRefused("two ways of reading it differ")

    def _claims(self, claims: dict[str, Any], audience: str, now_s: float) -> Claims:
        missing = [name for name in REQUIRED if name not in claims]
        if missing:
            raise TokenRefused(f"without {', '.join(missing)}")
        iss, aud, sub, jti = (_text(claims, name) for name in ("iss", "aud", "sub", "jti"))
        iat, exp = _time(claims, "iat"), _time(claims, "exp")
        if iss != self._issuer():
            raise TokenRefused("of another issuer")
        if aud != audience:
            raise TokenRefused(f"for another audience than {audience}")
        if iat > now_s + LEEWAY_S or ("nbf" in claims and _time(claims, "nbf") > now_s + LEEWAY_S):
            raise TokenRefused("not yet valid")
        if exp <= now_s - LEEWAY_S:
            raise TokenRefused("expired")
        if not 0 < exp - iat <= MAX_LIFE_S:
            raise TokenRefused(f"it says that it lives for other than 0..{MAX_LIFE_S:.0f} s")
        rest = {name: value for name, value in claims.items() if name not in REQUIRED}
        return Claims(iss, aud, sub, jti, iat, exp, rest)


_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _decoded(part: str) -> bytes:
    """base64url without padding (RFC 7515, 2), in its one right form."""
    if not _SEGMENT.fullmatch(part):
        raise TokenRefused("a part is not base64url")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise TokenRefused("a part is not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenRefused("a part has bits that say nothing")
    return data


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object in which no name stands twice (RFC 7515, 4; RFC 7519, 4)."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise TokenRefused("a part is not JSON, or says something twice") from None
    if not isinstance(value, dict):
        raise TokenRefused("a part is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise TokenRefused(f"{name} is no text of 1 to {MAX_TEXT} characters")
    return value


def _time(claims: dict[str, Any], name: str) -> float:
    """NumericDate (RFC 7519, 2), as whole seconds: floats have values that compare with nothing."""
    value = claims[name]
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise TokenRefused(f"{name} is no whole number of seconds")
    return float(value)

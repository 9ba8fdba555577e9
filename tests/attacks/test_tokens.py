"""Signed tokens under attack: hundreds of forgeries for each kind of token, none believed by verifier or door."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hub.tokens.bearer import AUDIENCE
from hub.tokens.scopes import parse
from hub.tokens.verifier import ACCESS_TOKEN, ID_TOKEN, MAX_TOKEN, TokenRefused, Verifier, VerifyingKey
from tests.attacks import forgery
from tests.attacks.forgery import Good, forged

NOW = 1_800_000_000
ISSUER = "urn:fluxgate"
RunSite = Callable[..., None]
KINDS = [
    pytest.param(ACCESS_TOKEN, AUDIENCE, id="access tokens"),
    pytest.param(ID_TOKEN, "app-1", id="identity tokens"),
]


def good(
    typ: str, audience: str, private: ec.EllipticCurvePrivateKey | None = None, kid: str = "key-1"
) -> Good:
    claims = {"iss": ISSUER, "aud": audience, "sub": "users/u1", "jti": "1", "iat": NOW, "exp": NOW + 600}
    claims |= {"scope": "things:read", "grant": "g1", "client_id": "app-1"}
    return Good(
        {"alg": "ES256", "typ": typ, "kid": kid}, claims, private or ec.generate_private_key(ec.SECP256R1())
    )


def verifier_of(one: Good) -> Verifier:
    keys = {one.header["kid"]: VerifyingKey("ES256", one.private.public_key())}
    return Verifier(keys.get, lambda: ISSUER)


@pytest.mark.parametrize(("typ", "audience"), KINDS)
def test_no_forged_token_is_believed(typ: str, audience: str) -> None:
    one = good(typ, audience)
    verifier = verifier_of(one)
    assert verifier.verify(one.token(), typ=typ, audience=audience, now_s=NOW).sub == "users/u1"
    believed, tried = [], 0
    for name, token in forged(one):
        tried += 1
        try:
            verifier.verify(token, typ=typ, audience=audience, now_s=NOW)
        except TokenRefused:
            continue
        believed.append(name)
    assert believed == []
    assert tried >= 200


@pytest.mark.parametrize(("typ", "audience"), KINDS)
def test_a_token_of_one_kind_is_none_of_another(typ: str, audience: str) -> None:
    one = good(typ, audience)
    for other_typ, other_audience in (
        (ACCESS_TOKEN, AUDIENCE),
        (ID_TOKEN, "app-1"),
        (typ, "other"),
        ("", audience),
    ):
        if (other_typ, other_audience) != (typ, audience):
            with pytest.raises(TokenRefused):
                verifier_of(one).verify(one.token(), typ=other_typ, audience=other_audience, now_s=NOW)


def test_a_key_for_another_algorithm_is_never_used_with_what_the_token_says() -> None:
    one = good(ACCESS_TOKEN, AUDIENCE)
    for algorithm in ("HS256", "none", "RS256", "ES384", ""):
        keys = {"key-1": VerifyingKey(algorithm, one.private.public_key())}
        with pytest.raises(TokenRefused):
            Verifier(keys.get, lambda: ISSUER).verify(
                one.token(), typ=ACCESS_TOKEN, audience=AUDIENCE, now_s=NOW
            )


def test_the_times_of_a_token_hold_to_the_second_with_a_minute_for_a_clock_that_was_set() -> None:
    one = good(ACCESS_TOKEN, AUDIENCE)
    verifier = verifier_of(one)

    def believed(now_s: float) -> bool:
        try:
            verifier.verify(one.token(), typ=ACCESS_TOKEN, audience=AUDIENCE, now_s=now_s)
        except TokenRefused:
            return False
        return True

    # A clock that starts in 1970, as without RTC, believes nothing; neither does one that is years ahead.
    found = [believed(NOW + after) for after in (-NOW, -61, -60, 0, 600, 659, 660, 10**9)]
    assert found == [False, False, True, True, True, True, False, False]


def test_the_largest_token_is_believed_and_one_character_more_is_not_looked_at() -> None:
    one = good(ACCESS_TOKEN, AUDIENCE)
    sizes = {
        len(token): token
        for n in range(5700, 6100)
        if (token := one.token(claims=one.with_claims(x="a" * n)))
    }
    fitting, beyond = (
        max(size for size in sizes if size <= MAX_TOKEN),
        min(size for size in sizes if size > MAX_TOKEN),
    )
    assert verifier_of(one).verify(sizes[fitting], typ=ACCESS_TOKEN, audience=AUDIENCE, now_s=NOW)
    with pytest.raises(TokenRefused, match="longer than"):
        verifier_of(one).verify(sizes[beyond], typ=ACCESS_TOKEN, audience=AUDIENCE, now_s=NOW)


# Negative control: a verifier that trusts what the token says of itself believes each family of forgeries.


def trusting(token: str, one: Good) -> bool:
    """What a careless reader does: the header chooses key and algorithm, and the claims are not looked at."""
    try:
        signed, _, last = token.rpartition(".")
        header = json.loads(base64.urlsafe_b64decode(signed.partition(".")[0] + "=="))
        signature = base64.urlsafe_b64decode(last + "==")
        algorithm = str(header.get("alg", "none"))
        if algorithm.lower() == "none":
            return True
        public = one.private.public_key()
        if algorithm in forgery.HASHES:
            secrets = forgery.public_forms(one).values()
            digest = forgery.HASHES[algorithm]
            return any(hmac.digest(secret, signed.encode(), digest) == signature for secret in secrets)
        if "jwk" in header:
            x, y = (
                int.from_bytes(base64.urlsafe_b64decode(header["jwk"][name] + "=="), "big") for name in "xy"
            )
            public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        der = encode_dss_signature(
            int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        )
        public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature, RecursionError):
        return False
    return True


@pytest.mark.parametrize(
    "family",
    [
        forgery.without_algorithm,
        forgery.with_the_public_key_as_secret,
        forgery.with_keys_of_their_own,
        forgery.with_headers_that_nobody_knows,
        forgery.of_other_types,
        forgery.with_claims_that_are_wrong,
        forgery.at_other_times,
        forgery.that_say_things_twice,
    ],
    ids=lambda family: family.__name__,
)
def test_a_trusting_verifier_believes_some_of_each_family(
    family: Callable[[Good], Iterator[tuple[str, str]]],
) -> None:
    one = good(ACCESS_TOKEN, AUDIENCE)
    assert any(trusting(token, one) for _, token in family(one))


# The doors


def test_no_door_lets_a_forged_token_in_and_each_is_audited_once(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        hub = s.hub
        now = int(hub.now_s())
        user_id = s.owner.user.id
        grant, _ = hub.registry.grants.add(
            "user", user_id, name="app", scopes=parse("things:read messages:read"), now_s=now, kind="oauth"
        )
        claims = {
            "iss": hub.bearers.issuer,
            "aud": AUDIENCE,
            "sub": f"users/{user_id}",
            "jti": "1",
            "iat": now,
        }
        claims |= {"exp": now + 600, "grant": grant.id, "scope": str(grant.scopes), "client_id": "app"}
        right = await asyncio.to_thread(hub.registry.signing.sign, claims, ACCESS_TOKEN)
        kid, key = next(reversed(hub.registry.signing._keys.items()))
        one = Good({"alg": "ES256", "typ": ACCESS_TOKEN, "kid": kid}, claims, key.private)
        for token in (right, one.token()):
            async with s.accepted():
                headers = {"authorization": f"Bearer {token}"}
                assert (await s.client.get("/things", headers=headers)).status_code == 200
        chosen = {
            name: token for name, token in forged(one) if token.isascii() and token.isprintable() and token
        }
        picked = [
            *list(chosen)[::45],
            "signature none",
            "alg 'none', signature stripped",
            "HS256 with the PEM",
        ]
        assert len(picked) > 12
        for name in picked:
            headers = {"authorization": f"Bearer {chosen[name][:20_000]}"}
            async with s.refused_once("access"):
                answer = await s.client.get("/things", headers=headers)
            assert answer.status_code in (401, 431), name

    site(scenario)

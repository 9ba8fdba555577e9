"""What shows who somebody is: tokens, keys, certificates, and the forms that they are asked for with."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_from_bytes

import jwt
from authlib.oauth2.rfc6749 import OAuth2Error
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from hub.applications import Wanted
from hub.authority import profile
from hub.authority.doorkeeper import Doorkeeper
from hub.authority.generations import authorities_of
from hub.authority.judge import Clock, judge
from hub.authority.requests import public_key_of
from hub.errors import Invalid
from hub.oauth.parameters import Malformed, check_authorization, read
from hub.oauth.uris import checked_uri, matches
from hub.tokens.scopes import checked
from hub.tokens.verifier import ACCESS_TOKEN, TokenRefused, Verifier, VerifyingKey

from .fuzz import Opener, Target, plain
from .fuzz_strangers import NOW_S
from .fuzz_world import World, opened_world

URI = "https://app.example.org/cb"


# Tokens


class Tokens:
    """A token as it stands, or its header and claims (in lines of their own), signed with the right key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        known = VerifyingKey("ES256", self._key.public_key())
        self._verifier = Verifier(lambda name: known if name == "k" else None, lambda: "urn:fluxgate")
        header = {"alg": "ES256", "typ": ACCESS_TOKEN, "kid": "k"}
        claims = {
            "iss": "urn:fluxgate",
            "aud": "fluxgate",
            "sub": "users/1",
            "jti": "j",
            "grant": "g",
            "scope": "a:read",
            "iat": int(NOW_S),
            "exp": int(NOW_S) + 600,
        }
        self.seeds = [
            jwt.encode(claims, self._key, "ES256", headers=header).encode(),
            json.dumps(header).encode() + b"\n" + json.dumps(claims).encode(),
        ]

    def __call__(self, data: bytes) -> None:
        head, line, body = data.partition(b"\n")
        if line:
            signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, body))
            signature = self._key_sign(signed)
            data = signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
        text = data.decode("utf-8", "replace")
        found = self._verifier.verify(text, typ=ACCESS_TOKEN, audience="fluxgate", now_s=NOW_S)
        for name in ("grant", "scope"):
            found.text(name)
        assert found.iss == "urn:fluxgate"
        assert found.exp > NOW_S - 60

    def _key_sign(self, signed: bytes) -> bytes:
        return jwt.get_algorithm_by_name("ES256").sign(signed, self._key)


TOKEN_WORDS = (
    *(
        b'"alg":"none"',
        b'"crit":["exp"]',
        b'"jku":"http://a"',
        b'"kid":"k"',
        b"null",
        b"1e999",
        b"NaN",
        b"[" * 99,
    ),
    *(b'"exp":1800000600.5', b'"aud":["fluxgate"]', b"\\ud800", b'"iss":"urn:fluxgate",', b".", b"..", b"="),
)


@contextmanager
def bearers() -> Iterator[Target]:
    """Whatever stands behind `Bearer`, at the hub: API keys, sessions, access tokens."""
    with opened_world() as world:
        hub = world.hub
        user = hub.registry.users()[0] if callable(hub.registry.users) else hub.registry.users[0]
        _, key = hub.registry.grants.add(
            "user", user.id, name="k", scopes=checked(["things:read"]), now_s=hub.now_s()
        )

        def feed(data: bytes) -> bool:
            return hub.authenticate_bearer(data.decode("latin-1"), hub.now_s()) is not None

        yield Target(
            [key.encode(), world.token.encode()], feed, (key[:8].encode(), b".", b"\xff", b"\0"), _rest(world)
        )


# Certificates


def request_for_certificate(data: bytes) -> None:
    """PEM as it stands, or DER that is put into PEM."""
    public_key_of(
        data.decode("latin-1") if data.startswith(b"-") else _pem(data, "CERTIFICATE REQUEST").decode()
    )


def _pem(der: bytes, what: str) -> bytes:
    return f"-----BEGIN {what}-----\n{base64.encodebytes(der).decode()}-----END {what}-----\n".encode()


def request_seeds() -> list[bytes]:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "thing")])
    made = x509.CertificateSigningRequestBuilder(name).sign(profile.new_key(), SHA256())
    return [made.public_bytes(Encoding.PEM), made.public_bytes(Encoding.DER)]


DER_WORDS = (
    *(
        b"\x30\x80",
        b"\x02\x01\x00",
        b"\x02\x01\xff",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x06\x03\x55\x04\x03",
        b"\x05\x00",
    ),
    *(
        b"\x17\x0d991301000000Z",
        b"\x18\x0f99991231235959Z",
        b"\x0c\x01\xff",
        b"\x06\x03\x55\x1d\x11",
        b"\x1e\x02\xd8\x00",
    ),
)


@contextmanager
def certificates() -> Iterator[Target]:
    """A client certificate that a trusted proxy passes on: DER, put into PEM and escaped as nginx does it."""
    with opened_world() as world:
        registry = world.hub.registry
        made = [
            registry.certificates.issue(world.thing, NOW_S, "users/1").certificate.encoded for _ in range(2)
        ]
        root, clock = profile.der(profile.make_root("foreign", (), NOW_S).certificate), Clock(NOW_S, True)
        keeper = Doorkeeper(world.hub, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "http")

        def feed(data: bytes) -> bool:
            escaped = (
                data.decode("latin-1") if data[:1] == b"-" else quote_from_bytes(_pem(data, "CERTIFICATE"))
            )
            asyncio._set_running_loop(world.loop)  # first uses are noted by a task
            try:
                shown = keeper.passed_on(escaped, "192.0.2.1")
            finally:
                asyncio._set_running_loop(None)
            assert shown.refusal or data in made, "a certificate that was not made here is believed"
            # As one of a foreign authority, which OpenSSL has verified: it may hold whatever that has signed.
            foreign = judge([data, root], registry.authority, registry.certificates, clock, {root})
            with contextlib.suppress(Invalid):
                authorities_of(_pem(data, "CERTIFICATE").decode())
            return not (shown.refusal and foreign.refusal)

        yield Target(made, feed, DER_WORDS, _rest(world))


# OAuth


@contextmanager
def oauth() -> Iterator[Target]:
    """Forms and queries: the first byte says of which endpoint."""
    with opened_world() as world:
        oauth = world.hub.oauth
        wanted = Wanted("app", scopes=("things:read", "openid"), redirect_uris=(URI,))
        made, secret = oauth.applications.create(wanted, NOW_S)
        who = f"client_id={made.id}&client_secret={secret}".encode()
        basic = "Basic " + base64.b64encode(f"{made.id}:{secret}".encode()).decode()
        ask = (
            b"response_type=code&client_id="
            + made.id.encode()
            + b"&redirect_uri=https%3A%2F%2Fapp.example.org%2Fcb"
        )
        ask += (
            b"&scope=openid+things:read&state=s&code_challenge=" + b"A" * 43 + b"&code_challenge_method=S256"
        )
        seeds = [
            b"i" + b"token=x&" + who,
            b"r" + b"token=x&token_type_hint=refresh_token&" + who,
            b"I" + b"token=x",
            b"a" + ask,
            b"u" + URI.encode(),
        ]
        user = world.hub.registry.user_by_token(world.token, world.hub.now_s())

        def feed(data: bytes) -> bool:
            kind, form = data[:1], data[1:]
            try:
                if kind == b"a":
                    check_authorization(read(form))
                    oauth.look(form, user, NOW_S, NOW_S)
                    return True
                if kind == b"u":
                    text = form.decode("latin-1")
                    matches(text, (URI, "http://127.0.0.1/cb"), public=True)
                    return bool(checked_uri(text, public=True))
            except (OAuth2Error, Malformed, Invalid):
                return False
            endpoint = {b"i": oauth.introspect, b"I": oauth.introspect, b"r": oauth.revoke}.get(
                kind, oauth.token
            )
            answer = endpoint(form, basic if kind == b"I" else "", NOW_S)
            assert answer.status in (200, 400, 401), answer
            return bool(answer.status == 200)

        words = (
            *(
                b"&grant_type=client_credentials",
                b"&grant_type=authorization_code&code=",
                b"&grant_type=refresh_token",
            ),
            *(
                b"&scope=",
                b"%00",
                b"%ff",
                b"&&",
                b"=",
                b"&redirect_uri=http://127.0.0.1:1/cb",
                b"&prompt=none",
                who,
            ),
            *(
                b"&max_age=1",
                b"&request=",
                b"&client_id=x",
                b"#",
                b"com.example.app:/cb",
                b"\xc3\xa9",
                b"t" + who,
            ),
        )
        yield Target(seeds, feed, words, _rest(world))


def _rest(world: World) -> Any:
    """After each batch: what was put off on the loop, and that nothing went wrong there."""

    def settle() -> None:
        world.loop.run_until_complete(world.durable())
        found = world.found()
        assert not found, found

    return settle


_tokens = Tokens()
CREDENTIALS: dict[str, Opener] = {
    "jwt": plain(_tokens.seeds, _tokens, TokenRefused, TOKEN_WORDS),
    "bearer": bearers,
    "csr": plain(request_seeds(), request_for_certificate, Invalid, DER_WORDS),
    "certificate": certificates,
    "oauth": oauth,
}

"""Tokens that must not be believed, made by hand: bytes are put together here and not by a library that is careful.

`forged` gives some hundreds of named texts for one good token, each a known attack or a damaged token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2, 2.4.2
NONES = ("none", "None", "NONE", "nOnE", "noNe", "none ", " none", "none\0", "", "null", "n\u03bfne")
HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def sign(private: ec.EllipticCurvePrivateKey, signed: str) -> bytes:
    """ES256 (RFC 7518, 3.4): r and s, 32 bytes each."""
    r, s = decode_dss_signature(private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass
class Good:
    """A token that is believed, and the key it was signed with, as only a test can have it."""

    header: Json
    claims: Json
    private: ec.EllipticCurvePrivateKey

    def token(self, header: Any = None, claims: Any = None, signature: bytes | None = None) -> str:
        """The token with another header, other claims or another signature; signed with the right key otherwise."""
        signed = self.unsigned(header, claims)
        return f"{signed}.{b64(sign(self.private, signed) if signature is None else signature)}"

    def unsigned(self, header: Any = None, claims: Any = None) -> str:
        chosen = (self.header if header is None else header), (self.claims if claims is None else claims)
        return ".".join(b64(text(each)) for each in chosen)

    def with_header(self, **changes: Any) -> Json:
        return {name: value for name, value in {**self.header, **changes}.items() if value is not ...}

    def with_claims(self, **changes: Any) -> Json:
        return {name: value for name, value in {**self.claims, **changes}.items() if value is not ...}


def forged(good: Good, seed: int = 6) -> Iterator[tuple[str, str]]:
    """(name, token) pairs, none of which may be believed."""
    yield from without_algorithm(good)
    yield from with_the_public_key_as_secret(good)
    yield from with_other_algorithms(good)
    yield from with_keys_of_their_own(good)
    yield from with_headers_that_nobody_knows(good)
    yield from of_other_types(good)
    yield from with_claims_that_are_wrong(good)
    yield from at_other_times(good)
    yield from that_say_things_twice(good)
    yield from with_bad_signatures(good, random.Random(seed))
    yield from that_are_damaged(good, random.Random(seed + 1))
    yield from that_are_too_large(good)


def without_algorithm(good: Good) -> Iterator[tuple[str, str]]:
    for name in (*NONES, None, ..., 0, [], {}, False):
        header = good.with_header(alg=name)
        for kind, signature in (("stripped", b""), ("kept", None), ("made up", b"\1" * 64)):
            yield f"alg {name!r}, signature {kind}", good.token(header, signature=signature)


def public_forms(good: Good) -> dict[str, bytes]:
    """Everything public about the key that somebody may offer as a shared secret."""
    public = good.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    numbers = public.public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    return {
        "PEM": pem,
        "PEM without its last newline": pem.rstrip(),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PEM's base64": b"".join(pem.split(b"\n")[1:-2]),
        "DER": der,
        "uncompressed point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "compressed point": public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        "JWK": text(jwk),
        "JWK with spaces": json.dumps(jwk).encode(),
        "x coordinate": x.encode(),
        "kid": str(good.header["kid"]).encode(),
        "nothing": b"",
        "a zero byte": b"\0",
    }


def with_the_public_key_as_secret(good: Good) -> Iterator[tuple[str, str]]:
    for algorithm, digest in HASHES.items():
        for form, secret in public_forms(good).items():
            signed = good.unsigned(good.with_header(alg=algorithm))
            mac = hmac.digest(secret, signed.encode(), digest)
            yield f"{algorithm} with the {form}", f"{signed}.{b64(mac)}"
            kept = good.unsigned()  # says ES256 and is signed otherwise
            yield (
                f"ES256 that is {algorithm} with the {form}",
                f"{kept}.{b64(hmac.digest(secret, kept.encode(), digest))}",
            )


def with_other_algorithms(good: Good) -> Iterator[tuple[str, str]]:
    others = (
        "ES384",
        "ES512",
        "ES256K",
        "RS256",
        "PS256",
        "EdDSA",
        "es256",
        "ES256 ",
        "ES256\0",
        ["ES256"],
        256,
        "A128KW",
    )
    for name in others:
        yield f"alg {name!r} with the right signature", good.token(good.with_header(alg=name))


def with_keys_of_their_own(good: Good) -> Iterator[tuple[str, str]]:
    """Signed with another key, which the header brings or points to (RFC 7515, 4.1)."""
    mine = ec.generate_private_key(ec.SECP256R1())
    numbers = mine.public_key().public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256"}
    der = base64.b64encode(
        mine.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    brought: dict[str, Json] = {
        "nothing": {},
        "jwk": {"jwk": jwk},
        "jwk of ours by name": {"jwk": {**jwk, "kid": good.header["kid"]}},
        "jku": {"jku": "https://attacker.example/jwks.json"},
        "jku at home": {"jku": "http://127.0.0.1/oauth/jwks"},
        "jku of a file": {"jku": "file:///dev/null"},
        "x5u": {"x5u": "https://attacker.example/chain.pem"},
        "x5c": {"x5c": [der]},
        "x5t": {"x5t": b64(hashlib.sha256(der.encode()).digest())},
    }
    for name, more in brought.items():
        for kid in (good.header["kid"], "mine"):
            header = good.with_header(kid=kid, **more)
            signed = good.unsigned(header)
            yield f"another key, with {name}, as {kid == 'mine'}", f"{signed}.{b64(sign(mine, signed))}"
    kids = (
        "../../../../dev/null",
        "/dev/null",
        "' UNION SELECT 'x",
        "https://attacker.example/k",
        "",
        "0",
        "*",
        "%00",
        "kid\0",
    )
    for kid in (*kids, None, ..., 0, True, [good.header["kid"]], {"kid": good.header["kid"]}, "a" * 5000):
        header = good.with_header(kid=kid)
        signed = good.unsigned(header)
        yield f"kid {str(kid)[:30]!r}, another key", f"{signed}.{b64(sign(mine, signed))}"
        yield f"kid {str(kid)[:30]!r}, the right key", good.token(header)
        for secret in (b"", b"\0"):
            guess = good.unsigned(good.with_header(kid=kid, alg="HS256"))
            yield (
                f"kid {str(kid)[:30]!r}, {secret!r}",
                f"{guess}.{b64(hmac.digest(secret, guess.encode(), 'sha256'))}",
            )


def with_headers_that_nobody_knows(good: Good) -> Iterator[tuple[str, str]]:
    """Signed with the right key: a header that a reader may or may not heed makes two readers of one token."""
    for more in (
        *({"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"zip": "DEF"}),
        *(
            {"cty": "JWT"},
            {"enc": "A128GCM"},
            {"jku": "https://a.example"},
            {"jwk": {}},
            {"x5u": ""},
            {"x5c": []},
        ),
        *({"exp": 9}, {"": ""}, {"ALG": "none"}, {"Alg": "none"}, {"p2c": 10**9}, {"apu": ""}, {"url": "x"}),
    ):
        yield f"the right key, and {more}", good.token(good.with_header(**more))
    for name in good.header:
        yield f"without {name}", good.token(good.with_header(**{name: ...}))


def of_other_types(good: Good) -> Iterator[tuple[str, str]]:
    kind = str(good.header["typ"])
    for other in (
        *(
            None,
            "",
            "JOSE",
            "rt+jwt",
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
            kind.swapcase(),
            f"application/{kind}",
        ),
        *(
            f"{kind} ",
            f" {kind}",
            [kind],
            {"typ": kind},
            1,
            True,
            f"{kind}\0",
            "JWT" if kind != "JWT" else "at+jwt",
        ),
    ):
        yield f"typ {other!r}", good.token(good.with_header(typ=other))


def with_claims_that_are_wrong(good: Good) -> Iterator[tuple[str, str]]:
    for name in ("iss", "aud", "sub", "jti", "iat", "exp"):
        yield f"without {name}", good.token(claims=good.with_claims(**{name: ...}))
        right = good.claims[name]
        for wrong in (None, True, [], {}, [right], {"value": right}, "", -1, 0.5, "9" * 5000):
            yield f"{name} is {str(wrong)[:40]!r}", good.token(claims=good.with_claims(**{name: wrong}))
    for name in ("iss", "aud"):
        right = str(good.claims[name])
        for wrong in (
            *(
                right[:-1],
                right + "x",
                right + "/",
                right + " ",
                " " + right,
                right.upper(),
                right + "\0",
                right + "\n",
            ),
            *([right, "other"], ["other", right], f"{right},other", f"https://{right}", "*", "other"),
        ):
            yield f"{name} is {wrong!r}", good.token(claims=good.with_claims(**{name: wrong}))
    for claims in (
        [],
        "text",
        1,
        None,
        [good.claims],
        b"",
        b"{",
        b"{}x",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + text(good.claims),
    ):
        yield f"claims are {str(claims)[:30]!r}", good.token(claims=claims if claims is not None else b"null")


def at_other_times(good: Good) -> Iterator[tuple[str, str]]:
    iat, exp = good.claims["iat"], good.claims["exp"]
    for name, changes in {
        "long expired": {"iat": iat - 10**6, "exp": exp - 10**6},
        "just expired": {"iat": iat - 700, "exp": iat - 61},
        "not yet": {"iat": iat + 61, "exp": exp + 61},
        "far from now": {"iat": iat + 10**9, "exp": exp + 10**9},
        "nbf to come": {"nbf": iat + 61},
        "nbf a text": {"nbf": str(iat)},
        "ends before it begins": {"exp": iat - 1},
        "no time at all": {"exp": iat},
        "for ever": {"exp": 2**40 - 1},
        "a day and a second": {"exp": iat + 86_401},
        "long ago for long": {"iat": 0},
        "exp a text": {"exp": str(exp)},
        "exp a fraction": {"exp": exp + 0.5},
        "exp as a float": {"exp": float(exp)},
        "exp huge": {"exp": 10**300},
        "exp of many digits": {"exp": 10**4200},
        "iat a text": {"iat": str(iat)},
        "iat below nothing": {"iat": -iat},
    }.items():
        yield name, good.token(claims=good.with_claims(**changes))
    for number in ("Infinity", "-Infinity", "NaN", "1e999", "1e400"):
        claims = text(good.claims).replace(f'"exp":{exp}'.encode(), f'"exp":{number}'.encode())
        yield f"exp is {number}", good.token(claims=claims)


def that_say_things_twice(good: Good) -> Iterator[tuple[str, str]]:
    """Readers differ on which of two holds (RFC 8725, 2.4 and 3.12; RFC 7519, 4)."""
    for name in good.header:
        for value in (good.header[name], "none"):
            pair = text({name: value})[1:-1]
            for header in (
                b"{" + pair + b"," + text(good.header)[1:],
                text(good.header)[:-1] + b"," + pair + b"}",
            ):
                yield f"header says {name} twice, {value!r}", good.token(header)
    for name in good.claims:
        for value in (good.claims[name], "users/somebody-else"):
            pair = text({name: value})[1:-1]
            for claims in (
                b"{" + pair + b"," + text(good.claims)[1:],
                text(good.claims)[:-1] + b"," + pair + b"}",
            ):
                yield f"claims say {name} twice, {value!r}", good.token(claims=claims)
    yield "twice in a nested object", good.token(claims=text(good.claims)[:-1] + b',"x":{"a":1,"a":2}}')
    escaped = text(good.claims)[:-1] + b',"\\u0073ub":"users/somebody-else"}'
    yield "twice, once escaped", good.token(claims=escaped)


def with_bad_signatures(good: Good, chance: random.Random) -> Iterator[tuple[str, str]]:
    signed = good.unsigned()
    right = sign(good.private, signed)
    order = P256_ORDER.to_bytes(32, "big")
    der = good.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    sha384 = good.private.sign(signed.encode(), ec.ECDSA(hashes.SHA384()))
    r384, s384 = decode_dss_signature(sha384)
    one = (1).to_bytes(32, "big")
    for name, signature in {
        "none": b"",
        "r and s are 0": bytes(64),
        "r is 0": bytes(32) + right[32:],
        "s is 0": right[:32] + bytes(32),
        "r and s are 1": one + one,
        "r and s are the order": order + order,
        "r is the order": order + right[32:],
        "all ones": b"\xff" * 64,
        "r and s change places": right[32:] + right[:32],
        "in DER": der,
        "another hash": r384.to_bytes(32, "big") + s384.to_bytes(32, "big"),
        "twice": right + right,
        "longer": right + b"\0",
        "zeros before": bytes(2) + right,
        "half": right[:32],
        "shorter": right[:-1],
        "of other claims": sign(good.private, good.unsigned(claims=good.with_claims(jti="2"))),
        "of the claims alone": sign(good.private, signed.partition(".")[2]),
    }.items():
        yield f"signature {name}", f"{signed}.{b64(signature)}"
    for _ in range(40):
        flipped = bytearray(right)
        flipped[chance.randrange(64)] ^= 1 << chance.randrange(8)
        yield "a flipped bit in the signature", f"{signed}.{b64(bytes(flipped))}"


def that_are_damaged(good: Good, chance: random.Random) -> Iterator[tuple[str, str]]:
    token = good.token()
    header, claims, signature = token.split(".")
    for end in sorted({*range(0, len(token), max(1, len(token) // 30)), len(token) - 1}):
        yield f"cut after {end}", token[:end]
    for name, parts in {
        "two parts": (header, claims),
        "four parts": (header, claims, signature, ""),
        "five parts, as encrypted ones have": (header, "", "", claims, signature),
        "no header": ("", claims, signature),
        "no claims": (header, "", signature),
        "claims and header change places": (claims, header, signature),
        "a dot at the end": (header, claims, signature, ""),
        "padded": (header + "=", claims, signature),
        "padded twice": (header, claims + "==", signature),
    }.items():
        yield name, ".".join(parts)
    for before, after in (
        (" ", ""),
        ("", " "),
        ("", "\n"),
        ("\t", ""),
        ("", "\0"),
        ("\ufeff", ""),
        ("Bearer ", ""),
    ):
        yield f"within {before!r} and {after!r}", before + token + after
    for old, new in ((".", "\u3002"), (".", "\uff0e"), (".", " ."), ("-", "+"), ("_", "/")):
        other = token.replace(old, new)
        if other != token:
            yield f"{new!r} for {old!r}", other
    whole = {"payload": claims, "protected": header, "signature": signature}
    yield "the JSON form", json.dumps(whole)
    yield "the general JSON form", json.dumps({"payload": claims, "signatures": [whole]})
    for _ in range(60):
        at = chance.randrange(len(token))
        other = token[:at] + chance.choice("ABCxyz019-_.~ \0é") + token[at + 1 :]
        if other != token:
            yield f"another character at {at}", other
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = last.index(token[-1])
    for step in (1, 2, 3):  # the last character of 64 bytes has four bits that say nothing
        yield "bits that say nothing", token[:-1] + last[place & ~0xF | (place + step) & 0xF]


def that_are_too_large(good: Good) -> Iterator[tuple[str, str]]:
    yield "a claim of 8 KB", good.token(claims=good.with_claims(x="a" * 8192))
    yield "a claim of 1 MB", good.token(claims=good.with_claims(x="a" * 1_000_000))
    yield "a subject of 5 KB", good.token(claims=good.with_claims(sub="users/" + "a" * 5000))
    yield "20 MB of nothing", "a" * 20_000_000
    yield "20 MB of dots", "." * 20_000_000
    yield "deep lists", good.token(claims=b'{"x":' + b"[" * 2500 + b"]" * 2500 + b"}")
    yield "deep objects", good.token(claims=b'{"x":' + b'{"a":' * 1100 + b"1" + b"}" * 1101)
    yield (
        "a number of 5,000 digits",
        good.token(claims=text(good.claims)[:-1] + b',"x":' + b"9" * 5000 + b"}"),
    )

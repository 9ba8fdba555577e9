"""The parameters of a request, read strictly before anything is made of them. Pure.

In: a query or a form as it came. Out: names and values, each once (RFC 6749, 3.1 and 3.2), or `Malformed`. What follows
here needs nothing but the text: lengths, alphabets, and what RFC 9700 and OpenID Connect rule out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error

from hub.errors import HubError

MAX_TEXT = 16 * 1024  # bytes of a query or form
MAX_PARAMETERS = 64
MAX_VALUE = 4096  # characters
MAX_STATE = 2048
MAX_NONCE = 512

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url: nothing else is S256
_VISIBLE = re.compile(r"[\x20-\x7e]*")  # VSCHAR, RFC 6749 appendix A
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})


class Malformed(HubError):
    """A request that is not even worth an answer by redirect."""

    http_status = 400


class UnsupportedRequest(OAuth2Error):
    """OpenID Connect Core, 6: requests inside a JWT. `error` is request_not_supported or request_uri_not_supported."""


def read(text: bytes) -> dict[str, str]:
    """Names and values of a query or form in application/x-www-form-urlencoded; empty values count as left out.

    Raises Malformed: too long, no UTF-8, or a name twice.
    """
    if len(text) > MAX_TEXT:
        raise Malformed(f"longer than {MAX_TEXT} bytes")
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise Malformed(
            "the parameters cannot be read: send application/x-www-form-urlencoded in UTF-8"
        ) from None
    return once(pairs)


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping. Raises Malformed where a name stands twice or a value is too long."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Malformed("a parameter stands twice")
        if len(name) > 64 or len(value) > MAX_VALUE:
            raise Malformed(f"a parameter is longer than {MAX_VALUE} characters")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def check_authorization(given: Mapping[str, str]) -> None:
    """What an authorization request must keep to, whoever asks. Raises OAuth2Error."""
    if len(given.get("state", "")) > MAX_STATE or not _VISIBLE.fullmatch(given.get("state", "")):
        raise InvalidRequestError(f"state has at most {MAX_STATE} visible characters")
    if given.get("response_type") != "code":
        if "response_type" not in given:
            raise InvalidRequestError("response_type is missing: it is code")
        raise OAuth2Error("the one response_type is code", error="unsupported_response_type")
    for name in ("request", "request_uri", "registration"):
        if name in given:
            raise OAuth2Error("send each parameter for itself", error=f"{name}_not_supported")
    if given.get("response_mode", "query") != "query":
        raise InvalidRequestError("the one response_mode is query")
    check_challenge(given)
    check_scope(given)
    if len(given.get("nonce", "")) > MAX_NONCE or not _VISIBLE.fullmatch(given.get("nonce", "")):
        raise InvalidRequestError(f"nonce has at most {MAX_NONCE} visible characters")
    prompts = given.get("prompt", "").split(" ") if given.get("prompt") else []
    if not _PROMPTS.issuperset(prompts) or ("none" in prompts and len(prompts) > 1):
        raise InvalidRequestError("prompt is none, or some of login, consent, select_account")
    max_age(given)


def check_challenge(given: Mapping[str, str]) -> None:
    """PKCE with S256 is demanded of everybody (RFC 9700, 2.1.1). Left out, the method would mean plain."""
    if "code_challenge" not in given:
        raise InvalidRequestError("PKCE is needed: code_challenge and code_challenge_method=S256")
    if given.get("code_challenge_method") != "S256":
        raise InvalidRequestError("the one code_challenge_method is S256")
    if not _CHALLENGE.fullmatch(given["code_challenge"]):
        raise InvalidRequestError("code_challenge is the SHA-256 of the verifier in base64url: 43 characters")


def check_scope(given: Mapping[str, str]) -> None:
    """The form of `scope` (RFC 6749, 3.3). Raises OAuth2Error."""
    if "scope" in given and not _SCOPE.fullmatch(given["scope"]):
        raise OAuth2Error("scopes stand in one line, with one space between two", error="invalid_scope")


def max_age(given: Mapping[str, str]) -> float | None:
    """Seconds since the person signed in, at most; None where it does not matter. Raises OAuth2Error."""
    text = given.get("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidRequestError("max_age is a number of seconds")
    return float(text)

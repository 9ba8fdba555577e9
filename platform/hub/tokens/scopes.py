"""Scopes: what a key or token is good for, beside what its owner may do himself.

A scope is `<noun>:<verb>` or, for one object, `<noun>:<verb>:<id>`. The verbs are `read` and `write`, and neither
includes the other. What a grant may is always the lesser of its scopes and its owner's rights.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from hub.errors import Invalid

MAX_SCOPES = 64  # of one grant
MAX_TEXT = 4096  # characters of all of them in one text

READ, WRITE = VERBS = ("read", "write")
NOUNS = (
    "messages",
    "things",
    "channels",
    "groups",
    "users",
    "policies",
    "keys",
    "certs",
    "applications",
    "audit",
    "gateway",  # all requests of the gateway's own: /lorawan, /radio, /codecs and so on
    "proxy",  # other services that a reverse proxy guards with our accounts; the id is their host
    "account",  # one's own password, second factor, sessions and consents; no API key has it
)
# OpenID Connect Core, 5.4 and 11: about the token itself, nothing of the gateway.
OPENID = frozenset({"openid", "profile", "email", "offline_access"})

_SCOPE = re.compile(r"(?P<noun>[a-z]{1,32}):(?P<verb>[a-z]{1,32})(?::(?P<id>[\w.-]{1,64}))?", re.ASCII)


class ScopeError(Invalid):
    """A text that names no scope, or more than are allowed."""


class Scope(NamedTuple):
    """One scope; `id` is "" for all objects of the noun."""

    noun: str
    verb: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.noun}:{self.verb}:{self.id}" if self.id else f"{self.noun}:{self.verb}"


class Scopes(frozenset[str]):
    """A set of scopes that are known to be well-formed: made by `parse`, `checked` or `EVERYTHING`."""

    __slots__ = ()

    def allows(self, noun: str, verb: str, id: str = "") -> bool:  # noqa: A002
        """Whether they cover the object `id`, or without one all of the noun."""
        return f"{noun}:{verb}" in self or (id != "" and f"{noun}:{verb}:{id}" in self)

    def cover(self, other: Iterable[str]) -> bool:
        """Whether every scope of `other` is allowed by these."""
        return not self.missing(other)

    def missing(self, other: Iterable[str]) -> list[str]:
        """Those of `other` that these do not allow, sorted."""
        return sorted(text for text in other if text not in self and text.rpartition(":")[0] not in self)

    def reaches(self, noun: str) -> bool:
        """Whether there is any scope of the noun at all."""
        return any(text.startswith(f"{noun}:") for text in self)

    def __str__(self) -> str:
        """As OAuth writes them (RFC 6749, 3.3)."""
        return " ".join(sorted(self))


def checked(texts: Iterable[str]) -> Scopes:
    """Scopes one by one. Raises ScopeError."""
    found = set()
    for text in texts:
        if text not in OPENID:
            _check(text)
        found.add(text)
        if len(found) > MAX_SCOPES:
            raise ScopeError(f"at most {MAX_SCOPES} scopes")
    return Scopes(found)


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Scopes:
    """Scopes separated by spaces (RFC 6749, 3.3). Raises ScopeError."""
    if len(text) > MAX_TEXT:
        raise ScopeError(f"scopes have at most {MAX_TEXT} characters")
    return checked(text.split(" ") if text else ())


@functools.lru_cache(maxsize=4096)
def common(one: Scopes, other: Scopes) -> Scopes:
    """What both allow."""
    return Scopes(
        {text for text in one if other.cover((text,))} | {text for text in other if one.cover((text,))}
    )


def _check(text: str) -> None:
    match = _SCOPE.fullmatch(text)
    if match is None:
        raise ScopeError(
            f"{text[:80]!r} is no scope: write <noun>:<verb> or <noun>:<verb>:<id>, as things:read"
        )
    if match["noun"] not in NOUNS:
        raise ScopeError(f"there are no scopes of {match['noun']!r}; the nouns are {', '.join(NOUNS)}")
    if match["verb"] not in VERBS:
        raise ScopeError(f"the verb of {text!r} is read or write; write does not include read")


EVERYTHING = Scopes(f"{noun}:{verb}" for noun in NOUNS if noun != "account" for verb in VERBS)
MESSAGES = Scopes({"messages:read", "messages:write"})  # all that a thing can make use of

# First element of a path to its noun; what is not here is the gateway's own.
_OF_PATHS = {
    "things": "things",
    "devices": "things",  # of 2017
    "identify": "things",
    "channels": "channels",
    "connect": "channels",
    "disconnect": "channels",
    "groups": "groups",
    "members": "groups",
    "users": "users",
    "policies": "policies",
    "keys": "keys",
    "api-keys": "keys",
    "certs": "certs",
    "applications": "applications",
    "audit": "audit",
    "password": "account",
    "tokens": "account",
    "sessions": "account",
}
# What asks about the caller himself, or decides by its own rules.
_FREE = frozenset({"access-checks", "auth", "oauth", "claim", "health", "status", "version", "metrics"})
_ACCOUNT = frozenset({("users", "totp"), ("oauth", "consents"), ("oauth", "authorizations")})
# POST that changes nothing: a question too long for an address.
_QUESTIONS = frozenset(
    {("things", "search"), ("channels", "search"), ("groups", "search"), ("policies", "check")}
    | {("policies", "explain"), ("identify", "channels")}
)
# Second elements that are words of ours and never an object's id.
WORDS = frozenset(
    {
        "bulk",
        "search",
        "check",
        "explain",
        "profile",
        "totp",
        "renew",
        "authority",
        "deny-list",
        "verify",
        "channels",
        "things",
        "export",
        "pages",
        "authorities",
    }
)


def needed_by(method: str, path: str) -> Scope | None:
    """The scope that a request needs of a grant; None where it needs none. `path` begins with a slash.

    GET and HEAD read, everything else writes. The second element of the path is the object's id, where there is one.
    """
    first, second, rest = [*path.split("/")[1:4], "", "", ""][:3]
    if (first, second) in _ACCOUNT:
        return Scope("account", READ if method in ("GET", "HEAD") else WRITE)
    if first in _FREE or first.startswith(".well-known") or path == "/openapi.json":
        return None
    if (first, second) == ("users", "profile"):
        return None  # who am I
    reads = method in ("GET", "HEAD") or (first, second) in _QUESTIONS
    verb = READ if reads else WRITE
    noun = _OF_PATHS.get(first, "gateway")
    if first == "channels" and rest in ("messages", "msg"):
        noun = "messages"
    named = noun != "gateway" and second not in WORDS
    return Scope(noun, verb, second if named and first in ("things", "devices", *NOUNS) else "")

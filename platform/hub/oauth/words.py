"""Scopes in the words of the person who is asked to agree, and the metadata that applications read."""

from __future__ import annotations

from typing import Any

from hub.applications import GRANT_TYPES
from hub.oauth.protocol import BASIC, METHODS, POST
from hub.tokens.scopes import NOUNS, OPENID, READ, VERBS
from hub.tokens.signing import ALGORITHM

_NOUNS = {
    "messages": "messages of the channels you can see",
    "things": "things and their names",
    "channels": "channels and who is connected to them",
    "groups": "organisations and who belongs to them",
    "users": "people who may sign in",
    "policies": "the policies that decide who may do what",
    "keys": "your API keys",
    "certs": "certificates of devices",
    "applications": "applications and their secrets",
    "audit": "the audit log",
    "gateway": "the gateway itself: devices, radio, codecs, downlinks",
    "proxy": "other services that are guarded with the gateway's accounts",
}
_OPENID = {
    "openid": "know who you are on this gateway",
    "profile": "see the name and the role of your account",
    "email": "see your e-mail address",
    "offline_access": "go on while you are away, until you take it back",
}
# What lets an application become more than it was, or lock its owner out.
RISKY = frozenset(
    {"users:write", "policies:write", "keys:write", "applications:write", "certs:write", "groups:write"}
)


def words(scope: str) -> str:
    """What an application with this scope may do, as the end of "It wants to ..."."""
    if scope in _OPENID:
        return _OPENID[scope]
    noun, verb, *named = scope.split(":", 2)
    does = "read" if verb == READ else "add, change and remove"
    if noun == "messages":
        does = "read" if verb == READ else "send"
    only = f", only {named[0]}" if named else ""
    return f"{does} {_NOUNS.get(noun, noun)}{only}"


def is_risky(scope: str) -> bool:
    """Whether the page is to warn of it."""
    return ":".join(scope.split(":")[:2]) in RISKY


def metadata(issuer: str, pages_url: str) -> dict[str, Any]:
    """RFC 8414 and OpenID Connect Discovery 1.0 in one; what is not in it is not there."""
    scopes = [f"{noun}:{verb}" for noun in NOUNS if noun != "account" for verb in VERBS]
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{pages_url}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "userinfo_endpoint": f"{issuer}/oauth/userinfo",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "scopes_supported": [*sorted(OPENID), *scopes],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "token_endpoint_auth_methods_supported": list(METHODS),
        "revocation_endpoint_auth_methods_supported": list(METHODS),
        "introspection_endpoint_auth_methods_supported": [BASIC, POST],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "claims_supported": [
            "sub",
            "iss",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "email",
            "name",
            "role",
        ],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }

"""What the OpenAPI document says of credentials: which a row takes, from which role on, and with which scopes.

A scheme that is not OAuth names in its list the role it needs (OpenAPI 3.1, 4.8.30); `oauth2` names scopes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hub.http.table import Endpoint, Needs
from hub.tokens.scopes import NOUNS, OPENID, VERBS, needed_by
from hub.users import ADMIN, MEMBER, TECHNICIAN, VIEWER

Schema = dict[str, Any]

_OF_NOUNS = {
    "messages": "messages of channels",
    "things": "things and their keys",
    "channels": "channels and connections",
    "groups": "organisations and who is in them",
    "users": "accounts",
    "policies": "policies",
    "keys": "API keys",
    "certs": "certificates of things",
    "applications": "applications",
    "audit": "the audit log",
    "gateway": "devices, radio, codecs and all else of the gateway itself",
    "proxy": "other services that a reverse proxy guards with the gateway's accounts",
    "account": "one's own password, second factor, sessions and consents",
}
_VERBS = {"read": "see", "write": "change"}
_OF_MESSAGES = {"read": "read messages of channels", "write": "publish messages to channels"}
_OF_OPENID = {
    "openid": "who signs in: an identity token",
    "profile": "the name in it",
    "email": "the e-mail address in it",
    "offline_access": "a refresh token, to go on without the person",
}


def scopes() -> dict[str, str]:
    """Every scope that can be asked for, with what it is good for."""
    found = {name: _OF_OPENID[name] for name in sorted(OPENID)}
    for noun in NOUNS:
        for verb in VERBS:
            words = (
                _OF_MESSAGES
                if noun == "messages"
                else {each: f"{_VERBS[each]} {_OF_NOUNS[noun]}" for each in VERBS}
            )
            found[f"{noun}:{verb}"] = words[verb]
    return found


def schemes() -> Schema:
    """`components.securitySchemes`."""
    oauth = {"tokenUrl": "/oauth/token", "refreshUrl": "/oauth/token", "scopes": scopes()}
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "a person's token, from POST /tokens: opaque, and over at once when it is ended",
        },
        "api_key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "fgk_...",
            "description": "an API key, from POST /keys: bounded by its scopes and by what its owner may",
        },
        "oauth2": {
            "type": "oauth2",
            "description": "access tokens of applications (JWT, RFC 9068), bounded by scopes and by whom they act for; "
            "PKCE is required",
            "flows": {
                "authorizationCode": {"authorizationUrl": "/oauth/authorize", **oauth},
                "clientCredentials": {"tokenUrl": "/oauth/token", "scopes": scopes()},
            },
        },
        "key": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "a thing's key: `Thing <key>`, or the key alone",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "a thing's key as the password, any user name",
        },
        "certificate": {
            "type": "mutualTLS",
            "description": "a thing's certificate from POST /certs, on a TLS listener; it needs no header",
        },
        "address": {
            "type": "apiKey",
            "in": "query",
            "name": "authorization",
            "description": "a key or token for clients that cannot send headers; only where messages are read",
        },
    }


_THING: list[Schema] = [{"key": []}, {"basic": []}, {"certificate": []}]
_ROLES: Mapping[Needs, str] = {
    Needs.MEMBER: MEMBER,
    Needs.SEE: MEMBER,
    Needs.KEEP: MEMBER,
    Needs.LEAD: MEMBER,
    Needs.USER: VIEWER,
    Needs.MANAGER: TECHNICIAN,
    Needs.ADMIN: ADMIN,
}
_WORDS: Mapping[Needs, str] = {
    Needs.NOTHING: "No credential.",
    Needs.ANY: "A thing's key or a person's token.",
    Needs.THING: "A thing's key.",
    Needs.MEMBER: "A token of any person.",
    Needs.SEE: "A token of a person who may see it, on the gateway or in its group.",
    Needs.KEEP: "A token of a technician, of the gateway or of its group.",
    Needs.LEAD: "A token of an administrator, of the gateway or of its group.",
    Needs.USER: "A person's token.",
    Needs.MANAGER: "A token of a person who may manage.",
    Needs.ADMIN: "A token of an administrator.",
}
_READS_MESSAGES = re.compile(r"/channels/{\w+}/(messages|msg)(/|$)")


def scope_of(row: Endpoint) -> str:
    """The scope that a grant needs for the row, with the path's parameter as its object; "" for none."""
    path = re.sub(r"{\w+(?::\w+)?}", "x", row.path)
    needed = needed_by(row.method, path)
    return f"{needed.noun}:{needed.verb}" if needed else ""


def requirements(row: Endpoint) -> list[Schema]:
    """The row's `security`: any one of these will do; empty where nothing is asked for."""
    if row.needs is Needs.NOTHING:
        return []
    scope = scope_of(row)
    granted: list[Schema] = [{"oauth2": [scope] if scope else []}]
    if not scope.startswith("account:"):  # an API key is for none of what is its owner's own
        granted.insert(0, {"api_key": []})
    if row.needs is Needs.THING:
        return [*_THING, *granted]
    if row.needs is Needs.ANY:
        by_address: list[Schema] = (
            [{"address": []}] if row.method == "GET" and _READS_MESSAGES.match(row.path) else []
        )
        return [*_THING, {"token": []}, *granted, *by_address]
    return [{"token": [_ROLES[row.needs]]}, *granted]


def words(row: Endpoint) -> str:
    """Who may ask, as the end of the row's description."""
    scope = scope_of(row)
    return (
        f"{_WORDS[row.needs]} A grant needs the scope {scope}."
        if scope and row.needs is not Needs.NOTHING
        else _WORDS[row.needs]
    )

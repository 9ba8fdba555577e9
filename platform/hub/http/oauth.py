"""OAuth 2.0 and OpenID Connect over HTTP: tokens for applications, and what the consent page asks.

Errors of the endpoints that applications use have the form of RFC 6749, 5.2; those the pages use are problem documents.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.access import Principal
from hub.applications import PAGES
from hub.http.auth import authorization, hub_of, now_s, principal_of, require, require_user, session_of
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs
from hub.oauth.protocol import Answer
from hub.oauth.service import OAuth
from hub.oauth.words import is_risky, metadata, words
from hub.registry import User
from hub.users import MEMBER

FORM = "application/x-www-form-urlencoded"
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


class AuthorizationRequest(Struct):
    """The query of an authorization request, as the browser brought it."""

    query: str


class Decision(Struct):
    """What the person has decided about an authorization request."""

    query: str
    allow: bool


class AskedScope(Struct):
    scope: str
    words: str  # the end of "It wants to ..."
    risky: bool


class AskingApplication(Struct):
    id: str
    name: str
    public: bool


class Authorization(Struct):
    """What the page does now: `needs` is "sign-in", "consent", or "nothing": then `redirect`, or where that is empty,
    the decision without asking again."""

    application: AskingApplication
    redirect_uri: str
    scopes: list[AskedScope]
    account: str
    needs: str
    redirect: str


class Redirect(Struct):
    """Where the browser goes now."""

    redirect: str


class ConsentingApplication(Struct):
    id: str
    name: str


class Consent(Struct):
    """What a person lets an application do; times are unix seconds."""

    id: str
    application: ConsentingApplication
    scopes: list[AskedScope]
    granted_at: float
    used_at: float | None
    expires_at: float | None


class Consents(Struct):
    total: int
    consents: list[Consent]


async def openid_configuration(request: Request) -> Response:
    """`GET /.well-known/openid-configuration`: what this authorization server can do and where (OIDC Discovery)."""
    oauth = oauth_of(request)
    return json_response(metadata(oauth.issuer, oauth.pages_url))


async def authorization_server(request: Request) -> Response:
    """`GET /.well-known/oauth-authorization-server`: the same under the name of RFC 8414."""
    return await openid_configuration(request)


async def jwks(request: Request) -> Response:
    """`GET /oauth/jwks`: the public keys that tokens are signed with (RFC 7517)."""
    signing = hub_of(request).registry.signing
    if not signing.jwks()["keys"]:  # the first key is made when first needed; who asks now keeps the answer
        await asyncio.to_thread(signing.rotate, now_s(request))
    return json_response(signing.jwks())


async def token(request: Request) -> Response:
    """`POST /oauth/token`: tokens for a code, a refresh token, or an application's own secret (RFC 6749, 3.2)."""
    return await _answered(request, oauth_of(request).token)


async def revoke(request: Request) -> Response:
    """`POST /oauth/revoke`: gives a token back, and with it all that was granted by it (RFC 7009)."""
    return await _answered(request, oauth_of(request).revoke)


async def introspect(request: Request) -> Response:
    """`POST /oauth/introspect`: what a token is good for, asked by whom it was made for (RFC 7662)."""
    return await _answered(request, oauth_of(request).introspect)


async def userinfo(request: Request) -> Response:
    """`GET /oauth/userinfo`: who signed in, as far as the token's scopes tell it (OpenID Connect Core, 5.3)."""
    principal = require(request)
    user = hub_of(request).registry.user(principal.id) if principal.kind == "user" else None
    if user is None:
        raise Problem(403, "this token is not a person's")
    scopes = hub_of(request).access.scopes(principal)
    if scopes is not None and "openid" not in scopes:
        headers = {"www-authenticate": 'Bearer realm="fluxgate", error="insufficient_scope", scope="openid"'}
        raise Problem(403, "this token lacks the scope openid", headers=headers)
    told: dict[str, Any] = {"sub": f"users/{user.id}"}
    if scopes is None or "email" in scopes:
        told["email"] = user.email
    if scopes is None or "profile" in scopes:
        told |= {"name": user.email.partition("@")[0], "preferred_username": user.email, "role": user.role}
    return json_response(told, headers=NO_STORE)


async def look(request: Request) -> Response:
    """`POST /oauth/authorizations`: checks an authorization request and says what the page is to show."""
    asked = await read_json(request, AuthorizationRequest)
    _, user = _person(request)
    auth_s = _signed_in_s(request)
    query = asked.query.encode("utf-8", "replace")
    shown = await asyncio.to_thread(oauth_of(request).look, query, user, auth_s, now_s(request))
    shown["scopes"] = [_scope(each) for each in shown["scopes"]]
    return json_response(shown, headers=NO_STORE)


async def decide(request: Request) -> Response:
    """`POST /oauth/authorizations/decision`: where the browser goes with what the person has decided."""
    require_user(request, MEMBER)
    decision = await read_json(request, Decision)
    principal, user = _person(request)
    if principal is None or user is None:
        raise Problem(403, "only a person who signed in to the gateway itself decides this")
    session = session_of(request)
    redirect = await asyncio.to_thread(
        oauth_of(request).decide,
        decision.query.encode("utf-8", "replace"),
        user,
        _signed_in_s(request),
        now_s(request),
        allow=decision.allow,
        session=session.id if session and not principal.grant else "",
    )
    return json_response({"redirect": redirect}, headers=NO_STORE)


async def list_consents(request: Request) -> Response:
    """`GET /oauth/consents`: the applications that may act for the person who asks."""
    user = require_user(request, MEMBER)
    registry = hub_of(request).registry
    found = []
    for grant in registry.grants.of_owner("user", user.id, kind="oauth", limit=1000).grants:
        application = registry.applications.get(grant.application_id)
        if application is None or grant.over(now_s(request)):
            continue  # a sign-in to the gateway's own pages is a session, not an application
        found.append(
            {
                "id": grant.id,
                "application": {"id": application.id, "name": application.name},
                "scopes": [_scope(each) for each in sorted(grant.scopes)],
                "granted_at": grant.issued_s,
                "used_at": registry.grants.last_used_s(grant),
                "expires_at": grant.expires_s,
            }
        )
    return json_response({"total": len(found), "consents": found})


async def end_consent(request: Request) -> Response:
    """`DELETE /oauth/consents/<id>`: takes a consent back; the application's tokens stop working at once."""
    user = require_user(request, MEMBER)
    grant = hub_of(request).registry.grants.get(request.path_params["consent_id"])
    if grant is None or grant.kind != "oauth" or (grant.owner_kind, grant.owner_id) != ("user", user.id):
        raise Problem(404, "no such consent")
    await asyncio.to_thread(oauth_of(request).end, grant.id)
    return Response(status_code=204)


def oauth_of(request: Request) -> OAuth:
    return hub_of(request).oauth


async def _answered(request: Request, respond: Any) -> Response:
    """Have an endpoint of RFC 6749's form answer: the credential is in the form or in a Basic header."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != FORM or request.url.query:
        said = f"send the parameters as a form, with Content-Type: {FORM}, and none in the address"
        hub_of(request).audit.record(
            "oauth", "refused", detail="invalid_request: not a form, or with a query"
        )
        return json_response({"error": "invalid_request", "error_description": said}, 400, NO_STORE)
    header = authorization(request).decode("latin-1")
    answer: Answer = await asyncio.to_thread(respond, body, header, now_s(request))
    headers = {
        name.lower(): value for name, value in answer.headers.items() if name.lower() == "www-authenticate"
    }
    return json_response(answer.body, answer.status, {**headers, **NO_STORE})


def _person(request: Request) -> tuple[Principal | None, User | None]:
    """The person who asks by himself or through the gateway's own pages; nobody for anything else.

    An application that acts for somebody must not agree to another one in his name.
    """
    principal = principal_of(request)
    if principal is None or principal.kind != "user":
        return None, None
    registry = hub_of(request).registry
    if principal.grant:
        grant = registry.grants.get(principal.grant)
        if grant is None or grant.kind != "oauth" or oauth_of(request).named(grant) != PAGES.id:
            return None, None
    return principal, registry.user(principal.id)


def _signed_in_s(request: Request) -> float:
    """When the person had signed in (UTC)."""
    session = session_of(request)
    return session.opened_s if session else now_s(request)


def _scope(scope: str) -> dict[str, Any]:
    return {"scope": scope, "words": words(scope), "risky": is_risky(scope)}


_FORM_BODY = Media({FORM: {"type": "object", "additionalProperties": {"type": "string"}}})
_ERROR = Media({"application/json": {"type": "object", "required": ["error"]}})
_TOKENS = Media(
    {
        "application/json": {
            "type": "object",
            "required": ["access_token", "token_type", "expires_in", "scope"],
        }
    }
)
_METADATA = Media({"application/json": {"type": "object", "required": ["issuer", "jwks_uri"]}})

ENDPOINTS = [
    Endpoint(
        *("GET", "/.well-known/openid-configuration", openid_configuration, Needs.NOTHING),
        answers={200: _METADATA},
    ),
    Endpoint(
        *("GET", "/.well-known/oauth-authorization-server", authorization_server, Needs.NOTHING),
        answers={200: _METADATA},
    ),
    Endpoint(
        *("GET", "/oauth/jwks", jwks, Needs.NOTHING),
        answers={200: Media({"application/json": {"type": "object", "required": ["keys"]}})},
    ),
    # The application's secret, or for a public one PKCE, is the credential of these three.
    Endpoint(
        *("POST", "/oauth/token", token, Needs.NOTHING),
        body=_FORM_BODY,
        answers={200: _TOKENS, 400: _ERROR, 401: _ERROR},
    ),
    Endpoint(
        *("POST", "/oauth/revoke", revoke, Needs.NOTHING),
        body=_FORM_BODY,
        answers={200: Media({"application/json": {"type": "object"}}), 400: _ERROR, 401: _ERROR},
    ),
    Endpoint(
        *("POST", "/oauth/introspect", introspect, Needs.NOTHING),
        body=_FORM_BODY,
        answers={
            200: Media({"application/json": {"type": "object", "required": ["active"]}}),
            400: _ERROR,
            401: _ERROR,
        },
    ),
    Endpoint(
        *("GET", "/oauth/userinfo", userinfo, Needs.MEMBER),
        answers={200: Media({"application/json": {"type": "object", "required": ["sub"]}})},
    ),
    Endpoint(
        *("POST", "/oauth/authorizations", look, Needs.NOTHING),
        body=AuthorizationRequest,
        answers={200: Authorization},
    ),
    Endpoint(
        *("POST", "/oauth/authorizations/decision", decide, Needs.MEMBER),
        body=Decision,
        answers={200: Redirect},
    ),
    Endpoint(*("GET", "/oauth/consents", list_consents, Needs.MEMBER), answers={200: Consents}),
    Endpoint(
        *("DELETE", "/oauth/consents/{consent_id}", end_consent, Needs.MEMBER),
        answers={204: None},
        refuses=(404,),
    ),
]

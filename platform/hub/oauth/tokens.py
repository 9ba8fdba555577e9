"""Tokens that somebody asks about or gives back: what they stand for (RFC 7009, RFC 7662)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from hub.oauth.flows import Flows
from hub.tokens.bearer import AUDIENCE
from hub.tokens.grants import Grant, Grants
from hub.tokens.scopes import Scopes, parse
from hub.tokens.verifier import ACCESS_TOKEN, TokenRefused, Verifier

if TYPE_CHECKING:
    from hub.oauth.protocol import Client, Request


@dataclass(frozen=True, slots=True)
class Inspected:
    """A token that is good, or a refresh token that was. Times are UTC seconds."""

    grant: Grant
    application_id: str  # whose it is
    audience: str
    scopes: Scopes
    issued_s: float
    expires_s: float
    jti: str = ""  # of an access token
    replaced: bool = False  # a refresh token that is not the newest

    def is_expired(self) -> bool:
        return False  # such a one is not found in the first place

    def is_revoked(self) -> bool:
        return self.replaced


def inspect_refresh(flows: Flows, grants: Grants, token: str, named: Any, now_s: float) -> Inspected | None:
    """What a refresh token stands for; `named` gives the application of a grant."""
    found = flows.refresh(token)
    grant = grants.get(found[0].grant_id) if found else None
    if found is None or grant is None or found[0].over(now_s) or grant.over(now_s):
        return None
    return Inspected(
        *(grant, named(grant), "", grant.scopes, grant.issued_s, found[0].expires_s), replaced=not found[1]
    )


def inspect_access(
    verifier: Verifier, grants: Grants, token: str, audiences: Iterable[str], named: Any, now_s: float
) -> Inspected | None:
    """What an access token for one of `audiences` stands for."""
    for audience in audiences:
        try:
            claims = verifier.verify(token, typ=ACCESS_TOKEN, audience=audience, now_s=now_s)
            grant = grants.get(claims.text("grant"))
            scopes = parse(claims.text("scope"))
        except TokenRefused:
            continue
        if grant is not None and not grant.over(now_s) and claims.exp > now_s:
            return Inspected(grant, named(grant), claims.aud, scopes, claims.iat, claims.exp, claims.jti)
    return None


class _NeedsToken:
    """`token_type_hint` is not looked at: both kinds tell themselves apart."""

    def check_params(self, request: Any, client: Any) -> None:
        if not request.form.get("token"):
            raise InvalidRequestError("token is missing")


class Revocation(_NeedsToken, RevocationEndpoint):
    """Giving back any token of a grant ends the grant: a token of one half must not outlive the other."""

    CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]  # noqa: RUF012

    def authenticate_token(self, request: Request, client: Client) -> Inspected | None:
        self.check_params(request, client)
        token: Inspected | None = self.server.service.inspected(request.form["token"], client, request.now_s)
        if token is not None and token.application_id != client.client_id:
            request.why = "the token is another application's"
            raise InvalidGrantError("the token is not this application's")
        return token

    def revoke_token(self, token: Any, request: Any) -> None:
        grant = token.grant
        self.server.service.end(grant.id)
        request.owner = f"{grant.owner_kind}s/{grant.owner_id}"
        request.done = f"{token.application_id} has given its tokens back"


class Introspection(_NeedsToken, IntrospectionEndpoint):
    """Answered to whom a token was made out, or for whom; to others it is as if it were no token."""

    CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]  # noqa: RUF012

    def authenticate_token(self, request: Request, client: Client) -> Inspected | None:
        self.check_params(request, client)
        token: Inspected | None = self.server.service.inspected(request.form["token"], client, request.now_s)
        if token is None or not (
            token.application_id == client.client_id or token.audience not in ("", AUDIENCE)
        ):
            return None
        return token

    def introspect_token(self, token: Any) -> dict[str, Any]:
        """RFC 7662, 2.2; RFC 9068, 2.2."""
        found: dict[str, Any] = self.server.service.described(token)
        return found

"""From what somebody shows to who he is: API keys, signed access tokens and sessions, told apart by their form.

An access token is believed by its signature and then only as far as its grant, which is looked up each time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hub.access import Principal
from hub.tokens.grants import PREFIX
from hub.tokens.scopes import ScopeError, Scopes, parse
from hub.tokens.verifier import ACCESS_TOKEN, LEEWAY_S, Claims, TokenRefused, Verifier

if TYPE_CHECKING:
    from hub.registry import Registry

AUDIENCE = "fluxgate"  # of access tokens: this gateway's doors
MAX_VERIFIED = 1024  # access tokens whose signature is remembered as right

log = logging.getLogger("hub.tokens")


class Bearers:
    """Looks up whatever stands for somebody else's rights. Belongs to the event loop's thread."""

    def __init__(self, registry: Registry, issuer: str = "urn:fluxgate") -> None:
        self.issuer = issuer  # the `iss` of tokens: RFC 8414's issuer where the gateway has a name of its own
        self.verifier = Verifier(registry.signing.key_of, lambda: self.issuer)
        self._registry = registry
        self._verified: dict[str, Claims] = {}
        self._epoch = 0
        self.refused = 0  # tokens that were not believed

    def principal(self, value: str, now_s: float) -> Principal | None:
        """Who shows an API key, access token or session token; None where it is no good."""
        if value.startswith(PREFIX):
            return self.of_key(value, now_s)
        if value.count(".") == 2:
            return self.of_token(value, now_s)
        user = self._registry.user_by_token(value, now_s)
        return Principal.of_user(user) if user else None

    def of_key(self, value: str, now_s: float) -> Principal | None:
        """The owner of an API key."""
        shown = self._registry.grants.by_secret(value, now_s)
        if shown is None:
            return None
        return Principal(shown.grant.owner_kind, shown.grant.owner_id, shown.version, shown.grant.id)

    def of_token(self, value: str, now_s: float) -> Principal | None:
        """Whom an access token (RFC 9068) speaks for."""
        try:
            claims = self._claims(value, now_s)
            return self._granted(claims, now_s)
        except TokenRefused as error:
            self.refused += 1
            log.info("an access token is not believed: %s", error.reason)
            return None

    def ends_s(self, value: str, now_s: float) -> float | None:
        """UTC seconds from when on an access token is refused; None for what is no access token, or not believed."""
        if value.startswith(PREFIX) or value.count(".") != 2:
            return None
        try:
            return self._claims(value, now_s).exp + LEEWAY_S
        except TokenRefused:
            return None

    def _claims(self, value: str, now_s: float) -> Claims:
        """Raises TokenRefused."""
        epoch = self._registry.epoch
        if epoch != self._epoch or len(self._verified) >= MAX_VERIFIED:
            self._verified.clear()  # a signing key may have been made void
            self._epoch = epoch
        known = self._verified.get(value)
        if known is not None and known.iat - LEEWAY_S <= now_s < known.exp + LEEWAY_S:
            return known
        claims = self.verifier.verify(value, typ=ACCESS_TOKEN, audience=AUDIENCE, now_s=now_s)
        self._verified[value] = claims
        return claims

    def _granted(self, claims: Claims, now_s: float) -> Principal:
        """Raises TokenRefused where the grant under which it was made is gone, over or another's."""
        grant = self._registry.grants.get(claims.text("grant"))
        if grant is None or grant.over(now_s):
            raise TokenRefused("its grant is gone")
        if claims.sub != f"{grant.owner_kind}s/{grant.owner_id}":
            raise TokenRefused("its grant is another's")
        try:
            scopes = parse(claims.text("scope"))
        except ScopeError:
            scopes = Scopes()
        if not scopes:
            raise TokenRefused("it has no scopes")
        self._registry.grants.use(grant.id, now_s)
        bound = "" if scopes == grant.scopes else str(scopes)
        return Principal(grant.owner_kind, grant.owner_id, None, grant.id, bound)

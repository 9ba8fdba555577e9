"""Who is asking: the Authorization header to a principal, and what endpoints demand of it.

Forms: `Thing <key>` and `Bearer <token>` (Mainflux 0.13), Basic with the key as password, and the bare key or token
of releases before. Rights are not decided here: `hub.access` does, for every door.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import cast

from starlette.requests import HTTPConnection, Request
from starlette.types import Scope as AsgiScope

from hub.access import Action, Circumstances, Principal, Resource
from hub.authority.judge import Shown
from hub.http.problem import Problem
from hub.hub import Hub
from hub.registry import User
from hub.sessions import Session
from hub.tokens.scopes import Scope, needed_by
from hub.tokens.verifier import MAX_TOKEN
from hub.users import TECHNICIAN, VIEWER, has_role

_PLAIN_ID = re.compile(r"[\w.-]{0,64}", re.ASCII)
_MESSAGES = re.compile(r"/channels/[^/]+/messages(/|$)")

MAX_CREDENTIAL = MAX_TOKEN + 16  # bytes: an access token and the word before it; keys have far fewer
# In the state of a scope: what the connection's client certificate has come to; absent where none was shown.
CERTIFIED = "certified"
MAX_REMEMBERED = 4096  # things whose header was read lately; a gateway has some hundreds


class Credentials:
    """Reads Authorization headers for one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Right credentials of things, until the registry changes. The keyed hash lets go of the GIL, which under
        # load costs a turn of the writer thread: 40 us a request. Only who holds a key can put anything here.
        self._remembered: dict[bytes, Principal] = {}
        self._epoch = 0

    def principal(self, header: bytes) -> Principal | None:
        """The principal that this header's value authenticates, or None."""
        epoch = self._hub.registry.epoch
        if epoch != self._epoch or len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
            self._epoch = epoch
        principal = self._remembered.get(header)
        if principal is None:
            principal = self._authenticate(header)
            # Others end by themselves
            if principal is not None and principal.kind == "thing" and not principal.grant:
                self._remembered[header] = principal
        return principal

    def of_request(self, header: bytes, certified: Shown | None) -> Principal | None:
        """As `principal`; without a header, the thing that the connection's certificate named."""
        if header or certified is None:
            return self.principal(header)
        return self._hub.authenticate_certificate(certified.thing, certified.serial)

    def of_scope(self, scope: AsgiScope) -> Principal | None:
        """As `of_request`, for a request as it came."""
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        return self.of_request(headers[0] if len(headers) == 1 else b"", certified_thing(scope))

    def _authenticate(self, header: bytes) -> Principal | None:
        scheme, secret = _split(header)
        match scheme:
            case "thing":
                return self._hub.authenticate_thing(secret)
            case "bearer":
                return self._hub.authenticate_bearer(secret, self.now_s())
            case "basic":
                return self._hub.authenticate_thing(_basic_password(secret))
            case "bare":
                return self._hub.authenticate_thing(secret) or self._hub.authenticate_bearer(
                    secret, self.now_s()
                )
        return None

    def token(self, header: bytes) -> str:
        """The user token in this header's value, "" where it holds none."""
        scheme, secret = _split(header)
        return secret if scheme in ("bearer", "bare") else ""

    def now_s(self) -> float:
        """UTC seconds by the hub's clock."""
        return self._hub.clock()[0] / 1e9

    @staticmethod
    def refusal(header: bytes) -> Problem:
        """The 401 for a header that authenticates nobody."""
        if header:
            detail = "the credential is not valid: it is wrong, was replaced or has expired"
        else:
            detail = "send a credential: 'Authorization: Thing <key>' or 'Authorization: Bearer <token>'"
        return Problem(401, detail, headers={"www-authenticate": 'Bearer realm="fluxgate"'})


def hub_of(request: Request) -> Hub:
    """The hub behind the app that serves `request`."""
    return cast(Hub, request.app.state.hub)


def authorization(connection: HTTPConnection) -> bytes:
    """The Authorization header's value; b"" where there is none or, against RFC 9110, more than one.

    Who reads or follows messages may put it into the parameter `authorization` instead: a browser's EventSource and
    WebSocket cannot send headers. No other path takes it there, since addresses end up in histories and logs.
    """
    scope = connection.scope
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if values or scope.get("method", "GET") != "GET" or not _MESSAGES.match(scope["path"]):
        return values[0] if len(values) == 1 else b""
    return connection.query_params.get("authorization", "").encode("latin-1", "replace")


def certified_thing(scope: AsgiScope) -> Shown | None:
    """The certificate that the connection's client has shown and that names a thing; None where there is none.

    A browser shows its certificate on any page's behalf, so another site's page gets nothing from it: what came with
    an Origin other than ours is as if no certificate had been shown.
    """
    shown = cast(Shown | None, scope.get("state", {}).get(CERTIFIED))
    if shown is not None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
            return None
    return shown if shown is not None and shown.thing and not shown.refusal else None


def principal_of(request: Request) -> Principal | None:
    """Who asks, thing or user; None without a valid credential. Looks again each time, so it sees a revocation."""
    return _credentials(request).of_request(authorization(request), certified_thing(request.scope))


def require(request: Request) -> Principal:
    """Who asks, thing or user. Raises Problem 401, or 403 where he asks by a key or token without the scope."""
    principal = principal_of(request)
    if principal is None:
        raise Credentials.refusal(authorization(request))
    scopes = hub_of(request).access.scopes(principal)
    needed = needed_by(request.method, request.scope["path"])
    if scopes is not None and needed is not None and not scopes.allows(*needed):
        raise Problem(403, f"this key or token lacks the scope {needed}", headers=_insufficient(needed))
    return principal


def _insufficient(needed: Scope) -> dict[str, str]:
    """RFC 6750, 3.1. An id that is none, whatever the address says, stays out of the header."""
    named = needed if _PLAIN_ID.fullmatch(needed.id) else needed._replace(id="")
    words = f'Bearer realm="fluxgate", error="insufficient_scope", scope="{named}"'
    return {"www-authenticate": words}


def require_claimed(request: Request) -> None:
    """Raises Problem 403 where nobody owns the gateway yet."""
    if not hub_of(request).registry.claimed:
        raise Problem(403, "this gateway has no owner yet: claim it with POST /claim")


def require_user(request: Request, role: str = VIEWER) -> User:
    """The user who asks, of `role` or a higher one.

    Raises Problem 401 without a valid credential, 403 for a thing, a lower role or a gateway nobody has claimed.
    """
    require_claimed(request)
    user = _acting(request, require(request))
    if user is None:
        raise Problem(403, "this needs a user's token (POST /tokens), not a thing's key")
    if not has_role(user, role):
        raise Problem(
            403, f"this needs the role {role}, and yours is {user.role}; ask an administrator of the gateway"
        )
    return user


def _acting(request: Request, principal: Principal) -> User | None:
    """The person who asks, or the application that manages for itself, by a token it got for that."""
    registry = hub_of(request).registry
    if principal.kind == "user":
        return registry.user(principal.id)
    grant = registry.grants.get(principal.grant) if principal.grant else None
    itself = grant is not None and grant.kind == "oauth" and grant.application_id == principal.id
    return registry.applications.acting(principal.id) if itself else None


def require_manager(request: Request) -> User:
    """The user who asks, who may manage things and channels. Raises Problem 401 or 403."""
    user = require_user(request, TECHNICIAN)
    demand(request, require(request), Action.MANAGE, Resource())
    return user


def demand(request: Request, principal: Principal, action: Action, resource: Resource) -> None:
    """Ask the access seam. Raises Problem 403 with its reason."""
    context = Circumstances("http", address_of(request.scope))
    decision = hub_of(request).access.decide(principal, action, resource, context)
    if not decision.allowed:
        raise Problem(403, f"denied: {decision.reason}")


def address_of(scope: AsgiScope) -> str:
    """The client's address; "" where the door does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def token_of(request: Request) -> str:
    """The user token that `request` carries."""
    return _credentials(request).token(authorization(request))


def session_of(request: Request) -> Session | None:
    """The sign-in that `request` comes from: by its own token, or by one that the gateway's own pages got for it."""
    registry = hub_of(request).registry
    principal = principal_of(request)
    if principal is not None and principal.grant:
        return registry.oauth.session_of(principal.grant, now_s(request))
    return registry.sessions.by_secret(token_of(request), now_s(request))


def now_s(request: Request) -> float:
    """UTC seconds by the hub's clock."""
    return _credentials(request).now_s()


def _credentials(request: Request) -> Credentials:
    return cast(Credentials, request.app.state.credentials)


def _split(header: bytes) -> tuple[str, str]:
    """Scheme in lower case and secret; scheme "bare" for a single word, "" for nothing usable."""
    if not header or len(header) > MAX_CREDENTIAL:
        return "", ""
    words = header.decode("latin-1").split()
    if len(words) == 1:
        return "bare", words[0]
    if len(words) == 2:
        return words[0].lower(), words[1]
    return "", ""


def _basic_password(encoded: str) -> str:
    """The password of RFC 7617 credentials, "" where they are not."""
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]

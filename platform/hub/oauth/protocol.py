"""Authlib's server, told what this gateway is: its clients, its grants of tokens, what it keeps and what it answers.

Authlib's core checks the protocol; every store is `flows` and `hub.tokens`, every time an argument. All of it runs in a
thread and with the registry's lock held, so that looking at a code or refresh token and taking it are one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientMixin,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    OAuth2Request,
    grants,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter

from hub.applications import Application
from hub.oauth.flows import Code, Refresh
from hub.oauth.parameters import check_authorization, check_challenge, check_scope
from hub.oauth.tokens import Introspection, Revocation
from hub.oauth.uris import matches
from hub.tokens.scopes import OPENID, ScopeError, Scopes, parse
from hub.users import User

if TYPE_CHECKING:
    from hub.oauth.service import OAuth

BASIC, POST, NONE = METHODS = ("client_secret_basic", "client_secret_post", "none")
MAX_BASIC = 2048  # characters of an Authorization header


@dataclass(slots=True)
class Answer:
    """What is to be sent. `error` is the OAuth code of a refusal, `detail` its sentence; for the audit log too."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""
    detail: str = ""

    @property
    def location(self) -> str:
        """Where the browser is to go, "" where nowhere."""
        return self.headers.get("Location", "")

    @location.setter
    def location(self, uri: str) -> None:
        self.headers["Location"] = uri


class Client(ClientMixin):
    """An application as Authlib asks it."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.client_id = application.id

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return ""  # every request says where it is to be answered (RFC 9700, 2.1)

    def get_allowed_scope(self, scope: Any) -> str:
        return str(asked_scopes(self.application, scope or ""))

    def check_redirect_uri(self, redirect_uri: Any) -> bool:
        return matches(redirect_uri, self.application.redirect_uris, public=self.application.public)

    def check_response_type(self, response_type: Any) -> bool:
        return response_type == "code" and self.check_grant_type(grants.AuthorizationCodeGrant.GRANT_TYPE)

    def check_grant_type(self, grant_type: Any) -> bool:
        return grant_type in self.application.grant_types


class Request(OAuth2Request):
    """One request, read and checked for its form; `now_s` is UTC."""

    def __init__(
        self,
        uri: str,
        form: Mapping[str, str],
        now_s: float,
        *,
        authorization: str = "",
        auth_s: float = 0.0,
        method: str = "POST",
    ) -> None:
        super().__init__(method, uri, headers={"Authorization": authorization} if authorization else {})
        self.payload = BasicOAuth2Payload(dict(form))
        self.now_s = now_s
        self.auth_s = auth_s
        self.secret = ""  # the code or refresh token as it was shown
        self.resource = form.get("resource", "")
        self.session = ""  # of the person who decides, where he signed in right here
        self.grant: Any = None  # Authlib's, of an authorization request that was checked
        # For the audit log: the application that asked, and either why it was refused or what was done for whom.
        self.who = self.why = self.owner = self.done = ""
        self._form = dict(form)

    @property
    def args(self) -> dict[str, str | None]:
        return {}

    @property
    def form(self) -> dict[str, str]:
        return self._form


class ShownCode:
    """A code as Authlib asks it (AuthorizationCodeMixin)."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.code_challenge = code.challenge
        self.code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.code.redirect_uri

    def get_scope(self) -> str:
        return str(self.code.scopes)


class ShownRefresh:
    """A refresh token as Authlib asks it (TokenMixin)."""

    def __init__(self, refresh: Refresh, application_id: str, user_id: str, scopes: Scopes) -> None:
        self.refresh = refresh
        self.application_id = application_id
        self.user_id = user_id
        self.scopes = scopes

    def check_client(self, client: Any) -> bool:
        return bool(client.client_id == self.application_id)

    def get_scope(self) -> str:
        return str(self.scopes)


class Server(AuthorizationServer):
    """The one server; it keeps nothing between two requests."""

    def __init__(self, service: OAuth) -> None:
        super().__init__()
        self.service = service
        self.register_grant(CodeGrant, [S256()])
        self.register_grant(RefreshGrant)
        self.register_grant(ItselfGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)
        self.register_extension(_Issuer(service))

    def checked_grant(self, request: Request, user: User | None) -> Any:
        """Authlib's grant of an authorization request, after all of it was checked. Raises OAuth2Error."""
        check_authorization(request.form)
        return self.get_consent_grant(request, user)  # type: ignore[no-untyped-call]

    def ask(self, endpoint: str, request: Request) -> Answer:
        """The answer of the endpoint "revocation" or "introspection"."""
        answer: Answer = self.create_endpoint_response(endpoint, request)  # type: ignore[no-untyped-call]
        return answer

    def scopes_of(self, request: Request) -> Scopes:
        """What a checked authorization request asks for."""
        return parse(request.scope)

    def with_issuer(self, answer: Answer) -> Answer:
        """The answer with `iss` in its address."""
        _Issuer(self.service).add_issuer_parameter(self, answer)
        return answer

    def query_client(self, client_id: Any) -> Client | None:  # type: ignore[override]
        application = self.service.applications.get(client_id)
        return Client(application) if application is not None else None

    def authenticate_client(self, request: Any, methods: Any, endpoint: Any = "token") -> Client:
        """Which application asks, by its secret or for a public one by its name (RFC 6749, 2.3).

        One way at a time; who has a secret must show it. Raises InvalidClientError, InvalidRequestError.
        """
        client, method = self._shown(request)
        request.who = client.client_id if client else ""
        if client is None or method not in methods:
            raise InvalidClientError(
                "unknown application, or its secret is wrong or missing",
                status_code=401,
            )
        request.auth_method = method
        return client

    def _shown(self, request: Request) -> tuple[Client | None, str]:
        given_id, given_secret = request.form.get("client_id", ""), request.form.get("client_secret", "")
        if header := (request.headers or {}).get("Authorization", ""):
            app_id, secret = basic(header)
            if given_secret or (given_id and given_id != app_id):
                raise InvalidRequestError("show the application's secret in one way only")
            return self._with_secret(app_id, secret), BASIC
        if given_secret:
            return self._with_secret(given_id, given_secret), POST
        client = self.query_client(given_id)
        return (client if client and client.application.public else None), NONE

    def _with_secret(self, app_id: str, secret: str) -> Client | None:
        application = self.service.applications.by_secret(app_id, secret)
        return Client(application) if application is not None else None

    def validate_requested_scope(self, scope: Any) -> None:
        """Asked of each application's own scopes instead: `Client.get_allowed_scope`."""

    def save_token(self, token: Any, request: Any) -> None:
        """Kept when they are made, before anybody learns of them."""

    def create_oauth2_request(self, request: Any) -> Any:
        return request

    def send_signal(self, name: Any, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        return Answer(status, body, dict(headers))

    def handle_error_response(self, request: Any, error: Any) -> Answer:
        answer: Answer = super().handle_error_response(request, error)  # type: ignore[assignment]
        answer.error, answer.detail = error.error or "", error.get_error_description() or ""
        return answer


class _Issuer(IssuerParameter):
    """`iss` in each answer of the authorization endpoint: no other server's can be taken for ours (RFC 9207)."""

    def __init__(self, service: OAuth) -> None:
        self._service = service

    def get_issuer(self) -> str:
        return self._service.issuer


class S256(CodeChallenge):
    """PKCE for everybody, and S256 alone."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012
    DEFAULT_CODE_CHALLENGE_METHOD = "S256"

    def validate_code_challenge(self, grant: Any, redirect_uri: Any) -> None:
        check_challenge(grant.request.form)
        super().validate_code_challenge(grant, redirect_uri)


class _Ours:
    """What our grants know beside Authlib's own."""

    server: Any
    request: Any

    @property
    def service(self) -> OAuth:
        found: OAuth = self.server.service
        return found

    @property
    def application(self) -> Application:
        found: Application = self.request.client.application
        return found


class CodeGrant(_Ours, grants.AuthorizationCodeGrant):
    """Codes: made at the consent page, exchanged once."""

    TOKEN_ENDPOINT_AUTH_METHODS = list(METHODS)  # noqa: RUF012

    def generate_authorization_code(self) -> str:
        request = self.request
        return self.service.keep_code(request, self.application, request.user, parse(request.scope))

    def save_authorization_code(self, code: Any, request: Any) -> None:
        """It was kept before it was named."""

    def query_authorization_code(self, code: Any, client: Any) -> ShownCode | None:
        self.request.secret = code
        found = self.service.take_code(self.request, client.application)
        if found is None:
            return None
        self.request.resource = same_resource(self.request.resource, found.resource)
        return ShownCode(found)

    def delete_authorization_code(self, authorization_code: Any) -> None:
        """It was used up with the first token."""

    def authenticate_user(self, authorization_code: Any) -> User | None:
        return self.service.user(authorization_code.code.user_id)

    def generate_token(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return self.service.exchange(self.request, self.request.authorization_code.code, self.application)


class RefreshGrant(_Ours, grants.RefreshTokenGrant):
    """Refresh tokens: each good for one use."""

    INCLUDE_NEW_REFRESH_TOKEN = True
    TOKEN_ENDPOINT_AUTH_METHODS = list(METHODS)  # noqa: RUF012

    def authenticate_refresh_token(self, refresh_token: Any) -> ShownRefresh | None:  # type: ignore[override]
        self.request.secret = refresh_token
        found = self.service.take_refresh(self.request, self.application)
        if found is not None:
            self.request.resource = same_resource(self.request.resource, found.refresh.resource)
        return found

    def _validate_token_scope(self, token: Any) -> None:
        """Never more than was granted (RFC 6749, 6)."""
        check_scope(self.request.form)
        if missing := token.scopes.missing(known_scopes(self.request.form.get("scope", ""))):
            raise InvalidScopeError(f"not granted: {missing[0]}")

    def authenticate_user(self, refresh_token: Any) -> User | None:
        return self.service.user(refresh_token.user_id)

    def revoke_old_credential(self, refresh_token: Any) -> None:
        """It was, when the new one took its place."""

    def issue_token(self, user: Any, refresh_token: Any) -> dict[str, Any]:
        scopes = known_scopes(self.request.form.get("scope", ""))
        return self.service.renew(self.request, self.application, refresh_token.refresh, scopes)


class ItselfGrant(_Ours, grants.ClientCredentialsGrant):
    """An application that acts for itself."""

    TOKEN_ENDPOINT_AUTH_METHODS = [BASIC, POST]  # noqa: RUF012

    def validate_requested_scope(self) -> None:
        check_scope(self.request.form)

    def generate_token(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return self.service.act_for_itself(self.request, self.application)


def basic(header: str) -> tuple[str, str]:
    """Name and secret of an Authorization header, each form-encoded in it (RFC 6749, 2.3.1); "" for anything else."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > MAX_BASIC:
        return "", ""
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return (unquote_plus(name), unquote_plus(secret)) if colon else ("", "")


def known_scopes(text: str) -> Scopes:
    """Scopes of a request. Raises InvalidScopeError."""
    try:
        return parse(text)
    except ScopeError:
        raise InvalidScopeError("a scope is unknown: see scopes_supported of this gateway") from None


def asked_scopes(application: Application, text: str, *, itself: bool = False) -> Scopes:
    """What a request asks for: none of its own asks for all that the application has. Raises InvalidScopeError."""
    least = Scopes(application.scopes - OPENID) if itself else application.scopes
    asked = known_scopes(text) if text else least
    if not asked:
        raise InvalidScopeError("the application has no scopes to give")
    if missing := least.missing(asked):
        raise InvalidScopeError(f"this application may not ask for {missing[0]}")
    return asked


def same_resource(asked: str, agreed: str) -> str:
    """The resource tokens are for: what was agreed to, which may only be repeated (RFC 8707, 2.2)."""
    if asked and asked != agreed:
        raise OAuth2Error("tokens were not asked for that resource", error="invalid_target")
    return agreed

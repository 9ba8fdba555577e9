"""The authorization server of a gateway: what its endpoints answer, and what becomes durable before they do.

Everything here blocks for a commit now and then, so it runs in a thread; the registry's lock is held from looking at a
code or token to taking it, so fifty calls with one code get one answer. Times are UTC seconds.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error

from hub.applications import PAGES, REFRESH, Application
from hub.audit import Audit, attempt
from hub.errors import Invalid
from hub.oauth.flows import Code, Refresh
from hub.oauth.parameters import Malformed, read
from hub.oauth.protocol import Answer, Client, Request, Server, ShownRefresh, asked_scopes
from hub.oauth.tokens import Inspected, inspect_access, inspect_refresh
from hub.oauth.uris import matches
from hub.tokens.bearer import AUDIENCE, Bearers
from hub.tokens.grants import Grant
from hub.tokens.scopes import Scopes
from hub.tokens.verifier import ACCESS_TOKEN, ID_TOKEN, LEEWAY_S
from hub.users import User

if TYPE_CHECKING:
    from hub.registry import Registry

ACCESS_S = 600  # of an access or identity token
IDLE_S = 30 * 24 * 3600.0  # a refresh token that is not used for so long ends
ABSOLUTE_S = 90 * 24 * 3600.0  # and any consent after this
PAGES_S = 30 * 24 * 3600.0  # of a sign-in to the gateway's own pages; its session ends before that
MAX_OF_BOTH = 16  # grants of one person to one application: a sign-in each; the oldest goes
MAX_SIGN_INS = 32  # of one person to the gateway's own pages
MAX_ITSELF = 16  # sets of scopes in use by one application for itself
ISSUER = "http://localhost:8080"
PAGES_URL = "http://localhost:8000"

log = logging.getLogger("hub.oauth")
# At its lowest level the library writes tokens into the log.
logging.getLogger("authlib").setLevel(logging.INFO)


def checked_url(url: str, what: str) -> str:
    """An address for tokens and metadata: https, or http on this machine (RFC 8414, 2). Raises Invalid."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    good = parts.scheme == "https" or (parts.scheme == "http" and local)
    if (
        not good
        or not parts.hostname
        or parts.username
        or parts.query
        or parts.fragment
        or "?" in url
        or "#" in url
    ):
        raise Invalid(
            f"{what} is an address as https://gateway.example.org, or http:// on this machine: {url!r}"
        )
    return url.rstrip("/")


class OAuth:
    """One per hub."""

    def __init__(self, registry: Registry, bearers: Bearers, audit: Audit) -> None:
        self.applications = registry.applications
        self._registry = registry
        self._flows = registry.oauth
        self._grants = registry.grants
        self._signing = registry.signing
        self._bearers = bearers
        self._audit = audit
        self.pages_url = PAGES_URL
        bearers.issuer = ISSUER
        self._server = Server(self)

    @property
    def issuer(self) -> str:
        """`iss` of all tokens, and where this API is found; set, never taken from a request."""
        return self._bearers.issuer

    def configure(self, issuer: str, pages_url: str) -> None:
        """Say where this API and the pages are found. Raises Invalid."""
        self._bearers.issuer = checked_url(issuer, "the issuer")
        self.pages_url = checked_url(pages_url, "the address of the pages")

    def user(self, user_id: str) -> User | None:
        return self._registry.user(user_id)

    # The token endpoint

    def token(self, form: bytes, authorization: str, now_s: float) -> Answer:
        """`POST /oauth/token` (RFC 6749, 3.2)."""
        return self._answered(
            "token", form, authorization, now_s, lambda request: self._server.create_token_response(request)
        )

    def revoke(self, form: bytes, authorization: str, now_s: float) -> Answer:
        """`POST /oauth/revoke` (RFC 7009): a token that we do not know is as good as revoked."""
        return self._answered(
            "revoke",
            form,
            authorization,
            now_s,
            lambda request: self._server.ask("revocation", request),
        )

    def introspect(self, form: bytes, authorization: str, now_s: float) -> Answer:
        """`POST /oauth/introspect` (RFC 7662)."""
        return self._answered(
            "introspect",
            form,
            authorization,
            now_s,
            lambda request: self._server.ask("introspection", request),
        )

    def _answered(
        self, name: str, form: bytes, authorization: str, now_s: float, respond: Callable[[Request], Any]
    ) -> Answer:
        try:
            given = read(form)
        except Malformed as error:
            body = {"error": "invalid_request", "error_description": error.reason}
            refusal = Answer(400, body, error="invalid_request", detail=error.reason)
            self._note_refusal(refusal, "", "")
            return refusal
        request = Request(f"{self.issuer}/oauth/{name}", given, now_s, authorization=authorization)
        with self._flows.lock:
            answer: Answer = respond(request)
        if answer.error:
            self._note_refusal(answer, request.who, request.why)
        elif request.done:
            self._audit.record("token", "done", who=request.owner, detail=request.done)
        elif (under_way := attempt()) is not None:
            under_way.lines += 1  # renewals and questions come every few minutes: no line of their own
        return answer

    def _note_refusal(self, answer: Answer, application_id: str, why: str) -> None:
        self._audit.record(
            "oauth",
            "refused",
            who=f"things/{application_id}" if application_id else "",
            detail=f"{answer.error}: {why or answer.detail}",
        )

    # The authorization endpoint

    def look(self, query: bytes, user: User | None, auth_s: float, now_s: float) -> dict[str, Any]:
        """What the page is to do with an authorization request: show it, ask for a sign-in, or send the browser on.

        Raises Malformed where the browser must not be sent anywhere.
        """
        request, application = self._request(query, now_s, auth_s)
        if application.first_party:
            raise self._refused(application.id, "this application has no page to agree on")
        shown: dict[str, Any] = {
            "application": {"id": application.id, "name": application.name, "public": application.public},
            "redirect_uri": request.form["redirect_uri"],
            "scopes": [],
            "account": user.email if user else "",
            "needs": "sign-in",
            "redirect": "",
        }
        prompts = request.form.get("prompt", "").split()
        if user is None and "none" not in prompts:
            return shown
        try:
            scopes = self._agreeable(request, user)
            if user is None:
                raise _interaction("login_required")
            needs = self._needs(request, application, user, scopes, prompts)
            if needs != "nothing" and "none" in prompts:
                raise _interaction("login_required" if needs == "sign-in" else "consent_required")
        except OAuth2Error as error:
            return {**shown, "needs": "nothing", "redirect": self._sent_back(request, error).location}
        return {**shown, "needs": needs, "scopes": sorted(scopes)}

    def decide(
        self, query: bytes, user: User, auth_s: float, now_s: float, *, allow: bool, session: str
    ) -> str:
        """Where the browser goes with a code, or with a refusal.

        `session` is the person's own, "" where a token speaks for it. Raises Malformed where it must not go anywhere.
        """
        request, application = self._request(query, now_s, auth_s)
        if application.first_party and not session:
            raise self._refused(application.id, "only a fresh sign-in is exchanged for the pages' own tokens")
        request.session = session
        try:
            self._agreeable(request, user)
        except OAuth2Error as error:
            return self._sent_back(request, error).location
        with self._flows.lock:
            answer: Any = self._server.create_authorization_response(
                request, user if allow else None, request.grant
            )
        if answer.error and answer.error != "access_denied":
            self._note_refusal(answer, application.id, "")
        elif not application.first_party:
            what = "refused by" if answer.error else "agreed to by"
            self._audit.record(
                *("oauth", "done"), who=f"users/{user.id}", detail=f"{application.id} {what} {user.email}"
            )
        elif (under_way := attempt()) is not None:
            under_way.lines += 1  # the sign-in has its line
        return str(answer.location)

    def _request(self, query: bytes, now_s: float, auth_s: float) -> tuple[Request, Application]:
        """The request and the application, where the redirect URI is one of its own. Raises Malformed."""
        try:
            given = read(query)
        except Malformed as error:
            raise self._refused("", error.reason) from None
        application = self.applications.get(given.get("client_id", ""))
        if application is None:
            raise self._refused("", "there is no such application; the address it sent you to is damaged")
        uri = given.get("redirect_uri", "")
        if not uri or not matches(uri, application.redirect_uris, public=application.public):
            raise self._refused(application.id, "the address to go back to is not one of those registered")
        request = Request(f"{self.issuer}/oauth/authorize", given, now_s, auth_s=auth_s, method="GET")
        return request, application

    def _refused(self, application_id: str, sentence: str) -> Malformed:
        self._audit.record(
            "oauth", "refused", who=f"things/{application_id}" if application_id else "", detail=sentence
        )
        return Malformed(sentence)

    def _agreeable(self, request: Request, user: User | None) -> Scopes:
        """What the request asks for, after all of it was checked. Raises OAuth2Error."""
        self._audience(request.resource)
        request.grant = self._server.checked_grant(request, user)
        return self._server.scopes_of(request)

    def _sent_back(self, request: Request, error: OAuth2Error) -> Answer:
        """The refusal for the application, by way of the browser."""
        error.redirect_uri, error.state = request.form["redirect_uri"], request.form.get("state")
        answer = self._server.with_issuer(self._server.handle_error_response(request, error))
        if error.error not in ("login_required", "consent_required"):
            self._note_refusal(answer, request.form["client_id"], "")
        return answer

    def _needs(
        self, request: Request, application: Application, user: User, scopes: Scopes, prompts: list[str]
    ) -> str:
        age = request.form.get("max_age")
        if {"login", "select_account"} & set(prompts) or (
            age and request.now_s - request.auth_s > float(age)
        ):
            return "sign-in"
        # Another program on somebody's computer may call itself by a public application's name (RFC 8252, 8.6).
        if "consent" in prompts or application.public:
            return "consent"
        before = [grant for grant in self._shared(user.id, application) if not grant.over(request.now_s)]
        return "nothing" if any(grant.scopes.cover(scopes) for grant in before) else "consent"

    def _shared(self, user_id: str, application: Application) -> list[Grant]:
        """What a person has granted to an application, the oldest first."""
        app_id = "" if application.first_party else application.id
        found = self._grants.of_owner("user", user_id, kind="oauth", limit=1000).grants
        return [grant for grant in found if grant.application_id == app_id]

    # What the protocol asks for, with the lock held

    def keep_code(self, request: Request, application: Application, user: User, scopes: Scopes) -> str:
        """A new code for what `user` agreed to. Raises Busy, RegistryFailed."""
        return self._flows.add_code(
            Code(
                "" if application.first_party else application.id,
                user.id,
                request.form["redirect_uri"],
                scopes,
                request.form["code_challenge"],
                request.form.get("nonce", ""),
                request.resource,
                request.now_s,
                request.auth_s,
                session=request.session if application.first_party else "",
            )
        )

    def take_code(self, request: Request, application: Application) -> Code | None:
        """The code that was shown, where it is good for this application. One that was used ends what it got."""
        code = self._flows.code(request.secret)
        if code is None:
            request.why = "there is no such code"
        elif code.application_id != ("" if application.first_party else application.id):
            request.why = "the code is another application's"
        elif code.grant_id:
            request.why = "the code was used before: what it had got is ended"
            self._end(code.grant_id)
        elif code.over(request.now_s):
            request.why = "the code is too old"
        else:
            return code
        return None

    def exchange(self, request: Request, code: Code, application: Application) -> dict[str, Any]:
        """The first tokens for a code, which is used up with that."""
        user = self._registry.user(code.user_id)
        assert user is not None  # Authlib has asked
        now_s, renewable = request.now_s, REFRESH in application.grant_types
        lasts_s = PAGES_S if application.first_party else ABSOLUTE_S if renewable else ACCESS_S + LEEWAY_S
        self._make_room(code.user_id, application, now_s)
        grant, _ = self._grants.add(
            *("user", code.user_id),
            name=application.name,
            scopes=code.scopes,
            now_s=now_s,
            expires_s=now_s + lasts_s,
            kind="oauth",
            application_id=code.application_id,
        )
        refresh = self._flows.begin(
            request.secret, grant.id, now_s, _idle_s(application) if renewable else None
        )
        request.owner, request.done = f"users/{user.id}", f"{application.id} signed in {user.email}"
        return self._tokens(request, application, grant, grant.scopes, refresh, code.auth_s, code.nonce)

    def take_refresh(self, request: Request, application: Application) -> ShownRefresh | None:
        """The refresh token that was shown, where it is good. One that was replaced ends the whole grant."""
        found = self._flows.refresh(request.secret)
        grant = self._grants.get(found[0].grant_id) if found else None
        if found is None or grant is None:
            request.why = "there is no such refresh token"
            return None
        refresh, newest = found
        shown = ShownRefresh(refresh, self.named(grant), grant.owner_id, grant.scopes)
        if not newest:
            request.why = "a refresh token was used twice, so somebody has a copy: the consent is ended"
            self._end(grant.id)
        elif shown.application_id != application.id:
            request.why = "the refresh token is another application's"
        elif refresh.over(request.now_s) or grant.over(request.now_s):
            request.why = "the refresh token is too old"
        elif refresh.session and self._flows.session_of(grant.id, request.now_s) is None:
            request.why = "the sign-in has ended by itself"
        else:
            return shown
        return None

    def renew(
        self, request: Request, application: Application, refresh: Refresh, scopes: Scopes
    ) -> dict[str, Any]:
        """Another access token and another refresh token."""
        grant = self._grants.get(refresh.grant_id)
        assert grant is not None  # looked at with the same lock held
        token = self._flows.rotate(refresh, request.now_s, _idle_s(application))
        self._grants.use(grant.id, request.now_s)
        return self._tokens(request, application, grant, scopes or grant.scopes, token, refresh.auth_s, "")

    def act_for_itself(self, request: Request, application: Application) -> dict[str, Any]:
        """An access token for the application as itself; those of one set of scopes hang on one grant."""
        scopes = asked_scopes(application, request.form.get("scope", ""), itself=True)
        self._audience(request.resource)
        mine = [grant for grant in self.applications.granted(application.id) if grant.owner_kind == "thing"]
        grant = next((each for each in mine if each.scopes == scopes), None)
        if grant is None:
            if len(mine) >= MAX_ITSELF:
                self._grants.remove(*(each.id for each in mine[: len(mine) - MAX_ITSELF + 1]))
            grant, _ = self._grants.add(
                *("thing", application.id),
                name=application.name,
                scopes=scopes,
                now_s=request.now_s,
                kind="oauth",
                application_id=application.id,
            )
            request.owner, request.done = f"things/{application.id}", f"{application.id} for itself: {scopes}"
        return self._tokens(request, application, grant, scopes, "", 0.0, "")

    def _make_room(self, user_id: str, application: Application, now_s: float) -> None:
        """End what was not used in time, and the oldest grants where there are too many of them."""
        shared = self._shared(user_id, application)
        most = MAX_SIGN_INS if application.first_party else MAX_OF_BOTH
        gone = [grant.id for grant in shared[: max(0, len(shared) - most + 1)]]
        gone += [each for each in self._flows.ended(now_s) if each not in gone]
        if gone := [each for each in gone if self._grants.get(each) is not None]:
            self._grants.remove(*gone)

    def _end(self, grant_id: str) -> None:
        if self._grants.get(grant_id) is not None:
            self._grants.remove(grant_id)

    # Tokens

    def _tokens(
        self,
        request: Request,
        application: Application,
        grant: Grant,
        scopes: Scopes,
        refresh: str,
        auth_s: float,
        nonce: str,
    ) -> dict[str, Any]:
        """The body of a good answer (RFC 6749, 5.1; RFC 9068, 2.2; OpenID Connect Core, 2)."""
        issued = int(request.now_s)
        subject = f"{grant.owner_kind}s/{grant.owner_id}"
        times = {"iat": issued, "exp": issued + ACCESS_S}
        access = self._signing.sign(
            {
                "iss": self.issuer,
                "aud": self._audience(request.resource),
                "sub": subject,
                **times,
                "client_id": application.id,
                "scope": str(scopes),
                "grant": grant.id,
                "jti": uuid.uuid4().hex,
            },
            ACCESS_TOKEN,
        )
        body = {"access_token": access, "token_type": "Bearer", "expires_in": ACCESS_S, "scope": str(scopes)}
        if refresh:
            body["refresh_token"] = refresh
        if "openid" in scopes and grant.owner_kind == "user":
            half = hashlib.sha256(access.encode()).digest()[:16]
            claims = {
                "iss": self.issuer,
                "aud": application.id,
                "sub": subject,
                "jti": uuid.uuid4().hex,
                **times,
                "auth_time": int(auth_s),
                "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
                **({"nonce": nonce} if nonce else {}),
            }
            body["id_token"] = self._signing.sign(claims, ID_TOKEN)
        return body

    def _audience(self, resource: str) -> str:
        """Who is to believe a token: this gateway's doors, or an application that asks about it (RFC 8707).

        Raises OAuth2Error for anything else.
        """
        if resource in ("", self.issuer, f"{self.issuer}/"):
            return AUDIENCE
        start = f"{self.issuer}/applications/"
        application = self.applications.get(resource[len(start) :]) if resource.startswith(start) else None
        if application is None or application.first_party:
            raise OAuth2Error("there is no such resource here", error="invalid_target")
        return resource

    def inspected(self, token: str, client: Client, now_s: float) -> Inspected | None:
        """What a token stands for, of this application or made for it; None where it is no good."""
        audiences = (AUDIENCE, f"{self.issuer}/applications/{client.client_id}")
        return inspect_refresh(self._flows, self._grants, token, self.named, now_s) or inspect_access(
            self._bearers.verifier, self._grants, token, audiences, self.named, now_s
        )

    def described(self, token: Inspected) -> dict[str, Any]:
        """What is told of a token (RFC 7662, 2.2)."""
        grant = token.grant
        user = self._registry.user(grant.owner_id) if grant.owner_kind == "user" else None
        return {
            "active": True,
            "scope": str(token.scopes),
            "client_id": token.application_id,
            "sub": f"{grant.owner_kind}s/{grant.owner_id}",
            "iss": self.issuer,
            "iat": int(token.issued_s),
            "exp": int(token.expires_s),
            **({"username": user.email} if user else {}),
            **({"aud": token.audience, "jti": token.jti, "token_type": "Bearer"} if token.jti else {}),
        }

    def end(self, grant_id: str) -> None:
        """End a grant, with all its tokens. Blocks. Raises RegistryFailed."""
        with self._flows.lock:
            self._end(grant_id)

    @staticmethod
    def named(grant: Grant) -> str:
        """The application through which a grant acts."""
        return grant.application_id or PAGES.id


def _idle_s(application: Application) -> float:
    return PAGES_S if application.first_party else IDLE_S


def _interaction(error: str) -> OAuth2Error:
    """OpenID Connect Core, 3.1.2.6."""
    return OAuth2Error("a person has to look at this", error=error)

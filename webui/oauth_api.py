"""Applications, consents and tokens as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import msgspec

from webui.client import Gateway, decode

FORM = "application/x-www-form-urlencoded"
_DISK = (507, 503)  # the gateway says in words what its disk will not take


class AskedScope(msgspec.Struct, frozen=True):
    scope: str
    words: str = ""
    risky: bool = False


class Asking(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    public: bool = False


class Authorization(msgspec.Struct, frozen=True):
    """What to do with the request of an application: `needs` is "sign-in", "consent" or "nothing"."""

    application: Asking
    redirect_uri: str = ""
    scopes: list[AskedScope] = []
    account: str = ""
    needs: str = "consent"
    redirect: str = ""  # where the browser goes at once, if anywhere


class Consent(msgspec.Struct, frozen=True):
    id: str
    application: Asking
    scopes: list[AskedScope] = []
    granted_at: float = 0.0  # unix seconds
    used_at: float | None = None
    expires_at: float | None = None


class Application(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    role: str = ""
    scopes: list[str] = []
    redirect_uris: list[str] = []
    grant_types: list[str] = []
    public: bool = False
    made_at: float = 0.0  # unix seconds
    secret: str | None = None  # only when it was just made

    def __repr__(self) -> str:
        return f"Application({self.id!r}, ...)"


class Issued(msgspec.Struct, frozen=True):
    """Tokens that the pages got."""

    access_token: str
    refresh_token: str = ""
    expires_in: int = 600  # seconds

    def __repr__(self) -> str:
        return "Issued(...)"


class _Redirect(msgspec.Struct, frozen=True):
    redirect: str


class _Consents(msgspec.Struct, frozen=True):
    consents: list[Consent] = []


class _Applications(msgspec.Struct, frozen=True):
    total: int = 0
    applications: list[Application] = []


class _Secret(msgspec.Struct, frozen=True):
    secret: str


@dataclass(frozen=True, slots=True)
class OAuthApi:
    """The part of the API that is about applications; raises what `Gateway` raises."""

    gateway: Gateway

    def look(self, query: str) -> Authorization:
        return decode(Authorization, self._answer("POST", "/oauth/authorizations", {"query": query}))

    def decide(self, query: str, allow: bool) -> str:
        """Where the browser goes."""
        body = {"query": query, "allow": allow}
        return decode(_Redirect, self._answer("POST", "/oauth/authorizations/decision", body)).redirect

    def token(self, fields: Mapping[str, str]) -> Issued:
        """The token endpoint, which is asked as an application and not as the person who is signed in."""
        nobody = replace(self.gateway, token="", renew=None)
        content = urlencode(fields).encode()
        answer = nobody.answer("POST", "/oauth/token", content=content, content_type=FORM, refused=_DISK)
        return decode(Issued, answer.content)

    def consents(self) -> list[Consent]:
        return decode(_Consents, self._answer("GET", "/oauth/consents")).consents

    def end_consent(self, consent_id: str) -> None:
        self._answer("DELETE", f"/oauth/consents/{consent_id}")

    def applications(self, name: str, offset: int, limit: int) -> tuple[int, list[Application]]:
        """How many there are, and some of them by name."""
        params = {"name": name, "offset": str(offset), "limit": str(limit), "order": "name"}
        found = decode(_Applications, self.gateway.answer("GET", "/applications", params=params).content)
        return found.total, found.applications

    def application(self, app_id: str) -> Application:
        return decode(Application, self._answer("GET", f"/applications/{app_id}"))

    def add_application(self, body: Mapping[str, Any]) -> Application:
        return decode(Application, self._answer("POST", "/applications", body))

    def change_application(self, app_id: str, body: Mapping[str, Any]) -> Application:
        return decode(Application, self._answer("PUT", f"/applications/{app_id}", body))

    def new_secret(self, app_id: str) -> str:
        return decode(_Secret, self._answer("POST", f"/applications/{app_id}/secret")).secret

    def remove_application(self, app_id: str) -> None:
        self._answer("DELETE", f"/applications/{app_id}")

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, refused=_DISK).content

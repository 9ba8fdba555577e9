"""The two ends of a flow, scripted: a site with a person, an application, and what a browser would do between them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from hub.applications import PAGES_ID, PAGES_URI

URI = "https://app.example.org/cb"
SCOPE = "openid email profile things:read messages:read"


def challenge(verifier: str) -> str:
    """RFC 7636, 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def query_of(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query))


@dataclass
class App:
    """An application at the other end of the network."""

    client: httpx.AsyncClient  # of the gateway
    person: dict[str, str]  # headers of who sits at the browser
    id: str
    secret: str = ""
    uri: str = URI
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def request(self, **more: str | None) -> str:
        """The query of an authorization request; None leaves a parameter out."""
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": self.uri,
            "scope": SCOPE,
            "state": "s-1",
            "code_challenge": challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        return urlencode({name: value for name, value in {**usual, **more}.items() if value is not None})

    async def look(self, query: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post(
            "/oauth/authorizations",
            json={"query": query},
            headers=self.person if headers is None else headers,
        )

    async def decide(
        self, query: str, headers: dict[str, str] | None = None, *, allow: bool = True
    ) -> httpx.Response:
        body = {"query": query, "allow": allow}
        return await self.client.post(
            "/oauth/authorizations/decision", json=body, headers=self.person if headers is None else headers
        )

    async def code(self, **more: str | None) -> str:
        """A code, agreed to."""
        answer = await self.decide(self.request(**more))
        assert answer.status_code == 200, answer.text
        found = query_of(answer.json()["redirect"])
        assert "code" in found, found
        return found["code"]

    async def form(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        return await self.client.post(path, data=fields, headers=headers)

    async def token(self, **fields: str | None) -> httpx.Response:
        """The token endpoint, with the application's own name and secret unless told otherwise."""
        usual: dict[str, str | None] = {"client_id": self.id, "client_secret": self.secret or None}
        return await self.form(
            "/oauth/token", {name: value for name, value in {**usual, **fields}.items() if value is not None}
        )

    async def exchange(self, code: str, /, **more: str | None) -> httpx.Response:
        usual: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.uri,
            "code_verifier": self.verifier,
        }
        return await self.token(**{**usual, **more})

    async def refresh(self, token: str, /, **more: str | None) -> httpx.Response:
        return await self.token(**{"grant_type": "refresh_token", "refresh_token": token, **more})

    async def tokens(self, **more: str | None) -> dict[str, Any]:
        """All the way."""
        answer = await self.exchange(await self.code(**more))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def works(self, access: str, path: str = "/things") -> int:
        """What the gateway's API answers to an access token."""
        return (await self.client.get(path, headers={"authorization": f"Bearer {access}"})).status_code


async def app_of(
    client: httpx.AsyncClient, owner: dict[str, str], *, public: bool = False, uri: str = URI, **more: Any
) -> App:
    """An application that the owner has just registered, and agrees to."""
    body = {"name": "dashboard", "redirect_uris": [uri], "scopes": SCOPE.split(), "public": public, **more}
    answer = await client.post("/applications", json=body, headers=owner)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return App(client, owner, made["id"], made["secret"] or "", uri)


def pages_of(client: httpx.AsyncClient, person: dict[str, str]) -> App:
    """The gateway's own pages, as an application."""
    return App(client, person, PAGES_ID, "", PAGES_URI)

"""Somebody else's client library gets tokens here, and finds what discovery promises."""

from __future__ import annotations

import asyncio
import importlib
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.hub.http.conftest import EMAIL, Site, site
from tests.hub.oauth.flow import URI, app_of

importlib.import_module("authlib.deprecate")  # which asks to see its warnings always
with warnings.catch_warnings():  # it would rather have httpx2, which is not what this project uses
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError

Scenario = Callable[[Site, dict[str, Any]], Awaitable[None]]
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with site(tmp_path / "data") as here:
                here.hub.oauth.configure(f"http://localhost:{here.door.port}", "http://localhost:8000")
                url = get_well_known_url(here.hub.oauth.issuer, suffix="openid-configuration")
                await scenario(here, (await here.client.get(url)).json())

        asyncio.run(main())

    return run_scenario


Run = Callable[[Scenario], None]


def test_the_metadata_is_what_the_specifications_ask_for(run: Run) -> None:
    async def scenario(here: Site, found: dict[str, Any]) -> None:
        AuthorizationServerMetadata(found).validate()
        # ES256 alone, where OpenID Connect Discovery would have RS256 besides: one kind of key for all tokens.
        assert found["id_token_signing_alg_values_supported"] == ["ES256"]
        OpenIDProviderMetadata(
            {**found, "id_token_signing_alg_values_supported": ["ES256", "RS256"]}
        ).validate()
        assert found == (await here.client.get("/.well-known/oauth-authorization-server")).json()
        assert found["issuer"] == here.hub.oauth.issuer
        assert found["response_types_supported"] == ["code"]
        assert found["code_challenge_methods_supported"] == ["S256"]
        assert "password" not in found["grant_types_supported"]
        for name, url in found.items():
            if name.endswith("_endpoint") and name != "authorization_endpoint":
                method = "GET" if name == "userinfo_endpoint" else "POST"
                assert (await here.client.request(method, url)).status_code in (400, 401), name
        assert (await here.client.get(found["jwks_uri"])).json()["keys"]

    run(scenario)


def test_a_foreign_client_signs_in_stays_signed_in_and_leaves(run: Run) -> None:
    async def scenario(here: Site, found: dict[str, Any]) -> None:
        app = await app_of(here.client, here.user)
        for method in ("client_secret_basic", "client_secret_post"):
            async with AsyncOAuth2Client(
                *(app.id, app.secret, method),
                redirect_uri=URI,
                scope="openid email things:read",
                code_challenge_method="S256",
                trust_env=False,
            ) as client:
                url, state = client.create_authorization_url(
                    found["authorization_endpoint"], code_verifier=VERIFIER, nonce="n-0S6"
                )
                assert "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" in url  # of RFC 7636, appendix B
                back = (await app.decide(url.partition("?")[2])).json()["redirect"]
                token = await client.fetch_token(
                    found["token_endpoint"], authorization_response=back, code_verifier=VERIFIER, state=state
                )
                keys = KeySet.import_key_set((await here.client.get(found["jwks_uri"])).json())
                decoded = jwt.decode(token["id_token"], keys, algorithms=["ES256"])
                claims = CodeIDToken(
                    decoded.claims,
                    decoded.header,
                    options={"iss": {"value": found["issuer"]}, "aud": {"value": app.id}},
                    params={"nonce": "n-0S6", "access_token": token["access_token"], "client_id": app.id},
                )
                claims.validate(now=int(time.time()))
                told = (await client.get(found["userinfo_endpoint"])).json()
                assert (told["sub"], told["email"]) == (decoded.claims["sub"], EMAIL)
                before = token["access_token"]
                token = await client.refresh_token(found["token_endpoint"])
                assert token["access_token"] != before
                assert (await client.get(f"{found['issuer']}/things")).status_code == 200
                asked = await client.introspect_token(found["introspection_endpoint"], token["access_token"])
                assert asked.json()["active"] is True
                await client.revoke_token(found["revocation_endpoint"], token["refresh_token"])
                assert (await client.get(f"{found['issuer']}/things")).status_code == 401
                with pytest.raises(OAuthError, match="invalid_grant"):
                    await client.refresh_token(found["token_endpoint"], token["refresh_token"])

    run(scenario)


def test_a_foreign_client_acts_for_itself(run: Run) -> None:
    async def scenario(here: Site, found: dict[str, Any]) -> None:
        made = (await here.post("/applications", {"name": "robot"})).json()
        here.hub.registry.connect([here.channel_id], [made["id"]])
        async with AsyncOAuth2Client(made["id"], made["secret"], trust_env=False) as client:
            await client.fetch_token(found["token_endpoint"], grant_type="client_credentials")
            answer = await client.post(f"{found['issuer']}{here.messages}", json={"rain": True})
            assert answer.status_code == 202
            with pytest.raises(OAuthError, match="unsupported_grant_type"):
                await client.fetch_token(found["token_endpoint"], username=EMAIL, password="x")

    run(scenario)


def test_what_is_not_spoken_is_refused_in_words(run: Run) -> None:
    async def scenario(here: Site, found: dict[str, Any]) -> None:
        answer = await here.client.post(found["token_endpoint"], json={"grant_type": "client_credentials"})
        assert answer.json()["error"] == "invalid_request"
        assert "form" in answer.json()["error_description"]
        async with httpx.AsyncClient(trust_env=False, timeout=30) as nobody:
            answer = await nobody.post(found["token_endpoint"], data={"grant_type": "client_credentials"})
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
            assert answer.headers["www-authenticate"].startswith("Basic ")

    run(scenario)

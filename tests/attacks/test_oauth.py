"""Attacks on OAuth (RFC 9700, 4): nothing gets through, and each leaves one line in the audit log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from hub.oauth import flows, parameters, protocol, service
from hub.oauth.flows import CODE_S
from hub.timekeeping import TimeQuality
from tests.attacks.conftest import RunSite, Site
from tests.hub.oauth.flow import URI, App, app_of, challenge, pages_of, query_of

LOOPBACK = "http://127.0.0.1/cb"
EVIL = "https://evil.example/cb"

REDIRECTS = [
    EVIL,
    "https://app.example.org@evil.example/cb",
    "https://app.example.org:x@evil.example/cb",
    "https://app.example.org%40evil.example/cb",
    "https://app.example.org%2eevil.example/cb",
    "https://app.example.org.evil.example/cb",
    "https://evil.example/https://app.example.org/cb",
    "https://evil.example#https://app.example.org/cb",
    "https://evil.example?https://app.example.org/cb",
    "https://evil.example\\@app.example.org/cb",
    "https:\\\\app.example.org\\cb",
    "https:///evil.example/cb",
    "//evil.example/cb",
    "///evil.example/cb",
    "/\\evil.example/cb",
    "/cb",
    "https:app.example.org/cb",
    "https:/app.example.org/cb",
    "http://app.example.org/cb",
    "HTTPS://app.example.org/cb",
    "https://APP.example.org/cb",
    "https://app.example.org/CB",
    "https://app.example.org/cb/",
    "https://app.example.org/cb//",
    "https://app.example.org//cb",
    "https://app.example.org/./cb",
    "https://app.example.org/x/../cb",
    "https://app.example.org/cb/..",
    "https://app.example.org/cb/../../evil",
    "https://app.example.org/%63b",
    "https://app.example.org/c%62",
    "https://app.example.org/cb%2f",
    "https://app.example.org/cb%2e%2e",
    "https://app.example.org/cb%00",
    "https://app.example.org/cb%0d%0aLocation:%20https://evil.example",
    "https://app.example.org/cb\r\nLocation: https://evil.example",
    "https://app.example.org/cb\x00",
    "https://app.example.org/cb ",
    " https://app.example.org/cb",
    "https://app.example.org/cb\t",
    "https://app.example.org/cb?",
    "https://app.example.org/cb?next=https://evil.example",
    "https://app.example.org/cb#",
    "https://app.example.org/cb#access_token=x",
    "https://app.example.org:443/cb",
    "https://app.example.org:8443/cb",
    "https://app.example.org./cb",
    "https://sub.app.example.org/cb",
    "https://example.org/cb",
    "https://*.example.org/cb",
    "https://\uff41pp.example.org/cb",
    "https://app\u3002example.org/cb",
    "https://\u202eapp.example.org/cb",
    "https://[::ffff:93.184.216.34]/cb",
    "javascript:alert(1)//https://app.example.org/cb",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "file:///etc/passwd",
    "urn:ietf:wg:oauth:2.0:oob",
    "urn:fluxgate:webui",
    "com.example.app:/cb",
    "a" * 5000,
]
LOOPBACKS = [
    "http://127.0.0.1:80@evil.example/cb",
    "http://127.0.0.1:99999/cb",
    "http://127.0.0.1:0/cb",
    "http://127.0.0.1:1234/evil",
    "http://127.0.0.1:1234/cb/../evil",
    "http://127.0.0.1:1234/cb?x",
    "http://127.0.0.1.evil.example/cb",
    "http://127.0.0.2:1234/cb",
    "http://127.1:1234/cb",
    "http://2130706433:1234/cb",
    "http://0x7f000001:1234/cb",
    "http://localhost:1234/cb",
    "http://[::1]:1234/cb",
    "https://127.0.0.1:1234/cb",
]


def test_a_code_goes_to_the_registered_address_and_nowhere_else(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        phone = await app_of(s.client, s.owner.headers, public=True, uri=LOOPBACK)
        for one, addresses in ((app, REDIRECTS), (phone, [*LOOPBACKS, *REDIRECTS[:10]])):
            for uri in addresses:
                async with s.refused_once("oauth"):
                    answer = await one.decide(one.request(redirect_uri=uri))
                assert answer.status_code == 400, uri
                assert "redirect" not in answer.json()
        async with s.refused_once("oauth"):
            assert (await app.decide(app.request(redirect_uri=None))).status_code == 400
        async with s.refused_once("oauth"):
            twice = f"{app.request()}&redirect_uri={quote(EVIL)}"
            assert (await app.decide(twice)).status_code == 400
        async with s.accepted():
            assert await app.code()
            phone.uri = "http://127.0.0.1:1234/cb"
            assert await phone.code()

    site(scenario)


def test_without_the_comparison_a_foreign_address_gets_a_code(
    site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        for module in (service, protocol):
            monkeypatch.setattr(module, "matches", lambda *_, **__: True)
        redirect = (await app.decide(app.request(redirect_uri=EVIL))).json()["redirect"]
        assert redirect.startswith(f"{EVIL}?code=")

    site(scenario)


V = "v" * 43
BAD_REQUESTS: dict[str, dict[str, str | None]] = {
    "no PKCE": {"code_challenge": None, "code_challenge_method": None},
    "no challenge": {"code_challenge": None},
    "no method, which means plain": {"code_challenge_method": None},
    "plain": {"code_challenge": V, "code_challenge_method": "plain"},
    "Plain": {"code_challenge": V, "code_challenge_method": "Plain"},
    "s256 in small letters": {"code_challenge_method": "s256"},
    "S512": {"code_challenge_method": "S512"},
    "two methods": {"code_challenge_method": "S256 plain"},
    "an empty challenge": {"code_challenge": ""},
    "a short challenge": {"code_challenge": "a" * 42},
    "a long challenge": {"code_challenge": "a" * 44},
    "a padded challenge": {"code_challenge": "a" * 42 + "="},
    "a challenge that is no base64url": {"code_challenge": "+" * 43},
    "implicit": {"response_type": "token"},
    "id_token": {"response_type": "id_token"},
    "hybrid": {"response_type": "code token"},
    "hybrid with id_token": {"response_type": "code id_token"},
    "no response type": {"response_type": None},
    "CODE": {"response_type": "CODE"},
    "a response type with quotes": {"response_type": '"code"'},
    "response type none": {"response_type": "none"},
    "fragment": {"response_mode": "fragment"},
    "form_post": {"response_mode": "form_post"},
    "web_message": {"response_mode": "web_message"},
    "a request object": {"request": "eyJhbGciOiJub25lIn0.e30."},
    "a request by reference": {"request_uri": "https://evil.example/request"},
    "registration": {"registration": "{}"},
    "more than the application has": {"scope": "openid users:write"},
    "the account itself": {"scope": "account:write"},
    "another verb": {"scope": "things:write"},
    "everything": {"scope": "*"},
    "unknown": {"scope": "root"},
    "scopes with a line end": {"scope": "openid\nusers:write"},
    "scopes with a tab": {"scope": "openid\tusers:write"},
    "scopes with a quote": {"scope": 'openid "users:write"'},
    "two spaces": {"scope": "openid  users:write"},
    "a scope in capitals": {"scope": "THINGS:READ"},
    "a path in a scope": {"scope": "things:read:../users"},
    "prompt none and login": {"prompt": "none login"},
    "an unknown prompt": {"prompt": "never"},
    "max_age of words": {"max_age": "forever"},
    "max_age below nothing": {"max_age": "-1"},
    "a nonce without end": {"nonce": "n" * 513},
    "a nonce with a line end": {"nonce": "a\nb"},
    "a state without end": {"state": "s" * 2049},
    "a state with a line end": {"state": "a\r\nb"},
    "a state that is no ASCII": {"state": "\u00fc"},
    "another resource": {"resource": "https://evil.example"},
    "an application that is not there as resource": {"resource": "http://localhost:8080/applications/x"},
    "the pages as resource": {"resource": "http://localhost:8080/applications/fluxgate-webui"},
}


def test_a_request_that_asks_for_less_safety_or_more_rights_gets_no_code(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        for name, change in BAD_REQUESTS.items():
            async with s.refused_once("oauth", who=f"things/{app.id}"):
                answer = await app.decide(app.request(**change))
            assert answer.status_code == 200, (name, answer.text)
            redirect = answer.json()["redirect"]
            back = query_of(redirect)
            assert redirect.startswith(f"{URI}?"), name
            assert "code" not in back, name
            assert back["error"], name
            assert back["iss"] == s.hub.oauth.issuer, name  # RFC 9207, 2: also in refusals
            assert "\r" not in redirect, name
        assert s.hub.registry.grants.of_application(app.id).total == 0

    site(scenario)


REPEATED = (
    "client_id",
    "scope",
    "state",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "nonce",
)


def test_a_parameter_that_stands_twice_is_not_believed_either_way(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        for name in REPEATED:
            async with s.refused_once("oauth"):
                query = f"{app.request(prompt='consent', nonce='n')}&{name}=x"
                assert (await app.decide(query)).status_code == 400, name
        for damaged in ("%ff%fe", "client_id=%c3", "&" * 100_000, "x=" + "y" * 20_000, ""):
            async with s.refused_once("oauth"):
                assert (await app.decide(damaged)).status_code == 400
        async with s.refused_once("oauth"):
            assert (await app.decide(app.request(client_id="nobody"))).status_code == 400

    site(scenario)


def test_without_the_demand_for_s256_a_plain_challenge_gets_a_code(
    site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        monkeypatch.setattr(parameters, "check_challenge", lambda _: None)
        monkeypatch.setattr(protocol.S256, "validate_code_challenge", lambda *_: None)
        assert await app.code(code_challenge=V, code_challenge_method="plain")

    site(scenario)


def exchanges(app: App, other: App, phone: App) -> dict[str, dict[str, str | None]]:
    """What is wrong with each exchange of a good code."""
    return {
        "another verifier": {"code_verifier": "w" * 43},
        "no verifier": {"code_verifier": None},
        "the challenge as verifier, as plain would have it": {"code_verifier": challenge(app.verifier)},
        "a short verifier": {"code_verifier": "w" * 42},
        "a verifier with a line end": {"code_verifier": app.verifier + "\n"},
        "an empty verifier": {"code_verifier": ""},
        "another address": {"redirect_uri": EVIL},
        "the address with a slash": {"redirect_uri": f"{URI}/"},
        "no address": {"redirect_uri": None},
        "a wrong secret": {"client_secret": "x" * 43},
        "no secret": {"client_secret": None},
        "an empty secret": {"client_secret": ""},
        "another application's secret": {"client_secret": other.secret},
        "another application": {"client_id": other.id, "client_secret": other.secret},
        "a public application": {"client_id": phone.id, "client_secret": None},
        "the pages": {"client_id": "fluxgate-webui", "client_secret": None},
        "a public application with somebody's secret": {"client_id": phone.id},
        "no application": {"client_id": None, "client_secret": None},
        "an unknown application": {"client_id": "nobody"},
        "a thing that is no application": {"client_id": "nobody", "client_secret": "x"},
        "no code": {"code": None},
        "an empty code": {"code": ""},
        "a made-up code": {"code": "fgc_" + "x" * 43},
        "another resource": {"resource": "http://localhost:8080"},
        "password": {
            "grant_type": "password",
            "username": "owner@example.org",
            "password": "four or five easy words",
        },
        "implicit": {"grant_type": "implicit"},
        "no grant type": {"grant_type": None},
        "device code": {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "x"},
        "JWT bearer": {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "e30.e30."},
        "token exchange": {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": "x",
        },
        "a grant type with quotes": {"grant_type": 'authorization"code'},
        "client credentials that it does not have": {"grant_type": "client_credentials"},
        "an assertion in place of a secret": {
            "client_secret": None,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": "eyJhbGciOiJub25lIn0.e30.",
        },
    }


def test_a_code_is_worth_nothing_without_all_that_belongs_to_it(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        owner = s.owner.headers
        app, other = await app_of(s.client, owner), await app_of(s.client, owner)
        phone = await app_of(s.client, owner, public=True)
        for name, change in exchanges(app, other, phone).items():
            code = await app.code()
            async with s.refused_once("oauth"):
                answer = await app.exchange(code, **change)
            assert answer.status_code in (400, 401), (name, answer.text)
            assert answer.json()["error"], name
            assert "access_token" not in answer.text, name
        code = await app.code()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": URI,
            "code_verifier": app.verifier,
        }
        twice: list[Callable[[], Coroutine[Any, Any, httpx.Response]]] = [
            lambda: s.client.post(
                "/oauth/token", data={**fields, "client_secret": app.secret}, auth=(app.id, app.secret)
            ),
            lambda: s.client.post(
                "/oauth/token", data={**fields, "client_id": other.id}, auth=(app.id, app.secret)
            ),
            lambda: s.client.post("/oauth/token", data=fields, auth=(app.id, other.secret)),
            lambda: s.client.post(
                "/oauth/token", data=fields, headers={"authorization": f"Bearer {s.owner.token}"}
            ),
            lambda: s.client.post("/oauth/token", data=fields, headers={"authorization": "Basic ///"}),
            lambda: s.client.post(
                "/oauth/token",
                content=f"{urlencode({**fields, 'client_id': app.id, 'client_secret': app.secret})}&code=x",
                headers={"content-type": "application/x-www-form-urlencoded"},
            ),
        ]
        for ask in twice:
            async with s.refused_once("oauth"):
                assert (await ask()).status_code in (400, 401)
        secret = urlencode({"client_id": app.id, "client_secret": app.secret})
        async with s.refused_once("oauth"):
            assert (await s.client.post(f"/oauth/token?{secret}", data=fields)).status_code == 400
        async with s.refused_once("oauth"):
            assert (
                await s.client.post("/oauth/token", json={**fields, "client_id": app.id})
            ).status_code == 400
        assert (await s.client.get(f"/oauth/token?{urlencode(fields)}")).status_code == 405
        async with s.accepted():
            answer = await s.client.post("/oauth/token", data=fields, auth=(app.id, app.secret))
            assert answer.status_code == 200

    site(scenario)


def test_a_code_is_used_once_under_fifty_calls_and_its_second_use_ends_the_grant(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        code = await app.code()
        answers = await asyncio.gather(*(app.exchange(code) for _ in range(50)))
        good = [answer for answer in answers if answer.status_code == 200]
        assert len(good) == 1
        assert {answer.json()["error"] for answer in answers if answer not in good} == {"invalid_grant"}
        tokens = good[0].json()
        assert await app.works(tokens["access_token"]) == 401
        assert (await app.refresh(tokens["refresh_token"])).status_code == 400
        code = await app.code()
        tokens = (await app.exchange(code)).json()
        async with s.refused_once("oauth", who=f"things/{app.id}"):
            assert (await app.exchange(code)).json()["error"] == "invalid_grant"
        async with s.refused_once("access"):
            assert await app.works(tokens["access_token"]) == 401
        assert s.hub.registry.grants.of_application(app.id).total == 0

    site(scenario)


def test_an_old_code_is_void(site: RunSite) -> None:
    later = 0.0

    def clock() -> tuple[int, TimeQuality]:
        return int((1_780_000_000 + later) * 1e9), TimeQuality.NTP

    async def scenario(s: Site) -> None:
        nonlocal later
        app = await app_of(s.client, s.owner.headers)
        for wait in (CODE_S, CODE_S + 1, 3600.0, -10.0):
            code = await app.code()
            later += wait
            async with s.refused_once("oauth"):
                assert (await app.exchange(code)).json()["error"] == "invalid_grant"
        code = await app.code()
        later += CODE_S - 1
        assert (await app.exchange(code)).status_code == 200

    site(scenario, clock=clock)


def test_without_a_look_at_the_age_an_old_code_still_works(
    site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = 0.0

    def clock() -> tuple[int, TimeQuality]:
        return int((1_780_000_000 + later) * 1e9), TimeQuality.NTP

    async def scenario(s: Site) -> None:
        nonlocal later
        app = await app_of(s.client, s.owner.headers)
        code = await app.code()
        later += 3600.0
        monkeypatch.setattr(flows.Code, "over", lambda *_: False)
        assert (await app.exchange(code)).status_code == 200

    site(scenario, clock=clock)


def test_a_refresh_token_shown_twice_ends_the_family(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        owner = s.owner.headers
        for public in (False, True):
            app = await app_of(s.client, owner, public=public)
            first = await app.tokens()
            second = (await app.refresh(first["refresh_token"])).json()
            third = (await app.refresh(second["refresh_token"])).json()
            async with s.refused_once("oauth", who=f"things/{app.id}"):
                assert (await app.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
            for tokens in (second, third):
                async with s.refused_once("oauth"):
                    assert (await app.refresh(tokens["refresh_token"])).status_code == 400
            for tokens in (first, second, third):
                async with s.refused_once("access"):
                    assert await app.works(tokens["access_token"]) == 401
        app = await app_of(s.client, owner)
        tokens = await app.tokens()
        answers = await asyncio.gather(*(app.refresh(tokens["refresh_token"]) for _ in range(50)))
        good = [answer.json() for answer in answers if answer.status_code == 200]
        assert len(good) == 1
        assert await app.works(good[0]["access_token"]) == 401
        assert (await app.refresh(good[0]["refresh_token"])).status_code == 400

    site(scenario)


def test_without_the_look_at_the_newest_an_old_refresh_token_works(
    site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        first = await app.tokens()
        await app.refresh(first["refresh_token"])
        monkeypatch.setattr("hub.oauth.flows.hmac.compare_digest", lambda *_: True)
        assert (await app.refresh(first["refresh_token"])).status_code == 200

    site(scenario)


def test_a_refresh_token_is_its_applications_own_and_never_gets_more(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        owner = s.owner.headers
        app, other = await app_of(s.client, owner), await app_of(s.client, owner)
        phone, thief = await app_of(s.client, owner, public=True), await app_of(s.client, owner, public=True)
        tokens, calls = await app.tokens(scope="openid things:read"), await phone.tokens()
        refused: dict[str, tuple[App, str, dict[str, str | None]]] = {
            "another application": (other, tokens["refresh_token"], {}),
            "another public application": (thief, calls["refresh_token"], {}),
            "a public one's by one with a secret": (other, calls["refresh_token"], {}),
            "the pages": (pages_of(s.client, owner), calls["refresh_token"], {}),
            "no secret": (app, tokens["refresh_token"], {"client_secret": None}),
            "a wrong secret": (app, tokens["refresh_token"], {"client_secret": "x" * 43}),
            "nobody": (app, tokens["refresh_token"], {"client_id": None, "client_secret": None}),
            "more than was granted": (app, tokens["refresh_token"], {"scope": "things:read messages:read"}),
            "much more": (app, tokens["refresh_token"], {"scope": "users:write"}),
            "unknown": (app, tokens["refresh_token"], {"scope": "root"}),
            "a scope with a line end": (app, tokens["refresh_token"], {"scope": "things:read\nusers:write"}),
            "another resource": (app, tokens["refresh_token"], {"resource": s.hub.oauth.issuer}),
            "the access token": (app, tokens["access_token"], {}),
            "the identity token": (app, tokens["id_token"], {}),
            "nothing": (app, "", {}),
        }
        for name, (one, token, change) in refused.items():
            async with s.refused_once("oauth"):
                answer = await one.refresh(token, **change)
            assert answer.status_code in (400, 401), name
        chance = random.Random(9700)
        for _ in range(30):
            text = list(tokens["refresh_token"])
            where = chance.randrange(4, len(text))
            text[where] = chance.choice("abcXYZ019-_")
            if "".join(text) != tokens["refresh_token"]:
                answer = await app.refresh("".join(text))
                assert answer.json()["error"] == "invalid_grant"
        async with s.accepted():  # none of it has harmed who holds the token
            assert (await app.refresh(tokens["refresh_token"])).status_code == 200
            assert (await phone.refresh(calls["refresh_token"])).status_code == 200

    site(scenario)


def test_a_token_is_good_at_its_own_place_alone(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        owner = s.owner.headers
        app, server = await app_of(s.client, owner), await app_of(s.client, owner)
        elsewhere = await app.tokens(resource=f"{s.hub.oauth.issuer}/applications/{server.id}")
        tokens = await app.tokens()
        for path in ("/things", "/users/profile", "/oauth/userinfo", "/oauth/consents"):
            for token in (elsewhere["access_token"], tokens["id_token"], tokens["refresh_token"]):
                async with s.refused_once("access"):
                    assert await app.works(token, path) == 401, path
        only = await app.tokens(scope="things:read")
        for path in ("/oauth/userinfo", "/oauth/consents", "/channels", "/users", "/password", "/sessions"):
            method = "PATCH" if path == "/password" else "GET"
            bearer = {"authorization": f"Bearer {only['access_token']}"}
            async with s.refused_once("access"):
                assert (await s.client.request(method, path, headers=bearer, json={})).status_code == 403, (
                    path
                )
        for kind in ("access_token", "refresh_token"):
            told = {"token": tokens[kind], "client_id": server.id, "client_secret": server.secret}
            assert (await s.client.post("/oauth/introspect", data=told)).json() == {"active": False}
            async with s.refused_once("oauth"):
                assert (await s.client.post("/oauth/revoke", data=told)).status_code == 400
            for wrong in ({"client_secret": "x"}, {"client_id": "nobody"}):
                async with s.refused_once("oauth"):
                    assert (
                        await s.client.post("/oauth/introspect", data={**told, **wrong})
                    ).status_code == 401
        assert await app.works(tokens["access_token"]) == 200

    site(scenario)


def test_what_was_granted_ends_with_the_person_the_application_and_the_consent(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        registry, owner = s.hub.registry, s.owner.headers

        async def ends(end: Callable[[App, dict[str, Any]], Any]) -> None:
            person = s.person(f"p{len(registry.users())}@example.org", "viewer")
            app = await app_of(s.client, owner)
            app.person = person.headers
            tokens = await app.tokens()
            assert await app.works(tokens["access_token"]) == 200
            await end(app, {"user": person.user.id, "headers": person.headers, "tokens": tokens})
            async with s.refused_once("access"):
                assert await app.works(tokens["access_token"]) == 401
            async with s.refused_once("oauth"):
                assert (await app.refresh(tokens["refresh_token"])).status_code in (400, 401)

        async def account(_: App, more: dict[str, Any]) -> None:
            await s.client.delete(f"/users/{more['user']}", headers=owner)

        async def application(app: App, _: dict[str, Any]) -> None:
            await s.client.delete(f"/applications/{app.id}", headers=owner)

        async def thing(app: App, _: dict[str, Any]) -> None:
            await s.client.delete(f"/things/{app.id}", headers=owner)

        async def scopes(app: App, _: dict[str, Any]) -> None:
            await s.client.put(f"/applications/{app.id}", json={"scopes": ["openid"]}, headers=owner)

        async def consent(_: App, more: dict[str, Any]) -> None:
            for each in (await s.client.get("/oauth/consents", headers=more["headers"])).json()["consents"]:
                await s.client.delete(f"/oauth/consents/{each['id']}", headers=more["headers"])

        async def given_back(app: App, more: dict[str, Any]) -> None:
            fields = {
                "token": more["tokens"]["access_token"],
                "client_id": app.id,
                "client_secret": app.secret,
            }
            assert (await s.client.post("/oauth/revoke", data=fields)).status_code == 200

        for end in (account, application, thing, scopes, consent, given_back):
            await ends(end)

    site(scenario)


def test_nobody_but_the_person_agrees(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        owner = s.owner.headers
        app, other = await app_of(s.client, owner), await app_of(s.client, owner)
        token = (await app.tokens())["access_token"]
        value = (
            await s.client.post("/keys", json={"name": "k", "scopes": ["things:read"]}, headers=owner)
        ).json()
        impostors = {
            "an application's token": {"authorization": f"Bearer {token}"},
            "an API key": {"authorization": f"Bearer {value['value']}"},
            "a thing": s.device.headers,
            "an application's secret": {"authorization": f"Thing {other.secret}"},
            "nobody": {"authorization": ""},
            "a session that never was": {"authorization": "Bearer " + "x" * 43},
        }
        for name, headers in impostors.items():
            async with s.refused_once("access"):
                answer = await other.decide(other.request(), headers)
            assert answer.status_code in (401, 403), name
            shown = (await other.look(other.request(), headers)).json()
            assert (shown["account"], shown["needs"]) == ("", "sign-in"), name
        foreign = (await s.client.get("/oauth/consents", headers=owner)).json()["consents"][0]["id"]
        viewer = s.people["viewer"].headers
        assert (await s.client.delete(f"/oauth/consents/{foreign}", headers=viewer)).status_code == 404
        assert (await s.client.get("/oauth/consents", headers=viewer)).json()["consents"] == []

    site(scenario)


def test_nobody_passes_as_the_gateways_own_pages(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        pages = pages_of(s.client, s.owner.headers)
        for uri in (
            EVIL,
            "http://127.0.0.1/cb",
            "urn:fluxgate:webui2",
            "URN:fluxgate:webui",
            "urn:fluxgate:webui#",
        ):
            async with s.refused_once("oauth"):
                assert (await pages.decide(pages.request(redirect_uri=uri))).status_code == 400
        async with s.refused_once("oauth"):
            assert (await pages.look(pages.request())).status_code == 400
        tokens = await pages.tokens(scope=None)
        own = {"authorization": f"Bearer {tokens['access_token']}"}
        async with s.refused_once("oauth"):  # a token does not outlive its sign-in by making another
            assert (await pages.decide(pages.request(scope=None), own)).status_code == 400
        async with s.refused_once("oauth"):
            answer = await pages.token(grant_type="client_credentials")
            assert answer.json()["error"] == "invalid_client"
        app = await app_of(s.client, s.owner.headers)
        async with s.refused_once("oauth"):
            assert (await pages.refresh((await app.tokens())["refresh_token"])).status_code == 400
        for taken in (
            {"id": "fluxgate-webui"},
            {"redirect_uris": ["urn:fluxgate:webui"]},
            {"scopes": ["account:write"]},
        ):
            body = {"name": "mine", "redirect_uris": [URI], **taken}
            assert (await s.client.post("/applications", json=body, headers=s.owner.headers)).status_code in (
                400,
                409,
            )

    site(scenario)


def test_a_code_of_one_gateway_is_none_of_another(site: RunSite) -> None:
    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        issuer = s.hub.oauth.issuer
        told = (await s.client.get("/.well-known/openid-configuration")).json()
        assert told["authorization_response_iss_parameter_supported"] is True
        for header in ("evil.example", "evil.example:8080"):
            answer = await s.client.get("/.well-known/openid-configuration", headers={"host": header})
            # What a request calls the gateway is not what it is called
            assert answer.json()["issuer"] == issuer
        forwarded = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
        answer = await s.client.get("/.well-known/openid-configuration", headers=forwarded)
        assert "evil.example" not in answer.text
        assert query_of((await app.decide(app.request())).json()["redirect"])["iss"] == issuer
        for foreign in ("fgc_" + "A" * 43, "SplxlOBeZQQYbYS6WxSbIA", "fgr_" + "A" * 88):
            async with s.refused_once("oauth"):
                assert (await app.exchange(foreign)).json()["error"] == "invalid_grant"
            async with s.refused_once("oauth"):
                assert (await app.refresh(foreign)).json()["error"] == "invalid_grant"

    site(scenario)


def test_secrets_are_in_no_log_and_no_refusal(site: RunSite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def scenario(s: Site) -> None:
        app = await app_of(s.client, s.owner.headers)
        code = await app.code()
        tokens = (await app.exchange(code)).json()
        tokens |= (await app.refresh(tokens["refresh_token"])).json()
        answers = [await app.exchange(code), await app.refresh(tokens["refresh_token"])]
        secrets = [
            code,
            app.secret,
            app.verifier,
            tokens["access_token"],
            tokens["refresh_token"],
            tokens["id_token"],
        ]
        lines = "\n".join(str(line) for line in s.audited())
        for secret in secrets:
            assert secret not in caplog.text
            assert secret not in lines
            assert all(secret not in answer.text for answer in answers)

    site(scenario)


def test_there_are_enough_of_them() -> None:
    listed = len(REDIRECTS) + len(LOOPBACKS) + 10 + len(BAD_REQUESTS) + len(REPEATED) + 33 + 15 + 30
    assert listed >= 150

"""The flows as they should go, over a real HTTP door."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from hub.access import Action, Principal, Resource
from hub.oauth.words import is_risky, words
from hub.tokens.bearer import AUDIENCE
from hub.tokens.scopes import NOUNS, OPENID, VERBS
from tests.hub.http.conftest import EMAIL, Site, site
from tests.hub.oauth.flow import SCOPE, URI, app_of, pages_of, query_of

Scenario = Callable[[Site], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with site(tmp_path / "data") as here:
                await scenario(here)

        asyncio.run(main())

    return run_scenario


Run = Callable[[Scenario], None]


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def test_a_code_becomes_tokens_that_work(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        shown = (await app.look(app.request())).json()
        assert shown["application"]["name"] == "dashboard"
        assert (shown["needs"], shown["account"]) == ("consent", EMAIL)
        assert {each["scope"] for each in shown["scopes"]} == set(SCOPE.split())
        redirect = (await app.decide(app.request())).json()["redirect"]
        back = query_of(redirect)
        assert redirect.startswith(f"{URI}?")
        assert (back["state"], back["iss"]) == ("s-1", here.hub.oauth.issuer)
        answer = await app.exchange(back["code"])
        assert answer.headers["cache-control"] == "no-store"
        tokens = answer.json()
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
        assert set(tokens["scope"].split()) == set(SCOPE.split())
        assert await app.works(tokens["access_token"]) == 200
        claims = claims_of(tokens["access_token"])
        assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"
        assert (claims["aud"], claims["client_id"]) == (AUDIENCE, app.id)
        assert claims["exp"] - claims["iat"] == 600

    run(scenario)


def test_what_was_not_granted_does_not_work(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        tokens = await app.tokens(scope="things:read")
        assert await app.works(tokens["access_token"]) == 200
        assert await app.works(tokens["access_token"], "/channels") == 403
        assert await app.works(tokens["access_token"], "/oauth/userinfo") == 403
        body = {"authorization": f"Bearer {tokens['access_token']}"}
        assert (await here.client.post("/things", json={}, headers=body)).status_code == 403

    run(scenario)


def test_refresh_tokens_go_round(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        tokens = await app.tokens()
        for _ in range(3):
            answer = await app.refresh(tokens["refresh_token"])
            assert answer.status_code == 200, answer.text
            assert answer.json()["refresh_token"] != tokens["refresh_token"]
            tokens = answer.json()
        assert await app.works(tokens["access_token"]) == 200
        less = (await app.refresh(tokens["refresh_token"], scope="things:read")).json()
        assert less["scope"] == "things:read"
        more = (await app.refresh(less["refresh_token"])).json()
        assert set(more["scope"].split()) == set(SCOPE.split())

    run(scenario)


def test_a_refresh_token_has_one_spelling_and_others_harm_nobody(run: Run) -> None:
    """Of the last character before the padding four bits are unused (RFC 4648, 3.5)."""
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        token = (await app.tokens())["refresh_token"]
        body, last = token[:-3], letters.index(token[-3])
        assert token.endswith("==")
        for other in range(last & 0x30, (last & 0x30) + 16):
            if other != last:
                answer = await app.refresh(f"{body}{letters[other]}==")
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert (await app.refresh(token)).status_code == 200

    run(scenario)


def test_a_public_application_has_pkce_alone(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user, public=True, uri="http://127.0.0.1/cb")
        app.uri = "http://127.0.0.1:51234/cb"
        tokens = await app.tokens()
        assert await app.works(tokens["access_token"]) == 200
        assert (await app.refresh(tokens["refresh_token"])).status_code == 200

    run(scenario)


def test_an_application_acts_for_itself(run: Run) -> None:
    async def scenario(here: Site) -> None:
        made = (await here.post("/applications", {"name": "robot"})).json()
        registry = here.hub.registry
        registry.connect([here.channel_id], [made["id"]])
        answers = [
            await here.client.post(
                "/oauth/token",
                data={"grant_type": "client_credentials", "scope": "messages:write"},
                auth=(made["id"], made["secret"]),
            )
            for _ in range(3)
        ]
        assert {answer.status_code for answer in answers} == {200}
        body = answers[0].json()
        assert "refresh_token" not in body
        assert claims_of(body["access_token"])["sub"] == f"things/{made['id']}"
        assert registry.grants.of_application(made["id"]).total == 1
        headers = {"authorization": f"Bearer {body['access_token']}", "content-type": "application/json"}
        assert (
            await here.client.post(here.messages, content=b'{"a": 1}', headers=headers)
        ).status_code == 202
        assert (await here.client.get(here.messages, headers=headers)).status_code == 403

    run(scenario)


@pytest.mark.parametrize(
    ("role", "scope", "may"),
    [
        ("", "things:read things:write channels:read users:read", set()),
        ("viewer", "things:read things:write channels:read users:read", {"see", "look"}),
        ("technician", "things:read things:write channels:read users:read", {"see", "look", "make"}),
        ("technician", "things:read", {"see"}),
        ("admin", "things:read things:write channels:read users:read", {"see", "look", "make", "people"}),
        ("admin", "channels:read", {"look"}),
    ],
)
def test_an_application_manages_by_its_role_and_within_its_scopes(
    run: Run, role: str, scope: str, may: set[str]
) -> None:
    async def scenario(here: Site) -> None:
        body = {"name": "robot", "role": role, "scopes": [*scope.split(), "messages:read"]}
        made = (await here.post("/applications", body)).json()
        data = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
        token = (await here.client.post("/oauth/token", data=data)).json()["access_token"]
        asks = {
            "see": ("GET", f"/things/{here.thing_id}"),
            "look": ("GET", "/channels"),
            "make": ("POST", "/things"),
            "people": ("GET", "/users"),
        }
        for credential, can in ((f"Bearer {token}", may), (f"Thing {made['secret']}", set())):
            for name, (method, path) in asks.items():
                headers = {"authorization": credential, "content-type": "application/json"}
                answer = await here.client.request(method, path, headers=headers, content=b"{}")
                assert (answer.status_code < 300) is (name in can), (name, credential[:6], answer.text)

    run(scenario)


def test_identity_tokens_say_who_signed_in_and_when(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        tokens = await app.tokens(nonce="n-1")
        keys = (await here.client.get("/oauth/jwks")).json()["keys"]
        header = jwt.get_unverified_header(tokens["id_token"])
        key = jwt.PyJWK(next(each for each in keys if each["kid"] == header["kid"]))
        claims = jwt.decode(
            tokens["id_token"], key, algorithms=["ES256"], audience=app.id, issuer=here.hub.oauth.issuer
        )
        user = here.hub.registry.users()[0]
        assert (claims["sub"], claims["nonce"]) == (f"users/{user.id}", "n-1")
        assert abs(claims["auth_time"] - claims["iat"]) <= 5
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        told = (await here.client.get("/oauth/userinfo", headers=bearer)).json()
        assert (told["sub"], told["email"], told["role"]) == (claims["sub"], EMAIL, "admin")
        only = await app.tokens(scope="openid")
        bearer = {"authorization": f"Bearer {only['access_token']}"}
        assert (await here.client.get("/oauth/userinfo", headers=bearer)).json() == {"sub": claims["sub"]}

    run(scenario)


def test_a_token_that_is_given_back_ends_the_grant(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        for kind in ("refresh_token", "access_token"):
            tokens = await app.tokens()
            fields = {"token": tokens[kind], "client_id": app.id, "client_secret": app.secret}
            assert (await app.form("/oauth/revoke", fields)).status_code == 200
            assert await app.works(tokens["access_token"]) == 401
            assert (await app.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
            assert (await app.form("/oauth/revoke", fields)).status_code == 200

    run(scenario)


def test_tokens_are_explained_to_whom_they_belong(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app, other = await app_of(here.client, here.user), await app_of(here.client, here.user)
        tokens = await app.tokens()

        async def asked(by: Any, token: str) -> dict[str, Any]:
            fields = {"token": token, "client_id": by.id, "client_secret": by.secret}
            answer = await by.form("/oauth/introspect", fields)
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            return found

        told = await asked(app, tokens["access_token"])
        assert (told["active"], told["client_id"], told["username"]) == (True, app.id, EMAIL)
        assert (await asked(app, tokens["refresh_token"]))["active"] is True
        for token in tokens["access_token"], tokens["refresh_token"], "nothing":
            assert await asked(other, token) == {"active": False}
        await app.refresh(tokens["refresh_token"])
        assert await asked(app, tokens["refresh_token"]) == {"active": False}

    run(scenario)


def test_a_token_for_an_application_is_none_for_the_gateway(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app, server = await app_of(here.client, here.user), await app_of(here.client, here.user)
        resource = f"{here.hub.oauth.issuer}/applications/{server.id}"
        tokens = await app.tokens(resource=resource)
        assert await app.works(tokens["access_token"]) == 401
        fields = {"token": tokens["access_token"], "client_id": server.id, "client_secret": server.secret}
        told = (await app.form("/oauth/introspect", fields)).json()
        assert (told["active"], told["aud"]) == (True, resource)
        again = (await app.refresh(tokens["refresh_token"])).json()
        assert claims_of(again["access_token"])["aud"] == resource
        own = await app.tokens(resource=here.hub.oauth.issuer)
        assert await app.works(own["access_token"]) == 200

    run(scenario)


def test_the_pages_sign_in_as_any_application_does(run: Run) -> None:
    async def scenario(here: Site) -> None:
        pages = pages_of(here.client, here.user)
        tokens = await pages.tokens(scope=None)
        assert await pages.works(tokens["access_token"], "/users") == 200
        assert await pages.works(tokens["access_token"], "/oauth/consents") == 200
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        assert (await pages.decide(pages.request(scope=None), bearer)).status_code == 400
        app = await app_of(here.client, here.user)
        assert (await app.decide(app.request(), bearer)).status_code == 200
        tokens = (await pages.refresh(tokens["refresh_token"])).json()
        assert await pages.works(tokens["access_token"], "/users") == 200
        await pages.form("/oauth/revoke", {"token": tokens["refresh_token"], "client_id": pages.id})
        assert await pages.works(tokens["access_token"], "/users") == 401

    run(scenario)


@pytest.mark.parametrize("how", ["the session", "all sessions", "the password", "the role", "the account"])
def test_what_ends_a_session_ends_what_the_pages_got_in_it(run: Run, how: str) -> None:
    async def scenario(here: Site) -> None:
        registry = here.hub.registry
        user = await asyncio.to_thread(registry.create_user, "t@example.org", "correct horse", "technician")
        bearer = {"authorization": f"Bearer {registry.issue_token(user.id, here.hub.now_s())}"}
        pages = pages_of(here.client, here.user)
        code = query_of((await pages.decide(pages.request(scope=None), bearer)).json()["redirect"])["code"]
        tokens = (await pages.exchange(code)).json()
        own = {"authorization": f"Bearer {tokens['access_token']}"}
        sessions = (await here.client.get("/sessions", headers=own)).json()["sessions"]
        assert [each["current"] for each in sessions] == [True]
        assert (await here.client.delete("/sessions", headers=own)).json() == {"ended": 0}
        match how:
            case "the session":
                await here.client.delete(f"/sessions/{sessions[0]['id']}", headers=own)
            case "all sessions":
                await here.client.delete(f"/sessions?user_id={user.id}", headers=here.user)
            case "the password":
                await asyncio.to_thread(registry.change_password, user.id, "another horse")
            case "the role":
                await asyncio.to_thread(registry.set_role, user.id, "viewer")
            case "the account":
                await asyncio.to_thread(registry.remove_user, user.id)
        assert await pages.works(tokens["access_token"], "/users/profile") == 401
        assert (await pages.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        assert not registry.grants.of_owner("user", user.id).grants

    run(scenario)


def test_a_person_takes_a_consent_back(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        tokens = await app.tokens()
        await pages_of(here.client, here.user).tokens(scope=None)
        listed = (await here.get("/oauth/consents")).json()
        assert [each["application"]["name"] for each in listed["consents"]] == ["dashboard"]
        url = f"/oauth/consents/{listed['consents'][0]['id']}"
        assert (await here.client.delete(url, headers=here.user)).status_code == 204
        assert (await here.client.delete(url, headers=here.user)).status_code == 404
        assert await app.works(tokens["access_token"]) == 401
        assert (await app.refresh(tokens["refresh_token"])).status_code == 400

    run(scenario)


def test_who_agreed_before_is_not_asked_again(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        await app.tokens(scope="things:read openid")
        needs = {
            query: (await app.look(app.request(**more))).json()["needs"]
            for query, more in {
                "the same": {"scope": "things:read"},
                "more": {"scope": SCOPE},
                "asked to ask": {"scope": "things:read", "prompt": "consent"},
                "asked to sign in": {"scope": "things:read", "prompt": "login"},
                "signed in too long ago": {"scope": "things:read", "max_age": "0"},
            }.items()
        }
        assert needs["the same"] == "nothing"
        assert needs["more"] == needs["asked to ask"] == "consent"
        assert needs["asked to sign in"] == "sign-in"
        silent = (await app.look(app.request(prompt="none"))).json()["redirect"]
        assert query_of(silent)["error"] == "consent_required"
        nobody = (await app.look(app.request(prompt="none"), {})).json()["redirect"]
        assert query_of(nobody)["error"] == "login_required"
        phone = await app_of(here.client, here.user, public=True)
        await phone.tokens()
        assert (await phone.look(phone.request())).json()["needs"] == "consent"

    run(scenario)


def test_refusing_says_so_to_the_application(run: Run) -> None:
    async def scenario(here: Site) -> None:
        app = await app_of(here.client, here.user)
        back = query_of((await app.decide(app.request(), allow=False)).json()["redirect"])
        assert (back["error"], back["state"], back["iss"]) == ("access_denied", "s-1", here.hub.oauth.issuer)
        assert here.hub.registry.grants.of_application(app.id).total == 0

    run(scenario)


def test_nothing_that_was_answered_is_lost_with_the_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path / "data") as here:
            app = await app_of(here.client, here.user)
            code, tokens = await app.code(), await app.tokens()
            used, user = await app.code(), here.hub.registry.users()[0]
            await app.exchange(used)
            assert here.hub.access.decide(Principal.of_user(user), Action.CONNECT, Resource()).allowed
        async with site(tmp_path / "data", claimed=False) as again:
            app.client = again.client
            assert await app.works(tokens["access_token"]) == 200
            assert (await app.exchange(code)).status_code == 200
            assert (await app.refresh(tokens["refresh_token"])).status_code == 200
            assert (await app.exchange(used)).json()["error"] == "invalid_grant"
            assert again.hub.registry.grants.of_application(app.id).total == 2

    asyncio.run(main())


def test_each_scope_has_words_for_people() -> None:
    for scope in (*OPENID, *(f"{noun}:{verb}" for noun in NOUNS if noun != "account" for verb in VERBS)):
        assert ":" not in words(scope).partition(",")[0].replace("itself: devices", "")
        assert scope.partition(":")[0] == "proxy" or len(words(scope)) > len(scope)
    assert words("messages:read:field").endswith("only field")
    assert is_risky("users:write:somebody")
    assert not is_risky("users:read")

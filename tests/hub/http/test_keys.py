"""API keys over HTTP: made within their owner's rights, shown once, replaced, ended, and bounded by their scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.tokens.bearer import AUDIENCE
from hub.tokens.scopes import parse
from hub.tokens.verifier import ACCESS_TOKEN

Run = Callable[..., None]


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


async def made(site: Any, **body: Any) -> dict[str, Any]:
    """A key of the owner."""
    answer = await site.post("/keys", body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/keys/{shown['id']}"
    return shown


async def as_person(site: Any, email: str, role: str) -> dict[str, str]:
    """Headers of somebody else."""
    user = await asyncio.to_thread(site.hub.registry.create_user, email, "correct horse", role)
    return bearer(site.hub.registry.issue_token(user.id, site.hub.now_s()))


def test_a_key_is_shown_once_and_does_what_its_scopes_say(run: Run) -> None:
    async def scenario(site: Any) -> None:
        key = await made(site, name="phone", scopes=["things:read", "messages:read"], duration=3600)
        assert set(key) >= {"id", "value", "name", "scopes", "issued_at", "expires_at", "user_id", "type"}
        headers = bearer(key["value"])
        assert (await site.client.get("/things", headers=headers)).status_code == 200
        assert (await site.client.get(site.messages, headers=headers)).status_code == 200
        for method, path in (("POST", "/things"), ("GET", "/channels"), ("GET", "/users"), ("GET", "/keys")):
            answer = await site.client.request(method, path, headers=headers, json={})
            assert answer.status_code == 403, path
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        shown = (await site.get(f"/keys/{key['id']}")).json()
        assert "value" not in shown
        assert shown["used_at"]
        listed = (await site.get("/keys")).json()
        assert [each["id"] for each in listed["keys"]] == [key["id"]]
        assert key["value"] not in str(listed)

    run(scenario)


def test_a_key_without_scopes_is_for_what_its_owner_may_but_his_account(run: Run) -> None:
    async def scenario(site: Any) -> None:
        headers = bearer((await made(site))["value"])
        assert (await site.client.get("/users", headers=headers)).status_code == 200
        change = {"old_password": "correct horse", "password": "another horse"}
        assert (await site.client.patch("/password", json=change, headers=headers)).status_code == 403
        assert (await site.client.delete("/tokens", headers=headers)).status_code == 403

    run(scenario)


def test_nobody_makes_a_key_for_more_than_he_may(run: Run) -> None:
    async def scenario(site: Any) -> None:
        viewer = await as_person(site, "viewer@example.org", "viewer")
        for scopes in (["things:write"], ["users:read"], ["account:write"], ["things:read", "audit:read"]):
            answer = await site.client.post("/keys", json={"scopes": scopes}, headers=viewer)
            assert answer.status_code == 403, scopes
        answer = await site.client.post("/keys", json={}, headers=viewer)
        assert "things:write" not in answer.json()["scopes"]
        thing = {"thing_id": site.thing_id, "scopes": ["messages:read"]}
        assert (await site.client.post("/keys", json=thing, headers=viewer)).status_code == 403

    run(scenario)


def test_a_role_that_is_raised_later_does_not_reach_earlier_keys(run: Run) -> None:
    async def scenario(site: Any) -> None:
        viewer = await as_person(site, "viewer@example.org", "viewer")
        key = (await site.client.post("/keys", json={}, headers=viewer)).json()
        user = site.hub.registry.user_by_email("viewer@example.org")
        await asyncio.to_thread(site.hub.registry.set_role, user.id, "admin")
        raised = bearer(site.hub.registry.issue_token(user.id, site.hub.now_s()))
        assert (await site.client.post("/things", json={}, headers=raised)).status_code == 201
        assert (await site.client.post("/things", json={}, headers=bearer(key["value"]))).status_code == 403

    run(scenario)


def test_through_a_key_nobody_makes_or_replaces_one_for_more_or_for_longer(run: Run) -> None:
    async def scenario(site: Any) -> None:
        wide = await made(site, name="wide")
        narrow = await made(site, scopes=["keys:read", "keys:write", "things:read"], duration=600)
        headers = bearer(narrow["value"])

        async def post(path: str, **body: Any) -> Any:
            return await site.client.post(path, json=body, headers=headers)

        assert (await post("/keys", scopes=["things:write"])).status_code == 403
        assert (await post("/keys", scopes=["things:read"], duration=6000)).status_code == 400
        assert (await post(f"/keys/{wide['id']}/rotate")).status_code == 403
        child = (await post("/keys", scopes=["things:read"])).json()
        assert child["expires_at"] == narrow["expires_at"]
        assert (await post(f"/keys/{child['id']}/rotate")).status_code == 200
        assert (await post(f"/keys/{narrow['id']}/rotate")).status_code == 200
        assert (await site.client.delete(f"/keys/{narrow['id']}", headers=site.user)).status_code == 204
        assert (await site.get(f"/keys/{child['id']}")).status_code == 404

    run(scenario)


def test_a_replaced_value_works_on_for_as_long_as_was_asked(run: Run) -> None:
    async def scenario(site: Any) -> None:
        key = await made(site, scopes=["things:read"])
        after = (await site.post(f"/keys/{key['id']}/rotate", {"overlap_s": 60})).json()
        assert after["old_value_until"] > after["issued_at"]
        for value in (key["value"], after["value"]):
            assert (await site.client.get("/things", headers=bearer(value))).status_code == 200
        last = (await site.client.post(f"/keys/{key['id']}/rotate", headers=site.user)).json()
        assert "old_value_until" not in last
        for value, status in ((key["value"], 401), (after["value"], 401), (last["value"], 200)):
            assert (await site.client.get("/things", headers=bearer(value))).status_code == status

    run(scenario)


def test_a_removed_key_is_void_at_once(run: Run) -> None:
    async def scenario(site: Any) -> None:
        key = await made(site)
        assert (
            await site.client.delete(f"/keys/{key['id']}", headers=bearer(key["value"]))
        ).status_code == 204
        assert (await site.client.get("/things", headers=bearer(key["value"]))).status_code == 401
        assert (await site.client.delete(f"/keys/{key['id']}", headers=site.user)).status_code == 404

    run(scenario)


def test_a_thing_has_a_further_key_for_one_channel(run: Run) -> None:
    async def scenario(site: Any) -> None:
        other = site.hub.registry.create_channel("yard")
        site.hub.registry.connect([other.id], [site.thing_id])
        scopes = [f"messages:write:{site.channel_id}"]
        key = await made(site, thing_id=site.thing_id, scopes=scopes)
        assert key["thing_id"] == site.thing_id
        for form in (f"Thing {key['value']}", f"Bearer {key['value']}", key["value"]):
            assert (await site.publish(authorization=form)).status_code == 202
        wrong = {"authorization": f"Thing {key['value']}", "content-type": "application/senml+json"}
        path = f"/channels/{other.id}/messages"
        assert (await site.client.post(path, content=b"[]", headers=wrong)).status_code == 403
        assert (await site.client.get(site.messages, headers=wrong)).status_code == 403
        assert {message.publisher for message in site.stored()} == {site.thing_id}
        listed = (await site.get(f"/keys?thing_id={site.thing_id}")).json()
        assert [each["id"] for each in listed["keys"]] == [key["id"]]
        assert (await site.client.delete(f"/keys/{key['id']}", headers=site.user)).status_code == 204
        assert (await site.publish(authorization=f"Thing {key['value']}")).status_code == 401
        beyond = {"thing_id": site.thing_id, "scopes": ["things:read"]}
        assert (await site.post("/keys", beyond)).status_code == 403

    run(scenario)


def test_keys_of_others_are_there_for_administrators_only(run: Run) -> None:
    async def scenario(site: Any) -> None:
        viewer = await as_person(site, "viewer@example.org", "viewer")
        theirs = (await site.client.post("/keys", json={}, headers=viewer)).json()
        mine = await made(site)
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = await site.client.request(method, f"/keys/{mine['id']}{path}", headers=viewer)
            assert answer.status_code == 404
        owner = site.hub.registry.users()[0]
        assert (await site.client.get(f"/keys?user_id={owner.id}", headers=viewer)).status_code == 403
        assert (await site.client.get(f"/keys?thing_id={site.thing_id}", headers=viewer)).status_code == 403
        listed = (await site.get(f"/keys?user_id={theirs['user_id']}")).json()
        assert [each["id"] for each in listed["keys"]] == [theirs["id"]]
        assert (await site.client.post(f"/keys/{theirs['id']}/rotate", headers=site.user)).status_code == 403
        assert (await site.client.delete(f"/keys/{theirs['id']}", headers=site.user)).status_code == 204

    run(scenario)


@pytest.mark.parametrize(
    "body",
    [
        *(
            {"type": 0},
            {"type": "2"},
            {"duration": -1},
            {"duration": "3"},
            {"duration": 1e300},
            {"scopes": []},
        ),
        *(
            {"scopes": ["things"]},
            {"scopes": "things:read"},
            {"name": "a" * 2000},
            {"scopes": ["things:read\n"]},
        ),
        {"scopes": [f"things:read:{number}" for number in range(100)]},
    ],
)
def test_what_is_no_key_is_refused_in_words(run: Run, body: Any) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.post("/keys", body)
        assert answer.status_code == 400
        assert len(answer.json()["detail"]) > 10

    run(scenario)


def test_signing_keys_are_replaced_by_administrators(run: Run) -> None:
    async def scenario(site: Any) -> None:
        first = (await site.post("/signing-keys/rotate", {})).json()["kid"]
        second = (await site.client.post("/signing-keys/rotate", headers=site.user)).json()["kid"]
        names = [key["kid"] for key in site.hub.registry.signing.jwks()["keys"]]
        assert names == [second, first]
        await site.post("/signing-keys/rotate", {"void": True})
        assert len(site.hub.registry.signing.jwks()["keys"]) == 1

    run(scenario)


def test_the_keys_of_2017_are_keys_of_today(run: Run) -> None:
    async def scenario(site: Any) -> None:
        read = {"actions": "R", "type": "channels", "id": site.channel_id}
        answer = await site.post("/api-keys", {"owner": "owner@example.org", "scopes": [read]})
        assert answer.status_code == 201
        value, where = answer.json()["key"], answer.headers["location"]
        assert (await site.client.get(site.messages, headers=bearer(value))).status_code == 200
        assert (await site.client.get("/things", headers=bearer(value))).status_code == 403
        for path in (where, f"/api-keys/{value}"):
            shown = (await site.get(path)).json()
            assert shown["scopes"] == [read]
        devices = {"actions": "RCUD", "type": "devices", "id": ""}
        assert (
            await site.client.put(where, json={"scopes": [devices]}, headers=site.user)
        ).status_code == 200
        assert (await site.client.get("/things", headers=bearer(value))).status_code == 200
        assert (await site.client.get(site.messages, headers=bearer(value))).status_code == 403
        assert [each["scopes"][0]["actions"] for each in (await site.get("/api-keys")).json()] == ["CRUD"]
        part = {"scopes": [{"actions": "CR", "type": "devices"}]}
        assert (await site.post("/api-keys", part)).status_code == 400
        assert (await site.client.delete(f"/api-keys/{value}", headers=site.user)).status_code == 204
        assert (await site.get(where)).status_code == 404

    run(scenario)


@pytest.mark.parametrize(
    ("action", "resource", "thing", "viewer", "owner"),
    [
        ("GET", "/things", 403, 200, 200),
        ("R", "/channels/{channel}", 403, 200, 200),
        ("POST", "/things", 403, 403, 200),
        ("C", "/channels/{channel}/messages/a", 200, 403, 403),
        ("R", "/channels/{channel}/messages", 200, 200, 200),
        ("C", "/channels/other/messages", 403, 403, 403),
        ("D", "/users/nobody", 403, 403, 200),
        ("GET", "/no/such/path", 403, 403, 403),
        ("GET", "/things/../users", 400, 400, 400),
        ("GET", "", 400, 400, 400),
        ("PATCH", "/things", 400, 400, 400),
    ],
)
def test_ones_own_rights_are_told_as_in_2017(
    run: Run, action: str, resource: str, thing: int, viewer: int, owner: int
) -> None:
    async def scenario(site: Any) -> None:
        asked = {"x-action": action, "x-resource": resource.format(channel=site.channel_id)}
        looks = await as_person(site, "viewer@example.org", "viewer")
        for credential, expected in ((site.thing, thing), (looks, viewer), (site.user, owner)):
            answer = await site.client.post("/access-checks", headers={**credential, **asked})
            assert answer.status_code == expected, answer.text
        assert (await site.client.post("/access-checks", headers=asked)).status_code == 401

    run(scenario)


def test_a_key_is_told_what_its_scopes_leave_of_its_owners_rights(run: Run) -> None:
    async def scenario(site: Any) -> None:
        headers = bearer((await made(site, scopes=["things:read"]))["value"])
        for action, path, status in (
            ("GET", "/things", 200),
            ("POST", "/things", 403),
            ("GET", "/users", 403),
        ):
            asked = {**headers, "x-action": action, "x-resource": path}
            assert (await site.client.post("/access-checks", headers=asked)).status_code == status

    run(scenario)


def test_the_pages_make_keys_for_who_has_signed_in_and_other_applications_make_none(run: Run) -> None:
    async def scenario(site: Any) -> None:
        grants, now_s = site.hub.registry.grants, site.hub.now_s()
        owner = site.hub.registry.users()[0]
        app, _ = site.hub.registry.create_thing("app")
        scopes = parse("keys:read keys:write things:read")
        for application_id, status in (("", 201), (app.id, 403)):
            grant, _ = grants.add(
                *("user", owner.id),
                name="",
                scopes=scopes,
                now_s=now_s,
                kind="oauth",
                application_id=application_id,
            )
            claims = {
                "iss": site.hub.bearers.issuer,
                "aud": AUDIENCE,
                "sub": f"users/{owner.id}",
                "jti": grant.id,
            }
            claims |= {"iat": int(now_s), "exp": int(now_s) + 600, "grant": grant.id, "scope": str(scopes)}
            token = await asyncio.to_thread(site.hub.registry.signing.sign, claims, ACCESS_TOKEN)
            answer = await site.client.post("/keys", json={"scopes": ["things:read"]}, headers=bearer(token))
            assert answer.status_code == status, answer.text
            await asyncio.to_thread(grants.remove, grant.id)
        listed = (await site.get("/keys")).json()
        assert len(listed["keys"]) == 1  # it outlives the sign-in in which it was made

    run(scenario)

"""Every route with every kind of credential, walked from the route table: nothing is open that is not listed here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hub.http.app import ENDPOINTS
from hub.http.table import BEFORE_CLAIM, Needs
from hub.users import ROLES

Run = Callable[..., None]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# What answers without a credential in the header. The four POSTs carry theirs in the body.
OPEN = {
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/claim"),
    ("GET", "/openapi.json"),
    ("GET", "/certs/authority"),
    ("GET", "/certs/deny-list"),
    ("GET", "/auth/check"),  # of trusted proxies, by whose address the handler knows them
    ("POST", "/auth/check"),
    ("POST", "/claim"),
    ("POST", "/tokens"),
    ("POST", "/identify"),
    ("POST", "/identify/channels/{channel_id}/access-by-key"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/oauth/jwks"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/revoke"),
    ("POST", "/oauth/introspect"),
    ("POST", "/oauth/authorizations"),
}
FOR_THINGS = {
    ("POST", "/channels/{channel_id}/messages"),
    ("POST", "/channels/{channel_id}/messages/{subtopic:path}"),
    ("POST", "/channels/{channel_id}/msg"),
    ("GET", "/channels/{channel_id}/messages"),
    ("GET", "/channels/{channel_id}/messages/{subtopic:path}"),
    ("GET", "/channels/{channel_id}/msg"),
    ("POST", "/certs/renew"),
}
NOT_FOR_USERS = {row for row in FOR_THINGS if row[0] == "POST"}


def table() -> list[tuple[str, str, Needs]]:
    return [(row.method, row.path, row.needs) for row in ENDPOINTS]


def filled(site: Any, path: str) -> str:
    values = {
        "channel_id": site.channel_id,
        "thing_id": site.thing_id,
        "device_id": site.thing_id,
        "subtopic": "a/b",
        "name": "night",
        "application_id": "nothing",
        "consent_id": "nothing",
        "key_id": "nothing",
        "key": "nothing",
        "user_id": "nobody",
    }
    return re.sub(r"{(\w+)(:path)?}", lambda match: values.get(match[1], "nothing"), path)


def credentials(site: Any) -> Iterator[tuple[str, dict[str, str]]]:
    yield "none", {}
    yield "wrong key", {"authorization": "Thing " + "x" * 43}
    yield "wrong token", {"authorization": "Bearer " + "x" * 43}
    yield "key as token", {"authorization": f"Bearer {site.key}"}
    yield "thing", site.thing


async def allowed(site: Any, method: str, path: str, headers: dict[str, str], body: bytes = b"{}") -> bool:
    sent = {"content-type": "application/json", **headers}
    answer = await site.client.request(method, filled(site, path), headers=sent, content=body)
    assert answer.status_code < 500, (method, path, answer.text)
    return answer.status_code not in (401, 403)


def test_the_lists_here_and_the_table_say_the_same() -> None:
    assert {(method, path) for method, path, needs in table() if needs is Needs.NOTHING} == OPEN
    things = {(method, path) for method, path, needs in table() if needs in (Needs.ANY, Needs.THING)}
    assert things == FOR_THINGS


def test_no_route_lets_anyone_in_who_is_not_listed(run: Run) -> None:
    async def scenario(site: Any) -> None:
        tried = 0
        for method, path, _ in table():
            for name, headers in credentials(site):
                listed = OPEN | (FOR_THINGS if name == "thing" else set())
                assert await allowed(site, method, path, headers) is ((method, path) in listed), (
                    method,
                    path,
                    name,
                )
                tried += 1
        assert tried == 5 * len(table())

    run(scenario)


def test_an_owner_may_use_every_route_but_those_of_things(run: Run) -> None:
    async def scenario(site: Any) -> None:
        user = site.hub.registry.users()[0]
        for method, path, _ in table():
            if path == "/identify/channels/{channel_id}/access-by-id":
                continue  # 403 is its answer, about the thing asked for
            token = site.hub.registry.issue_token(user.id, site.hub.clock()[0] / 1e9)
            headers = {"authorization": f"Bearer {token}"}
            expected = (method, path) not in NOT_FOR_USERS
            assert await allowed(site, method, path, headers) is expected, (method, path)

    run(scenario)


# What makes things and channels, by a body that names no group.
MAKING = {("POST", "/things"), ("POST", "/channels"), ("POST", "/devices")}
# What ends a connection: the handler asks for either side.
ENDING = {("DELETE", "/channels/{channel_id}/things/{thing_id}")}
LOWEST = {
    Needs.NOTHING: "member",
    Needs.MEMBER: "member",
    Needs.SEE: "viewer",
    Needs.USER: "viewer",
    Needs.ANY: "viewer",
    Needs.KEEP: "technician",
    Needs.MANAGER: "technician",
    Needs.LEAD: "admin",
    Needs.ADMIN: "admin",
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_its_routes_and_no_others(run: Run, role: str) -> None:
    async def scenario(site: Any) -> None:
        registry = site.hub.registry
        user = await asyncio.to_thread(registry.create_user, "other@example.org", "correct horse", role)
        for method, path, needs in table():
            if (method, path) in ENDING:
                needs = Needs.KEEP
            lowest = "technician" if (method, path) in MAKING else LOWEST.get(needs, "")
            may = lowest in ROLES[: ROLES.index(role) + 1] and (method, path) not in NOT_FOR_USERS
            if path == "/identify/channels/{channel_id}/access-by-id" and may:
                continue  # 403 is its answer, about the thing asked for
            token = registry.issue_token(user.id, site.hub.clock()[0] / 1e9)
            headers = {"authorization": f"Bearer {token}"}
            if role == "member" and needs in (Needs.SEE, Needs.KEEP, Needs.LEAD, Needs.ANY):
                sent = {"content-type": "application/json", **headers}
                answer = await site.client.request(method, filled(site, path), headers=sent, content=b"{}")
                assert answer.status_code == 404, (method, path)  # nothing is there for him
                continue
            assert await allowed(site, method, path, headers) is may, (method, path)

    run(scenario)


def test_an_unclaimed_gateway_offers_nothing_but_its_claim(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for method, path, needs in table():
            if needs in (Needs.ANY, Needs.THING):
                continue
            for name, headers in credentials(site):
                assert await allowed(site, method, path, headers) is (path in BEFORE_CLAIM), (
                    method,
                    path,
                    name,
                )
        answer = await site.client.post("/users", json=site.login)
        assert answer.status_code == 403
        assert "claim" in answer.json()["detail"]
        assert (await site.client.post("/tokens", json=site.login)).status_code == 403

    run(scenario, claimed=False)


def test_methods_outside_the_table_are_405_and_name_those_inside(run: Run) -> None:
    async def scenario(site: Any) -> None:
        known: dict[str, set[str]] = {}
        for method, path, _ in table():
            known.setdefault(path, set()).add(method)
        for path, methods in known.items():
            for method in set(METHODS) - methods:
                answer = await site.client.request(method, filled(site, path), headers=site.user)
                assert answer.status_code == 405, (method, path)
                named = set(answer.headers["allow"].replace(" ", "").split(","))
                assert named - {"HEAD", "OPTIONS"} == methods, (method, path)
                options = await site.client.options(filled(site, path))
                assert (options.status_code, options.headers["allow"]) == (204, answer.headers["allow"])
                assert answer.headers["content-type"] == "application/problem+json"
        assert (await site.get("/nothing/here")).status_code == 404
        assert (await site.get("/things/")).status_code == 404

    run(scenario)

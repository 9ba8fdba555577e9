"""Every route with every kind of credential, walked from the route table: nothing is open that is not listed here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from hub.http.app import ENDPOINTS
from hub.http.table import BEFORE_CLAIM, Needs
from hub.tokens.scopes import EVERYTHING, Scopes, needed_by
from hub.users import ROLES
from tests.hub.http.world import Credentials, World, idor

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
    ("POST", "/audit/pages"),
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
    ("POST", "/access-checks"),
    ("POST", "/channels/{channel_id}/messages"),
    ("POST", "/channels/{channel_id}/messages/{subtopic:path}"),
    ("POST", "/channels/{channel_id}/msg"),
    ("GET", "/channels/{channel_id}/messages"),
    ("GET", "/channels/{channel_id}/messages/{subtopic:path}"),
    ("GET", "/channels/{channel_id}/msg"),
    ("POST", "/certs/renew"),
}
# What any person may ask, since it is about himself: nothing of another's is shown or changed by it.
OWN = {
    ("DELETE", "/tokens"),
    ("GET", "/users/profile"),
    ("GET", "/users/totp"),
    ("POST", "/users/totp"),
    ("DELETE", "/users/totp"),
    ("POST", "/users/totp/confirm"),
    ("POST", "/users/totp/recovery"),
    ("PATCH", "/password"),
    ("DELETE", "/sessions"),
    ("DELETE", "/sessions/{session_id}"),
    ("GET", "/keys/{key_id}"),
    ("DELETE", "/keys/{key_id}"),
    ("POST", "/keys/{key_id}/rotate"),
    ("GET", "/certs/{serial}"),
    ("DELETE", "/certs/{serial}"),
    ("POST", "/api-keys"),
    ("GET", "/api-keys/{key}"),
    ("PUT", "/api-keys/{key}"),
    ("DELETE", "/api-keys/{key}"),
    ("GET", "/oauth/userinfo"),
    ("POST", "/oauth/authorizations/decision"),
    ("DELETE", "/oauth/consents/{consent_id}"),
    ("POST", "/access-checks"),
    ("POST", "/devices"),  # names no group: it is made in the caller's own
}
# Lists that show a person what he reaches and nothing else.
LISTS = {
    ("GET", "/things"),
    ("POST", "/things/search"),
    ("GET", "/channels"),
    ("POST", "/channels/search"),
    ("GET", "/groups"),
    ("GET", "/devices"),
    ("GET", "/keys"),
    ("GET", "/certs"),
    ("GET", "/api-keys"),
    ("GET", "/sessions"),
    ("GET", "/oauth/consents"),
}
ROLE_THERE = {Needs.SEE: "viewer", Needs.KEEP: "technician", Needs.LEAD: "admin", Needs.ANY: "viewer"}
ROLE_HERE = {Needs.USER: "viewer", Needs.MANAGER: "technician", Needs.ADMIN: "admin"}
NOT_THERE = {"no such thing", "no such channel", "no such group"}
IN = "in"


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody signs in with a password here, and hashing would cost more than all the rest."""
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


@dataclass(frozen=True)
class Caller:
    """Somebody at the door, and what he should be able to do: his role on the gateway and in the group asked about."""

    header: str
    kind: str = "user"  # "", "thing", "user", "application" that acts for itself
    here: str = ""
    there: str = ""  # of a thing: "connected" or nothing


def table() -> list[tuple[str, str, Needs]]:
    return [(row.method, row.path, row.needs) for row in ENDPOINTS]


def filled(path: str, values: Mapping[str, str]) -> str:
    return re.sub(r"{(\w+)(:path)?}", lambda match: values.get(match[1], "nothing"), path)


def own(site: Any) -> dict[str, str]:
    """What the parameters of paths name: of a site, its thing and channel; what is not here names nothing."""
    return {
        "channel_id": site.channel_id,
        "thing_id": site.thing_id,
        "device_id": site.thing_id,
        "subtopic": "a/b",
        "name": "night",
    }


def of_world(world: World) -> dict[str, str]:
    return {
        "channel_id": world.channel.id,
        "thing_id": world.thing.id,
        "device_id": world.thing.id,
        "group_id": world.below,
        "subtopic": "a/b",
        "name": "night",
    }


async def answer(site: Any, method: str, path: str, header: str) -> tuple[int, bytes]:
    """Status and body, asked of the app itself: some thousands of requests over sockets would cost a minute.

    Nothing is changed: bodies are broken and tags are of no representation.
    """
    headers = [(b"host", b"a"), (b"content-type", b"application/json"), (b"if-match", b'"nothing"')]
    if header:
        headers.append((b"authorization", header.encode()))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "root_path": "",
        "state": {},
    }
    body, status = b"", 0

    coming = [{"type": "http.request", "body": b"{" if method != "GET" else b"", "more_body": False}]

    async def receive() -> Any:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal body, status
        status = message.get("status", status)
        body += message.get("body", b"")

    await site.app(scope, receive, send)
    return status, body


async def ask(site: Any, method: str, path: str, header: str) -> str:
    """What a request comes to: "401", "403", "404" where nothing of that id is there for him, else IN."""
    status, body = await answer(site, method, path, header)
    assert status < 500, (method, path, body)
    if status in (401, 403):
        return str(status)
    if status == 404 and json.loads(body or b"{}").get("detail") in NOT_THERE:
        return "404"
    return IN


def expected(method: str, path: str, needs: Needs, caller: Caller) -> set[str]:
    """What the row and the caller's roles lead to, as docs/groups.md and docs/http.md have it."""
    if caller.kind == "":
        return {"401"}
    if path == "/access-checks":
        return {IN}  # it is about the caller's own rights
    if needs is Needs.THING or (needs is Needs.ANY and caller.kind == "thing"):
        if path == "/certs/renew":
            return {IN, "401", "403"}  # about the certificate that was shown, not about a key
        return {IN} if caller.kind == "thing" and caller.there == "connected" else {"403"}
    if caller.kind == "thing" or (caller.kind == "application" and needs is Needs.ANY):
        return {"403"}
    if caller.kind == "application" and needs is Needs.MEMBER and (method, path) in OWN | LISTS:
        return {IN, "403"}  # what is a person's own is none of an application's
    if needs in ROLE_HERE:
        return {IN} if at_least(caller.here, ROLE_HERE[needs]) else {"403"}
    if (method, path) == ("DELETE", "/channels/{channel_id}/things/{thing_id}"):
        needs = Needs.SEE  # its tag is that of what is seen; who may end it is asked of both sides
    if needs is Needs.MEMBER:
        return {IN}
    role = max(caller.here, caller.there, key=rank)
    if rank(role) < rank("viewer"):
        return {"404"}
    return {IN} if at_least(role, ROLE_THERE[needs]) else {"403"}


def rank(role: str) -> int:
    return ROLES.index(role) if role else -1


def at_least(role: str, wanted: str) -> bool:
    return rank(role) >= rank(wanted)


def test_the_lists_here_and_the_table_say_the_same() -> None:
    assert {(method, path) for method, path, needs in table() if needs is Needs.NOTHING} == OPEN
    things = {(method, path) for method, path, needs in table() if needs in (Needs.ANY, Needs.THING)}
    assert things == FOR_THINGS


def test_every_request_of_people_is_about_himself_a_list_or_tried_with_foreign_ids() -> None:
    placeholders = {name: f"{{{name}}}" for name in ("thing", "channel", "group", "user")}
    tried = idor({**placeholders, "my thing": "{thing}", "my channel": "{channel}", "my group": "{group}"})
    shapes = {(method, path.partition("?")[0]) for method, path, _ in tried}
    missing = [
        (method, path)
        for method, path, needs in table()
        if needs in (Needs.MEMBER, Needs.SEE, Needs.KEEP, Needs.LEAD, Needs.ANY)
        and (method, path) not in OWN | LISTS
        and (method, re.sub(r"{(thing|device)_id}", "{thing}", shaped(path))) not in shapes
    ]
    assert missing == []


def shaped(path: str) -> str:
    return (
        path.replace("{channel_id}", "{channel}")
        .replace("{group_id}", "{group}")
        .replace("{member_id}", "{thing}")
        .replace("{subtopic:path}", "a")
    )


def callers(site: Any, world: World) -> dict[str, Caller]:
    known = Credentials(site, world)
    everyone = {name: Caller(header, "") for name, header in known.wrong.items()}
    for name, header in known.things.items():
        everyone[f"thing {name}"] = Caller(header, "thing", there=name)
    everyone["application"] = Caller(known.application, "thing")
    everyone["application's token"] = Caller(known.application_token, "thing")
    for role, header in known.managing.items():
        everyone[f"application that is {role}"] = Caller(header, "application", here=role)
    for role, person in known.staff.items():
        everyone[role] = Caller(person.header, here=role)
    for role, person in world.people.items():
        everyone[f"{role} of the group"] = Caller(person.header, here="member", there=role)
    everyone["foreigner"] = Caller(world.foreigner.header, here="member")
    everyone["member of nothing"] = Caller(world.nobody.header, here="member")
    return everyone


def test_everybody_gets_through_where_the_table_says_and_nowhere_else(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        before = (world.registry.all_things(), world.registry.all_channels(), world.registry.groups.all())
        everyone = callers(site, world)
        values = of_world(world)
        tried = 0
        for method, path, needs in table():
            if needs is Needs.NOTHING:
                continue
            for name, caller in everyone.items():
                got = await ask(site, method, filled(path, values), caller.header)
                assert got in expected(method, path, needs, caller), (method, path, name, got)
                tried += 1
        assert tried == len(everyone) * sum(needs is not Needs.NOTHING for _, _, needs in table())
        after = (world.registry.all_things(), world.registry.all_channels(), world.registry.groups.all())
        assert after[1:] == before[1:]
        assert {thing.id for thing in before[0]} <= {thing.id for thing in after[0]}

    run(scenario)


def test_ids_of_another_organisation_get_nobody_in_who_has_no_role_there(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        known = Credentials(site, world)
        foreign = of_world(world) | {
            "channel_id": world.their_channel.id,
            "thing_id": world.their_thing.id,
            "device_id": world.their_thing.id,
            "group_id": world.theirs,
        }
        for method, path, needs in table():
            if needs not in (*ROLE_THERE, Needs.THING) or path in ("/certs/renew", "/access-checks"):
                continue
            where = filled(path, foreign)
            for person in (*world.people.values(), world.nobody):
                got = await ask(site, method, where, person.header)
                assert got == ("403" if needs is Needs.THING else "404"), (method, path)
            for name in ("connected", "not connected"):
                assert await ask(site, method, where, known.things[name]) == "403", (method, path, name)

    run(scenario)


def test_lists_show_nobody_what_is_not_his(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        ours = {world.thing.id, world.channel.id, world.ours, world.below, world.admin.id, world.admin.email}
        theirs = {world.their_thing.id, world.their_channel.id, world.theirs, world.foreigner.id}
        for method, path in LISTS:
            body: dict[str, str] | None = {} if method == "POST" else None
            shown = {
                person: (await person.ask(method, path, body)).text
                for person in (world.admin, world.foreigner, world.nobody)
            }
            for person, secret in (
                (world.foreigner, ours),
                (world.nobody, ours | theirs),
                (world.admin, theirs),
            ):
                assert not any(each in shown[person] for each in secret), (method, path)

    run(scenario)


def test_a_key_or_token_gets_through_with_the_scope_of_the_row_and_not_with_all_others(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        known = Credentials(site, world)
        admin = known.staff["admin"].id
        values = of_world(world)
        made: dict[Scopes, tuple[str, str]] = {}

        def grants(scopes: Scopes) -> tuple[str, str]:
            if scopes not in made:
                token = known.signed("user", admin, known.application_id, scopes)
                made[scopes] = (known.key("user", admin, scopes), token)
            return made[scopes]

        tried = 0
        for method, path, needs in table():
            where = filled(path, values)
            needed = needed_by(method, where)
            if needs in (Needs.NOTHING, Needs.THING):
                continue
            if path == "/oauth/userinfo":
                continue  # wants a scope of OpenID Connect, which is none of the table's
            if needed is None:  # about the caller himself: any grant of his will do
                assert await ask(site, method, where, grants(EVERYTHING)[0]) == IN, (method, path)
                continue
            wanted = f"{needed.noun}:{needed.verb}"
            if needed.noun == "account":
                assert await ask(site, method, where, grants(EVERYTHING)[0]) == "403", (method, path)
                continue
            for header in grants(Scopes({wanted})):
                assert await ask(site, method, where, header) == IN, (method, path, wanted)
            for header in grants(Scopes(EVERYTHING - {wanted})):
                assert await ask(site, method, where, header) == "403", (method, path, wanted)
                tried += 1
        assert tried > 100
        assert len(made) > 20

    run(scenario)


def test_an_unclaimed_gateway_offers_nothing_but_its_claim(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for method, path, needs in table():
            if needs in (Needs.ANY, Needs.THING):
                continue
            for header in ("", "Thing " + "x" * 43, f"Thing {site.key}", "Bearer " + "x" * 43):
                got = await ask(site, method, filled(path, own(site)), header)
                assert (got == IN) is (path in BEFORE_CLAIM), (method, path)
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
                answer = await site.client.request(method, filled(path, own(site)), headers=site.user)
                assert answer.status_code == 405, (method, path)
                named = set(answer.headers["allow"].replace(" ", "").split(","))
                assert named - {"HEAD", "OPTIONS"} == methods, (method, path)
                options = await site.client.options(filled(path, own(site)))
                assert (options.status_code, options.headers["allow"]) == (204, answer.headers["allow"])
                assert answer.headers["content-type"] == "application/problem+json"
        assert (await site.get("/nothing/here")).status_code == 404
        assert (await site.get("/things/")).status_code == 404

    run(scenario)


def test_without_the_guard_the_walk_would_find_holes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the walks above."""

    async def scenario(site: Any) -> None:
        world = World(site)
        values = of_world(world)
        monkeypatch.setattr("hub.http.table.guard", lambda request, needs: None)
        holes = [
            (method, path)
            for method, path, needs in table()
            if needs in (Needs.SEE, Needs.KEEP, Needs.LEAD)
            and await ask(site, method, filled(path, values), world.foreigner.header)
            not in expected(method, path, needs, Caller("", here="member"))
        ]
        assert len(holes) > 20

    run(scenario)

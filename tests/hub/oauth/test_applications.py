"""Applications: entities with a secret, which are things besides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.applications import CODE, ITSELF, PAGES_ID, REFRESH, Wanted
from hub.errors import Conflict, HubError, Invalid, NotFound
from hub.keys import ServerKey
from hub.registry import Registry, Rights
from hub.tokens.scopes import parse
from tests.hub.http.conftest import Site, site

URI = "https://app.example.org/cb"
NOW = 1_750_000_000.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(tmp_path / "registry.db", ServerKey(b"k" * 32))
    yield opened
    opened.close()


def test_an_application_is_a_thing_and_its_secret_the_things_key(registry: Registry) -> None:
    made, secret = registry.applications.create(Wanted(name="dashboard", metadata={"room": 1}), NOW)
    thing = registry.thing_by_key(secret)
    assert thing is not None
    assert (thing.id, thing.name, thing.metadata) == (made.id, "dashboard", {"room": 1, "type": "app"})
    assert registry.applications.by_secret(made.id, secret) == made
    assert registry.applications.by_secret(made.id, "x" * 43) is None
    assert registry.applications.by_secret("other", secret) is None
    channel = registry.create_channel("field")
    registry.connect([channel.id], [made.id], Rights.SUBSCRIBE)
    assert registry.rights(channel.id, made.id) is Rights.SUBSCRIBE


def test_what_is_left_out_follows_from_the_rest(registry: Registry) -> None:
    for_people, _ = registry.applications.create(Wanted(name="a", redirect_uris=(URI,)), NOW)
    assert for_people.grant_types == (CODE, REFRESH)
    itself, _ = registry.applications.create(Wanted(name="b"), NOW)
    assert itself.grant_types == (ITSELF,)
    assert itself.scopes == parse("messages:read messages:write")


def test_a_public_application_has_no_secret(registry: Registry) -> None:
    made, secret = registry.applications.create(Wanted(name="phone", redirect_uris=(URI,)), NOW, public=True)
    assert secret == ""
    with pytest.raises(Invalid):
        registry.applications.new_secret(made.id)


@pytest.mark.parametrize(
    ("wanted", "public"),
    [
        pytest.param(Wanted(name=""), False, id="no name"),
        pytest.param(Wanted(name="a\u202eb"), False, id="a name that turns the line around"),
        pytest.param(Wanted(name=" a"), False, id="a name with a space before it"),
        pytest.param(Wanted(name="a", role="owner"), False, id="unknown role"),
        pytest.param(Wanted(name="a", role="member"), False, id="the role of people in groups"),
        pytest.param(Wanted(name="a", scopes=("things:own",)), False, id="unknown scope"),
        pytest.param(Wanted(name="a", scopes=("account:write",)), False, id="scope of an account itself"),
        pytest.param(Wanted(name="a", grant_types=("password",)), False, id="password grant"),
        pytest.param(Wanted(name="a", grant_types=("implicit",)), False, id="implicit grant"),
        pytest.param(Wanted(name="a", grant_types=(CODE,)), False, id="sign-in without an address"),
        pytest.param(Wanted(name="a", grant_types=(REFRESH,)), False, id="refresh without sign-in"),
        pytest.param(Wanted(name="a", redirect_uris=("http://a.example/",)), False, id="no TLS"),
        pytest.param(
            Wanted(name="a", redirect_uris=(URI,) * 1 + tuple(f"{URI}{n}" for n in range(20))),
            False,
            id="many",
        ),
        pytest.param(Wanted(name="a"), True, id="a public one for itself"),
        pytest.param(
            Wanted(name="a", redirect_uris=(URI,), role="viewer"), True, id="a public one with a role"
        ),
    ],
)
def test_what_cannot_be_right_is_refused(registry: Registry, wanted: Wanted, public: bool) -> None:
    with pytest.raises(HubError):
        registry.applications.create(wanted, NOW, public=public)
    assert registry.things().total == 0


def test_the_pages_own_name_is_taken(registry: Registry) -> None:
    with pytest.raises(Conflict):
        registry.applications.create(Wanted(name="a"), NOW, id=PAGES_ID)
    for change in (registry.applications.remove, registry.applications.new_secret):
        with pytest.raises(NotFound):
            change(PAGES_ID)
    assert registry.applications.page()[0] == 0


def test_a_new_secret_voids_the_old_one_and_what_it_got_by_itself(registry: Registry) -> None:
    made, secret = registry.applications.create(Wanted(name="a"), NOW)
    grant, _ = registry.grants.add(
        "thing", made.id, name="itself", scopes=made.scopes, now_s=NOW, kind="oauth", application_id=made.id
    )
    after = registry.applications.new_secret(made.id)
    assert registry.applications.by_secret(made.id, secret) is None
    assert registry.applications.by_secret(made.id, after) == made
    assert registry.grants.get(grant.id) is None


def test_scopes_that_are_taken_away_end_what_was_granted_with_them(registry: Registry) -> None:
    made, _ = registry.applications.create(
        Wanted(name="a", scopes=("things:read", "messages:read"), redirect_uris=(URI,)), NOW
    )
    code = registry.claim_code()
    assert code is not None
    user = registry.claim(code, "a@example.org", "correct horse")
    grants = [
        registry.grants.add(
            *("user", user.id), name="a", scopes=parse(text), now_s=NOW, kind="oauth", application_id=made.id
        )[0].id
        for text in ("messages:read", "messages:read things:read")
    ]
    registry.applications.change(made.id, Wanted(scopes=("messages:read",)))
    assert [registry.grants.get(each) is not None for each in grants] == [True, False]


def test_removing_the_thing_removes_the_application_and_the_reverse(tmp_path: Path) -> None:
    path, key = tmp_path / "registry.db", ServerKey(b"k" * 32)
    registry = Registry.open(path, key)
    one, _ = registry.applications.create(Wanted(name="one"), NOW)
    two, _ = registry.applications.create(Wanted(name="two"), NOW)
    three, _ = registry.applications.create(Wanted(name="three", redirect_uris=(URI,)), NOW)
    registry.remove_thing(one.id)
    registry.applications.remove(two.id)
    assert registry.applications.get(one.id) is None
    assert registry.thing(two.id) is None
    registry.close()
    again = Registry.open(path, key)
    assert again.applications.page() == (1, [three])
    again.close()


def test_over_rest_from_the_first_request_to_the_last(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path / "data") as here:
            await _life(here)

    asyncio.run(main())


async def _life(here: Site) -> None:
    answer = await here.post(
        "/applications", {"name": "dashboard", "redirect_uris": [URI], "scopes": ["things:read"]}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/applications/{made['id']}"
    assert len(made.pop("secret")) == 43
    assert (await here.get(f"/applications/{made['id']}")).json() == made
    assert (await here.get(f"/things/{made['id']}")).json()["metadata"] == {"type": "app"}
    for name in ("b", "c"):
        await here.post("/applications", {"name": name})
    page = (await here.get("/applications?order=name&limit=2&dir=desc")).json()
    assert page["total"] == 3
    assert [each["name"] for each in page["applications"]] == ["dashboard", "c"]
    assert (await here.get("/applications?name=DASH")).json()["total"] == 1
    assert (await here.get("/applications?limit=0")).status_code == 400
    url = f"/applications/{made['id']}"
    change = await here.client.put(url, json={"name": "board", "role": "viewer"}, headers=here.user)
    assert (change.json()["name"], change.json()["role"]) == ("board", "viewer")
    assert (await here.client.put(url, json={"role": "king"}, headers=here.user)).status_code == 400
    first = (await here.client.post(f"{url}/secret", headers=here.user)).json()["secret"]
    second = (await here.client.post(f"{url}/secret", headers=here.user)).json()["secret"]
    assert first != second
    assert (await here.client.delete(url, headers=here.user)).status_code == 204
    assert (await here.client.delete(url, headers=here.user)).status_code == 204
    assert (await here.get(url)).status_code == 404
    assert (await here.get(f"/things/{made['id']}")).status_code == 404

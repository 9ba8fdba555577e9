"""Organisations over HTTP: the tree, who is in it, and what a member's groups let him see and do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.http.world import Person, World, idor

Run = Callable[..., None]


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody signs in with a password here, and hashing would cost more than all the rest."""
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


def names(page: Any, noun: str = "groups") -> list[str]:
    return [each["name"] for each in page[noun]]


def test_an_organisation_is_made_shown_moved_and_removed(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.post("/groups", {"name": "farm", "description": "all of it", "metadata": {"a": 1}})
        assert made.status_code == 201
        top = made.json()
        assert made.headers["location"] == f"/groups/{top['id']}"
        assert (await site.get(f"/groups/{top['id']}")).json() == top
        assert (top["level"], top["path"], top["parent_id"], top["role"]) == (1, top["id"], "", "admin")
        assert top["members"] == {"users": 0, "things": 0, "channels": 0}
        below = (await site.post("/groups", {"name": "barn", "parent_id": top["id"], "id": "barn"})).json()
        assert (below["level"], below["path"]) == (2, f"{top['id']}.barn")
        assert (await site.post("/groups", {"name": "again", "id": "barn"})).status_code == 409
        wrong: list[Any] = [{}, {"name": ""}, {"name": "x", "id": "a b"}, {"name": "x", "metadata": []}, []]
        for bad in wrong:
            assert (await site.post("/groups", bad)).status_code == 400, bad
        assert (await site.post("/groups", {"name": "x", "parent_id": "nobody's"})).status_code == 404
        path = f"/groups/{top['id']}"
        assert (await site.client.delete(path, headers=site.user)).status_code == 409
        moved = await site.client.put(
            "/groups/barn", json={"parent_id": "", "name": "the barn"}, headers=site.user
        )
        assert (moved.json()["name"], moved.json()["level"]) == ("the barn", 1)
        for _ in range(2):
            assert (await site.client.delete(path, headers=site.user)).status_code == 204
        assert (await site.get(path)).status_code == 404
        again = await site.client.put(path, json={"name": "x"}, headers=site.user)
        assert (again.status_code, again.json()["detail"]) == (404, "no such group")

    run(scenario)


def test_the_tree_is_listed_by_level_name_and_metadata_and_in_pages(run: Run) -> None:
    async def scenario(site: Any) -> None:
        parent = ""
        for n in range(5):
            body = {"name": f"g{n}", "parent_id": parent, "metadata": {"odd": n % 2 == 1}}
            parent = (await site.post("/groups", body)).json()["id"]
        answer = await site.post("/groups", {"name": "deeper", "parent_id": parent})
        assert (answer.status_code, "5 levels" in answer.json()["detail"]) == (400, True)
        groups = (await site.get("/groups?limit=100")).json()["groups"]
        ids = [each["id"] for each in groups]
        assert [each["level"] for each in groups] == [1, 2, 3, 4, 5]
        assert names((await site.get("/groups?level=2")).json()) == ["g0", "g1"]
        assert names((await site.get("/groups?name=G3")).json()) == ["g3"]
        assert names((await site.get('/groups?metadata={"odd":true}')).json()) == ["g1", "g3"]
        assert names((await site.get(f"/groups/{ids[1]}/children?level=2")).json()) == ["g2", "g3"]
        assert names((await site.get(f"/groups/{ids[3]}/parents")).json()) == ["g0", "g1", "g2"]
        assert names((await site.get(f"/groups/{ids[3]}/parents?level=1")).json()) == ["g2"]
        tree = (await site.get("/groups?tree=true")).json()
        assert (tree["total"], names(tree)) == (5, ["g0"])
        assert tree["groups"][0]["children"][0]["children"][0]["name"] == "g2"
        page = (await site.get("/groups?order=name&dir=desc&limit=2")).json()
        assert names(page) == ["g4", "g3"]
        rest = (await site.get(f"/groups?order=name&dir=desc&limit=9&after={page['next']}")).json()
        assert (names(rest), "next" in rest) == (["g2", "g1", "g0"], False)
        for bad in ("level=0", "level=6", "level=x", "tree=maybe", "order=age", "after=x", "limit=0"):
            assert (await site.get(f"/groups?{bad}")).status_code == 400, bad

    run(scenario)


def test_people_things_and_channels_are_put_in_and_taken_out(run: Run) -> None:
    async def scenario(site: Any) -> None:
        person = Person(site, "somebody")
        group = (await site.post("/groups", {"name": "farm"})).json()["id"]
        path = f"/groups/{group}/members"

        async def put(kind: str, *members: str, **more: str) -> int:
            body = {"type": kind, "members": list(members), **more}
            status: int = (await site.post(path, body)).status_code
            return status

        assert await put("users", person.email, role="technician") == 200
        assert await put("things", site.thing_id) == 200
        assert await put("channels", site.channel_id) == 200
        everyone = (await site.get(path)).json()
        assert everyone["members"] == [person.id, site.thing_id, site.channel_id]
        assert everyone["items"][0] == {
            "id": person.id,
            "type": "users",
            "name": "somebody@example.org",
            "role": "technician",
        }
        assert (await site.get(f"{path}?type=things")).json()["members"] == [site.thing_id]
        assert (await site.get(f"{path}?limit=1&offset=1")).json()["members"] == [site.thing_id]
        assert (await site.get(f"{path}?type=cats")).status_code == 400
        assert (await site.get(f"/groups/things/{group}")).json()["things"][0]["group_id"] == group
        assert (await site.get(f"/groups/channels/{group}")).json()["channels"][0]["id"] == site.channel_id
        for member in (person.id, site.thing_id, site.channel_id):
            assert names((await site.get(f"/members/{member}/groups")).json()) == ["farm"]
        assert (await site.get("/members/nobody/groups")).status_code == 404
        for kind, member in (("users", "nobody"), ("users", "no@body"), ("things", "x"), ("channels", "x")):
            assert await put(kind, member) == 404
        for bad in (("cats", "x"), ("users",)):
            assert await put(*bad) == 400
        assert await put("users", person.id, role="member") == 400
        assert await put("things", *["x"] * 1001) == 400

        async def take(kind: str, *members: str) -> int:
            body = {"type": kind, "members": list(members)}
            answer = await site.client.request("DELETE", path, json=body, headers=site.user)
            status: int = answer.status_code
            return status

        for kind, member in (("users", person.id), ("things", site.thing_id), ("channels", site.channel_id)):
            assert [await take(kind, member), await take(kind, member)] == [204, 404]
        assert (await site.get(path)).json()["total"] == 0

    run(scenario)


def test_a_member_sees_his_groups_and_nothing_else(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        for person in world.people.values():
            assert names(await person.get("/groups")) == ["ours", "below"]
            assert names(await person.get("/things"), "things") == ["pump"]
            assert names(await person.get("/channels"), "channels") == ["water"]
            assert names(await person.get(f"/things/{world.thing.id}/channels"), "channels") == ["water"]
            assert names(await person.get(f"/channels/{world.channel.id}/things"), "things") == ["pump"]
            others = await person.get(f"/channels/{world.channel.id}/things?disconnected=true")
            assert others["things"] == []
        for noun, path in (("groups", "/groups"), ("things", "/things"), ("channels", "/channels")):
            assert (await world.nobody.get(path))[noun] == []
            assert (await world.foreigner.get(path))["total"] == 1
            searched = await world.nobody.ask("POST", f"{path}/search", {}) if noun != "groups" else None
            assert searched is None or searched.json()["total"] == 0
        assert await world.nobody.status("GET", "/devices") == 404  # an empty list, in 2017
        assert len(await world.viewer.get("/devices")) == 1

    run(scenario)


def test_a_group_below_stands_alone_for_who_sees_only_that(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        world.registry.groups.assign_users(world.below, [world.nobody.id], "viewer")
        (shown,) = (await world.nobody.get("/groups"))["groups"]
        assert (shown["id"], shown["parent_id"], shown["level"], shown["path"]) == (
            world.below,
            "",
            1,
            world.below,
        )
        assert (await world.nobody.get(f"/groups/{world.below}/parents"))["groups"] == []
        assert await world.nobody.status("GET", f"/groups/{world.ours}") == 404

    run(scenario)


def test_each_role_in_a_group_changes_what_it_may(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        spare = [Person(site, f"spare{n}") for n in range(3)]
        for n, (role, person) in enumerate(world.people.items()):
            managing = 200 if role != "viewer" else 403
            leading = 200 if role == "admin" else 403
            assert await person.status("PUT", f"/things/{world.thing.id}", {"name": "pump"}) == managing
            assert await person.status("PUT", f"/channels/{world.channel.id}", {"name": "water"}) == managing
            assert await person.status("PATCH", f"/things/{world.thing.id}/key", {}) == managing
            connection = f"/channels/{world.channel.id}/things/{world.thing.id}"
            assert await person.status("PUT", connection) == managing
            assert await person.status("PUT", f"/groups/{world.below}", {"name": "below"}) == leading
            members = {"type": "users", "members": [spare[n].email], "role": "viewer"}
            assert await person.status("POST", f"/groups/{world.below}/members", members) == leading
            things = {"type": "things", "members": [world.thing.id]}
            assert await person.status("POST", f"/groups/{world.below}/members", things) == managing
            made = await person.status("POST", "/groups", {"name": "more", "parent_id": world.ours})
            assert made == (201 if role == "admin" else 403)
            assert await person.status("POST", "/groups", {"name": "an organisation"}) == 403
            assert await person.status("PUT", f"/groups/{world.ours}", {"parent_id": world.theirs}) in (
                403,
                404,
            )
            assert await person.status("DELETE", f"/groups/{world.ours}") == 403

    run(scenario)


def test_what_a_member_makes_is_in_his_group_from_the_first_moment(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        groups = world.registry.groups
        for path, noun in (("/things", "things"), ("/channels", "channels")):
            for body, group in (({}, world.ours), ({"group_id": world.below}, world.below)):
                made = (await world.technician.ask("POST", path, body)).json()
                assert made["group_id"] == group
                assert groups.holder(noun, made["id"]) == group
            many = await world.admin.ask("POST", f"{path}/bulk", [{"name": "a"}, {"group_id": world.below}])
            assert [each["group_id"] for each in many.json()[noun]] == [world.ours, world.below]
            assert await world.viewer.status("POST", path, {}) == 403
            assert await world.viewer.status("POST", path, {"group_id": world.ours}) == 403
            assert await world.nobody.status("POST", path, {}) == 403
            assert await world.technician.status("POST", path, {"group_id": world.theirs}) == 404
            foreign = [{}, {"group_id": world.theirs}]
            before = len(groups.held(world.ours, noun))
            assert await world.technician.status("POST", f"{path}/bulk", foreign) == 404
            assert len(groups.held(world.ours, noun)) == before
        device = (await world.technician.ask("POST", "/devices", {"name": "old"})).json()
        assert groups.holder("things", device["id"]) == world.ours
        groups.assign_users(world.theirs, [world.technician.id], "technician")
        answer = await world.technician.ask("POST", "/things", {})
        assert (answer.status_code, "group_id" in answer.json()["detail"]) == (400, True)

    run(scenario)


def test_connecting_across_organisations_needs_both_and_ending_it_one(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        registry, ours, theirs = world.registry, world.admin, world.foreigner
        pairs = [(world.channel, world.their_thing), (world.their_channel, world.thing)]
        both = Person(site, "both")
        for group in (world.ours, world.theirs):
            registry.groups.assign_users(group, [both.id], "technician")
        for channel, thing in pairs:
            body = {"channel_ids": [channel.id], "thing_ids": [thing.id]}
            path = f"/channels/{channel.id}/things/{thing.id}"
            plugs = [
                (f"/channels/{channel.id}/plug", [thing.id]),
                (f"/devices/{thing.id}/plug", [channel.id]),
            ]
            for one in (ours, theirs):
                assert await one.status("POST", "/connect", body) == 404
                assert await one.status("PUT", path) == 404
                for plug, ids in plugs:
                    assert await one.status("POST", plug, ids) == 404
            assert not registry.connected(channel.id, thing.id)
            for one in (ours, theirs):
                assert await both.status("POST", "/connect", body) == 200
                assert await one.status("PUT", "/disconnect", body) == 200
                assert await both.status("PUT", path) == 200
                assert await one.status("DELETE", path) == 204
            assert await both.status("PUT", path) == 200
            assert await world.nobody.status("DELETE", path) == 404
            assert await world.nobody.status("PUT", "/disconnect", body) == 404
            assert registry.connected(channel.id, thing.id)
        shown = await ours.get(f"/channels/{world.channel.id}/things")
        assert names(shown, "things") == ["pump"], "a foreign thing is not shown, connected or not"

    run(scenario)


def test_messages_are_read_by_the_people_of_the_channels_group(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        mine, foreign = (
            f"/channels/{world.channel.id}/messages",
            f"/channels/{world.their_channel.id}/messages",
        )
        sent = {"authorization": f"Thing {world.key}", "content-type": "application/senml+json"}
        published = await site.client.post(mine, content=b'[{"n":"t","v":1}]', headers=sent)
        assert published.status_code == 202
        for person in world.people.values():
            assert (await person.get(mine))["total"] == 1
            assert (await person.ask("GET", f"{mine}?export=csv")).status_code == 200
            assert len(await person.get(f"{mine}?start_time=0")) == 1
            for path in (foreign, f"{foreign}?export=csv", "/channels/nothing/messages", f"{foreign}/a"):
                answer = await person.ask("GET", path)
                assert (answer.status_code, answer.json()["detail"]) == (404, "no such channel"), path
            assert await person.status("POST", mine, []) in (401, 403)
        events = {"accept": "text/event-stream"}
        for person, path, status in ((world.viewer, foreign, 404), (world.nobody, mine, 404)):
            answer = await site.client.get(path, headers={**person.headers, **events})
            assert answer.status_code == status

    run(scenario)


def test_a_foreign_id_gets_the_answer_of_an_id_that_nobody_has(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        mine = {"my thing": world.thing.id, "my channel": world.channel.id, "my group": world.below}
        foreign = {
            **mine,
            "thing": world.their_thing.id,
            "channel": world.their_channel.id,
            "group": world.theirs,
            "user": world.foreigner.id,
        }
        absent = {**mine, **dict.fromkeys(("thing", "channel", "group", "user"), "0" * 36)}
        before = state(world)
        for theirs, nobodys in zip(idor(foreign), idor(absent), strict=True):
            answers = [await world.admin.ask(*each) for each in (theirs, nobodys)]
            assert {answer.status_code for answer in answers} == {404}, theirs
            assert answers[0].json() == answers[1].json(), theirs
        assert state(world) == before

    run(scenario)


def test_the_same_requests_go_through_for_who_has_both(run: Run) -> None:
    """The negative control of the test above: without the check each of them would do what it asks for."""

    async def scenario(site: Any) -> None:
        world = World(site)
        world.registry.groups.assign_users(world.theirs, [world.admin.id], "admin")
        ids = {
            "my thing": world.thing.id,
            "my channel": world.channel.id,
            "my group": world.below,
            "thing": world.their_thing.id,
            "channel": world.their_channel.id,
            "group": world.theirs,
            "user": world.foreigner.id,
        }
        for method, path, body in idor(ids):
            if method in ("DELETE", "PATCH") or path == "/disconnect" or path.endswith("unplug"):
                continue  # they would take away what the others ask for
            if path.endswith("/msg") or (body or {}) == {"parent_id": world.theirs}:
                continue
            assert await world.admin.status(method, path, body) in (200, 201), (method, path)

    run(scenario)


def state(world: World) -> object:
    registry = world.registry
    groups = registry.groups
    return (
        [(thing, thing.key_version, groups.holder("things", thing.id)) for thing in registry.all_things()],
        [(channel, groups.holder("channels", channel.id)) for channel in registry.all_channels()],
        groups.all(),
        [
            registry.rights(channel.id, thing.id)
            for channel in registry.all_channels()
            for thing in registry.all_things()
        ],
    )


def test_a_policy_takes_from_a_member_what_his_group_gives(run: Run) -> None:
    async def scenario(site: Any) -> None:
        world = World(site)
        document = (
            '{"subjects": ["users/%s"], "actions": ["manage"], "resources": ["gateway"], "effect": "deny"}'
        )
        change = {"no": document % world.technician.id}
        await asyncio.to_thread(world.registry.change_policies, change, 0.0)
        answer = await world.technician.ask("PUT", f"/things/{world.thing.id}", {"name": "x"})
        assert (answer.status_code, "policy no" in answer.json()["detail"]) == (403, True)
        assert await world.technician.status("POST", "/things", {}) == 403
        assert await world.technician.status("GET", f"/things/{world.thing.id}") == 200
        assert await world.admin.status("PUT", f"/things/{world.thing.id}", {"name": "x"}) == 200

    run(scenario)

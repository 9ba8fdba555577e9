from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., None]


def test_a_thing_is_made_shown_edited_and_removed(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.post("/things", {"name": "pump", "metadata": {"floor": 2}})
        assert made.status_code == 201
        thing = made.json()
        assert made.headers["location"] == f"/things/{thing['id']}"
        assert len(thing["key"]) == 43
        path = f"/things/{thing['id']}"
        shown = {"id": thing["id"], "name": "pump", "metadata": {"floor": 2}}
        assert (await site.get(path)).json() == shown, "the key is shown once"
        edited = await site.client.put(path, json={"name": "fan"}, headers=site.user)
        assert (edited.status_code, edited.json()) == (200, {**shown, "name": "fan"})
        for _ in range(2):  # 204 also when it is gone, as in Mainflux
            assert (await site.client.delete(path, headers=site.user)).status_code == 204
        gone = await site.get(path)
        assert (gone.status_code, gone.json()["detail"]) == (404, "no such thing")
        assert (await site.client.put(path, json={"name": "x"}, headers=site.user)).status_code == 404

    run(scenario)


def test_a_caller_may_give_id_and_key_but_not_twice(run: Run) -> None:
    async def scenario(site: Any) -> None:
        wanted = {"id": "boiler-1", "key": "a key of sixteen or more", "name": "boiler"}
        assert (await site.post("/things", wanted)).json()["key"] == wanted["key"]
        for clash in ({"id": "boiler-1"}, {"key": wanted["key"]}):
            assert (await site.post("/things", clash)).status_code == 409
        for bad in (
            {"id": "no spaces"},
            {"key": "short"},
            {"name": "x" * 1025},
            {"name": 5},
            {"metadata": []},
            [],
        ):
            answer = await site.post("/things", bad)
            assert answer.status_code == 400, bad
            assert answer.json()["detail"]

    run(scenario)


def test_things_in_bulk_are_made_all_or_none(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.post("/things/bulk", [{"name": "a"}, {"name": "b"}])
        assert made.status_code == 201
        assert [thing["name"] for thing in made.json()["things"]] == ["a", "b"]
        assert all(thing["key"] for thing in made.json()["things"])
        before = (await site.get("/things")).json()["total"]
        clash = await site.post("/things/bulk", [{"name": "c"}, {"id": site.thing_id}])
        assert clash.status_code == 409
        assert (await site.get("/things")).json()["total"] == before
        assert (await site.post("/things/bulk", [])).status_code == 400
        assert (await site.post("/things/bulk", [{}] * 1001)).status_code == 400
        channels = await site.post("/channels/bulk", [{"name": "x"}, {"name": "y", "id": "why"}])
        assert [channel["name"] for channel in channels.json()["channels"]] == ["x", "y"]

    run(scenario)


def test_lists_are_paged_filtered_and_ordered(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.post(
            "/things/bulk", [{"name": f"t{n}", "metadata": {"odd": n % 2 == 1}} for n in range(5)]
        )

        async def names(query: str) -> list[str]:
            answer = await site.get(f"/things?{query}")
            assert answer.status_code == 200, answer.text
            return [thing["name"] for thing in answer.json()["things"]]

        assert await names("limit=3&offset=1") == ["t0", "t1", "t2"]
        assert await names("name=T3") == ["t3"]
        assert await names("order=name&dir=desc&limit=2") == ["t4", "t3"]
        assert await names('metadata={"odd":true}') == ["t1", "t3"]
        page = (await site.get("/things?limit=2&order=name")).json()
        assert {key: page[key] for key in ("total", "offset", "limit", "order", "direction")} == {
            "total": 6,
            "offset": 0,
            "limit": 2,
            "order": "name",
            "direction": "asc",
        }
        searched = await site.post("/things/search", {"limit": 2, "order": "name"})
        assert searched.json() == page
        for bad in (
            "limit=0",
            "limit=101",
            "limit=x",
            "offset=-1",
            "order=age",
            "dir=up",
            "metadata=[1]",
            "metadata={",
        ):
            assert (await site.get(f"/things?{bad}")).status_code == 400, bad
        assert (await site.get("/channels?name=field")).json()["channels"][0]["id"] == site.channel_id

    run(scenario)


def test_a_list_goes_on_after_the_last_item_whatever_came_and_went(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for path, noun in (("/things", "things"), ("/channels", "channels")):
            await site.post(f"{path}/bulk", [{"name": f"n{n}", "id": f"{noun}-{n}"} for n in range(7)])
            for order, direction in (("name", "asc"), ("name", "desc"), ("id", "asc"), ("id", "desc")):
                query = f"{path}?name=n&limit=3&order={order}&dir={direction}"
                seen: list[str] = []
                answer = await site.get(query)
                while True:
                    page = answer.json()
                    seen += [each["name"] for each in page[noun] if each["name"].startswith("n")]
                    if "next" not in page:
                        break
                    link = answer.headers["link"].partition(">")[0].removeprefix("<")
                    assert f"after={page['next']}" in link
                    answer = await site.get(link)
                assert seen == sorted(seen, reverse=direction == "desc")
                assert len(seen) == 7
            first = (await site.get(f"{path}?name=n&order=name&limit=2")).json()
            for each in first[noun]:  # what was shown goes, and something before it comes
                await site.client.delete(f"{path}/{each['id']}", headers=site.user)
            await site.post(path, {"name": "n00"})
            body = {"name": "n", "order": "name", "limit": 2, "after": first["next"]}
            rest = (await site.post(f"{path}/search", body)).json()
            assert [each["name"] for each in rest[noun]] == ["n2", "n3"]
            for bad in ("order=id", "order=", "dir=asc"):
                answer = await site.get(f"{path}?{bad}&after={first['next']}")
                assert (answer.status_code, "after" in answer.json()["detail"]) == (400, True), bad
            for token in ("x", "e30", "W10", "WyJuYW1lIl0", "\u00e9", "x" * 9000):
                assert (await site.get(f"{path}?order=name&after={token}")).status_code == 400

    run(scenario)


def test_bulk_is_one_transaction_and_says_which_item_is_wrong(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for path, noun in (("/things", "things"), ("/channels", "channels")):
            before = (await site.get(path)).json()["total"]
            clash = await site.post(f"{path}/bulk", [{"id": "one"}, {"id": "two"}, {"id": "one"}])
            assert (clash.status_code, clash.json()["detail"][:7]) == (409, "item 3:")
            wrong = await site.post(f"{path}/bulk", [{}, {"id": "not an id"}])
            assert (wrong.status_code, wrong.json()["detail"][:7]) == (400, "item 2:")
            assert (await site.get(path)).json()["total"] == before
            epoch = site.hub.registry.epoch
            made = await site.post(f"{path}/bulk", [{"metadata": {"n": n}} for n in range(1000)])
            assert (made.status_code, len(made.json()[noun])) == (201, 1000)
            assert site.hub.registry.epoch == epoch + 1
        twice = [{"key": "the same key for both"}] * 2
        assert (await site.post("/things/bulk", twice)).status_code == 409

    run(scenario)


def test_a_rotated_key_replaces_the_old_one_at_once(run: Run) -> None:
    async def scenario(site: Any) -> None:
        path = f"/things/{site.thing_id}/key"
        assert (await site.publish()).status_code == 202
        chosen = await site.client.patch(path, json={"key": "my own key, long enough"}, headers=site.user)
        assert chosen.json() == {"id": site.thing_id, "key": "my own key, long enough"}
        assert (await site.publish()).status_code == 401
        assert (
            await site.publish(authorization="Thing my own key, long enough")
        ).status_code == 401  # has spaces
        made = await site.client.patch(path, json={}, headers=site.user)
        assert (await site.publish(authorization=f"Thing {made.json()['key']}")).status_code == 202
        other = (await site.post("/things", {})).json()
        taken = await site.client.patch(path, json={"key": other["key"]}, headers=site.user)
        assert taken.status_code == 409

    run(scenario)


def test_connections_are_made_listed_and_ended(run: Run) -> None:
    async def scenario(site: Any) -> None:
        things = [(await site.post("/things", {"name": name})).json()["id"] for name in "ab"]
        channels = [(await site.post("/channels", {"name": name})).json()["id"] for name in "xy"]
        pairs = {"channel_ids": channels, "thing_ids": things}
        assert (await site.post("/connect", pairs)).status_code == 200
        connected = (await site.get(f"/things/{things[0]}/channels")).json()
        assert [channel["id"] for channel in connected["channels"]] == channels
        assert connected["total"] == 2
        others = (await site.get(f"/channels/{channels[0]}/things?disconnected=true")).json()
        assert [thing["id"] for thing in others["things"]] == [site.thing_id]
        assert (await site.client.put("/disconnect", json=pairs, headers=site.user)).status_code == 200
        assert (await site.get(f"/things/{things[0]}/channels")).json()["channels"] == []
        one = f"/channels/{channels[0]}/things/{things[0]}"
        assert (await site.client.put(one, headers=site.user)).status_code == 200
        assert (await site.client.delete(one, headers=site.user)).status_code == 204
        assert (await site.client.delete(one, headers=site.user)).status_code == 404
        assert (await site.post("/connect", {**pairs, "thing_ids": ["ghost"]})).status_code == 404
        assert (await site.post("/connect", {**pairs, "thing_ids": []})).status_code == 400
        many = {"channel_ids": ["c"] * 101, "thing_ids": ["t"] * 100}
        assert (await site.post("/connect", many)).status_code == 400

    run(scenario)


def test_a_channel_is_made_edited_and_removed_and_its_thing_then_denied(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.post("/channels", {"name": "roof", "id": "roof-1"})
        assert made.status_code == 201
        assert made.headers["location"] == "/channels/roof-1"
        assert made.json() == {"response": "created", "id": "roof-1", "name": "roof", "metadata": {}}
        edited = await site.client.put("/channels/roof-1", json={"metadata": {"a": 1}}, headers=site.user)
        assert edited.json() == {"id": "roof-1", "name": "roof", "metadata": {"a": 1}}
        assert (await site.get("/channels/roof-1")).json() == edited.json()
        path = f"/channels/{site.channel_id}"
        assert (await site.client.delete(path, headers=site.user)).status_code == 204
        assert (await site.publish()).status_code == 403
        assert (await site.get(path)).status_code == 404

    run(scenario)


def test_other_services_may_ask_who_a_key_is_and_where_it_may_go(run: Run) -> None:
    async def scenario(site: Any) -> None:
        path = f"/identify/channels/{site.channel_id}"
        assert (await site.client.post("/identify", json={"token": site.key})).json() == {"id": site.thing_id}
        assert (await site.client.post("/identify", json={"token": "x"})).status_code == 401
        by_header = await site.client.post("/identify", headers=site.thing)
        assert by_header.json() == {"id": site.thing_id}
        assert (await site.client.post("/identify")).status_code == 401
        assert (await site.client.post("/identify", headers=site.user)).status_code == 403
        by_key = await site.client.post(f"{path}/access-by-key", json={"token": site.key})
        assert (by_key.status_code, by_key.json()) == (200, {"id": site.thing_id})
        by_id = await site.post(f"{path}/access-by-id", {"thing_id": site.thing_id})
        assert by_id.status_code == 200
        site.hub.registry.disconnect([site.channel_id], [site.thing_id])
        for answer in (
            await site.client.post(f"{path}/access-by-key", json={"token": site.key}),
            await site.post(f"{path}/access-by-id", {"thing_id": site.thing_id}),
        ):
            assert answer.status_code == 403

    run(scenario)


def test_a_body_must_be_json_and_say_so(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for content_type, body, status in (
            ("text/plain", b"{}", 415),
            ("", b"{}", 415),
            ("application/json; charset=utf-8", b"{}", 201),
            ("application/json", b"{", 400),
            ("application/json", b"", 400),
            ("application/json", b'{"name":"\xff"}', 400),
            ("application/json", b'{"metadata":' + b"[" * 100_000, 400),
            ("application/json", b" " * (256 * 1024 + 1), 413),
        ):
            headers = {**site.user, "content-type": content_type}
            answer = await site.client.post("/things", content=body, headers=headers)
            assert answer.status_code == status, (content_type, body[:20], answer.text)

    run(scenario)


def test_publish_and_subscribe_are_connected_apart(run: Run) -> None:
    async def scenario(site: Any) -> None:
        pair = {"channel_ids": [site.channel_id], "thing_ids": [site.thing_id]}
        path = f"/channels/{site.channel_id}/things/{site.thing_id}"
        assert (await site.get(path)).json()["types"] == ["publish", "subscribe"]
        only_publish = {**pair, "types": ["subscribe"]}
        assert (await site.client.put("/disconnect", json=only_publish, headers=site.user)).status_code == 200
        assert (await site.get(path)).json()["types"] == ["publish"]
        assert (await site.publish()).status_code == 202
        refused = await site.client.get(site.messages, headers=site.thing)
        assert refused.status_code == 403
        assert "not for reading" in refused.json()["detail"]
        assert (await site.client.put("/disconnect", json=only_publish, headers=site.user)).status_code == 404
        assert (await site.post("/connect", only_publish)).status_code == 200
        assert (await site.client.get(site.messages, headers=site.thing)).status_code == 200
        await site.client.put("/disconnect", json={**pair, "types": ["publish"]}, headers=site.user)
        refused = await site.publish()
        assert refused.status_code == 403
        assert "not for publishing" in refused.json()["detail"]
        await site.client.put("/disconnect", json=pair, headers=site.user)
        assert (await site.get(path)).status_code == 404
        for types in ([], ["manage"]):
            assert (await site.post("/connect", {**pair, "types": types})).status_code == 400

    run(scenario)

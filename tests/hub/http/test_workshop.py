"""The requests of the 2017 workshop, as its slides have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., None]


def test_a_device_from_its_making_to_its_end(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.client.post("/devices", headers=site.user)
        assert made.status_code == 201
        device = made.json()
        assert device["response"] == "created"
        assert made.headers["location"] == f"/devices/{device['id']}"
        path = f"/devices/{device['id']}"
        edit = {"name": "weio", "description": "on the roof", "metadata": {"a": 1}}
        edited = await site.client.put(path, json=edit, headers=site.user)
        assert edited.json() == {"response": "updated", "id": device["id"]}
        shown = (await site.get(path)).json()
        assert shown == {"id": device["id"], "channels": [], **edit}
        assert shown in (await site.get("/devices?climit=5")).json()
        gone = await site.client.delete(path, headers=site.user)
        assert gone.json() == {"response": "deleted", "id": device["id"]}
        assert (await site.get(path)).status_code == 404

    run(scenario)


def test_plugged_devices_publish_and_unplugged_ones_do_not(run: Run) -> None:
    async def scenario(site: Any) -> None:
        device = (await site.post("/devices", {"name": "weio"})).json()
        channel = (await site.post("/channels", {})).json()
        assert channel["response"] == "created"

        async def publish(word: str = "senml-json") -> int:
            headers = {"authorization": device["key"]}
            answer = await site.client.post(
                f"/channels/{channel['id']}/messages/{word}",
                content=b'[{"bver":5,"n":"t","v":1}]',
                headers=headers,
            )
            return int(answer.status_code)

        assert await publish() == 403
        plugged = await site.post(f"/devices/{device['id']}/plug", [channel["id"]])
        assert plugged.json() == {"response": "plugged", "id": device["id"]}
        assert (await site.get(f"/devices/{device['id']}")).json()["channels"] == [channel["id"]]
        assert await publish() == 202
        assert await publish("octet-stream") == 202
        assert (await site.post(f"/devices/{device['id']}/unplug", [channel["id"]])).status_code == 200
        assert await publish() == 403
        plugged = await site.post(f"/channels/{channel['id']}/plug", [device["id"]])
        assert plugged.json() == {"response": "plugged", "id": channel["id"]}
        assert await publish() == 202
        assert (await site.post(f"/channels/{channel['id']}/unplug", [device["id"]])).status_code == 200
        assert await publish() == 403

    run(scenario)


def test_read_only_fields_long_names_and_an_empty_list_are_refused(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for bad in ({"online": True}, {"id": "x"}, {"name": "x" * 33}, {"description": "x" * 257}, []):
            assert (await site.post("/devices", bad)).status_code == 400, bad
        assert (await site.get("/devices?climit=0")).status_code == 400
        assert (await site.get("/devices?climit=x")).status_code == 400
        assert (await site.client.delete(f"/devices/{site.thing_id}", headers=site.user)).status_code == 200
        assert (await site.get("/devices")).status_code == 404

    run(scenario)

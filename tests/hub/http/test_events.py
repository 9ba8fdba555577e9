"""The channel of events over HTTP: who did what through a request, for administrators only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.http.conftest import site as open_site
from tests.hub.http.world import Person, World

Run = Callable[..., None]


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


def test_who_asked_for_a_change_is_in_its_event(tmp_path: Any) -> None:
    async def main() -> None:
        async with open_site(tmp_path / "data", events=True) as site:
            await site.hub.events.start()
            world = World(site)
            put = asyncio.Event()
            site.hub.log.on_commit(lambda messages: put.set())
            made = await world.technician.ask("POST", "/things", {"name": "by a member"})
            name = made.json()["name"]
            found: list[dict[str, Any]] = []
            async with asyncio.timeout(20):
                while not found:
                    await put.wait()
                    put.clear()
                    messages = site.hub.log.read(0, lambda each: each.channel == "events", 1000)
                    found = [
                        event
                        for each in messages
                        if (event := json.loads(each.payload)).get("name") == name
                        and event["operation"] == "thing.create"
                    ]
            assert found == [
                {
                    "operation": "thing.create",
                    "id": made.json()["id"],
                    "name": name,
                    "metadata": {},
                    "who": f"users/{world.technician.id}",
                }
            ]
            read = await site.get("/channels/events/messages?format=thing")
            assert read.json()["messages"][0]["protocol"] == "events"

    asyncio.run(main())


def test_only_administrators_reach_the_channel_of_events(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.hub.registry.create_channel("events", id="events")
        world = World(site)
        pair = {"channel_ids": ["events"], "thing_ids": [world.thing.id]}
        people = {role: Person(site, f"staff-{role}", role) for role in ("viewer", "technician", "admin")}
        for role, person in people.items():
            leads = role == "admin"
            assert await person.status("GET", "/channels/events/messages") == (200 if leads else 403)
            assert await person.status("POST", "/connect", pair) == (200 if leads else 403)
            changed = await person.status("PUT", "/channels/events", {"name": "x"})
            assert changed == (200 if leads else 403)
            removed = await person.status("DELETE", "/channels/events")
            assert removed == (409 if leads else 403)
        for person in (world.admin, world.nobody):
            assert await person.status("GET", "/channels/events/messages") == 404
            assert await person.status("POST", "/connect", pair) == 404
        sent = {"authorization": f"Thing {world.key}", "content-type": "application/json"}
        answer = await site.client.post("/channels/events/messages", content=b"{}", headers=sent)
        assert answer.status_code == 403

    run(scenario)

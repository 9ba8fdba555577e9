"""Events: every change once, in order, durable with the change, saying who made it and no secret."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub import events_outbox
from hub.access import Action, Principal, Resource
from hub.audit import Attempt, attempting
from hub.errors import Conflict
from hub.events_outbox import WATCHED
from hub.hub import Hub, HubSettings
from hub.registry import Rights
from hub.registry_bulk import Item, create_things
from hub.registry_items import EVENTS

VICTIM = Path(__file__).with_name("events_victim.py")
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("FLUXGATE_KILLS", "3"))  # a longer run: FLUXGATE_KILLS=200
PATIENCE_S = 20

Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


def opened(folder: Path, **more: Any) -> Hub:
    return Hub.open(folder, settings=HubSettings(commit_interval_s=0.01, events=True, **more))


def told(hub: Hub) -> list[Event]:
    """All events that are in the log."""
    messages = hub.log.read(0, lambda each: each.channel == EVENTS, 100_000)
    assert all(each.protocol == "events" and each.content_type == "application/json" for each in messages)
    found = [json.loads(each.payload) for each in messages]
    assert [each.publisher for each in messages] == [event["who"].rpartition("/")[2] for event in found]
    assert [each.subtopic for each in messages] == [event["operation"].partition(".")[0] for event in found]
    return found


async def settled(hub: Hub) -> list[Event]:
    """What is told once every change that was made is."""
    more = asyncio.Event()
    forget = hub.log.on_commit(lambda messages: more.set())
    async with asyncio.timeout(PATIENCE_S):
        while hub.registry.events_after(hub.events._cursor, 1):
            more.clear()
            if hub.registry.events_after(hub.events._cursor, 1):
                await more.wait()
                await asyncio.sleep(0)
    forget()
    return told(hub)


def run(folder: Path, scenario: Callable[[Hub], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        hub = opened(folder, **more)
        await hub.events.start()
        try:
            await scenario(hub)
        finally:
            await hub.close()

    asyncio.run(main())


def test_each_change_is_told_once_in_order_with_who_made_it(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        registry = hub.registry
        await settled(hub)
        before = len(told(hub))
        with attempting(Attempt("users/somebody", "", "http", "")):
            thing, _ = await asyncio.to_thread(registry.create_thing, "pump", {"floor": 2})
            channel = registry.create_channel("water")
            registry.update_thing(thing.id, "fan")
            registry.connect([channel.id], [thing.id], Rights.PUBLISH)
            registry.connect([channel.id], [thing.id])
            registry.connect([channel.id], [thing.id])  # changes nothing
            registry.disconnect([channel.id], [thing.id], Rights.PUBLISH)
            registry.rotate_key(thing.id)
        registry.disconnect([channel.id], [thing.id])
        registry.remove_thing(thing.id)
        registry.remove_channel(channel.id)
        pair = {"chan_id": channel.id, "thing_id": thing.id}
        somebody, gateway = {"who": "users/somebody"}, {"who": "gateway"}
        pump = {"id": thing.id, "name": "pump", "metadata": {"floor": 2}}
        assert (await settled(hub))[before:] == [
            {"operation": "thing.create", **pump, **somebody},
            {"operation": "channel.create", "id": channel.id, "name": "water", "metadata": {}, **somebody},
            {"operation": "thing.update", **pump, "name": "fan", **somebody},
            {"operation": "thing.connect", **pair, "types": ["publish"], **somebody},
            {"operation": "thing.connect", **pair, "types": ["subscribe"], **somebody},
            {"operation": "thing.disconnect", **pair, "types": ["publish"], **somebody},
            {"operation": "thing.key", "id": thing.id, **somebody},
            {"operation": "thing.disconnect", **pair, "types": ["subscribe"], **gateway},
            {"operation": "thing.remove", "id": thing.id, **gateway},
            {"operation": "channel.remove", "id": channel.id, **gateway},
        ]

    run(tmp_path, scenario)


def test_people_groups_policies_and_keys_are_told_of(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        registry = hub.registry
        registry.create_user("owner@example.org", "correct horse")
        user = registry.create_user("me@example.org", "correct horse", "member")
        registry.set_role(user.id, "viewer")
        registry.change_password(user.id, "another horse")
        group = registry.groups.create("farm", now_s=1.0)
        thing, _ = registry.create_thing(group=group.id)
        registry.groups.assign_users(group.id, [user.id], "viewer")
        registry.groups.assign_users(group.id, [user.id], "technician")
        registry.groups.unassign(group.id, "things", [thing.id])
        registry.groups.update(group.id, name="ranch", now_s=2.0)
        document = '{"subjects": ["x"], "actions": ["publish"], "resources": ["z"], "effect": "deny"}'
        registry.change_policies({"night": document}, 0.0)
        registry.change_policies({"night": document.replace("deny", "allow")}, 0.0)
        registry.change_policies({"night": None}, 0.0)
        registry.groups.remove(group.id)
        registry.remove_user(user.id)
        events = await settled(hub)
        operations = [each["operation"] for each in events if each.get("id") != EVENTS]
        assert operations == [
            "user.create",
            "user.create",
            "user.update",
            "user.password",
            "group.create",
            "thing.create",
            "group.assign",
            "group.assign",
            "group.assign",
            "group.unassign",
            "group.update",
            "policy.create",
            "policy.update",
            "policy.remove",
            "group.remove",
            "user.remove",
        ], "what goes with a group or a person is in that one's own event"
        (by_id,) = [each for each in events if each["operation"] == "user.update"]
        assert by_id == {
            "operation": "user.update",
            "id": user.id,
            "email": "me@example.org",
            "role": "viewer",
            "who": "gateway",
        }

    run(tmp_path, scenario)


def test_every_table_that_is_watched_exists_and_no_secret_is_taken(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        with closing(sqlite3.connect(tmp_path / "registry.db")) as conn:
            for each in WATCHED:
                columns = {row[1] for row in conn.execute(f"PRAGMA table_info({each.table})")}
                assert columns, each
                named = " ".join(each.fields.values())
                for secret in ("hash", "password", "sealed", "private", "document", "certificate,"):
                    assert secret not in named
        _, key = hub.registry.create_thing("a", key="a key of sixteen or more")
        assert all(key not in json.dumps(each) for each in await settled(hub))

    run(tmp_path, scenario)


def test_a_change_that_was_not_made_is_not_told(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        create_things(hub.registry, [Item("a", id="one"), Item("b", id="two")])
        before = len(await settled(hub))
        with pytest.raises(Conflict):
            create_things(hub.registry, [Item("c", id="three"), Item("d", id="one")])
        broken = [
            ("DELETE FROM thing", ()),
            ("INSERT INTO organisation_thing(thing, organisation) VALUES ('x', 'y')", ()),
        ]
        with pytest.raises(sqlite3.IntegrityError):
            hub.registry._file._commit(broken)
        assert len(await settled(hub)) == before

    run(tmp_path, scenario)


def test_what_waits_at_the_end_is_told_at_the_next_start(tmp_path: Path) -> None:
    async def before() -> None:
        hub = opened(tmp_path)
        hub.registry.create_thing("early")
        await hub.close()

    async def scenario(hub: Hub) -> None:
        events = await settled(hub)
        assert [(each["operation"], each["name"]) for each in events] == [
            ("thing.create", "early"),
            ("channel.create", "events"),
        ]

    asyncio.run(before())
    run(tmp_path, scenario)
    run(tmp_path, scenario)


def test_without_its_place_in_the_logs_transaction_an_event_would_be_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what the tests of kills and starts would see."""

    async def scenario(hub: Hub) -> None:
        append = hub.log.append
        monkeypatch.setattr(hub.log, "append", lambda messages, also=(): append(messages))
        hub.registry.create_thing("once")
        events = await settled(hub)
        found.append(sum(each["operation"] == "thing.create" for each in events))

    found: list[int] = []
    run(tmp_path, scenario)
    run(tmp_path, scenario)
    assert found == [1, 3]


def test_a_registry_taken_from_its_copy_gives_no_number_twice(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        hub.registry.create_thing("first")
        await settled(hub)

    run(tmp_path, scenario)
    copy = (tmp_path / "registry.db.copy").read_bytes()

    async def more(hub: Hub) -> None:
        for n in range(5):
            hub.registry.create_thing(str(n))
        await settled(hub)

    run(tmp_path, more)
    for path in tmp_path.glob("registry.db*"):
        path.unlink()
    (tmp_path / "registry.db").write_bytes(copy)

    async def after(hub: Hub) -> None:
        hub.registry.create_thing("after")
        events = await settled(hub)
        assert [each["name"] for each in events if each["operation"] == "thing.create"] == [
            "first",
            *"01234",
            "after",
        ]

    run(tmp_path, after)


def test_what_could_not_wait_is_said_to_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_outbox, "MAX_WAITING", 3)

    async def before() -> None:
        hub = opened(tmp_path)
        for n in range(8):
            hub.registry.create_thing(str(n))
        await hub.close()

    async def scenario(hub: Hub) -> None:
        events = await settled(hub)
        lost = [each for each in events if each["operation"] == "events.lost"]
        kept = [each["name"] for each in events if each["operation"] == "thing.create"]
        assert sum(each["count"] for each in lost) + len(kept) == 8
        assert lost
        assert kept == [str(n) for n in range(8 - len(kept), 8)]
        assert hub.events.counters()["fluxgate_events_lost_total"] == 8 - len(kept)

    asyncio.run(before())
    run(tmp_path, scenario)


def test_events_are_read_by_administrators_and_written_by_nobody(tmp_path: Path) -> None:
    async def scenario(hub: Hub) -> None:
        registry = hub.registry
        people = {
            role: registry.create_user(f"{role}@example.org", "correct horse", role)
            for role in ("admin", "technician", "viewer", "member")
        }
        thing, _ = registry.create_thing()

        def may(principal: Principal, action: Action) -> bool:
            return hub.access.decide(principal, action, Resource(EVENTS)).allowed

        for action in (Action.SUBSCRIBE, Action.DELIVER, Action.MANAGE):
            assert [role for role, user in people.items() if may(Principal.of_user(user), action)] == [
                "admin"
            ]
        assert not may(Principal.of_thing(thing), Action.SUBSCRIBE)
        registry.connect([EVENTS], [thing.id])
        assert may(Principal.of_thing(thing), Action.SUBSCRIBE)
        assert not may(Principal.of_thing(thing), Action.PUBLISH)
        document = {
            "subjects": [f"users/{people['viewer'].id}", f"things/{thing.id}"],
            "actions": ["<subscribe|deliver|publish>"],
            "resources": ["channels/events/messages<.*>"],
            "effect": "allow",
        }
        registry.change_policies({"auditor": json.dumps(document)}, 0.0)
        assert may(Principal.of_user(people["viewer"]), Action.SUBSCRIBE)
        assert not may(Principal.of_thing(thing), Action.PUBLISH), "no policy lets anybody invent events"
        with pytest.raises(Conflict, match="stays"):
            registry.remove_channel(EVENTS)

    run(tmp_path, scenario)


# kill -9


def run_and_kill(folder: Path, manner: str, lines: int) -> list[str]:
    """What a victim said was durable before it was killed."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    victim = subprocess.Popen(
        [sys.executable, str(VICTIM), str(folder), manner], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert victim.stdout
    said = [victim.stdout.readline() for _ in range(lines)]
    victim.send_signal(signal.SIGKILL)
    said += victim.stdout.read().splitlines(keepends=True)
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    return [line.strip() for line in said if line.endswith("\n")]


def test_kill_9_neither_invents_nor_loses_an_event_of_a_durable_change(tmp_path: Path) -> None:
    said: list[str] = []
    for kill in range(KILLS):
        said += run_and_kill(tmp_path, "told" if kill % 3 else "untold", 5 + 11 * (kill % 5))

    async def scenario(hub: Hub) -> None:
        events = [each for each in await settled(hub) if each["operation"].startswith("thing.")]
        lines = [f"{each['operation']} {each['id']}" for each in events]
        assert len(lines) == len(set(lines)), "told once"
        spoken = iter(lines)
        assert all(line in spoken for line in said), "all that was durable, and in that order"
        left: dict[str, None] = {}
        for each in events:
            if each["operation"] == "thing.create":
                left[each["id"]] = None
            else:
                del left[each["id"]]
        assert list(left) == [thing.id for thing in hub.registry.all_things()], "and nothing that was not"

    run(tmp_path, scenario)

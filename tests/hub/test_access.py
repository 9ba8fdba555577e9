"""The access seam: deny by default, and a right taken away is gone with the next question."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.access import INTERNAL, Access, Action, Principal, Resource
from hub.keys import ServerKey
from hub.registry import Registry

PASSWORD = "correct horse"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry.open(tmp_path / "registry.db", ServerKey.load(tmp_path / "server.key"))
    yield registry
    registry.close()


@pytest.fixture
def access(registry: Registry) -> Access:
    return Access(registry, lambda: 1.7e9)


def rights(access: Access, principal: Principal, channel: str) -> set[str]:
    return {str(a) for a in Action if access.decide(principal, a, Resource(channel, "x")).allowed}


def test_a_thing_uses_the_channels_it_is_connected_to_and_no_other(
    registry: Registry, access: Access
) -> None:
    thing, _ = registry.create_thing()
    mine, other = registry.create_channel(), registry.create_channel()
    me = Principal.of_thing(thing)
    assert rights(access, me, mine.id) == set()
    registry.connect([mine.id], [thing.id])
    assert rights(access, me, mine.id) == {"connect", "publish", "subscribe", "deliver"}
    assert rights(access, me, other.id) == set()
    assert rights(access, me, "+") == set()
    assert rights(access, me, "") == {"connect"}


@pytest.mark.parametrize("how", ["disconnect", "rotate", "remove thing", "remove channel"])
def test_a_right_taken_away_is_gone_with_the_next_question(
    registry: Registry, access: Access, how: str
) -> None:
    thing, _ = registry.create_thing()
    channel = registry.create_channel()
    registry.connect([channel.id], [thing.id])
    me = Principal.of_thing(thing)
    told: list[bool] = []
    access.on_revoke(lambda: told.append(access.decide(me, Action.DELIVER, Resource(channel.id)).allowed))
    assert access.decide(me, Action.DELIVER, Resource(channel.id)).allowed
    match how:
        case "disconnect":
            registry.disconnect([channel.id], [thing.id])
        case "rotate":
            registry.rotate_key(thing.id)
        case "remove thing":
            registry.remove_thing(thing.id)
        case "remove channel":
            registry.remove_channel(channel.id)
    assert told == [False]
    for action in Action:
        assert not access.decide(me, action, Resource(channel.id)).allowed


def test_a_new_key_ends_only_sessions_of_the_old_one(registry: Registry, access: Access) -> None:
    thing, _ = registry.create_thing()
    old = Principal.of_thing(thing)
    registry.rotate_key(thing.id)
    found = registry.thing(thing.id)
    assert found
    assert not access.decide(old, Action.CONNECT, Resource()).allowed
    assert access.decide(Principal.of_thing(found), Action.CONNECT, Resource()).allowed
    assert access.decide(
        Principal("thing", thing.id), Action.CONNECT, Resource()
    ).allowed  # shown no key: LoRaWAN


def test_users_manage_and_listen_but_do_not_publish(registry: Registry, access: Access) -> None:
    owner = registry.create_user("a@example.org", PASSWORD)
    other = registry.create_user("b@example.org", PASSWORD)
    channel = registry.create_channel()
    me = Principal.of_user(owner)
    listening = {"connect", "subscribe", "deliver", "manage"}
    assert rights(access, me, channel.id) == rights(access, me, "+") == rights(access, me, "") == listening
    assert rights(access, me, "no-such-channel") == set()
    registry.remove_user(other.id)
    assert rights(access, Principal.of_user(other), channel.id) == set()


def test_parts_of_the_gateway_have_what_the_table_says(registry: Registry, access: Access) -> None:
    channel = registry.create_channel()
    for part, actions in INTERNAL.items():
        assert rights(access, Principal.internal(part), channel.id) == {str(action) for action in actions}
        assert rights(access, Principal.internal(part), "no-such-channel") == set()
    assert rights(access, Principal.internal("history"), channel.id) == {"subscribe", "deliver"}


def test_whoever_is_unknown_is_denied_with_a_reason(registry: Registry, access: Access) -> None:
    channel = registry.create_channel()
    for kind in ("thing", "user", "internal", "", "root"):
        for action in Action:
            decision = access.decide(Principal(kind, "nobody"), action, Resource(channel.id))
            assert not decision.allowed
            assert decision.reason
    assert access.denied == 5 * len(Action)


def test_remembered_decisions_are_bounded_and_right(
    registry: Registry, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.access.MAX_CACHED", 20)
    for number in range(200):
        access.decide(Principal("thing", str(number)), Action.PUBLISH, Resource("x"))
        assert len(access._decisions) <= 20


def test_memory_and_plain_rule_agree_through_random_changes(registry: Registry, access: Access) -> None:
    rng = random.Random(11)
    things = [registry.create_thing()[0] for _ in range(4)]
    channels = [registry.create_channel() for _ in range(4)]
    connected: set[tuple[str, str]] = set()
    for _ in range(300):
        thing, channel = rng.choice(things), rng.choice(channels)
        pair = (channel.id, thing.id)
        if rng.random() < 0.5:
            if pair in connected:
                registry.disconnect([channel.id], [thing.id])
                connected.discard(pair)
            else:
                registry.connect([channel.id], [thing.id])
                connected.add(pair)
        for thing in things:
            for channel in channels:
                decision = access.decide(Principal.of_thing(thing), Action.PUBLISH, Resource(channel.id))
                assert decision.allowed == ((channel.id, thing.id) in connected)


def test_unsubscribed_listeners_hear_nothing(registry: Registry, access: Access) -> None:
    told: list[int] = []
    forget = access.on_revoke(lambda: told.append(1))
    thing, _ = registry.create_thing()
    registry.update_thing(thing.id, name="x")
    assert told == []  # nothing was taken away
    registry.remove_thing(thing.id)
    forget()
    registry.remove_thing(registry.create_thing()[0].id)
    assert told == [1]

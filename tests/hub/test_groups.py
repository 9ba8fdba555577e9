"""Groups: trees of organisations, who and what is in them, and what that lets people do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import groups as groups_module
from hub.access import Access, Action, Principal, Resource
from hub.errors import Conflict, Invalid, NotFound
from hub.groups import GROUP_ROLES, MAX_DEPTH, Group
from hub.keys import ServerKey
from hub.registry import Change, ChangeKind, Registry
from hub.users import ROLES

PASSWORD = "correct horse"
NOW_S = 1.7e9


def reopen(folder: Path) -> Registry:
    return Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody signs in here, and hashing would cost more than all the rest."""
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = reopen(tmp_path)
    registry.create_user("owner@example.org", PASSWORD)
    yield registry
    registry.close()


def person(registry: Registry, name: str, role: str = "member") -> str:
    return registry.create_user(f"{name}@example.org", PASSWORD, role).id


def make(registry: Registry, name: str, parent: str = "") -> str:
    return registry.groups.create(name, parent=parent, now_s=NOW_S).id


def line(registry: Registry, levels: int) -> list[str]:
    """Groups each below the one before."""
    ids = [make(registry, "0")]
    for level in range(1, levels):
        ids.append(make(registry, str(level), ids[-1]))
    return ids


def rights(registry: Registry, user_id: str, channel_id: str) -> set[str]:
    access = Access(registry, lambda: NOW_S)
    me = Principal("user", user_id)
    return {str(action) for action in Action if access.decide(me, action, Resource(channel_id)).allowed}


def test_a_tree_is_known_from_above_and_from_below(registry: Registry) -> None:
    top, middle, low = line(registry, 3)
    groups = registry.groups
    beside = make(registry, "beside", top)
    assert [group.id for group in groups.children("")] == [top]
    assert [group.id for group in groups.children(top)] == [middle, beside]
    assert [group.id for group in groups.descendants(top)] == [middle, low, beside]
    assert [group.id for group in groups.ancestors(low)] == [top, middle]
    assert [groups.level(each) for each in (top, middle, low)] == [1, 2, 3]
    assert groups.get(low) == Group(low, "2", "", middle, {}, NOW_S, NOW_S)
    assert groups.level("nobody's") == 0


def test_a_tree_has_five_levels_and_no_more_however_it_grows(registry: Registry) -> None:
    groups = registry.groups
    ids = line(registry, MAX_DEPTH)
    with pytest.raises(Invalid, match="5 levels"):
        groups.create("too deep", parent=ids[-1], now_s=NOW_S)
    pair = line(registry, 2)
    with pytest.raises(Invalid, match="5 levels"):
        groups.update(pair[0], parent=ids[3], now_s=NOW_S)
    groups.update(pair[0], parent=ids[2], now_s=NOW_S)
    assert groups.level(pair[1]) == MAX_DEPTH


def test_a_group_moves_with_what_is_below_it_and_never_into_itself(registry: Registry) -> None:
    groups = registry.groups
    top, middle, low = line(registry, 3)
    other = make(registry, "other")
    for inside in (top, middle, low):
        with pytest.raises(Invalid, match="itself"):
            groups.update(top, parent=inside, now_s=NOW_S)
    groups.update(middle, parent=other, now_s=NOW_S + 1)
    assert [group.id for group in groups.ancestors(low)] == [other, middle]
    assert groups.children(top) == []
    groups.update(middle, parent="", name="own", now_s=NOW_S + 2)
    moved = groups.get(middle)
    assert moved is not None
    assert (moved.name, moved.parent, moved.created_s, moved.updated_s) == ("own", "", NOW_S, NOW_S + 2)


def test_what_is_not_right_is_refused_and_changes_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = registry.groups
    one = make(registry, "one")
    epoch = registry.epoch
    thing, _ = registry.create_thing()
    user = person(registry, "u")
    refusals: list[tuple[type[Exception], Callable[[], object]]] = [
        (Invalid, lambda: groups.create("", now_s=NOW_S)),
        (Invalid, lambda: groups.create("x" * 1025, now_s=NOW_S)),
        (Invalid, lambda: groups.create("x", "d" * 1025, now_s=NOW_S)),
        (Invalid, lambda: groups.create("x", id="not an id!", now_s=NOW_S)),
        (Invalid, lambda: groups.create("x", metadata={"a": "b" * 70_000}, now_s=NOW_S)),
        (NotFound, lambda: groups.create("x", parent="nobody's", now_s=NOW_S)),
        (Conflict, lambda: groups.create("x", id=one, now_s=NOW_S)),
        (NotFound, lambda: groups.update("nobody's", name="x", now_s=NOW_S)),
        (NotFound, lambda: groups.update(one, parent="nobody's", now_s=NOW_S)),
        (NotFound, lambda: groups.remove("nobody's")),
        (Invalid, lambda: groups.assign_users(one, [user], "member")),
        (NotFound, lambda: groups.assign_users(one, [user, "nobody"], "viewer")),
        (NotFound, lambda: groups.assign_users("nobody's", [user], "viewer")),
        (NotFound, lambda: groups.unassign_users(one, [user])),
        (NotFound, lambda: groups.assign(one, "things", [thing.id, "nothing"])),
        (NotFound, lambda: groups.assign(one, "channels", [thing.id])),
        (NotFound, lambda: groups.assign("nobody's", "things", [thing.id])),
        (NotFound, lambda: groups.unassign(one, "things", [thing.id])),
        (NotFound, lambda: registry.create_thing(group="nobody's")),
        (NotFound, lambda: registry.create_channel(group="nobody's")),
    ]
    assert registry.epoch == epoch + 2
    for error, act in refusals:
        with pytest.raises(error):
            act()
    assert registry.epoch == epoch + 2
    assert (groups.users(one), groups.held(one, "things")) == ({}, [])
    monkeypatch.setattr(groups_module, "MAX_GROUPS", 1)
    with pytest.raises(Invalid, match="at most 1 groups"):
        make(registry, "two")


def test_a_thing_belongs_to_one_group_at_most(registry: Registry) -> None:
    groups = registry.groups
    here, there = make(registry, "here"), make(registry, "there")
    thing, _ = registry.create_thing(group=here)
    channel = registry.create_channel(group=here)
    assert (groups.held(here, "things"), groups.held(here, "channels")) == ([thing.id], [channel.id])
    groups.assign(there, "things", [thing.id, thing.id])
    assert (groups.held(here, "things"), groups.held(there, "things")) == ([], [thing.id])
    groups.unassign(there, "things", [thing.id])
    assert groups.holder("things", thing.id) == ""


def test_what_is_removed_leaves_its_groups_and_a_removed_group_lets_go(registry: Registry) -> None:
    groups = registry.groups
    top, low = line(registry, 2)
    thing, _ = registry.create_thing(group=low)
    kept, _ = registry.create_thing(group=low)
    channel = registry.create_channel(group=low)
    user = person(registry, "u")
    groups.assign_users(low, [user], "viewer")
    with pytest.raises(Conflict, match="below"):
        groups.remove(top)
    registry.remove_thing(thing.id)
    registry.remove_channel(channel.id)
    assert (groups.held(low, "things"), groups.held(low, "channels")) == ([kept.id], [])
    gone = person(registry, "gone")
    groups.assign_users(low, [gone], "viewer")
    registry.remove_user(gone)
    assert groups.users(low) == {user: "viewer"}
    groups.remove(low)
    assert groups.held(top, "things") == [kept.id], "what a group held passes to the one above"
    groups.remove(top)
    assert groups.all() == []
    assert groups.groups_of_user(user) == []
    assert registry.thing(kept.id) == kept
    assert groups.holder("things", kept.id) == ""


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    top, low = line(registry, 2)
    registry.groups.update(low, description="the lower", metadata={"a": [1]}, now_s=NOW_S + 1)
    thing, _ = registry.create_thing(group=low)
    channel = registry.create_channel(group=top)
    user = person(registry, "u")
    registry.groups.assign_users(top, [user], "viewer")
    registry.groups.assign_users(top, [user], "technician")
    before = registry.groups.all()
    registry.close()
    registry = reopen(tmp_path)
    assert registry.groups.all() == before
    assert registry.groups.users(top) == {user: "technician"}
    assert registry.groups.held(low, "things") == [thing.id]
    assert registry.groups.held(top, "channels") == [channel.id]
    assert registry.groups.role_in(user, thing_id=thing.id) == "technician"
    registry.close()


def test_the_highest_role_on_the_way_up_counts(registry: Registry) -> None:
    groups = registry.groups
    top, middle, low = line(registry, 3)
    thing, _ = registry.create_thing(group=low)
    user = person(registry, "u")
    groups.assign_users(middle, [user], "viewer")
    assert groups.role_in(user, thing_id=thing.id) == "viewer"
    assert groups.role_in(user, group_id=top) is None
    groups.assign_users(top, [user], "admin")
    groups.assign_users(low, [user], "viewer")
    assert groups.role_in(user, thing_id=thing.id) == "admin"
    assert groups.reach(user) == {top: "admin", middle: "admin", low: "admin"}
    groups.unassign_users(top, [user])
    assert groups.reach(user) == {middle: "viewer", low: "viewer"}
    assert groups.reach(user, "technician") == {}
    assert groups.role_in(user, thing_id="nothing") is None
    assert groups.role_in("nobody", thing_id=thing.id) is None


@pytest.mark.parametrize(
    ("role", "there", "elsewhere"),
    [
        pytest.param("viewer", {"connect", "subscribe", "deliver"}, set[str](), id="viewer"),
        pytest.param(
            "technician", {"connect", "subscribe", "deliver", "manage"}, set[str](), id="technician"
        ),
        pytest.param("admin", {"connect", "subscribe", "deliver", "manage"}, set[str](), id="admin"),
    ],
)
def test_a_member_may_what_his_role_gives_where_his_group_holds(
    registry: Registry, role: str, there: set[str], elsewhere: set[str]
) -> None:
    group, foreign = make(registry, "mine"), make(registry, "foreign")
    user = person(registry, "u")
    registry.groups.assign_users(group, [user], role)
    mine, other = registry.create_channel(group=group), registry.create_channel(group=foreign)
    free = registry.create_channel()
    assert rights(registry, user, mine.id) == there
    for channel_id in (other.id, free.id, "nothing", "+"):
        assert rights(registry, user, channel_id) == elsewhere
    assert rights(registry, user, "") == {"connect"}


def test_the_higher_of_both_roles_counts_and_nobody_publishes(registry: Registry) -> None:
    access = Access(registry, lambda: NOW_S)
    group = make(registry, "mine")
    held, free = registry.create_channel(group=group), registry.create_channel()
    for mine in ROLES:
        user = person(registry, f"on-{mine}", mine)
        expected = None if mine == "member" else mine
        assert access.role(user, channel_id=free.id) == access.role(user, channel_id=held.id) == expected
        for given in GROUP_ROLES:
            registry.groups.assign_users(group, [user], given)
            assert access.role(user, channel_id=held.id) == max(mine, given, key=ROLES.index)
            assert access.role(user, channel_id=free.id) == expected
            assert "publish" not in rights(registry, user, held.id)
    assert access.role("nobody", channel_id=held.id) is None


@pytest.mark.parametrize("how", ["unassign", "lower", "let go", "move", "remove group", "move group"])
def test_a_right_that_is_taken_is_gone_with_the_next_question(registry: Registry, how: str) -> None:
    access = Access(registry, lambda: NOW_S)
    groups = registry.groups
    top, low = line(registry, 2)
    other = make(registry, "other")
    channel = registry.create_channel(group=low)
    user = person(registry, "u")
    groups.assign_users(low if how == "remove group" else top, [user], "technician")
    me = Principal("user", user)
    told: list[bool] = []
    access.on_revoke(lambda: told.append(access.decide(me, Action.MANAGE, Resource(channel.id)).allowed))
    assert access.decide(me, Action.MANAGE, Resource(channel.id)).allowed
    match how:
        case "unassign":
            groups.unassign_users(top, [user])
        case "lower":
            groups.assign_users(top, [user], "viewer")
        case "let go":
            groups.unassign(low, "channels", [channel.id])
        case "move":
            groups.assign(other, "channels", [channel.id])
        case "remove group":
            groups.remove(low)
        case "move group":
            groups.update(low, parent=other, now_s=NOW_S)
    assert told == [False]
    reads = access.decide(me, Action.SUBSCRIBE, Resource(channel.id)).allowed
    assert reads is (how == "lower")


def test_listeners_hear_which_group_changed(registry: Registry) -> None:
    heard: list[Change] = []
    registry.on_change(heard.append)
    group = make(registry, "one")
    registry.groups.update(group, name="two", now_s=NOW_S)
    registry.groups.remove(group)
    assert [change.kind for change in heard] == [ChangeKind.GRANTED, ChangeKind.EDITED, ChangeKind.REVOKED]
    assert {change.groups for change in heard} == {frozenset({group})}


def test_memory_and_file_agree_after_random_changes(tmp_path: Path) -> None:
    dice = random.Random(20260706)
    registry = reopen(tmp_path)
    groups = registry.groups
    users = [person(registry, f"u{n}") for n in range(4)]
    things = [registry.create_thing(str(n))[0].id for n in range(6)]
    for _ in range(300):
        ids = [group.id for group in groups.all()] or [""]
        one, two = dice.choice(ids), dice.choice([*ids, ""])
        try:
            match dice.randrange(7):
                case 0 | 1:
                    make(registry, "g", two)
                case 2:
                    groups.update(one, parent=two, now_s=NOW_S)
                case 3:
                    groups.remove(one)
                case 4:
                    groups.assign_users(one, dice.sample(users, 2), dice.choice(GROUP_ROLES))
                case 5:
                    groups.assign(one, "things", dice.sample(things, 2))
                case 6:
                    groups.unassign_users(one, [dice.choice(users)])
        except (NotFound, Invalid, Conflict):
            pass

    def state(registry: Registry) -> object:
        known = registry.groups
        return (
            {group.id: group for group in known.all()},
            {group.id: known.users(group.id) for group in known.all()},
            {thing_id: known.holder("things", thing_id) for thing_id in things},
            {group.id: set(known.held(group.id, "things")) for group in known.all()},
            {
                (user, thing_id): known.role_in(user, thing_id=thing_id)
                for user in users
                for thing_id in things
            },
            {group.id: {child.id for child in known.children(group.id)} for group in known.all()},
        )

    before = state(registry)
    registry.close()
    registry = reopen(tmp_path)
    assert state(registry) == before
    assert len(registry.groups.all()) > 3
    registry.close()

"""API keys and consents as rows: made, shown once, replaced, ended, and gone with whoever they belonged to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.errors import Invalid, NotFound
from hub.registry import Change, ChangeKind
from hub.tokens import grants
from hub.tokens.grants import MAX_OVERLAP_S, PREFIX
from hub.tokens.scopes import EVERYTHING, parse
from tests.hub.tokens.known import NOW, Known

SOME = parse("things:read messages:read")


def test_a_key_is_found_by_its_value_and_by_nothing_else(known: Known) -> None:
    grant, value = known.key()
    found = known.registry.grants.by_secret(value, NOW)
    assert value.startswith(PREFIX)
    assert found is not None
    assert found.grant == grant
    for other in (
        "",
        PREFIX,
        value[:-1],
        value + "A",
        value[len(PREFIX) :],
        value.lower() + "x",
        PREFIX + "A" * 500,
    ):
        assert known.registry.grants.by_secret(other, NOW) is None


def test_the_file_holds_no_value(known: Known) -> None:
    _, value = known.key()
    known.again()
    assert value.encode() not in known.path.read_bytes()


def test_a_key_is_the_same_after_the_next_start(known: Known) -> None:
    first, value = known.key(expires_s=NOW + 60)
    second, new = known.registry.grants.rotate(first.id, NOW, overlap_s=30)
    assert known.registry.grants.by_secret(new, NOW + 5) is not None
    known.again()
    kept = known.registry.grants.get(first.id)
    assert kept is not None
    assert known.registry.grants.last_used_s(kept) == NOW + 5
    assert [known.registry.grants.by_secret(each, NOW + 29) is not None for each in (value, new)] == [
        True,
        True,
    ]
    assert known.registry.grants.by_secret(value, NOW + 30) is None
    assert second.version == kept.version == 2


def test_a_key_ends_at_its_time(known: Known) -> None:
    grant, value = known.key(expires_s=NOW + 60)
    assert known.registry.grants.by_secret(value, NOW + 59.9) is not None
    assert known.registry.grants.by_secret(value, NOW + 60) is None
    assert known.registry.grants.next_over == NOW + 60
    known.registry.grants.end_over(NOW + 60)
    assert known.registry.grants.get(grant.id) is None
    assert known.registry.grants.next_over is None


def test_only_the_last_but_one_value_works_on_and_only_for_its_time(known: Known) -> None:
    grant, first = known.key()
    _, second = known.registry.grants.rotate(grant.id, NOW, overlap_s=100)
    _, third = known.registry.grants.rotate(grant.id, NOW + 1, overlap_s=100)
    works = [known.registry.grants.by_secret(value, NOW + 2) is not None for value in (first, second, third)]
    assert works == [False, True, True]
    known.registry.grants.end_over(NOW + 101)
    works = [known.registry.grants.by_secret(value, NOW + 2) is not None for value in (first, second, third)]
    assert works == [False, False, True]


def test_without_overlap_the_old_value_is_void_at_once(known: Known) -> None:
    grant, first = known.key()
    after, second = known.registry.grants.rotate(grant.id, NOW)
    assert known.registry.grants.by_secret(first, NOW) is None
    shown = known.registry.grants.by_secret(second, NOW)
    assert shown is not None
    assert after.good(shown.version, NOW)
    assert not after.good(1, NOW)


@pytest.mark.parametrize("remove", ["user", "thing", "application", "parent"])
def test_keys_go_with_what_they_hang_on(known: Known, remove: str) -> None:
    registry = known.registry
    registry.create_user("second@example.org", "correct horse")
    app, _ = registry.create_thing("app")
    parent, _ = known.key()
    child, value = known.key(parent=parent.id)
    consent, nothing = registry.grants.add(
        "user", known.user_id, name="app", scopes=SOME, now_s=NOW, kind="oauth", application_id=app.id
    )
    thing_key, _ = registry.grants.add(
        "thing", known.thing_id, name="", scopes=parse("messages:write"), now_s=NOW
    )
    everyone = {parent.id, child.id, consent.id, thing_key.id}
    gone: dict[str, tuple[Callable[[], None], set[str]]] = {
        "user": (lambda: registry.remove_user(known.user_id), {parent.id, child.id, consent.id}),
        "thing": (lambda: registry.remove_thing(known.thing_id), {thing_key.id}),
        "application": (lambda: registry.remove_thing(app.id), {consent.id}),
        "parent": (lambda: registry.grants.remove(parent.id), {parent.id, child.id}),
    }
    act, expected = gone[remove]
    act()
    assert nothing == ""
    assert {id_ for id_ in everyone if registry.grants.get(id_) is None} == expected
    assert (registry.grants.by_secret(value, NOW) is None) is (child.id in expected)
    known.again()
    assert {id_ for id_ in everyone if known.registry.grants.get(id_) is None} == expected


def test_who_watches_the_registry_hears_of_each_key_that_ends(known: Known) -> None:
    heard: list[Change] = []
    known.registry.on_change(heard.append)
    grant, _ = known.key(expires_s=NOW + 5)
    before = known.registry.epoch
    known.registry.grants.rotate(grant.id, NOW)
    known.registry.grants.narrow(grant.id, parse("things:read"))
    known.registry.grants.end_over(NOW + 5)
    kinds = [change.kind for change in heard]
    assert kinds == [ChangeKind.GRANTED, ChangeKind.REVOKED, ChangeKind.REVOKED, ChangeKind.REVOKED]
    assert all(change.grants == {grant.id} for change in heard)
    assert known.registry.epoch == before + 3


def test_narrowing_a_key_ends_keys_made_through_it_that_are_for_more(known: Known) -> None:
    parent, _ = known.key()
    wide, _ = known.key(parent=parent.id)
    little = parse("things:read:t1")
    narrow, _ = known.registry.grants.add(
        "user", known.user_id, name="", scopes=little, now_s=NOW, parent=parent.id
    )
    known.registry.grants.narrow(parent.id, parse("things:read"))
    known.again()
    assert known.registry.grants.get(wide.id) is None
    assert known.registry.grants.get(narrow.id) == narrow


def test_what_no_key_may_be_is_refused(known: Known) -> None:
    add = known.registry.grants.add
    with pytest.raises(Invalid):
        add("user", known.user_id, name="", scopes=parse(""), now_s=NOW)
    with pytest.raises(Invalid):
        add("user", known.user_id, name="", scopes=parse("account:write"), now_s=NOW)
    with pytest.raises(Invalid):
        add("thing", known.thing_id, name="", scopes=EVERYTHING, now_s=NOW)
    with pytest.raises(Invalid):
        known.key(expires_s=NOW)
    with pytest.raises(NotFound):
        add("user", "nobody", name="", scopes=SOME, now_s=NOW)
    with pytest.raises(NotFound):
        known.key(parent="gone")
    with pytest.raises(NotFound):
        known.registry.grants.remove("gone")
    grant, _ = known.key()
    with pytest.raises(Invalid):
        known.registry.grants.rotate(grant.id, NOW, overlap_s=MAX_OVERLAP_S + 1)


def test_one_owner_has_a_bounded_number_of_keys(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "MAX_OF_OWNER", 3)
    for _ in range(3):
        known.key()
    with pytest.raises(Invalid):
        known.key()
    page = known.registry.grants.of_owner("user", known.user_id, offset=1, limit=1)
    assert (page.total, len(page.grants)) == (3, 1)


def test_all_owners_together_have_a_bounded_number_of_keys(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "MAX_GRANTS", 1)
    known.key()
    with pytest.raises(Invalid):
        known.registry.grants.add("thing", known.thing_id, name="", scopes=parse("messages:read"), now_s=NOW)

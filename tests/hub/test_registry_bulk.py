"""Many things at once: all of them or none, and everything as if they had been made one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import registry_bulk
from hub.errors import Invalid, NotFound
from hub.keys import ServerKey
from hub.registry import Change, Registry
from hub.registry_bulk import Wanted, create_connected, remove_all


def opened(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db", ServerKey(b"k" * 32))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = opened(tmp_path)
    yield found
    found.close()


def test_things_come_with_their_keys_and_channels_and_stay(registry: Registry, tmp_path: Path) -> None:
    shared = registry.create_channel("all")
    made = create_connected(registry, [Wanted("a", {"x": 1}), Wanted("b", channel_id=shared.id)])
    assert [each.own_channel for each in made] == [True, False]
    registry.close()
    again = opened(tmp_path)
    for each in made:
        assert again.thing_by_key(each.key) == each.thing
        assert again.connected(each.channel_id, each.thing.id)
    assert again.things().total == 2
    assert again.channels().total == 2
    assert made[0].key not in repr(made)
    again.close()


def test_one_unknown_channel_makes_none_of_them(registry: Registry) -> None:
    with pytest.raises(NotFound, match="no channel"):
        create_connected(registry, [Wanted("a"), Wanted("b", channel_id="nowhere")])
    assert (registry.things().total, registry.channels().total) == (0, 0)


def test_their_number_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("MAX_THINGS", "MAX_CHANNELS", "MAX_CONNECTIONS"):
        with monkeypatch.context() as patch:
            patch.setattr(registry_bulk, bound, 1)
            with pytest.raises(Invalid, match="at most 1 "):
                create_connected(registry, [Wanted("a"), Wanted("b")])
    assert registry.things().total == 0


def test_they_are_removed_together(registry: Registry, tmp_path: Path) -> None:
    kept, _ = registry.create_thing("kept")
    made = create_connected(registry, [Wanted("a"), Wanted("b")])
    registry.connect([made[0].channel_id], [kept.id])
    told: list[Change] = []
    registry.on_change(told.append)
    remove_all(registry, [each.thing.id for each in made] + ["nobody"], [each.channel_id for each in made])
    assert [thing.id for thing in registry.things().items] == [kept.id]
    assert registry.channels_of(kept.id) == []
    assert told[0].things == {each.thing.id for each in made}
    registry.close()
    again = opened(tmp_path)
    assert (again.things().total, again.channels().total) == (1, 0)
    again.close()

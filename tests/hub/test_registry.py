"""Things, channels and connections: what is kept, what is refused, what listeners hear."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from hub import registry_file, registry_items, registry_things
from hub.errors import Conflict, Invalid, NotFound
from hub.keys import ServerKey, load_secret
from hub.registry import Change, ChangeKind, Registry, Rights
from hub.registry_file import RegistryFailed

NOBODY = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c0ff"


def reopen(folder: Path) -> Registry:
    return Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = reopen(tmp_path)
    yield registry
    registry.close()


def test_a_thing_is_found_by_its_key_and_only_by_it(registry: Registry) -> None:
    thing, key = registry.create_thing("node", {"room": "a"})
    other, other_key = registry.create_thing()
    assert len(key) == 43
    assert key != other_key
    assert registry.thing_by_key(key) == thing == registry.thing(thing.id)
    assert registry.thing_by_key(other_key) == other
    for wrong in ("", key[:-1], key.lower() + "x", thing.id, "\ud800", "k" * 10_000):
        assert registry.thing_by_key(wrong) is None


def test_keys_tokens_and_codes_are_nowhere_in_the_files(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    code = registry.claim_code()
    assert code
    _, key = registry.create_thing("node")
    user = registry.claim(code, "me@example.org", "a long password")
    token = registry.issue_token(user.id, 0.0)
    registry.close()
    files = b"".join(
        path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith("server.key")
    )
    assert b"me@example.org" in files
    for secret in (key, token, code, code.replace("-", ""), "a long password"):
        assert secret.encode() not in files


def test_secrets_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    registry.close()
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "server.key.copy").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "registry.db.copy").stat().st_mode & 0o777 == 0o600
    assert "ServerKey(...)" in repr(ServerKey.load(tmp_path / "server.key"))


def test_a_damaged_server_key_gives_way_to_its_copy(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing()
    registry.close()
    for damaged in ("server.key", "server.key.copy"):
        (tmp_path / damaged).write_bytes(b"short")
        registry = reopen(tmp_path)
        assert registry.thing_by_key(key) == thing
        registry.close()


def test_the_key_of_something_else_is_not_taken_for_the_server_key(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing()
    registry.close()
    load_secret(tmp_path / "other.key", 32, "a test")
    (tmp_path / "server.key").write_bytes((tmp_path / "other.key").read_bytes())
    registry = reopen(tmp_path)
    assert registry.thing_by_key(key) == thing
    registry.close()


def test_without_any_server_key_the_registry_opens_and_knows_no_key(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing()
    registry.close()
    for damaged in ("server.key", "server.key.copy"):
        (tmp_path / damaged).write_bytes(b"short")
    registry = reopen(tmp_path)
    assert registry.thing(thing.id) == thing
    assert registry.thing_by_key(key) is None
    assert registry.thing_by_key(registry.rotate_key(thing.id)) is not None
    assert (tmp_path / "server.key.damaged").read_bytes() == b"short"
    registry.close()


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    things = [registry.create_thing(f"t{n}", {"n": n}) for n in range(5)]
    channels = [registry.create_channel(f"c{n}") for n in range(3)]
    registry.connect([channel.id for channel in channels], [things[0][0].id, things[1][0].id])
    registry.disconnect([channels[1].id], [things[0][0].id])
    registry.remove_thing(things[4][0].id)
    registry.update_channel(channels[2].id, name="renamed")
    key = registry.rotate_key(things[2][0].id)
    registry.close()

    registry = reopen(tmp_path)
    assert [thing.name for thing in registry.things().items] == ["t0", "t1", "t2", "t3"]
    assert [channel.name for channel in registry.channels().items] == ["c0", "c1", "renamed"]
    assert {c.name for c in registry.channels_of(things[0][0].id)} == {"c0", "renamed"}
    assert {t.name for t in registry.things_of(channels[1].id)} == {"t1"}
    found = registry.thing_by_key(key)
    assert found is not None
    assert (found.name, found.key_version, found.metadata) == ("t2", 2, {"n": 2})
    assert registry.thing_by_key(things[2][1]) is None
    assert registry.thing_by_key(things[4][1]) is None
    registry.close()


def test_ids_and_keys_given_by_the_caller_are_kept_and_unique(registry: Registry) -> None:
    thing, key = registry.create_thing(id="my-thing", key="k" * 36)
    assert (thing.id, key) == ("my-thing", "k" * 36)
    registry.create_channel(id="my-channel")
    with pytest.raises(Conflict):
        registry.create_thing(id="my-thing")
    with pytest.raises(Conflict):
        registry.create_thing(key="k" * 36)
    with pytest.raises(Conflict):
        registry.create_channel(id="my-channel")
    other, _ = registry.create_thing()
    with pytest.raises(Conflict):
        registry.rotate_key(other.id, "k" * 36)
    assert registry.rotate_key(thing.id, "k" * 36) == "k" * 36
    for wrong in ("", "a/b", "a b", "ä", "a" * 65):
        with pytest.raises(Invalid):
            registry.create_thing(id=wrong)
    with pytest.raises(Invalid):
        registry.create_thing(key="short")


@pytest.mark.parametrize(
    "metadata",
    [{"a": "x" * registry_items.MAX_METADATA}, {"a": object()}, {1.5: 2, None: 3}],
    ids=["too long", "no JSON", "keys"],
)
def test_metadata_has_its_limits(registry: Registry, metadata: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        registry.create_thing(metadata=metadata)
    assert registry.things().total == 0


def test_names_have_their_limit(registry: Registry) -> None:
    registry.create_thing("n" * registry_items.MAX_NAME)
    with pytest.raises(Invalid):
        registry.create_thing("n" * (registry_items.MAX_NAME + 1))
    with pytest.raises(Invalid):
        registry.create_channel("n" * (registry_items.MAX_NAME + 1))


@pytest.mark.parametrize(
    ("limit", "make"),
    [
        ("MAX_THINGS", lambda registry: registry.create_thing()),
        ("MAX_CHANNELS", lambda registry: registry.create_channel()),
    ],
)
def test_numbers_of_things_and_channels_are_bounded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, limit: str, make: object
) -> None:
    monkeypatch.setattr(registry_things, limit, 3)
    for _ in range(3):
        make(registry)  # type: ignore[operator]
    with pytest.raises(Invalid):
        make(registry)  # type: ignore[operator]


def test_connections_are_bounded_and_all_or_none(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_things, "MAX_CONNECTIONS", 3)
    things = [registry.create_thing()[0].id for _ in range(2)]
    channels = [registry.create_channel().id for _ in range(2)]
    with pytest.raises(Invalid):
        registry.connect(channels, things)
    assert not any(registry.connected(channel, thing) for channel in channels for thing in things)
    registry.connect(channels[:1], things)
    registry.connect(channels[:1], things)  # connecting again changes nothing
    with pytest.raises(NotFound):
        registry.connect(channels, [NOBODY])
    with pytest.raises(NotFound):
        registry.disconnect(channels, things)
    assert registry.connected(channels[0], things[0])


def test_lists_are_paged_named_filtered_and_ordered(registry: Registry) -> None:
    for name, room in (("Kitchen temp", 1), ("hall", 2), ("kitchen door", 1), ("attic", 3)):
        registry.create_thing(name, {"room": room, "tags": ["x", {"y": room}]})
    page = registry.things(name="KITCHEN")
    assert (page.total, [thing.name for thing in page.items]) == (2, ["Kitchen temp", "kitchen door"])
    page = registry.things(offset=1, limit=2)
    assert (page.total, [thing.name for thing in page.items]) == (4, ["hall", "kitchen door"])
    assert registry.things(order="name", descending=True).items[0].name == "kitchen door"
    assert [t.id for t in registry.things(order="id").items] == sorted(t.id for t in registry.things().items)
    assert [t.name for t in registry.things(metadata={"room": 2}).items] == ["hall"]
    assert [t.name for t in registry.things(metadata={"tags": [{"y": 3}]}).items] == ["attic"]
    assert registry.things(metadata={"room": True}).total == 0
    assert registry.things(metadata={"tags": {"y": 3}}).total == 0


def test_what_is_not_there_cannot_be_changed(registry: Registry) -> None:
    for change in (
        lambda: registry.update_thing(NOBODY, name="x"),
        lambda: registry.rotate_key(NOBODY),
        lambda: registry.remove_thing(NOBODY),
        lambda: registry.update_channel(NOBODY, name="x"),
        lambda: registry.remove_channel(NOBODY),
    ):
        with pytest.raises(NotFound):
            change()
    assert registry.thing(NOBODY) is None
    assert registry.channel(NOBODY) is None
    assert registry.channels_of(NOBODY) == []
    assert registry.things_of(NOBODY) == []


def test_removing_a_channel_ends_its_connections(registry: Registry) -> None:
    thing, _ = registry.create_thing()
    channel = registry.create_channel()
    registry.connect([channel.id], [thing.id])
    registry.remove_channel(channel.id)
    assert registry.channels_of(thing.id) == []
    assert not registry.connected(channel.id, thing.id)


def test_listeners_hear_of_each_change_and_the_epoch_rises(registry: Registry) -> None:
    heard: list[Change] = []
    forget = registry.on_change(heard.append)
    before = registry.epoch
    thing, _ = registry.create_thing()
    channel = registry.create_channel()
    registry.connect([channel.id], [thing.id])
    registry.update_thing(thing.id, name="x")
    registry.rotate_key(thing.id)
    registry.disconnect([channel.id], [thing.id])
    registry.remove_channel(channel.id)
    registry.remove_thing(thing.id)
    g, r, e = ChangeKind.GRANTED, ChangeKind.REVOKED, ChangeKind.EDITED
    assert [change.kind for change in heard] == [g, g, g, e, r, r, r, r]
    assert heard[5] == Change(r, frozenset({thing.id}), frozenset({channel.id}))
    assert registry.epoch == before + 8
    forget()
    registry.create_thing()
    assert len(heard) == 8


def test_a_change_made_in_a_thread_is_told_on_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        registry = reopen(tmp_path)
        heard: list[int] = []
        told = asyncio.Event()

        def listen(change: Change) -> None:
            heard.append(threading.get_ident())
            told.set()

        registry.on_change(listen)
        await asyncio.to_thread(registry.create_thing, "node")
        await asyncio.wait_for(told.wait(), 30)
        assert heard == [threading.get_ident()]
        registry.close()

    asyncio.run(main())


def test_a_change_that_cannot_be_written_did_not_happen(
    registry: Registry, io_error: sqlite3.OperationalError, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing, key = registry.create_thing("before")

    class Broken:
        in_transaction = False

        def close(self) -> None: ...

        def execute(self, *_: object) -> None:
            raise io_error

    whole, registry._file._conn = registry._file._conn, Broken()  # type: ignore[assignment]
    epoch = registry.epoch
    with pytest.raises(RegistryFailed):
        registry.create_thing("lost")
    registry._file._conn = whole  # well again, but never trusted again
    for change in (
        lambda: registry.rotate_key(thing.id),
        lambda: registry.remove_thing(thing.id),
        lambda: registry.create_channel("c"),
    ):
        with pytest.raises(RegistryFailed):
            change()
    assert registry.epoch == epoch
    assert registry.thing_by_key(key) == thing
    assert registry.things().total == 1


def test_a_full_disk_keeps_no_registry_from_closing(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing("node")
    full = sqlite3.OperationalError("database or disk is full")
    mocker.patch.object(registry._file, "_copy", side_effect=full)
    mocker.patch.object(registry._file, "write", side_effect=RegistryFailed("no room"))
    registry.close()
    assert "the last use of tokens is not kept: no room" in caplog.text
    assert "stays as it was: database or disk is full" in caplog.text
    registry = reopen(tmp_path)
    assert registry.thing_by_key(key) == thing
    registry.close()


def test_the_copy_follows_a_change_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_file, "COPY_DELAY_S", 0.0)
    registry = reopen(tmp_path)
    thing, key = registry.create_thing("node")
    copier = registry._file._copier
    assert copier
    copier.join(30)
    (tmp_path / "registry.db").rename(tmp_path / "lost")  # while it runs; its WAL is left behind
    registry._file.failed = True  # ends as a kill would, without another copy
    registry.close()
    again = reopen(tmp_path)
    assert again.thing_by_key(key) == thing
    again.close()


def test_a_wal_of_a_lost_file_is_not_played_into_the_copy(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing("node")
    registry.close()
    registry = reopen(tmp_path)
    for n in range(50):
        registry.create_thing(f"later {n}")
    wal = (tmp_path / "registry.db-wal").read_bytes()
    copy = (tmp_path / "registry.db.copy").read_bytes()
    registry.close()
    (tmp_path / "registry.db").unlink()
    (tmp_path / "registry.db-wal").write_bytes(wal)
    (tmp_path / "registry.db.copy").write_bytes(copy)
    registry = reopen(tmp_path)
    assert registry.set_aside is None
    assert [one.name for one in registry.things().items] == ["node"]
    assert registry.thing_by_key(key) == thing
    registry.close()


def test_a_damaged_registry_is_set_aside_and_its_copy_taken(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing("node")
    registry.close()
    (tmp_path / "registry.db").write_bytes(b"\0" * 8192)
    registry = reopen(tmp_path)
    assert registry.set_aside is not None
    assert registry.thing_by_key(key) == thing
    registry.close()
    (tmp_path / "registry.db").unlink()
    registry = reopen(tmp_path)
    assert registry.thing_by_key(key) == thing
    registry.close()
    (tmp_path / "registry.db").write_bytes(b"")
    registry = reopen(tmp_path)
    assert registry.thing_by_key(key) == thing
    registry.close()


def test_another_database_in_its_place_is_set_aside_and_its_copy_taken(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, key = registry.create_thing("node")
    registry.close()
    (tmp_path / "registry.db").unlink()
    other = sqlite3.connect(tmp_path / "registry.db")
    other.execute("CREATE TABLE chunk(id INTEGER PRIMARY KEY)")
    other.close()
    registry = reopen(tmp_path)
    assert registry.set_aside is not None
    assert registry.thing_by_key(key) == thing
    registry.close()


def test_a_registry_damaged_with_its_copy_starts_empty(tmp_path: Path) -> None:
    reopen(tmp_path).close()
    for name in ("registry.db", "registry.db.copy"):
        (tmp_path / name).write_bytes(b"what is this" * 1000)
    registry = reopen(tmp_path)
    assert registry.set_aside is not None
    assert registry.things().total == 0
    registry.close()


def test_random_damage_never_keeps_the_registry_from_starting(tmp_path: Path) -> None:
    rng = random.Random(3)
    registry = reopen(tmp_path)
    for n in range(20):
        thing, _ = registry.create_thing(f"t{n}", {"n": [n, {"x": "y" * n}]})
        registry.connect([registry.create_channel().id], [thing.id])
    registry.close()
    path = tmp_path / "registry.db"
    whole = path.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 40)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        registry = reopen(tmp_path)
        registry.create_thing("after")
        registry.close()
        path.with_name("registry.db.copy").write_bytes(whole)


def test_rights_of_a_connection_are_added_taken_and_kept(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    thing, _ = registry.create_thing()
    channel = registry.create_channel()
    registry.connect([channel.id], [thing.id], Rights.PUBLISH)
    assert registry.rights(channel.id, thing.id) == Rights.PUBLISH
    registry.connect([channel.id], [thing.id], Rights.SUBSCRIBE)
    registry.disconnect([channel.id], [thing.id], Rights.PUBLISH)
    registry.close()
    registry = reopen(tmp_path)
    assert registry.rights(channel.id, thing.id) == Rights.SUBSCRIBE
    with pytest.raises(NotFound):
        registry.disconnect([channel.id], [thing.id], Rights.PUBLISH)
    registry.disconnect([channel.id], [thing.id])
    assert not registry.rights(channel.id, thing.id)
    assert not registry.connected(channel.id, thing.id)
    registry.close()

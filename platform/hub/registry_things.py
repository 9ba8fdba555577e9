"""Things, channels and the connections between them: the part of the registry that the hot path asks.

All of it is in memory; each change is one durable transaction and counts after it. `registry.Registry` is this with
people, policies and the registry's parts.
"""

from __future__ import annotations

import abc
import sqlite3
import threading
from collections.abc import Iterable, Sequence

import msgspec

from .errors import Conflict, Invalid, NotFound
from .groups import Groups
from .keys import ServerKey, new_secret
from .registry_file import RegistryFile
from .registry_items import (
    EVENTS,
    MAX_KEY,
    Change,
    ChangeKind,
    Channel,
    Metadata,
    Page,
    Rights,
    Thing,
    checked_id,
    checked_key,
    checked_metadata,
    checked_name,
    edited,
    found,
    from_json,
    page,
    to_json,
)
from .users import Statement

MAX_THINGS = 100_000
MAX_CHANNELS = 100_000
MAX_CONNECTIONS = 1_000_000
_NO_RIGHTS = Rights(0)


class Things(abc.ABC):
    """What `Registry` inherits, which gives it key, lock, file and listeners."""

    groups: Groups
    _key: ServerKey
    _lock: threading.RLock
    _file: RegistryFile

    @abc.abstractmethod
    def _changed(self, change: Change) -> None:
        """Let the change be known; the lock is held."""

    # Things

    def create_thing(
        self,
        name: str = "",
        metadata: Metadata | None = None,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
        *,
        group: str = "",
        more: Sequence[Statement] = (),
    ) -> tuple[Thing, str]:
        """Add a thing, to a group where one is named; returns it and its key, which can never be read again.

        `more` runs in the same transaction. Raises Conflict where id or key is taken, NotFound for the group, Invalid.
        """
        key = checked_key(key) if key is not None else new_secret()
        thing = Thing(checked_id(id), checked_name(name), checked_metadata(metadata))
        digest = self._key.digest("thing", key)
        with self._lock:
            if thing.id in self._things or digest in self._things_by_key:
                raise Conflict("a thing has that id or key")
            if len(self._things) >= MAX_THINGS:
                raise Invalid(f"at most {MAX_THINGS} things")
            self.groups.check(group)
            row = (thing.id, thing.name, to_json(thing.metadata), digest, thing.key_version)
            held = [self.groups.holding("things", thing.id, group)] if group else []
            self._file.write([("INSERT INTO thing VALUES (?, ?, ?, ?, ?)", row), *held, *more])
            self._keep_thing(thing, digest)
            if group:
                self.groups.keep_held("things", thing.id, group)
            self._changed(Change(ChangeKind.GRANTED, things=frozenset({thing.id})))
        return thing, key

    def thing(self, thing_id: str) -> Thing | None:
        return self._things.get(thing_id)

    def thing_by_key(self, key: str) -> Thing | None:
        """The thing that holds `key`.

        The look-up is by keyed hash, so its time tells nothing of other keys.
        """
        if len(key) > MAX_KEY:
            return None
        thing_id = self._things_by_key.get(self._key.digest("thing", key))
        return self._things.get(thing_id) if thing_id else None

    def things(
        self,
        *,
        offset: int = 0,
        limit: int = 10,
        name: str = "",
        metadata: Metadata | None = None,
        order: str = "",
        descending: bool = False,
        after: str = "",
    ) -> Page[Thing]:
        """Things whose name contains `name` (any case) and whose metadata contains `metadata`.

        In the order they were made, or by `order` "name" or "id"; then from `after`, which is a page's `next`.
        Raises Invalid.
        """
        return page(list(self._things.values()), offset, limit, name, metadata, order, descending, after)

    def all_things(self) -> list[Thing]:
        """In the order they were made."""
        return list(self._things.values())

    def update_thing(self, thing_id: str, name: str | None = None, metadata: Metadata | None = None) -> Thing:
        """Give a thing another name or metadata. Raises NotFound, Invalid."""
        with self._lock:
            thing = edited(self._things.get(thing_id), "thing", name, metadata)
            row = (thing.name, to_json(thing.metadata), thing.id)
            self._file.write([("UPDATE thing SET name = ?, metadata = ? WHERE id = ?", row)])
            self._things[thing.id] = thing
            self._changed(Change(ChangeKind.EDITED, things=frozenset({thing.id})))
        return thing

    def rotate_key(self, thing_id: str, key: str | None = None) -> str:
        """Replace a thing's key and return the new one; sessions opened with the old one end.

        Raises NotFound, Conflict where another thing has `key`, Invalid.
        """
        key = checked_key(key) if key is not None else new_secret()
        digest = self._key.digest("thing", key)
        with self._lock:
            thing = found(self._things.get(thing_id), "thing")
            if self._things_by_key.get(digest, thing_id) != thing_id:
                raise Conflict("another thing has that key")
            thing = msgspec.structs.replace(thing, key_version=thing.key_version + 1)
            row = (digest, thing.key_version, thing_id)
            self._file.write([("UPDATE thing SET key_hash = ?, key_version = ? WHERE id = ?", row)])
            del self._things_by_key[self._key_hashes[thing_id]]
            self._keep_thing(thing, digest)
            self._changed(Change(ChangeKind.REVOKED, things=frozenset({thing_id})))
        return key

    def remove_thing(self, thing_id: str) -> None:
        """Remove a thing and its connections. Raises NotFound."""
        with self._lock:
            found(self._things.get(thing_id), "thing")
            self._file.write([("DELETE FROM thing WHERE id = ?", (thing_id,))])
            for channel_id in self._channels_of.pop(thing_id, {}):
                del self._things_of[channel_id][thing_id]
                self._connections -= 1
            del self._things_by_key[self._key_hashes.pop(thing_id)]
            del self._things[thing_id]
            self._changed(Change(ChangeKind.REVOKED, things=frozenset({thing_id})))

    # Channels

    def create_channel(
        self,
        name: str = "",
        metadata: Metadata | None = None,
        id: str | None = None,  # noqa: A002
        *,
        group: str = "",
    ) -> Channel:
        """Add a channel, to a group where one is named.

        Raises Conflict where the id is taken, NotFound for the group, Invalid.
        """
        channel = Channel(checked_id(id), checked_name(name), checked_metadata(metadata))
        with self._lock:
            if channel.id in self._channels:
                raise Conflict("a channel has that id")
            if len(self._channels) >= MAX_CHANNELS:
                raise Invalid(f"at most {MAX_CHANNELS} channels")
            self.groups.check(group)
            row = (channel.id, channel.name, to_json(channel.metadata))
            held = [self.groups.holding("channels", channel.id, group)] if group else []
            self._file.write([("INSERT INTO channel VALUES (?, ?, ?)", row), *held])
            self._channels[channel.id] = channel
            if group:
                self.groups.keep_held("channels", channel.id, group)
            self._changed(Change(ChangeKind.GRANTED, channels=frozenset({channel.id})))
        return channel

    def channel(self, channel_id: str) -> Channel | None:
        return self._channels.get(channel_id)

    def channels(
        self,
        *,
        offset: int = 0,
        limit: int = 10,
        name: str = "",
        metadata: Metadata | None = None,
        order: str = "",
        descending: bool = False,
        after: str = "",
    ) -> Page[Channel]:
        """As `things`, of channels."""
        return page(list(self._channels.values()), offset, limit, name, metadata, order, descending, after)

    def all_channels(self) -> list[Channel]:
        """In the order they were made."""
        return list(self._channels.values())

    def update_channel(
        self, channel_id: str, name: str | None = None, metadata: Metadata | None = None
    ) -> Channel:
        """Give a channel another name or metadata. Raises NotFound, Invalid."""
        with self._lock:
            channel = edited(self._channels.get(channel_id), "channel", name, metadata)
            row = (channel.name, to_json(channel.metadata), channel.id)
            self._file.write([("UPDATE channel SET name = ?, metadata = ? WHERE id = ?", row)])
            self._channels[channel.id] = channel
            self._changed(Change(ChangeKind.EDITED, channels=frozenset({channel.id})))
        return channel

    def remove_channel(self, channel_id: str) -> None:
        """Remove a channel and its connections.

        Its messages stay until retention takes them. Raises NotFound, Conflict for that of events.
        """
        with self._lock:
            found(self._channels.get(channel_id), "channel")
            if channel_id == EVENTS:
                raise Conflict("the channel of events stays; it tells who changed what")
            self._file.write([("DELETE FROM channel WHERE id = ?", (channel_id,))])
            things = self._things_of.pop(channel_id, {})
            for thing_id in things:
                del self._channels_of[thing_id][channel_id]
                self._connections -= 1
            del self._channels[channel_id]
            self._changed(Change(ChangeKind.REVOKED, frozenset(things), frozenset({channel_id})))

    # Connections

    def connect(
        self, channel_ids: Iterable[str], thing_ids: Iterable[str], rights: Rights = Rights.BOTH
    ) -> None:
        """Connect each thing to each channel, with `rights` besides those it has there.

        All or nothing. Raises NotFound, Invalid.
        """
        with self._lock:
            pairs = self._pairs(channel_ids, thing_ids)
            more = [(*pair, self.rights(*pair) | rights) for pair in pairs if rights & ~self.rights(*pair)]
            new = sum(not self.rights(channel_id, thing_id) for channel_id, thing_id, _ in more)
            if self._connections + new > MAX_CONNECTIONS:
                raise Invalid(f"at most {MAX_CONNECTIONS} connections")
            self._file.write(
                [
                    (
                        "INSERT INTO connection(channel, thing, rights) VALUES (?, ?, ?)"
                        " ON CONFLICT(channel, thing) DO UPDATE SET rights = excluded.rights",
                        row,
                    )
                    for row in more
                ]
            )
            for row in more:
                self._keep_connection(*row)
            self._changed(_of_pairs(ChangeKind.GRANTED, [(channel, thing) for channel, thing, _ in more]))

    def disconnect(
        self, channel_ids: Iterable[str], thing_ids: Iterable[str], rights: Rights = Rights.BOTH
    ) -> None:
        """Take `rights` from each thing's connection with each channel; without any left it ends.

        All or nothing. Raises NotFound where one has none of them.
        """
        with self._lock:
            things = list(dict.fromkeys(thing_ids))
            pairs = [
                (channel_id, thing_id) for channel_id in dict.fromkeys(channel_ids) for thing_id in things
            ]
            if not all(self.rights(*pair) & rights for pair in pairs):
                raise NotFound("no such connection")
            left = {pair: self.rights(*pair) & ~rights for pair in pairs}
            gone = [pair for pair, rest in left.items() if not rest]
            kept = [(rest, *pair) for pair, rest in left.items() if rest]
            self._file.write(
                [("DELETE FROM connection WHERE channel = ? AND thing = ?", pair) for pair in gone]
                + [("UPDATE connection SET rights = ? WHERE channel = ? AND thing = ?", row) for row in kept]
            )
            for rest, channel_id, thing_id in kept:
                self._keep_connection(channel_id, thing_id, rest)
            for channel_id, thing_id in gone:
                del self._channels_of[thing_id][channel_id], self._things_of[channel_id][thing_id]
                self._connections -= 1
            self._changed(_of_pairs(ChangeKind.REVOKED, pairs))

    def connected(self, channel_id: str, thing_id: str) -> bool:
        return channel_id in self._channels_of.get(thing_id, ())

    def rights(self, channel_id: str, thing_id: str) -> Rights:
        """What the connection gives; nothing where there is none."""
        return self._channels_of.get(thing_id, {}).get(channel_id, _NO_RIGHTS)

    def channels_of(self, thing_id: str) -> list[Channel]:
        """The channels a thing is connected to, in the order it was."""
        ids = list(self._channels_of.get(thing_id, ()))
        return [channel for channel_id in ids if (channel := self._channels.get(channel_id))]

    def things_of(self, channel_id: str) -> list[Thing]:
        """The things connected to a channel, in the order they were."""
        ids = list(self._things_of.get(channel_id, ()))
        return [thing for thing_id in ids if (thing := self._things.get(thing_id))]

    def _pairs(self, channel_ids: Iterable[str], thing_ids: Iterable[str]) -> list[tuple[str, str]]:
        channels, things = list(dict.fromkeys(channel_ids)), list(dict.fromkeys(thing_ids))
        for channel_id in channels:
            found(self._channels.get(channel_id), "channel")
        for thing_id in things:
            found(self._things.get(thing_id), "thing")
        return [(channel_id, thing_id) for channel_id in channels for thing_id in things]

    # Loading

    def _load_things(self, conn: sqlite3.Connection) -> None:
        """Raises sqlite3.DatabaseError for what can only be damage."""
        self._things: dict[str, Thing] = {}
        self._things_by_key: dict[bytes, str] = {}
        self._key_hashes: dict[str, bytes] = {}
        self._channels: dict[str, Channel] = {}
        self._channels_of: dict[str, dict[str, Rights]] = {}  # by thing; ordered as connected
        self._things_of: dict[str, dict[str, None]] = {}  # by channel
        self._connections = 0
        try:
            for thing_id, name, metadata, digest, version in conn.execute(
                "SELECT * FROM thing ORDER BY rowid"
            ):
                self._keep_thing(Thing(thing_id, name, from_json(metadata), version), digest)
            for channel_id, name, metadata in conn.execute("SELECT * FROM channel ORDER BY rowid"):
                self._channels[channel_id] = Channel(channel_id, name, from_json(metadata))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise sqlite3.DatabaseError(f"metadata: {error}") from error
        for channel_id, thing_id, rights in conn.execute("SELECT channel, thing, rights FROM connection"):
            self._keep_connection(channel_id, thing_id, Rights(rights & Rights.BOTH))

    def _keep_thing(self, thing: Thing, digest: bytes) -> None:
        self._things[thing.id] = thing
        self._things_by_key[digest] = thing.id
        self._key_hashes[thing.id] = digest

    def _keep_connection(self, channel_id: str, thing_id: str, rights: Rights = Rights.BOTH) -> None:
        channels = self._channels_of.setdefault(thing_id, {})
        self._connections += channel_id not in channels
        channels[channel_id] = rights
        self._things_of.setdefault(channel_id, {})[thing_id] = None


def _of_pairs(kind: ChangeKind, pairs: Sequence[tuple[str, str]]) -> Change:
    channels, things = frozenset(c for c, _ in pairs), frozenset(t for _, t in pairs)
    return Change(kind, things, channels)

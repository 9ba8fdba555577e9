"""Many things at once: a delivery of devices becomes things and channels in one transaction, or none of them.

Part of `registry`, whose state it works on; apart from it because nothing but bulk registration needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from .errors import Conflict, Invalid, NotFound
from .keys import new_secret
from .registry import Registry
from .registry_items import (
    Change,
    ChangeKind,
    Channel,
    Metadata,
    Thing,
    checked_id,
    checked_key,
    checked_metadata,
    checked_name,
    to_json,
)
from .registry_things import MAX_CHANNELS, MAX_CONNECTIONS, MAX_THINGS
from .users import Statement


@dataclass(frozen=True, slots=True)
class Wanted:
    """A thing to be, and the channel it is connected to: one that is there, or one of its own name."""

    name: str
    metadata: Metadata = field(default_factory=dict)
    channel_id: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A new thing with its key, which can never be read again."""

    thing: Thing
    key: str = field(repr=False)
    channel_id: str = ""
    own_channel: bool = False


def create_connected(registry: Registry, wanted: Sequence[Wanted]) -> list[Made]:
    """Add things, each connected to a channel. Raises NotFound for a channel that is not there, Invalid."""
    made: list[Made] = []
    digests: list[bytes] = []
    channels: dict[str, Channel] = {}
    statements: list[Statement] = []
    with registry._lock:
        for each in wanted:
            if each.channel_id and registry.channel(each.channel_id) is None:
                raise NotFound(f"there is no channel {each.channel_id}")
            key, name = new_secret(), checked_name(each.name)
            thing = Thing(checked_id(None), name, checked_metadata(each.metadata))
            digests.append(registry._key.digest("thing", key))
            row = (thing.id, thing.name, to_json(thing.metadata), digests[-1], thing.key_version)
            statements.append(("INSERT INTO thing VALUES (?, ?, ?, ?, ?)", row))
            channel_id = each.channel_id
            if not channel_id:
                channel = Channel(checked_id(None), name)
                channels[channel.id] = channel
                channel_id = channel.id
                statements.append(("INSERT INTO channel VALUES (?, ?, ?)", (channel.id, name, to_json({}))))
            statements.append(
                ("INSERT INTO connection(channel, thing) VALUES (?, ?)", (channel_id, thing.id))
            )
            made.append(Made(thing, key, channel_id, not each.channel_id))
        if len(registry._things) + len(made) > MAX_THINGS:
            raise Invalid(f"at most {MAX_THINGS} things")
        if len(registry._channels) + len(channels) > MAX_CHANNELS:
            raise Invalid(f"at most {MAX_CHANNELS} channels")
        if registry._connections + len(made) > MAX_CONNECTIONS:
            raise Invalid(f"at most {MAX_CONNECTIONS} connections")
        registry._file.write(statements)
        registry._channels.update(channels)
        for each_made, digest in zip(made, digests, strict=True):
            registry._keep_thing(each_made.thing, digest)
            registry._keep_connection(each_made.channel_id, each_made.thing.id)
        things = frozenset(each_made.thing.id for each_made in made)
        registry._changed(Change(ChangeKind.GRANTED, things, frozenset(each.channel_id for each in made)))
    return made


@dataclass(frozen=True, slots=True)
class Item:
    """A thing or channel to be; id and key are the caller's or, left out, the registry's. `group`: that it is in."""

    name: str = ""
    metadata: Metadata | None = None
    id: str | None = None
    key: str | None = field(default=None, repr=False)
    group: str = ""


def create_things(registry: Registry, wanted: Sequence[Item]) -> list[Made]:
    """Add things, all or none. Raises Conflict, NotFound for a group, Invalid; each says which item it is about."""
    made: list[Made] = []
    digests: dict[bytes, str] = {}
    statements: list[Statement] = []
    with registry._lock:
        ids = set(registry._things)
        for number, each in enumerate(wanted, 1):
            with _about(number):
                key = checked_key(each.key) if each.key is not None else new_secret()
                thing = Thing(checked_id(each.id), checked_name(each.name), checked_metadata(each.metadata))
                digest = registry._key.digest("thing", key)
                if thing.id in ids or digest in digests or digest in registry._things_by_key:
                    raise Conflict("a thing has that id or key")
                registry.groups.check(each.group)
            ids.add(thing.id)
            digests[digest] = thing.id
            row = (thing.id, thing.name, to_json(thing.metadata), digest, thing.key_version)
            statements.append(("INSERT INTO thing VALUES (?, ?, ?, ?, ?)", row))
            if each.group:
                statements.append(registry.groups.holding("things", thing.id, each.group))
            made.append(Made(thing, key))
        if len(ids) > MAX_THINGS:
            raise Invalid(f"at most {MAX_THINGS} things")
        registry._file.write(statements)
        for each_made, digest, each in zip(made, digests, wanted, strict=True):
            registry._keep_thing(each_made.thing, digest)
            if each.group:
                registry.groups.keep_held("things", each_made.thing.id, each.group)
        registry._changed(Change(ChangeKind.GRANTED, things=frozenset(digests.values())))
    return made


def create_channels(registry: Registry, wanted: Sequence[Item]) -> list[Channel]:
    """Add channels, all or none. Raises what `create_things` raises."""
    made: dict[str, Channel] = {}
    statements: list[Statement] = []
    with registry._lock:
        for number, each in enumerate(wanted, 1):
            with _about(number):
                channel = Channel(
                    checked_id(each.id), checked_name(each.name), checked_metadata(each.metadata)
                )
                if channel.id in registry._channels or channel.id in made:
                    raise Conflict("a channel has that id")
                registry.groups.check(each.group)
            made[channel.id] = channel
            row = (channel.id, channel.name, to_json(channel.metadata))
            statements.append(("INSERT INTO channel VALUES (?, ?, ?)", row))
            if each.group:
                statements.append(registry.groups.holding("channels", channel.id, each.group))
        if len(registry._channels) + len(made) > MAX_CHANNELS:
            raise Invalid(f"at most {MAX_CHANNELS} channels")
        registry._file.write(statements)
        registry._channels.update(made)
        for channel_id, each in zip(made, wanted, strict=True):
            if each.group:
                registry.groups.keep_held("channels", channel_id, each.group)
        registry._changed(Change(ChangeKind.GRANTED, channels=frozenset(made)))
    return list(made.values())


@contextlib.contextmanager
def _about(number: int) -> Iterator[None]:
    """Has a refusal say which item of a list it is about."""
    try:
        yield
    except (Conflict, Invalid, NotFound) as error:
        raise type(error)(f"item {number}: {error.reason}") from None


def remove_all(registry: Registry, thing_ids: Collection[str], channel_ids: Collection[str] = ()) -> None:
    """Remove things and channels with their connections; those that are not there are passed over."""
    with registry._lock:
        things = [thing_id for thing_id in dict.fromkeys(thing_ids) if registry.thing(thing_id)]
        channels = [channel_id for channel_id in dict.fromkeys(channel_ids) if registry.channel(channel_id)]
        statements: list[Statement] = [("DELETE FROM thing WHERE id = ?", (each,)) for each in things]
        statements += [("DELETE FROM channel WHERE id = ?", (each,)) for each in channels]
        registry._file.write(statements)
        for thing_id in things:
            for channel_id in registry._channels_of.pop(thing_id, {}):
                del registry._things_of[channel_id][thing_id]
                registry._connections -= 1
            del registry._things_by_key[registry._key_hashes.pop(thing_id)]
            del registry._things[thing_id]
        for channel_id in channels:
            for thing_id in registry._things_of.pop(channel_id, {}):
                del registry._channels_of[thing_id][channel_id]
                registry._connections -= 1
            del registry._channels[channel_id]
        registry._changed(Change(ChangeKind.REVOKED, frozenset(things), frozenset(channels)))

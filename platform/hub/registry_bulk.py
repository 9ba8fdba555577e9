"""Many things at once: a delivery of devices becomes things and channels in one transaction, or none of them.

Part of `registry`, whose state it works on; apart from it because nothing but bulk registration needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .errors import Invalid, NotFound
from .keys import new_secret
from .registry import MAX_CHANNELS, MAX_CONNECTIONS, MAX_THINGS, Registry
from .registry_items import (
    Change,
    ChangeKind,
    Channel,
    Metadata,
    Thing,
    checked_id,
    checked_metadata,
    checked_name,
    to_json,
)
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

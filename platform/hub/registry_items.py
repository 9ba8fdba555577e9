"""What the registry holds: things, channels, what changed, and the limits of each value."""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from .errors import Invalid, NotFound

MAX_NAME = 1024  # characters, as Mainflux
MAX_METADATA = 64 * 1024  # bytes of JSON
MIN_KEY, MAX_KEY = 16, 256  # characters of a key that a caller chooses; ours have 43

_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

Metadata = dict[str, Any]


class Thing(msgspec.Struct, frozen=True):
    """Something that publishes or listens. Its key is known to its holder only."""

    id: str
    name: str = ""
    metadata: Metadata = {}
    key_version: int = 1  # rises with each new key, so that sessions opened with an older one end


class Channel(msgspec.Struct, frozen=True):
    """Where messages meet."""

    id: str
    name: str = ""
    metadata: Metadata = {}


class Rights(enum.IntFlag):
    """What a connection lets a thing do on a channel."""

    PUBLISH = 1
    SUBSCRIBE = 2
    BOTH = 3


class ChangeKind(enum.StrEnum):
    GRANTED = "granted"  # something more exists or is allowed
    REVOKED = "revoked"  # something was removed, disconnected or given a new key
    EDITED = "edited"  # names and metadata only


class Change(msgspec.Struct, frozen=True):
    """What changed: ids of the things, channels, users and groups it touches."""

    kind: ChangeKind
    things: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


T = TypeVar("T", Thing, Channel)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list: `items` from `offset` on, of `total` that match."""

    total: int
    items: list[T]


def page(
    everything: list[T],
    offset: int,
    limit: int,
    name: str,
    metadata: Metadata | None,
    order: str,
    descending: bool,
) -> Page[T]:
    wanted = name.casefold()
    matching = [
        item
        for item in everything
        if wanted in item.name.casefold() and (metadata is None or _contains(item.metadata, metadata))
    ]
    if order:
        matching.sort(key=lambda item: (item.name, item.id) if order == "name" else (item.id, ""))
    if descending:
        matching.reverse()
    return Page(len(matching), matching[offset : offset + limit])


def _contains(whole: Any, part: Any) -> bool:
    """JSON containment as PostgreSQL's `@>`: every member of `part` is somewhere in `whole`."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            key in whole and _contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(_contains(item, one) for item in whole) for one in part)
    return type(whole) is type(part) and bool(whole == part)


def edited(item: T | None, noun: str, name: str | None, metadata: Metadata | None) -> T:
    kept = found(item, noun)
    return msgspec.structs.replace(
        kept,
        name=kept.name if name is None else checked_name(name),
        metadata=kept.metadata if metadata is None else checked_metadata(metadata),
    )


def found(item: T | None, noun: str) -> T:
    if item is None:
        raise NotFound(f"no such {noun}")
    return item


def checked_id(given: str | None) -> str:
    if given is None:
        return str(uuid.uuid4())
    if not _ID.fullmatch(given):
        raise Invalid("an id has 1 to 64 letters, digits, - or _")
    return given


def checked_name(name: str) -> str:
    if len(name) > MAX_NAME:
        raise Invalid(f"a name has at most {MAX_NAME} characters")
    return name


def checked_key(key: str) -> str:
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise Invalid(f"a key has {MIN_KEY} to {MAX_KEY} characters")
    return key


def checked_metadata(metadata: Metadata | None) -> Metadata:
    if metadata is None:
        return {}
    try:
        size = len(to_json(metadata))
    except (TypeError, msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise Invalid(f"metadata is a JSON object: {error}") from None
    if size > MAX_METADATA:
        raise Invalid(f"metadata has at most {MAX_METADATA} bytes")
    return metadata


def to_json(value: Metadata) -> str:
    return msgspec.json.encode(value).decode()


def from_json(text: str) -> Metadata:
    return msgspec.json.decode(text, type=Metadata)

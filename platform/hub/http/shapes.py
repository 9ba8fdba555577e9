"""What the endpoints of things and channels answer, for the OpenAPI document; a test holds the answers against it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Metadata = dict[str, Any]


class Shown(Struct):
    """A thing or a channel; never with a key. `group_id` where a group holds it."""

    id: str
    name: str
    metadata: Metadata
    group_id: str = ""


class ThingWithKey(Struct):
    """A thing that was just made: the one time its key is shown."""

    id: str
    name: str
    key: str
    metadata: Metadata
    group_id: str = ""


class MadeChannel(Struct):
    response: str
    id: str
    name: str
    metadata: Metadata
    group_id: str = ""


class MadeThings(Struct):
    things: list[ThingWithKey]


class MadeChannels(Struct):
    channels: list[Shown]


class Things(Struct):
    """A page of things."""

    total: int
    offset: int
    limit: int
    order: str
    direction: str
    things: list[Shown]
    next: str = ""


class Channels(Struct):
    """A page of channels."""

    total: int
    offset: int
    limit: int
    order: str
    direction: str
    channels: list[Shown]
    next: str = ""


class IssuedKey(Struct):
    id: str
    key: str


class Identity(Struct):
    id: str


class Nothing(Struct):
    """An empty object."""

"""What the endpoints of things and channels answer, for the OpenAPI document; a test holds the answers against it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Metadata = dict[str, Any]


class Item(Struct):
    """A thing or a channel, as it is shown; never with a key."""

    id: str
    name: str
    metadata: Metadata


class ThingWithKey(Struct):
    """A thing that was just made: the one time its key is shown."""

    id: str
    name: str
    key: str
    metadata: Metadata


class MadeChannel(Struct):
    response: str
    id: str
    name: str
    metadata: Metadata


class MadeThings(Struct):
    things: list[ThingWithKey]


class MadeChannels(Struct):
    channels: list[Item]


class Things(Struct):
    """A page of things."""

    total: int
    offset: int
    limit: int
    order: str
    direction: str
    things: list[Item]


class Channels(Struct):
    """A page of channels."""

    total: int
    offset: int
    limit: int
    order: str
    direction: str
    channels: list[Item]


class IssuedKey(Struct):
    id: str
    key: str


class Identity(Struct):
    id: str


class Nothing(Struct):
    """An empty object."""

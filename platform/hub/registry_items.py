"""What the registry holds: things, channels, what changed, and the limits of each value."""

from __future__ import annotations

import base64
import bisect
import enum
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from .errors import Invalid, NotFound

EVENTS = "events"  # id of the channel that tells of changes here
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
    """What changed: ids of the things, channels, users, groups and grants (API keys, consents) it touches."""

    kind: ChangeKind
    things: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    grants: frozenset[str] = frozenset()


class Named(Protocol):
    """What lists hold: things, channels, groups."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def metadata(self) -> Metadata: ...


N = TypeVar("N", bound=Named)
T = TypeVar("T", Thing, Channel)


class Page(msgspec.Struct, Generic[N], frozen=True):
    """Part of a list: `items` of `total` that match; `next` asks for those that follow, "" where there are none.

    A list in the order its items were made has no `next`, only offsets.
    """

    total: int
    items: list[N]
    next: str = ""


_KEYS: Mapping[str, Callable[[Named], tuple[str, ...]]] = {
    "name": lambda item: (item.name, item.id),
    "id": lambda item: (item.id,),
}


def page(
    everything: list[N],
    offset: int,
    limit: int,
    name: str,
    metadata: Metadata | None,
    order: str,
    descending: bool,
    after: str = "",
) -> Page[N]:
    """Those of `everything` that match, by `order` "name" or "id", or as they come.

    `after` is an earlier page's `next`: then it begins there whatever came or went in between, and `offset` counts
    from there. Raises Invalid for an `after` of another order.
    """
    wanted = name.casefold()
    matching = [
        item
        for item in everything
        if (not wanted or wanted in item.name.casefold())
        and (metadata is None or _contains(item.metadata, metadata))
    ]
    key = _KEYS.get(order)
    if key is not None:
        matching.sort(key=key)
    start = offset
    if after:
        last = _key_of(after, order)
        assert key is not None
        if descending:
            start += len(matching) - bisect.bisect_left(matching, last, key=key)
        else:
            start += bisect.bisect_right(matching, last, key=key)
    if descending:
        matching.reverse()
    items = matching[start : start + limit]
    more = key is not None and items and start + limit < len(matching)
    return Page(len(matching), items, _token(order, items[-1]) if more else "")


def _token(order: str, item: Named) -> str:
    text = msgspec.json.encode([order, *_KEYS[order](item)])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _key_of(token: str, order: str) -> tuple[str, ...]:
    """The key in a token. Raises Invalid."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        given, *key = msgspec.json.decode(text, type=list[str])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        given, key = "", []
    if not given or given != order or len(key) != {"name": 2, "id": 1}[given]:
        raise Invalid("after is the member `next` of an answer, asked for in the same order")
    return tuple(key)


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

"""Things and channels (Mainflux 0.13, things service).

Keys are stored hashed, so a key is shown when it is made and never again: `GET /things/<id>` has none.
Changes are durable transactions and run in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.errors import NotFound
from hub.http.auth import hub_of
from hub.http.body import decode_json, read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.shapes import (
    Channels,
    IssuedKey,
    Item,
    MadeChannel,
    MadeChannels,
    MadeThings,
    Things,
    ThingWithKey,
)
from hub.http.table import Endpoint, Needs, Parameter
from hub.registry import Channel, Page, Registry, Thing

MAX_PAGE = 100  # Mainflux's limit of a list
MAX_BULK = 1000  # items of one request: each is a transaction of its own, some seconds on a card
MAX_OFFSET = 1 << 31

Metadata = dict[str, Any]
W = TypeVar("W")
M = TypeVar("M")


class NewThing(Struct):
    """A thing to be made; id and key are the caller's or, left out, the gateway's. A key has 16..256 characters."""

    name: str = ""
    metadata: Metadata | None = None
    id: str | None = None
    key: str | None = None


class NewChannel(Struct):
    name: str = ""
    metadata: Metadata | None = None
    id: str | None = None


class Edit(Struct):
    """What PUT changes; what is left out stays."""

    name: str | None = None
    metadata: Metadata | None = None


class NewKey(Struct):
    """A key of the caller's own, or none for one the gateway makes."""

    key: str | None = None


class Search(Struct):
    """Which items of a list, and in which order (Mainflux 0.13; `order` "" is the order they were made in)."""

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 10
    name: str = ""
    order: Annotated[str, Meta(pattern="^(name|id)?$")] = ""
    dir: Annotated[str, Meta(pattern="^(asc|desc)$")] = "asc"
    metadata: Metadata | None = None


# Things


async def create_thing(request: Request) -> Response:
    """`POST /things`: 201 with Location and, this one time, the key."""
    wanted = await read_json(request, NewThing)
    thing, key = await asyncio.to_thread(_make_thing, registry_of(request), wanted)
    return json_response(_with_key(thing, key), 201, {"location": f"/things/{thing.id}"})


async def create_things(request: Request) -> Response:
    """`POST /things/bulk`: all or none."""
    wanted = _bulk(await read_json(request, list[NewThing]))
    registry = registry_of(request)

    def make_all() -> list[dict[str, Any]]:
        made = _all_or_none(
            wanted, lambda one: _make_thing(registry, one), lambda it: registry.remove_thing(it[0].id)
        )
        return [_with_key(thing, key) for thing, key in made]

    return json_response({"things": await asyncio.to_thread(make_all)}, 201)


async def list_things(request: Request) -> Response:
    """`GET /things`: a page of things."""
    return _things_page(request, _search(request))


async def search_things(request: Request) -> Response:
    """`POST /things/search`: the list's parameters as a JSON body."""
    return _things_page(request, await read_json(request, Search))


async def get_thing(request: Request) -> Response:
    """`GET /things/<id>`: without the key, which nobody can read again."""
    return json_response(_shown(_thing(request)))


async def edit_thing(request: Request) -> Response:
    """`PUT /things/<id>`: another name or metadata; what is left out stays."""
    edit = await read_json(request, Edit)
    thing = await asyncio.to_thread(
        registry_of(request).update_thing, request.path_params["thing_id"], edit.name, edit.metadata
    )
    return json_response(_shown(thing))


async def remove_thing(request: Request) -> Response:
    """`DELETE /things/<id>`: 204 also where there was none, as in Mainflux."""
    await remove(registry_of(request).remove_thing, request.path_params["thing_id"])
    return Response(status_code=204)


async def rotate_key(request: Request) -> Response:
    """`PATCH /things/<id>/key`: the old key stops working at once, on live sessions too."""
    wanted = await read_json(request, NewKey)
    thing_id = request.path_params["thing_id"]
    key = await asyncio.to_thread(registry_of(request).rotate_key, thing_id, wanted.key)
    return json_response({"id": thing_id, "key": key})


async def channels_of_thing(request: Request) -> Response:
    """`GET /things/<id>/channels`: the channels it is connected to, or those it is not."""
    registry = registry_of(request)
    connected = registry.channels_of(_thing(request).id)
    return _related(request, "channels", connected, lambda: registry.channels(limit=MAX_OFFSET))


# Channels


async def create_channel(request: Request) -> Response:
    """`POST /channels`: 201 with Location; `response` is for clients of 2017."""
    wanted = await read_json(request, NewChannel)
    channel = await asyncio.to_thread(_make_channel, registry_of(request), wanted)
    body = {"response": "created", **_shown(channel)}
    return json_response(body, 201, {"location": f"/channels/{channel.id}"})


async def create_channels(request: Request) -> Response:
    """`POST /channels/bulk`: all or none."""
    wanted = _bulk(await read_json(request, list[NewChannel]))
    registry = registry_of(request)

    def make_all() -> list[Channel]:
        return _all_or_none(
            wanted,
            lambda one: _make_channel(registry, one),
            lambda channel: registry.remove_channel(channel.id),
        )

    return json_response({"channels": await asyncio.to_thread(make_all)}, 201)


async def list_channels(request: Request) -> Response:
    """`GET /channels`: a page of channels."""
    search = _search(request)
    return _page("channels", registry_of(request).channels(**_arguments(search)), search)


async def get_channel(request: Request) -> Response:
    """`GET /channels/<id>`: one channel."""
    return json_response(_shown(_channel(request)))


async def edit_channel(request: Request) -> Response:
    """`PUT /channels/<id>`: another name or metadata; what is left out stays."""
    edit = await read_json(request, Edit)
    channel = await asyncio.to_thread(
        registry_of(request).update_channel, request.path_params["channel_id"], edit.name, edit.metadata
    )
    return json_response(_shown(channel))


async def remove_channel(request: Request) -> Response:
    """`DELETE /channels/<id>`: its messages stay until retention takes them."""
    await remove(registry_of(request).remove_channel, request.path_params["channel_id"])
    return Response(status_code=204)


async def things_of_channel(request: Request) -> Response:
    """`GET /channels/<id>/things`: the things connected to it, or those that are not."""
    registry = registry_of(request)
    connected = registry.things_of(_channel(request).id)
    return _related(request, "things", connected, lambda: registry.things(limit=MAX_OFFSET))


# Shared with the workshop's forms


def registry_of(request: Request) -> Registry:
    return hub_of(request).registry


async def remove(remover: Callable[[str], None], item_id: str) -> None:
    """Remove what may be gone already."""
    with contextlib.suppress(NotFound):
        await asyncio.to_thread(remover, item_id)


# Details


def _make_thing(registry: Registry, wanted: NewThing) -> tuple[Thing, str]:
    return registry.create_thing(wanted.name, wanted.metadata, wanted.id, wanted.key)


def _make_channel(registry: Registry, wanted: NewChannel) -> Channel:
    return registry.create_channel(wanted.name, wanted.metadata, wanted.id)


def _all_or_none(wanted: Iterable[W], make: Callable[[W], M], undo: Callable[[M], None]) -> list[M]:
    """Make one after the other; where one fails, take the made ones back and raise its error."""
    made: list[M] = []
    try:
        made.extend(make(one) for one in wanted)
    except Exception:
        for one_made in reversed(made):
            undo(one_made)
        raise
    return made


def _bulk(wanted: list[W]) -> list[W]:
    if not 1 <= len(wanted) <= MAX_BULK:
        raise Problem(400, f"send 1 to {MAX_BULK} items in one request")
    return wanted


def _thing(request: Request) -> Thing:
    thing = registry_of(request).thing(request.path_params["thing_id"])
    if thing is None:
        raise Problem(404, "no such thing")
    return thing


def _channel(request: Request) -> Channel:
    channel = registry_of(request).channel(request.path_params["channel_id"])
    if channel is None:
        raise Problem(404, "no such channel")
    return channel


def _shown(item: Thing | Channel) -> dict[str, Any]:
    return {"id": item.id, "name": item.name, "metadata": item.metadata}


def _with_key(thing: Thing, key: str) -> dict[str, Any]:
    return {"id": thing.id, "name": thing.name, "key": key, "metadata": thing.metadata}


def _search(request: Request) -> Search:
    """The list parameters of a query string. Raises Problem 400."""
    given: dict[str, Any] = dict(request.query_params)
    if "metadata" in given:
        given["metadata"] = decode_json(given["metadata"].encode("utf-8", "replace"), Metadata)
    try:
        return msgspec.convert(given, Search, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None


def _arguments(search: Search) -> dict[str, Any]:
    return {
        "offset": search.offset,
        "limit": search.limit,
        "name": search.name,
        "metadata": search.metadata,
        "order": search.order,
        "descending": search.dir == "desc",
    }


def _things_page(request: Request, search: Search) -> Response:
    return _page("things", registry_of(request).things(**_arguments(search)), search)


def _page(noun: str, page: Page[Any], search: Search) -> Response:
    return json_response(
        {
            "total": page.total,
            "offset": search.offset,
            "limit": search.limit,
            "order": search.order,
            "direction": search.dir,
            noun: [_shown(item) for item in page.items],
        }
    )


def _related(
    request: Request, noun: str, connected: list[Any], everything: Callable[[], Page[Any]]
) -> Response:
    """A page of those connected, or with `disconnected=true` of those that are not."""
    search = _search(request)
    items = connected
    if request.query_params.get("disconnected") == "true":
        ids = {item.id for item in connected}
        items = [item for item in everything().items if item.id not in ids]
    page = items[search.offset : search.offset + search.limit]
    return _page(noun, Page(len(items), page), search)


_LIST = (
    Parameter("offset", "items to pass over", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}),
    Parameter("limit", "items at most", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    Parameter("name", "a part of the name, in any case"),
    Parameter(
        "order", "sorted by; as they were made if left out", {"type": "string", "enum": ["", "name", "id"]}
    ),
    Parameter("dir", "direction", {"type": "string", "enum": ["asc", "desc"]}),
    Parameter("metadata", "a JSON object that the item's metadata contains"),
)
_RELATED = (*_LIST, Parameter("disconnected", "those that are not connected", {"type": "boolean"}))

ENDPOINTS = [
    Endpoint(
        "POST",
        "/things",
        create_thing,
        Needs.MANAGER,
        body=NewThing,
        answers={201: ThingWithKey},
        headers={"Location": "of what was made"},
        refuses=(409,),
    ),
    Endpoint("GET", "/things", list_things, Needs.USER, answers={200: Things}, parameters=_LIST),
    Endpoint(
        "POST",
        "/things/bulk",
        create_things,
        Needs.MANAGER,
        body=list[NewThing],
        answers={201: MadeThings},
        refuses=(409,),
    ),
    Endpoint("POST", "/things/search", search_things, Needs.USER, body=Search, answers={200: Things}),
    Endpoint("GET", "/things/{thing_id}", get_thing, Needs.USER, answers={200: Item}),
    Endpoint("PUT", "/things/{thing_id}", edit_thing, Needs.MANAGER, body=Edit, answers={200: Item}),
    Endpoint("DELETE", "/things/{thing_id}", remove_thing, Needs.MANAGER, answers={204: None}),
    Endpoint(
        "PATCH",
        "/things/{thing_id}/key",
        rotate_key,
        Needs.MANAGER,
        body=NewKey,
        answers={200: IssuedKey},
        refuses=(409,),
    ),
    Endpoint(
        "GET",
        "/things/{thing_id}/channels",
        channels_of_thing,
        Needs.USER,
        answers={200: Channels},
        parameters=_RELATED,
    ),
    Endpoint(
        "POST",
        "/channels",
        create_channel,
        Needs.MANAGER,
        body=NewChannel,
        answers={201: MadeChannel},
        headers={"Location": "of what was made"},
        refuses=(409,),
    ),
    Endpoint("GET", "/channels", list_channels, Needs.USER, answers={200: Channels}, parameters=_LIST),
    Endpoint(
        "POST",
        "/channels/bulk",
        create_channels,
        Needs.MANAGER,
        body=list[NewChannel],
        answers={201: MadeChannels},
        refuses=(409,),
    ),
    Endpoint("GET", "/channels/{channel_id}", get_channel, Needs.USER, answers={200: Item}),
    Endpoint("PUT", "/channels/{channel_id}", edit_channel, Needs.MANAGER, body=Edit, answers={200: Item}),
    Endpoint("DELETE", "/channels/{channel_id}", remove_channel, Needs.MANAGER, answers={204: None}),
    Endpoint(
        "GET",
        "/channels/{channel_id}/things",
        things_of_channel,
        Needs.USER,
        answers={200: Things},
        parameters=_RELATED,
    ),
]

"""Things (Mainflux 0.13, things service).

Keys are stored hashed, so a key is shown when it is made and never again: `GET /things/<id>` has none.
Changes are durable transactions and run in a thread. A person whose role on the gateway is member sees and manages what
his groups hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.errors import NotFound
from hub.http.auth import hub_of
from hub.http.body import read_json
from hub.http.listing import LIST, NEXT_LINK, RELATED, Search, listed, related, search_of
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.shapes import Channels, IssuedKey, MadeThings, Shown, Things, ThingWithKey
from hub.http.table import Endpoint, Needs
from hub.registry import Channel, Registry, Thing
from hub.registry_bulk import Item
from hub.registry_bulk import create_things as create_all
from hub.registry_items import Metadata

MAX_BULK = 1000  # items of one request, which are one transaction
BULK_BODY = 2 << 20  # bytes of such a request: a thousand things with 2 KB of metadata each

W = TypeVar("W")


class NewThing(Struct):
    """A thing to be made; id and key are the caller's or, left out, the gateway's. A key has 16..256 characters.

    Left out, `group_id` is the one group that the caller manages; the gateway's technicians need none.
    """

    name: str = ""
    metadata: Metadata | None = None
    id: str | None = None
    key: str | None = None
    group_id: str | None = None


class Edit(Struct):
    """What PUT changes; what is left out stays."""

    name: str | None = None
    metadata: Metadata | None = None


class NewKey(Struct):
    """A key of the caller's own, or none for one the gateway makes."""

    key: str | None = None


async def create_thing(request: Request) -> Response:
    """`POST /things`: 201 with Location and, this one time, the key."""
    wanted = await read_json(request, NewThing)
    group = Reach(request).place(wanted.group_id)
    registry = registry_of(request)

    def make() -> tuple[Thing, str]:
        return registry.create_thing(wanted.name, wanted.metadata, wanted.id, wanted.key, group=group)

    thing, key = await asyncio.to_thread(make)
    return json_response(_with_key(registry, thing, key), 201, {"location": f"/things/{thing.id}"})


async def create_things(request: Request) -> Response:
    """`POST /things/bulk`: all or none, in one transaction."""
    wanted = bulk(await read_json(request, list[NewThing]))
    reach, registry = Reach(request), registry_of(request)
    items = [Item(one.name, one.metadata, one.id, one.key, reach.place(one.group_id)) for one in wanted]
    made = await asyncio.to_thread(create_all, registry, items)
    return json_response({"things": [_with_key(registry, one.thing, one.key) for one in made]}, 201)


async def list_things(request: Request) -> Response:
    """`GET /things`: a page of the things that the caller reaches."""
    return await _list_things(request, search_of(request))


async def search_things(request: Request) -> Response:
    """`POST /things/search`: the list's parameters as a JSON body."""
    return await _list_things(request, await read_json(request, Search))


async def get_thing(request: Request) -> Response:
    """`GET /things/<id>`: without the key, which nobody can read again."""
    return json_response(shown(registry_of(request), _thing(request)))


async def edit_thing(request: Request) -> Response:
    """`PUT /things/<id>`: another name or metadata; what is left out stays."""
    edit = await read_json(request, Edit)
    registry = registry_of(request)
    thing = await asyncio.to_thread(
        registry.update_thing, request.path_params["thing_id"], edit.name, edit.metadata
    )
    return json_response(shown(registry, thing))


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
    registry, reach = registry_of(request), Reach(request)
    connected = [each for each in registry.channels_of(_thing(request).id) if sees(reach, each)]
    return await related(
        request,
        "channels",
        connected,
        lambda: every_channel(registry, reach),
        lambda one: shown(registry, one),
    )


# Shared with channels and the workshop's forms


def registry_of(request: Request) -> Registry:
    return hub_of(request).registry


async def remove(remover: Callable[[str], None], item_id: str) -> None:
    """Remove what may be gone already."""
    with contextlib.suppress(NotFound):
        await asyncio.to_thread(remover, item_id)


def every_thing(registry: Registry, reach: Reach) -> list[Thing]:
    """All that the caller reaches, as they were made or, for a member, group by group."""
    return registry.all_things() if reach.everything else reach.things()


def every_channel(registry: Registry, reach: Reach) -> list[Channel]:
    """As `every_thing`, of channels."""
    return registry.all_channels() if reach.everything else reach.channels()


def sees(reach: Reach, item: Thing | Channel) -> bool:
    """Whether the caller reaches a thing or channel."""
    if isinstance(item, Thing):
        return reach.role(thing_id=item.id) is not None
    return reach.role(channel_id=item.id) is not None


def bulk(wanted: list[W]) -> list[W]:
    """What was sent, where it is no more than one request may. Raises Problem 400."""
    if not 1 <= len(wanted) <= MAX_BULK:
        raise Problem(400, f"send 1 to {MAX_BULK} items in one request")
    return wanted


def shown(registry: Registry, item: Thing | Channel) -> dict[str, Any]:
    """A thing or channel as it is shown; with its group, where it is in one."""
    body: dict[str, Any] = {"id": item.id, "name": item.name, "metadata": item.metadata}
    group_id = registry.groups.holder("things" if isinstance(item, Thing) else "channels", item.id)
    return {**body, "group_id": group_id} if group_id else body


# Details


def _thing(request: Request) -> Thing:
    thing = registry_of(request).thing(request.path_params["thing_id"])
    if thing is None:
        raise Problem(404, "no such thing")
    return thing


def _with_key(registry: Registry, thing: Thing, key: str) -> dict[str, Any]:
    return {**shown(registry, thing), "key": key}


async def _list_things(request: Request, search: Search) -> Response:
    registry, reach = registry_of(request), Reach(request)
    return await listed(
        request, "things", lambda: every_thing(registry, reach), search, lambda one: shown(registry, one)
    )


ENDPOINTS = [
    Endpoint(
        "POST",
        "/things",
        create_thing,
        Needs.MEMBER,
        body=NewThing,
        answers={201: ThingWithKey},
        headers={"Location": "of what was made"},
        refuses=(404, 409),
    ),
    Endpoint(
        "GET",
        "/things",
        list_things,
        Needs.MEMBER,
        answers={200: Things},
        parameters=LIST,
        headers=NEXT_LINK,
    ),
    Endpoint(
        "POST",
        "/things/bulk",
        create_things,
        Needs.MEMBER,
        body=list[NewThing],
        answers={201: MadeThings},
        refuses=(404, 409),
        max_body=BULK_BODY,
    ),
    Endpoint("POST", "/things/search", search_things, Needs.MEMBER, body=Search, answers={200: Things}),
    Endpoint("GET", "/things/{thing_id}", get_thing, Needs.SEE, answers={200: Shown}),
    Endpoint("PUT", "/things/{thing_id}", edit_thing, Needs.KEEP, body=Edit, answers={200: Shown}),
    Endpoint("DELETE", "/things/{thing_id}", remove_thing, Needs.KEEP, answers={204: None}),
    Endpoint(
        "PATCH",
        "/things/{thing_id}/key",
        rotate_key,
        Needs.KEEP,
        body=NewKey,
        answers={200: IssuedKey},
        refuses=(409,),
    ),
    Endpoint(
        "GET",
        "/things/{thing_id}/channels",
        channels_of_thing,
        Needs.SEE,
        answers={200: Channels},
        parameters=RELATED,
        headers=NEXT_LINK,
    ),
]

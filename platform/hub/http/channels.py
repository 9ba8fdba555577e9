"""Channels (Mainflux 0.13, things service). A member sees and manages those that his groups hold."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.http.body import read_json
from hub.http.listing import LIST, NEXT_LINK, RELATED, Search, listed, related, search_of
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.shapes import Channels, MadeChannel, MadeChannels, Shown, Things
from hub.http.table import Endpoint, Needs
from hub.http.things import (
    BULK_BODY,
    Edit,
    bulk,
    every_channel,
    every_thing,
    registry_of,
    remove,
    sees,
    shown,
)
from hub.registry import Channel
from hub.registry_bulk import Item
from hub.registry_bulk import create_channels as create_all
from hub.registry_items import Metadata


class NewChannel(Struct):
    """A channel to be made. Left out, `group_id` is the one group that the caller manages."""

    name: str = ""
    metadata: Metadata | None = None
    id: str | None = None
    group_id: str | None = None


async def create_channel(request: Request) -> Response:
    """`POST /channels`: 201 with Location; `response` is for clients of 2017."""
    wanted = await read_json(request, NewChannel)
    group = Reach(request).place(wanted.group_id)
    registry = registry_of(request)

    def make() -> Channel:
        return registry.create_channel(wanted.name, wanted.metadata, wanted.id, group=group)

    channel = await asyncio.to_thread(make)
    body: dict[str, Any] = {"response": "created", **shown(registry, channel)}
    return json_response(body, 201, {"location": f"/channels/{channel.id}"})


async def create_channels(request: Request) -> Response:
    """`POST /channels/bulk`: all or none, in one transaction."""
    wanted = bulk(await read_json(request, list[NewChannel]))
    reach, registry = Reach(request), registry_of(request)
    items = [Item(one.name, one.metadata, one.id, group=reach.place(one.group_id)) for one in wanted]
    made = await asyncio.to_thread(create_all, registry, items)
    return json_response({"channels": [shown(registry, one) for one in made]}, 201)


async def list_channels(request: Request) -> Response:
    """`GET /channels`: a page of the channels that the caller reaches."""
    return await _list_channels(request, search_of(request))


async def search_channels(request: Request) -> Response:
    """`POST /channels/search`: the list's parameters as a JSON body."""
    return await _list_channels(request, await read_json(request, Search))


async def get_channel(request: Request) -> Response:
    """`GET /channels/<id>`: one channel."""
    return json_response(shown(registry_of(request), _channel(request)))


async def edit_channel(request: Request) -> Response:
    """`PUT /channels/<id>`: another name or metadata; what is left out stays."""
    edit = await read_json(request, Edit)
    registry = registry_of(request)
    channel = await asyncio.to_thread(
        registry.update_channel, request.path_params["channel_id"], edit.name, edit.metadata
    )
    return json_response(shown(registry, channel))


async def remove_channel(request: Request) -> Response:
    """`DELETE /channels/<id>`: its messages stay until retention takes them; 204 also where there was none."""
    await remove(registry_of(request).remove_channel, request.path_params["channel_id"])
    return Response(status_code=204)


async def things_of_channel(request: Request) -> Response:
    """`GET /channels/<id>/things`: the things connected to it, or those that are not."""
    registry, reach = registry_of(request), Reach(request)
    connected = [each for each in registry.things_of(_channel(request).id) if sees(reach, each)]
    return await related(
        request,
        "things",
        connected,
        lambda: every_thing(registry, reach),
        lambda one: shown(registry, one),
    )


def _channel(request: Request) -> Channel:
    channel = registry_of(request).channel(request.path_params["channel_id"])
    if channel is None:
        raise Problem(404, "no such channel")
    return channel


async def _list_channels(request: Request, search: Search) -> Response:
    registry, reach = registry_of(request), Reach(request)
    return await listed(
        request, "channels", lambda: every_channel(registry, reach), search, lambda one: shown(registry, one)
    )


ENDPOINTS = [
    Endpoint(
        "POST",
        "/channels",
        create_channel,
        Needs.MEMBER,
        body=NewChannel,
        answers={201: MadeChannel},
        headers={"Location": "of what was made"},
        refuses=(404, 409),
    ),
    Endpoint(
        "GET",
        "/channels",
        list_channels,
        Needs.MEMBER,
        answers={200: Channels},
        parameters=LIST,
        headers=NEXT_LINK,
    ),
    Endpoint(
        "POST",
        "/channels/bulk",
        create_channels,
        Needs.MEMBER,
        body=list[NewChannel],
        answers={201: MadeChannels},
        refuses=(404, 409),
        max_body=BULK_BODY,
    ),
    Endpoint("POST", "/channels/search", search_channels, Needs.MEMBER, body=Search, answers={200: Channels}),
    Endpoint("GET", "/channels/{channel_id}", get_channel, Needs.SEE, answers={200: Shown}),
    Endpoint("PUT", "/channels/{channel_id}", edit_channel, Needs.KEEP, body=Edit, answers={200: Shown}),
    Endpoint("DELETE", "/channels/{channel_id}", remove_channel, Needs.KEEP, answers={204: None}),
    Endpoint(
        "GET",
        "/channels/{channel_id}/things",
        things_of_channel,
        Needs.SEE,
        answers={200: Things},
        parameters=RELATED,
        headers=NEXT_LINK,
    ),
]

"""Connections between things and channels, for publishing, reading or both (Mainflux 0.13, things service).

Who connects manages both sides; a connection ends when who manages either side wants it.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import operator
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.shapes import Nothing
from hub.http.table import Endpoint, Needs
from hub.http.things import registry_of
from hub.registry import Rights
from hub.users import TECHNICIAN

MAX_PAIRS = 10_000  # connections that one request makes or ends in its transaction


class Right(enum.StrEnum):
    """What a connection is for."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Pairs(Struct):
    """Each thing with each channel; `types` left out is both."""

    channel_ids: list[str]
    thing_ids: list[str]
    types: list[Right] = msgspec.field(default_factory=lambda: list(Right))


_RIGHTS = {Right.PUBLISH: Rights.PUBLISH, Right.SUBSCRIBE: Rights.SUBSCRIBE}


async def connect(request: Request) -> Response:
    """`POST /connect`: each thing to each channel, all or none."""
    pairs = await _pairs(request)
    Reach(request).demand_all(TECHNICIAN, thing_ids=pairs.thing_ids, channel_ids=pairs.channel_ids)
    await asyncio.to_thread(
        registry_of(request).connect, pairs.channel_ids, pairs.thing_ids, _rights(pairs.types)
    )
    return json_response({})


async def disconnect(request: Request) -> Response:
    """`PUT /disconnect`: live sessions lose the channel at once."""
    pairs = await _pairs(request)
    _demand_end(request, pairs.channel_ids, pairs.thing_ids)
    await asyncio.to_thread(
        registry_of(request).disconnect, pairs.channel_ids, pairs.thing_ids, _rights(pairs.types)
    )
    return json_response({})


class Joined(Struct):
    """A connection, and what it is for."""

    channel_id: str
    thing_id: str
    types: list[Right]


async def get_connection(request: Request) -> Response:
    """`GET /channels/<c>/things/<t>`: what the connection is for; 404 where there is none."""
    channel_id, thing_id = request.path_params["channel_id"], request.path_params["thing_id"]
    rights = registry_of(request).rights(channel_id, thing_id)
    if not rights:
        raise Problem(404, "no such connection")
    return json_response(Joined(channel_id, thing_id, [each for each in Right if _RIGHTS[each] & rights]))


async def connect_one(request: Request) -> Response:
    """`PUT /channels/<id>/things/<id>`: connect a thing, for publishing and reading."""
    channel_id, thing_id = request.path_params["channel_id"], request.path_params["thing_id"]
    await asyncio.to_thread(registry_of(request).connect, [channel_id], [thing_id])
    return json_response({})


async def disconnect_one(request: Request) -> Response:
    """`DELETE /channels/<id>/things/<id>`: disconnect a thing; its live sessions lose the channel at once."""
    channel_id, thing_id = request.path_params["channel_id"], request.path_params["thing_id"]
    _demand_end(request, [channel_id], [thing_id])
    await asyncio.to_thread(registry_of(request).disconnect, [channel_id], [thing_id])
    return Response(status_code=204)


async def _pairs(request: Request) -> Pairs:
    """What a body names. Raises Problem 400."""
    pairs = await read_json(request, Pairs)
    if not pairs.channel_ids or not pairs.thing_ids:
        raise Problem(400, "name at least one channel in channel_ids and one thing in thing_ids")
    if not pairs.types:
        raise Problem(400, "types holds publish, subscribe or both; leave it out for both")
    if len(pairs.channel_ids) * len(pairs.thing_ids) > MAX_PAIRS:
        raise Problem(400, f"at most {MAX_PAIRS} connections in one request")
    return pairs


def _rights(types: Iterable[Right]) -> Rights:
    return functools.reduce(operator.or_, (_RIGHTS[each] for each in types))


def _demand_end(request: Request, channel_ids: Iterable[str], thing_ids: Iterable[str]) -> None:
    """Raises Problem 403 or 404 where the caller manages neither side of a connection."""
    reach = Reach(request)
    foreign = [each for each in thing_ids if not reach.keeps(thing_id=each)]
    for channel_id in channel_ids:
        if foreign:
            reach.demand(TECHNICIAN, channel_id=channel_id)
    reach.demand_management()


ENDPOINTS = [
    Endpoint(
        *("GET", "/channels/{channel_id}/things/{thing_id}", get_connection, Needs.SEE),
        answers={200: Joined},
        refuses=(404,),
    ),
    Endpoint(
        "PUT", "/channels/{channel_id}/things/{thing_id}", connect_one, Needs.KEEP, answers={200: Nothing}
    ),
    Endpoint(
        "DELETE",
        "/channels/{channel_id}/things/{thing_id}",
        disconnect_one,
        Needs.MEMBER,
        answers={204: None},
    ),
    Endpoint("POST", "/connect", connect, Needs.MEMBER, body=Pairs, answers={200: Nothing}, refuses=(404,)),
    Endpoint(
        "PUT", "/disconnect", disconnect, Needs.MEMBER, body=Pairs, answers={200: Nothing}, refuses=(404,)
    ),
]

"""Who holds a key, and whether it may publish to a channel: what Mainflux's adapters ask of its things service."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.access import Action, Principal, Resource
from hub.http.auth import demand, hub_of, require
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.shapes import Identity, Nothing
from hub.http.table import Endpoint, Needs
from hub.registry import Thing


class ByKey(Struct):
    token: str


class ById(Struct):
    thing_id: str


async def identify(request: Request) -> Response:
    """`POST /identify {"token": <thing key>}`: the thing's id; the key itself is the credential.

    It may also come as `Authorization: Thing <key>`, without a body.
    """
    if not await request.body():
        principal = require(request)
        if principal.kind != "thing":
            raise Problem(403, "only things are identified by their keys")
        return json_response({"id": principal.id})
    return json_response({"id": (await _thing_by_key(request)).id})


async def access_by_key(request: Request) -> Response:
    """`POST /identify/channels/<c>/access-by-key {"token": <thing key>}`: 200 where the thing is connected."""
    thing = await _thing_by_key(request)
    _demand_access(request, thing.id)
    return json_response({"id": thing.id})


async def access_by_id(request: Request) -> Response:
    """`POST /identify/channels/<c>/access-by-id {"thing_id": ...}`: 200 where the thing is connected."""
    wanted = await read_json(request, ById)
    _demand_access(request, wanted.thing_id)
    return json_response({})


async def _thing_by_key(request: Request) -> Thing:
    wanted = await read_json(request, ByKey)
    thing = hub_of(request).registry.thing_by_key(wanted.token)
    if thing is None:
        raise Problem(401, "no thing has this key")
    return thing


def _demand_access(request: Request, thing_id: str) -> None:
    demand(request, Principal("thing", thing_id), Action.PUBLISH, Resource(request.path_params["channel_id"]))


ENDPOINTS = [
    # The key in the body is the credential.
    Endpoint(
        "POST",
        "/identify",
        identify,
        Needs.NOTHING,
        body=ByKey,
        body_required=False,
        answers={200: Identity},
        refuses=(401, 403),
    ),
    Endpoint(
        "POST",
        "/identify/channels/{channel_id}/access-by-key",
        access_by_key,
        Needs.NOTHING,
        body=ByKey,
        answers={200: Identity},
        refuses=(401, 403),
    ),
    Endpoint(
        "POST",
        "/identify/channels/{channel_id}/access-by-id",
        access_by_id,
        Needs.MANAGER,
        body=ById,
        answers={200: Nothing},
    ),
]

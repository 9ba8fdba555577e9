"""The forms of the 2017 workshop that other endpoints do not cover: /devices, plug and unplug.

A device of 2017 is a thing; its description is kept in the metadata. Answers carry `{"response": ..., "id": ...}`.
What a thing has no memory of (online, connected_at, created) is left out rather than made up.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.http.body import decode_json, read_json
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.table import Endpoint, Handler, Needs, Parameter
from hub.http.things import every_thing, registry_of, sees
from hub.registry import Thing
from hub.registry_items import Metadata
from hub.users import TECHNICIAN

READ_ONLY = frozenset(
    {"id", "owner", "online", "connected_at", "disconnected_at", "channels", "devices", "created", "updated"}
)
DEFAULT_CLIMIT = 100  # of a list; 2017 had none
MAX_CLIMIT = 1000


class Device(Struct):
    """What a caller may say about a device."""

    name: Annotated[str, Meta(max_length=32)] | None = None
    description: Annotated[str, Meta(max_length=256)] | None = None
    metadata: Metadata | None = None


class ShownDevice(Struct):
    id: str
    name: str
    description: str
    channels: list[str]
    metadata: Metadata


class MadeDevice(Struct):
    """A device that was just made: the one time its key is shown."""

    response: str
    id: str
    key: str


class Done(Struct):
    """What was done to which item."""

    response: str
    id: str


async def create_device(request: Request) -> Response:
    """`POST /devices`: add a thing; the body may be empty, the key is shown this once."""
    wanted = await _device_body(request)
    group, registry = Reach(request).place(None), registry_of(request)

    def make() -> tuple[Thing, str]:
        return registry.create_thing(wanted.name or "", _with_description({}, wanted), group=group)

    thing, key = await asyncio.to_thread(make)
    body = {"response": "created", "id": thing.id, "key": key}
    return json_response(body, 201, {"location": f"/devices/{thing.id}"})


async def list_devices(request: Request) -> Response:
    """`GET /devices[?climit=n]`: an empty list was 404."""
    text = request.query_params.get("climit", str(DEFAULT_CLIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_CLIMIT:
        raise Problem(400, f"climit is a number from 1 to {MAX_CLIMIT}")
    things = every_thing(registry_of(request), Reach(request))[: int(text)]
    if not things:
        raise Problem(404, "there are no devices yet; make one with POST /devices")
    return json_response([_shown(request, thing) for thing in things])


async def get_device(request: Request) -> Response:
    """`GET /devices/<id>`: one thing, as 2017 showed it."""
    return json_response(_shown(request, _thing(request)))


async def edit_device(request: Request) -> Response:
    """`PUT /devices/<id>`: another name or metadata."""
    wanted = await _device_body(request)
    thing = _thing(request)
    metadata = _with_description(thing.metadata, wanted)
    await asyncio.to_thread(registry_of(request).update_thing, thing.id, wanted.name, metadata)
    return _done("updated", thing.id)


async def remove_device(request: Request) -> Response:
    """`DELETE /devices/<id>`: remove a thing."""
    thing = _thing(request)
    await asyncio.to_thread(registry_of(request).remove_thing, thing.id)
    return _done("deleted", thing.id)


async def plug_device(request: Request) -> Response:
    """`POST /devices/<id>/plug` with a list of channel ids."""
    device_id = request.path_params["device_id"]
    channels = await read_json(request, list[str])
    Reach(request).demand_all(TECHNICIAN, channel_ids=channels)
    await asyncio.to_thread(registry_of(request).connect, channels, [device_id])
    return _done("plugged", device_id)


async def unplug_device(request: Request) -> Response:
    """`POST /devices/<id>/unplug` with a list of channel ids."""
    device_id = request.path_params["device_id"]
    channels = await read_json(request, list[str])
    await asyncio.to_thread(registry_of(request).disconnect, channels, [device_id])
    return _done("unplugged", device_id)


async def plug_channel(request: Request) -> Response:
    """`POST /channels/<id>/plug` with a list of device ids."""
    channel_id = request.path_params["channel_id"]
    devices = await read_json(request, list[str])
    Reach(request).demand_all(TECHNICIAN, thing_ids=devices)
    await asyncio.to_thread(registry_of(request).connect, [channel_id], devices)
    return _done("plugged", channel_id)


async def unplug_channel(request: Request) -> Response:
    """`POST /channels/<id>/unplug` with a list of device ids."""
    channel_id = request.path_params["channel_id"]
    devices = await read_json(request, list[str])
    await asyncio.to_thread(registry_of(request).disconnect, [channel_id], devices)
    return _done("unplugged", channel_id)


async def _device_body(request: Request) -> Device:
    """The device described in the body, which may be empty. Raises Problem 400 where a read-only field is set."""
    body = await request.body()
    if not body:
        return Device()
    wanted = await read_json(request, Device)
    fixed = READ_ONLY & decode_json(body, dict[str, Any]).keys()
    if fixed:
        raise Problem(400, f"these fields cannot be set: {', '.join(sorted(fixed))}")
    return wanted


def _with_description(metadata: Metadata, wanted: Device) -> Metadata:
    merged = dict(metadata if wanted.metadata is None else wanted.metadata)
    if wanted.description is not None:
        merged["description"] = wanted.description
    return merged


def _thing(request: Request) -> Thing:
    thing = registry_of(request).thing(request.path_params["device_id"])
    if thing is None:
        raise Problem(404, "no such device")
    return thing


def _shown(request: Request, thing: Thing) -> dict[str, Any]:
    metadata = dict(thing.metadata)
    description = metadata.pop("description", "")
    reach = Reach(request)
    channels = [each.id for each in registry_of(request).channels_of(thing.id) if sees(reach, each)]
    return {
        "id": thing.id,
        "name": thing.name,
        "description": description,
        "channels": channels,
        "metadata": metadata,
    }


def _done(response: str, item_id: str) -> Response:
    return json_response({"response": response, "id": item_id})


_CLIMIT = Parameter("climit", "devices at most", {"type": "integer", "minimum": 1, "maximum": MAX_CLIMIT})


def _plugging(path: str, handler: Handler) -> Endpoint:
    return Endpoint("POST", path, handler, Needs.KEEP, body=list[str], answers={200: Done})


ENDPOINTS = [
    Endpoint(
        "POST",
        "/devices",
        create_device,
        Needs.MEMBER,
        body=Device,
        body_required=False,
        answers={201: MadeDevice},
        headers={"Location": "of what was made"},
    ),
    Endpoint(
        "GET",
        "/devices",
        list_devices,
        Needs.MEMBER,
        answers={200: list[ShownDevice]},
        refuses=(404,),
        parameters=(_CLIMIT,),
    ),
    Endpoint("GET", "/devices/{device_id}", get_device, Needs.SEE, answers={200: ShownDevice}),
    Endpoint(
        "PUT",
        "/devices/{device_id}",
        edit_device,
        Needs.KEEP,
        body=Device,
        body_required=False,
        answers={200: Done},
    ),
    Endpoint("DELETE", "/devices/{device_id}", remove_device, Needs.KEEP, answers={200: Done}),
    _plugging("/devices/{device_id}/plug", plug_device),
    _plugging("/devices/{device_id}/unplug", unplug_device),
    _plugging("/channels/{channel_id}/plug", plug_channel),
    _plugging("/channels/{channel_id}/unplug", unplug_channel),
]

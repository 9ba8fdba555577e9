"""The gateway's part of the REST API: status, LoRaWAN devices, downlinks, live frames, upstream.

Mounted behind the hub's own endpoints; the pages are its first client. Errors are problem documents.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.live import LiveFrames
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.errors import DeviceExists, OrderError, UnknownDevice
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from gateway.provision import register, unregister
from gateway.status import StatusSource, device_view
from hub.http.auth import require_user
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.sse import Event, sse
from hub.http.table import Endpoint, Media, Needs, Parameter
from hub.hub import Hub

MAX_FRAMES = 500


class NewDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices. EUIs and keys are hex, most significant byte first."""

    dev_eui: str
    name: str = ""
    activation: str = "otaa"
    join_eui: str = ""
    app_key: str = ""
    dev_addr: str = ""
    nwk_s_key: str = ""
    app_s_key: str = ""
    codec: str = "cayenne"
    channel_id: str = ""


class AddedDevice(msgspec.Struct):
    """What adding a device made; the thing's key is shown once."""

    dev_eui: str
    thing_id: str
    thing_key: str
    channel_id: str


class DeviceView(msgspec.Struct):
    """A device as it is shown: no keys. None: not known yet."""

    dev_eui: str
    name: str
    activation: str  # otaa, abp
    join_eui: str | None
    dev_addr: str | None
    codec: str
    thing_id: str
    channel_id: str
    last_seen: float | None  # Unix seconds
    rssi_dbm: float | None
    snr_db: float | None
    sf: int | None
    fcnt_up: int | None
    fcnt_down: int | None
    uplinks: int
    battery: int | None  # DevStatusAns: 0 external power, 1..254, 255 unknown
    margin_db: int | None
    queued: int
    problem: str  # why its frames were refused last; "" once one was accepted


class Api:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, hub: Hub, server: NetworkServer, source: StatusSource, live: LiveFrames) -> None:
        self._hub, self._server, self._source, self._live = hub, server, source, live

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        after = Parameter(
            "after", "number of the last frame that is known", {"type": "integer", "minimum": 0}
        )
        limit = Parameter("limit", "frames at most", {"type": "integer", "minimum": 0, "maximum": MAX_FRAMES})
        of_one = Parameter("dev_eui", "frames of this device only")
        events = Media({"text/event-stream": {"type": "string"}})
        state = dict[str, Any]
        return [
            Endpoint("GET", "/gateway/status", self.status, Needs.USER, answers={200: state}),
            Endpoint("GET", "/upstream", self.upstream, Needs.USER, answers={200: list[state]}),
            Endpoint("GET", "/lorawan/devices", self.devices, Needs.USER, answers={200: list[DeviceView]}),
            Endpoint(
                *("POST", "/lorawan/devices", self.add_device, Needs.ADMIN),
                body=NewDevice,
                answers={201: AddedDevice},
                refuses=(409, 507),
            ),
            Endpoint(
                *("GET", "/lorawan/devices/{dev_eui}", self.device, Needs.USER),
                answers={200: DeviceView},
                refuses=(400, 404),
            ),
            Endpoint(
                *("DELETE", "/lorawan/devices/{dev_eui}", self.remove_device, Needs.ADMIN),
                answers={204: None},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("GET", "/lorawan/frames", self.frames, Needs.USER),
                answers={200: dict[str, list[state]]},
                refuses=(400,),
                parameters=(after, limit, of_one),
            ),
            Endpoint(
                *("GET", "/lorawan/frames/stream", self.stream, Needs.USER),
                answers={200: events},
                refuses=(400, 503),
                parameters=(after,),
            ),
        ]

    async def status(self, request: Request) -> Response:
        return json_response(self._source.status())

    async def upstream(self, request: Request) -> Response:
        return json_response(self._source.upstream())

    async def devices(self, request: Request) -> Response:
        return json_response([device_view(device) for device in self._server.devices()])

    async def device(self, request: Request) -> Response:
        try:
            return json_response(device_view(self._server.device(_dev_eui(request))))
        except UnknownDevice as error:
            raise Problem(404, str(error)) from None

    async def add_device(self, request: Request) -> Response:
        body = await read_json(request, NewDevice)
        try:
            config = _config(body)
            made = await register(self._hub, self._server, config, body.channel_id)
        except DeviceExists as error:
            raise Problem(409, str(error)) from None
        except (OrderError, ValueError) as error:
            raise Problem(400, str(error)) from None
        return json_response(
            {
                "dev_eui": str(made.dev_eui),
                "thing_id": made.thing_id,
                "thing_key": made.thing_key,
                "channel_id": made.channel_id,
            },
            201,
            {"location": f"/lorawan/devices/{made.dev_eui}"},
        )

    async def remove_device(self, request: Request) -> Response:
        try:
            await unregister(self._hub, self._server, _dev_eui(request))
        except UnknownDevice as error:
            raise Problem(404, str(error)) from None
        return Response(status_code=204)

    async def frames(self, request: Request) -> Response:
        after, limit = _number(request, "after", 0), _number(request, "limit", 100)
        if not 0 <= limit <= MAX_FRAMES:
            raise Problem(400, f"limit is 0 to {MAX_FRAMES}")
        text = request.query_params.get("dev_eui")
        try:
            dev_eui = str(DevEUI.parse(text)) if text is not None else None
        except ValueError as error:
            raise Problem(400, str(error)) from None
        return json_response({"frames": self._live.after(after, limit, dev_eui)})

    async def stream(self, request: Request) -> Response:
        last = request.headers.get("last-event-id", "")
        after = (
            int(last)
            if last.isascii() and last.isdigit() and len(last) < 18
            else _number(request, "after", 0)
        )

        def allowed() -> bool:
            try:
                require_user(request)
            except Problem:
                return False
            return True

        return sse(request, self._events(after), allowed)

    async def _events(self, after: int) -> AsyncIterator[Event]:
        feed = self._live.follow(after)
        try:
            async for happening in feed:
                yield Event(msgspec.json.encode(happening.shown()).decode(), str(happening.n))
        finally:
            self._live.unfollow(feed)


def _dev_eui(request: Request) -> DevEUI:
    try:
        return DevEUI.parse(request.path_params["dev_eui"])
    except ValueError as error:
        raise Problem(400, str(error)) from None


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise Problem(400, f"{name} is a whole number")
    return int(text)


def _config(body: NewDevice) -> DeviceConfig:
    """Raises ValueError and OrderError for what is missing or not hex."""
    try:
        activation = Activation(body.activation)
    except ValueError:
        raise ValueError(f"activation is otaa or abp, not {body.activation!r}") from None
    return DeviceConfig(
        dev_eui=DevEUI.parse(body.dev_eui),
        activation=activation,
        name=body.name,
        join_eui=JoinEUI.parse(body.join_eui) if body.join_eui else None,
        app_key=AES128Key.parse(body.app_key) if body.app_key else None,
        dev_addr=DevAddr.parse(body.dev_addr) if body.dev_addr else None,
        nwk_s_key=AES128Key.parse(body.nwk_s_key) if body.nwk_s_key else None,
        app_s_key=AES128Key.parse(body.app_s_key) if body.app_s_key else None,
        codec=body.codec,
    )

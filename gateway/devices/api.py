"""Devices in the REST API: registered, found, changed, adopted, listed. The pages are its first client."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.devices import qr
from gateway.devices.adopting import check_key, heard_request
from gateway.devices.asking import dev_eui_of, flag, number, problems
from gateway.devices.editing import Edit, edited
from gateway.devices.exporting import device_list
from gateway.devices.fields import Given, read
from gateway.devices.fleet import Fleet, Query, Sort
from gateway.devices.registration import Registration
from gateway.devices.reports import State
from gateway.devices.views import DeviceView
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.lorawan.errors import UnknownDevice
from gateway.lorawan.types import AES128Key, DevEUI
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs, Parameter

MAX_LIMIT = 10_000
MAX_QUERY = 100  # characters to search for
TOTAL = "x-total-count"


class AddedDevice(msgspec.Struct):
    """What adding a device made; the thing's key is shown once."""

    dev_eui: str
    thing_id: str
    thing_key: str
    channel_id: str
    warnings: list[str] = []  # what looks like a mistake and may be none


class LabelText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices/qr: what was scanned or pasted."""

    text: str


class LabelView(msgspec.Struct):
    """What a label says, as the fields of a new device. A key stands here because the caller has just sent it."""

    form: str
    dev_eui: str
    join_eui: str
    app_key: str
    nwk_key: str
    dev_addr: str
    nwk_s_key: str
    app_s_key: str
    vendor_id: str
    vendor_profile_id: str
    serial: str
    owner_token: str
    proprietary: str
    checked: bool  # the label's checksum is right
    registered: bool  # a device with this DevEUI is there already
    notes: list[str]


class Adoption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices/{dev_eui}/adopt."""

    app_key: str = ""
    nwk_key: str = ""  # of a device of LoRaWAN 1.1
    name: str = ""
    profile: str = ""
    codec: str = ""
    channel_id: str = ""
    expected_interval_s: int | None = None
    description: str = ""

    def __repr__(self) -> str:
        return "Adoption(...)"


class DevicesApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(
        self,
        registration: Registration,
        fleet: Fleet,
        diagnoser: Diagnoser,
        wall_ns: Callable[[], int],
    ) -> None:
        self._registration, self._fleet = registration, fleet
        self._diagnoser, self._wall_ns = diagnoser, wall_ns

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table: reading for every user, changing for administrators."""
        one = "/lorawan/devices/{dev_eui}"
        whole = {"type": "integer", "minimum": 0}
        return [
            Endpoint(
                *("GET", "/lorawan/devices", self.devices, Needs.USER),
                answers={200: list[DeviceView]},
                refuses=(400,),
                parameters=(
                    Parameter("q", "part of a name, DevEUI, DevAddr, description or tag"),
                    Parameter("attention", "1: only those that need somebody", {"type": "string"}),
                    Parameter("state", "only those in this state", {"type": "string", "enum": list(State)}),
                    Parameter("profile", "only those with this profile"),
                    Parameter("sort", "their order", {"type": "string", "enum": list(Sort)}),
                    Parameter("offset", "how many to pass over", whole),
                    Parameter("limit", "devices at most; all where left out", whole),
                ),
                headers={TOTAL: "how many there are in all that match"},
            ),
            Endpoint(
                *("POST", "/lorawan/devices", self.add, Needs.MANAGER),
                body=Given,
                answers={201: AddedDevice},
                refuses=(400, 404, 409, 507),
            ),
            Endpoint(
                *("POST", "/lorawan/devices/qr", self.label, Needs.USER),
                body=LabelText,
                answers={200: LabelView},
                refuses=(400,),
            ),
            Endpoint(
                *("GET", "/lorawan/devices/export", self.export, Needs.USER),
                answers={200: Media({"text/csv": {"type": "string"}})},
            ),
            Endpoint(
                *("GET", one, self.device, Needs.USER),
                answers={200: DeviceView},
                refuses=(400, 404),
            ),
            Endpoint(
                *("PUT", one, self.change, Needs.MANAGER),
                body=Edit,
                answers={200: DeviceView},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("DELETE", one, self.remove, Needs.MANAGER),
                answers={204: None},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("POST", one + "/adopt", self.adopt, Needs.MANAGER),
                body=Adoption,
                answers={201: AddedDevice},
                refuses=(400, 404, 409, 507),
            ),
        ]

    async def devices(self, request: Request) -> Response:
        """One device, without keys."""
        asked = request.query_params
        text, state, sort = asked.get("q", ""), asked.get("state", ""), asked.get("sort", "")
        if len(text) > MAX_QUERY:
            raise Problem(400, f"q has at most {MAX_QUERY} characters")
        if state and state not in list(State):
            raise Problem(400, f"state is one of {', '.join(State)}")
        if sort and sort not in list(Sort):
            raise Problem(400, f"sort is one of {', '.join(Sort)}")
        query = Query(
            text=text,
            attention=flag(request, "attention"),
            state=State(state) if state else None,
            profile=asked.get("profile", ""),
            sort=Sort(sort) if sort else Sort.LAST_SEEN,
            offset=number(request, "offset", 0, 1 << 30),
            limit=number(request, "limit", 0, MAX_LIMIT) if "limit" in asked else None,
        )
        views, total = await self._fleet.find(query)
        return json_response(views, headers={TOTAL: str(total)})

    async def device(self, request: Request) -> Response:
        """Register a device with a thing of its own; the thing's key is shown this once."""
        with problems():
            return json_response(self._fleet.view(dev_eui_of(request)))

    async def add(self, request: Request) -> Response:
        """Register a device with a thing of its own; the thing's key is shown this once."""
        given = await read_json(request, Given)
        return await self._add(given)

    async def _add(self, given: Given) -> Response:
        registration = self._registration
        with problems():
            asked = read(given, registration.profiles.all, registration.codecs(), self._known)
            made = await registration.register(asked)
        self._diagnoser.strangers.forget(str(made.dev_eui))
        added = AddedDevice(
            str(made.dev_eui), made.thing_id, made.thing_key, made.channel_id, list(asked.warnings)
        )
        return json_response(added, 201, {"location": f"/lorawan/devices/{made.dev_eui}"})

    def _known(self, dev_eui: DevEUI) -> bool:
        """What the text of a label says of a device."""
        return self._registration.server.registered(dev_eui) is not None

    async def label(self, request: Request) -> Response:
        """Change a device; what is left out stays, keys are never shown."""
        body = await read_json(request, LabelText)
        with problems():
            label = qr.parse(body.text)
        return json_response(
            LabelView(
                form=label.form,
                dev_eui=str(label.dev_eui),
                join_eui="" if label.join_eui is None else str(label.join_eui),
                app_key=_hex(label.app_key),
                nwk_key=_hex(label.nwk_key),
                dev_addr="" if label.dev_addr is None else str(label.dev_addr),
                nwk_s_key=_hex(label.nwk_s_key),
                app_s_key=_hex(label.app_s_key),
                vendor_id=label.vendor_id,
                vendor_profile_id=label.vendor_profile_id,
                serial=label.serial,
                owner_token=label.owner_token,
                proprietary=label.proprietary,
                checked=label.checked,
                registered=self._known(label.dev_eui),
                notes=list(label.notes),
            )
        )

    async def change(self, request: Request) -> Response:
        """Forget a device and its thing; its messages stay."""
        dev_eui, edit = dev_eui_of(request), await read_json(request, Edit)
        registration = self._registration
        with problems():
            device = registration.server.registered(dev_eui)
            if device is None:
                raise UnknownDevice(f"{dev_eui} is not registered")
            config, record, channel_id = edited(
                device.config,
                registration.records.get(dev_eui),
                edit,
                registration.profiles.all,
                registration.codecs(),
            )
            await registration.change(config, record, channel_id)
            return json_response(self._fleet.view(dev_eui))

    async def remove(self, request: Request) -> Response:
        """Register a device heard on air; its root key is tried on the join-request that was heard."""
        with problems():
            await self._registration.unregister(dev_eui_of(request))
        return Response(status_code=204)

    async def adopt(self, request: Request) -> Response:
        """All devices as CSV, without keys."""
        dev_eui, body = dev_eui_of(request), await read_json(request, Adoption)
        if self._known(dev_eui):
            raise Problem(409, f"{dev_eui} is registered already")
        found = heard_request(self._diagnoser.unknown, dev_eui)
        if found is None:
            raise Problem(
                404, f"no join-request of {dev_eui} was heard lately: switch the device on, or add it by hand"
            )
        heard, join_request = found
        given = Given(
            dev_eui=str(dev_eui),
            join_eui=str(join_request.join_eui),
            activation="otaa",
            **msgspec.structs.asdict(body),
        )
        registration = self._registration
        with problems():
            asked = read(given, registration.profiles.all, registration.codecs(), self._known)
            config = asked.config
            key, other, name = config.app_key, config.nwk_key, "AppKey"
            if config.nwk_key is not None:
                key, other, name = config.nwk_key, config.app_key, "NwkKey"
            assert key is not None
            check_key(join_request, key, other, name, heard.last_ns, self._wall_ns())
        return await self._add(given)

    async def export(self, request: Request) -> Response:
        """All devices as CSV, without keys."""
        views, _ = await self._fleet.find(Query(sort=Sort.NAME))
        headers = {"content-disposition": 'attachment; filename="devices.csv"'}
        return Response(await device_list(views), 200, headers, "text/csv; charset=utf-8")


def _hex(key: AES128Key | None) -> str:
    return "" if key is None else key.value.hex()

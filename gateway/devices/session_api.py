"""Sessions that move between gateways, in the REST API: of one device, and of a whole site in one file."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.devices.asking import dev_eui_of, flag, problems
from gateway.devices.registration import Registration
from gateway.devices.sealed import MAX_FILE
from gateway.devices.transfer import Arrival, Load, Transfer
from gateway.lorawan.types import DevEUI
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs, Parameter

MAX_SHOWN = 1000  # devices of a file in one answer
FILE = Media({"application/json": {"type": "object"}})


class SessionView(msgspec.Struct):
    """A device's session, without its keys. Times are Unix seconds."""

    dev_eui: str
    name: str
    activation: str
    active: bool  # there is one
    dev_addr: str | None
    version: str | None  # 1.0 or 1.1
    fcnt_up: int | None
    fcnt_down: int | None
    exported: float | None  # it was copied for another gateway
    moved: float | None  # another gateway serves it
    both: bool  # it was copied, not moved, and has been heard here since: if the other one has it both answer


class ExportOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices/{dev_eui}/session."""

    passphrase: str
    move: bool = False  # not served here any more

    def __repr__(self) -> str:
        return "ExportOrder(...)"


class ImportOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of another gateway, with its passphrase."""

    passphrase: str
    file: dict[str, Any]  # as the other gateway gave it
    channel_id: str = ""

    def __repr__(self) -> str:
        return "ImportOrder(...)"


class SiteExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/transfer/export."""

    passphrase: str
    dev_euis: list[str] = []  # empty: all
    move: bool = False

    def __repr__(self) -> str:
        return "SiteExport(...)"


class Arrived(msgspec.Struct):
    """What a file brings, or has brought."""

    gateway: str  # it comes from
    made: float
    moved: bool
    devices: int  # in the file
    received: int  # 0 with dry_run
    good: int  # can be received
    arrivals: list[Arrival]


class SessionApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, registration: Registration, transfer: Transfer) -> None:
        self._registration, self._transfer = registration, transfer

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table."""
        one = "/lorawan/devices/{dev_eui}/session"
        dry_run = Parameter("dry_run", "1: only look", {"type": "string", "enum": ["0", "1"]})
        return [
            Endpoint("GET", one, self.session, Needs.USER, answers={200: SessionView}, refuses=(400, 404)),
            Endpoint(
                *("POST", one, self.export, Needs.ADMIN),
                body=ExportOrder,
                answers={200: FILE},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("PUT", one, self.receive, Needs.ADMIN),
                body=ImportOrder,
                answers={200: Arrived},
                refuses=(400, 404, 409, 507),
            ),
            Endpoint(
                *("DELETE", one + "/move", self.take_back, Needs.ADMIN),
                answers={204: None},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("POST", "/lorawan/transfer/export", self.export_site, Needs.ADMIN),
                body=SiteExport,
                answers={200: FILE},
                refuses=(400, 404, 507),
            ),
            Endpoint(
                *("POST", "/lorawan/transfer/import", self.receive_site, Needs.ADMIN),
                body=ImportOrder,
                answers={200: Arrived},
                refuses=(400, 404, 409, 413, 507),
                parameters=(dry_run,),
                max_body=MAX_FILE + 65_536,
            ),
        ]

    async def session(self, request: Request) -> Response:
        """What a session is, and whether it was exported or moved; no keys."""
        dev_eui = dev_eui_of(request)
        device = self._registration.server.registered(dev_eui)
        if device is None:
            raise Problem(404, f"{dev_eui} is not registered")
        record, session = self._registration.records.get(dev_eui), device.session
        copied = record.exported_ns is not None and not device.moved
        return json_response(
            SessionView(
                dev_eui=device.topic,
                name=device.config.name,
                activation=device.config.activation.value,
                active=session is not None,
                dev_addr=str(session.dev_addr) if session else None,
                version=("1.1" if session.v1_1 else "1.0") if session else None,
                fcnt_up=session.fcnt_up if session else None,
                fcnt_down=session.fcnt_down.next if session else None,
                exported=None if record.exported_ns is None else record.exported_ns / 1e9,
                moved=record.moved_ns / 1e9 if device.moved and record.moved_ns is not None else None,
                both=copied and (device.last_seen_ns or 0) > (record.exported_ns or 0),
            )
        )

    async def export(self, request: Request) -> Response:
        """Export a session, sealed under a passphrase, as a copy or to move the device."""
        dev_eui, order = dev_eui_of(request), await read_json(request, ExportOrder)
        with problems():
            file = await self._transfer.export([dev_eui], order.passphrase, move=order.move)
        return _file(file, f"device-{dev_eui}.json")

    async def receive(self, request: Request) -> Response:
        """Take an exported session; the device goes on without joining."""
        dev_eui, order = dev_eui_of(request), await read_json(request, ImportOrder)
        with problems():
            load = await self._transfer.open(msgspec.json.encode(order.file), order.passphrase)
            if [each.dev_eui for each in load.arrivals] != [str(dev_eui)]:
                raise Problem(
                    400, f"the file does not hold {dev_eui} alone: it is to be received as a whole site"
                )
            _whole(load)
            made = await self._transfer.receive(load, order.channel_id)
        return json_response(_arrived(load, len(made)))

    async def take_back(self, request: Request) -> Response:
        """Take a device back that was moved to another gateway."""
        with problems():
            await self._transfer.take_back(dev_eui_of(request))
        return Response(status_code=204)

    async def export_site(self, request: Request) -> Response:
        """Many devices with their sessions in one file, sealed under a passphrase."""
        order = await read_json(request, SiteExport)
        try:
            euis = [DevEUI.parse(text) for text in order.dev_euis]
        except ValueError as error:
            raise Problem(400, str(error)) from None
        if not euis:
            euis = [device.dev_eui for device in self._registration.server.every_device() if not device.moved]
        if not euis:
            raise Problem(400, "no device is registered here")
        with problems():
            file = await self._transfer.export(list(dict.fromkeys(euis)), order.passphrase, move=order.move)
        return _file(file, "site.json")

    async def receive_site(self, request: Request) -> Response:
        """Take such a file, or say what it would do."""
        dry_run, order = flag(request, "dry_run"), await read_json(request, ImportOrder)
        with problems():
            load = await self._transfer.open(msgspec.json.encode(order.file), order.passphrase)
            if dry_run:
                return json_response(_arrived(load, 0))
            _whole(load)
            made = await self._transfer.receive(load, order.channel_id)
        return json_response(_arrived(load, len(made)))


def _whole(load: Load) -> None:
    """Raises Problem where a device of the file cannot be received: then none is."""
    wrong = [each for each in load.arrivals if each.problems]
    if wrong:
        first = wrong[0]
        devices = "1 device" if len(wrong) == 1 else f"{len(wrong)} devices"
        raise Problem(
            409,
            f"{devices} of the file cannot be received, so none was; {first.dev_eui}: {'; '.join(first.problems)}",
        )
    if not load.good:
        raise Problem(400, "the file holds no device")


def _arrived(load: Load, received: int) -> Arrived:
    head = load.head
    return Arrived(
        head.gateway,
        head.made,
        head.moved,
        len(load.arrivals),
        received,
        load.good,
        load.arrivals[:MAX_SHOWN],
    )


def _file(content: bytes, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, 200, headers, "application/json")

"""MAC commands in the REST API: what is wanted of a device and what it has agreed to, orders for it, and steering."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.lorawan import macstore, macview
from gateway.lorawan.device import Device
from gateway.lorawan.errors import OrderError
from gateway.lorawan.macview import MacView
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.steering import KEEP_ALIVE, advice
from gateway.lorawan.types import DevEUI
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.hub import Hub

MAX_NARROW = 200  # devices that the steering answer lists
ACTIONS = ("reset", "refresh", "status", "force_rejoin", "set")


class MacAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices/{dev_eui}/mac. What follows comes with the device's next answers.

    reset: take the device for one that has agreed to nothing. refresh: tell it data rate, power and channels again,
    and try again what rests. status: ask for battery and margin. force_rejoin: have a 1.1 device rejoin. set: values
    for this device alone, null takes one back.
    """

    action: str
    rejoin_type: int = 0  # of force_rejoin: 0 or 2
    values: dict[str, int | None] = {}  # of set


class Done(msgspec.Struct):
    """What an action comes to."""

    words: str


class SteeringChannel(msgspec.Struct):
    index: int
    freq_hz: int
    drs: list[int]  # data rates heard there
    default: bool  # one of the region's own


class SteeringSentence(msgspec.Struct):
    words: str
    serious: bool  # devices are lost for it


class SteeredDevice(msgspec.Struct):
    """A device that is heard less than it could be, or is not yet where it is wanted."""

    dev_eui: str
    name: str
    heard_share: float | None
    expected_share: float
    words: str


class Steering(msgspec.Struct):
    """What the radios hear and how devices are brought there."""

    mode: str  # off, auto, set, impossible
    narrow: bool  # devices are told to keep to fewer channels than they have
    region: str
    channels: list[SteeringChannel]  # empty: everything is heard
    keep_alive_uplinks: int
    sentences: list[SteeringSentence]
    devices: list[SteeredDevice]  # heard worst first


class MacApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, hub: Hub, server: NetworkServer) -> None:
        self._hub = hub
        self._server = server

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user, orders an administrator."""
        return [
            Endpoint(
                *("GET", "/lorawan/devices/{dev_eui}/mac", self.show, Needs.USER),
                answers={200: MacView},
                refuses=(404,),
            ),
            Endpoint(
                *("POST", "/lorawan/devices/{dev_eui}/mac", self.act, Needs.MANAGER),
                body=MacAction,
                answers={200: Done},
                refuses=(400, 404, 409),
            ),
            Endpoint(
                *("GET", "/lorawan/steering", self.steering, Needs.USER),
                answers={200: Steering},
            ),
        ]

    async def show(self, request: Request) -> Response:
        """What is wanted of a device, what it has agreed to, and the trace of MAC commands."""
        device = self._device(request)
        if device.session is None:
            version = device.profile.version.value
            return _json(MacView(str(device.dev_eui), device.config.name, version, session=False))
        return _json(macview.view(self._server.mac, device.session))

    async def act(self, request: Request) -> Response:
        """A technician's order to the MAC layer of a device."""
        device = self._device(request)
        asked = await read_json(request, MacAction)
        if asked.action not in ACTIONS:
            raise Problem(400, f"action is one of {', '.join(ACTIONS)}")
        if device.session is None:
            raise Problem(409, "the device has not joined yet: there is nobody to send a command to")
        layer, session = self._server.mac, device.session
        try:
            match asked.action:
                case "reset":
                    layer.forget(session)
                    words = "taken for a device that has agreed to nothing; it is told everything again"
                case "refresh":
                    layer.refresh(session)
                    words = "data rate, power and channels are told again after its next uplink"
                case "status":
                    layer.ask_status(device)
                    words = "battery and margin are asked for after its next uplink"
                case "force_rejoin":
                    layer.force_rejoin(session, asked.rejoin_type)
                    words = "it is told to rejoin after its next uplink"
                case _:
                    layer.order(session, asked.values)
                    words = "noted; what differs is asked for after its next uplink"
        except OrderError as error:
            raise Problem(400, str(error)) from None
        await self._hub.log.write([macstore.agreed(session)])
        return _json(Done(words))

    async def steering(self, _: Request) -> Response:
        """What the radios hear, and how devices are brought there."""
        plan = self._server.mac.plan
        own = len(plan.region.uplink_channels())
        known = dict(enumerate(plan.region.uplink_channels())) | dict(plan.wanted)
        heard = plan.heard or {}
        return _json(
            Steering(
                mode=plan.mode,
                narrow=plan.narrow,
                region=plan.region.name,
                channels=[
                    SteeringChannel(index, known[index], sorted(rates), index < own)
                    for index, rates in sorted(heard.items())
                ],
                keep_alive_uplinks=KEEP_ALIVE,
                sentences=[
                    SteeringSentence(each.words, each.serious) for each in advice(plan, self._server.settings)
                ],
                devices=self._badly_heard() if plan.heard is not None else [],
            )
        )

    def _badly_heard(self) -> list[SteeredDevice]:
        found = []
        for device in self._server.every_device():
            if device.session is None or not device.heard.heard:
                continue
            share = macview.heard_share(self._server.mac, device.session)
            found.append(
                SteeredDevice(
                    str(device.dev_eui), device.config.name, share.recent, share.expected, share.words
                )
            )
        found.sort(key=lambda each: each.heard_share or 0.0)
        return found[:MAX_NARROW]

    def _device(self, request: Request) -> Device:
        text = request.path_params["dev_eui"]
        try:
            device = self._server.registered(DevEUI.parse(text))
        except ValueError as error:
            raise Problem(404, str(error)) from None
        if device is None:
            raise Problem(404, f"{text} is not registered")
        return device


def warnings(server: NetworkServer) -> list[str]:
    """What of steering cannot work as it is set up, for the status."""
    return [each.words for each in advice(server.mac.plan, server.settings) if each.serious]


def _json(value: Any) -> Response:
    return json_response(msgspec.to_builtins(value))

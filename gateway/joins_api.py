"""Joins of a device in the REST API: what it has used of its nonces, and a technician's leave to begin them anew."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation, Device
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.hub import Hub

MAX_MINUTES = 24 * 60  # of leave: a technician is at the device, or will be within the day
MINUTE_NS = 60 * 10**9


class JoinsView(msgspec.Struct):
    """What is remembered of a device's joins. Holds no keys. Times are Unix seconds."""

    dev_eui: str
    name: str
    activation: str
    version: str  # LoRaWAN, of its profile
    rule: str  # rising: each DevNonce above the last; all: each once, in any order
    nonces_used: int  # of 65,536
    last_nonce: int | None  # the greatest DevNonce
    waiting: int  # joins that were granted and not yet followed by an uplink
    restart_until: float | None  # until then the device may begin its DevNonces anew


class NonceRestart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/devices/{dev_eui}/joins."""

    restart_minutes: int  # 0 takes the leave back


class JoinsApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, hub: Hub, server: NetworkServer, clock: Callable[[], Instant]) -> None:
        self._hub = hub
        self._server = server
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table."""
        path = "/lorawan/devices/{dev_eui}/joins"
        return [
            Endpoint("GET", path, self.show, Needs.USER, answers={200: JoinsView}, refuses=(404,)),
            Endpoint(
                *("POST", path, self.allow, Needs.MANAGER),
                body=NonceRestart,
                answers={200: JoinsView},
                refuses=(400, 404, 409),
            ),
        ]

    async def show(self, request: Request) -> Response:
        """What is known of a device's joins and nonces."""
        return json_response(self._view(self._device(request)))

    async def allow(self, request: Request) -> Response:
        """Allow a device that was reset to begin its nonces anew for a while."""
        device = self._device(request)
        asked = await read_json(request, NonceRestart)
        if not 0 <= asked.restart_minutes <= MAX_MINUTES:
            raise Problem(400, f"restart_minutes is 0 to {MAX_MINUTES}: somebody should be at the device")
        if device.config.activation is not Activation.OTAA:
            raise Problem(409, f"{device.dev_eui} is personalised (ABP): it never joins")
        until_ns = self._clock().wall_ns + asked.restart_minutes * MINUTE_NS if asked.restart_minutes else 0
        await self._hub.log.write(self._server.allow_nonce_restart(device.dev_eui, until_ns))
        return json_response(self._view(device))

    def _view(self, device: Device) -> JoinsView:
        used = sum(int.from_bytes(page, "little").bit_count() for _, page in device.dev_nonces.pages())
        allowed = device.nonce_restart_ns > self._clock().wall_ns
        return JoinsView(
            dev_eui=device.topic,
            name=device.config.name,
            activation=device.config.activation.value,
            version=device.profile.version.value,
            rule="rising" if device.profile.rising_nonces else "all",
            nonces_used=used,
            last_nonce=device.dev_nonces.highest if used else None,
            waiting=len(device.pending),
            restart_until=device.nonce_restart_ns / 1e9 if allowed else None,
        )

    def _device(self, request: Request) -> Device:
        text = request.path_params["dev_eui"]
        try:
            device = self._server.registered(DevEUI.parse(text))
        except ValueError as error:
            raise Problem(404, str(error)) from None
        if device is None:
            raise Problem(404, f"{text} is not registered")
        return device

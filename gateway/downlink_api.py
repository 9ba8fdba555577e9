"""Downlink orders in the REST API: ordered, listed with what became of them, taken back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.codecs import CodecError
from gateway.commands import Orderly
from gateway.downlinks import Downlinks
from gateway.lorawan import orderstore
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Order, OrderState
from gateway.lorawan.errors import OrderError, QueueFull, UnknownDevice
from gateway.lorawan.orders import device_class
from gateway.lorawan.server import NetworkServer, Queued
from gateway.lorawan.types import DevEUI
from gateway.wanted import Command, CommandError, Wanted, of_command
from hub.errors import HubError
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.hub import Hub

STATES = {
    OrderState.QUEUED: "queued",
    OrderState.IN_FLIGHT: "in_flight",
    OrderState.AWAITING_ACK: "awaiting_ack",
}

T = TypeVar("T")


class QueuedDownlink(msgspec.Struct):
    """A downlink that waits to be sent."""

    id: str


class WaitingDownlink(msgspec.Struct):
    """One order of a queue."""

    id: str
    state: str  # queued, in_flight, awaiting_ack
    fport: int
    payload: str  # hex
    confirmed: bool
    priority: int
    attempts: int
    queued: float | None  # Unix seconds; None: before the gateway kept that
    expires: float | None  # Unix seconds; None: never
    why: str  # it waits; "" where there is nothing to tell


class ReceiptView(msgspec.Struct):
    """What became of an order once."""

    id: str
    state: str  # queued, sent, acknowledged, failed
    reason: str
    time: float  # Unix seconds
    window: str  # RX1, RX2, RXC, ping slot; "" where it was not sent
    fcnt: int | None
    gateway: str  # EUI, "" where it was not sent
    attempt: int


class DownlinksView(msgspec.Struct):
    """A device's queue, in the order in which it goes, and its receipts, the newest first."""

    device_class: str
    limit: int  # orders that may wait
    queue: list[WaitingDownlink]
    receipts: list[ReceiptView]


class DownlinkApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(
        self,
        hub: Hub,
        server: NetworkServer,
        downlinks: Downlinks,
        orderly: Orderly,
        clock: Callable[[], Instant],
    ) -> None:
        self._hub = hub
        self._server = server
        self._downlinks = downlinks
        self._orderly = orderly
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        path = "/lorawan/devices/{dev_eui}/downlinks"
        return [
            Endpoint("GET", path, self.show, Needs.USER, answers={200: DownlinksView}, refuses=(400, 404)),
            Endpoint(
                *("POST", path, self.order, Needs.MANAGER),
                body=Command,
                answers={202: QueuedDownlink},
                refuses=(404, 409, 507),
            ),
            Endpoint("DELETE", path, self.flush, Needs.MANAGER, answers={204: None}, refuses=(400, 404, 507)),
            Endpoint(
                *("DELETE", f"{path}/{{id}}", self.cancel, Needs.MANAGER),
                answers={204: None},
                refuses=(400, 404, 507),
            ),
        ]

    async def show(self, request: Request) -> Response:
        """Orders that wait, and what became of the last ones."""
        device = self._server.registered(_dev_eui(request))
        if device is None:
            raise Problem(404, f"{_dev_eui(request)} is not registered")
        return json_response(
            DownlinksView(
                device_class(device).value,
                self._server.settings.max_downlinks,
                [_waiting(order) for order in device.orders],
                receipts_of(self._hub, str(device.dev_eui)),
            )
        )

    async def order(self, request: Request) -> Response:
        """Order a downlink; it is stored when the answer comes."""
        command = await read_json(request, Command)
        dev_eui = _dev_eui(request)
        queued = await accepted(self._queue(dev_eui, command))
        await durable(self._downlinks, queued)
        return json_response({"id": queued.id}, 202)

    async def _queue(self, dev_eui: DevEUI, command: Command) -> Queued:
        now = self._clock()
        wanted = of_command(Wanted(dev_eui), command, now.wall_ns / 1e9)
        return await self._orderly.queue(wanted, now)

    async def cancel(self, request: Request) -> Response:
        """Cancel one order."""
        return self._cancel(request, request.path_params["id"])

    async def flush(self, request: Request) -> Response:
        """Cancel all orders that wait."""
        return self._cancel(request, None)

    def _cancel(self, request: Request, order_id: str | None) -> Response:
        try:
            due = self._server.cancel_downlink(_dev_eui(request), order_id, self._clock())
        except OrderError as error:
            raise Problem(404, str(error)) from None
        self._downlinks.carry_out(due)
        return Response(status_code=204)


async def accepted(step: Coroutine[Any, Any, T]) -> T:
    """What `step` gives. Raises Problem for an order that is refused."""
    try:
        return await step
    except UnknownDevice as error:
        raise Problem(404, str(error)) from None
    except QueueFull as error:
        raise Problem(409, str(error)) from None
    except (OrderError, CommandError, CodecError) as error:
        raise Problem(400, str(error)) from None


async def durable(downlinks: Downlinks, queued: Queued) -> None:
    """Keep an order and wait until it is. Raises HubError where it is not."""
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: HubError | None) -> None:
        if not stored.done():
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

    downlinks.take(queued, done)
    await stored


def receipts_of(hub: Hub, about: str) -> list[ReceiptView]:
    """What is kept of a device, by its DevEUI, or of a group."""
    with contextlib.closing(hub.log.reader()) as reader:
        return [
            ReceiptView(row[0], row[1], row[2], row[3] / 1e9, row[4], row[5], row[6], row[7])
            for row in orderstore.history(reader.connection, about)
        ]


def _waiting(order: Order) -> WaitingDownlink:
    return WaitingDownlink(
        order.id,
        STATES[order.state],
        order.fport,
        order.payload.hex(),
        order.confirmed,
        order.priority,
        order.attempts,
        order.queued_ns / 1e9 or None,
        None if order.expires_ns is None else order.expires_ns / 1e9,
        order.held,
    )


def _dev_eui(request: Request) -> DevEUI:
    try:
        return DevEUI.parse(request.path_params["dev_eui"])
    except ValueError as error:
        raise Problem(400, str(error)) from None

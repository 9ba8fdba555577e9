"""Downlink orders in the REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.commands import Command, CommandError, order
from gateway.downlinks import Downlinks
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError, QueueFull, UnknownDevice
from gateway.lorawan.server import NetworkServer
from hub.errors import HubError
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs


class QueuedDownlink(msgspec.Struct):
    """A downlink that waits to be sent."""

    id: str


class DownlinkApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, server: NetworkServer, downlinks: Downlinks, clock: Callable[[], Instant]) -> None:
        self._server = server
        self._downlinks = downlinks
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        return [
            Endpoint(
                *("POST", "/lorawan/devices/{dev_eui}/downlinks", self.downlink, Needs.ADMIN),
                body=Command,
                answers={202: QueuedDownlink},
                refuses=(404, 409, 507),
            ),
        ]

    async def downlink(self, request: Request) -> Response:
        command = await read_json(request, Command)
        dev_eui = request.path_params["dev_eui"]
        try:
            queued = order(self._server, dev_eui, command, self._clock())
        except UnknownDevice as error:
            raise Problem(404, str(error)) from None
        except QueueFull as error:
            raise Problem(409, str(error)) from None
        except (OrderError, CommandError) as error:
            raise Problem(400, str(error)) from None
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: HubError | None) -> None:
            if not durable.done():
                durable.set_result(None) if error is None else durable.set_exception(error)

        self._downlinks.take(queued, done)
        await durable
        return json_response({"id": queued.id}, 202)

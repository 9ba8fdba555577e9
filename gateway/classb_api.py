"""Class B in the REST API: whether beacons are sent, and if not why not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.lorawan.classb.network import ClassBStatus
from gateway.lorawan.clock import Instant
from gateway.lorawan.server import NetworkServer
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs


class BeaconView(msgspec.Struct):
    """One beacon, or why it was left out."""

    gps_s: int  # its time: GPS seconds, a multiple of 128
    gateway: str
    freq_hz: int
    sent: bool
    outcome: str


class ClassBView(msgspec.Struct):
    """How class B stands."""

    class_b: bool  # switched on
    beacon: bool  # beacons are being sent
    problem: str  # why not
    gps_ms: int | None  # now; None: nobody knows GPS time
    next_beacon_ms: int | None  # GPS time
    freq_hz: int | None
    datr: str
    error_us: float | None  # bound of the error of the radio's time
    senders: list[str]
    devices: int  # that listen in ping slots now
    counters: dict[str, int]
    last: list[BeaconView]  # newest first


def view(status: ClassBStatus) -> ClassBView:
    return ClassBView(
        class_b=status.class_b,
        beacon=status.beacon,
        problem=status.problem,
        gps_ms=status.gps_ms,
        next_beacon_ms=status.next_beacon_ms,
        freq_hz=status.freq_hz,
        datr=status.datr,
        error_us=status.error_us,
        senders=list(status.senders),
        devices=status.devices,
        counters=dict(status.counters),
        last=[
            BeaconView(seen.beacon_s, seen.gateway.hex(), seen.freq_hz, seen.sent, seen.outcome)
            for seen in reversed(status.last)
        ],
    )


class ClassBApi:
    def __init__(self, server: NetworkServer, clock: Callable[[], Instant]) -> None:
        self._server = server
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("GET", "/lorawan/class-b", self.status, Needs.USER, answers={200: ClassBView})]

    async def status(self, request: Request) -> Response:
        """Whether beacons are sent, and if not why not."""
        return json_response(view(self._server.class_b_status(self._clock())))

    def warnings(self) -> list[str]:
        """A sentence for the pages where class B is on and no beacon is sent, though one should be."""
        settings = self._server.settings
        problem = self._server.class_b.problem(self._clock()) if settings.class_b and settings.beacon else ""
        return [f"class B: no beacon is sent: {problem}"] if problem else []

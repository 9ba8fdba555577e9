"""The radio process in the REST API: its modules and books, and what the band sounds like."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from gateway.radio_link import RadioLink
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from radio.control import ControlError

Hertz = Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)]


class Scan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /gateway/radio/scan: a part of the band, in steps."""

    start_hz: Hertz
    stop_hz: Hertz
    step_hz: Annotated[int, Meta(ge=10_000, le=10_000_000)] = 100_000
    dwell_ms: Annotated[int, Meta(ge=1, le=200)] = 5  # listened on each step
    module: Annotated[int, Meta(ge=0, le=7)] | None = None  # which one listens; None: the first that may


class ScanPoint(msgspec.Struct):
    """What one frequency sounds like."""

    freq_hz: int
    rssi_dbm: float  # median
    peak_dbm: float


class Scanned(msgspec.Struct):
    """A scanned band."""

    module: str
    points: list[ScanPoint]
    waited_ms: float  # spent giving way to frames
    frames_spared: int  # frames that came in meanwhile, and were received


class RadioApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, link: RadioLink) -> None:
        self._link = link

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        return [
            Endpoint("GET", "/gateway/radio", self.status, Needs.USER, answers={200: dict[str, Any]}),
            Endpoint(
                *("POST", "/gateway/radio/scan", self.scan, Needs.MANAGER),
                body=Scan,
                answers={200: Scanned},
                refuses=(503,),
            ),
        ]

    async def status(self, request: Request) -> Response:
        """The radio process of this machine, as it tells of itself."""
        return json_response(self._link.status())

    async def scan(self, request: Request) -> Response:
        """Listen through a part of the band."""
        wanted = await read_json(request, Scan)
        if wanted.start_hz > wanted.stop_hz:
            raise Problem(400, "start_hz is above stop_hz")
        try:
            found = await self._link.scan(msgspec.structs.asdict(wanted))
            return json_response(msgspec.to_builtins(msgspec.convert(found, Scanned)))
        except (ControlError, msgspec.ValidationError) as error:
            raise Problem(503, str(error)) from None

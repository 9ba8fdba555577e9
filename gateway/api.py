"""The gateway's own part of the REST API: status, live frames, upstream. Devices are in `gateway.devices.api`.

Mounted behind the hub's own endpoints; the pages are its first client. Errors are problem documents.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.live import LiveFrames
from gateway.lorawan.types import DevEUI
from gateway.status import StatusSource
from hub.http.auth import require_user
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.sse import Event, sse
from hub.http.table import Endpoint, Media, Needs, Parameter

MAX_FRAMES = 500


class Api:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, source: StatusSource, live: LiveFrames) -> None:
        self._source, self._live = source, live

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
        """The relays to other brokers, and how far each is."""
        return json_response(self._source.status())

    async def upstream(self, request: Request) -> Response:
        """The last frames heard, sent and refused."""
        return json_response(self._source.upstream())

    async def frames(self, request: Request) -> Response:
        """The same as they come, as server-sent events."""
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
        """The same as they come, as server-sent events."""
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


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise Problem(400, f"{name} is a whole number")
    return int(text)

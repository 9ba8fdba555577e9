"""REST routes for OSCORE contexts: a thing that speaks CoAP gets one, shown once, and may lose it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.coap.oscore import Contexts
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs


class ContextList(msgspec.Struct):
    """The contexts of a thing."""

    sender_ids: list[str]  # hex, from the thing's point of view


class NewContext(msgspec.Struct):
    """What the thing is configured with (RFC 8613, 3.2); bytes in hex. Shown once."""

    thing_id: str
    master_secret: str
    master_salt: str
    sender_id: str
    recipient_id: str
    algorithm: str
    kdf: str


class OscoreApi:
    """The handlers; `endpoints` is their part of the route table."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def endpoints(self) -> list[Endpoint]:
        """What the HTTP door mounts."""
        return [
            Endpoint(
                "GET", "/things/{thing_id}/oscore", self.list, Needs.MANAGER, answers={200: ContextList}
            ),
            Endpoint(
                *("POST", "/things/{thing_id}/oscore", self.create, Needs.ADMIN),
                answers={201: NewContext},
                refuses=(404, 507),
            ),
            Endpoint(
                *("DELETE", "/things/{thing_id}/oscore/{sender_id}", self.remove, Needs.ADMIN),
                answers={204: None},
                refuses=(404, 507),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """The OSCORE contexts of a thing, without secrets."""
        return json_response({"sender_ids": self._contexts.of(request.path_params["thing_id"])})

    async def create(self, request: Request) -> Response:
        """Make an OSCORE context; its secret is shown this once."""
        made = await self._contexts.create(request.path_params["thing_id"])
        shown = NewContext(
            made.thing,
            made.master_secret.hex(),
            made.master_salt.hex(),
            made.sender_id.hex(),
            made.recipient_id.hex(),
            made.algorithm,
            made.kdf,
        )
        place = f"/things/{made.thing}/oscore/{shown.sender_id}"
        return json_response(
            msgspec.to_builtins(shown), 201, {"location": place, "cache-control": "no-store"}
        )

    async def remove(self, request: Request) -> Response:
        """Remove an OSCORE context."""
        thing, sender_id = request.path_params["thing_id"], request.path_params["sender_id"]
        # Of another thing: `remove` says that there is no such context.
        await self._contexts.remove(sender_id if sender_id in self._contexts.of(thing) else "")
        return Response(status_code=204)

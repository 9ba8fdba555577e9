"""REST routes for OSCORE contexts of things that speak CoAP, and for all credentials of a thing together."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.coap.oscore import Contexts
from hub.http import certs
from hub.http.auth import hub_of, now_s
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.registry import Thing
from hub.tokens.grants import MAX_OF_OWNER


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


class ApiKey(msgspec.Struct):
    """A key of /keys, by its id."""

    id: str
    name: str


class Credentials(msgspec.Struct):
    """How a thing can show who it is."""

    thing_id: str
    key_version: int  # rises with each new key
    keys: list[ApiKey]
    certificates: list[certs.CertificateView]
    oscore: list[str]  # sender IDs, hex


class OscoreApi:
    """The handlers; `endpoints` is their part of the route table."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def endpoints(self) -> list[Endpoint]:
        """What the HTTP door mounts."""
        return [
            Endpoint("GET", "/things/{thing_id}/oscore", self.list, Needs.KEEP, answers={200: ContextList}),
            Endpoint(
                *("POST", "/things/{thing_id}/oscore", self.create, Needs.KEEP),
                answers={201: NewContext},
                refuses=(404, 507),
            ),
            Endpoint(
                *("DELETE", "/things/{thing_id}/oscore/{sender_id}", self.remove, Needs.KEEP),
                answers={204: None},
                refuses=(404, 507),
            ),
            Endpoint(
                *("POST", "/things/{thing_id}/oscore/{sender_id}/rotate", self.rotate, Needs.KEEP),
                answers={201: NewContext},
                refuses=(404, 507),
            ),
            Endpoint(
                *("GET", "/things/{thing_id}/credentials", self.credentials, Needs.KEEP),
                answers={200: Credentials},
                refuses=(404,),
            ),
            Endpoint(
                *("DELETE", "/things/{thing_id}/credentials", self.revoke_all, Needs.KEEP),
                answers={204: None},
                refuses=(404, 507),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """The OSCORE contexts of a thing, without secrets."""
        return json_response({"sender_ids": self._contexts.of(request.path_params["thing_id"])})

    async def create(self, request: Request) -> Response:
        """Make an OSCORE context; its secret is shown this once."""
        return await self._made(request.path_params["thing_id"])

    async def _made(self, thing_id: str) -> Response:
        made = await self._contexts.create(thing_id)
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
        await self._contexts.remove(self._sender_id(request))
        return Response(status_code=204)

    async def rotate(self, request: Request) -> Response:
        """Replace an OSCORE context by a new one, whose secret is shown this once; the old one ends at once."""
        sender_id = self._sender_id(request)
        if not sender_id:
            raise Problem(404, "there is no such OSCORE context")
        answer = await self._made(request.path_params["thing_id"])
        await self._contexts.remove(sender_id)
        return answer

    async def credentials(self, request: Request) -> Response:
        """All by which a thing can show who it is, without secrets: keys, certificates, OSCORE contexts."""
        registry = hub_of(request).registry
        thing = _thing(request)
        keys = registry.grants.of_owner("thing", thing.id).grants
        return json_response(
            Credentials(
                thing.id,
                thing.key_version,
                [ApiKey(grant.id, grant.name) for grant in keys],
                [certs.view(request, one) for one in registry.certificates.of(thing.id)],
                self._contexts.of(thing.id),
            )
        )

    async def revoke_all(self, request: Request) -> Response:
        """Take every credential from a thing that is lost or stolen; what it has opened ends at once."""
        registry = hub_of(request).registry
        thing = _thing(request)
        serials = [one.serial for one in registry.certificates.of(thing.id)]
        grants = [
            grant.id for grant in registry.grants.of_owner("thing", thing.id, limit=MAX_OF_OWNER).grants
        ]

        def revoke() -> None:
            registry.certificates.revoke(serials, now_s(request), "all credentials of the thing were revoked")
            registry.grants.remove(*grants)
            registry.rotate_key(thing.id)  # to one that nobody knows; a new one is made when it is wanted

        await asyncio.to_thread(revoke)
        for sender_id in self._contexts.of(thing.id):
            await self._contexts.remove(sender_id)
        return Response(status_code=204)

    def _sender_id(self, request: Request) -> str:
        """That of the path; "" where it is another thing's, of which there is then no such context."""
        thing, sender_id = request.path_params["thing_id"], str(request.path_params["sender_id"])
        return sender_id if sender_id in self._contexts.of(thing) else ""


def _thing(request: Request) -> Thing:
    thing = hub_of(request).registry.thing(request.path_params["thing_id"])
    if thing is None:
        raise Problem(404, "no such thing")
    return thing

"""The app behind the HTTP door: a dispatcher for the hot path, Starlette for everything else.

Order of a request: who really asks (proxies.py) -> strip `/http` or `/api` -> publish.py for a message -> the route
table (service, account, things, messages, workshop) -> routes handed in by the gateway. Whatever is raised on the way
leaves as a problem document.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from importlib import metadata

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.authority.doorkeeper import Doorkeeper
from hub.errors import HubError
from hub.http import (
    account,
    applications,
    audit,
    authorities,
    certs,
    channels,
    connections,
    enforce,
    groups,
    identity,
    keys,
    messages,
    oauth,
    openapi,
    policies,
    service,
    sessions,
    things,
    workshop,
    workshop_keys,
)
from hub.http.auth import CERTIFIED, Credentials, address_of
from hub.http.body import MAX_BODY, ClientGone, bounded, encode_json
from hub.http.export import export_shares
from hub.http.follow import Followers
from hub.http.limits import Limits
from hub.http.problem import Problem, of_hub_error, problem
from hub.http.proxies import ForwardingError, Proxies, below_prefix, vouched
from hub.http.publish import Publisher
from hub.http.service import Counters
from hub.http.sse import Streams
from hub.http.strangers import Strangers
from hub.http.stream import Shared
from hub.http.table import Endpoint, Table, TableRoute, routes
from hub.http.websocket import Sockets, deny
from hub.hub import Hub

log = logging.getLogger("hub.http")

MQTT_PATH = "/mqtt"

ENDPOINTS: list[Endpoint] = [
    *service.ENDPOINTS,
    *account.ENDPOINTS,
    *sessions.ENDPOINTS,
    *audit.ENDPOINTS,
    *things.ENDPOINTS,
    *channels.ENDPOINTS,
    *connections.ENDPOINTS,
    *groups.ENDPOINTS,
    *identity.ENDPOINTS,
    *enforce.ENDPOINTS,
    *policies.ENDPOINTS,
    *keys.ENDPOINTS,
    *certs.ENDPOINTS,
    *authorities.ENDPOINTS,
    *certs.BY_SERIAL,
    *workshop_keys.ENDPOINTS,
    *applications.ENDPOINTS,
    *oauth.ENDPOINTS,
    *messages.ENDPOINTS,
    *workshop.ENDPOINTS,
    *openapi.ENDPOINTS,
]


class HttpApp:
    """The ASGI app; `streams`, `publisher` and `add_counters` are for those who wire it."""

    def __init__(
        self,
        hub: Hub,
        extra_routes: Sequence[BaseRoute] = (),
        *,
        version: str | None = None,
        limits: Limits | None = None,
        mqtt: ASGIApp | None = None,
        gateway: str = "",
        proxies: Proxies | None = None,
    ) -> None:
        self.proxies = Proxies() if proxies is None else proxies
        self._hub = hub
        self._doorkeeper = Doorkeeper(hub, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "http")
        self._misnamed = 0  # requests that named a caller without the right to
        self.streams = Streams()
        self.followers = Followers(hub)
        hub.access.on_revoke(self.streams.recheck)
        hub.access.on_revoke(self.followers.wake)
        self._credentials = Credentials(hub)
        self.strangers = Strangers(limits or Limits())
        self.publisher = Publisher(hub, self._credentials, limits or Limits())
        shared = Shared(hub, self._credentials, self.followers, self.streams, gateway)
        self.sockets = Sockets(shared, self.publisher)
        self._mqtt = mqtt
        self._answers: dict[int, int] = {}
        self._openapi = b""
        rows = [route for route in extra_routes if isinstance(route, TableRoute)]
        self._table = Table([*routes(ENDPOINTS), *rows])
        self._starlette = Starlette(
            routes=[self._table, *(route for route in extra_routes if route not in rows)],
            exception_handlers={
                Problem: _on_problem,
                HubError: _on_hub_error,
                HTTPException: _on_http_exception,
                ClientGone: _on_client_gone,
                Exception: _on_our_bug,
            },
        )
        self._starlette.router.redirect_slashes = False
        self._longer = {
            (each.method, each.path): each.max_body for each in self.endpoints if each.max_body != MAX_BODY
        }
        state = self._starlette.state
        state.hub = hub
        state.table = self._table
        state.proxies = self.proxies
        state.credentials = self._credentials
        state.streams = self.streams
        state.shared = shared
        state.version = version or _installed_version()
        state.counters = [self.counters, hub.audit.counters]
        state.reads = messages.reading_shares()
        state.exports = export_shares()
        state.publisher = self.publisher
        state.edits = asyncio.Lock()  # what is changed on a condition is looked at and changed as one
        state.openapi = self.openapi

    @property
    def endpoints(self) -> list[Endpoint]:
        """Every row that is served, the gateway's own included."""
        return self._table.endpoints

    def openapi(self) -> bytes:
        """The OpenAPI document, as JSON text."""
        if not self._openapi:
            self._openapi = encode_json(openapi.document(self.endpoints, self._starlette.state.version))
        return self._openapi

    def add_counters(self, counters: Counters) -> None:
        """Have `/metrics` show what `counters()` returns, too."""
        self._starlette.state.counters.append(counters)

    def counters(self) -> Mapping[str, float]:
        """The door's own numbers; answers are by status."""
        numbers: dict[str, float] = {
            "fluxgate_http_streams": self.streams.open,
            "fluxgate_http_streams_refused_total": self.streams.refused,
            "fluxgate_http_stream_events_lost_total": self.streams.lost,
            "fluxgate_http_stream_gaps_total": self.followers.gaps,
            "fluxgate_http_stream_fell_behind_total": self.followers.fell_behind,
            "fluxgate_http_websockets": self.sockets.open,
            "fluxgate_http_reads_refused_total": self._starlette.state.reads.refused,
            "fluxgate_http_exports_refused_total": self._starlette.state.exports.refused,
            "fluxgate_http_idempotent_repeats_total": self.publisher.keys.repeats,
            "fluxgate_http_forwarding_refused_total": self._misnamed,
            "fluxgate_http_strangers_delayed_total": self.strangers.delayed,
        }
        for outcome, count in self.sockets.counts.items():
            numbers[f'fluxgate_http_websocket_frames_total{{outcome="{outcome}"}}'] = count
        for name, counts in (("publish", self.publisher.counts), ("request", self._answers)):
            for status, count in counts.items():
                numbers[f'fluxgate_http_{name}_answers_total{{status="{status}"}}'] = count
        return numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: requests and WebSockets."""
        if scope["type"] == "lifespan":  # our door has none; other servers ask
            await self._starlette(scope, receive, send)
            return
        try:
            self.proxies.settle(scope)
            self._take_certificate(scope)
        except (ForwardingError, Problem) as error:
            await self._refuse(scope, receive, send, error)
            return
        send = self.strangers.patient(scope, send)
        path = scope["path"] = below_prefix(scope["path"])
        if scope["type"] == "websocket":
            if path == MQTT_PATH and self._mqtt is not None:
                await self._mqtt(scope, receive, send)
            else:
                await self.sockets(scope, receive, send)
            return
        if Publisher.wants(scope["method"], path):
            await self.publisher(scope, receive, send)
            return
        limit = self._longer.get((scope["method"], path), MAX_BODY)
        await self._starlette(scope, bounded(receive, limit), self._counting(send))

    def _take_certificate(self, scope: Scope) -> None:
        """Judge the client certificate that a trusted proxy passes on as if it had been shown here.

        Raises Problem 401, which is in the audit log already.
        """
        word = vouched(scope)
        if word is None or not word.certificate:
            return
        shown = self._doorkeeper.passed_on(word.certificate, address_of(scope))
        if shown.refusal:
            raise Problem(401, shown.refusal)
        scope["state"][CERTIFIED] = shown

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, error: ForwardingError | Problem
    ) -> None:
        """Answer a request whose headers are not the sender's to send, or whose certificate does not count."""
        websocket = scope["type"] == "websocket"
        if isinstance(error, ForwardingError):
            self._misnamed += 1
            self._hub.audit.record(
                *("proxy", "refused"),
                address=address_of(scope),
                door="ws" if websocket else "http",
                resource=scope["path"],
                detail=error.reason,
            )
            error = of_hub_error(error)
        if websocket:
            await receive()  # websocket.connect
            await deny(send, error)
            return
        response = problem(error.status, error.detail, headers=error.headers)
        await response(scope, receive, self._counting(send))

    def _counting(self, send: Send) -> Send:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                self._answers[status] = self._answers.get(status, 0) + 1
            await send(message)

        return count


def create_app(
    hub: Hub,
    extra_routes: Sequence[BaseRoute] = (),
    *,
    version: str | None = None,
    limits: Limits | None = None,
    mqtt: ASGIApp | None = None,
    gateway: str = "",
    proxies: Proxies | None = None,
) -> HttpApp:
    """The app of `hub`, with the gateway's own Starlette routes behind it.

    `mqtt` serves WebSockets at /mqtt (`hub.mqtt.websocket`); `gateway` is the EUI that envelopes show; `proxies` are
    those whose word is taken for where a request comes from.
    """
    return HttpApp(
        hub, extra_routes, version=version, limits=limits, mqtt=mqtt, gateway=gateway, proxies=proxies
    )


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem(error.status, error.detail, headers=error.headers, more=error.more)


async def _on_hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    return await _on_problem(request, of_hub_error(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, or a method that a route from elsewhere does not know."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == 404:
        detail = "nothing is served at this path; GET /openapi.json lists what is"
    return problem(error.status_code, detail, headers=headers)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # goes nowhere


async def _on_our_bug(request: Request, error: Exception) -> Response:
    """Starlette raises `error` again after this answer, and uvicorn logs it with its traceback."""
    return problem(500, "this is our fault; please report what you asked for")


def _installed_version() -> str:
    try:
        return metadata.version("fluxgate")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "0"

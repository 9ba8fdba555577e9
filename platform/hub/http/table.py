"""The route table: each endpoint with the credential it demands and what it takes and answers, in one place.

An endpoint that forgets to ask cannot exist: the demand is part of its row, and `guard` runs before the handler. From
the same rows come the OpenAPI document (`hub.http.openapi`), HEAD, OPTIONS, 405 and conditional requests.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from hub.http.auditing import watched
from hub.http.auth import require, require_claimed, require_manager, require_user
from hub.http.body import MAX_BODY
from hub.http.conditional import check_precondition, tag
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.users import ADMIN, MEMBER, TECHNICIAN, VIEWER

Handler = Callable[[Request], Awaitable[Response]]

_FOUND = "fluxgate.route"  # of a scope

BEFORE_CLAIM = frozenset({"/claim", "/health"})  # all that a gateway without an owner answers to people


class Needs(enum.StrEnum):
    """What a caller must show before a handler runs. Rights to one channel are asked of `hub.access` after that."""

    NOTHING = "nothing"
    ANY = "any"  # a thing key or a user token
    THING = "thing"  # the hot path, which asks for itself
    # People, by what they may with the things, channels and groups that the path names, on the gateway or in the group
    # that holds them. Where the body names more, or nothing is named, the handler asks `hub.http.reach`.
    MEMBER = "member"  # any person
    SEE = "see"  # a viewer there or more
    KEEP = "keep"  # a technician there or more, whom the access seam lets manage
    LEAD = "lead"  # an administrator there
    # People, by their role on the gateway.
    USER = "user"  # a viewer or more: everything of the gateway may be seen
    MANAGER = "manager"  # a technician or administrator whom the access seam lets manage
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or where `place` says so a header."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Media:
    """An answer or body that is not JSON of a known shape: its media types, each with a JSON schema."""

    types: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path. What is not said of body and answers is not in the document."""

    method: str
    path: str
    handler: Handler
    needs: Needs
    body: Any = None  # a type that msgspec makes a JSON schema of, or Media
    body_required: bool = True
    answers: Mapping[int, Any] = field(default_factory=dict)  # status to type, Media, or None for no body
    refuses: tuple[int, ...] = ()  # statuses beyond those that follow from the row
    parameters: tuple[Parameter, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # of the answer, with what they say
    max_body: int = MAX_BODY  # bytes; another bound only where the path has no parameters


_ROLE_THERE: Mapping[Needs, str] = {Needs.SEE: VIEWER, Needs.KEEP: TECHNICIAN, Needs.LEAD: ADMIN}


def guard(request: Request, needs: Needs) -> None:
    """Raises Problem 401, 403 or 404 where the caller does not show what `needs` says."""
    if needs is Needs.ANY:
        require(request)
    elif needs is Needs.MEMBER:
        require_user(request, MEMBER)
    elif needs in _ROLE_THERE:
        Reach(request).demand_named(_ROLE_THERE[needs], request.path_params)
    elif needs is Needs.USER:
        require_user(request)
    elif needs is Needs.MANAGER:
        require_manager(request)
    elif needs is Needs.ADMIN:
        require_user(request, ADMIN)


class TableRoute(Route):
    """A Starlette route of one path that knows its rows of the table."""

    def __init__(self, path: str, endpoints: Mapping[str, Endpoint]) -> None:
        super().__init__(path, _Resource(endpoints))
        self.endpoints = tuple(endpoints.values())


def routes(endpoints: Iterable[Endpoint]) -> list[TableRoute]:
    """Starlette routes, one for each path in the order of first mention, so that 405 can name all methods."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        methods = paths.setdefault(endpoint.path, {})
        if endpoint.method in methods:
            raise ValueError(f"{endpoint.method} {endpoint.path} stands twice in the table")
        methods[endpoint.method] = endpoint
    return [TableRoute(path, methods) for path, methods in paths.items()]


class Table(BaseRoute):
    """All rows as one Starlette route: of some hundred paths a request is held against those of its first word."""

    def __init__(self, paths: Iterable[TableRoute]) -> None:
        self._paths = tuple(paths)
        self._by_word: dict[str, list[TableRoute]] = {}
        for route in self._paths:
            self._by_word.setdefault(_first_word(route.path), []).append(route)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Every row."""
        return [row for route in self._paths for row in route.endpoints]

    def find(self, scope: Scope) -> tuple[TableRoute, Mapping[str, Any]] | None:
        """The route of a request's path, and what the request's scope is to have beside."""
        for route in self._by_word.get(_first_word(scope["path"]), ()):
            match, found = route.matches(scope)
            if match is not Match.NONE:
                return route, found
        return None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette asks; the route that was found goes along in the scope."""
        found = self.find(scope) if scope["type"] == "http" else None
        if found is None:
            return Match.NONE, {}
        route, beside = found
        return Match.FULL, {**beside, _FOUND: route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the route that `matches` has found."""
        await scope[_FOUND].handle(scope, receive, send)


def _first_word(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


class _Resource:
    """All methods of one path, as an ASGI app."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        methods = {*endpoints, "OPTIONS", *(("HEAD",) if "GET" in endpoints else ())}
        self._allow = {"allow": ", ".join(sorted(methods))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        with watched(request) as watch:
            response = await self._answer(request)
            watch.answered(response)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = request.method
        if method == "OPTIONS":
            return Response(status_code=204, headers=self._allow)
        endpoint = self._endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise Problem(405, f"this path takes {self._allow['allow']}", headers=self._allow)
        if endpoint.needs is Needs.NOTHING and endpoint.path not in BEFORE_CLAIM:
            require_claimed(request)
        guard(request, endpoint.needs)
        if method in ("PUT", "PATCH", "DELETE"):
            await request.body()  # before the lock: a client that sends slowly must hold nobody up
            async with request.app.state.edits:
                if "if-match" in request.headers:
                    current = self._endpoints.get("GET")
                    if current is not None:
                        guard(request, current.needs)
                    check_precondition(request, await current.handler(request) if current else None)
                return await endpoint.handler(request)
        response = await endpoint.handler(request)
        return tag(request, response) if method in ("GET", "HEAD") else response

"""The route table: each endpoint with the credential it demands, in one place that a test can walk.

An endpoint that forgets to ask cannot exist: the demand is part of its row, and `guard` runs before the handler.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.http.auth import require, require_manager, require_user
from hub.http.problem import Problem

Handler = Callable[[Request], Awaitable[Response]]


class Needs(enum.StrEnum):
    """What a caller must show before a handler runs. Rights to one channel are asked of `hub.access` after that."""

    NOTHING = "nothing"
    ANY = "any"  # a thing key or a user token
    THING = "thing"  # the hot path, which asks for itself
    USER = "user"
    MANAGER = "manager"  # a user whom the access seam lets manage
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path."""

    method: str
    path: str
    handler: Handler
    needs: Needs


def guard(request: Request, needs: Needs) -> None:
    """Raises Problem 401 or 403 where the caller does not show what `needs` says."""
    if needs is Needs.ANY:
        require(request)
    elif needs is Needs.USER:
        require_user(request)
    elif needs is Needs.MANAGER:
        require_manager(request)
    elif needs is Needs.ADMIN:
        require_user(request, role="admin")


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Starlette routes, one for each path in the order of first mention, so that 405 can name all methods."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        methods = paths.setdefault(endpoint.path, {})
        if endpoint.method in methods:
            raise ValueError(f"{endpoint.method} {endpoint.path} stands twice in the table")
        methods[endpoint.method] = endpoint
    return [Route(path, _dispatch(methods), methods=list(methods)) for path, methods in paths.items()]


def _dispatch(methods: dict[str, Endpoint]) -> Handler:
    async def handle(request: Request) -> Response:
        endpoint = methods.get(request.method) or methods.get("GET" if request.method == "HEAD" else "")
        if endpoint is None:
            raise Problem(405, f"use {', '.join(sorted(methods))} here")
        guard(request, endpoint.needs)
        return await endpoint.handler(request)

    return handle

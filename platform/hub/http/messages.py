"""Reading messages back: the SenML history with the parameters of Mainflux 0.13's readers, and the forms of 2017.

In: a thing's key or a user's token and a query. Out: records, newest first, straight from `hub.history`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from hub.access import Action, Resource
from hub.errors import Busy
from hub.history import HistoryPage, Query
from hub.http.auth import demand, hub_of, require
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.stream import stream, wants_events
from hub.http.table import Endpoint, Needs
from hub.topics import parse_topic

MAX_LIMIT = 1000  # records of a page (Mainflux)
MAX_READS = 32  # queries under way; one thread answers them, so more would only wait longer

T = TypeVar("T")


async def read(request: Request) -> Response:
    """`GET /channels/<id>/messages[/<subtopic>]`: a page, or a stream for who accepts one."""
    if wants_events(request):
        return await stream(request)
    if not {"start_time", "end_time"}.isdisjoint(request.query_params.keys()):
        return await read_2017(request)
    query, echo = _query(request)
    page = await _ask(request, query)
    body = {
        "offset": page.offset,
        "limit": page.limit,
        **echo,
        "total": page.total,
        "messages": page.messages,
    }
    return json_response(body)


async def read_2017(request: Request) -> Response:
    """`GET /channels/<id>/messages?start_time=&end_time=` and `/channels/<id>/msg`: an array, oldest first."""
    query = Query(
        channel=_address(request)[0],
        subtopic=_address(request)[1] or None,
        limit=MAX_LIMIT,
        from_s=_optional(request, "start_time", _number),
        to_s=_optional(request, "end_time", _number),
    )
    page = await _ask(request, query)
    if not page.messages:
        return json_response({"response": "no results found"})
    return json_response(page.messages[::-1])


async def _ask(request: Request, query: Query) -> HistoryPage:
    """Ask access, then the history. Raises Problem 403 or 404, Busy."""
    hub = hub_of(request)
    principal = require(request)
    if principal.kind == "user" and hub.registry.channel(query.channel) is None:
        raise Problem(404, "no such channel")
    demand(request, principal, Action.SUBSCRIBE, Resource(query.channel, query.subtopic or ""))
    state = request.app.state
    if state.reads >= MAX_READS:
        raise Busy("too many queries are being answered")
    state.reads += 1
    try:
        return await hub.history.query(query)
    finally:
        state.reads -= 1


def _query(request: Request) -> tuple[Query, dict[str, Any]]:
    """The history query of a request, and the filters it gave, to be echoed. Raises Problem 400."""
    channel, below = _address(request)
    given = request.query_params
    subtopic = given.get("subtopic")
    if below:
        if subtopic and ".".join(filter(None, subtopic.replace("/", ".").split("."))) != below:
            raise Problem(400, "the path and the parameter subtopic name different subtopics")
        subtopic = below
    filters: dict[str, Any] = {
        "format": given.get("format"),
        "subtopic": subtopic,
        "publisher": given.get("publisher"),
        "protocol": given.get("protocol"),
        "name": given.get("name"),
        "v": _optional(request, "v", _number),
        "comparator": given.get("comparator"),
        "vs": given.get("vs"),
        "vb": _optional(request, "vb", _boolean),
        "vd": given.get("vd"),
        "from": _optional(request, "from", _number),
        "to": _optional(request, "to", _number),
    }
    echo = {name: value for name, value in filters.items() if value is not None}
    arguments = {{"from": "from_s", "to": "to_s"}.get(name, name): value for name, value in echo.items()}
    offset = _optional(request, "offset", _count)
    limit = _optional(request, "limit", _count)
    query = Query(
        channel=channel,
        offset=0 if offset is None else offset,
        limit=10 if limit is None else limit,
        **arguments,
    )
    return query, echo


def _address(request: Request) -> tuple[str, str]:
    """Channel and dotted subtopic of the path. Raises TopicError."""
    path = "channels/{channel_id}/messages".format(**request.path_params)
    subtopic = request.path_params.get("subtopic", "")
    address = parse_topic(f"{path}/{subtopic}" if subtopic else path)
    return address.channel, address.subtopic


def _optional(request: Request, name: str, parse: Callable[[str], T]) -> T | None:
    """A parameter parsed, None where it is absent or empty. Raises Problem 400."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise Problem(400, f"{name} {error}") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError("is a number")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("is a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("is true or false")
    return text.lower() in ("true", "1")


ENDPOINTS = [
    Endpoint("GET", "/channels/{channel_id}/messages", read, Needs.ANY),
    Endpoint("GET", "/channels/{channel_id}/messages/{subtopic:path}", read, Needs.ANY),
    Endpoint("GET", "/channels/{channel_id}/msg", read_2017, Needs.ANY),
]

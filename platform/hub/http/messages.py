"""Reading messages back: the SenML history with the parameters of Mainflux 0.13's readers, and the forms of 2017.

In: a thing's key or a user's token and a query. Out: records, newest first, straight from `hub.history`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.access import Action, Resource
from hub.errors import Busy
from hub.history import HistoryPage, Query
from hub.http.auth import demand, hub_of, require
from hub.http.problem import Problem
from hub.http.publish import Publisher
from hub.http.service import json_response
from hub.http.stream import stream, wants_events
from hub.http.table import Endpoint, Media, Needs, Parameter
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


class Published(Response):
    """Hands a request on to the hot path (`hub.http.publish`), for who comes by the table."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await cast(Publisher, scope["app"].state.publisher)(scope, receive, send)


async def publish(request: Request) -> Response:
    """`POST /channels/<id>/messages[/<subtopic>]`: store one message; 202 when it is durable."""
    return Published()


_NUMBER: dict[str, Any] = {"type": "number"}
_QUERY = (
    Parameter("offset", "records to pass over", {"type": "integer", "minimum": 0}),
    Parameter("limit", "records at most", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Parameter("format", "`messages` for SenML, or the last element of other messages' subtopic"),
    Parameter("name", "of the record"),
    Parameter("subtopic", "with dots or slashes"),
    Parameter("publisher", "a thing's id"),
    Parameter(
        "protocol", "by which it came", {"type": "string", "enum": ["http", "mqtt", "ws", "coap", "lora"]}
    ),
    Parameter("v", "value", _NUMBER),
    Parameter("comparator", "of v and vs", {"type": "string", "enum": ["eq", "lt", "le", "gt", "ge"]}),
    Parameter("vs", "text"),
    Parameter("vb", "boolean", {"type": "boolean"}),
    Parameter("vd", "data in base64url"),
    Parameter("from", "seconds since 1970, included", _NUMBER),
    Parameter("to", "seconds since 1970, excluded", _NUMBER),
    Parameter("start_time", "as from, in the form of 2017", _NUMBER),
    Parameter("end_time", "as to, in the form of 2017", _NUMBER),
)
_STREAM = (
    Parameter(
        "after", "of a stream: the number of a message to go on after", {"type": "integer", "minimum": 0}
    ),
    Parameter("envelope", "of a stream: each message with its identity", {"type": "boolean"}),
    Parameter("accept", "of a stream: the type in which payloads are shown"),
    Parameter("Last-Event-ID", "of a stream: as after", place="header"),
)
_RECORDS = Media(
    {
        "application/json": {"type": ["object", "array"]},
        "text/event-stream": {"type": "string"},
    }
)
_MESSAGE: dict[str, Any] = {
    "application/senml+json": {"type": "array", "items": {"type": "object"}, "minItems": 1},
    "application/senml+cbor": {"type": "string", "format": "binary"},
    "application/json": {},
    "application/octet-stream": {"type": "string", "format": "binary"},
}
_KEY = Parameter(
    "Idempotency-Key",
    "1 to 128 visible characters: the same message with the same key is stored once",
    {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    place="header",
)


class Sent(msgspec.Struct):
    """The message is durable; its number is in the header Fluxgate-Seq."""

    response: str


def _publishing(path: str) -> Endpoint:
    return Endpoint(
        "POST",
        path,
        publish,
        Needs.THING,
        body=Media(_MESSAGE),
        answers={202: Sent},
        refuses=(422, 429, 507),
        parameters=(_KEY,),
    )


# The hot path has its own dispatcher in the app; these rows are for the document, for OPTIONS and for 405.
PUBLISHING = [
    _publishing("/channels/{channel_id}/messages"),
    _publishing("/channels/{channel_id}/messages/{subtopic:path}"),
    _publishing("/channels/{channel_id}/msg"),
]
ENDPOINTS = [
    *(
        Endpoint("GET", path, read, Needs.ANY, answers={200: _RECORDS}, parameters=(*_QUERY, *_STREAM))
        for path in ("/channels/{channel_id}/messages", "/channels/{channel_id}/messages/{subtopic:path}")
    ),
    Endpoint("GET", "/channels/{channel_id}/msg", read_2017, Needs.ANY, answers={200: _RECORDS}),
    *PUBLISHING,
]

"""Reading messages back: the SenML history with the parameters of Mainflux 0.13's readers, and the forms of 2017.

In: a thing's key or a user's token and a query. Out: records, newest first, straight from `hub.history`.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.access import Action, Circumstances, Resource
from hub.history import HistoryPage, Query
from hub.http.auth import address_of, hub_of, require
from hub.http.export import export, wanted_type
from hub.http.problem import Problem
from hub.http.publish import Publisher
from hub.http.query import address, number, optional, read_query
from hub.http.reach import demand_channel
from hub.http.service import json_response
from hub.http.shares import Shares, caller_of
from hub.http.stream import stream, wants_events
from hub.http.table import Endpoint, Media, Needs, Parameter
from hub.reading import PLACES, answer, narrowed

MAX_LIMIT = 1000  # records of a page (Mainflux)
MAX_READS = 32  # queries under way; one thread answers them, so more would only wait longer
MAX_READS_EACH = 16  # of them, of one thing or person


async def read(request: Request) -> Response:
    """`GET /channels/<id>/messages[/<subtopic>]`: a page, newest first; a stream or a file for who accepts one."""
    if wants_events(request):
        return await stream(request)
    if not {"start_time", "end_time"}.isdisjoint(request.query_params.keys()):
        return await read_2017(request)
    query, echo = read_query(request)
    media_type = wanted_type(request)
    if media_type is not None:
        paged = [name for name in PLACES if request.query_params.get(name)]
        if paged:
            raise Problem(
                400, f"a file has all that matches: leave out {', '.join(paged)}, or give from and to"
            )
        query = _demand(request, query)
        return await export(
            request, hub_of(request).history, query, media_type, lambda: _allowed(request, query)
        )
    page = await _ask(request, query)
    links = []
    for name, relation, token in (("next", "next", page.next), ("previous", "prev", page.previous)):
        if token:
            url = request.url.remove_query_params(["next", "previous", "offset", "authorization"])
            url = url.include_query_params(**{name: token})
            links.append(f'<{url.path}?{url.query}>; rel="{relation}"')
    return json_response(answer(page, echo), headers={"link": ", ".join(links)} if links else None)


async def read_2017(request: Request) -> Response:
    """`GET /channels/<id>/messages?start_time=&end_time=` and `/channels/<id>/msg`: an array, oldest first."""
    channel, subtopic = address(request)
    query = Query(
        channel=channel,
        subtopic=subtopic or None,
        limit=MAX_LIMIT,
        from_s=optional(request, "start_time", number),
        to_s=optional(request, "end_time", number),
    )
    page = await _ask(request, query)
    if not page.messages:
        return json_response({"response": "no results found"})
    return json_response(page.messages[::-1])


async def _ask(request: Request, query: Query) -> HistoryPage:
    """Ask access, then the history. Raises Problem 403, 404, 429 or 503, Busy, Invalid."""
    query = _demand(request, query)
    reads: Shares = request.app.state.reads
    caller = caller_of(request)
    reads.admit(caller)
    with reads.taken(caller):
        return await hub_of(request).history.query(query)


def reading_shares() -> Shares:
    """How many queries may be under way."""
    return Shares(MAX_READS, MAX_READS_EACH, "queries are being answered already")


def _demand(request: Request, query: Query) -> Query:
    """The query, narrowed to the subtopics that may be seen where policies tell them apart.

    Raises Problem 401, 403 or 404.
    """
    hub, principal = hub_of(request), require(request)
    resource = Resource(query.channel, query.subtopic or "")
    demand_channel(request, principal, Action.SUBSCRIBE, resource)
    return narrowed(hub, principal, query, Circumstances("http", address_of(request.scope)))


def _allowed(request: Request, query: Query) -> bool:
    """Whether as much may still be seen as when the query began."""
    try:
        now = _demand(request, query)
    except Problem:
        return False
    return now.shown is None or (query.shown is not None and query.shown <= now.shown)


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
    Parameter("protocol", "by which it came: http, mqtt, ws, coap, lora, or what another gateway says"),
    Parameter("v", "value", _NUMBER),
    Parameter("comparator", "of v and vs", {"type": "string", "enum": ["eq", "lt", "le", "gt", "ge"]}),
    Parameter("vs", "text"),
    Parameter("vb", "boolean", {"type": "boolean"}),
    Parameter("vd", "data in base64url"),
    Parameter("from", "seconds since 1970, included", _NUMBER),
    Parameter("to", "seconds since 1970, excluded", _NUMBER),
    Parameter(
        "aggregation", "of each series", {"type": "string", "enum": ["avg", "min", "max", "sum", "count"]}
    ),
    Parameter("interval", "of an aggregation: seconds, or a duration such as 10m"),
    Parameter("next", "token of an answer: the page that follows it, older"),
    Parameter("previous", "token of an answer: the page before it, newer"),
    Parameter("export", "all as one file", {"type": "string", "enum": ["senml", "csv", "jsonl"]}),
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
        "application/senml+json": {"type": "array"},
        "text/csv": {"type": "string"},
        "application/x-ndjson": {"type": "string"},
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
        headers={"Fluxgate-Seq": "the number of the message, under which streams know it"},
    )


# The hot path has its own dispatcher in the app; these rows are for the document, for OPTIONS and for 405.
PUBLISHING = [
    _publishing("/channels/{channel_id}/messages"),
    _publishing("/channels/{channel_id}/messages/{subtopic:path}"),
    _publishing("/channels/{channel_id}/msg"),
]
ENDPOINTS = [
    *(
        Endpoint(
            "GET",
            path,
            read,
            Needs.ANY,
            answers={200: _RECORDS},
            refuses=(429,),
            parameters=(*_QUERY, *_STREAM),
        )
        for path in ("/channels/{channel_id}/messages", "/channels/{channel_id}/messages/{subtopic:path}")
    ),
    Endpoint(
        "GET", "/channels/{channel_id}/msg", read_2017, Needs.ANY, answers={200: _RECORDS}, refuses=(429,)
    ),
    *PUBLISHING,
]

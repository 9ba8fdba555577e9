"""Lists of things, channels and groups: which items, in which order, a page at a time (Mainflux 0.13).

A page is asked for by `offset`, or by `after` with the `next` of the page before, which stays right while items come
and go in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.http.body import decode_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Parameter
from hub.registry_items import Metadata, N, Page, page

MAX_PAGE = 100  # Mainflux's limit of a list
MAX_OFFSET = 1 << 31
MAX_AFTER = 8192  # characters of a token, which holds a name


class Search(Struct):
    """Which items of a list, and in which order (Mainflux 0.13; `order` "" is the order they were made in).

    `after` goes on after an earlier answer, with its `next`; it needs an `order`.
    """

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 10
    name: str = ""
    order: Annotated[str, Meta(pattern="^(name|id)?$")] = ""
    dir: Annotated[str, Meta(pattern="^(asc|desc)$")] = "asc"
    metadata: Metadata | None = None
    after: Annotated[str, Meta(max_length=MAX_AFTER)] = ""


LIST = (
    Parameter("offset", "items to pass over", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}),
    Parameter("limit", "items at most", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    Parameter("name", "a part of the name, in any case"),
    Parameter(
        "order", "sorted by; as they were made if left out", {"type": "string", "enum": ["", "name", "id"]}
    ),
    Parameter("dir", "direction", {"type": "string", "enum": ["asc", "desc"]}),
    Parameter("metadata", "a JSON object that the item's metadata contains"),
    Parameter("after", "the `next` of an answer in the same order: the page that follows it"),
)
RELATED = (*LIST, Parameter("disconnected", "those that are not connected", {"type": "boolean"}))
NEXT_LINK = {"Link": 'the page that follows as `rel="next"`, where there is one and an order was asked for'}


def search_of(request: Request) -> Search:
    """The list parameters of a query string. Raises Problem 400."""
    given: dict[str, Any] = dict(request.query_params)
    if "metadata" in given:
        given["metadata"] = decode_json(given["metadata"].encode("utf-8", "replace"), Metadata)
    try:
        return msgspec.convert(given, Search, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None


async def listed(
    request: Request,
    noun: str,
    items: Callable[[], list[N]],
    search: Search,
    shown: Callable[[N], dict[str, Any]],
) -> Response:
    """A page of `items`, chosen and sorted in a thread, for a hundred thousand take a while. Raises Invalid."""

    def choose() -> Page[N]:
        descending = search.dir == "desc"
        given = (search.offset, search.limit, search.name, search.metadata, search.order, descending)
        return page(items(), *given, after=search.after)

    chosen = await asyncio.to_thread(choose)
    body: dict[str, Any] = {
        "total": chosen.total,
        "offset": search.offset,
        "limit": search.limit,
        "order": search.order,
        "direction": search.dir,
        noun: [shown(item) for item in chosen.items],
    }
    headers = {}
    if chosen.next:
        body["next"] = chosen.next
        if request.method != "POST":
            kept = [
                (name, value)
                for name, value in request.query_params.items()
                if name not in ("after", "offset")
            ]
            query = urlencode([*kept, ("after", chosen.next)])
            headers["link"] = f'<{request.url.path}?{query}>; rel="next"'
    return json_response(body, headers=headers)


async def related(
    request: Request,
    noun: str,
    connected: list[N],
    everything: Callable[[], list[N]],
    shown: Callable[[N], dict[str, Any]],
) -> Response:
    """A page of those connected, or with `disconnected=true` of those that are not. Raises Problem 400, Invalid."""
    text = request.query_params.get("disconnected", "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise Problem(400, "disconnected is true or false")

    def others() -> list[N]:
        ids = {item.id for item in connected}
        return [item for item in everything() if item.id not in ids]

    items = others if text in ("true", "1") else lambda: connected
    return await listed(request, noun, items, search_of(request), shown)

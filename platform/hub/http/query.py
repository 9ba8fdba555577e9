"""What a request asks of the history: parameters of Mainflux 0.13's readers, page tokens, aggregation.

In: a path and a query string. Out: `hub.history.Query` and what is echoed in the answer; Problem 400 for what does not
fit, in words that name the parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

from starlette.requests import Request

from hub.history import Query
from hub.http.problem import Problem
from hub.topics import parse_topic

DEFAULT_LIMIT = 10
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")  # Go's units, and days
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# Parameters whose name is not that of the field of Query.
_FIELDS = {"from": "from_s", "to": "to_s", "interval": "interval_s", "next": "after", "previous": "before"}

T = TypeVar("T")


def read_query(request: Request) -> tuple[Query, dict[str, Any]]:
    """The history query of a request, and the filters it gave, to be echoed. Raises Problem 400, TopicError."""
    channel, below = address(request)
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
        "v": optional(request, "v", number),
        "comparator": given.get("comparator"),
        "vs": given.get("vs"),
        "vb": optional(request, "vb", boolean),
        "vd": given.get("vd"),
        "from": optional(request, "from", number),
        "to": optional(request, "to", number),
        "aggregation": optional(request, "aggregation", str.lower),
        "interval": optional(request, "interval", duration),
    }
    echo = {name: value for name, value in filters.items() if value is not None}
    tokens = {name: token for name in ("next", "previous") if (token := given.get(name))}
    arguments: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in (echo | tokens).items()}
    offset = optional(request, "offset", count)
    limit = optional(request, "limit", count)
    query = Query(
        channel=channel,
        offset=0 if offset is None else offset,
        limit=DEFAULT_LIMIT if limit is None else limit,
        **arguments,
    )
    return query, echo


def address(request: Request) -> tuple[str, str]:
    """Channel and dotted subtopic of the path. Raises TopicError."""
    path = "channels/{channel_id}/messages".format(**request.path_params)
    subtopic = request.path_params.get("subtopic", "")
    parsed = parse_topic(f"{path}/{subtopic}" if subtopic else path)
    return parsed.channel, parsed.subtopic


def optional(request: Request, name: str, parse: Callable[[str], T]) -> T | None:
    """A parameter parsed, None where it is absent or empty. Raises Problem 400."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise Problem(400, f"{name} {error}") from None


def number(text: str) -> float:
    """Raises ValueError for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError("is a number")
    return value


def count(text: str) -> int:
    """Raises ValueError for what is no whole number of at most nine digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("is a whole number")
    return int(text)


def boolean(text: str) -> bool:
    """Raises ValueError for what is neither true nor false."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("is true or false")
    return text.lower() in ("true", "1")


def duration(text: str) -> float:
    """Seconds of a number, or of a text such as `1h30m` (Go's durations, as in Mainflux). Raises ValueError."""
    if len(text) > 32:
        raise ValueError("is at most 32 characters")
    parts = _DURATION.findall(text)
    if "".join(value + unit for value, unit in parts) == text:
        return float(sum(float(value) * _UNIT_S[unit] for value, unit in parts))
    try:
        return number(text)
    except ValueError:
        raise ValueError("is a duration such as 10m or 1h30m, or a number of seconds") from None

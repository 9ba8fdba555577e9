"""What a request's address and parameters say: where, and what of the history (`hub.reading`).

Raises Problem 400 or Invalid for what does not fit, in words that name the parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import Request

from hub.history import Query
from hub.http.problem import Problem
from hub.reading import boolean, count, duration, number
from hub.reading import read_query as read_parameters
from hub.topics import parse_topic

__all__ = ["address", "boolean", "count", "duration", "number", "optional", "read_query"]

T = TypeVar("T")


def read_query(request: Request) -> tuple[Query, dict[str, Any]]:
    """The history query of a request, and the filters it gave, to be echoed. Raises Invalid, TopicError."""
    channel, below = address(request)
    return read_parameters(channel, below, request.query_params.multi_items())


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

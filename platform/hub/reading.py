"""What a reader asks of the history: the parameters of Mainflux 0.13, the same behind every door that shows records.

In: the names and values of a query string. Out: `hub.history.Query`, and what an answer repeats of it. `Invalid` names
the parameter that does not fit. Who may see what is asked at the access seam, here for all doors in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from .access import Action, Circumstances, Principal, Resource
from .errors import Invalid
from .history_model import HistoryPage, Query, dotted, read_token
from .history_view import NO_MESSAGE
from .message import Message
from .topics import Filter, subtopic_fits

if TYPE_CHECKING:
    from .hub import Hub

DEFAULT_LIMIT = 10
MAX_DURATION = 32  # characters
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,4})?", re.ASCII)  # no 1_000, no infinity
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)  # Go's units, and days
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

T = TypeVar("T")


def number(text: str) -> float:
    """Raises ValueError for what is no finite number, such as 21.5 or -1e3."""
    value = float(text) if _NUMBER.fullmatch(text) else float("nan")
    if not isfinite(value):
        raise ValueError("is a number")
    return value


def count(text: str) -> int:
    """Raises ValueError for what is no whole number of at most nine digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("is a whole number from 0 to 999999999")
    return int(text)


def boolean(text: str) -> bool:
    """Raises ValueError for what is neither true nor false."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("is true or false")
    return text.lower() in ("true", "1")


def duration(text: str) -> float:
    """Seconds of a number, or of a text such as `1h30m` (Go's durations, as in Mainflux). Raises ValueError."""
    if len(text) > MAX_DURATION:
        raise ValueError(f"is at most {MAX_DURATION} characters")
    parts = _DURATION.findall(text)
    if "".join(value + unit for value, unit in parts) == text:
        return float(sum(float(value) * _UNIT_S[unit] for value, unit in parts))
    try:
        return number(text)
    except ValueError:
        raise ValueError("is a duration such as 10m or 1h30m, or a number of seconds") from None


def _token(text: str) -> str:
    try:
        read_token(text)
    except Invalid:
        raise ValueError("is no token of an answer: send one as it came, or leave it out") from None
    return text


# A parameter's parser, and whether it says something where it is empty: a text may be the empty one.
_FILTERS: dict[str, tuple[Callable[[str], Any], bool]] = {
    "format": (str, False),
    "subtopic": (str, True),
    "publisher": (str, True),
    "protocol": (str, True),
    "name": (str, True),
    "v": (number, False),
    "comparator": (str, False),
    "vs": (str, True),
    "vb": (boolean, False),
    "vd": (str, True),
    "from": (number, False),
    "to": (number, False),
    "aggregation": (str.lower, False),
    "interval": (duration, False),
}
# Which part of what matches a page shows.
PLACES: dict[str, tuple[Callable[[str], Any], bool]] = {
    "offset": (count, False),
    "limit": (count, False),
    "next": (_token, False),
    "previous": (_token, False),
}
PARAMETERS = frozenset(_FILTERS) | frozenset(PLACES)
# Parameters whose name is not that of the field of Query.
_FIELDS = {"from": "from_s", "to": "to_s", "interval": "interval_s", "next": "after", "previous": "before"}


def read_query(channel: str, below: str, given: Iterable[tuple[str, str]]) -> tuple[Query, dict[str, Any]]:
    """The query for a channel, and for the subtopic `below` of a path where that names one, with its filters.

    What is none of `PARAMETERS` is passed over. Raises Invalid.
    """
    found: dict[str, str] = {}
    for name, text in given:
        if name in PARAMETERS and found.setdefault(name, text) != text:
            raise Invalid(f"{name} is given twice")
    filters = _parsed(found, _FILTERS)
    places = _parsed(found, PLACES)
    if "next" in places and "previous" in places:
        raise Invalid("next or previous, not both")
    if below:
        if filters.get("subtopic") and dotted(filters["subtopic"]) != below:
            raise Invalid("the path and the parameter subtopic name different subtopics")
        filters["subtopic"] = below
    arguments: dict[str, Any] = {"limit": DEFAULT_LIMIT, **filters, **places}
    query = Query(channel=channel, **{_FIELDS.get(name, name): value for name, value in arguments.items()})
    return query, {name: filters[name] for name in _FILTERS if name in filters}


def _parsed(found: dict[str, str], wanted: dict[str, tuple[Callable[[str], Any], bool]]) -> dict[str, Any]:
    return {
        name: parsed(name, found[name], parse)
        for name, (parse, may_be_empty) in wanted.items()
        if found.get(name) or (may_be_empty and name in found)
    }


def parsed(name: str, text: str, parse: Callable[[str], T]) -> T:
    """`text` by `parse`. Raises Invalid, which names the parameter."""
    try:
        return parse(text)
    except ValueError as error:
        raise Invalid(f"{name} {error}") from None


def answer(page: HistoryPage, filters: dict[str, Any]) -> dict[str, Any]:
    """A page as doors show it: what was asked for, and what was found, newest first."""
    tokens = {"next": page.next, "previous": page.previous}
    return {
        "offset": page.offset,
        "limit": page.limit,
        **filters,
        "total": page.total,
        "messages": page.messages,
        **{name: token for name, token in tokens.items() if token},
    }


async def last_message(hub: Hub, wanted: Filter) -> Message | None:
    """The last message of a topic, whatever its age; `wanted` is of one channel. Raises Busy.

    As it was published where the log still has it, else what the history has kept of it.
    """
    seq = await hub.history.last_seq(wanted)
    if seq == NO_MESSAGE:
        return None
    message = hub.log.read_one(seq)
    # Another one may stand there: SenML in the other form, or what an earlier version's file was taken over behind.
    if message is not None and matches(wanted, message):
        return message
    return await hub.history.last_kept(wanted)


def matches(wanted: Filter, message: Message) -> bool:
    """Whether `message` is one that `wanted` asks for, with a channel given."""
    return (
        message.channel == wanted.channel
        and wanted.content_type in (None, message.content_type)
        and subtopic_fits(wanted.subtopic, message.subtopic)
    )


def narrowed(hub: Hub, principal: Principal, query: Query, context: Circumstances) -> Query:
    """`query`, narrowed to the subtopics that may be seen where policies tell them apart."""
    if not hub.registry.policy_set:
        return query
    channel = query.channel
    shown = frozenset(
        subtopic
        for subtopic in hub.history.subtopics(channel)
        if hub.access.decide(principal, Action.DELIVER, Resource(channel, subtopic), context).allowed
    )
    return replace(query, shown=shown)

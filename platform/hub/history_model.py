"""What the history is asked and what it answers: queries, records, pages, and the tokens that join pages together."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from .errors import Invalid

MAX_REACH = 1_000_000  # offset + limit; farther back page by token
MAX_LIMIT = 1000  # as Mainflux
MAX_TOKEN = 64  # characters

COMPARATORS: Final = frozenset({"eq", "lt", "le", "gt", "ge"})
AGGREGATIONS: Final = frozenset({"avg", "min", "max", "sum", "count"})
MESSAGES: Final = "messages"  # the format that means SenML records
_URL_SAFE: Final = str.maketrans("-_", "+/")


class SeriesKey(NamedTuple):
    """What records of one series have in common."""

    channel: str
    subtopic: str
    publisher: str
    protocol: str
    format: str  # "" for SenML, else the format of other messages
    name: str  # of other messages ""
    unit: str  # of other messages their content type


class HistoryRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One SenML record as Mainflux's readers show it; fields without a value are left out of its JSON."""

    channel: str
    publisher: str
    protocol: str
    name: str
    time: float
    subtopic: str = ""
    unit: str = ""
    value: float | None = None
    update_time: float | None = None
    string_value: str | None = None
    bool_value: bool | None = None
    data_value: str | None = None  # base64url, as in SenML JSON
    sum: float | None = None


class HistoryMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message that is not SenML: JSON as itself, other bytes as base64."""

    channel: str
    created: int  # UTC nanoseconds
    publisher: str
    protocol: str
    payload: Any
    subtopic: str = ""
    content_type: str = ""  # of what is not JSON


class HistoryPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Part of an answer, newest first: `messages` from `offset` on, of `total` that match.

    `next` is what to pass as `Query.after` for the records that follow, "" where there are none. `previous` is
    what to pass as `Query.before` for those that came before this page, also ones that arrive later; "" where
    nothing was ever found.
    """

    offset: int
    limit: int
    total: int
    messages: list[HistoryRecord] | list[HistoryMessage]
    next: str = ""
    previous: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for (Mainflux 0.13 reader). None means "any"; 0, "" and False are values like others."""

    channel: str
    offset: int = 0
    limit: int = 10
    format: str = MESSAGES
    name: str | None = None
    subtopic: str | None = None
    publisher: str | None = None
    protocol: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None  # base64url
    comparator: str = "eq"  # of v and vs
    from_s: float | None = None  # UTC seconds, from_s <= time < to_s
    to_s: float | None = None
    after: str | None = None  # `HistoryPage.next`: only what follows it, older
    before: str | None = None  # `HistoryPage.previous`: only what comes before it, newer; the nearest of it
    aggregation: str | None = None  # one of AGGREGATIONS, of the numbers of each series in each interval
    interval_s: float | None = None  # counted from 1970
    shown: frozenset[str] | None = None  # subtopics that may be seen, dotted; None: all

    @property
    def filters_values(self) -> bool:
        return not (self.v is None and self.vs is None and self.vb is None and self.vd is None)


def check(query: Query) -> None:
    """Raises Invalid for values outside their limits."""
    if not 1 <= query.limit <= MAX_LIMIT:
        raise Invalid(f"limit is 1 to {MAX_LIMIT}")
    if query.offset < 0 or query.offset + query.limit > MAX_REACH:
        raise Invalid(f"offset is 0 to {MAX_REACH - query.limit}")
    if query.comparator not in COMPARATORS:
        raise Invalid(f"comparator is one of {', '.join(sorted(COMPARATORS))}")
    if query.after is not None and query.before is not None:
        raise Invalid("after or before, not both")
    if (query.aggregation is None) != (query.interval_s is None):
        raise Invalid("aggregation and interval go together")
    if query.aggregation is not None:
        if query.aggregation not in AGGREGATIONS:
            raise Invalid(f"aggregation is one of {', '.join(sorted(AGGREGATIONS))}")
        if query.format != MESSAGES:
            raise Invalid("only SenML records have values to aggregate")
        if query.after is not None or query.before is not None:
            raise Invalid("what is aggregated is paged by offset and limit")
        if not 1e-3 <= (query.interval_s or 0.0) <= 1e10:
            raise Invalid("interval is 0.001 to 1e10 seconds")


def dotted(subtopic: str | None) -> str | None:
    """A subtopic with slashes or dots as it is kept."""
    return subtopic if subtopic is None else ".".join(filter(None, subtopic.replace("/", ".").split(".")))


def data_bytes(text: str) -> bytes:
    """The bytes of a `vd`, of either alphabet of RFC 4648. Raises Invalid."""
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise Invalid("vd is base64url") from None


# Tokens


class Place(NamedTuple):
    """Where a record stands: by time, then series, then the order in which equal ones arrived."""

    time: float
    series: int
    rank: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[float, int, int]).decode


def write_token(place: Place) -> str:
    """`place` as opaque text; it holds while records are added, moved and compressed."""
    packed = _encode(tuple(place))
    return base64.urlsafe_b64encode(zlib.crc32(packed).to_bytes(4, "big") + packed).rstrip(b"=").decode()


def read_token(text: str) -> Place:
    """Raises Invalid where `text` is not one of ours."""
    try:
        if len(text) > MAX_TOKEN:
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        if zlib.crc32(raw[4:]).to_bytes(4, "big") != raw[:4]:
            raise ValueError
        return Place(*_decode(raw[4:]))
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise Invalid("no token of a page") from None

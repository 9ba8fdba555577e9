"""Pages of the history over CoAP: what `GET` with a parameter of Mainflux's readers is answered with.

The questions and the answers are those of the HTTP door (`hub.reading`); the answer is JSON or CBOR of the same shape,
or a SenML pack of the records alone. A page is cut down to what a client can be expected to fetch block by block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import msgspec

from hub import senml
from hub.access import Circumstances, Principal
from hub.coap.blocks import Shown
from hub.coap.formats import FORMATS
from hub.coap.packets import Code
from hub.coap.request import Refusal
from hub.errors import UnsupportedType
from hub.history import HistoryPage, Query
from hub.history_export import senml_records
from hub.hub import Hub
from hub.message import JSON, SENML_CBOR, SENML_JSON
from hub.reading import PARAMETERS, answer, narrowed, read_query
from hub.topics import ANY, REST, Filter

CBOR_FORMAT = 60
PAGE_FORMATS = (FORMATS[JSON], CBOR_FORMAT, FORMATS[SENML_JSON], FORMATS[SENML_CBOR])
ETAG_BYTES = 7  # beside the format's number


def asks_history(queries: tuple[tuple[str, str], ...]) -> bool:
    """Whether a GET with these parameters asks for records rather than for the last message."""
    return any(name in PARAMETERS for name, _ in queries)


def history_query(wanted: Filter, queries: tuple[tuple[str, str], ...]) -> tuple[Query, dict[str, Any]]:
    """The query, and the filters to repeat. As over HTTP a path without a subtopic is all of the channel.

    Raises Refusal, Invalid.
    """
    below = "" if wanted.subtopic == REST else wanted.subtopic
    if {ANY, REST} & set(below.split(".")):
        raise Refusal(Code.BAD_REQUEST, "the history is asked for one subtopic, or for all of them")
    return read_query(wanted.channel, below, queries)


async def page(
    hub: Hub,
    principal: Principal,
    asked: tuple[Query, dict[str, Any]],
    context: Circumstances,
    number: int | None,
    max_bytes: int,
) -> Shown:
    """What is found, as content format `number` (None: JSON), in `max_bytes` but for a single larger record.

    Raises Refusal, Invalid, Busy.
    """
    query, filters = asked
    encode = _ENCODERS.get(FORMATS[JSON] if number is None else number)
    if encode is None:
        raise Refusal(Code.NOT_ACCEPTABLE, f"a page comes as {', '.join(map(str, PAGE_FORMATS))}")
    query = narrowed(hub, principal, query, context)
    while True:
        found = await hub.history.query(query)
        try:
            payload = encode(found, filters)
        except UnsupportedType:
            raise Refusal(Code.NOT_ACCEPTABLE, "only SenML records are shown as SenML") from None
        records = len(found.messages)
        if len(payload) <= max_bytes or records <= 1:
            break
        # At least a quarter fewer, so that a few turns are enough whatever the records' sizes are.
        query = replace(query, limit=max(1, min(records * max_bytes // len(payload), records * 3 // 4)))
    content_format = FORMATS[JSON] if number is None else number
    tag = hashlib.blake2b(payload, digest_size=ETAG_BYTES).digest()
    return Shown(payload, content_format, tag + bytes((content_format,)))


def _json(found: HistoryPage, filters: dict[str, Any]) -> bytes:
    return msgspec.json.encode(answer(found, filters))


def _cbor(found: HistoryPage, filters: dict[str, Any]) -> bytes:
    return cbor2.dumps(msgspec.to_builtins(answer(found, filters)))


def _senml_json(found: HistoryPage, _filters: dict[str, Any]) -> bytes:
    return senml.encode_pack_json(_pack(found))


def _senml_cbor(found: HistoryPage, _filters: dict[str, Any]) -> bytes:
    return senml.encode_pack_cbor(_pack(found))


def _pack(found: HistoryPage) -> list[senml.PackRecord]:
    """Resolved records are in the order of time (RFC 8428, 4.6). Raises UnsupportedType."""
    return [senml.PackRecord(**fields) for fields in reversed(senml_records(found.messages))]


_ENCODERS: dict[int, Callable[[HistoryPage, dict[str, Any]], bytes]] = dict(
    zip(PAGE_FORMATS, (_json, _cbor, _senml_json, _senml_cbor), strict=True)
)

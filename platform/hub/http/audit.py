"""`/audit`: the audit log for administrators: pages newest first, export, and the check of its chain.

`docs/audit.md` says what is in it. Reading it leaves no line; exporting does.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sqlite3
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.audit import KINDS
from hub.audit_chain import Line, Verdict
from hub.http.auth import hub_of, principal_of
from hub.http.body import encode_json, read_json
from hub.http.export import Download
from hub.http.problem import Problem
from hub.http.proxies import PAGES
from hub.http.query import count, number, optional
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs, Parameter

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_TEXT = 256
EXPORT_PAGE = 1000
OUTCOMES = ("allowed", "refused", "done")
CSV, JSON_LINES = "text/csv", "application/jsonl"
_COLUMNS = (
    *(
        "n",
        "time",
        "quality",
        "boot",
        "kind",
        "outcome",
        "who",
        "email",
        "address",
        "door",
        "resource",
        "detail",
    ),
    "count",
)


class LineShown(msgspec.Struct):
    """One line: `time` in UTC seconds of that quality, `email` of `who` where it is a person's account."""

    n: int
    time: float
    quality: str
    boot: str
    kind: str
    outcome: str
    who: str
    email: str
    address: str
    door: str
    resource: str
    detail: str
    count: int


class AuditPage(msgspec.Struct):
    """Lines, newest first. `before` asks for the next page; 0 on the last one. `problem`: why nothing is written."""

    lines: list[LineShown]
    before: int
    lost: int
    problem: str


class PageRefusal(msgspec.Struct):
    """A request of a browser that the pages did not carry out, and why."""

    resource: str
    detail: str


async def list_lines(request: Request) -> Response:
    """`GET /audit`: what was done, allowed and refused, newest first."""
    where, parameters = _filter(request)
    limit = optional(request, "limit", count)
    limit = DEFAULT_LIMIT if limit is None else limit
    if not 1 <= limit <= MAX_LIMIT:
        raise Problem(400, f"limit is 1 to {MAX_LIMIT}")
    found = await _read(request, where, parameters, limit + 1)
    audit = hub_of(request).audit
    more = found[limit - 1].n if len(found) > limit else 0
    return json_response(
        AuditPage([_shown(request, each) for each in found[:limit]], more, audit.lost, audit.problem)
    )


async def export(request: Request) -> Response:
    """`GET /audit/export`: all lines that the filters let through, newest first, as CSV or JSON Lines."""
    wanted = request.query_params.get("format", "csv")
    if wanted not in ("csv", "jsonl"):
        raise Problem(400, "format is csv or jsonl")
    where, parameters = _filter(request)
    first = await _read(request, where, parameters, EXPORT_PAGE)
    hub_of(request).audit.record("audit", "done", resource="export", detail=request.url.query)

    async def body() -> AsyncIterator[bytes]:
        if wanted == "csv":
            yield _csv([_COLUMNS])
        lines = first
        while lines:
            yield _page(request, lines, wanted)
            lines = await _read(request, f"({where}) AND n < ?", (*parameters, lines[-1].n), EXPORT_PAGE)

    name = f'attachment; filename="audit.{wanted}"'
    return Download(body(), 200, {"content-disposition": name}, CSV if wanted == "csv" else JSON_LINES)


async def note_refusal(request: Request) -> Response:
    """`POST /audit/pages`: the gateway's own pages tell of a form that they refused; for nobody else."""
    if not request.scope.get("state", {}).get(PAGES):
        raise Problem(403, "this is for the gateway's own pages")
    refused = await read_json(request, PageRefusal)
    who = principal_of(request)
    hub_of(request).audit.record(
        "access",
        "refused",
        who=f"{who.kind}s/{who.id}" if who else "",
        door="pages",
        resource=refused.resource,
        detail=refused.detail,
    )
    return Response(status_code=204)


async def verify(request: Request) -> Response:
    """`GET /audit/verify`: walk the whole chain; says which lines were changed, removed or moved."""
    audit = hub_of(request).audit
    await asyncio.to_thread(audit.flush)
    try:
        return json_response(await asyncio.to_thread(audit.verify))
    except sqlite3.Error as error:
        raise Problem(503, f"the audit log cannot be read: {audit.problem or error}") from None


def _filter(request: Request) -> tuple[str, tuple[object, ...]]:
    """SQL of the filters. Raises Problem 400."""
    given = request.query_params
    where: list[str] = []
    parameters: list[object] = []
    for name, known in (("kind", KINDS), ("outcome", OUTCOMES)):
        if value := given.get(name):
            chosen = value.split(",")
            if not set(chosen) <= set(known):
                raise Problem(400, f"{name} is one or several of {', '.join(known)}, with commas between")
            where.append(f"{name} IN ({', '.join('?' * len(chosen))})")
            parameters += chosen
    if who := given.get("who", "")[:MAX_TEXT]:
        user = hub_of(request).registry.user_by_email(who)
        where.append("who IN (?, ?)")
        parameters += [who.lower() if "@" in who else who, f"users/{user.id}" if user else who]
    if address := given.get("address", "")[:MAX_TEXT]:
        where.append("address = ?")
        parameters.append(address)
    if text := given.get("text", "")[:MAX_TEXT]:
        # The ids of people are kept; whoever searches types an address.
        ids = [
            f"users/{each.id}"
            for each in hub_of(request).registry.users()
            if text.lower() in each.email.lower()
        ]
        ids = ids[:50]
        fields = "lower(who || char(10) || address || char(10) || resource || char(10) || detail)"
        where.append(f"(instr({fields}, ?) > 0 OR who IN ({', '.join('?' * len(ids))}))")
        parameters += [text.lower(), *ids]
    for name, comparison in (("from", ">="), ("to", "<")):
        moment = optional(request, name, number)
        if moment is not None:
            where.append(f"time_ns {comparison} ?")
            parameters.append(max(-(2**63), min(2**63 - 1, int(moment * 1e9))))
    before = optional(request, "before", count)
    if before:
        where.append("n < ?")
        parameters.append(before)
    return " AND ".join(where) or "1", tuple(parameters)


async def _read(request: Request, where: str, parameters: tuple[object, ...], limit: int) -> list[Line]:
    """In a thread, with what was recorded until now. Raises Problem 503 where the disk does not let it be read."""
    audit = hub_of(request).audit

    def read() -> list[Line]:
        audit.flush()
        if not audit.path.exists():
            return []
        with audit.reader() as reader:
            return reader.lines(where, parameters, limit)

    try:
        return await asyncio.to_thread(read)
    except sqlite3.Error as error:
        raise Problem(503, f"the audit log cannot be read: {audit.problem or error}") from None


def _shown(request: Request, line: Line) -> LineShown:
    user_id = line.who.removeprefix("users/") if line.who.startswith("users/") else ""
    user = hub_of(request).registry.assigned(user_id) if user_id else None
    return LineShown(
        *(line.n, line.time_ns / 1e9, line.quality, line.boot, line.kind, line.outcome, line.who),
        *(user.email if user else "", line.address, line.door, line.resource, line.detail, line.count),
    )


def _page(request: Request, lines: list[Line], wanted: str) -> bytes:
    shown = [_shown(request, each) for each in lines]
    if wanted == "jsonl":
        return b"".join(encode_json(each) + b"\n" for each in shown)
    return _csv([[neutral(str(each)) for each in msgspec.structs.astuple(one)] for one in shown])


def neutral(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


_FILTERS = (
    Parameter("kind", f"one or several, with commas between, of {', '.join(KINDS)}"),
    Parameter("outcome", "one or several of allowed, refused, done"),
    Parameter("who", "users/<id>, things/<id>, or a person's address"),
    Parameter("address", "network address it came from"),
    Parameter("text", "anywhere in who, address, resource or detail, in any case"),
    Parameter("from", "UTC seconds", {"type": "number"}),
    Parameter("to", "UTC seconds, not included", {"type": "number"}),
    Parameter("before", "lines with smaller numbers", {"type": "integer", "minimum": 0}),
)

ENDPOINTS = [
    Endpoint(
        *("GET", "/audit", list_lines, Needs.ADMIN),
        answers={200: AuditPage},
        refuses=(400, 503),
        parameters=(
            *_FILTERS,
            Parameter("limit", "lines of a page", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
        ),
    ),
    Endpoint(
        *("GET", "/audit/export", export, Needs.ADMIN),
        answers={200: Media({CSV: {"type": "string"}, JSON_LINES: {"type": "string"}})},
        refuses=(400, 503),
        parameters=(*_FILTERS, Parameter("format", "", {"enum": ["csv", "jsonl"]})),
    ),
    # The pages' key is the credential.
    Endpoint(
        *("POST", "/audit/pages", note_refusal, Needs.NOTHING),
        body=PageRefusal,
        answers={204: None},
        refuses=(403,),
    ),
    Endpoint(*("GET", "/audit/verify", verify, Needs.ADMIN), answers={200: Verdict}, refuses=(503,)),
]

"""A whole history as one file: SenML, CSV or JSON Lines, sent while it is read, one part in memory at a time.

Asked for by `Accept`, or by `?export=`, since `format` is Mainflux's name of a kind of message. Oldest first. An export
that cannot go on, or whose right has ended, is cut off: a client never takes a part for the whole.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Send

from hub.history import History, Query
from hub.history_export import CSV, JSON_LINES, encoder
from hub.history_model import MESSAGES
from hub.http.body import ClientGone
from hub.http.problem import Problem
from hub.http.shares import Shares, caller_of
from hub.message import SENML_JSON

log = logging.getLogger(__name__)

MAX_EXPORTS = 4  # under way; each reads for as long as its client takes
MAX_EXPORTS_EACH = 2  # of them, of one thing or person

FORMS = {
    "senml": SENML_JSON,
    "csv": CSV,
    "jsonl": JSON_LINES,
}  # of `?export=`, which also ends the file's name
_ENDINGS = {SENML_JSON: "json", CSV: "csv", JSON_LINES: "jsonl"}
_ACCEPTED = {SENML_JSON: SENML_JSON, CSV: CSV, JSON_LINES: JSON_LINES, "application/jsonl": JSON_LINES}


def wanted_type(request: Request) -> str | None:
    """The media type of the file that is asked for; None for a page. Raises Problem 400."""
    named = request.query_params.get("export")
    if named:
        if named not in FORMS:
            raise Problem(400, f"export is one of {', '.join(FORMS)}")
        return FORMS[named]
    for part in request.headers.get("accept", "").lower().split(","):
        media_type = _ACCEPTED.get(part.partition(";")[0].strip())
        if media_type is not None:
            return media_type
    return None


async def export(
    request: Request, history: History, query: Query, media_type: str, allowed: Callable[[], bool]
) -> Response:
    """All that a query finds, as a file of `media_type`. Raises Problem 400, 429 or 503, Invalid, Busy."""
    if query.aggregation is not None:
        raise Problem(400, "what is aggregated is read in pages, not exported")
    if media_type == SENML_JSON and query.format != MESSAGES:
        raise Problem(400, "only SenML records can be exported as SenML; take export=csv or export=jsonl")
    exports: Shares = request.app.state.exports
    caller = caller_of(request)
    exports.admit(caller)
    parts, writer = history.export(query), encoder(media_type)
    part = await anext(parts, None)
    # What is wrong with the query is said before the answer begins.
    begin = writer.begin() + (writer.part(part) if part is not None else b"")
    exports.admit(caller)  # once more: others may have begun while the first part was read

    async def file() -> AsyncIterator[bytes]:
        with exports.taken(caller):
            yield begin
            async for part in parts:
                if not allowed():
                    raise _Over
                yield writer.part(part)
            yield writer.end()

    headers = {
        "content-disposition": f'attachment; filename="{query.channel}.{_ENDINGS[media_type]}"',
        "cache-control": "no-store",
        "vary": "authorization, accept",
    }
    return _File(file(), media_type=media_type, headers=headers)


def export_shares() -> Shares:
    """How many exports may be under way."""
    return Shares(MAX_EXPORTS, MAX_EXPORTS_EACH, "exports are under way already")


class _Over(Exception):
    """The right to what is being exported has ended."""


class Download(StreamingResponse):
    """What is sent while it is read, until the client leaves."""

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """One that has sent half a body, or too much of one, counts as gone: it is too late to say so."""
        with contextlib.suppress(ClientGone, Problem):
            await super().listen_for_disconnect(receive)


class _File(Download):
    """A file that may break off. Its last part is then never sent, from which a client knows that it is not whole."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except _Over:
            log.warning("an export is cut off: the right to its channel, or its credential, has ended")

"""Conditional requests (RFC 9110, 13): an ETag on what is read, If-None-Match to save sending it again, If-Match to
change only what has not changed since.

The tag is a hash of the representation, so it needs no version kept anywhere and survives a restart.
"""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from hub.http.problem import Problem


def tag(request: Request, response: Response) -> Response:
    """`response` with its ETag, or 304 where the caller has it already. Only whole JSON answers have tags."""
    if response.status_code != 200 or response.media_type != "application/json":
        return response
    etag = etag_of(response)
    headers = {"etag": etag, "cache-control": "private, no-cache", "vary": "authorization, accept"}
    if _listed(etag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def check_precondition(request: Request, current: Response | None) -> None:
    """Raises Problem 412 where `If-Match` names no tag of what is there now; `current` None has none."""
    wanted = request.headers["if-match"]
    if current is None or not _listed(etag_of(current), wanted):
        raise Problem(412, "this was changed since you read it: read it again and repeat the change")


def etag_of(response: Response) -> str:
    """The strong entity tag of a whole answer."""
    return f'"{hashlib.blake2b(bytes(response.body), digest_size=12).hexdigest()}"'


def _listed(etag: str, header: str) -> bool:
    """Whether `header` lists the tag or `*`; a proxy that compressed it may have made it weak."""
    tags = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in tags or tags == ["*"]

"""Errors as the HTTP door answers them: RFC 9457 problem documents with Mainflux's `error` beside.

Every refusal of this door is one of these, whatever raised it; `detail` says what the caller can do about it.
"""

from __future__ import annotations

import http
import math
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from hub.errors import HubError, TooManyTries

PROBLEM_JSON = "application/problem+json"
FULL_DISK_S = 10  # the log looks for room again by itself


class Problem(Exception):
    """Raised anywhere below the door to answer with `status` and a sentence a caller can act on."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`more`: further members of the document, for a program that asks (RFC 9457, 3.2)."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.more = more


def problem_body(status: int, detail: str, more: Mapping[str, object] | None = None) -> bytes:
    """The JSON document (RFC 9457, 3.1); `error` repeats the detail for clients written for Mainflux."""
    return msgspec.json.encode(
        {
            "type": "about:blank",  # RFC 9457, 4.2.1: the status says it all, title is its phrase
            "title": phrase(status),
            "status": status,
            "detail": detail,
            "error": detail,
            **(more or {}),
        }
    )


def problem(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """A problem document as a response."""
    return Response(problem_body(status, detail, more), status, dict(headers or {}), PROBLEM_JSON)


def of_hub_error(error: HubError) -> Problem:
    """The problem that a hub error stands for: the error knows its status and its sentence."""
    headers: dict[str, str] = {}
    status = error.http_status
    if isinstance(error, TooManyTries) and error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    elif status == 503:
        headers["retry-after"] = "1"
    elif status == 507:
        headers["retry-after"] = str(FULL_DISK_S)
    return Problem(status, error.reason or phrase(status), headers=headers)


def phrase(status: int) -> str:
    """The words of a status (RFC 9110, 15)."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"

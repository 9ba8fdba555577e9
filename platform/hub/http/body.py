"""Request bodies: read with a bound, decoded into typed structs; refusals are `Problem`s."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import Message, Receive

from hub.http.problem import Problem

MAX_BODY = 256 * 1024  # bytes of a request to manage; a message's bound is the hub's `max_payload`
# What a refused body may still send before the answer: closing a socket with unread bytes resets the
# connection and most clients then never see the 413.
DRAIN = 8  # times the limit

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before the request was complete; nobody reads an answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body of one ASGI request.

    Raises Problem 413 where it is longer than `limit` bytes, ClientGone where it never ends.
    """
    return await read_rest(await receive(), receive, limit)


async def read_rest(message: Message, receive: Receive, limit: int) -> bytes:
    """As `read_body`, after its first ASGI message."""
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not message.get("more_body", False) or size > limit * DRAIN:
            break
        message = await receive()
    if size > limit:
        raise too_large(limit)
    return b"".join(chunks)


def bounded(receive: Receive, limit: int) -> Receive:
    """The same `receive`, reading no more than `limit` bytes of body on behalf of whoever calls it."""
    body: bytes | None = None

    async def receive_whole() -> Message:
        nonlocal body
        if body is not None:
            return await receive()
        body = await read_body(receive, limit)
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_whole


def too_large(limit: int) -> Problem:
    """413; the connection closes, since an unread rest may follow."""
    return Problem(
        413,
        f"the body is longer than {limit} bytes; split it over several requests",
        headers={"connection": "close"},
    )


async def read_json(request: Request, shape: type[T]) -> T:
    """The body decoded as JSON of `shape`.

    Raises Problem 415 where the Content-Type is not JSON, 400 where the text is not, or has another shape.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Problem(415, "send the body with Content-Type: application/json")
    return decode_json(await request.body(), shape)


def decode_json(body: bytes, shape: type[T]) -> T:
    """JSON text to `shape`; Problem 400 says what does not fit and where."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise Problem(400, f"the JSON body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not valid JSON: {error}") from None


def encode_json(value: Any) -> bytes:
    """JSON text of anything msgspec can encode."""
    return msgspec.json.encode(value)

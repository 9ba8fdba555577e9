"""HTTP/1.1 on a connection of the test's own, for bytes that no client would send, and many of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Answer(NamedTuple):
    """`headers` by their names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A whole request with its length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer, which gives its length. Raises IncompleteReadError where the connection ends before."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, body)

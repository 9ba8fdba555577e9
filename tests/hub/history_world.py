"""A log with its history, and messages for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from hub.history import History, HistoryPage
from hub.log import Log
from hub.message import SENML_JSON, Message

CHANNEL = "channel-1"
T0 = 1_700_000_000.0


def message(
    payload: bytes,
    *,
    at: float = 0.0,
    channel: str = CHANNEL,
    publisher: str = "thing-1",
    protocol: str = "mqtt",
    subtopic: str = "",
    content_type: str = SENML_JSON,
) -> Message:
    return Message(channel, subtopic, publisher, protocol, content_type, payload, int((T0 + at) * 1e9))


def run(folder: Path, body: Callable[[Log, History], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log, **options)
        await body(log, history)
        await history.close()
        await log.close()

    asyncio.run(main())


def shown(page: HistoryPage) -> list[object]:
    """name and value of each record."""
    wire = msgspec.json.decode(msgspec.json.encode(page.messages))
    keys = ("value", "string_value", "bool_value", "data_value", "sum")
    return [(item["name"], next(item[key] for key in keys if key in item)) for item in wire]


async def until(true: Callable[[], bool]) -> None:
    """Wait for background work."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")

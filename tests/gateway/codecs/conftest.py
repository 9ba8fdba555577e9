"""A codec process for the tests of one loop, and the input that TS013 functions get."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any

import pytest

from gateway.codecs.js.worker import CodecWorker, Result, Script, Verdict
from gateway.codecs.library import uplink_input
from gateway.codecs.mapping import answer_of, result_of

TIME = 1_760_000_000.0
PLAIN = """
function decodeUplink(input) {
  return { data: { temperature: ((input.bytes[0] << 24 >> 16) | input.bytes[1]) / 10, port: input.fPort } };
}
"""


class Bench:
    """Sources in, answers out."""

    def __init__(self, worker: CodecWorker) -> None:
        self.worker = worker
        self.numbers = count(1)

    def script(self, source: str) -> Script:
        return Script(next(self.numbers), source)

    async def run(self, script: Script, payload: bytes = b"\x00\xd7", fport: int = 2) -> Result:
        return await self.worker.ask(script, "decodeUplink", uplink_input(fport, payload, TIME))

    async def data(self, source: str | Script, payload: bytes = b"\x00\xd7", fport: int = 2) -> Any:
        """What `decodeUplink` gives as data."""
        script = self.script(source) if isinstance(source, str) else source
        result = await self.run(script, payload, fport)
        assert result.verdict is Verdict.DONE, result.words
        return result_of(answer_of(result.text))["data"]


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    worker = CodecWorker()
    try:
        yield Bench(worker)
    finally:
        worker.close()


@pytest.fixture
def on_bench() -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    """Runs a test's coroutine with a bench of its own."""

    def run(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with bench() as here:
                await test(here)

        asyncio.run(main())

    return run

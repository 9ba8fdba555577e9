"""Many clients of TLS at once: a few handshakes at a time, and nobody who says little or nothing is in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.authority import entrance
from tests.hub.authority.test_entrance import LOOPS, Loop, Place


@pytest.mark.parametrize("loop", LOOPS)
def test_silent_and_slow_peers_do_not_keep_others_from_their_turn(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "TURNS", 1)
    monkeypatch.setattr(entrance, "TURN_S", 0.01)

    async def main() -> None:
        place = Place(tmp_path)
        context = place.client()

        async def client(port: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(b"x")
            answer = await reader.readexactly(len(b"2@127.0.0.1 x"))
            writer.close()
            return answer

        async with place.open() as port:
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for _, writer in idle[1:]:
                writer.write(b"\x16\x03\x01")  # a record begins, and nothing follows
            async with asyncio.timeout(20):
                assert set(await asyncio.gather(*(client(port) for _ in range(8)))) == {b"2@127.0.0.1 x"}
            for _, writer in idle:
                writer.close()
            await place.failures(3)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())

"""When the log hands a batch to its writer: after the first turn of the loop that adds nothing to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub import log as log_module
from hub.log import Log

from .conftest import MakeMessage

TURNS = 25


async def commits_of_turns(folder: Path, make_message: MakeMessage) -> int:
    """How many commits a message in each of some turns of the loop takes, all of which are waited for."""
    log = Log.open(folder / "log.db")
    answered: list[int] = []

    def waits_for(n: int) -> None:
        log.submit([make_message(n)], (), lambda error: answered.append(n))

    async def busy() -> None:
        for n in range(TURNS):
            waits_for(n)
            await asyncio.sleep(0)

    await busy()
    await log.flush()
    assert answered == list(range(TURNS))
    commits = log.counters.commits
    await log.close()
    return commits


def test_a_busy_loop_makes_one_commit_of_many_turns(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "GATHER_S", 60.0)
    assert asyncio.run(commits_of_turns(tmp_path, make_message)) == 1


def test_a_loop_that_never_has_enough_does_not_keep_those_waiting_who_came_first(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "GATHER_S", 0.0)
    assert asyncio.run(commits_of_turns(tmp_path, make_message)) > 1


def test_a_lone_message_is_with_the_writer_after_two_turns(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        with_writer: list[int] = []
        put = log._writer.put
        log._writer.put = lambda batch: (with_writer.append(len(batch.messages)), put(batch))[1]  # type: ignore[method-assign]
        log.submit([make_message(1)], (), lambda error: None)
        turns = 0
        while not with_writer:
            await asyncio.sleep(0)
            turns += 1
        assert turns <= 3  # the last of them is this task's own
        assert with_writer == [1]
        await log.close()

    asyncio.run(main())


def test_what_comes_while_the_writer_is_busy_goes_with_its_next_commit(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        first = asyncio.create_task(log.append([make_message(0)]))
        for _ in range(4):
            await asyncio.sleep(0)
        assert log._writing is not None
        later = [asyncio.create_task(log.append([make_message(n)])) for n in range(1, 9)]
        await asyncio.gather(first, *later)
        assert log.counters.commits == 2
        await log.close()

    asyncio.run(main())

"""`Log.post_each`: many posts in one call, each as if it had come by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub import log as log_module
from hub.database import Migration
from hub.errors import Busy
from hub.log import Log
from hub.message import Message

from .conftest import MakeMessage

DEVICE_TABLE = Migration("test/1", ("CREATE TABLE device(eui TEXT PRIMARY KEY, fcnt INTEGER)",))
_INSERT = "INSERT INTO device(eui, fcnt) VALUES (?, ?)"


def test_posts_of_one_call_are_numbered_in_order_and_told_of_together(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=(DEVICE_TABLE,))
        told: list[list[int]] = []
        log.on_append(lambda messages: told.append([message.seq for message in messages]))
        log.post_each([([make_message(n), make_message(n)], [(_INSERT, (str(n), n))]) for n in range(3)])
        assert told == [[1, 2, 3, 4, 5, 6]]
        await log.flush()
        assert log.committed_seq == 6
        with log._reader.connection as reader:
            assert reader.execute("SELECT count(*) FROM device").fetchone() == (3,)
        await log.close()

    asyncio.run(main())


def test_a_refused_write_takes_the_messages_of_its_own_post_and_no_other(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=(DEVICE_TABLE,))
        durable: list[Message] = []
        log.on_commit(durable.extend)
        euis = ("a", "b", "a", "c")  # the third is refused: it is there already
        log.post_each(
            [([make_message(n), make_message(n)], [(_INSERT, (eui, n))]) for n, eui in enumerate(euis)]
        )
        await log.flush()
        assert [message.seq for message in durable] == [1, 2, 3, 4, 7, 8]
        assert (log.message_count, log.counters.refused, log.counters.failed) == (6, 1, 2)
        await log.close()

    asyncio.run(main())


def test_a_call_for_which_there_is_no_room_takes_nothing(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=(DEVICE_TABLE,))
        monkeypatch.setattr(log_module, "MAX_PENDING", 3)
        log.post([make_message(1)])
        with pytest.raises(Busy):
            log.post_each([([make_message(n)], [(_INSERT, (str(n), n))]) for n in range(3)])
        assert (log.pending, log.next_seq) == (1, 2)
        log.post_each([([make_message(n)], [(_INSERT, (str(n), n))]) for n in range(2)])  # the control
        assert (log.pending, log.next_seq) == (3, 4)
        await log.close()

    asyncio.run(main())

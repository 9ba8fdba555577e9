"""The durable log: numbers, group commit, order, readers, cursors, retention."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub import log as log_module
from hub import log_marks, log_reader, log_writer
from hub.database import Migration
from hub.errors import Busy, Invalid, LogFailed, WriteRefused
from hub.log import Gap, Log
from hub.log_reader import decode_row, encode_row
from hub.message import Message

from .conftest import MakeMessage

DEVICE_TABLE = Migration("test/1", ("CREATE TABLE device(eui TEXT PRIMARY KEY, fcnt INTEGER)",))


def test_appended_messages_are_committed_numbered_and_readable(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        assert (log.committed_seq, log.read(0)) == (0, [])
        assert await log.append([make_message(1), make_message(2)]) == [1, 2]
        assert await log.append([make_message(3)]) == [3]
        assert log.committed_seq == 3
        assert [message.payload for message in log.read(1)] == [make_message(n).payload for n in (2, 3)]
        assert log.read(0, lambda message: message.seq != 2, 2) == [log.read_one(1), log.read_one(3)]
        assert log.read_one(4) is None
        await log.close()

    asyncio.run(main())


def test_a_log_goes_on_where_it_ended(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([make_message(n) for n in range(10)])
        log.move_cursor("cloud", 7)
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert (log.first_seq, log.committed_seq, log.message_count) == (1, 10, 10)
        assert log.cursor("cloud") == 7
        assert await log.append([make_message(10)]) == [11]
        await log.close()

    asyncio.run(main())


def test_all_fields_of_a_message_survive(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sent = make_message(1, subtopic="a.b", time="gnss", boot="b00t", payload=bytes(range(256)))
        await log.append([sent])
        assert log.read(0) == [sent]
        await log.close()

    asyncio.run(main())


def test_whoever_waits_shares_a_commit(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        seqs = await asyncio.gather(*(log.append([make_message(n)]) for n in range(500)))
        assert sorted(seq for (seq,) in seqs) == list(range(1, 501))
        assert log.counters.commits == 1
        await log.close()

    asyncio.run(main())


def test_posts_gather_until_somebody_waits(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        for n in range(100):
            assert log.post([make_message(n)]) == [n + 1]
        assert log.committed_seq == 0
        await log.append([make_message(100)])
        assert (log.committed_seq, log.counters.commits) == (101, 1)
        await log.close()

    asyncio.run(main())


def test_posts_alone_are_committed_after_the_interval(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=0.01)
        committed = asyncio.Event()
        log.on_commit(lambda messages: committed.set())
        log.post([make_message()])
        await asyncio.wait_for(committed.wait(), 30)
        assert log.committed_seq == 1
        await log.close()

    asyncio.run(main())


def test_many_posts_do_not_wait_for_the_interval(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        committed = asyncio.Event()
        log.on_commit(lambda messages: committed.set())
        for n in range(log_module.EARLY_MESSAGES):
            log.post([make_message(n)])
        await asyncio.wait_for(committed.wait(), 30)
        assert log.committed_seq == log_module.EARLY_MESSAGES
        await log.close()

    asyncio.run(main())


def test_close_commits_what_was_posted(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        log.post([make_message()])
        await log.close()
        with pytest.raises(LogFailed):
            log.post([make_message()])
        log = Log.open(tmp_path / "log.db")
        assert log.committed_seq == 1
        await log.close()

    asyncio.run(main())


def test_live_listeners_hear_at_once_and_durable_ones_after_the_commit_in_order(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        live: list[int] = []
        durable: list[int] = []
        batches: list[int] = []

        def on_commit(messages: Sequence[Message]) -> None:
            assert log.committed_seq >= messages[-1].seq
            durable.extend(message.seq for message in messages)
            batches.append(len(messages))

        forget_live = log.on_append(lambda messages: live.extend(message.seq for message in messages))
        forget_durable = log.on_commit(on_commit)
        for n in range(20):
            log.post([make_message(n)])
        assert live == list(range(1, 21))
        assert durable == []
        await log.append([make_message(20)])
        assert durable == live == list(range(1, 22))
        assert batches == [21]
        forget_live()
        forget_durable()
        await log.append([make_message(21)])
        assert len(durable) == len(live) == 21
        await log.close()

    asyncio.run(main())


def test_a_listener_that_raises_keeps_nobody_from_an_answer(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: problems.append(context["exception"])
        )
        log = Log.open(tmp_path / "log.db")
        heard: list[int] = []

        def fail(messages: Sequence[Message]) -> None:
            raise ZeroDivisionError

        log.on_commit(fail)
        log.on_commit(lambda messages: heard.append(len(messages)))
        assert await log.append([make_message()]) == [1]
        assert heard == [1]
        assert [type(problem) for problem in problems] == [ZeroDivisionError]
        assert log.counters.listener_errors == 1
        await log.close()

    asyncio.run(main())


def test_submit_calls_back_when_durable(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        answers: list[object] = []
        answered = asyncio.Event()

        def done(error: object) -> None:
            answers.append((error, log.committed_seq))
            answered.set()

        assert log.submit([make_message()], (), done) == [1]
        assert answers == []
        await asyncio.wait_for(answered.wait(), 30)
        assert answers == [(None, 1)]
        await log.close()

    asyncio.run(main())


def test_a_cancelled_caller_does_not_undo_its_message(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        task = asyncio.create_task(log.append([make_message()]))
        await asyncio.sleep(0)
        task.cancel()
        await log.append([make_message(1)])
        assert log.committed_seq == 2
        assert len(log.read(0)) == 2
        await log.close()

    asyncio.run(main())


def test_a_message_is_appended_once(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        message = make_message()
        await log.append([message])
        with pytest.raises(Invalid):
            log.post([message])
        await log.append([make_message(1)])
        assert len(log.read(0)) == 2
        await log.close()

    asyncio.run(main())


# Other parts' writes


def test_writes_of_other_parts_commit_with_their_message(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=[DEVICE_TABLE], commit_interval_s=3600)
        insert = "INSERT INTO device VALUES (?, ?)"
        update = "UPDATE device SET fcnt = ? WHERE eui = ?"
        log.post([make_message()], [(insert, ("a", 1)), (update, (2, "a"))])
        log.post([make_message()], [(update, (3, "a"))])
        assert log.query("SELECT * FROM device") == []
        await log.write([(insert, ("b", 7))])
        assert log.query("SELECT * FROM device ORDER BY eui") == [("a", 3), ("b", 7)]
        assert log.counters.commits == 1
        await log.close()
        log = Log.open(tmp_path / "log.db", migrations=[DEVICE_TABLE])  # a migration runs once
        assert len(log.query("SELECT * FROM device")) == 2
        await log.close()

    asyncio.run(main())


def test_a_refused_write_takes_its_own_message_and_no_other(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=[DEVICE_TABLE])
        committed: list[int] = []
        log.on_commit(lambda messages: committed.extend(message.seq for message in messages))
        insert = ("INSERT INTO device VALUES (?, ?)", ("a", 1))
        answers = await asyncio.gather(
            log.append([make_message(1)], [insert]),
            log.append([make_message(2)], [insert]),
            log.append([make_message(3)], [("no SQL at all", ())]),
            log.append([make_message(4)], [("INSERT INTO device VALUES (?, ?)", ("only one",))]),
            log.append([make_message(5)]),
            return_exceptions=True,
        )
        assert answers[0] == [1]
        assert answers[4] == [5]
        assert [type(answer) for answer in answers[1:4]] == [WriteRefused] * 3
        assert committed == [1, 5] == [message.seq for message in log.read(0)]
        assert (log.message_count, log.counters.refused, log.counters.failed) == (2, 3, 3)
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert (log.message_count, log.committed_seq) == (2, 5)
        await log.close()

    asyncio.run(main())


def test_a_failed_migration_leaves_no_trace(tmp_path: Path) -> None:
    half = Migration("test/half", ("CREATE TABLE one(a)", "CREATE TABLE one(a)"))

    async def main() -> None:
        with pytest.raises(sqlite3.OperationalError):
            Log.open(tmp_path / "log.db", migrations=[half])
        log = Log.open(tmp_path / "log.db")
        assert log.query("SELECT name FROM sqlite_schema WHERE name = 'one'") == []
        assert ("test/half",) not in log.query("SELECT name FROM migration")
        await log.close()

    asyncio.run(main())


def test_readers_cannot_write(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            log.query("DELETE FROM log")
        await log.close()

    asyncio.run(main())


# Bounds


def test_post_is_handed_back_when_too_much_waits(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_PENDING", 10)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        for n in range(10):
            log.post([make_message(n)])
        with pytest.raises(Busy):
            log.post([make_message(10)])
        assert log.counters.busy == 1
        assert log.pending == 10
        await log.close()
        log = Log.open(tmp_path / "log.db")
        with pytest.raises(Invalid):
            log.post([make_message(n) for n in range(11)])
        await log.close()

    asyncio.run(main())


def test_append_waits_for_room(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_PENDING", 10)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        answers = await asyncio.gather(*(log.append([make_message(n)]) for n in range(100)))
        assert sorted(seq for (seq,) in answers) == list(range(1, 101))
        assert log.counters.busy == 0
        assert [message.payload for message in log.read(0)] == [make_message(n).payload for n in range(100)]
        await log.close()

    asyncio.run(main())


def test_payload_bytes_that_wait_are_bounded(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_PENDING_BYTES", 1000)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        log.post([make_message(payload=bytes(2000))])
        with pytest.raises(Busy):
            log.post([make_message(payload=b"")])
        await log.close()

    asyncio.run(main())


# Cursors and retention


def test_cursors_are_written_with_the_next_commit(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        assert log.cursor("cloud") == 0
        assert log.cursor("later", 5) == 5
        log.move_cursor("cloud", 3)
        assert log.cursor("cloud") == 3
        await log.append([make_message()])
        assert log.query("SELECT name, seq FROM cursor ORDER BY name") == [("cloud", 3), ("later", 5)]
        log.drop_cursor("cloud")
        await log.append([make_message()])
        assert log.query("SELECT name FROM cursor") == [("later",)]
        assert log.cursors() == {"later": 5}
        await log.close()

    asyncio.run(main())


def test_a_cursor_alone_is_written_by_its_own_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_marks, "CURSOR_INTERVAL_S", 0.01)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        log.move_cursor("cloud", 3)
        for _ in range(3000):
            if log.counters.commits:
                break
            await asyncio.sleep(0.01)
        assert log.query("SELECT seq FROM cursor") == [(3,)]
        await log.close()

    asyncio.run(main())


def test_retention_keeps_the_newest_messages(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=100)
        for n in range(40):
            await log.append([make_message(n * 10 + k) for k in range(10)])
            assert log.message_count == log.query("SELECT count(*) FROM log")[0][0] <= 110
        assert log.first_seq == log.read(0)[0].seq
        assert log.committed_seq == 400
        assert log.gaps() == []
        await log.close()
        log = Log.open(tmp_path / "log.db", max_messages=100)
        assert log.message_count == log.query("SELECT count(*) FROM log")[0][0]
        await log.close()

    asyncio.run(main())


def test_retention_bounds_the_bytes_of_the_file(tmp_path: Path, make_message: MakeMessage) -> None:
    bound = 6 << 20

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_bytes=bound)
        sizes = []
        for n in range(80):
            await log.append([make_message(n * 100 + k, payload=bytes(1000)) for k in range(100)])
            sizes.append(log.size_bytes)
        assert max(sizes) <= bound + 200 * log_writer.PAGE_SIZE  # a message takes a page here
        assert log.first_seq > 1
        assert log.read(0)[0].seq == log.first_seq
        await log.close()

    asyncio.run(main())


def test_flush_makes_posts_durable(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        log.post([make_message()])
        await log.flush()
        assert log.committed_seq == 1
        await log.flush()
        await log.close()

    asyncio.run(main())


def test_what_a_slow_cursor_loses_is_recorded(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=100)
        log.move_cursor("slow", 5)
        log.cursor("fast")
        for n in range(40):
            await log.append([make_message(n * 10 + k) for k in range(10)])
            log.move_cursor("fast", log.committed_seq)
        (gap,) = log.gaps()
        assert gap == Gap("slow", 6, log.first_seq - 1, log.first_seq - 6)
        assert log.gaps("fast") == []
        assert log.counters.gap_messages == gap.messages
        await log.close()
        log = Log.open(tmp_path / "log.db", max_messages=100)
        assert log.counters.gap_messages == gap.messages
        await log.close()

    asyncio.run(main())


def test_a_bounded_scan_says_how_far_it_looked(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([make_message(n) for n in range(1000)])
        found, seen = log.scan(0, lambda message: message.seq == 900, 1, max_rows=400)
        assert (found, seen) == ([], 400)
        found, seen = log.scan(seen, lambda message: message.seq == 900, 1, max_rows=800)
        assert ([message.seq for message in found], seen) == ([900], 900)
        found, seen = log.scan(seen, lambda message: False, 1, max_rows=800)
        assert (found, seen) == ([], 1000)
        await log.close()

    asyncio.run(main())


# Rows


@pytest.mark.parametrize("small", [False, True])
def test_rows_keep_every_message_whole_and_a_flipped_bit_is_always_seen(
    make_message: MakeMessage, small: bool
) -> None:
    rng = random.Random(12)
    for n in range(200):
        payload = rng.choice((b"", rng.randbytes(rng.randrange(300)), b'{"n":"temperature","v":21.5}' * n))
        message = make_message(n, payload=payload, seq=n + 1, subtopic="a.b" * rng.randrange(3), boot="b")
        row = encode_row(message, small=small)
        assert decode_row(n + 1, row) == message
        assert decode_row(n + 2, row) is None  # in another's place
        for _ in range(20):
            flipped = bytearray(row)
            flipped[rng.randrange(len(row))] ^= 1 << rng.randrange(8)
            assert decode_row(n + 1, bytes(flipped)) is None
        for end in range(0, len(row), 7):
            assert decode_row(n + 1, row[:end]) is None
    assert decode_row(1, None) is None


def test_rows_of_a_quiet_gateway_are_compressed_and_those_of_a_busy_one_are_not(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        for rate in (0, 10**12):
            monkeypatch.setattr(log_writer, "SMALL_RATE", rate)
            await log.append(
                [make_message(n, payload=b'{"n":"temperature","u":"Cel"}' * 9) for n in range(5)]
            )
        sizes = [size for (size,) in log.query("SELECT length(body) FROM log ORDER BY seq")]
        assert max(sizes[5:]) < min(sizes[:5]) // 2
        assert [message.seq for message in log.read(0)] == list(range(1, 11))
        await log.close()

    asyncio.run(main())


# Counting


def test_messages_after_a_number_are_counted_exactly_with_holes_and_without(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RESERVE", 50)

    async def main() -> None:
        for start in range(4):
            log = Log.open(tmp_path / "log.db", max_messages=60, migrations=[DEVICE_TABLE])
            assert start or log.count_after(0) == 0
            await log.append([make_message(n) for n in range(20)])
            answers = await asyncio.gather(  # refused: its number becomes a hole in the middle
                log.append([make_message()]),
                log.append([make_message()], [("no SQL at all", ())]),
                log.append([make_message()]),
                return_exceptions=True,
            )
            assert isinstance(answers[1], WriteRefused)
            log._writer._give_back_reservation = lambda: None  # type: ignore[method-assign]
            for seq in (
                -5,
                0,
                1,
                log.first_seq,
                *range(log.committed_seq - 25, log.committed_seq + 5),
                10**12,
            ):
                assert log.count_after(seq) == len(log.read(seq, None, 1000))
            await log.close()

    asyncio.run(main())


def test_large_rows_are_fetched_few_at_a_time_and_all_come(
    tmp_path: Path, make_message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        for _ in range(4):
            await log.append([make_message(payload=os.urandom(100_000)) for _ in range(25)])
        reader = log.reader()
        fetched = []
        rows = reader._conn.rows

        def spy(sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            found = rows(sql, params)
            fetched.append(sum(len(row[1]) for row in found))
            return found

        monkeypatch.setattr(reader._conn, "rows", spy)
        found, _ = reader.scan(0, None, 100)
        again, _ = reader.scan(0, None, 100)
        assert [message.seq for message in found] == [message.seq for message in again] == list(range(1, 101))
        assert max(fetched[1:]) <= log_reader.FETCH_BYTES
        reader.close()
        await log.close()

    asyncio.run(main())

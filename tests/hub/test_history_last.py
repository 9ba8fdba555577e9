"""The last message of a topic: found by its number, however old, in tail and chunks, and put together from records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import cbor2
import msgspec
import pytest

from hub.errors import Busy
from hub.history import History
from hub.history_view import NO_MESSAGE
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, TimeQuality
from hub.topics import Filter

CHANNEL = "channel-1"
T0 = 1_700_000_000.0


def message(
    payload: bytes,
    subtopic: str = "a.b",
    *,
    at: float = 0.0,
    content_type: str = SENML_JSON,
    publisher: str = "thing-1",
    time: TimeQuality = TimeQuality.NTP,
) -> Message:
    created_ns = int((T0 + at) * 1e9)
    return Message(
        CHANNEL, subtopic, publisher, "mqtt", content_type, payload, created_ns, time=time, boot="boot-1"
    )


def run(
    folder: Path, body: Callable[[Log, History], Awaitable[None]], *, max_messages: int = 1_000_000
) -> None:
    async def main() -> None:
        log = Log.open(folder / "log.db", max_messages=max_messages)
        history = History.open(folder / "history.db", log)
        await body(log, history)
        await history.close()
        await log.close()

    asyncio.run(main())


async def compact(history: History) -> None:
    """Move everything that is committed into chunks."""
    await history.last_seq(wanted())  # which waits until the tail has it
    await history._compact()
    assert not history.tail_records


def wanted(subtopic: str = "a.b", content_type: str | None = None) -> Filter:
    return Filter(CHANNEL, subtopic, content_type)


@pytest.mark.parametrize("compacted", [False, True])
def test_last_is_what_came_last_whatever_times_its_records_name(tmp_path: Path, compacted: bool) -> None:
    async def body(log: Log, history: History) -> None:
        numbers = await log.append(
            [
                message(b'[{"n":"t","v":1,"t":1900000000}]', "a.b"),
                message(b'[{"n":"t","v":2,"t":1200000000}]', "a.b", publisher="thing-2"),
                message(b'{"x":1}', "a.c", content_type=JSON),
                message(b"\x00", "d", content_type=OCTET_STREAM),
            ]
        )
        if compacted:
            await compact(history)
        found = [
            await history.last_seq(wanted(text)) for text in ("a.b", "a.c", "a.+", "+", "#", "a.#", "", "e")
        ]
        second, third, fourth = numbers[1:]
        assert found == [second, third, third, fourth, fourth, third, NO_MESSAGE, NO_MESSAGE]
        assert await history.last_seq(wanted("#", SENML_CBOR)) == second
        assert await history.last_seq(wanted("#", JSON)) == third
        assert await history.last_seq(Filter("elsewhere", "#")) == NO_MESSAGE
        assert await history.last_kept(wanted("e")) is None

    run(tmp_path, body)


def test_last_is_found_with_one_part_in_chunks_and_the_other_in_the_tail(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"t","v":1}]', "a"), message(b'[{"n":"t","v":2}]', "b")])
        await compact(history)
        (last,) = await log.append([message(b'[{"n":"t","v":3}]', "a")])
        assert await history.last_seq(wanted("#")) == await history.last_seq(wanted("a")) == last
        assert await history.last_seq(wanted("b")) == last - 1

    run(tmp_path, body)


KEPT = [
    pytest.param(
        message(b'[{"bn":"dev:","n":"t","u":"Cel","v":1.5},{"n":"on","vb":false},{"n":"w","vs":"x","t":-2}]'),
        SENML_JSON,
        [
            {"n": "dev:w", "t": T0 - 2, "vs": "x"},
            {"n": "dev:t", "u": "Cel", "t": T0, "v": 1.5},
            {"n": "dev:on", "t": T0, "vb": False},
        ],
        id="SenML JSON",
    ),
    pytest.param(
        message(cbor2.dumps([{0: "e", 5: 7.0, 2: 1.0}, {0: "d", 8: b"\x00\xff"}]), content_type=SENML_CBOR),
        SENML_JSON,
        [{"n": "e", "t": T0, "v": 1, "s": 7}, {"n": "d", "t": T0, "vd": "AP8"}],
        id="SenML CBOR is shown as JSON",
    ),
    pytest.param(message(b'{"a": [1]}', content_type=JSON), JSON, {"a": [1]}, id="JSON"),
    pytest.param(
        message(b'[{"a":1},{"a":2}]', content_type=JSON), JSON, [{"a": 1}, {"a": 2}], id="JSON array"
    ),
]


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(("published", "content_type", "shown"), KEPT)
def test_what_the_log_has_let_go_is_put_together_from_its_records(
    tmp_path: Path, published: Message, content_type: str, shown: object, compacted: bool
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"older","v":1}]'), message(b"old", content_type=OCTET_STREAM)])
        (seq,) = await log.append([msgspec.structs.replace(published)])  # the log numbers it
        if compacted:
            await compact(history)
        kept = await history.last_kept(wanted())
        assert kept is not None
        assert (kept.seq, kept.channel, kept.subtopic, kept.publisher) == (seq, CHANNEL, "a.b", "thing-1")
        assert (kept.content_type, kept.created_ns) == (content_type, int(T0 * 1e9))

        def order(pack: object) -> object:
            return sorted(pack, key=lambda one: (one["t"], one["n"])) if content_type == SENML_JSON else pack  # type: ignore[call-overload]

        assert order(json.loads(kept.payload)) == order(shown)

    run(tmp_path, body)


def test_bytes_come_back_as_they_were_and_senml_in_the_form_that_is_named(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append(
            [message(b"\x00\xff", "raw", content_type=OCTET_STREAM), message(b'[{"n":"t","v":2}]')]
        )
        await compact(history)
        raw = await history.last_kept(wanted("raw"))
        assert raw is not None
        assert (raw.payload, raw.content_type) == (b"\x00\xff", OCTET_STREAM)
        packed = await history.last_kept(wanted("#", SENML_CBOR))
        assert packed is not None
        assert cbor2.loads(packed.payload) == [{0: "t", 2: 2, 6: T0}]

    run(tmp_path, body)


def test_times_of_a_clock_that_was_set_later_are_the_corrected_ones(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"t","v":1}]', time=TimeQuality.RESTORED)])
        await compact(history)
        before = await history.last_kept(wanted())
        log.correct("boot-1", 3_600_000_000_000, TimeQuality.NTP)
        await log.flush()
        after = await history.last_kept(wanted())
        assert before is not None
        assert after is not None
        assert after.created_ns - before.created_ns == 3_600_000_000_000
        assert json.loads(after.payload)[0]["t"] == T0 + 3600

    run(tmp_path, body)


def test_record_of_a_clock_that_was_never_set_has_no_form_in_senml(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"t","v":1}]', at=-T0 + 5.0, time=TimeQuality.UNSET)])
        await compact(history)
        assert await history.last_seq(wanted()) == 1
        assert await history.last_kept(wanted()) is None

    run(tmp_path, body)


def test_a_damaged_chunk_is_no_message_and_is_set_aside(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"t","v":1}]')])
        await compact(history)
        with history._store._transaction() as conn:
            conn.execute("UPDATE chunk SET body = x'00'")
        assert await history.last_kept(wanted()) is None
        assert history._reader.damaged

    run(tmp_path, body)


def test_a_closed_history_is_busy(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await history.close()
        with pytest.raises(Busy):
            await history.last_seq(wanted())
        await log.close()

    asyncio.run(main())

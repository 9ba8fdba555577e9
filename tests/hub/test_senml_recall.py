"""A message is decoded once: what its check decoded is what the history takes, as long as it is the same message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from hub import senml, senml_kept
from hub.access import Principal
from hub.errors import SenmlError
from hub.history import Query
from hub.hub import Hub
from hub.message import SENML_CBOR, SENML_JSON

NOW = 1.7e9
PACK = b'[{"n":"a","v":1},{"n":"b","v":2,"t":1600000000},{"n":"c","v":3,"t":-5}]'


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    senml_kept.forget()
    yield
    senml_kept.forget()


def recalled(payload: bytes, now_s: float = NOW) -> Sequence[senml.Record]:
    said, _ = senml_kept.recall(SENML_JSON, payload, now_s)
    assert not isinstance(said, senml_kept.Numbers)
    return said


def test_what_was_checked_is_not_decoded_again(mocker: MockerFixture) -> None:
    payload = bytes(bytearray(PACK))
    senml_kept.check(SENML_JSON, payload, NOW)
    again = mocker.spy(senml_kept, "decode_stamped")
    records, stamped = senml_kept.recall(SENML_JSON, payload, NOW)
    assert again.call_count == 0
    assert not isinstance(records, senml_kept.Numbers)
    assert [record.name for record in records] == ["b", "c", "a"]
    assert stamped == [False, True, True]
    assert senml_kept._kept == {}
    assert senml_kept._records == 0


@pytest.mark.parametrize(
    ("content_type", "now"), [(SENML_CBOR, NOW), (SENML_JSON, NOW + 1)], ids=["other type", "other time"]
)
def test_what_was_checked_otherwise_is_decoded_again(content_type: str, now: float) -> None:
    payload = bytes(bytearray(PACK))
    senml_kept.check(SENML_JSON, payload, NOW)
    if content_type == SENML_CBOR:
        with pytest.raises(SenmlError):
            senml_kept.recall(content_type, payload, now)
    else:
        assert recalled(payload, now)[-1].time == now


@pytest.mark.parametrize(
    ("pack", "stamped"),
    [
        (b'[{"n":"a","v":1}]', True),
        (b'[{"n":"a","v":1,"t":1700000000}]', False),
        (b'[{"bt":1700000000},{"n":"a","v":1,"t":-3}]', False),
        (b'[{"bt":-60,"n":"a","v":1},{"n":"b","v":1,"t":30}]', True),
        (b'[{"n":"a","v":1,"t":1700000000},{"n":"b","v":1}]', [False, True]),
    ],
)
def test_records_say_whether_their_time_is_that_of_arrival(pack: bytes, stamped: Any) -> None:
    assert senml_kept.recall(SENML_JSON, pack, NOW)[1] == stamped


def _numbered(count: int) -> list[bytes]:
    """So many different payloads of a thousand records."""
    pack = b"[" + b",".join(b'{"n":"a","v":%d}' % n for n in range(1000)) + b"]"
    return [pack + b" " * n for n in range(count)]


def test_only_so_many_records_are_kept_and_of_a_flood_the_first_as_they_are_asked_for_next(
    mocker: MockerFixture,
) -> None:
    payloads = _numbered(100)
    for payload in payloads:
        senml_kept.check(SENML_JSON, payload, NOW)
        assert senml_kept._records <= senml_kept.RECORDS_KEPT
    assert senml_kept._records == sum(known[5] for known in senml_kept._kept.values())
    again = mocker.spy(senml_kept, "decode_stamped")
    for payload in payloads:
        assert len(recalled(payload)) == 1000
    assert again.call_count == 100 - senml_kept.RECORDS_KEPT // 1000
    assert senml_kept._records == 0


def test_what_nobody_asks_for_makes_room_in_the_end(mocker: MockerFixture) -> None:
    """Messages that were refused after their check are never stored."""
    mocker.patch.object(senml_kept, "RECORDS_KEPT", 10_000)
    mocker.patch.object(senml_kept, "RECORDS_PASSED", 20_000)
    *refused, payload = _numbered(32)
    for each in refused:
        senml_kept.check(SENML_JSON, each, NOW)
    senml_kept.check(SENML_JSON, payload, NOW)
    again = mocker.spy(senml_kept, "decode_stamped")
    senml_kept.recall(SENML_JSON, payload, NOW)
    assert again.call_count == 0
    senml_kept.recall(SENML_JSON, refused[0], NOW)
    assert again.call_count == 1  # what nobody had asked for


def test_a_payload_that_is_kept_twice_counts_once() -> None:
    payload = bytes(bytearray(PACK))
    for _ in range(3):
        senml_kept.check(SENML_JSON, payload, NOW)
    assert senml_kept._records == 3
    senml_kept.recall(SENML_JSON, payload, NOW)
    assert senml_kept._records == 0


def test_a_published_message_is_decoded_once(tmp_path: Path, mocker: MockerFixture) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path)
        thing, _ = await asyncio.to_thread(hub.registry.create_thing)
        channel = await asyncio.to_thread(hub.registry.create_channel)
        await asyncio.to_thread(hub.registry.connect, [channel.id], [thing.id])
        decoded = mocker.spy(senml_kept, "decode_stamped")
        for _ in range(5):
            await hub.publish(
                Principal.of_thing(thing), "mqtt", channel.id, "", SENML_JSON, bytes(bytearray(PACK))
            )
        assert (await hub.history.query(Query(channel.id))).total == 15
        assert decoded.call_count == 5
        await hub.close()

    asyncio.run(main())


def test_records_of_the_moment_of_arrival_are_written_without_a_time() -> None:
    """So they mean "now" (RFC 8428, 4.5.3), and follow the message when its clock is corrected."""
    shared = [senml.Record("x:a", time=NOW, value=1.0), senml.Record("x:b", time=NOW, value=2.0)]
    payload = senml.encode_json(shared, base_name="x:", arrival_s=NOW)
    assert payload == b'[{"bn":"x:","n":"a","v":1.0},{"n":"b","v":2.0}]'
    assert senml_kept.recall(SENML_JSON, payload, NOW) == (shared, True)
    mixed = [shared[0], senml.Record("x:b", time=NOW - 60, value=2.0)]
    payload = senml.encode_json(mixed, base_name="x:", arrival_s=NOW)
    records, stamped = senml_kept.recall(SENML_JSON, payload, NOW)
    assert (records, stamped) == ([mixed[1], mixed[0]], [False, True])
    assert b'"bt":1700000000.0' in senml.encode_json(shared, base_name="x:", arrival_s=NOW + 1)

"""A message is decoded once: what its check decoded is what the history takes, as long as it is the same message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from hub import senml
from hub.access import Principal
from hub.errors import SenmlError
from hub.history import Query
from hub.hub import Hub
from hub.message import SENML_CBOR, SENML_JSON

NOW = 1.7e9
PACK = b'[{"n":"a","v":1},{"n":"b","v":2,"t":1600000000},{"n":"c","v":3,"t":-5}]'


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    senml._checked.clear()
    senml._checked_records = 0
    yield
    senml._checked.clear()
    senml._checked_records = 0


def test_what_was_checked_is_not_decoded_again(mocker: MockerFixture) -> None:
    payload = bytes(bytearray(PACK))
    senml.check(SENML_JSON, payload, NOW)
    again = mocker.spy(senml, "_decode")
    records, stamped = senml.recall(SENML_JSON, payload, NOW)
    assert again.call_count == 0
    assert [record.name for record in records] == ["b", "c", "a"]
    assert stamped == [False, True, True]
    assert senml._checked == {}
    assert senml._checked_records == 0


@pytest.mark.parametrize(
    ("content_type", "now"), [(SENML_CBOR, NOW), (SENML_JSON, NOW + 1)], ids=["other type", "other time"]
)
def test_what_was_checked_otherwise_is_decoded_again(content_type: str, now: float) -> None:
    payload = bytes(bytearray(PACK))
    senml.check(SENML_JSON, payload, NOW)
    if content_type == SENML_CBOR:
        with pytest.raises(SenmlError):
            senml.recall(content_type, payload, now)
    else:
        assert senml.recall(content_type, payload, now)[0][-1].time == now


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
    assert senml.recall(SENML_JSON, pack, NOW)[1] == stamped


def test_only_so_many_records_are_remembered() -> None:
    pack = b"[" + b",".join(b'{"n":"a","v":%d}' % n for n in range(1000)) + b"]"
    payloads = [pack + b" " * n for n in range(100)]
    for payload in payloads:
        senml.check(SENML_JSON, payload, NOW)
        assert senml._checked_records <= senml.RECORDS_CHECKED
    assert senml._checked_records == sum(len(known[3]) for known in senml._checked.values())
    assert len(senml.recall(SENML_JSON, payloads[0], NOW)[0]) == 1000  # forgotten, so decoded again


def test_a_published_message_is_decoded_once(tmp_path: Path, mocker: MockerFixture) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path)
        thing, _ = await asyncio.to_thread(hub.registry.create_thing)
        channel = await asyncio.to_thread(hub.registry.create_channel)
        await asyncio.to_thread(hub.registry.connect, [channel.id], [thing.id])
        decoded = mocker.spy(senml, "_decode")
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
    assert senml.recall(SENML_JSON, payload, NOW) == (shared, True)
    mixed = [shared[0], senml.Record("x:b", time=NOW - 60, value=2.0)]
    payload = senml.encode_json(mixed, base_name="x:", arrival_s=NOW)
    records, stamped = senml.recall(SENML_JSON, payload, NOW)
    assert (records, stamped) == ([mixed[1], mixed[0]], [False, True])
    assert b'"bt":1700000000.0' in senml.encode_json(shared, base_name="x:", arrival_s=NOW + 1)

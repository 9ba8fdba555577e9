"""Questions to the history: every filter of the reader, pages and tokens, and how records are shown."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pytest_mock import MockerFixture

from hub import (
    history_model,
    history_query,
    history_view,
)
from hub.errors import Invalid
from hub.history import History, HistoryRecord, Query
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, TimeQuality
from tests.hub.history_world import CHANNEL, T0, message, run, shown

MIXED = [
    message(b'[{"n":"t","u":"Cel","v":20},{"n":"h","u":"%RH","v":0}]', at=0),
    message(b'[{"n":"t","u":"Cel","v":21}]', at=1, protocol="lora", publisher="thing-2"),
    message(b'[{"n":"t","u":"Cel","v":0}]', at=2, subtopic="a.b"),
    message(b'[{"n":"label","vs":"warm"},{"n":"open","vb":false},{"n":"raw","vd":"aGkgCg"}]', at=3),
    message(b'[{"n":"open","vb":true},{"n":"label","vs":""}]', at=4),
    message(b'[{"n":"energy","u":"W","s":100}]', at=5),
    message(b'[{"n":"t","u":"Cel","v":99}]', at=6, channel="channel-2"),
    message(bytes.fromhex("81a2006174020a"), at=7, content_type=SENML_CBOR),  # t = 10, no unit
    message(b'{"a":1}', at=8, content_type=JSON, subtopic="x.weather"),
    message(b'[{"a":2},{"a":3}]', at=9, content_type=JSON, subtopic="weather"),
    message(b"\x00\xff", at=10, content_type=OCTET_STREAM),
]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"name": "t"}, [("t", 10), ("t", 0), ("t", 21), ("t", 20)], id="name"),
        pytest.param({"v": 0.0}, [("t", 0), ("h", 0)], id="value 0"),
        pytest.param({"vb": False}, [("open", False)], id="boolean false"),
        pytest.param({"vb": True}, [("open", True)], id="boolean true"),
        pytest.param({"vs": ""}, [("label", "")], id="empty string"),
        pytest.param({"vs": "warm"}, [("label", "warm")], id="string"),
        pytest.param({"vs": "a", "comparator": "gt"}, [("label", "warm")], id="string after"),
        pytest.param({"vd": "aGkgCg"}, [("raw", "aGkgCg")], id="data"),
        pytest.param({"v": 20.0, "comparator": "ge"}, [("t", 21), ("t", 20)], id="ge"),
        pytest.param({"v": 20.0, "comparator": "gt"}, [("t", 21)], id="gt"),
        pytest.param({"v": 10.0, "comparator": "le"}, [("t", 10), ("t", 0), ("h", 0)], id="le"),
        pytest.param({"v": 10.0, "comparator": "lt"}, [("t", 0), ("h", 0)], id="lt"),
        pytest.param({"publisher": "thing-2"}, [("t", 21)], id="publisher"),
        pytest.param({"protocol": "lora"}, [("t", 21)], id="protocol"),
        pytest.param({"subtopic": "a.b"}, [("t", 0)], id="subtopic with dots"),
        pytest.param({"subtopic": "a/b"}, [("t", 0)], id="subtopic with slashes"),
        pytest.param({"subtopic": "", "name": "h"}, [("h", 0)], id="no subtopic"),
        pytest.param({"from_s": T0 + 1, "to_s": T0 + 3}, [("t", 0), ("t", 21)], id="from and to"),
        pytest.param({"to_s": T0}, [], id="to is excluded"),
        pytest.param({"to_s": T0 + 0.5}, [("h", 0), ("t", 20)], id="fractions"),
        pytest.param({"to_s": 0.0}, [], id="to 0 is a value"),
        pytest.param({"from_s": T0 + 5}, [("t", 10), ("energy", 100)], id="from"),
        pytest.param({"name": "t", "publisher": "thing-1", "v": 20.0}, [("t", 20)], id="several"),
        pytest.param({"name": "'; DROP TABLE record; --"}, [], id="no SQL from names"),
        pytest.param({"channel": "channel-2"}, [("t", 99)], id="channel"),
        pytest.param({"channel": "channel-3"}, [], id="unknown channel"),
    ],
)
def test_records_are_found_newest_first(
    tmp_path: Path, asked: dict[str, Any], expected: list[object]
) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([msgspec.structs.replace(item) for item in MIXED])
        page = await history.query(Query(**({"channel": CHANNEL} | asked)))
        assert shown(page) == expected
        assert page.total == len(expected)

    run(tmp_path, body)


def test_what_one_publisher_sent_is_found_in_its_channel_alone(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        sent = [
            message(b'[{"n":"t","v":%d}]' % number, at=number, channel=f"channel-{number % 2}", publisher=who)
            for number, who in enumerate(["thing-1", "thing-1", "thing-2", "thing-2", "thing-1", "thing-10"])
        ]
        await log.append(sent)
        for channel, publisher, expected in (
            ("channel-0", "thing-1", [4.0, 0.0]),
            ("channel-1", "thing-1", [1.0]),
            ("channel-1", "thing-10", [5.0]),
            ("channel-0", "thing-10", []),
        ):
            page = await history.query(Query(channel, publisher=publisher))
            assert [record.value for record in page.messages if isinstance(record, HistoryRecord)] == expected

    run(tmp_path, body)


def test_a_record_reads_as_mainflux_shows_it(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append(
            [message(b'[{"bn":"urn:x:","n":"t","u":"Cel","v":0,"ut":60}]', at=1, subtopic="a.b")]
        )
        page = await history.query(Query(CHANNEL))
        wire = msgspec.json.decode(msgspec.json.encode(page))
        assert wire.pop("previous")
        assert wire == {
            "offset": 0,
            "limit": 10,
            "total": 1,
            "messages": [
                {
                    "channel": CHANNEL,
                    "subtopic": "a.b",
                    "publisher": "thing-1",
                    "protocol": "mqtt",
                    "name": "urn:x:t",
                    "unit": "Cel",
                    "time": T0 + 1,
                    "update_time": 60,
                    "value": 0,
                }
            ],
        }

    run(tmp_path, body)


def test_other_messages_are_found_by_their_format(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([msgspec.structs.replace(item) for item in MIXED])
        page = await history.query(Query(CHANNEL, format="weather"))
        wire = msgspec.json.decode(msgspec.json.encode(page))
        assert [item["payload"] for item in wire["messages"]] == [{"a": 3}, {"a": 2}, {"a": 1}]
        assert wire["total"] == 3
        assert wire["messages"][2] == {
            "channel": CHANNEL,
            "created": int((T0 + 8) * 1e9),
            "subtopic": "x.weather",
            "publisher": "thing-1",
            "protocol": "mqtt",
            "payload": {"a": 1},
        }
        page = await history.query(Query(CHANNEL, format="weather", subtopic="x/weather"))
        assert page.total == 1
        page = await history.query(Query(CHANNEL, format="octets"))
        assert msgspec.to_builtins(page.messages)[0]["payload"] == "AP8="
        assert (await history.query(Query(CHANNEL, format="nothing"))).messages == []

    run(tmp_path, body)


def test_pages_of_many_series_fit_together(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        rng = random.Random(5)
        times = [rng.randrange(1000) for _ in range(300)]
        await log.append(
            [message(b'[{"n":"s%d","v":%d}]' % (n % 7, n), at=time) for n, time in enumerate(times)]
        )
        # newest first; of one time by series, of one series the last appended first
        order = sorted(range(300), key=lambda n: (times[n], n % 7, n), reverse=True)
        for _ in range(2):
            got: list[object] = []
            for offset in range(0, 330, 33):
                page = await history.query(Query(CHANNEL, offset=offset, limit=33))
                assert page.total == 300
                got += [value for _, value in shown(page)]
            assert got == order
            await history._compact()

    run(tmp_path, body)


@pytest.mark.parametrize("compacted", [True, False])
def test_the_newest_of_many_series_are_had_without_asking_for_each(
    tmp_path: Path, compacted: bool, mocker: MockerFixture
) -> None:
    async def body(log: Log, history: History) -> None:
        for at in range(3):
            await log.append(
                [message(f'[{{"n":"s{n}","u":"Cel","v":{at}}}]'.encode(), at=60 * at) for n in range(300)]
            )
        if compacted:
            await history._compact()
        headers = mocker.spy(history_view.View, "_sources")
        tails = mocker.spy(history_view.View, "tail_spans")
        page = await history.query(Query(CHANNEL, limit=10))
        assert [record.name for record in page.messages] == [f"s{n}" for n in range(299, 289, -1)]
        assert page.total == 900
        assert headers.call_count + tails.call_count <= 24
        early = await history.query(Query(CHANNEL, to_s=T0 + 60, limit=300))
        assert {record.value for record in early.messages} == {0}
        assert len(early.messages) == 300
        headers.reset_mock()
        tails.reset_mock()
        assert (await history.query(Query(CHANNEL, from_s=T0 + 121, limit=300))).messages == []
        assert headers.call_count + tails.call_count <= 300  # the count alone looks at tails

    run(tmp_path, body)


def test_tokens_lead_through_records_that_arrive_meanwhile(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":%d}]' % n, at=n // 4) for n in range(40)])
        got: list[Any] = []
        page = await history.query(Query(CHANNEL, limit=7))
        newest = page.previous
        while True:
            got += [value for _, value in shown(page)]
            if not page.next:
                break
            await log.append([message(b'[{"n":"a","v":-1}]', at=len(got) % 3 + 20)])
            await history._compact()
            page = await history.query(Query(CHANNEL, limit=7, after=page.next))
        assert got == list(range(39, -1, -1))
        page = await history.query(Query(CHANNEL, limit=1000, before=newest))
        assert [value for _, value in shown(page)] == [-1] * 5
        page = await history.query(Query(CHANNEL, before=page.previous))
        assert page.messages == []
        assert page.previous  # to ask again with

    run(tmp_path, body)


@pytest.mark.parametrize("token", ["x", "AAAA", "é" * 8, "A" * 65, "AAAAAAAAAAAA"])
def test_a_token_that_is_none_of_ours_is_refused(tmp_path: Path, token: str) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL, after=token))

    run(tmp_path, body)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"offset": history_model.MAX_REACH},
        {"comparator": "ne"},
        {"vd": "a"},
        {"after": "a", "before": "b"},
        {"aggregation": "avg"},
        {"interval_s": 5.0},
        {"aggregation": "median", "interval_s": 5.0},
        {"aggregation": "avg", "interval_s": 0.0},
        {"aggregation": "avg", "interval_s": 5.0, "format": "json"},
    ],
)
def test_values_outside_their_limits_are_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"a","v":1}]')])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL, **asked))

    run(tmp_path, body)


def test_a_query_over_too_many_series_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_query, "MAX_MERGED", 3)

    async def body(log: Log, history: History) -> None:
        await log.append([message(b'[{"n":"s%d","v":1}]' % n) for n in range(4)])
        with pytest.raises(Invalid):
            await history.query(Query(CHANNEL))
        assert (await history.query(Query(CHANNEL, name="s1"))).total == 1

    run(tmp_path, body)


def test_times_from_an_unset_clock_shift_and_given_times_do_not(tmp_path: Path) -> None:
    async def body(log: Log, history: History) -> None:
        stamped = msgspec.structs.replace(message(b'[{"n":"a","v":1}]', at=-1000), boot="boot-1")
        given = b'[{"n":"b","v":2,"t":%d},{"n":"c","v":3,"t":-5}]' % T0
        mixed = msgspec.structs.replace(message(given, at=-1000), boot="boot-1")
        other = msgspec.structs.replace(message(b"x", at=-1000, content_type=OCTET_STREAM), boot="boot-1")
        await log.append([stamped, mixed, other])
        for compacted in (False, True):
            if compacted:
                log.correct("boot-1", 1_000_000_000_000, TimeQuality.NTP)
            page = await history.query(Query(CHANNEL))
            by = 0 if compacted else -1000
            found = {item.name: item.time - T0 for item in page.messages}  # type: ignore[union-attr]
            assert found == {"a": by, "b": 0, "c": by - 5}
            octets = await history.query(Query(CHANNEL, format="octets"))
            assert octets.messages[0].created == int((T0 + by) * 1e9)  # type: ignore[union-attr]
            await history._compact()
            again = await history.query(Query(CHANNEL))
            assert msgspec.json.encode(again.messages) == msgspec.json.encode(page.messages)
        in_range = await history.query(Query(CHANNEL, from_s=T0 - 0.5, to_s=T0 + 0.5))
        assert in_range.total == 2

    run(tmp_path, body)

"""Exports: bounded parts, each record once, and three formats that other programs read back."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import senml
from hub.errors import Invalid, UnsupportedType
from hub.history import History
from hub.history_export import CSV, JSON_LINES, encoder
from hub.history_model import HistoryRecord, Query
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_JSON, Message

T0 = 1_700_000_000
PACK = (
    b'[{"bn":"urn:x:","bt":1700000000,"n":"t","u":"Cel","v":21.5},{"n":"n","v":0},{"n":"s","vs":"a,\\"b\\"\\n"},'
    b'{"n":"b","vb":false},{"n":"d","vd":"aGkgCg"},{"n":"e","s":100.25,"ut":60}]'
)


def message(payload: bytes, content_type: str = SENML_JSON, at: int = 0, subtopic: str = "") -> Message:
    return Message("c", subtopic, "thing", "mqtt", content_type, payload, (T0 + at) * 10**9)


def exported(folder: Path, messages: list[Message], media_type: str, query: Query, records: int = 4) -> bytes:
    folder.mkdir(exist_ok=True)

    async def main() -> bytes:
        log = Log.open(folder / "log.db")
        history = History.open(folder / "history.db", log)
        await log.append(messages)
        writer = encoder(media_type)
        out = writer.begin()
        async for part in history.export(query, records=records):
            assert 0 < len(part) <= records
            out += writer.part(part)
            await history._compact()
        out += writer.end()
        await history.close()
        await log.close()
        return out

    return asyncio.run(main())


def test_senml_reads_back_as_the_records_that_went_in(tmp_path: Path) -> None:
    out = exported(tmp_path, [message(PACK)], SENML_JSON, Query("c"))
    by_name = sorted(senml.decode(SENML_JSON, out, 0.0), key=lambda record: record.name)
    expected = sorted(senml.decode(SENML_JSON, PACK, 0.0), key=lambda record: record.name)
    assert by_name == expected


def test_no_time_is_written_as_senml_that_would_be_read_as_one_relative_to_now(tmp_path: Path) -> None:
    """A record of a clock that was never set, at 1970: CSV and JSON Lines have it, SenML has no form for it."""

    def never_set() -> list[Message]:
        return [message(b'[{"n":"early","v":1}]', at=n - T0) for n in (5, 2**28 - 1)]

    def messages() -> list[Message]:
        return [*never_set(), message(b'[{"n":"first","v":2}]', at=2**28 - T0), message(PACK)]

    now_s = 1_800_000_000.0
    out = exported(tmp_path / "senml", messages(), SENML_JSON, Query("c"), records=1)
    found = senml.decode(SENML_JSON, out, now_s)
    assert {record.time for record in found} == {2.0**28, T0}
    assert "early" not in out.decode()
    assert exported(tmp_path / "none", never_set(), SENML_JSON, Query("c")) == b"[]"
    assert exported(tmp_path / "csv", messages(), CSV, Query("c")).count(b"early") == 2


def test_json_lines_are_the_records_of_a_page(tmp_path: Path) -> None:
    out = exported(tmp_path, [message(PACK)], JSON_LINES, Query("c", name="urn:x:t"))
    assert out.endswith(b"\n")
    assert [msgspec.json.decode(line) for line in out.splitlines()] == [
        {
            "channel": "c",
            "publisher": "thing",
            "protocol": "mqtt",
            "name": "urn:x:t",
            "time": T0,
            "unit": "Cel",
            "value": 21.5,
        }
    ]


def test_csv_has_one_header_and_reads_back(tmp_path: Path) -> None:
    out = exported(tmp_path, [message(PACK, at=n) for n in range(3)], CSV, Query("c"))
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert len(rows) == 18
    values = {row["name"]: row for row in rows}
    assert values["urn:x:t"]["value"] == "21.5"
    assert values["urn:x:n"]["value"] == "0"
    assert values["urn:x:s"]["string_value"] == 'a,"b"\n'
    assert values["urn:x:b"]["bool_value"] == "false"
    assert values["urn:x:d"]["data_value"] == "aGkgCg"
    assert (values["urn:x:e"]["sum"], values["urn:x:e"]["update_time"]) == ("100.25", "60")
    assert values["urn:x:t"]["time"] == str(T0)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1+1"],
)
def test_csv_holds_no_formulas(tmp_path: Path, text: str) -> None:
    payload = msgspec.json.encode([{"n": "a", "vs": text, "u": "=u()"}])
    out = exported(tmp_path, [message(payload)], CSV, Query("c"))
    (row,) = csv.DictReader(io.StringIO(out.decode(), newline=""))
    assert row["string_value"] == "'" + text
    assert row["unit"] == "'=u()"


def test_negative_numbers_in_csv_stay_numbers(tmp_path: Path) -> None:
    out = exported(tmp_path, [message(b'[{"n":"a","v":-1.5}]')], CSV, Query("c"))
    (row,) = csv.DictReader(io.StringIO(out.decode(), newline=""))
    assert float(row["value"]) == -1.5


def test_messages_of_other_formats_are_exported_too(tmp_path: Path) -> None:
    messages = [message(b'{"a":"=1"}', JSON, n, "x.weather") for n in range(5)]
    out = exported(tmp_path, messages, CSV, Query("c", format="weather"))
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert [int(row["created"]) for row in rows] == [(T0 + n) * 10**9 for n in range(5)]
    assert rows[0]["payload"] == '{"a":"=1"}'
    lines = exported(tmp_path, [message(b"\x00\xff", OCTET_STREAM)], JSON_LINES, Query("c", format="octets"))
    assert msgspec.json.decode(lines)["payload"] == "AP8="
    with pytest.raises(UnsupportedType):
        exported(tmp_path, [message(b"1", OCTET_STREAM)], SENML_JSON, Query("c", format="octets"))


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [(SENML_JSON, b"[]"), (JSON_LINES, b"")],
)
def test_an_export_of_nothing_is_a_whole_document(tmp_path: Path, media_type: str, expected: bytes) -> None:
    assert exported(tmp_path, [], media_type, Query("c")) == expected


def test_an_empty_csv_has_its_header(tmp_path: Path) -> None:
    assert exported(tmp_path, [], CSV, Query("c")).startswith(b"time,publisher,")


def test_an_unknown_media_type_is_refused() -> None:
    with pytest.raises(UnsupportedType):
        encoder("application/pdf")


def test_what_arrives_and_is_compressed_meanwhile_doubles_and_hides_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        history = History.open(tmp_path / "history.db", log)
        await log.append([message(b'[{"n":"a","t":%d,"v":%d}]' % (T0 + n // 3, n)) for n in range(300)])
        got: list[Any] = []
        async for part in history.export(Query("c"), records=7):
            got += [record.value for record in part if isinstance(record, HistoryRecord)]
            late = (b'[{"n":"a","t":%d,"v":-1}]' % (T0 + time) for time in (0, 50, 99))
            await log.append([message(payload) for payload in late])
            await history._compact()
        assert [value for value in got if value != -1] == list(range(300))
        await history.close()
        await log.close()

    asyncio.run(main())


def test_values_outside_their_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        exported(tmp_path, [], CSV, Query("c", comparator="ne"))

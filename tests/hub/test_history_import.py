"""An earlier version's file: each of its rows is found after the update, once, also if the update was cut off."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import history_import
from hub.history import History
from hub.history_model import HistoryRecord, Query
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_JSON, Message
from hub.topics import Filter

T0 = 1_700_000_000
# The tables as the earlier version made them.
OLD = (
    "CREATE TABLE migration(name TEXT PRIMARY KEY) WITHOUT ROWID",
    "INSERT INTO migration VALUES ('history/1')",
    "CREATE TABLE series(id INTEGER PRIMARY KEY, channel TEXT NOT NULL, subtopic TEXT NOT NULL, "
    "publisher TEXT NOT NULL, protocol TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL, "
    "records INTEGER NOT NULL, UNIQUE (channel, subtopic, publisher, protocol, name, unit))",
    "CREATE TABLE record(series INTEGER NOT NULL, time REAL NOT NULL, seq INTEGER NOT NULL, "
    "n INTEGER NOT NULL, v REAL, vs TEXT, vb INTEGER, vd BLOB, sum REAL, update_time REAL, "
    "PRIMARY KEY (series, time, seq, n)) WITHOUT ROWID",
    "CREATE TABLE other(channel TEXT NOT NULL, created_ns INTEGER NOT NULL, seq INTEGER NOT NULL, "
    "n INTEGER NOT NULL, format TEXT NOT NULL, subtopic TEXT NOT NULL, publisher TEXT NOT NULL, "
    "protocol TEXT NOT NULL, content_type TEXT NOT NULL, payload BLOB NOT NULL, "
    "PRIMARY KEY (channel, created_ns, seq, n)) WITHOUT ROWID",
    "CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)


def old_file(path: Path, cursor: int) -> None:
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode = WAL")
    for statement in OLD:
        conn.execute(statement)
    conn.execute("INSERT INTO state VALUES ('cursor', ?)", (cursor,))
    for number, name in enumerate(("a", "b", "mixed"), 1):
        conn.execute("INSERT INTO series VALUES (?, 'c', '', 'thing', 'mqtt', ?, 'Cel', 0)", (number, name))
    conn.executemany(
        "INSERT INTO record VALUES (?, ?, ?, 0, ?, NULL, NULL, NULL, NULL, NULL)",
        [(1 + n % 2, T0 + n / 2, n, n / 10) for n in range(700)],
    )
    conn.executemany(
        "INSERT INTO record VALUES (3, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (T0, 1, 0, None, "text", None, None, None, None),
            (T0, 1, 1, None, None, 0, None, None, 60.0),
            (T0, 1, 2, None, None, None, b"hi", None, None),
            (T0, 1, 3, 1.5, None, None, None, 7.25, None),
        ],
    )
    conn.executemany(
        "INSERT INTO other VALUES ('c', ?, ?, 0, ?, '', 'thing', 'mqtt', ?, ?)",
        [
            ((T0 + 1) * 10**9 + 7, 5, "json", JSON, b'{"a":1}'),
            ((T0 + 2) * 10**9, 6, "octets", OCTET_STREAM, b"\x00\xff"),
        ],
    )
    conn.commit()
    conn.close()


async def opened(folder: Path) -> tuple[Log, History]:
    log = Log.open(folder / "log.db")
    return log, History.open(folder / "history.db", log)


async def check(history: History, numbers: int) -> None:
    page = await history.query(Query("c", format="messages", limit=1000))
    assert page.total == len(page.messages) == numbers + 4
    series = history._tail.series.values()
    assert history.records == sum(one.run.chunked + len(one.run.seqs) for one in series) > numbers
    found = sorted(
        record.value
        for record in page.messages
        if isinstance(record, HistoryRecord) and record.name in "ab" and record.value is not None
    )
    assert found[:700] == [n / 10 for n in range(700)]
    mixed: list[dict[str, Any]] = msgspec.to_builtins(
        (await history.query(Query("c", name="mixed"))).messages
    )
    assert [
        (item.get("string_value"), item.get("bool_value"), item.get("data_value"), item.get("value"))
        for item in reversed(mixed)
    ] == [
        ("text", None, None, None),
        (None, False, None, None),
        (None, None, "aGk", None),
        (None, None, None, 1.5),
    ]
    assert [(item.get("sum"), item.get("update_time")) for item in mixed] == [
        (7.25, None),
        (None, None),
        (None, 60.0),
        (None, None),
    ]
    json = await history.query(Query("c", format="json"))
    assert msgspec.to_builtins(json.messages)[0]["payload"] == {"a": 1}
    assert msgspec.to_builtins(json.messages)[0]["created"] == (T0 + 1) * 10**9 + 7
    octets = await history.query(Query("c", format="octets"))
    assert msgspec.to_builtins(octets.messages)[0]["payload"] == "AP8="
    for content_type, payload in ((JSON, b'{"a":1}'), (OCTET_STREAM, b"\x00\xff")):
        last = await history.last_kept(Filter("c", "", content_type))
        assert last is not None
        assert last.payload == payload


def pack(n: int) -> Message:
    return Message(
        "c", "", "thing", "mqtt", SENML_JSON, b'[{"n":"a","u":"Cel","v":%d}]' % (1000 + n), T0 * 10**9
    )


def test_rows_become_chunks_and_the_log_goes_on_where_they_end(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        await log.append([pack(n) for n in range(10)])
        await log.close()
        old_file(tmp_path / "history.db", 4)  # of ten messages, four are rows already
        log, history = await opened(tmp_path)
        for _ in range(3000):
            if history._old is None:
                break
            await asyncio.sleep(0.01)
        await check(history, 706)
        assert not (tmp_path / "history.db.rows").exists()
        await history.close()
        await log.close()
        log, history = await opened(tmp_path)
        await check(history, 706)
        await history._compact()
        await check(history, 706)
        await history.close()
        await log.close()

    asyncio.run(main())


def test_an_import_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_import, "STEP_ROWS", 50)
    old_file(tmp_path / "history.db", 0)

    async def main() -> None:
        starts = 0
        while True:
            log, history = await opened(tmp_path)
            starts += 1
            for _ in range(40):
                await asyncio.sleep(0.001)
            unfinished = history._old is not None
            if not unfinished:
                await check(history, 700)
            await history.close()
            await log.close()
            if not unfinished:
                break
        assert starts > 1

    asyncio.run(main())


def test_rows_that_cannot_be_read_are_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "history.db.rows").write_bytes(b"\1" * 9000)

    async def main() -> None:
        log, history = await opened(tmp_path)
        await log.append([pack(1)])
        assert (await history.query(Query("c"))).total == 1
        await history.close()
        await log.close()

    asyncio.run(main())
    assert "cannot be read" in caplog.text

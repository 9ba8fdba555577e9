"""The history's file: SenML records by series and time, other messages by channel and time.

Belongs to one thread at a time; `hub.history` gives it one. Each step is one transaction together with the
number of the last message taken, so a message is taken exactly once whatever happens in between.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from . import senml
from .database import Migration, check, migrate, open_or_set_aside, open_writer
from .errors import Invalid, SenmlError
from .message import JSON, SENML_CBOR, SENML_JSON, Message

log = logging.getLogger("hub.history")

MAX_SERIES = 100_000  # kept in memory at about 500 bytes each; the records of further series are not kept
MAX_MERGED = 10_000  # series one query may run over
MAX_REACH = 1_000_000  # offset + limit
MAX_LIMIT = 1000  # as Mainflux
TRIM_ROWS = 2_000  # removed in one step at most
DAY_S = 86_400.0

COMPARATORS = {"eq": "=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
MESSAGES = "messages"  # the format that means SenML records

_MIGRATIONS = (
    Migration(
        "history/1",
        (
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
            "INSERT INTO state VALUES ('cursor', 0)",
        ),
    ),
)

SeriesKey = tuple[str, str, str, str, str, str]  # channel, subtopic, publisher, protocol, name, unit


class HistoryRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One SenML record as Mainflux's readers show it; fields without a value are left out of its JSON."""

    channel: str
    publisher: str
    protocol: str
    name: str
    time: float
    subtopic: str = ""
    unit: str = ""
    update_time: float | None = None
    value: float | None = None
    string_value: str | None = None
    bool_value: bool | None = None
    data_value: str | None = None  # base64url, as in SenML JSON
    sum: float | None = None


class HistoryMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message that is not SenML: JSON as itself, other bytes as base64."""

    channel: str
    created: int  # UTC nanoseconds
    publisher: str
    protocol: str
    payload: Any
    subtopic: str = ""
    content_type: str = ""  # of what is not JSON


class HistoryPage(msgspec.Struct, frozen=True):
    """Part of an answer, newest first: `messages` from `offset` on, of `total` that match."""

    offset: int
    limit: int
    total: int
    messages: list[HistoryRecord] | list[HistoryMessage]


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for (Mainflux 0.13 reader). None means "any"; 0, "" and False are values like others."""

    channel: str
    offset: int = 0
    limit: int = 10
    format: str = MESSAGES
    name: str | None = None
    subtopic: str | None = None
    publisher: str | None = None
    protocol: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None  # base64url
    comparator: str = "eq"  # of v and vs
    from_s: float | None = None  # UTC seconds, from_s <= time < to_s
    to_s: float | None = None


class HistoryStore:
    """Takes messages in and answers queries."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.undecodable = 0  # messages whose SenML did not decode
        self.series_refused = 0  # records of series beyond MAX_SERIES
        self._conn, self.set_aside = open_or_set_aside(path, lambda: self._open(path))

    def _open(self, path: Path) -> sqlite3.Connection:
        conn = open_writer(path)
        try:
            check(conn, path)
            migrate(conn, _MIGRATIONS)
            self._load(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _load(self, conn: sqlite3.Connection) -> None:
        (cursor,) = conn.execute(
            "SELECT CAST(sum(value) AS INTEGER) FROM state WHERE name = 'cursor'"
        ).fetchone()
        self.cursor: int = cursor or 0
        self._heap: list[tuple[float, int]] = []  # time of a series' first record, once asked for
        self._series: dict[SeriesKey, int] = {}
        self._records: dict[int, int] = {}
        for series_id, records, *key in conn.execute(
            "SELECT id, CAST(records AS INTEGER), channel, subtopic, publisher, protocol, name, unit FROM series"
        ):
            self._series[tuple(key)] = series_id
            self._records[series_id] = records

    def close(self) -> None:
        self._conn.close()

    # Taking in

    def take(self, messages: Sequence[Message], up_to: int) -> None:
        """Keep what `messages` say and remember that everything up to number `up_to` was seen.

        One transaction.
        """
        conn = self._conn
        before = len(self._series)
        conn.execute("BEGIN IMMEDIATE")
        try:
            records, others, counts = self._rows(messages)
            conn.executemany("INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", records)
            conn.executemany("INSERT OR IGNORE INTO other VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", others)
            conn.executemany(
                "UPDATE series SET records = ? WHERE id = ?",
                [(self._records[series] + count, series) for series, count in counts.items()],
            )
            conn.execute("UPDATE state SET value = ? WHERE name = 'cursor'", (up_to,))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            for key in list(itertools.islice(self._series, before, None)):
                del self._records[self._series.pop(key)]
            raise
        for series, count in counts.items():
            self._records[series] += count
        self.cursor = up_to

    def _rows(
        self, messages: Sequence[Message]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], dict[int, int]]:
        records: list[tuple[Any, ...]] = []
        others: list[tuple[Any, ...]] = []
        counts: dict[int, int] = {}
        for message in messages:
            if message.content_type not in (SENML_JSON, SENML_CBOR):
                others.extend(_other_rows(message))
                continue
            try:
                resolved = senml.decode(message.content_type, message.payload, message.created_ns / 1e9)
            except SenmlError as error:
                self.undecodable += 1
                log.warning("message %d is not kept in the history: %s", message.seq, error)
                continue
            for n, record in enumerate(resolved):
                series = self._series_of(message, record)
                if series is None:
                    self.series_refused += 1
                    continue
                counts[series] = counts.get(series, 0) + 1
                records.append(
                    (
                        series,
                        record.time,
                        message.seq,
                        n,
                        record.value,
                        record.string_value,
                        record.bool_value,
                        record.data_value,
                        record.sum,
                        record.update_time,
                    )
                )
        records.sort(key=_by_place)  # neighbours share a page
        return records, others, counts

    def _series_of(self, message: Message, record: senml.Record) -> int | None:
        key = (
            message.channel,
            message.subtopic,
            message.publisher,
            message.protocol,
            record.name,
            record.unit,
        )
        series = self._series.get(key)
        if series is None and len(self._series) < MAX_SERIES:
            series = self._conn.execute(
                "INSERT INTO series(channel, subtopic, publisher, protocol, name, unit, records) "
                "VALUES (?, ?, ?, ?, ?, ?, 0)",
                key,
            ).lastrowid
            assert series is not None
            self._series[key] = series
            self._records[series] = 0
        return series

    # Asking

    def query(self, query: Query) -> HistoryPage:
        """The page asked for, newest first. Raises Invalid for values outside their limits."""
        _check(query)
        if query.format != MESSAGES:
            return self._query_others(query)
        series = self._matching_series(query)
        if len(series) > MAX_MERGED:
            raise Invalid(f"more than {MAX_MERGED} series; ask for a name or publisher")
        where, values = _conditions(query, "time", 1.0)
        narrowed = bool(where)
        value_where, value_values = _value_conditions(query)
        where, values = where + value_where, values + value_values
        if narrowed or value_where:
            total = sum(self._count(series_id, where, values) for series_id in series)
        else:
            total = sum(self._records[series_id] for series_id in series)
        newest = self._newest(series, where, values, query.offset, query.limit)
        return HistoryPage(query.offset, query.limit, total, [_record(series[row[0]], row) for row in newest])

    def _matching_series(self, query: Query) -> dict[int, SeriesKey]:
        wanted = (
            query.channel,
            _dotted(query.subtopic),
            query.publisher,
            query.protocol,
            query.name,
        )
        return {
            series_id: key
            for key, series_id in self._series.items()
            if key[0] == query.channel
            and all(want is None or have == want for want, have in zip(wanted, key, strict=False))
        }

    def _count(self, series: int, where: str, values: list[Any]) -> int:
        row = self._conn.execute(f"SELECT count(*) FROM record WHERE series = ?{where}", (series, *values))
        return int(row.fetchone()[0])

    def _newest(
        self, series: Iterable[int], where: str, values: list[Any], offset: int, limit: int
    ) -> list[tuple[Any, ...]]:
        """Rows `offset` to `offset` + `limit` of all series together.

        Each series is read only as far as needed.
        """
        sql = f"SELECT * FROM record WHERE series = ?{where} ORDER BY time DESC, seq DESC, n DESC LIMIT ?"
        cursors = [self._conn.execute(sql, (one, *values, offset + limit)) for one in series]
        merged = heapq.merge(*cursors, key=_by_age, reverse=True)
        found = list(itertools.islice(merged, offset, offset + limit))
        for cursor in cursors:
            cursor.close()
        return found

    def _query_others(self, query: Query) -> HistoryPage:
        where, values = _conditions(query, "created_ns", 1e9)
        for column, value in (
            ("format", query.format),
            ("subtopic", _dotted(query.subtopic)),
            ("publisher", query.publisher),
            ("protocol", query.protocol),
        ):
            if value is not None:
                where += f" AND {column} = ?"
                values.append(value)
        rows = self._conn.execute(
            "SELECT channel, created_ns, publisher, protocol, payload, subtopic, content_type FROM other "
            f"WHERE channel = ?{where} ORDER BY created_ns DESC, seq DESC, n DESC LIMIT ? OFFSET ?",
            (query.channel, *values, query.limit, query.offset),
        ).fetchall()
        (total,) = self._conn.execute(
            f"SELECT count(*) FROM other WHERE channel = ?{where}", (query.channel, *values)
        ).fetchone()
        return HistoryPage(query.offset, query.limit, total, [_message(row) for row in rows])

    # Retention

    def trim(self) -> None:
        """Remove a step of the oldest data while the file is too large."""
        if self.used_bytes() <= self._max_bytes:
            return
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        (other,) = conn.execute("SELECT min(created_ns) FROM other").fetchone()
        oldest = self._oldest_series()
        if other is not None and (oldest is None or other / 1e9 < oldest[0]):
            conn.execute(
                "DELETE FROM other WHERE (channel, created_ns, seq, n) IN "
                "(SELECT channel, created_ns, seq, n FROM other WHERE created_ns < ? LIMIT ?)",
                (other + int(DAY_S * 1e9), TRIM_ROWS),
            )
        elif oldest is not None:
            time, series = oldest
            removed = conn.execute(
                "DELETE FROM record WHERE series = ?1 AND (time, seq, n) IN (SELECT time, seq, n FROM record "
                "WHERE series = ?1 AND time < ?2 ORDER BY time LIMIT ?3)",
                (series, time + DAY_S, TRIM_ROWS),
            ).rowcount
            self._records[series] -= removed
            conn.execute("UPDATE series SET records = ? WHERE id = ?", (self._records[series], series))
        conn.execute("COMMIT")

    def _oldest_series(self) -> tuple[float, int] | None:
        """The series with the oldest record, and that record's time.

        Looked up for all series only when the heap has run empty; in between, a series is put back by what it
        begins with now.
        """
        if not self._heap:
            self._heap = [first for series in self._records if (first := self._first_of(series))]
            heapq.heapify(self._heap)
        while self._heap:
            time, series = self._heap[0]
            first = self._first_of(series)
            if first == (time, series):
                return first
            if first:
                heapq.heapreplace(self._heap, first)
            else:
                heapq.heappop(self._heap)
        return None

    def _first_of(self, series: int) -> tuple[float, int] | None:
        row = self._conn.execute(
            "SELECT time FROM record WHERE series = ? ORDER BY time LIMIT 1", (series,)
        ).fetchone()
        return (row[0], series) if row else None

    def used_bytes(self) -> int:
        """Bytes of the file in use: pages less free ones."""
        (pages,) = self._conn.execute("PRAGMA page_count").fetchone()
        (free,) = self._conn.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._conn.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)


def _by_place(row: tuple[Any, ...]) -> tuple[int, float]:
    return row[0], row[1]


def _by_age(row: tuple[Any, ...]) -> tuple[float, int, int]:
    return row[1], row[2], row[3]


def _other_rows(message: Message) -> Iterator[tuple[Any, ...]]:
    """A row for a message, or one for each element of a JSON array."""
    # Mainflux names the format after the last element of the subtopic.
    name = message.subtopic.rpartition(".")[2] or ("json" if message.content_type == JSON else "octets")
    payloads = [message.payload]
    if message.content_type == JSON and message.payload.lstrip()[:1] == b"[":
        payloads = [bytes(item) for item in msgspec.json.decode(message.payload, type=list[msgspec.Raw])]
    for n, payload in enumerate(payloads):
        yield (
            message.channel,
            message.created_ns,
            message.seq,
            n,
            name,
            message.subtopic,
            message.publisher,
            message.protocol,
            message.content_type,
            payload,
        )


def _check(query: Query) -> None:
    if not 1 <= query.limit <= MAX_LIMIT:
        raise Invalid(f"limit is 1 to {MAX_LIMIT}")
    if query.offset < 0 or query.offset + query.limit > MAX_REACH:
        raise Invalid(f"offset is 0 to {MAX_REACH - query.limit}")
    if query.comparator not in COMPARATORS:
        raise Invalid(f"comparator is one of {', '.join(COMPARATORS)}")


def _conditions(query: Query, column: str, scale: float) -> tuple[str, list[Any]]:
    where = ""
    values: list[Any] = []
    if query.from_s is not None:
        where += f" AND {column} >= ?"
        values.append(query.from_s * scale)
    if query.to_s is not None:
        where += f" AND {column} < ?"
        values.append(query.to_s * scale)
    return where, values


def _value_conditions(query: Query) -> tuple[str, list[Any]]:
    """Conditions on values; columns and operators are ours, what was asked for is a parameter."""
    operator = COMPARATORS[query.comparator]
    where = ""
    values: list[Any] = []
    if query.v is not None:
        where += f" AND v {operator} ?"
        values.append(query.v)
    if query.vs is not None:
        where += f" AND vs {operator} ?"
        values.append(query.vs)
    if query.vb is not None:
        where += " AND vb = ?"
        values.append(query.vb)
    if query.vd is not None:
        try:
            octets = base64.urlsafe_b64decode(query.vd + "=" * (-len(query.vd) % 4))
        except ValueError:
            raise Invalid("vd is base64url") from None
        where += " AND vd = ?"
        values.append(octets)
    return where, values


def _dotted(subtopic: str | None) -> str | None:
    return subtopic if subtopic is None else ".".join(filter(None, subtopic.replace("/", ".").split(".")))


def _record(key: SeriesKey, row: tuple[Any, ...]) -> HistoryRecord:
    _, time, _, _, v, vs, vb, vd, total, update_time = row
    return HistoryRecord(
        channel=key[0],
        subtopic=key[1],
        publisher=key[2],
        protocol=key[3],
        name=key[4],
        unit=key[5],
        time=time,
        update_time=update_time,
        value=v,
        string_value=vs,
        bool_value=None if vb is None else bool(vb),
        data_value=None if vd is None else base64.urlsafe_b64encode(vd).rstrip(b"=").decode(),
        sum=total,
    )


def _message(row: tuple[Any, ...]) -> HistoryMessage:
    channel, created, publisher, protocol, payload, subtopic, content_type = row
    if content_type == JSON:
        return HistoryMessage(channel, created, publisher, protocol, msgspec.json.decode(payload), subtopic)
    text = base64.b64encode(payload).decode()
    return HistoryMessage(channel, created, publisher, protocol, text, subtopic, content_type)

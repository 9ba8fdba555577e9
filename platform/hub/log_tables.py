"""The log's tables, and the statements that fill them: what one transaction of the writer is made of."""

from __future__ import annotations

import itertools
import operator
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from .database import Migration, primary_code
from .errors import WriteRefused
from .log_batch import Outcome, Unit
from .log_reader import encode_row
from .message import Message

SCHEMA = (
    Migration(
        "log/1",
        (
            "CREATE TABLE log(seq INTEGER PRIMARY KEY, body BLOB NOT NULL)",
            "CREATE TABLE cursor(name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
            # What a reader has missed: messages removed before its cursor had passed them.
            "CREATE TABLE gap(id INTEGER PRIMARY KEY, cursor TEXT NOT NULL, first INTEGER NOT NULL, "
            "last INTEGER NOT NULL, messages INTEGER NOT NULL)",
            # Numbers reserved and not given to a stored message: nothing is missing there.
            "CREATE TABLE hole(first INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
            "CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
            "INSERT INTO state(name, value) VALUES ('reserved', 0)",
        ),
    ),
    Migration(
        "log/2",
        (
            # How far the stamps of a boot were wrong (hub.timekeeping), and what the last process knew of the clock.
            "CREATE TABLE correction(id INTEGER PRIMARY KEY, boot TEXT NOT NULL, up_to_seq INTEGER NOT NULL, "
            "offset_ns INTEGER NOT NULL, quality TEXT NOT NULL)",
            "CREATE TABLE clock(id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL, "
            "offset_ns INTEGER NOT NULL, quality TEXT NOT NULL, wall_ns INTEGER NOT NULL)",
        ),
        copied={"clock": 3_600.0},
    ),
)

# One statement a batch, whatever its length: sqlite3 gives up the interpreter lock around every step and,
# beside a busy event loop, waits up to a switch interval (5 ms) to get it back. A statement a row would pay
# that per row.
_INSERT = (
    "INSERT INTO log(seq, body) SELECT ?1 + key, substr(?2, (value >> 32) + 1, value & 4294967295) "
    "FROM json_each(?3)"
)

# SQLite's answers that blame the statement, not the disk: SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE,
# RANGE.
_STATEMENT_ERRORS = frozenset({1, 18, 19, 20, 21, 25})


def insert(conn: sqlite3.Connection, messages: Sequence[Message], *, small: bool) -> int:
    """Insert `messages`, whose numbers are consecutive; `small`: compressed. Returns the bytes of their rows."""
    places = []
    offset = 0
    bodies = [encode_row(message, small=small) for message in messages]
    for body in bodies:
        size = len(body)
        places.append(offset << 32 | size)
        offset += size
    conn.execute(_INSERT, (messages[0].seq, b"".join(bodies), msgspec.json.encode(places).decode()))
    return offset


def run_together(conn: sqlite3.Connection, units: Sequence[Unit]) -> list[str]:
    """Run the writes of all units, those that follow each other with the same statement at once.

    Returns the statements.
    """
    statements = []
    writes = itertools.chain.from_iterable(unit.also for unit in units)
    for sql, run in itertools.groupby(writes, key=operator.itemgetter(0)):
        conn.executemany(sql, [params for _, params in run])
        statements.append(sql)
    return statements


def run_units(conn: sqlite3.Connection, units: Sequence[Unit], outcome: Outcome) -> int:
    """Run each unit's writes behind a savepoint; one that is refused takes its messages with it.

    Returns how many messages that were.
    """
    dropped = 0
    for index, unit in enumerate(units):
        conn.execute("SAVEPOINT unit")
        try:
            for sql, params in unit.also:
                conn.execute(sql, params)
        except sqlite3.Error as error:
            if not is_statement_error(error):
                raise
            conn.execute("ROLLBACK TO unit")
            outcome.refused[index] = WriteRefused(str(error))
            if unit.last >= unit.first:
                conn.execute("DELETE FROM log WHERE seq BETWEEN ? AND ?", (unit.first, unit.last))
                conn.execute("INSERT INTO hole(first, last) VALUES (?, ?)", (unit.first, unit.last))
                dropped += unit.last - unit.first + 1
        conn.execute("RELEASE unit")
    return dropped


def put_cursors(conn: sqlite3.Connection, cursors: Mapping[str, int | None]) -> None:
    """Write where readers stand; None forgets one."""
    for name, seq in cursors.items():
        if seq is None:
            conn.execute("DELETE FROM cursor WHERE name = ?", (name,))
        else:
            conn.execute("INSERT OR REPLACE INTO cursor(name, seq) VALUES (?, ?)", (name, seq))


def is_statement_error(error: sqlite3.Error) -> bool:
    """True where a statement or its parameters are to blame, and neither the disk nor the file."""
    if primary_code(error) in _STATEMENT_ERRORS:
        return True
    # What the sqlite3 module raises itself: wrong number or type of parameters.
    return isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))

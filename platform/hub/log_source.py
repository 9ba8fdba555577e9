"""Where the log's readers get their connections: beside a writer, or on a disk that nothing can be written to.

A reader of a WAL database shares an index file with the writer. On a full or read-only disk that file cannot be
made; then each reader keeps the index in its own memory, which is right as long as nobody writes. A lock sees to
that: it is held while the writer opens the file, and readers begin anew afterwards.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .database import Migration, open_reader, open_unwritten, way_to_read

log = logging.getLogger("hub.log")

MAX_DAMAGED = 10_000  # numbers remembered; more damage than that is beyond counting


class ReaderSource:
    """Shared by the writer, which says how the file can be read, and all readers."""

    def __init__(self, path: Path, schema: Sequence[Migration]) -> None:
        self.path = path
        self.lock = threading.RLock()  # held by readers only while they cannot share an index with a writer
        self.shared = True
        self.damaged: set[int] = set()  # numbers of rows that some reader found damaged
        self.generation = 0  # a reader whose connection is of an earlier one opens another
        self._schema = schema
        self._unshared: list[sqlite3.Connection] = []
        self._way: str | None = None  # of reading without a writer, once it has been found

    def report(self, seq: int) -> None:
        """A reader has passed over row `seq`; said once, however many readers meet it."""
        if seq not in self.damaged and len(self.damaged) < MAX_DAMAGED:
            self.damaged.add(seq)
            log.error("row %d of the log is damaged and passed over", seq)

    def cut_off(self) -> None:
        """From now on there is no writer."""
        with self.lock:
            self.shared = False
            self._way = None
            self.generation += 1

    def let_go(self) -> None:
        """Close what reads without locks, before a writer opens the file; its caller holds the lock.

        Such a connection takes itself for the only one: closed later, it could remove the WAL of the writer,
        and the kernel would drop the writer's locks.
        """
        for connection in list(self._unshared):
            connection.close()
        self._unshared.clear()
        self._way = None
        self.generation += 1

    def join(self) -> None:
        """A writer has opened the file; its caller holds the lock."""
        self.shared = True
        self.generation += 1

    def open(self) -> sqlite3.Connection:
        """A connection that only reads; an empty log in memory where the file cannot be read at all."""
        if self.shared:
            return open_reader(self.path)
        if self._way is None:
            self._way = way_to_read(self.path, self._schema)
        conn = open_unwritten(self._way, self._schema)
        self._unshared.append(conn)
        return conn


class SourcedConnection:
    """A reading connection that follows its source from one way of reading to the other."""

    def __init__(self, source: ReaderSource) -> None:
        self._source = source
        self._generation = source.generation
        self._conn = source.open()

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows at once: no statement stays open that would hold up a checkpoint."""
        source = self._source
        if source.shared and self._generation == source.generation:
            return self._conn.execute(sql, params).fetchall()
        with source.lock:
            return self.connection.execute(sql, params).fetchall()

    @property
    def connection(self) -> sqlite3.Connection:
        """What to read with now; another one after the way of reading has changed."""
        source = self._source
        with source.lock:
            if self._generation != source.generation:
                self._conn.close()
                self._generation = source.generation
                self._conn = source.open()
            return self._conn

    def close(self) -> None:
        self._conn.close()

"""What can be asked of the log without changing it: messages by number, how many, and what somebody missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .log_reader import LogReader
from .log_source import ReaderSource
from .message import Message

# Messages above a number: the span of numbers in one snapshot, less what was never stored.
_COUNT_AFTER = """
SELECT coalesce((
    SELECT high - low + 1 - coalesce((
        SELECT sum(min(CAST(last AS INTEGER), high) - max(first, low) + 1)
        FROM hole WHERE first <= high AND CAST(last AS INTEGER) >= low), 0)
    FROM (SELECT max(?1 + 1, (SELECT min(seq) FROM log)) AS low, (SELECT max(seq) FROM log) AS high)
    WHERE high >= low), 0)
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that a cursor's owner never got, because retention had to remove them."""

    cursor: str
    first_seq: int
    last_seq: int
    messages: int


class LogView:
    """The reading half of `Log`; belongs to the event loop's thread, other threads take a `reader()`."""

    def __init__(self, source: ReaderSource, committed_seq: int) -> None:
        self.committed_seq = committed_seq
        self._source = source
        self._reader = LogReader(source)

    def read(
        self, after_seq: int, match: Callable[[Message], bool] | None = None, limit: int = 100
    ) -> list[Message]:
        """Up to `limit` committed messages after `after_seq` that match, ascending.

        Looks on until it has found them or the log ends: for a rare match use `scan`, which is bounded.
        """
        return self._reader.scan(after_seq, match, limit, up_to=self.committed_seq)[0]

    def scan(
        self, after_seq: int, match: Callable[[Message], bool] | None, limit: int, *, max_rows: int
    ) -> tuple[list[Message], int]:
        """As `read`, through at most `max_rows` messages; also returns the number up to which it looked."""
        return self._reader.scan(after_seq, match, limit, max_rows=max_rows, up_to=self.committed_seq)

    def read_one(self, seq: int) -> Message | None:
        """The committed message with this number, or None."""
        return self._reader.read_one(seq) if seq <= self.committed_seq else None

    def query(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """A reading statement over the log's file, for tables that other parts keep there."""
        return self._reader.query(sql, params)

    def reader(self) -> LogReader:
        """A reader for another thread; the caller closes it."""
        return LogReader(self._source)

    def count_after(self, seq: int) -> int:
        """How many committed messages have a number above `seq`: exact, and as quick for millions as for one."""
        ((count,),) = self.query(_COUNT_AFTER, (seq,))
        return int(count)

    @property
    def damaged_rows(self) -> int:
        """Rows that any reader of this log, in whatever thread, found damaged and passed over."""
        return len(self._source.damaged)

    def gaps(self, name: str | None = None) -> list[Gap]:
        """What retention removed before a cursor had passed it, oldest first; of one cursor or of all."""
        rows = self.query(
            "SELECT cursor, first, last, messages FROM gap WHERE ?1 IS NULL OR cursor = ?1 ORDER BY id",
            (name,),
        )
        return [Gap(*row) for row in rows]

"""Which messages the log lets go, and what it writes down about those that somebody had not read yet.

Bounds are messages, bytes of the file and age; where the disk runs short, what everybody has read goes as well.
All is done in steps of at most RETENTION_STEP messages, each in a transaction, so that nobody waits long for a
commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .log_batch import Limits
from .log_reader import decode_row
from .timekeeping import TRUSTED, Correction, shift

RETENTION_STEP = 1_000  # messages deleted in one commit at most: about 1 ms
VACUUM_STEP = 64  # pages given back to the disk in one step
MEASURE_BYTES = 1 << 20  # written between two looks at the size, far from its bound: a look costs 40 us
SPARE_PAGES = 2_048  # free pages kept for new messages: giving back and asking again would wear the card


@dataclass(frozen=True, slots=True)
class Step:
    """What one step removed; holds once its transaction is committed."""

    messages: int = 0
    first_seq: int = 0  # 0: as before
    gap_messages: int = 0  # removed before some cursor had passed them


class Retention:
    """Works on the writer's connection, inside its transactions."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.limits = limits
        self.size_bytes = 0  # as last measured
        self._grown = 0  # bytes that may have come on top since
        self._folder = path.parent
        self._page_size = 0
        self._expired_seq = 0  # all up to here are older than allowed
        # What to look for further expired ones with
        self._age: tuple[int, Sequence[Correction]] | None = None
        self._short = False  # the disk has less than min_free_bytes

    def measure(self, conn: sqlite3.Connection) -> None:
        """Bytes of the file in use: pages less free ones."""
        if not self._page_size:
            (self._page_size,) = conn.execute("PRAGMA page_size").fetchone()
        (pages,) = conn.execute("PRAGMA page_count").fetchone()
        (free,) = conn.execute("PRAGMA freelist_count").fetchone()
        self.size_bytes = (pages - free) * self._page_size
        self._grown = 0

    def look_at_disk(self) -> None:
        """See whether the disk has run short; once a second is enough."""
        self._short = disk.free_bytes(self._folder) < self.limits.min_free_bytes

    def look_at_age(self, conn: sqlite3.Connection, now_ns: int, corrections: Sequence[Correction]) -> None:
        """Find which of the oldest messages have expired at `now_ns`, a trusted UTC time.

        Only trusted stamps count, corrected ones included: a message whose time nobody knows goes with the
        next one after it that is known to be old enough.
        """
        if not self.limits.max_age_s:
            return
        oldest_ns = now_ns - self.limits.max_age_s * 1_000_000_000
        rows = conn.execute(
            "SELECT seq, CAST(body AS BLOB) FROM log WHERE seq > ? ORDER BY seq LIMIT ?",
            (self._expired_seq, RETENTION_STEP),
        ).fetchall()
        self._age = None
        for seq, body in rows:
            message = decode_row(seq, body)
            if message is None:
                continue
            offset, quality = shift(message.boot, seq, message.time, corrections)
            if quality in TRUSTED and message.created_ns + offset < oldest_ns:
                self._expired_seq = seq
                self._age = (now_ns, corrections)  # perhaps there are more

    def look_further(self, conn: sqlite3.Connection) -> None:
        """Look for the next expired ones, once those found have been removed."""
        if self._age:
            self.look_at_age(conn, *self._age)

    def step(self, conn: sqlite3.Connection, count: int, added: int, added_bytes: int) -> Step:
        """Remove the oldest of `count` messages beyond the bounds, inside the open transaction.

        `added`: messages that this transaction brought, which a step must at least make up for; `added_bytes` of rows.
        """
        # A row takes its place in a page that may stay half empty, or pages of its own.
        self._grown += 2 * added_bytes + (added and 4 * self._page_size)
        if self._grown > MEASURE_BYTES or self.size_bytes + self._grown > self.limits.max_bytes:
            self.measure(conn)
        over = count - self.limits.max_messages
        if self.size_bytes > self.limits.max_bytes:
            over = max(over, added + RETENTION_STEP // 10)
        # Deleting a few rows costs as much as deleting many; let some gather unless the log is tiny.
        limit = 0
        if over >= min(64, max(1, self.limits.max_messages // 100)):
            limit = min(over, RETENTION_STEP + added)
        last = removed = 0
        if limit:
            last, removed = conn.execute(
                "SELECT max(seq), count(*) FROM (SELECT seq FROM log ORDER BY seq LIMIT ?)", (limit,)
            ).fetchone()
        for bound in (self._expired_seq, self._read_by_all(conn) if self._short else 0):
            if removed < RETENTION_STEP and bound > (last or 0):
                last, removed = conn.execute(
                    "SELECT max(seq), count(*) FROM (SELECT seq FROM log WHERE seq <= ? ORDER BY seq LIMIT ?)",
                    (bound, RETENTION_STEP),
                ).fetchone()
        if not removed:
            return Step()
        missed = _record_gaps(conn, last)
        conn.execute("DELETE FROM log WHERE seq <= ?", (last,))
        conn.execute("DELETE FROM hole WHERE last <= ?", (last,))
        conn.execute("INSERT OR REPLACE INTO state(name, value) VALUES ('removed', ?)", (last,))
        (first,) = conn.execute("SELECT coalesce(min(seq), ?) FROM log", (last + 1,)).fetchone()
        return Step(removed, first, missed)

    def behind(self, count: int, first_seq: int) -> bool:
        """True while a further step would find something to remove."""
        return (
            count > self.limits.max_messages + 64
            or (count > 0 and self.size_bytes > self.limits.max_bytes)
            or (count > 0 and first_seq <= self._expired_seq)
        )

    def give_back(self, conn: sqlite3.Connection) -> bool:
        """Give a few free pages back to the disk; False where none are to spare."""
        (free,) = conn.execute("PRAGMA freelist_count").fetchone()
        if free <= (0 if self._short else max(SPARE_PAGES, self.size_bytes // self._page_size // 4)):
            return False
        # It frees a page at each step and gives no rows: `execute` would stop after the first.
        conn.executescript(f"PRAGMA incremental_vacuum({VACUUM_STEP})")
        (left,) = conn.execute("PRAGMA freelist_count").fetchone()
        return bool(left < free)

    @staticmethod
    def _read_by_all(conn: sqlite3.Connection) -> int:
        """The number that every cursor has passed; 0 where there are no cursors, and so nobody to ask."""
        (seq,) = conn.execute("SELECT coalesce(min(seq), 0) FROM cursor").fetchone()
        return int(seq)


def _record_gaps(conn: sqlite3.Connection, last: int) -> int:
    """Write down, for each cursor that has not reached `last`, what it loses; extends its newest gap."""
    missed = 0
    for name, seq in conn.execute("SELECT name, seq FROM cursor WHERE seq < ?", (last,)).fetchall():
        first, count = conn.execute(
            "SELECT min(seq), count(*) FROM log WHERE seq > ? AND seq <= ?", (seq, last)
        ).fetchone()
        if not count:
            continue
        missed += count
        extended = conn.execute(
            "UPDATE gap SET last = ?, messages = messages + ? WHERE id = "
            "(SELECT max(id) FROM gap WHERE cursor = ?) AND last >= ?",
            (last, count, name, seq),
        ).rowcount
        if not extended:
            conn.execute(
                "INSERT INTO gap(cursor, first, last, messages) VALUES (?, ?, ?, ?)",
                (name, first, last, count),
            )
    return missed

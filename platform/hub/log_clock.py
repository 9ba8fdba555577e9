"""What the log keeps of the clock: corrections of stamps, and what a restart needs to know.

The rules are in `hub.timekeeping`; here is only how they are stored, in the log's own file, with its commits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .log_batch import Write
from .log_reader import LogReader
from .message import TimeQuality
from .timekeeping import Correction, KeptClock, merged

log = logging.getLogger("hub.log")

MAX_CORRECTIONS = 1_000  # of all boots: years of starts, and a bound where a clock is set again and again

_INSERT = "INSERT OR REPLACE INTO correction(id, boot, up_to_seq, offset_ns, quality) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM correction WHERE id < ?"
_KEEP = "INSERT OR REPLACE INTO clock(id, boot, offset_ns, quality, wall_ns) VALUES (1, ?, ?, ?, ?)"


class ClockRecord:
    """In memory what the tables `correction` and `clock` hold; changes are returned as writes."""

    def __init__(self, reader: LogReader) -> None:
        self.corrections: Sequence[Correction] = ()
        self.kept: KeptClock | None = None
        self._first_id = 1  # of corrections[0]
        self._load(reader)

    def _load(self, reader: LogReader) -> None:
        """Rows that make no sense are damage: passed over and said so."""
        rows = reader.query("SELECT id, boot, up_to_seq, offset_ns, quality FROM correction ORDER BY id")
        kept = reader.query("SELECT boot, offset_ns, quality, wall_ns FROM clock")
        try:
            self.corrections = [
                Correction(str(row[1]), int(row[2]), int(row[3]), TimeQuality(row[4])) for row in rows
            ]
            self.kept = (
                KeptClock(str(kept[0][0]), int(kept[0][1]), TimeQuality(kept[0][2]), int(kept[0][3]))
                if kept
                else None
            )
        except (TypeError, ValueError) as error:
            log.error("what was kept of the clock is damaged and ignored: %s", error)
            self.corrections = ()
        if rows:
            self._first_id = int(rows[-1][0]) + 1 - len(self.corrections)

    def correct(
        self, boot: str, up_to_seq: int, offset_ns: int, quality: TimeQuality
    ) -> tuple[Correction, list[Write]]:
        """Add a correction; returns it and the writes that keep it."""
        new = Correction(boot, up_to_seq, offset_ns, quality)
        corrections = merged(self.corrections, new)
        writes: list[Write] = []
        if len(corrections) > MAX_CORRECTIONS:
            del corrections[0]
            self._first_id += 1
            writes.append((_DELETE, (self._first_id,)))
        last = corrections[-1]
        number = self._first_id + len(corrections) - 1
        writes.append((_INSERT, (number, last.boot, last.up_to_seq, last.offset_ns, str(last.quality))))
        self.corrections = corrections
        return new, writes

    def keep(self, kept: KeptClock) -> list[Write]:
        """Replace what the next start will know; returns the write."""
        self.kept = kept
        return [(_KEEP, (kept.boot, kept.offset_ns, str(kept.quality), kept.wall_ns))]

"""What the log keeps beside its messages: how far each reader has come, and how right the clock was.

Both count at once and go with the next commit.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence

from .errors import LogFailed
from .log_batch import Batch, Write
from .log_clock import ClockRecord
from .log_listeners import LogListeners
from .message import TimeQuality
from .timekeeping import TRUSTED, Correction, KeptClock

CURSOR_INTERVAL_S = 1.0  # what a crash can deliver twice


class LogMarks(LogListeners, abc.ABC):
    """The marking half of `Log`, which hands the gathering batch over."""

    _clock: ClockRecord
    _cursors: dict[str, int]
    _gather: Batch
    _next_seq: int
    _failure: LogFailed | None
    _closing: bool
    _cursor_timer: asyncio.TimerHandle | None

    @abc.abstractmethod
    def _hand_over(self) -> None: ...

    @abc.abstractmethod
    def _hand_over_soon(self) -> None: ...

    # Cursors

    def cursor(self, name: str, start: int = 0) -> int:
        """Where `name` stands: the last number it is done with. An unknown name begins at `start`."""
        if name not in self._cursors:
            self.move_cursor(name, start)
        return self._cursors[name]

    def move_cursor(self, name: str, seq: int) -> None:
        """Move `name` to `seq`.

        Seen at once, written with the next commit, within CURSOR_INTERVAL_S at the latest.
        """
        self._cursors[name] = seq
        self._write_cursor(name, seq)

    def drop_cursor(self, name: str) -> None:
        """Forget `name`; retention no longer counts what it misses."""
        if self._cursors.pop(name, None) is not None:
            self._write_cursor(name, None)

    def cursors(self) -> dict[str, int]:
        """All cursors by name."""
        return dict(self._cursors)

    def _write_cursor(self, name: str, seq: int | None) -> None:
        if self._failure or self._closing:
            return
        self._gather.cursors[name] = seq
        if self._cursor_timer is None:
            self._cursor_timer = self._loop.call_later(CURSOR_INTERVAL_S, self._on_cursor_timer)

    def _on_cursor_timer(self) -> None:
        self._cursor_timer = None
        self._gather.forced = True
        self._hand_over()

    # Time

    def correct(self, boot: str, offset_ns: int, quality: TimeQuality) -> Correction:
        """The wall clock was set by `offset_ns`: what this boot stamped so far was wrong by that much.

        Holds at once for `corrections`, and is durable with the next commit, which it forces; a full disk only
        delays it.
        """
        correction, writes = self._clock.correct(boot, self._next_seq - 1, offset_ns, quality)
        self._keep(writes)
        self._tell(self._on_correction, correction)
        return correction

    def corrections(self) -> Sequence[Correction]:
        """All that are kept, oldest first, for `timekeeping.corrected`."""
        return self._clock.corrections

    @property
    def kept_clock(self) -> KeptClock | None:
        """What was last given to `keep_clock`, by this process or the one before; None for a new log."""
        return self._clock.kept

    def keep_clock(self, kept: KeptClock) -> None:
        """Remember the clock for the next start, and let expired messages go if its time is trusted.

        Written with the next commit. To be called now and then: every few minutes is enough.
        """
        if kept.quality in TRUSTED:
            self._gather.trusted_time = (kept.wall_ns, tuple(self._clock.corrections))
        self._keep(self._clock.keep(kept))

    def _keep(self, writes: Sequence[Write]) -> None:
        """Run writes of the log's own with the next commit, which they force."""
        if self._failure or self._closing:
            return
        self._gather.lasting.extend(writes)
        self._gather.forced = True
        self._hand_over_soon()

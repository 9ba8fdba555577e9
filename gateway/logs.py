"""What a process writes to its log: one line a message, and never more lines than a person can read.

The doors are open to strangers, and whoever can send packets must not be able to fill a card or bury the one
line that matters. So each kind of message (logger, level, unformatted text) has a budget; what goes beyond it
is counted and said in one line later.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

LINES = 20  # of one kind within PERIOD_S: enough to see what goes on
PERIOD_S = 60.0
MAX_KINDS = 512  # remembered; our own code has about a hundred, libraries bring a few


class Sparing(logging.Filter):
    """Lets LINES of each kind pass in PERIOD_S; the first one of a later period says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Called with the handler's lock held."""
        kind = (record.name, record.levelno, str(record.msg))
        now = self._clock()
        begun, lines = self._kinds.get(kind, (now, 0))
        if now - begun >= PERIOD_S:
            if lines > LINES:
                record.left_out = lines - LINES
            begun, lines = now, 0
        elif kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds.popitem(last=False)
        self._kinds[kind] = (begun, lines + 1)
        if lines + 1 == LINES:
            record.last_for_now = True
        return lines < LINES


class OneLine(logging.Formatter):
    """Level, logger and text; control characters of the text are escaped, so that nobody can forge a line."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line without a traceback, which keeps its lines."""
        line = super().formatMessage(record)
        if not line.isprintable():
            line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
        if left_out := getattr(record, "left_out", 0):
            line += f" (and {left_out} more like this before, left out)"
        if getattr(record, "last_for_now", False):
            line += f" (more like this are left out for up to {PERIOD_S:.0f} s)"
        return line


def set_up(level: str) -> None:
    """Log to standard error from `level` (debug, info, warning, error) on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    handler.addFilter(Sparing())
    logging.basicConfig(level=level.upper(), handlers=[handler])

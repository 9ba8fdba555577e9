"""Edges of GPIO lines on their way from a chip to whoever watches them."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

QUEUE_LENGTH: Final = 256  # edges a watcher may leave unread; the kernel keeps 16 a line

NO_LINE: Final = -1


@dataclass(frozen=True, slots=True)
class PinEdge:
    """A level change of a line, by its BCM number. `line_seqno` counts this line's edges, `seqno` a
    watch's.
    """

    line: int
    rising: bool
    t_ns: int
    seqno: int
    line_seqno: int


class Trigger(Enum):
    """Which edges are watched; the value is what the socket protocol calls it."""

    NONE = "none"
    RISING = "rising"
    FALLING = "falling"
    BOTH = "both"

    def takes(self, rising: bool) -> bool:
        """Does an edge in this direction count?"""
        return self is Trigger.BOTH or self is (Trigger.RISING if rising else Trigger.FALLING)


class Watch:
    """The unread edges of some lines. A full queue drops the newest edge and counts it, as the kernel does.

    Not locked: the host calls it with its own lock held. `on_push` is called after each edge.
    """

    def __init__(self, triggers: Mapping[int, Trigger]) -> None:
        self.triggers = dict(triggers)
        self.dropped = 0
        self.on_push: Callable[[], None] | None = None
        self._edges: deque[PinEdge] = deque()
        self._seqno = 0
        self._line_seqno = dict.fromkeys(self.triggers, 0)
        self._fd: int | None = None

    @property
    def pending(self) -> int:
        """Edges not yet taken."""
        return len(self._edges)

    def push(self, line: int, rising: bool, t_ns: int) -> None:
        """A line changed; kept where its trigger takes it."""
        if not self.triggers.get(line, Trigger.NONE).takes(rising):
            return
        self._append(line, rising, t_ns)

    def poke(self) -> None:
        """Become pending without an edge of any line."""
        self._append(NO_LINE, True, 0)

    def _append(self, line: int, rising: bool, t_ns: int) -> None:
        self._seqno += 1
        self._line_seqno[line] = self._line_seqno.get(line, 0) + 1
        if len(self._edges) >= QUEUE_LENGTH:
            self.dropped += 1
            return
        self._edges.append(PinEdge(line, rising, t_ns, self._seqno, self._line_seqno[line]))
        if self._fd is not None and len(self._edges) == 1:
            os.eventfd_write(self._fd, 1)
        if self.on_push is not None:
            self.on_push()

    def take(self, limit: int = QUEUE_LENGTH) -> list[PinEdge]:
        """The oldest pending edges."""
        taken = [self._edges.popleft() for _ in range(min(limit, len(self._edges)))]
        if self._fd is not None and taken and not self._edges:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return taken

    def fileno(self) -> int:
        """A descriptor that is readable while edges are pending; made on first use, closed by `close`."""
        if self._fd is None:
            self._fd = os.eventfd(1 if self._edges else 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._fd

    def has_fd(self, fd: int) -> bool:
        """Is this its descriptor?"""
        return self._fd == fd

    def close(self) -> None:
        """Forget the edges and close the descriptor."""
        self._edges.clear()
        self.triggers.clear()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

"""Edges from a library's callback thread to the module's owner."""

import contextlib
import os
from collections import deque
from collections.abc import Iterable

from radio.hardware.gpiod_lines import MAX_EDGES
from radio.seam import Edge


class EdgeQueue:
    """Written by the callback thread, read by the owner; a deque hands over without a lock.

    Edges of each pin are counted, so that one which the queue had no room for shows as a gap.
    """

    def __init__(self, pins: Iterable[int]) -> None:
        self._seqno = dict.fromkeys(pins, 0)
        self._edges: deque[Edge] = deque(maxlen=MAX_EDGES)
        self._pending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def push(self, pin: int, name: str, rising: bool, t_ns: int, *, coarse: bool) -> None:
        """An edge of `pin`, which the driver calls `name`."""
        self._seqno[pin] = seqno = self._seqno[pin] + 1
        self._edges.append(Edge(name, rising, t_ns, seqno, coarse))
        os.eventfd_write(self._pending, 1)

    def fileno(self) -> int:
        """Readable while edges are pending."""
        return self._pending

    def take(self) -> list[Edge]:
        """The pending edges, oldest first."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._pending)
        edges = []
        while self._edges:
            edges.append(self._edges.popleft())
        return edges

    def close(self) -> None:
        os.close(self._pending)

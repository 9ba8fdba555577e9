"""Devices in the order in which something is to be done for them; class B and class C have one each.

Pure: whoever owns it asks `next_due_ns` and calls `due` then. A device stands in the heap as often as its time was
brought forward; only the entry that `_next` names counts.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from itertools import count

from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device
from gateway.lorawan.orders import NEVER_NS
from gateway.lorawan.outcome import Due


class Agenda(ABC):
    """A subclass says when, and what; times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Device]] = []
        self._next: dict[int, int] = {}
        self._numbers = count()  # so that the heap never compares devices

    @abstractmethod
    def _when(self, device: Device, now: Instant) -> int:
        """When something is to be done for this device; NEVER_NS where nothing is."""

    @abstractmethod
    def _act(self, device: Device, now: Instant) -> Due:
        """Its time has come."""

    def touch(self, device: Device, now: Instant) -> None:
        """Something of this device has changed: an order, a report, its class."""
        when = self._when(device, now)
        known = self._next.get(device.dev_eui)
        if when == NEVER_NS or (known is not None and known <= when):
            return  # what comes too early is looked at again
        self._next[device.dev_eui] = when
        heapq.heappush(self._heap, (when, next(self._numbers), device))

    def next_due_ns(self) -> int:
        """When `due` wants to be called."""
        return self._heap[0][0] if self._heap else NEVER_NS

    def due(self, now: Instant) -> Due:
        """What there is to do for the device whose time has come first."""
        while self._heap and self._heap[0][0] <= now.mono_ns:
            when, _, device = heapq.heappop(self._heap)
            if self._next.get(device.dev_eui) != when:
                continue  # an earlier entry has taken its place
            del self._next[device.dev_eui]
            if self._when(device, now) > now.mono_ns:
                self.touch(device, now)
                continue
            due = self._act(device, now)
            self.touch(device, now)
            return due
        return Due()

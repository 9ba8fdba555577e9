"""One uplink heard by several gateways is taken once: between the links and `gateway.uplinks`.

While frames come from one gateway only, they pass at once. As soon as there are several, a frame waits a moment for
its copies; then the one with the best signal goes on, with what the others heard beside it. The LoRaWAN server
answers through the gateway of that copy. A copy that comes later is a duplicate to the LoRaWAN server.

`Copies` is pure; `CopiesReceiver` lets time pass for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from radio.gwmp import RxPacket, TxError

MAX_WAITING = 1024  # different frames; the first gives way
MAX_COPIES = 32  # of one frame; a gateway may hear it on several channels or antennas
MAX_GATEWAYS = 128
GATEWAY_GONE_NS = 300_000_000_000  # of silence, after which a gateway is not waited for any more
LOOK_NS = 5_000_000_000


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A frame, and which gateway heard it."""

    rx: RxPacket
    eui: bytes


class Merged(msgspec.Struct, frozen=True, gc=False):
    """A frame as its best copy, with the others, best first."""

    best: Heard
    others: tuple[Heard, ...]
    at: Instant  # when the first copy came


@dataclass(slots=True)
class _Group:
    copies: list[Heard]
    at: Instant
    due_ns: int


@dataclass(slots=True)
class CopyCounters:
    """Since the start of the process."""

    merged: int = 0  # frames of which there were several copies
    copies: int = 0  # beside the ones that went on
    early: int = 0  # frames that had not to wait to the end, as all gateways had heard them
    overflow: int = 0  # frames that went on before their time, as too many waited


@dataclass(slots=True)
class Copies:
    """Frames that wait for their copies. Times are monotonic nanoseconds."""

    window_ns: int
    can_answer: Callable[[bytes], bool]  # whether downlinks can be ordered from a gateway
    counters: CopyCounters = field(default_factory=CopyCounters)
    _heard_ns: dict[bytes, int] = field(default_factory=dict)  # by gateway: its last frame
    _look_ns: int = 0  # when to look for gateways that are gone
    _groups: dict[bytes, _Group] = field(default_factory=dict)  # by PHY payload, the oldest first

    def alone(self, eui: bytes, now_ns: int) -> bool:
        """Note that gateway `eui` hears frames. Whether it is the only one, so that there is nothing to wait for."""
        heard = self._heard_ns
        heard[eui] = now_ns
        if len(heard) == 1:
            return True
        if now_ns >= self._look_ns or len(heard) > MAX_GATEWAYS:
            self._look_ns = now_ns + LOOK_NS
            for other, at_ns in list(heard.items()):
                if now_ns - at_ns > GATEWAY_GONE_NS:
                    del heard[other]
            while len(heard) > MAX_GATEWAYS:
                del heard[min(heard, key=lambda each: heard[each])]
        return len(heard) == 1 or not self.window_ns

    def add(self, rx: RxPacket, eui: bytes, now: Instant) -> list[Merged]:
        """Take a frame; returns what goes on at once."""
        ready: list[Merged] = []
        group = self._groups.get(rx.data)
        if group is None:
            if len(self._groups) >= MAX_WAITING:
                self.counters.overflow += 1
                ready.append(self._merge(next(iter(self._groups))))
            group = self._groups[rx.data] = _Group([], now, now.mono_ns + self.window_ns)
        if len(group.copies) < MAX_COPIES:
            group.copies.append(Heard(rx, eui))
        else:
            self.counters.copies += 1
        if len({each.eui for each in group.copies}) >= len(self._heard_ns):
            self.counters.early += 1
            ready.append(self._merge(rx.data))
        return ready

    def due(self, now_ns: int) -> list[Merged]:
        """The frames whose time is over."""
        return [self._merge(data) for data, group in list(self._groups.items()) if group.due_ns <= now_ns]

    def flush(self) -> list[Merged]:
        """All that waits, whether its time is over or not."""
        return [self._merge(data) for data in list(self._groups)]

    def next_deadline(self) -> int | None:
        """When `due` wants to be called; None while nothing waits."""
        return next(iter(self._groups.values())).due_ns if self._groups else None

    def _merge(self, data: bytes) -> Merged:
        """The best copy: received without errors, by a gateway that can answer, with the strongest signal."""
        group = self._groups.pop(data)
        best, *others = sorted(group.copies, key=self._rank, reverse=True)
        self.counters.merged += bool(others)
        self.counters.copies += len(others)
        return Merged(best, tuple(others), group.at)

    def _rank(self, copy: Heard) -> tuple[bool, bool, float, int]:
        rx = copy.rx
        return rx.stat >= 0, self.can_answer(copy.eui), rx.lsnr_db, rx.rssi_dbm


def by_gateway(best: Heard, others: Sequence[Heard]) -> list[Heard]:
    """The best copy of each gateway, the best of all first; `others` are sorted."""
    found: dict[bytes, Heard] = {}
    for each in (best, *others):
        found.setdefault(each.eui, each)
    return list(found.values())


class Next(Protocol):
    """What frames go on to: `gateway.uplinks.Uplinks`."""

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None: ...
    def take(self, rx: RxPacket, eui: bytes, now: Instant, others: Sequence[Heard] = (), /) -> None: ...
    def sent(self, downlink: Downlink, window: int) -> None: ...
    def failed(self, downlink: Downlink, error: TxError) -> None: ...


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]


class CopiesReceiver:
    """`gateway.link.Receiver`: merges copies, then hands on."""

    def __init__(
        self, following: Next, copies: Copies, clock: Callable[[], Instant], later: Later | None = None
    ) -> None:
        """`later` calls a function after so many seconds; the event loop does by itself."""
        self.copies = copies
        self._later = later
        self._next = following
        self._clock = clock
        self._only: bytes | None = None  # the gateway that frames come from, where it is one
        self._timer: Timer | None = None
        # Outcomes of downlinks are none of our business.
        self.sent = following.sent
        self.failed = following.failed

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        """Take the frames of one gateway."""
        if eui == self._only:  # the usual case costs nothing
            self._next.receive(packets, eui)
            return
        now = self._clock()
        alone = self.copies.alone(eui, now.mono_ns)
        if self._only is not None:
            alone = self.copies.alone(self._only, now.mono_ns)
        self._only = eui if alone and not self._timer else None
        if self._only is not None:
            self._next.receive(packets, eui)
            return
        for rx in packets:
            self._hand_on(self.copies.add(rx, eui, now))
        self._wait(now.mono_ns)

    def close(self) -> None:
        """Hand on what waits; the gateway is about to end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hand_on(self.copies.flush())

    def _wait(self, now_ns: int) -> None:
        due_ns = self.copies.next_deadline()
        if self._timer is None and due_ns is not None:
            delay_s = max(0, due_ns - now_ns) / 1e9
            later = asyncio.get_running_loop().call_later if self._later is None else self._later
            self._timer = later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock()
        self._hand_on(self.copies.due(now.mono_ns))
        self._wait(now.mono_ns)

    def _hand_on(self, merged: list[Merged]) -> None:
        for each in merged:
            self._next.take(each.best.rx, each.best.eui, each.at, each.others)

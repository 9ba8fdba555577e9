"""A simulated Raspberry Pi as its software sees it: SPI transfers, lines, edges, and time.

`LocalHost` keeps the calling threads in lock-step with virtual time: each thread that transfers, drives or
reads a line, delays or waits becomes a client of the kernel at its first such call. `FreeHost` is for code
with clocks and polls of its own, in a run at real-time speed. Fakes, the socket server and `SimClock` work
on either.
"""

import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from hw_sim.board import Board
from hw_sim.edges import PinEdge, Trigger, Watch
from hw_sim.kernel import Kernel
from radio.seam import Edge, Readable

T = TypeVar("T")

CALL_NS: Final = 200  # a plain call
SPI_OVERHEAD_NS: Final = 20_000  # a transfer besides its bits: half before the first, half after the last
SPI_HZ: Final = 8_000_000


class Host(Protocol):
    """What a driver's side sees. Times are ns of one monotonic clock, the one edges are stamped with."""

    def has_spi(self, bus: int, device: int) -> bool: ...
    def xfer(self, bus: int, device: int, data: bytes, speed_hz: int = SPI_HZ) -> bytes: ...
    def read_pin(self, line: int) -> bool: ...
    def write_pin(self, line: int, level: bool) -> None: ...
    def set_up_pin(self, line: int, level: bool) -> None: ...
    def release_pin(self, line: int) -> None: ...
    def watch(self, triggers: Mapping[int, Trigger]) -> Watch: ...
    def unwatch(self, watch: Watch) -> None: ...
    def take(self, watch: Watch, limit: int = 256) -> list[PinEdge]: ...
    def watch_of(self, fd: int) -> Watch | None: ...
    def now_ns(self) -> int: ...
    def delay(self, ns: int) -> None: ...
    def wait(self, watches: Sequence[Watch], until_ns: int | None) -> bool: ...
    def waker(self) -> Callable[[], None]: ...
    def nudge(self) -> None: ...
    def poke(self, watch: Watch) -> None: ...
    def spawn(self, fn: Callable[[], object], name: str) -> threading.Thread: ...


class _BoardHost:
    """What both hosts on a board share. Opening and closing cost no time and bind no thread."""

    def __init__(self, kernel: Kernel, board: Board) -> None:
        self.kernel = kernel
        self.board = board
        self._watches: list[Watch] = []

    def has_spi(self, bus: int, device: int) -> bool:
        """Is there a chip?"""
        return (bus, device) in self.board.devices

    def set_up_pin(self, line: int, level: bool) -> None:
        """Make a line an output with this level."""
        with self.kernel.mutex:
            self.board.set_level(line, level)

    def release_pin(self, line: int) -> None:
        """Make a line an input without pull resistor: what it leads to decides its level."""
        with self.kernel.mutex:
            self.board.release(line)

    def watch(self, triggers: Mapping[int, Trigger]) -> Watch:
        """Collect the edges of some lines from now on."""
        watch = Watch(triggers)
        with self.kernel.mutex:
            self._watches.append(watch)
            self.board.add_watch(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Stop collecting; pending edges are lost."""
        with self.kernel.mutex:
            self.board.remove_watch(watch)
            if watch in self._watches:
                self._watches.remove(watch)
            watch.close()

    def watch_of(self, fd: int) -> Watch | None:
        """The watch with this descriptor."""
        return next((watch for watch in self._watches if watch.has_fd(fd)), None)


class LocalHost(_BoardHost):
    """In process, in lock-step with virtual time."""

    def __init__(self, kernel: Kernel, board: Board) -> None:
        super().__init__(kernel, board)
        self._nudged: list[Callable[[], None]] = []

    def xfer(self, bus: int, device: int, data: bytes, speed_hz: int = SPI_HZ) -> bytes:
        """One chip-select assertion; takes effect when the last bit is through. Raises NoSuchDevice,
        Misuse.
        """
        chip = self.board.chip(bus, device)
        wire_ns = len(data) * 8_000_000_000 // speed_hz
        half_ns = SPI_OVERHEAD_NS // 2
        client = self.kernel.client_here()
        return client.call(lambda: chip.spi(data), half_ns + wire_ns, half_ns, ahead=True)

    def read_pin(self, line: int) -> bool:
        """A line's level."""
        return self.kernel.client_here().call(lambda: self.board.level(line), CALL_NS, ahead=True)

    def write_pin(self, line: int, level: bool) -> None:
        """Drive a line."""
        self._plain(lambda: self.board.set_level(line, level))

    def take(self, watch: Watch, limit: int = 256) -> list[PinEdge]:
        """The pending edges of a watch, oldest first."""
        return self.kernel.client_here().call(lambda: watch.take(limit), CALL_NS, ahead=True)

    def now_ns(self) -> int:
        """The calling thread's time; reading it is a plain call for a client and binds nobody else."""
        return self.kernel.read_clock_ns(CALL_NS)

    def delay(self, ns: int) -> None:
        """Let time pass."""
        self.kernel.client_here().delay(ns)

    def wait(self, watches: Sequence[Watch], until_ns: int | None) -> bool:
        """Until an edge is pending, a wake, or `until_ns`; True where it was a wake (see `waker`)."""
        client = self.kernel.client_here()
        for watch in watches:
            watch.on_push = client.notify
        try:
            return client.wait(until_ns, lambda: any(watch.pending for watch in watches))
        finally:
            for watch in watches:
                watch.on_push = None
            client.local_ns += CALL_NS

    def waker(self) -> Callable[[], None]:
        """What ends the calling thread's wait, or its next one, from any thread."""
        return self.kernel.client_here().wake

    def poke(self, watch: Watch) -> None:
        """Make a watch pending, from any thread."""
        self.kernel.inject(watch.poke)

    def nudge(self) -> None:
        """End the waits of `wait_for_descriptors`: a thread of the machine has written to one."""
        self._plain(lambda: [notify() for notify in tuple(self._nudged)])

    def wait_for_descriptors(
        self, fds: Sequence[int], watches: Sequence[Watch], until_ns: int | None
    ) -> None:
        """As `wait`, and for descriptors that other clients write to."""
        client = self.kernel.client_here()
        self._nudged.append(client.notify)
        try:
            while not (
                _readable(fds)
                or self.wait(watches, until_ns)
                or any(watch.pending for watch in watches)
                or (until_ns is not None and client.local_ns >= until_ns)
            ):
                pass
        finally:
            self._nudged.remove(client.notify)

    def spawn(self, fn: Callable[[], object], name: str) -> threading.Thread:
        """A thread of this machine, in lock-step from its start."""
        return self.kernel.spawn(fn, name)

    def _plain(self, fn: Callable[[], T]) -> T:
        return self.kernel.client_here().call(fn, CALL_NS)


class FreeHost(_BoardHost):
    """In process, for threads that hold no time; the kernel must run at pace 1, so that its time is real
    time.
    """

    def xfer(self, bus: int, device: int, data: bytes, speed_hz: int = SPI_HZ) -> bytes:
        """One chip-select assertion, then as long a sleep as the wires take. Raises NoSuchDevice, Misuse."""
        chip = self.board.chip(bus, device)
        answer = self.kernel.call_free(lambda: chip.spi(data))
        # Like the real call, it lets other threads run: without, a driver that polls would starve the kernel's.
        time.sleep((len(data) * 8_000_000_000 // speed_hz + SPI_OVERHEAD_NS) / 1e9)
        return answer

    def read_pin(self, line: int) -> bool:
        """A line's level."""
        return self.kernel.call_free(lambda: self.board.level(line))

    def write_pin(self, line: int, level: bool) -> None:
        """Drive a line."""
        self.kernel.call_free(lambda: self.board.set_level(line, level))

    def set_up_pin(self, line: int, level: bool) -> None:
        """Make a line an output with this level."""
        self.write_pin(line, level)

    def release_pin(self, line: int) -> None:
        """Make a line an input without pull resistor."""
        self.kernel.call_free(lambda: self.board.release(line))

    def take(self, watch: Watch, limit: int = 256) -> list[PinEdge]:
        """The pending edges of a watch, oldest first, stamped in CLOCK_MONOTONIC."""
        to_real = self.kernel.to_monotonic_ns
        edges = self.kernel.call_free(lambda: watch.take(limit))
        return [PinEdge(e.line, e.rising, to_real(e.t_ns), e.seqno, e.line_seqno) for e in edges]

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def delay(self, ns: int) -> None:
        """Sleep."""
        time.sleep(ns / 1e9)

    def wait(self, watches: Sequence[Watch], until_ns: int | None) -> bool:
        """Until an edge is pending or `until_ns`; threads of this kind are not woken."""
        poller = select.poll()
        for watch in watches:
            poller.register(watch.fileno(), select.POLLIN)
        left_ms = None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e6)
        poller.poll(left_ms)
        return False

    def waker(self) -> Callable[[], None]:
        """Nothing: what runs freely wakes itself with descriptors of its own."""
        return lambda: None

    def poke(self, watch: Watch) -> None:
        """Make a watch pending, from any thread."""
        with self.kernel.mutex:
            watch.poke()

    def nudge(self) -> None:
        """Nothing: a free thread polls its descriptors itself."""

    def spawn(self, fn: Callable[[], object], name: str) -> threading.Thread:
        """A thread of this machine."""
        thread = threading.Thread(target=fn, name=name, daemon=True)
        thread.start()
        return thread


class SimClock:
    """`radio.seam.Clock` in virtual time, one for each thread as the seam wants it."""

    def __init__(self, host: LocalHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._waker: Callable[[], None] | None = None
        self._woken_early = False

    def now_ns(self) -> int:
        """See `radio.seam.Clock`; may be read by threads outside lock-step as well."""
        return self._host.now_ns()

    def wait(self, lines: Sequence[Readable], until_ns: int | None) -> None:
        """See `radio.seam.Clock`. Lines are told apart by their descriptor."""
        with self._lock:
            self._waker = self._host.waker() if self._waker is None else self._waker
            woken_early, self._woken_early = self._woken_early, False
        if woken_early:
            return
        watches, foreign = [], []
        for fd in (line.fileno() for line in lines):
            if fd is not None:
                watch = self._host.watch_of(fd)
                if watch is None:
                    foreign.append(fd)
                else:
                    watches.append(watch)
        if foreign:
            self._host.wait_for_descriptors(foreign, watches, until_ns)
        else:
            self._host.wait(watches, until_ns)

    def sleep_until(self, t_ns: int) -> None:
        """See `radio.seam.Clock`: exact."""
        self._host.kernel.client_here().delay_until(t_ns)

    def wake(self) -> None:
        """See `radio.seam.Clock`."""
        with self._lock:
            if self._waker is None:
                self._woken_early = True
                return
        self._waker()


class SimBus:
    """`radio.seam.Bus` without a fake module in between."""

    def __init__(self, host: Host, bus: int, device: int, speed_hz: int = SPI_HZ) -> None:
        self._host = host
        self._where = (bus, device)
        self._speed_hz = speed_hz

    def xfer(self, data: bytes) -> bytes:
        """See `radio.seam.Bus`."""
        return self._host.xfer(*self._where, data, self._speed_hz)


class SimLines:
    """`radio.seam.Lines` without a fake module in between: every line but `reset` watched for rising edges."""

    backend = "sim"
    poll_ns: int | None = None

    def __init__(self, host: Host, pins: Mapping[str, int]) -> None:
        self._host = host
        self._pins = dict(pins)
        self._names = {line: name for name, line in pins.items()}
        self._watch = host.watch({line: Trigger.RISING for name, line in pins.items() if name != "reset"})
        if "reset" in pins:
            host.set_up_pin(pins["reset"], True)

    def fileno(self) -> int | None:
        """See `radio.seam.Lines`."""
        return self._watch.fileno()

    def read_edges(self) -> list[Edge]:
        """See `radio.seam.Lines`."""
        edges = self._host.take(self._watch)
        return [Edge(self._names[e.line], e.rising, e.t_ns, e.line_seqno) for e in edges]

    def get(self, name: str) -> bool:
        """See `radio.seam.Lines`."""
        return self._host.read_pin(self._pins[name])

    def set(self, name: str, level: bool) -> None:
        """See `radio.seam.Lines`."""
        self._host.write_pin(self._pins[name], level)

    def close(self) -> None:
        """See `radio.seam.Lines`."""
        self._host.unwatch(self._watch)


def _readable(fds: Sequence[int]) -> bool:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))

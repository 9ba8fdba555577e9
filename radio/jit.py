"""The just-in-time queue of one transmitter: which downlinks it has promised to send, and when. Pure.

An order is refused on arrival or kept to its microsecond; nothing is pushed aside later. All times are
nanoseconds of the monotonic clock, given by the caller.
"""

from bisect import insort
from dataclasses import dataclass, replace
from typing import Final

from radio.gwmp import TxError
from radio.lbt import Lbt
from radio.lora import LoRaModulation, airtime_us

MS: Final = 1_000_000
CAPACITY: Final = 32  # as many as the reference forwarder keeps
ARM_NS: Final = 5 * MS  # before its start an order goes into the chip; from then on the module is deaf
ARM_BITS: Final = 7_200  # what arming moves over SPI: settings, 255 bytes written and read, two surveys
ARM_BITS_NS: Final = 2 * MS  # how much of ARM_NS they may take
WAKE_NS: Final = 5 * MS  # what an owner thread may take to see a new order
TAIL_NS: Final = 2 * MS  # after the frame: TxDone served, chip ready again
MIN_LEAD_NS: Final = ARM_NS + WAKE_NS
MAX_ADVANCE_NS: Final = 4 * 128 * 1000 * MS  # three beacon periods and one to spare (protocol, 5.5)


@dataclass(frozen=True, slots=True)
class Transmission:
    """One frame to send, complete."""

    id: int
    start_ns: int  # first preamble symbol on air
    freq_hz: int
    modulation: LoRaModulation
    power_dbm: int  # at the module's antenna connector
    iq_inverted: bool
    crc: bool
    preamble: int
    payload: bytes
    lbt: Lbt | None = None  # to be listened for before it
    implicit_header: bool = False  # a class B beacon
    sync_word: int | None = None  # None: the module's own

    @property
    def airtime_us(self) -> int:
        """How long it occupies the air."""
        return airtime_us(
            self.modulation,
            len(self.payload),
            preamble=self.preamble,
            crc=self.crc,
            implicit_header=self.implicit_header,
        )

    @property
    def end_ns(self) -> int:
        """When the last symbol leaves."""
        return self.start_ns + self.airtime_us * 1000


@dataclass(frozen=True, slots=True)
class JitTiming:
    """What one kind of module needs around a transmission; the defaults are an SX127x's."""

    arm_ns: int = ARM_NS
    wake_ns: int = WAKE_NS
    tail_ns: int = TAIL_NS

    @classmethod
    def listening(cls, lbt: Lbt | None) -> "JitTiming":
        """An SX127x's where the region asks to listen before each frame (None: it does not)."""
        return cls() if lbt is None else cls(arm_ns=ARM_NS + lbt.lead_ns)

    def over(self, spi_hz: int) -> "JitTiming":
        """The same over a bus of this speed: a long frame, loaded and read back, may need more than 5 ms."""
        return replace(self, arm_ns=self.arm_ns + max(0, ARM_BITS * 1_000_000_000 // spi_hz - ARM_BITS_NS))

    @property
    def min_lead_ns(self) -> int:
        """An order closer to its start than this is too late."""
        return self.arm_ns + self.wake_ns


class JitQueue:
    """Accepted transmissions in order of their start, and the one that is running."""

    def __init__(self, capacity: int = CAPACITY, timing: JitTiming | None = None) -> None:
        self._capacity = capacity
        self._timing = JitTiming() if timing is None else timing
        self._waiting: list[Transmission] = []
        self._running: Transmission | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, tx: Transmission, now_ns: int) -> TxError:
        """Accept (TxError.NONE) or refuse; a full queue is a collision, as for the reference forwarder."""
        if tx.start_ns - now_ns < self._timing.min_lead_ns:
            return TxError.TOO_LATE
        if tx.start_ns - now_ns > MAX_ADVANCE_NS:
            return TxError.TOO_EARLY
        if len(self._waiting) >= self._capacity:
            return TxError.COLLISION_PACKET
        for other in self._taken():
            if self._collide(tx, other):
                return TxError.COLLISION_BEACON if other.implicit_header else TxError.COLLISION_PACKET
        insort(self._waiting, tx, key=lambda waiting: waiting.start_ns)
        return TxError.NONE

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        """The first moment an order without a time of its own would be accepted."""
        timing = self._timing
        start_ns = now_ns + timing.min_lead_ns
        for other in self._taken():
            if start_ns + airtime_us * 1000 + timing.tail_ns <= other.start_ns - timing.arm_ns:
                break
            start_ns = max(start_ns, other.end_ns + timing.tail_ns + timing.arm_ns)
        return start_ns

    def next_arm_ns(self) -> int | None:
        """When the next transmission must go into the chip, or None while nothing waits."""
        return self._waiting[0].start_ns - self._timing.arm_ns if self._waiting else None

    def pop(self, now_ns: int) -> Transmission | None:
        """The transmission to arm now, or None; it counts as running until `finished`."""
        if not self._waiting or self._waiting[0].start_ns - self._timing.arm_ns > now_ns:
            return None
        self._running = self._waiting.pop(0)
        return self._running

    def finished(self) -> None:
        """The running transmission is over, one way or the other."""
        self._running = None

    def _taken(self) -> list[Transmission]:
        return self._waiting if self._running is None else [self._running, *self._waiting]

    def _collide(self, a: Transmission, b: Transmission) -> bool:
        arm_ns, tail_ns = self._timing.arm_ns, self._timing.tail_ns
        return a.start_ns - arm_ns < b.end_ns + tail_ns and b.start_ns - arm_ns < a.end_ns + tail_ns

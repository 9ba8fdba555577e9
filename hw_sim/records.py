"""What became of every frame: one record a frame with one fate a receiver, and counters that never forget."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from radio.lora import LoRaModulation


class Fate(StrEnum):
    """What one receiver got of one frame."""

    RECEIVED = "received"  # RxDone with the payload as sent
    CRC_ERROR = "crc_error"  # RxDone with a damaged payload (PayloadCrcError where the frame carried a CRC)
    BELOW_SENSITIVITY = "below_sensitivity"
    COLLIDED = "collided"  # drowned by another frame, or the receiver was busy with one
    DEAF = (
        "deaf"  # not listening, too late for the preamble, switched away, or drowned by its own antenna group
    )
    NOT_MATCHED = (
        "not_matched"  # listening for something else: channel, SF, IQ, sync word, header mode, length
    )
    TRUNCATED = "truncated"  # the sender stopped before the header was out


@dataclass(frozen=True, slots=True)
class Reception:
    """A receiver's view of a frame it could have heard."""

    fate: Fate
    rssi_dbm: float
    snr_db: float


@dataclass(slots=True)
class FrameRecord:
    """One frame on the air. `receptions` holds receivers that listened; all others were deaf."""

    number: int
    sender: str
    start_ns: int
    airtime_ns: int  # shorter than planned where `aborted`
    freq_hz: int
    modulation: LoRaModulation
    iq_inverted: bool
    crc: bool
    power_dbm: float
    payload: bytes
    aborted: bool = False
    receptions: dict[str, Reception] = field(default_factory=dict)

    @property
    def end_ns(self) -> int:
        """When the last symbol ended."""
        return self.start_ns + self.airtime_ns

    def fate(self, receiver: str) -> Fate:
        """What the receiver of this name got of it."""
        reception = self.receptions.get(receiver)
        return Fate.DEAF if reception is None else reception.fate


class Records:
    """The last `keep` frames, and counters over all of them."""

    def __init__(self, keep: int) -> None:
        self.frames: deque[FrameRecord] = deque(maxlen=keep)
        self.sent = 0
        self.counters: dict[str, Counter[Fate]] = {}
        self._observers: list[Callable[[FrameRecord], None]] = []

    def observe(self, fn: Callable[[FrameRecord], None]) -> Callable[[], None]:
        """Call `fn` with every frame once all its fates are known; returns how to stop that."""
        self._observers.append(fn)
        return lambda: self._observers.remove(fn)

    def close(self, record: FrameRecord) -> None:
        """Every receiver's fate is known."""
        self.sent += 1
        self.frames.append(record)
        receptions = record.receptions
        for name, counter in self.counters.items():
            if name != record.sender:
                reception = receptions.get(name)
                counter[Fate.DEAF if reception is None else reception.fate] += 1
        for observer in tuple(self._observers):
            observer(record)

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
    JAMMED = "jammed"  # drowned by noise of a source that is no LoRa sender
    # Not listening, too late for the preamble, switched away, busy with a false header, or blocked by a strong
    # transmitter beside the channel, as one of its own mast is.
    DEAF = "deaf"
    # Listening for something else: channel, SF, IQ, sync word, header mode, length
    NOT_MATCHED = "not_matched"
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


@dataclass(frozen=True, slots=True)
class ListeningSpan:
    """A receiver was on."""

    receiver: str
    start_ns: int
    end_ns: int
    freq_hz: int
    modulation: LoRaModulation
    iq_inverted: bool


@dataclass(frozen=True, slots=True)
class NoiseBurst:
    """A source of noise was on."""

    source: str
    start_ns: int
    end_ns: int
    freq_hz: int
    bw_hz: int


class Records:
    """The last `keep` frames, and counters over all of them."""

    def __init__(self, keep: int) -> None:
        self.frames: deque[FrameRecord] = deque(maxlen=keep)
        self.sent = 0
        self._counts: dict[str, Counter[Fate]] = {}  # of frames a receiver could have heard
        self._others: dict[str, int] = {}  # sent by itself or before it was there, as a negative number
        self.listening_observers: list[
            Callable[[ListeningSpan], None]
        ] = []  # called when a receiver goes off
        self.noise_observers: list[Callable[[NoiseBurst], None]] = []  # called when noise begins
        self._observers: list[Callable[[FrameRecord], None]] = []

    def observe(self, fn: Callable[[FrameRecord], None]) -> Callable[[], None]:
        """Call `fn` with every frame once all its fates are known; returns how to stop that."""
        self._observers.append(fn)
        return lambda: self._observers.remove(fn)

    def add(self, name: str) -> None:
        """A receiver whose fates count from now on."""
        self._counts[name] = Counter()
        self._others[name] = -self.sent

    def __contains__(self, name: object) -> bool:
        return name in self._counts

    @property
    def counters(self) -> dict[str, Counter[Fate]]:
        """How many frames of others had each fate, by receiver; it was deaf to what it could not have heard."""
        return {name: self.fates_of(name) for name in self._counts}

    def fates_of(self, receiver: str) -> Counter[Fate]:
        """How many frames of others had each fate at this receiver."""
        known = self._counts[receiver]
        unheard = self.sent + self._others[receiver] - known.total()
        return known + Counter({Fate.DEAF: unheard})

    def close(self, record: FrameRecord) -> None:
        """Every receiver's fate is known."""
        self.sent += 1
        self.frames.append(record)
        if record.sender in self._others:
            self._others[record.sender] -= 1
        for name, reception in record.receptions.items():
            self._counts[name][reception.fate] += 1
        for observer in tuple(self._observers):
            observer(record)

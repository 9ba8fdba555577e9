"""What a module can be doing, what it tells of, and what it counts."""

from dataclasses import dataclass
from enum import Enum, auto

from radio.errors import FaultKind
from radio.jit import Transmission
from radio.lora import LoRaModulation
from radio.sx127x.chip import Packet


class State(Enum):
    """Where the modem is."""

    DOWN = auto()
    LISTENING = auto()
    RESTING = auto()
    SENSING = auto()
    ARMED = auto()
    SENDING = auto()


@dataclass(frozen=True, slots=True)
class Received:
    """A frame from the air."""

    packet: Packet
    end_ns: int  # when its last symbol ended
    coarse: bool  # `end_ns` may be off by milliseconds: not good for a class A downlink
    freq_hz: int
    modulation: LoRaModulation


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame has left; `start_ns` is what the TxDone edge says about its first symbol."""

    tx: Transmission
    start_ns: int
    coarse: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """An accepted order was not sent after all."""

    tx: Transmission
    reason: str
    maybe_aired: bool = False  # it was started; how much of it left the antenna nobody knows
    busy: bool = False  # the channel was not free; the module is fine


@dataclass(frozen=True, slots=True)
class Fault:
    """The chip needs a reset; the state is DOWN until `start` succeeds. `new`: the first of an episode."""

    reason: str
    kind: FaultKind = FaultKind.OTHER
    new: bool = True


@dataclass(frozen=True, slots=True)
class Mended:
    """Something was wrong and was put right without a reset. `new`: the first of an episode."""

    reason: str
    kind: FaultKind
    new: bool


Event = Received | Sent | NotSent | Fault | Mended


@dataclass(slots=True)
class Counters:
    """What happened to one module since the process started."""

    received: int = 0
    crc_good: int = 0
    crc_bad: int = 0
    crc_none: int = 0
    coarse: int = 0  # received without an edge of its own
    cut: int = 0  # receptions in progress when a downlink had to be armed
    sent: int = 0
    late: int = 0  # armed in time, but the processor was not there at the moment of the start
    not_sent: int = 0
    busy: int = 0  # of these, because the channel was not free
    edges_lost: int = 0
    edges_stray: int = 0
    faults: int = 0
    starts: int = 0
    deaf_ns: int = 0  # spent away from the receiver, for downlinks
    transmit_ns: int = 0

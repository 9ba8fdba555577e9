"""The vocabulary of the RN2483's state machine: its states and moves, its commands, its counters. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from radio.lora import LoRaModulation
from radio.rn2483_lines import Answer, Reply, Value
from radio.serial_line import Line

BANDS_HZ: Final = ((433_050_000, 434_790_000), (863_000_000, 870_000_000))
POWER_DBM: Final = (-3, 15)
BANDWIDTHS_HZ: Final = (125_000, 250_000, 500_000)


class State(Enum):
    """Where the module is."""

    DOWN = auto()
    STARTING = auto()
    HOMING = auto()  # settings of the receiver, and `radio rx 0`
    LISTENING = auto()
    RESTING = auto()  # as LISTENING, for a module that only sends
    REPORTING = auto()  # a frame is in; its SNR and RSSI are asked for
    ARMING = auto()
    ARMED = auto()  # the whole line `radio tx ...` but its end is in the module
    SENDING = auto()


class Move(Enum):
    """What takes the module from one state to the next."""

    START = auto()
    READY = auto()
    LISTEN = auto()
    REST = auto()
    FRAME = auto()
    ORDER = auto()
    LOADED = auto()
    FIRE = auto()
    HOME = auto()


MOVES: Final[dict[tuple[State, Move], State]] = {
    (State.DOWN, Move.START): State.STARTING,
    (State.STARTING, Move.READY): State.HOMING,
    (State.HOMING, Move.LISTEN): State.LISTENING,
    (State.HOMING, Move.REST): State.RESTING,
    (State.LISTENING, Move.FRAME): State.REPORTING,
    (State.LISTENING, Move.HOME): State.HOMING,
    (State.REPORTING, Move.HOME): State.HOMING,
    (State.LISTENING, Move.ORDER): State.ARMING,
    (State.RESTING, Move.ORDER): State.ARMING,
    (State.HOMING, Move.ORDER): State.ARMING,
    (State.ARMING, Move.LOADED): State.ARMED,
    (State.ARMED, Move.FIRE): State.SENDING,
    (State.ARMED, Move.HOME): State.HOMING,
    (State.ARMING, Move.HOME): State.HOMING,
    (State.SENDING, Move.HOME): State.HOMING,
}


@dataclass(frozen=True, slots=True)
class Break:
    """Not bytes: the line held low."""


Output = bytes | Break


@dataclass(slots=True)
class Counters:
    """What happened to one module since the process started; names as those of an SX127x where they mean the same."""

    received: int = 0
    crc_good: int = 0
    crc_bad: int = 0  # radio_err while listening: the module says no more
    crc_none: int = 0  # always 0: it does not tell
    coarse: int = 0
    sent: int = 0
    late: int = 0
    not_sent: int = 0
    faults: int = 0
    starts: int = 0
    resets: int = 0  # it started anew, unasked
    lines_garbled: int = 0
    lines_lost: int = 0  # a reply that did not come in time; the command was given again
    lines_stray: int = 0  # an answer nobody waited for
    refused: int = 0  # busy, invalid_param, or a setting that reads back differently
    rearmed_late: int = 0  # a ping found the receiver off: the line that ended its reception was lost
    deaf_ns: int = 0  # from the end of a reception, or from an order, until it listens again
    transmit_ns: int = 0


@dataclass(slots=True)
class Step:
    """One command, and what it must answer."""

    command: str
    wants: Callable[[Reply], bool]
    take: Callable[[Reply, Line], None] | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What both directions set, in the module's own words."""

    freq_hz: int
    modulation: LoRaModulation
    iq_inverted: bool
    crc: bool
    preamble: int = 8
    power_dbm: int | None = None  # None: left as it is

    def words(self) -> dict[str, str]:
        """Parameter by parameter of `radio set`."""
        mod = self.modulation
        words = {
            "freq": str(self.freq_hz),
            "sf": f"sf{mod.sf}",
            "bw": str(mod.bw_hz // 1000),
            "cr": mod.codr,
            "crc": "on" if self.crc else "off",
            "iqi": "on" if self.iq_inverted else "off",
            "prlen": str(self.preamble),
        }
        if self.power_dbm is not None:
            words["pwr"] = str(max(POWER_DBM[0], min(POWER_DBM[1], self.power_dbm)))
        return words


def is_ok(reply: Reply) -> bool:
    return reply is Answer.OK


def is_answer(reply: Reply) -> bool:
    """Whatever `radio rxstop` says: it may come when there is nothing to stop."""
    return reply in (Answer.OK, Answer.INVALID, Answer.BUSY)


def is_number(reply: Reply) -> bool:
    return isinstance(reply, Value) and reply.text.lstrip("-").isdigit()


def is_value(text: str) -> Callable[[Reply], bool]:
    return lambda reply: isinstance(reply, Value) and reply.text == text


def carries(freq_hz: int, modulation: LoRaModulation) -> bool:
    """Whether an RN2483 can be tuned there."""
    return (
        any(low <= freq_hz <= high for low, high in BANDS_HZ)
        and modulation.bw_hz in BANDWIDTHS_HZ
        and 7 <= modulation.sf <= 12
    )

"""What a device counts and remembers of itself, for tests and tools to look at."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.lorawan.types import DevAddr
from hw_sim.node_session import Opened
from radio.lora import LoRaModulation

KEPT: Final = 1_000
NEAR_NS: Final = 500_000_000  # a downlink this far off was still meant for that window


@dataclass(slots=True)
class NodeCounters:
    """Since the start."""

    joins: int = 0
    join_requests: int = 0
    rejoins: int = 0  # answered
    rejoin_requests: int = 0
    uplinks: int = 0  # new ones, each with an FCnt of its own
    retransmissions: int = 0
    confirmed: int = 0  # of the uplinks
    acks: int = 0
    unacknowledged: int = 0  # confirmed uplinks given up
    downlinks: int = 0  # verified, join-accepts not counted
    multicast: int = 0  # verified frames of a group
    refused: int = 0  # heard in a window and not for this device, damaged or replayed
    windows: int = 0  # opened
    silent: int = 0  # windows in which nothing came
    missed: int = 0  # downlinks that were on the air for this device and that it did not get
    beacons: int = 0  # class B: heard
    beacons_missed: int = 0
    power_losses: int = 0
    airtime_us: int = 0


@dataclass(frozen=True, slots=True)
class DownlinkStart:
    """How exactly a received downlink began."""

    window: int  # 1 or 2
    error_ns: int  # its first symbol minus the instant it was due; negative: early
    modulation: LoRaModulation


@dataclass(frozen=True, slots=True)
class Received:
    """A verified downlink."""

    fport: int | None
    payload: bytes
    confirmed: bool
    ack: bool
    window: int  # 1 or 2; 0: outside them, by class C or in a ping slot
    at_ns: int = 0  # when it had arrived
    group: DevAddr | None = None  # multicast: of which


@dataclass(slots=True)
class NodeLog:
    """Bounded."""

    starts: deque[DownlinkStart] = field(default_factory=lambda: deque(maxlen=KEPT))
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    given_up: deque[tuple[DevAddr, int]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def keep(self, opened: Opened, window: int, now_ns: int) -> None:
        """Remember a verified downlink."""
        frame = opened.frame
        self.received.append(
            Received(frame.fport, opened.payload, frame.confirmed, frame.ack, window, now_ns, opened.group)
        )


def nearest(start_ns: int, due_ns: tuple[int, int]) -> tuple[int, int]:
    """The window that a frame was meant for, and how far from its instant it began; 0 where it was for none."""
    window, error_ns = min(
        ((number, start_ns - due) for number, due in enumerate(due_ns, start=1)),
        key=lambda pair: abs(pair[1]),
    )
    return (window, error_ns) if abs(error_ns) <= NEAR_NS else (0, 0)

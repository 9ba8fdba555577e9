"""A machine whose radio modules are wired wrong, one fault a module: what a technician meets on a bench.

In: the transfers and levels of a driver. Out: what they would see with that fault. Which lines lead where is
the `Board`'s matter: leave DIO0 or reset out there, or connect it to another line.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from hw_sim.board import Board
from hw_sim.hosts import SPI_HZ, LocalHost
from hw_sim.kernel import Kernel


class Fault(Enum):
    """What is wrong with the SPI wires of a module. MISO that nobody drives is pulled low, as on a Raspberry Pi."""

    NOTHING = auto()
    NOBODY = auto()  # no chip behind this chip select
    PULLED_UP = auto()  # the same, where a resistor pulls MISO up
    UNPOWERED = auto()  # all its pins are low
    SHORTED = auto()  # MISO joined to MOSI
    SWAPPED = auto()  # MISO and MOSI change places: nothing arrives on either side
    MISO_OPEN = auto()  # writes arrive, answers do not
    NOISY = auto()  # MISO floats beside a busy wire


@dataclass(slots=True)
class Wires:
    """The SPI wires of one module."""

    fault: Fault = Fault.NOTHING
    clean_up_to_hz: int | None = None  # above it, bits flip
    answers: Callable[[bytes], bytes] | None = None  # another kind of chip


class MiswiredHost(LocalHost):
    """A `LocalHost` with faults by (bus, device); those that have only faults are empty chip selects."""

    def __init__(self, kernel: Kernel, board: Board, wires: dict[tuple[int, int], Wires]) -> None:
        super().__init__(kernel, board)
        self.wires = wires
        self.unpowered_resets: set[int] = set()  # reset lines of chips without power
        self._rng: random.Random = kernel.rng("wires")

    def has_spi(self, bus: int, device: int) -> bool:
        """Is there a device file? It does not take a chip."""
        return (bus, device) in self.wires or super().has_spi(bus, device)

    def xfer(self, bus: int, device: int, data: bytes, speed_hz: int = SPI_HZ) -> bytes:
        """See `LocalHost`, with what the wires make of it."""
        wires = self.wires.get((bus, device), Wires())
        if wires.answers is not None:
            return wires.answers(data)
        match wires.fault:
            case Fault.NOBODY | Fault.SWAPPED | Fault.UNPOWERED:
                return bytes(len(data))
            case Fault.PULLED_UP:
                return b"\xff" * len(data)
            case Fault.SHORTED:
                return data
            case Fault.NOISY:
                return self._rng.randbytes(len(data))
            case Fault.MISO_OPEN:
                return bytes(len(super().xfer(bus, device, data, speed_hz)))
            case Fault.NOTHING:
                pass
        answer = super().xfer(bus, device, data, speed_hz)
        if wires.clean_up_to_hz is None or speed_hz <= wires.clean_up_to_hz:
            return answer
        return bytes(
            byte ^ (1 << self._rng.randrange(8) if self._rng.random() < 0.05 else 0) for byte in answer
        )

    def release_pin(self, line: int) -> None:
        """See `LocalHost`; a chip without power pulls nothing up."""
        if line not in self.unpowered_resets:
            super().release_pin(line)

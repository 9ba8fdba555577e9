"""The Raspberry Pi as `radio.observe` sees it: SPI devices at any speed, and lines of one's own choice."""

import glob
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from radio.boards import Board, ModuleWiring
from radio.hardware.clock import MonotonicClock
from radio.hardware.gpio import open_pins
from radio.hardware.spi import SpidevBus
from radio.seam import Clock, Lines

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinuxMachine:
    """This machine. `gpio` is the setting `[radio] gpio`."""

    gpio: str = "auto"
    clock: Clock = field(default_factory=MonotonicClock)

    def bus(self, spi: tuple[int, int], speed_hz: int) -> SpidevBus:
        """See `SpidevBus`."""
        return SpidevBus(*spi, speed_hz)

    def devices(self) -> Sequence[tuple[int, int]]:
        """Every SPI device file, as (bus, device)."""
        found = (re.fullmatch(r"/dev/spidev(\d+)\.(\d+)", path) for path in glob.glob("/dev/spidev*"))
        return sorted((int(match[1]), int(match[2])) for match in found if match)

    def lines(self, board: Board, wiring: ModuleWiring, pins: Mapping[str, int]) -> Lines:
        """See `open_pins`."""
        now_ns: Callable[[], int] = self.clock.now_ns
        lines, problems = open_pins(self.gpio, board, wiring, pins, now_ns)
        for problem in problems:
            log.info("%s", problem)
        return lines

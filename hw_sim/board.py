"""How simulated chips are wired to a simulated Raspberry Pi: SPI devices, BCM lines, serial ports."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hw_sim.edges import Watch
from hw_sim.errors import NoSuchDevice
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276
from radio.boards import Board as RadioBoard

if TYPE_CHECKING:
    from hw_sim.uart import Wire


class Board:
    """The wires of one machine. Lines that lead nowhere are free: they keep the level they are given."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.serial: dict[str, Wire] = {}  # what hangs on which serial port
        self._chips: dict[tuple[int, int], SX1276] = {}
        self._resets: dict[int, SX1276] = {}
        self._levels: dict[int, bool] = {}
        self._watches: list[Watch] = []

    @classmethod
    def wired(cls, kernel: Kernel, board: RadioBoard, chips: Sequence[SX1276]) -> "Board":
        """The wiring of a board file, with a chip for each of its modules (or the first of them)."""
        made = cls(kernel)
        for wiring, chip in zip(board.modules, chips, strict=False):
            dio = {0: wiring.dio0} | ({} if wiring.dio1 is None else {1: wiring.dio1})
            made.connect(chip, wiring.spi, dio, wiring.reset)
        return made

    def connect(
        self, chip: SX1276, spi: tuple[int, int], dio: dict[int, int], reset: int | None = None
    ) -> None:
        """Wire a chip: (bus, device), BCM line by DIO number, BCM line of its reset pin."""
        self._chips[spi] = chip
        numbers = {f"dio{number}": line for number, line in dio.items()}
        for number, line in dio.items():
            self._levels[line] = chip.dio(number)
        chip.on_dio = partial(self._on_dio, numbers)
        if reset is not None:
            self._resets[reset] = chip
            self._levels[reset] = True

    @property
    def devices(self) -> tuple[tuple[int, int], ...]:
        """Every (bus, device) with a chip."""
        return tuple(self._chips)

    def chip(self, bus: int, device: int) -> SX1276:
        """The chip behind /dev/spidev<bus>.<device>. Raises NoSuchDevice."""
        try:
            return self._chips[bus, device]
        except KeyError:
            raise NoSuchDevice(f"no chip on SPI bus {bus}, device {device}") from None

    def level(self, line: int) -> bool:
        """A line's level; a free one nobody drove is low."""
        return self._levels.get(line, False)

    def set_level(self, line: int, level: bool, t_ns: int | None = None) -> None:
        """Drive a line, from the Pi's side or from outside (a button, a pulse per second)."""
        if self._levels.get(line, False) == level:
            return
        self._levels[line] = level
        if line in self._resets:
            self._resets[line].set_reset(level)
        t_ns = self.kernel.now_ns if t_ns is None else t_ns
        for watch in tuple(self._watches):
            watch.push(line, level, t_ns)

    def release(self, line: int) -> None:
        """Drive a line no longer: a chip's own resistor pulls its reset pin up, a free line keeps its level."""
        if line in self._resets:
            self.set_level(line, True)

    def add_watch(self, watch: Watch) -> None:
        """Have edges pushed to `watch` until `remove_watch`."""
        self._watches.append(watch)

    def remove_watch(self, watch: Watch) -> None:
        """Stop; one that is not there is no error."""
        if watch in self._watches:
            self._watches.remove(watch)

    def _on_dio(self, lines: dict[str, int], name: str, level: bool, t_ns: int) -> None:
        line = lines.get(name)
        if line is not None:
            self.set_level(line, level, t_ns)

"""What CircuitPython drivers import on a Raspberry Pi (Blinka's modules), over the simulated machine.

`busio.SPI` with `try_lock`, `configure`, `write`, `readinto`, `write_readinto`; `digitalio.DigitalInOut`;
`board` pins; `micropython.const`; the type names of `circuitpython_typing`. Drivers toggle chip select
themselves, as a GPIO: what happens while it is low is one transfer of the host.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from hw_sim.fakes import machine

# BCM line of a chip select -> (SPI bus, device); `overlays` of the kernel add others: `chip_selects[25] = (0, 0)`.
chip_selects: dict[int, tuple[int, int]] = {8: (0, 0), 7: (0, 1), 18: (1, 0), 17: (1, 1), 16: (1, 2)}
_GPIO_LINES: Final = 28  # on the header

_selected: list[SPI] = []  # buses in use; a chip select that moves ends their transfer
_low: set[int] = set()  # chip selects that are low now


class Pin:
    """A pin by its BCM number."""

    def __init__(self, line: int) -> None:
        self.id = line

    def __repr__(self) -> str:
        return f"D{self.id}"


class Direction:
    """`digitalio.Direction`."""

    INPUT: Final = "input"
    OUTPUT: Final = "output"


class Pull:
    """`digitalio.Pull`; the simulated lines need none."""

    UP: Final = "up"
    DOWN: Final = "down"


class DigitalInOut:
    """One line: an input until it is switched."""

    def __init__(self, pin: Pin) -> None:
        self._line = pin.id
        self._output = False
        self.pull: str | None = None

    def switch_to_output(self, value: bool = False, drive_mode: object = None) -> None:
        """Drive the line from now on."""
        self._output = True
        self.value = value

    def switch_to_input(self, pull: str | None = None) -> None:
        """Let go of the line."""
        self._output = False
        self.pull = pull

    @property
    def direction(self) -> str:
        """One of `Direction`."""
        return Direction.OUTPUT if self._output else Direction.INPUT

    @direction.setter
    def direction(self, direction: str) -> None:
        self._output = direction == Direction.OUTPUT

    @property
    def value(self) -> bool:
        """The level. Writing to an input raises AttributeError, as Blinka does."""
        return machine.host().read_pin(self._line)

    @value.setter
    def value(self, level: bool) -> None:
        if not self._output:
            raise AttributeError("Not an output")
        if self._line in chip_selects:
            _select(self._line, not level)
        machine.host().write_pin(self._line, bool(level))

    def deinit(self) -> None:
        """Give the line back."""
        self.switch_to_input()

    def __enter__(self) -> DigitalInOut:
        return self

    def __exit__(self, *_error: object) -> None:
        self.deinit()


class SPI:
    """One SPI bus. Bytes written go out with the next read of the same selection, or when it ends."""

    def __init__(self, clock: Pin, MOSI: Pin | None = None, MISO: Pin | None = None) -> None:  # noqa: N803
        buses = {11: 0, 21: 1}
        if clock.id not in buses:
            raise ValueError(f"No Hardware SPI on (SCLK, MOSI, MISO)={(clock, MOSI, MISO)}")
        self._bus = buses[clock.id]
        self._baudrate = 100_000
        self._locked = False
        self._written = bytearray()
        self._read = False
        _selected.append(self)

    def try_lock(self) -> bool:
        """Whether the caller has the bus now."""
        if self._locked:
            return False
        self._locked = True
        return True

    def unlock(self) -> None:
        """Give the bus back."""
        self._locked = False

    def configure(self, baudrate: int = 100_000, polarity: int = 0, phase: int = 0, bits: int = 8) -> None:
        """Set the clock; the other settings have no effect here."""
        self._needs_lock()
        self._baudrate = baudrate

    def write(self, buf: Any, start: int = 0, end: int | None = None) -> None:
        """Send bytes."""
        self._needs_lock()
        self._device()
        if self._read:
            raise RuntimeError("the simulated bus does not write after it has read under one chip select")
        self._written += bytes(buf)[start:end]

    def readinto(self, buf: Any, start: int = 0, end: int | None = None, write_value: int = 0) -> None:
        """Receive bytes, sending `write_value`."""
        count = len(range(*slice(start, end).indices(len(buf))))
        self._exchange(bytes((write_value,)) * count, buf, start, end)

    def write_readinto(
        self,
        out_buffer: Any,
        in_buffer: Any,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Send and receive at once."""
        self._exchange(bytes(out_buffer)[out_start:out_end], in_buffer, in_start, in_end)

    def deinit(self) -> None:
        """Close the bus."""
        if self in _selected:
            _selected.remove(self)

    def ended(self, line: int) -> None:
        """A chip select of this bus has gone high: what was written without a read goes out now."""
        written, read = bytes(self._written), self._read
        self._written.clear()
        self._read = False
        if written and not read:
            machine.host().xfer(*chip_selects[line], written, self._baudrate)

    @property
    def bus(self) -> int:
        """Its number."""
        return self._bus

    def _exchange(self, out: bytes, buf: Any, start: int, end: int | None) -> None:
        self._needs_lock()
        if self._read:
            raise RuntimeError("the simulated bus does not read twice under one chip select")
        self._read = True
        answer = machine.host().xfer(*self._device(), bytes(self._written) + out, self._baudrate)
        buf[start:end] = answer[len(self._written) :]

    def _device(self) -> tuple[int, int]:
        for line in _low:
            if chip_selects[line][0] == self._bus:
                return chip_selects[line]
        raise RuntimeError("no chip is selected: its chip select is high")

    def _needs_lock(self) -> None:
        if not self._locked:
            raise RuntimeError("First call try_lock()")


def _select(line: int, low: bool) -> None:
    if low:
        _low.add(line)
        return
    if line in _low:
        for spi in _selected:
            if spi.bus == chip_selects[line][0]:
                spi.ended(line)
        _low.discard(line)


def close_all() -> None:
    """Forget buses and selections."""
    _selected.clear()
    _low.clear()


def modules() -> dict[str, ModuleType]:
    """The modules by the name they are imported by."""
    pins = {f"D{line}": Pin(line) for line in range(_GPIO_LINES)}
    spi = {"SCK": pins["D11"], "MOSI": pins["D10"], "MISO": pins["D9"], "CE0": pins["D8"], "CE1": pins["D7"]}
    made: dict[str, dict[str, Any]] = {
        "board": {**pins, **spi},
        "busio": {"SPI": SPI},
        "digitalio": {"DigitalInOut": DigitalInOut, "Direction": Direction, "Pull": Pull},
        "micropython": {"const": lambda value: value},
        "circuitpython_typing": {"ReadableBuffer": Any, "WriteableBuffer": Any},
    }
    return {name: _module(name, content) for name, content in made.items()}


def _module(name: str, content: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    return module

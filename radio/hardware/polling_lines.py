"""Lines that nothing tells of edges: their level is looked at, at an interval, in the owner's loop.

The level is read from the pin where there is a library that can, else from the chip itself: while a flag that
raises DIO0 is set, DIO0 is high. An edge is then known to lie between two looks and is stamped in the middle.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from radio.hardware.rpi_gpio_lines import set_up
from radio.seam import Bus, Edge
from radio.sx127x.registers import REG_IRQ_FLAGS, Irq

# A look at a pin takes 10 us and one over SPI 50 us: 2 to 5 % of a core. The error of the stamp is half of it,
# which a device's window at SF7 (+1 ms, and the lead) still forgives.
PIN_POLL_NS: Final = 1_000_000
FLAG_POLL_NS: Final = 2_000_000
_DIO0_FLAGS: Final = Irq.RX_DONE | Irq.TX_DONE | Irq.CAD_DONE


class Levels(Protocol):
    """How to look at lines without being told of their edges."""

    poll_ns: int

    def get(self, name: str) -> bool: ...
    def set(self, name: str, level: bool) -> None: ...
    def close(self) -> None: ...


class PollingLines:
    """Every line but "reset" is looked at whenever its owner asks; all edges are coarse. Not for two threads."""

    backend = "polling"

    def __init__(self, pins: Mapping[str, int], levels: Levels, now_ns: Callable[[], int]) -> None:
        self.poll_ns: int | None = levels.poll_ns
        self._levels = levels
        self._now_ns = now_ns
        self._was_high = {name: levels.get(name) for name in pins if name != "reset"}
        self._seqno = 0
        self._looked_ns = now_ns()

    def fileno(self) -> int | None:
        return None

    def read_edges(self) -> list[Edge]:
        edges = []
        for name, was_high in self._was_high.items():
            high = self._levels.get(name)
            if high and not was_high:
                self._seqno += 1
                edges.append(
                    Edge(name, True, (self._looked_ns + self._now_ns()) // 2, self._seqno, coarse=True)
                )
            self._was_high[name] = high
        self._looked_ns = self._now_ns()
        return edges

    def get(self, name: str) -> bool:
        return self._levels.get(name)

    def set(self, name: str, level: bool) -> None:
        self._levels.set(name, level)

    def close(self) -> None:
        self._levels.close()


class RpiGpioLevels:
    """Levels through the RPi.GPIO interface, where only its edge detection fails."""

    poll_ns = PIN_POLL_NS

    def __init__(self, pins: Mapping[str, int]) -> None:
        from RPi import GPIO

        self._gpio: Any = GPIO
        self._pins = dict(pins)
        set_up(GPIO, pins)

    def get(self, name: str) -> bool:
        return bool(self._gpio.input(self._pins[name]))

    def set(self, name: str, level: bool) -> None:
        self._gpio.output(self._pins[name], int(level))

    def close(self) -> None:
        self._gpio.cleanup(list(self._pins.values()))


class FlagLevels:
    """DIO0 as the chip's flags have it, where no pin can be read. There is no reset line then."""

    poll_ns = FLAG_POLL_NS

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def get(self, name: str) -> bool:
        if name != "dio0":
            return True  # a reset line that nobody drives is high
        flags = self._bus.xfer(bytes((REG_IRQ_FLAGS, 0)))[1]
        return bool(flags & _DIO0_FLAGS) and flags != 0xFF  # all ones: nobody answers

    def set(self, name: str, level: bool) -> None:
        """Nothing: the chip starts without a reset, as it does where none is wired."""

    def close(self) -> None: ...

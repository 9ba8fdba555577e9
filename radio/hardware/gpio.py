"""Which way to the GPIO lines of a module: the best that works on this machine.

In order: gpiod version 2 and lgpio (edges with the kernel's time), the RPi.GPIO interface (edges without one),
and polling (no edges). What each attempt lacked is said, and what the choice means for downlinks.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from radio.boards import Board, ModuleWiring, get_board
from radio.errors import BusyError, GpioError
from radio.hardware.gpiod_lines import GpiodLines
from radio.hardware.lgpio_lines import LgpioLines
from radio.hardware.polling_lines import FlagLevels, PollingLines, RpiGpioLevels
from radio.hardware.rpi_gpio_lines import RpiGpioLines
from radio.hardware.spi import SpidevBus
from radio.seam import Lines

log = logging.getLogger(__name__)

# What a backend means for a class A downlink, whose start is counted from the end of the frame it answers.
TIMING: Final = {
    "gpiod": "edges stamped by the kernel: class A downlinks at every spreading factor",
    "lgpio": "edges stamped by the kernel: class A downlinks at every spreading factor",
    "rpi-gpio": (
        "edges stamped when Python gets to them, 0.1 to several ms late: class A downlinks may miss their window, "
        "at SF7 first; install gpiod (pip install 'gpiod>=2.2')"
    ),
    "polling": (
        "no edges, lines are looked at every 1 to 2 ms: class A downlinks may miss their window, at SF7 first; "
        "install gpiod (pip install 'gpiod>=2.2')"
    ),
    "sim": "simulated edges",
}


def pins_of(wiring: ModuleWiring) -> dict[str, int]:
    """The lines the driver uses, by name, as BCM numbers."""
    pins = {"dio0": wiring.dio0}
    if wiring.reset is not None:
        pins["reset"] = wiring.reset
    return pins


def open_lines(backend: str, board: Board, wiring: ModuleWiring, now_ns: Callable[[], int]) -> Lines:
    """The lines of a module through one of `radio.config.GPIO_BACKENDS`, or (`auto`) the first of them that works.

    Raises GpioError saying what each lacked, or BusyError where another program holds a line: the next backend
    would only take it away from it.
    """
    lines, problems = open_pins(backend, board, wiring, pins_of(wiring), now_ns)
    say = log.info if lines.backend in ("gpiod", "lgpio", "sim") else log.warning
    where = f"module on SPI {wiring.spi[0]}.{wiring.spi[1]}"
    say("%s: lines through %s, %s%s", where, lines.backend, TIMING[lines.backend], _reasons(problems))
    return lines


def open_pins(
    backend: str, board: Board, wiring: ModuleWiring, pins: Mapping[str, int], now_ns: Callable[[], int]
) -> tuple[Lines, list[str]]:
    """As `open_lines`, for lines of one's own choice; also what the better backends lacked."""
    labels = board.gpio_chip_labels
    attempts: dict[str, Callable[[], Lines]] = {
        "gpiod": lambda: GpiodLines(pins, labels),
        "lgpio": lambda: LgpioLines(pins, labels, now_ns),
        "rpi-gpio": lambda: RpiGpioLines(pins, now_ns),
        "polling": lambda: _polling(pins, board, wiring, now_ns),
    }
    problems: list[str] = []
    missing = True
    for name, attempt in attempts.items():
        if backend not in ("auto", name):
            continue
        try:
            return attempt(), problems
        except BusyError:
            raise
        except (ImportError, OSError, RuntimeError) as error:
            problems.append(f"{name}: {error}")
            missing = missing and isinstance(error, ImportError)
    hint = "; install the Raspberry Pi extra, fluxgate[pi]" if missing else ""
    raise GpioError("; ".join(problems) + hint)


def open_line(name: str, pin: int, now_ns: Callable[[], int]) -> Lines:
    """One input by itself, by its BCM number; for what is no module. Raises GpioError or BusyError."""
    board = get_board("generic")
    lines, _problems = open_pins("auto", board, board.module(0), {name: pin}, now_ns)
    return lines


def _polling(
    pins: Mapping[str, int], board: Board, wiring: ModuleWiring, now_ns: Callable[[], int]
) -> PollingLines:
    try:
        return PollingLines(pins, RpiGpioLevels(pins), now_ns)
    except (ImportError, OSError, RuntimeError) as error:
        log.info("no pin can be read (%s): the chip's flags are, over SPI, and there is no reset", error)
    return PollingLines(pins, FlagLevels(SpidevBus(*wiring.spi, board.spi_hz, shared=True)), now_ns)


def _reasons(problems: list[str]) -> str:
    return f" (without: {'; '.join(problems)})" if problems else ""

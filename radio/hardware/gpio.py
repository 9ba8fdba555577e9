"""GPIO lines of a module: gpiod version 2 with kernel time stamps, or the RPi.GPIO API without.

RPi.GPIO itself fails to watch edges on kernels from 6.6 on; `rpi-lgpio` offers the same API there. Either
way its callbacks come without a time, so those edges are marked coarse.
"""

import contextlib
import glob
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from radio.boards import Board, ModuleWiring
from radio.errors import RadioError
from radio.seam import Edge, Lines

log = logging.getLogger(__name__)

CONSUMER: Final = "fluxgate-radio"
MAX_EDGES: Final = 64  # read at once; a module makes two a second


class GpioError(RadioError, OSError):
    """The lines of a module cannot be had."""


def pins_of(wiring: ModuleWiring) -> dict[str, int]:
    """The lines the driver uses, by name, as BCM numbers."""
    pins = {"dio0": wiring.dio0}
    if wiring.reset is not None:
        pins["reset"] = wiring.reset
    return pins


def open_lines(backend: str, board: Board, wiring: ModuleWiring, now_ns: Callable[[], int]) -> Lines:
    """The lines of a module through `gpiod`, `rpi-gpio`, or (`auto`) the first of these that works.

    Raises GpioError saying what each backend lacked.
    """
    pins = pins_of(wiring)
    attempts: dict[str, Callable[[], Lines]] = {
        "gpiod": lambda: GpiodLines(pins, board.gpio_chip_labels),
        "rpi-gpio": lambda: RpiGpioLines(pins, now_ns),
    }
    problems = []
    missing = True
    for name, attempt in attempts.items():
        if backend not in ("auto", name):
            continue
        try:
            lines = attempt()
        except (ImportError, OSError, RuntimeError) as error:
            problems.append(f"{name}: {error}")
            missing = missing and isinstance(error, ImportError)
            continue
        if name == "rpi-gpio":
            log.warning(
                "edges carry no time stamp with %s: class A downlinks start late by milliseconds", name
            )
        return lines
    hint = "; install the Raspberry Pi extra, fluxgate[pi]" if missing else ""
    raise GpioError("; ".join(problems) + hint)


class GpiodLines:
    """Lines through gpiod 2: DIO0 watched for rising edges, stamped by the kernel's monotonic clock."""

    backend = "gpiod"
    poll_ns: int | None = None

    def __init__(self, pins: Mapping[str, int], chip_labels: Iterable[str]) -> None:
        import gpiod
        from gpiod.line import Clock, Direction, Value
        from gpiod.line import Edge as LineEdge

        self._levels = (Value.INACTIVE, Value.ACTIVE)
        self._pins = dict(pins)
        self._names = {pin: name for name, pin in pins.items()}
        config = {
            pin: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
            if name == "reset"
            else gpiod.LineSettings(
                direction=Direction.INPUT, edge_detection=LineEdge.RISING, event_clock=Clock.MONOTONIC
            )
            for name, pin in pins.items()
        }
        path = _chip_path(gpiod, tuple(chip_labels))
        self._rising = gpiod.EdgeEvent.Type.RISING_EDGE
        self._request = gpiod.request_lines(path, consumer=CONSUMER, config=config)

    def fileno(self) -> int | None:
        fd: int = self._request.fd
        return fd

    def read_edges(self) -> list[Edge]:
        if not self._request.wait_edge_events(0):
            return []
        return [
            Edge(
                self._names[event.line_offset],
                event.event_type == self._rising,
                event.timestamp_ns,
                event.line_seqno,
            )
            for event in self._request.read_edge_events(MAX_EDGES)
        ]

    def get(self, name: str) -> bool:
        return bool(self._request.get_value(self._pins[name]) == self._levels[True])

    def set(self, name: str, level: bool) -> None:
        self._request.set_value(self._pins[name], self._levels[level])

    def close(self) -> None:
        self._request.release()


def _chip_path(gpiod: Any, labels: tuple[str, ...]) -> str:
    """The GPIO chip by its label: numbers differ between models and kernels. Raises GpioError."""
    seen = []
    for path in sorted(glob.glob("/dev/gpiochip*")):
        if not gpiod.is_gpiochip_device(path):
            continue
        with gpiod.Chip(path) as chip:
            label = chip.get_info().label
        if label in labels:
            return path
        seen.append(label)
    raise GpioError(f"no GPIO chip labelled {' or '.join(labels)}; found {', '.join(seen) or 'none'}")


class RpiGpioLines:
    """Lines through the RPi.GPIO API: edges are stamped when their callback runs, and marked coarse."""

    backend = "rpi-gpio"
    poll_ns: int | None = None

    def __init__(self, pins: Mapping[str, int], now_ns: Callable[[], int]) -> None:
        from RPi import GPIO

        self._gpio = GPIO
        self._pins = dict(pins)
        self._now_ns = now_ns
        self._seqno = 0
        # Written by the library's callback thread, read by the owner; a deque hands over without a lock.
        self._edges: deque[Edge] = deque(maxlen=MAX_EDGES)
        self._pending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        GPIO.setwarnings(False)
        GPIO.setmode(GPIO.BCM)
        try:
            if "reset" in pins:
                GPIO.setup(pins["reset"], GPIO.OUT, initial=GPIO.HIGH)
            GPIO.setup(pins["dio0"], GPIO.IN)
            GPIO.add_event_detect(pins["dio0"], GPIO.RISING, callback=self._on_edge)
        except RuntimeError:
            os.close(self._pending)
            raise

    def _on_edge(self, _channel: int) -> None:
        self._seqno += 1
        self._edges.append(Edge("dio0", True, self._now_ns(), self._seqno, coarse=True))
        os.eventfd_write(self._pending, 1)

    def fileno(self) -> int | None:
        return self._pending

    def read_edges(self) -> list[Edge]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._pending)
        edges = []
        while self._edges:
            edges.append(self._edges.popleft())
        return edges

    def get(self, name: str) -> bool:
        return bool(self._gpio.input(self._pins[name]))

    def set(self, name: str, level: bool) -> None:
        self._gpio.output(self._pins[name], self._gpio.HIGH if level else self._gpio.LOW)

    def close(self) -> None:
        self._gpio.remove_event_detect(self._pins["dio0"])
        self._gpio.cleanup(list(self._pins.values()))
        os.close(self._pending)

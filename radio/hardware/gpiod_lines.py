"""Lines through gpiod 2: edges stamped by the kernel, a descriptor to wait on, numbers that show lost edges."""

import errno
import glob
from collections.abc import Iterable, Mapping
from typing import Any, Final

from radio.errors import BusyError, GpioError
from radio.seam import Edge

CONSUMER: Final = "fluxgate-radio"
MAX_EDGES: Final = 64  # read at once; a module makes two a second


class GpiodLines:
    """Every line but "reset" is an input watched for rising edges, stamped by the kernel's monotonic clock.

    Raises ImportError where gpiod is missing, GpioError where it is of version 1 or no GPIO chip has one of
    `chip_labels`, BusyError where another program holds a line.
    """

    backend = "gpiod"
    poll_ns: int | None = None

    def __init__(self, pins: Mapping[str, int], chip_labels: Iterable[str]) -> None:
        gpiod = _version_2()
        from gpiod.line import Bias, Clock, Direction, Value
        from gpiod.line import Edge as LineEdge

        self._levels = (Value.INACTIVE, Value.ACTIVE)
        self._pins = dict(pins)
        self._names = {pin: name for name, pin in pins.items()}
        self._floating = gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.DISABLED)
        self._driven = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
        self._config = {
            pin: self._driven
            if name == "reset"
            else gpiod.LineSettings(
                direction=Direction.INPUT, edge_detection=LineEdge.RISING, event_clock=Clock.MONOTONIC
            )
            for name, pin in pins.items()
        }
        path = _chip_path(gpiod, tuple(chip_labels))
        self._rising = gpiod.EdgeEvent.Type.RISING_EDGE
        try:
            self._request = gpiod.request_lines(path, consumer=CONSUMER, config=self._config)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            lines = ", ".join(str(pin) for pin in pins.values())
            raise BusyError(
                f"another program holds GPIO {lines}: the radio process, or an overlay"
            ) from error

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

    def let_go(self, name: str) -> None:
        """Stop driving a line, without pull resistor: it shows what the other end makes of it."""
        self._reconfigure(name, self._floating)

    def drive(self, name: str) -> None:
        """Drive a line again, high."""
        self._reconfigure(name, self._driven)

    def _reconfigure(self, name: str, settings: Any) -> None:
        # Lines left out would get default settings, and no edges any more.
        self._config[self._pins[name]] = settings
        self._request.reconfigure_lines(self._config)

    def close(self) -> None:
        self._request.release()


def _version_2() -> Any:
    import gpiod

    if not hasattr(gpiod, "request_lines"):
        version = gpiod.version_string() if hasattr(gpiod, "version_string") else "1"
        raise GpioError(
            f"the gpiod installed is version {version} (Debian's python3-libgpiod), whose interface is another: "
            "install version 2 from PyPI (pip install 'gpiod>=2.2')"
        )
    return gpiod


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

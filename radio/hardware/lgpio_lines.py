"""Lines through lgpio: its callbacks run late, but carry the kernel's time of the edge."""

import contextlib
import glob
import importlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from radio.errors import BusyError, GpioError
from radio.hardware.edge_queue import EdgeQueue
from radio.seam import Edge

# A stamp is minutes old at most; monotonic and wall clock are decades apart.
_PLAUSIBLE_NS: Final = 600_000_000_000


class LgpioLines:
    """Every line but "reset" is an input watched for rising edges.

    Raises ImportError where lgpio is missing, GpioError or BusyError where it cannot have the lines.
    """

    backend = "lgpio"
    poll_ns: int | None = None

    def __init__(
        self,
        pins: Mapping[str, int],
        chip_labels: Iterable[str],
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        # At its import lgpio makes a pipe in this folder, by default the working directory.
        os.environ.setdefault("LG_WD", tempfile.gettempdir())
        lgpio = importlib.import_module("lgpio")
        self._lgpio: Any = lgpio
        self._pins = dict(pins)
        self._now_ns, self._wall_ns = now_ns, wall_ns
        self._names = {pin: name for name, pin in pins.items()}
        self._edges = EdgeQueue(pins.values())
        self._callbacks: list[Any] = []
        try:
            self._handle: int = _open_chip(lgpio, tuple(chip_labels))
        except GpioError:
            self._edges.close()
            raise
        try:
            for name, pin in pins.items():
                if name == "reset":
                    lgpio.gpio_claim_output(self._handle, pin, 1)
                    continue
                lgpio.gpio_claim_alert(self._handle, pin, lgpio.RISING_EDGE)
                self._callbacks.append(lgpio.callback(self._handle, pin, lgpio.RISING_EDGE, self._on_edge))
        except lgpio.error as error:
            self.close()
            kind = BusyError if "busy" in str(error).lower() else GpioError
            raise kind(f"{error} (GPIO {', '.join(str(pin) for pin in pins.values())})") from error

    def _on_edge(self, _chip: int, pin: int, level: int, tick_ns: int) -> None:
        t_ns, coarse = monotonic_of(tick_ns, self._now_ns(), self._wall_ns())
        self._edges.push(pin, self._names[pin], level == 1, t_ns, coarse=coarse)

    def fileno(self) -> int | None:
        return self._edges.fileno()

    def read_edges(self) -> list[Edge]:
        return self._edges.take()

    def get(self, name: str) -> bool:
        with self._translated():
            return bool(self._lgpio.gpio_read(self._handle, self._pins[name]))

    def set(self, name: str, level: bool) -> None:
        with self._translated():
            self._lgpio.gpio_write(self._handle, self._pins[name], int(level))

    def let_go(self, name: str) -> None:
        """Stop driving a line, without pull resistor: it shows what the other end makes of it."""
        with self._translated():
            self._lgpio.gpio_free(self._handle, self._pins[name])
            self._lgpio.gpio_claim_input(self._handle, self._pins[name], self._lgpio.SET_PULL_NONE)

    def drive(self, name: str) -> None:
        """Drive a line again, high."""
        with self._translated():
            self._lgpio.gpio_free(self._handle, self._pins[name])
            self._lgpio.gpio_claim_output(self._handle, self._pins[name], 1)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The library's own error as one of ours, which whoever owns a module is ready for."""
        try:
            yield
        except self._lgpio.error as error:
            raise GpioError(str(error)) from error

    def close(self) -> None:
        for callback in self._callbacks:
            callback.cancel()
        self._lgpio.gpiochip_close(self._handle)
        self._edges.close()


def monotonic_of(tick_ns: int, mono_ns: int, wall_ns: int) -> tuple[int, bool]:
    """An edge's time on the monotonic clock, and whether it is only coarse. Both clocks were read just now.

    Kernels up to 5.6 stamp edges with the wall clock, later ones with the monotonic clock, and lgpio passes on
    what it gets. A stamp that fits neither clock is useless: the edge then happened "now".
    """
    if abs(mono_ns - tick_ns) < _PLAUSIBLE_NS:
        return tick_ns, False
    if abs(wall_ns - tick_ns) < _PLAUSIBLE_NS:
        return tick_ns - wall_ns + mono_ns, False
    return mono_ns, True


def _open_chip(lgpio: Any, labels: tuple[str, ...]) -> int:
    """A handle to the GPIO chip with one of these labels. Raises GpioError."""
    seen = []
    for path in sorted(glob.glob("/dev/gpiochip*")):
        number = re.search(r"\d+$", path)
        if number is None:
            continue
        try:
            handle: int = lgpio.gpiochip_open(int(number[0]))
        except lgpio.error as error:
            seen.append(f"{path} ({error})")
            continue
        _status, _lines, _name, label = lgpio.gpio_get_chip_info(handle)
        if label in labels:
            return handle
        lgpio.gpiochip_close(handle)
        seen.append(str(label))
    raise GpioError(f"no GPIO chip labelled {' or '.join(labels)}; found {', '.join(seen) or 'none'}")

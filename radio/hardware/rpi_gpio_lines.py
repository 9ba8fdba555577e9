"""Lines through the RPi.GPIO interface, which rpi-lgpio offers as well: its callbacks come without a time.

RPi.GPIO itself cannot watch edges on kernels from 6.6 on and knows nothing of the Pi 5; rpi-lgpio can.
"""

from collections.abc import Callable, Mapping
from typing import Any

from radio.errors import GpioError
from radio.hardware.edge_queue import EdgeQueue
from radio.seam import Edge


class RpiGpioLines:
    """Every line but "reset" is an input watched for rising edges, stamped when their callback runs: coarse.

    Raises ImportError where the module is missing, GpioError where it cannot watch.
    """

    backend = "rpi-gpio"
    poll_ns: int | None = None

    def __init__(self, pins: Mapping[str, int], now_ns: Callable[[], int]) -> None:
        from RPi import GPIO

        self._gpio = GPIO
        self._pins = dict(pins)
        self._names = {pin: name for name, pin in pins.items()}
        self._now_ns = now_ns
        set_up(GPIO, pins)
        self._edges = EdgeQueue(pins.values())
        try:
            for name, pin in pins.items():
                if name != "reset":
                    GPIO.add_event_detect(pin, GPIO.RISING, callback=self._on_edge)
        except RuntimeError as error:
            self.close()
            raise GpioError(
                f"{error}: this RPi.GPIO cannot watch edges on kernels from 6.6 on; install gpiod "
                "(pip install 'gpiod>=2.2'), or rpi-lgpio in its place"
            ) from error

    def _on_edge(self, pin: int) -> None:
        self._edges.push(pin, self._names[pin], True, self._now_ns(), coarse=True)

    def fileno(self) -> int | None:
        return self._edges.fileno()

    def read_edges(self) -> list[Edge]:
        return self._edges.take()

    def get(self, name: str) -> bool:
        return bool(self._gpio.input(self._pins[name]))

    def set(self, name: str, level: bool) -> None:
        self._gpio.output(self._pins[name], self._gpio.HIGH if level else self._gpio.LOW)

    def let_go(self, name: str) -> None:
        """Stop driving a line, without pull resistor: it shows what the other end makes of it."""
        self._gpio.setup(self._pins[name], self._gpio.IN, pull_up_down=self._gpio.PUD_OFF)

    def drive(self, name: str) -> None:
        """Drive a line again, high."""
        self._gpio.setup(self._pins[name], self._gpio.OUT, initial=self._gpio.HIGH)

    def close(self) -> None:
        for name, pin in self._pins.items():
            if name != "reset":
                self._gpio.remove_event_detect(pin)
        self._gpio.cleanup(list(self._pins.values()))
        self._edges.close()


def set_up(gpio: Any, pins: Mapping[str, int]) -> None:
    """Make "reset" an output, high, and the others inputs. Raises GpioError."""
    gpio.setwarnings(False)
    try:
        gpio.setmode(gpio.BCM)
        for name, pin in pins.items():
            if name == "reset":
                gpio.setup(pin, gpio.OUT, initial=gpio.HIGH)
            else:
                gpio.setup(pin, gpio.IN)
    except (RuntimeError, ValueError) as error:  # "Cannot determine SOC peripheral base address" on a Pi 5
        raise GpioError(str(error)) from error

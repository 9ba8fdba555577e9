"""The machine the fake modules run on: there is one at a time, as in life."""

import glob
from typing import Any, Final

from hw_sim.hosts import Host

GPIO_CHIP: Final = "/dev/gpiochip0"
GPIO_CHIP_LABEL: Final = "pinctrl-bcm2711"
LINES: Final = 58  # of a Raspberry Pi 4's controller

_host: Host | None = None
_glob = glob.glob


def host() -> Host:
    """The installed host. Raises RuntimeError where none is."""
    if _host is None:
        raise RuntimeError("no simulated machine: call hw_sim.fakes.install(host) first")
    return _host


def switch_on(new: Host) -> None:
    """From now on the fakes work on this host, and its GPIO controller has a device file to find."""
    global _host
    _host = new
    glob.glob = _glob_with_gpio_chip  # type: ignore[assignment]


def switch_off() -> None:
    """No machine any more."""
    global _host
    _host = None
    glob.glob = _glob


def _glob_with_gpio_chip(pathname: str, **options: Any) -> list[str]:
    """`glob.glob`, with the simulated controller for the only GPIO chip."""
    if pathname.startswith("/dev/gpiochip"):
        return [GPIO_CHIP]
    return _glob(pathname, **options)

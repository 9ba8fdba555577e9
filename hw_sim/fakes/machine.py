"""The machine the fake modules run on: there is one at a time, as in life."""

import glob
import os
from typing import Any, Final

from hw_sim.hosts import Host

GPIO_CHIP: Final = "/dev/gpiochip0"
GPIO_CHIP_LABEL: Final = "pinctrl-bcm2711"
LINES: Final = 58  # of a Raspberry Pi 4's controller

_host: Host | None = None
_glob = glob.glob
_spi_files: dict[tuple[int, int], int] = {}  # what stands for /dev/spidev<bus>.<device>


def host() -> Host:
    """The installed host. Raises RuntimeError where none is."""
    if _host is None:
        raise RuntimeError("no simulated machine: call hw_sim.fakes.install(host) first")
    return _host


def switch_on(new: Host) -> None:
    """From now on the fakes work on this host, and its GPIO controller has a device file to find."""
    global _host
    _host = new
    glob.glob = _glob_with_devices  # type: ignore[assignment]


def switch_off() -> None:
    """No machine any more."""
    global _host
    _host = None
    glob.glob = _glob
    while _spi_files:
        os.close(_spi_files.popitem()[1])


def open_spi_file(bus: int, device: int) -> int:
    """A descriptor of its own of one device file, so that locks on it work as on the real one."""
    if (bus, device) not in _spi_files:
        _spi_files[bus, device] = os.memfd_create(f"spidev{bus}.{device}")
    return os.open(f"/proc/self/fd/{_spi_files[bus, device]}", os.O_RDWR | os.O_CLOEXEC)


def _glob_with_devices(pathname: str, **options: Any) -> list[str]:
    """`glob.glob`, with the simulated controllers for the only GPIO chip and SPI devices."""
    if pathname.startswith("/dev/gpiochip"):
        return [GPIO_CHIP]
    if pathname.startswith("/dev/spidev"):
        return [f"/dev/spidev{b}.{d}" for b in range(10) for d in range(10) if host().has_spi(b, d)]
    return _glob(pathname, **options)

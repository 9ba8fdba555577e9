"""Fake `spidev`, `gpiod`, `RPi.GPIO`, `lgpio` and Blinka's modules: what a driver imports on a Raspberry Pi,
over a host.

In: the calls of an unmodified driver. Out: transfers, levels and edges of the `hw_sim.hosts.Host` that is
installed. Not here: pyserial; ptys give real device files.
"""

import sys
from types import ModuleType

from hw_sim.fakes import circuitpython, gpiod, gpiod_line, lgpio, machine, rpi_gpio, spidev
from hw_sim.hosts import Host

_replaced: dict[str, ModuleType | None] = {}


def install(host: Host) -> None:
    """Put the fakes into sys.modules, on this machine. A second call only changes the machine."""
    rpi = ModuleType("RPi")
    rpi.__dict__.update(GPIO=rpi_gpio, __path__=[])
    fakes = {
        "spidev": spidev,
        "gpiod": gpiod,
        "gpiod.line": gpiod_line,
        "RPi": rpi,
        "RPi.GPIO": rpi_gpio,
        "lgpio": lgpio,
        **circuitpython.modules(),
    }
    if not _replaced:
        for name in fakes:
            _replaced[name] = sys.modules.get(name)
    machine.switch_on(host)
    sys.modules.update(fakes)


def uninstall() -> None:
    """Give sys.modules back what it had, and end what the fakes keep running."""
    rpi_gpio.cleanup()
    gpiod.close_all()
    lgpio.close_all()
    circuitpython.close_all()
    machine.switch_off()
    for name, module in _replaced.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
    _replaced.clear()

"""Which GPIO libraries the simulated machine has installed, where it is not all of them in their newest version.

Call after `hw_sim.fakes.install`; its `uninstall` takes it back.
"""

import sys
from types import ModuleType
from typing import Any, Final

from hw_sim.fakes import machine

LIBGPIOD_1: Final = "1.6.3"  # of Debian 12


def lack(*names: str) -> None:
    """Importing these raises ModuleNotFoundError, as do the modules below them."""
    modules: dict[str, Any] = sys.modules
    for name in tuple(modules):
        if name.partition(".")[0] in names:
            modules[name] = None


def have_libgpiod_1() -> None:
    """`gpiod` is Debian's binding of libgpiod 1.6: another interface under the same name."""
    lack("gpiod")
    module = ModuleType("gpiod")
    module.__dict__.update(
        version_string=lambda: LIBGPIOD_1,
        Chip=OldChip,
        LINE_REQ_DIR_IN=1,
        LINE_REQ_DIR_OUT=2,
        LINE_REQ_EV_RISING_EDGE=4,
    )
    sys.modules["gpiod"] = module


class OldChip:
    """A chip as version 1 had it: by number, label or path, with lines one by one."""

    def __init__(self, name: str) -> None:
        if name not in ("0", "gpiochip0", machine.GPIO_CHIP, machine.GPIO_CHIP_LABEL):
            raise FileNotFoundError(2, "No such file or directory")

    def label(self) -> str:
        return machine.GPIO_CHIP_LABEL

    def get_line(self, offset: int) -> "OldLine":
        return OldLine(offset)

    def close(self) -> None: ...


class OldLine:
    """A line as version 1 had it: requested by itself, its level a plain integer."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def request(self, consumer: str, type: int, default_val: int = 0) -> None:  # noqa: A002 - the library's name
        if type == 2:
            machine.host().set_up_pin(self._offset, bool(default_val))

    def get_value(self) -> int:
        return int(machine.host().read_pin(self._offset))

    def set_value(self, value: int) -> None:
        machine.host().write_pin(self._offset, bool(value))

    def release(self) -> None: ...

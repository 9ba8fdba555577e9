"""How the modules of a board are wired, read from data files.

A board is a TOML file under `data/boards/`, or one of the user's own named by its path. All pins are BCM
numbers. Keys of the file: description, spi_hz, gpio_chip_labels, config_txt (the lines that
/boot/firmware/config.txt needs), and per [[module]]: spi = [bus, device], dio0, dio1, reset, pa_boost,
max_power_dbm.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from radio.errors import BoardError
from radio.sx127x.registers import Power

# The header's GPIO controller by Raspberry Pi model: 1 to 3 and Zero, 4, 5. Its number changed between
# kernels, its label did not.
GPIO_CHIP_LABELS: Final = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
SPI_ON: Final = ("dtparam=spi=on",)  # what most boards need in config.txt
DEFAULT_SPI_HZ: Final = 8_000_000
MAX_SPI_HZ: Final = 10_000_000  # the chip's limit
MAX_PIN: Final = 511


@dataclass(frozen=True, slots=True)
class ModuleWiring:
    """One SX127x on a board. Pins are BCM numbers; None is not connected."""

    spi: tuple[int, int]  # (bus, device), as in /dev/spidev<bus>.<device>
    dio0: int
    dio1: int | None = None
    reset: int | None = None
    pa_boost: bool = True
    max_power_dbm: int = 20


@dataclass(frozen=True, slots=True)
class Board:
    """A board and its modules, by index."""

    name: str
    description: str
    modules: tuple[ModuleWiring, ...]
    spi_hz: int = DEFAULT_SPI_HZ
    gpio_chip_labels: tuple[str, ...] = GPIO_CHIP_LABELS
    config_lines: tuple[str, ...] = SPI_ON

    def module(self, index: int) -> ModuleWiring:
        """The wiring of one module. Raises BoardError where the board has fewer."""
        if not 0 <= index < len(self.modules):
            raise BoardError(
                f"board {self.name} has {len(self.modules)} module(s), there is no index {index}"
            )
        return self.modules[index]


@cache
def board_names() -> tuple[str, ...]:
    """The boards that come with Fluxgate."""
    folder = files("radio").joinpath("data/boards")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def get_board(name: str) -> Board:
    """A board by its name or, for one of the user's own, by the path of its file. Raises BoardError."""
    if name.endswith(".toml"):
        try:
            return parse_board(Path(name).stem, Path(name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BoardError(f"board file {name} cannot be read: {error}") from error
    if name not in board_names():
        raise BoardError(
            f"board {name!r} is not one of {', '.join(board_names())}, nor the path of a .toml file"
        )
    return parse_board(name, files("radio").joinpath(f"data/boards/{name}.toml").read_text("utf-8"))


def parse_board(name: str, text: str) -> Board:
    """A board from the text of its file. Raises BoardError naming what does not fit."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"board {name}: {error}") from error
    _only(name, tree, {"description", "spi_hz", "gpio_chip_labels", "config_txt", "module"})
    tables = tree.get("module")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise BoardError(f"board {name}: needs at least one [[module]]")
    board = Board(
        name=name,
        description=str(tree.get("description", name)),
        modules=tuple(_module(f"{name}, module {i}", table) for i, table in enumerate(tables)),
        spi_hz=_int(name, tree, "spi_hz", 100_000, MAX_SPI_HZ, DEFAULT_SPI_HZ),
        gpio_chip_labels=_strings(name, tree, "gpio_chip_labels", GPIO_CHIP_LABELS),
        config_lines=_strings(name, tree, "config_txt", SPI_ON),
    )
    _no_pin_twice(board)
    return board


def _module(where: str, table: dict[str, Any]) -> ModuleWiring:
    _only(where, table, {f.name for f in fields(ModuleWiring)})
    match table.get("spi"):
        case [int(bus), int(device)] if 0 <= bus <= 9 and 0 <= device <= 9:
            spi = (bus, device)
        case other:
            raise BoardError(f"board {where}: spi must be [bus, device], not {other!r}")
    pa_boost = table.get("pa_boost", True)
    if not isinstance(pa_boost, bool):
        raise BoardError(f"board {where}: pa_boost must be true or false")
    low, high = Power.limits(pa_boost)
    return ModuleWiring(
        spi=spi,
        dio0=_int(where, table, "dio0", 0, MAX_PIN),
        dio1=_int(where, table, "dio1", 0, MAX_PIN) if "dio1" in table else None,
        reset=_int(where, table, "reset", 0, MAX_PIN) if "reset" in table else None,
        pa_boost=pa_boost,
        max_power_dbm=_int(where, table, "max_power_dbm", low, high, high),
    )


def _only(where: str, table: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise BoardError(f"board {where}: unknown key {unknown[0]!r}")


def _strings(where: str, table: dict[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BoardError(f"board {where}: {key} must be a list of strings")
    return tuple(value)


def _int(where: str, table: dict[str, Any], key: str, low: int, high: int, default: int | None = None) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BoardError(f"board {where}: {key} must be {low} to {high}, not {value!r}")
    return value


def _no_pin_twice(board: Board) -> None:
    pins = [pin for m in board.modules for pin in (m.dio0, m.dio1, m.reset) if pin is not None]
    devices = [m.spi for m in board.modules]
    if len(set(pins)) != len(pins) or len(set(devices)) != len(devices):
        raise BoardError(f"board {board.name}: a pin or SPI device is used twice")

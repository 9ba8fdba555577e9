"""What a technician does with modules by hand: probe their wiring, measure this machine, calibrate their times.

The commands of `gateway.cli_radio` come here with the settings; what is measured and how it is judged is the
radio package's matter. Lines of text come out, and whether there was a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gateway.settings import Config
from radio.boards import Board, ModuleWiring, get_board
from radio.config import ModuleConfig
from radio.errors import BoardError, BusyError
from radio.hardware import realtime
from radio.hardware.clock import MonotonicClock
from radio.hardware.gpio import pins_of
from radio.hardware.machine import LinuxMachine
from radio.latency import Summary, measure, overall, table
from radio.observe import ProbeBus, observe
from radio.probe import Level, judge
from radio.seam import Lines


class ToolFailed(Exception):
    """A tool cannot do its work; the text says what to mend."""


@dataclass(frozen=True, slots=True)
class Target:
    """One module to look at."""

    board: Board
    index: int
    freq_hz: int

    @property
    def wiring(self) -> ModuleWiring:
        """The module's pins."""
        return self.board.module(self.index)

    @property
    def name(self) -> str:
        """As logs call it."""
        return f"{self.board.name}/{self.index}"


def targets(config: Config, board: str | None, index: int | None) -> list[Target]:
    """The modules of a board given by hand, or those of the settings. Raises ToolFailed where there are none."""
    try:
        if board is not None:
            found = get_board(board)
            indices = range(len(found.modules)) if index is None else (index,)
            chosen = [Target(found, each, ModuleConfig().freq_hz) for each in indices]
        else:
            chosen = [
                Target(get_board(module.board), module.index, module.freq_hz)
                for module in config.radio.module
                if module.kind == "sx127x" and index in (None, module.index)
            ]
        for target in chosen:
            _ = target.wiring
    except BoardError as error:
        raise ToolFailed(str(error)) from error
    if not chosen:
        raise ToolFailed(
            "no module to look at: give --board, or add a [[radio.module]] section to the settings"
        )
    return chosen


def probe(config: Config, board: str | None, index: int | None) -> Iterator[tuple[str, bool]]:
    """Lines of a report, each with whether it tells of a fault. Raises ToolFailed."""
    for target in targets(config, board, index):
        machine = LinuxMachine(config.radio.gpio)
        try:
            seen = observe(machine, target.board, target.wiring, target.name, target.freq_hz)
        except OSError as error:
            raise ToolFailed(f"module {target.name} cannot be looked at any further: {error}") from error
        yield f"module {target.name} on {seen.device}", False
        for finding in judge(seen):
            fault = finding.level is Level.FAULT
            yield f"  {finding.level:<8}{finding.text}", fault
            if finding.remedy:
                yield f"  {'':<8}to mend: {finding.remedy}", fault


def bench(config: Config, board: str | None, index: int | None, rounds: int) -> Iterator[str]:
    """Lines of a report about this machine, with and without real-time priority. Raises ToolFailed."""
    target = targets(config, board, index)[0]
    machine = LinuxMachine(config.radio.gpio)
    bus, lines, lacking = _open(machine, target)
    yield from lacking

    def run(priority: bool) -> tuple[bool, list[Summary]]:
        granted = priority and realtime.prefer_thread()
        return granted, measure(MonotonicClock(), bus, lines, target.freq_hz, rounds)

    try:
        _, plain = run(priority=False)
        realtime.prefer_process()
        with ThreadPoolExecutor(1) as thread:
            granted, best = thread.submit(run, True).result()
    finally:
        if lines is not None:
            lines.close()
        if bus is not None:
            bus.close()
    yield f"{rounds} rounds each, in us"
    yield from table("without real-time priority", plain)
    if granted:
        yield from table("with real-time priority", best)
    else:
        yield realtime.NO_PRIORITY
    yield f"this machine is {overall(best if granted else plain)}; measure while it does what it has to do"


def _open(machine: LinuxMachine, target: Target) -> tuple[ProbeBus | None, Lines | None, list[str]]:
    """What there is of a module, and what is not. Raises ToolFailed where the radio process has it."""
    bus: ProbeBus | None = None
    try:
        bus = machine.bus(target.wiring.spi, target.board.spi_hz)
        lines = machine.lines(target.board, target.wiring, pins_of(target.wiring))
    except BusyError as error:
        raise ToolFailed(f"{error}") from error
    except (OSError, ImportError) as error:
        what = "SPI and edges are" if bus is None else "edges are"
        return bus, None, [f"{what} not measured: {error}"]
    return bus, lines, []

"""Records what passes between the radio's driver and its modules, on simulated and on real hardware alike.

`record` puts itself between the radio and its platform. Records are kept in memory, for a file that is written while
the radio works would disturb it; `Recorder.write` makes one file a module of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hw_sim.trace import Pin, Record, TakenEdge, Trace, Transfer
from radio.boards import Board, ModuleWiring
from radio.seam import Bus, Clock, Edge, Lines
from radio.service import Platform

KEPT: Final = 200_000  # records of a module, about 50 MB; then recording stops, and `Recorder.full` says so


@dataclass(slots=True)
class _Tape:
    """One module's records."""

    module: str
    clock: Clock
    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        if len(self.records) < KEPT:
            self.records.append(record)


class RecordingBus:
    """A bus that remembers."""

    def __init__(self, bus: Bus, tape: _Tape) -> None:
        self._bus = bus
        self._tape = tape

    def xfer(self, data: bytes) -> bytes:
        """See `radio.seam.Bus`."""
        answer = self._bus.xfer(data)
        self._tape.add(Transfer(self._tape.clock.now_ns(), bytes(data), bytes(answer)))
        return answer


class RecordingLines:
    """Lines that remember."""

    def __init__(self, lines: Lines, tape: _Tape) -> None:
        self._lines = lines
        self._tape = tape
        self.backend = lines.backend
        self.poll_ns = lines.poll_ns

    def fileno(self) -> int | None:
        """See `radio.seam.Lines`."""
        return self._lines.fileno()

    def read_edges(self) -> list[Edge]:
        """See `radio.seam.Lines`."""
        edges = self._lines.read_edges()
        if edges:
            now_ns = self._tape.clock.now_ns()
            for edge in edges:
                self._tape.add(TakenEdge(now_ns, edge.line, edge.rising, edge.seqno, edge.t_ns))
        return edges

    def get(self, name: str) -> bool:
        """See `radio.seam.Lines`."""
        level = self._lines.get(name)
        self._tape.add(Pin(self._tape.clock.now_ns(), name, level, driven=False))
        return level

    def set(self, name: str, level: bool) -> None:
        """See `radio.seam.Lines`."""
        self._lines.set(name, level)
        self._tape.add(Pin(self._tape.clock.now_ns(), name, level, driven=True))

    def close(self) -> None:
        """See `radio.seam.Lines`."""
        self._lines.close()


class Recorder:
    """All modules of a radio. `platform` is what the radio runs on instead of the one it was made of."""

    def __init__(self, platform: Platform) -> None:
        self._inner = platform
        self._tapes: dict[tuple[int, int], _Tape] = {}
        self.platform = replace(platform, bus=self._bus, lines=self._lines)

    @property
    def traces(self) -> list[Trace]:
        """What was recorded so far."""
        return [Trace(tape.module, tuple(tape.records)) for tape in self._tapes.values()]

    @property
    def full(self) -> Sequence[str]:
        """Modules whose recording ended early."""
        return [tape.module for tape in self._tapes.values() if len(tape.records) >= KEPT]

    def write(self, folder: Path) -> list[Path]:
        """One file a module. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for trace in self.traces:
            path = folder / (re.sub(r"[^\w-]", "-", trace.module) + ".trace")
            path.write_text(str(trace), "ascii")
            written.append(path)
        return written

    def _tape(self, board: Board, wiring: ModuleWiring) -> _Tape:
        tape = self._tapes.get(wiring.spi)
        if tape is None:
            name = f"{board.name}/{board.modules.index(wiring)}"
            tape = self._tapes[wiring.spi] = _Tape(name, self._inner.clock(f"trace {name}"))
        return tape

    def _bus(self, board: Board, wiring: ModuleWiring) -> Bus:
        return RecordingBus(self._inner.bus(board, wiring), self._tape(board, wiring))

    def _lines(self, board: Board, wiring: ModuleWiring, clock: Clock) -> Lines:
        return RecordingLines(self._inner.lines(board, wiring, clock), self._tape(board, wiring))

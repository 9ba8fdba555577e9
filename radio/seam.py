"""The seam between the radio code and whatever it runs on: a Raspberry Pi, fake modules, or virtual time.

Everything below the module owner speaks to hardware and time through these three protocols and nothing
else, so one and the same code runs on spidev and gpiod, on fake modules in real time, and in lock-step
with a simulator's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Edge:
    """A level change on a line, as early in its way up as the backend could stamp it."""

    line: str  # "dio0", "dio1", ...
    rising: bool
    t_ns: int  # of the clock the backend belongs to
    seqno: int  # counts up by one per edge of this line; a step of more means the kernel lost edges
    coarse: bool = False  # stamped when a callback ran, not when the edge happened: off by milliseconds


class Bus(Protocol):
    """SPI to one chip."""

    def xfer(self, data: bytes) -> bytes:
        """Clock `data` out under one chip-select assertion; returns as many bytes, clocked in."""
        ...


class Lines(Protocol):
    """The wires of one module besides SPI, by name: "dio0", "dio1", "reset"."""

    @property
    def backend(self) -> str:
        """What carries them: "gpiod", "lgpio", "rpi-gpio", "polling" or "sim"."""
        ...

    @property
    def poll_ns(self) -> int | None:
        """How often `read_edges` wants to be called without being asked to; None: its descriptor tells."""
        ...

    def fileno(self) -> int | None:
        """A descriptor that is readable while edges are pending, or None where there is none."""
        ...

    def read_edges(self) -> list[Edge]:
        """Take the pending edges, oldest first; never blocks."""
        ...

    def get(self, name: str) -> bool: ...

    def set(self, name: str, level: bool) -> None: ...

    def close(self) -> None: ...


class Readable(Protocol):
    """What a thread can wait for: the lines of a module, or a serial port."""

    def fileno(self) -> int | None:
        """A descriptor that is readable while something waits to be read, or None where there is none."""
        ...


class Clock(Protocol):
    """Monotonic time and the two ways to let it pass."""

    def now_ns(self) -> int: ...

    def wait(self, lines: Sequence[Readable], until_ns: int | None) -> None:
        """Return at the first pending edge, at `wake()`, or at `until_ns` (None: no limit)."""
        ...

    def sleep_until(self, t_ns: int) -> None:
        """Return as exactly at `t_ns` as the platform can; at once where it is past."""
        ...

    def wake(self) -> None:
        """End a `wait`, from any thread; one that is not yet running ends at its start."""
        ...

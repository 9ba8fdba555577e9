"""A recording of everything between a driver and one chip, as text: SPI transfers, edges, levels, with their times.

    spi-trace 1
    module dragino-hat/0
    1200350 spi 4200 0012          transferred: MOSI, MISO; the time is that of its end
    2000000 edge dio0 1 3 1999990  taken by the driver: level, sequence number, time of the edge itself
    2000200 get dio0 1             read
    2100000 set reset 0            driven

Times are nanoseconds of one clock and never go back. `parse` reads it and lets only TraceError out.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hw_sim.errors import SimError

MAGIC: Final = "spi-trace 1"
MAX_RECORDS: Final = 1_000_000
MAX_TRANSFER: Final = 4096  # what spidev takes at once
MAX_TIME: Final = 1 << 62
_NAME: Final = re.compile(r"[\w./-]{1,64}", re.ASCII)
_LINE: Final = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


class TraceError(SimError):
    """A file that is no trace, or a damaged one."""

    def __init__(self, line: int, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"line {line}: {problem}" if line else problem)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One chip-select assertion; `t_ns` is its end."""

    t_ns: int
    mosi: bytes
    miso: bytes

    def __str__(self) -> str:
        return f"{self.t_ns} spi {self.mosi.hex()} {self.miso.hex()}"

    def reads(self) -> Iterator[tuple[int, int]]:
        """(register, value) of everything a read transfer brought; the FIFO's bytes all have register 0."""
        if self.mosi and not self.mosi[0] & 0x80:
            address = self.mosi[0]
            for value in self.miso[1:]:
                yield address, value
                address = address and (address + 1) & 0x7F


@dataclass(frozen=True, slots=True)
class TakenEdge:
    """An edge as the driver got it, at `t_ns`; it happened at `edge_ns`."""

    t_ns: int
    line: str
    level: bool
    seqno: int
    edge_ns: int

    def __str__(self) -> str:
        return f"{self.t_ns} edge {self.line} {self.level:d} {self.seqno} {self.edge_ns}"


@dataclass(frozen=True, slots=True)
class Pin:
    """A level that the driver read or drove."""

    t_ns: int
    line: str
    level: bool
    driven: bool

    def __str__(self) -> str:
        return f"{self.t_ns} {'set' if self.driven else 'get'} {self.line} {self.level:d}"


Record = Transfer | TakenEdge | Pin


@dataclass(frozen=True, slots=True)
class Trace:
    """One module's recording."""

    module: str
    records: tuple[Record, ...]

    def __str__(self) -> str:
        return "".join(f"{each}\n" for each in (MAGIC, f"module {self.module}", *self.records))


def parse(data: bytes) -> Trace:
    """Read a trace. Empty lines and such that begin with # are passed over. Raises TraceError."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise TraceError(0, f"not a trace: {error}") from error
    if not lines or lines[0].rstrip() != MAGIC:
        raise TraceError(1, f"a trace begins with {MAGIC!r}")
    head = lines[1].split() if len(lines) > 1 else []
    if len(head) != 2 or head[0] != "module" or not _NAME.fullmatch(head[1]):
        raise TraceError(2, "the second line names the module: module <name>")
    return Trace(head[1], tuple(_records(lines[2:])))


def _records(lines: Iterable[str]) -> Iterator[Record]:
    last_ns = count = 0
    for number, line in enumerate(lines, start=3):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        count += 1
        if count > MAX_RECORDS:
            raise TraceError(number, f"more than {MAX_RECORDS} records")
        record = _record(number, words)
        if record.t_ns < last_ns:
            raise TraceError(number, "time goes back")
        last_ns = record.t_ns
        yield record


def _record(number: int, words: list[str]) -> Record:
    match words:
        case [time, "spi", mosi, miso]:
            out, back = _bytes(number, mosi), _bytes(number, miso)
            if len(out) != len(back):
                raise TraceError(number, f"{len(out)} bytes went out and {len(back)} came in")
            return Transfer(_number(number, time), out, back)
        case [time, "edge", line, level, seqno, edge_ns]:
            return TakenEdge(
                _number(number, time),
                _line(number, line),
                _level(number, level),
                _number(number, seqno),
                _number(number, edge_ns),
            )
        case [time, "get" | "set" as verb, line, level]:
            return Pin(_number(number, time), _line(number, line), _level(number, level), verb == "set")
    raise TraceError(number, "not a record: <ns> spi|edge|get|set ...")


def _number(number: int, word: str) -> int:
    if not _NUMBER.fullmatch(word) or int(word) > MAX_TIME:
        raise TraceError(number, f"{word[:20]!r} is no number of nanoseconds")
    return int(word)


def _level(number: int, word: str) -> bool:
    if word not in ("0", "1"):
        raise TraceError(number, f"a level is 0 or 1, not {word[:20]!r}")
    return word == "1"


def _line(number: int, word: str) -> str:
    if not _LINE.fullmatch(word):
        raise TraceError(number, f"{word[:20]!r} is no name of a line")
    return word


def _bytes(number: int, word: str) -> bytes:
    if not _HEX.fullmatch(word):
        raise TraceError(number, f"{word[:20]!r} is not pairs of hexadecimal digits")
    if len(word) > 2 * MAX_TRANSFER:
        raise TraceError(number, f"a transfer has at most {MAX_TRANSFER} bytes")
    return bytes.fromhex(word)

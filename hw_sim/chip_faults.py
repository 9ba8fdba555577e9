"""Defects of a chip, its wires and its supply, to switch on and off while it works.

Every chip has a `ChipFaults` as `chip.faults`. The knobs are its fields; `inject` turns them for a while, by the
name of a fault, as scenarios and tests do. All of it happens at the kernel's time, in an event or between runs.
A chip that is to be disturbed should not be strict: its driver then does what a sound chip would refuse.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from hw_sim import registers as reg
from hw_sim.kernel import Kernel

MS: Final = 1_000_000
DEFAULT_NS: Final = 500 * MS  # how long a fault lasts that has no end of its own
PLL_TIMEOUT: Final = 0x80  # in HopChannel

# What may be changed by a disturbance and matters for what is sent or heard.
_SENSITIVE: Final = (
    *range(reg.FRF_MSB, reg.PA_RAMP + 1),
    *range(reg.MODEM_CONFIG1, reg.HOP_PERIOD + 1),
    reg.FIFO_TX_BASE,
    reg.FIFO_RX_BASE,
    reg.IRQ_FLAGS_MASK,
    reg.MODEM_CONFIG3,
    reg.DETECT_OPTIMIZE,
    reg.INVERT_IQ,
    reg.DETECTION_THRESHOLD,
    reg.SYNC_WORD,
    reg.DIO_MAPPING1,
    reg.PA_DAC,
)
_STUCK: Final = (reg.RX_DONE, reg.PAYLOAD_CRC_ERROR, reg.VALID_HEADER, reg.TX_DONE)
_RECEIVE_MODES: Final = frozenset({reg.RXCONT, reg.RXSINGLE, reg.FSRX})
_STARTED_BY_PLL: Final = frozenset({reg.TX, reg.RXCONT, reg.RXSINGLE, reg.CAD})


class ChipFault(StrEnum):
    """What can be injected; the words of scenarios."""

    LOST_EDGE = "lost_edge"  # the next rise of a DIO line is told to nobody
    STUCK_LINE = "stuck_line"  # the wire of DIO0 stays high, or low
    STUCK_FLAG = "stuck_flag"  # an interrupt flag is set and only a reset clears it
    SPI_FLIP = "spi_flip"  # one bit of the next transfer arrives inverted, on its way in or out
    SPI_NOISE = "spi_noise"  # one bit of every tenth transfer does
    SPI_LOW = "spi_low"  # all bits read 0, writes are lost
    SPI_HIGH = "spi_high"
    SPI_ECHO = "spi_echo"  # MISO reads MOSI, writes are lost
    BROWN_OUT = "brown_out"  # the supply fails: registers at their reset values, no answer until it is back
    SETTING = "setting"  # a register changes by itself
    MODE_REFUSED = "mode_refused"  # SLEEP and STDBY written in a receive mode do nothing
    MODE_LEFT = "mode_left"  # the chip falls back to STDBY by itself
    TX_HUNG = "tx_hung"  # the next transmission does not end
    PLL = "pll"  # the synthesiser does not lock
    CRYSTAL = "crystal"  # the oscillator stops; SPI goes on


class Faulty(Protocol):
    """What a fault needs of its chip."""

    kernel: Kernel
    name: str
    lora: bool
    mode: int

    def peek(self, address: int) -> int: ...
    def poke(self, address: int, value: int) -> None: ...
    def refresh_lines(self) -> None: ...
    def stop_activity(self) -> None: ...
    def resume(self) -> None: ...
    def drop_out(self, mode: int) -> None: ...
    def power_cycle(self, off_ns: int = 0) -> None: ...


@dataclass(eq=False, slots=True)
class ChipFaults:
    """The knobs of one chip; all off by default. `met` counts what has had a chance to do harm."""

    chip: Faulty
    # Every byte read is this (0x00 no power, 0xFF no chip select); writes are lost
    spi_reads: int | None = None
    spi_echo: bool = False  # MISO reads MOSI
    flips: int = 0  # so many next transfers have one bit inverted
    flip_one_in: int = 0  # of so many transfers one has, on average; 0: none
    stuck_flags: int = 0  # IRQ flags that writing 1 does not clear
    stuck_line: bool | None = None  # the level of DIO0's wire, whatever the chip does
    lost_edges: int = 0  # so many next rising edges change the level without telling anyone
    refused_modes: int = 0  # so many next writes of SLEEP or STDBY in a receive mode do nothing
    hanging_sends: int = 0  # so many next transmissions do not end
    no_pll: bool = False
    no_crystal: bool = False
    met: Counter[ChipFault] = field(default_factory=Counter)
    met_ns: int | None = None  # when that was last
    _rng: random.Random | None = None
    _frozen: int = 0  # what a receiver's noise reads while it has no clock

    @property
    def any(self) -> bool:
        """Is anything switched on?"""
        return bool(
            self.spi_reads is not None
            or self.spi_echo
            or self.flips
            or self.flip_one_in
            or self.stuck_flags
            or self.stuck_line is not None
            or self.lost_edges
            or self.refused_modes
            or self.hanging_sends
            or self.no_pll
            or self.no_crystal
        )

    def inject(self, fault: ChipFault | str, duration_ns: int = DEFAULT_NS) -> None:
        """Begin a fault now and end it after `duration_ns` at the latest; some end earlier, by what they do.

        Raises ValueError for a name that no fault has.
        """
        end = _BEGIN[ChipFault(fault)](self, duration_ns)
        if end is not None:
            self.chip.kernel.after(duration_ns, end)

    def hold_line(self, level: bool | None) -> None:
        """Keep the wire of DIO0 at a level; None: it follows the chip again."""
        self.stuck_line = level
        if level is not None:
            self._meet(ChipFault.STUCK_LINE)
        self.chip.refresh_lines()

    def clear(self) -> None:
        """Switch everything off."""
        self.spi_reads, self.spi_echo, self.stuck_line = None, False, None
        self.flips = self.flip_one_in = self.stuck_flags = 0
        self.lost_edges = self.refused_modes = self.hanging_sends = 0
        self.no_pll = self.no_crystal = False
        self.chip.refresh_lines()

    # -- what the chip asks --------------------------------------------------------------------------

    @property
    def rng(self) -> random.Random:
        """Every draw comes from the kernel's seed."""
        if self._rng is None:
            self._rng = self.chip.kernel.rng(f"faults/{self.chip.name}")
        return self._rng

    def wire(self, data: bytes, transfer: Callable[[bytes], bytes]) -> bytes:
        """One transfer over the wires as they are."""
        if self.spi_reads is not None or self.spi_echo:
            self._meet(
                ChipFault.SPI_ECHO
                if self.spi_echo
                else ChipFault.SPI_HIGH
                if self.spi_reads
                else ChipFault.SPI_LOW
            )
            return bytes(data) if self.spi_echo else bytes((self.spi_reads or 0,)) * len(data)
        if data and self.flips:
            self.flips -= 1
            return self._flipped(data, transfer, ChipFault.SPI_FLIP)
        if data and self.flip_one_in and not self.rng.randrange(self.flip_one_in):
            return self._flipped(data, transfer, ChipFault.SPI_NOISE)
        return transfer(data)

    def _flipped(self, data: bytes, transfer: Callable[[bytes], bytes], fault: ChipFault) -> bytes:
        self._meet(fault)
        where, bit = self.rng.randrange(len(data)), 1 << self.rng.randrange(8)
        if self.rng.random() < 0.5:
            return _invert(transfer(data), where, bit)
        return transfer(_invert(data, where, bit))

    def loses_edge(self, number: int) -> bool:
        """Does this rising edge get lost? DIO5 carries no flag."""
        if not self.lost_edges or number > 4:
            return False
        self.lost_edges -= 1
        self._meet(ChipFault.LOST_EDGE)
        return True

    def refuses(self, now: int, mode: int) -> bool:
        """Does the chip stay in mode `now` although `mode` is written?"""
        if self.no_crystal and mode != reg.SLEEP:
            self._meet(ChipFault.CRYSTAL)
            return True
        if self.refused_modes and now in _RECEIVE_MODES and mode in (reg.SLEEP, reg.STDBY):
            self.refused_modes -= 1
            self._meet(ChipFault.MODE_REFUSED)
            return True
        return False

    def unlocked(self, mode: int) -> bool:
        """Does a mode that needs the synthesiser go without? It then neither sends nor hears."""
        if self.no_pll and mode in _STARTED_BY_PLL:
            self._meet(ChipFault.PLL)
            return True
        return False

    def hangs(self) -> bool:
        """Does this transmission not end?"""
        if not self.hanging_sends:
            return False
        self.hanging_sends -= 1
        self._meet(ChipFault.TX_HUNG)
        return True

    def noise(self, value: int) -> int:
        """What a register full of noise reads."""
        return self._frozen if self.no_crystal else value

    # -- beginning and ending ------------------------------------------------------------------------

    def _meet(self, fault: ChipFault) -> None:
        self.met[fault] += 1
        self.met_ns = self.chip.kernel.now_ns

    def _lose_edge(self, _duration_ns: int) -> Callable[[], None]:
        self.lost_edges += 1

        def end() -> None:
            self.lost_edges = 0

        return end

    def _stick_line(self, _duration_ns: int) -> Callable[[], None]:
        self.hold_line(self.rng.random() < 0.5)
        return lambda: self.hold_line(None)

    def _stick_flag(self, _duration_ns: int) -> Callable[[], None]:
        self.stuck_flags = self.rng.choice(_STUCK)
        self._meet(ChipFault.STUCK_FLAG)
        self.chip.poke(reg.IRQ_FLAGS, self.chip.peek(reg.IRQ_FLAGS) | self.stuck_flags)

        def end() -> None:
            self.stuck_flags = 0

        return end

    def _flip(self, _duration_ns: int) -> Callable[[], None]:
        self.flips += 1

        def end() -> None:
            self.flips = 0

        return end

    def _make_noise(self, _duration_ns: int) -> Callable[[], None]:
        self.flip_one_in = 10

        def end() -> None:
            self.flip_one_in = 0

        return end

    def _read_always(self, value: int) -> Callable[[], None]:
        self.spi_reads = value

        def end() -> None:
            self.spi_reads = None

        return end

    def _echo(self, _duration_ns: int) -> Callable[[], None]:
        self.spi_echo = True

        def end() -> None:
            self.spi_echo = False

        return end

    def _brown_out(self, duration_ns: int) -> None:
        self._meet(ChipFault.BROWN_OUT)
        self.chip.power_cycle(duration_ns)

    def _upset(self, _duration_ns: int) -> None:
        self._meet(ChipFault.SETTING)
        address = self.rng.choice(_SENSITIVE)
        self.chip.poke(address, self.chip.peek(address) ^ 1 << self.rng.randrange(8))

    def _refuse_modes(self, _duration_ns: int) -> Callable[[], None]:
        self.refused_modes = self.rng.choice((1, 2, 5, 1_000_000))

        def end() -> None:
            self.refused_modes = 0

        return end

    def _leave_mode(self, _duration_ns: int) -> None:
        self._meet(ChipFault.MODE_LEFT)
        self.chip.drop_out(reg.STDBY)

    def _hang(self, _duration_ns: int) -> Callable[[], None]:
        self.hanging_sends += 1

        def end() -> None:
            self.hanging_sends = 0

        return end

    def _unlock(self, _duration_ns: int) -> Callable[[], None]:
        self.no_pll = True
        chip = self.chip
        if chip.mode in _STARTED_BY_PLL and chip.lora:
            self._meet(ChipFault.PLL)
            chip.stop_activity()
            chip.poke(reg.HOP_CHANNEL, chip.peek(reg.HOP_CHANNEL) | PLL_TIMEOUT)

        def end() -> None:
            self.no_pll = False

        return end

    def _stop_crystal(self, _duration_ns: int) -> Callable[[], None]:
        self._meet(ChipFault.CRYSTAL)
        self._frozen = self.rng.randrange(256)
        self.no_crystal = True
        self.chip.stop_activity()

        def end() -> None:
            self.no_crystal = False
            self.chip.resume()

        return end


_BEGIN: Final[dict[ChipFault, Callable[[ChipFaults, int], Callable[[], None] | None]]] = {
    ChipFault.LOST_EDGE: ChipFaults._lose_edge,
    ChipFault.STUCK_LINE: ChipFaults._stick_line,
    ChipFault.STUCK_FLAG: ChipFaults._stick_flag,
    ChipFault.SPI_FLIP: ChipFaults._flip,
    ChipFault.SPI_NOISE: ChipFaults._make_noise,
    ChipFault.SPI_LOW: lambda faults, _ns: faults._read_always(0x00),
    ChipFault.SPI_HIGH: lambda faults, _ns: faults._read_always(0xFF),
    ChipFault.SPI_ECHO: ChipFaults._echo,
    ChipFault.BROWN_OUT: ChipFaults._brown_out,
    ChipFault.SETTING: ChipFaults._upset,
    ChipFault.MODE_REFUSED: ChipFaults._refuse_modes,
    ChipFault.MODE_LEFT: ChipFaults._leave_mode,
    ChipFault.TX_HUNG: ChipFaults._hang,
    ChipFault.PLL: ChipFaults._unlock,
    ChipFault.CRYSTAL: ChipFaults._stop_crystal,
}


def _invert(data: bytes, where: int, bit: int) -> bytes:
    return data[:where] + bytes((data[where] ^ bit,)) + data[where + 1 :]

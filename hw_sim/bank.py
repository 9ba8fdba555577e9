"""The registers of an SX1276, its FIFO memory, IRQ flags and DIO levels: the state a driver can see.

`modem` moves this state as a LoRa modem does; `sx1276` lets a driver at it over SPI.
"""

from collections import Counter
from collections.abc import Callable
from typing import cast

from hw_sim import registers as reg
from hw_sim.chip_faults import ChipFaults, Faulty
from hw_sim.errors import Misuse, Rule
from hw_sim.kernel import Kernel


class RegisterBank:
    """Both register pages and what follows from them at once. `on_dio(line, level, t_ns)` hears every DIO
    change.
    """

    def __init__(self, kernel: Kernel, name: str, *, strict: bool) -> None:
        self.kernel = kernel
        self.name = name
        self.strict = strict
        self.on_dio: Callable[[str, bool, int], None] | None = None
        self.faults = ChipFaults(cast(Faulty, self))  # every bank is part of a whole chip
        self.warnings: Counter[str] = Counter()
        self.lora = False
        self.mode: int = reg.STDBY
        self._dio_levels = [False] * len(reg.DIO_MAP)
        self._dio_sources = [0] * len(reg.DIO_MAP)
        self._regs = bytearray(128)
        self._fsk = bytearray(128)
        self._fifo = bytearray(256)
        self._frf = 0  # what RegFrf held when its LSB was last written
        self._reset_registers()

    def dio(self, number: int) -> bool:
        """Level of DIO0 to DIO5."""
        return self._dio_levels[number]

    def peek(self, address: int) -> int:
        """What a register holds, without a transfer."""
        return self._regs[address]

    def poke(self, address: int, value: int) -> None:
        """Change a register without a transfer, as a disturbance does."""
        self._regs[address] = value
        if reg.FRF_MSB <= address <= reg.FRF_LSB:
            self._latch_frf()
        self._map_dio()

    def refresh_lines(self) -> None:
        """Have the DIO lines follow what the chip and its wires say now."""
        self._update_dio()

    def raise_flags(self, flags: int) -> None:
        """Set IRQ flags that are not masked, all at once."""
        self._regs[reg.IRQ_FLAGS] |= flags & ~self._regs[reg.IRQ_FLAGS_MASK]
        self._update_dio()

    def _map_dio(self) -> None:
        regs = self._regs
        self._dio_sources = [sources[regs[where] >> shift & 3] for where, shift, sources in reg.DIO_MAP]
        self._update_dio()

    def _update_dio(self) -> None:
        state = self._regs[reg.IRQ_FLAGS] if self.lora else 0
        if self.mode != reg.SLEEP:
            state |= reg.MODE_READY
            if self.mode != reg.STDBY:
                state |= reg.PLL_LOCK
        levels = self._dio_levels
        held = self.faults.stuck_line  # the wire of DIO0
        for number, source in enumerate(self._dio_sources):
            level = bool(state & source) if number or held is None else held
            if level != levels[number]:
                levels[number] = level
                if not (level and self.faults.loses_edge(number)) and self.on_dio is not None:
                    self.on_dio(f"dio{number}", level, self.kernel.now_ns)

    def _set_mode(self, mode: int, keep: int | None = None) -> None:
        """Enter a mode; `keep` are the other bits of OpMode (default: as they are)."""
        if keep is None:
            keep = self._regs[reg.OP_MODE] & 0xF8
        self.mode = mode
        self._regs[reg.OP_MODE] = keep | mode
        self._update_dio()

    def _latch_frf(self) -> None:
        """The write of RegFrfLsb: only now the chip knows the new frequency."""
        self._frf = int.from_bytes(self._regs[reg.FRF_MSB : reg.FRF_LSB + 1], "big")

    def _count(self, address: int) -> None:
        """Add one to a 16-bit counter, which wraps."""
        value = int.from_bytes(self._regs[address : address + 2], "big") + 1
        self._regs[address : address + 2] = (value & 0xFFFF).to_bytes(2, "big")

    def _reset_registers(self) -> None:
        self._regs = bytearray(128)
        self._fsk = bytearray(128)
        for address, value in (reg.COMMON_RESET | reg.LORA_RESET).items():
            self._regs[address] = value
        for address, value in reg.FSK_RESET.items():
            self._fsk[address] = value
        self._fifo = bytearray(256)
        self.lora = False
        self.mode = reg.STDBY
        self._latch_frf()
        self._map_dio()

    def _misuse(self, rule: Rule, address: int | None = None, value: int | None = None) -> None:
        """Raise in strict mode, count otherwise."""
        if self.strict:
            raise Misuse(self.name, rule, address, value)
        self.warnings[rule.value] += 1

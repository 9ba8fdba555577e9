"""A register-level SX1276: what a driver reaches through SPI and the reset pin.

Registers, flags and DIO lines are in `bank`, the LoRa modem in `modem`, what happens between antennas in
`air`. Misuse raises in strict mode; otherwise the chip answers as chips do. Doubtful but working uses are
counted in `warnings`.
"""

from typing import Final

from hw_sim import registers as reg
from hw_sim import settings
from hw_sim.errors import Rule
from hw_sim.kernel import Kernel
from hw_sim.modem import Modem

US: Final = 1_000
RESET_LOW_NS: Final = 100 * US
RESET_READY_NS: Final = 5_000 * US
POWER_ON_READY_NS: Final = 10_000 * US
IMAGE_CAL_NS: Final = 10_000 * US
AGC_FULL_GAIN_UP_TO_DBM: Final = -90  # assumed, as the next
AGC_STEP_DB: Final = 12

# Settings a working receiver or transmitter has already taken over.
_MODEM_SETTINGS = frozenset(
    {reg.MODEM_CONFIG1, reg.MODEM_CONFIG2, reg.MODEM_CONFIG3, reg.SYNC_WORD, reg.INVERT_IQ}
)
_MADE_WHEN_READ = (reg.LNA, reg.RSSI, reg.RSSI_WIDEBAND)


class SX1276(Modem):
    """One chip; `spi` is one chip-select assertion.

    `crystal_ppm` shifts its frequency. `rfo_wired` False: only PA_BOOST reaches the antenna, as on most
    modules. `rx_done_latency` False: RxDone rises with the last symbol. `flags_survive_sleep`: real parts
    are undecided.
    """

    def __init__(
        self,
        kernel: Kernel,
        name: str = "sx1276",
        *,
        strict: bool = True,
        crystal_ppm: float = 0.0,
        rfo_wired: bool = False,
        rx_done_latency: bool = True,
        flags_survive_sleep: bool = True,
    ) -> None:
        super().__init__(
            kernel,
            name,
            strict=strict,
            crystal_ppm=crystal_ppm,
            rfo_wired=rfo_wired,
            rx_done_latency=rx_done_latency,
            flags_survive_sleep=flags_survive_sleep,
        )
        self.temperature_c = 25
        self.transfers = 0
        self._rng = kernel.rng(f"chip/{name}")
        self._reset_low_since: int | None = None
        self._ready_ns = 0

    # -- pins --------------------------------------------------------------------------------------

    def set_reset(self, level: bool) -> None:
        """Drive the reset pin: low for at least 100 us, then released (high); usable 5 ms later."""
        now = self.kernel.now_ns
        if not level:
            if self._reset_low_since is None:
                self._reset_low_since = now
            return
        low_since, self._reset_low_since = self._reset_low_since, None
        if low_since is None:
            return
        if now - low_since < RESET_LOW_NS:
            self._misuse(Rule.SHORT_RESET)
            return
        self.stop_activity()
        self._reset_registers()
        self._ready_ns = now + RESET_READY_NS

    def power_cycle(self, off_ns: int = 0) -> None:
        """A brown-out: everything is lost at once; usable 10 ms after the supply is back."""
        self.stop_activity()
        self._reset_registers()
        self._ready_ns = self.kernel.now_ns + off_ns + POWER_ON_READY_NS

    # -- SPI ---------------------------------------------------------------------------------------

    def spi(self, data: bytes) -> bytes:
        """One access: address byte (bit 7 set to write), then data; returns what MISO shows meanwhile.

        MISO is 0x00 under the address; under a written byte it shows the register's old content.
        """
        self.transfers += 1
        return self.faults.wire(data, self._transfer)

    def _transfer(self, data: bytes) -> bytes:
        if not data:
            self._misuse(Rule.EMPTY_TRANSFER)
            return b""
        if self._reset_low_since is not None or self._ready_ns > self.kernel.now_ns:
            self._misuse(Rule.NOT_READY, data[0] & 0x7F)
            return bytes(len(data))
        address = data[0] & 0x7F
        out = bytearray(len(data))
        if data[0] & 0x80:
            for i in range(1, len(data)):
                out[i] = self._write(address, data[i])
                if address:
                    address = (address + 1) & 0x7F
        elif address and address + len(data) <= len(self._regs) and not self._fsk_page():
            self._read_registers(address, out)
        else:
            for i in range(1, len(data)):
                out[i] = self._read(address)
                if address:
                    address = (address + 1) & 0x7F
        return bytes(out)

    def _read_registers(self, address: int, out: bytearray) -> None:
        """A burst of the LoRa page, at once: drivers look at their chips far more often than anything happens."""
        end = address + len(out) - 1
        out[1:] = self._regs[address:end]
        for made in _MADE_WHEN_READ:
            if address <= made < end:
                out[1 + made - address] = self._read(made)

    def _read(self, address: int) -> int:
        if address == reg.FIFO:
            return self._fifo_access(None)
        if address in reg.PAGED and self._fsk_page():
            if address == reg.FSK_TEMP:
                return -self.temperature_c & 0xFF
            return self._fsk[address]
        if address == reg.RSSI:
            return self._live_rssi()
        if address == reg.LNA and self.listening and self._regs[reg.MODEM_CONFIG3] & reg.AGC_AUTO_ON:
            return self._regs[reg.LNA] & 0x1F | self._agc_gain() << 5
        if address == reg.RSSI_WIDEBAND:
            return self.faults.noise(self._rng.randrange(256))
        return self._regs[address]

    def _write(self, address: int, value: int) -> int:
        """Write a byte; returns the old content."""
        if address == reg.FIFO:
            return self._fifo_access(value)
        if address in reg.PAGED and self._fsk_page():
            return self._write_fsk(address, value)
        regs = self._regs
        old = regs[address]
        if address in reg.READ_ONLY or address in reg.LORA_READ_ONLY:
            self._misuse(Rule.READ_ONLY, address, value)
        elif address == reg.OP_MODE:
            self._write_op_mode(value)
        elif address == reg.IRQ_FLAGS:
            regs[address] = old & ~(value & ~self.faults.stuck_flags)
            self._update_dio()
        else:
            regs[address] = value
            if address == reg.FRF_LSB:
                self._latch_frf()
            elif address in (reg.DIO_MAPPING1, reg.DIO_MAPPING2):
                self._map_dio()
            elif address in _MODEM_SETTINGS and self.busy:
                self.warnings["modem setting written while the modem is busy"] += 1
        return old

    def _write_fsk(self, address: int, value: int) -> int:
        old = self._fsk[address]
        if address in reg.FSK_READ_ONLY:
            self._misuse(Rule.READ_ONLY, address, value)
        elif address == reg.FSK_IMAGE_CAL:
            self._fsk[address] = value & ~0x60 | old & 0x20
            if value & 0x40:
                self._calibrate()
        elif address not in (reg.FSK_IRQ_FLAGS1, reg.FSK_IRQ_FLAGS2):
            self._fsk[address] = value
        return old

    def _fsk_page(self) -> bool:
        return not self.lora or bool(self._regs[reg.OP_MODE] & reg.ACCESS_SHARED_REG)

    def _fifo_access(self, value: int | None) -> int:
        """Read (None) or write the FIFO where FifoAddrPtr points, and move the pointer on."""
        if self.mode == reg.SLEEP:
            self._misuse(Rule.FIFO_IN_SLEEP, reg.FIFO, value)
            return 0
        if not self.lora:
            return 0
        pointer = self._regs[reg.FIFO_ADDR_PTR]
        old = self._fifo[pointer]
        if value is not None:
            self._fifo[pointer] = value
        self._regs[reg.FIFO_ADDR_PTR] = (pointer + 1) & 0xFF
        return old

    def _agc_gain(self) -> int:
        """1 is the most gain, 6 the least; a strong signal takes it down."""
        assert self.listening is not None
        wave = self.listening.wave
        level = self.medium.rssi_dbm(self, wave.freq_hz, wave.modulation.bw_hz)
        return max(1, min(6, 1 + int(level - AGC_FULL_GAIN_UP_TO_DBM) // AGC_STEP_DB))

    def _live_rssi(self) -> int:
        if self.listening is None:
            return self.faults.noise(0)
        wave = self.listening.wave
        level = self.medium.rssi_dbm(self, wave.freq_hz, wave.modulation.bw_hz)
        return max(0, min(255, round(level - settings.rssi_offset_dbm(wave.freq_hz))))

    def _calibrate(self) -> None:
        """Image and RSSI calibration: a busy bit for a while; only in FSK standby."""
        if self.lora or self.mode != reg.STDBY:
            self._misuse(Rule.IMAGE_CAL, reg.FSK_IMAGE_CAL)
            return
        self._fsk[reg.FSK_IMAGE_CAL] |= 0x20

        def done() -> None:
            self._fsk[reg.FSK_IMAGE_CAL] &= ~0x20

        self.kernel.after(IMAGE_CAL_NS, done)

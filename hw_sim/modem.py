"""The LoRa modem of an SX1276: modes and their transitions, sending, receiving, channel activity detection.

Between antennas the medium (`hw_sim.air`) decides; it reports to a receiver through `preamble_locked`,
`lock_lost`, `header_received` and `packet_received`. The FSK modem has its registers and modes but sends
and hears nothing.
"""

from dataclasses import dataclass, replace
from typing import Final, Protocol

from hw_sim import registers as reg
from hw_sim import settings
from hw_sim.bank import RegisterBank
from hw_sim.errors import Rule
from hw_sim.kernel import Event, Kernel
from hw_sim.phy import Waveform
from radio.lora import rx_done_latency_ns

US: Final = 1_000
CRYSTAL_START_NS: Final = 250 * US
PLL_LOCK_NS: Final = 60 * US
TX_START_NS: Final = 135 * US  # STDBY to the start of the PA ramp; 175 us to air with the default ramp
RX_START_NS: Final = 100 * US  # STDBY to hearing; assumed, about PLL lock and receiver start

_BUSY = frozenset({reg.TX, reg.RXCONT, reg.RXSINGLE, reg.CAD})

# ModemStat
_CLEAR, _HEADER_VALID, _RX_ONGOING, _SYNCHRONISED, _DETECTED = 0x10, 0x08, 0x04, 0x02, 0x01


class Medium(Protocol):
    """What a chip's antenna is connected to."""

    def transmit(self, chip: "Modem", wave: Waveform, payload: bytes, power_dbm: float) -> None: ...
    def abort(self, chip: "Modem") -> None: ...
    def listen(self, chip: "Modem") -> None: ...
    def unlisten(self, chip: "Modem") -> None: ...
    def activity(self, chip: "Modem", wave: Waveform, start_ns: int, end_ns: int) -> bool: ...
    def rssi_dbm(self, chip: "Modem", freq_hz: float, bw_hz: int) -> float: ...


class DummyLoad:
    """No antenna: nothing leaves, nothing is heard."""

    def transmit(self, chip: "Modem", wave: Waveform, payload: bytes, power_dbm: float) -> None: ...
    def abort(self, chip: "Modem") -> None: ...
    def listen(self, chip: "Modem") -> None: ...
    def unlisten(self, chip: "Modem") -> None: ...

    def activity(self, chip: "Modem", wave: Waveform, start_ns: int, end_ns: int) -> bool:
        return False

    def rssi_dbm(self, chip: "Modem", freq_hz: float, bw_hz: int) -> float:
        return -120.0


@dataclass(slots=True)
class Listening:
    """A receiver that is on: what it waits for and since when it hears."""

    wave: Waveform
    since_ns: int
    detector_fits: bool
    loss_db: float  # sensitivity lost to an unattended erratum
    max_length: int


@dataclass(frozen=True, slots=True)
class Packet:
    """What the demodulator hands over at the end of a frame."""

    payload: bytes
    crc_present: bool
    crc_good: bool
    rssi_dbm: float
    snr_db: float
    freq_error_hz: float


class Modem(RegisterBank):
    """The chip from its registers to its antenna."""

    def __init__(
        self,
        kernel: Kernel,
        name: str,
        *,
        strict: bool,
        crystal_ppm: float,
        rfo_wired: bool,
        rx_done_latency: bool,
        flags_survive_sleep: bool,
    ) -> None:
        self.crystal_ppm = crystal_ppm
        self.rfo_wired = rfo_wired
        self.rx_done_latency = rx_done_latency
        self.flags_survive_sleep = flags_survive_sleep
        self.medium: Medium = DummyLoad()
        self.listening: Listening | None = None
        self._rx_pointer = 0
        self._pll_locked_ns = 0
        self._timeout_ns = 0
        self._on_air = False
        self._pending: Event | None = None
        self._hop: Event | None = None
        self._timeout: Event | None = None
        super().__init__(kernel, name, strict=strict)

    @property
    def busy(self) -> bool:
        """Is the LoRa modem sending, receiving or detecting?"""
        return self.lora and self.mode in _BUSY

    def _write_op_mode(self, value: int) -> None:
        mode = value & 0x07
        switches_modem = bool(value & reg.LONG_RANGE_MODE) != self.lora
        if switches_modem and mode != reg.SLEEP:
            self._misuse(Rule.LORA_BIT, reg.OP_MODE, value)
            switches_modem = False
            value ^= reg.LONG_RANGE_MODE
        if self.faults.refuses(self.mode, mode):
            return
        if switches_modem:
            if self.mode != reg.SLEEP:
                self.warnings["LongRangeMode changed outside SLEEP"] += 1
            self.stop_activity()
            value &= ~reg.LOW_FREQUENCY_MODE  # the bit clears itself on a switch of modems
            self.lora = bool(value & reg.LONG_RANGE_MODE)
        if not self.lora and mode > reg.RXCONT:
            self._misuse(Rule.NO_SUCH_MODE, reg.OP_MODE, value)
            return
        keep = value & (reg.LONG_RANGE_MODE | 0x60 | reg.LOW_FREQUENCY_MODE)
        if mode == self.mode and not switches_modem:
            self._regs[reg.OP_MODE] = keep | mode
            return
        if self.lora:
            self._enter(mode, keep)
        else:
            self.stop_activity()
            self._set_mode(mode, keep)
            if mode == reg.TX:
                self._pending = self.kernel.after(TX_START_NS, self._begin_fsk_tx)

    def _enter(self, mode: int, keep: int) -> None:
        """A mode written over SPI, LoRa modem. Frf is taken over here, on leaving for a mode that uses it."""
        wave = self._waveform(mode) if mode in _BUSY else None
        previous, now = self.mode, self.kernel.now_ns
        self.stop_activity()
        self._set_mode(mode, keep)
        wake_ns = CRYSTAL_START_NS if previous == reg.SLEEP else 0
        if wave is not None:
            unlocked = self.faults.unlocked(mode)
            self._regs[reg.HOP_CHANNEL] = self._regs[reg.HOP_CHANNEL] & 0x7F | unlocked << 7
            if unlocked:
                return
        if mode == reg.SLEEP:
            self._fifo = bytearray(256)
            self._reset_rx_counters()
            if not self.flags_survive_sleep:
                self._regs[reg.IRQ_FLAGS] = 0
                self._update_dio()
        elif mode in (reg.FSTX, reg.FSRX):
            self._pll_locked_ns = now + wake_ns + PLL_LOCK_NS
        elif wave is None:
            return
        elif mode == reg.TX:
            ramp_ns = reg.PA_RAMP_US[self._regs[reg.PA_RAMP] & 0x0F] * US
            lead_ns = wake_ns + TX_START_NS
            if previous == reg.FSTX:
                lead_ns = max(0, self._pll_locked_ns - now)
            self._pending = self.kernel.after(lead_ns + ramp_ns, lambda: self._begin_tx(wave))
        elif mode == reg.CAD:
            start_ns = now + wake_ns + RX_START_NS
            self._pending = self.kernel.at(start_ns, lambda: self._begin_cad(wave))
        else:
            self._reset_rx_counters()
            base = self._regs[reg.FIFO_RX_BASE]
            self._rx_pointer = base
            start_ns = now + wake_ns + RX_START_NS
            if previous == reg.FSRX:
                start_ns = max(now, self._pll_locked_ns)
            self._pending = self.kernel.at(start_ns, lambda: self._begin_rx(wave))

    def _waveform(self, mode: int) -> Waveform | None:
        """The settings a busy mode starts with; None where they are nonsense and the chip is not strict."""
        regs = self._regs
        try:
            freq_hz = settings.frf_hz(self._frf) * (1 + self.crystal_ppm * 1e-6)
            wave = settings.waveform(regs, freq_hz, receiving=mode != reg.TX)
            if (mode == reg.TX or wave.implicit_header) and mode != reg.CAD and wave.length == 0:
                raise settings.BadSettings(Rule.ZERO_LENGTH, reg.PAYLOAD_LENGTH, 0)
            if mode == reg.RXSINGLE and self._symbol_timeout() < 4:
                raise settings.BadSettings(
                    Rule.SYMB_TIMEOUT, reg.SYMB_TIMEOUT_LSB, regs[reg.SYMB_TIMEOUT_LSB]
                )
        except settings.BadSettings as bad:
            self._misuse(bad.rule, bad.address, bad.value)
            return None
        if not settings.inversion_complete(regs, inverted=wave.iq_inverted):
            self.warnings["InvertIQ2 does not fit InvertIQ"] += 1
        return wave

    def _symbol_timeout(self) -> int:
        return (self._regs[reg.MODEM_CONFIG2] & 0x03) << 8 | self._regs[reg.SYMB_TIMEOUT_LSB]

    def stop_activity(self) -> None:
        """Cut short what runs: a carrier stops mid-frame, a reception is dropped; no flag tells."""
        kernel = self.kernel
        kernel.cancel(self._pending)
        kernel.cancel(self._hop)
        kernel.cancel(self._timeout)
        self._pending = self._hop = self._timeout = None
        if self._on_air:
            self._on_air = False
            self.medium.abort(self)
        self._stop_listening()

    def resume(self) -> None:
        """Hear again, after a stop nobody asked for, where a receive mode still holds."""
        if self.lora and self.listening is None and self.mode in (reg.RXCONT, reg.RXSINGLE):
            wave = self._waveform(self.mode)
            if wave is not None:
                self._begin_rx(wave)

    def drop_out(self, mode: int) -> None:
        """Fall into a mode without having been told to."""
        self.stop_activity()
        self._set_mode(mode)

    def _stop_listening(self) -> None:
        if self.listening is not None:
            self.medium.unlisten(self)
            self.listening = None
        self._regs[reg.MODEM_STAT] = self._regs[reg.MODEM_STAT] & 0xE0 | _CLEAR

    # -- transmitting ------------------------------------------------------------------------------

    def _begin_tx(self, wave: Waveform) -> None:
        """The first symbol. The TX pointer starts at FifoTxBase; FifoAddrPtr plays no part."""
        base = self._regs[reg.FIFO_TX_BASE]
        payload = bytes(self._fifo[(base + i) & 0xFF] for i in range(wave.length))
        power_dbm = settings.output_power_dbm(self._regs, rfo_wired=self.rfo_wired)
        self._on_air = True
        self._pending = self.kernel.after(wave.airtime_ns(), self._end_tx)
        if wave.hop_period:
            self._set_hop_channel(0)
            self._start_hopping(wave)
        self.medium.transmit(self, wave, payload, power_dbm)

    def _begin_fsk_tx(self) -> None:
        """Nobody receives it here; who sends it by mistake should know."""
        self._pending = None
        self.warnings["the FSK modem sends"] += 1

    def _end_tx(self) -> None:
        self._on_air = False
        if self.faults.hangs():
            self._pending = None
            return
        self.kernel.cancel(self._hop)
        self._pending = self._hop = None
        self._set_mode(reg.STDBY)
        self.raise_flags(reg.TX_DONE)

    def _start_hopping(self, wave: Waveform) -> None:
        """FhssChange every HopPeriod symbols; the frame itself is not followed over frequencies."""

        def hop() -> None:
            self._set_hop_channel(self._regs[reg.HOP_CHANNEL] + 1)
            self.raise_flags(reg.FHSS_CHANGE)
            self._hop = self.kernel.after(wave.symbols_ns(4 * wave.hop_period), hop)

        self._hop = self.kernel.after(wave.symbols_ns(4 * wave.hop_period), hop)

    def _set_hop_channel(self, channel: int) -> None:
        self._regs[reg.HOP_CHANNEL] = self._regs[reg.HOP_CHANNEL] & 0xC0 | channel & 0x3F

    # -- receiving ---------------------------------------------------------------------------------

    def _begin_rx(self, wave: Waveform) -> None:
        self._pending = None
        regs = self._regs
        mod = wave.modulation
        unattended = settings.errata_unattended(regs, wave.freq_hz, mod.bw_hz)
        for number in unattended:
            self.warnings[f"erratum {number} unattended"] += 1
        shift_hz = settings.receive_shift_hz(regs, mod.bw_hz)
        self.listening = Listening(
            wave=replace(wave, freq_hz=wave.freq_hz - shift_hz),
            since_ns=self.kernel.now_ns,
            detector_fits=settings.detector_fits(regs, mod.sf),
            loss_db=settings.ERRATUM_500K_LOSS_DB if mod.bw_hz == 500_000 and "2.1" in unattended else 0.0,
            max_length=regs[reg.MAX_PAYLOAD_LENGTH],
        )
        if self.mode == reg.RXSINGLE:
            window_ns = wave.symbols_ns(4 * self._symbol_timeout())
            self._timeout_ns = self.kernel.now_ns + window_ns
            self._timeout = self.kernel.at(self._timeout_ns, self._end_window)
        self.medium.listen(self)

    def _end_window(self) -> None:
        """The window closes behind everything of the same instant: a preamble complete by now still counts."""
        self._timeout = self.kernel.after(0, self._time_out)

    def _time_out(self) -> None:
        """RXSINGLE ends without a frame."""
        self._timeout = None
        self._stop_listening()
        self._set_mode(reg.STDBY)
        self.raise_flags(reg.RX_TIMEOUT)

    def preamble_locked(self) -> None:
        """The medium reports enough upchirps: RxTimeout can no longer come, unless the lock is lost."""
        self.kernel.cancel(self._timeout)
        self._timeout = None
        stat = self._regs[reg.MODEM_STAT] & 0xE0
        self._regs[reg.MODEM_STAT] = stat | _RX_ONGOING | _SYNCHRONISED | _DETECTED

    def lock_lost(self) -> None:
        """The medium reports that no header came of it: nothing is raised; RXSINGLE times out."""
        self._regs[reg.MODEM_STAT] = self._regs[reg.MODEM_STAT] & 0xE0 | _CLEAR
        if self.mode == reg.RXSINGLE:
            now = self.kernel.now_ns
            self._timeout = self.kernel.at(max(now, self._timeout_ns), self._time_out)

    def header_received(self, length: int, coding_rate: int) -> bool:
        """A good explicit header; False where its length exceeds MaxPayloadLength, which drops the frame."""
        regs = self._regs
        if self.listening is None or length > self.listening.max_length:
            return False
        self._count(reg.VALID_HEADER_CNT)
        regs[reg.MODEM_STAT] = coding_rate << 5 | _HEADER_VALID | _RX_ONGOING | _SYNCHRONISED | _DETECTED
        self.raise_flags(reg.VALID_HEADER)
        return True

    def rx_done_latency_ns(self) -> int:
        """How long after the last symbol RxDone rises, for what the chip listens to."""
        if self.listening is None or not self.rx_done_latency:
            return 0
        mod = self.listening.wave.modulation
        return rx_done_latency_ns(mod.sf, mod.bw_hz)

    def packet_received(self, packet: Packet) -> None:
        """RxDone: payload to the FIFO at the RX pointer, status registers, flags; RXSINGLE ends."""
        listening, regs = self.listening, self._regs
        if listening is None:
            return
        start = self._rx_pointer
        for i, byte in enumerate(packet.payload):
            self._fifo[(start + i) & 0xFF] = byte
        end = (start + len(packet.payload)) & 0xFF
        self._rx_pointer = end
        regs[reg.FIFO_RX_CURRENT] = start
        regs[reg.FIFO_RX_BYTE_ADDR] = (end - 1) & 0xFF
        regs[reg.RX_NB_BYTES] = len(packet.payload)
        offset = settings.rssi_offset_dbm(listening.wave.freq_hz)
        regs[reg.PKT_SNR] = max(-128, min(127, round(packet.snr_db * 4))) & 0xFF
        regs[reg.PKT_RSSI] = settings.packet_rssi_code(packet.rssi_dbm, packet.snr_db, offset)
        regs[reg.HOP_CHANNEL] = regs[reg.HOP_CHANNEL] & 0xBF | packet.crc_present << 6
        fei = settings.fei_code(packet.freq_error_hz, listening.wave.modulation.bw_hz)
        regs[reg.FEI : reg.FEI + 3] = fei.to_bytes(3, "big")
        flags = reg.RX_DONE
        if packet.crc_present and not packet.crc_good:
            flags |= reg.PAYLOAD_CRC_ERROR
        else:
            self._count(reg.VALID_PACKET_CNT)
        regs[reg.MODEM_STAT] = regs[reg.MODEM_STAT] & 0xE0 | _CLEAR
        if self.mode == reg.RXSINGLE:
            self._stop_listening()
            self._set_mode(reg.STDBY)
        self.raise_flags(flags)

    def _begin_cad(self, wave: Waveform) -> None:
        """Listen for (2^SF + 32)/BW, think for a bit less than a symbol, report, return to STDBY."""
        start_ns = self.kernel.now_ns
        symbol_ns = wave.symbol_ns
        listen_ns = symbol_ns + symbol_ns * 32 // (1 << wave.modulation.sf)
        think_ns = symbol_ns * (700 + 9 * (wave.modulation.sf - 7)) // 1000

        def listened() -> None:
            heard = self.medium.activity(self, wave, start_ns, self.kernel.now_ns)
            self._pending = self.kernel.after(think_ns, lambda: done(heard))

        def done(heard: bool) -> None:
            self._pending = None
            self._set_mode(reg.STDBY)
            self.raise_flags(reg.CAD_DONE | (reg.CAD_DETECTED if heard else 0))

        self._pending = self.kernel.after(listen_ns, listened)

    def _reset_rx_counters(self) -> None:
        self._regs[reg.VALID_HEADER_CNT : reg.VALID_PACKET_CNT + 2] = bytes(4)

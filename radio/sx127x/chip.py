"""One SX127x over SPI: settings, modes, FIFO and flags. No lines, no clock, no thread.

Gateways and end nodes drive the same class. It keeps a shadow of what it wrote, writes only differences in
contiguous bursts and reads every write back. It never caches the mode (the chip changes it by itself) and
never reads, modifies and writes RegIrqFlags. Not safe to share between threads: a chip has one owner.

A wire may flip a bit of any transfer. Therefore a read clocks out what its registers should hold anyway: one
that arrives as a write does no harm, and one that comes back unchanged was an echo. A write that missed may have
started the transmitter: RegOpMode is put right before anything else, within the 175 us it takes to the air.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from radio.errors import ChipError, FaultKind, ReadBackError
from radio.seam import Bus
from radio.sx127x import registers as r
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

_WRITE: Final = 0x80
# A mode that does not show at once is asked for again: crystal start-up takes 250 us, some parts leave
# RX for SLEEP late. With SPI at 1 MHz and more these reads span several milliseconds.
_MODE_READS: Final = 100
_IMAGE_CAL_READS: Final = 2000
_TRIES: Final = 3  # of a transfer that was damaged on the wire
_FIFO_CHUNK: Final = 64  # bytes; on the wire for less time than the transmitter needs to reach the air
_FRF: Final = (r.REG_FRF_MSB, r.REG_FRF_MID, r.REG_FRF_LSB)
# Bits 5:4 mean nothing in LoRa mode, and bit 3 clears itself on a switch of modems
_OP_MODE_MASK: Final = 0xC7
_SURVEYED: Final = r.REG_DIO_MAPPING_1  # registers 1 to this one in one burst, RegPaDac in another
# Modes that a write starts once more: what a read of RegOpMode clocks out must not be one of them.
_STARTS: Final = frozenset({Mode.TX, Mode.RXSINGLE, Mode.CAD})


@dataclass(frozen=True, slots=True)
class Packet:
    """What the chip says about the last frame it received."""

    payload: bytes
    crc_present: bool  # the header announced one
    crc_ok: bool  # True as well where there is none to check
    rssi_dbm: int
    snr_db: float
    freq_error_hz: int | None  # sender minus receiver; None of a modem that does not measure it
    coding_rate: int  # 1..4, from the header


@dataclass(frozen=True, slots=True)
class Survey:
    """The chip's registers as they read, and where they differ from what was written."""

    registers: bytes  # by address, 0x01 to 0x40
    op_mode: int  # what RegOpMode should hold
    wrong: dict[int, tuple[int, int]]  # settings: (should be, is)

    @property
    def mode_right(self) -> bool:
        """Whether the chip is in the mode it was sent to."""
        return (self.registers[r.REG_OP_MODE] ^ self.op_mode) & _OP_MODE_MASK == 0

    @property
    def flags(self) -> Irq:
        """RegIrqFlags."""
        return Irq(self.registers[r.REG_IRQ_FLAGS])

    @property
    def receiving(self) -> bool:
        """Whether a frame is coming in."""
        return bool(self.registers[r.REG_MODEM_STAT] & r.RX_ONGOING)


class Chip:
    """An SX1276/77/78/79 behind a Bus. Every method may raise ChipError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._shadow: dict[int, int] = {}
        self._harmless = bytearray(128)  # what a read clocks out
        self._reserved_known = False
        self._low_frequency = 0
        self._op_mode = 0  # as last commanded
        self._settings: Settings | None = None
        self._taken: bytes | None = None  # which packet was the last
        self._pll_bit_lies = False  # this chip says its synthesiser is not locked, and receives
        self.incidents: list[
            FaultKind
        ] = []  # what went wrong and was put right in passing; for the owner to clear
        self.transfers = 0

    # --- registers ------------------------------------------------------------------------------------

    def read(self, register: int) -> int:
        return self.read_burst(register, 1)[0]

    def read_burst(self, register: int, count: int, expected: bytes | None = None) -> bytes:
        """`count` registers upwards from `register`; of REG_FIFO, so many bytes from its pointer.

        `expected`: what the FIFO should hold.
        """
        self.transfers += 1
        if register == r.REG_FIFO:
            return self._bus.xfer(bytes(1) + (bytes(count) if expected is None else expected))[1:]
        data = bytes((register,)) + self._harmless[register : register + count]
        answer = self._bus.xfer(data)
        if answer == data:
            raise ChipError(
                "the bus echoes what was sent: MISO and MOSI are joined, or the clock is wrong",
                FaultKind.SPI_ECHO,
            )
        return answer[1:]

    def write(self, register: int, *values: int) -> None:
        """Write registers upwards, without shadow and read-back."""
        self.transfers += 1
        self._bus.xfer(bytes((register | _WRITE, *values)))

    def apply(self, values: Mapping[int, int]) -> None:
        """Bring settings registers to `values`: only differences, in bursts, each read back.

        Not while the chip sends. Raises ReadBackError where a register does not hold; the shadow then forgets it.
        """
        for start, burst in _runs(values, self._shadow):
            for register in range(start, start + len(burst)):
                self._shadow.pop(register, None)
            self._write_surely(start, bytes(burst))
            self._shadow.update(enumerate(burst, start))

    def _write_surely(self, start: int, burst: bytes) -> None:
        self._harmless[start : start + len(burst)] = burst
        wrong = None
        for attempt in range(_TRIES):
            self.write(start, *burst)
            wrong = _first_difference(start, burst, self.read_burst(start, len(burst)))
            # One bit of the address from RegOpMode: it may have gone there, although this register held it already.
            beside = (start ^ r.REG_OP_MODE).bit_count() == 1
            if wrong is None and not (beside and (self.op_mode() ^ self._op_mode) & _OP_MODE_MASK):
                if attempt:
                    self.incidents.append(FaultKind.SPI_NOISE)
                return
            self._keep_mode()
        raise wrong or ChipError("RegOpMode does not hold what was written")

    def _keep_mode(self) -> None:
        """Be in the mode that was last commanded, whatever a stray write did, before a carrier is up."""
        for _ in range(_MODE_READS):
            if (self.op_mode() ^ self._op_mode) & _OP_MODE_MASK == 0:
                return
            self.write(r.REG_OP_MODE, self._op_mode)
        raise ChipError("RegOpMode does not hold what was written")

    def forget(self) -> None:
        """Nothing written before is relied on any longer, after a reset or any doubt."""
        self._shadow.clear()

    def survey(self) -> Survey:
        """Read back every setting, the mode and the status, in two transfers."""
        registers = bytearray(1) + self.read_burst(r.REG_OP_MODE, _SURVEYED)
        if self._pll_bit_lies:
            registers[r.REG_HOP_CHANNEL] &= ~r.PLL_TIMEOUT
        pa_dac = self.read(r.REG_PA_DAC) if r.REG_PA_DAC in self._shadow else None
        wrong = {}
        for register, value in self._shadow.items():
            read = pa_dac if register == r.REG_PA_DAC else registers[register]
            assert read is not None
            if (read ^ value) & r.READ_BACK_MASK.get(register, 0xFF):
                wrong[register] = (value, read)
        return Survey(bytes(registers), self._op_mode, wrong)

    def restore(self, survey: Survey) -> None:
        """Write anew what a survey found wrong; call in STDBY."""
        wanted = {register: value for register, (value, _is) in survey.wrong.items()}
        for register in wanted:
            del self._shadow[register]
        if any(register in wanted for register in _FRF):
            word = self._harmless[r.REG_FRF_MSB : r.REG_FRF_LSB + 1]
            wanted |= dict(enumerate(word, r.REG_FRF_MSB))
        self.apply(wanted)

    # --- bring-up -------------------------------------------------------------------------------------

    def probe(self) -> str:
        """Identify the chip: its name. Raises ChipError with what the answer says about the wiring."""
        version = self.read(r.REG_VERSION)
        name = r.VERSIONS.get(version)
        if name is not None:
            return name
        if version in (0x00, 0xFF):
            raise ChipError(
                f"all bits read {version & 1}: no power, no chip select, or MISO not connected",
                FaultKind.SPI_HIGH if version else FaultKind.SPI_LOW,
            )
        if version == r.REG_VERSION:
            raise ChipError(
                "the bus echoes what was sent: MISO and MOSI are joined, or the clock is wrong",
                FaultKind.SPI_ECHO,
            )
        if version == 0x22:
            raise ChipError(
                "this is an SX1272/73, whose registers differ; SX1276 to SX1279 are supported",
                FaultKind.OTHER,
            )
        raise ChipError(
            f"version register reads 0x{version:02x}, not 0x12: not an SX1276, or SPI is disturbed",
            FaultKind.OTHER,
        )

    def start(self, calibrate_at_hz: int | None = None) -> None:
        """From reset to LoRa standby; on the way image calibration at a frequency (datasheet 2.1.3.8)."""
        self.forget()
        self.probe()
        if calibrate_at_hz is not None:
            self._calibrate_image(calibrate_at_hz)
        # The LoRa bit sticks only where the same write asks for SLEEP; be asleep before, as the datasheet
        # wants.
        self._set_raw_mode(Mode.SLEEP)
        self._set_raw_mode(r.LONG_RANGE_MODE | Mode.SLEEP)
        self.set_mode(Mode.STDBY)
        self.clear_flags(Irq(0xFF))
        if not self._reserved_known:  # a read that arrives as a write must not change these either
            self._harmless[2 : _SURVEYED + 1] = self.read_burst(2, _SURVEYED - 1)
            self._harmless[r.REG_IRQ_FLAGS] = 0
            self._reserved_known = True

    def _calibrate_image(self, freq_hz: int) -> None:
        """Image rejection and RSSI calibration: runs in FSK standby at the working frequency."""
        self._set_raw_mode(Mode.SLEEP)
        self._set_raw_mode(Mode.STDBY)
        pa_config = self.read(r.REG_PA_CONFIG)
        self.write(r.REG_PA_CONFIG, 0)  # keep the power amplifier out of it
        word = r.frf(freq_hz)
        self.write(r.REG_FRF_MSB, word >> 16, word >> 8 & 0xFF, word & 0xFF)
        self.write(r.REG_IMAGE_CAL, r.IMAGE_CAL_START | 0x02)  # 0x02: reset value, temperature threshold 10 C
        for _ in range(_IMAGE_CAL_READS):
            if not self.read(r.REG_IMAGE_CAL) & r.IMAGE_CAL_RUNNING:
                break
        else:
            raise ChipError("image calibration does not end", FaultKind.OTHER)
        self.write(r.REG_PA_CONFIG, pa_config)

    def _set_raw_mode(self, op_mode: int) -> None:
        """Enter a mode of either modem by the whole of RegOpMode, and see it done."""
        self._op_mode = self._harmless[r.REG_OP_MODE] = op_mode
        read = 0
        for _ in range(_MODE_READS):
            self.write(r.REG_OP_MODE, op_mode)
            read = self.op_mode()
            if read & 0x87 == op_mode & 0x87:
                return
        raise ChipError(f"RegOpMode reads 0x{read:02x} after writing 0x{op_mode:02x}")

    # --- modes ----------------------------------------------------------------------------------------

    def op_mode(self) -> int:
        """RegOpMode as it is now."""
        return self.read(r.REG_OP_MODE)

    def mode(self) -> Mode:
        """The mode the chip is in now; it leaves TX, RXSINGLE and CAD by itself."""
        return Mode(self.op_mode() & 0x07)

    def in_mode(self, mode: Mode) -> bool:
        """Whether the chip is in LoRa mode and `mode`; False as well after a reset nobody asked for."""
        return (self.op_mode() ^ (self._op_mode & 0xF8 | mode)) & _OP_MODE_MASK == 0

    def set_mode(self, mode: Mode) -> None:
        """Enter a mode that lasts (SLEEP, STDBY, FSTX, FSRX, RXCONT) and see it done."""
        if mode is Mode.STDBY and self._op_mode & 7 == Mode.FSTX:
            # STDBY is one bit from TX, and from FSTX it is 40 us to the air: too short to mend a damaged write.
            self.set_mode(Mode.FSRX)
        for attempt in range(_MODE_READS):
            self.command(mode)
            if self.in_mode(mode):
                if attempt:
                    self.incidents.append(FaultKind.MODE)
                return
        raise ChipError(f"mode {mode.name} not reached: RegOpMode reads 0x{self.op_mode():02x}")

    def detect(self) -> None:
        """Start channel activity detection. One flipped bit makes its mode TX: that is stopped before the air."""
        for _ in range(_TRIES):
            self.command(Mode.CAD)
            if self.in_mode(Mode.CAD):
                return
            self.incidents.append(FaultKind.SPI_NOISE)
            self.set_mode(Mode.STDBY)
        raise ChipError("channel activity detection does not start")

    def silence(self) -> None:
        """Stop whatever it does, in whatever state it is: from LoRa and FSK mode alike, SLEEP in LoRa mode takes."""
        self.set_mode(Mode.SLEEP)

    def command(self, mode: Mode) -> int:
        """Write RegOpMode and look no further: for TX, RXSINGLE and CAD, and where microseconds count.

        Returns what it held before: the chip shifts that out meanwhile.
        """
        self._op_mode = r.LONG_RANGE_MODE | self._low_frequency | mode
        self._harmless[r.REG_OP_MODE] = self._op_mode & 0xF8 | (Mode.STDBY if mode in _STARTS else mode)
        if mode in (Mode.RXCONT, Mode.RXSINGLE):
            self._taken = None  # the counters begin anew
        self.transfers += 1
        return self._bus.xfer(bytes((r.REG_OP_MODE | _WRITE, self._op_mode)))[1]

    def came_back(self) -> None:
        """The chip has ended TX, RXSINGLE or CAD by itself: that it is in STDBY is as it should be."""
        self._op_mode = self._op_mode & 0xF8 | Mode.STDBY

    def sends_as_set(self) -> bool:
        """Whether the chip is in TX, with the frequency and power that were set; one transfer."""
        count = r.REG_PA_CONFIG - r.REG_OP_MODE + 1
        burst = self.read_burst(r.REG_OP_MODE, count)
        return (burst[0] ^ self._op_mode) & _OP_MODE_MASK == 0 and all(
            burst[register - r.REG_OP_MODE] == self._shadow[register] for register in (*_FRF, r.REG_PA_CONFIG)
        )

    # --- settings -------------------------------------------------------------------------------------

    def configure_receive(self, settings: Settings) -> None:
        """Set up everything for reception; call in SLEEP or STDBY."""
        self._use(settings)
        self.apply(r.for_receive(settings))

    def configure_transmit(self, settings: Settings, power: Power, payload: bytes) -> None:
        """Set up everything for sending and load the FIFO; call in STDBY, where no packet can land on it.

        Raises ValueError for an empty payload or one of more than 255 bytes.
        """
        if not 1 <= len(payload) <= 255:
            raise ValueError(f"{len(payload)} bytes do not fit a LoRa frame of 1 to 255")
        self._use(settings)
        self.apply(r.for_transmit(settings, power, len(payload)))
        self.load(payload)

    def load(self, payload: bytes) -> None:
        """Put a payload where a transmission takes it from; call in STDBY. `holds` tells whether it got there."""
        self.write(r.REG_FIFO_ADDR_PTR, 0)
        for start in range(0, len(payload), _FIFO_CHUNK):
            self.write(r.REG_FIFO, *payload[start : start + _FIFO_CHUNK])
            if not self.in_mode(Mode.STDBY):
                self.set_mode(Mode.STDBY)

    def holds(self, payload: bytes) -> bool:
        """Whether a transmission would take this payload; not in SLEEP. The pointer is past it afterwards, so
        that no stray write falls into it.
        """
        self.write(r.REG_FIFO_ADDR_PTR, 0)
        return self.read_burst(r.REG_FIFO, len(payload), payload) == payload

    def map_dio0(self, use: Dio0) -> None:
        """What raises DIO0; the other lines keep their reset meaning (DIO1 RxTimeout, DIO3 CadDone)."""
        self.apply({r.REG_DIO_MAPPING_1: use << 6})

    def mask_flags(self, wanted: Irq) -> None:
        """Let only `wanted` flags appear; the others are never set."""
        self.apply({r.REG_IRQ_FLAGS_MASK: ~wanted & 0xFF})

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._low_frequency = 0 if settings.freq_hz >= r.HF_PORT_FROM_HZ else r.LOW_FREQUENCY_MODE_ON

    # --- flags and packets ----------------------------------------------------------------------------

    def flags(self) -> Irq:
        """RegIrqFlags as it is now."""
        return Irq(self.read(r.REG_IRQ_FLAGS))

    def clear_flags(self, flags: Irq) -> None:
        """Clear exactly these; writing a 0 bit leaves that flag alone."""
        self.write(r.REG_IRQ_FLAGS, flags)

    def clear_surely(self, flags: Irq) -> None:
        """Clear flags that nothing can set just now, and see it done. Raises ChipError (STUCK_FLAG)."""
        left = flags
        for attempt in range(_TRIES):
            self.clear_flags(flags)
            left = self.flags() & flags
            if not left:
                if attempt:
                    self.incidents.append(FaultKind.SPI_NOISE)
                return
        raise ChipError(f"interrupt flags 0x{left:02x} cannot be cleared", FaultKind.STUCK_FLAG)

    def status(self) -> tuple[Irq, bool]:
        """RegIrqFlags, and whether a frame is coming in right now (RegModemStat), in one transfer."""
        burst = self.read_burst(r.REG_IRQ_FLAGS, r.REG_MODEM_STAT - r.REG_IRQ_FLAGS + 1)
        return Irq(burst[0]), bool(burst[-1] & r.RX_ONGOING)

    def life(self) -> tuple[int, int]:
        """RegRssiValue and RegRssiWideband: noise, while a receiver is on and has a clock."""
        burst = self.read_burst(r.REG_RSSI_VALUE, r.REG_RSSI_WIDEBAND - r.REG_RSSI_VALUE + 1)
        return burst[0], burst[-1]

    def read_packet(self, known: Irq = Irq(0)) -> tuple[Packet | None, Irq]:  # noqa: B008
        """Take the last packet, if RxDone is set; returns it and the flags that have come up since.

        Five transfers: status and frequency error, pointer, FIFO, flags cleared, and a look at whether all that
        was what it seemed. The status registers describe the last packet only; where another one has come in
        meanwhile, RxDone is among the flags returned. Raises ChipError (STUCK_FLAG) for a packet taken before.
        """
        assert self._settings is not None, "configure_receive comes first"
        first = r.REG_FIFO_RX_CURRENT_ADDR
        seen = known
        for attempt in range(_TRIES):
            status = self.read_burst(first, r.REG_FEI_MSB + 3 - first)
            seen |= Irq(status[r.REG_IRQ_FLAGS - first])
            if Irq.RX_DONE not in seen:
                return None, seen
            identity = _identity(status, first)
            if identity == self._taken:
                self.incidents.append(FaultKind.SPI_NOISE)
                self.clear_surely(Irq.RX_DONE | seen & Irq.PAYLOAD_CRC_ERROR)
                return None, Irq(0)
            start, length = status[0], status[r.REG_RX_NB_BYTES - first]
            payload = b""
            if length:
                self.write(r.REG_FIFO_ADDR_PTR, start)
                payload = self.read_burst(r.REG_FIFO, length)
            self.clear_flags(seen)
            after = self.read_burst(r.REG_FIFO_ADDR_PTR, r.REG_RX_PACKET_CNT_LSB - r.REG_FIFO_ADDR_PTR + 1)
            flags = Irq(after[r.REG_IRQ_FLAGS - r.REG_FIFO_ADDR_PTR])
            end = (start + length) & 0xFF
            after_identity = _identity(after, r.REG_FIFO_ADDR_PTR)
            same = after_identity == identity
            # The next packet starts where this one ends; anything else is a damaged reading.
            next_came = not same and after_identity[0] == end and after_identity[2:] != identity[2:]
            if (not length or after[0] == end) and (same or next_came):
                if attempt:
                    self.incidents.append(FaultKind.SPI_NOISE)
                self._taken = identity
                if same:
                    return self._packet(status, payload, seen | flags), flags
                return self._packet(status, payload, seen), flags | Irq.RX_DONE
        raise ChipError("three readings of a received frame contradict each other", FaultKind.SPI_NOISE)

    def _packet(self, status: bytes, payload: bytes, flags: Irq) -> Packet:
        """A packet from the status burst, which begins at FifoRxCurrentAddr."""
        first = r.REG_FIFO_RX_CURRENT_ADDR
        settings = self._settings
        assert settings is not None
        snr_db = r.packet_snr_db(status[r.REG_PKT_SNR_VALUE - first])
        if status[r.REG_HOP_CHANNEL - first] & r.PLL_TIMEOUT and Irq.PAYLOAD_CRC_ERROR not in flags:
            self._pll_bit_lies = True
        crc_present = (
            settings.crc
            if settings.implicit_header
            else bool(status[r.REG_HOP_CHANNEL - first] & r.CRC_ON_PAYLOAD)
        )
        return Packet(
            payload=payload,
            crc_present=crc_present,
            crc_ok=Irq.PAYLOAD_CRC_ERROR not in flags,
            rssi_dbm=r.packet_rssi_dbm(status[r.REG_PKT_RSSI_VALUE - first], snr_db, settings.freq_hz),
            snr_db=snr_db,
            freq_error_hz=r.frequency_error_hz(status[r.REG_FEI_MSB - first :], settings.modulation.bw_hz),
            coding_rate=status[r.REG_MODEM_STAT - first] >> 5,
        )


def _identity(burst: bytes, first: int) -> bytes:
    """What tells one packet from the next: where it starts, its length, and the counters of headers and packets."""
    counters = r.REG_RX_NB_BYTES - first
    return (
        burst[r.REG_FIFO_RX_CURRENT_ADDR - first : r.REG_FIFO_RX_CURRENT_ADDR - first + 1]
        + burst[counters : r.REG_RX_PACKET_CNT_LSB - first + 1]
    )


def _first_difference(start: int, written: bytes, read: bytes) -> ReadBackError | None:
    for register, (should, is_) in enumerate(zip(written, read, strict=True), start):
        if (should ^ is_) & r.READ_BACK_MASK.get(register, 0xFF):
            return ReadBackError(register, should, is_)
    return None


def _runs(values: Mapping[int, int], shadow: Mapping[int, int]) -> Iterator[tuple[int, list[int]]]:
    """The differing registers in runs of neighbours: (first register, contents).

    A frequency goes out whole: the chip takes it over on the write of its last byte.
    """
    retuned = any(register in values and shadow.get(register) != values[register] for register in _FRF)
    start = -1
    burst: list[int] = []
    for register in sorted(values):
        assert register not in r.NOT_SETTINGS
        if shadow.get(register) == values[register] and not (retuned and register in _FRF):
            continue
        if burst and register == start + len(burst):
            burst.append(values[register])
            continue
        if burst:
            yield start, burst
        start, burst = register, [values[register]]
    if burst:
        yield start, burst

"""One SX127x over SPI: settings, modes, FIFO and flags. No lines, no clock, no thread.

Gateways and end nodes drive the same class. It keeps a shadow of what it wrote, writes only differences in
contiguous bursts and reads every write back. It never caches the mode (the chip changes it by itself) and
never reads, modifies and writes RegIrqFlags. Not safe to share between threads: a chip has one owner.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from radio.errors import ChipError, ReadBackError
from radio.seam import Bus
from radio.sx127x import registers as r
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

_WRITE: Final = 0x80
# A mode that does not show at once is asked for again: crystal start-up takes 250 us, some parts leave
# RX for SLEEP late. With SPI at 1 MHz and more these reads span several milliseconds.
_MODE_READS: Final = 100
_MODE_REWRITE_EVERY: Final = 25
_IMAGE_CAL_READS: Final = 2000
_FRF: Final = (r.REG_FRF_MSB, r.REG_FRF_MID, r.REG_FRF_LSB)


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


class Chip:
    """An SX1276/77/78/79 behind a Bus. Every method may raise ChipError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._shadow: dict[int, int] = {}
        self._low_frequency = 0
        self._settings: Settings | None = None
        self.transfers = 0

    # --- registers ------------------------------------------------------------------------------------

    def read(self, register: int) -> int:
        return self.read_burst(register, 1)[0]

    def read_burst(self, register: int, count: int) -> bytes:
        """`count` registers upwards from `register`; of REG_FIFO, so many bytes from its pointer."""
        self.transfers += 1
        return self._bus.xfer(bytes((register,)) + bytes(count))[1:]

    def write(self, register: int, *values: int) -> None:
        """Write registers upwards, without shadow and read-back."""
        self.transfers += 1
        self._bus.xfer(bytes((register | _WRITE, *values)))

    def apply(self, values: Mapping[int, int]) -> None:
        """Bring settings registers to `values`: only differences, in bursts, each read back.

        Raises ReadBackError where a register does not hold; the shadow then forgets it.
        """
        for start, burst in _runs(values, self._shadow):
            for register in range(start, start + len(burst)):
                self._shadow.pop(register, None)
            self.write(start, *burst)
            for i, read in enumerate(self.read_burst(start, len(burst))):
                mask = r.READ_BACK_MASK.get(start + i, 0xFF)
                if (read ^ burst[i]) & mask:
                    raise ReadBackError(start + i, burst[i], read)
                self._shadow[start + i] = burst[i]

    def forget(self) -> None:
        """The chip was reset: nothing written before holds any longer."""
        self._shadow.clear()

    def check(self, *, canary: int = r.REG_SYNC_WORD) -> bool:
        """Whether a settings register still holds what was written; False after a brown-out."""
        expected = self._shadow.get(canary)
        return expected is None or self.read(canary) == expected

    # --- bring-up -------------------------------------------------------------------------------------

    def probe(self) -> str:
        """Identify the chip: its name. Raises ChipError with what the answer says about the wiring."""
        version = self.read(r.REG_VERSION)
        name = r.VERSIONS.get(version)
        if name is not None:
            return name
        if version in (0x00, 0xFF):
            raise ChipError(f"all bits read {version & 1}: no power, no chip select, or MISO not connected")
        if version == r.REG_VERSION:
            raise ChipError("the bus echoes what was sent: MISO and MOSI are joined, or the clock is wrong")
        if version == 0x22:
            raise ChipError("this is an SX1272/73, whose registers differ; SX1276 to SX1279 are supported")
        raise ChipError(
            f"version register reads 0x{version:02x}, not 0x12: not an SX1276, or SPI is disturbed"
        )

    def start(self, calibrate_at_hz: int | None = None) -> None:
        """From reset to LoRa standby; on the way image calibration at a frequency (datasheet 2.1.3.8)."""
        self.forget()
        self.probe()
        if calibrate_at_hz is not None:
            self._calibrate_image(calibrate_at_hz)
        # The LoRa bit sticks only where the same write asks for SLEEP; be asleep before, as the datasheet
        # wants.
        self.write(r.REG_OP_MODE, Mode.SLEEP)
        self.write(r.REG_OP_MODE, r.LONG_RANGE_MODE | Mode.SLEEP)
        op_mode = self.read(r.REG_OP_MODE)
        if op_mode & 0x87 != r.LONG_RANGE_MODE:
            raise ChipError(f"LoRa mode refused: RegOpMode reads 0x{op_mode:02x} after writing 0x80")
        self.set_mode(Mode.STDBY)
        self.clear_flags(Irq(0xFF))

    def _calibrate_image(self, freq_hz: int) -> None:
        """Image rejection and RSSI calibration: runs in FSK standby at the working frequency."""
        self.write(r.REG_OP_MODE, Mode.SLEEP)
        self.write(r.REG_OP_MODE, Mode.STDBY)
        pa_config = self.read(r.REG_PA_CONFIG)
        self.write(r.REG_PA_CONFIG, 0)  # keep the power amplifier out of it
        word = r.frf(freq_hz)
        self.write(r.REG_FRF_MSB, word >> 16, word >> 8 & 0xFF, word & 0xFF)
        self.write(r.REG_IMAGE_CAL, r.IMAGE_CAL_START | 0x02)  # 0x02: reset value, temperature threshold 10 C
        for _ in range(_IMAGE_CAL_READS):
            if not self.read(r.REG_IMAGE_CAL) & r.IMAGE_CAL_RUNNING:
                break
        else:
            raise ChipError("image calibration does not end")
        self.write(r.REG_PA_CONFIG, pa_config)

    # --- modes ----------------------------------------------------------------------------------------

    def op_mode(self) -> int:
        """RegOpMode as it is now."""
        return self.read(r.REG_OP_MODE)

    def mode(self) -> Mode:
        """The mode the chip is in now; it leaves TX, RXSINGLE and CAD by itself."""
        return Mode(self.op_mode() & 0x07)

    def in_mode(self, mode: Mode) -> bool:
        """Whether the chip is in LoRa mode and `mode`; False as well after a reset nobody asked for."""
        return self.op_mode() & 0x87 == r.LONG_RANGE_MODE | mode

    def set_mode(self, mode: Mode) -> None:
        """Enter a mode that lasts (SLEEP, STDBY, FSTX, FSRX, RXCONT) and see it done."""
        self.command(mode)
        for attempt in range(1, _MODE_READS + 1):
            if self.in_mode(mode):
                return
            if attempt % _MODE_REWRITE_EVERY == 0:
                self.command(mode)
        raise ChipError(f"mode {mode.name} not reached: RegOpMode reads 0x{self.op_mode():02x}")

    def command(self, mode: Mode) -> None:
        """Write RegOpMode and look no further: for TX, RXSINGLE and CAD, and where microseconds count."""
        self.write(r.REG_OP_MODE, r.LONG_RANGE_MODE | self._low_frequency | mode)

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
        self.write(r.REG_FIFO_ADDR_PTR, 0)
        self.write(r.REG_FIFO, *payload)
        self.write(r.REG_FIFO_ADDR_PTR, 0)
        if self.read_burst(r.REG_FIFO, len(payload)) != payload:
            raise ChipError("the FIFO does not hold what was written")

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

    def status(self) -> tuple[Irq, bool]:
        """RegIrqFlags, and whether a frame is coming in right now (RegModemStat), in one transfer."""
        burst = self.read_burst(r.REG_IRQ_FLAGS, r.REG_MODEM_STAT - r.REG_IRQ_FLAGS + 1)
        return Irq(burst[0]), bool(burst[-1] & r.RX_ONGOING)

    def read_packet(self) -> tuple[Packet | None, Irq]:
        """Take the last packet, if RxDone is set; returns it and the flags that have come up since.

        Five transfers: status burst, frequency error, pointer, FIFO, flags cleared (then read again). The
        status registers describe the last packet only.
        """
        assert self._settings is not None, "configure_receive comes first"
        status = self.read_burst(r.REG_FIFO_RX_CURRENT_ADDR, 13)
        flags = Irq(status[r.REG_IRQ_FLAGS - r.REG_FIFO_RX_CURRENT_ADDR])
        if Irq.RX_DONE not in flags:
            return None, flags
        fei = self.read_burst(r.REG_FEI_MSB, 3)
        self.write(r.REG_FIFO_ADDR_PTR, status[0])
        length = status[r.REG_RX_NB_BYTES - r.REG_FIFO_RX_CURRENT_ADDR]
        payload = self.read_burst(r.REG_FIFO, length) if length else b""
        self.clear_flags(flags)
        snr_db = r.packet_snr_db(status[r.REG_PKT_SNR_VALUE - r.REG_FIFO_RX_CURRENT_ADDR])
        settings = self._settings
        crc_present = (
            settings.crc
            if settings.implicit_header
            else bool(status[r.REG_HOP_CHANNEL - r.REG_FIFO_RX_CURRENT_ADDR] & r.CRC_ON_PAYLOAD)
        )
        packet = Packet(
            payload=payload,
            crc_present=crc_present,
            crc_ok=Irq.PAYLOAD_CRC_ERROR not in flags,
            rssi_dbm=r.packet_rssi_dbm(
                status[r.REG_PKT_RSSI_VALUE - r.REG_FIFO_RX_CURRENT_ADDR], snr_db, settings.freq_hz
            ),
            snr_db=snr_db,
            freq_error_hz=r.frequency_error_hz(fei, settings.modulation.bw_hz),
            coding_rate=status[r.REG_MODEM_STAT - r.REG_FIFO_RX_CURRENT_ADDR] >> 5,
        )
        return packet, self.flags()


def _runs(values: Mapping[int, int], shadow: Mapping[int, int]) -> Iterator[tuple[int, list[int]]]:
    """The differing registers in runs of neighbours: (first register, contents).

    A frequency goes out whole: the chip takes it over on the write of its last byte.
    """
    retuned = any(shadow.get(register) != values.get(register) for register in _FRF)
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

"""What can go wrong in the radio package. Every class carries the data a caller or technician needs."""

from enum import StrEnum


class RadioError(Exception):
    """Base of everything this package raises on purpose."""


class GwmpError(RadioError):
    """A datagram that is not Semtech GWMP version 2; the only error `radio.gwmp` raises."""


class FaultKind(StrEnum):
    """What kind of thing went wrong with a chip; the words are those of counters and status."""

    LOST_EDGE = "lost_edge"  # a flag was set and no edge of DIO0 told of it
    STUCK_LINE = "stuck_line"  # DIO0 is high although no flag raises it
    STUCK_FLAG = "stuck_flag"  # a flag that cannot be cleared
    SPI_NOISE = "spi_noise"  # a transfer was damaged on the wire; repeated, it was right
    SPI_LOW = "spi_low"  # every bit reads 0
    SPI_HIGH = "spi_high"  # every bit reads 1
    SPI_ECHO = "spi_echo"  # what is sent comes back
    SPI_REFUSED = "spi_refused"  # the operating system failed the transfer
    BROWN_OUT = "brown_out"  # the registers hold what they hold after a reset nobody asked for
    SETTINGS = "settings"  # some registers hold something else than was written
    MODE = "mode"  # the chip left a mode by itself, or did not enter one
    CRYSTAL = "crystal"  # the chip answers but has no clock
    PLL = "pll"  # the synthesiser finds no frequency
    TX_HUNG = "tx_hung"  # a transmission does not end
    RX_STUCK = "rx_stuck"  # the receiver says a frame is coming in, for longer than any frame
    OTHER = "other"  # not an SX127x, or one that does not calibrate


class ChipError(RadioError):
    """The chip does not answer as an SX127x would: wiring, power, or a register that does not hold.

    `kind` None: only a closer look at the chip can tell.
    """

    def __init__(self, message: str, kind: FaultKind | None = None) -> None:
        super().__init__(message)
        self.kind = kind


class ReadBackError(ChipError):
    """A register read back differently from what was written."""

    def __init__(self, register: int, written: int, read: int) -> None:
        super().__init__(
            f"register 0x{register:02x}: wrote 0x{written:02x}, reads 0x{read:02x}", FaultKind.SETTINGS
        )
        self.register = register
        self.written = written
        self.read = read


class GpioError(RadioError, OSError):
    """The lines of a module cannot be had; the text says what each way to them lacked."""


class BusyError(RadioError, OSError):
    """Another process holds the SPI device or a line of a module."""


class BoardError(RadioError):
    """A board description that cannot be found or does not make sense."""


class ModemLineError(RadioError):
    """A line no RN2483 sends; the only error `radio.rn2483_lines` raises."""


class NmeaError(RadioError):
    """A sentence that is not NMEA 0183, or not for us to believe; the only error `radio.gnss.nmea` raises."""


class LeapListError(RadioError):
    """A file that is not the IERS's list of leap seconds; the only error `radio.gnss.leap` raises."""

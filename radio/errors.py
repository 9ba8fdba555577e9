"""What can go wrong in the radio package. Every class carries the data a caller or technician needs."""


class RadioError(Exception):
    """Base of everything this package raises on purpose."""


class GwmpError(RadioError):
    """A datagram that is not Semtech GWMP version 2; the only error `radio.gwmp` raises."""


class ChipError(RadioError):
    """The chip does not answer as an SX127x would: wiring, power, or a register that does not hold."""


class ReadBackError(ChipError):
    """A register read back differently from what was written."""

    def __init__(self, register: int, written: int, read: int) -> None:
        super().__init__(f"register 0x{register:02x}: wrote 0x{written:02x}, reads 0x{read:02x}")
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

"""The `spidev` module's surface over simulated SPI. Errors are those of the C extension."""

import os
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from hw_sim.fakes import machine

MAX_TRANSFER: Final = 4096  # bytes in one transfer: the driver's default bufsiz
Values = Sequence[int] | bytes | bytearray | memoryview
_DEVICE_FILE = re.compile(r"/dev/spidev(\d+)\.(\d+)")


class SpiDev:
    """One chip select. Settings are kept; only the clock has an effect."""

    def __init__(self, bus: int | None = None, device: int | None = None) -> None:
        self.mode = 0
        self.max_speed_hz = 500_000
        self.bits_per_word = 8
        self.lsbfirst = False
        self.cshigh = False
        self.no_cs = False
        self.loop = False
        self.threewire = False
        self.read0 = False
        self._where: tuple[int, int] | None = None
        self._fd = -1
        if bus is not None and device is not None:
            self.open(bus, device)

    def open(self, bus: int, device: int) -> None:
        """Raises FileNotFoundError where the machine has no such device file."""
        if not machine.host().has_spi(bus, device):
            raise FileNotFoundError(2, "No such file or directory")
        self.close()
        self._where = (bus, device)
        self._fd = machine.open_spi_file(bus, device)

    def open_path(self, path: str) -> None:
        """As `open`, by device file."""
        match = _DEVICE_FILE.fullmatch(path)
        if match is None:
            raise FileNotFoundError(2, "No such file or directory")
        self.open(int(match[1]), int(match[2]))

    def close(self) -> None:
        self._where = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close  # as the extension's: a device nobody refers to any more is closed

    def fileno(self) -> int:
        """Good for locks; there is nothing to poll on SPI."""
        return self._fd

    def __enter__(self) -> "SpiDev":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def xfer(
        self, values: Values, speed_hz: int = 0, delay_usecs: int = 0, bits_per_word: int = 0
    ) -> list[int]:
        """One transfer of at most 4096 bytes."""
        data = _bytes(values)
        if len(data) > MAX_TRANSFER:
            raise OverflowError(f"Argument list size exceeds {MAX_TRANSFER} bytes.")
        return list(self._transfer(data, speed_hz, delay_usecs))

    xfer2 = xfer

    def xfer3(
        self, values: Values, speed_hz: int = 0, delay_usecs: int = 0, bits_per_word: int = 0
    ) -> tuple[int, ...]:
        """A transfer of any length, in blocks of 4096 bytes; gives a tuple."""
        data = _bytes(values)
        out: list[int] = []
        for start in range(0, len(data), MAX_TRANSFER):
            out += self._transfer(data[start : start + MAX_TRANSFER], speed_hz, delay_usecs)
        return tuple(out)

    def readbytes(self, count: int) -> list[int]:
        """Clock zeros out."""
        return self.xfer(bytes(count)) if count else []

    def writebytes(self, values: Values) -> None:
        self.xfer(values)

    def writebytes2(self, values: Values) -> None:
        """As `writebytes`, of any length."""
        self.xfer3(values)

    def _transfer(self, data: bytes, speed_hz: int, delay_usecs: int) -> bytes:
        if self._where is None:
            raise OSError(9, "Bad file descriptor")
        host = machine.host()
        out = host.xfer(*self._where, data, speed_hz or self.max_speed_hz)
        if delay_usecs:
            host.delay(delay_usecs * 1000)
        return out


def _bytes(values: Values) -> bytes:
    if not len(values):
        raise TypeError("Non-empty arguments must be a sequence or buffer")
    try:
        return bytes(values)
    except ValueError as error:
        raise TypeError("Non-Int/Long value in arguments") from error

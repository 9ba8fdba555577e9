"""SPI through the kernel's spidev driver."""

import fcntl

from radio.errors import BusyError


class SpidevBus:
    """One chip on /dev/spidev<bus>.<device>, SPI mode 0.

    It locks the device file, so that two programs of ours never talk to one chip; `shared` leaves that to
    another bus of the same process. Raises OSError where the device is missing, BusyError where it is locked.
    """

    def __init__(self, bus: int, device: int, speed_hz: int, *, shared: bool = False) -> None:
        import spidev

        self._spi = spidev.SpiDev()
        self._spi.open(bus, device)
        self._spi.mode = 0
        self._spi.max_speed_hz = speed_hz
        if shared:
            return
        try:
            fcntl.flock(self._spi.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._spi.close()
            raise BusyError(
                f"another program holds /dev/spidev{bus}.{device}: the radio process (systemctl stop fluxgate-radio)"
            ) from None

    def xfer(self, data: bytes) -> bytes:
        """See `radio.seam.Bus`: at most 256 bytes here, far below spidev's limit."""
        return bytes(self._spi.xfer2(list(data)))

    def close(self) -> None:
        """Give the device back."""
        self._spi.close()

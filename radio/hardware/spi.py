"""SPI through the kernel's spidev driver."""


class SpidevBus:
    """One chip on /dev/spidev<bus>.<device>, SPI mode 0. Raises OSError where the device is missing."""

    def __init__(self, bus: int, device: int, speed_hz: int) -> None:
        import spidev

        self._spi = spidev.SpiDev()
        self._spi.open(bus, device)
        self._spi.mode = 0
        self._spi.max_speed_hz = speed_hz

    def xfer(self, data: bytes) -> bytes:
        """See `radio.seam.Bus`: at most 256 bytes here, far below spidev's limit."""
        return bytes(self._spi.xfer2(list(data)))

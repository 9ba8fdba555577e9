"""A serial wire between a simulated device and its host: bytes take their time, and may be damaged or lost.

The device calls `say`; the host's side is `SimSerial`, a `radio.serial_line.SerialPort` in lock-step virtual time, or
a pty (`hw_sim.pty`). Both directions are paced byte by byte at the wire's rate; towards the host the UART's queue hands
over 16 bytes at once (a USB adapter's 64), and the rest of a line 32 bit times after its last byte, as a Raspberry Pi's
PL011 does.
"""

import errno
from collections.abc import Callable
from typing import Final

from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from radio.serial_line import byte_ns

QUEUE_BYTES: Final = 16
IDLE_BITS: Final = 32
CALL_NS: Final = 20_000  # of a read or write of a device file
MAX_UNREAD: Final = 4096  # what the host's driver keeps


class Wire:
    """One serial connection in virtual time. All methods run as events or with the kernel's mutex held."""

    def __init__(self, kernel: Kernel, baud: int, queue_bytes: int = QUEUE_BYTES) -> None:
        self.kernel = kernel
        self.queue_bytes = queue_bytes
        self.baud = baud
        self.byte_ns = byte_ns(baud)
        self.plugged = True
        # At the device, when the last one is through
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.on_break: Callable[[], None] = lambda: None
        self.on_unread: Callable[[], None] = lambda: None  # at the host
        self.damage: Callable[[bytes], bytes] | None = None  # what becomes of all the device says
        self.damage_orders: Callable[[bytes], bytes] | None = None  # and of all the host says
        self.dropped = 0  # bytes that found the host's queue full
        self._unread = bytearray()
        self._to_host_free_ns = 0
        self._to_device_free_ns = 0

    def say(self, data: bytes) -> int:
        """The device sends; returns when the last bit will be out."""
        if self.damage is not None:
            data = self.damage(data)
        start_ns = max(self.kernel.now_ns, self._to_host_free_ns)
        end_ns = self._to_host_free_ns = start_ns + len(data) * self.byte_ns
        for at in range(0, len(data), self.queue_bytes):
            part = data[at : at + self.queue_bytes]
            due_ns = start_ns + (at + len(part)) * self.byte_ns
            if len(part) < self.queue_bytes:
                due_ns += IDLE_BITS * self.byte_ns // 10
            self.kernel.at(due_ns, lambda part=part: self._arrive(part))  # type: ignore[misc]
        return end_ns

    def _arrive(self, data: bytes) -> None:
        if not self.plugged:
            return
        room = MAX_UNREAD - len(self._unread)
        self.dropped += max(0, len(data) - room)
        self._unread += data[:room]
        self.on_unread()

    def hear(self, data: bytes) -> None:
        """The host sends."""
        if not self.plugged or not data:
            return
        if self.damage_orders is not None:
            data = self.damage_orders(data)
        start_ns = max(self.kernel.now_ns, self._to_device_free_ns)
        self._to_device_free_ns = start_ns + len(data) * self.byte_ns
        self.kernel.at(self._to_device_free_ns, lambda: self.on_bytes(data))

    def hear_break(self) -> None:
        """The host holds the line low."""
        if self.plugged:
            self.kernel.after(0, self.on_break)

    def take(self) -> bytes:
        """What the host has not read yet."""
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def plug(self, *, into: bool) -> None:
        """Pull the adapter out of the host, or put it back; what was on its way is lost."""
        self.plugged = into
        self._unread.clear()
        self.on_unread()


class SimSerial:
    """The host's side in lock-step. See `radio.serial_line.SerialPort`."""

    def __init__(self, host: LocalHost, wire: Wire) -> None:
        self._host = host
        self._wire = wire
        self._watch = host.watch({})
        wire.on_unread = self._watch.poke

    def open(self) -> None:
        if not self._wire.plugged:
            raise OSError(errno.ENOENT, "no such serial device")
        self._call(self._wire.take)

    def fileno(self) -> int | None:
        return self._watch.fileno()

    def read(self) -> bytes:
        def take() -> bytes:
            self._watch.take()
            if not self._wire.plugged:
                raise OSError(errno.EIO, "the serial device is gone")
            return self._wire.take()

        return self._host.kernel.client_here().call(take, CALL_NS)

    def write(self, data: bytes) -> None:
        self._call(lambda: self._wire.hear(data))

    def send_break(self) -> None:
        self._call(self._wire.hear_break)
        self._host.delay(10_000_000)

    def close(self) -> None:
        self._wire.on_unread = lambda: None
        self._host.unwatch(self._watch)

    def _call(self, fn: Callable[[], object]) -> None:
        self._host.kernel.client_here().call(fn, CALL_NS)

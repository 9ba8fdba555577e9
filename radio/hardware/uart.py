"""A serial device through pyserial: a thin shell that never blocks and may be opened again after it was lost."""

import contextlib
import select
import time
from typing import Any, Final

BREAK_S: Final = 0.01  # longer than a byte at 1200 baud
READ_BYTES: Final = 4096


class SerialDevice:
    """`radio.serial_line.SerialPort` on a device file. pyserial's errors are OSErrors.

    `fileno` is an epoll descriptor over whatever device is open, so that a waiting thread need not learn of a new
    one after an adapter was pulled out and put back.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self._baud = baud
        self._port: Any = None
        self._poll = select.epoll()

    def open(self) -> None:
        import serial  # late: a radio without serial devices needs no pyserial

        self._let_go()
        # Exclusive: two readers would each get half of the answers.
        self._port = serial.Serial(self.path, self._baud, timeout=0, write_timeout=1, exclusive=True)
        self._poll.register(self._port.fileno(), select.EPOLLIN)

    def fileno(self) -> int | None:
        return self._poll.fileno()

    def read(self) -> bytes:
        if self._port is None:
            return b""
        if not self._poll.poll(0):
            return b""
        data: bytes = self._port.read(READ_BYTES)
        if not data:
            raise OSError(f"{self.path} is gone")
        return data

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def send_break(self) -> None:
        # Not pyserial's send_break: it asks for at least a quarter of a second.
        self._port.break_condition = True
        time.sleep(BREAK_S)
        self._port.break_condition = False

    def close(self) -> None:
        self._let_go()
        self._poll.close()

    def _let_go(self) -> None:
        if self._port is not None:
            with contextlib.suppress(OSError, ValueError):
                self._poll.unregister(self._port.fileno())
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None

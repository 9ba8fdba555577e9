"""What is common to devices on a serial line: the port as a seam, and lines with the time their bytes began.

`SerialPort` is to an RN2483 and a GNSS receiver what `radio.seam.Bus` is to an SX127x: the owner threads know
nothing else, so they run on pyserial, on a pty, and in lock-step with a simulator's clock. `LineReader` is pure.
"""

from dataclasses import dataclass
from typing import Final, Protocol

BITS_PER_BYTE: Final = 10  # 8N1: a start bit, eight data bits, a stop bit
MAX_LINE: Final = 640  # bytes; the longest of an RN2483, a frame of 255 bytes in hex, has 522


class SerialPort(Protocol):
    """A serial device that may come and go. Every method but `fileno` and `close` may raise OSError."""

    def open(self) -> None:
        """Open the device, again where it was closed."""
        ...

    def fileno(self) -> int | None:
        """A descriptor that is readable while bytes wait; the same one for the life of the object."""
        ...

    def read(self) -> bytes:
        """Take what has come in; never blocks, empty where nothing has."""
        ...

    def write(self, data: bytes) -> None:
        """Hand bytes to the line; does not wait until they are out."""
        ...

    def send_break(self) -> None:
        """Hold the line low for longer than a byte of any rate."""
        ...

    def close(self) -> None: ...


def byte_ns(baud: int) -> int:
    """How long a byte occupies the line."""
    return BITS_PER_BYTE * 1_000_000_000 // baud


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end-of-line bytes."""

    text: bytes
    start_ns: int  # when its first bit began, at the latest: what the earliest reading of it allows


class LineReader:
    """Cuts what comes in into lines ended by LF (CR LF).

    A read comes late by scheduling and by the UART's own queue, never early. So each read bounds the start of a
    line from above, by its own time less the bytes since; the smallest bound is kept. Long lines arrive in several
    reads and are known to well below a millisecond.
    """

    def __init__(self, baud: int, max_line: int = MAX_LINE) -> None:
        self.overlong = 0
        self._byte_ns = byte_ns(baud)
        self._max_line = max_line
        self._text = bytearray()
        self._start_ns = 0
        self._skipping = False

    def feed(self, data: bytes, now_ns: int) -> list[Line]:
        """The lines that `data`, read at `now_ns`, completes. Empty ones and overlong ones are left out."""
        lines = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            # The first byte of this line ended its way no later than this.
            bound_ns = now_ns - (len(self._text) + len(data) - at) * self._byte_ns
            self._start_ns = bound_ns if not self._text else min(self._start_ns, bound_ns)
            self._text += data[at:stop]
            at = stop
            if len(self._text) > self._max_line:
                self.overlong += not self._skipping
                self._skipping = True
                del self._text[1:]
            if end < 0:
                break
            text = bytes(self._text).rstrip(b"\r\n")
            self._text.clear()
            if text and not self._skipping:
                lines.append(Line(text, self._start_ns))
            self._skipping = False
        return lines

    def clear(self) -> None:
        """Forget the beginning of a line, after the device was closed."""
        self._text.clear()
        self._skipping = False

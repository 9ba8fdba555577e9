"""Cuts what a receiver sends into NMEA sentences and UBX frames, with the time each began. Pure."""

from dataclasses import dataclass
from typing import Final

from radio.gnss.nmea import MAX_SENTENCE
from radio.serial_line import byte_ns

UBX_SYNC: Final = b"\xb5\x62"
UBX_HEADER: Final = 6  # sync, class, id, length
MAX_UBX: Final = 1024  # bytes of payload; longer ones hold nothing for us
MAX_BUFFER: Final = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """One sentence without its end of line, or one UBX frame without sync and with a checksum that fits."""

    data: bytes
    start_ns: int  # when its first bit began, at the latest
    ubx: bool = False


class Splitter:
    """Holds what is not yet complete. Bytes that belong to nothing are counted."""

    def __init__(self, baud: int) -> None:
        self.skipped = 0
        self._byte_ns = byte_ns(baud)
        self._buffer = bytearray()
        self._start_ns = 0  # of the buffer's first byte, the best bound so far

    def feed(self, data: bytes, now_ns: int) -> list[Piece]:
        """What `data`, read at `now_ns`, completes."""
        bound_ns = now_ns - (len(self._buffer) + len(data)) * self._byte_ns
        self._start_ns = min(self._start_ns, bound_ns) if self._buffer else bound_ns
        known = len(self._buffer)
        self._buffer += data
        if len(self._buffer) > MAX_BUFFER:
            self._drop(len(self._buffer) - MAX_BUFFER)
        total = len(self._buffer)
        pieces = []
        at = 0
        while at < total:
            end, piece = self._piece_at(at)
            if end is None:
                break
            if piece is None:
                self.skipped += self._buffer[at:end].strip(b"\r\n") != b""
            else:
                late_ns = now_ns - (total - at) * self._byte_ns
                early_ns = self._start_ns + at * self._byte_ns if at < known else late_ns
                pieces.append(Piece(piece, min(early_ns, late_ns), self._buffer[at] == UBX_SYNC[0]))
            at = end
        self._drop(at)
        if self._buffer and at >= known:
            self._start_ns = now_ns - len(self._buffer) * self._byte_ns
        return pieces

    def clear(self) -> None:
        """Forget the beginning of a piece, after the device was closed."""
        self._buffer.clear()

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._start_ns += count * self._byte_ns

    def _piece_at(self, at: int) -> tuple[int | None, bytes | None]:
        """(where what begins here ends, or None while it is incomplete; the piece, or None for waste)."""
        buffer = self._buffer
        if buffer[at] == 0x24:
            return self._sentence_at(at)
        if buffer[at] == UBX_SYNC[0]:
            return self._ubx_at(at)
        starts = (found for sign in (b"$", UBX_SYNC[:1]) if (found := buffer.find(sign, at)) >= 0)
        return min(starts, default=len(buffer)), None

    def _sentence_at(self, at: int) -> tuple[int | None, bytes | None]:
        buffer = self._buffer
        end = buffer.find(b"\n", at, at + MAX_SENTENCE + 2)
        again = buffer.find(b"$", at + 1, end if end >= 0 else at + MAX_SENTENCE + 2)
        if again >= 0:
            return again, None  # the rest of the first was lost
        if end < 0:
            return (None if len(buffer) - at <= MAX_SENTENCE else at + 1), None
        return end + 1, bytes(buffer[at:end]).rstrip(b"\r")

    def _ubx_at(self, at: int) -> tuple[int | None, bytes | None]:
        buffer = self._buffer
        if len(buffer) - at < UBX_HEADER:
            return (
                None if UBX_SYNC.startswith(buffer[at : at + 2]) or buffer[at + 1] == UBX_SYNC[1] else at + 1
            ), None
        size = int.from_bytes(buffer[at + 4 : at + 6], "little")
        if buffer[at + 1] != UBX_SYNC[1] or size > MAX_UBX:
            return at + 1, None
        end = at + UBX_HEADER + size + 2
        if len(buffer) < end:
            return None, None
        body, sums = bytes(buffer[at + 2 : end - 2]), bytes(buffer[end - 2 : end])
        return (end, body) if fletcher(body) == sums else (at + 1, None)


def fletcher(body: bytes) -> bytes:
    """The two checksum bytes of UBX over class, id, length and payload (RFC 1145's 8-bit Fletcher)."""
    a = b = 0
    for byte in body:
        a = a + byte & 0xFF
        b = b + a & 0xFF
    return bytes((a, b))

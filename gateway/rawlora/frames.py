"""The frames of simple nodes: RadioHead's four bytes before the payload, or a payload alone.

RadioHead's reliable datagrams (RHReliableDatagram) begin with TO, FROM, ID and FLAGS. A receiver answers one that
was sent to it, and is no broadcast, with the same ID and the flag ACK; it carries one byte, as the library cannot
send less. Bytes to values and back; everything here raises `RawFrameError` only.
"""

from __future__ import annotations

from dataclasses import dataclass

HEADER_SIZE = 4
BROADCAST = 0xFF
FLAG_ACK = 0x80
FLAG_RETRY = 0x40  # newer senders say so; others repeat the same bytes
MAX_FRAME = 255
ACK_BODY = b"!"


class RawFrameError(Exception):
    """The bytes are not such a frame, or cannot become one."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A RadioHead datagram."""

    to: int  # one byte, as the next three
    sender: int
    id: int
    flags: int
    payload: bytes

    @property
    def is_ack(self) -> bool:
        return bool(self.flags & FLAG_ACK)

    @property
    def is_retry(self) -> bool:
        return bool(self.flags & FLAG_RETRY)


def parse_datagram(data: bytes) -> Datagram:
    """Raises RawFrameError for fewer than four bytes."""
    if len(data) < HEADER_SIZE:
        raise RawFrameError(f"a RadioHead header has {HEADER_SIZE} bytes, this frame {len(data)}")
    to, sender, number, flags = data[:HEADER_SIZE]
    return Datagram(to, sender, number, flags, data[HEADER_SIZE:])


def build_datagram(datagram: Datagram) -> bytes:
    """Raises RawFrameError for a value that is no byte, or a payload too long."""
    header = (datagram.to, datagram.sender, datagram.id, datagram.flags)
    if not all(0 <= each <= 0xFF for each in header):
        raise RawFrameError(f"a RadioHead header has four bytes, not {header}")
    data = bytes(header) + datagram.payload
    if len(data) > MAX_FRAME:
        raise RawFrameError(f"{len(datagram.payload)} bytes; {MAX_FRAME - HEADER_SIZE} is the most")
    return data


def acknowledgement(datagram: Datagram) -> bytes:
    """What a receiver answers."""
    return build_datagram(Datagram(datagram.sender, datagram.to, datagram.id, FLAG_ACK, ACK_BODY))


def split_plain(data: bytes, place: int) -> tuple[int, bytes]:
    """The address in byte `place`, from 0, and what follows it. Raises RawFrameError where the frame ends before."""
    if not 0 <= place < len(data):
        raise RawFrameError(f"no byte {place}, where the address should be, in a frame of {len(data)}")
    return data[place], data[place + 1 :]

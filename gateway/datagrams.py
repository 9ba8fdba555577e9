"""Datagrams that leave a UDP socket at once: in one system call where they go to one address and are of one size.

So a burst of frames is acknowledged in a call or two, and wakes the forwarder once instead of for each. Linux splits
what it is given by UDP_SEGMENT (4.18 on); where it or the network's driver cannot, each datagram is sent by itself.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from itertools import groupby

from gateway.forwarders import Address

UDP_SEGMENT = 103  # linux/udp.h; the socket module does not name it
MAX_TOGETHER = 64  # UDP_MAX_SEGMENTS of linux/udp.h
MAX_SIZE = 512  # bytes; larger ones are few, and might not fit into the network's packets
_CANNOT = frozenset({errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EMSGSIZE})

Datagram = tuple[bytes, Address]


class Sender:
    """The sending side of a socket that does not block. What the kernel will not take now is lost, as UDP may be."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.together = _splits(sock)

    def send(self, data: bytes, address: Address) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(data, address)

    def send_all(self, datagrams: Sequence[Datagram]) -> None:
        """Send them in their order."""
        for (address, size), group in groupby(datagrams, _kind):
            run = [data for data, _ in group]
            for at in range(0, len(run), MAX_TOGETHER):
                some = run[at : at + MAX_TOGETHER]
                if len(some) > 1 and self.together and 0 < size <= MAX_SIZE and self._taken(some, address):
                    continue
                for data in some:
                    self.send(data, address)

    def _taken(self, some: Sequence[bytes], address: Address) -> bool:
        """Hand over datagrams of one size; whether that was possible."""
        each = struct.pack("=H", len(some[0]))
        try:
            self._socket.sendmsg([b"".join(some)], [(socket.IPPROTO_UDP, UDP_SEGMENT, each)], 0, address)
        except BlockingIOError:
            return True  # there is no room: one by one they would be lost as well
        except OSError as error:
            if error.errno in _CANNOT:
                self.together = False
            return False
        return True


def _kind(datagram: Datagram) -> tuple[Address, int]:
    return datagram[1], len(datagram[0])


def _splits(sock: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT. One that does not would send the datagrams as one."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True

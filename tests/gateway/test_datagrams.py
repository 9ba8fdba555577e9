"""Datagrams that leave together arrive one by one, and leave all the same where the kernel cannot split them."""

import errno
import socket
from typing import Any

import pytest

from gateway.datagrams import MAX_SIZE, MAX_TOGETHER, UDP_SEGMENT, Sender


class Reader:
    """A socket on loopback that reads what has come."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10)
        self.address = ("127.0.0.1", self.socket.getsockname()[1])

    def read(self, count: int) -> list[bytes]:
        found = [self.socket.recv(65_535) for _ in range(count)]
        self.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.socket.recv(65_535)
        self.socket.settimeout(10)
        return found

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def reader() -> Any:
    opened = Reader()
    yield opened
    opened.close()


@pytest.fixture
def another_reader() -> Any:
    opened = Reader()
    yield opened
    opened.close()


class Watched(socket.socket):
    """A UDP socket that counts its calls, and refuses what it is told to."""

    def __init__(self, refuses: int = 0, knows: bool = True) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.setblocking(False)
        self.refuses, self.knows = refuses, knows
        self.single = self.many = 0

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        if name == UDP_SEGMENT and not self.knows:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        super().setsockopt(level, name, *value)

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        self.single += 1
        return super().sendto(data, address)

    def sendmsg(self, *parts: Any) -> int:
        self.many += 1
        if self.refuses:
            raise OSError(self.refuses, "refused")
        return super().sendmsg(*parts)


def numbered(count: int, size: int = 4) -> list[bytes]:
    return [number.to_bytes(2, "big").rjust(size, b"\2") for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, MAX_TOGETHER, MAX_TOGETHER + 1, 3 * MAX_TOGETHER - 1])
def test_datagrams_of_one_size_to_one_address_arrive_one_by_one_in_their_order(
    reader: Reader, count: int
) -> None:
    with Watched() as sock:
        Sender(sock).send_all([(data, reader.address) for data in numbered(count)])
        assert reader.read(count) == numbered(count)
        if Sender(sock).together:
            assert sock.single + sock.many == -(-count // MAX_TOGETHER)


def test_each_address_gets_its_own_and_sizes_are_not_mixed(reader: Reader, another_reader: Reader) -> None:
    mixed = [b"a", b"b", b"cc", b"dd", b"e", b"", b""]
    datagrams = [(data, each.address) for data in mixed for each in (reader, reader, another_reader)]
    with Watched() as sock:
        Sender(sock).send_all(datagrams)
        assert reader.read(14) == [data for data in mixed for _ in range(2)]
        assert another_reader.read(7) == mixed


def test_large_datagrams_are_sent_by_themselves(reader: Reader) -> None:
    large = numbered(3, MAX_SIZE + 1)
    with Watched() as sock:
        Sender(sock).send_all([(data, reader.address) for data in large])
        assert reader.read(3) == large
        assert (sock.single, sock.many) == (3, 0)


@pytest.mark.parametrize("refusal", [errno.EIO, errno.EINVAL])
def test_where_the_network_cannot_split_them_each_is_sent_by_itself_and_it_is_not_tried_again(
    reader: Reader, refusal: int
) -> None:
    with Watched(refusal) as sock:
        sender = Sender(sock)
        for _ in range(2):
            sender.send_all([(data, reader.address) for data in numbered(5)])
        assert reader.read(10) == numbered(5) * 2
        assert (sock.single, sock.many, sender.together) == (10, 1, False)


def test_a_kernel_that_does_not_know_how_is_never_asked(reader: Reader) -> None:
    with Watched(knows=False) as sock:
        Sender(sock).send_all([(data, reader.address) for data in numbered(5)])
        assert reader.read(5) == numbered(5)
        assert (sock.single, sock.many) == (5, 0)


def test_what_finds_no_room_is_lost_and_troubles_nobody(reader: Reader) -> None:
    with Watched(errno.EAGAIN) as sock:
        sender = Sender(sock)
        sender.send_all([(data, reader.address) for data in numbered(5)])
        assert reader.read(0) == []
        assert (sock.single, sock.many, sender.together) == (0, 1, True)

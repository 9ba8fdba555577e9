"""The other end of the socket protocol: a simulated machine in another process, for drivers in Python.

One `SocketHost` is one connection and one lock-step client: use it from one thread (`wake` from any).
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from hw_sim import protocol
from hw_sim.edges import PinEdge, Trigger, Watch
from hw_sim.errors import NoSuchDevice, ProtocolError
from hw_sim.hosts import SPI_HZ
from hw_sim.server import Address


class SocketHost:
    """`hw_sim.hosts.Host` over a socket. Raises ProtocolError for what the simulator refuses, OSError for
    the link.
    """

    def __init__(self, address: Address, name: str, timeout_s: float | None = 600.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._name = name
        self._socket, self._replies = self._connect()
        self._wake_lock = threading.Lock()
        self._wake_link: socket.socket | None = None
        self._watches: list[Watch] = []
        self._now_ns = 0
        try:
            self._request(f"hello {protocol.VERSION} {name}")
        except BaseException:
            self._hang_up()
            raise

    def close(self) -> None:
        """Leave virtual time."""
        with contextlib.suppress(OSError, ProtocolError):
            self._request("bye")
        self._hang_up()

    def _hang_up(self) -> None:
        self._replies.close()
        self._socket.close()
        if self._wake_link is not None:
            self._wake_link.close()
        for watch in self._watches:
            watch.close()

    def has_spi(self, bus: int, device: int) -> bool:
        """Assumed; a transfer says."""
        return True

    def xfer(self, bus: int, device: int, data: bytes, speed_hz: int = SPI_HZ) -> bytes:
        """One chip-select assertion."""
        if not data:
            raise NoSuchDevice("a transfer needs at least a byte")
        return bytes.fromhex(self._request(f"spi {bus} {device} {data.hex()} {speed_hz}"))

    def read_pin(self, line: int) -> bool:
        """A line's level."""
        return self._request(f"read {line}") == "1"

    def write_pin(self, line: int, level: bool) -> None:
        """Drive a line."""
        self._request(f"write {line} {int(level)}")

    def set_up_pin(self, line: int, level: bool) -> None:
        """Make a line an output with this level."""
        self.write_pin(line, level)

    def release_pin(self, line: int) -> None:
        """Nothing: the protocol has no word for it, and the line keeps its level."""

    def watch(self, triggers: Mapping[int, Trigger]) -> Watch:
        """Collect the edges of some lines from now on."""
        watch = Watch(triggers)
        self._watches.append(watch)
        self._set_triggers(triggers)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Stop collecting."""
        if watch in self._watches:
            self._watches.remove(watch)
            self._set_triggers(watch.triggers)
        watch.close()

    def take(self, watch: Watch, limit: int = 256) -> list[PinEdge]:
        """The pending edges of a watch, oldest first: those that came with the replies so far."""
        return watch.take(limit)

    def watch_of(self, fd: int) -> Watch | None:
        """The watch with this descriptor."""
        return next((watch for watch in self._watches if watch.has_fd(fd)), None)

    def now_ns(self) -> int:
        """Virtual time."""
        self._request("time")
        return self._now_ns

    def delay(self, ns: int) -> None:
        """Let time pass."""
        self._request(f"delay {ns}")

    def wait(self, watches: Sequence[Watch], until_ns: int | None) -> bool:
        """Until an edge is pending, a wake, or `until_ns`; True where it was a wake."""
        while not any(watch.pending for watch in watches):
            result = self._request(f"wait {'-' if until_ns is None else max(0, until_ns)}")
            if result != "edge":
                return result == "wake"
        return False

    def waker(self) -> Callable[[], None]:
        """What ends this client's wait, from any thread."""
        return self.wake

    def wake(self) -> None:
        """End this client's wait, or its next one, over a link of its own."""
        with self._wake_lock:
            if self._wake_link is None:
                self._wake_link, replies = self._connect()
                replies.close()
            self._wake_link.sendall(f"wake {self._name}\n".encode("ascii"))
            self._wake_link.recv(protocol.MAX_LINE)

    def nudge(self) -> None:
        """Nothing: one connection is one thread."""

    def poke(self, watch: Watch) -> None:
        """Make a watch pending, from any thread."""
        watch.poke()
        self.wake()

    def spawn(self, fn: Callable[[], object], name: str) -> threading.Thread:
        """Threads of one machine need a connection each: not over this host."""
        raise ProtocolError("a thread of its own needs a SocketHost of its own")

    def _set_triggers(self, changed: Mapping[int, Trigger]) -> None:
        for line in changed:
            wanted = {watch.triggers[line] for watch in self._watches if line in watch.triggers}
            wanted.discard(Trigger.NONE)
            trigger = Trigger.BOTH if len(wanted) > 1 else next(iter(wanted), Trigger.NONE)
            self._request(f"watch {line} {trigger.value}")

    def _connect(self) -> tuple[socket.socket, BinaryIO]:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_STREAM)
        connected.settimeout(self._timeout_s)
        try:
            connected.connect(self._address)
            if family == socket.AF_INET:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connected.close()
            raise
        return connected, connected.makefile("rb")

    def _request(self, request: str) -> str:
        self._socket.sendall(request.encode("ascii") + b"\n")
        line = self._replies.readline(4 * protocol.MAX_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionError("the simulator closed the connection")
        reply = protocol.parse_reply(line[:-1])
        self._now_ns = reply.now_ns
        for pin, level, t_ns in reply.edges:
            for watch in self._watches:
                watch.push(pin, level, t_ns)
        return reply.result

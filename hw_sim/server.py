"""Simulated chips for foreign processes: the socket protocol of docs/hw_sim.md on TCP or a UNIX socket.

Each connection that says hello is a lock-step client: virtual time stands still while the other process
computes between a reply and its next request.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO, Final

from hw_sim import protocol
from hw_sim.edges import Trigger, Watch
from hw_sim.errors import KernelClosed, ProtocolError, SimError
from hw_sim.hosts import LocalHost
from hw_sim.kernel import PATIENCE_S

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
YIELD_NS: Final = 1_000  # what a yield passes
CLOCK_NS: Final = 200  # what asking for the time passes, as any plain call
_MAX_DROPPED: Final = 1 << 20  # bytes

Address = str | tuple[str, int]  # a path of a UNIX socket, or (host, port); port 0: any free one


class Server:
    """Listens from the start; `close` ends it and every connection."""

    def __init__(self, host: LocalHost, address: Address, patience_s: float = PATIENCE_S) -> None:
        self._host = host
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._connections: dict[_Connection, threading.Thread] = {}
        self._wakers: dict[str, Callable[[], None]] = {}
        self._closing = False
        self._path = address if isinstance(address, str) else None
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(address)
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self.address: Address = self._socket.getsockname()
        self._thread = threading.Thread(target=self._accept, name="hw_sim server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, drop every client, and wait for the threads."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            connection.end()
        for thread in connections.values():
            thread.join(self._patience_s)
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def claim(self, name: str) -> None:
        """Reserve a client's name. Raises ProtocolError where it is taken."""
        with self._lock:
            if name in self._wakers:
                raise ProtocolError(f"there is already a client {name}")
            self._wakers[name] = lambda: None

    def announce(self, name: str, waker: Callable[[], None]) -> None:
        """From now on this is how the client is woken."""
        with self._lock:
            self._wakers[name] = waker

    def forget(self, name: str) -> None:
        """The client has left."""
        with self._lock:
            self._wakers.pop(name, None)

    def wake(self, name: str) -> None:
        """End a client's wait. Raises ProtocolError where there is none of this name."""
        with self._lock:
            waker = self._wakers.get(name)
        if waker is None:
            raise ProtocolError(f"no client {name}")
        waker()

    def _accept(self) -> None:
        while not self._closing:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                if len(self._connections) >= MAX_CONNECTIONS or self._closing:
                    log.warning("connection refused: there are %d already", len(self._connections))
                    accepted.close()
                    continue
                accepted.settimeout(self._patience_s)
                connection = _Connection(self, self._host, accepted)
                thread = threading.Thread(
                    target=self._serve, args=(connection,), name="hw_sim client", daemon=True
                )
                self._connections[connection] = thread
                thread.start()

    def _serve(self, connection: "_Connection") -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(connection, None)


class _Connection:
    """One foreign process, or one of its threads."""

    def __init__(self, server: Server, host: LocalHost, connected: socket.socket) -> None:
        self._server = server
        self._host = host
        self._socket = connected
        self._name = ""
        self._watch: Watch | None = None

    def end(self) -> None:
        """Make the other side's next read, and ours, come to an end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer until the other side leaves, is silent for too long, or the kernel closes."""
        try:
            with self._socket, self._socket.makefile("rb") as lines:
                while line := lines.readline(protocol.MAX_LINE):
                    if not line.endswith(b"\n"):
                        self._refuse_the_rest(lines)
                        return
                    reply, ending = self._answer(line.rstrip(b"\r\n"))
                    self._socket.sendall(reply)
                    if ending:
                        return
        except (OSError, KernelClosed) as error:
            log.info("client %s is gone: %s", self._name or "(no name)", error)
        finally:
            self._leave()

    def _refuse_the_rest(self, lines: BinaryIO) -> None:
        """Say why and hang up; what is under way is read and dropped, else the reply would be lost with it."""
        now_ns = self._host.kernel.read_clock_ns()
        self._socket.sendall(protocol.format_error(now_ns, "the line is too long"))
        self._socket.shutdown(socket.SHUT_WR)
        lines.read(_MAX_DROPPED)

    def _leave(self) -> None:
        if self._watch is not None:
            self._host.unwatch(self._watch)
        if self._name:
            self._server.forget(self._name)
            self._host.kernel.detach(self._host.kernel.client_here())

    def _answer(self, line: bytes) -> tuple[bytes, bool]:
        """(the reply, whether it is the last)."""
        kernel = self._host.kernel
        try:
            request = protocol.parse_request(line)
            result = self._do(request)
            with kernel.mutex:
                edges = [] if self._watch is None else self._watch.take()
            return protocol.format_reply(kernel.read_clock_ns(), result, edges), request == protocol.Bye()
        except (KernelClosed, OSError):
            raise
        except SimError as error:
            return protocol.format_error(kernel.read_clock_ns(), str(error)), False

    def _do(self, request: protocol.Request) -> str:
        host = self._host
        match request:
            case protocol.Wake(name):
                self._server.wake(name)
                return ""
            case protocol.Bye():
                return ""
            case protocol.Hello(name):
                return self._join(name)
        if self._watch is None:
            raise ProtocolError("say hello first")
        match request:
            case protocol.Spi(bus, device, data, speed_hz):
                return host.xfer(bus, device, data, speed_hz).hex()
            case protocol.Read(line):
                return str(int(host.read_pin(line)))
            case protocol.Write(line, level):
                host.write_pin(line, level)
            case protocol.WatchLine(line, trigger):
                self._set_trigger(line, trigger)
            case protocol.Time():
                host.delay(CLOCK_NS)
            case protocol.Delay(ns):
                host.delay(ns)
            case protocol.Yield():
                host.delay(YIELD_NS)
            case protocol.Wait(until_ns):
                return self._wait(until_ns)
        return ""

    def _join(self, name: str) -> str:
        if self._name:
            raise ProtocolError("hello was said")
        self._server.claim(name)
        self._name = name
        client = self._host.kernel.attach(name)
        self._server.announce(name, client.wake)
        self._watch = self._host.watch({})
        return str(protocol.VERSION)

    def _set_trigger(self, line: int, trigger: Trigger) -> None:
        assert self._watch is not None
        if trigger is Trigger.NONE:
            self._watch.triggers.pop(line, None)
        else:
            self._watch.triggers[line] = trigger

    def _wait(self, until_ns: int | None) -> str:
        assert self._watch is not None
        woken = self._host.wait((self._watch,), until_ns)
        if self._watch.pending:
            return "edge"
        return "wake" if woken else "limit"

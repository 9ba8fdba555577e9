"""The sockets around `radio.forwarder.Forwarder`: one for what goes up, one for what is pulled down.

Names are resolved in a thread of their own: a resolver that hangs delays nothing, not even the server it was
asked for while that can still be reached where it was.
"""

import contextlib
import errno
import ipaddress
import logging
import os
import random
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from radio.forwarder import MAX_WAITING, SECOND_NS, Forwarder, Out, Way
from radio.gwmp import RxPacket
from radio.route import Endpoint, Route, resolve
from radio.seam import Clock

log = logging.getLogger(__name__)

MAX_DATAGRAM: Final = 65_535
MAX_READS: Final = 64  # datagrams read in a row before anything else gets its turn
# What a socket says whose interface or route went away: new ones may find another.
NETWORK_GONE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EINVAL}
)

Resolve = Callable[[str, int], Sequence[Endpoint]]


class UdpForwarder:
    """A `radio.servers.Server` that speaks GWMP."""

    def __init__(
        self,
        core: Forwarder,
        host: str,
        port: int,
        clock: Clock,
        *,
        resolver: Resolve = resolve,
        rng: random.Random | None = None,
    ) -> None:
        self.core = core
        self.name = core.name
        self.route = Route(rng or random.SystemRandom())
        self._host, self._port = host, port
        self._clock = clock
        self._resolver = resolver
        self._lock = threading.Lock()
        self._frames: deque[RxPacket] = deque()
        self._sent: deque[int] = deque(maxlen=MAX_WAITING)
        self._acked_ns: int | None = None
        self._found: Sequence[Endpoint] | OSError | None = None  # what the resolver said
        self._wake: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sockets: dict[Way, socket.socket] = {}
        self._selector = selectors.DefaultSelector()

    def frame(self, rx: RxPacket) -> None:
        """Hand over a frame, from any thread; the oldest waiting one gives way where too many wait."""
        with self._lock:
            if len(self._frames) >= MAX_WAITING:
                self._frames.popleft()
                self.core.counters["frames_dropped"] += 1
            self._frames.append(rx)
        self.wake()

    def sent(self, tx_id: int) -> None:
        """Report that a downlink has left, from any thread."""
        with self._lock:
            self._sent.append(tx_id)
        self.wake()

    def wake(self) -> None:
        """Make the thread look around, from any thread."""
        with self._lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def run(self, stop: threading.Event) -> None:
        """Forward until `stop`; whoever sets it calls `wake` as well."""
        assert self._wake is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        try:
            while not stop.is_set():
                self._turn()
                self._selector.select(self._timeout_s())
        finally:
            self._disconnect()
            self._selector.close()

    def close(self) -> None:
        """Let go of the wake-up descriptor, once `run` has ended. What comes later is ignored."""
        with self._lock:
            if self._wake is not None:
                os.close(self._wake)
                self._wake = None

    def status(self) -> dict[str, Any]:
        """Plain values; from any thread."""
        endpoint = self.route.endpoint
        return {
            "name": self.name,
            "kind": "gwmp",
            "host": f"{self._host}:{self._port}",
            "address": None if endpoint is None else str(endpoint),
            "moves": self.route.moves,
            **self.core.status(self._clock.now_ns()),
        }

    def _turn(self) -> None:
        assert self._wake is not None
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        now_ns = self._clock.now_ns()
        with self._lock:
            frames, self._frames = self._frames, deque()
            sent = [self._sent.popleft() for _ in range(len(self._sent))]
        for rx in frames:
            self.core.on_frame(rx, now_ns)
        for tx_id in sent:
            self.core.on_sent(tx_id)
        self._follow_route(now_ns)
        for way in Way:
            self._read(way)
        if self._sockets:
            self._send(self.core.on_time(self._clock.now_ns()))

    def _timeout_s(self) -> float | None:
        now_ns = self._clock.now_ns()
        dues = [self.route.next_deadline(now_ns)]
        if self._sockets:
            dues.append(self.core.next_deadline() or now_ns)
        due_ns = min((due for due in dues if due is not None), default=None)
        return None if due_ns is None else max(0, due_ns - now_ns) / SECOND_NS

    # --- the way to the server ---------------------------------------------------------------------

    def _follow_route(self, now_ns: int) -> None:
        if self.core.last_ack_ns != self._acked_ns:
            self._acked_ns = self.core.last_ack_ns
            self.route.answered(now_ns)
        if not self.core.connected:
            self.route.silent(now_ns)
        if self.route.due(now_ns):
            self._ask()
        with self._lock:
            found, self._found = self._found, None
        if isinstance(found, OSError):
            self.core.counters["server_unresolved"] += 1
            self.core.say(now_ns, "unresolved", "%s cannot be resolved: %s", self._host, found)
            self.route.unresolved(now_ns)
        elif found is not None and self.route.resolved(found, now_ns):
            self._connect(now_ns)

    def _ask(self) -> None:
        """Resolve the name: at once where it is an address, else in a thread."""
        try:
            ipaddress.ip_address(self._host)
        except ValueError:
            name = f"resolve {self.name}"
            threading.Thread(target=self._resolve, name=name, daemon=True).start()
        else:
            self._resolve()

    def _resolve(self) -> None:
        found: Sequence[Endpoint] | OSError
        try:
            found = self._resolver(self._host, self._port)
        except OSError as error:
            found = error
        except UnicodeError as error:  # a name that no label of the DNS can carry
            found = OSError(str(error))
        with self._lock:
            self._found = found
        self.wake()

    def _connect(self, now_ns: int) -> None:
        """New sockets for the route's endpoint."""
        self._disconnect()
        endpoint = self.route.endpoint
        assert endpoint is not None
        try:
            for way in Way:
                sock = socket.socket(endpoint.family, socket.SOCK_DGRAM)
                self._sockets[way] = sock
                sock.setblocking(False)
                sock.connect(endpoint.address)
                self._selector.register(sock, selectors.EVENT_READ)
        except OSError as error:
            self.core.counters["server_unreachable"] += 1
            self.core.say(now_ns, "unreachable", "%s cannot be reached: %s", endpoint, error)
            self._disconnect()
            return
        self.core.on_route(now_ns)

    def _disconnect(self) -> None:
        for sock in self._sockets.values():
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()
        self._sockets.clear()

    # --- datagrams ---------------------------------------------------------------------------------

    def _read(self, way: Way) -> None:
        for _ in range(MAX_READS):
            sock = self._sockets.get(way)
            if sock is None:
                return
            try:
                data = sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                continue
            self._send(self.core.on_datagram(way, data, self._clock.now_ns()))

    def _send(self, out: list[Out]) -> None:
        for way, data in out:
            sock = self._sockets.get(way)
            try:
                if sock is not None:
                    sock.send(data)
                    continue
            except OSError as error:
                self._failed(error)
            self.core.counters["datagrams_not_sent"] += 1

    def _failed(self, error: OSError) -> None:
        """The network's word on this or an earlier datagram."""
        now_ns = self._clock.now_ns()
        if error.errno in NETWORK_GONE:
            self.core.counters["network_gone"] += 1
            self._acked_ns = self.core.last_ack_ns  # what was answered before says nothing any more
            self.route.silent(now_ns)
        else:
            self.core.on_refused(now_ns)

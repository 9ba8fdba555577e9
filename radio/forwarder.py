"""The packet forwarder: GWMP version 2 between the concentrator and a network server.

`Forwarder` is the protocol without a socket: frames, datagrams and time go in, datagrams come out.
`UdpForwarder` is the thread with the two sockets of the protocol, one for what goes up, one for what is
pulled down.
"""

import contextlib
import logging
import os
import random
import selectors
import socket
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from radio import gwmp
from radio.concentrator import TxResult
from radio.errors import GwmpError
from radio.gwmp import RxPacket, TxAck, TxError, TxPacket
from radio.seam import Clock

log = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
MAX_RXPK: Final = 8  # per PUSH_DATA, as the reference forwarder sends
MAX_WAITING: Final = 256  # frames; half a minute of a busy gateway, while the sockets do not open
ACK_WAIT_NS: Final = 5 * SECOND_NS  # a PUSH_ACK later than this counts as missing
MAX_UNACKED: Final = 1024
LOST_AFTER_PULLS: Final = 3  # keepalives without an answer: the server is gone
RESOLVE_AGAIN_NS: Final = 5 * SECOND_NS
MAX_DATAGRAM: Final = 65_535
MAX_READS: Final = 64  # datagrams read in a row before anything else gets its turn


class Way(Enum):
    """Which of the two sockets."""

    UP = auto()
    DOWN = auto()


Out = tuple[Way, bytes]


@dataclass(slots=True)
class _SinceStat:
    """What the next `stat` reports: the protocol counts from one report to the next."""

    rxnb: int = 0
    rxok: int = 0
    rxfw: int = 0
    pushed: int = 0
    acked: int = 0
    dwnb: int = 0
    txnb: int = 0


class Forwarder:
    """The gateway's side of the protocol. One caller at a time; times are ns of the monotonic clock."""

    def __init__(
        self,
        eui: bytes,
        transmit: Callable[[TxPacket, int], TxResult],
        *,
        keepalive_ns: int = 5 * SECOND_NS,
        stat_ns: int = 30 * SECOND_NS,
        utc_ns: Callable[[int], int | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._eui = eui
        self._transmit = transmit
        self._keepalive_ns = keepalive_ns
        self._stat_ns = stat_ns
        self._utc_ns = utc_ns
        self._rng = rng or random.SystemRandom()
        self._frames: deque[RxPacket] = deque()
        self._since = _SinceStat()
        self._unacked: OrderedDict[int, int] = OrderedDict()  # PUSH_DATA token -> when it left
        self._pull_token: int | None = None
        self._pulls_unanswered = LOST_AFTER_PULLS
        self._pull_due_ns: int | None = None
        self._stat_due_ns: int | None = None

    @property
    def connected(self) -> bool:
        """Whether the server answers our keepalives."""
        return self._pulls_unanswered < LOST_AFTER_PULLS

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called; None: at once, for the first time."""
        if self._pull_due_ns is None or self._stat_due_ns is None:
            return None
        return min(self._pull_due_ns, self._stat_due_ns)

    def on_frame(self, rx: RxPacket) -> None:
        """A frame to forward; the oldest gives way where too many wait."""
        self._since.rxnb += 1
        self._since.rxok += rx.stat == 1
        if len(self._frames) >= MAX_WAITING:
            self._frames.popleft()
            self.counters["frames_dropped"] += 1
        self._frames.append(rx)

    def on_sent(self) -> None:
        """A downlink has left the antenna."""
        self._since.txnb += 1

    def on_time(self, now_ns: int) -> list[Out]:
        """Send what waits and what is due: frames, the keepalive, the report."""
        out: list[Out] = []
        while self._frames:
            batch = tuple(self._frames.popleft() for _ in range(min(MAX_RXPK, len(self._frames))))
            self._since.rxfw += len(batch)
            self.counters["frames_forwarded"] += len(batch)
            out.append(self._push(now_ns, batch, None))
        if self._stat_due_ns is None:
            self._stat_due_ns = now_ns + self._stat_ns
        elif now_ns >= self._stat_due_ns:
            self._stat_due_ns = now_ns + self._stat_ns
            out.append(self._push(now_ns, (), self._report(now_ns)))
        if self._pull_due_ns is None or now_ns >= self._pull_due_ns:
            self._pull_due_ns = now_ns + self._keepalive_ns
            out.append(self._pull())
        return out

    def on_datagram(self, way: Way, data: bytes, now_ns: int) -> list[Out]:
        """A datagram from the server came in on one of the sockets."""
        try:
            datagram = gwmp.decode(data)
        except GwmpError as error:
            self.counters["datagrams_malformed"] += 1
            log.warning("datagram from the server not understood: %s (%s)", error, data[:64].hex())
            return []
        match (way, datagram):
            case (Way.UP, gwmp.PushAck(token)):
                if self._unacked.pop(token, None) is None:
                    self.counters["push_ack_unknown"] += 1
                else:
                    self._since.acked += 1
                    self.counters["push_ack"] += 1
                return []
            case (Way.DOWN, gwmp.PullAck(token)):
                if token == self._pull_token:
                    self._pulls_unanswered = 0
                    self.counters["pull_ack"] += 1
                else:
                    self.counters["pull_ack_unknown"] += 1
                return []
            case (Way.DOWN, gwmp.PullResp(token, txpk)):
                return [(Way.DOWN, gwmp.encode(self._order(token, txpk, now_ns)))]
        self.counters["datagrams_unexpected"] += 1
        return []

    def _order(self, token: int, txpk: TxPacket, now_ns: int) -> TxAck:
        self._since.dwnb += 1
        result = self._transmit(txpk, now_ns)
        self.counters[f"pull_resp_{result.error.lower()}"] += 1
        if result.error is TxError.NONE and result.power_dbm is not None:
            return TxAck(token, self._eui, warn=TxError.TX_POWER, value=result.power_dbm)
        return TxAck(token, self._eui, result.error)

    def _push(self, now_ns: int, frames: tuple[RxPacket, ...], stat: gwmp.Stat | None) -> Out:
        while self._unacked:
            oldest, sent_ns = next(iter(self._unacked.items()))
            if now_ns - sent_ns < ACK_WAIT_NS and len(self._unacked) < MAX_UNACKED:
                break
            del self._unacked[oldest]
            self.counters["push_unacked"] += 1
        token = self._rng.getrandbits(16)
        self._unacked[token] = now_ns
        self._since.pushed += 1
        self.counters["push_data"] += 1
        return Way.UP, gwmp.encode(gwmp.PushData(token, self._eui, frames, stat))

    def _pull(self) -> Out:
        if self._pulls_unanswered < LOST_AFTER_PULLS:
            self._pulls_unanswered += 1
        self._pull_token = self._rng.getrandbits(16)
        self.counters["pull_data"] += 1
        return Way.DOWN, gwmp.encode(gwmp.PullData(self._pull_token, self._eui))

    def _report(self, now_ns: int) -> gwmp.Stat:
        since, self._since = self._since, _SinceStat()
        return gwmp.Stat(
            time_ns=None if self._utc_ns is None else self._utc_ns(now_ns),
            rxnb=since.rxnb,
            rxok=since.rxok,
            rxfw=since.rxfw,
            ackr=round(100 * min(since.acked / since.pushed, 1), 1) if since.pushed else 100.0,
            dwnb=since.dwnb,
            txnb=since.txnb,
        )


class UdpForwarder:
    """The thread around a `Forwarder`: two sockets, and a queue for frames from the module threads."""

    def __init__(self, core: Forwarder, host: str, port: int, clock: Clock) -> None:
        self.core = core
        self._address = (host, port)
        self._clock = clock
        self._lock = threading.Lock()
        self._incoming: deque[RxPacket | None] = deque()  # None: a downlink has left
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sockets: dict[Way, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._resolve_ns = 0

    def frame(self, rx: RxPacket) -> None:
        """Hand over a frame, from any thread; the oldest waiting one gives way where too many wait."""
        with self._lock:
            if len(self._incoming) >= MAX_WAITING:
                self._incoming.popleft()
                self.core.counters["frames_dropped"] += 1
            self._incoming.append(rx)
        self.wake()

    def sent(self) -> None:
        """Report that a downlink has left, from any thread."""
        with self._lock:
            if len(self._incoming) < MAX_WAITING:
                self._incoming.append(None)
        self.wake()

    def wake(self) -> None:
        """Make the thread look around, from any thread."""
        os.eventfd_write(self._wake, 1)

    def run(self, stop: threading.Event) -> None:
        """Forward until `stop`; whoever sets it calls `wake` as well."""
        self._selector.register(self._wake, selectors.EVENT_READ)
        try:
            while not stop.is_set():
                self._open()
                self._selector.select(self._timeout_s())
                self._turn()
        finally:
            self._disconnect()
            self._selector.close()

    def close(self) -> None:
        """Let go of the wake-up descriptor; only when no thread can call `frame`, `sent` or `wake` any more."""
        os.close(self._wake)

    def _turn(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            incoming, self._incoming = self._incoming, deque()
        for rx in incoming:
            if rx is None:
                self.core.on_sent()
            else:
                self.core.on_frame(rx)
        if not self._sockets:
            return
        for way in Way:
            self._read(way)
        self._send(self.core.on_time(self._clock.now_ns()))

    def _timeout_s(self) -> float:
        due_ns = self.core.next_deadline() if self._sockets else self._resolve_ns
        return 0 if due_ns is None else max(0, due_ns - self._clock.now_ns()) / SECOND_NS

    def _open(self) -> None:
        """Resolve the server and connect both sockets; a name that does not resolve is tried again."""
        now_ns = self._clock.now_ns()
        if self._sockets or now_ns < self._resolve_ns:
            return
        self._resolve_ns = now_ns + RESOLVE_AGAIN_NS
        try:
            family, kind, proto, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            for way in Way:
                sock = socket.socket(family, kind, proto)
                self._sockets[way] = sock
                sock.setblocking(False)
                sock.connect(address)
                self._selector.register(sock, selectors.EVENT_READ)
        except OSError as error:
            self.core.counters["server_unreachable"] += 1
            log.warning("server %s port %d: %s", *self._address, error)
            self._disconnect()

    def _disconnect(self) -> None:
        for sock in self._sockets.values():
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()
        self._sockets.clear()

    def _read(self, way: Way) -> None:
        for _ in range(MAX_READS):
            try:
                data = self._sockets[way].recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # ICMP's word on an earlier datagram: nobody listens there now
                self.core.counters["server_unreachable"] += 1
                continue
            self._send(self.core.on_datagram(way, data, self._clock.now_ns()))

    def _send(self, out: list[Out]) -> None:
        for way, data in out:
            try:
                self._sockets[way].send(data)
            except OSError:
                self.core.counters["datagrams_not_sent"] += 1

"""The GWMP server: where packet forwarders, ours or any other, hand in frames and fetch downlinks.

`Link` is the protocol without sockets: datagrams and a time in, datagrams and calls to a `Receiver` out.
`UdpLink` moves the datagrams. GWMP has no security whatever, so it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.lorawan.server import Downlink
from radio import gwmp
from radio.errors import GwmpError

log = logging.getLogger(__name__)

Address = tuple[str, int]

MAX_GATEWAYS = 64  # forwarders remembered; the longest silent one makes room
MAX_PENDING = 256  # downlinks awaiting their TX_ACK
ACK_TIMEOUT_NS = 5_000_000_000  # a forwarder without TX_ACK is given up on after this long
EXPIRE_INTERVAL_S = 1.0
MAX_DATAGRAM = 65_535
DATAGRAMS_A_TURN = 512  # read per turn of the event loop, so that the doors get theirs


class Receiver(Protocol):
    """Who the link hands frames and the fate of downlinks to."""

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None: ...
    def sent(self, downlink: Downlink, window: int) -> None: ...
    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None: ...


@dataclass(slots=True)
class Forwarder:
    """One packet forwarder as the link knows it."""

    eui: bytes
    last_seen_ns: int  # monotonic
    downlink_address: Address | None = None  # of the last PULL_DATA
    received: int = 0
    sent: int = 0
    stat: gwmp.Stat | None = None


@dataclass(slots=True)
class _Pending:
    downlink: Downlink
    window: int  # 1 or 2
    eui: bytes
    deadline_ns: int


@dataclass(slots=True)
class Link:
    """GWMP, server side, without I/O. Times are monotonic nanoseconds."""

    receiver: Receiver
    send: Callable[[bytes, Address], None]
    forwarders: OrderedDict[bytes, Forwarder] = field(default_factory=OrderedDict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("malformed", "unexpected", "no_forwarder", "tx_refused", "tx_unanswered", "pending_full"), 0
        )
    )
    _pending: OrderedDict[int, _Pending] = field(default_factory=OrderedDict)
    _token: int = 0

    def datagram(self, data: bytes, address: Address, now_ns: int) -> None:
        """Take one datagram; a damaged one is counted and otherwise ignored, as GWMP has no word for it."""
        try:
            message = gwmp.decode(data)
        except GwmpError as error:
            self.counters["malformed"] += 1
            log.debug("GWMP datagram from %s:%d ignored: %s", *address, error)
            return
        # `type(...) is`, as isinstance asks a metaclass: this is done for every frame.
        if type(message) is gwmp.PushData:
            self.send(gwmp.encode(gwmp.PushAck(message.token)), address)
            forwarder = self._forwarder(message.eui, now_ns)
            if message.stat is not None:
                forwarder.stat = message.stat
            if message.rxpk:
                forwarder.received += len(message.rxpk)
                self.receiver.receive(message.rxpk, message.eui)
        elif isinstance(message, gwmp.PullData):
            self._forwarder(message.eui, now_ns).downlink_address = address
            self.send(gwmp.encode(gwmp.PullAck(message.token)), address)
        elif isinstance(message, gwmp.TxAck):
            self._tx_ack(message, now_ns)
        else:
            self.counters["unexpected"] += 1

    def transmit(self, downlink: Downlink, eui: bytes, now_ns: int) -> None:
        """Order a downlink from the forwarder that heard the uplink: RX1 first, RX2 where that is refused."""
        self.expire(now_ns)
        self._order(downlink, 1, eui, now_ns)

    def expire(self, now_ns: int) -> None:
        """Give up on orders whose TX_ACK never came."""
        while self._pending:
            token, pending = next(iter(self._pending.items()))
            if pending.deadline_ns > now_ns:
                return
            del self._pending[token]
            self.counters["tx_unanswered"] += 1
            self.receiver.failed(pending.downlink, gwmp.TxError.TOO_LATE)

    def _order(self, downlink: Downlink, window: int, eui: bytes, now_ns: int) -> None:
        forwarder = self.forwarders.get(eui)
        if forwarder is None or forwarder.downlink_address is None:
            self.counters["no_forwarder"] += 1
            self.receiver.failed(downlink, gwmp.TxError.TOO_LATE)
            return
        if len(self._pending) >= MAX_PENDING:
            self.counters["pending_full"] += 1
            self.receiver.failed(downlink, gwmp.TxError.COLLISION_PACKET)
            return
        self._token = (self._token + 1) & 0xFFFF
        self._pending[self._token] = _Pending(downlink, window, eui, now_ns + ACK_TIMEOUT_NS)
        packet = downlink.rx1 if window == 1 else downlink.rx2
        self.send(gwmp.encode(gwmp.PullResp(self._token, packet)), forwarder.downlink_address)

    def _tx_ack(self, ack: gwmp.TxAck, now_ns: int) -> None:
        pending = self._pending.pop(ack.token, None)
        if pending is None or pending.eui != ack.eui:
            self.counters["unexpected"] += 1
            return
        if ack.error is gwmp.TxError.NONE:
            if (forwarder := self.forwarders.get(ack.eui)) is not None:
                forwarder.sent += 1
            self.receiver.sent(pending.downlink, pending.window)
            return
        self.counters["tx_refused"] += 1
        if pending.window == 1:
            self._order(pending.downlink, 2, pending.eui, now_ns)
        else:
            self.receiver.failed(pending.downlink, ack.error)

    def _forwarder(self, eui: bytes, now_ns: int) -> Forwarder:
        forwarder = self.forwarders.get(eui)
        if forwarder is None:
            if len(self.forwarders) >= MAX_GATEWAYS:
                self.forwarders.popitem(last=False)
            forwarder = self.forwarders[eui] = Forwarder(eui, now_ns)
        else:
            self.forwarders.move_to_end(eui)
        forwarder.last_seen_ns = now_ns
        return forwarder


class UdpLink:
    """A UDP socket around `Link`, read until empty whenever it is readable: one wake-up for a burst."""

    def __init__(self, receiver: Receiver, clock: Callable[[], int]) -> None:
        self.link = Link(receiver, self._send)
        self._clock = clock
        self._socket: socket.socket | None = None
        self._answers: list[tuple[bytes, Address]] | None = None  # of the datagrams being worked off

    async def start(self, host: str, port: int) -> int:
        """Bind and listen; returns the port. Raises OSError where the address is taken."""
        loop = asyncio.get_running_loop()
        family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            bound.setblocking(False)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        self._socket = bound
        loop.add_reader(bound, self._drain)
        return int(bound.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def expire(self) -> None:
        """Give up, as time goes by, on orders that no forwarder answers; runs until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            self.link.expire(self._clock())

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """Order a downlink from the forwarder `eui`."""
        self.link.transmit(downlink, eui, self._clock())

    def _drain(self) -> None:
        """Read all there is, then answer: a burst is worked off in one go, not forwarder and server in turns."""
        assert self._socket is not None
        receive, clock = self._socket.recvfrom, self._clock
        waiting = []
        for _ in range(DATAGRAMS_A_TURN):
            try:
                waiting.append(receive(MAX_DATAGRAM))
            except BlockingIOError:
                break
            except OSError as error:  # an ICMP refusal of an earlier answer; the socket itself is fine
                log.debug("GWMP socket: %s", error)
        answers = self._answers = []
        try:
            for data, address in waiting:
                self.link.datagram(data, address, clock())
        finally:
            self._answers = None
            for data, address in answers:
                self._send_now(data, address)

    def _send(self, data: bytes, address: Address) -> None:
        if self._answers is None:
            self._send_now(data, address)
        else:
            self._answers.append((data, address))

    def _send_now(self, data: bytes, address: Address) -> None:
        # UDP: what the kernel will not take now is lost, and GWMP's own time-outs deal with it.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(data, address)

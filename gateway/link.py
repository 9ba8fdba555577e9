"""The GWMP server: where packet forwarders, ours or any other, hand in frames and fetch downlinks.

`Link` is the protocol without sockets: datagrams and a time in, datagrams and calls to a `Receiver` out.
`UdpLink` moves the datagrams. GWMP has no security whatever, so it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import structs

from gateway.datagrams import Sender
from gateway.forwarders import Address, Forwarder, Forwarders, Refusal
from gateway.lorawan.server import Downlink
from radio import gwmp
from radio.errors import GwmpError

log = logging.getLogger(__name__)

MAX_PENDING = 256  # downlinks awaiting their TX_ACK
ACK_TIMEOUT_NS = 5_000_000_000  # a forwarder without TX_ACK is given up on after this long
SAY_AGAIN_NS = 60_000_000_000  # between two lines in the log about the same trouble
COUNTER_LOOK_NS = 1_000_000_000  # how often a gateway's counter is looked at
EXPIRE_INTERVAL_S = 1.0
MAX_DATAGRAM = 65_535
NOT_ASKED = "the packet forwarder has not asked for downlinks (no PULL_DATA)"
NOT_ANSWERED = "the packet forwarder has not answered the order (no TX_ACK)"
DATAGRAMS_A_TURN = 512  # read per turn of the event loop, so that the doors get theirs


class Receiver(Protocol):
    """Who the link hands frames and the fate of downlinks to."""

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None: ...
    def sent(self, downlink: Downlink, window: int) -> None: ...
    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None: ...


@dataclass(slots=True)
class _Pending:
    downlink: Downlink
    window: int  # from 1
    eui: bytes
    deadline_ns: int


@dataclass(slots=True)
class Link:
    """GWMP, server side, without I/O. Times are monotonic nanoseconds."""

    receiver: Receiver
    send: Callable[[bytes, Address], None]
    forwarders: Forwarders = field(default_factory=Forwarders)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "malformed",
                "rxpk_damaged",
                "unexpected",
                "no_forwarder",
                "tx_refused",
                "tx_unanswered",
                "pending_full",
                "not_allowed",
                "other_address",
                "too_many",
            ),
            0,
        )
    )
    _pending: OrderedDict[int, _Pending] = field(default_factory=OrderedDict)
    _said_ns: dict[str, int] = field(default_factory=dict)

    def datagram(self, data: bytes, address: Address, now_ns: int) -> None:
        """Take one datagram; a damaged one is counted and otherwise ignored, as GWMP has no word for it."""
        self.datagrams(((data, address),), now_ns)

    def datagrams(self, burst: Iterable[tuple[bytes, Address]], now_ns: int) -> None:
        """Take datagrams that came at once: frames that follow each other from one gateway are handed on together."""
        frames: list[gwmp.RxPacket] = []
        of = b""
        for data, address in burst:
            try:
                message = gwmp.decode(data)
            except GwmpError as error:
                words = "datagrams are not understood; the last from %s: %s"
                self._count("malformed", now_ns, words, address, error)
                continue
            # `type(...) is`, as isinstance asks a metaclass: this is done for every frame.
            if type(message) is gwmp.PushData:
                heard = self._push_data(message, address, now_ns)
                if heard and of != message.eui:
                    self._hand_on(frames, of)
                    of = message.eui
                frames += heard
            else:
                # What a forwarder says of a downlink comes after what it heard before.
                self._hand_on(frames, of)
                self._other(message, address, now_ns)
        self._hand_on(frames, of)

    def _hand_on(self, frames: list[gwmp.RxPacket], eui: bytes) -> None:
        if frames:
            packets = tuple(frames)
            frames.clear()
            self.receiver.receive(packets, eui)

    def _push_data(self, push: gwmp.PushData, address: Address, now_ns: int) -> tuple[gwmp.RxPacket, ...]:
        """Acknowledge it and take its report; returns the frames, none where the gateway is not admitted."""
        forwarder = self._admit(push.eui, address, now_ns)
        if forwarder is None:
            return ()
        self.send(gwmp.encode_push_ack(push.token), address)
        if push.stat is not None:
            forwarder.stat = push.stat
        if push.damaged:
            self.counters["rxpk_damaged"] += push.damaged
        heard = push.rxpk
        if heard:
            forwarder.received += len(heard)
            if now_ns - forwarder.tmst_ns > COUNTER_LOOK_NS:
                forwarder.heard(heard[-1].tmst, now_ns)
        return heard

    def _other(self, message: gwmp.Datagram, address: Address, now_ns: int) -> None:
        if isinstance(message, gwmp.PullData):
            if (puller := self._admit(message.eui, address, now_ns)) is not None:
                puller.downlink_address = address
                self.send(gwmp.encode(gwmp.PullAck(message.token)), address)
        elif isinstance(message, gwmp.TxAck):
            if message.eui not in self.forwarders.known:
                self.counters["unexpected"] += 1
            elif self._admit(message.eui, address, now_ns) is not None:
                self._tx_ack(message, now_ns)
        else:
            self.counters["unexpected"] += 1

    def transmit(self, downlink: Downlink, eui: bytes, now_ns: int) -> None:
        """Order a downlink from the forwarder `eui`: the first window, and the next where that is refused."""
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
            self.receiver.failed(
                structs.replace(pending.downlink, refusal=NOT_ANSWERED), gwmp.TxError.TOO_LATE
            )

    def _order(self, downlink: Downlink, window: int, eui: bytes, now_ns: int) -> None:
        forwarder = self.forwarders.known.get(eui)
        if forwarder is None or forwarder.downlink_address is None:
            self.counters["no_forwarder"] += 1
            self.receiver.failed(structs.replace(downlink, refusal=NOT_ASKED), gwmp.TxError.TOO_LATE)
            return
        if len(self._pending) >= MAX_PENDING:
            self.counters["pending_full"] += 1
            self.receiver.failed(downlink, gwmp.TxError.COLLISION_PACKET)
            return
        token = secrets.randbits(16)  # whoever forges a TX_ACK has to guess it
        while token in self._pending:
            token = (token + 1) & 0xFFFF
        self._pending[token] = _Pending(downlink, window, eui, now_ns + ACK_TIMEOUT_NS)
        packet = downlink.windows[window - 1]
        self.send(gwmp.encode(gwmp.PullResp(token, packet)), forwarder.downlink_address)

    def _tx_ack(self, ack: gwmp.TxAck, now_ns: int) -> None:
        pending = self._pending.get(ack.token)
        if pending is None or pending.eui != ack.eui:
            self.counters["unexpected"] += 1
            return
        del self._pending[ack.token]
        if ack.error is gwmp.TxError.NONE:
            if (forwarder := self.forwarders.known.get(ack.eui)) is not None:
                forwarder.sent += 1
            self.receiver.sent(pending.downlink, pending.window)
            return
        self.counters["tx_refused"] += 1
        if pending.window < len(pending.downlink.windows):
            self._order(pending.downlink, pending.window + 1, pending.eui, now_ns)
        else:
            downlink = pending.downlink
            self.receiver.failed(
                structs.replace(downlink, refusal=ack.reason) if ack.reason else downlink, ack.error
            )

    def _admit(self, eui: bytes, address: Address, now_ns: int) -> Forwarder | None:
        found = self.forwarders.admit(eui, address[0], now_ns)
        if isinstance(found, Forwarder):
            return found
        self._not_admitted(found, eui, address, now_ns)
        return None

    def _not_admitted(self, why: Refusal, eui: bytes, address: Address, now_ns: int) -> None:
        words = "datagrams are not listened to (%s); the last of gateway %s from %s"
        self._count(str(why), now_ns, words, why, eui.hex(), address)

    def _count(self, kind: str, now_ns: int, words: str, *args: object) -> None:
        """Count a trouble, and tell of it once a minute: whoever can send datagrams must not fill the journal."""
        self.counters[kind] += 1
        said_ns = self._said_ns.get(kind)
        if said_ns is None or now_ns - said_ns >= SAY_AGAIN_NS:
            self._said_ns[kind] = now_ns
            log.warning("GWMP: %d " + words, self.counters[kind], *args)


class UdpLink:
    """A UDP socket around `Link`, read until empty whenever it is readable: one wake-up for a burst."""

    def __init__(self, receiver: Receiver, clock: Callable[[], int], allowed: Collection[bytes] = ()) -> None:
        """`allowed`: the EUIs of the only gateways that are listened to; without any, all."""
        self.link = Link(receiver, self._send, Forwarders(allowed))
        self._clock = clock
        self._socket: socket.socket | None = None
        self._sender: Sender | None = None
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
        self._socket, self._sender = bound, Sender(bound)
        loop.add_reader(bound, self._drain)
        return int(bound.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = self._sender = None

    async def expire(self) -> None:
        """Give up, as time goes by, on orders that no forwarder answers; runs until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            self.link.expire(self._clock())

    def reaches(self, eui: bytes) -> bool:
        """Whether a downlink can be ordered from the forwarder `eui`: it has asked for them."""
        forwarder = self.link.forwarders.known.get(eui)
        return forwarder is not None and forwarder.downlink_address is not None

    def reachable(self) -> list[bytes]:
        """Every forwarder that a downlink can be ordered from."""
        return [eui for eui in self.link.forwarders.known if self.reaches(eui)]

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """Order a downlink from the forwarder `eui`."""
        self.link.transmit(downlink, eui, self._clock())

    def _drain(self) -> None:
        """Read all there is, then answer: a burst is worked off in one go, not forwarder and server in turns."""
        assert self._socket is not None
        receive = self._socket.recvfrom
        waiting = []
        for _ in range(DATAGRAMS_A_TURN):
            try:
                waiting.append(receive(MAX_DATAGRAM))
            except BlockingIOError:
                break
            except OSError as error:  # an ICMP refusal of an earlier answer; the socket itself is fine
                log.debug("GWMP socket: %s", error)
        answers: list[tuple[bytes, Address]] = []
        self._answers = answers
        try:
            self.link.datagrams(waiting, self._clock())
        finally:
            self._answers = None
            if self._sender is not None:
                self._sender.send_all(answers)

    def _send(self, data: bytes, address: Address) -> None:
        # What the kernel will not take now is lost, and GWMP's own time-outs deal with it.
        if self._answers is not None:
            self._answers.append((data, address))
        elif self._sender is not None:
            self._sender.send(data, address)

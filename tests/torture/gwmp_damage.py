"""Damaged GWMP datagrams through both ends of the link: the packet forwarder's side and the gateway's.

Whatever comes, `gwmp.decode` lets one error type out, both sides go on, and no datagram is passed over in silence:
each is answered, changes a counter or settles an order. What is remembered stays within its bounds, memory does not
grow, and the log gets at most a line a minute of each kind. Time is told, so that a million datagrams are hours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec

from gateway import link as link_module
from gateway.copies import MAX_WAITING, Copies
from gateway.forwarders import MAX_GATEWAYS, Address
from gateway.link import MAX_PENDING, Link
from gateway.live import heard
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI
from radio import complaints, gwmp
from radio.concentrator import TxResult
from radio.errors import GwmpError
from radio.filters import Filter
from radio.forwarder import MAX_ORDERED, MAX_UNACKED, Forwarder, Way
from radio.forwarder import MAX_WAITING as MAX_FRAMES
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region

from . import fuzz
from .fuzz_seeds import GWMP_WORDS, gwmp_seeds

STEP_NS = 10_000_000  # between two datagrams
KINDS_OF_LINES = 12  # that a datagram can cause, on both sides together
LOG_MINUTE_NS = 60_000_000_000
EUI = bytes(range(8))
HOSTS = [f"192.0.2.{n}" for n in range(250)]
EXAMPLES = [
    # packet_forwarder PROTOCOL.TXT, sections 4 to 6
    b"\x02\x12\x34\x00" + EUI + b'{"rxpk":[{"time":"2013-03-31T16:21:17.528002Z","tmst":3512348611,"chan":2,'
    b'"rfch":0,"freq":866.349812,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/6","rssi":-35,"lsnr":5.1,'
    b'"size":32,"data":"-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84"},{"tmst":3512348514,"chan":9,"rfch":1,'
    b'"freq":869.1,"stat":1,"modu":"FSK","datr":50000,"rssi":-75,"size":16,"data":"VEVTVF9QQUNLRVRfMTIzNA=="}]}',
    b"\x02\x00\x01\x03" + b'{"txpk":{"imme":true,"freq":864.123456,"rfch":0,"powe":14,"modu":"LORA",'
    b'"datr":"SF11BW125","codr":"4/6","ipol":false,"size":32,"data":"H3P3N2i9qc4yt7rK7ldqoeCVJGBybzPY5h1Dd7P7p8v"}}',
    b"\x02\x00\x02\x05" + EUI + b'{"txpk_ack":{"warn":"TX_POWER","value":20}}',
]


class ForwarderSide:
    """A `Forwarder` that believes everything a server sends."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self.core = Forwarder(EUI, self._transmit, rng=self._rng)
        self._ids = 0

    def _transmit(self, order: gwmp.TxPacket, now_ns: int) -> TxResult:
        airtime_us(order.modulation, len(order.data), crc=not order.ncrc)
        self._ids += 1
        return TxResult(self._rng.choice(list(gwmp.TxError)), id=self._ids)

    def feed(self, data: bytes, now_ns: int) -> None:
        core = self.core
        core.on_time(now_ns)
        for way in Way:
            before = sum(core.counters.values())
            for _, answer in core.on_datagram(way, data, now_ns):
                assert isinstance(gwmp.decode(answer), gwmp.TxAck), "an answer that is none"
                before -= 1
            assert sum(core.counters.values()) > before, "a datagram is passed over in silence"
        if self._ids % 7 == 0:
            core.on_sent(self._rng.randrange(self._ids + 1))

    def check(self) -> None:
        core = self.core
        assert len(core._unacked) <= MAX_UNACKED + 1
        assert len(core._ordered) <= MAX_ORDERED
        assert len(core._frames) <= MAX_FRAMES
        core.status(0)


class GatewaySide:
    """A `Link` with a LoRaWAN server behind it, which is asked for downlinks now and then."""

    def __init__(self) -> None:
        self.server = NetworkServer(get_region("EU868"))
        self.copies = Copies(100_000_000, lambda _eui: True)
        self.link = Link(self, self._send)
        self.filter = Filter.of(net_ids=["000013"], join_euis=["70b3d57ed0000000/36"])
        self._settled = 0
        self._answers = 0
        self._now_ns = 1
        self._n = 0

    def feed(self, data: bytes, now_ns: int) -> None:
        self._now_ns, self._n = now_ns, self._n + 1
        before = self._accounts()
        self.link.datagram(data, self._address(data), now_ns)
        assert self._accounts() > before, "a datagram is passed over in silence"
        if self._n % 50 == 0:
            self._order()

    def check(self) -> None:
        assert len(self.link.forwarders.known) <= MAX_GATEWAYS
        assert len(self.link._pending) <= MAX_PENDING
        assert len(self.copies._groups) <= MAX_WAITING
        self.link.forwarders.problems(self._now_ns)

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None:
        self.copies.alone(eui, self._now_ns)
        at = Instant(self._now_ns, self._now_ns)
        for rx in packets:
            self.filter.why_not(rx)
            for merged in self.copies.add(rx, eui, at) + self.copies.due(self._now_ns):
                self.server.handle(merged.best.rx, merged.best.eui, at)
                msgspec.json.encode(heard(merged.best.rx))
                # What was heard is handed on as it came: the radio's own side writes it again.
                gwmp.encode(gwmp.PushData(1, eui, (merged.best.rx,)))

    def sent(self, downlink: Downlink, window: int) -> None:
        self._settled += 1

    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None:
        self._settled += 1

    def _accounts(self) -> int:
        return sum(self.link.counters.values()) + self._settled + self._answers

    def _send(self, data: bytes, _address: Address) -> None:
        gwmp.decode(data)
        self._answers += 1

    def _address(self, data: bytes) -> Address:
        """Most datagrams come from where their gateway is; some from elsewhere."""
        number = sum(data[4:12]) if self._n % 20 else self._n
        return HOSTS[number % len(HOSTS)], 1700 + self._n % 3

    def _order(self) -> None:
        packet = gwmp.TxPacket(1, False, 868_100_000, 0, 14, LoRaModulation(7, 125_000), True, b"x", True)
        for eui in list(self.link.forwarders.known)[:2]:
            self.link.transmit(Downlink("1", DevEUI(1), (packet,), False, 0, False), eui, self._now_ns)


@contextmanager
def both_sides() -> Iterator[fuzz.Target]:
    forwarder, gateway = ForwarderSide(), GatewaySide()
    seeds = [*gwmp_seeds(), *EXAMPLES]
    now_ns = 1

    def feed(data: bytes) -> bool:
        nonlocal now_ns
        now_ns += STEP_NS
        forwarder.feed(data, now_ns)
        gateway.feed(data, now_ns)
        try:
            message = gwmp.decode(data)
        except GwmpError:
            return False
        # Of what is understood, only what says something is worth starting from: nearly any four bytes are a PUSH_ACK.
        match message:
            case gwmp.PushData(rxpk=packets, stat=stat):
                return bool(packets) or stat is not None
            case gwmp.PullResp() | gwmp.TxAck(error=gwmp.TxError.TOO_LATE):
                return True
        return data in seeds

    def settle() -> None:
        forwarder.check()
        gateway.check()

    yield fuzz.Target(seeds, feed, (*GWMP_WORDS, b"\x02\0\0\x05" + EUI), settle)


def run(count: int, seed: int, minutes: float | None = None) -> fuzz.Result:
    """Feed `count` damaged datagrams to both sides."""
    result = fuzz.run("gwmp", both_sides, count, seed, minutes)
    told_minutes = result.inputs * STEP_NS / LOG_MINUTE_NS + 1
    if result.log_records > KINDS_OF_LINES * told_minutes:
        result.problems.append(f"{result.log_records} log lines in {told_minutes:.0f} minutes")
    return result


def careless_run(count: int, seed: int) -> fuzz.Result:
    """The control: a decoder that lets the errors of its parts out."""

    def decode(data: bytes) -> gwmp.Datagram:
        if data[:1] == b"\x02" and data[3:4] == b"\x00" and len(data) >= 12:
            return gwmp._push_data(0, data[4:12], data[12:])
        return _decode(data)

    _decode: Callable[[bytes], gwmp.Datagram] = gwmp.decode
    with mock.patch.object(gwmp, "decode", decode):
        return run(count, seed)


def talkative_run(count: int, seed: int) -> fuzz.Result:
    """The other control: a line in the log for every datagram."""
    with (
        mock.patch.object(complaints, "SAY_AGAIN_NS", 0),
        mock.patch.object(link_module, "SAY_AGAIN_NS", 0),
    ):
        return run(count, seed)

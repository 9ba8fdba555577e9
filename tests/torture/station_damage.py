"""Damaged messages of the Basics Station protocol through both ends: the LNS and its CUPS, and the radio as its client.

Whatever comes, one error type leaves the codec, both ends go on, and what is remembered stays within its bounds. What
the LNS takes as a frame goes through the network server, and what the client takes as an order reaches a radio that
answers as it likes. The log gets at most a line a minute of each kind. Time is told.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI
from gateway.station import cups
from gateway.station.lns import MAX_CONTEXTS, MAX_MALFORMED, MAX_PENDING, Lns, Session
from gateway.station.plan import router_config
from gateway.station.registry import KnownGateway
from hub.message import TimeQuality
from radio import complaints, gwmp
from radio.concentrator import TxResult
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region
from radio.station import codec, orders
from radio.station.client import Client
from radio.station.errors import StationError
from radio.station.messages import (
    Discovery,
    DiscoveryAnswer,
    Order,
    Schedule,
    Scheduled,
    Sent,
    TimeSync,
    TimeSyncRequest,
    Uplink,
    Version,
)

from . import fuzz

STEP_NS = 10_000_000  # between two messages
KINDS_OF_LINES = 8
LOG_MINUTE_NS = 60_000_000_000
REGION = get_region("EU868")
EUI = bytes.fromhex("b827ebfffe123456")
SF7 = LoRaModulation(7, 125_000)
SESSION = 1  # of the client, as its random numbers begin
XTIME = SESSION << 48 | 5_000_000

UP = [
    codec.encode_up(Uplink(bytes.fromhex(phy), 5, 868_100_000, 1, XTIME, -80.0, 7.5, 0, 1.7e9, 1.7e9))
    for phy in (
        # Basics Station's self-test of frames
        "40abcdefff01f3f4ff202122a0a1a2a3",
        "000123456789abcdeff1e3f5e7f9ebfdeff0f1a0a1a2a3",
        "e0" + "5f" * 15,
    )
] + [
    codec.encode_up(Sent(1, EUI, 1, XTIME + 1_000_000, 1.5, 0, 5, 868_100_000)),
    codec.encode_up(TimeSyncRequest(5_029_138_245_781)),
    codec.encode_up(Version("2.0.6(rpi/std)", "", "1.0", "rpi", 2, "rmtsh")),
    codec.encode_discovery(Discovery(EUI)),
]
DOWN = [
    codec.encode_down(
        Order(EUI, 0, 1, b"\x60" * 12, 1, XTIME, 1, (5, 868_100_000), (0, 869_525_000), mux_time_s=1.7e9)
    ),
    codec.encode_down(Order(EUI, 2, 2, b"\x60" * 12, rx2=(0, 869_525_000))),
    codec.encode_down(
        Order(EUI, 1, 3, b"\x60" * 12, ping=(3, 869_525_000), gpstime_us=1_484_035_223_000_000)
    ),
    codec.encode_down(Schedule((Scheduled(b"\x60" * 12, 3, 869_525_000, xtime=XTIME),))),
    codec.encode_down(TimeSync(5_000_000, None, 1_484_035_223_000_000, 1.7e9)),
    codec.encode_down(router_config(REGION, net_ids=(0x13,), join_euis=((1, 1 << 63),))),
    codec.encode_discovery_answer(DiscoveryAnswer(EUI, bytes(8), "wss://127.0.0.1:8887/gateway/1")),
    '{"msgtype":"runcmd","command":"/bin/true","arguments":[]}',
]
ASKED = [
    '{"router":"b827:ebff:fe12:3456","cupsUri":"https://x","tcUri":null,"cupsCredCrc":1,"tcCredCrc":2,'
    '"station":"2.0.6","model":"rpi","package":"1.0","keys":[1]}'
]
SEEDS = [text.encode() for text in (*UP, *DOWN, *ASKED)]
WORDS = (
    *(
        f'"{name}":'.encode()
        for name in ("msgtype", "DR", "Freq", "xtime", "pdu", "FPort", "JoinEui", "NetID")
    ),
    b"-1",
    b"18446744073709551616",
    b"1e309",
    b"null",
    b'"::"',
    b"[[[[",
    b'"\\ud800"',
)


class ServerSide:
    """The LNS with a network server behind it, which is asked for downlinks now and then."""

    def __init__(self) -> None:
        self.server = NetworkServer(REGION)
        self.lns = Lns(self, REGION, router_config(REGION), random.Random(1))
        self.session = self._connect(Instant(1, 1))
        self._n = 0

    def feed(self, data: bytes, now_ns: int) -> None:
        now = Instant(now_ns, now_ns, TimeQuality.NTP)
        self.lns.message(self.session, data, now)
        if self.session.malformed > MAX_MALFORMED:
            self.session = self._connect(now)
        self._n += 1
        if self._n % 50 == 0:
            packet = gwmp.TxPacket(6_000_000, False, 868_100_000, 0, 14, SF7, True, b"x" * 12, True)
            self.lns.transmit(Downlink("1", DevEUI(1), (packet,), False, 0, False), EUI, now)

    def check(self) -> None:
        assert len(self.session.contexts) <= MAX_CONTEXTS
        assert len(self.lns._pending) <= MAX_PENDING
        assert len(self.lns.sessions) <= 1
        self.lns.status(0)

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None:
        for rx in packets:
            self.server.handle(rx, eui, Instant(1, 1))
            gwmp.encode(gwmp.PushData(1, eui, (rx,)))  # a frame like any other

    def sent(self, downlink: Downlink, window: int) -> None:
        assert window in (1, 2)

    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None:
        pass

    def _connect(self, now: Instant) -> Session:
        session = self.lns.connect(KnownGateway(EUI), self._send, lambda _why: None, "here", now)
        self.lns.message(session, '{"msgtype":"version"}', now)
        return session

    def _send(self, text: str) -> None:
        codec.decode_down(text)


class First:
    """Random numbers that are always the lowest."""

    def randrange(self, low: int, _high: int) -> int:
        return low


class ClientSide:
    """A `Client` that may send everything a server orders."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        rng = mock.Mock(spec=random.Random)
        rng.randrange = First().randrange
        self.core = Client(REGION, self._transmit, name="fuzz", downlinks=True, utc_ns=lambda t: t, rng=rng)
        self._ids = 0
        self._config = DOWN[5]

    def feed(self, data: bytes, now_ns: int) -> None:
        core = self.core
        if not core.connected:
            core.on_open(now_ns)
            core.on_message(self._config, now_ns)
        for text in core.on_message(data, now_ns):
            codec.decode_up(text)
        if self._ids % 5 == 0:
            frame = gwmp.RxPacket(
                1, 868_100_000, 0, 0, 1, SF7, -80, 7.5, bytes.fromhex("40abcdef26000000a0a1a2a3")
            )
            core.on_frame(frame, now_ns)
        for text in (*core.on_time(now_ns), *core.on_sent(self._rng.randrange(self._ids + 1))):
            codec.decode_up(text)
        if self._rng.random() < 0.001:
            core.on_close(now_ns)

    def check(self) -> None:
        pending = self.core._orders
        assert len(pending._waiting) + len(pending._taken) <= orders.MAX_PENDING
        self.core.status(0)

    def _transmit(self, order: gwmp.TxPacket, now_ns: int) -> TxResult:
        airtime_us(order.modulation, len(order.data), crc=not order.ncrc)
        gwmp.encode(gwmp.PullResp(1, order))
        self._ids += 1
        error = self._rng.choice(list(gwmp.TxError))
        return TxResult(error, start_ns=now_ns, id=self._ids if error is gwmp.TxError.NONE else None)


@contextmanager
def both_ends() -> Iterator[fuzz.Target]:
    server, client = ServerSide(), ClientSide()
    answers = cups.Cups(b"\x30\x82\x00\x05trust", "https://new.example:8887", "wss://new.example:8887")
    now_ns = 1

    def feed(data: bytes) -> bool:
        nonlocal now_ns
        now_ns += STEP_NS
        server.feed(data, now_ns)
        client.feed(data, now_ns)
        meant = 0
        for decode in (
            codec.decode_up,
            codec.decode_down,
            codec.decode_discovery,
            codec.decode_discovery_answer,
        ):
            try:
                message = decode(data)
            except StationError:
                continue
            meant += not hasattr(message, "msgtype")  # a kind that is not served says nothing
        try:
            request = cups.decode_request(data)
        except StationError:
            return meant > 0 or data in SEEDS
        answers.answer(request, KnownGateway(EUI, "", "a-token-of-a-gateway")).encode()
        return True

    def settle() -> None:
        server.check()
        client.check()

    yield fuzz.Target(SEEDS, feed, WORDS, settle)


def run(count: int, seed: int, minutes: float | None = None) -> fuzz.Result:
    """Feed `count` damaged messages to both ends."""
    result = fuzz.run("station", both_ends, count, seed, minutes)
    told_minutes = result.inputs * STEP_NS / LOG_MINUTE_NS + 1
    # Each connection of the LNS may say once that it is not understood, and there is a new one now and then.
    allowed = KINDS_OF_LINES * told_minutes + 4 * result.inputs / MAX_MALFORMED + 10
    if result.log_records > allowed:
        result.problems.append(f"{result.log_records} log lines in {told_minutes:.0f} minutes")
    return result


def careless_run(count: int, seed: int) -> fuzz.Result:
    """The control: a codec that lets the errors of its parts out."""

    def read(text: Any, decoder: Any, value: Any) -> Any:
        return value(decoder.decode(text)) if decoder is codec._frame else _read(text, decoder, value)

    _read = codec._read
    with mock.patch.object(codec, "_read", read):
        return run(count, seed)


def talkative_run(count: int, seed: int) -> fuzz.Result:
    """The other control: a line in the log for every message."""
    with mock.patch.object(complaints, "SAY_AGAIN_NS", 0):
        return run(count, seed)

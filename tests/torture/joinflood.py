"""A flood of strangers beside fifty known devices, through the whole way of a gateway: nothing known is lost.

Join-requests of invented devices, data frames of invented addresses, joins in the name of a known device under a wrong
key, rejoins and rubbish come as GWMP datagrams at a rate, in virtual time: link, copies, LoRaWAN server, diagnosis,
live view and a log on the disk are the real ones. In between fifty devices of 1.0.3, 1.0.4 and 1.1 send, join and are
answered. Every frame of theirs must be taken, committed and, where confirmed, acknowledged; and whatever the gateway
remembers must not grow with the flood.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import random
import tempfile
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from torture.replays import CHANNELS_HZ, KINDS, PROFILES, SECOND, Device, Sent

from gateway.copies import Copies, CopiesReceiver
from gateway.core import Core, opened_core
from gateway.devices.registration import register
from gateway.diagnosis_clock import DiagnosisClock
from gateway.forwarders import Address
from gateway.link import Link
from gateway.live import LiveFrames
from gateway.lorawan import frames
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import FrameError
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.publish import Publisher
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key
from gateway.settings import Config, GatewaySection
from gateway.uplinks import Uplinks
from hub.message import TimeQuality
from radio import gwmp
from radio.lora import LoRaModulation

EUI = bytes.fromhex("aa555a0000000101")
UP: Address = ("127.0.0.1", 40_000)
DOWN: Address = ("127.0.0.1", 40_001)
RATE = 1000  # frames of strangers a second
KNOWN = 50
MOST_GROWTH = 2000  # elements in the second half: what fifty devices bring themselves
TURN_NS = SECOND // 10
DIAGNOSIS_S = 5
SF7 = LoRaModulation(7, 125_000)


@dataclass(slots=True)
class Result:
    seconds: int = 0
    strangers: int = 0  # frames of the flood
    sent: int = 0  # data frames of known devices, each once
    taken: int = 0
    joins: int = 0
    granted: int = 0
    answered: int = 0  # join-accepts and data downlinks that left
    committed: int = 0
    messages: int = 0  # what they have made, to be committed
    sizes: list[int] = field(default_factory=list)  # elements of everything that can grow, each ten seconds
    memory: list[int] = field(default_factory=list)  # bytes, with them
    refused: Counter[str] = field(default_factory=Counter)  # of the known devices, by reason
    spent_s: float = 0.0  # on the clock

    def __str__(self) -> str:
        middle = len(self.sizes) // 2
        memory = [f"{bytes_ >> 10}" for bytes_ in self.memory] or ["0"]
        return (
            f"{self.strangers} frames of strangers in {self.seconds} s of virtual time ({self.spent_s:.0f} s on the "
            f"clock), of {KNOWN} known devices {self.taken} of {self.sent} uplinks and {self.granted} of {self.joins} "
            f"joins taken (refused: {dict(self.refused) or 'none'}), {self.answered} answers, {self.committed} of "
            f"{self.messages} messages committed; elements held {self.sizes[0]}, {self.sizes[middle]}, "
            f"{self.sizes[-1]}, KiB {memory[0]}, {memory[len(memory) // 2]}, {memory[-1]}; known loss {self.loss}"
        )

    @property
    def loss(self) -> int:
        """Data frames of known devices that were not taken or not committed."""
        return self.sent - self.taken + self.messages - self.committed

    @property
    def good(self) -> bool:
        return self.loss == 0 and self.growth <= MOST_GROWTH and not self.refused["a stranger was taken"]

    @property
    def growth(self) -> int:
        """Elements gained in the second half."""
        half = self.sizes[len(self.sizes) // 2 :]
        return max(half) - half[0] if half else 0


class Clock:
    """Virtual time, as everything in the gateway is told it."""

    def __init__(self) -> None:
        self.mono_ns = 1000 * SECOND

    def now(self) -> Instant:
        return Instant(self.mono_ns, 1_770_000_000 * SECOND + self.mono_ns, TimeQuality.NTP)


class Site:
    """The gateway's parts, its packet forwarder, the known devices and the strangers."""

    def __init__(self, core: Core, seed: int) -> None:
        self.result = Result()
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.core = core
        self.devices = [
            Device(number, KINDS[number % len(KINDS)], random.Random(seed * 1000 + number))
            for number in range(KNOWN)
        ]
        self.server: NetworkServer = core.server
        self.uplinks = Uplinks(
            core.server,
            Publisher(core.hub.boot),
            core.hub.access,
            core.hub.log,
            LiveFrames(),
            self.clock.now,
        )
        self.copies = CopiesReceiver(self.uplinks, Copies(0, lambda _eui: True), self.clock.now)
        self.link = Link(self.copies, self._to_forwarder)
        self.uplinks.downlinks.transmitter = self
        self.diagnosis = DiagnosisClock(self.uplinks.diagnoser, core.hub.log, self.clock.now)
        self._acks: list[int] = []  # tokens of orders to be answered
        self._numbers = 0
        self._seen: set[bytes] = set()  # data frames of known devices

    async def set_up(self) -> None:
        channel = self.core.hub.registry.create_channel("flood").id
        self.server.use_profiles(PROFILES)
        for device in self.devices:
            await register(self.core.hub, self.server, device.config, channel)
        self.link.datagram(gwmp.encode(gwmp.PullData(1, EUI)), DOWN, self.clock.mono_ns)

    # `gateway.uplinks.Transmitter`

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        self.link.transmit(downlink, eui, self.clock.mono_ns)

    def only(self) -> bytes:
        return EUI

    def _to_forwarder(self, datagram: bytes, address: Address) -> None:
        if address != DOWN or datagram[3] != gwmp.PULL_RESP:
            return
        order = gwmp.decode(datagram)
        assert isinstance(order, gwmp.PullResp)
        self._acks.append(order.token)
        self.result.answered += 1
        try:
            frame = frames.parse(order.txpk.data)
        except FrameError:
            return
        if isinstance(frame, frames.SealedJoinAccept):
            for device in self.devices:
                device.hear(order.txpk.data)

    # Time

    async def second(self, rate: int) -> None:
        """A second of the flood, with what the known devices send in it."""
        rng, result = self.rng, self.result
        known = sorted(rng.sample(range(10), 5))  # of ten turns: fifty devices in ten seconds
        for turn in range(10):
            self.clock.mono_ns += TURN_NS
            for _ in range(rate // 10):
                self._hear(self._stranger(), None)
            if turn in known:
                device = self.devices[self._numbers % KNOWN]
                self._numbers += 1
                self._hear(device.next(), device)
            acks, self._acks = self._acks, []
            for token in acks:
                ack = gwmp.encode(gwmp.TxAck(token, EUI))
                self.link.datagram(ack, DOWN, self.clock.mono_ns)
            await asyncio.sleep(0)
        result.seconds += 1
        if result.seconds % DIAGNOSIS_S == 0:
            self.diagnosis.look()
            self.link.datagram(gwmp.encode(gwmp.PullData(1, EUI)), DOWN, self.clock.mono_ns)
        if result.seconds % 2 == 0:
            await self.core.hub.log.flush()  # as much real time as the disk wants

    def _hear(self, sent: Sent, device: Device | None) -> None:
        rx = gwmp.RxPacket(
            tmst=self.clock.mono_ns // 1000 % 2**32,
            freq_hz=sent.freq_hz,
            chan=0,
            rfch=0,
            stat=1,
            modulation=SF7,
            rssi_dbm=-90,
            lsnr_db=5.0,
            data=sent.phy,
        )
        counters, result = self.server.counters, self.result
        uplinks, joins, rejected = counters.uplinks, counters.joins, dict(counters.rejected)
        self.link.datagram(gwmp.encode(gwmp.PushData(1, EUI, (rx,))), UP, self.clock.mono_ns)
        if device is None:
            result.strangers += 1
            if counters.uplinks != uplinks or counters.joins != joins:
                result.refused["a stranger was taken"] += 1
            return
        if sent.fcnt is None:
            result.joins += 1
            result.granted += counters.joins - joins
        elif sent.phy not in self._seen:
            self._seen.add(sent.phy)
            result.sent += 1
            result.taken += counters.uplinks - uplinks
        else:
            return
        for reason, number in counters.rejected.items():
            if number != rejected[reason]:
                result.refused[str(reason)] += 1

    def _stranger(self) -> Sent:
        rng = self.rng
        draw = rng.random()
        if draw < 0.6:
            phy = frames.build_join_request(
                AES128Key(rng.randbytes(16)), rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(16)
            )
        elif draw < 0.85:
            phy = bytes((rng.choice((0x40, 0x80)),)) + rng.randbytes(rng.randrange(11, 40))
        elif draw < 0.95:  # in the name of a known device
            eui = rng.choice(self.devices).eui
            phy = frames.build_join_request(AES128Key(rng.randbytes(16)), 0, eui, rng.getrandbits(16))
        elif draw < 0.98:
            phy = bytes((0xC0, rng.randrange(3))) + rng.randbytes(rng.choice((17, 22)))
        else:
            phy = rng.randbytes(rng.randrange(1, 60))
        return Sent(phy, rng.choice(CHANNELS_HZ), 0)

    def weigh(self) -> None:
        """How much there is in everything that can grow."""
        gc.collect()
        self.result.sizes.append(elements_of([self.link, self.copies, self.uplinks]))
        if tracemalloc.is_tracing():
            self.result.memory.append(tracemalloc.get_traced_memory()[0])


def elements_of(roots: list[object]) -> int:
    """The lengths of all containers of ours that hang on these, together."""
    total, seen, todo = 0, set[int](), list(roots)
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | frozenset | bytearray | collections.deque):
            total += len(thing)
        if isinstance(thing, dict):
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset | collections.deque):
            todo += thing
        elif type(thing).__module__.startswith("gateway."):
            names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            todo += [getattr(thing, name, None) for name in names]
            todo += getattr(thing, "__dict__", {}).values()
    return total


async def flood(seconds: int, rate: int, seed: int, folder: Path) -> Result:
    """So many seconds of virtual time."""
    config = Config(gateway=GatewaySection(data_dir=str(folder / "data"), runtime_dir=str(folder)))
    async with opened_core(config) as core:
        site = Site(core, seed)
        await site.set_up()
        await core.hub.log.flush()
        before = core.hub.log.next_seq
        for number in range(seconds):
            await site.second(rate)
            if number % 10 == 9:
                site.weigh()
        await core.hub.log.flush()
        site.result.committed = core.hub.log.next_seq - before
        site.result.messages = site.uplinks.counters.messages
        return site.result


def run(seconds: int, seed: int, rate: int = RATE, *, traced: bool = True) -> Result:
    """So many seconds of virtual time, on a log in a folder of its own; `traced`: memory is weighed too."""
    began = time.monotonic()
    if traced:
        tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory(prefix="fluxgate-flood-") as folder:
            result = asyncio.run(flood(seconds, rate, seed, Path(folder)))
    finally:
        tracemalloc.stop()
    result.spent_s = time.monotonic() - began
    return result

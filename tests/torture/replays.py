"""Replayed, duplicated and reordered LoRaWAN frames over many gateways, across kills: nothing is accepted twice.

Devices of 1.0.3, 1.0.4 and 1.1, joined and personalised, send confirmed and unconfirmed uplinks, join and rejoin. Each
frame comes in eight copies by as many gateways, early and late, and whatever was on the air is sent again by somebody
later. The server is killed now and then and starts from its store, without the last transactions: those a log had not
yet on the disk.

Judged, from outside the server: a frame whose acceptance was kept is never accepted again, and neither is one that was
accepted in this life; what is accepted is what the device sent, under the device's own counter; and no two downlinks go
out under one counter. The controls are a store that forgets counters and nonces at a kill, and a counter that trusts
a reservation before it is kept.
"""

from __future__ import annotations

import heapq
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from gateway.copies import Copies
from gateway.lorawan import frames, store
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import (
    SessionCrypto,
    SessionKeys,
    derive_session_keys,
    derive_session_keys_1_1,
    join_server_keys,
)
from gateway.lorawan.device import (
    COUNTER_AHEAD,
    COUNTER_BLOCK,
    Activation,
    DeviceConfig,
    ReservedCounter,
)
from gateway.lorawan.errors import FrameError, LorawanError
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Uplink, Writes
from gateway.lorawan.profile import Profile, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from gateway.migrations import MIGRATIONS
from hub.message import TimeQuality
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation
from radio.regions import get_region

COPIES = 8
GATEWAYS = tuple(bytes.fromhex(f"aa555a00000001{number:02x}") for number in range(COPIES))
CHANNELS_HZ = (868_100_000, 868_300_000, 868_500_000)
MS = 1_000_000
SECOND = 1000 * MS
RECORDED = 4000  # frames that somebody may send again
GROUP = 40  # transactions of a commit, at most
PROFILES = {
    name: Profile(name, version=version)
    for name, version in (("old", Version.V1_0_3), ("counting", Version.V1_0_4), ("new", Version.V1_1))
}
KINDS = ("old", "counting", "new", "new", "abp", "abp_1_1")


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame as its device meant it."""

    phy: bytes
    freq_hz: int
    device: int  # DevEUI
    fcnt: int | None = None  # 32 bits; None in a join or rejoin
    payload: bytes = b""


class Device:
    """The device's half, which hears nothing but join-accepts."""

    def __init__(self, number: int, kind: str, rng: random.Random) -> None:
        self.kind = kind
        self.v1_1 = kind in ("new", "abp_1_1")
        self.eui = DevEUI(0x70B3D57ED0100000 + number)
        self._rng = rng
        self._join_eui = JoinEUI(0x70B3D57ED00000DC)
        self._keys = [AES128Key(rng.randbytes(16)) for _ in range(4)]
        self._js_int, self._js_enc = join_server_keys(self._keys[0], self.eui)
        self._nonce = 0
        self._rj0 = self._rj1 = 0
        self._asked: tuple[frames.JoinReqType, int] | None = None
        self._net_id = 0
        self._session: SessionKeys | None = None
        self._crypto: SessionCrypto | None = None
        self._addr = DevAddr(0)
        self._fcnt = 0
        self._late: Sent | None = None
        if kind.startswith("abp"):
            self._addr = DevAddr(0x01000000 + number)
            self._begin(SessionKeys(*self._keys) if self.v1_1 else SessionKeys.of_1_0(*self._keys[:2]))

    @property
    def config(self) -> DeviceConfig:
        if self.kind.startswith("abp"):
            f_int, s_int, enc, app = self._keys
            return DeviceConfig(
                dev_eui=self.eui,
                activation=Activation.ABP,
                dev_addr=self._addr,
                nwk_s_key=f_int,
                app_s_key=app if self.v1_1 else s_int,
                s_nwk_s_int_key=s_int if self.v1_1 else None,
                nwk_s_enc_key=enc if self.v1_1 else None,
                profile="new" if self.v1_1 else "old",
            )
        return DeviceConfig(
            dev_eui=self.eui,
            join_eui=self._join_eui,
            app_key=self._keys[1] if self.v1_1 else self._keys[0],
            nwk_key=self._keys[0] if self.v1_1 else None,
            profile=self.kind,
        )

    def next(self) -> Sent:
        """What it sends next."""
        draw = self._rng.random()
        if self._crypto is None or (draw < 0.02 and not self.kind.startswith("abp")):
            return self._join()
        if draw < 0.05 and self.kind == "new":
            return self._rejoin()
        if draw < 0.10 and self._late is not None:  # a confirmed uplink again: its device heard no answer
            return self._late
        return self._uplink()

    def hear(self, phy: bytes) -> None:
        """A join-accept, which may be for an earlier request."""
        if self._asked is None:
            return
        kind, nonce = self._asked
        try:
            if not self.v1_1:
                accept = frames.open_join_accept(self._keys[0], phy)
            else:
                accept = frames.open_join_accept(
                    self._keys[0] if kind is frames.JoinReqType.JOIN else self._js_enc,
                    phy,
                    js_int_key=self._js_int,
                    request_type=kind,
                    join_eui=self._join_eui,
                    dev_nonce=nonce,
                )
        except FrameError:
            return
        self._asked = None
        self._addr, self._net_id, self._rj0 = accept.dev_addr, accept.net_id, 0
        if self.v1_1 and accept.opt_neg:
            keys = derive_session_keys_1_1(
                self._keys[0], self._keys[1], accept.join_nonce, self._join_eui, nonce
            )
        else:
            keys = derive_session_keys(self._keys[0], accept.join_nonce, accept.net_id, nonce)
        self._begin(keys)

    def _begin(self, keys: SessionKeys) -> None:
        self._session = keys
        self._crypto = SessionCrypto(self._addr, keys, v1_1=self.v1_1)
        self._fcnt, self._late = 0, None

    def _join(self) -> Sent:
        nonce = self._rng.randrange(1 << 16) if self.kind == "old" else self._nonce
        self._nonce = nonce + 1 & 0xFFFF
        self._asked = frames.JoinReqType.JOIN, nonce
        phy = frames.build_join_request(self._keys[0], self._join_eui, self.eui, nonce)
        return Sent(phy, self._rng.choice(CHANNELS_HZ), self.eui)

    def _rejoin(self) -> Sent:
        assert self._session is not None
        kind = frames.JoinReqType(self._rng.randrange(3))
        if kind is frames.JoinReqType.REJOIN_1:
            count, self._rj1 = self._rj1, self._rj1 + 1
            phy = frames.build_rejoin_request(self._js_int, kind, self.eui, count, join_eui=self._join_eui)
        else:
            count, self._rj0 = self._rj0, self._rj0 + 1
            phy = frames.build_rejoin_request(
                self._session.s_nwk_s_int, kind, self.eui, count, net_id=self._net_id
            )
        self._asked = kind, count
        return Sent(phy, self._rng.choice(CHANNELS_HZ), self.eui)

    def _uplink(self) -> Sent:
        assert self._crypto is not None
        rng = self._rng
        fcnt, channel = self._fcnt, rng.randrange(3)
        self._fcnt += 1 if rng.random() < 0.95 else rng.randrange(1, 60)
        payload, confirmed = rng.randbytes(rng.randrange(1, 24)), rng.random() < 0.3
        phy = frames.build_uplink(
            self._crypto,
            self._addr,
            fcnt,
            fport=1 + rng.randrange(200),
            payload=payload,
            confirmed=confirmed,
            adr=rng.random() < 0.5,
            tx_dr=5,
            tx_ch=channel,
        )
        sent = Sent(phy, CHANNELS_HZ[channel], self.eui, fcnt, payload)
        self._late = sent if confirmed else None
        return sent


@dataclass(slots=True)
class Transaction:
    """What is committed together, and what follows once it is."""

    writes: Writes
    phy: bytes | None = None  # accepted with it
    downlink: Downlink | None = None


@dataclass(slots=True)
class Result:
    frames: int = 0
    uplinks: int = 0  # accepted
    joins: int = 0  # granted, rejoins with them
    kills: int = 0
    lost: int = 0  # acceptances that a kill took back
    downlinks: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    accepted_twice: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        refused = ", ".join(f"{reason} {number}" for reason, number in self.refused.most_common())
        return (
            f"{self.frames} frames in {COPIES} copies, {self.uplinks} uplinks and {self.joins} joins accepted, "
            f"{self.kills} kills that took back {self.lost} of them, {self.downlinks} downlinks, refused: {refused}; "
            f"{self.accepted_twice} accepted twice, {len(self.problems)} problems"
        )

    def complain(self, words: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(words)


class World:
    """The server with its store, the air around it, and the judge."""

    def __init__(
        self, seed: int, db: sqlite3.Connection, *, forgets: bool, kills: float, devices: int
    ) -> None:
        self.rng = random.Random(seed)
        self.result = Result()
        self._db = db
        self._forgets = forgets
        self._kills = kills
        for migration in MIGRATIONS:
            for statement in migration.statements:
                db.execute(statement)
        self._wall_ns = 1_770_000_000 * SECOND
        self._mono_ns = 1000 * SECOND
        self._writer = store.Store()
        self._open: list[Transaction] = []  # not yet on the disk
        self._accepted: set[bytes] = set()
        self._used: set[tuple[int, bool, int]] = set()  # downlink counters: address, application's, number
        self._air: list[tuple[int, int, Sent, bytes]] = []  # heap by UTC
        self._numbers = iter(range(1 << 62))
        self._recorded: list[Sent] = []
        self._by_phy: dict[bytes, Sent] = {}
        self.devices = {
            each.eui: each
            for each in (
                Device(number, KINDS[number % len(KINDS)], random.Random(seed * 1000 + number))
                for number in range(devices)
            )
        }
        self._copies: Copies | None = None
        self.server = self._start()
        for device in self.devices.values():
            self._commit(Transaction(self.server.add_device(device.config)))
        self._flush()

    # --- a step -------------------------------------------------------------------------------------

    def step(self) -> None:
        """A device sends, or somebody repeats; then whatever has arrived by now is handled."""
        rng = self.rng
        passed_ns = rng.randrange(5, 400) * MS
        self._wall_ns += passed_ns
        self._mono_ns += passed_ns
        if rng.random() < 0.75 or not self._recorded:
            sent = rng.choice(list(self.devices.values())).next()
            self._record(sent)
            self._send(sent, COPIES)
        else:
            self._send(rng.choice(self._recorded), rng.randrange(1, COPIES + 1))
        if rng.random() < 0.02:
            self._order()
        while self._air and self._air[0][0] <= self._wall_ns:
            _, _, arrived, gateway = heapq.heappop(self._air)
            self._arrive(arrived, gateway)
        if self._copies is not None:
            for merged in self._copies.due(self._mono_ns):
                self._handle(merged.best.rx, merged.best.eui)
        if rng.random() < 0.10 or len(self._open) >= GROUP:
            self._flush()
        if rng.random() < self._kills:
            self._kill()

    def _record(self, sent: Sent) -> None:
        self._by_phy[sent.phy] = sent
        if len(self._recorded) < RECORDED:
            self._recorded.append(sent)
        else:
            self._recorded[self.rng.randrange(RECORDED)] = sent

    def _send(self, sent: Sent, copies: int) -> None:
        """Copies by several gateways: most at once, some seconds later, a few much later."""
        for gateway in self.rng.sample(GATEWAYS, copies):
            draw = self.rng.random()
            delay_ms = self.rng.randrange(80)
            if draw > 0.995:
                delay_ms = self.rng.randrange(600_000)
            elif draw > 0.9:
                delay_ms = self.rng.randrange(5_000)
            heapq.heappush(self._air, (self._wall_ns + delay_ms * MS, next(self._numbers), sent, gateway))

    def _arrive(self, sent: Sent, gateway: bytes) -> None:
        rng = self.rng
        rx = RxPacket(
            tmst=self._mono_ns // 1000 % 2**32,
            freq_hz=sent.freq_hz,
            chan=0,
            rfch=0,
            stat=1,
            modulation=LoRaModulation(7, 125_000),
            rssi_dbm=-rng.randrange(40, 120),
            lsnr_db=rng.uniform(-7, 10),
            data=sent.phy,
        )
        self.result.frames += 1
        if self._copies is None:
            self._handle(rx, gateway)
            return
        if self._copies.alone(gateway, self._mono_ns):
            self._handle(rx, gateway)
        for merged in self._copies.add(rx, gateway, self._now()):
            self._handle(merged.best.rx, merged.best.eui)

    # --- the server and its judge -------------------------------------------------------------------

    def _handle(self, rx: RxPacket, gateway: bytes) -> None:
        outcome = self.server.handle(rx, gateway, self._now())
        if isinstance(outcome, Uplink | Joined):
            self._judge(outcome, rx.data)
            self._commit(Transaction(outcome.writes, rx.data, outcome.downlink))
        else:
            self.result.refused[outcome.reason] += 1
            if outcome.writes or outcome.downlink is not None:
                self._commit(Transaction(outcome.writes, None, outcome.downlink))

    def _judge(self, outcome: Outcome, phy: bytes) -> None:
        result, sent = self.result, self._by_phy[phy]
        if phy in self._accepted:
            result.accepted_twice += 1
            result.complain(f"{sent.device} {type(outcome).__name__} {sent.fcnt} accepted twice: {phy.hex()}")
        self._accepted.add(phy)
        if isinstance(outcome, Joined):
            result.joins += 1
            return
        assert isinstance(outcome, Uplink)
        result.uplinks += 1
        if (outcome.fcnt, outcome.payload) != (sent.fcnt, sent.payload):
            result.complain(
                f"{sent.device} sent {sent.fcnt} and {outcome.fcnt} was taken, or another payload"
            )

    def _commit(self, transaction: Transaction) -> None:
        self._open.append(transaction)
        if transaction.downlink is not None and not transaction.downlink.after_commit:
            self._transmit(transaction.downlink)

    def _flush(self) -> None:
        """The log's group commit; what waited for it leaves."""
        done, self._open = self._open, []
        for transaction in done:
            for sql, parameters in transaction.writes:
                self._db.execute(sql, parameters)
        self._db.commit()
        for transaction in done:
            if transaction.downlink is not None and transaction.downlink.after_commit:
                self._transmit(transaction.downlink)

    def _transmit(self, downlink: Downlink) -> None:
        self.result.downlinks += 1
        phy = downlink.windows[0].data
        frame = frames.parse(phy)
        if isinstance(frame, frames.SealedJoinAccept):
            if self.rng.random() < 0.9 and downlink.dev_eui is not None:  # else the device does not hear it
                self.devices[downlink.dev_eui].hear(phy)
            return
        assert isinstance(frame, frames.DataFrame)
        assert downlink.fcnt is not None
        assert downlink.dev_eui is not None
        application = self.devices[downlink.dev_eui].v1_1 and bool(frame.fport)
        key = frame.dev_addr, application, downlink.fcnt
        if key in self._used:
            self.result.complain(f"two downlinks under one counter: {key}")
        self._used.add(key)
        self._commit(Transaction(self.server.sent(downlink, 1, self._now()).writes))

    def _order(self) -> None:
        device = self.rng.choice(list(self.devices.values()))
        try:
            queued = self.server.queue_downlink(
                device.eui, 7, self.rng.randbytes(5), self.rng.random() < 0.5, now=self._now()
            )
        except LorawanError:  # sixteen wait
            return
        self._commit(Transaction(queued.writes))

    def _kill(self) -> None:
        """Gone at once: what the disk had not yet is lost, and with it who was told nothing."""
        kept = self.rng.randrange(len(self._open) + 1)
        lost = self._open[kept:]
        del self._open[kept:]
        self._flush_silently()
        for transaction in lost:
            if transaction.phy is not None:
                self.result.lost += 1
                if not self._forgets:
                    self._accepted.discard(transaction.phy)
        self.result.kills += 1
        self._mono_ns = self.rng.randrange(1, 100) * SECOND
        if self._forgets:
            self._db.execute("UPDATE lorawan_uplink SET fcnt_up = max(0, fcnt_up - 20)")
            self._db.execute("DELETE FROM lorawan_dev_nonce")
            self._db.commit()
        self.server = self._start()

    def _flush_silently(self) -> None:
        for transaction in self._open:
            for sql, parameters in transaction.writes:
                self._db.execute(sql, parameters)
        self._db.commit()
        self._open = []

    def _start(self) -> NetworkServer:
        stored = self._writer.load(self._db)
        assert stored.unreadable == []
        # Every other life the copies of several gateways are merged before the server sees them.
        self._copies = Copies(100 * MS, lambda _eui: True) if self.rng.random() < 0.5 else None
        return NetworkServer(
            get_region("EU868"),
            settings=Settings(status_interval_s=0),
            writer=self._writer,
            stored=stored,
            rng=random.Random(self.rng.getrandbits(64)),
            profiles=PROFILES,
        )

    def _now(self) -> Instant:
        return Instant(self._mono_ns, self._wall_ns, TimeQuality.NTP)


def run(
    count: int,
    seed: int,
    *,
    forgets: bool = False,
    kills: float = 0.004,
    devices: int = 18,
    say: Callable[[Result], None] = lambda _result: None,
) -> Result:
    """`count` frames as gateways hear them; `kills`: the share of steps after which the server is killed."""
    with closing(sqlite3.connect(":memory:")) as db:
        world = World(seed, db, forgets=forgets, kills=kills, devices=devices)
        for _ in _until(world, count):
            world.step()
            if world.result.frames % 100_000 < 8:
                say(world.result)
        return world.result


def careless_take(counter: ReservedCounter) -> tuple[int, bool, bool]:
    """`ReservedCounter.take` for which a ceiling counts as soon as it was asked for: the control."""
    number = counter.next
    counter.next = number + 1
    covered, moved = number < counter.ceiling, number + COUNTER_AHEAD >= counter.ceiling
    if moved:
        counter.ceiling = number + 1 + COUNTER_BLOCK
    return number, covered, moved


def _until(world: World, count: int) -> Iterator[None]:
    while world.result.frames < count:
        yield

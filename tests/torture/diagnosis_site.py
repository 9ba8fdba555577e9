"""A gateway and devices to put faults into: the real LoRaWAN server and diagnosis, frames as devices build them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.codecs import CODECS, CodecError
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.diagnosis.reasons import Kind
from gateway.lorawan import frames
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import SessionCrypto, SessionKeys, derive_session_keys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Uplink
from gateway.lorawan.profile import Profile
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hub.message import TimeQuality
from radio.gwmp import RxPacket, TxError
from radio.lora import LoRaModulation
from radio.regions import get_region

SECOND = 10**9
GATEWAY_EUI = bytes.fromhex("aa555a0000000101")
NOISE = 0.3  # how often a frame of somebody else comes in between
READING = b"\x01\x67\x01\x10\x02\x68\x50"  # Cayenne: temperature, humidity


class Radio:
    """What becomes of downlinks: each is sent in its first window, unless told otherwise."""

    def __init__(self) -> None:
        self.error: TxError | None = None
        self.says = ""
        self.slow_s = 0.0  # before an answer is there
        self.window = 1


class Site:
    """A gateway with its server and diagnosis; time passes when told to."""

    def __init__(
        self, rng: random.Random, region: str = "EU868", *, hypotheses: bool = True, **settings: Any
    ):
        self.rng = rng
        self.mono_ns = 10_000 * SECOND
        self.quality = TimeQuality.NTP
        self.radio = Radio()
        self.connected = True
        self.groups: tuple[int, ...] = ()
        self.profiles: dict[str, Profile] = {}
        self.server = NetworkServer(
            get_region(region), settings=Settings(**{"status_interval_s": 0, **settings}), rng=rng
        )
        self.diagnoser = Diagnoser(
            self.server,
            hypotheses=hypotheses,
            radio_connected=lambda: self.connected,
            groups=lambda: self.groups,
        )
        self.sent: list[Downlink] = []
        self.noise = random.Random(rng.random())
        self.neighbours: list[Node] = []  # they work, and are heard now and then

    def now(self) -> Instant:
        return Instant(self.mono_ns, 1_760_000_000 * SECOND + self.mono_ns, self.quality)

    def wait(self, seconds: float) -> None:
        self.mono_ns += int(seconds * SECOND)

    def profile(self, name: str, **fields: Any) -> str:
        self.profiles[name] = Profile(name, **fields)
        self.server.use_profiles(self.profiles)
        return name

    def hear(self, phy: bytes, *, after_s: float = 20, **radio: Any) -> Outcome:
        """A frame comes in, and its answer goes out. Now and then somebody else's came before."""
        self.wait(after_s)
        if self.noise.random() < NOISE:
            self._somebody()
        return self._hear(self.rx(phy, **radio))

    def _somebody(self) -> None:
        """A frame that has nothing to do with the fault."""
        stranger = Node.new(self.noise)
        match self.noise.randrange(3):
            case 0:
                self._hear(self.rx(stranger.request()))
            case 1:
                stranger.start_abp()
                self._hear(self.rx(stranger.uplink()))
            case _:
                for neighbour in self.neighbours:
                    self._hear(self.rx(neighbour.uplink()))

    def _hear(self, rx: RxPacket) -> Outcome:
        outcome = self.server.handle(rx, GATEWAY_EUI, self.now())
        self.diagnoser.outcome(outcome, GATEWAY_EUI, self.now())
        if isinstance(outcome, Uplink) and outcome.fport:
            try:
                codec = CODECS[outcome.device.config.codec]
                codec.decode(outcome.fport, outcome.payload, 0.0, outcome.device.base_name)
            except CodecError as error:
                self.diagnoser.undecodable(outcome, str(error), self.now())
        if outcome.downlink is not None:
            self.send(outcome.downlink)
        return outcome

    def send(self, downlink: Downlink) -> None:
        """The radio's answer to an order."""
        self.sent.append(downlink)
        if self.radio.slow_s:
            self.wait(self.radio.slow_s)
        if self.radio.error is not None:
            self.diagnoser.failed(downlink, self.radio.error, self.now(), radio_says=self.radio.says)
            self.server.failed(downlink, self.radio.error, self.now())
        else:
            window = min(self.radio.window, len(downlink.windows))
            self.diagnoser.sent(downlink, window, self.now())
            self.server.sent(downlink, window, self.now())

    def rx(
        self,
        phy: bytes,
        *,
        sf: int = 7,
        bw_hz: int = 125_000,
        snr_db: float = 7.0,
        freq_hz: int = 868_100_000,
        stat: int = 1,
    ) -> RxPacket:
        return RxPacket(
            tmst=self.mono_ns // 1000 % 2**32,
            freq_hz=freq_hz,
            chan=0,
            rfch=0,
            stat=stat,
            modulation=LoRaModulation(sf, bw_hz),
            rssi_dbm=-87,
            lsnr_db=snr_db,
            data=phy,
        )

    def look(self) -> None:
        """The regular look, often enough to see every device."""
        for _ in range(2):
            self.wait(5)
            self.diagnoser.tick(self.now())


@dataclass
class Node:
    """A device as it is set up; what is registered may differ."""

    dev_eui: DevEUI
    join_eui: JoinEUI
    app_key: AES128Key
    nwk_key: AES128Key
    dev_addr: DevAddr
    nwk_s_key: AES128Key
    app_s_key: AES128Key
    dev_nonce: int = 0
    fcnt: int = 0
    crypto: SessionCrypto | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls, rng: random.Random) -> Node:
        def key() -> AES128Key:
            return AES128Key(rng.randbytes(16))

        return cls(
            DevEUI(0x70B3D57E00000000 | rng.getrandbits(32)),
            JoinEUI(0x70B3D57ED0000000 | rng.getrandbits(28)),
            key(),
            key(),
            DevAddr(rng.getrandbits(25)),
            key(),
            key(),
            dev_nonce=rng.randrange(1000),
        )

    def otaa(self, **changes: Any) -> DeviceConfig:
        """What is to be registered for joining."""
        fields: dict[str, Any] = {
            "dev_eui": self.dev_eui,
            "name": "shed",
            "join_eui": self.join_eui,
            "app_key": self.app_key,
        }
        return DeviceConfig(**(fields | changes))

    def abp(self, **changes: Any) -> DeviceConfig:
        """What is to be registered for fixed keys; the device has them from now on."""
        self.start_abp()
        fields: dict[str, Any] = {
            "dev_eui": self.dev_eui,
            "name": "shed",
            "activation": Activation.ABP,
            "dev_addr": self.dev_addr,
            "nwk_s_key": self.nwk_s_key,
            "app_s_key": self.app_s_key,
        }
        return DeviceConfig(**(fields | changes))

    def start_abp(self) -> None:
        self.crypto = SessionCrypto(self.dev_addr, SessionKeys.of_1_0(self.nwk_s_key, self.app_s_key))

    def request(self, key: AES128Key | None = None) -> bytes:
        phy = frames.build_join_request(key or self.app_key, self.join_eui, self.dev_eui, self.dev_nonce)
        self.dev_nonce += 1
        return phy

    def uplink(self, payload: bytes = READING, *, fport: int | None = 1, **flags: Any) -> bytes:
        assert self.crypto is not None
        data = payload if fport is not None else b""
        phy = frames.build_uplink(self.crypto, self.dev_addr, self.fcnt, fport=fport, payload=data, **flags)
        self.fcnt += 1
        return phy

    def hear_accept(self, phy: bytes) -> None:
        accept = frames.open_join_accept(self.app_key, phy)
        self.dev_addr, self.fcnt = accept.dev_addr, 0
        keys = derive_session_keys(self.app_key, accept.join_nonce, accept.net_id, self.dev_nonce - 1)
        self.crypto = SessionCrypto(self.dev_addr, keys)


def joined(site: Site, node: Node, **changes: Any) -> Node:
    """Register it, let it join and send a few good uplinks."""
    site.server.add_device(node.otaa(**changes))
    outcome = site.hear(node.request())
    assert isinstance(outcome, Joined)
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    good(site, node)
    return node


def abp(site: Site, node: Node, **changes: Any) -> Node:
    """Register it for ABP and let it send a few good uplinks."""
    site.server.add_device(node.abp(**changes))
    good(site, node)
    return node


def good(site: Site, node: Node, number: int = 3) -> None:
    for _ in range(number):
        assert isinstance(site.hear(node.uplink()), Uplink)


def other_digit(rng: random.Random, number: int, digits: int) -> int:
    """One wrong hex digit, or two neighbours swapped."""
    if rng.random() < 0.3:
        text = f"{number:0{digits}x}"
        places = [i for i in range(digits - 1) if text[i] != text[i + 1]]
        if places:
            at = rng.choice(places)
            return int(text[:at] + text[at + 1] + text[at] + text[at + 2 :], 16)
    return number ^ rng.randrange(1, 16) << 4 * rng.randrange(digits)


def key_off(rng: random.Random, key: AES128Key) -> AES128Key:
    return AES128Key(other_digit(rng, int.from_bytes(key.value, "big"), 32).to_bytes(16, "big"))


def turned(key: AES128Key) -> AES128Key:
    return AES128Key(key.value[::-1])


Fault = Callable[[random.Random, bool], tuple[Site, str]]
FAULTS: dict[Kind, list[Fault]] = {}


def fault(kind: Kind) -> Callable[[Fault], Fault]:
    """Note an injection: it gives the site and the subject that should be diagnosed."""

    def note(inject: Fault) -> Fault:
        FAULTS.setdefault(kind, []).append(inject)
        return inject

    return note


def site_of(rng: random.Random, on: bool, region: str = "EU868", **settings: Any) -> Site:
    site = Site(rng, region, hypotheses=on, **settings)
    if region == "EU868":
        site.neighbours.append(joined(site, Node.new(rng), name="a neighbour that works"))
    return site

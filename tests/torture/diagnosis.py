"""Faults of devices and gateways, injected one by one, and what the diagnosis makes of each.

Frames are built as a device builds them and go through the real LoRaWAN server; the gateway's radio is told to
behave as the fault asks. Each fault has variants, chosen by its seed. `run` counts what was said against what was
wrong: the confusion table of `run.py diagnosis`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.codecs import CODECS, CodecError
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.diagnosis.finding import GATEWAY
from gateway.diagnosis.reasons import Kind
from gateway.link import NOT_ANSWERED, NOT_ASKED
from gateway.lorawan import frames
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import SessionCrypto, SessionKeys, derive_session_keys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Uplink
from gateway.lorawan.profile import DeviceClass, Profile, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hub.message import TimeQuality
from radio.gwmp import RxPacket, TxError
from radio.lora import LoRaModulation
from radio.regions import get_region

SECOND = 10**9
GATEWAY_EUI = bytes.fromhex("aa555a0000000101")
RIGHT = 0.95  # of the faults have to be named
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


def _site(rng: random.Random, on: bool, region: str = "EU868", **settings: Any) -> Site:
    site = Site(rng, region, hypotheses=on, **settings)
    if region == "EU868":
        site.neighbours.append(joined(site, Node.new(rng), name="a neighbour that works"))
    return site


# Joining


@fault(Kind.DEV_EUI_UNKNOWN)
def unregistered(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    for _ in range(rng.randint(1, 4)):
        site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.DEV_EUI_REVERSED)
def dev_eui_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(dev_eui=node.dev_eui.reversed))
    site.hear(node.request())
    return site, str(node.dev_eui.reversed)


@fault(Kind.DEV_EUI_DIGITS)
def dev_eui_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    typed = DevEUI(other_digit(rng, node.dev_eui, 16))
    site.server.add_device(node.otaa(dev_eui=typed))
    site.hear(node.request())
    return site, str(typed)


@fault(Kind.EUIS_EXCHANGED)
def euis_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(dev_eui=DevEUI(node.join_eui), join_eui=JoinEUI(node.dev_eui)))
    site.hear(node.request())
    return site, str(node.join_eui)


@fault(Kind.JOIN_EUI_WRONG)
def join_eui_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(join_eui=JoinEUI(rng.getrandbits(64))))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.JOIN_EUI_REVERSED)
def join_eui_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(join_eui=node.join_eui.reversed))
    site.hear(node.request())
    return site, str(node.dev_eui)


def _wrong_key(rng: random.Random, on: bool, registered: AES128Key, node: Node) -> tuple[Site, str]:
    site = _site(rng, on)
    site.server.add_device(node.otaa(app_key=registered))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.APP_KEY_WRONG)
def app_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _wrong_key(rng, on, AES128Key(rng.randbytes(16)), Node.new(rng))


@fault(Kind.APP_KEY_REVERSED)
def app_key_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    return _wrong_key(rng, on, turned(node.app_key), node)


@fault(Kind.APP_KEY_DIGITS)
def app_key_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    return _wrong_key(rng, on, key_off(rng, node.app_key), node)


@fault(Kind.APP_KEY_EXAMPLE)
def app_key_example(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    node.app_key = AES128Key(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    return _wrong_key(rng, on, AES128Key(rng.randbytes(16)), node)


@fault(Kind.APP_KEY_OF_ANOTHER)
def app_key_of_another(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node, other = _site(rng, on), Node.new(rng), Node.new(rng)
    for _ in range(rng.randrange(20)):
        site.server.add_device(Node.new(rng).otaa())
    site.server.add_device(node.otaa(app_key=other.app_key))
    site.server.add_device(other.otaa(app_key=node.app_key))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.ROOT_KEYS_EXCHANGED)
def root_keys_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    site.server.add_device(node.otaa(app_key=node.nwk_key, nwk_key=node.app_key, profile=name))
    node.dev_nonce = rng.randrange(50)  # a counter
    site.hear(node.request(node.nwk_key))
    return site, str(node.dev_eui)


@fault(Kind.DEV_NONCE_REUSED)
def dev_nonce_reused(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    first = node.dev_nonce
    joined(site, node)
    for _ in range(rng.randint(0, 3)):
        outcome = site.hear(node.request())
        assert outcome.downlink is not None
        node.hear_accept(outcome.downlink.windows[0].data)
        good(site, node, 1)
    node.dev_nonce = first
    site.hear(node.request(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.JOIN_REPLAYED)
def join_replayed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    request = node.request()
    outcome = site.hear(request)
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    good(site, node)
    for _ in range(rng.randint(2, 4)):
        site.hear(request, after_s=100)
        good(site, node, 1)
    return site, str(node.dev_eui)


@fault(Kind.JOINS_BUT_ABP)
def joins_but_abp(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.abp())
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.ABP_BUT_OTAA)
def abp_but_otaa(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    if rng.random() < 0.5:
        node.dev_addr = DevAddr(node.dev_eui & 0xFFFF_FFFF)  # as many makers set it
    else:
        node.nwk_s_key = node.app_key
    site.server.add_device(node.otaa())
    node.start_abp()
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


def _deaf(rng: random.Random, site: Site, *, gap_s: float, **radio: Any) -> tuple[Site, str]:
    """A device that never hears its join-accept."""
    node = Node.new(rng)
    site.server.add_device(node.otaa())
    for _ in range(rng.randint(2, 4)):
        site.hear(node.request(), after_s=gap_s, **radio)
    return site, str(node.dev_eui)


@fault(Kind.JOIN_ASKED_TOO_SOON)
def asks_too_soon(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, _site(rng, on), gap_s=rng.uniform(2.2, 4.5))


@fault(Kind.JOIN_ACCEPT_LATE)
def join_accept_late(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    site.radio.error, site.radio.slow_s = TxError.TOO_LATE, rng.uniform(6.1, 7)
    return _deaf(rng, site, gap_s=rng.uniform(15, 60))


@fault(Kind.JOIN_ACCEPT_WEAK)
def join_accept_weak(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, _site(rng, on), gap_s=rng.uniform(15, 60), sf=12, snr_db=rng.uniform(-20, -15.5))


@fault(Kind.JOIN_ACCEPT_IN_RX2)
def join_accept_in_rx2(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    site.radio.window = 2
    return _deaf(rng, site, gap_s=rng.uniform(15, 60))


@fault(Kind.JOIN_ACCEPT_UNHEARD)
def join_accept_unheard(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, _site(rng, on), gap_s=rng.uniform(15, 60), snr_db=rng.uniform(0, 10))


@fault(Kind.JOIN_CHANNEL)
def join_channel(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=rng.choice((867_100_000, 867_300_000, 867_900_000)))
    return site, str(node.dev_eui)


# Versions


@fault(Kind.IS_1_1)
def is_1_1(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.abp())
    keys = SessionKeys(
        node.nwk_s_key, AES128Key(rng.randbytes(16)), AES128Key(rng.randbytes(16)), node.app_s_key
    )
    node.crypto = SessionCrypto(node.dev_addr, keys, v1_1=True)
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.IS_1_1)
def joins_as_1_1(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(nwk_key=node.nwk_key))
    site.hear(node.request(node.nwk_key))
    return site, str(node.dev_eui)


@fault(Kind.IS_1_0)
def joins_as_1_0(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    node.dev_nonce = rng.randrange(1000, 65_000)  # drawn
    site.server.add_device(node.otaa(nwk_key=AES128Key(rng.randbytes(16)), profile=name))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.REJOIN_REFUSED)
def rejoin_refused(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    phy = frames.build_rejoin_request(node.nwk_key, 0, node.dev_eui, rng.randrange(100), net_id=0)
    site.hear(phy)
    return site, str(node.dev_eui)


@fault(Kind.IS_1_0)
def is_1_0(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    extra = {"s_nwk_s_int_key": AES128Key(rng.randbytes(16)), "nwk_s_enc_key": AES128Key(rng.randbytes(16))}
    site.server.add_device(node.abp(profile=name, **extra))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


# Addresses and session keys


@fault(Kind.DEV_ADDR_UNKNOWN)
def dev_addr_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    node.start_abp()
    node.fcnt = rng.randrange(5000)
    site.hear(node.uplink())
    return site, str(node.dev_addr)


@fault(Kind.DEV_ADDR_OTHER_NETWORK)
def dev_addr_other_network(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    node.dev_addr = DevAddr(rng.choice((0x26000000, 0xFC000000, 0xE0100000)) | rng.getrandbits(16))
    node.start_abp()
    site.hear(node.uplink())
    return site, str(node.dev_addr)


@fault(Kind.DEV_ADDR_REVERSED)
def dev_addr_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    typed = DevAddr(int.from_bytes(node.dev_addr.to_bytes(4, "big"), "little"))
    site.server.add_device(node.abp(dev_addr=typed))
    site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.DEV_ADDR_DIGITS)
def dev_addr_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.abp(dev_addr=DevAddr(other_digit(rng, node.dev_addr, 8))))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.DEV_ADDR_SHARED)
def dev_addr_shared(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    foreign = Node.new(rng)
    foreign.dev_addr, foreign.fcnt = node.dev_addr, rng.randrange(1000, 60_000)
    foreign.start_abp()
    for _ in range(rng.randint(1, 3)):
        good(site, node, rng.randint(1, 2))
        site.hear(foreign.uplink())
    return site, str(node.dev_eui)


@fault(Kind.SESSION_ENDED)
def session_ended(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    old_crypto, old_addr, old_fcnt = node.crypto, node.dev_addr, node.fcnt
    outcome = site.hear(node.request())
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    good(site, node)
    node.crypto, node.dev_addr, node.fcnt = old_crypto, old_addr, old_fcnt
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


def _fixed(rng: random.Random, on: bool, **changes: Callable[[Node], AES128Key]) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    node.fcnt = rng.choice((0, rng.randrange(60_000)))
    site.server.add_device(node.abp(**{name: make(node) for name, make in changes.items()}))
    for _ in range(rng.randint(1, 4)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.NWK_S_KEY_WRONG)
def nwk_s_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda _: AES128Key(rng.randbytes(16)))


@fault(Kind.NWK_S_KEY_WRONG)
def nwk_s_key_changed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = abp(site, Node.new(rng))
    node.nwk_s_key = AES128Key(rng.randbytes(16))
    node.start_abp()
    node.fcnt = rng.choice((0, node.fcnt))
    for _ in range(rng.randint(5, 8)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.NWK_S_KEY_REVERSED)
def nwk_s_key_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: turned(node.nwk_s_key))


@fault(Kind.NWK_S_KEY_DIGITS)
def nwk_s_key_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: key_off(rng, node.nwk_s_key))


@fault(Kind.SESSION_KEYS_EXCHANGED)
def session_keys_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: node.app_s_key, app_s_key=lambda node: node.nwk_s_key)


def _readings(rng: random.Random, site: Site, node: Node, number: int) -> None:
    """What a thermometer says: alike, and never twice the same."""
    for _ in range(number):
        value = rng.randrange(150, 250).to_bytes(2, "big")
        site.hear(
            node.uplink(
                b"\x01\x67" + value + b"\x02\x68" + bytes((rng.randrange(60, 120),)) + b"\x03\x00\x01"
            )
        )


@fault(Kind.APP_S_KEY_WRONG)
def app_s_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    kind = rng.randrange(3)
    registered = (AES128Key(rng.randbytes(16)), turned(node.app_s_key), key_off(rng, node.app_s_key))[kind]
    site.server.add_device(node.abp(app_s_key=registered))
    _readings(rng, site, node, rng.randint(4, 8))
    return site, str(node.dev_eui)


@fault(Kind.CODEC_FAILED)
def codec_failed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = Node.new(rng)
    joined_or_abp = rng.choice((joined, abp))
    joined_or_abp(site, node)
    for _ in range(rng.randint(3, 6)):
        site.hear(node.uplink(b"\xff\xee\x10\x02" + bytes((rng.randrange(256),)) + b"\x00\x00\x07"))
    return site, str(node.dev_eui)


# Counters and repetitions


@fault(Kind.COUNTER_RESET)
def counter_reset(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = abp(site, Node.new(rng))
    good(site, node, rng.randint(2, 12))
    node.fcnt = 0
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.COUNTER_RESET)
def counter_set_back(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Its counter is saved now and then only: after a power cut it goes on from an older one."""
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    node.fcnt += 1000
    good(site, node)
    node.fcnt -= rng.randint(50, 900)
    for _ in range(rng.randint(2, 4)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.SHORT_COUNTER)
def short_counter(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    node.fcnt = 65_536 - rng.randint(1, 5)
    good(site, node, 65_536 - node.fcnt)
    node.fcnt = 0
    for _ in range(rng.randint(1, 4)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.COUNTER_GAP)
def counter_gap(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    node.fcnt += 65_536 * rng.randint(3, 40) + rng.randrange(1000)
    site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.FRAME_REPLAYED)
def frame_replayed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    recorded = []
    for _ in range(6):
        recorded.append(node.uplink())
        site.hear(recorded[-1])
    good(site, node, 2)
    for _ in range(rng.randint(2, 4)):
        site.hear(rng.choice(recorded), after_s=rng.choice((0.5, 30)))
        good(site, node, 1)
    site.hear(rng.choice(recorded), after_s=rng.choice((0.5, 30)))
    return site, str(node.dev_eui)


@fault(Kind.DUPLICATE_FLOOD)
def duplicate_flood(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    for _ in range(4):
        frame = node.uplink()
        site.hear(frame, after_s=5)
        for _ in range(12):
            site.hear(frame, after_s=0.01)
    return site, str(node.dev_eui)


@fault(Kind.ACK_UNHEARD)
def ack_unheard(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    frame = node.uplink(confirmed=True)
    for _ in range(rng.randint(4, 8)):
        site.hear(frame, after_s=rng.uniform(3, 8))
    return site, str(node.dev_eui)


@fault(Kind.FRAME_DAMAGED)
def frame_damaged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    damaged = bytearray(node.uplink())
    damaged[rng.randrange(8, len(damaged))] ^= rng.randrange(1, 256)
    site.hear(bytes(damaged))
    return site, str(node.dev_eui)


@fault(Kind.CRC_ERRORS)
def crc_errors(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    for _ in range(rng.randint(1, 5)):
        damaged = bytearray(node.uplink())
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        site.hear(bytes(damaged), stat=-1)
    return site, GATEWAY


# Channels and data rates


@fault(Kind.WRONG_REGION)
def wrong_region(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on, "US915"), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=rng.choice((868_100_000, 868_300_000, 433_175_000)))
    return site, str(node.dev_eui)


@fault(Kind.CHANNEL_UNKNOWN)
def channel_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    site.hear(node.uplink(), freq_hz=rng.choice((867_100_000, 867_500_000, 869_525_000)))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.DATA_RATE_UNKNOWN)
def data_rate_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = abp(site, Node.new(rng))
    site.hear(node.uplink(), sf=rng.choice((8, 9)), bw_hz=500_000)
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.SUB_BAND_OTHER)
def sub_band_other(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on, "US915", uplink_channels=tuple(range(8, 16))), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=902_300_000 + 200_000 * rng.randrange(8))
    return site, str(node.dev_eui)


# Downlinks


def _confirmed(rng: random.Random, site: Site, number: int) -> str:
    node = joined(site, Node.new(rng))
    for _ in range(number):
        site.hear(node.uplink(confirmed=True), after_s=60)
    return str(node.dev_eui)


@fault(Kind.RX_WINDOW_MISSED)
def rx_window_missed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    site.radio.error, site.radio.slow_s = TxError.TOO_LATE, rng.uniform(2.01, 3)
    site.hear(node.uplink(confirmed=True))
    return site, str(node.dev_eui)


def _refused(error: TxError, kind: Kind, says: str = "") -> None:
    def inject(rng: random.Random, on: bool) -> tuple[Site, str]:
        site = _site(rng, on)
        node = joined(site, Node.new(rng))
        site.radio.error, site.radio.says = error, says
        for _ in range(rng.randint(1, 3)):
            site.hear(node.uplink(confirmed=True))
        return site, str(node.dev_eui)

    fault(kind)(inject)


_refused(TxError.TOO_EARLY, Kind.DOWNLINK_TOO_EARLY)
_refused(TxError.COLLISION_PACKET, Kind.DOWNLINK_COLLISION)
_refused(TxError.COLLISION_BEACON, Kind.BEACON_COLLISION)
_refused(TxError.COLLISION_PACKET, Kind.DUTY_CYCLE_USED, "the duty cycle of 868-868.6 MHz is used up")
_refused(TxError.TOO_LATE, Kind.FORWARDER_GONE, NOT_ASKED)
_refused(TxError.TOO_LATE, Kind.FORWARDER_GONE, NOT_ANSWERED)
_refused(TxError.TX_FREQ, Kind.FREQUENCY_REFUSED)
_refused(TxError.TX_POWER, Kind.POWER_REFUSED)
_refused(TxError.GPS_UNLOCKED, Kind.GPS_UNLOCKED)


@fault(Kind.NO_WINDOW)
def no_window(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Under a dwell limit the slowest data rates carry nothing."""
    site, node = _site(rng, on, "AS923-1", limit_dwell=True, rx2_dr=0), Node.new(rng)
    site.server.add_device(node.otaa())
    outcome = site.hear(node.request(), freq_hz=923_200_000)
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    site.hear(node.uplink(), freq_hz=923_200_000)
    site.hear(node.uplink(confirmed=True), freq_hz=923_200_000, sf=12)
    return site, str(node.dev_eui)


@fault(Kind.DOWNLINK_UNACKNOWLEDGED)
def downlink_unacknowledged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    site.server.queue_downlink(node.dev_eui, 10, b"\x01", True, now=site.now())
    for _ in range(rng.randint(4, 6)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.CLASS_MISMATCH)
def class_mismatch(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    name = site.profile("valve", device_class=DeviceClass.C)
    node = joined(site, Node.new(rng), profile=name)
    site.server.queue_downlink(node.dev_eui, 10, b"\x01", True, now=site.now())
    for _ in range(rng.randint(40, 80)):
        site.wait(1)
        for downlink in site.server.due(site.now()).downlinks:
            site.send(downlink)
    return site, str(node.dev_eui)


# The device


@fault(Kind.SILENT)
def silent(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    interval_s = rng.choice((600, 3600, 86_400))
    node = joined(site, Node.new(rng), profile=site.profile("often", expected_interval_s=interval_s))
    site.look()
    site.wait(interval_s * rng.uniform(2.6, 5))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.NEVER_HEARD)
def never_heard(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    site.look()
    site.wait(rng.uniform(3700, 7200))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.WEAK_SIGNAL)
def weak_signal(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(), snr_db=rng.uniform(-8, -4.6))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.LOW_BATTERY)
def low_battery(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on, status_interval_s=3600)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(fopts=bytes((0x06, rng.randint(1, 25), 10))))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.FPORT_ZERO)
def fport_zero(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    frame = frames.build_uplink(
        node.crypto,  # type: ignore[arg-type]  # it has joined
        node.dev_addr,
        node.fcnt,
        fport=0,
        payload=b"\xaa\x01" + rng.randbytes(5),
    )
    site.hear(frame)
    return site, str(node.dev_eui)


@fault(Kind.MAC_UNREADABLE)
def mac_unreadable(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(fopts=bytes((0x70, rng.randrange(256)))))
    return site, str(node.dev_eui)


@fault(Kind.MULTICAST_UPLINK)
def multicast_uplink(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = abp(site, Node.new(rng))
    site.groups = (int(node.dev_addr),)
    site.hear(node.uplink(confirmed=True))
    return site, str(node.dev_eui)


# The gateway and the air


@fault(Kind.RADIO_SILENT)
def radio_silent(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    site.connected = False
    site.look()
    site.wait(rng.uniform(60, 600))
    site.look()
    return site, GATEWAY


@fault(Kind.TIME_UNSET)
def time_unset(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    node = joined(site, Node.new(rng))
    site.quality = TimeQuality.UNSET
    site.hear(node.uplink(fopts=b"\x0d"))
    return site, GATEWAY


@fault(Kind.FOREIGN_GATEWAY)
def foreign_gateway(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = _site(rng, on), Node.new(rng)
    node.start_abp()
    assert node.crypto is not None
    site.hear(frames.build_downlink(node.crypto, node.dev_addr, rng.randrange(100), fport=1, payload=b"\x01"))
    return site, GATEWAY


@fault(Kind.NOT_LORAWAN)
def not_lorawan(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = _site(rng, on)
    site.hear(bytes((0x01, 0x02)) + rng.randbytes(rng.randrange(20)))
    return site, GATEWAY


@dataclass
class Result:
    """What was said of what was wrong."""

    said: dict[Kind, Counter[str]] = field(default_factory=dict)

    @property
    def injected(self) -> int:
        return sum(said.total() for said in self.said.values())

    @property
    def right(self) -> int:
        return sum(said[kind.value] for kind, said in self.said.items())

    @property
    def share(self) -> float:
        return self.right / self.injected if self.injected else 0.0

    def table(self) -> str:
        """One line a fault: how often it was named, and what was said instead."""
        lines = [f"{'injected':26} {'times':>6} {'right':>6}  said instead"]
        for kind, said in self.said.items():
            wrong = ", ".join(f"{name} {n}" for name, n in said.most_common() if name != kind.value)
            lines.append(f"{kind.value:26} {said.total():6} {said[kind.value]:6}  {wrong}")
        lines.append(
            f"{len(self.said)} kinds, {self.injected} faults, {self.right} diagnosed right:"
            f" {100 * self.share:.1f} %"
        )
        return "\n".join(lines)


def run(seeds: int, first_seed: int = 1, *, hypotheses: bool = True) -> Result:
    """Inject each variant of each fault with so many seeds."""
    result = Result()
    for kind, variants in FAULTS.items():
        said = result.said[kind] = Counter()
        for variant in variants:
            for seed in range(first_seed, first_seed + seeds):
                rng = random.Random(f"{kind} {variant.__name__} {seed}")
                site, subject = variant(rng, hypotheses)
                found = site.diagnoser.verdict(subject)
                if found is None:  # it is over already: what was it?
                    found = next(iter(site.diagnoser.search(dev_eui=subject)), None) if subject else None
                said[found.kind.value if found is not None else "nothing"] += 1
    return result

"""A device as the server knows it: what was registered, its sessions, its downlink orders, its radio link.

These are the server's mutable state. Each collection has a bound, written beside it with its reason.
"""

from __future__ import annotations

import enum
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.errors import OrderError
from gateway.lorawan.heardrate import HeardRate
from gateway.lorawan.macstate import MacState
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from radio.gwmp import RxPacket

MAX_PENDING_SESSIONS = 4  # joins not yet confirmed by an uplink; a device retries, the last few may be live
COUNTER_BLOCK = 64  # downlink counters reserved at a time
COUNTER_AHEAD = 32  # a new block is reserved when this few are left
_PAGE = 32  # bytes: the DevNonces of one high byte
_ALL = bytes([0xFF]) * (256 * _PAGE)
_MOST_LISTED = 2048  # DevNonces, in 4 KiB


class Activation(enum.StrEnum):
    OTAA = "otaa"
    ABP = "abp"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """What was registered. Raises OrderError where keys or addresses of the activation are missing."""

    dev_eui: DevEUI
    activation: Activation = Activation.OTAA
    name: str = ""
    join_eui: JoinEUI | None = None  # OTAA; None accepts any
    app_key: AES128Key | None = None  # OTAA
    nwk_key: AES128Key | None = None  # OTAA of 1.1: its other root key
    dev_addr: DevAddr | None = None  # ABP, as the next ones
    nwk_s_key: AES128Key | None = None  # of 1.1: its FNwkSIntKey
    app_s_key: AES128Key | None = None
    s_nwk_s_int_key: AES128Key | None = None  # ABP of 1.1, as the next one
    nwk_s_enc_key: AES128Key | None = None
    codec: str = "cayenne"
    thing_id: str = ""
    channel_id: str = ""
    profile: str = DEFAULT_NAME

    def __post_init__(self) -> None:
        if self.activation is Activation.OTAA:
            if self.app_key is None:
                raise OrderError("an OTAA device needs its AppKey")
        elif self.dev_addr is None or self.nwk_s_key is None or self.app_s_key is None:
            raise OrderError("an ABP device needs DevAddr, NwkSKey and AppSKey")
        elif (self.s_nwk_s_int_key is None) != (self.nwk_s_enc_key is None):
            raise OrderError(
                "an ABP device of LoRaWAN 1.1 needs all of FNwkSIntKey, SNwkSIntKey and NwkSEncKey"
            )

    @property
    def abp_keys(self) -> tuple[SessionKeys, bool]:
        """The keys of an ABP device and whether they are those of 1.1."""
        assert self.nwk_s_key is not None
        assert self.app_s_key is not None
        if self.s_nwk_s_int_key is None or self.nwk_s_enc_key is None:
            return SessionKeys.of_1_0(self.nwk_s_key, self.app_s_key), False
        return SessionKeys(self.nwk_s_key, self.s_nwk_s_int_key, self.nwk_s_enc_key, self.app_s_key), True


@dataclass(slots=True)
class ReservedCounter:
    """A counter that never goes back, without a write for each number.

    `ceiling` is stored; after a restart counting goes on there. A new ceiling is asked for while
    COUNTER_AHEAD numbers are still covered by the old one, so that no number waits for a commit. Those right
    after a restart do: the ceiling asked for by the first of them may not be on the disk yet.
    """

    next: int
    ceiling: int  # numbers below are covered by what was handed to the store
    _sure: int = -1  # and below this by what is surely on the disk
    _moved_at: int = -COUNTER_AHEAD  # the number that asked for `ceiling`

    def __post_init__(self) -> None:
        if self._sure < 0:
            self._sure = self.ceiling

    def take(self) -> tuple[int, bool, bool]:
        """The next number; whether it was covered already; whether `ceiling` has moved and must be stored."""
        number = self.next
        self.next = number + 1
        if number >= self._sure and number - self._moved_at >= COUNTER_AHEAD // 2:
            self._sure = self.ceiling
        covered = number < self._sure
        moved = number + COUNTER_AHEAD >= self.ceiling
        if moved:
            self.ceiling = number + 1 + COUNTER_BLOCK
            self._moved_at = number
        return number, covered, moved


class DevNonces:
    """Every DevNonce a device has used: 2 bytes each while they are few, then a bit for each there is, 8 KiB.

    Stored in pages: 256 bits for each high byte seen.
    """

    __slots__ = ("_bits", "_few")

    def __init__(self) -> None:
        self._few: array[int] | None = array("H")  # ascending; None: see the bits
        self._bits: bytes | bytearray = b""  # by value, least significant first

    def restore(self, high: int, used: bytes) -> None:
        """Take back what `add` gave to store."""
        for low in range(8 * min(len(used), _PAGE)):
            if used[low >> 3] & 1 << (low & 7):
                self._insert(high << 8 | low)

    def __contains__(self, dev_nonce: int) -> bool:
        few = self._few
        if few is None:
            return bool(self._bits[dev_nonce >> 3] & 1 << (dev_nonce & 7))
        at = bisect_left(few, dev_nonce)
        return at < len(few) and few[at] == dev_nonce

    @property
    def highest(self) -> int:
        """The greatest one used; -1 where there is none."""
        if self._few is not None:
            return self._few[-1] if self._few else -1
        used = self._bits.rstrip(b"\0")
        return 8 * (len(used) - 1) + used[-1].bit_length() - 1

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """All that is remembered, as `restore` takes it."""
        for high in range(256):
            page = self._page(high)
            if any(page):
                yield high, page

    def clear(self) -> None:
        """Begin anew: every value may be used again."""
        self._few, self._bits = array("H"), b""

    def add(self, dev_nonce: int) -> tuple[int, bytes]:
        """Remember it; returns the (high byte, bitmap) to store."""
        self._insert(dev_nonce)
        return dev_nonce >> 8, self._page(dev_nonce >> 8)

    def _insert(self, dev_nonce: int) -> None:
        few = self._few
        if few is None:
            if dev_nonce not in self:
                assert isinstance(self._bits, bytearray)
                self._bits[dev_nonce >> 3] |= 1 << (dev_nonce & 7)
                if self._bits == _ALL:
                    self._bits = _ALL  # one for all devices that have used them up
            return
        at = bisect_left(few, dev_nonce)
        if at < len(few) and few[at] == dev_nonce:
            return
        few.insert(at, dev_nonce)
        if len(few) > _MOST_LISTED:
            bits = bytearray(len(_ALL))
            for each in few:
                bits[each >> 3] |= 1 << (each & 7)
            self._few, self._bits = None, bits

    def _page(self, high: int) -> bytes:
        few = self._few
        if few is None:
            return bytes(self._bits[high * _PAGE : (high + 1) * _PAGE])
        page = bytearray(_PAGE)
        for each in few[bisect_left(few, high << 8) : bisect_left(few, (high + 1) << 8)]:
            page[each >> 3 & 31] |= 1 << (each & 7)
        return bytes(page)


class OrderState(enum.Enum):
    QUEUED = enum.auto()
    IN_FLIGHT = enum.auto()  # handed to a gateway, which has not yet answered
    AWAITING_ACK = enum.auto()  # confirmed, sent


@dataclass(slots=True)
class Order:
    """A downlink that a user or an application wants sent."""

    id: str
    fport: int
    payload: bytes
    confirmed: bool
    number: int  # place in the order of arrival, across all devices
    state: OrderState = OrderState.QUEUED
    attempts: int = 0  # transmissions handed to a gateway
    priority: int = 0  # 0..255, the highest goes first
    queued_ns: int = 0  # UTC
    expires_ns: int | None = None  # UTC
    fcnt: int | None = None  # FCntDown of the last attempt
    since_ns: int = 0  # monotonic: when it went into its state
    too_long: int = 0  # uplinks whose windows could not carry it
    refusals: int = 0  # by the radio, of one that answers no uplink
    held: str = ""  # why it still waits, for people
    not_before_ns: int = 0  # monotonic: a busy radio is not asked again before


@dataclass(slots=True, eq=False)
class Session:
    """One activation: an address with its keys, counters and agreed settings."""

    id: int
    device: Device
    dev_addr: DevAddr
    keys: SessionKeys = field(repr=False)
    rx1_delay_s: int
    rx1_dr_offset: int
    rx2_dr: int
    fcnt_down: ReservedCounter  # in 1.1 NFCntDown: of downlinks without FPort or on FPort 0
    rx2_freq_hz: int | None = None  # None: the region's
    v1_1: bool = False
    fcnt_down_app: ReservedCounter | None = None  # AFCntDown of 1.1: of downlinks on an FPort above 0
    confirmed_down: int | None = None  # FCntDown of the confirmed downlink that waits for its ACK
    rj_count0: int = -1  # last RJcount0 taken, of rejoin-requests of type 0 and 2
    join_eui: JoinEUI | None = None  # that of the join; rejoin-requests of type 0 and 2 do not name it
    fcnt_up: int | None = None  # of the last accepted uplink, 32 bits
    mac: MacState = field(default_factory=MacState)
    last_mic: bytes = b""  # of the last accepted uplink; empty after a restart
    last_heard_ns: int = 0  # monotonic; 0 after a restart, as the next one
    answered_ns: int = 0  # when an uplink was answered last
    repeats: int = 0  # how often the last uplink was heard again
    # Of the last frame that was refused as used before; -1: none since the last good one
    refused_fcnt: int = -1
    _crypto: SessionCrypto | None = field(default=None, repr=False)

    @property
    def crypto(self) -> SessionCrypto:
        """Made on the session's first frame: a silent device costs no contexts."""
        crypto = self._crypto
        if crypto is None:
            crypto = self._crypto = SessionCrypto(self.dev_addr, self.keys, self.v1_1)
        return crypto

    def down_counter(self, app: bool) -> ReservedCounter:
        """The counter of a downlink: `app` on an FPort above 0, which 1.1 counts apart."""
        return self.fcnt_down_app if app and self.fcnt_down_app is not None else self.fcnt_down


@dataclass(slots=True, eq=False)
class Device:
    """A registered device. Its repr shows neither keys nor sessions."""

    config: DeviceConfig = field(repr=False)
    dev_eui: DevEUI
    session: Session | None = field(default=None, repr=False)
    pending: list[Session] = field(default_factory=list, repr=False)  # oldest first
    dev_nonces: DevNonces = field(default_factory=DevNonces, repr=False)
    last_join_ns: int = 0  # monotonic
    last_join_nonce: int | None = None  # since the start
    nonce_restart_ns: int = 0  # UTC: until then a join may begin the DevNonces anew; 0: none may
    rj_count1: int = -1  # last RJcount1 taken, of rejoin-requests of type 1
    moved: bool = False  # its session was handed to another gateway, which serves it now
    # As they go: highest priority, then oldest
    orders: deque[Order] = field(default_factory=deque, repr=False)
    gateways: tuple[bytes, ...] = ()  # EUIs that heard its last uplink, the best first
    uplinks: int = 0
    heard: HeardRate = field(default_factory=HeardRate, repr=False)
    last_seen_ns: int | None = None  # UTC
    last_rx: RxPacket | None = field(default=None, repr=False)
    battery: int | None = None  # DevStatusAns; None: never told
    margin_db: int | None = None
    status_due_ns: int = 0  # monotonic: when to ask again
    problem: str = ""  # why this device's frames were refused last; "" once one was accepted
    topic: str = ""  # DevEUI in hex: the subtopic its messages go to
    radio_topic: str = ""  # that of how they were heard
    base_name: str = ""  # of its SenML records (RFC 9039)
    # Of those on how a frame was heard; from the first on
    radio_names: tuple[str, ...] = field(default=(), repr=False)
    profile: Profile = field(default=DEFAULT, repr=False)  # the one that `config.profile` names

    def __post_init__(self) -> None:
        self.topic = str(self.dev_eui)
        self.radio_topic = f"{self.topic}.radio"
        self.base_name = f"urn:dev:mac:{self.topic}:"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device as pages and API show it: no keys."""

    dev_eui: DevEUI
    name: str
    activation: Activation
    join_eui: JoinEUI | None
    dev_addr: DevAddr | None
    codec: str
    thing_id: str
    channel_id: str
    last_seen_ns: int | None
    rssi_dbm: int | None
    snr_db: float | None
    sf: int | None
    fcnt_up: int | None
    fcnt_down: int | None
    uplinks: int
    battery: int | None
    margin_db: int | None
    queued: int
    problem: str
    heard_share: float | None  # of its last frames, by the gaps in FCnt, 0..1


def status_of(device: Device) -> DeviceStatus:
    config, session, rx = device.config, device.session, device.last_rx
    return DeviceStatus(
        dev_eui=config.dev_eui,
        name=config.name,
        activation=config.activation,
        join_eui=config.join_eui,
        dev_addr=session.dev_addr if session else None,
        codec=config.codec,
        thing_id=config.thing_id,
        channel_id=config.channel_id,
        last_seen_ns=device.last_seen_ns,
        rssi_dbm=rx.rssi_dbm if rx else None,
        snr_db=rx.lsnr_db if rx else None,
        sf=rx.modulation.sf if rx else None,
        fcnt_up=session.fcnt_up if session else None,
        fcnt_down=session.fcnt_down.next if session else None,
        uplinks=device.uplinks,
        battery=device.battery,
        margin_db=device.margin_db,
        queued=len(device.orders),
        problem=device.problem,
        heard_share=device.heard.share,
    )

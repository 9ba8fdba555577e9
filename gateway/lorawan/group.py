"""A multicast group: devices that listen to one address with common keys, and hear one downlink at the same time."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.device import ReservedCounter
from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI

MAX_MEMBERS = 10_000  # as many as there are devices
MAX_GATEWAYS = 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # an element of a subtopic


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """What was set. Raises OrderError, in words for who wrote it, for a value outside its range."""

    name: str
    mc_addr: DevAddr
    nwk_s_key: AES128Key = field(repr=False)  # McNwkSKey
    app_s_key: AES128Key = field(repr=False)  # McAppSKey
    device_class: DeviceClass = DeviceClass.C
    freq_hz: int | None = None  # None: the region's RX2, as the next one
    dr: int | None = None
    ping_period: int = 0  # class B: a slot each 2**n seconds
    gateways: tuple[bytes, ...] = ()  # EUIs that send to it; none: those that hear its members
    thing_id: str = ""  # publishes its receipts
    channel_id: str = ""  # where its receipts go and its orders come from

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise OrderError(
                "a group's name has 1 to 64 letters, digits, dashes or underscores and begins with a letter or digit"
            )
        if self.device_class not in (DeviceClass.B, DeviceClass.C):
            raise OrderError("a group is of class B or C: devices of class A hear no multicast")
        if not 0 <= self.ping_period <= 7:
            raise OrderError(f"ping_period is 0 to 7, a slot each 2**n seconds; not {self.ping_period}")
        if len(self.gateways) > MAX_GATEWAYS:
            raise OrderError(f"a group has at most {MAX_GATEWAYS} gateways of its own")
        if len(set(self.gateways)) != len(self.gateways):
            raise OrderError("a gateway stands twice in the group's list")


@dataclass(slots=True)
class GroupOrder:
    """A downlink for a group: one frame, sent once by each gateway in turn."""

    id: str
    fport: int
    payload: bytes
    number: int  # place in the order of arrival
    priority: int = 0
    queued_ns: int = 0  # UTC
    expires_ns: int | None = None  # UTC
    phy: bytes = b""  # the frame, once it has a counter
    fcnt: int | None = None
    left: list[bytes] = field(default_factory=list)  # gateways that have not sent it yet, the next first
    sent: int = 0  # gateways that have
    in_flight_ns: int | None = None  # monotonic: when it was handed to the first of `left`
    refusals: dict[bytes, int] = field(default_factory=dict)  # by gateway
    held: str = ""  # why it still waits, for people


@dataclass(slots=True, eq=False)
class Group:
    """Mutable state of one group."""

    config: GroupConfig
    fcnt_down: ReservedCounter
    members: set[DevEUI] = field(default_factory=set)
    orders: deque[GroupOrder] = field(default_factory=deque)  # as they go: highest priority, then oldest
    not_before_ns: int = 0  # monotonic: between gateways, and after a refusal
    sent: int = 0  # transmissions since the start
    _crypto: SessionCrypto | None = field(default=None, repr=False)

    @property
    def crypto(self) -> SessionCrypto:
        """Multicast frames are those of 1.0.x, whatever their members follow (1.1, 4.3.1.1; TS005, 4)."""
        if self._crypto is None:
            keys = SessionKeys.of_1_0(self.config.nwk_s_key, self.config.app_s_key)
            self._crypto = SessionCrypto(self.config.mc_addr, keys)
        return self._crypto

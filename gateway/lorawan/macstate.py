"""What a device has agreed to by MAC commands, what is under way, and a trace of both.

The agreed part is `Agreed`: it is stored at each change, travels with an exported session, and comes back from either
by `restore`. What is under way is not stored: after a restart the difference is seen again and asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.lorawan.channels import MAX_DYNAMIC, Channel, ChannelTable
from gateway.lorawan.errors import OrderError
from gateway.lorawan.mac import Command
from gateway.lorawan.profile import DeviceClass, Profile

ADR_HISTORY = 20  # uplinks whose best SNR counts
MAX_TRACE = 64  # entries: days of a device that is as it should be, an hour of one that refuses everything
MAX_UNSURE = 64  # more kinds of requests than there are, channels included
MAX_DECISIONS = 20  # of ADR, kept for the page
NEVER = 1 << 62  # an FCntUp that no session reaches

_Nibble = Annotated[int, Meta(ge=0, le=15)]
_Hz = Annotated[int, Meta(ge=0, le=1_677_721_500)]  # 24 bits of 100 Hz
_Index = Annotated[int, Meta(ge=0, le=255)]


class Agreed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All that MAC commands have settled with one session."""

    data_rate: _Nibble | None = None  # of the last LinkADRReq that was accepted
    tx_power: _Nibble = 0
    nb_trans: Annotated[int, Meta(ge=1, le=15)] = 1
    enabled: Annotated[str, Meta(pattern="^[0-9a-f]{0,32}$")] | None = (
        None  # mask in hex; None: every channel
    )
    added: tuple[tuple[_Index, _Hz, _Nibble, _Nibble], ...] = ()  # index, Hz, lowest and highest data rate
    dl_freq: tuple[tuple[_Index, _Hz], ...] = ()  # index, Hz of its RX1
    rx: tuple[_Nibble, _Nibble, _Nibble, _Hz | None] | None = None  # delay, RX1 offset, RX2 data rate and Hz
    max_duty: _Nibble = 0
    tx_param: tuple[bool, bool, _Nibble] | None = None  # downlink and uplink dwell, EIRP code
    adr_param: tuple[_Nibble, _Nibble] | None = None
    rejoin_param: tuple[_Nibble, _Nibble] | None = None
    ping_period: Annotated[int, Meta(ge=0, le=7)] | None = None
    ping_slot: tuple[_Hz, _Nibble] | None = None
    beacon_hz: _Hz | None = None
    class_b: bool = False
    device_class: DeviceClass | None = None
    max_dr: _Nibble | None = None
    max_tx_power: _Nibble | None = None
    orders: dict[str, int] = {}  # a Struct copies an empty default
    unsure: tuple[
        Annotated[str, Meta(max_length=32)], ...
    ] = ()  # of asked and never answered; at most MAX_UNSURE


@dataclass(slots=True)
class TraceEntry:
    """One command in one direction, in words."""

    time_ns: int  # UTC
    uplink: bool
    name: str
    words: str  # its fields
    outcome: str = ""


@dataclass(slots=True)
class Decision:
    """What ADR has concluded once."""

    time_ns: int  # UTC
    data_rate: int
    best_snr_db: float
    margin_db: float
    loss: float  # share of frames not heard, 0..1
    words: str


@dataclass(slots=True)
class Pending:
    """A request that is worth a downlink, sent or not yet."""

    key: str  # what it is about: one request about each thing at a time
    commands: tuple[Command, ...]
    value: tuple[int, ...]  # what is asked for, to know the same wish again
    adr: bool = True  # the device had its ADR bit set: it obeys data rate and power too
    attempts: int = 0
    asked_fcnt: int = -1  # FCntUp of the uplink that was answered with it
    asked_ns: int = 0  # UTC
    entry: TraceEntry | None = None


@dataclass(slots=True)
class Rest:
    """A wish that was refused, or not answered: left alone for a while."""

    value: tuple[int, ...]
    until_fcnt: int
    times: int  # in a row; each rest is twice as long as the one before
    words: str  # why, for people


_EMPTY: dict[str, Any] = {}  # never written to: a state makes a dict of its own at its first entry
_UNANSWERED: dict[int, int] = {}
_SURE: frozenset[str] = frozenset()


@dataclass(slots=True)
class MacState:
    """What the network has agreed with a device by MAC commands (LoRaWAN 1.0.2, 5), and what it is about."""

    data_rate: int | None = None  # of the last LinkADRReq that was accepted
    tx_power: int = 0  # TXPower index in force
    nb_trans: int = 1
    channels: ChannelTable = field(default_factory=ChannelTable)  # of the region, once the server has it
    max_duty: int = 0  # exponent of DutyCycleReq
    tx_param: tuple[bool, bool, int] | None = None  # None: never told
    adr_param: tuple[int, int] | None = None
    rejoin_param: tuple[int, int] | None = None
    ping_period: int | None = None  # PingSlotInfoReq: a slot each 2**n seconds; None: no ping slots
    ping_slot: tuple[int, int] | None = None  # Hz (0: the region's), data rate
    beacon_hz: int | None = None
    class_b: bool = False  # as the last uplink said: the device listens in its ping slots now
    device_class: DeviceClass | None = None  # DeviceModeInd; None: as the profile says
    max_dr: int | None = None  # the device refused more
    max_tx_power: int | None = None  # the device refused weaker
    stored: bool = False  # all this came from the store or an exported session
    orders: dict[str, int] = field(default_factory=lambda: _EMPTY)  # a technician's, by name of the setting

    pending: dict[str, Pending] = field(default_factory=lambda: _EMPTY)  # in the order they were asked
    rests: dict[str, Rest] = field(default_factory=lambda: _EMPTY)
    unsure: frozenset[str] = _SURE  # asked and not answered: the device may have obeyed, or not
    answered: dict[int, int] = field(default_factory=lambda: _UNANSWERED)  # FCntUp of the last answer, by CID
    trace: deque[TraceEntry] | None = None  # oldest first
    decisions: deque[Decision] | None = None
    settled_for: Profile | None = None  # the profile that `wake_fcnt` was worked out with
    wake_fcnt: int = 0  # nothing needs to be asked before this uplink
    given_up_hz: frozenset[int | None] = frozenset()  # channels the device has, and is not to use
    proof_fcnt: int = -1  # the last uplink that showed the device to have heard a downlink
    adr_on: bool | None = None  # the ADR bit of the last uplinks; None: none came yet
    owes_downlink: bool = False  # the device repeats an answer until it hears anything
    refresh: bool = False  # a technician wants LinkADRReq sent though nothing differs
    force_rejoin: int | None = None  # rejoin type that a technician has ordered
    uplinks_since_adr: int = 0
    snr_db: deque[float] = field(default_factory=lambda: deque(maxlen=ADR_HISTORY))

    def export(self) -> dict[str, Any]:
        """The agreed part as plain values, for an exported session. Holds no keys."""
        exported: dict[str, Any] = msgspec.to_builtins(self.agreed())
        return exported

    def agreed(self, rx: tuple[int, int, int, int | None] | None = None) -> Agreed:
        """The agreed part; `rx` are the session's receive windows: delay, RX1 offset, RX2 data rate and Hz."""
        table = self.channels
        return Agreed(
            data_rate=self.data_rate,
            tx_power=self.tx_power,
            nb_trans=self.nb_trans,
            enabled=None if table.mask is None else f"{table.mask:x}",
            added=tuple((i, c.freq_hz, c.min_dr, c.max_dr) for i, c in sorted(table.added.items())),
            dl_freq=tuple(sorted(table.dl_freq.items())),
            rx=rx,
            max_duty=self.max_duty,
            tx_param=self.tx_param,
            adr_param=self.adr_param,
            rejoin_param=self.rejoin_param,
            ping_period=self.ping_period,
            ping_slot=self.ping_slot,
            beacon_hz=self.beacon_hz,
            class_b=self.class_b,
            device_class=self.device_class,
            max_dr=self.max_dr,
            max_tx_power=self.max_tx_power,
            orders=dict(self.orders),
            unsure=tuple(sorted(self.unsure)),
        )

    def restore(self, exported: Mapping[str, Any]) -> None:
        """Take what `export` gave. Raises OrderError where it is something else."""
        try:
            agreed = msgspec.convert(exported, Agreed)
        except msgspec.ValidationError as error:
            raise OrderError(f"the state of MAC commands cannot be read: {error}") from error
        self.take(agreed)

    def take(self, agreed: Agreed) -> None:
        """Go on from what is agreed; what is under way is forgotten, and looked at anew."""
        table = self.channels
        added = {i: Channel(hz, low, high) for i, hz, low, high in agreed.added if i < MAX_DYNAMIC}
        self.channels = ChannelTable(
            table.region,
            None if agreed.enabled is None else int(agreed.enabled or "0", 16),
            added,
            dict(agreed.dl_freq),
        )
        for name in _SAME_NAME:
            setattr(self, name, getattr(agreed, name))
        self.orders = dict(agreed.orders)
        self.unsure = frozenset(agreed.unsure[:MAX_UNSURE])
        self.stored = True
        self.look_again()

    def look_again(self) -> None:
        """Something was changed: compare what is wanted with what is agreed at the next uplink."""
        self.wake_fcnt = 0
        self.settled_for = None

    def decide(self, decision: Decision) -> None:
        if self.decisions is None:
            self.decisions = deque(maxlen=MAX_DECISIONS)
        self.decisions.append(decision)

    def note(self, entry: TraceEntry) -> TraceEntry:
        if self.trace is None:
            self.trace = deque(maxlen=MAX_TRACE)
        self.trace.append(entry)
        return entry


_SAME_NAME = (
    "data_rate",
    "tx_power",
    "nb_trans",
    "max_duty",
    "tx_param",
    "adr_param",
    "rejoin_param",
    "ping_period",
    "ping_slot",
    "beacon_hz",
    "class_b",
    "device_class",
    "max_dr",
    "max_tx_power",
)

"""The LoRaWAN network server: every frame off the air comes through `NetworkServer.handle`.

Pure: time is an argument, and what must be kept leaves as writes for the caller to commit. In memory the
server is always ahead of the store by what is not yet committed; killed at any moment it starts from the
store, and then takes an uplink again whose writes were lost, never one whose writes were kept.

Nothing is remembered about senders that are not registered. Here are frames and downlinks; devices come and go in the
base class, `enrolment`. `Downlink`, `Outcome` and the other values are in `outcome`, and importable from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random, SystemRandom

from gateway.lorawan import store
from gateway.lorawan.answering import Answerer
from gateway.lorawan.classb.network import ClassB, ClassBStatus
from gateway.lorawan.classc import ClassC
from gateway.lorawan.clock import Instant
from gateway.lorawan.counters import Counters
from gateway.lorawan.enrolment import Enrolment
from gateway.lorawan.errors import FrameError, UnsupportedFrame
from gateway.lorawan.frames import DataFrame, JoinRequest, RejoinRequest, parse
from gateway.lorawan.joining import Joins, Sessions
from gateway.lorawan.joinserver import LocalJoinServer
from gateway.lorawan.maclayer import MacLayer
from gateway.lorawan.multicast import Groups
from gateway.lorawan.orders import Orders, Queued
from gateway.lorawan.outcome import Downlink, Due, Joined, Outcome, Reason, Rejected, Uplink
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile
from gateway.lorawan.registry import Registry
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import NetID
from gateway.lorawan.uplinking import DataFrames
from radio.gnss.leap import BUILT_IN, LeapSeconds
from radio.gwmp import RxPacket, TxError
from radio.regions import Region

__all__ = [
    "Counters",
    "Downlink",
    "Joined",
    "NetworkServer",
    "Outcome",
    "Queued",
    "Reason",
    "Rejected",
    "Uplink",
]


class NetworkServer(Enrolment):
    def __init__(
        self,
        region: Region,
        net_id: int = 0,
        *,
        settings: Settings | None = None,
        writer: store.Store | None = None,
        stored: store.Stored | None = None,
        rng: Random | None = None,
        profiles: Mapping[str, Profile] | None = None,
        leap: LeapSeconds = BUILT_IN,
    ) -> None:
        """`stored` is what `writer.load` found, `profiles` all there are beside `DEFAULT`, `leap` GPS time less UTC.

        Raises ValueError for settings the region cannot have.
        """
        self.region = region
        self.net_id = NetID(net_id)
        self.settings = settings or Settings()
        stored = stored or store.Stored()
        rng = rng or SystemRandom()
        self._store = writer or store.Store()
        self._mac = MacLayer(region, self.settings)
        self._orders = Orders(region, self.settings)
        self._answerer = Answerer(region, self.settings, self._mac, self._orders, rng)
        self._class_c = ClassC(region, self.settings, self._orders, self._answerer)
        self._orders.watchers.append(self._class_c.touch)
        self.class_b = ClassB(region, self.settings, net_id, self._orders, self._answerer, rng, leap)
        self._new_sessions = Sessions(region, self.net_id, self.settings, rng)
        self._counters = Counters()
        self._registry = Registry(stored.last_session)
        self._devices = self._registry.devices
        self.groups = Groups(region, self.settings, self._store.groups, self._devices, stored.groups)
        self.groups.slots = self.class_b.slots_of_groups
        self._mac.beacon_timing = self.class_b.timing
        self._registry.groups = self.groups.by_addr
        self._join_server = LocalJoinServer(self._devices, stored.join_nonce)
        self._joins = Joins(
            region,
            self.net_id,
            self.settings,
            self._store,
            self._registry,
            self._counters,
            self._new_sessions,
            self._join_server,
            self._answerer,
            self._mac,
        )
        self._data_frames = DataFrames(
            region, self.net_id, self._registry, self._counters, self._mac, self._orders, self._answerer
        )
        self._profiles = {DEFAULT_NAME: DEFAULT, **(profiles or {})}
        for device in stored.devices:
            self._adopt(device)

    @property
    def counters(self) -> Counters:
        self._counters.orders_acked = self._orders.acked
        self._counters.orders_dropped = self._orders.dropped
        return self._counters

    @property
    def mac(self) -> MacLayer:
        """What is wanted of devices by MAC commands and what they have agreed to, and a technician's orders."""
        return self._mac

    # Frames

    def handle(self, rx: RxPacket, gateway_eui: bytes, now: Instant) -> Outcome:
        """Take one frame as a gateway heard it. Never raises because of the frame."""
        if rx.tmms is not None:
            self.class_b.gateways.heard(gateway_eui, rx.tmms, now)
        if rx.stat < 0:
            return self._counters.reject(Reason.CRC_ERROR, "heard with errors (CRC)", rx)
        try:
            frame = parse(rx.data)
        except UnsupportedFrame as error:
            return self._counters.reject(Reason.UNSUPPORTED, f"{error} is not supported", rx)
        except FrameError as error:
            return self._counters.reject(Reason.MALFORMED, f"not a LoRaWAN frame: {error}", rx)
        if type(frame) is DataFrame:
            return self._data_frames.take(frame, rx, gateway_eui, now)
        if isinstance(frame, JoinRequest | RejoinRequest):
            return self._joins.take(frame, rx, now)
        return self._counters.reject(Reason.NOT_AN_UPLINK, "a join-accept of another gateway", rx)

    def not_stored(self, uplink: Uplink) -> None:
        """The writes of `uplink` were refused: its repetition is taken as new, and not merely acknowledged."""
        self._data_frames.not_stored(uplink)

    # Downlinks

    def queue_downlink(
        self,
        dev_eui: int,
        fport: int,
        payload: bytes,
        confirmed: bool = False,
        *,
        now: Instant,
        priority: int = 0,
        ttl_s: float | None = None,
        order_id: str = "",
    ) -> Queued:
        """Take an order, of the highest priority first; without `ttl_s` it waits as long as it takes.

        Raises UnknownDevice, QueueFull, or OrderError for what can never be sent.
        """
        device = self._device(dev_eui)
        order_id = order_id or self._answerer.new_id()
        return self._orders.queue(
            device, order_id, fport, payload, confirmed, now, priority=priority, ttl_s=ttl_s
        )

    def queue_group_downlink(
        self,
        name: str,
        fport: int,
        payload: bytes,
        *,
        now: Instant,
        priority: int = 0,
        ttl_s: float | None = None,
        order_id: str = "",
    ) -> Queued:
        """Take an order to a multicast group. Raises QueueFull, OrderError."""
        order_id = order_id or self._answerer.new_id()
        return self.groups.queue(name, order_id, fport, payload, now, priority=priority, ttl_s=ttl_s)

    @property
    def orders_waiting(self) -> int:
        """Of all devices and groups."""
        return len(self._orders) + self.groups.waiting

    def knows_order(self, order_id: str) -> bool:
        """Whether an order of that id waits, for a device or a group."""
        return order_id in self._orders or order_id in self.groups

    def cancel_downlink(
        self, dev_eui: int, order_id: str | None, now: Instant, why: str = "cancelled"
    ) -> Due:
        """Take back one order of a device, or all. Raises UnknownDevice, or OrderError where there is none."""
        return self._orders.cancel(self._device(dev_eui), order_id, now, why)

    def sent(self, downlink: Downlink, window: int, now: Instant) -> Due:
        """A gateway has taken this downlink for sending, for its window of that number (from 1)."""
        if self.class_b.is_beacon(downlink):
            self.class_b.reported(downlink, TxError.NONE, now)
            return Due()
        self._counters.downlinks_sent += 1
        if downlink.group:
            return self.groups.sent(downlink, now)
        return self._orders.sent(downlink, window, now)

    def failed(self, downlink: Downlink, error: TxError, now: Instant) -> Due:
        """No gateway could send this downlink; an order in it waits for another time."""
        self.class_b.reported(downlink, error, now)
        if self.class_b.is_beacon(downlink):
            return Due()
        self._counters.downlinks_failed += 1
        if downlink.group:
            return self.groups.failed(downlink, error, now)
        return self._orders.failed(downlink, error, now)

    def due(self, now: Instant) -> Due:
        """What time brings: downlinks that answer no uplink, and orders that have expired.

        To be called when `next_due_ns` says, which changes with each order, uplink and report. There may be more to
        do at once, then `next_due_ns` says so.
        """
        due = self._orders.due(now) or self.class_b.due(now) or self._class_c.due(now) or self.groups.due(now)
        self._counters.downlinks += sum(not self.class_b.is_beacon(downlink) for downlink in due.downlinks)
        return due

    def next_due_ns(self, now: Instant) -> int:
        """When `due` wants to be called, in monotonic time; NEVER_NS where nothing waits for its time."""
        orders, groups = self._orders, self.groups
        return min(
            orders.next_due_ns(now),
            self.class_b.next_due_ns(now),
            self._class_c.next_due_ns(),
            groups.next_due_ns(now),
        )

    def class_b_status(self, now: Instant) -> ClassBStatus:
        return self.class_b.status(self._devices, now)

"""The LoRaWAN network server: every frame off the air comes through `NetworkServer.handle`.

Pure: time is an argument, and what must be kept leaves as writes for the caller to commit. In memory the
server is always ahead of the store by what is not yet committed; killed at any moment it starts from the
store, and then takes an uplink again whose writes were lost, never one whose writes were kept.

Nothing is remembered about senders that are not registered. `Downlink`, `Outcome` and the other values are in
`outcome`, and importable from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from random import Random, SystemRandom

from gateway.lorawan import store
from gateway.lorawan.answering import Answerer
from gateway.lorawan.classb.network import ClassB, ClassBStatus
from gateway.lorawan.classc import ClassC
from gateway.lorawan.clock import Instant
from gateway.lorawan.counters import Counters
from gateway.lorawan.device import Activation, Device, DeviceConfig, DeviceStatus, Session, status_of
from gateway.lorawan.errors import DeviceExists, FrameError, OrderError, UnknownDevice, UnsupportedFrame
from gateway.lorawan.frames import DataFrame, JoinRequest, RejoinRequest, parse
from gateway.lorawan.joining import Joins, Sessions
from gateway.lorawan.joinserver import LocalJoinServer
from gateway.lorawan.maclayer import NEVER_NS, MacLayer
from gateway.lorawan.multicast import Groups
from gateway.lorawan.orders import Orders, Queued
from gateway.lorawan.outcome import Downlink, Due, Joined, Outcome, Reason, Rejected, Uplink, Writes
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile
from gateway.lorawan.registry import NOBODYS, Registry, sessions_of
from gateway.lorawan.settings import Settings
from gateway.lorawan.transfer import ExportedDevice, exported, imported
from gateway.lorawan.types import DevEUI, NetID
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


class NetworkServer:
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

    # Devices

    def add_device(self, config: DeviceConfig) -> Writes:
        """Register a device; it may be called registered once the writes are durable.

        Raises DeviceExists, or OrderError where no more fit.
        """
        writes, apply = self.new_device(config)
        apply()
        return writes

    def new_device(self, config: DeviceConfig) -> tuple[Writes, Callable[[], None]]:
        """As `add_device` in two steps: what to store, and what to call once that is durable.

        Until then the device is not there, so whoever prepares several sees to it that none comes twice.
        """
        if config.dev_eui in self._devices:
            raise DeviceExists(f"{config.dev_eui} is registered already")
        if len(self._devices) >= self.settings.max_devices:
            raise OrderError(f"{self.settings.max_devices} devices are registered, and no more fit")
        self._check_profile(config.profile)
        device = Device(config, config.dev_eui)
        writes = self._store.device_added(device)
        if config.activation is Activation.ABP:
            device.session = self._new_sessions.personalised(
                device, config, self._profiles[config.profile], self._registry.next_session()
            )
            writes += self._store.session_added(device.session, pending=False)
        return writes, lambda: self._adopt(device)

    def change_device(self, config: DeviceConfig) -> tuple[Writes, Callable[[], None]]:
        """What to store so that a device is as `config` says, and what to call once that is durable.

        Sessions go on, but for an ABP device with other keys or another address: that begins anew. Other root keys
        count from the next join. Raises UnknownDevice, or OrderError for another activation or no such profile.
        """
        device = self._device(config.dev_eui)
        before = device.config
        if config.activation is not before.activation:
            raise OrderError("OTAA and ABP cannot be exchanged: remove the device and register it again")
        self._check_profile(config.profile)
        writes: Writes = [self._store.device_changed(config)]
        fresh: Session | None = None
        if config.activation is Activation.ABP and (
            config.dev_addr != before.dev_addr or config.abp_keys != before.abp_keys
        ):
            fresh = self._new_sessions.personalised(
                device, config, self._profiles[config.profile], self._registry.next_session()
            )
            if device.session is not None:
                writes += store.session_gone(device.session)
            writes += self._store.session_added(fresh, pending=False)

        def apply() -> None:
            if self._devices.get(device.dev_eui) is not device:
                return  # it was removed while the writes were under way
            device.config = config
            device.profile = self._profiles.get(config.profile, DEFAULT)
            device.problem = ""
            if fresh is not None:
                if device.session is not None:
                    self._registry.forget(device.session)
                device.session = fresh
                self._mac.adopt(fresh)
                self._registry.know(fresh)

        return writes, apply

    def allow_nonce_restart(self, dev_eui: int, until_ns: int) -> Writes:
        """Until then (UTC) a join of this device may begin its DevNonces anew: it was reset, or has a new board.

        A time that is past takes the leave back. Raises UnknownDevice.
        """
        device = self._device(dev_eui)
        device.nonce_restart_ns = until_ns
        return [store.nonce_restart(device)]

    # Devices that move between gateways

    def export_session(self, dev_eui: int) -> ExportedDevice:
        """All that another gateway needs to go on with a device, keys in clear. Raises UnknownDevice."""
        return exported(self._device(dev_eui), self.region.name, self._join_server.next_join_nonce)

    def move_away(self, dev_eui: int, now: Instant) -> Due:
        """Another gateway serves this device from now on: it is not answered here any more. Raises UnknownDevice."""
        device = self._device(dev_eui)
        due = self._orders.cancel(device, None, now, "the device was moved to another gateway")
        if not device.moved:
            self._registry.remove(device)
            device.moved = True
            self._registry.add(device)
            due.writes.append(store.moved(device))
        return due

    def take_back(self, dev_eui: int) -> Writes:
        """A device that was moved away is served here again. What it did elsewhere meanwhile is not known here:
        `import_session` of what the other gateway exports is better. Raises UnknownDevice."""
        device = self._device(dev_eui)
        if not device.moved:
            return []
        self._registry.remove(device)
        device.moved = False
        self._registry.add(device)
        writes: Writes = [store.moved(device)]
        for session in sessions_of(device):
            for counter in filter(None, (session.fcnt_down, session.fcnt_down_app)):
                counter.next = counter.ceiling = counter.ceiling + store.JUMP_AFTER_COPY
            writes.append(store.fcnt_down(session))
        return writes

    def import_session(
        self, value: ExportedDevice, *, thing_id: str, channel_id: str, profile: str | None = None
    ) -> tuple[Writes, Callable[[], None]]:
        """As `new_device`: go on with a device that another gateway has exported.

        `profile` is the one it is to have here; None: the one of the same name. One that was moved away from here may
        come back. Raises DeviceExists, or OrderError where region or profile are others.
        """
        before = self._devices.get(int(value.dev_eui, 16))
        if before is not None and not before.moved:
            raise DeviceExists(f"{value.dev_eui} is registered and served here already")
        if before is None and len(self._devices) >= self.settings.max_devices:
            raise OrderError(f"{self.settings.max_devices} devices are registered, and no more fit")
        if value.region != self.region.name:
            raise OrderError(
                f"{value.dev_eui} works in {value.region}; this gateway is one of {self.region.name}"
            )
        name = value.profile if profile is None else profile
        self._check_profile(name)
        device = imported(value, self._profiles[name], thing_id, channel_id, self._registry.next_session())
        writes = self._store.device_added(device)
        writes += [store.dev_nonce(device.dev_eui, high, used) for high, used in device.dev_nonces.pages()]
        writes += [store.rj_count1(device), store.dev_status(device)]
        if device.session is not None:
            writes += self._store.session_added(device.session, pending=False)
            if device.session.fcnt_up is not None:
                writes.append(store.uplink(device.session, device.last_seen_ns or 0))

        def apply() -> None:
            if before is not None and self._devices.get(before.dev_eui) is before:
                self._registry.remove(before)
            self._adopt(device)

        return [*writes, *self._join_server.skip_join_nonces(value.join_nonce)], apply

    def remove_device(self, dev_eui: int) -> Writes:
        """Forget a device with its sessions, nonces and orders. Raises UnknownDevice."""
        device = self._device(dev_eui)
        self._registry.remove(device)
        self._orders.forget(device)
        return [*store.device_gone(device.dev_eui), *self.groups.forget(device.dev_eui)]

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """Every profile a device may name."""
        return self._profiles

    def use_profiles(self, profiles: Mapping[str, Profile]) -> None:
        """Take new profiles; what they say reaches their devices at once.

        Raises OrderError where one is missing that devices name: then all stays as it was.
        """
        profiles = {DEFAULT_NAME: DEFAULT, **profiles}
        used = Counter(device.config.profile for device in self._devices.values())
        for name in self._profiles:
            if name not in profiles and (count := used[name]):
                devices = "1 device has" if count == 1 else f"{count} devices have"
                raise OrderError(f"{devices} the profile {name!r}: give them another one first")
        self._profiles = profiles
        for device in self._devices.values():
            device.profile = profiles.get(device.config.profile, DEFAULT)

    def device_profile(self, dev_eui: int) -> Profile:
        """Raises UnknownDevice."""
        return self._device(dev_eui).profile

    def devices(self, limit: int | None = None) -> list[DeviceStatus]:
        """All devices, or the first `limit` of them."""
        return [status_of(device) for device in islice(self._devices.values(), limit)]

    @property
    def device_count(self) -> int:
        return len(self._devices)

    def class_b_status(self, now: Instant) -> ClassBStatus:
        return self.class_b.status(self._devices, now)

    def device(self, dev_eui: int) -> DeviceStatus:
        """Raises UnknownDevice."""
        return status_of(self._device(dev_eui))

    def registered(self, dev_eui: int) -> Device | None:
        return self._devices.get(dev_eui)

    def every_device(self) -> Collection[Device]:
        """All devices, in the order of their registration."""
        return self._devices.values()

    def sessions_of(self, dev_addr: int) -> tuple[Session, ...]:
        """The live and pending sessions that have this DevAddr."""
        return self._registry.sessions.get(dev_addr, NOBODYS)

    def _device(self, dev_eui: int) -> Device:
        device = self._devices.get(dev_eui)
        if device is None:
            raise UnknownDevice(f"{DevEUI(dev_eui)} is not registered")
        return device

    def _adopt(self, device: Device) -> None:
        """Index a device, new or from the store."""
        device.profile = self._profiles.get(device.config.profile, DEFAULT)
        if not self.settings.status_interval_s:
            device.status_due_ns = NEVER_NS
        for session in sessions_of(device):
            self._mac.adopt(session)
        self._registry.add(device)
        self._orders.adopt(device)

    def _check_profile(self, name: str) -> None:
        if name not in self._profiles:
            raise OrderError(f"there is no profile {name!r}; there are {', '.join(sorted(self._profiles))}")

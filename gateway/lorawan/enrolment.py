"""The devices of a network server: registered, changed, removed, moved between gateways; and their profiles.

What must be kept leaves as writes. Where a change may still be refused by the store it comes in two steps: the writes,
and what to call once they are durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import islice

from gateway.lorawan import store
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation, Device, DeviceConfig, DeviceStatus, Session, status_of
from gateway.lorawan.errors import DeviceExists, OrderError, UnknownDevice
from gateway.lorawan.joining import Sessions
from gateway.lorawan.joinserver import LocalJoinServer
from gateway.lorawan.maclayer import NEVER_NS, MacLayer
from gateway.lorawan.multicast import Groups
from gateway.lorawan.orders import Orders
from gateway.lorawan.outcome import Due, Writes
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile
from gateway.lorawan.registry import NOBODYS, Registry, sessions_of
from gateway.lorawan.settings import Settings
from gateway.lorawan.transfer import ExportedDevice, exported, imported
from gateway.lorawan.types import DevEUI
from radio.regions import Region


class Enrolment:
    """Base of `NetworkServer`, whose constructor makes the parts named here."""

    region: Region
    settings: Settings
    groups: Groups
    _store: store.Store
    _mac: MacLayer
    _orders: Orders
    _new_sessions: Sessions
    _registry: Registry
    _devices: dict[int, Device]
    _join_server: LocalJoinServer
    _profiles: dict[str, Profile]

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
            self._orders.reclassed(device)
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
            self._orders.reclassed(device)

    def device_profile(self, dev_eui: int) -> Profile:
        """Raises UnknownDevice."""
        return self._device(dev_eui).profile

    def devices(self, limit: int | None = None) -> list[DeviceStatus]:
        """All devices, or the first `limit` of them."""
        return [status_of(device) for device in islice(self._devices.values(), limit)]

    @property
    def device_count(self) -> int:
        return len(self._devices)

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

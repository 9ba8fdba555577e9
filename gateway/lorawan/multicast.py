"""Downlinks to multicast groups: one frame each, sent once by every gateway that is to reach members.

Gateways send one after the other, so that where two of them are heard their frames do not fall on each other; a
device that hears both takes the second for what it is, a repetition. Nothing is acknowledged. The frames of a group
keep their order: the next begins when every gateway has sent the last, or was given up on.

Class B groups need the time of their ping slot: `slots`, where there is one, gives a window for a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.lorawan import groupstore
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device, ReservedCounter
from gateway.lorawan.errors import OrderError, QueueFull
from gateway.lorawan.frames import MAX_FCNT, build_downlink
from gateway.lorawan.group import MAX_MEMBERS, Group, GroupConfig, GroupOrder
from gateway.lorawan.groupstore import GroupStore
from gateway.lorawan.orders import (
    FIRST_PAUSE_NS,
    LONGEST_PAUSE_NS,
    MAX_APPLICATION_FPORT,
    NEVER_NS,
    NEVER_WORKS,
    REPORT_NS,
    SECOND_NS,
    Queued,
    check,
)
from gateway.lorawan.outcome import Downlink, Due, OrderFate, Receipt, Writes
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.receipts import TX_ERROR_WORDS
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import DevEUI
from gateway.lorawan.windows import Window, window
from radio.gwmp import TxError
from radio.lora import airtime_us
from radio.regions import Region

MAX_GROUPS = 256
MAX_ORDERS = 64  # waiting for one group
MAX_REFUSALS = 8  # of one frame by one gateway: half a minute of a busy radio
SPACING_NS = 200_000_000  # between the end of one gateway's frame and the next gateway's
LOOK_AGAIN_NS = 30 * SECOND_NS  # while no gateway is known

Slots = Callable[
    [Group, bytes, Instant], Window | str
]  # class B: the window by a gateway, or why there is none


class Groups:
    """Every multicast group, by name."""

    def __init__(
        self,
        region: Region,
        settings: Settings,
        writer: GroupStore,
        devices: Mapping[int, Device],
        stored: list[Group],
    ) -> None:
        self.slots: Slots | None = None
        self.by_addr: dict[int, Group] = {}
        self._region = region
        self._settings = settings
        self._writer = writer
        self._devices = devices
        self._groups: dict[str, Group] = {}
        self._by_order: dict[str, Group] = {}
        self._last_number = 0
        for group in stored:
            self._groups[group.config.name] = group
            self.by_addr[group.config.mc_addr] = group
            for order in group.orders:
                self._by_order[order.id] = group
                self._last_number = max(self._last_number, order.number)

    # Groups

    def all(self) -> list[Group]:
        return list(self._groups.values())

    def get(self, name: str) -> Group:
        """Raises OrderError where there is no such group."""
        group = self._groups.get(name)
        if group is None:
            raise OrderError(f"there is no group {name!r}")
        return group

    def set_up(self, config: GroupConfig, fcnt_down: int = 0) -> Writes:
        """Add a group, or change one; another address or other keys begin anew at `fcnt_down`. Raises OrderError."""
        other = self.by_addr.get(config.mc_addr)
        if other is not None and other.config.name != config.name:
            raise OrderError(f"McAddr {config.mc_addr} is that of group {other.config.name}")
        if self._window(config) is None:
            raise OrderError(
                "no downlink can be sent with this frequency and data rate in this region: see docs/regions.md"
            )
        group = self._groups.get(config.name)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                raise OrderError(f"{MAX_GROUPS} groups are set up, and no more fit")
            group = Group(config, ReservedCounter(fcnt_down, fcnt_down))
        else:
            del self.by_addr[group.config.mc_addr]
            if _session(config) != _session(group.config):
                group.fcnt_down = ReservedCounter(fcnt_down, fcnt_down)
            group.config, group._crypto = config, None
        self._groups[config.name] = self.by_addr[config.mc_addr] = group
        return [self._writer.kept(group)]

    def remove(self, name: str, now: Instant) -> Due:
        """Forget a group; its orders have failed. Raises OrderError."""
        group = self.get(name)
        due = self.cancel(name, None, now, "the group was removed") if group.orders else Due()
        del self._groups[name]
        del self.by_addr[group.config.mc_addr]
        due.writes += groupstore.gone(name)
        return due

    def join(self, name: str, dev_eui: DevEUI) -> Writes:
        """Make a device a member. Raises OrderError."""
        group = self.get(name)
        if dev_eui not in self._devices:
            raise OrderError(f"{dev_eui} is not registered: register the device first")
        if len(group.members) >= MAX_MEMBERS:
            raise OrderError(f"{MAX_MEMBERS} devices are members, and no more fit")
        group.members.add(dev_eui)
        return [groupstore.member_added(name, dev_eui)]

    def leave(self, name: str, dev_eui: DevEUI) -> Writes:
        """Raises OrderError where the device is no member."""
        group = self.get(name)
        if dev_eui not in group.members:
            raise OrderError(f"{dev_eui} is not a member of {name}")
        group.members.discard(dev_eui)
        return [groupstore.member_gone(name, dev_eui)]

    def forget(self, dev_eui: DevEUI) -> Writes:
        """A device is removed: it is a member of no group any more."""
        return [write for group in self._groups.values() if dev_eui in group.members
                for write in self.leave(group.config.name, dev_eui)]  # fmt: skip

    def gateways_of(self, group: Group) -> list[bytes]:
        """Who sends to it: its own list, or every gateway that was the best for one of its members."""
        if group.config.gateways:
            return list(group.config.gateways)
        members = (self._devices.get(member) for member in sorted(group.members))
        best = (device.gateways[0] for device in members if device is not None and device.gateways)
        return list(dict.fromkeys(best))

    # Orders

    def queue(
        self,
        name: str,
        order_id: str,
        fport: int,
        payload: bytes,
        now: Instant,
        *,
        priority: int = 0,
        ttl_s: float | None = None,
    ) -> Queued:
        """Raises QueueFull, or OrderError for what can never be sent."""
        group = self.get(name)
        if not 1 <= fport <= MAX_APPLICATION_FPORT:
            raise OrderError(f"FPort {fport} is not one of 1 to {MAX_APPLICATION_FPORT}")
        check(priority, ttl_s)
        found = self._window(group.config)
        most = 0 if found is None else found.max_payload
        if len(payload) > most:
            raise OrderError(f"{len(payload)} bytes of payload; {most} is the most at the group's data rate")
        if len(group.orders) >= MAX_ORDERS:
            raise QueueFull(f"{MAX_ORDERS} downlinks wait for group {name} already: wait, or cancel some")
        self._last_number += 1
        expires_ns = None if ttl_s is None else now.wall_ns + round(ttl_s * SECOND_NS)
        order = GroupOrder(
            order_id, fport, bytes(payload), self._last_number, priority, now.wall_ns, expires_ns
        )
        position = len(group.orders)
        while (
            position and not group.orders[position - 1].phy and group.orders[position - 1].priority < priority
        ):
            position -= 1
        group.orders.insert(position, order)
        self._by_order[order_id] = group
        return Queued(
            order_id, [groupstore.queued(name, order)], [_receipt(group, order, OrderFate.QUEUED, now)]
        )

    def cancel(self, name: str, order_id: str | None, now: Instant, why: str = "cancelled") -> Due:
        """Take one order of a group back, or all. Raises OrderError where it has none of that id."""
        group = self.get(name)
        chosen = [order for order in group.orders if order_id in (None, order.id)]
        if order_id is not None and not chosen:
            raise OrderError(
                f"no downlink {order_id} waits for group {name}: it was sent, or has failed, before"
            )
        due = Due()
        for order in chosen:
            self._end(group, order, due, now, why)
        return due

    @property
    def waiting(self) -> int:
        """Orders of all groups."""
        return len(self._by_order)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._by_order

    # Time

    def next_due_ns(self, now: Instant) -> int:
        """When `due` wants to be called, in monotonic time."""
        return min(
            (self._when(group, now) for group in self._groups.values() if group.orders), default=NEVER_NS
        )

    def due(self, now: Instant) -> Due:
        """What there is to do for the first group whose time has come."""
        for group in self._groups.values():
            if group.orders and self._when(group, now) <= now.mono_ns:
                return self._act(group, now)
        return Due()

    def sent(self, downlink: Downlink, now: Instant) -> Due:
        """A gateway has taken the frame."""
        due = Due()
        group, order = self._of(downlink)
        if group is None or order is None:
            return due
        gateway = order.left.pop(0)
        order.sent += 1
        group.sent += 1
        order.in_flight_ns = None
        packet = downlink.windows[0]
        on_air_ns = airtime_us(packet.modulation, len(packet.data), crc=False) * 1000
        group.not_before_ns = now.mono_ns + on_air_ns + SPACING_NS
        name = downlink.window_name(1)
        due.receipts.append(_receipt(group, order, OrderFate.SENT, now, window=name, gateway=gateway))
        self._next(group, order, due, now)
        return due

    def failed(self, downlink: Downlink, error: TxError, now: Instant) -> Due:
        """A gateway refuses the frame: others go first, it is asked again, and at last given up on."""
        due = Due()
        group, order = self._of(downlink)
        if group is not None and order is not None:
            words = TX_ERROR_WORDS.get(error, str(error))
            self._refused(group, order, error in NEVER_WORKS, words, due, now)
        return due

    def _refused(
        self, group: Group, order: GroupOrder, for_good: bool, words: str, due: Due, now: Instant
    ) -> None:
        gateway = order.left.pop(0)
        order.in_flight_ns = None
        order.held = f"not sent by {gateway.hex()}: {words}"
        times = order.refusals[gateway] = order.refusals.get(gateway, 0) + 1
        if for_good or times >= MAX_REFUSALS:
            reason = f"refused by {gateway.hex()}: {words}"
            due.receipts.append(_receipt(group, order, OrderFate.FAILED, now, reason=reason, gateway=gateway))
            self._next(group, order, due, now)
            return
        order.left.append(gateway)
        waiting = order.refusals.get(order.left[0], 0)
        if waiting:  # all that are left have refused
            pause_ns = min(FIRST_PAUSE_NS << min(waiting - 1, 16), LONGEST_PAUSE_NS)
            group.not_before_ns = now.mono_ns + pause_ns

    def _of(self, downlink: Downlink) -> tuple[Group | None, GroupOrder | None]:
        """Whose frame it is, where that gateway's turn is not over."""
        group = self._by_order.get(downlink.id)
        if group is None:
            return None, None
        order = next(order for order in group.orders if order.id == downlink.id)
        under_way = order.in_flight_ns is not None and order.left[0] == downlink.gateway
        return (group, order) if under_way else (None, None)

    def _when(self, group: Group, now: Instant) -> int:
        expiries = [order.expires_ns for order in group.orders if order.expires_ns is not None]
        expiry_ns = now.mono_ns + min(expiries) - now.wall_ns if expiries else NEVER_NS
        in_flight_ns = group.orders[0].in_flight_ns
        if in_flight_ns is not None:
            return min(expiry_ns, in_flight_ns + REPORT_NS)
        return min(expiry_ns, max(group.not_before_ns, now.mono_ns))

    def _act(self, group: Group, now: Instant) -> Due:
        due = Due()
        for order in list(group.orders):
            if order.expires_ns is not None and order.expires_ns <= now.wall_ns:
                why = f" ({order.held})" if order.held else ""
                self._end(group, order, due, now, f"expired{why}: allow more time with ttl_s")
        if due or not group.orders:
            return due
        order = group.orders[0]
        if order.in_flight_ns is not None:
            if now.mono_ns >= order.in_flight_ns + REPORT_NS:
                self._refused(group, order, True, "it has not told whether it sent the frame", due, now)
            return due
        if now.mono_ns >= group.not_before_ns:
            self._send(group, order, due, now)
        return due

    def _send(self, group: Group, order: GroupOrder, due: Due, now: Instant) -> None:
        if not order.left:
            order.left = self.gateways_of(group)
        if not order.left:
            order.held = "no gateway has heard a member yet: list the gateways of the group, or wait"
            group.not_before_ns = now.mono_ns + LOOK_AGAIN_NS
            return
        gateway = order.left[0]
        found = self._window_by(group, gateway, now)
        if isinstance(found, str):
            order.held = found
            group.not_before_ns = now.mono_ns + LOOK_AGAIN_NS
            return
        covered = True
        if not order.phy:
            order.fcnt, covered, moved = group.fcnt_down.take()
            if order.fcnt > MAX_FCNT:
                self._end(group, order, due, now, "FCntDown is used up: give the group new keys")
                return
            if moved:
                due.writes.append(groupstore.fcnt_down(group))
            order.phy = build_downlink(
                group.crypto, group.config.mc_addr, order.fcnt, fport=order.fport, payload=order.payload
            )
            due.writes.append(groupstore.progress(order))
        order.in_flight_ns = now.mono_ns
        due.downlinks.append(
            Downlink(
                id=order.id,
                dev_eui=None,
                windows=(found.packet(order.phy),),
                confirmed=False,
                fcnt=order.fcnt,
                after_commit=not covered,
                klass=group.config.device_class.value,
                gateway=gateway,
                group=group.config.name,
                names=(found.name,),
            )
        )

    def _window_by(self, group: Group, gateway: bytes, now: Instant) -> Window | str:
        if group.config.device_class is DeviceClass.B:
            return "this gateway has no ping slots" if self.slots is None else self.slots(group, gateway, now)
        return self._window(group.config) or "nothing fits into the dwell limit here"

    def _window(self, config: GroupConfig) -> Window | None:
        freq_hz, dr = self._region.rx2
        freq_hz = freq_hz if config.freq_hz is None else config.freq_hz
        return window("RXC", self._region, self._settings, freq_hz, dr if config.dr is None else config.dr)

    def _next(self, group: Group, order: GroupOrder, due: Due, now: Instant) -> None:
        """One gateway is through with the frame."""
        if order.left:
            due.writes.append(groupstore.progress(order))
            return
        if not order.sent:
            due.receipts.append(
                _receipt(group, order, OrderFate.FAILED, now, reason=f"no gateway has sent it: {order.held}")
            )
        self._forget(group, order, due)

    def _end(self, group: Group, order: GroupOrder, due: Due, now: Instant, why: str) -> None:
        due.receipts.append(_receipt(group, order, OrderFate.FAILED, now, reason=why))
        self._forget(group, order, due)

    def _forget(self, group: Group, order: GroupOrder, due: Due) -> None:
        group.orders.remove(order)
        del self._by_order[order.id]
        due.writes.append(groupstore.done(order.id))


def _session(config: GroupConfig) -> tuple[object, ...]:
    return config.mc_addr, config.nwk_s_key, config.app_s_key


def _receipt(
    group: Group,
    order: GroupOrder,
    state: OrderFate,
    now: Instant,
    *,
    reason: str = "",
    window: str = "",
    gateway: bytes | None = None,
) -> Receipt:
    return Receipt(
        order.id,
        None,
        state,
        reason,
        now,
        window,
        order.fcnt,
        gateway,
        attempt=order.sent,
        group=group.config.name,
    )

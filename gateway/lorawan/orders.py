"""Downlinks that users and applications have ordered: taken, sent, acknowledged or given up, with a receipt for each.

A device's orders go out one at a time, by priority, the oldest first among equals. An unconfirmed one is done once
a gateway has taken it; a confirmed one is repeated, with a new FCntDown, until the device acknowledges it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.lorawan import orderstore
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device, Order, OrderState
from gateway.lorawan.errors import OrderError, QueueFull
from gateway.lorawan.outcome import Downlink, Due, OrderFate, Receipt, Writes
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.receipts import TX_ERROR_WORDS
from gateway.lorawan.settings import Settings
from radio.gwmp import TxError
from radio.regions import Region

SECOND_NS = 1_000_000_000
MAX_APPLICATION_FPORT = 223  # 224 is for certification, the rest is reserved (1.0.2, 4.3.2)
MAX_PRIORITY = 255
MAX_TTL_S = 30 * 86_400
MAX_TOO_LONG = 32  # uplinks whose windows are too short for an order, before it is given up
REPORT_NS = 25 * SECOND_NS  # every link has told by then whether a downlink was sent
FIRST_PAUSE_NS = SECOND_NS // 4  # before a radio that was busy is asked again; twice as long each time
LONGEST_PAUSE_NS = 60 * SECOND_NS
MAX_REFUSALS = 3
NEVER_WORKS = (TxError.TX_FREQ, TxError.TX_POWER)
NEVER_NS = 1 << 63
_START = Instant(0, 0)


@dataclass(frozen=True, slots=True)
class Queued:
    """An accepted downlink order; it may be promised once `writes` are durable."""

    id: str
    writes: Writes
    receipts: list[Receipt] = field(default_factory=list)


class Orders:
    """Every waiting order, by id: at most `settings.max_downlinks` of each device."""

    def __init__(self, region: Region, settings: Settings) -> None:
        self._longest = max(region.max_payload(dr) for dr in region.downlink_data_rates)
        self._most = settings.max_downlinks
        self._by_id: dict[str, tuple[Device, Order]] = {}
        self._expiries: list[tuple[int, str]] = []  # heap of (UTC ns, id); ids that are gone are skipped
        self._last_number = 0
        self.watchers: list[Callable[[Device, Instant], None]] = []  # told of each change of a device's queue
        self.acked = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._by_id

    def adopt(self, device: Device) -> None:
        """Index the orders of a device from the store."""
        for order in device.orders:
            self._last_number = max(self._last_number, order.number)
            self._index(device, order)
        if device.orders:
            self._changed(device, _START)

    def reclassed(self, device: Device) -> None:
        """The device has another profile, and perhaps another class: what waits may go at other times now."""
        if device.orders:
            self._changed(device, _START)

    def forget(self, device: Device) -> None:
        """The device is gone, with its orders and their rows."""
        for order in device.orders:
            del self._by_id[order.id]
        device.orders.clear()

    # Taking orders

    def queue(
        self,
        device: Device,
        order_id: str,
        fport: int,
        payload: bytes,
        confirmed: bool,
        now: Instant,
        *,
        priority: int = 0,
        ttl_s: float | None = None,
    ) -> Queued:
        """Raises QueueFull, or OrderError for what can never be sent."""
        if not 1 <= fport <= MAX_APPLICATION_FPORT:
            raise OrderError(f"FPort {fport} is not one of 1 to {MAX_APPLICATION_FPORT}")
        if len(payload) > self._longest:
            raise OrderError(
                f"{len(payload)} bytes of payload; {self._longest} is the most in this region: send it in parts"
            )
        check(priority, ttl_s)
        if len(device.orders) >= self._most:
            raise QueueFull(
                f"{self._most} downlinks wait for {device.dev_eui} already: wait for its next uplinks, or cancel some"
            )
        self._last_number += 1
        order = Order(
            order_id,
            fport,
            bytes(payload),
            confirmed,
            self._last_number,
            priority=priority,
            queued_ns=now.wall_ns,
            expires_ns=None if ttl_s is None else now.wall_ns + round(ttl_s * SECOND_NS),
        )
        position = len(device.orders)
        while position and device.orders[position - 1].priority < priority:
            position -= 1
        device.orders.insert(position, order)
        self._index(device, order)
        self._changed(device, now)
        return Queued(
            order_id,
            [orderstore.queued(device.dev_eui, order)],
            [_receipt(device, order, OrderFate.QUEUED, now)],
        )

    def cancel(self, device: Device, order_id: str | None, now: Instant, why: str) -> Due:
        """Take one order of a device back, or all. Raises OrderError where it has none of that id.

        One that is on its way cannot be called back; it is not repeated.
        """
        chosen = [order for order in device.orders if order_id in (None, order.id)]
        if order_id is not None and not chosen:
            raise OrderError(
                f"no downlink {order_id} waits for {device.dev_eui}: it was sent, or has failed, before"
            )
        due = Due(device.dev_eui)
        for order in chosen:
            words = why
            if order.state is not OrderState.QUEUED:
                words = f"{why}, after it was sent {_times(order.attempts)}"
            self._finish(device, order, due, OrderFate.FAILED, now, reason=words)
        self._changed(device, now)
        return due

    # What becomes of them

    def sent(self, downlink: Downlink, window: int, now: Instant) -> Due:
        """A gateway has taken a downlink, which need not carry an order."""
        due = Due(downlink.dev_eui or 0)
        found = self._by_id.get(downlink.id)
        if found is None:
            return due
        device, order = found
        name, fcnt, eui = downlink.window_name(window), downlink.fcnt, downlink.gateway
        on_its_way = order.state is OrderState.IN_FLIGHT and order.fcnt == fcnt
        if not order.confirmed:
            self._finish(device, order, due, OrderFate.SENT, now, window=name, fcnt=fcnt, gateway=eui)
        else:
            if on_its_way:
                order.state = OrderState.AWAITING_ACK
                order.since_ns = now.mono_ns
                due.writes.append(orderstore.state(order))
            due.receipts.append(
                _receipt(device, order, OrderFate.SENT, now, window=name, fcnt=fcnt, gateway=eui)
            )
        self._changed(device, now)
        return due

    def failed(self, downlink: Downlink, error: TxError, now: Instant) -> Due:
        """No gateway could send it: its order waits for another time."""
        due = Due(downlink.dev_eui or 0)
        found = self._by_id.get(downlink.id)
        if found is None:
            return due
        device, order = found
        if order.state is not OrderState.IN_FLIGHT or order.fcnt != downlink.fcnt:
            return due  # of an attempt that is over
        words = TX_ERROR_WORDS.get(error, str(error))
        order.held = f"not sent: {words}"
        order.state = OrderState.QUEUED
        if downlink.klass != "A":
            self._again(device, order, error, now, due)
            self._changed(device, now)
            return due
        device.problem = f"downlink {order.id} was not sent: {error}, {words}"
        if order.expires_ns is not None and order.expires_ns <= now.wall_ns:
            self._drop(device, order, due, now, _expired(order))
        elif order.attempts >= attempts_of(device):
            reason = f"refused by the radio {_times(order.attempts)}: {words}"
            self._drop(device, order, due, now, reason)
        else:
            due.writes.append(orderstore.state(order))
        self._changed(device, now)
        return due

    def _again(self, device: Device, order: Order, error: TxError, now: Instant, due: Due) -> None:
        """An order that needs no uplink was refused: a busy radio is asked again, one that never can is not."""
        order.attempts -= 1  # it has not left
        order.refusals += 1
        if order.expires_ns is not None and order.expires_ns <= now.wall_ns:
            self._drop(device, order, due, now, _expired(order))
            return
        if error in NEVER_WORKS and order.refusals >= MAX_REFUSALS:
            self._drop(device, order, due, now, f"refused by the radio: {TX_ERROR_WORDS[error]}")
            return
        order.not_before_ns = now.mono_ns + min(
            FIRST_PAUSE_NS << min(order.refusals - 1, 16), LONGEST_PAUSE_NS
        )
        due.writes.append(orderstore.state(order))
        if order.refusals == 1:
            due.receipts.append(
                _receipt(device, order, OrderFate.QUEUED, now, reason=f"it waits: {order.held}")
            )

    def settle(self, device: Device, ack: bool, now: Instant, due: Due, notes: list[str]) -> str | None:
        """What an uplink tells about the order that went out before it; the id where it is acknowledged."""
        acked = self._settle(device, ack, now, due, notes)
        self._changed(device, now)
        return acked

    def _settle(self, device: Device, ack: bool, now: Instant, due: Due, notes: list[str]) -> str | None:
        order = out(device)
        if order is None:
            return None
        if not order.confirmed:
            if now.mono_ns - order.since_ns > REPORT_NS:
                self.overdue(device, order, now, due)
            return None
        if ack:
            self.acked += 1
            self._finish(device, order, due, OrderFate.ACKNOWLEDGED, now, fcnt=order.fcnt)
            return order.id
        if device_class(device) is DeviceClass.A:  # else a time-out decides: it may answer later
            self.unacknowledged(device, order, now, due, notes)
        return None

    def overdue(self, device: Device, order: Order, now: Instant, due: Due) -> None:
        """No report or no acknowledgement has come in the time it had."""
        if order.confirmed:
            self.unacknowledged(device, order, now, due)
        else:
            reason = "no gateway has told whether it was sent"
            self._finish(device, order, due, OrderFate.SENT, now, reason=reason, fcnt=order.fcnt)

    def unacknowledged(
        self, device: Device, order: Order, now: Instant, due: Due, notes: list[str] | None = None
    ) -> None:
        """A confirmed order was not acknowledged in time: it is repeated, or given up."""
        if order.attempts < attempts_of(device):
            order.state = OrderState.QUEUED
            due.writes.append(orderstore.state(order))
            return
        words = f"never acknowledged, sent {_times(order.attempts)}"
        if notes is not None:
            notes.append(f"downlink {order.id} dropped: {words}")
        self._drop(device, order, due, now, f"{words}: see that the device hears this gateway")

    def too_long(self, device: Device, order: Order, most: int, now: Instant, due: Due) -> None:
        """No window of an uplink can carry the order, the longest takes `most` bytes: it waits, or is given up."""
        order.too_long += 1
        size = len(order.payload)
        order.held = f"{size} bytes are too many for the device's data rate, which takes {most}"
        if order.too_long >= MAX_TOO_LONG:
            reason = (
                f"too long: {size} bytes, and {most} fit at the device's data rate ({_times(order.too_long)} tried):"
                " send it in parts, or let ADR raise the data rate"
            )
            self._drop(device, order, due, now, reason)

    def due(self, now: Instant) -> Due:
        """Give up an order that has expired."""
        while self._expiries and self._expiries[0][0] <= now.wall_ns:
            _, order_id = heapq.heappop(self._expiries)
            found = self._by_id.get(order_id)
            if found is None:
                continue
            device, order = found
            if order.state is OrderState.IN_FLIGHT and not order.confirmed:
                continue  # it has left in time, most likely; the link is about to tell
            due = Due(device.dev_eui)
            self._drop(device, order, due, now, _expired(order))
            self._changed(device, now)
            return due
        return Due()

    def next_due_ns(self, now: Instant) -> int:
        """When `due` wants to be called, in monotonic time."""
        while self._expiries and self._expiries[0][1] not in self._by_id:
            heapq.heappop(self._expiries)
        return now.mono_ns + self._expiries[0][0] - now.wall_ns if self._expiries else NEVER_NS

    def _changed(self, device: Device, now: Instant) -> None:
        for watcher in self.watchers:
            watcher(device, now)

    def _index(self, device: Device, order: Order) -> None:
        self._by_id[order.id] = device, order
        if order.expires_ns is not None:
            heapq.heappush(self._expiries, (order.expires_ns, order.id))

    def _drop(self, device: Device, order: Order, due: Due, now: Instant, reason: str) -> None:
        self.dropped += 1
        self._finish(device, order, due, OrderFate.FAILED, now, reason=reason)

    def _finish(
        self,
        device: Device,
        order: Order,
        due: Due,
        fate: OrderFate,
        now: Instant,
        *,
        reason: str = "",
        window: str = "",
        fcnt: int | None = None,
        gateway: bytes | None = None,
    ) -> None:
        device.orders.remove(order)
        del self._by_id[order.id]
        due.writes.append(orderstore.done(order.id))
        due.receipts.append(
            _receipt(device, order, fate, now, reason=reason, window=window, fcnt=fcnt, gateway=gateway)
        )


def check(priority: int, ttl_s: float | None) -> None:
    """Raises OrderError for values outside their ranges."""
    if not 0 <= priority <= MAX_PRIORITY:
        raise OrderError(f"priority is 0 to {MAX_PRIORITY}, the highest goes first; not {priority}")
    if ttl_s is not None and not 0 < ttl_s <= MAX_TTL_S:
        raise OrderError(f"ttl_s is more than 0 and at most {MAX_TTL_S} seconds (30 days), not {ttl_s:g}")


def out(device: Device) -> Order | None:
    """The order that is on its way or waits for its acknowledgement: at most one of a device."""
    for order in device.orders:
        if order.state is not OrderState.QUEUED:
            return order
    return None


def attempts_of(device: Device) -> int:
    """How often an order of this device is sent at most."""
    return device.profile.max_downlink_attempts


def device_class(device: Device) -> DeviceClass:
    """A device of 1.0.x is of its profile's class; one of 1.1 as well, until it says another (DeviceModeInd)."""
    told = None if device.session is None else device.session.mac.device_class
    return device.profile.device_class if told is None else told


def _expired(order: Order) -> str:
    if order.attempts and order.confirmed:
        return f"expired: not acknowledged in time, sent {_times(order.attempts)}"
    why = order.held or "there was no chance to send it"
    return f"expired before it was sent ({why}): allow more time with ttl_s"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _receipt(
    device: Device,
    order: Order,
    state: OrderFate,
    now: Instant,
    *,
    reason: str = "",
    window: str = "",
    fcnt: int | None = None,
    gateway: bytes | None = None,
) -> Receipt:
    return Receipt(
        order.id, device.dev_eui, state, reason, now, window, fcnt, gateway, attempt=order.attempts
    )

"""Downlinks that users and applications have ordered: taken, sent, acknowledged or given up.

A device's orders go out one at a time, oldest first. An unconfirmed one is done once a gateway has taken it;
a confirmed one is repeated after each uplink, with a new FCntDown, until the device acknowledges it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lorawan import store
from gateway.lorawan.device import MAX_ORDERS, Device, Order, OrderState
from gateway.lorawan.errors import OrderError, QueueFull
from gateway.lorawan.frames import DataFrame
from gateway.lorawan.outcome import Writes
from radio.gwmp import TxError
from radio.regions import Region

MAX_ATTEMPTS = 8  # as often as a 1.0.x device repeats a confirmed uplink
MAX_APPLICATION_FPORT = 223  # 224 is for certification, the rest is reserved (1.0.2, 4.3.2)


@dataclass(frozen=True, slots=True)
class Queued:
    """An accepted downlink order; it may be promised once `writes` are durable."""

    id: str
    writes: Writes


class Orders:
    """Every waiting order, by id: at most MAX_ORDERS of each device."""

    def __init__(self, region: Region) -> None:
        self._longest = max(region.max_payload(dr) for dr in region.downlink_data_rates)
        self._by_id: dict[str, tuple[Device, Order]] = {}
        self._last_number = 0
        self.acked = 0
        self.dropped = 0

    def adopt(self, device: Device) -> None:
        """Index the orders of a device from the store."""
        for order in device.orders:
            self._last_number = max(self._last_number, order.number)
            self._by_id[order.id] = device, order

    def forget(self, device: Device) -> None:
        for order in device.orders:
            del self._by_id[order.id]

    def queue(self, device: Device, order_id: str, fport: int, payload: bytes, confirmed: bool) -> Queued:
        """Raises QueueFull, or OrderError for a port or payload that can never be sent."""
        if not 1 <= fport <= MAX_APPLICATION_FPORT:
            raise OrderError(f"FPort {fport} is not one of 1 to {MAX_APPLICATION_FPORT}")
        if len(payload) > self._longest:
            raise OrderError(f"{len(payload)} bytes of payload; {self._longest} is the most in this region")
        if len(device.orders) >= MAX_ORDERS:
            raise QueueFull(f"{MAX_ORDERS} downlinks wait for {device.dev_eui} already")
        self._last_number += 1
        order = Order(order_id, fport, bytes(payload), confirmed, self._last_number)
        device.orders.append(order)
        self._by_id[order_id] = device, order
        return Queued(order_id, [store.order_queued(device.dev_eui, order)])

    def sent(self, downlink_id: str) -> Writes:
        """A gateway has taken the downlink of that id, which need not carry an order."""
        found = self._by_id.get(downlink_id)
        if found is None:
            return []
        device, order = found
        if not order.confirmed:
            return self._finish(device, order)
        if order.state is OrderState.IN_FLIGHT:
            order.state = OrderState.AWAITING_ACK
        return []

    def failed(self, downlink_id: str, error: TxError) -> Writes:
        """No gateway could send it: its order waits for the next uplink."""
        found = self._by_id.get(downlink_id)
        if found is None:
            return []
        device, order = found
        device.problem = f"downlink {order.id} was not sent: {error}"
        order.state = OrderState.QUEUED
        return self._drop(device, order) if order.attempts >= MAX_ATTEMPTS else []

    def settle(self, device: Device, frame: DataFrame, writes: Writes, notes: list[str]) -> str | None:
        """What an uplink tells about the order that went out before it; the id where it is acknowledged."""
        if not device.orders:
            return None
        order = device.orders[0]
        if order.state is OrderState.QUEUED:
            return None
        if not order.confirmed:  # its windows are long over, and no gateway has refused it
            writes += self._finish(device, order)
            return None
        if frame.ack:
            self.acked += 1
            writes += self._finish(device, order)
            return order.id
        if order.attempts >= MAX_ATTEMPTS:
            notes.append(f"downlink {order.id} dropped: sent {order.attempts} times, never acknowledged")
            writes += self._drop(device, order)
        return None

    def _drop(self, device: Device, order: Order) -> Writes:
        self.dropped += 1
        return self._finish(device, order)

    def _finish(self, device: Device, order: Order) -> Writes:
        device.orders.remove(order)
        del self._by_id[order.id]
        return [store.order_done(order.id)]

"""Downlinks in ping slots: which order goes when (LoRaWAN 1.0.4, 9.3; 1.0.3, 9).

An order is composed shortly before its slot: had it a counter long before, an answer to an uplink in between would
overtake it and the device would drop it. It carries no MAC commands, which devices discard in a ping slot. While one
is on its way none follows, and after a confirmed one the device's answer or its time-out is waited for.

Pure: `due` is called when `next_due_ns` says, for one device at a time.
"""

from __future__ import annotations

from gateway.lorawan.agenda import Agenda
from gateway.lorawan.answering import Answerer
from gateway.lorawan.classb import slots
from gateway.lorawan.classb.gateways import Gateways
from gateway.lorawan.classb.plan import ClassBPlan
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device, Order, OrderState, Session
from gateway.lorawan.group import Group
from gateway.lorawan.orders import NEVER_NS, REPORT_NS, SECOND_NS, Orders, device_class, out
from gateway.lorawan.outcome import Due
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.settings import Settings
from gateway.lorawan.windows import Window, window
from radio.lora import airtime_us

LEAD_MS = 700  # before its slot an order is with the gateway: the way there, and what its radio needs
COMPOSE_MS = 800  # before that it is composed, and may wait for a commit
LOOK_AGAIN_NS = 30 * SECOND_NS  # while a gateway's time is not good enough
NAME = "ping slot"
_HEADER = 13  # bytes of MHDR, FHDR, FPort and MIC around a payload
_MS_NS = 1_000_000


def listens(session: Session) -> bool:
    """Does the device listen in ping slots now, and does the network know which ones?"""
    if not session.mac.class_b or periodicity(session) is None:
        return False
    return device_class(session.device) is not DeviceClass.C


def periodicity(session: Session) -> int | None:
    """A slot each 2**n s: as the device has told, else as its profile says. None: nobody knows."""
    if session.mac.ping_period is not None:
        return session.mac.ping_period
    period_s = session.device.profile.ping_slot_period_s
    return None if period_s is None else period_s.bit_length() - 1


class PingSlots(Agenda):
    """Every device that listens in ping slots and for which something waits."""

    def __init__(
        self,
        plan: ClassBPlan,
        settings: Settings,
        orders: Orders,
        answerer: Answerer,
        gateways: Gateways,
    ) -> None:
        super().__init__()
        self._plan = plan
        self._settings = settings
        self._orders = orders
        self._answerer = answerer
        self._gateways = gateways
        self._group_slots: dict[str, int] = {}  # by group: its last slot, GPS ms

    def group_slot(self, group: Group, gateway: bytes, now: Instant) -> Window | str:
        """The next slot of a group by a gateway, none used twice; or why there is none."""
        config = group.config
        why_not, gps_ms = self._gateways.why_not(gateway, now), self._gateways.gps_ms(now)
        if why_not or gps_ms is None:
            return why_not or "nobody knows the time"
        from_ms = max(gps_ms + LEAD_MS, self._group_slots.get(config.name, 0) + 1)
        longest = max((len(order.payload) for order in group.orders), default=0)
        told = config.freq_hz or 0, self._plan.dr if config.dr is None else config.dr
        found = self._slot(config.mc_addr, config.ping_period, told, longest, from_ms)
        if isinstance(found, str):
            return found
        self._group_slots[config.name] = found.tmms or 0
        return found

    # One device

    def _when(self, device: Device, now: Instant) -> int:
        """When something is to be done for this device, in monotonic time."""
        session = device.session
        if session is None or not device.orders:
            return NEVER_NS
        order = out(device)
        if order is not None:
            if device_class(device) is DeviceClass.C or not (
                listens(session) or device_class(device) is DeviceClass.B
            ):
                return NEVER_NS
            awaited = order.state is OrderState.AWAITING_ACK
            return order.since_ns + (device.profile.class_b_timeout_s * SECOND_NS if awaited else REPORT_NS)
        if not listens(session):
            return NEVER_NS
        found, gps_ms = self._first(device, session, now)
        if isinstance(found, str):
            device.orders[0].held = found
            return now.mono_ns + LOOK_AGAIN_NS
        slot_ms = found[1].tmms or 0
        return now.mono_ns + max(0, slot_ms - LEAD_MS - COMPOSE_MS - gps_ms) * _MS_NS

    def _act(self, device: Device, now: Instant) -> Due:
        due = Due(device.dev_eui)
        order = out(device)
        if order is not None:
            self._orders.overdue(device, order, now, due)
            return due
        session = device.session
        assert session is not None
        found, _ = self._first(device, session, now)
        assert not isinstance(found, str)
        order, slot = found
        answer = self._answerer.compose_alone(session, order, (slot,), now, DeviceClass.B)
        due.writes += answer.writes
        if answer.downlink is not None:
            due.downlinks.append(answer.downlink)
        else:
            order.not_before_ns = NEVER_NS  # FCntDown is used up
        return due

    def _first(
        self, device: Device, session: Session, now: Instant
    ) -> tuple[tuple[Order, Window] | str, int]:
        """The first order that fits with its slot, or why there is none; and GPS time now."""
        gps_ms = self._gateways.gps_ms(now)
        if gps_ms is None:
            return "nobody knows the time: neither a GNSS receiver nor a synchronised clock", 0
        heard_by = device.gateways
        if not heard_by:
            return "no gateway has heard the device since the start", gps_ms
        period = periodicity(session)
        assert period is not None
        told = session.mac.ping_slot
        problem = ""
        for order in device.orders:
            if order.not_before_ns == NEVER_NS:
                continue
            why_not = self._gateways.why_not(heard_by[order.refusals % len(heard_by)], now)
            if why_not:
                return f"its gateway cannot send at a GPS time: {why_not}", gps_ms
            earliest_ns = max(now.mono_ns, order.not_before_ns, _busy_until_ns(session))
            from_ms = gps_ms + LEAD_MS + (earliest_ns - now.mono_ns) // _MS_NS
            slot = self._slot(session.dev_addr, period, told, len(order.payload), from_ms)
            if not isinstance(slot, str):
                return (order, slot), gps_ms
            order.held = problem = slot
        return problem or "FCntDown is used up: the device has to join again", gps_ms

    def _slot(
        self, dev_addr: int, period: int, told: tuple[int, int] | None, size: int, from_ms: int
    ) -> Window | str:
        """An address's next slot for a payload of that size, or why it has none."""
        region = self._plan.region
        dr = self._plan.dr if told is None or told[1] not in region.downlink_data_rates else told[1]
        on_air_ms = airtime_us(region.downlink_data_rates[dr], size + _HEADER, crc=False) // 1000 + 1
        start_ms, beacon_s = next(slots.slots_from(from_ms, dev_addr, period, on_air_ms))
        freq_hz, _ = self._plan.ping_slot(dev_addr, beacon_s, told)
        found = window(NAME, region, self._settings, freq_hz, dr, tmms=start_ms)
        if found is None:
            return f"{freq_hz / 1e6:.10g} MHz, the frequency of its ping slots, is not open to gateways here"
        if size > found.max_payload:
            return f"{size} bytes are too many for its ping slots, which take {found.max_payload}"
        return found


def _busy_until_ns(session: Session) -> int:
    """While a device waits for the answer to its last uplink it does not listen elsewhere; monotonic ns."""
    return session.last_heard_ns + (session.rx1_delay_s + 2) * SECOND_NS if session.last_heard_ns else 0

"""Class B of one network server: beacons and ping slots behind one seam, and in words how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.lorawan.answering import Answerer
from gateway.lorawan.classb import slots
from gateway.lorawan.classb.beacons import KLASS, Beacons, BeaconSeen
from gateway.lorawan.classb.downlinks import PingSlots, listens
from gateway.lorawan.classb.gateways import Gateways, of_radio
from gateway.lorawan.classb.plan import ClassBPlan
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device
from gateway.lorawan.group import Group
from gateway.lorawan.mac import BeaconTimingAns
from gateway.lorawan.orders import NEVER_NS, Orders
from gateway.lorawan.outcome import Downlink, Due
from gateway.lorawan.settings import Settings
from gateway.lorawan.windows import Window
from radio.gnss.leap import BUILT_IN, LeapSeconds
from radio.gwmp import TxError
from radio.regions import Region

OFF = "class B is off: set class_b = true in [lorawan]"
_MS_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class ClassBStatus:
    """For people."""

    class_b: bool
    beacon: bool  # beacons are being sent, as far as is known
    problem: str  # why no beacon is sent; "" where they are
    gps_ms: int | None  # GPS time now; None: nobody knows
    next_beacon_ms: int | None
    freq_hz: int | None  # of the next beacon
    datr: str
    error_us: float | None  # how wrong the time of this machine's radio may be
    senders: tuple[str, ...]  # EUIs
    devices: int  # in class B now
    counters: Mapping[str, int]
    last: tuple[BeaconSeen, ...]  # oldest first


class ClassB:
    def __init__(
        self,
        region: Region,
        settings: Settings,
        net_id: int,
        orders: Orders,
        answerer: Answerer,
        rng: Random,
        leap: LeapSeconds = BUILT_IN,
    ) -> None:
        self.gateways = Gateways(leap)
        self.beacons: Beacons | None = None
        self._pings: PingSlots | None = None
        self._settings = settings
        self._region = region
        self._plan = ClassBPlan.of(region, settings.beacon_hz)
        if settings.class_b and self._plan is not None:
            self.beacons = Beacons(self._plan, settings, net_id, self.gateways, rng)
            self._pings = PingSlots(self._plan, settings, orders, answerer, self.gateways)
            orders.watchers.append(self._pings.touch)

    # Time

    def told(self, eui: bytes, status: Mapping[str, Any], now: Instant) -> None:
        """The status of the radio of this machine, whose gateway has that EUI."""
        self.gateways.told(eui, of_radio(status, now))

    def due(self, now: Instant) -> Due:
        """The beacons of the next period, or the downlink of one device."""
        if self.beacons is None or self._pings is None:
            return Due()
        gps_ms = self.gateways.gps_ms(now)
        if gps_ms is not None and (orders := self.beacons.due(gps_ms, now)):
            return Due(downlinks=orders)
        return self._pings.due(now)

    def next_due_ns(self, now: Instant) -> int:
        """When `due` wants to be called, in monotonic time."""
        if self.beacons is None or self._pings is None:
            return NEVER_NS
        due_ns = self._pings.next_due_ns()
        gps_ms = self.gateways.gps_ms(now)
        if gps_ms is None:
            return due_ns
        beacon_ms = self.beacons.next_due_ms(gps_ms)
        return due_ns if beacon_ms is None else min(due_ns, now.mono_ns + (beacon_ms - gps_ms) * _MS_NS)

    def timing(self, gps_ms: int) -> BeaconTimingAns | None:
        """When and where the next beacon is, for a device that asks the old way; None where none is sent."""
        if self.beacons is None or self._plan is None:
            return None
        beacon_s = slots.beacon_before(gps_ms) + slots.BEACON_PERIOD_MS // 1000
        delay = (slots.beacon_start_ms(beacon_s) - gps_ms) // slots.SLOT_MS
        return BeaconTimingAns(delay, self._plan.beacon_channel(beacon_s))

    def slots_of_groups(self, group: Group, gateway: bytes, now: Instant) -> Window | str:
        """`multicast.Slots`."""
        if self._pings is None:
            return OFF if not self._settings.class_b else self._no_plan()
        return self._pings.group_slot(group, gateway, now)

    # What became of orders

    def is_beacon(self, downlink: Downlink) -> bool:
        return downlink.klass == KLASS

    def reported(self, downlink: Downlink, error: TxError, now: Instant) -> None:
        """A gateway has accepted or refused a beacon or a downlink by GPS time."""
        if self.beacons is not None and downlink.klass == KLASS:
            self.beacons.reported(downlink, error, now)
        elif downlink.klass == "B" and error is TxError.GPS_UNLOCKED:
            self.gateways.refused(downlink.gateway or b"", now)

    # For people

    def problem(self, now: Instant) -> str:
        """Why no beacon is sent; "" where they are."""
        if not self._settings.class_b:
            return OFF
        return self._no_plan() if self.beacons is None else self.beacons.why_not(now)

    def status(self, devices: Mapping[int, Device], now: Instant) -> ClassBStatus:
        gps_ms, problem = self.gateways.gps_ms(now), self.problem(now)
        beacon_ms = freq_hz = None
        if gps_ms is not None and not problem and self._plan is not None:
            beacon_s = slots.beacon_before(gps_ms) + slots.BEACON_PERIOD_MS // 1000
            beacon_ms, freq_hz = slots.beacon_start_ms(beacon_s), self._plan.beacon_freq_hz(beacon_s)
        beacons, own = self.beacons, self.gateways.own
        sessions = (device.session for device in devices.values())
        return ClassBStatus(
            class_b=self._settings.class_b,
            beacon=not problem,
            problem=problem,
            gps_ms=gps_ms,
            next_beacon_ms=beacon_ms,
            freq_hz=freq_hz,
            datr="" if self._plan is None else self._plan.modulation.datr,
            error_us=None if own is None else own.error_us,
            senders=() if beacons is None else tuple(eui.hex() for eui in beacons.senders()),
            devices=sum(session is not None and listens(session) for session in sessions),
            counters={} if beacons is None else dict(beacons.counters),
            last=() if beacons is None else tuple(beacons.last),
        )

    def _no_plan(self) -> str:
        return f"no beacon is known for {self._region.name}: sources differ (docs/classb.md)"

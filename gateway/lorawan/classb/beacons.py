"""Beacons: one each 128 s from each gateway that is to send them, as long as its time is good enough.

They are ordered some seconds ahead, so that the radio keeps their place free of downlinks, and not much more, because
a crystal carries GPS time only so far.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.lorawan.classb import beacon, slots
from gateway.lorawan.classb.gateways import Gateways
from gateway.lorawan.classb.plan import ClassBPlan
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.settings import Settings
from radio.gwmp import TxError, TxPacket

KLASS: Final = "beacon"  # of its Downlink
AHEAD_MS: Final = 20_000  # more than an RX2 can be ahead (15 s and 1 s)
TOO_LATE_MS: Final = 2_000
START_ERROR_US: Final = 100  # of a transmission started from user space, beside the clock's own error
KEPT: Final = 32  # beacons in the status
_REFUSED: Final = {
    TxError.GPS_UNLOCKED: "the gateway has no GPS time",
    TxError.COLLISION_BEACON: "the gateway sends a beacon of its own: leave it out of beacon_gateways",
    TxError.COLLISION_PACKET: "a downlink had its time already, or the duty cycle of the band is used up",
    TxError.TX_FREQ: "the gateway may not send there: see its region and [[radio.sub_band]]",
    TxError.TX_POWER: "the gateway cannot send with so much power: set max_eirp_dbm",
    TxError.TOO_LATE: "the order came too late, or the gateway is gone",
}


@dataclass(frozen=True, slots=True)
class BeaconSeen:
    """What became of one beacon."""

    beacon_s: int  # its GPS time
    gateway: bytes
    freq_hz: int
    outcome: str  # "ordered", "sent", or why not
    sent: bool = False


class Beacons:
    def __init__(
        self, plan: ClassBPlan, settings: Settings, net_id: int, gateways: Gateways, rng: Random
    ) -> None:
        self.counters = {"ordered": 0, "sent": 0, "refused": 0, "left_out": 0}
        self.last: deque[BeaconSeen] = deque(maxlen=KEPT)
        self._plan = plan
        self._settings = settings
        self._net_id = net_id
        self._gateways = gateways
        self._rng = rng
        self._done_s = 0  # beacon time of the last one that was seen to

    def senders(self) -> tuple[bytes, ...]:
        """Who is to send beacons: those that are set, else the radio of this machine."""
        if self._settings.beacon_gateways:
            return self._settings.beacon_gateways
        return (self._gateways.own_eui,) if self._gateways.own_eui else ()

    def why_not(self, now: Instant) -> str:
        """Why no beacon will be sent; "" where nothing is in its way."""
        if not self._settings.beacon:
            return "beacons are left to the gateways (beacon = false)"
        freq_hz = self._plan.beacon_freq_hz(0)
        if self._plan.power_dbm(freq_hz, self._plan.modulation, None) is None:
            return (
                f"{freq_hz / 1e6:.10g} MHz is not open to gateways in {self._plan.region.name} as its limits are set: "
                "see [[radio.sub_band]]"
            )
        senders = self.senders()
        if not senders:
            return "no gateway is there to send them: the radio of this machine has not been heard of yet"
        reasons = [self._gateways.why_not(eui, now) for eui in senders]
        if all(reasons):
            return reasons[0]
        if self._gateways.gps_ms(now) is None:
            return "nobody knows the time: neither a GNSS receiver nor a synchronised clock"
        return ""

    def next_due_ms(self, gps_ms: int) -> int | None:
        """When the next beacon is to be ordered, in GPS time; None where none is."""
        if not self._settings.beacon or not self.senders():
            return None
        following_s = max(slots.beacon_before(gps_ms + TOO_LATE_MS), self._done_s) + 128
        return slots.beacon_start_ms(following_s) - AHEAD_MS

    def due(self, gps_ms: int, now: Instant) -> list[Downlink]:
        """The orders for the next beacon, where it is time for them."""
        due_ms = self.next_due_ms(gps_ms)
        if due_ms is None or gps_ms < due_ms:
            return []
        beacon_s = (due_ms + AHEAD_MS) // 1000
        self._done_s = beacon_s
        orders = []
        for eui in self.senders():
            order = self._order(eui, beacon_s, now)
            if order is None:
                self.counters["left_out"] += 1
                continue
            self.counters["ordered"] += 1
            orders.append(order)
        return orders

    def reported(self, downlink: Downlink, error: TxError, now: Instant) -> None:
        """A gateway has accepted a beacon, or refused it."""
        eui = downlink.gateway or b""
        if error is TxError.NONE:
            self.counters["sent"] += 1
            self._gateways.kept(eui, now)
        else:
            self.counters["refused"] += 1
        if error is TxError.GPS_UNLOCKED:
            self._gateways.refused(eui, now)
        (packet,) = downlink.windows
        self._note(
            (packet.tmms or 0) // 1000,
            eui,
            packet.freq_hz,
            "sent" if error is TxError.NONE else _REFUSED.get(error, str(error)),
            sent=error is TxError.NONE,
        )

    def _order(self, eui: bytes, beacon_s: int, now: Instant) -> Downlink | None:
        plan = self._plan
        freq_hz = plan.beacon_freq_hz(beacon_s)
        missing = self._gateways.why_not(eui, now)
        power_dbm = plan.power_dbm(freq_hz, plan.modulation, self._settings.max_eirp_dbm)
        if not missing and power_dbm is None:
            missing = "its frequency is not open to gateways here"
        if not missing and self._rng.random() >= self._settings.beacon_share:
            missing = "left out by lot (beacon_share)"
        if missing or power_dbm is None:
            self._note(beacon_s, eui, freq_hz, missing)
            return None
        packet = TxPacket(
            tmst=None,
            imme=False,
            freq_hz=freq_hz,
            rfch=0,
            powe_dbm=power_dbm,
            modulation=plan.modulation,
            ipol=False,
            data=self._frame(eui, beacon_s).encode(plan.modulation.sf),
            ncrc=True,
            preamble=beacon.PREAMBLE,
            tmms=slots.beacon_start_ms(beacon_s),
            nhdr=True,
        )
        return Downlink(
            id=f"beacon-{beacon_s}-{eui.hex()}",
            dev_eui=None,
            windows=(packet,),
            confirmed=False,
            fcnt=None,
            after_commit=False,
            klass=KLASS,
            gateway=eui,
            group="beacon",
            names=("beacon",),
        )

    def _frame(self, eui: bytes, beacon_s: int) -> beacon.BeaconFrame:
        """An external gateway's half of a millisecond is the most that is unknown of it."""
        error_us = self._gateways.error_us(eui)
        precision = beacon.precision_of(None if error_us is None else error_us + START_ERROR_US)
        place = self._gateways.place(eui)
        if place is None:
            desc, info = beacon.NETWORK_AND_GATEWAY, beacon.gateway_info(self._net_id, eui)
        else:
            desc, info = beacon.FIRST_ANTENNA, beacon.place_info(*place)
        return beacon.BeaconFrame(beacon_s % (1 << 32), 3 if precision is None else precision, desc, info)

    def _note(self, beacon_s: int, eui: bytes, freq_hz: int, outcome: str, *, sent: bool = False) -> None:
        self.last.append(BeaconSeen(beacon_s, eui, freq_hz, outcome, sent))

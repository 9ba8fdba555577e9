"""What the law of the place says about one downlink: where, how strong, how long, how often. Pure but for its
books' own lock.

In: an order, its length and the moment of its start. Out: the sub-band it may use, or a refusal with the
protocol's error, a technician's words and the moment it would be allowed. Modules and queues are the
concentrator's matter, and so is asking again with another module.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from radio.gwmp import TxError, TxPacket
from radio.ledger import Airtime, Booking
from radio.regions import Region, SubBand

US: Final = 1000
WRITE_SOON_NS: Final = 1_000_000_000  # an order that waits for the ledger's file is allowed again within that
ASKED_MS: Final = (100, 500, 1500, 3000)  # time on air of typical frames, for "when would it be allowed"
KEPT_REFUSALS: Final = 16
EIRP_SLACK_DB: Final = 1e-6  # gains are decimal fractions


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order must not be sent."""

    kind: str  # what counters and status call it
    error: TxError
    reason: str
    allowed_from_ns: int | None = None  # None: not as it is


class Regulation:
    """One gateway's rules and books. From any thread."""

    def __init__(
        self,
        region: Region,
        airtime: Airtime,
        *,
        antenna_gain_dbi: float = 0.0,
        cable_loss_db: float = 0.0,
        limit_dwell: bool = False,
    ) -> None:
        self.region = region
        self.airtime = airtime
        self.net_gain_db = antenna_gain_dbi - cable_loss_db
        self.dwell_limit_us = region.dwell_limit_us if limit_dwell else None
        self._gain = (antenna_gain_dbi, cable_loss_db)
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT_REFUSALS)

    # --- one order ----------------------------------------------------------------------------------

    def band_for(self, order: TxPacket, airtime_us: int) -> SubBand | Refusal:
        """The sub-band this frame may be sent in, whatever the moment and the module."""
        band = self.region.sub_band_for(order.freq_hz, order.modulation.bw_hz)
        if band is None:
            return Refusal("frequency", TxError.TX_FREQ, self._where(order))
        if order.modulation.sf == 6 or not order.data:
            return Refusal("frame", TxError.TX_FREQ, "no frame a LoRaWAN gateway sends")
        if order.powe_dbm > band.max_eirp_dbm:
            reason = f"{order.powe_dbm} dBm EIRP; {band.max_eirp_dbm} dBm is the limit at {order.freq_hz} Hz"
            return Refusal("power", TxError.TX_POWER, reason)
        if self.dwell_limit_us is not None and airtime_us > self.dwell_limit_us:
            reason = (
                f"{airtime_us / 1000:.0f} ms on air; {self.dwell_limit_us / 1000:.0f} ms is the longest here: "
                "a faster data rate or a shorter frame is needed"
            )
            return Refusal("dwell", TxError.TX_FREQ, reason)
        return band

    def power(self, band: SubBand, eirp_dbm: int, weakest_dbm: int, strongest_dbm: int) -> int | Refusal:
        """Power at a module's connector for an EIRP, as near as the module comes from below or, where it
        cannot go low enough, from above within the limit."""
        power_dbm = max(weakest_dbm, min(math.floor(eirp_dbm - self.net_gain_db), strongest_dbm))
        if power_dbm + self.net_gain_db > band.max_eirp_dbm + EIRP_SLACK_DB:
            reason = (
                f"the module's weakest {weakest_dbm} dBm make {power_dbm + self.net_gain_db:g} dBm EIRP with this "
                f"antenna; {band.max_eirp_dbm} dBm is the limit in {band}"
            )
            return Refusal("power", TxError.TX_POWER, reason)
        return power_dbm

    def reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> Refusal | None:
        """Book the time on air, or say when it would be free. GWMP has no word for an exhausted duty cycle;
        an occupied channel comes nearest."""
        match self.airtime.try_reserve(band, start_ns, airtime_us, now_ns):
            case Booking.DONE:
                return None
            case Booking.NOT_WRITTEN:
                reason = (
                    f"{airtime_us / 1000:.0f} ms on air wait for the airtime ledger to reach the disk: "
                    "allowed within 1 s"
                )
                return Refusal("ledger", TxError.COLLISION_PACKET, reason, now_ns + WRITE_SOON_NS)
            case Booking.OVER_BUDGET:
                allowed_ns = self.airtime.allowed_from(band, start_ns, airtime_us)
        when = (
            "never: it is longer than an hour's budget"
            if allowed_ns is None
            else f"in {(allowed_ns - now_ns) / 1e9:.0f} s"
        )
        reason = (
            f"duty cycle {band.duty:.1%} of {band} is used up; "
            f"{airtime_us / 1000:.0f} ms would be allowed {when}"
        )
        return Refusal("duty_cycle", TxError.COLLISION_PACKET, reason, allowed_ns)

    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None:
        """The frame was never sent."""
        self.airtime.release(band, start_ns, airtime_us)

    def note(self, refusal: Refusal, now_ns: int) -> None:
        """Count a refusal and keep it for the status."""
        with self._lock:
            self._refused[refusal.kind] += 1
            self._last.append(
                {
                    "at_ns": now_ns,
                    "kind": refusal.kind,
                    "error": str(refusal.error),
                    "reason": refusal.reason,
                    "allowed_in_ms": _ms(refusal.allowed_from_ns, now_ns),
                }
            )

    def _where(self, order: TxPacket) -> str:
        region = self.region
        where = f"{order.freq_hz / 1e6:.10g} MHz with {order.modulation.bw_hz // 1000} kHz"
        if region.fixed_plan:
            near = min(region.downlink_channels_hz, key=lambda hz: abs(hz - order.freq_hz))
            return f"{where} is no downlink channel of {region.name}; the nearest is {near / 1e6:.10g} MHz"
        open_to = ", ".join(str(band) for band in region.sub_bands)
        return f"{where} is not open to gateways in {region.name}: {open_to} are"

    # --- for people ---------------------------------------------------------------------------------

    def duty_cycle(self, now_ns: int) -> list[dict[str, Any]]:
        """Each sub-band: used and budget of the last hour (us, None: no limit), and in how many ms a frame of
        so many ms would be allowed (None: never)."""
        return [self._band_status(band, now_ns) for band in self.region.sub_bands]

    def status(self, now_ns: int, lbt: Mapping[str, int]) -> dict[str, Any]:
        """The rules in force and what they refused. `lbt` counts what listening before talk did."""
        region = self.region
        with self._lock:
            refused, last = dict(self._refused), list(self._last)
        return {
            "region": region.name,
            "dwell_us": self.dwell_limit_us,
            "lbt": None
            if region.lbt is None
            else {
                "threshold_dbm": region.lbt.threshold_dbm,
                "listen_us": region.lbt.listen_ns // US,
                **lbt,
            },
            "antenna_gain_dbi": self._gain[0],
            "cable_loss_db": self._gain[1],
            "refused": refused,
            "last_refusals": last,
            "unverified": list(region.unverified),
            "ledger": {
                "survives_restart": self.airtime.survives_restart,
                "fault": self.airtime.fault,
                "writes": self.airtime.writes,
            },
        }

    def _band_status(self, band: SubBand, now_ns: int) -> dict[str, Any]:
        allowed = {
            str(ms): _ms(self.airtime.allowed_from(band, now_ns, ms * 1000), now_ns) for ms in ASKED_MS
        }
        return {
            "min_hz": band.min_hz,
            "max_hz": band.max_hz,
            "duty": band.duty,
            "max_eirp_dbm": band.max_eirp_dbm,
            "used_us": self.airtime.used_us(band, now_ns),
            "budget_us": self.airtime.budget_us(band),
            "allowed_in_ms": allowed,
        }


def _ms(at_ns: int | None, now_ns: int) -> int | None:
    return None if at_ns is None else max(0, -(-(at_ns - now_ns) // 1_000_000))

"""All modules of a gateway as one: frames with one time base, and downlink orders checked and given out.

Towards the forwarder this is what a multi-channel concentrator would be. It decides, on arrival of an order,
whether the region, the power limits, the duty cycle and a transmitter's queue allow it. Time is an argument;
the lock is only ever held across pure code, so that threads in lock-step with a simulator cannot block each
other.
"""

import itertools
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from radio.dutycycle import DutyCycle
from radio.gwmp import U32, RxPacket, TxError, TxPacket
from radio.jit import Transmission
from radio.lora import airtime_us
from radio.regions import Region, SubBand
from radio.sx127x.modem import Event, Fault, NotSent, Received, Sent
from radio.sx127x.registers import FREQUENCY_RANGE_HZ, Power

log = logging.getLogger(__name__)

US: Final = 1000
DEFAULT_PREAMBLE: Final = 8
MIN_PREAMBLE: Final = 6  # the chip's shortest


class Transmitter(Protocol):
    """What the concentrator needs of a module's owner."""

    name: str

    def submit(self, tx: Transmission, now_ns: int) -> TxError: ...
    def earliest_start(self, airtime_us: int, now_ns: int) -> int: ...


@dataclass(frozen=True, slots=True)
class TxModule:
    """A module that may send."""

    owner: Transmitter
    receives: bool  # sending deafens it
    pa_boost: bool
    max_power_dbm: int


@dataclass(frozen=True, slots=True)
class TxResult:
    """What became of an order."""

    error: TxError
    reason: str = ""  # for a technician; empty where accepted as asked
    power_dbm: int | None = None  # EIRP really used, where the module cannot do what was asked
    start_ns: int | None = None  # when the frame will start
    over_duty: bool = False  # refused because the sub-band's time on air is used up
    allowed_from_ns: int | None = None  # and when it would be allowed; None: never, it is too long
    id: int | None = None  # of an accepted order


class Concentrator:
    """The gateway's radio as a whole.

    `on_frame` gets every frame and the time its last symbol ended, in the thread of the module that heard it.
    """

    def __init__(
        self,
        region: Region,
        on_frame: Callable[[RxPacket, int], None],
        *,
        antenna_gain_dbi: float = 0.0,
        tx_lead_us: int = 0,
        utc_ns: Callable[[int], int | None] | None = None,
        forward_crc_errors: bool = True,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._region = region
        self._on_frame = on_frame
        self._gain_db = antenna_gain_dbi
        self._lead_ns = tx_lead_us * US
        self._utc_ns = utc_ns
        self._forward_crc_errors = forward_crc_errors
        self._transmitters: list[TxModule] = []
        self._duty = DutyCycle(region.sub_bands)
        self._booked: dict[
            int, tuple[SubBand, int, int]
        ] = {}  # by order, while it waits: at most 32 a module
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def use(self, transmitters: Sequence[TxModule]) -> None:
        """The modules that may send. Those that receive nothing are asked first: sending deafens them not."""
        self._transmitters = sorted(transmitters, key=lambda module: module.receives)

    # --- frames from the modules ------------------------------------------------------------------

    def on_event(self, channel: int, event: Event) -> None:
        """Something happened on the module with index `channel`."""
        match event:
            case Received():
                self._received(channel, event)
            case Sent(tx, _start_ns, _coarse):
                self._count("tx_sent")
                self._settle(tx, sent=True)
            case NotSent(tx, reason, maybe_aired):
                self._count("tx_not_sent")
                self._settle(tx, sent=maybe_aired)
                log.error("downlink %d accepted but not sent: %s", tx.id, reason)
            case Fault():
                self._count("module_faults")

    def _received(self, channel: int, event: Received) -> None:
        packet = event.packet
        stat = 0 if not packet.crc_present else 1 if packet.crc_ok else -1
        self._count("rx_frames")
        self._count({1: "rx_crc_good", -1: "rx_crc_bad", 0: "rx_crc_none"}[stat])
        if event.coarse:
            self._count("rx_coarse")
        if stat < 0 and not self._forward_crc_errors:
            return
        self._on_frame(
            RxPacket(
                tmst=event.end_ns // US % U32,
                freq_hz=event.freq_hz,
                chan=channel,
                rfch=0,
                stat=stat,
                modulation=event.modulation,
                rssi_dbm=packet.rssi_dbm,
                lsnr_db=packet.snr_db,
                data=packet.payload,
                time_ns=None if self._utc_ns is None else self._utc_ns(event.end_ns),
                foff_hz=packet.freq_error_hz,
            ),
            event.end_ns,
        )

    # --- orders from the server -------------------------------------------------------------------

    def transmit(self, order: TxPacket, now_ns: int) -> TxResult:
        """Accept a downlink and promise its moment, or refuse it with the protocol's error."""
        result = self._transmit(order, now_ns)
        self._count("tx_accepted" if result.error is TxError.NONE else f"tx_refused_{result.error.lower()}")
        if result.error is not TxError.NONE:
            log.info("downlink refused: %s, %s", result.error, result.reason)
        return result

    def _transmit(self, order: TxPacket, now_ns: int) -> TxResult:
        if order.tmst is None and not order.imme:
            return TxResult(TxError.GPS_UNLOCKED, "this gateway has no GPS time to send by")
        band = self._band(order)
        if band is None:
            return TxResult(
                TxError.TX_FREQ, f"{order.freq_hz} Hz is not open to gateways in {self._region.name}"
            )
        if order.modulation.sf == 6 or not order.data:
            return TxResult(TxError.TX_FREQ, "no frame a LoRaWAN gateway sends")
        if order.powe_dbm > band.max_eirp_dbm:
            reason = f"{order.powe_dbm} dBm EIRP; {band.max_eirp_dbm} dBm is the limit at {order.freq_hz} Hz"
            return TxResult(TxError.TX_POWER, reason)
        result = TxResult(TxError.COLLISION_PACKET, "no module of this gateway sends")
        for module in self._transmitters:
            result = self._try(module, order, band, now_ns)
            # Only an occupied module makes the next one worth asking.
            if result.error is not TxError.COLLISION_PACKET or result.over_duty:
                break
        return result

    def _band(self, order: TxPacket) -> SubBand | None:
        if not FREQUENCY_RANGE_HZ[0] <= order.freq_hz <= FREQUENCY_RANGE_HZ[1]:
            return None
        return self._region.sub_band_for(order.freq_hz, order.modulation.bw_hz)

    def _try(self, module: TxModule, order: TxPacket, band: SubBand, now_ns: int) -> TxResult:
        wanted_dbm = math.floor(order.powe_dbm - self._gain_db)
        low_dbm, high_dbm = Power.limits(module.pa_boost)
        power_dbm = max(low_dbm, min(wanted_dbm, high_dbm, module.max_power_dbm))
        preamble = max(MIN_PREAMBLE, DEFAULT_PREAMBLE if order.preamble is None else order.preamble)
        length_us = airtime_us(order.modulation, len(order.data), preamble=preamble, crc=not order.ncrc)
        if order.imme:
            start_ns = module.owner.earliest_start(length_us, now_ns)
        else:
            assert order.tmst is not None
            start_ns = time_of(order.tmst, now_ns) - self._lead_ns
        tx = Transmission(
            id=next(self._ids),
            start_ns=start_ns,
            freq_hz=order.freq_hz,
            modulation=order.modulation,
            power_dbm=power_dbm,
            iq_inverted=order.ipol,
            crc=not order.ncrc,
            preamble=preamble,
            payload=order.data,
        )
        with self._lock:
            if not self._duty.try_reserve(band, start_ns, length_us, now_ns):
                return self._over_duty(band, start_ns, length_us, now_ns)
            self._booked[tx.id] = (band, start_ns, length_us)
        error = module.owner.submit(tx, now_ns)
        if error is not TxError.NONE:
            self._settle(tx, sent=False)
            reason = f"start in {(start_ns - now_ns) // US} us on module {module.owner.name}"
            return TxResult(error, reason)
        used_dbm = None if power_dbm == wanted_dbm else round(power_dbm + self._gain_db)
        return TxResult(TxError.NONE, power_dbm=used_dbm, start_ns=start_ns, id=tx.id)

    def _over_duty(self, band: SubBand, start_ns: int, length_us: int, now_ns: int) -> TxResult:
        """GWMP has no word for an exhausted duty cycle; an occupied channel comes nearest."""
        self.counters["tx_refused_duty_cycle"] += 1
        allowed_ns = self._duty.allowed_from(band, start_ns, length_us)
        when = "never" if allowed_ns is None else f"in {(allowed_ns - now_ns) / 1e9:.0f} s"
        reason = (
            f"duty cycle {band.duty:.1%} of {band.min_hz / 1e6:g}-{band.max_hz / 1e6:g} MHz is used up; "
            f"{length_us / 1000:.0f} ms would be allowed {when}"
        )
        return TxResult(TxError.COLLISION_PACKET, reason, over_duty=True, allowed_from_ns=allowed_ns)

    # --- books ------------------------------------------------------------------------------------

    def duty_cycle(self, now_ns: int) -> list[tuple[SubBand, int, int | None]]:
        """Per sub-band: time on air used of the last hour and the budget, in us (None: no limit)."""
        with self._lock:
            return [
                (band, self._duty.used_us(band, now_ns), self._duty.budget_us(band))
                for band in self._region.sub_bands
            ]

    def _settle(self, tx: Transmission, *, sent: bool) -> None:
        with self._lock:
            booked = self._booked.pop(tx.id, None)
            if booked is not None and not sent:
                self._duty.release(*booked)

    def _count(self, name: str) -> None:
        with self._lock:
            self.counters[name] += 1


def time_of(tmst: int, near_ns: int) -> int:
    """The moment within half a wrap (35.8 min) of `near_ns` when the gateway's counter shows `tmst`."""
    near_us = near_ns // US
    ahead_us = (tmst - near_us) % U32
    if ahead_us >= U32 // 2:
        ahead_us -= U32
    return (near_us + ahead_us) * US

"""All modules of a gateway as one: frames with one time base, and downlink orders checked and given out.

Towards the forwarder this is what a multi-channel concentrator would be. On arrival of an order it asks the law
of the place (`radio.regulation`), then the modules one after the other: what each can do, and whether its queue
has room. Time is an argument; the lock is only ever held across pure code, so that threads in lock-step with a
simulator cannot block each other.
"""

import itertools
import logging
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from radio.gwmp import U32, RxPacket, TxError, TxPacket
from radio.jit import MAX_ADVANCE_NS, Transmission
from radio.lbt import backoff_ns
from radio.ledger import Airtime, Moment
from radio.lora import SYNC_WORD_LORAWAN, SYNC_WORD_PRIVATE, airtime_us
from radio.regions import Region, SubBand
from radio.regulation import Refusal, Regulation
from radio.state import StateFolder
from radio.sx127x.modem import Event, Fault, NotSent, Received, Sent
from radio.sx127x.registers import FREQUENCY_RANGE_HZ, Power

log = logging.getLogger(__name__)

US: Final = 1000
DEFAULT_PREAMBLE: Final = 8
MIN_PREAMBLE: Final = 6  # the chip's shortest
# Answers after which another module is worth asking: this one is occupied, or needs more time than others.
ASK_ANOTHER: Final = frozenset({TxError.COLLISION_PACKET, TxError.COLLISION_BEACON, TxError.TOO_LATE})
# A beacon starts 1.5 ms after its second (TBeaconDelay; LoRaWAN 1.0.4, 13.5), neither early nor late. Its order names
# whole milliseconds: this is the rest.
BEACON_REST_NS: Final = 500 * US


class Transmitter(Protocol):
    """What the concentrator needs of a module's owner."""

    name: str

    def submit(self, tx: Transmission, now_ns: int) -> TxError: ...
    def earliest_start(self, airtime_us: int, now_ns: int) -> int: ...


@dataclass(frozen=True, slots=True)
class TxModule:
    """A module that may send, and what it is able to. The defaults are an SX127x's."""

    owner: Transmitter
    receives: bool  # sending deafens it
    pa_boost: bool
    max_power_dbm: int
    min_power_dbm: int | None = None  # None: as its power amplifier
    bands_hz: tuple[tuple[int, int], ...] = (FREQUENCY_RANGE_HZ,)  # what it tunes to
    inverts_iq: bool = True  # without, devices do not hear it
    timed: bool = True  # starts within microseconds of a given time; False: within a millisecond or so
    senses: bool = True  # can measure a channel before it sends in it
    any_sync_word: bool = True  # it sends with whichever is asked for; False: with LoRaWAN's only
    omits_header: bool = True  # can send with an implicit header, as beacons are

    @property
    def weakest_dbm(self) -> int:
        """The least power at its connector."""
        return Power.limits(self.pa_boost)[0] if self.min_power_dbm is None else self.min_power_dbm

    @property
    def strongest_dbm(self) -> int:
        """The most power at its connector."""
        return (
            min(Power.limits(self.pa_boost)[1], self.max_power_dbm)
            if self.min_power_dbm is None
            else self.max_power_dbm
        )

    def unable(self, order: TxPacket, region: Region) -> str:
        """Why this module can never send this frame; empty where it can."""
        if not any(low <= order.freq_hz <= high for low, high in self.bands_hz):
            return f"module {self.owner.name} does not tune to {order.freq_hz / 1e6:.10g} MHz"
        if order.sync_word != SYNC_WORD_LORAWAN and not self.any_sync_word:
            return f"module {self.owner.name} sends to LoRaWAN devices only"
        if order.ipol and not self.inverts_iq:
            return f"module {self.owner.name} cannot invert IQ"
        if region.lbt is not None and not self.senses:
            return f"module {self.owner.name} cannot listen before it talks, as {region.name} asks"
        if order.nhdr and not (self.omits_header and self.timed):
            return f"module {self.owner.name} cannot send beacons: no frame without header, or not on time"
        return ""


@dataclass(frozen=True, slots=True)
class TxResult:
    """What became of an order."""

    error: TxError
    reason: str = ""  # for a technician; empty where accepted as asked
    power_dbm: int | None = None  # EIRP really used, where the module cannot do what was asked
    start_ns: int | None = None  # when the frame will start
    over_duty: bool = False  # refused because the sub-band's time on air is used up
    allowed_from_ns: int | None = None  # when a refused order would be taken; None: not as it is
    id: int | None = None  # of an accepted order


@dataclass(frozen=True, slots=True)
class _Booked:
    """An accepted order, until it has left or will not."""

    band: SubBand
    start_ns: int
    airtime_us: int
    module: TxModule
    deferrals: int | None  # how often a busy channel has put it off; None: its time is fixed


class Concentrator:
    """The gateway's radio as a whole.

    `on_frame` gets every frame and the time its last symbol ended, in the thread of the module that heard it.
    `gps_ms` gives frames with a good stamp their GPS time, `mono_of_gps_ms` turns a GPS time into one of the modules'
    clock; None while nobody knows GPS time.
    """

    def __init__(
        self,
        region: Region,
        on_frame: Callable[[RxPacket, int], None],
        *,
        antenna_gain_dbi: float = 0.0,
        cable_loss_db: float = 0.0,
        tx_lead_us: int = 0,
        utc_ns: Callable[[int], int | None] | None = None,
        forward_crc_errors: bool = True,
        limit_dwell: bool = False,
        airtime: Airtime | None = None,
        gps_ms: Callable[[int], int | None] | None = None,
        mono_of_gps_ms: Callable[[int], int | None] | None = None,
        seed: int | None = None,
        private: Sequence[bool] = (),
        sync_word: int = SYNC_WORD_LORAWAN,
    ) -> None:
        """`private`: which modules, by their index, hear nodes that are not LoRaWAN's; `sync_word`: of the others."""
        self.counters: Counter[str] = Counter()
        self.regulation = Regulation(
            region,
            Airtime(region.sub_bands, StateFolder(None), _unknown_moment) if airtime is None else airtime,
            antenna_gain_dbi=antenna_gain_dbi,
            cable_loss_db=cable_loss_db,
            limit_dwell=limit_dwell,
        )
        self._region = region
        self._on_frame = on_frame
        self._private = {channel for channel, alone in enumerate(private) if alone}
        self._sync_word = sync_word
        self._lead_ns = tx_lead_us * US
        self._utc_ns = utc_ns
        self._gps_ms = gps_ms
        self._mono_of_gps_ms = mono_of_gps_ms
        self._forward_crc_errors = forward_crc_errors
        self._transmitters: list[TxModule] = []
        self._booked: dict[int, _Booked] = {}  # by order, while it waits: at most 32 a module
        self._ids = itertools.count(1)
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def use(self, transmitters: Sequence[TxModule]) -> None:
        """The modules that may send. First those that start on time, of these the ones that receive nothing,
        because sending deafens the others, and then the stronger ones."""
        self._transmitters = sorted(
            transmitters, key=lambda module: (not module.timed, module.receives, -module.strongest_dbm)
        )

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
                booked = self._settle(tx, sent=maybe_aired)
                if event.busy and booked is not None and self._defer(tx, booked, reason):
                    return
                self._count("tx_not_sent")
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
                tmms=None if self._gps_ms is None or event.coarse else self._gps_ms(event.end_ns),
                sync_word=SYNC_WORD_PRIVATE if channel in self._private else SYNC_WORD_LORAWAN,
            ),
            event.end_ns,
        )

    # --- orders from the server -------------------------------------------------------------------

    def transmit(self, order: TxPacket, now_ns: int) -> TxResult:
        """Accept a downlink and promise its moment, or refuse it with the protocol's error."""
        result = self._transmit(order, now_ns)
        if isinstance(result, TxResult):
            self._count("tx_accepted")
            return result
        self._count(f"tx_refused_{result.error.lower()}")
        if result.kind == "duty_cycle":
            self._count("tx_refused_duty_cycle")
        self.regulation.note(result, now_ns)
        log.info("downlink refused: %s, %s", result.error, result.reason)
        return TxResult(
            result.error,
            result.reason,
            over_duty=result.kind == "duty_cycle",
            allowed_from_ns=result.allowed_from_ns,
        )

    def _transmit(self, order: TxPacket, now_ns: int) -> TxResult | Refusal:
        start_ns = self._start(order, now_ns)
        if isinstance(start_ns, Refusal):
            return start_ns
        preamble = max(MIN_PREAMBLE, DEFAULT_PREAMBLE if order.preamble is None else order.preamble)
        length_us = airtime_us(
            order.modulation,
            len(order.data),
            preamble=preamble,
            crc=not order.ncrc,
            implicit_header=order.nhdr,
        )
        band = self.regulation.band_for(order, length_us)
        if isinstance(band, Refusal):
            return band
        tx = Transmission(
            id=next(self._ids),
            start_ns=now_ns if start_ns is None else start_ns,
            freq_hz=order.freq_hz,
            modulation=order.modulation,
            power_dbm=0,  # each module's own
            iq_inverted=order.ipol,
            crc=not order.ncrc,
            preamble=preamble,
            payload=order.data,
            lbt=self._region.lbt,
            implicit_header=order.nhdr,
            sync_word=self._sync_word if order.sync_word == SYNC_WORD_LORAWAN else order.sync_word,
        )
        refusals = []
        for module in self._transmitters:
            result = self._try(module, order, tx, band, fixed=start_ns is not None, now_ns=now_ns)
            if isinstance(result, TxResult):
                return result
            refusals.append(result)
            if result.kind not in ("module", "power") and result.error not in ASK_ANOTHER:
                break
            if result.kind in ("duty_cycle", "ledger"):
                break
        return _kindest(refusals)

    def _start(self, order: TxPacket, now_ns: int) -> int | Refusal | None:
        """The moment the order names, in the modules' time; None: as soon as may be."""
        if order.imme:
            return None
        if order.tmst is not None:
            return time_of(order.tmst, now_ns) - self._lead_ns
        if order.tmms is None:
            return Refusal("gps", TxError.GPS_UNLOCKED, "the order names no time (tmst, tmms or imme)")
        mono_ns = None if self._mono_of_gps_ms is None else self._mono_of_gps_ms(order.tmms)
        if mono_ns is None:
            return Refusal("gps", TxError.GPS_UNLOCKED, "this gateway has no GPS time to send by")
        return mono_ns + BEACON_REST_NS if order.nhdr else mono_ns - self._lead_ns

    def _try(
        self,
        module: TxModule,
        order: TxPacket,
        tx: Transmission,
        band: SubBand,
        *,
        fixed: bool,
        now_ns: int,
    ) -> TxResult | Refusal:
        unable = module.unable(order, self._region)
        if unable:
            return Refusal("module", TxError.TX_FREQ, unable)
        regulation = self.regulation
        power_dbm = regulation.power(band, order.powe_dbm, module.weakest_dbm, module.strongest_dbm)
        if isinstance(power_dbm, Refusal):
            return power_dbm
        start_ns = tx.start_ns if fixed else module.owner.earliest_start(tx.airtime_us, now_ns)
        tx = replace(tx, start_ns=start_ns, power_dbm=power_dbm)
        refusal = self._book(module, tx, band, None if fixed else 0, now_ns)
        if refusal is not None:
            return refusal
        wanted_dbm = math.floor(order.powe_dbm - regulation.net_gain_db)
        used_dbm = None if power_dbm == wanted_dbm else round(power_dbm + regulation.net_gain_db)
        return TxResult(TxError.NONE, power_dbm=used_dbm, start_ns=start_ns, id=tx.id)

    def _book(
        self, module: TxModule, tx: Transmission, band: SubBand, deferrals: int | None, now_ns: int
    ) -> Refusal | None:
        """Time on air from the books, then a place in the module's queue."""
        length_us = tx.airtime_us
        refusal = self.regulation.reserve(band, tx.start_ns, length_us, now_ns)
        if refusal is not None:
            return refusal
        with self._lock:
            self._booked[tx.id] = _Booked(band, tx.start_ns, length_us, module, deferrals)
        error = module.owner.submit(tx, now_ns)
        if error is TxError.NONE:
            return None
        self._settle(tx, sent=False)
        ahead_ns = tx.start_ns - now_ns
        allowed_ns = (
            tx.start_ns - MAX_ADVANCE_NS
            if error is TxError.TOO_EARLY
            else module.owner.earliest_start(length_us, now_ns)
        )
        reason = (
            f"start in {ahead_ns // US} us on module {module.owner.name}, "
            f"which would take it {_when(error, allowed_ns - now_ns)}"
        )
        if error is TxError.TOO_LATE:
            reason = f"{max(0, allowed_ns - tx.start_ns) / 1e6:.0f} ms late: {reason}"
        return Refusal(str(error).lower(), error, reason, allowed_ns)

    def _defer(self, tx: Transmission, booked: _Booked, reason: str) -> bool:
        """A busy channel put off an order without a time of its own: try again a little later."""
        self._count("lbt_busy")
        if booked.deferrals is None:
            return False
        wait_ns = backoff_ns(booked.deferrals, self._random)
        if wait_ns is None:
            return False
        # Its start has not come yet, or just has: that is "now" as near as is needed here.
        now_ns = tx.start_ns
        earliest_ns = booked.module.owner.earliest_start(booked.airtime_us, now_ns)
        later = replace(tx, start_ns=max(earliest_ns, now_ns + wait_ns))
        if self._book(booked.module, later, booked.band, booked.deferrals + 1, now_ns) is not None:
            return False
        self._count("lbt_deferred")
        log.info("downlink %d put off by %d ms: %s", tx.id, (later.start_ns - now_ns) // 1_000_000, reason)
        return True

    # --- books ------------------------------------------------------------------------------------

    def status(self, now_ns: int) -> dict[str, Any]:
        """The entries `duty_cycle` and `regulation` of the radio's status."""
        with self._lock:
            lbt = {name: self.counters[f"lbt_{name}"] for name in ("busy", "deferred")}
        return {
            "duty_cycle": self.regulation.duty_cycle(now_ns),
            "regulation": self.regulation.status(now_ns, lbt),
        }

    def _settle(self, tx: Transmission, *, sent: bool) -> _Booked | None:
        with self._lock:
            booked = self._booked.pop(tx.id, None)
        if booked is not None and not sent:
            self.regulation.release(booked.band, booked.start_ns, booked.airtime_us)
        return booked

    def _count(self, name: str) -> None:
        with self._lock:
            self.counters[name] += 1


def _kindest(refusals: list[Refusal]) -> Refusal:
    """What to answer where every module refused: the one that may still be mended, by time or elsewhere."""
    if not refusals:
        return Refusal("module", TxError.COLLISION_PACKET, "no module of this gateway sends")
    timed = [refusal for refusal in refusals if refusal.allowed_from_ns is not None]
    return min(timed, key=lambda refusal: refusal.allowed_from_ns or 0) if timed else refusals[-1]


def _when(error: TxError, ns: int) -> str:
    if error is TxError.TOO_EARLY:
        return f"in {max(0, ns) / 1e9:.0f} s"
    return f"from {max(0, ns) / 1e6:.0f} ms on"


def _unknown_moment() -> Moment:
    return Moment(0, "")


def time_of(tmst: int, near_ns: int) -> int:
    """The moment within half a wrap (35.8 min) of `near_ns` when the gateway's counter shows `tmst`."""
    near_us = near_ns // US
    ahead_us = (tmst - near_us) % U32
    if ahead_us >= U32 // 2:
        ahead_us -= U32
    return (near_us + ahead_us) * US

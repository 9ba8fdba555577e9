"""A server's downlinks on their way to the radio: RX1, RX2 where that cannot be, class C until it can. Pure.

The protocol has no word for a refusal: a server learns of a downlink only when it was sent (`dntxed`). So every
way to send it is tried here, as Basics Station does: a class A frame in RX1, then in RX2; a class C frame at once,
and again every 100 ms while something else is in the way.
"""

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from radio.concentrator import TxResult
from radio.gwmp import U32, TxError, TxPacket
from radio.lora import airtime_us
from radio.regions import Region
from radio.station import times
from radio.station.errors import StationError
from radio.station.messages import CLASS_B, CLASS_C, Order, Scheduled, Sent
from radio.station.wanted import Wanted

log = logging.getLogger(__name__)

MS: Final = 1_000_000
MAX_PENDING: Final = 256  # orders that are accepted and not yet sent, or tried again
CLASS_C_TRIES: Final = 10
CLASS_C_PAUSE_NS: Final = 100 * MS
UNSENT_NS: Final = 200 * MS  # after a frame should have left, without word of it: it will not
BUSY: Final = frozenset({TxError.COLLISION_PACKET, TxError.COLLISION_BEACON})

Transmit = Callable[[TxPacket, int], TxResult]
Window = tuple[int, int]  # (dr, freq_hz)
Way = tuple[TxPacket, Window]


@dataclass(slots=True)
class _Pending:
    """An order with the ways that are left to send it."""

    order: Order | None  # None: scheduled, and never reported
    ways: deque[Way]
    tries: int = 0  # of a class C frame
    due_ns: int = 0  # when to try again, or to stop waiting for word
    taken: Way | None = None  # the one that the radio has accepted
    start_ns: int = 0


@dataclass(slots=True)
class Orders:
    """All orders of one server. `transmit` asks the radio; times are ns of the monotonic clock."""

    transmit: Transmit
    region: Region
    counters: Counter[str]
    _waiting: list[_Pending] = field(default_factory=list)  # class C, for the next try
    _taken: OrderedDict[int, _Pending] = field(default_factory=OrderedDict)  # by the radio's id

    def take(self, order: Order, wanted: Wanted, session: int, now_ns: int) -> None:
        """An order has come. Raises StationError for one that cannot be followed at all."""
        ways = deque(self._ways(order, wanted, session))
        self._begin(_Pending(order, ways), now_ns)

    def schedule(self, frame: Scheduled, wanted: Wanted, session: int, now_ns: int) -> None:
        """A frame for many devices at a time. Raises StationError."""
        if frame.gpstime_us:
            way = self._way(frame.pdu, (frame.dr, frame.freq_hz), wanted, tmms=frame.gpstime_us // 1000)
        else:
            _check_session(frame.xtime, session)
            tmst = times.tmst_of(frame.xtime)
            way = self._way(frame.pdu, (frame.dr, frame.freq_hz), wanted, tmst=tmst)
        self._begin(_Pending(None, deque((way,))), now_ns)

    def sent(self, tx_id: int, session: int) -> Sent | None:
        """A frame has left the antenna: the report for its server, None where it is none of ours."""
        pending = self._taken.pop(tx_id, None)
        if pending is None or pending.taken is None:
            return None
        self.counters["downlinks_sent"] += 1
        order = pending.order
        if order is None:
            return None
        packet, window = pending.taken
        start_us = pending.start_ns // 1000
        if packet.tmst is not None:  # the moment it was ordered for, not when it was begun early
            start_us = order.xtime + (packet.tmst - order.xtime) % U32
        return Sent(
            order.diid,
            order.dev_eui,
            order.rctx,
            times.xtime_of(start_us, session),
            pending.start_ns / 1e9,
            order.gpstime_us if order.device_class == CLASS_B else 0,
            *window,
        )

    def on_time(self, now_ns: int) -> None:
        """Try again what is to be tried again, and give up on frames of which no word has come."""
        ready = [pending for pending in self._waiting if pending.due_ns <= now_ns]
        self._waiting = [pending for pending in self._waiting if pending.due_ns > now_ns]
        for tx_id in [tx_id for tx_id, pending in self._taken.items() if pending.due_ns <= now_ns]:
            pending = self._taken.pop(tx_id)
            self.counters["downlinks_not_sent"] += 1
            ready.append(pending)
        for pending in ready:
            self._try(pending, now_ns)

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called; None: not before something else happens."""
        dues = [pending.due_ns for pending in (*self._waiting, *self._taken.values())]
        return min(dues, default=None)

    def forget(self) -> None:
        """The connection is gone: what is accepted is sent all the same, and reported to nobody."""
        self._waiting.clear()
        self._taken.clear()

    def _ways(self, order: Order, wanted: Wanted, session: int) -> list[Way]:
        if order.device_class == CLASS_B:
            assert order.ping is not None
            return [self._way(order.pdu, order.ping, wanted, tmms=order.gpstime_us // 1000)]
        ways = []
        if order.xtime:
            _check_session(order.xtime, session)
            if order.rx1 is not None:
                ways.append(self._way(order.pdu, order.rx1, wanted, tmst=_tmst(order, 0)))
            if order.rx2 is not None and order.device_class != CLASS_C:
                ways.append(self._way(order.pdu, order.rx2, wanted, tmst=_tmst(order, 1)))
        if order.rx2 is not None and order.device_class == CLASS_C:
            ways.append(self._way(order.pdu, order.rx2, wanted))
        if not ways:
            raise StationError("an order of class A without xtime has no moment to be sent at")
        return ways

    def _way(
        self,
        pdu: bytes,
        window: Window,
        wanted: Wanted,
        *,
        tmst: int | None = None,
        tmms: int | None = None,
    ) -> Way:
        dr, freq_hz = window
        low_hz, high_hz = wanted.config.freq_range_hz
        if not low_hz <= freq_hz <= high_hz:
            raise StationError(f"{freq_hz} Hz is outside of the server's own range")
        modulation = wanted.modulation(dr)
        band = self.region.sub_band_for(freq_hz, modulation.bw_hz)
        eirp_dbm = (
            self.region.max_eirp_dbm if wanted.config.max_eirp_dbm is None else wanted.config.max_eirp_dbm
        )
        packet = TxPacket(
            tmst=tmst,
            imme=tmst is None and tmms is None,
            freq_hz=freq_hz,
            rfch=0,
            powe_dbm=int(eirp_dbm if band is None else min(eirp_dbm, band.max_eirp_dbm)),
            modulation=modulation,
            ipol=True,
            data=pdu,
            ncrc=True,
            tmms=tmms,
        )
        return packet, window

    def _begin(self, pending: _Pending, now_ns: int) -> None:
        self.counters["downlinks_ordered"] += 1
        if len(self._waiting) + len(self._taken) >= MAX_PENDING:
            self.counters["downlinks_failed"] += 1
            raise StationError(f"{MAX_PENDING} downlinks are under way already")
        self._try(pending, now_ns)

    def _try(self, pending: _Pending, now_ns: int) -> None:
        """Ask the radio, way by way, until it takes one."""
        why = "it has no time left"
        while pending.ways:
            packet, _ = pending.ways[0]
            result = self.transmit(packet, now_ns)
            if result.error is TxError.NONE and result.id is not None:
                self._accept(pending, result.id, result.start_ns or now_ns, now_ns)
                return
            self.counters[f"downlinks_refused_{result.error.lower()}"] += 1
            why = result.reason or str(result.error)
            if packet.imme and result.error in BUSY and pending.tries < CLASS_C_TRIES:
                pending.tries += 1
                pending.due_ns = now_ns + CLASS_C_PAUSE_NS
                self._waiting.append(pending)
                return
            pending.ways.popleft()
        self.counters["downlinks_failed"] += 1
        log.info("a downlink is not sent: %s", why)

    def _accept(self, pending: _Pending, tx_id: int, start_ns: int, now_ns: int) -> None:
        pending.taken, pending.start_ns = pending.ways.popleft(), start_ns
        packet, _ = pending.taken
        length_us = airtime_us(packet.modulation, len(packet.data), crc=not packet.ncrc)
        pending.due_ns = max(start_ns, now_ns) + length_us * 1000 + UNSENT_NS
        self.counters["downlinks_accepted"] += 1
        self._taken[tx_id] = pending


def _tmst(order: Order, seconds_later: int) -> int:
    return (order.xtime + (order.rx_delay_s + seconds_later) * times.SECOND_US) % U32


def _check_session(xtime: int, session: int) -> None:
    """An `xtime` of an earlier connection counted from another moment. Raises StationError."""
    if times.session_of(xtime) != session:
        raise StationError(f"xtime {xtime:#x} is of another session than {session}")

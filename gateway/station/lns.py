"""The LNS without a socket: messages of concentrators and a time in, messages and calls to a `Receiver` out.

A concentrator is a session from its connection to its end. Its uplinks become frames as the GWMP link would hand them
in; `tmst` is the low half of `xtime`, so the network server computes its windows as ever. What `xtime` and `rctx` an
uplink had is kept until its windows are over, because the order that answers it carries them back unchanged.

Basics Station falls from RX1 to RX2 by itself and reports with `dntxed` only what it has sent: a report that does
not come is the only sign of a downlink that was lost.
"""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from gateway.link import Receiver
from gateway.lorawan.clock import Instant
from gateway.lorawan.server import Downlink
from gateway.station.registry import KnownGateway
from hub.timekeeping import TRUSTED
from radio.gwmp import U32, RxPacket, TxError, TxPacket
from radio.regions import Region
from radio.station import codec, times
from radio.station.errors import StationError
from radio.station.messages import (
    CLASS_A,
    CLASS_B,
    CLASS_C,
    Order,
    Other,
    RouterConfig,
    Sent,
    TimeSync,
    TimeSyncRequest,
    Uplink,
    Version,
)

log = logging.getLogger(__name__)

SECOND_NS = 1_000_000_000
SECOND_US = 1_000_000
MAX_RX_DELAY_S = 15  # of an order; one more is the latest RX2
MAX_CONTEXTS = 4096  # uplinks that may still be answered: 16 s of everything a concentrator can hear
CONTEXT_NS = 20 * SECOND_NS  # the last window opens 16 s after the uplink
MAX_PENDING = 256  # downlinks awaiting their report
REPORT_NS = 5 * SECOND_NS  # a report is late beyond this after RX2
MAX_MALFORMED = 100  # messages in one connection; who sends more speaks another protocol
MAX_ROUND_TRIP_S = 60.0
PRIORITY = 10  # 0..255, among the downlinks of one concentrator
JOIN_PRIORITY = 20  # a join-accept that is lost costs a device more than an answer to data


@dataclass(frozen=True, slots=True)
class _Context:
    """What an uplink said of where and when it was heard."""

    xtime: int
    rctx: int
    heard_ns: int  # monotonic


@dataclass(slots=True)
class _Pending:
    downlink: Downlink
    context: _Context
    session: Session
    rx1_xtime: int
    deadline_ns: int


@dataclass(slots=True, eq=False)
class Session:
    """One connection of one concentrator. `send` and `close` are the connection's."""

    gateway: KnownGateway
    send: Callable[[str], None]
    close: Callable[[str], None]  # why
    address: str
    since: Instant
    version: Version | None = None
    last_seen_ns: int = 0
    received: int = 0  # uplinks
    sent: int = 0  # downlinks reported
    malformed: int = 0
    round_trip_ms: float | None = None  # of the last uplink that told
    contexts: OrderedDict[int, _Context] = field(default_factory=OrderedDict)  # by tmst

    def keep(self, tmst: int, context: _Context) -> None:
        """Remember an uplink until its windows are over."""
        contexts = self.contexts
        while contexts:
            oldest = next(iter(contexts.values()))
            if context.heard_ns - oldest.heard_ns < CONTEXT_NS and len(contexts) < MAX_CONTEXTS:
                break
            contexts.popitem(last=False)
        contexts[tmst] = context
        contexts.move_to_end(tmst)


class Lns:
    """All concentrators. One caller at a time, in the event loop of the gateway."""

    def __init__(
        self,
        receiver: Receiver,
        region: Region,
        config: RouterConfig,
        rng: random.Random | None = None,
    ) -> None:
        self.sessions: dict[bytes, Session] = {}  # at most one for each gateway that may connect
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "connections", "takeovers", "uplinks", "unknown_data_rate", "malformed", "ignored", "too_soon",
                "orders", "no_gateway", "no_context", "no_data_rate", "pending_full", "tx_sent", "tx_unreported",
                "unexpected_reports", "time_syncs", "time_unknown",
            ),
            0,
        )  # fmt: skip
        self._receiver = receiver
        self._region = region
        self._config = config
        self._down_dr = {(rate.sf, rate.bw_hz): dr for dr, rate in region.downlink_data_rates.items()}
        self._channels = {channel.freq_hz: index for index, channel in enumerate(config.channels)}
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        # Numbers of an earlier process, still on their way, must not meet ours.
        self._diid = (rng or random.SystemRandom()).getrandbits(31)

    # Connections

    def connect(
        self,
        gateway: KnownGateway,
        send: Callable[[str], None],
        close: Callable[[str], None],
        address: str,
        now: Instant,
    ) -> Session:
        """A gateway that has shown who it is has connected; an older connection of its own gives way."""
        self.counters["connections"] += 1
        older = self.sessions.get(gateway.eui)
        if older is not None:
            self.counters["takeovers"] += 1
            log.info("gateway %s has connected anew from %s", gateway.eui.hex(), address)
            older.close("another connection of this gateway has taken over")
        session = Session(gateway, send, close, address, now, last_seen_ns=now.mono_ns)
        self.sessions[gateway.eui] = session
        return session

    def disconnect(self, session: Session) -> None:
        """A connection has ended; harmless for one that was taken over."""
        if self.sessions.get(session.gateway.eui) is session:
            del self.sessions[session.gateway.eui]

    def reaches(self, eui: bytes) -> bool:
        """Whether this gateway is connected."""
        return eui in self.sessions

    # Messages

    def message(self, session: Session, text: str | bytes, now: Instant) -> None:
        """Take one message; what cannot be read is counted, and too much of it ends the connection."""
        session.last_seen_ns = now.mono_ns
        try:
            message = codec.decode_up(text)
        except StationError as error:
            self._malformed(session, error)
            return
        if type(message) is Uplink:
            self._uplink(session, message, now)
        elif type(message) is Version:
            session.version = message
            session.send(codec.encode_down(_stamped(self._config, now)))
        elif type(message) is Sent:
            self._report(session, message)
        elif type(message) is TimeSyncRequest:
            self._time(session, message, now)
        elif type(message) is Other:
            self.counters["ignored"] += 1

    def _malformed(self, session: Session, error: StationError) -> None:
        self.counters["malformed"] += 1
        session.malformed += 1
        level = logging.WARNING if session.malformed == 1 else logging.DEBUG
        log.log(level, "a message of gateway %s is not understood: %s", session.gateway.eui.hex(), error)
        if session.malformed > MAX_MALFORMED:
            session.close(f"{MAX_MALFORMED} messages were not understood")

    def _uplink(self, session: Session, uplink: Uplink, now: Instant) -> None:
        if session.version is None:
            self.counters["too_soon"] += 1
            return
        modulation = self._region.uplink_data_rates.get(uplink.dr)
        if modulation is None:
            self.counters["unknown_data_rate"] += 1
            return
        self.counters["uplinks"] += 1
        session.received += 1
        if uplink.ref_time_s:
            round_trip_s = now.wall_ns / 1e9 - uplink.ref_time_s
            if 0 <= round_trip_s < MAX_ROUND_TRIP_S:  # else a clock was set meanwhile
                session.round_trip_ms = round(round_trip_s * 1000, 1)
        tmst = times.tmst_of(uplink.xtime)
        session.keep(tmst, _Context(uplink.xtime, uplink.rctx, now.mono_ns))
        packet = RxPacket(
            tmst=tmst,
            freq_hz=uplink.freq_hz,
            chan=self._channels.get(uplink.freq_hz, 0),
            rfch=0,
            stat=1,  # frames with errors are not reported
            modulation=modulation,
            rssi_dbm=round(uplink.rssi_dbm),
            lsnr_db=uplink.snr_db,
            data=uplink.phy,
            time_ns=_time_of(uplink),
            tmms=uplink.gpstime_us // 1000 or None,
        )
        self._receiver.receive((packet,), session.gateway.eui)

    def _time(self, session: Session, request: TimeSyncRequest, now: Instant) -> None:
        """Its own time goes back in any case; GPS time only where ours is worth it."""
        trusted = now.quality in TRUSTED
        self.counters["time_syncs" if trusted else "time_unknown"] += 1
        answer = TimeSync(
            txtime=request.txtime,
            gpstime_us=times.gps_us(now.wall_ns) if trusted else None,
            mux_time_s=now.wall_ns / 1e9,
        )
        session.send(codec.encode_down(answer))

    # Downlinks

    def transmit(self, downlink: Downlink, eui: bytes, now: Instant) -> None:
        """Order a downlink from the gateway that heard the uplink, for both windows at once."""
        self.expire(now.mono_ns)
        session = self.sessions.get(eui)
        if session is None:
            self._refuse(downlink, "no_gateway", TxError.TOO_LATE)
        elif len(self._pending) >= MAX_PENDING:
            self._refuse(downlink, "pending_full", TxError.COLLISION_PACKET)
        else:
            self._order(downlink, session, now)

    def _order(self, downlink: Downlink, session: Session, now: Instant) -> None:
        if downlink.windows[0].nhdr:  # LNS has no word for a beacon
            self._refuse(downlink, "no_data_rate", TxError.TX_FREQ)
            return
        windows = [self._pair(packet) for packet in downlink.windows]
        if None in windows:
            self._refuse(downlink, "no_data_rate", TxError.TX_FREQ)
            return
        rx1, rx2 = windows[0], windows[-1]
        first = downlink.windows[0]
        order = Order(
            dev_eui=int(downlink.dev_eui or 0).to_bytes(8, "big"),
            device_class=CLASS_A,
            diid=self._next_diid(),
            pdu=first.data,
            priority=JOIN_PRIORITY if downlink.fcnt is None else PRIORITY,
            mux_time_s=now.wall_ns / 1e9,
        )
        wait_s = 0
        context = _Context(0, 0, now.mono_ns)
        if first.imme:
            order = structs.replace(order, device_class=CLASS_C, rx2=rx2)
        elif first.tmst is None and first.tmms is not None:
            order = structs.replace(order, device_class=CLASS_B, ping=rx1, gpstime_us=first.tmms * 1000)
        else:
            found = _answered(session, first)
            if found is None:
                self._refuse(downlink, "no_context", TxError.TOO_LATE)
                return
            context, wait_s = found
            if wait_s > MAX_RX_DELAY_S:  # RX2 alone, after the longest RxDelay there is
                order = structs.replace(order, rx_delay_s=MAX_RX_DELAY_S, rx2=rx2)
            else:
                order = structs.replace(
                    order, rx_delay_s=wait_s, rx1=rx1, rx2=rx2 if len(windows) > 1 else None
                )
            order = structs.replace(order, xtime=context.xtime, rctx=context.rctx)
        self.counters["orders"] += 1
        deadline_ns = context.heard_ns + (wait_s + 1) * SECOND_NS + REPORT_NS
        rx1_xtime = context.xtime + wait_s * SECOND_US
        self._pending[order.diid] = _Pending(downlink, context, session, rx1_xtime, deadline_ns)
        session.send(codec.encode_down(order))

    def expire(self, now_ns: int) -> None:
        """Give up on orders of which no report has come."""
        late = [diid for diid, pending in self._pending.items() if pending.deadline_ns <= now_ns]
        for diid in late:
            pending = self._pending.pop(diid)
            self.counters["tx_unreported"] += 1
            self._receiver.failed(pending.downlink, TxError.TOO_LATE)

    def _report(self, session: Session, sent: Sent) -> None:
        pending = self._pending.get(sent.diid)
        if pending is None or pending.session.gateway.eui != session.gateway.eui:
            self.counters["unexpected_reports"] += 1
            return
        del self._pending[sent.diid]
        self.counters["tx_sent"] += 1
        session.sent += 1
        self._receiver.sent(pending.downlink, self._window(pending, sent))

    def _window(self, pending: _Pending, sent: Sent) -> int:
        """Which of the two windows was used: by the time on air, else by channel and data rate."""
        downlink = pending.downlink
        if len(downlink.windows) == 1:
            return 1
        at, planned = sent.xtime, pending.rx1_xtime
        if at and at >> times.COUNTER_BITS == planned >> times.COUNTER_BITS:
            return 1 if at - planned < SECOND_US // 2 else 2
        used = (sent.dr, sent.freq_hz)
        first, second = (self._pair(packet) for packet in downlink.windows[:2])
        return 2 if used == second != first else 1

    def _pair(self, packet: TxPacket) -> tuple[int, int] | None:
        dr = self._down_dr.get((packet.modulation.sf, packet.modulation.bw_hz))
        return None if dr is None else (dr, packet.freq_hz)

    def _next_diid(self) -> int:
        self._diid = (self._diid + 1) % (1 << 31)
        return self._diid

    def _refuse(self, downlink: Downlink, counter: str, error: TxError) -> None:
        self.counters[counter] += 1
        self._receiver.failed(downlink, error)

    # For people

    def status(self, now_ns: int) -> list[dict[str, Any]]:
        """The connected gateways, as plain values."""
        return [_session_status(session, now_ns) for session in self.sessions.values()]


def _answered(session: Session, packet: TxPacket) -> tuple[_Context, int] | None:
    """The uplink that a packet answers, and how many seconds after it the packet is sent."""
    assert packet.tmst is not None
    for wait_s in range(1, MAX_RX_DELAY_S + 2):
        context = session.contexts.get((packet.tmst - wait_s * SECOND_US) % U32)
        if context is not None:
            return context, wait_s
    return None


def _time_of(uplink: Uplink) -> int | None:
    """UTC in ns, by the concentrator's GPS or else by its clock."""
    if uplink.gpstime_us:
        return times.utc_ns(uplink.gpstime_us)
    return round(uplink.rxtime_s * 1e6) * 1000 or None


def _stamped(config: RouterConfig, now: Instant) -> RouterConfig:
    return structs.replace(config, mux_time_s=now.wall_ns / 1e9)


def _session_status(session: Session, now_ns: int) -> dict[str, Any]:
    version = session.version or Version()
    return {
        "eui": session.gateway.eui.hex(),
        "name": session.gateway.name,
        "address": session.address,
        "since": session.since.wall_ns / 1e9,
        "last_seen_s": (now_ns - session.last_seen_ns) / SECOND_NS,
        "configured": session.version is not None,
        "station": version.station,
        "model": version.model,
        "package": version.package or version.firmware,
        "features": version.features,
        "received": session.received,
        "sent": session.sent,
        "malformed": session.malformed,
        "round_trip_ms": session.round_trip_ms,
    }

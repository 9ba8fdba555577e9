"""A radio as a concentrator of an LNS: the protocol without a socket.

Frames, messages and times go in, messages come out; the thread with the connection is in `server`. A connection is
a session: it begins with `version`, and nothing is sent up before the server has answered with its router_config.
Times are ns of the monotonic clock, the one that the frames' `tmst` counts.
"""

import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from radio.complaints import Complaints
from radio.concentrator import time_of
from radio.gwmp import RxPacket
from radio.regions import Region
from radio.station import codec, frames, times
from radio.station.errors import StationError
from radio.station.messages import (
    PROTOCOL,
    Order,
    Other,
    RouterConfig,
    Schedule,
    TimeSync,
    TimeSyncRequest,
    Uplink,
    Version,
)
from radio.station.orders import Orders, Transmit
from radio.station.wanted import Wanted

log = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
MAX_WAITING: Final = 256  # frames, while the server cannot be reached
STALE_NS: Final = 10 * SECOND_NS  # a frame that waited longer would confuse a server: its windows are over
TIME_SYNC_NS: Final = 300 * SECOND_NS
TIME_SYNC_FIRST_NS: Final = 10 * SECOND_NS
ROUND_TRIPS: Final = 8  # answers on time, of which the quickest tells most
SLOW_ANSWER_NS: Final = 2 * SECOND_NS
REMOTE_CONTROL: Final = frozenset({"runcmd", "rmtsh"})


class Client:
    """The radio's side of the protocol. One caller at a time."""

    def __init__(
        self,
        region: Region,
        transmit: Transmit,
        *,
        name: str,
        downlinks: bool = False,
        heard_hz: Sequence[int] = (),  # what the modules of this radio listen to
        utc_ns: Callable[[int], int | None] | None = None,
        model: str = "sx127x",
        package: str = "fluxgate",
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.say = Complaints(name)
        self.counters: Counter[str] = Counter()
        self.last_message_ns: int | None = None
        self.round_trip_ms: float | None = None
        self._region = region
        self._downlinks = downlinks
        self._heard_hz = tuple(heard_hz)
        self._utc_ns = utc_ns
        self._version = Version("2.0.6(fluxgate)", "", package, model, PROTOCOL, "")
        self._rng = rng or random.SystemRandom()
        self._orders = Orders(transmit, region, self.counters)
        self._frames: deque[tuple[int, RxPacket]] = deque()
        self._wanted: Wanted | None = None
        self._session = 0
        self._mux: tuple[float, int] | None = None  # the server's time, and when it came
        self._sync_due_ns: int | None = None
        # Round trip ns, server less own ms
        self._offsets: deque[tuple[int, float]] = deque(maxlen=ROUND_TRIPS)
        self._changed_ns: int | None = None

    @property
    def connected(self) -> bool:
        """Whether the server has told what it wants."""
        return self._wanted is not None

    # The connection

    def on_open(self, now_ns: int) -> list[str]:
        """A connection to the server's muxs is there."""
        self._session = self._rng.randrange(1, 256)
        self._mux = None
        self._changed_ns = now_ns
        return [codec.encode_up(self._version)]

    def on_close(self, now_ns: int) -> None:
        """It is gone."""
        if self._wanted is not None:
            self._changed_ns = now_ns
        self._wanted = None
        self._sync_due_ns = None
        self._orders.forget()

    def on_message(self, text: str | bytes, now_ns: int) -> list[str]:
        """A message of the server; what cannot be read or followed is counted."""
        self.last_message_ns = now_ns
        try:
            message = codec.decode_down(text)
        except StationError as error:
            self.counters["messages_malformed"] += 1
            self.say(now_ns, "malformed", "a message is not understood: %s", error)
            return []
        if isinstance(message, Other):
            self._other(message.msgtype, now_ns)
            return []
        if message.mux_time_s is not None:
            self._mux = (message.mux_time_s, now_ns)
        if isinstance(message, RouterConfig):
            self._configured(message, now_ns)
            return self.on_time(now_ns)
        if isinstance(message, TimeSync):
            self._time(message, now_ns)
        else:
            self._order(message, now_ns)
        return []

    def on_frame(self, rx: RxPacket, now_ns: int) -> None:
        """A frame to forward; the oldest gives way where too many wait."""
        if len(self._frames) >= MAX_WAITING:
            self._frames.popleft()
            self.counters["frames_dropped"] += 1
        self._frames.append((now_ns, rx))

    def on_sent(self, tx_id: int) -> list[str]:
        """A downlink has left the antenna; perhaps another server's."""
        report = self._orders.sent(tx_id, self._session)
        return [] if report is None or self._wanted is None else [codec.encode_up(report)]

    def on_time(self, now_ns: int) -> list[str]:
        """Send what waits and what is due."""
        out: list[str] = []
        while self._frames and now_ns - self._frames[0][0] > STALE_NS:
            self._frames.popleft()
            self.counters["frames_dropped"] += 1
        if self._wanted is None:
            return out
        while self._frames:
            _, rx = self._frames.popleft()
            text = self._uplink(rx, self._wanted, now_ns)
            if text is not None:
                out.append(text)
        self._orders.on_time(now_ns)
        if self._sync_due_ns is not None and now_ns >= self._sync_due_ns:
            self._sync_due_ns = now_ns + (TIME_SYNC_NS if self._offsets else TIME_SYNC_FIRST_NS)
            self.counters["time_syncs"] += 1
            out.append(codec.encode_up(TimeSyncRequest(now_ns // 1000)))
        return out

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called; None: not before something else happens."""
        if self._wanted is None:
            return None
        dues = (self._sync_due_ns, self._orders.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    # What comes down

    def _configured(self, config: RouterConfig, now_ns: int) -> None:
        if self._wanted is None:
            self._changed_ns = now_ns
            log.info("server %s: connected, region %s", self.name, config.region)
        self._wanted = wanted = Wanted.of(config)
        self._sync_due_ns = now_ns
        missing = wanted.missing(self._heard_hz)
        if missing:
            log.warning(
                "server %s: its devices use %d channels and this radio hears %d of them; not heard: %s MHz",
                self.name,
                len(wanted.channels),
                len(wanted.channels) - len(missing),
                ", ".join(f"{freq_hz / 1e6:g}" for freq_hz in missing),
            )

    def _order(self, message: Order | Schedule, now_ns: int) -> None:
        if not self._downlinks:
            self.counters["downlinks_refused"] += 1
            self.say(now_ns, "refused", "a downlink is refused: its setting `downlinks` is false")
            return
        if self._wanted is None:
            self.counters["messages_too_soon"] += 1
            return
        try:
            if isinstance(message, Order):
                self._orders.take(message, self._wanted, self._session, now_ns)
            else:
                for frame in message.frames:
                    self._orders.schedule(frame, self._wanted, self._session, now_ns)
        except StationError as error:
            self.counters["downlinks_impossible"] += 1
            self.say(now_ns, "impossible", "a downlink cannot be sent: %s", error)

    def _time(self, answer: TimeSync, now_ns: int) -> None:
        """How far the server's clock is from ours: half the round trip is the error at most."""
        if answer.txtime is None or answer.gpstime_us is None:
            return
        asked_ns = int(answer.txtime) * 1000
        round_trip_ns = now_ns - asked_ns
        if not 0 <= round_trip_ns < SLOW_ANSWER_NS:
            self.counters["time_syncs_useless"] += 1
            return
        self.round_trip_ms = round(round_trip_ns / 1e6, 1)
        utc_ns = None if self._utc_ns is None else self._utc_ns(asked_ns + round_trip_ns // 2)
        if utc_ns is not None:
            ahead_us = answer.gpstime_us - times.gps_us(utc_ns)
            self._offsets.append((round_trip_ns, ahead_us / 1000))

    def _other(self, msgtype: str, now_ns: int) -> None:
        if msgtype in REMOTE_CONTROL:
            self.counters["remote_control_refused"] += 1
            self.say(now_ns, "control", "it wants to control this machine (%s), and may not", msgtype)
        else:
            self.counters["messages_ignored"] += 1

    # What goes up

    def _uplink(self, rx: RxPacket, wanted: Wanted, now_ns: int) -> str | None:
        """A frame as a message; None, and counted, for one that the server does not want."""
        if rx.stat != 1 or not _is_lorawan(rx.data):  # the protocol carries nothing else
            self.counters["frames_not_carried"] += 1
            return None
        if why := wanted.why_not(rx):
            self.counters[f"frames_not_wanted_{why}"] += 1
            return None
        dr = wanted.uplink_dr(rx.modulation)
        assert dr is not None
        count_us = time_of(rx.tmst, now_ns) // 1000
        uplink = Uplink(
            phy=rx.data,
            dr=dr,
            freq_hz=rx.freq_hz,
            rctx=0,
            xtime=times.xtime_of(count_us, self._session),
            rssi_dbm=rx.rssi_dbm,
            snr_db=round(rx.lsnr_db, 2),
            gpstime_us=0 if rx.tmms is None or rx.time_ns is None else times.gps_us(rx.time_ns),
            rxtime_s=0.0 if rx.time_ns is None else rx.time_ns / 1e9,
            ref_time_s=0.0 if self._mux is None else self._mux[0] + (now_ns - self._mux[1]) / 1e9,
        )
        self.counters["frames_forwarded"] += 1
        return codec.encode_up(uplink)

    # For people

    def status(self, now_ns: int) -> dict[str, Any]:
        """Plain values; times as Unix seconds, None where they are not known."""
        counters, wanted = dict(self.counters), self._wanted
        missing = [] if wanted is None else wanted.missing(self._heard_hz)
        quickest = min(self._offsets, default=None)
        return {
            "connected": self.connected,
            "since": self._unix_s(self._changed_ns),
            "since_s": None if self._changed_ns is None else round((now_ns - self._changed_ns) / 1e9, 1),
            "last_ack": self._unix_s(self.last_message_ns),
            "acked_percent": None,
            "forwarded": counters.get("frames_forwarded", 0),
            "waiting": len(self._frames),
            "dropped": counters.get("frames_dropped", 0),
            "not_wanted": sum(n for name, n in counters.items() if name.startswith("frames_not_wanted_")),
            "downlinks": self._downlinks,
            "downlinks_accepted": counters.get("downlinks_accepted", 0),
            "downlinks_refused": counters.get("downlinks_refused", 0)
            + counters.get("downlinks_failed", 0)
            + counters.get("downlinks_impossible", 0),
            "downlinks_sent": counters.get("downlinks_sent", 0),
            "region": None if wanted is None else wanted.config.region,
            "channels": 0 if wanted is None else len(wanted.channels),
            "channels_not_heard": len(missing),
            "round_trip_ms": self.round_trip_ms,
            "server_ahead_ms": None if quickest is None else round(quickest[1], 1),
            "counters": counters,
        }

    def _unix_s(self, mono_ns: int | None) -> float | None:
        utc_ns = None if mono_ns is None or self._utc_ns is None else self._utc_ns(mono_ns)
        return None if utc_ns is None else round(utc_ns / 1e9, 3)


def _is_lorawan(phy: bytes) -> bool:
    try:
        frames.kind_of(phy)
    except StationError:
        return False
    return True

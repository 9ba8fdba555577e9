"""The packet forwarder: GWMP version 2 between the concentrator and a network server.

`Forwarder` is the protocol without a socket: frames, datagrams and time go in, datagrams come out. The thread
with the sockets is in `udp`.
"""

import logging
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from radio import gwmp
from radio.complaints import Complaints
from radio.concentrator import TxResult
from radio.errors import GwmpError
from radio.gwmp import RxPacket, TxAck, TxError, TxPacket

log = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
MAX_RXPK: Final = 8  # per PUSH_DATA, as the reference forwarder sends
MAX_WAITING: Final = 256  # frames; half a minute of a busy gateway, while the server cannot be resolved
STALE_NS: Final = 10 * SECOND_NS  # a frame that waited longer would confuse a server: its windows are over
ACK_WAIT_NS: Final = 5 * SECOND_NS  # a PUSH_ACK later than this counts as missing
MAX_UNACKED: Final = 1024
MAX_ORDERED: Final = 512  # accepted downlinks that have not left yet; 32 a module are waiting at the most
ACK_SHARE_OF: Final = 100  # PUSH_DATA, the last ones
LOST_AFTER_PULLS: Final = 3  # keepalives without an answer: the server is gone
QUICK_PULLS: Final = 3  # on a new way to the server
QUICK_NS: Final = SECOND_NS
KEEPALIVE_SPREAD: Final = 0.9  # a keepalive comes after this part of its interval at least


class Way(Enum):
    """Which of the two sockets."""

    UP = auto()
    DOWN = auto()


Out = tuple[Way, bytes]


@dataclass(slots=True)
class _SinceStat:
    """What the next `stat` reports: the protocol counts from one report to the next."""

    rxnb: int = 0
    rxok: int = 0
    rxfw: int = 0
    pushed: int = 0
    acked: int = 0
    dwnb: int = 0
    txnb: int = 0


class Forwarder:
    """The gateway's side of the protocol. One caller at a time; times are ns of the monotonic clock."""

    def __init__(
        self,
        eui: bytes,
        transmit: Callable[[TxPacket, int], TxResult],
        *,
        name: str = "local",
        downlinks: bool = True,  # False: every order is refused
        keepalive_ns: int = 5 * SECOND_NS,
        stat_ns: int = 30 * SECOND_NS,
        utc_ns: Callable[[int], int | None] | None = None,
        position: Callable[[], tuple[float, float, int | None] | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.say = Complaints(name)
        self.counters: Counter[str] = Counter()
        self._eui = eui
        self._transmit = transmit
        self._downlinks = downlinks
        self._keepalive_ns = keepalive_ns
        self._stat_ns = stat_ns
        self._utc_ns = utc_ns
        self._position = position
        self._rng = rng or random.SystemRandom()
        self._frames: deque[tuple[int, RxPacket]] = deque()  # with when they came
        self._since = _SinceStat()
        self._unacked: OrderedDict[int, int] = OrderedDict()  # PUSH_DATA token -> when it left
        self._settled: deque[bool] = deque(maxlen=ACK_SHARE_OF)  # the last PUSH_DATA: acknowledged?
        self._ordered: OrderedDict[int, None] = OrderedDict()  # ids of accepted downlinks
        self._pull_token: int | None = None
        self._pulls_unanswered = LOST_AFTER_PULLS
        self._quick_pulls = QUICK_PULLS
        self._pull_due_ns: int | None = None
        self._stat_due_ns: int | None = None
        self._changed_ns: int | None = None  # when it was connected, or lost
        self.last_ack_ns: int | None = None  # of a PUSH_ACK or PULL_ACK

    @property
    def connected(self) -> bool:
        """Whether the server answers our keepalives."""
        return self._pulls_unanswered < LOST_AFTER_PULLS

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called; None: at once, for the first time."""
        if self._pull_due_ns is None or self._stat_due_ns is None:
            return None
        return min(self._pull_due_ns, self._stat_due_ns)

    def on_frame(self, rx: RxPacket, now_ns: int) -> None:
        """A frame to forward; the oldest gives way where too many wait."""
        self._since.rxnb += 1
        self._since.rxok += rx.stat == 1
        if len(self._frames) >= MAX_WAITING:
            self._frames.popleft()
            self.counters["frames_dropped"] += 1
        self._frames.append((now_ns, rx))

    def on_sent(self, tx_id: int) -> None:
        """A downlink has left the antenna; of another server, it is not counted."""
        if self._ordered.pop(tx_id, self) is not self:
            self._since.txnb += 1
            self.counters["downlinks_sent"] += 1

    def on_route(self, now_ns: int) -> None:
        """There are new sockets, perhaps to another address: ask at once and then quickly whether it answers."""
        self._pull_due_ns = now_ns
        self._quick_pulls = QUICK_PULLS

    def on_refused(self, now_ns: int) -> None:
        """ICMP's word on an earlier datagram: nobody listens there now, for instance while it restarts."""
        self.counters["server_unreachable"] += 1
        if self._pull_due_ns is not None:
            self._pull_due_ns = min(self._pull_due_ns, now_ns + QUICK_NS)

    def on_time(self, now_ns: int) -> list[Out]:
        """Send what waits and what is due: frames, the keepalive, the report."""
        if self._changed_ns is None:
            self._changed_ns = now_ns
        out: list[Out] = []
        while self._frames and now_ns - self._frames[0][0] > STALE_NS:
            self._frames.popleft()
            self.counters["frames_dropped"] += 1
        while self._frames:
            batch = tuple(self._frames.popleft()[1] for _ in range(min(MAX_RXPK, len(self._frames))))
            self._since.rxfw += len(batch)
            self.counters["frames_forwarded"] += len(batch)
            out.append(self._push(now_ns, batch, None))
        if self._stat_due_ns is None:
            self._stat_due_ns = now_ns + self._stat_ns
        elif now_ns >= self._stat_due_ns:
            self._stat_due_ns = now_ns + self._stat_ns
            out.append(self._push(now_ns, (), self._report(now_ns)))
        if self._pull_due_ns is None or now_ns >= self._pull_due_ns:
            out.append(self._pull(now_ns))
        self._forget_unacked(now_ns)
        return out

    def on_datagram(self, way: Way, data: bytes, now_ns: int) -> list[Out]:
        """A datagram from the server came in on one of the sockets."""
        try:
            datagram = gwmp.decode(data)
        except gwmp.UnsupportedOrder as order:
            self._since.dwnb += 1
            if way is not Way.DOWN:
                self.counters["datagrams_unexpected"] += 1
                return []
            return self._refuse(order.token, str(order), now_ns)
        except GwmpError as error:
            self.counters["datagrams_malformed"] += 1
            self.say(now_ns, "malformed", "a datagram is not understood: %s (%s)", error, data[:64].hex())
            return []
        match (way, datagram):
            case (Way.UP, gwmp.PushAck(token)):
                self._push_ack(token, now_ns)
                return []
            case (Way.DOWN, gwmp.PullAck(token)):
                self._pull_ack(token, now_ns)
                return []
            case (Way.DOWN, gwmp.PullResp(token, txpk)):
                self._since.dwnb += 1
                if not self._downlinks:
                    return self._refuse(token, "its setting `downlinks` is false", now_ns)
                return [(Way.DOWN, gwmp.encode(self._order(token, txpk, now_ns)))]
        self.counters["datagrams_unexpected"] += 1
        return []

    def status(self, now_ns: int) -> dict[str, Any]:
        """Plain values for people and machines; times as Unix seconds, None where they are not known."""
        counters = self.counters
        refused = sum(n for name, n in counters.items() if name.startswith("pull_resp_"))
        refused += counters["downlinks_refused"] - counters["pull_resp_none"]
        shared = len(self._settled)
        return {
            "connected": self.connected,
            "since": self._unix_s(self._changed_ns),
            "since_s": None if self._changed_ns is None else round((now_ns - self._changed_ns) / 1e9, 1),
            "last_ack": self._unix_s(self.last_ack_ns),
            "acked_percent": round(100 * sum(self._settled) / shared, 1) if shared else None,
            "forwarded": counters["frames_forwarded"],
            "waiting": len(self._frames),
            "dropped": counters["frames_dropped"],
            "downlinks": self._downlinks,
            "downlinks_accepted": counters["pull_resp_none"],
            "downlinks_refused": refused,
            "downlinks_sent": counters["downlinks_sent"],
            "counters": dict(counters),
        }

    def _order(self, token: int, txpk: TxPacket, now_ns: int) -> TxAck:
        result = self._transmit(txpk, now_ns)
        self.counters[f"pull_resp_{result.error.lower()}"] += 1
        if result.error is not TxError.NONE:
            return TxAck(token, self._eui, result.error, reason=result.reason)
        if result.id is not None:
            self._ordered[result.id] = None
            if len(self._ordered) > MAX_ORDERED:
                self._ordered.popitem(last=False)
        if result.power_dbm is not None:
            return TxAck(token, self._eui, warn=TxError.TX_POWER, value=result.power_dbm)
        return TxAck(token, self._eui)

    def _refuse(self, token: int, why: str, now_ns: int) -> list[Out]:
        """GWMP has no word for "not from you"; that no frequency is open to it comes nearest, and is final."""
        self.counters["downlinks_refused"] += 1
        self.say(now_ns, "refused", "a downlink is refused: %s", why)
        return [(Way.DOWN, gwmp.encode(TxAck(token, self._eui, TxError.TX_FREQ)))]

    def _push(self, now_ns: int, frames: tuple[RxPacket, ...], stat: gwmp.Stat | None) -> Out:
        token = self._rng.getrandbits(16)
        while token in self._unacked:
            token = (token + 1) & 0xFFFF
        self._unacked[token] = now_ns
        self._since.pushed += 1
        self.counters["push_data"] += 1
        return Way.UP, gwmp.encode(gwmp.PushData(token, self._eui, frames, stat))

    def _forget_unacked(self, now_ns: int) -> None:
        while self._unacked:
            oldest, sent_ns = next(iter(self._unacked.items()))
            if now_ns - sent_ns < ACK_WAIT_NS and len(self._unacked) <= MAX_UNACKED:
                break
            del self._unacked[oldest]
            self._settled.append(False)
            self.counters["push_unacked"] += 1

    def _push_ack(self, token: int, now_ns: int) -> None:
        if self._unacked.pop(token, None) is None:
            self.counters["push_ack_unknown"] += 1
            return
        self._since.acked += 1
        self._settled.append(True)
        self.last_ack_ns = now_ns
        self.counters["push_ack"] += 1

    def _pull(self, now_ns: int) -> Out:
        was_connected = self.connected
        if was_connected:
            self._pulls_unanswered += 1
        if was_connected and not self.connected:
            self._changed_ns = now_ns
            log.warning("server %s does not answer any more", self.name)
        if self._quick_pulls:
            self._quick_pulls -= 1
            self._pull_due_ns = now_ns + QUICK_NS
        else:
            self._pull_due_ns = now_ns + round(self._keepalive_ns * self._rng.uniform(KEEPALIVE_SPREAD, 1))
        self._pull_token = self._rng.getrandbits(16)
        self.counters["pull_data"] += 1
        return Way.DOWN, gwmp.encode(gwmp.PullData(self._pull_token, self._eui))

    def _pull_ack(self, token: int, now_ns: int) -> None:
        if token != self._pull_token:
            self.counters["pull_ack_unknown"] += 1
            return
        if not self.connected:
            self._changed_ns = now_ns
            log.info("server %s answers", self.name)
        if self._quick_pulls:
            self._quick_pulls = 0
            self._pull_due_ns = now_ns + round(self._keepalive_ns * self._rng.uniform(KEEPALIVE_SPREAD, 1))
        self._pulls_unanswered = 0
        self.last_ack_ns = now_ns
        self.counters["pull_ack"] += 1

    def _report(self, now_ns: int) -> gwmp.Stat:
        since, self._since = self._since, _SinceStat()
        lati, long, alti = (self._position() if self._position else None) or (None, None, None)
        return gwmp.Stat(
            time_ns=None if self._utc_ns is None else self._utc_ns(now_ns),
            lati=lati,
            long=long,
            alti=alti,
            rxnb=since.rxnb,
            rxok=since.rxok,
            rxfw=since.rxfw,
            ackr=round(100 * min(since.acked / since.pushed, 1), 1) if since.pushed else 100.0,
            dwnb=since.dwnb,
            txnb=since.txnb,
        )

    def _unix_s(self, mono_ns: int | None) -> float | None:
        utc_ns = None if mono_ns is None or self._utc_ns is None else self._utc_ns(mono_ns)
        return None if utc_ns is None else round(utc_ns / 1e9, 3)

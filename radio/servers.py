"""The network servers a radio works for: the local gateway first, and others beside it.

A `Server` is a link to one of them, with a thread of its own, so that one that is slow, gone or cannot be
resolved delays no other. `Fanout` gives each frame to those whose filter lets it pass; `Downlinks` stands
between their orders and the radio, and lets one join have one answer only.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from radio.concentrator import TxResult
from radio.gwmp import U32, RxPacket, TxError, TxPacket

log = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
RUN_AGAIN_S: Final = 30.0  # after a fault of our own in the thread of a server that is not the local one
MAX_JOINS: Final = 256  # join-requests whose answer is watched
JOIN_WATCHED_NS: Final = 8 * SECOND_NS  # a join-accept goes out 5 s or 6 s after its join-request
JOIN_ACCEPT_DELAYS_US: Final = (5_000_000, 6_000_000)
JOIN_REQUEST: Final = 0b000
JOIN_REQUEST_LEN: Final = 23

Transmit = Callable[[TxPacket, int], TxResult]


class Server(Protocol):
    """A link to one network server. `frame`, `sent` and `wake` may be called from any thread and never wait."""

    name: str

    def frame(self, rx: RxPacket) -> None:
        """Take a frame for this server; where too many wait, the oldest gives way and is counted."""

    def sent(self, tx_id: int) -> None:
        """A downlink has left the antenna: `TxResult.id` of an order, which may be another server's."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, in a thread of its own; may be called again after it has raised."""

    def wake(self) -> None:
        """Make `run` look around, for instance at `stop`."""

    def close(self) -> None:
        """Let go of what is left, once no thread can call anything of this any more."""

    def status(self) -> dict[str, Any]:
        """Plain values: name, kind, host, connected, since, last_ack, acked_percent, forwarded, dropped, ..."""
        ...


@dataclass(frozen=True, slots=True)
class Outlet:
    """A server, and what of the air it is given."""

    server: Server
    passes: Callable[[RxPacket], str]  # "" for a frame that passes, else why it does not


@dataclass(slots=True)
class _Join:
    """A join-request that more than one server was given."""

    phy: bytes
    heard_ns: int
    answered_by: str = ""


class Downlinks:
    """Between the servers' orders and the radio.

    A device belongs to one side only. Two join-accepts for one join-request would leave the device with the
    session of one and the other side waiting: the first to answer has it, the other is refused and told of.
    """

    def __init__(self, transmit: Transmit) -> None:
        self.conflicts: Counter[str] = Counter()  # by the server that came second
        self._transmit = transmit
        self._lock = threading.Lock()
        self._joins: OrderedDict[int, _Join] = OrderedDict()  # by tmst; modules may hear one twice

    def heard(self, rx: RxPacket, now_ns: int) -> None:
        """A join-request that more than one server is about to get."""
        with self._lock:
            while self._joins:
                tmst, oldest = next(iter(self._joins.items()))
                if now_ns - oldest.heard_ns < JOIN_WATCHED_NS and len(self._joins) < MAX_JOINS:
                    break
                del self._joins[tmst]
            same = (join for join in self._joins.values() if join.phy == rx.data)
            self._joins[rx.tmst] = next(same, _Join(rx.data, now_ns))

    def of(self, name: str) -> Transmit:
        """What the server `name` orders downlinks with."""

        def transmit(order: TxPacket, now_ns: int) -> TxResult:
            with self._lock:
                join = self._join(order)
                taken_by = "" if join is None else join.answered_by
                if join is not None and taken_by in ("", name):
                    join.answered_by = name
            if join is None:
                return self._transmit(order, now_ns)
            if taken_by not in ("", name):
                self.conflicts[name] += 1
                _warn(join.phy, taken_by, name)
                return TxResult(
                    TxError.COLLISION_PACKET, f"{taken_by} has answered this join-request already"
                )
            result = self._transmit(order, now_ns)
            if result.error is not TxError.NONE:
                join.answered_by = taken_by
            return result

        return transmit

    def _join(self, order: TxPacket) -> _Join | None:
        """The watched join-request that this order answers."""
        if order.tmst is None:
            return None
        found = (self._joins.get((order.tmst - delay_us) % U32) for delay_us in JOIN_ACCEPT_DELAYS_US)
        return next((join for join in found if join is not None), None)


def _warn(phy: bytes, first: str, second: str) -> None:
    log.warning(
        "two servers answer the join of device %s (JoinEUI %s): %s did, so %s is refused; register the device "
        "with one of them only, or narrow the join_euis of [[radio.server]] %s",
        phy[16:8:-1].hex(),
        phy[8:0:-1].hex(),
        first,
        second,
        second,
    )


class Fanout:
    """All servers of a radio; the first one is the local gateway."""

    def __init__(self, outlets: Sequence[Outlet], downlinks: Downlinks, clock: Callable[[], int]) -> None:
        self.failure: BaseException | None = None  # what ended the local server's thread
        self._outlets = tuple(outlets)
        self._downlinks = downlinks
        self._clock = clock
        self._filtered: tuple[Counter[str], ...] = tuple(Counter() for _ in outlets)
        self._faults = [0] * len(self._outlets)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def frame(self, rx: RxPacket) -> None:
        """Give a frame to those it is for, from any module's thread."""
        takers = []
        for outlet, filtered in zip(self._outlets, self._filtered, strict=True):
            if reason := outlet.passes(rx):
                with self._lock:
                    filtered[reason] += 1
            else:
                takers.append(outlet.server)
        if len(takers) > 1 and is_join_request(rx):
            self._downlinks.heard(rx, self._clock())
        for server in takers:
            server.frame(rx)

    def sent(self, tx_id: int) -> None:
        """A downlink has left; its server knows it by its id."""
        for outlet in self._outlets:
            outlet.server.sent(tx_id)

    def start(self, on_failure: Callable[[], None]) -> None:
        """Start a thread for each server. `on_failure` is called where the local one's ends by a fault."""
        for index, outlet in enumerate(self._outlets):
            thread = threading.Thread(
                target=self._run, args=(index, on_failure), name=f"server {outlet.server.name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the threads and wait for them."""
        self._stop.set()
        for outlet in self._outlets:
            outlet.server.wake()
        for outlet, thread in zip(self._outlets, self._threads, strict=False):
            thread.join(timeout_s)
            if not thread.is_alive():
                outlet.server.close()

    def status(self) -> list[dict[str, Any]]:
        """One entry for each server, for `Radio.status`."""
        with self._lock:
            filtered = [dict(counts) for counts in self._filtered]
        return [
            {
                **outlet.server.status(),
                "filtered": sum(counts.values()),
                "filtered_by_reason": counts,
                "join_conflicts": self._downlinks.conflicts[outlet.server.name],
                "faults": faults,
            }
            for outlet, counts, faults in zip(self._outlets, filtered, self._faults, strict=True)
        ]

    def _run(self, index: int, on_failure: Callable[[], None]) -> None:
        """Run a server. Without the local one the radio is of no use; any other one is started again."""
        server = self._outlets[index].server
        while not self._stop.is_set():
            try:
                server.run(self._stop)
            except Exception as error:
                log.exception("server %s: its thread failed", server.name)
                self._faults[index] += 1
                if index == 0:
                    self.failure = error
                    on_failure()
                    return
            self._stop.wait(RUN_AGAIN_S)


def is_join_request(rx: RxPacket) -> bool:
    """Whether a frame is a whole join-request of LoRaWAN 1.x."""
    return rx.stat >= 0 and len(rx.data) == JOIN_REQUEST_LEN and rx.data[0] == JOIN_REQUEST << 5

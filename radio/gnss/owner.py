"""The thread that reads a GNSS receiver and its pulse. Losing either is said, and everything else goes on."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from radio.gnss import ubx
from radio.gnss.receiver import UBX_EVERY_NS, Position, Receiver, State
from radio.seam import Clock, Lines
from radio.serial_line import SerialPort
from radio.timebase import SECOND_NS

log = logging.getLogger(__name__)

LOOK_NS: Final = SECOND_NS
FIRST_RETRY_NS: Final = SECOND_NS
LAST_RETRY_NS: Final = 10 * SECOND_NS
PPS: Final = "pps"
# For the leap seconds, the first times; a cold receiver learns them within 12.5 min
ASK_NS: Final = 10 * SECOND_NS
ASK_OFTEN: Final = 3


class GnssOwner:
    """Runs one receiver. `run` is the thread; `position` and `status` are for any."""

    def __init__(
        self,
        receiver: Receiver,
        port: SerialPort,
        clock: Clock,
        pulse: Lines | None = None,
        on_look: Callable[[int], None] | None = None,  # about once a second, in the thread
    ) -> None:
        self.receiver = receiver
        self.clock = clock
        self.fault = "starting"  # why the port is not open; empty while it is
        self._port = port
        self._pulse = pulse
        self._on_look = on_look
        self._opened = False
        self._retry_ns = 0
        self._backoff_ns = FIRST_RETRY_NS
        self._ask_ns = 0
        self._asked = 0
        self._seqno: int | None = None
        self._edges_lost = 0

    @property
    def position(self) -> Position | None:
        """The last believed place, as it may be told."""
        return self.receiver.position

    def status(self, now_ns: int) -> dict[str, Any]:
        """For people."""
        return {
            "fault": self.fault,
            "pps": None if self._pulse is None else self._pulse.backend,
            "edges_lost": self._edges_lost,
            **self.receiver.status(now_ns),
        }

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`; whoever sets it calls `clock.wake()` as well."""
        clock = self.clock
        try:
            while not stop.is_set():
                now_ns = clock.now_ns()
                if not self._opened and now_ns >= self._retry_ns:
                    self._open(now_ns)
                watched = [
                    each for each in (self._pulse, self._port if self._opened else None) if each is not None
                ]
                clock.wait(watched, self._deadline(now_ns))
                self._step()
        finally:
            self._port.close()
            if self._pulse is not None:
                self._pulse.close()

    def _deadline(self, now_ns: int) -> int:
        poll_ns = LOOK_NS if self._pulse is None or self._pulse.poll_ns is None else self._pulse.poll_ns
        return now_ns + poll_ns

    def _step(self) -> None:
        """Edges first: the sentence that labels one comes after it."""
        if self._pulse is not None:
            for edge in self._pulse.read_edges():
                if edge.line == PPS and edge.rising and not edge.coarse:
                    if self._seqno is not None:
                        self._edges_lost += max(0, edge.seqno - self._seqno - 1)
                    self._seqno = edge.seqno
                    self.receiver.on_edge(edge.t_ns)
        now_ns = self.clock.now_ns()
        if self._opened:
            try:
                data = self._port.read()
                if data:
                    self.receiver.on_bytes(data, now_ns)
                if now_ns >= self._ask_ns and self.receiver.state is State.FIX:
                    self._asked += 1
                    self._ask_ns = now_ns + (ASK_NS if self._asked < ASK_OFTEN else UBX_EVERY_NS)
                    self._port.write(ubx.poll())
            except OSError as error:
                self._lost(error, now_ns)
        self.receiver.on_time(now_ns)
        if self._on_look is not None:
            self._on_look(now_ns)

    def _open(self, now_ns: int) -> None:
        try:
            self._port.open()
        except (OSError, ImportError) as error:
            self._lost(error, now_ns)
            return
        log.info("GNSS: the receiver's port is open")
        self.fault = ""
        self._opened = True
        self._backoff_ns = FIRST_RETRY_NS
        self._asked = 0

    def _lost(self, error: Exception, now_ns: int) -> None:
        reason = str(error)
        if reason != self.fault:
            log.warning("GNSS: the receiver's port does not work, the gateway goes on without: %s", reason)
        self.fault = reason
        self._opened = False
        self.receiver.lost_port()
        self._retry_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, LAST_RETRY_NS)

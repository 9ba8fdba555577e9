"""The one thread that owns an RN2483: it alone reads and writes its port, and ends its transmit lines in time.

The counterpart of `radio.owner.ModuleOwner`, on the seam of `radio.serial_line` and `radio.seam.Clock`.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from radio.concentrator import TxModule
from radio.gwmp import TxError
from radio.histogram import SLACK_US, START_ERROR_US, Histogram
from radio.jit import MS, JitQueue, JitTiming, Transmission
from radio.rn2483 import Rn2483
from radio.rn2483_states import BANDS_HZ, POWER_DBM, Break, State, carries
from radio.seam import Clock
from radio.serial_line import SerialPort
from radio.sx127x.modem import Event, Fault, NotSent, Sent

log = logging.getLogger(__name__)

# Up to seven settings, each set and read back (about 12 ms at 57600 baud), and 91 ms for a line of 255 bytes.
TIMING: Final = JitTiming(arm_ns=250 * MS, wake_ns=10 * MS, tail_ns=120 * MS)
FIRST_RETRY_NS: Final = 100 * MS
LAST_RETRY_NS: Final = 4_000 * MS
STEADY_NS: Final = 10_000 * MS  # up for so long, and the next failure is retried at once again

CAPABILITIES: Final[dict[str, Any]] = {
    "timestamps": "coarse",  # when the line came in, less the time it took
    "frequency_error": False,
    "crc_told": False,  # damaged frames are counted, not shown; frames without CRC look like good ones
    "min_lead_us": TIMING.min_lead_ns // 1000,
    "deaf": "after each frame its line on the wire and 20 ms; 0.4 s and its length for a downlink",
    "power_dbm": list(POWER_DBM),
    "bands_hz": [list(band) for band in BANDS_HZ],
    "sf": [7, 12],
}


class Rn2483Owner:
    """Runs one module. `on_event` is called in its thread: it must be short.

    `submit` may be called from any thread; `run` is the thread.
    """

    kind: Final = "rn2483"

    def __init__(
        self,
        name: str,
        modem: Rn2483,
        port: SerialPort,
        clock: Clock,
        on_event: Callable[["Rn2483Owner", Event], None],
    ) -> None:
        self.name = name
        self.modem = modem
        self.clock = clock
        self.fault = "starting"  # why the module is down; empty while it works
        self.recovered = 0
        self.faults_by_kind: dict[str, int] = {}
        self.slack_us = Histogram(SLACK_US, "us")
        self.start_error_us = Histogram(START_ERROR_US, "us")
        self._port = port
        self._on_event = on_event
        self._queue = JitQueue(timing=TIMING)
        self._lock = threading.Lock()  # guards the queue only, and only across pure code
        self._opened = False
        self._retry_ns = 0
        self._backoff_ns = FIRST_RETRY_NS
        self._up_since_ns: int | None = None

    # --- from any thread --------------------------------------------------------------------------

    def submit(self, tx: Transmission, now_ns: int) -> TxError:
        """Promise to send `tx`, or say why not."""
        if not carries(tx.freq_hz, tx.modulation):
            return TxError.TX_FREQ
        with self._lock:
            error = self._queue.offer(tx, now_ns)
            if error is TxError.NONE:
                self.slack_us.add((tx.start_ns - now_ns) // 1000)
        if error is TxError.NONE:
            self.clock.wake()
        return error

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        """When a frame of this length could start at the earliest."""
        with self._lock:
            return self._queue.earliest_start(airtime_us, now_ns)

    @property
    def queued(self) -> int:
        """Downlinks that wait for their time."""
        return len(self._queue)

    def status(self, now_ns: int) -> dict[str, Any]:
        """What there is to know of this module, as plain values."""
        return {
            "kind": self.kind,
            "backend": "serial",
            "realtime": False,
            "model": self.modem.model,
            "state": self.modem.state.name.lower(),
            "fault": self.fault,
            "queued": self.queued,
            "faults_by_kind": dict(self.faults_by_kind),
            "recovered": self.recovered,
            "slack_us": self.slack_us.status(),
            "start_error_us": self.start_error_us.status(),
            "turnaround": self.modem.turnaround.status(),
            "capabilities": CAPABILITIES,
            **asdict(self.modem.counters),
        }

    # --- the thread -------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Own the module until `stop`; whoever sets it calls `clock.wake()` as well."""
        clock, modem = self.clock, self.modem
        try:
            while not stop.is_set():
                if modem.state is State.DOWN and clock.now_ns() >= self._retry_ns:
                    self._bring_up()
                fire_at_ns = modem.fire_at_ns
                if fire_at_ns is not None:
                    clock.sleep_until(fire_at_ns)
                    self._deliver(modem.fire(clock.now_ns()))
                    self._write()
                    continue
                clock.wait((self._port,) if self._opened else (), self._deadline())
                self._step()
            self._leave_silent()
        finally:
            self._port.close()

    def _step(self) -> None:
        now_ns = self.clock.now_ns()
        if self._opened:
            try:
                data = self._port.read()
            except OSError as error:
                self._lost(error)
                return
            if data:
                self._deliver(self.modem.on_bytes(data, now_ns))
        self._deliver(self.modem.on_time(now_ns))
        with self._lock:
            tx = self._queue.pop(now_ns)
        if tx is not None:
            self._deliver(self.modem.submit(tx, now_ns))
        self._write()
        if self.fault and self.modem.state in (State.LISTENING, State.RESTING):
            self._is_up(now_ns)

    def _write(self) -> None:
        try:
            for item in self.modem.take_output():
                if isinstance(item, Break):
                    self._port.send_break()
                else:
                    self._port.write(item)
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """The device is gone, or stuck."""
        self._opened = False
        self._deliver(self.modem.fail(f"its serial port failed: {error}"))

    def _deadline(self) -> int | None:
        with self._lock:
            arm_ns = self._queue.next_arm_ns()
        retry_ns = self._retry_ns if self.modem.state is State.DOWN else None
        if self.modem.state in (State.ARMED, State.SENDING):
            arm_ns = None  # the queue keeps them apart
        return min((t for t in (self.modem.next_deadline(), arm_ns, retry_ns) if t is not None), default=None)

    def _bring_up(self) -> None:
        now_ns = self.clock.now_ns()
        self._retry_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, LAST_RETRY_NS)
        try:
            if not self._opened:
                self._port.open()
                self._opened = True
        except (OSError, ImportError) as error:
            self._say_down(str(error))
            return
        self.modem.start(now_ns)
        self._write()

    def _is_up(self, now_ns: int) -> None:
        log.info("radio module %s is up: %s", self.name, self.modem.model)
        self.recovered += self.modem.counters.starts > 1
        self.fault = ""
        self._up_since_ns = now_ns

    def _leave_silent(self) -> None:
        if self._opened:
            self.modem.stop()
            self._write()

    def _say_down(self, reason: str) -> None:
        if reason != self.fault:
            log.error("radio module %s is down: %s", self.name, reason)
        self.fault = reason

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Sent | NotSent):
                with self._lock:
                    self._queue.finished()
            if isinstance(event, Sent):
                self.start_error_us.add((event.start_ns - event.tx.start_ns) // 1000)
            self._on_event(self, event)
            if isinstance(event, Fault):
                self._failed(event.reason)

    def _failed(self, reason: str) -> None:
        """Try again soon where it was well for long, later and later where it was not."""
        now_ns = self.clock.now_ns()
        kind = _kind(reason)
        self.faults_by_kind[kind] = self.faults_by_kind.get(kind, 0) + 1
        if self._up_since_ns is not None and now_ns - self._up_since_ns >= STEADY_NS:
            self._backoff_ns = FIRST_RETRY_NS
        self._up_since_ns = None
        self._retry_ns = now_ns + self._backoff_ns
        self._say_down(reason)


def rn2483_transmitter(owner: Rn2483Owner, receives: bool) -> TxModule:
    """What the concentrator may ask of it: chosen only where no SX127x can."""
    return TxModule(
        owner,
        receives,
        pa_boost=False,
        max_power_dbm=POWER_DBM[1],
        min_power_dbm=POWER_DBM[0],
        bands_hz=BANDS_HZ,
        timed=False,
        senses=False,
        omits_header=False,
        any_sync_word=False,
    )


def _kind(reason: str) -> str:
    """A fault's kind, of a handful."""
    for word, kind in (
        ("anew", "reset"),
        ("port", "port"),
        ("did not answer", "silent"),
        ("tx_ok", "tx_timeout"),
    ):
        if word in reason:
            return kind
    return "refused"

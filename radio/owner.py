"""The one thread that owns a module: it alone touches the chip, waits for its edges and starts its downlinks.

The loop uses nothing but the seam (`Bus`, `Lines`, `Clock`), so it runs unchanged on a Raspberry Pi, on
fake modules, and in lock-step with a simulator's clock.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from radio.boards import DEFAULT_SPI_HZ
from radio.errors import ChipError, FaultKind, RadioError
from radio.gwmp import TxError
from radio.hardware.realtime import Quiet
from radio.histogram import ARMED_US, SLACK_US, START_ERROR_US, Histogram
from radio.jit import MS, JitQueue, JitTiming, Transmission
from radio.seam import Clock, Lines
from radio.sx127x.health import ADVICE
from radio.sx127x.modem import Event, Fault, Mended, Modem, NotSent, Sent, State
from radio.sx127x.registers import Mode
from radio.sx127x.scan import ScanJob

log = logging.getLogger(__name__)

RESET_LOW_NS: Final = 1 * MS  # the chip wants 100 us
RESET_WAIT_NS: Final = 6 * MS  # and 5 ms before the first access
FIRST_RETRY_NS: Final = 100 * MS
LOAN_LOOK_NS: Final = 50 * MS  # between two looks whether the borrower is done
LAST_RETRY_NS: Final = 2000 * MS  # a chip that works again is in use within seconds
_TIMED: Final = 9  # odd: the median is one of them
MAX_SCANS: Final = 2  # waiting for the module
US: Final = 1000


class Loan:
    """A module in another thread's hands: its own keeps away from `given` until `returned`."""

    def __init__(self) -> None:
        self.given = threading.Event()
        self.returned = threading.Event()


class ModuleOwner:
    """Runs one modem. `on_event` is called in its thread, between two transfers: it must be short.

    `submit` may be called from any thread; `run` is the thread.
    """

    def __init__(
        self,
        name: str,
        modem: Modem,
        lines: Lines,
        clock: Clock,
        on_event: Callable[["ModuleOwner", Event], None],
        *,
        has_reset: bool,
        spi_hz: int = DEFAULT_SPI_HZ,
        timing: JitTiming | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        self.name = name
        self.modem = modem
        self.clock = clock
        self.fault = "starting"  # why the module is down; empty while it works
        self.slack_us = Histogram(SLACK_US, "us")  # from an order's acceptance to its start
        self.armed_us = Histogram(ARMED_US, "us")  # from a frame in the chip to its start
        self.start_error_us = Histogram(START_ERROR_US, "us")  # as TxDone tells it; later is positive
        self._lines = lines
        modem.watch.line_high = lambda: lines.get("dio0")
        self._on_event = on_event
        self._has_reset = has_reset
        self._write_bits_ns = 16_000_000_000 // spi_hz
        self._queue = JitQueue(timing=(JitTiming() if timing is None else timing).over(spi_hz))
        # Guards the queue only, and only across pure code: a thread in lock-step must never wait for another
        # one while it holds a lock.
        self._lock = threading.Lock()
        self._scans: deque[ScanJob] = deque()
        self._scan: ScanJob | None = None  # the last that was begun
        self._loan: Loan | None = None
        self._quiet = quiet
        self._retry_ns = 0
        self._backoff_ns = FIRST_RETRY_NS
        self._fault_kind: FaultKind | None = None
        self._said = True  # the log knows that it does not work, and wants to know when it does

    # --- from any thread --------------------------------------------------------------------------

    def submit(self, tx: Transmission, now_ns: int) -> TxError:
        """Promise to send `tx`, or say why not."""
        with self._lock:
            error = TxError.COLLISION_PACKET if self._loan else self._queue.offer(tx, now_ns)
            if error is TxError.NONE:
                self.slack_us.add((tx.start_ns - now_ns) // US)
        if error is TxError.NONE:
            self.clock.wake()
        return error

    def lend(self) -> Loan:
        """Ask for bus and lines; `given` once nothing is left to send. Raises RadioError where lent already."""
        with self._lock:
            if self._loan is not None:
                raise RadioError(f"module {self.name} is being calibrated already")
            self._loan = loan = Loan()
        self.clock.wake()
        return loan

    def post_scan(self, job: ScanJob) -> bool:
        """Have a scan of the band done as soon as the module can; False where others wait already."""
        with self._lock:
            if len(self._scans) >= MAX_SCANS:
                return False
            self._scans.append(job)
        self.clock.wake()
        return True

    def cancel_scan(self, job: ScanJob) -> None:
        """Whoever wanted it waits no longer. One that has begun ends by itself."""
        with self._lock:
            if job in self._scans:
                self._scans.remove(job)

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        """When a frame of this length could start at the earliest."""
        with self._lock:
            return self._queue.earliest_start(airtime_us, now_ns)

    @property
    def backend(self) -> str:
        """What tells it of edges (`radio.seam.Lines.backend`)."""
        return self._lines.backend

    @property
    def queued(self) -> int:
        """Downlinks that wait for their time."""
        return len(self._queue)

    def status(self, now_ns: int) -> dict[str, Any]:
        """What there is to know about the module, as plain values."""
        modem = self.modem
        return {
            "kind": "sx127x",
            "state": modem.state.name.lower(),
            "fault": self.fault,
            "degraded": modem.watch.degraded,
            "queued": self.queued,
            "backend": self.backend,
            "slack_us": self.slack_us.status(),
            "armed_us": self.armed_us.status(),
            "start_error_us": self.start_error_us.status(),
            **modem.roaming(),
            **asdict(modem.counters),
            **modem.health.status(),
        }

    # --- the thread -------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Own the module until `stop`; whoever sets it calls `clock.wake()` as well."""
        try:
            while not stop.is_set():
                self.turn()
            self._leave_silent()
        finally:
            self._give_up_scans()
            if self._quiet is not None:
                self._quiet.release(self.name)
            self._lines.close()

    def turn(self, until_ns: int | None = None) -> None:
        """One round of `run`: what is due now, or else a wait for what comes next, `until_ns` at the latest."""
        clock = self.clock
        if self._loan is not None and self._at_rest:
            self._give(self._loan)
        if self.modem.state is State.DOWN and clock.now_ns() >= self._retry_ns:
            self._bring_up()
        fire_at_ns = self.modem.fire_at_ns
        if fire_at_ns is not None:
            self._fire(fire_at_ns)
            return
        due_ns = self._deadline()
        if until_ns is not None:
            due_ns = until_ns if due_ns is None else min(due_ns, until_ns)
        clock.wait((self._lines,), due_ns)
        self._step()

    @property
    def _at_rest(self) -> bool:
        """Nothing is promised and nothing goes on but receiving."""
        idle = self.modem.state in (State.LISTENING, State.RESTING, State.DOWN)
        return idle and not self.queued and not self.modem.roaming().get("scanning", False)

    def _give(self, loan: Loan) -> None:
        """Keep away until the borrower is done, then start the chip anew."""
        self.modem.state = State.DOWN
        self.fault = "being calibrated"
        loan.given.set()
        while not loan.returned.is_set():
            self.clock.sleep_until(self.clock.now_ns() + LOAN_LOOK_NS)
        with self._lock:
            self._loan = None
        self._retry_ns = self.clock.now_ns()

    def _fire(self, fire_at_ns: int) -> None:
        """Read everything back as late as possible, then start the armed frame at its moment."""
        modem, clock = self.modem, self.clock
        clock.sleep_until(fire_at_ns - modem.check_lead_ns)
        self._deliver(modem.check(clock.now_ns()))
        if modem.state is State.ARMED:
            clock.sleep_until(fire_at_ns)
            self._deliver(modem.fire(clock.now_ns()))

    def _leave_silent(self) -> None:
        """Asleep, whatever it was doing: nobody will serve this chip any more."""
        try:
            self.modem.chip.set_mode(Mode.SLEEP)
        except (ChipError, OSError) as error:
            log.warning("radio module %s did not go to sleep: %s", self.name, error)

    def _step(self) -> None:
        now_ns = self.clock.now_ns()
        for edge in self._lines.read_edges():
            self._deliver(self.modem.on_edge(edge, now_ns))
        for kind, count in self.modem.health.ended(now_ns):
            log.info("radio module %s: %s is over; it happened %d time(s)", self.name, kind, count)
        with self._lock:
            self.modem.next_start_ns = self._queue.next_arm_ns()
        self._deliver(self.modem.on_time(now_ns))
        with self._lock:
            tx = self._queue.pop(now_ns)
        if tx is not None:
            self._arm(tx, now_ns)
        elif self._scans:
            self._begin_scan(now_ns)
        if self._quiet is not None and self.modem.state is not State.SENDING:
            self._quiet.rest(self.name, self.modem.next_start_ns, now_ns)

    def _arm(self, tx: Transmission, now_ns: int) -> None:
        if self._quiet is not None:
            self._quiet.hold(self.name)
        self._deliver(self.modem.submit(tx, now_ns))
        fire_at_ns = self.modem.fire_at_ns
        if fire_at_ns is not None:
            self.armed_us.add((fire_at_ns - self.clock.now_ns()) // US)

    def _begin_scan(self, now_ns: int) -> None:
        with self._lock:
            job = self._scans[0] if self._scans else None
            if job is not None and self.modem.begin_scan(job, now_ns):
                self._scan = self._scans.popleft()

    def _give_up_scans(self) -> None:
        with self._lock:
            open_jobs = [
                job for job in (self._scan, *self._scans) if job is not None and not job.done.is_set()
            ]
            self._scans.clear()
        for job in open_jobs:
            job.end("the radio is being stopped")

    def _deadline(self) -> int | None:
        with self._lock:
            arm_ns = self._queue.next_arm_ns()
        if self.modem.state is State.SENDING:
            arm_ns = None  # the queue keeps them apart; the next one comes after TxDone
        retry_ns = self._retry_ns if self.modem.state is State.DOWN else None
        poll_ns = None if self._lines.poll_ns is None else self.clock.now_ns() + self._lines.poll_ns
        due = (self.modem.next_deadline(), arm_ns, retry_ns, poll_ns)
        return min((t for t in due if t is not None), default=None)

    def _bring_up(self) -> None:
        """Reset and start the chip; on failure try again later, at growing intervals."""
        clock = self.clock
        try:
            if self._has_reset:
                self._lines.set("reset", False)
                clock.sleep_until(clock.now_ns() + RESET_LOW_NS)
                self._lines.set("reset", True)
                clock.sleep_until(clock.now_ns() + RESET_WAIT_NS)
            self._lines.read_edges()  # what the reset stirred up
            self.modem.start(clock.now_ns())
            self._time_transfers()
        except (ChipError, OSError) as error:
            self._stays_down(error)
            return
        self._backoff_ns = FIRST_RETRY_NS
        self.fault, self._fault_kind = "", None
        self.modem.health.good(clock.now_ns())
        if self._said:
            log.info("radio module %s works", self.name)
            self._said = False

    def _stays_down(self, error: ChipError | OSError) -> None:
        modem, now_ns = self.modem, self.clock.now_ns()
        kind = modem.kind_of(error)
        modem.state = State.DOWN
        reason = str(error) or type(error).__name__
        if kind is not self._fault_kind:
            self._say(reason, kind, new=modem.health.detected(kind, now_ns))
        self.fault, self._fault_kind = reason, kind
        self._retry_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, LAST_RETRY_NS)

    def _say(self, reason: str, kind: FaultKind, *, new: bool) -> None:
        """A fault is said once an episode, with what to do about it."""
        if new:
            log.error("radio module %s: %s. What to do: %s", self.name, reason, ADVICE[kind])
            self._said = True

    def _time_transfers(self) -> None:
        """Measure how long after its call a write of RegOpMode reaches the chip, and how long a survey takes.

        A transfer is its bits and what the host spends around them, taken as half before and half after. The
        median of a few decides; they write the mode the chip is in anyway.
        """
        modem = self.modem
        mode = Mode.STDBY if modem.receive is None else Mode.RXCONT
        whole_ns = self._median_ns(lambda: modem.chip.command(mode))
        modem.write_ns = (whole_ns + self._write_bits_ns) // 2
        modem.survey_ns = self._median_ns(modem.chip.survey)
        modem.chip.set_mode(mode)  # a damaged write may have meant another
        modem.go_on(self.clock.now_ns())

    def _median_ns(self, act: Callable[[], object]) -> int:
        taken = []
        for _ in range(_TIMED):
            before_ns = self.clock.now_ns()
            act()
            taken.append(self.clock.now_ns() - before_ns)
        return sorted(taken)[_TIMED // 2]

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Sent | NotSent):
                with self._lock:
                    self._queue.finished()
                if self._quiet is not None:
                    self._quiet.release(self.name)
            if isinstance(event, Sent) and not event.coarse:
                self.start_error_us.add((event.start_ns - event.tx.start_ns) // US)
            self._on_event(self, event)
            if isinstance(event, Mended):
                self._say(event.reason, event.kind, new=event.new)
            elif isinstance(event, Fault):
                self._say(event.reason, event.kind, new=event.new)
                self.fault, self._fault_kind = event.reason, event.kind
                self._retry_ns = self.clock.now_ns()

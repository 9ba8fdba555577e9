"""A modem that also leaves its channel while nothing happens there: for a sweep, or to scan the band.

Everything else, sending above all, is `Modem`'s; whatever it does, it finds the chip in the state it expects.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from radio.errors import ChipError
from radio.jit import Transmission
from radio.seam import Edge
from radio.sx127x.modem import Event, Modem, State
from radio.sx127x.registers import Mode
from radio.sx127x.scan import ScanJob, Scanner
from radio.sx127x.sweep import Sweep

_AT_WORK: Final = (State.LISTENING, State.RESTING)


@dataclass
class RoamingModem(Modem):
    """`sweep_sfs`: spreading factors to listen on by turns; empty: that of `receive` alone."""

    sweep_sfs: tuple[int, ...] = ()
    sweep: Sweep | None = field(default=None, init=False)
    scanner: Scanner | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweep_sfs:
            assert self.receive is not None
            self.sweep = Sweep(self.chip, self.receive, self.sweep_sfs)

    def begin_scan(self, job: ScanJob, now_ns: int) -> bool:
        """Work off a scan from now on; False where there is another one, or the module is busy or down."""
        if self.scanner is not None or self.state not in _AT_WORK:
            return False
        sweep = self.sweep
        self.scanner = Scanner(
            self.chip,
            job,
            self.receive,
            go_home=self._home,
            occupied=(lambda: sweep.following) if sweep is not None else (lambda: False),
            transfer_ns=2 * self.write_ns,
        )
        self.scanner.begin(now_ns)
        return True

    def go_on(self, now_ns: int) -> None:
        if self.sweep is not None and self.state is State.LISTENING:
            self._home(now_ns)

    def roaming(self) -> dict[str, Any]:
        status: dict[str, Any] = {"scanning": self.scanner is not None}
        return status if self.sweep is None else status | {"sweep": self.sweep.status()}

    # --- Modem, with these two in mind --------------------------------------------------------------

    def next_deadline(self) -> int | None:
        deadline_ns = super().next_deadline()
        if self.state not in _AT_WORK:
            return deadline_ns
        if self._away:
            assert self.scanner is not None
            return self.scanner.due_ns
        due = [deadline_ns]
        if self.scanner is not None:
            due.append(self.scanner.due_ns)
        if self.sweep is not None:
            due.append(self.sweep.due_ns)
        return min((t for t in due if t is not None), default=None)

    def on_edge(self, edge: Edge, now_ns: int) -> list[Event]:
        if self.state is not State.LISTENING or (self.sweep is None and not self._away):
            return super().on_edge(edge, now_ns)
        if not edge.rising:
            return []
        if self._away:
            self.counters.edges_stray += 1
            return []
        return self._guarded(lambda: self._sweep_edge(edge, now_ns), now_ns)

    def on_time(self, now_ns: int) -> list[Event]:
        if self.state not in _AT_WORK:
            return super().on_time(now_ns)
        events: list[Event] = []
        scanner, sweep = self.scanner, self.sweep
        if scanner is not None and now_ns >= scanner.due_ns:
            events += self._guarded(lambda: self._scan(scanner, now_ns), now_ns)
        if sweep is not None and not self._away and self.state in _AT_WORK and now_ns >= sweep.due_ns:
            lost = sweep.edges_lost
            events += self._guarded(lambda: self._swept(sweep.on_time(now_ns), now_ns, True, now_ns), now_ns)
            self.counters.edges_lost += sweep.edges_lost - lost
        if not self._away and self.state in _AT_WORK and now_ns >= self.watch.due_ns:
            events += self._guarded(lambda: self._look(now_ns), now_ns)
        return events

    def _arm(self, tx: Transmission, now_ns: int) -> None:
        if self._away:
            self._home(now_ns)
        if self.sweep is not None:
            self.receive = self.sweep.settings
        super()._arm(tx, now_ns)

    def _home(self, now_ns: int) -> None:
        super()._home(now_ns)
        if self.sweep is not None:
            self.chip.set_mode(Mode.STDBY)
            self.sweep.begin(now_ns)
        if self.scanner is not None:
            self.scanner.at_home(now_ns)

    def _look(self, now_ns: int) -> None:
        """A sweep is looked at by starting it anew, with everything set and read back, when it pursues nothing."""
        if self.sweep is None:
            super()._look(now_ns)
        elif self.sweep.following:
            self.watch.due_ns = max(self.sweep.due_ns, now_ns + 1)
        else:
            self._home(now_ns)

    def _fail(self, error: ChipError | OSError, now_ns: int, tx: Transmission | None) -> None:
        super()._fail(error, now_ns, tx)
        if self.scanner is not None:
            self.scanner.fail(f"the module failed meanwhile: {error}")
            self.scanner = None

    # --- the excursions -----------------------------------------------------------------------------

    @property
    def _away(self) -> bool:
        return self.scanner is not None and self.scanner.away

    def _scan(self, scanner: Scanner, now_ns: int) -> None:
        scanner.on_time(now_ns, self.next_start_ns)
        if scanner.job.done.is_set():
            self.scanner = None

    def _sweep_edge(self, edge: Edge, now_ns: int) -> None:
        assert self.sweep is not None
        frame = self.sweep.on_edge(edge.line, edge.t_ns, now_ns)
        self._swept(frame, edge.t_ns, edge.coarse, now_ns)

    def _swept(self, frame: bool, rx_done_ns: int, coarse: bool, now_ns: int) -> None:
        """Read the frame that a sweep has found, and go on."""
        if not frame:
            return
        assert self.sweep is not None
        self.receive = self.sweep.settings
        self._take_packets(rx_done_ns, coarse, now_ns)
        self.sweep.next(now_ns, frame=True)

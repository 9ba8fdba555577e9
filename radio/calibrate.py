"""Measuring the delays of this gateway's own chips: one module sends, another hears, the kernel stamps both edges.

Frames are short, at the modules' lowest power, with the private sync word, where the region lets a gateway send, and
within its duty cycle, dwell time and listen-before-talk. Two module owners take turns in one thread: it is the path
every downlink takes, and an edge that waits for its turn has its time already. What the samples mean is decided in
`radio.calibration`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from radio.boards import Board, ModuleWiring
from radio.calibration import Calibration, Sample, evaluate
from radio.errors import RadioError
from radio.gwmp import TxError
from radio.jit import JitTiming, Transmission
from radio.ledger import Booking
from radio.lora import LoRaModulation, airtime_us
from radio.owner import Loan, ModuleOwner
from radio.regions import Dwell, Region, SubBand
from radio.seam import Bus, Clock, Lines
from radio.sx127x.chip import Chip
from radio.sx127x.modem import START_LATENCY_NS, Event, Modem, NotSent, Received, Sent, State
from radio.sx127x.registers import SYNC_WORD_PRIVATE, Mode, Power, Settings

log = logging.getLogger(__name__)

MS: Final = 1_000_000
PAYLOAD_BYTES: Final = 16
PREAMBLE: Final = 8
ROUNDS: Final = 5
ROUNDS_LONG: Final = 3  # from SF11 on, for the duty cycle's sake
LEAD_NS: Final = 50 * MS
WAIT_NS: Final = 50 * MS  # between two looks at edges that do not come
AFTER_NS: Final = 300 * MS  # for what is late after the end of a frame
TRIES: Final = 3  # for each frame wanted
BORROW_NS: Final = 30_000 * MS  # for what a module has promised to send before
BORROW_LOOK_NS: Final = 5 * MS
BOOK_TRIES: Final = 20
BOOK_WAIT_NS: Final = 100 * MS  # the books of time on air are on their way to the disk


class CalibrationFailed(RadioError):
    """Nothing could be measured; the text says what to mend."""


class Books(Protocol):
    """Who has sent how much: `radio.ledger.Airtime`."""

    def try_reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> Booking: ...
    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Station:
    """One of the two modules."""

    name: str
    board: Board
    wiring: ModuleWiring
    bus: Bus
    lines: Lines

    @property
    def weakest_dbm(self) -> int:
        """The lowest power it can be set to."""
        return Power.limits(self.wiring.pa_boost)[0]


@dataclass(frozen=True, slots=True)
class Step:
    """One modulation to measure, and where that is allowed."""

    modulation: LoRaModulation
    freq_hz: int
    band: SubBand

    @property
    def airtime_us(self) -> int:
        """Of one frame."""
        return airtime_us(self.modulation, PAYLOAD_BYTES, preamble=PREAMBLE)

    @property
    def rounds(self) -> int:
        """Frames in each direction."""
        return ROUNDS_LONG if self.modulation.sf >= 11 else ROUNDS


def plan(
    region: Region, eirp_dbm: float, also: Sequence[LoRaModulation] = ()
) -> tuple[list[Step], list[str]]:
    """What to measure in a region, and what not, with the reason. `also`: what the modules listen to."""
    steps: list[Step] = []
    left_out: list[str] = []
    wanted = {(m.sf, m.bw_hz) for m in (*region.data_rates.values(), *also) if m is not None and m.sf > 6}
    for sf, bw_hz in sorted(wanted, key=lambda each: (each[1], each[0])):
        modulation = LoRaModulation(sf, bw_hz)
        place = _place(region, bw_hz, eirp_dbm)
        if place is None:
            left_out.append(
                f"{modulation.datr}: nowhere in {region.name} may a gateway send {bw_hz // 1000} kHz wide "
                f"with {eirp_dbm:g} dBm"
            )
            continue
        step = Step(modulation, *place)
        if region.downlink_dwell is not Dwell.NEVER and step.airtime_us > region.dwell_limit_us:
            left_out.append(
                f"{modulation.datr}: {step.airtime_us // 1000} ms on air, dwell time is "
                f"{region.dwell_limit_us // 1000} ms"
            )
            continue
        steps.append(step)
    return steps, left_out


def _place(region: Region, bw_hz: int, eirp_dbm: float) -> tuple[int, SubBand] | None:
    """The frequency where most may be sent. A gateway sends only what its region has for downlinks."""
    if bw_hz not in {modulation.bw_hz for modulation in region.downlink_data_rates.values()}:
        return None
    candidates = (region.rx2[0], *region.default_channels_hz, *region.downlink_channels_hz)
    allowed = [
        (freq_hz, band)
        for freq_hz in candidates
        if (band := region.sub_band_for(freq_hz, bw_hz)) is not None and band.max_eirp_dbm >= eirp_dbm
    ]
    return max(allowed, key=lambda place: place[1].duty, default=None)


@dataclass(slots=True)
class Calibrator:
    """Two modules and what they need. `say` is told of each step; `stop` asked before each frame."""

    stations: tuple[Station, Station]
    clock: Clock
    region: Region
    books: Books
    antenna_gain_dbi: float = 0.0
    say: Callable[[str], None] = log.info
    stop: Callable[[], bool] = lambda: False
    _id: int = 0
    _left_out: list[str] = field(default_factory=list)
    _trouble: str = ""  # what became of the last frame that gave no sample

    def run(self, also: Sequence[LoRaModulation] = (), utc_s: int | None = None) -> Calibration:
        """Measure everything, both ways. Raises CalibrationFailed, OSError."""
        for station in self.stations:
            if station.lines.backend not in ("gpiod", "lgpio", "sim"):
                raise CalibrationFailed(
                    f"{station.name} has its edges through {station.lines.backend}, without the kernel's time: "
                    "install gpiod (pip install 'gpiod>=2.2')"
                )
        eirp_dbm = max(station.weakest_dbm for station in self.stations) + self.antenna_gain_dbi
        steps, self._left_out = plan(self.region, eirp_dbm, also)
        samples: list[Sample] = []
        first, second = self.stations
        try:
            for step in steps:
                for sender, receiver in ((first, second), (second, first)):
                    samples += self._measure(step, sender, receiver)
                if not samples:
                    break  # what does not work at the fastest will not at the slowest
        finally:
            for station in self.stations:
                Chip(station.bus).set_mode(Mode.SLEEP)
        found = evaluate(samples, utc_s)
        if not found.measured:
            deaf = (
                ()
                if samples
                else ("the modules do not hear each other: are both for this band, with antennas?",)
            )
            reasons = "; ".join((*deaf, *found.rejected, *self._left_out))
            raise CalibrationFailed(f"nothing could be measured: {reasons}")
        return found

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not measured, and why."""
        return tuple(self._left_out)

    def _measure(self, step: Step, sender: Station, receiver: Station) -> list[Sample]:
        """One modulation in one direction."""
        heard: list[Event] = []
        sends = self._owner(sender, None, step, heard)
        listens = self._owner(
            receiver, Settings(step.freq_hz, step.modulation, sync_word=SYNC_WORD_PRIVATE), step, heard
        )
        samples: list[Sample] = []
        tries = TRIES * step.rounds
        while len(samples) < step.rounds and tries and not self.stop():
            tries -= 1
            start_ns = self._book(step)
            if start_ns is None:
                break
            sample = self._exchange(step, start_ns, sends, listens, heard)
            if sample is not None:
                samples.append(sample)
        if len(samples) < step.rounds:
            lacking = step.rounds - len(samples)
            self._left_out.append(
                f"{step.modulation.datr}: {lacking} frames of {sender.name}: {self._trouble}"
            )
        middle = sorted(sample.latency_ns for sample in samples)
        what = f"{middle[len(middle) // 2] / 1000:.0f} us" if middle else self._trouble
        self.say(f"{step.modulation.datr:<10}{sender.name} to {receiver.name}: {len(middle)} frames, {what}")
        return samples

    def _owner(
        self, station: Station, receive: Settings | None, step: Step, heard: list[Event]
    ) -> ModuleOwner:
        """A module, up and ready. Raises CalibrationFailed where it does not come up."""
        modem = Modem(
            chip=Chip(station.bus),
            receive=receive,
            sync_word=SYNC_WORD_PRIVATE,
            pa_boost=station.wiring.pa_boost,
            calibrate_at_hz=step.freq_hz,
            rx_done_latency_ns=lambda _sf, _bw_hz: 0,  # the bare edge
        )
        owner = ModuleOwner(
            station.name,
            modem,
            station.lines,
            self.clock,
            lambda _owner, event: heard.append(event),
            has_reset=station.wiring.reset is not None,
            spi_hz=station.board.spi_hz,
            timing=JitTiming.listening(self.region.lbt),
        )
        owner.turn(self.clock.now_ns())
        if modem.state is State.DOWN:
            raise CalibrationFailed(f"{station.name} does not work: {owner.fault}")
        return owner

    def _start_ns(self) -> int:
        lbt = self.region.lbt
        return self.clock.now_ns() + LEAD_NS + (0 if lbt is None else lbt.lead_ns)

    def _book(self, step: Step) -> int | None:
        """Book one frame: when it may start, or None where the books say no."""
        for _ in range(BOOK_TRIES):
            now_ns, start_ns = self.clock.now_ns(), self._start_ns()
            match self.books.try_reserve(step.band, start_ns, step.airtime_us, now_ns):
                case Booking.DONE:
                    return start_ns
                case Booking.OVER_BUDGET:
                    self._trouble = f"the duty cycle of {step.band} is used up: measure again within the hour"
                    return None
                case Booking.NOT_WRITTEN:
                    self.clock.sleep_until(now_ns + BOOK_WAIT_NS)
        self._trouble = "the books of time on air cannot be written ([radio] state_dir)"
        return None

    def _exchange(
        self, step: Step, start_ns: int, sends: ModuleOwner, listens: ModuleOwner, heard: list[Event]
    ) -> Sample | None:
        """One frame; None where it was not sent or not heard."""
        heard.clear()
        self._id += 1
        tx = Transmission(
            self._id,
            start_ns,
            step.freq_hz,
            step.modulation,
            Power.limits(sends.modem.pa_boost)[0],
            iq_inverted=False,
            crc=True,
            preamble=PREAMBLE,
            payload=b"calibrate" + self._id.to_bytes(PAYLOAD_BYTES - len(b"calibrate"), "big"),
            lbt=self.region.lbt,
        )
        if sends.submit(tx, self.clock.now_ns()) is not TxError.NONE:
            self._trouble = "not sent, the machine was too busy"
            self.books.release(step.band, start_ns, step.airtime_us)
            return None
        until_ns = tx.end_ns + 2 * step.modulation.symbol_ns + AFTER_NS
        while sends.modem.state is not State.SENDING and not heard and self.clock.now_ns() < until_ns:
            sends.turn(until_ns)
        lines = [station.lines for station in self.stations]
        while (now_ns := self.clock.now_ns()) < until_ns:
            self.clock.wait(lines, min(until_ns, now_ns + WAIT_NS))
            for owner in (sends, listens):
                owner.turn(self.clock.now_ns())
            sent = next((event for event in heard if isinstance(event, Sent)), None)
            received = next(
                (e for e in heard if isinstance(e, Received) and e.packet.payload == tx.payload), None
            )
            if sent is not None and received is not None:
                return _sample(tx, sent, received, sends.name, listens.name)
            lost = next((event for event in heard if isinstance(event, NotSent)), None)
            if lost is not None:
                self._trouble = f"not sent, {lost.reason}"
                if not lost.maybe_aired:
                    self.books.release(step.band, start_ns, step.airtime_us)
                return None
        self._trouble = "not heard"
        return None


@contextmanager
def borrowed(owners: Sequence[ModuleOwner], clock: Clock) -> Iterator[None]:
    """Modules of a running radio, in the caller's hands inside the block. Raises RadioError where they are busy."""
    loans: list[Loan] = []
    try:
        loans.extend(owner.lend() for owner in owners)
        until_ns = clock.now_ns() + BORROW_NS
        while not all(loan.given.is_set() for loan in loans):
            if clock.now_ns() >= until_ns:
                raise CalibrationFailed("the modules have too much to send: try again in a minute")
            clock.sleep_until(clock.now_ns() + BORROW_LOOK_NS)
        yield
    finally:
        for loan in loans:
            loan.returned.set()


def _sample(tx: Transmission, sent: Sent, received: Received, sender: str, receiver: str) -> Sample | None:
    if sent.coarse or received.coarse or not received.packet.crc_ok:
        return None
    tx_done_ns = sent.start_ns + tx.airtime_us * 1000
    start_ns = START_LATENCY_NS + sent.start_ns - tx.start_ns
    return Sample(sender, receiver, tx.modulation, received.end_ns - tx_done_ns, start_ns)

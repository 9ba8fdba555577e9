"""What a gateway does with one SX127x: receive for ever, and send a frame at its microsecond.

A state machine without thread or clock: its owner hands in edges, times and orders and acts on the events
that come back. SPI transfers happen inside these calls, through the chip.

    DOWN ──start──▶ LISTENING (or RESTING, for a module that only sends)
                      │  ▲
                    submit │ TxDone
                      ▼  │
          (SENSING ─▶) ARMED ──check, fire──▶ SENDING         any state ──fault──▶ DOWN

SENSING is for orders that must listen before they talk; a busy channel leads back home.

What goes wrong climbs a ladder: read once more, write the settings anew from standby, and only then DOWN, from
where its owner resets the chip. The rules are in `health`.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from radio.errors import ChipError, FaultKind
from radio.jit import MS, Transmission
from radio.lbt import DECIDE_NS, SAMPLE_NS, Listening
from radio.lora import rx_done_latency_ns
from radio.seam import Edge
from radio.sx127x.chip import Chip, Packet
from radio.sx127x.events import Counters as Counters
from radio.sx127x.events import Event as Event
from radio.sx127x.events import Fault as Fault
from radio.sx127x.events import Mended as Mended
from radio.sx127x.events import NotSent as NotSent
from radio.sx127x.events import Received as Received
from radio.sx127x.events import Sent as Sent
from radio.sx127x.events import State as State
from radio.sx127x.health import Finding, Health, diagnose, judge
from radio.sx127x.registers import REG_RSSI_VALUE, Dio0, Irq, Mode, Power, Settings, rssi_offset_dbm
from radio.sx127x.scan import ScanJob
from radio.sx127x.watch import EDGE_GRACE_NS, POLL_NS, LostEdge, Watch

US: Final = 1000
# From the OpMode write that turns FSTX into TX to the first symbol: the PLL is locked, what remains is the
# ramp of the power amplifier (RegPaRamp, 40 us).
START_LATENCY_NS: Final = 40 * US
LATE_LIMIT_NS: Final = 500 * US  # a device's window forgives this much; later is not worth the air time
TX_TIMEOUT_NS: Final = 10 * MS  # after the end of the frame
CHECK_MARGIN_NS: Final = 150 * US  # between the last read-back and the start: what a slow transfer may take
PACKETS_AT_ONCE: Final = 8
RX_FLAGS: Final = Irq.RX_DONE | Irq.PAYLOAD_CRC_ERROR | Irq.VALID_HEADER


@dataclass(slots=True)
class _Armed:
    tx: Transmission
    since_ns: int


@dataclass(slots=True)
class Modem:
    """The state machine around one chip. `receive` None: the module only sends.

    `write_ns` is how long after its call a write of RegOpMode reaches the chip, and `survey_ns` how long a survey
    takes, both measured by the owner.
    """

    chip: Chip
    receive: Settings | None
    sync_word: int
    pa_boost: bool = True
    calibrate_at_hz: int | None = None
    write_ns: int = 0
    survey_ns: int = 0
    next_start_ns: int | None = None  # when the next downlink will be armed, as far as the owner knows
    rx_done_latency_ns: Callable[[int, int], int] = rx_done_latency_ns  # by SF and bandwidth
    start_latency_ns: int = START_LATENCY_NS
    state: State = State.DOWN
    counters: Counters = field(default_factory=Counters)
    health: Health = field(default_factory=Health)
    _armed: _Armed | None = None
    _listening: Listening | None = None
    watch: Watch = field(init=False)
    _look_ns: int = 0  # while sending
    _since_ns: int = 0  # when the present state began
    _seqno: int | None = None
    _out: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(self.chip, self.receive)

    def start(self, now_ns: int) -> None:
        """After a reset: bring the chip up and receive (or rest). Raises ChipError or OSError."""
        self.state = State.DOWN
        self._armed = None
        self._seqno = None
        self.chip.start(self.calibrate_at_hz)
        self._home(now_ns)
        self.chip.incidents.clear()
        self.counters.starts += 1

    # --- what the owner asks ----------------------------------------------------------------------

    @property
    def fire_at_ns(self) -> int | None:
        """When `fire` must be called, as exactly as possible; None unless armed."""
        if self.state is not State.ARMED or self._armed is None:
            return None
        return self._armed.tx.start_ns - self.start_latency_ns - self.write_ns

    @property
    def check_lead_ns(self) -> int:
        """How long before the start `check` must be called."""
        return self.survey_ns + CHECK_MARGIN_NS

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called at the latest; None while down or armed."""
        match self.state:
            case State.LISTENING | State.RESTING:
                return self.watch.due_ns
            case State.SENDING if self._armed is not None:
                return min(self._look_ns, self._armed.tx.end_ns + TX_TIMEOUT_NS)
            case State.SENSING if self._armed is not None:
                return min(self._look_ns, self._armed.tx.start_ns - DECIDE_NS)
        return None

    # --- what the owner tells ---------------------------------------------------------------------

    def on_edge(self, edge: Edge, now_ns: int) -> list[Event]:
        """A line changed. DIO0 rises with RxDone while listening and with TxDone while sending."""
        if edge.line != "dio0" or not edge.rising:
            return []
        if self._seqno is not None and edge.seqno > self._seqno + 1:
            self.counters.edges_lost += edge.seqno - self._seqno - 1
        self._seqno = edge.seqno
        if edge.t_ns < self._since_ns:  # left over from the state before
            self.counters.edges_stray += 1
            return []
        match self.state:
            case State.LISTENING:
                self.watch.edge_came()
                return self._guarded(lambda: self._take_packets(edge.t_ns, edge.coarse, now_ns), now_ns)
            case State.SENDING:
                return self._guarded(lambda: self._finish(edge.t_ns, edge.coarse, now_ns), now_ns)
        self.counters.edges_stray += 1
        return []

    def on_time(self, now_ns: int) -> list[Event]:
        """Time has passed: time-outs and the regular look at the chip."""
        deadline_ns = self.next_deadline()
        if deadline_ns is None or now_ns < deadline_ns:
            return []
        if self.state is State.SENDING:
            return self._guarded(lambda: self._look_at_sender(now_ns), now_ns)
        if self.state is State.SENSING:
            return self._guarded(lambda: self._sense(now_ns), now_ns)
        return self._guarded(lambda: self._look(now_ns), now_ns)

    def submit(self, tx: Transmission, now_ns: int) -> list[Event]:
        """Leave the receiver and load the chip with `tx`, ready to `check` and `fire`."""
        if self.state not in (State.LISTENING, State.RESTING):
            return [self._not_sent(f"the module is {self.state.name.lower()}", tx)]
        return self._guarded(lambda: self._arm(tx, now_ns), now_ns, tx)

    def begin_scan(self, job: ScanJob, now_ns: int) -> bool:
        """Work off a scan in the pauses; False where it cannot now. This modem never leaves its channel."""
        return False

    def go_on(self, now_ns: int) -> None:
        """Somebody else has used the chip in the mode it was in, and has finished. Raises ChipError or OSError."""

    def roaming(self) -> dict[str, Any]:
        """What there is to know of a sweep or scan, as plain values."""
        return {}

    def check(self, now_ns: int) -> list[Event]:
        """Right before the start: read back everything the armed frame depends on, and put it right if need be."""
        return self._guarded(lambda: self._make_sure(now_ns), now_ns)

    def fire(self, now_ns: int) -> list[Event]:
        """Start the armed transmission; `now_ns` is the time just before this call."""
        return self._guarded(lambda: self._start(now_ns), now_ns)

    # --- receiving --------------------------------------------------------------------------------

    def _home(self, now_ns: int) -> None:
        """Back to where the module spends its life. DIO mapping and flags come before the mode."""
        chip = self.chip
        chip.set_mode(Mode.STDBY)
        if self.receive is not None:
            chip.configure_receive(self.receive)
            chip.map_dio0(Dio0.RX_DONE)
            chip.mask_flags(RX_FLAGS)
        chip.clear_surely(Irq(0xFF))
        if self.receive is not None:
            chip.set_mode(Mode.RXCONT)
        finding = judge(chip.survey()) and judge(chip.survey())
        if finding is not None:
            raise ChipError(finding.reason, finding.kind)
        self._since_ns = now_ns
        self.state = State.RESTING if self.receive is None else State.LISTENING
        self.watch.begin(now_ns)
        if not self.watch.high_looks:
            self.health.good(now_ns)

    def _go_home(self, now_ns: int) -> None:
        if self._armed is not None:
            self.counters.deaf_ns += now_ns - self._armed.since_ns
            self._armed = None
        self._home(now_ns)

    def _take_packets(self, rx_done_ns: int, coarse: bool, now_ns: int) -> None:
        """RxDone: the packet, and those that have come in meanwhile."""
        packet, flags = self.chip.read_packet()
        if packet is None:  # the flag that brought us here may have been misread
            packet, flags = self.chip.read_packet()
            if packet is not None:
                self.chip.incidents.append(FaultKind.SPI_NOISE)
        if packet is None:
            self.counters.edges_stray += 1
        taken = 0
        while packet is not None:
            self._received(packet, rx_done_ns, coarse)
            taken += 1
            if Irq.RX_DONE not in flags or taken == PACKETS_AT_ONCE:
                break
            rx_done_ns, coarse = now_ns, True
            packet, flags = self.chip.read_packet(Irq.RX_DONE)

    def _received(self, packet: Packet, rx_done_ns: int, coarse: bool) -> None:
        receive = self.receive
        assert receive is not None
        counters = self.counters
        counters.received += 1
        counters.coarse += coarse
        if not packet.crc_present:
            counters.crc_none += 1
        elif packet.crc_ok:
            counters.crc_good += 1
        else:
            counters.crc_bad += 1
        mod = receive.modulation
        end_ns = rx_done_ns - self.rx_done_latency_ns(mod.sf, mod.bw_hz)
        if 1 <= packet.coding_rate <= 4:
            mod = replace(mod, cr=packet.coding_rate)
        self._out.append(Received(packet, end_ns, coarse, receive.freq_hz, mod))

    # --- sending ----------------------------------------------------------------------------------

    def _arm(self, tx: Transmission, now_ns: int) -> None:
        chip = self.chip
        if self.state is State.LISTENING:
            flags, receiving = chip.status()
            if Irq.RX_DONE in flags:  # its edge is still on the way up
                self._take_packets(now_ns, True, now_ns)
            self.counters.cut += receiving
        self._armed = _Armed(tx, now_ns)
        chip.set_mode(Mode.STDBY)
        if tx.lbt is None:
            self._load(tx, now_ns)
            return
        chip.configure_receive(self._settings_for(tx))
        chip.mask_flags(Irq(0))  # a frame that comes in meanwhile is nobody's
        chip.set_mode(Mode.RXCONT)
        self._listening = Listening(tx.lbt, now_ns)
        self._look_ns = now_ns + SAMPLE_NS
        self._since_ns = now_ns
        self.state = State.SENSING

    def _sense(self, now_ns: int) -> None:
        """Listen before talk: a look at the channel, and the verdict once it is time to load the frame."""
        assert self._armed is not None
        assert self._listening is not None
        tx, listening = self._armed.tx, self._listening
        self._look_ns = now_ns + SAMPLE_NS
        listening.sample(rssi_offset_dbm(tx.freq_hz) + self.chip.read(REG_RSSI_VALUE), now_ns)
        if now_ns < tx.start_ns - DECIDE_NS:
            return
        verdict = listening.verdict(now_ns)
        if not verdict:
            self.chip.set_mode(Mode.STDBY)
            self._load(tx, now_ns)
            return
        self.counters.busy += 1
        self._out.append(replace(self._not_sent(verdict), busy=True))
        self._go_home(now_ns)

    def _settings_for(self, tx: Transmission) -> Settings:
        return Settings(
            freq_hz=tx.freq_hz,
            modulation=tx.modulation,
            iq_inverted=tx.iq_inverted,
            crc=tx.crc,
            sync_word=self.sync_word if tx.sync_word is None else tx.sync_word,
            preamble=tx.preamble,
            implicit_header=tx.implicit_header,
        )

    def _load(self, tx: Transmission, now_ns: int) -> None:
        chip = self.chip
        chip.configure_transmit(self._settings_for(tx), Power(tx.power_dbm, self.pa_boost), tx.payload)
        chip.map_dio0(Dio0.TX_DONE)
        chip.mask_flags(Irq.TX_DONE)
        chip.clear_surely(Irq(0xFF))
        chip.set_mode(Mode.FSTX)
        self.state = State.ARMED
        self._make_sure(now_ns, with_fifo=True)

    def _make_sure(self, now_ns: int, *, with_fifo: bool = False) -> None:
        """See in the chip that the armed frame would leave as ordered; put right what is not. Raises ChipError."""
        assert self._armed is not None
        chip, payload = self.chip, self._armed.tx.payload
        repaired: FaultKind | None = None
        finding: Finding | None = None
        for attempt in range(4):
            survey = chip.survey()
            finding = judge(survey)
            loaded = finding is not None or not with_fifo or chip.holds(payload)
            if finding is None and not loaded:
                finding = Finding(FaultKind.SETTINGS, "the FIFO does not hold the frame", reset=False)
            elif finding is None and survey.flags:
                finding = Finding(FaultKind.STUCK_FLAG, f"flags 0x{survey.flags:02x} are set", reset=False)
            if finding is None:
                if attempt:
                    self._notice(repaired or FaultKind.SPI_NOISE, "put right before a downlink", now_ns)
                return
            if attempt == 0:  # a reading damaged on the wire is right the next time
                continue
            if finding.reset or attempt == 3:
                break
            repaired = finding.kind
            chip.set_mode(Mode.STDBY)
            chip.restore(survey)
            if not loaded or finding.kind is FaultKind.MODE:  # had it been asleep, the frame would be gone
                chip.load(payload)
            chip.clear_surely(Irq(0xFF))
            chip.set_mode(Mode.FSTX)
            with_fifo = True
        assert finding is not None
        raise ChipError(f"not as ordered right before the start: {finding.reason}", finding.kind)

    def _start(self, now_ns: int) -> None:
        fire_at_ns = self.fire_at_ns
        assert fire_at_ns is not None
        chip = self.chip
        if now_ns - fire_at_ns > LATE_LIMIT_NS:
            self.counters.late += 1
            self._out.append(self._not_sent(f"{(now_ns - fire_at_ns) // US} us late"))
            self._go_home(now_ns)
            return
        chip.command(Mode.TX)
        self.state = State.SENDING
        self._since_ns = now_ns
        self._look_ns = now_ns + POLL_NS
        if chip.sends_as_set():
            return
        chip.silence()  # before the first symbol is out, where it is not in TX or was reset
        finding = judge(chip.survey())
        if finding is not None:
            raise ChipError(f"stopped at its start: {finding.reason}", finding.kind)
        self._notice(FaultKind.SPI_NOISE, "a downlink was stopped at its start", now_ns)
        self._out.append(
            self._not_sent("stopped at its start: it read back differently from what was ordered")
        )
        self._go_home(now_ns)

    def _finish(self, tx_done_ns: int, coarse: bool, now_ns: int) -> None:
        assert self._armed is not None
        tx = self._armed.tx
        chip = self.chip
        too_early = tx_done_ns < tx.end_ns - EDGE_GRACE_NS
        done = Irq.TX_DONE in chip.flags() or Irq.TX_DONE in chip.flags()
        # A flag that stands by itself must not cut the frame
        if too_early or not done or chip.mode() is Mode.TX:
            self.counters.edges_stray += 1
            return
        self.counters.sent += 1
        self.counters.transmit_ns += tx.airtime_us * US
        self._out.append(Sent(tx, tx_done_ns - tx.airtime_us * US, coarse))
        self._go_home(now_ns)

    def _look_at_sender(self, now_ns: int) -> None:
        """A second on the air, or the end of the frame and no edge."""
        assert self._armed is not None
        chip, end_ns = self.chip, self._armed.tx.end_ns
        over = now_ns >= end_ns + TX_TIMEOUT_NS
        self._look_ns = now_ns + POLL_NS
        if not over and (now_ns > end_ns - EDGE_GRACE_NS or chip.sends_as_set() or chip.sends_as_set()):
            return
        if Irq.TX_DONE in chip.flags() and chip.in_mode(Mode.STDBY):
            if over:
                self.counters.edges_lost += 1
                self._notice(FaultKind.LOST_EDGE, "TxDone came without its edge", now_ns)
                self._finish(end_ns, True, now_ns)
            return
        finding = judge(chip.survey())
        if finding is None:
            finding = Finding(FaultKind.TX_HUNG, "it is in TX for longer than its frame", reset=True)
        raise ChipError(
            "no TxDone in time" if over else f"stopped on the air: {finding.reason}", finding.kind
        )

    # --- faults -----------------------------------------------------------------------------------

    def _look(self, now_ns: int) -> None:
        """The regular look, and what follows from it."""
        match self.watch.look(now_ns):
            case LostEdge(since_ns):
                self.counters.edges_lost += 1
                self._notice(FaultKind.LOST_EDGE, "a frame was there without its edge", now_ns)
                self._take_packets(since_ns, True, now_ns)
            case Finding() as finding if finding.reset or not self.health.mild_enough(finding.kind, now_ns):
                raise ChipError(finding.reason, finding.kind)
            case Finding() as finding:
                self._out.append(
                    Mended(finding.reason, finding.kind, self.health.detected(finding.kind, now_ns))
                )
                self.chip.set_mode(Mode.STDBY)
                self.chip.forget()
                self._home(now_ns)
            case None if self.watch.content:
                self.health.good(now_ns)

    def _notice(self, kind: FaultKind, reason: str, now_ns: int) -> None:
        """Something was wrong and is not any more."""
        self._out.append(Mended(reason, kind, self.health.detected(kind, now_ns)))
        if not self.watch.high_looks:
            self.health.good(now_ns)

    def _guarded(self, act: Callable[[], None], now_ns: int, tx: Transmission | None = None) -> list[Event]:
        """Run a transition; a chip or bus that fails in it takes the module down. Returns the events of it all."""
        try:
            act()
        except (ChipError, OSError) as error:
            self._fail(error, now_ns, tx)
        else:
            for kind in self.chip.incidents:
                self._notice(kind, "put right in passing", now_ns)
        self.chip.incidents.clear()
        out, self._out = self._out, []
        return out

    def _fail(self, error: ChipError | OSError, now_ns: int, tx: Transmission | None) -> None:
        if self._armed is not None or tx is not None:
            self._out.append(self._not_sent(str(error), tx))
        kind = self.kind_of(error)
        with contextlib.suppress(ChipError, OSError):
            self.chip.silence()  # should it be sending, and have no reset pin
        self.counters.faults += 1
        self.state = State.DOWN
        self._armed = None
        reason = str(error) or type(error).__name__
        self._out.append(Fault(reason, kind, self.health.detected(kind, now_ns)))

    def kind_of(self, error: ChipError | OSError) -> FaultKind:
        """What kind of fault this is, by a look at the chip where the error does not say."""
        if isinstance(error, OSError):
            return FaultKind.SPI_REFUSED
        if error.kind is not None:
            return error.kind
        try:
            return diagnose(self.chip.survey())
        except ChipError as worse:
            return worse.kind or FaultKind.OTHER
        except OSError:
            return FaultKind.SPI_REFUSED

    def _not_sent(self, reason: str, tx: Transmission | None = None) -> NotSent:
        order = tx if self._armed is None else self._armed.tx
        assert order is not None
        self.counters.not_sent += 1
        return NotSent(order, reason, maybe_aired=self.state is State.SENDING)

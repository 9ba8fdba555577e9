"""What a gateway does with one SX127x: receive for ever, and send a frame at its microsecond.

A state machine without thread or clock: its owner hands in edges, times and orders and acts on the events
that come back. SPI transfers happen inside these calls, through the chip.

    DOWN ──start──▶ LISTENING (or RESTING, for a module that only sends)
                      │  ▲
                    submit │ TxDone
                      ▼  │
                    ARMED ──fire──▶ SENDING         any state ──fault──▶ DOWN
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from radio.errors import ChipError
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.seam import Edge
from radio.sx127x.chip import Chip, Packet
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

US: Final = 1000
# From the OpMode write that turns FSTX into TX to the first symbol: the PLL is locked, what remains is the
# ramp of the power amplifier (RegPaRamp, 40 us).
START_LATENCY_NS: Final = 40 * US
LATE_LIMIT_NS: Final = 500 * US  # a device's window forgives this much; later is not worth the air time
TX_TIMEOUT_NS: Final = 10 * MS  # after the end of the frame
POLL_NS: Final = 1000 * MS  # how often a quiet receiver is looked at
# Every look finds the receiver inside a frame and yet none comes out. Many times the longest frame (9.2 s
# at SF12), because a crowded channel can look like this for a while.
STUCK_NS: Final = 60_000 * MS
EDGE_GRACE_NS: Final = 2 * MS  # a flag without its edge may only be waiting for the edge to be read
RX_FLAGS: Final = Irq.RX_DONE | Irq.PAYLOAD_CRC_ERROR | Irq.VALID_HEADER


class State(Enum):
    """Where the modem is."""

    DOWN = auto()
    LISTENING = auto()
    RESTING = auto()
    ARMED = auto()
    SENDING = auto()


@dataclass(frozen=True, slots=True)
class Received:
    """A frame from the air."""

    packet: Packet
    end_ns: int  # when its last symbol ended
    coarse: bool  # `end_ns` may be off by milliseconds: not good for a class A downlink
    freq_hz: int
    modulation: LoRaModulation


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame has left; `start_ns` is what the TxDone edge says about its first symbol."""

    tx: Transmission
    start_ns: int
    coarse: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """An accepted order was not sent after all."""

    tx: Transmission
    reason: str
    maybe_aired: bool = False  # it was started; how much of it left the antenna nobody knows


@dataclass(frozen=True, slots=True)
class Fault:
    """The chip needs a reset; the state is DOWN until `start` succeeds."""

    reason: str


Event = Received | Sent | NotSent | Fault


@dataclass(slots=True)
class Counters:
    """What happened to one module since the process started."""

    received: int = 0
    crc_good: int = 0
    crc_bad: int = 0
    crc_none: int = 0
    coarse: int = 0  # received without an edge of its own
    cut: int = 0  # receptions in progress when a downlink had to be armed
    sent: int = 0
    late: int = 0  # armed in time, but the processor was not there at the moment of the start
    not_sent: int = 0
    edges_lost: int = 0
    edges_stray: int = 0
    faults: int = 0
    starts: int = 0
    deaf_ns: int = 0  # spent away from the receiver, for downlinks
    transmit_ns: int = 0


@dataclass(slots=True)
class _Armed:
    tx: Transmission
    since_ns: int


@dataclass(slots=True)
class _Poll:
    """The regular look at a receiver that says nothing."""

    due_ns: int = 0
    flag_since_ns: int | None = None  # RxDone is set and its edge has not come
    busy_since_ns: int | None = None  # the receiver says a frame is coming in


@dataclass(slots=True)
class Modem:
    """The state machine around one chip. `receive` None: the module only sends.

    `write_ns` is how long after its call a write of RegOpMode reaches the chip, measured by the owner.
    """

    chip: Chip
    receive: Settings | None
    sync_word: int
    pa_boost: bool = True
    calibrate_at_hz: int | None = None
    write_ns: int = 0
    state: State = State.DOWN
    counters: Counters = field(default_factory=Counters)
    _armed: _Armed | None = None
    _poll: _Poll = field(default_factory=_Poll)
    _since_ns: int = 0  # when the present state began
    _seqno: int | None = None

    def start(self, now_ns: int) -> None:
        """After a reset: bring the chip up and receive (or rest). Raises ChipError or OSError."""
        self.state = State.DOWN
        self._armed = None
        self._seqno = None
        self.chip.start(self.calibrate_at_hz)
        self._home(now_ns)
        self.counters.starts += 1

    # --- what the owner asks ----------------------------------------------------------------------

    @property
    def fire_at_ns(self) -> int | None:
        """When `fire` must be called, as exactly as possible; None unless armed."""
        if self.state is not State.ARMED or self._armed is None:
            return None
        return self._armed.tx.start_ns - START_LATENCY_NS - self.write_ns

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called at the latest; None while down or armed."""
        match self.state:
            case State.LISTENING | State.RESTING:
                return self._poll.due_ns
            case State.SENDING if self._armed is not None:
                return self._armed.tx.end_ns + TX_TIMEOUT_NS
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
                return self._guarded(lambda: self._take_packet(edge.t_ns, edge.coarse))
            case State.SENDING:
                return self._guarded(lambda: self._finish(edge.t_ns, edge.coarse, now_ns))
        self.counters.edges_stray += 1
        return []

    def on_time(self, now_ns: int) -> list[Event]:
        """Time has passed: time-outs and the regular look at the chip."""
        deadline_ns = self.next_deadline()
        if deadline_ns is None or now_ns < deadline_ns:
            return []
        if self.state is State.SENDING:
            return self._guarded(lambda: self._time_out(now_ns))
        return self._guarded(lambda: self._look(now_ns))

    def submit(self, tx: Transmission, now_ns: int) -> list[Event]:
        """Leave the receiver and load the chip with `tx`, ready to `fire`."""
        if self.state not in (State.LISTENING, State.RESTING):
            self.counters.not_sent += 1
            return [NotSent(tx, f"the module is {self.state.name.lower()}")]
        return self._guarded(lambda: self._arm(tx, now_ns), tx)

    def fire(self, now_ns: int) -> list[Event]:
        """Start the armed transmission; `now_ns` is the time just before this call."""
        assert self._armed is not None
        fire_at_ns = self.fire_at_ns
        assert fire_at_ns is not None
        tx = self._armed.tx
        if now_ns - fire_at_ns > LATE_LIMIT_NS:
            self.counters.late += 1
            late_us = (now_ns - fire_at_ns) // US
            return [self._not_sent(f"{late_us} us late"), *self._guarded(lambda: self._go_home(now_ns))]

        def start() -> list[Event]:
            self.chip.command(Mode.TX)
            self.state = State.SENDING
            self._since_ns = now_ns
            return []

        return self._guarded(start, tx)

    # --- the transitions --------------------------------------------------------------------------

    def _home(self, now_ns: int) -> None:
        """Back to where the module spends its life. DIO mapping and flags come before the mode."""
        chip = self.chip
        self._poll = _Poll(due_ns=now_ns + POLL_NS)
        self._since_ns = now_ns
        if self.receive is None:
            chip.set_mode(Mode.STDBY)
            self.state = State.RESTING
            return
        chip.set_mode(Mode.STDBY)
        chip.configure_receive(self.receive)
        chip.map_dio0(Dio0.RX_DONE)
        chip.mask_flags(RX_FLAGS)
        chip.clear_flags(Irq(0xFF))
        chip.set_mode(Mode.RXCONT)
        self.state = State.LISTENING

    def _go_home(self, now_ns: int) -> list[Event]:
        if self._armed is not None:
            self.counters.deaf_ns += now_ns - self._armed.since_ns
            self._armed = None
        self._home(now_ns)
        return []

    def _take_packet(self, rx_done_ns: int, coarse: bool) -> list[Event]:
        receive = self.receive
        assert receive is not None
        packet, _flags = self.chip.read_packet()
        self._poll.flag_since_ns = None
        self._poll.busy_since_ns = None
        if packet is None:
            self.counters.edges_stray += 1
            return []
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
        end_ns = rx_done_ns - rx_done_latency_ns(mod.sf, mod.bw_hz)
        if 1 <= packet.coding_rate <= 4:
            mod = replace(mod, cr=packet.coding_rate)
        return [Received(packet, end_ns, coarse, receive.freq_hz, mod)]

    def _arm(self, tx: Transmission, now_ns: int) -> list[Event]:
        chip = self.chip
        events: list[Event] = []
        if self.state is State.LISTENING:
            flags, receiving = chip.status()
            if Irq.RX_DONE in flags:  # its edge is still on the way up
                events += self._take_packet(now_ns, coarse=True)
            self.counters.cut += receiving
        self._armed = _Armed(tx, now_ns)
        chip.set_mode(Mode.STDBY)
        chip.configure_transmit(
            Settings(
                freq_hz=tx.freq_hz,
                modulation=tx.modulation,
                iq_inverted=tx.iq_inverted,
                crc=tx.crc,
                sync_word=self.sync_word,
                preamble=tx.preamble,
            ),
            Power(tx.power_dbm, self.pa_boost),
            tx.payload,
        )
        chip.map_dio0(Dio0.TX_DONE)
        chip.mask_flags(Irq.TX_DONE)
        chip.clear_flags(Irq(0xFF))
        chip.set_mode(Mode.FSTX)
        self.state = State.ARMED
        return events

    def _finish(self, tx_done_ns: int, coarse: bool, now_ns: int) -> list[Event]:
        if Irq.TX_DONE not in self.chip.flags():
            self.counters.edges_stray += 1
            return []
        assert self._armed is not None
        tx = self._armed.tx
        self.counters.sent += 1
        self.counters.transmit_ns += tx.airtime_us * US
        sent = Sent(tx, tx_done_ns - tx.airtime_us * US, coarse)
        return [sent, *self._go_home(now_ns)]

    def _time_out(self, now_ns: int) -> list[Event]:
        if Irq.TX_DONE in self.chip.flags():
            self.counters.edges_lost += 1
            assert self._armed is not None
            return self._finish(self._armed.tx.end_ns, True, now_ns)
        raise ChipError("no TxDone in time")

    def _look(self, now_ns: int) -> list[Event]:
        """The regular look: is the chip still what and where it was, and did an edge get lost?"""
        chip, poll = self.chip, self._poll
        poll.due_ns = now_ns + POLL_NS
        wanted = Mode.RXCONT if self.state is State.LISTENING else Mode.STDBY
        if not chip.in_mode(wanted):
            raise ChipError(f"left {wanted.name} unasked: RegOpMode reads 0x{chip.op_mode():02x}")
        if not chip.check():
            raise ChipError("settings are gone: the chip was without power")
        if self.receive is None:
            return []
        flags, receiving = chip.status()
        if Irq.RX_DONE in flags:
            if poll.flag_since_ns is None:
                poll.flag_since_ns = now_ns
                poll.due_ns = now_ns + EDGE_GRACE_NS
                return []
            self.counters.edges_lost += 1
            return self._take_packet(poll.flag_since_ns, coarse=True)
        poll.flag_since_ns = None
        if not receiving:
            poll.busy_since_ns = None
        elif poll.busy_since_ns is None:
            poll.busy_since_ns = now_ns
        elif now_ns - poll.busy_since_ns > STUCK_NS:
            raise ChipError("the receiver is stuck inside a frame")
        return []

    # --- faults -----------------------------------------------------------------------------------

    def _guarded(self, act: Callable[[], list[Event]], tx: Transmission | None = None) -> list[Event]:
        """Run a transition; a chip or bus that fails in it takes the module down, with events saying so."""
        try:
            return act()
        except (ChipError, OSError) as error:
            events: list[Event] = []
            if self._armed is not None or tx is not None:
                events.append(self._not_sent(str(error), tx))
            self.counters.faults += 1
            self.state = State.DOWN
            self._armed = None
            return [*events, Fault(str(error) or type(error).__name__)]

    def _not_sent(self, reason: str, tx: Transmission | None = None) -> NotSent:
        order = tx if self._armed is None else self._armed.tx
        assert order is not None
        self.counters.not_sent += 1
        return NotSent(order, reason, maybe_aired=self.state is State.SENDING)

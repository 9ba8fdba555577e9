"""What a gateway does with one RN2483: receive for ever, and send a frame at its millisecond.

A state machine without thread, clock or port: its owner hands in bytes, times and orders, takes the bytes to write
(`take_output`) and acts on the events, which are those of `radio.sx127x.modem`. Commands are those of the radio
layer (Microchip DS40001784G, 2.5); the module's own LoRaWAN stack is paused.

Everything that is set is read back, so neither a flipped bit on the wire nor a module that was replaced or reset can
make it send on a wrong channel: after a reset the stack is no longer paused and refuses `radio tx`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from radio.errors import ModemLineError
from radio.jit import MS, Transmission
from radio.lora import REQUIRED_SNR_DB, rx_done_latency_ns
from radio.rn2483_lines import Answer, Banner, Frame, Reply, Value, parse
from radio.rn2483_states import (
    MOVES,
    Break,
    Counters,
    Move,
    Output,
    State,
    Step,
    Tuning,
    is_answer,
    is_number,
    is_ok,
    is_value,
)
from radio.serial_line import Line, LineReader, byte_ns
from radio.sx127x.chip import Packet
from radio.sx127x.modem import Event, Fault, NotSent, Received, Sent
from radio.sx127x.registers import SYNC_WORD_LORAWAN
from radio.turnaround import Turnaround

US: Final = 1000
DEFAULT_BAUD: Final = 57_600
EOL: Final = b"\r\n"
WAKE: Final = b"\x55"  # after a break: the module measures its bits to find the rate

REPLY_NS: Final = 250 * MS  # the slowest plain command answers in a tenth of that
STARTED_NS: Final = 500 * MS  # a module just reset says its banner first
TRIES: Final = 3
BUSY_AGAIN_NS: Final = 20 * MS
PING_NS: Final = 1000 * MS
TX_GRACE_NS: Final = 500 * MS  # after the end of the frame, until radio_tx_ok must be there
LATE_LIMIT_NS: Final = 1 * MS
TX_START_NS: Final = 175 * US  # the SX1276 inside, from standby to its first symbol
RENEW_PAUSE_NS: Final = 20 * 24 * 3600 * 1000 * MS  # `mac pause` holds for 49 days
WATCHDOG_OFF: Final = "0"  # its default, 15 s, would end every quiet reception; the pings watch instead
NOISE_DBM: Final = -117  # at 125 kHz; what stands in for an RSSI that older firmware does not tell


@dataclass(slots=True)
class Rn2483:
    """The state machine around one module. `receive` None: the module only sends."""

    receive: Tuning | None
    sync_word: int = SYNC_WORD_LORAWAN
    baud: int = DEFAULT_BAUD
    state: State = State.DOWN
    counters: Counters = field(default_factory=Counters)
    model: str = ""  # what the banner says, once known
    turnaround: Turnaround = field(default_factory=Turnaround)
    _lines: LineReader = field(init=False)
    _plan: deque[Step] = field(default_factory=deque)
    _then: Callable[[int], None] | None = None
    _waiting: bool = False  # the first step of the plan has been written
    _due_ns: int | None = None
    _out: list[Output] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)
    _set: dict[str, str] = field(default_factory=dict)  # what the module has been seen to hold
    _order: Transmission | None = None  # accepted, until it is sent or not
    _frame: tuple[bytes, int] | None = None
    _snr_db: int | None = None
    _rssi_dbm: int | None = None
    _tells_rssi: bool = True
    _paused_ns: int = 0
    _deaf_since_ns: int | None = None
    _written_ns: int = 0  # when the last bit of the last command will be out
    _ok_ns: int | None = None  # the first answer to a `radio tx`
    _pings: int = 0

    def __post_init__(self) -> None:
        self._lines = LineReader(self.baud)

    # --- what the owner asks ----------------------------------------------------------------------

    @property
    def fire_at_ns(self) -> int | None:
        """When `fire` must be called; None unless armed."""
        if self.state is not State.ARMED or self._order is None:
            return None
        spent_ns = len(EOL) * byte_ns(self.baud) + self.turnaround.estimate_ns(len(self._order.payload))
        return self._order.start_ns - spent_ns - TX_START_NS

    def next_deadline(self) -> int | None:
        """When `on_time` wants to be called at the latest; None while down or armed."""
        return None if self.state in (State.DOWN, State.ARMED) else self._due_ns

    def take_output(self) -> list[Output]:
        """What to write now, in this order."""
        out, self._out = self._out, []
        return out

    # --- what the owner tells ---------------------------------------------------------------------

    def start(self, now_ns: int) -> None:
        """The port has been opened: wake the module up and find out what it is."""
        self.state = State.DOWN
        self._reset_memory()
        self._move(Move.START)
        self._out += [Break(), WAKE]
        self._run(
            [
                Step("sys get ver", lambda reply: isinstance(reply, Banner), self._take_version),
                self._pause_step(now_ns),
                *self._set_steps({}),
            ],
            self._started,
            now_ns,
        )

    def stop(self) -> None:
        """Leave the receiver off; nobody will read what the module says any more."""
        if self.state is State.ARMED:
            self._out.append(b"z" + EOL)  # spoils the unfinished line
        elif self.state is not State.DOWN:
            self._out.append(b"radio rxstop" + EOL)
        self.state = State.DOWN

    def fail(self, reason: str) -> list[Event]:
        """The port failed: the module is down until `start`."""
        self._fail(reason)
        return self._take_events()

    def on_bytes(self, data: bytes, now_ns: int) -> list[Event]:
        """Bytes were read at `now_ns`."""
        overlong = self._lines.overlong
        lines = self._lines.feed(data, now_ns)
        self.counters.lines_garbled += self._lines.overlong - overlong
        for line in lines:
            if self.state is State.DOWN:
                break
            try:
                reply = parse(line.text)
            except ModemLineError:
                self.counters.lines_garbled += 1
                continue
            self._on_reply(reply, line, now_ns)
        return self._take_events()

    def on_time(self, now_ns: int) -> list[Event]:
        """Time has passed: a reply that did not come, a pause that is over, a look at a quiet module."""
        deadline_ns = self.next_deadline()
        if deadline_ns is None or now_ns < deadline_ns:
            return []
        if self.state is State.SENDING:
            self._fail("no radio_tx_ok in time")
        elif self._waiting:
            self.counters.lines_lost += 1
            self._again("did not answer", now_ns)
        elif self._plan:
            self._write_step(now_ns)
        else:
            self._ping(now_ns)
        return self._take_events()

    def submit(self, tx: Transmission, now_ns: int) -> list[Event]:
        """Load the module with `tx`, ready to `fire`; at once, or when what it is doing is done."""
        if self.state in (State.DOWN, State.STARTING) or self._order is not None:
            self.counters.not_sent += 1
            return [NotSent(tx, f"the module is {self.state.name.lower()}")]
        self._order = tx
        if self.state in (State.LISTENING, State.RESTING) and not self._waiting:
            self._arm(now_ns)
        return self._take_events()

    def fire(self, now_ns: int) -> list[Event]:
        """End the line that is in the module: it sends. `now_ns` is the time just before this call."""
        fire_at_ns, order = self.fire_at_ns, self._order
        assert fire_at_ns is not None
        assert order is not None
        if now_ns - fire_at_ns > LATE_LIMIT_NS:
            self.counters.late += 1
            self._settle_not_sent(f"{(now_ns - fire_at_ns) // US} us late")
            self._move(Move.HOME)
            # No payload any more: it refuses the line
            spoil = Step("z", lambda reply: reply is Answer.INVALID)
            self._run([spoil], self._go_home, now_ns)
            return self._take_events()
        self._out.append(EOL)
        self._written_ns = now_ns + len(EOL) * byte_ns(self.baud)
        self._ok_ns = None
        self._move(Move.FIRE)
        self._due_ns = order.end_ns + TX_GRACE_NS
        return self._take_events()

    # --- commands and their replies -----------------------------------------------------------------

    def _run(self, steps: list[Step], then: Callable[[int], None], now_ns: int) -> None:
        """Give these commands one after the other, then do `then`."""
        self._plan = deque(steps)
        self._then = then
        self._waiting = False
        self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> None:
        if self._plan:
            self._write_step(now_ns)
        elif self._then is not None:
            then, self._then = self._then, None
            then(now_ns)

    def _write_step(self, now_ns: int) -> None:
        data = self._plan[0].command.encode() + EOL
        self._out.append(data)
        self._waiting = True
        self._written_ns = now_ns + len(data) * byte_ns(self.baud)
        self._due_ns = self._written_ns + (STARTED_NS if self.state is State.STARTING else REPLY_NS)

    def _on_reply(self, reply: Reply, line: Line, now_ns: int) -> None:
        if isinstance(reply, Frame):
            self._heard(reply, line, now_ns)
        elif self.state is State.SENDING:
            self._sending(reply, line, now_ns)
        elif isinstance(reply, Banner) and not (
            self._waiting and self.state is State.STARTING and self._plan[0].wants(reply)
        ):
            self.counters.resets += 1
            self._fail("it has started anew, by a reset or a loss of power")
        elif self._waiting:
            self._answered(reply, line, now_ns)
        elif reply is Answer.FAILED and self.state is State.LISTENING:
            self.counters.crc_bad += 1
            self._deaf_since_ns = line.start_ns
            self._home(now_ns)
        else:
            self.counters.lines_stray += 1

    def _answered(self, reply: Reply, line: Line, now_ns: int) -> None:
        step = self._plan[0]
        if reply in (Answer.SENT, Answer.FAILED):
            self.counters.lines_stray += 1  # belongs to what went on before this command
            return
        if not step.wants(reply):
            self.counters.refused += 1
            said = reply.text if isinstance(reply, Value) else getattr(reply, "value", str(reply))
            self._again(f"says {said}", now_ns)
            return
        self.turnaround.plain(line.start_ns - self._written_ns)
        self._plan.popleft()
        self._waiting = False
        if step.take is not None:
            step.take(reply, line)
        self._go_on(now_ns)

    def _again(self, why: str, now_ns: int) -> None:
        """The first command of the plan once more, a little later; too often is a fault."""
        step = self._plan[0]
        step.tries += 1
        if step.tries >= TRIES:
            self._fail(f"it {why} to {step.command[:40]!r}, {step.tries} times")
            return
        self._waiting = False
        key = step.command.removeprefix("radio get ")
        if key in self._set and self.state not in (State.LISTENING, State.RESTING):
            # What was set is not what is held: set it again.
            self._plan.appendleft(Step(f"radio set {key} {self._set[key]}", is_ok, tries=step.tries))
        elif step.command.startswith(("radio rx ", "radio set ")):
            # Busy: it still receives, or its stack runs again because it was reset.
            self._plan.extendleft((self._pause_step(now_ns), Step("radio rxstop", is_answer)))
        self._due_ns = now_ns + BUSY_AGAIN_NS

    def _set_steps(self, words: dict[str, str]) -> list[Step]:
        """Set and read back what differs from what the module is known to hold."""
        steps = []
        always = {"mod": "lora", "wdt": WATCHDOG_OFF, "sync": f"{self.sync_word:x}"}
        for key, value in (always | words).items():
            if self._set.get(key) != value:
                self._set[key] = value
                steps.append(Step(f"radio set {key} {value}", is_ok))
                steps.append(Step(f"radio get {key}", is_value(value)))
        return steps

    def _pause_step(self, now_ns: int) -> Step:
        """Stop the module's own LoRaWAN stack; it answers for how many ms, 0 where it will not."""
        self._paused_ns = now_ns
        return Step(
            "mac pause", lambda reply: isinstance(reply, Value) and reply.text.isdigit() and reply.text != "0"
        )

    # --- the transitions --------------------------------------------------------------------------

    def _move(self, move: Move) -> None:
        self.state = MOVES[self.state, move]

    def _take_version(self, reply: Reply, _line: Line) -> None:
        assert isinstance(reply, Banner)
        self.model = str(reply)
        self._tells_rssi = reply.version >= (1, 0, 5)

    def _started(self, now_ns: int) -> None:
        self.counters.starts += 1
        self._move(Move.READY)
        self._go_home(now_ns)

    def _home(self, now_ns: int) -> None:
        self._move(Move.HOME)
        self._go_home(now_ns)

    def _go_home(self, now_ns: int) -> None:
        """Back to where the module spends its life, or to the order that waits."""
        if self._order is not None:
            self._arm(now_ns)
        elif self.receive is None:
            self._move(Move.REST)
            self._due_ns = now_ns + PING_NS
        else:
            steps = self._set_steps(self.receive.words())
            self._run([*steps, Step("radio rx 0", is_ok)], self._listening, now_ns)

    def _listening(self, now_ns: int) -> None:
        if self._order is not None:
            self._arm(now_ns)
            return
        self._move(Move.LISTEN)
        self._due_ns = now_ns + PING_NS
        if self._deaf_since_ns is not None:
            self.counters.deaf_ns += now_ns - self._deaf_since_ns
            self._deaf_since_ns = None

    def _ping(self, now_ns: int) -> None:
        """Is it still there, does it still hold our settings, and is its receiver on?

        In turn: a setting that a reset changes, and `radio rx 0`, which a module that receives refuses as busy and one
        whose reception has ended obeys.
        """
        self._due_ns = now_ns + PING_NS
        self._pings += 1
        if now_ns - self._paused_ns > RENEW_PAUSE_NS:
            self._run([self._pause_step(now_ns)], self._pinged, now_ns)
        elif self._pings % 2 or self.receive is None:

            def alive(reply: Reply) -> bool:
                return reply is Answer.BUSY or reply == Value(WATCHDOG_OFF)

            self._run([Step("radio get wdt", alive)], self._pinged, now_ns)
        else:
            step = Step("radio rx 0", lambda reply: reply in (Answer.BUSY, Answer.OK), self._take_rearmed)
            self._run([step], self._pinged, now_ns)

    def _pinged(self, now_ns: int) -> None:
        if self._frame is not None:  # it came while the answer was awaited
            self._move(Move.FRAME)
            self._report(now_ns)
        elif self._order is not None:
            self._arm(now_ns)
        else:
            self._due_ns = now_ns + PING_NS

    def _take_rearmed(self, reply: Reply, _line: Line) -> None:
        self.counters.rearmed_late += reply is Answer.OK and self._frame is None

    # --- a frame ------------------------------------------------------------------------------------

    def _heard(self, frame: Frame, line: Line, now_ns: int) -> None:
        """The frame ended before its line began, by what the SX1276 takes to say so."""
        receive = self.receive
        if receive is None or self.state is State.STARTING:
            self.counters.lines_stray += 1
            return
        if self._frame is not None:
            self._deliver()
        mod = receive.modulation
        self._frame = (frame.payload, line.start_ns - rx_done_latency_ns(mod.sf, mod.bw_hz))
        self._snr_db = self._rssi_dbm = None
        self._deaf_since_ns = line.start_ns
        if self.state is State.LISTENING and not self._waiting:
            self._move(Move.FRAME)
            self._report(now_ns)
        elif self.state is not State.LISTENING:
            self._deliver()  # it came while an order is being prepared: no time for questions

    def _report(self, now_ns: int) -> None:
        steps = [Step("radio get snr", is_number, self._take_snr)]
        if self._tells_rssi:
            steps.append(Step("radio get rssi", is_number, self._take_rssi))
        self._run(steps, self._reported, now_ns)

    def _take_snr(self, reply: Reply, _line: Line) -> None:
        assert isinstance(reply, Value)
        self._snr_db = max(-32, min(31, int(reply.text)))

    def _take_rssi(self, reply: Reply, _line: Line) -> None:
        assert isinstance(reply, Value)
        self._rssi_dbm = max(-160, min(20, int(reply.text)))

    def _reported(self, now_ns: int) -> None:
        self._deliver()
        self._home(now_ns)

    def _deliver(self) -> None:
        """The frame goes up. What was not measured is said in the least surprising way: at the edge of hearing."""
        receive, frame = self.receive, self._frame
        assert receive is not None
        assert frame is not None
        self._frame = None
        snr_db = self._snr_db if self._snr_db is not None else round(REQUIRED_SNR_DB[receive.modulation.sf])
        rssi_dbm = self._rssi_dbm if self._rssi_dbm is not None else NOISE_DBM + min(snr_db, 0)
        packet = Packet(
            payload=frame[0],
            crc_present=True,
            crc_ok=True,
            rssi_dbm=rssi_dbm,
            snr_db=float(snr_db),
            freq_error_hz=None,
            coding_rate=0,
        )
        self.counters.received += 1
        self.counters.crc_good += 1
        self.counters.coarse += 1
        self._events.append(Received(packet, frame[1], True, receive.freq_hz, receive.modulation))

    # --- an order -----------------------------------------------------------------------------------

    def _arm(self, now_ns: int) -> None:
        order = self._order
        assert order is not None
        listening = self.state is State.LISTENING
        self._move(Move.ORDER)
        if listening:
            self._deaf_since_ns = now_ns
        tuning = Tuning(
            order.freq_hz, order.modulation, order.iq_inverted, order.crc, order.preamble, order.power_dbm
        )
        stop = [Step("radio rxstop", is_answer)] if self.receive is not None else []
        self._run([*stop, *self._set_steps(tuning.words())], self._load, now_ns)

    def _load(self, _now_ns: int) -> None:
        """The line but its end. The module takes its time over nothing before it sees the end."""
        order = self._order
        assert order is not None
        self._move(Move.LOADED)
        self._out.append(b"radio tx " + order.payload.hex().encode())

    def _sending(self, reply: Reply, line: Line, now_ns: int) -> None:
        order = self._order
        assert order is not None
        if reply is Answer.OK and self._ok_ns is None:
            self._ok_ns = line.start_ns
            self.turnaround.transmit(len(order.payload), line.start_ns - self._written_ns)
        elif reply is Answer.SENT:
            airtime_ns = order.airtime_us * US
            start_ns = line.start_ns - airtime_ns if self._ok_ns is None else self._ok_ns + TX_START_NS
            self.counters.sent += 1
            self.counters.transmit_ns += airtime_ns
            self._order = None
            self._events.append(Sent(order, start_ns, True))
            self._home(now_ns)
        elif reply is Answer.FAILED:
            self._settle_not_sent("the module's watchdog ended it", maybe_aired=True)
            self._home(now_ns)
        elif isinstance(reply, Banner):
            self.counters.resets += 1
            self._fail("it has started anew, by a reset or a loss of power")
        elif reply in (Answer.BUSY, Answer.INVALID) and self._ok_ns is None:
            assert isinstance(reply, Answer)
            self.counters.refused += 1
            self._set.clear()  # damaged on its way, or no longer the module that was set up
            self._settle_not_sent(f"the module says {reply.value}")
            self._home(now_ns)
        else:
            self.counters.lines_stray += 1

    def _settle_not_sent(self, reason: str, *, maybe_aired: bool = False) -> None:
        order, self._order = self._order, None
        if order is not None:
            self.counters.not_sent += 1
            self._events.append(NotSent(order, reason, maybe_aired))

    # --- faults -----------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        if self._frame is not None:
            self._deliver()
        self._settle_not_sent(reason, maybe_aired=self.state is State.SENDING)
        self.counters.faults += 1
        self._events.append(Fault(reason))
        self.state = State.DOWN
        self._reset_memory()

    def _reset_memory(self) -> None:
        self._plan.clear()
        self._then = None
        self._waiting = False
        self._due_ns = None
        self._set.clear()
        self._out.clear()
        self._lines.clear()
        self._deaf_since_ns = None

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

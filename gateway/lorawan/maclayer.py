"""The network's half of the MAC layer: obeys what devices say, and brings them to what the network wants.

`hear` takes the commands of an uplink; `due` says whether there is anything to ask, `ask` proposes it for the answer,
and `asked` is told which of it went out. What is wanted of a device, what it has accepted and what is under way are
compared at each `ask` (`wants`, `linkadr`); each difference is one request at a time. An answer closes it; three
sendings without one, or a refusal, put it to rest for a while that doubles each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.lorawan import adr, gpstime, linkadr, mac, steering
from gateway.lorawan.channels import ChannelTable
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation, Device, Session
from gateway.lorawan.errors import MacError, OrderError
from gateway.lorawan.frames import MAX_FOPTS, DataFrame
from gateway.lorawan.macstate import ADR_HISTORY, NEVER, MacState, Pending, Rest, TraceEntry
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.settings import Settings
from gateway.lorawan.settling import REQUEST_OF, STICKY, settle
from gateway.lorawan.wants import Context, checked_order, later_requests, requests
from radio.gwmp import RxPacket
from radio.lora import REQUIRED_SNR_DB
from radio.regions import Region

MAX_ATTEMPTS = 3  # of one request
QUIET_UPLINKS = 48  # a first rest; half of what opens default channels
_MAX_DOUBLINGS = 4  # the longest rest is 16 times as long
_LATE_ANSWER = 4  # uplinks; an answer may still come to a request that is not wanted any more
STATUS_RETRY_NS = 3600 * 10**9  # an unanswered DevStatusReq
NEVER_NS = 1 << 63
_SECOND_NS = 10**9
_MAX_MARGIN_DB = 254  # LinkCheckAns; 255 is reserved
FORCE_REJOIN = "force_rejoin"
_NOTHING: frozenset[int | None] = frozenset()


@dataclass(slots=True)
class Heard:
    """What the MAC commands of one uplink came to."""

    answers: list[mac.Command] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agreed: bool = False  # the session's MAC state changed: store it
    status: bool = False  # battery and margin changed: store them


class MacLayer:
    def __init__(self, region: Region, settings: Settings) -> None:
        """Raises ValueError where the steering setting does not fit the region, or into one downlink."""
        self._region = region
        self._settings = settings
        self.plan = steering.plan_of(region, settings)
        self.beacon_timing: Callable[[int], mac.BeaconTimingAns | None] = lambda gps_ms: None  # of class B
        block = adr.link_adr_block(region, self.plan.channels if self.plan.narrow else None, 0, 0, 1)
        if len(mac.encode(block)) > MAX_FOPTS:
            raise ValueError("uplink_channels spreads over too many groups of 16 to fit into one downlink")

    # Sessions

    def adopt(self, session: Session) -> None:
        """A session begins, or comes from the store: its channels are those of the region, and what was added."""
        state = session.mac
        if state.channels.region is None:
            state.channels.region = self._region
            if not state.stored:
                state.channels = self._first_channels(session)
        state.proof_fcnt = max(-1, (session.fcnt_up or 0) - steering.KEEP_ALIVE // 2)
        state.look_again()

    def _first_channels(self, session: Session) -> ChannelTable:
        profile = session.device.profile
        if session.device.config.activation is Activation.ABP:
            return self.plan.built_in(profile)
        return self.plan.after_join(profile)

    def forget(self, session: Session) -> None:
        """Take the device for one that has agreed to nothing: it has been reset, or a technician says so."""
        fresh = MacState(orders=session.mac.orders, trace=session.mac.trace, refresh=True)
        for name in fresh.__slots__:
            setattr(session.mac, name, getattr(fresh, name))
        session.mac.channels = self._first_channels(session)
        session.mac.proof_fcnt = session.fcnt_up or 0
        if session.device.config.activation is Activation.ABP:
            profile, region = session.device.profile, self._region
            session.rx1_delay_s, session.rx1_dr_offset = profile.abp_rx1_delay_s, profile.abp_rx1_dr_offset
            session.rx2_dr = region.rx2[1] if profile.abp_rx2_dr is None else profile.abp_rx2_dr
            session.rx2_freq_hz = profile.abp_rx2_freq_hz

    def context(self, session: Session) -> Context:
        return Context(self._region, self._settings, self.plan, session)

    # A technician's orders

    def order(self, session: Session, orders: Mapping[str, object]) -> None:
        """Set or, with None, unset values for this device alone. Raises OrderError."""
        checked = dict(session.mac.orders)
        for name, value in orders.items():
            if value is None:
                checked.pop(name, None)
            else:
                key, number = checked_order(self._region, name, value)
                checked[key] = number
        session.mac.orders = checked
        self._begin_anew(session.mac)

    def refresh(self, session: Session) -> None:
        """Send LinkADRReq though nothing differs, and try again what rests."""
        state = session.mac
        state.refresh, state.max_dr, state.max_tx_power = True, None, None
        self._begin_anew(state)

    @staticmethod
    def _begin_anew(state: MacState) -> None:
        """Nothing rests any more, and what was worked out before a technician came is worked out again."""
        state.rests = {}
        state.pending = {key: each for key, each in state.pending.items() if key != linkadr.KEY}
        state.look_again()

    def force_rejoin(self, session: Session, rejoin_type: int) -> None:
        """Have a 1.1 device send a rejoin-request. Raises OrderError for any other."""
        if not session.v1_1:
            raise OrderError("only a device with a LoRaWAN 1.1 session can be told to rejoin")
        if rejoin_type not in (0, 2):
            raise OrderError("the rejoin type is 0 (radio settings too) or 2 (keys only)")
        session.mac.force_rejoin = rejoin_type
        session.mac.look_again()

    def ask_status(self, device: Device) -> None:
        device.status_due_ns = 1  # in the past, and not the "never asked" of a start

    # Uplinks

    def hear(self, session: Session, data: bytes, rx: RxPacket, now: Instant) -> Heard:
        """Take the MAC commands of an uplink; those before a fault count, the fault becomes a note."""
        heard = Heard()
        if not data:
            return heard
        try:
            commands = mac.parse_uplink(data)
        except MacError as error:
            commands = error.commands
            heard.notes.append(str(error))
            session.mac.note(TraceEntry(now.wall_ns, True, "?", str(error)))
        adr_answers: list[mac.LinkADRAns] = []
        for command in commands:
            if isinstance(command, mac.LinkADRAns):
                adr_answers.append(command)
            elif type(command) in REQUEST_OF:
                self._answered(session, command, heard, now)
            else:
                self._said(session, command, rx, heard, now)
        if adr_answers:
            self._link_adr_answered(session, adr_answers, heard, now)
        return heard

    def due(self, session: Session, frame: DataFrame, now: Instant) -> bool:
        """Is there anything to ask? Cheap: it is put at every uplink."""
        state, device, fcnt = session.mac, session.device, session.fcnt_up or 0
        state.adr_on = frame.adr
        if (
            fcnt >= state.wake_fcnt
            or state.owes_downlink
            or state.settled_for is not device.profile
            or now.mono_ns >= device.status_due_ns
        ):
            return True
        narrow = self.plan.narrow
        if narrow and device.last_rx is not None and device.last_rx.freq_hz in state.given_up_hz:
            return True
        if not frame.adr:
            return False
        if state.uplinks_since_adr >= ADR_HISTORY and self._settings.adr and device.profile.adr:
            return True
        return narrow and (frame.adr_ack_req or fcnt - state.proof_fcnt >= steering.KEEP_ALIVE)

    # Downlinks

    def ask(
        self, session: Session, frame: DataFrame, rx: RxPacket, now: Instant
    ) -> list[tuple[mac.Command, ...]]:
        """The requests worth a place in the next downlink, each a block that goes whole or not at all."""
        if not self.due(session, frame, now):
            return []
        state, context, fcnt = session.mac, self.context(session), session.fcnt_up or 0
        strayed = linkadr.observe(context, frame, rx)
        if strayed:
            state.note(TraceEntry(now.wall_ns, True, "", strayed))
            state.look_again()
        settled = fcnt < state.wake_fcnt and state.settled_for is session.device.profile
        room = context.answer_room
        blocks: list[tuple[mac.Command, ...]] = []
        wishes = list(self._wishes(context, frame, rx, now, link_adr_only=settled))
        if not settled:
            self._drop_unwanted(state, {wish.key for wish in wishes}, fcnt)
        for wish in wishes:
            pending = self._pending(session, wish, fcnt, now)
            if pending is None:
                continue
            answer = sum(_answer_size(command) for command in pending.commands)
            if answer <= room:
                room -= answer
                blocks.append(pending.commands)
        if self._status_due(session.device, now) and room >= 1 + mac.DevStatusAns.SIZE:
            blocks.append((mac.DevStatusReq(),))
        state.settled_for = session.device.profile
        if state.pending:
            state.wake_fcnt = fcnt + 1
        elif not settled:
            state.wake_fcnt = min((rest.until_fcnt for rest in state.rests.values()), default=NEVER)
            table = state.channels
            state.given_up_hz = (
                frozenset(table.freq_hz(index) for index in table if not table.is_enabled(index))
                if table.mask is not None
                else _NOTHING
            )
        return blocks

    def asked(self, session: Session, block: tuple[mac.Command, ...], now: Instant) -> bool:
        """`block` went into a downlink; whether that is to be stored: it may be obeyed and its answer lost."""
        state = session.mac
        words = "; ".join(filter(None, map(mac.fields_in_words, block)))
        entry = state.note(TraceEntry(now.wall_ns, False, block[0].name, words, "waits for an answer"))
        for pending in state.pending.values():
            if pending.commands is block:
                pending.attempts += 1
                pending.asked_fcnt, pending.asked_ns, pending.entry = session.fcnt_up or 0, now.wall_ns, entry
                if pending.attempts > 1:
                    entry.outcome = f"waits for an answer, sent for the {_nth(pending.attempts)} time"
                if pending.key in state.unsure or pending.key == FORCE_REJOIN:
                    return False
                state.unsure |= {pending.key}
                return True
        session.device.status_due_ns = now.mono_ns + STATUS_RETRY_NS
        return False

    def answered_with(self, session: Session, command: mac.Command, now: Instant) -> None:
        """This answer to the device went into a downlink."""
        session.mac.note(TraceEntry(now.wall_ns, False, command.name, mac.fields_in_words(command), "sent"))

    # What is asked for

    def _wishes(
        self, context: Context, frame: DataFrame, rx: RxPacket, now: Instant, *, link_adr_only: bool
    ) -> Iterator[Pending]:
        """In the order they are asked for. Where nothing else has changed, `link_adr_only` saves the comparison."""
        if not link_adr_only:
            yield from requests(context)
        under_way, rest = context.state.pending.get(linkadr.KEY), context.state.rests.get(linkadr.KEY)
        if under_way is not None:
            yield under_way
        elif rest is None or (context.session.fcnt_up or 0) >= rest.until_fcnt:
            link_adr = linkadr.wish(context, frame, rx, now)
            if link_adr is not None:
                yield link_adr
        if not link_adr_only:
            yield from later_requests(context)

    def _pending(self, session: Session, wish: Pending, fcnt: int, now: Instant) -> Pending | None:
        """The request to send for a wish; None while it rests, or because it has just been put to rest."""
        state = session.mac
        rest = state.rests.get(wish.key)
        if rest is not None and fcnt < rest.until_fcnt and rest.value == wish.value:
            return None
        pending = state.pending.get(wish.key)
        if pending is None or pending.value != wish.value:
            state.pending = {**state.pending, wish.key: wish}
            return wish
        if pending.attempts < MAX_ATTEMPTS:
            return pending
        if wish.key == FORCE_REJOIN:
            state.force_rejoin = None
        self._close(session, pending, f"no answer to {MAX_ATTEMPTS} requests")
        return None

    def _close(self, session: Session, pending: Pending, trouble: str = "") -> None:
        """A request is done with; with trouble its wish rests."""
        state, fcnt = session.mac, session.fcnt_up or 0
        state.pending = {key: each for key, each in state.pending.items() if each is not pending}
        if pending.entry is not None:
            pending.entry.outcome = trouble or "accepted"
        if pending.key == linkadr.KEY:
            state.uplinks_since_adr = 0
        if not trouble:
            state.rests = {key: rest for key, rest in state.rests.items() if key != pending.key}
        else:
            before = state.rests.get(pending.key)
            times = before.times + 1 if before is not None and before.value == pending.value else 1
            until = fcnt + QUIET_UPLINKS * (1 << min(times - 1, _MAX_DOUBLINGS))
            state.rests = {**state.rests, pending.key: Rest(pending.value, until, times, trouble)}
        state.wake_fcnt = min(state.wake_fcnt, fcnt)

    def _drop_unwanted(self, state: MacState, wanted: set[str], fcnt: int) -> None:
        """Forget requests that nobody wants any more, unless an answer to them may still come."""
        left = {
            key: each
            for key, each in state.pending.items()
            if key in wanted or (each.attempts and fcnt - each.asked_fcnt <= _LATE_ANSWER)
        }
        if len(left) != len(state.pending):
            state.pending = left
        if state.rests and not wanted.issuperset(state.rests):
            state.rests = {
                key: rest for key, rest in state.rests.items() if key in wanted or key == linkadr.KEY
            }

    # Answers

    def _answered(self, session: Session, answer: mac.Command, heard: Heard, now: Instant) -> None:
        state = session.mac
        fcnt = session.fcnt_up or 0
        kind = REQUEST_OF[type(answer)]
        words = mac.fields_in_words(answer)
        if type(answer) in STICKY:
            state.owes_downlink = True
        pending = next(
            (p for p in state.pending.values() if p.attempts and isinstance(p.commands[0], kind)), None
        )
        if pending is None:
            repeated = answer.CID in state.answered
            outcome = "repeated until the device hears a downlink" if repeated else "answers no request"
            state.note(TraceEntry(now.wall_ns, True, answer.name, words, outcome))
            heard.notes.append(f"{answer.name} {'repeated' if repeated else 'without a request'}")
            return
        state.answered = {**state.answered, answer.CID: fcnt}
        state.unsure -= {pending.key}
        state.proof_fcnt = fcnt
        refused = settle(session, pending.commands[0], answer)
        trouble = f"{refused} refused" if refused else ""
        self._close(session, pending, trouble)
        heard.agreed = heard.agreed or not refused
        asked = mac.fields_in_words(pending.commands[0])
        state.note(TraceEntry(now.wall_ns, True, answer.name, words, f"{asked}: {trouble or 'accepted'}"))
        heard.notes.append(f"{answer.name}: {trouble or asked + ', accepted'}")

    def _link_adr_answered(
        self, session: Session, answers: list[mac.LinkADRAns], heard: Heard, now: Instant
    ) -> None:
        state = session.mac
        pending = state.pending.get(linkadr.KEY)
        if pending is None or not pending.attempts:
            state.note(TraceEntry(now.wall_ns, True, "LinkADRAns", "", "answers no request"))
            heard.notes.append("LinkADRAns without a request")
            return
        state.proof_fcnt = session.fcnt_up or 0
        state.unsure -= {pending.key}
        accepted, words = linkadr.settle(self.context(session), pending, answers)
        self._close(session, pending, "" if accepted else words)
        heard.agreed = True
        state.note(TraceEntry(now.wall_ns, True, "LinkADRAns", words, "accepted" if accepted else "refused"))
        heard.notes.append(f"LinkADRAns: {words}")

    # What devices say of themselves

    def _said(self, session: Session, command: mac.Command, rx: RxPacket, heard: Heard, now: Instant) -> None:
        state = session.mac
        words = mac.fields_in_words(command)
        entry = state.note(TraceEntry(now.wall_ns, True, command.name, words))
        if command.SINCE == "1.1" and not session.v1_1:
            entry.outcome = "not obeyed: this session is not LoRaWAN 1.1"
            heard.notes.append(f"{command.name} of a device without a 1.1 session is not acted on")
            return
        heard.notes.append(f"{command.name}: {words}" if words else command.name)
        match command:
            case mac.LinkCheckReq():
                margin = int(rx.lsnr_db - REQUIRED_SNR_DB[rx.modulation.sf])
                gateways = max(1, len(session.device.gateways))
                heard.answers.append(
                    mac.LinkCheckAns(max(0, min(_MAX_MARGIN_DB, margin)), min(gateways, 255))
                )
            case mac.DevStatusAns(battery=battery, margin_db=margin_db):
                self._status(session.device, battery, margin_db, now)
                heard.status = True
            case mac.DeviceTimeReq() | mac.BeaconTimingReq():
                self._time_asked(command, rx, heard, entry, now)
            case mac.PingSlotInfoReq(periodicity=period):
                state.ping_period = period
                heard.agreed = True
                state.look_again()
                heard.answers.append(mac.PingSlotInfoAns())
            case mac.RekeyInd(minor=minor):
                heard.answers.append(mac.RekeyConf(min(minor, mac.MINOR)))
            case mac.ResetInd(minor=minor):
                if session.device.config.activation is Activation.ABP:
                    self.forget(session)
                    heard.agreed = True
                    heard.answers.append(mac.ResetConf(min(minor, mac.MINOR)))
                else:
                    entry.outcome = "not obeyed: only an ABP device resets its session this way"
            case mac.DeviceModeInd(mode=mode):
                self._mode(state, mode, heard, entry)

    def _time_asked(
        self, command: mac.Command, rx: RxPacket, heard: Heard, entry: TraceEntry, now: Instant
    ) -> None:
        """The time at the end of the uplink, or the time until the next beacon."""
        gps_ms = gpstime.gps_ms_of(rx, now)
        answer: mac.Command | None = None
        if gps_ms is None:
            entry.outcome = "not answered: this gateway's clock is not set"
        elif isinstance(command, mac.DeviceTimeReq):
            answer = mac.DeviceTimeAns(*gpstime.seconds_and_fraction(gps_ms))
        else:
            answer = self.beacon_timing(gps_ms)
            entry.outcome = "" if answer else "not answered: no beacon is sent"
        if answer is None:
            heard.notes[-1] += f" is {entry.outcome}"
        else:
            heard.answers.append(answer)

    def _mode(self, state: MacState, mode: int, heard: Heard, entry: TraceEntry) -> None:
        if mode not in (mac.CLASS_A, mac.CLASS_C):
            entry.outcome = "not obeyed: no such class"
            return
        state.device_class = DeviceClass.C if mode == mac.CLASS_C else DeviceClass.A
        heard.agreed = True
        heard.answers.append(mac.DeviceModeConf(mode))

    def _status(self, device: Device, battery: int, margin_db: int, now: Instant) -> None:
        device.battery, device.margin_db = battery, margin_db
        device.status_due_ns = self._next_status_ns(now)

    def _next_status_ns(self, now: Instant) -> int:
        interval_s = self._settings.status_interval_s
        return now.mono_ns + interval_s * _SECOND_NS if interval_s else NEVER_NS

    def _status_due(self, device: Device, now: Instant) -> bool:
        if device.status_due_ns > now.mono_ns:
            return False
        if device.status_due_ns == 1:  # a technician asks
            return True
        if not self._settings.status_interval_s or (device.status_due_ns == 0 and device.battery is not None):
            # Either nobody wants to know, or the answer was stored before a restart: no need to ask them all.
            device.status_due_ns = self._next_status_ns(now)
            return False
        return True


def _answer_size(request: mac.Command) -> int:
    """Bytes of the answer to a request, CID included; a request without answer takes none."""
    answer = mac.UPLINK.get(request.CID)
    return 0 if answer is None or isinstance(request, mac.ForceRejoinReq) else 1 + answer.SIZE


def _nth(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")

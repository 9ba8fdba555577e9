"""`Diagnoser`: told what happens to frames and downlinks, it keeps what is wrong, with whom, and what to do about it.

`gateway.uplinks` calls it. An ordinary uplink of a healthy device costs one look into a dictionary; what costs more
is done for refused frames, of which so many a second are looked into, and in `tick`, device by device. Pure: time is
an argument, and what is to be kept leaves `tick` as writes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from itertools import islice

from gateway.diagnosis import health
from gateway.diagnosis.book import Book
from gateway.diagnosis.delivery import Delivery
from gateway.diagnosis.finding import DEV_EUI_DIGITS, GATEWAY, Evidence, Finding
from gateway.diagnosis.heard import Heard, Strangers
from gateway.diagnosis.keys import Budget
from gateway.diagnosis.payloads import Payloads
from gateway.diagnosis.reasons import ONE_OF, Heals, Kind, Weight
from gateway.diagnosis.refused_data import RefusedData, of_the_air
from gateway.diagnosis.refused_joins import RefusedJoins
from gateway.diagnosis.verdict import Registry, Verdict, called, heard
from gateway.lorawan import mac
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import UPLINK
from gateway.lorawan.device import Device
from gateway.lorawan.errors import LorawanError, MacError
from gateway.lorawan.frames import DataFrame, JoinRequest, RejoinRequest, parse
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Reason, Rejected, Uplink, Writes
from gateway.lorawan.types import DevAddr
from hub.timekeeping import TRUSTED
from radio.gwmp import TxError

DEVICES_A_TICK = 500  # are looked at
WRITES_A_TICK = 200
STRANGERS_A_MINUTE = 32  # findings about senders that are not registered, of which some are invented
QUIET_NS = 24 * 3600 * 10**9
SWEEP_NS = 60 * 10**9
REFUSED_A_SECOND = 200  # frames that are looked into
RADIO_SILENT_NS = 60 * 10**9
_SECOND_NS = 10**9


@dataclass(slots=True)
class DiagnosisCounters:
    """Since the start of the process."""

    looked_into: int = 0  # refused frames
    passed_over: int = 0  # refused frames beyond what is looked into


class Diagnoser:
    def __init__(
        self,
        registry: Registry,
        *,
        hypotheses: bool = True,
        radio_connected: Callable[[], bool] = lambda: True,
        groups: Callable[[], Container[int]] = lambda: (),
    ) -> None:
        """`hypotheses` off: findings say no more than the frame's refusal. `groups`: DevAddrs of multicast groups."""
        self._registry = registry
        self._hypotheses = hypotheses
        self.radio_connected = radio_connected
        self.groups = groups
        self.book = Book()
        self.strangers = Strangers()
        self.counters = DiagnosisCounters()
        self.budget = Budget()
        self._joins = RefusedJoins(registry, self.budget, hypotheses=hypotheses)
        self._data = RefusedData(registry, self.budget, hypotheses=hypotheses)
        self._delivery = Delivery(registry)
        self._payloads = Payloads()
        self._known_ns: dict[str, int] = {}  # since when a device is here; bounded as the registry is
        self._position = 0  # of the regular look
        self._sweep_ns: int | None = None
        self._second_ns = 0
        self._this_second = 0
        self._deaf_since_ns: int | None = None

    def restore(self, stored: Iterable[Finding]) -> None:
        """Take back what was stored, the oldest first."""
        self.book.restore(stored, (device.topic for device in self._registry.every_device()))

    # What happens

    def outcome(self, outcome: Outcome, gateway_eui: bytes, now: Instant) -> None:
        """Every frame, after the LoRaWAN server has taken or refused it."""
        if type(outcome) is Uplink:
            # The way of every ordinary uplink: nothing open, nothing to answer, nothing said.
            if outcome.device.topic in self.book.ailing:
                self._well_again(outcome.device, now)
            if outcome.downlink is not None or outcome.notes or outcome.acked or not outcome.fport:
                self._spoke(outcome, now)
        elif type(outcome) is Rejected:
            self._rejected(outcome, gateway_eui, now)
        elif type(outcome) is Joined:
            self._joined(outcome, gateway_eui, now)

    def sent(self, downlink: Downlink, window: int, now: Instant) -> None:
        """A gateway took a downlink for sending in its window of that number, from 1."""
        if downlink.dev_eui is not None:
            self.book.resolve_all(str(downlink.dev_eui), Heals.DOWNLINK, now.wall_ns)
        self._note(self._delivery.sent(downlink, window, now.mono_ns), now)

    def failed(
        self,
        downlink: Downlink,
        error: TxError,
        now: Instant,
        late_ms: float | None = None,
        radio_says: str = "",
    ) -> None:
        """No gateway could send a downlink; what the radio tells about it, where it does."""
        self._note(self._delivery.failed(downlink, error, now.mono_ns, late_ms, radio_says), now)

    def undecodable(self, uplink: Uplink, problem: str, now: Instant) -> None:
        """A device's codec cannot read its payload."""
        evidence = heard(uplink.rx, uplink.gateway_eui)
        self._note(self._payloads.unreadable(uplink, problem, evidence, hypotheses=self._hypotheses), now)

    def not_published(self, uplink: Uplink, why: str, now: Instant) -> None:
        """The device's thing may not publish on its channel."""
        device = uplink.device
        words = f"values of {called(device)} are not published: {why}"
        self._note(Verdict(device.topic, Kind.NOT_PUBLISHED, words, {"why": why}, True), now)

    def not_stored(self, why: str, now: Instant) -> None:
        """The log refused a verified uplink."""
        self._note(
            Verdict(GATEWAY, Kind.STORE_FULL, f"an uplink was not stored: {why}", {"why": why}, True), now
        )

    def two_servers(self, device: Device, words: str, now: Instant) -> None:
        """The joins of a device go to another server as well."""
        self._note(Verdict(device.topic, Kind.TWO_SERVERS, words, {}, True), now)

    # What is known

    def unknown(self, limit: int = 100) -> list[Heard]:
        """Senders that are heard and not registered, for `adopt`: those that asked to join, and DevAddrs."""
        return self.strangers.newest(limit)

    def name(self, subject: str) -> str | None:
        """What a registered device is called; None for everybody else."""
        device = self._registry.registered(int(subject, 16)) if len(subject) == DEV_EUI_DIGITS else None
        return None if device is None else called(device)

    def verdict(self, dev_eui: str) -> Finding | None:
        """What a technician should be told first about a device; None: nothing is wrong."""
        found = self.book.open_of(dev_eui)
        return found[0] if found else None

    def search(
        self,
        *,
        dev_eui: str = "",
        reason: str = "",
        text: str = "",
        since_ns: int = 0,
        until_ns: int | None = None,
        open_only: bool = False,
        limit: int = 100,
    ) -> list[Finding]:
        """Findings, the newest first; of one device those that are open first, the worst on top."""
        every = self.book.all_of(dev_eui) if dev_eui else self.book
        wanted = text.lower()
        found = (
            each
            for each in every
            if (not reason or each.kind == reason)
            and each.last_ns >= since_ns
            and (until_ns is None or each.first_ns <= until_ns)
            and not (open_only and each.resolved_ns)
            and (not wanted or wanted in _text(each))
        )
        return list(islice(found, limit))

    def metrics(self) -> dict[str, float]:
        """Its counters, and how full it is, in Prometheus' naming."""
        book = self.book.counters
        return {
            "fluxgate_diagnosis_found_total": book.found,
            "fluxgate_diagnosis_resolved_total": book.resolved,
            "fluxgate_diagnosis_pushed_out_total": book.pushed_out,
            "fluxgate_diagnosis_looked_into_total": self.counters.looked_into,
            "fluxgate_diagnosis_passed_over_total": self.counters.passed_over,
            "fluxgate_diagnosis_key_tests_refused_total": self.budget.refused,
            "fluxgate_diagnosis_strangers_pushed_out_total": self.strangers.pushed_out,
            "fluxgate_diagnosis_findings": len(self.book.own) + len(self.book.strangers),
            "fluxgate_diagnosis_strangers": len(self.strangers),
        }

    def tick(self, now: Instant) -> Writes:
        """Look at some devices, end what is over; returns what is to be stored. Every few seconds."""
        deaf = self._listen(now)
        self._time(now)
        devices = self._registry.every_device()
        if self._position >= len(devices):
            self._position = 0
        for device in list(islice(devices, self._position, self._position + DEVICES_A_TICK)):
            self._look_at(device, now, deaf=deaf)
        self._position += DEVICES_A_TICK
        if self._sweep_ns is None or now.mono_ns - self._sweep_ns >= SWEEP_NS:
            self._sweep_ns = now.mono_ns
            self.book.strangers_left = STRANGERS_A_MINUTE
            self._sweep(now)
        return self.book.writes(WRITES_A_TICK)

    # Refused frames

    def _rejected(self, rejected: Rejected, gateway: bytes, now: Instant) -> None:
        if now.mono_ns - self._second_ns >= _SECOND_NS:
            self._second_ns, self._this_second = now.mono_ns, 0
        self._this_second += 1
        self._delivery.answered(rejected, now.mono_ns)
        if self._this_second > REFUSED_A_SECOND:
            self.counters.passed_over += 1
            return
        self.counters.looked_into += 1
        frame = _parsed(rejected)
        evidence = heard(rejected.rx, gateway)
        if rejected.reason is Reason.CRC_ERROR or frame is None:
            verdict = of_the_air(rejected, self._suspect(rejected, evidence))
        elif isinstance(frame, DataFrame) and self._is_group(frame):
            verdict = self._of_group(frame, rejected, evidence)
        elif isinstance(frame, DataFrame) and frame.uplink:
            verdict = self._data.explain(rejected, frame, now.mono_ns, evidence)
        elif isinstance(frame, JoinRequest):
            verdict = self._joins.explain(rejected, frame, now.mono_ns, evidence)
        elif isinstance(frame, RejoinRequest):
            verdict = self._joins.rejoin(rejected, frame, evidence)
        else:
            verdict = of_the_air(rejected, evidence)
        self._outside_plan(rejected, verdict, now, evidence)
        if isinstance(frame, JoinRequest) and rejected.reason is Reason.UNKNOWN_DEV_EUI:
            words = verdict.words if verdict is not None else ""
            eui, join_eui = str(frame.dev_eui), str(frame.join_eui)
            self.strangers.hear(rejected.rx, gateway, now.wall_ns, words, dev_eui=eui, join_eui=join_eui)
        elif isinstance(frame, DataFrame) and rejected.reason is Reason.UNKNOWN_DEV_ADDR:
            words, addr = (verdict.words if verdict is not None else ""), str(DevAddr(frame.dev_addr))
            self.strangers.hear(rejected.rx, gateway, now.wall_ns, words, dev_addr=addr, fcnt=frame.fcnt)
        self._note(verdict, now)

    def _is_group(self, frame: DataFrame) -> bool:
        return frame.uplink and frame.dev_addr in self.groups()

    def _of_group(self, frame: DataFrame, rejected: Rejected, evidence: Evidence) -> Verdict:
        addr = str(DevAddr(frame.dev_addr))
        words = f"an uplink comes from {addr}, which is the address of a multicast group"
        subject = GATEWAY if rejected.dev_eui is None else str(rejected.dev_eui)
        return Verdict(subject, Kind.MULTICAST_UPLINK, words, {**evidence, "dev_addr": addr}, True)

    def _suspect(self, rejected: Rejected, evidence: Evidence) -> Evidence:
        """Of a damaged frame: which device it may be from."""
        data = rejected.rx.data
        if rejected.reason is Reason.CRC_ERROR and len(data) >= 12:
            sessions = self._registry.sessions_of(DevAddr.from_wire(data[1:5]))
            if sessions:
                evidence["maybe_from"] = str(sessions[0].device.dev_eui)
        return evidence

    def _outside_plan(
        self, rejected: Rejected, verdict: Verdict | None, now: Instant, evidence: Evidence
    ) -> None:
        """A refused frame outside the band tells of the gateway's region, whoever sent it."""
        found = health.of_channel(rejected.rx, self._registry, evidence)
        if found is not None and found[0] is Kind.WRONG_REGION:
            subject = verdict.subject if verdict is not None and verdict.own else GATEWAY
            self._note(Verdict(subject, *found, True), now)

    # Joins

    def _joined(self, joined: Joined, gateway: bytes, now: Instant) -> None:
        device = joined.device
        self.strangers.forget(device.topic)
        for finding in self.book.strangers.of(device.topic):
            self.book.resolve(finding, now.wall_ns)
        for session in [*device.pending[:-1], *([device.session] if device.session else [])]:
            self._data.session_ended(session.dev_addr, device.topic)
        self._delivery.answered(joined, now.mono_ns)
        evidence = heard(joined.rx, gateway)
        verdict = self._delivery.joined(joined, gateway, now.mono_ns)
        request = _parsed(joined)
        if self._hypotheses and verdict is None and isinstance(request, JoinRequest):
            verdict = self._joins.granted(device, request, joined.notes)
        found = health.of_channel(joined.rx, self._registry, evidence)
        if found is not None:
            kind = Kind.JOIN_CHANNEL if found[0] is Kind.CHANNEL_UNKNOWN else found[0]
            verdict = Verdict(device.topic, kind, found[1], found[2], True)
        # Its request is signed with the right key: what was said of keys before is settled.
        for old in self.book.own.of(device.topic):
            if old.kind in _SETTLED_BY_JOIN:
                self.book.resolve(old, now.wall_ns)
        self._note(verdict, now)

    # Good uplinks that tell something

    def _well_again(self, device: Device, now: Instant) -> None:
        book, topic = self.book, device.topic
        if (told := book.lasting.get(topic)) is not None:  # nothing here that an uplink ends
            device.problem = told
            return
        book.resolve_all(topic, Heals.UPLINK, now.wall_ns)
        for finding in book.strangers.of(topic):
            book.resolve(finding, now.wall_ns)
        self._tell(device)
        if topic in book.ailing:
            book.lasting[topic] = device.problem

    def _spoke(self, uplink: Uplink, now: Instant) -> None:
        device = uplink.device
        self._delivery.answered(uplink, now.mono_ns)
        if uplink.acked:
            for finding in self.book.own.of(device.topic):
                if finding.kind is Kind.DOWNLINK_UNACKNOWLEDGED:
                    self.book.resolve(finding, now.wall_ns)
            self._note(self._delivery.acknowledged(uplink), now)
        if uplink.dev_addr in self.groups():
            words = (
                f"uplinks of {called(device)} come from {uplink.dev_addr}, the address of a multicast group"
            )
            evidence = {**heard(uplink.rx, uplink.gateway_eui), "dev_addr": str(uplink.dev_addr)}
            self._note(Verdict(device.topic, Kind.MULTICAST_UPLINK, words, evidence, True), now)
        for note in uplink.notes:
            if "no receive window" in note:
                evidence = heard(uplink.rx, uplink.gateway_eui)
                words = f"an uplink of {called(device)} cannot be answered: {note}"
                self._note(Verdict(device.topic, Kind.NO_WINDOW, words, evidence, True), now)
            elif "DeviceTimeReq" in note and now.quality not in TRUSTED:
                words = f"{called(device)} asks for the time, and this gateway does not know it"
                self._note(
                    Verdict(GATEWAY, Kind.TIME_UNSET, words, {"quality": now.quality.value}, True), now
                )
        if uplink.fport == 0 or uplink.notes:
            self._read_commands(uplink, now)

    def _read_commands(self, uplink: Uplink, now: Instant) -> None:
        """MAC commands that cannot be read: an application's payload on port 0, or another version's."""
        frame = _parsed(uplink)
        session = uplink.device.session
        if not isinstance(frame, DataFrame) or session is None:
            return
        port_0 = frame.fport == 0
        if port_0:
            commands = session.crypto.cipher(UPLINK, uplink.fcnt, 0, frame.frm_payload)
        else:
            commands = session.crypto.fopts(UPLINK, uplink.fcnt, frame.fopts)
        try:
            mac.parse_uplink(commands)
        except MacError as error:
            kind = Kind.FPORT_ZERO if port_0 else Kind.MAC_UNREADABLE
            where = "on port 0, where MAC commands belong" if port_0 else "among its MAC commands"
            words = f"{called(uplink.device)} sends {len(commands)} bytes {where}, that are none: {error}"
            evidence = {**heard(uplink.rx, uplink.gateway_eui), "fcnt": uplink.fcnt}
            self._note(Verdict(uplink.device.topic, kind, words, evidence, True), now)

    # The regular look

    def _look_at(self, device: Device, now: Instant, *, deaf: bool) -> None:
        known_ns = self._known_ns.setdefault(device.topic, now.mono_ns)
        found = set()
        for verdict in health.look(device, known_ns, self._registry, now, deaf=deaf):
            found.add(verdict.kind)
            before = self.book.own.get(verdict.subject, verdict.kind)
            # A state, not an event: it counts once for as long as it lasts.
            if before is None or before.resolved_ns is not None:
                self._note(verdict, now)
        if device.topic in self.book.ailing:
            for finding in self.book.own.of(device.topic):
                heard_since = device.last_seen_ns is not None and device.last_seen_ns > finding.last_ns
                if finding.explanation.heals is Heals.LOOKING and finding.kind not in found and heard_since:
                    self.book.resolve(finding, now.wall_ns)

    def _listen(self, now: Instant) -> bool:
        """Whether no gateway has been connected for a while."""
        if self.radio_connected():
            self._deaf_since_ns = None
            self._resolve_gateway(Kind.RADIO_SILENT, now)
            return False
        if self._deaf_since_ns is None:
            self._deaf_since_ns = now.mono_ns
        deaf_ns = now.mono_ns - self._deaf_since_ns
        if deaf_ns >= RADIO_SILENT_NS:
            self._once(Kind.RADIO_SILENT, "no packet forwarder has been connected for a minute or more", now)
        return True

    def _time(self, now: Instant) -> None:
        if now.quality in TRUSTED:
            self._resolve_gateway(Kind.TIME_UNSET, now)

    def _once(self, kind: Kind, words: str, now: Instant) -> None:
        before = self.book.own.get(GATEWAY, kind)
        if before is None or before.resolved_ns is not None:
            self._note(Verdict(GATEWAY, kind, words, {}, True), now)

    def _resolve_gateway(self, kind: Kind, now: Instant) -> None:
        found = self.book.own.get(GATEWAY, kind)
        if found is not None:
            self.book.resolve(found, now.wall_ns)

    def _sweep(self, now: Instant) -> None:
        """Once a minute: devices that were removed, and findings that nobody has seen again for a day."""
        for finding in list(self.book.own):
            subject = finding.subject
            if (
                subject
                and len(subject) == DEV_EUI_DIGITS
                and self._registry.registered(int(subject, 16)) is None
            ):
                self.book.forget(subject)
        for finding in [*self.book.own, *self.book.strangers]:
            quiet = now.wall_ns - finding.last_ns > QUIET_NS
            own_way = finding.explanation.heals is Heals.QUIET or finding.dev_eui is None
            if finding.resolved_ns is None and quiet and own_way:
                self.book.resolve(finding, now.wall_ns)
        if len(self._known_ns) > 2 * len(self._registry.every_device()) + 64:
            here = {device.topic for device in self._registry.every_device()}
            self._known_ns = {topic: ns for topic, ns in self._known_ns.items() if topic in here}

    def _note(self, verdict: Verdict | None, now: Instant) -> None:
        if verdict is None:
            return
        for group in ONE_OF:
            if verdict.kind in group:
                for other in self.book.own.of(verdict.subject):
                    if other.kind in group and other.kind is not verdict.kind:
                        self.book.resolve(other, now.wall_ns)
        self.book.add(
            verdict.subject, verdict.kind, verdict.words, verdict.evidence, now.wall_ns, own=verdict.own
        )
        if verdict.own and len(verdict.subject) == DEV_EUI_DIGITS:
            device = self._registry.registered(int(verdict.subject, 16))
            if device is not None:
                self._tell(device)

    def _tell(self, device: Device) -> None:
        """The device's one sentence is what should be mended first."""
        worst = self.verdict(device.topic)
        if worst is not None and worst.explanation.weight is not Weight.NOTE:
            device.problem = f"{worst.words}. {worst.remedy[:1].upper()}{worst.remedy[1:]}"


_SETTLED_BY_JOIN = frozenset(
    {
        Kind.APP_KEY_WRONG,
        Kind.APP_KEY_REVERSED,
        Kind.APP_KEY_DIGITS,
        Kind.APP_KEY_OF_ANOTHER,
        Kind.APP_KEY_EXAMPLE,
        Kind.ROOT_KEYS_EXCHANGED,
        Kind.JOIN_EUI_WRONG,
        Kind.JOIN_EUI_REVERSED,
        Kind.DEV_EUI_REVERSED,
        Kind.DEV_EUI_DIGITS,
        Kind.EUIS_EXCHANGED,
        Kind.DEV_NONCE_REUSED,
        Kind.JOINS_BUT_ABP,
        Kind.ABP_BUT_OTAA,
        Kind.NEVER_HEARD,
    }
)


def _parsed(outcome: Rejected | Uplink | Joined) -> object:
    try:
        return parse(outcome.rx.data)
    except LorawanError:
        return None


def _text(finding: Finding) -> str:
    """What a search looks through."""
    evidence = " ".join(f"{key} {value}" for key, value in finding.evidence.items())
    return f"{finding.subject} {finding.kind} {finding.words} {finding.remedy} {evidence}".lower()

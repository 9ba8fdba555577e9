"""Why a data frame was refused: addresses and session keys that are nearly right, counters, repetitions, damage."""

from __future__ import annotations

from collections import OrderedDict

from gateway.diagnosis.finding import GATEWAY, Evidence
from gateway.diagnosis.keys import OTHER_DEVICES, Budget, belongs_to, of_data, signed_with_root_key
from gateway.diagnosis.nearly import digits_off, network_words, private, reversed_bytes
from gateway.diagnosis.reasons import Kind
from gateway.diagnosis.verdict import Registry, Run, Runs, Verdict, called
from gateway.lorawan.device import Activation, Device, Session
from gateway.lorawan.frames import DataFrame
from gateway.lorawan.outcome import Reason, Rejected
from gateway.lorawan.types import DevAddr

MAX_ENDED = 2048  # DevAddrs of sessions that are over
NEAR_FCNT = 64  # a frame this little ahead of its session is probably the device's
TAKEN_OVER = 4  # frames in a row, without a good one between, after which the device itself sends them
FIRST_FCNTS = 16  # a device that counts this little has just started
FASTER_THAN_A_DEVICE_NS = 2 * 10**9  # receive windows have to pass between two of its frames
UNHEARD_REPEATS = 2  # of a confirmed uplink
FLOOD = 32  # duplicates of one device ...
FLOOD_NS = 60 * 10**9  # ... within this time


class RefusedData:
    """Pure but for what it remembers of the last frames."""

    def __init__(self, registry: Registry, budget: Budget, *, hypotheses: bool) -> None:
        self._registry = registry
        self._budget = budget
        self._hypotheses = hypotheses
        self._runs = Runs()
        self._ended: OrderedDict[int, str] = OrderedDict()  # DevAddr -> DevEUI
        self._repeats: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # DevEUI -> since, number, FCnt

    def session_ended(self, dev_addr: int, topic: str) -> None:
        """A session is over, or will be: its device may not know it."""
        self._ended[dev_addr] = topic
        self._ended.move_to_end(dev_addr)
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def explain(
        self, rejected: Rejected, frame: DataFrame, now_ns: int, evidence: Evidence
    ) -> Verdict | None:
        """None: nothing is wrong that anybody needs to know of."""
        evidence |= {"dev_addr": str(DevAddr(frame.dev_addr)), "fcnt": frame.fcnt}
        device = None if rejected.dev_eui is None else self._registry.registered(rejected.dev_eui)
        match rejected.reason:
            case Reason.UNKNOWN_DEV_ADDR:
                return self._unknown(frame, now_ns, evidence)
            case Reason.UNKNOWN_CHANNEL:
                return (
                    None if device is None else _own(device, Kind.CHANNEL_UNKNOWN, rejected.detail, evidence)
                )
            case Reason.MOVED_AWAY:
                return None if device is None else _own(device, Kind.MOVED_AWAY, rejected.detail, evidence)
            case Reason.BAD_MIC:
                return self._bad_mic(rejected, frame, now_ns, evidence)
            case Reason.REPLAY | Reason.COUNTER_RESET | Reason.DUPLICATE:
                if device is None:
                    return None
                if rejected.reason is Reason.DUPLICATE or self._is_repetition(device, frame):
                    return self._repeated(rejected, device, frame, now_ns, evidence)
                return self._used_counter(rejected, device, frame, now_ns, evidence)
        return None

    def _unknown(self, frame: DataFrame, now_ns: int, evidence: Evidence) -> Verdict:
        addr = DevAddr(frame.dev_addr)
        if self._hypotheses:
            found = self._nearly(frame, addr, now_ns, evidence)
            if found is not None:
                return found
        if private(addr):
            words = f"data from DevAddr {addr}, which no device here has"
            return Verdict(str(addr), Kind.DEV_ADDR_UNKNOWN, words, evidence, False)
        words = f"data from DevAddr {addr}: {network_words(addr)}"
        evidence["network"] = network_words(addr)
        return Verdict(str(addr), Kind.DEV_ADDR_OTHER_NETWORK, words, evidence, False)

    def _nearly(self, frame: DataFrame, addr: DevAddr, now_ns: int, evidence: Evidence) -> Verdict | None:
        evidence = {**evidence, "heard_dev_addr": str(addr)}
        for session in self._registry.sessions_of(reversed_bytes(addr, 4)):
            if belongs_to(frame, session):
                words = (
                    f"data from DevAddr {addr}, and {session.dev_addr} is registered: the bytes are reversed"
                )
                return _own(
                    session.device, Kind.DEV_ADDR_REVERSED, words, {**evidence, "certainty": "proved"}
                )
        for number, mistake in digits_off(addr, 8):
            for session in self._registry.sessions_of(number):
                if belongs_to(frame, session):
                    words = f"data from DevAddr {addr}, and {session.dev_addr} is registered: they differ in {mistake}"
                    more = {**evidence, "where": mistake, "certainty": "proved"}
                    return _own(session.device, Kind.DEV_ADDR_DIGITS, words, more)
        ended = self._ended.get(addr)
        device = None if ended is None else self._registry.registered(int(ended, 16))
        if device is not None:
            words = f"{called(device)} goes on with DevAddr {addr}, whose session is over"
            return _own(device, Kind.SESSION_ENDED, words, {**evidence, "certainty": "likely"})
        return self._fixed_keys(frame, addr, now_ns, evidence)

    def _fixed_keys(self, frame: DataFrame, addr: DevAddr, now_ns: int, evidence: Evidence) -> Verdict | None:
        """Is it a device that is registered for OTAA and sends with keys of its own?"""
        if not self._budget.grant(now_ns):
            return None
        tried = 0
        for device in self._registry.every_device():
            if (
                device.config.activation is not Activation.OTAA
                or device.uplinks
                or device.session is not None
            ):
                continue
            tried += 1
            if tried > OTHER_DEVICES:
                break
            certainty = "proved" if signed_with_root_key(frame, device) else ""
            if not certainty and device.dev_eui & 0xFFFF_FFFF == addr:
                certainty = "likely"
            if certainty:
                words = (
                    f"data from DevAddr {addr} that looks like {called(device)}'s, which is registered for OTAA and"
                    " has never joined: the device is set to ABP"
                )
                return _own(device, Kind.ABP_BUT_OTAA, words, {**evidence, "certainty": certainty})
        if tried:
            evidence["never_joined"] = tried
        return None

    def _bad_mic(
        self, rejected: Rejected, frame: DataFrame, now_ns: int, evidence: Evidence
    ) -> Verdict | None:
        sessions = self._registry.sessions_of(frame.dev_addr)
        if not sessions:
            return None
        device = sessions[0].device
        run = self._runs.add(f"mic {device.topic}", frame.fcnt, device, now_ns)
        if not self._hypotheses:
            return _own(device, Kind.NWK_S_KEY_WRONG, rejected.detail, evidence)
        if self._budget.grant(now_ns):
            for session in sessions:
                hint = of_data(frame, session, rejected.rx.freq_hz)
                if hint is not None:
                    return _own(session.device, hint.kind, hint.words, {**evidence, **hint.evidence})
        return self._wrong_or_foreign(sessions[0], frame, run, evidence)

    def _wrong_or_foreign(self, session: Session, frame: DataFrame, run: Run, evidence: Evidence) -> Verdict:
        device, last = session.device, session.fcnt_up
        abp = device.config.activation is Activation.ABP
        evidence |= {"last_fcnt": last, "refused_in_a_row": run.length, "certainty": "likely"}
        near = last is not None and (frame.fcnt - last) & 0xFFFF <= NEAR_FCNT
        addr = session.dev_addr
        if near and run.length < TAKEN_OVER:
            words = (
                f"a frame with the address of {called(device)} and a fitting counter does not verify: damaged"
            )
            return _own(device, Kind.FRAME_DAMAGED, words, evidence)
        if abp and (last is None or run.length >= TAKEN_OVER):
            words = f"data of {called(device)} (DevAddr {addr}) does not verify with its NwkSKey"
            return _own(device, Kind.NWK_S_KEY_WRONG, words, evidence)
        words = (
            f"data with the DevAddr of {called(device)}, {addr}, that is not its own: counter {frame.fcnt}, where its"
            f" last was {'none' if last is None else last}, and another key"
        )
        return _own(device, Kind.DEV_ADDR_SHARED, words, evidence)

    def _is_repetition(self, device: Device, frame: DataFrame) -> bool:
        session = device.session
        last = None if session is None else session.fcnt_up
        return frame.confirmed and last is not None and last & 0xFFFF == frame.fcnt

    def _repeated(
        self, rejected: Rejected, device: Device, frame: DataFrame, now_ns: int, evidence: Evidence
    ) -> Verdict | None:
        since, number, fcnt = self._repeats.get(device.topic, (now_ns, 0, -1))
        if now_ns - since > FLOOD_NS or (frame.confirmed and fcnt != frame.fcnt):
            since, number = now_ns, 0
        number += 1
        self._repeats[device.topic] = since, number, frame.fcnt
        self._repeats.move_to_end(device.topic)
        if len(self._repeats) > MAX_ENDED:
            self._repeats.popitem(last=False)
        repeats = device.session.repeats if device.session is not None else 0
        if number >= FLOOD:
            words = (
                f"{number} copies of frames of {called(device)} came within {(now_ns - since) / 1e9:.0f} s"
            )
            return _own(device, Kind.DUPLICATE_FLOOD, words, {**evidence, "copies": number})
        if frame.confirmed and repeats >= UNHEARD_REPEATS:
            words = (
                f"{called(device)} has repeated its confirmed uplink {frame.fcnt} {repeats} times: it does not hear"
                " the acknowledgements that were sent"
            )
            return _own(device, Kind.ACK_UNHEARD, words, {**evidence, "repeats": repeats})
        return None

    def _used_counter(
        self, rejected: Rejected, device: Device, frame: DataFrame, now_ns: int, evidence: Evidence
    ) -> Verdict:
        run = self._runs.add(f"used {device.topic}", frame.fcnt, device, now_ns)
        last = device.session.fcnt_up if device.session is not None else None
        evidence |= {
            "last_fcnt": last,
            "refused_in_a_row": run.length,
            "good_uplinks_between": run.interrupted,
        }
        if self._hypotheses and last is not None and _ran_over(last, frame.fcnt) and not run.interrupted:
            words = (
                f"{called(device)} has counted to {last} and goes on at {frame.fcnt}: its counter has 16 bits"
            )
            return _own(device, Kind.SHORT_COUNTER, words, evidence)
        too_fast = run.length > 1 and run.gap_ns < FASTER_THAN_A_DEVICE_NS
        counts_up = run.length > 1 and run.rising == run.length
        counts_up = counts_up or rejected.reason is Reason.COUNTER_RESET
        restarted = frame.fcnt <= FIRST_FCNTS and device.config.activation is Activation.ABP
        if not self._hypotheses or (not run.interrupted and not too_fast and (counts_up or restarted)):
            words = (
                f"{called(device)} counts {frame.fcnt}, and has counted to {last} before: it has started over"
            )
            return _own(device, Kind.COUNTER_RESET, words, evidence)
        words = f"frame {frame.fcnt} of {called(device)} comes again; its last was {last}"
        return _own(device, Kind.FRAME_REPLAYED, words, evidence)


def of_the_air(rejected: Rejected, evidence: Evidence) -> Verdict | None:
    """Frames that are nobody's here: damaged, other systems', other gateways'."""
    match rejected.reason:
        case Reason.CRC_ERROR:
            return Verdict(GATEWAY, Kind.CRC_ERRORS, "a frame arrived damaged (CRC)", evidence, True)
        case Reason.MALFORMED:
            return Verdict(GATEWAY, Kind.NOT_LORAWAN, rejected.detail, evidence, True)
        case Reason.UNSUPPORTED:
            return Verdict(GATEWAY, Kind.UNSUPPORTED_FRAME, rejected.detail, evidence, True)
        case Reason.NOT_AN_UPLINK:
            return Verdict(GATEWAY, Kind.FOREIGN_GATEWAY, rejected.detail, evidence, True)
    return None


def _ran_over(last: int, fcnt: int) -> bool:
    return last & 0xFFFF >= 0x1_0000 - NEAR_FCNT and fcnt < NEAR_FCNT


def _own(device: Device, kind: Kind, words: str, evidence: Evidence) -> Verdict:
    return Verdict(device.topic, kind, words, evidence, True)

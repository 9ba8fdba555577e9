"""Why a join-request was refused: EUIs and root keys that are nearly right, nonces, activation."""

from __future__ import annotations

from gateway.diagnosis.finding import Evidence
from gateway.diagnosis.keys import SMALL_NONCE, Budget, of_join_request, signed, signing_key
from gateway.diagnosis.nearly import digits_off
from gateway.diagnosis.reasons import Kind
from gateway.diagnosis.verdict import Registry, Run, Runs, Verdict, called
from gateway.lorawan.device import Device
from gateway.lorawan.frames import JoinRequest, RejoinRequest
from gateway.lorawan.outcome import Reason, Rejected


class RefusedJoins:
    """Pure but for what it remembers of the last frames."""

    def __init__(self, registry: Registry, budget: Budget, *, hypotheses: bool) -> None:
        self._registry = registry
        self._budget = budget
        self._hypotheses = hypotheses
        self._runs = Runs()

    def explain(
        self, rejected: Rejected, request: JoinRequest, now_ns: int, evidence: Evidence
    ) -> Verdict | None:
        """None: nothing is wrong that anybody needs to know of."""
        evidence |= {"join_eui": str(request.join_eui), "dev_nonce": request.dev_nonce}
        device = self._registry.registered(request.dev_eui)
        if device is None:
            return self._unknown(request, evidence)
        subject = device.topic
        match rejected.reason:
            case Reason.NOT_OTAA:
                return Verdict(subject, Kind.JOINS_BUT_ABP, rejected.detail, evidence, True)
            case Reason.JOIN_EUI_MISMATCH:
                return self._join_eui(device, request, evidence, rejected.detail)
            case Reason.BAD_MIC:
                run = self._runs.add(f"mic {subject}", request.dev_nonce, device, now_ns)
                return self._key(device, request, run, now_ns, evidence)
            case Reason.DEV_NONCE_USED:
                run = self._runs.add(f"nonce {subject}", request.dev_nonce, device, now_ns)
                return self._nonce(device, request, run, rejected.detail, evidence)
            case Reason.MOVED_AWAY:
                return Verdict(subject, Kind.MOVED_AWAY, rejected.detail, evidence, True)
            case Reason.JOIN_NONCES_USED_UP:
                return Verdict(subject, Kind.JOIN_NONCES_USED_UP, rejected.detail, evidence, True)
        return None

    def rejoin(self, rejected: Rejected, request: RejoinRequest, evidence: Evidence) -> Verdict | None:
        """A rejoin-request was refused (LoRaWAN 1.1, 6.2.4)."""
        evidence |= {"rejoin_type": int(request.kind), "rj_count": request.rj_count}
        device = self._registry.registered(request.dev_eui)
        if device is None:
            words = f"DevEUI {request.dev_eui} asks to rejoin and is not registered here"
            return Verdict(str(request.dev_eui), Kind.DEV_EUI_UNKNOWN, words, evidence, False)
        if rejected.reason is Reason.DUPLICATE:
            return None
        kind = Kind.MOVED_AWAY if rejected.reason is Reason.MOVED_AWAY else Kind.REJOIN_REFUSED
        return Verdict(device.topic, kind, rejected.detail, evidence, True)

    def granted(self, device: Device, request: JoinRequest, notes: tuple[str, ...]) -> Verdict | None:
        """A join that was granted though it was signed with another of the device's keys than its version asks for."""
        config = device.config
        if config.app_key is None or config.nwk_key is None or not notes:
            return None
        with_app_key, with_nwk_key = signed(request, config.app_key), signed(request, config.nwk_key)
        if with_app_key == with_nwk_key:
            return None
        evidence: Evidence = {
            "signed_with": "AppKey" if with_app_key else "NwkKey",
            "dev_nonce": request.dev_nonce,
        }
        if with_nwk_key:
            kind = Kind.IS_1_1
        elif request.dev_nonce < SMALL_NONCE:  # counted, as 1.1 does, and not drawn
            kind = Kind.ROOT_KEYS_EXCHANGED
        else:
            kind = Kind.IS_1_0
        return Verdict(device.topic, kind, notes[0], {**evidence, "certainty": "likely"}, True)

    def _unknown(self, request: JoinRequest, evidence: Evidence) -> Verdict:
        eui = request.dev_eui
        plain = Verdict(
            str(eui),
            Kind.DEV_EUI_UNKNOWN,
            f"DevEUI {eui} asks to join and is not registered here",
            evidence,
            False,
        )
        if not self._hypotheses:
            return plain
        evidence = {**evidence, "heard_dev_eui": str(eui)}
        meant = self._registry.registered(eui.reversed)
        if meant is not None:
            words = (
                f"a device joins as {eui}, and {meant.dev_eui} is registered: the same bytes in reverse order"
            )
            return Verdict(meant.topic, Kind.DEV_EUI_REVERSED, words, evidence, True)
        for turned in (request.join_eui, request.join_eui.reversed):
            meant = self._registry.registered(turned)
            if meant is not None and meant.last_seen_ns is None:
                words = (
                    f"a device joins with DevEUI {eui} and JoinEUI {request.join_eui}, and {meant.dev_eui} is"
                    " registered as a DevEUI: the two are exchanged"
                )
                return Verdict(
                    meant.topic, Kind.EUIS_EXCHANGED, words, self._proof(meant, request, evidence), True
                )
        for number, mistake in digits_off(eui, 16):
            meant = self._registry.registered(number)
            # One that works is a neighbour out of the same box, and no mistake.
            if meant is not None and meant.last_seen_ns is None:
                words = (
                    f"a device joins as {eui}, and {meant.dev_eui} is registered: they differ in {mistake}"
                )
                evidence = {**self._proof(meant, request, evidence), "where": mistake}
                return Verdict(meant.topic, Kind.DEV_EUI_DIGITS, words, evidence, True)
        return plain

    def _proof(self, meant: Device, request: JoinRequest, evidence: Evidence) -> Evidence:
        key = signing_key(meant)
        proved = key is not None and signed(request, key)
        return {**evidence, "certainty": "proved" if proved else "likely"}

    def _join_eui(self, device: Device, request: JoinRequest, evidence: Evidence, words: str) -> Verdict:
        wanted = device.config.join_eui
        evidence["registered_join_eui"] = str(wanted)
        turned = wanted is not None and self._hypotheses and request.join_eui.reversed == wanted
        kind = Kind.JOIN_EUI_REVERSED if turned else Kind.JOIN_EUI_WRONG
        return Verdict(device.topic, kind, words, evidence, True)

    def _key(
        self, device: Device, request: JoinRequest, run: Run, now_ns: int, evidence: Evidence
    ) -> Verdict | None:
        if self._hypotheses:
            if not self._budget.grant(now_ns):
                return None  # one of the next will be looked into
            hint = of_join_request(request, device, self._registry.every_device())
            if hint is not None:
                return Verdict(device.topic, hint.kind, hint.words, {**evidence, **hint.evidence}, True)
            if run.length == 1 and device.last_join_nonce is not None:
                words = f"a join-request of {called(device)} does not verify, which has joined before with this key"
                return Verdict(device.topic, Kind.FRAME_DAMAGED, words, evidence, True)
        words = f"wrong AppKey: the join-request of {device.dev_eui} does not verify"
        return Verdict(device.topic, Kind.APP_KEY_WRONG, words, evidence, True)

    def _nonce(
        self, device: Device, request: JoinRequest, run: Run, words: str, evidence: Evidence
    ) -> Verdict:
        evidence |= {"refused_in_a_row": run.length, "good_uplinks_between": run.interrupted}
        if self._hypotheses and run.interrupted:
            words = (
                f"a join-request of {called(device)} with the used DevNonce {request.dev_nonce} comes again, while"
                " the device goes on working: somebody repeats what was recorded"
            )
            return Verdict(device.topic, Kind.JOIN_REPLAYED, words, evidence, True)
        return Verdict(device.topic, Kind.DEV_NONCE_REUSED, words, evidence, True)

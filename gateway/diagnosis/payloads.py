"""Payloads that no codec can read: the wrong codec, or noise, as a wrong AppSKey makes of them?

Nothing in a frame proves an AppSKey, so this is a judgement: messages of one device resemble each other in many
places, and noise does not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import pairwise

from gateway.diagnosis.finding import Evidence
from gateway.diagnosis.keys import app_s_keys
from gateway.diagnosis.reasons import Kind
from gateway.diagnosis.verdict import Verdict, called
from gateway.lorawan.crypto import UPLINK
from gateway.lorawan.device import Activation
from gateway.lorawan.outcome import Uplink

KEPT = 6  # payloads of a device
ENOUGH = 3  # of them, to judge by
ENOUGH_BYTES = 12  # compared
NOISE = 0.06  # share of places that are alike in noise; 1 of 256 is expected
SENSE = 0.3  # and in messages
MAX_DEVICES = 256


@dataclass(slots=True)
class Payloads:
    """The last unreadable payloads of some devices: (FCnt, FPort, encrypted, in clear)."""

    _kept: OrderedDict[str, deque[tuple[int, int, bytes, bytes]]] = field(default_factory=OrderedDict)

    def unreadable(self, uplink: Uplink, problem: str, evidence: Evidence, *, hypotheses: bool) -> Verdict:
        """The device's codec refused a payload."""
        device = uplink.device
        evidence |= {
            "fcnt": uplink.fcnt,
            "fport": uplink.fport,
            "codec": device.config.codec,
            "problem": problem,
        }
        plain = Verdict(
            device.topic,
            Kind.CODEC_FAILED,
            f"the payloads of {called(device)} on port {uplink.fport} cannot be read: {problem}",
            evidence,
            True,
        )
        kept = self._keep(uplink)
        session = device.session
        if not hypotheses or session is None or len(kept) < ENOUGH:
            return plain
        share = _alike([clear for _, _, _, clear in kept])
        if share is None or share > NOISE or not self._may_be_wrong(uplink):
            return plain
        for cipher, mistake in app_s_keys(session):
            tried = _alike([cipher.cipher(UPLINK, fcnt, fport, sealed) for fcnt, fport, sealed, _ in kept])
            if tried is not None and tried >= SENSE:
                words = f"the payloads of {called(device)} make sense with another AppSKey: {mistake}"
                return Verdict(
                    device.topic, Kind.APP_S_KEY_WRONG, words, {**evidence, "certainty": "likely"}, True
                )
        words = (
            f"the payloads of {called(device)} look like noise: its AppSKey is probably wrong. Nothing in a frame"
            " proves it; a device that encrypts or compresses looks the same"
        )
        return Verdict(device.topic, Kind.APP_S_KEY_WRONG, words, {**evidence, "certainty": "perhaps"}, True)

    def _may_be_wrong(self, uplink: Uplink) -> bool:
        """Only a key that was typed in can be: that of ABP, and the AppKey of 1.1, which signs nothing."""
        session = uplink.device.session
        abp = uplink.device.config.activation is Activation.ABP
        return abp or (session is not None and session.v1_1)

    def _keep(self, uplink: Uplink) -> deque[tuple[int, int, bytes, bytes]]:
        topic, size = uplink.device.topic, len(uplink.payload)
        kept = self._kept.setdefault(topic, deque(maxlen=KEPT))
        self._kept.move_to_end(topic)
        if len(self._kept) > MAX_DEVICES:
            self._kept.popitem(last=False)
        sealed = uplink.rx.data[-4 - size : -4]
        kept.append((uplink.fcnt, uplink.fport or 0, sealed, uplink.payload))
        return kept


def _alike(payloads: list[bytes]) -> float | None:
    """The share of places at which neighbouring payloads have the same byte; None: too little to tell."""
    same = compared = 0
    for left, right in pairwise(payloads):
        for a, b in zip(left, right, strict=False):
            compared += 1
            same += a == b
    return same / compared if compared >= ENOUGH_BYTES else None

"""What becomes of downlinks: missed windows, refusals, acknowledgements that never come, joins that go unheard.

Pure; each map is bounded, and what was not used for longest gives way.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from gateway.diagnosis.finding import GATEWAY, Evidence
from gateway.diagnosis.reasons import Kind
from gateway.diagnosis.verdict import Registry, Verdict, called, heard, margin_db
from gateway.lorawan.device import Activation, Device
from gateway.lorawan.outcome import Downlink, Joined, Rejected, Uplink
from radio.gwmp import U32, RxPacket, TxError

MAX_REMEMBERED = 1024
_LATE = re.compile(r"(\d{1,6}) ms late\b")  # as our radio says it
ASKS_ON_NS = 900 * 10**9  # a join-request that long after the last one is no repetition
WEAK_MARGIN_DB = 5.0  # an uplink no better than this: the downlink may not reach the device either
UNACKNOWLEDGED = 3  # confirmed downlinks in a row
MISSED_AS_C = 3  # downlinks that a class C device takes after its next uplink only
_MS = 1_000_000
T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    """A join that was granted, and what became of its join-accept."""

    rx: RxPacket
    at_ns: int  # monotonic
    wall_ns: int
    delay_ns: int  # from the request to the first window; 0: there is none
    times: int = 1
    window: str = ""  # in which it was sent
    late_ms: float | None = None


@dataclass(slots=True)
class _Confirmed:
    """Confirmed downlinks of one device that wait for their acknowledgement."""

    sent: int = 0
    klass: str = "A"  # of the last one
    order: str = ""
    as_c: bool = False  # the order was tried as class C before
    missed_as_c: int = 0


class Delivery:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._asked: OrderedDict[str, _Asked] = OrderedDict()  # by DevEUI
        self._answers: OrderedDict[str, tuple[RxPacket, int]] = OrderedDict()  # by id of the downlink
        self._confirmed: OrderedDict[str, _Confirmed] = OrderedDict()  # by DevEUI

    def answered(self, outcome: Uplink | Joined | Rejected, now_ns: int) -> None:
        """A downlink is under way, after the frame of `outcome`."""
        if outcome.downlink is not None:
            _keep(self._answers, outcome.downlink.id, (outcome.rx, now_ns))

    def joined(self, joined: Joined, gateway: bytes, now_ns: int) -> Verdict | None:
        """A join was granted: was the one before it heard?"""
        device = joined.device
        before = self._asked.get(device.topic)
        delay_ns = 0 if joined.downlink is None else _delay_ns(joined.downlink, 0, joined.rx)
        asked = _Asked(joined.rx, now_ns, joined.at.wall_ns, delay_ns)
        repeated = (
            before is not None
            and now_ns - before.at_ns < ASKS_ON_NS
            and (device.last_seen_ns is None or device.last_seen_ns <= before.wall_ns)
        )
        if before is not None and repeated:
            asked.times = before.times + 1
        _keep(self._asked, device.topic, asked)
        evidence = {**heard(joined.rx, gateway), "dev_nonce": joined.dev_nonce, "asked": asked.times}
        if joined.downlink is None:
            words = f"{called(device)} may join, but no receive window of its request can carry the answer"
            return Verdict(device.topic, Kind.NO_WINDOW, words, evidence, True)
        if before is not None and repeated:
            return self._unheard(device, before, asked, evidence)
        return None

    def sent(self, downlink: Downlink, window: int, now_ns: int) -> Verdict | None:
        """A gateway took a downlink for sending in its window of that number, from 1."""
        if downlink.dev_eui is None:
            return None
        topic = str(downlink.dev_eui)
        if downlink.fcnt is None:
            asked = self._asked.get(topic)
            if asked is not None:
                asked.window = downlink.window_name(window)
            return None
        if not downlink.confirmed:
            return None
        state = self._confirmed.get(topic) or _Confirmed()
        _keep(self._confirmed, topic, state)
        if state.order != downlink.id:
            state.order, state.as_c = downlink.id, False
        state.as_c = state.as_c or downlink.klass == "C"
        state.klass = downlink.klass
        state.sent += 1
        device = self._registry.registered(downlink.dev_eui)
        if state.sent < UNACKNOWLEDGED or device is None:
            return None
        evidence: Evidence = {"unacknowledged": state.sent, "window": downlink.window_name(window)}
        rx = device.last_rx
        if rx is not None:
            evidence["margin_db"] = round(margin_db(rx), 1)
        if device.margin_db is not None:
            evidence["device_hears_margin_db"] = device.margin_db
        words = f"{state.sent} confirmed downlinks were sent to {called(device)} and none was acknowledged"
        if downlink.klass == "C" and device.config.activation is Activation.OTAA:
            # It has heard a join-accept, which comes after an uplink: as class A does.
            words = f"{words}: it has joined, so it hears us after its uplinks, and not in between"
            return Verdict(topic, Kind.CLASS_MISMATCH, words, {**evidence, "certainty": "likely"}, True)
        return Verdict(topic, Kind.DOWNLINK_UNACKNOWLEDGED, words, evidence, True)

    def acknowledged(self, uplink: Uplink) -> Verdict | None:
        """The device has confirmed a downlink."""
        device = uplink.device
        state = self._confirmed.get(device.topic)
        if state is None:
            return None
        state.sent = 0
        if state.order != uplink.acked:
            return None
        state.missed_as_c = state.missed_as_c + 1 if state.as_c and state.klass == "A" else 0
        state.order = ""
        if state.missed_as_c < MISSED_AS_C:
            return None
        words = (
            f"{called(device)} has taken {state.missed_as_c} downlinks after its next uplink only, which were sent"
            " before as to a class C device"
        )
        return Verdict(
            device.topic, Kind.CLASS_MISMATCH, words, {"missed_as_class_c": state.missed_as_c}, True
        )

    def failed(
        self, downlink: Downlink, error: TxError, now_ns: int, late_ms: float | None, radio_says: str
    ) -> Verdict | None:
        """No gateway could send a downlink. `late_ms`, `radio_says`: where the radio tells."""
        evidence: Evidence = {"error": str(error), "class": downlink.klass}
        if radio_says:
            evidence["radio_says"] = radio_says
        if late_ms is None and (said := _LATE.match(radio_says)):
            late_ms = float(said[1])
        answer = self._answers.pop(downlink.id, None)
        if answer is not None and late_ms is None:
            rx, at_ns = answer
            # Of the last window that was tried; the order was on its way back for a moment, too.
            late_ns = now_ns - at_ns - _delay_ns(downlink, len(downlink.windows) - 1, rx)
            late_ms = late_ns / _MS if late_ns > 0 else None
        if late_ms is not None:
            evidence["late_ms"] = round(late_ms, 1)
        device = None if downlink.dev_eui is None else self._registry.registered(downlink.dev_eui)
        if device is None:
            subject, whose = GATEWAY, f"group {downlink.group}" if downlink.group else "a device"
        else:
            subject, whose = device.topic, called(device)
        late = "" if late_ms is None else f" by {late_ms:.0f} ms"
        if "duty cycle" in radio_says.lower():
            kind, words = Kind.DUTY_CYCLE_USED, f"a downlink to {whose} was refused: {radio_says}"
        elif radio_says.startswith("the packet forwarder has not"):
            kind, words = Kind.FORWARDER_GONE, f"a downlink to {whose} was not sent: {radio_says}"
        else:
            kind, words = _FAILURES[error]
            words = words.format(whose=whose, late=late)
        if kind is Kind.RX_WINDOW_MISSED and downlink.fcnt is None:
            kind, words = Kind.JOIN_ACCEPT_LATE, f"the join-accept for {whose} came too late{late}"
            asked = self._asked.get(subject)
            if asked is not None:
                asked.late_ms = late_ms or 0.0
        return Verdict(subject, kind, words, evidence, True)

    def _unheard(self, device: Device, before: _Asked, asked: _Asked, evidence: Evidence) -> Verdict | None:
        """The device asks again, though it was answered: why did it not hear the join-accept?"""
        gap_ns = asked.at_ns - before.at_ns
        evidence |= {"asked_again_after_s": round(gap_ns / 1e9, 1), "window": before.window or "unknown"}
        name = called(device)
        if before.late_ms is not None:
            return None  # that it was late is known, and stands
        if 0 < gap_ns < before.delay_ns:
            words = (
                f"{name} asks again {gap_ns / 1e9:.1f} s after its join-request, and its join-accept is due after"
                f" {before.delay_ns / 1e9:.0f} s: it does not wait for it"
            )
            return Verdict(device.topic, Kind.JOIN_ASKED_TOO_SOON, words, evidence, True)
        if not before.window:
            return None  # not sent, or not known to be
        if before.window == "RX2" and len(self._registry.region.uplink_data_rates):
            words = f"the join-accept for {name} was sent in RX2, as RX1 could not be met, and it asks again"
            return Verdict(device.topic, Kind.JOIN_ACCEPT_IN_RX2, words, evidence, True)
        margin = margin_db(before.rx)
        if margin < WEAK_MARGIN_DB:
            words = (
                f"the join-accept for {name} was sent, and it asks again; it is heard {margin:.0f} dB above the"
                " floor only"
            )
            return Verdict(device.topic, Kind.JOIN_ACCEPT_WEAK, words, evidence, True)
        words = (
            f"the join-accept for {name} was sent in {before.window}, in time, and it asks again; it is heard well,"
            f" {margin:.0f} dB above the floor"
        )
        return Verdict(device.topic, Kind.JOIN_ACCEPT_UNHEARD, words, evidence, True)


_FAILURES: dict[TxError, tuple[Kind, str]] = {
    TxError.NONE: (Kind.RX_WINDOW_MISSED, "a downlink to {whose} was not sent"),
    TxError.TOO_LATE: (Kind.RX_WINDOW_MISSED, "a downlink to {whose} missed its receive windows{late}"),
    TxError.TOO_EARLY: (Kind.DOWNLINK_TOO_EARLY, "the forwarder called a downlink to {whose} too early"),
    TxError.COLLISION_PACKET: (
        Kind.DOWNLINK_COLLISION,
        "a downlink to {whose} found the sender busy, or its time on air used up",
    ),
    TxError.COLLISION_BEACON: (Kind.BEACON_COLLISION, "a downlink to {whose} would have met a beacon"),
    TxError.TX_FREQ: (
        Kind.FREQUENCY_REFUSED,
        "the forwarder may not send a downlink to {whose} on its frequency",
    ),
    TxError.TX_POWER: (Kind.POWER_REFUSED, "the forwarder cannot send a downlink to {whose} with its power"),
    TxError.GPS_UNLOCKED: (Kind.GPS_UNLOCKED, "the forwarder has no GPS time for a downlink to {whose}"),
}


def _delay_ns(downlink: Downlink, window: int, rx: RxPacket) -> int:
    """From the end of an uplink to a window; 0 where that is not counted from it."""
    tmst = downlink.windows[window].tmst
    return 0 if tmst is None else (tmst - rx.tmst) % U32 * 1000


def _keep(held: OrderedDict[str, T], key: str, value: T) -> None:
    held[key] = value
    held.move_to_end(key)
    if len(held) > MAX_REMEMBERED:
        held.popitem(last=False)

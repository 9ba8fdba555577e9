"""What the radio knows of time, place and its own delays, in the words of a technician. Pure."""

from __future__ import annotations

import time as clock

from webui.hardware import Calibration, Hardware, Position, Receiver, Time
from webui.hardware_words import State, micro
from webui.words import counted, duration, sentence, signed

QUALITIES = {
    "gnss": "from GNSS",
    "ntp": "from the internet (NTP)",
    "unset": "not set",
}
UNSET = "Nobody vouches for this machine's clock. Give it the internet (NTP) or a GNSS receiver."
RECEIVERS = {
    "fix": State("ok", "has a fix"),
    "cold": State("warn", "no fix yet"),
    "lost": State("warn", "lost its fix"),
    "suspect": State("warn", "not believed"),
    "silent": State("warn", "says nothing"),
}
ADVICE = {
    "cold": "it needs a free view of the sky; the first fix takes some minutes",
    "lost": "the time holds over for a while; look after its antenna's view of the sky",
    "silent": "look after its port and rate ([gnss]) and its supply",
}
PULSE_LOST_S = 5.0
LAST_YEAR_S = 4_102_444_800  # 2100: no date of a calibration lies beyond


def quality(time: Time) -> str:
    """Where the time comes from, and how good it is."""
    text = QUALITIES.get(time.quality, time.quality)
    return text if time.error_us is None else f"{text}, good to {micro(max(1, round(time.error_us)))}"


def crystal(ppm: float) -> str:
    """By how much the machine's crystal is off."""
    if round(abs(ppm), 2) == 0:
        return "exact"
    return f"{abs(ppm):.3g}\u00a0ppm {'fast' if ppm > 0 else 'slow'}"


def receiver_state(receiver: Receiver) -> State:
    if receiver.fault:
        return State("bad", "not reached")
    return RECEIVERS.get(receiver.state, State("warn", receiver.state or "unknown"))


def receiver_reason(receiver: Receiver) -> str:
    """Why it is of no use, or what to do about it; empty where it is of use."""
    reason = receiver.fault or receiver.reason or ADVICE.get(receiver.state, "")
    return sentence(f"GNSS receiver: {reason}") if reason else ""


def satellites(receiver: Receiver) -> str:
    """How many it uses, and how well they stand."""
    text = str(receiver.satellites)
    if receiver.hdop is not None:
        text += f", HDOP {receiver.hdop:.3g}"
    return f"{text}, without height" if receiver.dimensions == 2 else text


def pulse(receiver: Receiver) -> str:
    """Whether the receiver's pulse comes each second."""
    if receiver.pps is None:
        return "not watched: the time comes from its sentences alone"
    if receiver.pps_age_s is None:
        return "none came yet: look after the wire to the line ([gnss] pps_line)"
    if receiver.pps_age_s > PULSE_LOST_S:
        return f"none for {duration(receiver.pps_age_s)}: look after its wire"
    return "comes each second"


def place(position: Position) -> str:
    """As maps take it."""
    text = f"{_degrees(position.latitude)}, {_degrees(position.longitude)}"
    return text if position.altitude_m is None else f"{text}, {signed(position.altitude_m, 0)}\u00a0m"


def has_something(hardware: Hardware) -> bool:
    """Whether there is anything to say about time and place."""
    return bool(hardware.time.quality or hardware.gnss or hardware.position)


def calibration(found: Calibration) -> str:
    """Where the delays of the modules are known from."""
    if found.source != "measured":
        return (
            "The table of usual values is in use; a module may differ from it by some tens of microseconds."
        )
    by = " and ".join(found.modules[:4]) or "its own modules"
    when = f" on {_date(found.utc_s)}" if found.utc_s and 0 < found.utc_s < LAST_YEAR_S else ""
    what = ""
    if found.table:
        what = (
            f", for {counted(len(found.table), 'setting')} ({', '.join(row.datr for row in found.table[:6])})"
        )
        what = f"{what.removesuffix(')')}, ...)" if len(found.table) > 6 else what
    return f"Measured{when} by {by}{what}."


def can_calibrate(hardware: Hardware) -> bool:
    """Whether two modules are there that can measure each other."""
    return sum(module.kind == "sx127x" for module in hardware.modules) > 1


def _date(utc_s: int) -> str:
    then = clock.localtime(utc_s)
    return f"{then.tm_mday} {clock.strftime('%b %Y, %H:%M', then)}"


def _degrees(value: float) -> str:
    """As many decimals as were told, which may be few on purpose."""
    return signed(value, 5).rstrip("0").rstrip(".")

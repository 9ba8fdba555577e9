"""MAC state in the words of a technician. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from webui.macs import Mac, Setting

STATES = {
    "agreed": "agreed",
    "asked": "asked, not yet answered",
    "waiting": "will be asked",
    "resting": "refused or not answered",
    "unknown": "not known",
}
LEVELS = {"agreed": "ok", "asked": "warn", "waiting": "warn", "resting": "bad", "unknown": "ok"}
MODES = {
    "off": "Devices send where they like.",
    "auto": "Devices are brought to what the radio modules hear.",
    "set": "Devices are brought to the channels that are set.",
    "impossible": "Devices cannot be brought to what the radio modules hear.",
}
# What a person may set for one device, with its name on the page and the greatest number of digits.
ORDERS: Mapping[str, tuple[str, int]] = {
    "data_rate": ("Data rate (DR)", 2),
    "tx_power": ("Power (0 is the strongest)", 2),
    "nb_trans": ("Repetitions", 2),
    "rx1_delay_s": ("RX1 delay, s", 2),
    "rx2_dr": ("RX2 data rate (DR)", 2),
    "rx2_freq_hz": ("RX2 frequency, Hz", 10),
    "max_duty": ("Duty cycle limit, 1/2ⁿ: n", 2),
}
_ORDER_NAMES = {name: title for name, (title, _) in ORDERS.items()}


def level(setting: Setting) -> str:
    """ok, warn or bad: what a state looks like."""
    return LEVELS.get(setting.state, "ok")


def state(setting: Setting) -> str:
    return STATES.get(setting.state, setting.state)


def open_settings(mac: Mac) -> list[Setting]:
    """Those where the device is not yet as it is wanted."""
    return [setting for setting in mac.settings if setting.state in ("asked", "waiting", "resting")]


def verdict(mac: Mac) -> str:
    """The one sentence on top."""
    if not mac.session:
        return "It has not joined yet: nothing is agreed with it."
    waiting = open_settings(mac)
    if not waiting:
        return "It is as it is wanted."
    stuck = sum(setting.state == "resting" for setting in waiting)
    if stuck:
        return f"{stuck} of {len(mac.settings)} settings were refused or not answered."
    return f"{len(waiting)} of {len(mac.settings)} settings are under way."


def order(name: str) -> str:
    return _ORDER_NAMES.get(name) or name.replace("_", " ").capitalize()


def share(value: float) -> str:
    return f"{value:.0%}"


def rates(values: list[int]) -> str:
    return ", ".join(f"DR{value}" for value in values) or "none"

"""Words of the pages of devices."""

from __future__ import annotations

from webui.client import Device
from webui.device_forms import LABELS
from webui.errors import Refused
from webui.fleet import Label, Line
from webui.words import counted, duration, sentence

__all__ = ["counts", "field_of", "interval", "label_fields", "line_word", "missing", "sentence", "standing"]

_STANDING = {
    "moved": ("moved away", ""),
    "refused": ("refused", "bad"),
    "never_heard": ("never heard", "warn"),
    "overdue": ("reports missing", "warn"),
    "low_battery": ("battery low", "warn"),
}
_LINES = {
    "new": ("can be added", "ok"),
    "wrong": ("wrong", "bad"),
    "twice": ("twice in the file", "bad"),
    "registered": ("registered already", "warn"),
}


def standing(device: Device) -> tuple[str, str]:
    """What a list says of a device that does not just work: words, and how grave they are. "" where all is well."""
    return _STANDING.get(device.state, ("", ""))


def missing(device: Device, now_s: float) -> str:
    """What is missing of a device, in one sentence; "" where nothing is."""
    if not device.missed or device.missed_since is None:
        return ""
    since = duration(max(0.0, now_s - device.missed_since))
    return (
        f"{counted(device.missed, 'report is', 'reports are')} missing; one was expected every"
        f" {interval(device.expected_interval_s)}, the first that did not come {since} ago."
    )


def interval(seconds: int) -> str:
    """An interval in its largest whole unit."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def line_word(line: Line) -> tuple[str, str]:
    return _LINES.get(line.state, (line.state, "warn"))


def counts(numbers: dict[str, int]) -> str:
    """What a file holds, in words."""
    new, others = numbers.get("new", 0), sum(numbers.values()) - numbers.get("new", 0)
    said = f"{counted(new, 'device')} can be added"
    return said + (f", {counted(others, 'line')} cannot." if others else ".")


def label_fields(label: Label) -> dict[str, str]:
    """The fields of the form that a label fills in."""
    found = {
        name: str(getattr(label, name))
        for name in ("dev_eui", "join_eui", "app_key", "nwk_key", "dev_addr", "nwk_s_key", "app_s_key")
        if getattr(label, name)
    }
    if label.nwk_s_key and not label.app_key:
        found["activation"] = "abp"
    return found


def field_of(refusal: Refused) -> str:
    """Which field a refusal of the gateway is about, by the name it begins with; else the form as a whole."""
    if refusal.status == 409:
        return "dev_eui"
    for name, (label, _) in LABELS.items():
        if refusal.detail.startswith(label + " "):
            return name
    return "form"

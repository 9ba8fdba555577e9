"""Findings in the words of a technician: how bad, since when, and the evidence as names and values. Pure."""

from __future__ import annotations

from typing import Any

from webui.findings import Finding
from webui.words import frequency, signed

LEVELS = {"stops": "bad", "hurts": "warn", "note": "ok"}
WEIGHTS = {"stops": "It cannot work like this", "hurts": "Something is lost", "note": "For your information"}

_NAMES = {
    "freq_hz": "Frequency",
    "datr": "Data rate",
    "rssi_dbm": "RSSI",
    "snr_db": "SNR",
    "margin_db": "Above the floor",
    "device_hears_margin_db": "How well it hears us",
    "gateway": "Heard by",
    "dev_addr": "DevAddr",
    "heard_dev_addr": "DevAddr heard",
    "heard_dev_eui": "DevEUI heard",
    "join_eui": "JoinEUI heard",
    "registered_join_eui": "JoinEUI registered",
    "dev_nonce": "DevNonce",
    "fcnt": "Counter",
    "last_fcnt": "Last counter",
    "late_ms": "Late by",
    "radio_says": "The radio says",
    "asked": "Asked",
    "asked_again_after_s": "Asked again after",
    "where": "Where",
    "certainty": "How sure",
    "maybe_from": "Perhaps from",
    "silent_s": "Silent for",
    "waited_s": "Waited for",
    "expected_interval_s": "Reports every",
    "missed": "Reports missing",
}
_UNITS = {"_db": "dB", "_dbm": "dBm", "_ms": "ms", "_s": "s"}
_SURE = {
    "proved": "certain: the frame fits exactly",
    "likely": "likely",
    "perhaps": "a guess; nothing in a frame proves it",
}


def level(finding: Finding) -> str:
    """ok, warn or bad: what a banner looks like; a finding that is over is ok."""
    return "ok" if finding.resolved is not None else LEVELS.get(finding.weight, "ok")


def evidence(finding: Finding) -> list[tuple[str, str]]:
    """Names and values, those with a name that is known first."""
    known = [(_NAMES[key], _value(key, finding.evidence[key])) for key in _NAMES if key in finding.evidence]
    others = [
        (key.replace("_", " ").capitalize(), _value(key, value))
        for key, value in finding.evidence.items()
        if key not in _NAMES
    ]
    return known + others


def subject(finding: Finding) -> str:
    """Who it is about."""
    if finding.dev_eui:
        return finding.name or finding.dev_eui
    return f"DevAddr {finding.dev_addr}" if finding.dev_addr else "This gateway"


def _value(key: str, value: Any) -> str:
    if key == "freq_hz" and isinstance(value, int):
        return frequency(value)
    if key == "certainty":
        return _SURE.get(str(value), str(value))
    if isinstance(value, list):
        return ", ".join(str(each) for each in value[:16])
    if isinstance(value, float):
        value = signed(value, 1) if key.endswith(("_db", "_dbm")) else f"{value:g}"
    unit = next((unit for ending, unit in _UNITS.items() if key.endswith(ending)), "")
    return f"{value} {unit}".strip()

"""Words for downlinks: where an order stands, what became of it, and the forms that order one or set up a group."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from webui.downlinks import Queue, Receipt, Waiting
from webui.forms import MAX_DOWNLINK_BYTES, Form, maybe_hex

ORDER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_VALUES = 4000  # characters
UNITS = {"1": "seconds", "60": "minutes", "3600": "hours", "86400": "days"}
STATES = {"queued": "waits", "in_flight": "on its way", "awaiting_ack": "sent, waits for its acknowledgement"}
FATES = {"queued": "Taken", "sent": "Sent", "acknowledged": "Acknowledged", "failed": "Failed"}
LEVELS = {"queued": "", "sent": "ok", "acknowledged": "ok", "failed": "bad"}
_WINDOWS = {
    "RX1": "in its first window (RX1)",
    "RX2": "in its second window (RX2)",
    "RXC": "at once (class C)",
    "ping slot": "in a ping slot (class B)",
}
_WHEN = {
    "A": "It leaves after the device's next uplink: a class A device listens only then.",
    "B": "It leaves in the device's next ping slot, or after its next uplink.",
    "C": "It leaves at once: a class C device always listens.",
}


def when_it_leaves(queue: Queue) -> str:
    return _WHEN.get(queue.device_class, _WHEN["A"])


def standing(order: Waiting) -> str:
    """Where an order stands, with how often it was tried."""
    words = STATES.get(order.state, order.state)
    if order.attempts > 1 or (order.attempts and order.state == "queued"):
        words += f", tried {order.attempts} times" if order.attempts > 1 else ", tried once"
    return words


def fate(receipt: Receipt) -> str:
    """What became of an order, as the beginning of a sentence."""
    words = FATES.get(receipt.state, receipt.state)
    if receipt.window:
        words += " " + _WINDOWS.get(receipt.window, receipt.window)
    if receipt.gateway:
        words += f" by {receipt.gateway}"
    return words


def level(receipt: Receipt) -> str:
    return LEVELS.get(receipt.state, "")


def read_order(posted: Mapping[str, str]) -> tuple[Form, dict[str, Any]]:
    """The body of an order; what cannot be read becomes an error of its field."""
    names = ("fport", "payload", "values", "priority", "ttl", "unit", "confirmed")
    form = Form({name: posted.get(name, "").strip()[: MAX_VALUES + 1] for name in names})
    body: dict[str, Any] = {"confirmed": form.values["confirmed"] == "yes"}
    port = _number(form, "fport", 1, 223, "A number from 1 to 223.")
    if port is not None:
        body["fport"] = port
    if form.values["values"]:
        _read_values(form, body)
    else:
        _read_bytes(form, body)
    if (priority := _number(form, "priority", 0, 255, "A number from 0 to 255.")) is not None:
        body["priority"] = priority
    unit = form.values["unit"] if form.values["unit"] in UNITS else "3600"
    if (ttl := _number(form, "ttl", 1, 100_000, "A whole number, or empty.")) is not None:
        body["ttl_s"] = ttl * int(unit)
    return form, body


def _read_values(form: Form, body: dict[str, Any]) -> None:
    if form.values["payload"]:
        form.errors["values"] = "Either bytes or values, not both."
        return
    try:
        values = json.loads(form.values["values"]) if len(form.values["values"]) <= MAX_VALUES else None
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):
        body["data"] = values
    elif isinstance(values, list) and all(isinstance(each, dict) for each in values):
        body["records"] = values
    else:
        form.errors["values"] = 'An object of names and values, for example {"digital_output_1": 1}.'


def _read_bytes(form: Form, body: dict[str, Any]) -> None:
    payload = maybe_hex(form.values["payload"], None)
    if payload is None:
        form.errors["payload"] = "Pairs of hex digits, for example 01 00 ff."
    elif len(payload) > 2 * MAX_DOWNLINK_BYTES:
        form.errors["payload"] = f"At most {MAX_DOWNLINK_BYTES} bytes."
    else:
        body["payload"] = payload
    if not form.values["fport"]:
        form.errors["fport"] = "A number from 1 to 223."


def read_group(posted: Mapping[str, str]) -> tuple[Form, dict[str, Any]]:
    """The body that sets a group up. Keys do not come back with the form."""
    names = ("name", "mc_addr", "mc_key", "nwk_s_key", "app_s_key", "gateways", "freq", "dr", "fcnt_down")
    given = {name: posted.get(name, "").strip()[:2000] for name in names}
    form = Form({name: text for name, text in given.items() if not name.endswith("_key")})
    body: dict[str, Any] = {"name": given["name"]}
    if not GROUP_NAME.fullmatch(given["name"]):
        form.errors["name"] = "1 to 64 letters, digits, dashes or underscores, a letter or digit first."
    body["mc_addr"] = _hex(form, "mc_addr", given["mc_addr"], 4, "8 hex digits.")
    if given["mc_key"] and not (given["nwk_s_key"] or given["app_s_key"]):
        body["mc_key"] = _hex(form, "mc_key", given["mc_key"], 16, "32 hex digits.")
    else:
        for name in ("nwk_s_key", "app_s_key"):
            body[name] = _hex(form, name, given[name], 16, "32 hex digits, or give the McKey above.")
    euis = re.split(r"[\s,;]+", given["gateways"]) if given["gateways"] else []
    body["gateways"] = [maybe_hex(eui, 8) for eui in euis]
    if None in body["gateways"]:
        form.errors["gateways"] = "EUIs of 16 hex digits, with a space between."
    if given["freq"]:
        try:
            body["freq_hz"] = round(float(given["freq"].replace(",", ".")) * 1e6)
        except (ValueError, OverflowError):
            form.errors["freq"] = "A frequency in MHz, for example 869.525."
    if (dr := _number(form, "dr", 0, 15, "A number from 0 to 15, or empty.")) is not None:
        body["dr"] = dr
    if (fcnt := _number(form, "fcnt_down", 0, (1 << 32) - 1, "A whole number, or empty.")) is not None:
        body["fcnt_down"] = fcnt
    return form, body


def _hex(form: Form, name: str, text: str, size: int, words: str) -> str:
    digits = maybe_hex(text, size)
    if digits is None:
        form.errors[name] = words
    return digits or ""


def _number(form: Form, name: str, low: int, high: int, words: str) -> int | None:
    """None where the field is empty or not good."""
    text = form.values[name]
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high:
        return int(text)
    form.errors[name] = words
    return None

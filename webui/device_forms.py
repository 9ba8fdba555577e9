"""What people type of a device or a profile, turned into what the API takes, or into one sentence for each field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.forms import MAX_NAME, Form, maybe_hex

CODECS = {
    "cayenne": "Cayenne LPP",
    "senml": "SenML (JSON or CBOR)",
    "raw": "None: keep the bytes as they are",
}
LABELS = {
    "dev_eui": ("DevEUI", 8),
    "join_eui": ("JoinEUI", 8),
    "app_key": ("AppKey", 16),
    "nwk_key": ("NwkKey", 16),
    "dev_addr": ("DevAddr", 4),
    "nwk_s_key": ("NwkSKey", 16),
    "app_s_key": ("AppSKey", 16),
    "s_nwk_s_int_key": ("SNwkSIntKey", 16),
    "nwk_s_enc_key": ("NwkSEncKey", 16),
}
OTAA = ("join_eui", "app_key", "nwk_key")
ABP = ("dev_addr", "nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key")
KEYS = ("app_key", "nwk_key", "nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key")
MAX_DESCRIPTION = 500
MIN_SEAL = 12  # characters of a passphrase that seals keys
UNITS = {"s": ("seconds", 1), "min": ("minutes", 60), "h": ("hours", 3600), "d": ("days", 86_400)}
SORTS = {
    "last_seen": "last heard",
    "name": "name",
    "attention": "needs attention",
    "signal": "weakest signal",
    "battery": "emptiest battery",
    "dev_eui": "DevEUI",
}
VERSIONS = ("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.1")
CLASSES = {
    "A": "A: listens after it has sent",
    "B": "B: listens at fixed times too",
    "C": "C: listens always",
}

# Whole numbers of a profile that may be left empty: label, lowest, highest, scale to the API's unit.
NUMBERS: dict[str, tuple[str, float, float, float]] = {
    "adr_margin_db": ("Margin of ADR, dB", 0, 40, 1),
    "min_dr": ("Lowest data rate", 0, 15, 1),
    "max_dr": ("Highest data rate", 0, 15, 1),
    "max_tx_power": ("Weakest power (index)", 0, 15, 1),
    "max_nb_trans": ("Most repetitions", 1, 15, 1),
    "fixed_dr": ("It always sends with data rate", 0, 15, 1),
    "abp_rx2_dr": ("RX2 data rate", 0, 15, 1),
    "abp_rx2_freq_hz": ("RX2 frequency, MHz", 100, 3000, 1e6),
    "abp_rx1_delay_s": ("RX1 delay, seconds", 1, 15, 1),
    "class_b_timeout_s": ("Class B: wait for the ACK, seconds", 1, 3600, 1),
    "class_c_timeout_s": ("Class C: wait for the ACK, seconds", 1, 3600, 1),
    "max_downlink_attempts": ("Tries of a confirmed downlink", 1, 16, 1),
}
_FRACTIONS = frozenset({"adr_margin_db"})


def read_device(posted: Mapping[str, str]) -> Form:
    """Fields of POST /lorawan/devices; only those the chosen way of activation needs are read."""
    form = Form()
    _read_hex(posted, form, "dev_eui", needed=True)
    _read_name(posted, form)
    activation = "abp" if posted.get("activation") == "abp" else "otaa"
    form.values["activation"] = activation
    optional = {"join_eui", "nwk_key", "s_nwk_s_int_key", "nwk_s_enc_key"}
    for name in ABP if activation == "abp" else OTAA:
        _read_hex(posted, form, name, needed=name not in optional)
    for name in ("profile", "codec", "channel_id"):
        form.values[name] = posted.get(name, "").strip()[:64]
    _read_description(posted, form)
    read_interval(posted, form)
    return form


def device_body(form: Form) -> dict[str, Any]:
    """A good form as the API takes it."""
    unit = ("interval", "interval_unit", "expected_interval_s")
    body: dict[str, Any] = {name: value for name, value in form.values.items() if value and name not in unit}
    if form.values.get("expected_interval_s"):
        body["expected_interval_s"] = int(form.values["expected_interval_s"])
    return body


def read_edit(posted: Mapping[str, str]) -> Form:
    """Fields of PUT /lorawan/devices/{dev_eui}; an empty key stays what it is."""
    form = Form()
    _read_name(posted, form)
    for name in ("join_eui", "dev_addr", *KEYS):
        if posted.get(name, "").strip():
            _read_hex(posted, form, name, needed=True)
    form.values["any_join_eui"] = "yes" if posted.get("any_join_eui") == "yes" else ""
    for name in ("profile", "codec", "channel_id"):
        form.values[name] = posted.get(name, "").strip()[:64]
    _read_description(posted, form)
    read_interval(posted, form)
    return form


def edit_body(form: Form) -> dict[str, Any]:
    values = form.values
    body: dict[str, Any] = {
        "name": values["name"],
        "codec": values["codec"],
        "description": values["description"],
        "expected_interval_s": int(values["expected_interval_s"]) if values["expected_interval_s"] else None,
    }
    body |= {
        name: values[name]
        for name in ("profile", "channel_id", "join_eui", "dev_addr", *KEYS)
        if values.get(name)
    }
    if values.get("any_join_eui"):
        body["join_eui"] = ""
    return body


def read_adoption(posted: Mapping[str, str]) -> Form:
    """Fields of POST /lorawan/devices/{dev_eui}/adopt."""
    form = Form()
    _read_name(posted, form)
    _read_hex(posted, form, "app_key", needed=True)
    _read_hex(posted, form, "nwk_key", needed=False)
    for name in ("profile", "codec"):
        form.values[name] = posted.get(name, "").strip()[:64]
    read_interval(posted, form)
    return form


def read_passphrase(posted: Mapping[str, str]) -> Form:
    """What a file of devices is sealed with: typed twice, for nobody can open it without."""
    form = Form(values={"passphrase": posted.get("passphrase", "")})
    if not MIN_SEAL <= len(form.values["passphrase"]) <= 256:
        form.errors["passphrase"] = f"At least {MIN_SEAL} characters. Four or five words are easy to keep."
    elif form.values["passphrase"] != posted.get("again", ""):
        form.errors["again"] = "This is not the same passphrase as above."
    return form


def read_interval(posted: Mapping[str, str], form: Form) -> None:
    """A number and its unit; empty where the profile says it."""
    number, unit = posted.get("interval", "").strip(), posted.get("interval_unit", "min")
    unit = unit if unit in UNITS else "min"
    form.values["interval"], form.values["interval_unit"] = number[:9], unit
    form.values["expected_interval_s"] = ""
    if not number:
        return
    if number.isascii() and number.isdigit() and len(number) <= 8:
        seconds = int(number) * UNITS[unit][1]
        if seconds <= 366 * 86_400:
            form.values["expected_interval_s"] = str(seconds)
            return
    form.errors["interval"] = "A whole number, at most a year. Empty: as the profile says."


def interval_fields(seconds: int) -> dict[str, str]:
    """The largest unit that leaves a whole number."""
    for unit in ("d", "h", "min", "s"):
        if seconds and seconds % UNITS[unit][1] == 0:
            return {"interval": str(seconds // UNITS[unit][1]), "interval_unit": unit}
    return {"interval": "", "interval_unit": "min"}


def read_profile(posted: Mapping[str, str]) -> Form:
    """Fields of a profile; `profile_body` makes the request of a good one."""
    form = Form()
    name = posted.get("name", "").strip()
    form.values["name"] = name[:64]
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    if not name or len(name) > 64 or not set(name) <= allowed or name[0] in "._-":
        form.errors["name"] = "Letters, digits, dots, dashes and underscores, at most 64; no blanks."
    for field, choices, default in (
        ("version", VERSIONS, "1.0.3"),
        ("device_class", tuple(CLASSES), "A"),
        ("dev_nonces", ("", "all", "rising"), ""),
        ("counter_reset", ("refuse", "allow"), "refuse"),
    ):
        value = posted.get(field, default)
        form.values[field] = value if value in choices else default
    form.values["codec"] = posted.get("codec", "cayenne").strip()[:64]
    form.values["adr"] = "yes" if posted.get("adr") == "yes" else ""
    _read_description(posted, form, 200)
    read_interval(posted, form)
    for field, (label, low, high, _) in NUMBERS.items():
        text = posted.get(field, "").strip().replace(",", ".")[:16]
        form.values[field] = text
        if not text:
            continue
        number = _number(text)
        fraction = field in _FRACTIONS or field.endswith("_hz")
        if number is None or not low <= number <= high or (number % 1 and not fraction):
            form.errors[field] = f"{label}: {low:g} to {high:g}."
    channels = posted.get("abp_channels", "").replace(",", " ").replace(";", " ").split()
    form.values["abp_channels"] = " ".join(channels)[:200]
    if len(channels) > 16 or not all((_number(each) or 0) > 100 for each in channels):
        form.errors["abp_channels"] = "Frequencies in MHz with blanks between them, at most 16."
    return form


def profile_body(form: Form) -> dict[str, Any]:
    values = form.values
    body: dict[str, Any] = {
        "version": values["version"],
        "device_class": values["device_class"],
        "codec": values["codec"],
        "description": values["description"],
        "expected_interval_s": int(values["expected_interval_s"] or 0),
        "adr": bool(values["adr"]),
        "counter_reset": values["counter_reset"],
        "dev_nonces": values["dev_nonces"] or None,
        "abp_channels_hz": [round(float(each) * 1e6) for each in values["abp_channels"].split()],
    }
    for field, (_, _, _, scale) in NUMBERS.items():
        if values[field]:
            number = float(values[field]) * scale
            body[field] = number if field in _FRACTIONS else round(number)
    return body


def profile_fields(name: str, body: Mapping[str, Any]) -> Form:
    """The form of a profile that is there."""
    form = Form(values={"name": name, **interval_fields(int(body.get("expected_interval_s") or 0))})
    for field in ("version", "device_class", "dev_nonces", "counter_reset", "codec", "description"):
        form.values[field] = str(body.get(field) or "")
    form.values["adr"] = "yes" if body.get("adr", True) else ""
    for field, (_, _, _, scale) in NUMBERS.items():
        value = body.get(field)
        form.values[field] = "" if value is None else f"{value / scale:.10g}"
    channels = body.get("abp_channels_hz") or ()
    form.values["abp_channels"] = " ".join(f"{hz / 1e6:.10g}" for hz in channels)
    return form


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # neither infinite nor NaN


def _read_name(posted: Mapping[str, str], form: Form) -> None:
    name = " ".join(posted.get("name", "").split())
    if not name:
        form.errors["name"] = "Give it a name people on site will recognise."
    elif len(name) > MAX_NAME or not name.isprintable():
        form.errors["name"] = f"At most {MAX_NAME} printable characters."
    form.values["name"] = name


def _read_description(posted: Mapping[str, str], form: Form, most: int = MAX_DESCRIPTION) -> None:
    text = " ".join(posted.get("description", "").split())
    if len(text) > most or not text.isprintable():
        form.errors["description"] = f"At most {most} printable characters."
    form.values["description"] = text[:most]


def _read_hex(posted: Mapping[str, str], form: Form, name: str, *, needed: bool) -> None:
    label, octets = LABELS[name]
    typed = posted.get(name, "")
    digits = maybe_hex(typed, octets) if typed.strip() or needed else ""
    if digits is None:
        form.errors[name] = f"{label} is {2 * octets} hex digits ({octets} bytes); this is not."
    form.values[name] = digits or typed.strip()[:80]

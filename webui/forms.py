"""What people type into forms, turned into what the API takes, or into one sentence per field.

EUIs and keys are accepted as labels print them: upper or lower case, with spaces, colons or dashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_PASSPHRASE = 12
MAX_PASSPHRASE = 256
MAX_NAME = 64
MAX_EMAIL = 254
MAX_DOWNLINK_BYTES = 242  # the largest FRMPayload of any data rate
CODECS = {
    "cayenne": "Cayenne LPP",
    "senml": "SenML (JSON or CBOR)",
    "raw": "None: keep the bytes as they are",
}

_HEX = frozenset("0123456789abcdef")


@dataclass(slots=True)
class Form:
    """Good values by field, and a sentence for each field that is not good."""

    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class DownlinkForm:
    fport: int = 0
    payload: bytes = b""
    confirmed: bool = False
    errors: dict[str, str] = field(default_factory=dict)


def maybe_hex(text: str, octets: int | None) -> str | None:
    """Lower-case hex without separators; None when it is not hex or not `octets` long (None: any length)."""
    digits = text.strip().lower().removeprefix("0x")
    for separator in " :-.\t":
        digits = digits.replace(separator, "")
    if len(digits) % 2 or not set(digits) <= _HEX:
        return None
    if octets is not None and len(digits) != 2 * octets:
        return None
    return digits


def read_claim(posted: Mapping[str, str]) -> Form:
    form = Form()
    code = posted.get("code", "").strip()
    if not code:
        form.errors["code"] = (
            "Type the code the installer printed. `sudo fluxgate claim-code` shows it again."
        )
    form.values["code"] = code[:64]
    _read_email(posted, form)
    password = posted.get("password", "")
    if len(password) < MIN_PASSPHRASE:
        form.errors["password"] = (
            f"At least {MIN_PASSPHRASE} characters. Four or five words are easy to keep."
        )
    elif len(password) > MAX_PASSPHRASE:
        form.errors["password"] = f"At most {MAX_PASSPHRASE} characters."
    elif password != posted.get("again", ""):
        form.errors["again"] = "This is not the same passphrase as above."
    form.values["password"] = password
    return form


def read_sign_in(posted: Mapping[str, str]) -> Form:
    form = Form()
    _read_email(posted, form)
    password = posted.get("password", "")
    if not password or len(password) > MAX_PASSPHRASE:
        form.errors["password"] = "Type your passphrase."
    form.values["password"] = password
    return form


def read_device(posted: Mapping[str, str]) -> Form:
    """Fields of POST /lorawan/devices; only those the chosen way of activation needs are read."""
    form = Form()
    _read_hex(posted, form, "dev_eui", 8, "DevEUI")
    name = " ".join(posted.get("name", "").split())
    if not name:
        form.errors["name"] = "Give it a name people on site will recognise."
    elif len(name) > MAX_NAME or not name.isprintable():
        form.errors["name"] = f"At most {MAX_NAME} printable characters."
    form.values["name"] = name
    activation = "abp" if posted.get("activation") == "abp" else "otaa"
    form.values["activation"] = activation
    if activation == "otaa":
        _read_hex(posted, form, "join_eui", 8, "JoinEUI")
        _read_hex(posted, form, "app_key", 16, "AppKey")
    else:
        _read_hex(posted, form, "dev_addr", 4, "DevAddr")
        _read_hex(posted, form, "nwk_s_key", 16, "NwkSKey")
        _read_hex(posted, form, "app_s_key", 16, "AppSKey")
    form.values["codec"] = posted.get("codec", "cayenne")
    if form.values["codec"] not in CODECS:
        form.errors["codec"] = "Choose one of the list."
    return form


def read_downlink(posted: Mapping[str, str]) -> DownlinkForm:
    form = DownlinkForm(confirmed=posted.get("confirmed") == "yes")
    port = posted.get("fport", "").strip()
    if port.isascii() and port.isdigit() and len(port) <= 3 and 1 <= int(port) <= 223:
        form.fport = int(port)
    else:
        form.errors["fport"] = "A number from 1 to 223."
    payload = maybe_hex(posted.get("payload", ""), None)
    if payload is None:
        form.errors["payload"] = "Pairs of hex digits, for example 01 00 ff."
    elif len(payload) > 2 * MAX_DOWNLINK_BYTES:
        form.errors["payload"] = f"At most {MAX_DOWNLINK_BYTES} bytes."
    else:
        form.payload = bytes.fromhex(payload)
    return form


def _read_email(posted: Mapping[str, str], form: Form) -> None:
    email = posted.get("email", "").strip()
    name, at, host = email.rpartition("@")
    if not (name and at and host) or len(email) > MAX_EMAIL or " " in email or not email.isprintable():
        form.errors["email"] = "Type an e-mail address, for example you@example.org."
    form.values["email"] = email[:MAX_EMAIL]


def _read_hex(posted: Mapping[str, str], form: Form, name: str, octets: int, label: str) -> None:
    typed = posted.get(name, "")
    digits = maybe_hex(typed, octets)
    if digits is None:
        form.errors[name] = f"{label} is {2 * octets} hex digits ({octets} bytes); this is not."
    form.values[name] = digits or typed.strip()[:80]

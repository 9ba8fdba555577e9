"""What people type into forms, turned into what the API takes, or into one sentence per field.

EUIs and keys are accepted as labels print them: upper or lower case, with spaces, colons or dashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from webui.client import Module

MIN_PASSPHRASE = 12
MAX_PASSPHRASE = 256
MAX_NAME = 64
MAX_EMAIL = 254
MAX_DOWNLINK_BYTES = 242  # the largest FRMPayload of any data rate

MAX_SCAN_STEPS = 200
SCAN_STEP_HZ = 200_000  # between neighbouring LoRa channels of 125 kHz
SCAN_MARGIN_HZ = 1_000_000

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


@dataclass(slots=True)
class BandForm:
    """A part of the band to listen through."""

    start_hz: int = 863_000_000
    stop_hz: int = 870_000_000
    step_hz: int = SCAN_STEP_HZ
    values: dict[str, str] = field(default_factory=dict)  # as typed, in MHz and kHz
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def around(cls, modules: Sequence[Module]) -> BandForm:
        """The neighbourhood of what the modules hear, as the form's first suggestion."""
        heard = [module.freq_hz for module in modules] or [868_300_000]
        form = cls(min(heard) - SCAN_MARGIN_HZ, max(heard) + SCAN_MARGIN_HZ)
        form.values = {
            "start": f"{form.start_hz / 1e6:g}",
            "stop": f"{form.stop_hz / 1e6:g}",
            "step": f"{form.step_hz / 1e3:g}",
        }
        return form


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


def read_band(posted: Mapping[str, str]) -> BandForm:
    form = BandForm(values={name: posted.get(name, "").strip()[:16] for name in ("start", "stop", "step")})
    form.start_hz = _read_number(form, "start", 1e6, 137_000_000, 1_020_000_000, "A frequency in MHz.")
    form.stop_hz = _read_number(form, "stop", 1e6, 137_000_000, 1_020_000_000, "A frequency in MHz.")
    form.step_hz = _read_number(form, "step", 1e3, 10_000, 10_000_000, "10 to 10000 kHz.")
    if not form.errors:
        if form.stop_hz < form.start_hz:
            form.errors["stop"] = "It ends below where it begins."
        elif (form.stop_hz - form.start_hz) // form.step_hz >= MAX_SCAN_STEPS:
            form.errors["step"] = f"That would be more than {MAX_SCAN_STEPS} steps: take larger ones."
    return form


def _read_number(form: BandForm, name: str, scale: float, low: int, high: int, hint: str) -> int:
    try:
        value = float(form.values[name].replace(",", ".")) * scale
        if low <= value <= high:
            return round(value)
    except ValueError:
        pass
    form.errors[name] = hint
    return 0


def _read_email(posted: Mapping[str, str], form: Form) -> None:
    email = posted.get("email", "").strip()
    name, at, host = email.rpartition("@")
    if not (name and at and host) or len(email) > MAX_EMAIL or " " in email or not email.isprintable():
        form.errors["email"] = "Type an e-mail address, for example you@example.org."
    form.values["email"] = email[:MAX_EMAIL]

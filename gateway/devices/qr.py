"""What a label says: the text of a device's QR code, or whatever a person pastes, to its identifiers.

Read are the LoRa Alliance's TR005 and its two drafts, makers' JSON, lists and `name=value` forms, and a bare DevEUI.
A TR005 label carries no key; makers' own forms often do. Everything that is wrong comes out as `LabelError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.devices.names import field_of
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI

# Characters: what the largest QR code holds in its alphanumeric mode (ISO/IEC 18004, table 7)
MAX_TEXT = 4296
MAX_SHOWN = 64  # characters of a serial number and its like

_EUI = re.compile(r"[0-9A-Fa-f]{16}")
_SEPARATORS = re.compile(r"[\s:._-]")
_PARTS = re.compile(r"[;,|\t\r\n ]+")
# A name that is worth looking for in running text, and what follows it up to something that cannot be in a value.
_NAMED = re.compile(
    r"([A-Za-z][A-Za-z0-9_ -]{2,23}?)\s*[:=]\s*\"?((?:0x)?[0-9A-Fa-f]{2}(?:[ :._-]?[0-9A-Fa-f]{2}){3,15})"
)
_WORD_THEN_HEX = re.compile(r"\b([A-Za-z][A-Za-z_-]{5,12})\s+((?:0x)?[0-9A-Fa-f]{8,32})\b")


class LabelError(Exception):
    """The text is no label that can be read; the words say why and what to do."""


@dataclass(frozen=True, slots=True)
class Label:
    """What was read. Keys are in no repr."""

    form: str  # in words: which kind of label it was
    dev_eui: DevEUI
    join_eui: JoinEUI | None = None
    app_key: AES128Key | None = field(default=None, repr=False)
    nwk_key: AES128Key | None = field(default=None, repr=False)
    dev_addr: DevAddr | None = None
    nwk_s_key: AES128Key | None = field(default=None, repr=False)
    app_s_key: AES128Key | None = field(default=None, repr=False)
    vendor_id: str = ""  # 4 hex digits, as the next one: TR005's ProfileID
    vendor_profile_id: str = ""
    owner_token: str = ""
    serial: str = ""
    proprietary: str = ""
    checked: bool = False  # the label has a checksum, and it is right
    notes: tuple[str, ...] = ()  # what a person should compare


def parse(text: str) -> Label:
    """Raises LabelError and nothing else."""
    text = text.strip().lstrip("\ufeff").strip()
    if not text:
        raise LabelError("there is no text: scan the code again, or type the DevEUI from the label")
    if len(text) > MAX_TEXT:
        raise LabelError(
            f"that is longer than {MAX_TEXT} characters, which no QR code holds: paste one label only"
        )
    large = text.upper()
    if large.startswith("LW:"):
        return _tr005(text)
    if large.startswith("URN:LW:DP:"):
        return _draft(text[10:].split(":"), "%", "TR005 draft 2")
    if large.startswith("URN:DEV:LW:"):
        return _draft(text[11:].split("_"), "", "TR005 draft 3")
    if large.startswith("URN:LWDP:"):
        return _lwdp(text[9:].split(":"))
    if text.startswith("{"):
        return _json(text)
    if re.match(r"https?://", text, re.IGNORECASE):
        text = unquote(text).replace("&", " ; ").replace("?", " ; ").replace("/", " ; ")
    return _named(text) or _list(text)


def checksum(text: str) -> int:
    """The checksum of a TR005 label over what stands before `:C`: CRC-16, 0x8005 reflected, from 0xFFFF."""
    crc = 0xFFFF
    for byte in text.encode("latin-1", "replace"):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def _tr005(text: str) -> Label:
    """`LW:D0:<JoinEUI>:<DevEUI>:<ProfileID>`, then fields that a letter tells apart (TR005, 4.2)."""
    parts = text.split(":")
    if parts[1].upper() != "D0":
        raise LabelError(
            f"the label follows schema {parts[1][:8]!r}, which is not known here: type its DevEUI"
        )
    if len(parts) < 5:
        raise LabelError("the label ends too early: it has JoinEUI, DevEUI and ProfileID. Scan it again")
    join_eui, dev_eui, profile_id = _join_eui(parts[2]), _dev_eui(parts[3]), parts[4]
    found: dict[str, str] = {}
    notes = _profile_notes(profile_id)
    checked = False
    before = ":".join(parts[:5])
    for part in parts[5:]:
        letter, value = part[:1].upper(), part[1:]
        if letter == "C" and not found.get("C"):
            _check(before, value)
            checked = True
        elif letter in "OSP" and letter:
            found.setdefault(letter, value[:MAX_SHOWN])
        elif part:
            notes.append(f"a field that begins with {part[:1]!r} is not known and was passed over")
        if letter == "C":
            found["C"] = value
        before += ":" + part
    return Label(
        "LoRaWAN label (TR005)",
        dev_eui,
        join_eui,
        vendor_id=profile_id[:4],
        vendor_profile_id=profile_id[4:8],
        owner_token=found.get("O", ""),
        serial=found.get("S", ""),
        proprietary=found.get("P", ""),
        checked=checked,
        notes=tuple(notes),
    )


def _check(before: str, value: str) -> None:
    """Labels are printed in large letters; a typed one may not be, so either counts."""
    wanted = f"{checksum(before.upper()):04X}"
    if value.upper() not in (wanted, f"{checksum(before):04X}"):
        raise LabelError(
            f"the label's checksum is {value[:8]}, but its text gives {wanted}: a character was misread or"
            " mistyped. Scan it again, or leave out the part from :C on and compare every digit"
        )


def _profile_notes(profile_id: str) -> list[str]:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", profile_id):
        return []
    return [f"its ProfileID {profile_id[:16]!r} is not 8 hex digits"]


def _draft(parts: list[str], mark: str, form: str) -> Label:
    """The drafts of TR005: three parts, then extensions with a letter each, behind `%` in draft 2."""
    if len(parts) < 3:
        raise LabelError("the label ends too early: it has JoinEUI, DevEUI and ProfileID. Scan it again")
    extensions = [each for part in parts[3:] for each in (part.split(mark) if mark else [part]) if each]
    found = {each[0].upper(): each[1:][:MAX_SHOWN] for each in reversed(extensions)}
    return Label(
        f"LoRaWAN label ({form})",
        _dev_eui(parts[1]),
        _join_eui(parts[0]),
        vendor_id=parts[2][:4],
        vendor_profile_id=parts[2][4:8],
        owner_token=found.get("V", ""),
        serial=found.get("S", ""),
        proprietary=found.get("P", ""),
        notes=tuple(_profile_notes(parts[2])),
    )


def _lwdp(parts: list[str]) -> Label:
    """`URN:LWDP:<JoinEUI>:<DevEUI>:<product>:<token>`, as some makers print it."""
    if len(parts) < 2:
        raise LabelError("the label ends too early: it has JoinEUI and DevEUI. Scan it again")
    more = [part[:MAX_SHOWN] for part in parts[2:4]] + ["", ""]
    return Label(
        "maker's label (URN:LWDP)",
        _dev_eui(parts[1]),
        _join_eui(parts[0]),
        proprietary=more[0],
        owner_token=more[1],
    )


def _json(text: str) -> Label:
    try:
        value = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        raise LabelError(
            "it begins like JSON and is not: a part of the code is missing. Scan it again"
        ) from None
    given: dict[str, str] = {}
    _flatten(value, given, 4)
    return _of_fields(given, "maker's label (JSON)")


def _flatten(value: Any, given: dict[str, str], depth: int) -> None:
    """Fields of an object and of those inside it; the first of a name counts."""
    if not isinstance(value, dict) or not depth:
        return
    for name, inner in value.items():
        if isinstance(inner, dict):
            _flatten(inner, given, depth - 1)
        elif isinstance(inner, str) and (known := field_of(str(name))):
            given.setdefault(known, inner)


def _named(text: str) -> Label | None:
    """`DevEUI=...`, `AppKey: ...`, one after another however they are parted; None where no DevEUI is named."""
    given: dict[str, str] = {}
    for pattern in (_NAMED, _WORD_THEN_HEX):
        for name, value in pattern.findall(text):
            if known := field_of(name) or field_of(name.split()[-1]):
                given.setdefault(known, value)
    return _of_fields(given, "maker's label (names and values)") if "dev_eui" in given else None


def _list(text: str) -> Label:
    """Bare values: the first EUI is the DevEUI, the second the JoinEUI, a key of 16 bytes the AppKey."""
    if _EUI.fullmatch(bare := _SEPARATORS.sub("", text).removeprefix("0x")):
        return Label("DevEUI", _dev_eui(bare))
    euis: list[str] = []
    keys: list[str] = []
    others: list[str] = []
    for part in _PARTS.split(text):
        digits = _SEPARATORS.sub("", part)
        is_hex = re.fullmatch(r"[0-9A-Fa-f]+", digits) is not None
        if is_hex and len(digits) == 16:
            euis.append(digits)
        elif is_hex and len(digits) == 32:
            keys.append(digits)
        elif part:
            others.append(part)
    if not euis:
        raise LabelError(
            "there is no DevEUI in it: 16 hex digits, on the label often after DevEUI, EUI or DEV"
        )
    if len(euis) > 2 or len(keys) > 1:
        raise LabelError(
            f"it has {len(euis)} EUIs and {len(keys)} keys and does not say which is which: type them into the form"
        )
    notes = ["the first EUI was taken for the DevEUI: compare it with the label"] if len(euis) > 1 else []
    return Label(
        "maker's label (list)",
        _dev_eui(euis[0]),
        _join_eui(euis[1]) if len(euis) > 1 else None,
        _key(keys[0], "AppKey") if keys else None,
        serial=max(others, key=len, default="")[:MAX_SHOWN],
        notes=tuple(notes),
    )


def _of_fields(given: dict[str, str], form: str) -> Label:
    if "dev_eui" not in given:
        raise LabelError(
            "there is no DevEUI in it: 16 hex digits, on the label often after DevEUI, EUI or DEV"
        )

    def key(name: str, words: str) -> AES128Key | None:
        return _key(given[name], words) if given.get(name) else None

    return Label(
        form,
        _dev_eui(given["dev_eui"]),
        _join_eui(given.get("join_eui", "")),
        key("app_key", "AppKey"),
        key("nwk_key", "NwkKey"),
        _dev_addr(given["dev_addr"]) if given.get("dev_addr") else None,
        key("nwk_s_key", "NwkSKey"),
        key("app_s_key", "AppSKey"),
        serial=given.get("serial", "")[:MAX_SHOWN],
    )


def _dev_eui(text: str) -> DevEUI:
    try:
        return DevEUI.parse(text)
    except ValueError:
        raise LabelError(f"its DevEUI {text[:32]!r} is not 16 hex digits: scan or type it again") from None


def _join_eui(text: str) -> JoinEUI | None:
    if not text:
        return None
    try:
        return JoinEUI.parse(text)
    except ValueError:
        raise LabelError(f"its JoinEUI {text[:32]!r} is not 16 hex digits: scan or type it again") from None


def _dev_addr(text: str) -> DevAddr:
    try:
        return DevAddr.parse(text)
    except ValueError:
        raise LabelError(f"its DevAddr {text[:16]!r} is not 8 hex digits: scan or type it again") from None


def _key(text: str, words: str) -> AES128Key:
    try:
        return AES128Key.parse(text)
    except ValueError:
        raise LabelError(f"its {words} is not 32 hex digits: scan or type it again") from None

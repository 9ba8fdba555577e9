"""What people and files give of a device, as texts, made into a configuration or into one sentence for each fault.

Forms, the API, delivery lists and site files all come through `read`, so all of them take and refuse the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from gateway.devices import names
from gateway.devices.profiles import BUILT_IN
from gateway.devices.records import Record
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile, Version
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI

MAX_NAME = 64

T = TypeVar("T")

LABELS = {
    "dev_eui": "DevEUI",
    "join_eui": "JoinEUI",
    "app_key": "AppKey",
    "nwk_key": "NwkKey",
    "dev_addr": "DevAddr",
    "nwk_s_key": "NwkSKey",
    "app_s_key": "AppSKey",
    "s_nwk_s_int_key": "SNwkSIntKey",
    "nwk_s_enc_key": "NwkSEncKey",
}
KEYS = ("app_key", "nwk_key", "nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key")
ABP_1_0 = ("dev_addr", "nwk_s_key", "app_s_key")
ABP_1_1 = ("dev_addr", "nwk_s_key", "s_nwk_s_int_key", "nwk_s_enc_key", "app_s_key")
DIGITS = {"dev_eui": 16, "join_eui": 16, "dev_addr": 8, **dict.fromkeys(KEYS, 32)}


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device as texts; "" is not given. EUIs and keys are hex, most significant digit first."""

    dev_eui: str
    name: str = ""
    activation: str = ""
    join_eui: str = ""
    app_key: str = ""
    nwk_key: str = ""
    dev_addr: str = ""
    nwk_s_key: str = ""
    app_s_key: str = ""
    s_nwk_s_int_key: str = ""
    nwk_s_enc_key: str = ""
    profile: str = ""
    codec: str = ""
    channel_id: str = ""
    expected_interval_s: int | None = None
    description: str = ""
    tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Given({self.dev_eui[:16]!r})"  # keys are among the rest


class FieldErrors(Exception):
    """What is wrong, by field; the field "" is the device as a whole."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = dict(errors)


@dataclass(frozen=True, slots=True)
class Asked:
    """A device that may be registered, and what a person should know before."""

    config: DeviceConfig = field(repr=False)
    record: Record
    channel_id: str = ""
    warnings: tuple[str, ...] = ()


def read(
    given: Given,
    profiles: Mapping[str, Profile],
    codecs: Collection[str],
    known: Callable[[DevEUI], bool] | None = None,
) -> Asked:
    """Raises FieldErrors with everything that is wrong. `known` tells which DevEUIs are registered."""
    reader = _Reader(given)
    dev_eui = reader.number("dev_eui", DevEUI.parse)
    name = reader.name()
    profile = profiles.get(given.profile or DEFAULT_NAME)
    if profile is None:
        reader.errors["profile"] = f"there is no profile {given.profile!r}"
        profile = BUILT_IN[DEFAULT_NAME]
    if given.codec and given.codec not in codecs:
        reader.errors["codec"] = f"there is no codec {given.codec!r}; there are {', '.join(sorted(codecs))}"
    activation = reader.activation()
    keys = reader.keys(activation, profile.version)
    join_eui = reader.number("join_eui", JoinEUI.parse) if given.join_eui else None
    dev_addr = reader.number("dev_addr", DevAddr.parse) if given.dev_addr else None
    if dev_eui is not None and known is not None and not known(dev_eui) and known(dev_eui.reversed):
        reader.warnings.append(
            f"{dev_eui.reversed} is registered, which is this DevEUI with its bytes reversed: one of them is wrong"
        )
    if dev_eui is not None and join_eui is not None and int(dev_eui) == int(join_eui):
        reader.warnings.append("DevEUI and JoinEUI are the same: one of them may stand in the wrong place")
    if dev_eui == 0:
        reader.errors.setdefault("dev_eui", "DevEUI is all zeros, which no device has")
    record = reader.record(bool(given.codec))
    if reader.errors or dev_eui is None or record is None:
        raise FieldErrors(reader.errors)
    abp = activation is Activation.ABP
    try:
        config = DeviceConfig(
            dev_eui=dev_eui,
            activation=activation,
            name=name,
            join_eui=None if abp else join_eui,
            dev_addr=dev_addr if abp else None,
            codec=given.codec or profile.codec,
            profile=profile.name,
            app_key=keys.get("app_key"),
            nwk_key=keys.get("nwk_key"),
            nwk_s_key=keys.get("nwk_s_key"),
            app_s_key=keys.get("app_s_key"),
            s_nwk_s_int_key=keys.get("s_nwk_s_int_key"),
            nwk_s_enc_key=keys.get("nwk_s_enc_key"),
        )
    except OrderError as error:
        raise FieldErrors({"": str(error)}) from None
    return Asked(config, record, given.channel_id, tuple(reader.warnings))


class _Reader:
    """Reads fields one by one and gathers what is wrong with them."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self.errors: dict[str, str] = {}
        self.warnings: list[str] = []

    def number(self, name: str, parse: Callable[[str], T]) -> T | None:
        """An EUI, address or key; its words never hold a key."""
        text = getattr(self._given, name)
        try:
            return parse(text)
        except ValueError:
            self.errors[name] = self._why(name, text)
            return None

    def _why(self, name: str, text: str) -> str:
        label, wanted = LABELS[name], DIGITS[name]
        digits = "".join(char for char in text if char not in " :.-\t").removeprefix("0x")
        if not digits:
            return f"{label} is missing"
        if len(digits) != wanted:
            return f"{label} needs {wanted} hex digits and has {len(digits)}"
        return f"{label} has a character that is no hex digit"

    def name(self) -> str:
        name = " ".join(self._given.name.split())
        if len(name) > MAX_NAME or not name.isprintable():
            self.errors["name"] = f"a name has at most {MAX_NAME} printable characters"
            return ""
        return name

    def activation(self) -> Activation:
        """As given, or as the keys tell."""
        given = self._given
        text = given.activation.strip().lower()
        if not text:
            return (
                Activation.ABP
                if given.nwk_s_key and not given.app_key and not given.nwk_key
                else Activation.OTAA
            )
        try:
            return Activation(text)
        except ValueError:
            self.errors["activation"] = f"activation is otaa or abp, not {given.activation[:16]!r}"
            return Activation.OTAA

    def keys(self, activation: Activation, version: Version) -> dict[str, AES128Key | None]:
        """The keys that this activation of this version has; others are not kept."""
        given = self._given
        if activation is Activation.OTAA:
            wanted: tuple[str, ...] = ("nwk_key", "app_key") if version.is_1_1 else ("app_key",)
            if version.is_1_1 and not given.nwk_key:
                self.errors["nwk_key"] = (
                    "NwkKey is missing: a device of LoRaWAN 1.1 joins with NwkKey and AppKey"
                )
            elif given.nwk_key and not version.is_1_1:
                self.warnings.append(f"NwkKey is not kept: a device of LoRaWAN {version} has an AppKey only")
        else:
            wanted = ABP_1_1 if version.is_1_1 else ABP_1_0
        found: dict[str, AES128Key | None] = {}
        for name in wanted:
            if name in self.errors:
                continue
            if name == "dev_addr":
                if not given.dev_addr:
                    self.errors[name] = "DevAddr is missing: an ABP device has one of 8 hex digits"
                continue
            found[name] = self.number(name, AES128Key.parse)
        weak = [LABELS[name] for name, key in found.items() if key and len(set(key.value)) == 1]
        if weak:
            self.warnings.append(f"{' and '.join(weak)} is one byte repeated: anybody can guess it")
        return found

    def record(self, own_codec: bool) -> Record | None:
        given = self._given
        try:
            return Record(
                own_codec=own_codec,
                interval_s=given.expected_interval_s,
                description=" ".join(given.description.split()),
                tags=given.tags,
            )
        except OrderError as error:
            self.errors["" if "tag" in str(error) else "expected_interval_s"] = str(error)
            return None


def from_row(row: Mapping[str, str]) -> Given:
    """Texts by our field names, as a delivery list gives them, with the habits of other servers straightened out.

    Raises FieldErrors for a word that cannot be understood.
    """
    errors: dict[str, str] = {}
    activation = names.plain(row.get("activation", ""))
    if activation in ("abp", "otaa"):
        pass
    elif activation:
        errors["activation"] = f"activation is otaa or abp, not {row['activation'][:16]!r}"
    elif (joins := names.maybe_bool(row.get("supports_join", ""))) is not None and row.get("supports_join"):
        activation = "otaa" if joins else "abp"
    version = names.maybe_version(row.get("version", ""))
    profile = row.get("profile", "")
    device_class = _class_of(row, errors)
    if row.get("version") and version is None:
        errors["version"] = f"{row['version'][:24]!r} is no LoRaWAN version known here"
    elif not profile and (version or device_class != "A"):
        profile = f"LoRaWAN-{version or DEFAULT.version}-{device_class}"
    app_key, nwk_key = row.get("app_key", ""), row.get("nwk_key", "")
    if nwk_key and not app_key and version is not Version.V1_1:
        app_key, nwk_key = nwk_key, ""  # ChirpStack keeps the one root key of 1.0.x under that name
    interval = row.get("expected_interval_s", "")
    interval_s = names.maybe_interval_s(interval) if interval else None
    if interval and interval_s is None:
        errors["expected_interval_s"] = (
            f"{interval[:16]!r} is no interval: seconds, or a number with min, h or d"
        )
    if errors:
        raise FieldErrors(errors)
    return Given(
        dev_eui=row.get("dev_eui", ""),
        name=row.get("name", "") or row.get("serial", ""),
        activation=activation,
        app_key=app_key,
        nwk_key=nwk_key,
        profile=profile,
        expected_interval_s=interval_s,
        join_eui=row.get("join_eui", ""),
        dev_addr=row.get("dev_addr", ""),
        nwk_s_key=row.get("nwk_s_key", ""),
        app_s_key=row.get("app_s_key", ""),
        s_nwk_s_int_key=row.get("s_nwk_s_int_key", ""),
        nwk_s_enc_key=row.get("nwk_s_enc_key", ""),
        codec=row.get("codec", ""),
        channel_id=row.get("channel_id", ""),
        description=row.get("description", ""),
    )


def _class_of(row: Mapping[str, str], errors: dict[str, str]) -> str:
    if text := row.get("device_class", ""):
        found = names.maybe_class(text)
        if found is None:
            errors["device_class"] = f"the class is A, B or C, not {text[:16]!r}"
            return "A"
        return found.value
    for column, letter in (("supports_class_c", "C"), ("supports_class_b", "B")):
        if names.maybe_bool(row.get(column, "")):
            return letter
    return "A"

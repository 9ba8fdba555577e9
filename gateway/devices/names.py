"""What others call our fields: columns of delivery lists and exports, keys of JSON labels, words on stickers.

A name is compared by its letters and digits alone: `Dev EUI`, `dev_eui` and `devEUI` are one.
"""

from __future__ import annotations

import re

from gateway.lorawan.profile import DeviceClass, Version

# Field of `gateway.devices.fields.Given` -> names beside its own. Sources: the CSV columns of The Things Stack,
# the device fields of ChirpStack 3 and 4, and delivery lists of makers.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "dev_eui": ("deviceeui", "deui", "lorawandeveui", "hardwareserial", "hwserial", "ideui"),
    "join_eui": ("appeui", "applicationeui", "joinservereui", "lorawanappeui", "joinid"),
    "app_key": ("applicationkey", "otaakey", "otaaappkey", "lorawanappkey", "rootkeysappkeykey", "appkeyhex"),
    "nwk_key": ("networkkey", "networkrootkey", "rootkeysnwkkeykey", "otaanwkkey"),
    "dev_addr": ("deviceaddress", "devaddress", "sessiondevaddr"),
    "nwk_s_key": (
        *("networksessionkey", "nwksessionkey", "netskey", "networkskey"),
        *("fnwksintkey", "sessionkeysfnwksintkeykey", "forwardingnetworksessionintegritykey"),
    ),
    "app_s_key": ("applicationsessionkey", "appsessionkey", "applicationskey", "sessionkeysappskeykey"),
    "s_nwk_s_int_key": ("servingnetworksessionintegritykey", "sessionkeyssnwksintkeykey"),
    "nwk_s_enc_key": ("networksessionencryptionkey", "sessionkeysnwksenckeykey"),
    "name": ("devicename", "label", "title"),
    "description": ("comment", "remark", "remarks", "notes", "note"),
    "profile": ("deviceprofile", "profilename", "deviceprofilename"),
    "codec": ("decoder", "payloadformatter", "formatter", "payloadcodec"),
    "activation": ("activationmode", "activationtype", "otaaabp", "mode"),
    "supports_join": ("otaa", "isotaa", "supportsotaa"),
    "version": ("lorawanversion", "macversion", "lorawanmacversion"),
    "device_class": ("class", "lorawanclass"),
    "supports_class_c": ("classc",),
    "supports_class_b": ("classb",),
    "expected_interval_s": (
        "interval",
        "uplinkinterval",
        "reportinterval",
        "expecteduplinkinterval",
        "period",
    ),
    "channel_id": ("channel",),
    "serial": ("serialnumber", "sernum", "sn", "snr"),
}

FIELD_OF: dict[str, str] = {}
for _field, _names in _OTHER_NAMES.items():
    FIELD_OF[_field.replace("_", "")] = _field
    FIELD_OF.update(dict.fromkeys(_names, _field))

# Columns that exports have and that say nothing we need: not a mistake in the file.
HARMLESS = frozenset(
    {
        *("id", "deviceid", "applicationid", "frequencyplanid", "lorawanphyversion", "phyversion", "brandid"),
        *("modelid", "hardwareversion", "firmwareversion", "bandid", "supports32bitfcnt", "deviceprofileid"),
        *("skipfcntcheck", "isdisabled", "createdat", "updatedat", "lastseenat", "genappkey", "picture"),
        *("vendor", "manufacturer", "model", "product", "type", "qrcode", "pin", "variables", "vendorid"),
        *("vendorprofileid", "macsettingsrx1delay", "no", "nr", "index", "thingid", "lastseen", "battery"),
    }
)

_VERSION = re.compile(r"1[._]([01])(?:[._]([0-9]))?")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "y", "on"}), frozenset({"0", "false", "no", "n", "off", ""})


def plain(name: str) -> str:
    """Letters and digits of a name, small."""
    return "".join(char for char in name.lower() if char.isascii() and char.isalnum())


def field_of(name: str) -> str | None:
    """Our field for somebody's name of it; None where it is none of ours."""
    return FIELD_OF.get(plain(name))


def maybe_version(text: str) -> Version | None:
    """`1.0.3`, `MAC_V1_0_3`, `LoRaWAN 1.0.2 rev B`, `1.1.0`; None for anything else."""
    found = _VERSION.search(text)
    if found is None:
        return None
    if found[1] == "1":
        return Version.V1_1
    try:
        return Version(f"1.0.{found[2] or 0}")
    except ValueError:
        return None


def maybe_class(text: str) -> DeviceClass | None:
    """`A`, `c`, `Class B`, `CLASS_C`; None for anything else."""
    try:
        return DeviceClass(plain(text).removeprefix("class").upper())
    except ValueError:
        return None


def maybe_bool(text: str) -> bool | None:
    """A yes or no as exports write it; empty is no. None for anything else."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


def maybe_interval_s(text: str) -> int | None:
    """Seconds, or a number with s, min, h or d behind it; None for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*(s|sec|m|min|h|d|)\s*", text.lower())
    if found is None:
        return None
    scale = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}[found[2]]
    return int(found[1]) * scale

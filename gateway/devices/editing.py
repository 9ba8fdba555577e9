"""What a person changes of a registered device: only what is given, keys too, which are taken and never shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import msgspec
from msgspec import UNSET, UnsetType

from gateway.devices.fields import KEYS, FieldErrors, Given, read
from gateway.devices.records import Record
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.profile import Profile
from gateway.lorawan.types import AES128Key


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /lorawan/devices/{dev_eui}; what is left out stays. "" of codec: as the profile has it."""

    name: str | UnsetType = UNSET
    profile: str | UnsetType = UNSET
    codec: str | UnsetType = UNSET
    channel_id: str | UnsetType = UNSET
    expected_interval_s: int | UnsetType | None = UNSET  # null: as the profile has it
    description: str | UnsetType = UNSET
    tags: dict[str, str] | UnsetType = UNSET
    join_eui: str | UnsetType = UNSET  # "": any
    app_key: str | UnsetType = UNSET
    nwk_key: str | UnsetType = UNSET
    dev_addr: str | UnsetType = UNSET
    nwk_s_key: str | UnsetType = UNSET
    app_s_key: str | UnsetType = UNSET
    s_nwk_s_int_key: str | UnsetType = UNSET
    nwk_s_enc_key: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "Edit(...)"  # keys are among it


def edited(
    config: DeviceConfig, record: Record, edit: Edit, profiles: Mapping[str, Profile], codecs: Collection[str]
) -> tuple[DeviceConfig, Record, str | None]:
    """The device as it shall be, its record, and its new channel where there is one. Raises FieldErrors."""

    def given(name: str, now: str) -> str:
        value = getattr(edit, name)
        return now if value is UNSET else value

    own_codec = given("codec", config.codec if record.own_codec else "")
    keys = {name: given(name, _hex(getattr(config, name))) for name in KEYS}
    wanted = Given(
        dev_eui=str(config.dev_eui),
        name=given("name", config.name),
        activation=config.activation.value,
        join_eui=given("join_eui", "" if config.join_eui is None else str(config.join_eui)),
        dev_addr=given("dev_addr", "" if config.dev_addr is None else str(config.dev_addr)),
        profile=given("profile", config.profile),
        codec=own_codec,
        expected_interval_s=(
            record.interval_s if edit.expected_interval_s is UNSET else edit.expected_interval_s
        ),
        description=given("description", record.description),
        tags=dict(record.tags) if edit.tags is UNSET else edit.tags,
        app_key=keys["app_key"],
        nwk_key=keys["nwk_key"],
        nwk_s_key=keys["nwk_s_key"],
        app_s_key=keys["app_s_key"],
        s_nwk_s_int_key=keys["s_nwk_s_int_key"],
        nwk_s_enc_key=keys["nwk_s_enc_key"],
    )
    if not wanted.name:
        raise FieldErrors({"name": "a name is needed"})
    asked = read(wanted, profiles, codecs)
    changed = replace(asked.config, thing_id=config.thing_id, channel_id=config.channel_id)
    fresh = replace(
        asked.record,
        registered_ns=record.registered_ns,
        exported_ns=record.exported_ns,
        moved_ns=record.moved_ns,
    )
    channel = None if edit.channel_id is UNSET or not edit.channel_id else edit.channel_id
    return changed, fresh, channel


def _hex(key: AES128Key | None) -> str:
    return "" if key is None else key.value.hex()

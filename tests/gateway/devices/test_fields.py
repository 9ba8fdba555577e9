"""Texts to a configuration: what is missing is named field by field, and habits of other servers are understood."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.devices.fields import FieldErrors, Given, from_row, read
from gateway.devices.names import maybe_class, maybe_interval_s, maybe_version
from gateway.devices.profiles import BUILT_IN
from gateway.lorawan.device import Activation
from gateway.lorawan.profile import DeviceClass, Version
from gateway.lorawan.types import AES128Key, DevEUI

EUI, JOIN, KEY = "a84041035660e3aa", "a840410000000107", "a66a89b6606c1bd125b54e7ca4b10dd4"
CODECS = ("cayenne", "senml", "raw")
OTAA: dict[str, Any] = {"dev_eui": EUI, "join_eui": JOIN, "app_key": KEY, "name": "Shed"}
ABP: dict[str, Any] = {"dev_eui": EUI, "dev_addr": "01020304", "nwk_s_key": KEY, "app_s_key": KEY[::-1]}


def errors(**given: Any) -> dict[str, str]:
    with pytest.raises(FieldErrors) as error:
        read(Given(**given), BUILT_IN, CODECS)
    assert KEY not in str(error.value)
    return error.value.errors


def test_a_device_that_joins() -> None:
    asked = read(Given(**OTAA), BUILT_IN, CODECS)
    config = asked.config
    assert (config.dev_eui, config.activation, config.profile, config.codec) == (
        DevEUI(0xA84041035660E3AA),
        Activation.OTAA,
        "default",
        "cayenne",
    )
    assert config.app_key == AES128Key.parse(KEY)
    assert not asked.record.own_codec
    assert asked.warnings == ()


def test_keys_alone_tell_that_it_is_abp() -> None:
    config = read(Given(**ABP), BUILT_IN, CODECS).config
    assert (config.activation, config.join_eui) == (Activation.ABP, None)


def test_a_device_of_1_1_needs_both_root_keys() -> None:
    assert list(errors(**OTAA, profile="LoRaWAN-1.1-A")) == ["nwk_key"]
    config = read(Given(**OTAA, profile="LoRaWAN-1.1-A", nwk_key=KEY[::-1]), BUILT_IN, CODECS).config
    assert config.nwk_key == AES128Key.parse(KEY[::-1])


def test_a_device_of_1_0_keeps_no_nwk_key_and_says_so() -> None:
    asked = read(Given(**OTAA, nwk_key=KEY[::-1]), BUILT_IN, CODECS)
    assert asked.config.nwk_key is None
    assert "NwkKey is not kept" in asked.warnings[0]


def test_an_abp_device_of_1_1_needs_five_values() -> None:
    assert set(errors(dev_eui=EUI, activation="abp", profile="LoRaWAN-1.1-C")) == {
        *("dev_addr", "nwk_s_key", "s_nwk_s_int_key", "nwk_s_enc_key", "app_s_key")
    }
    config = read(
        Given(**ABP, s_nwk_s_int_key=KEY, nwk_s_enc_key=KEY, profile="LoRaWAN-1.1-C"), BUILT_IN, CODECS
    ).config
    assert config.abp_keys[1]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"dev_eui": ""}, "dev_eui", "DevEUI is missing"),
        ({"dev_eui": "a840"}, "dev_eui", "needs 16 hex digits and has 4"),
        ({"dev_eui": "x" * 16}, "dev_eui", "no hex digit"),
        ({"dev_eui": "0" * 16}, "dev_eui", "all zeros"),
        ({"app_key": KEY[:-1]}, "app_key", "needs 32 hex digits and has 31"),
        ({"app_key": ""}, "app_key", "AppKey is missing"),
        ({"join_eui": "12"}, "join_eui", "JoinEUI needs 16"),
        ({"profile": "morse"}, "profile", "there is no profile 'morse'"),
        ({"codec": "morse"}, "codec", "there are cayenne, raw, senml"),
        ({"activation": "magic"}, "activation", "otaa or abp, not 'magic'"),
        ({"name": "x" * 65}, "name", "64"),
        ({"name": "a\x00b"}, "name", "printable"),
        ({"expected_interval_s": -1}, "expected_interval_s", "0 to"),
        ({"tags": {"": "x"}}, "", "tag"),
    ],
)
def test_each_fault_is_said_beside_its_field(change: dict[str, Any], field: str, words: str) -> None:
    assert words in errors(**(OTAA | change))[field]


def test_all_faults_are_said_at_once() -> None:
    assert set(errors(dev_eui="12", app_key="34", profile="x")) == {"dev_eui", "app_key", "profile"}


def test_what_looks_like_a_mistake_is_a_warning() -> None:
    def warning(known: Any = None, **change: Any) -> str:
        given: dict[str, Any] = {**OTAA, **change}
        return read(Given(**given), BUILT_IN, CODECS, known).warnings[0]

    assert "bytes reversed" in warning({DevEUI.parse(EUI).reversed}.__contains__)
    assert "the same" in warning(join_eui=EUI)
    assert "guess" in warning(app_key="11" * 16)


def test_the_codec_is_the_profiles_unless_it_is_given() -> None:
    profiles = {**BUILT_IN, "default": BUILT_IN["default"]}
    assert read(Given(**OTAA, codec="raw"), profiles, CODECS).record.own_codec


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"version": "MAC_V1_0_2", "supports_class_c": "true"}, {"profile": "LoRaWAN-1.0.2-C"}),
        ({"version": "1.0.4", "device_class": "CLASS_B"}, {"profile": "LoRaWAN-1.0.4-B"}),
        ({"version": "1.1", "nwk_key": KEY}, {"profile": "LoRaWAN-1.1-A", "nwk_key": KEY, "app_key": ""}),
        ({"version": "1.0.3", "nwk_key": KEY}, {"app_key": KEY, "nwk_key": ""}),
        ({"version": "1.0.3", "profile": "meter"}, {"profile": "meter"}),
        ({"supports_join": "false"}, {"activation": "abp"}),
        ({"activation": "OTAA"}, {"activation": "otaa"}),
        ({"expected_interval_s": "15 min"}, {"expected_interval_s": 900}),
        ({"serial": "6136"}, {"name": "6136"}),
        ({"device_class": "C"}, {"profile": "LoRaWAN-1.0.3-C"}),
        ({"device_class": "A"}, {"profile": ""}),
    ],
)
def test_rows_of_other_servers_are_understood(row: dict[str, str], expected: dict[str, Any]) -> None:
    given = from_row({"dev_eui": EUI, **row})
    assert {name: getattr(given, name) for name in expected} == expected


@pytest.mark.parametrize(
    "row", [{"activation": "maybe"}, {"version": "2"}, {"device_class": "Z"}, {"expected_interval_s": "soon"}]
)
def test_words_of_a_row_that_mean_nothing_are_named(row: dict[str, str]) -> None:
    with pytest.raises(FieldErrors):
        from_row({"dev_eui": EUI, **row})


def test_versions_classes_and_intervals_as_people_write_them() -> None:
    assert [maybe_version(text) for text in ("LoRaWAN 1.0.2 rev B", "MAC_V1_1", "1.0", "1.0.9", "x")] == [
        Version.V1_0_2,
        Version.V1_1,
        Version.V1_0_0,
        None,
        None,
    ]
    assert [maybe_class(text) for text in ("c", "Class A", "D", "")] == [
        DeviceClass.C,
        DeviceClass.A,
        None,
        None,
    ]
    assert [maybe_interval_s(text) for text in ("60", "2h", "1 d", "", "-1", "1 week")] == [
        *(60, 7200, 86_400),
        *(None, None, None),
    ]

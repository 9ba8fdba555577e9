"""Profiles: what they take, what they refuse, and that a device without one is treated as before."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import DEFAULT, CounterReset, DeviceClass, DevNonceRule, Profile, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevEUI
from radio.regions import get_region

OTAA = DeviceConfig(dev_eui=DevEUI(0x70B3D57ED0000001), app_key=AES128Key(bytes(16)))
EU868 = get_region("EU868")


def test_dev_nonces_count_from_1_0_4_on() -> None:
    counting = [version for version in Version if version.counter_nonces]
    assert counting == [Version.V1_0_4, Version.V1_1]
    assert [version for version in Version if version.is_1_1] == [Version.V1_1]


def test_the_rule_for_dev_nonces_follows_the_version_unless_it_is_set() -> None:
    assert not Profile("a").rising_nonces
    assert Profile("a", version=Version.V1_0_4).rising_nonces
    assert not Profile("a", version=Version.V1_0_4, dev_nonces=DevNonceRule.ALL).rising_nonces
    assert Profile("a", dev_nonces=DevNonceRule.RISING).rising_nonces


def test_a_counter_may_be_reset_only_where_that_is_allowed() -> None:
    assert not DEFAULT.may_reset_counter
    assert Profile("a", counter_reset=CounterReset.ALLOW).may_reset_counter


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "ä", "a" * 65, "a/b", "a\n"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(name: str) -> None:
    with pytest.raises(OrderError, match="name"):
        Profile(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expected_interval_s": -1}, "expected_interval_s is 0 to"),
        ({"adr_margin_db": float("nan")}, "adr_margin_db is 0 to 40"),
        ({"min_dr": 16}, "min_dr is 0 to 15"),
        ({"min_dr": 5, "max_dr": 2}, "no data rate is left"),
        ({"max_nb_trans": 0}, "max_nb_trans is 1 to 15"),
        ({"abp_rx1_delay_s": 0}, "abp_rx1_delay_s is 1 to 15"),
        ({"abp_rx2_freq_hz": 869}, "abp_rx2_freq_hz"),
        ({"abp_channels_hz": (868_100_000,) * 17}, "at most 16"),
        ({"abp_channels_hz": (1,)}, "a channel of abp_channels_hz"),
        ({"ping_slot_period_s": 3}, "1, 2, 4"),
        ({"version": "1.2"}, "version is one of 1.0.0, 1.0.1"),
        ({"device_class": "D"}, "class is one of A, B, C, not D"),
        ({"dev_nonces": "some"}, "dev_nonces is one of all, rising"),
        ({"region": "eu 868"}, "region"),
        ({"description": "a\nb"}, "description"),
    ],
)
def test_a_value_outside_its_range_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(OrderError, match=words):
        replace(DEFAULT, **change)


def test_a_device_has_the_profile_that_its_registration_names() -> None:
    pump = Profile("pump", device_class=DeviceClass.C)
    server = NetworkServer(EU868, profiles={"pump": pump})
    server.add_device(replace(OTAA, profile="pump"))
    assert server.device_profile(OTAA.dev_eui) is pump


def test_a_device_that_names_no_profile_has_the_default_one() -> None:
    server = NetworkServer(EU868)
    server.add_device(OTAA)
    assert server.device_profile(OTAA.dev_eui) is DEFAULT


def test_a_profile_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OrderError, match="there is no profile 'pump'"):
        NetworkServer(EU868).add_device(replace(OTAA, profile="pump"))


def test_a_changed_profile_reaches_its_devices_at_once() -> None:
    server = NetworkServer(EU868, profiles={"pump": Profile("pump")})
    server.add_device(replace(OTAA, profile="pump"))
    changed = Profile("pump", device_class=DeviceClass.C)
    server.use_profiles({"pump": changed})
    assert server.device_profile(OTAA.dev_eui) is changed


def test_a_profile_that_is_used_cannot_be_taken_away() -> None:
    server = NetworkServer(EU868, profiles={"pump": Profile("pump")})
    server.add_device(replace(OTAA, profile="pump"))
    with pytest.raises(OrderError, match="1 device"):
        server.use_profiles({})

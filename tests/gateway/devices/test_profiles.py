"""The site's profiles: built in and own, kept, changed at once, not removed while somebody has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.devices.profiles import BUILT_IN, MIGRATIONS, ProfileBody, ProfileLibrary, view
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import DEFAULT, DeviceClass, Profile, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevEUI
from hub.log import Write
from radio.regions import get_region

DEVICE = DeviceConfig(dev_eui=DevEUI(1), app_key=AES128Key(bytes(16)), profile="meter")
METER = Profile(
    "meter", Version.V1_0_4, DeviceClass.C, expected_interval_s=3600, abp_channels_hz=(867_100_000,), max_dr=5
)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for migration in MIGRATIONS:
        for statement in migration.statements:
            connection.execute(statement)
    yield connection
    connection.close()


@pytest.fixture
def server() -> NetworkServer:
    return NetworkServer(get_region("EU868"), profiles=BUILT_IN)


def keep(db: sqlite3.Connection, writes: list[Write]) -> None:
    for sql, parameters in writes:
        db.execute(sql, parameters)


def test_each_version_and_class_has_a_built_in_profile() -> None:
    assert BUILT_IN["LoRaWAN-1.1-C"].version is Version.V1_1
    assert BUILT_IN["LoRaWAN-1.0.4-B"].device_class is DeviceClass.B
    assert "LoRaWAN-1.0.2-B" not in BUILT_IN
    assert replace(BUILT_IN["default"], description="") == DEFAULT


def test_a_profile_is_kept_and_read_back(db: sqlite3.Connection, server: NetworkServer) -> None:
    library = ProfileLibrary()
    keep(db, library.put(server, METER))
    assert ProfileLibrary.load(db).get("meter") == METER
    assert server.profiles["meter"] == METER


def test_a_profile_that_cannot_be_read_is_left_out_and_told(
    db: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    for name, body in (("meter", "{"), ("pump", '{"max_dr":99}'), ("door", '{"max_dr":3}')):
        db.execute("INSERT INTO lorawan_profile VALUES (?, ?)", (name, body))
    assert list(ProfileLibrary.load(db).own_profiles) == ["door"]
    assert [record.getMessage().split()[1] for record in caplog.records] == ["meter", "pump"]


def test_a_change_reaches_the_devices_at_once(server: NetworkServer) -> None:
    library = ProfileLibrary()
    library.put(server, METER)
    server.add_device(DEVICE)
    changed = replace(METER, device_class=DeviceClass.A)
    library.put(server, changed)
    assert server.device_profile(DEVICE.dev_eui) == changed


def test_a_profile_that_somebody_has_is_not_removed(db: sqlite3.Connection, server: NetworkServer) -> None:
    library = ProfileLibrary()
    keep(db, library.put(server, METER))
    server.add_device(DEVICE)
    with pytest.raises(OrderError, match="1 device has the profile 'meter'"):
        library.remove(server, "meter")
    assert library.get("meter") == METER
    server.remove_device(DEVICE.dev_eui)
    keep(db, library.remove(server, "meter"))
    assert ProfileLibrary.load(db).get("meter") is None
    with pytest.raises(KeyError):
        library.remove(server, "meter")


def test_built_in_profiles_stay_as_they_are(server: NetworkServer) -> None:
    library = ProfileLibrary()
    with pytest.raises(OrderError, match="built in"):
        library.put(server, replace(METER, name="default"))
    with pytest.raises(OrderError, match="built in"):
        library.remove(server, "default")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (replace(METER, region="US915"), "for US915, and this gateway works in EU868"),
        (replace(METER, max_dr=9), "max_dr 9 is not an uplink data rate of EU868"),
        (replace(METER, abp_rx2_dr=12), "abp_rx2_dr 12 is not a downlink data rate"),
    ],
)
def test_what_the_gateway_cannot_do_is_refused(server: NetworkServer, profile: Profile, words: str) -> None:
    with pytest.raises(OrderError, match=words):
        ProfileLibrary().put(server, profile)
    assert "meter" not in server.profiles


def test_the_view_has_every_field_that_the_body_takes() -> None:
    assert set(view(METER, 0).body) == set(ProfileBody.__struct_fields__)


def test_profiles_that_could_not_be_stored_are_taken_back(server: NetworkServer) -> None:
    library = ProfileLibrary()
    before = library.own_profiles
    library.put(server, METER)
    library.restore(server, before)
    assert library.get("meter") is None
    assert "meter" not in server.profiles

"""What editing a device does to the network server: nothing to a session that works."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.lorawan import store
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.errors import OrderError, UnknownDevice
from gateway.lorawan.outcome import Writes
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from gateway.migrations import MIGRATIONS
from radio.regions import get_region

KEY, OTHER = AES128Key(b"k" * 16), AES128Key(b"o" * 16)
OTAA = DeviceConfig(dev_eui=DevEUI(1), name="shed", join_eui=JoinEUI(2), app_key=KEY)
ABP = DeviceConfig(
    dev_eui=DevEUI(3), activation=Activation.ABP, dev_addr=DevAddr(0x1000001), nwk_s_key=KEY, app_s_key=KEY
)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in MIGRATIONS:
        for statement in migration.statements:
            connection.execute(statement)
    yield connection
    connection.close()


def keep(db: sqlite3.Connection, writes: Writes) -> None:
    for sql, parameters in writes:
        db.execute(sql, parameters)


def test_a_change_holds_once_it_is_applied_and_after_a_restart(db: sqlite3.Connection) -> None:
    server = NetworkServer(get_region("EU868"))
    keep(db, server.add_device(OTAA))
    changed = replace(OTAA, name="barn", app_key=OTHER, codec="raw", join_eui=None, nwk_key=KEY)
    writes, apply = server.change_device(changed)
    assert server.device(1).name == "shed"
    keep(db, writes)
    apply()
    assert server.device(1).name == "barn"
    assert [device.config for device in store.Store().load(db).devices] == [changed]


def test_an_abp_device_keeps_its_session_unless_its_keys_change(db: sqlite3.Connection) -> None:
    server = NetworkServer(get_region("EU868"))
    keep(db, server.add_device(ABP))
    (session,) = server.sessions_of(0x1000001)
    session.fcnt_up = 77
    writes, apply = server.change_device(replace(ABP, name="meter"))
    keep(db, writes)
    apply()
    assert server.sessions_of(0x1000001) == (session,)

    moved = replace(ABP, dev_addr=DevAddr(0x1000002), app_s_key=OTHER)
    writes, apply = server.change_device(moved)
    keep(db, writes)
    apply()
    assert server.sessions_of(0x1000001) == ()
    (fresh,) = server.sessions_of(0x1000002)
    assert fresh.fcnt_up is None
    again = NetworkServer(get_region("EU868"), stored=store.Store().load(db))
    assert len(again.sessions_of(0x1000002)) == 1
    assert again.sessions_of(0x1000001) == ()


def test_a_change_of_a_device_that_was_removed_meanwhile_is_nothing() -> None:
    server = NetworkServer(get_region("EU868"))
    server.add_device(ABP)
    _, apply = server.change_device(replace(ABP, dev_addr=DevAddr(0x1000002)))
    server.remove_device(3)
    apply()
    assert server.sessions_of(0x1000002) == ()


def test_what_cannot_be_changed_is_refused() -> None:
    server = NetworkServer(get_region("EU868"))
    server.add_device(OTAA)
    with pytest.raises(UnknownDevice):
        server.change_device(ABP)
    with pytest.raises(OrderError, match="remove the device"):
        server.change_device(replace(ABP, dev_eui=OTAA.dev_eui))
    with pytest.raises(OrderError, match="no profile"):
        server.change_device(replace(OTAA, profile="pump"))

"""What is on disk: sealed keys, everything a restart needs, nothing of a removed device."""

import asyncio
import random
import sqlite3
from contextlib import closing

import pytest

from gateway.lorawan import groupstore, macstore, orderstore, store
from gateway.lorawan.errors import DeviceExists, OrderError, UnknownDevice
from gateway.lorawan.outcome import Reason, Uplink
from gateway.lorawan.publish import Publisher
from gateway.lorawan.seal import Sealer
from gateway.lorawan.server import NetworkServer
from gateway.migrations import MIGRATIONS
from hub.log import Log


def all_of(keys):
    return keys.f_nwk_s_int, keys.s_nwk_s_int, keys.nwk_s_enc, keys.app_s


def dump(db: sqlite3.Connection) -> str:
    return "\n".join(db.iterdump()).lower()


def test_keys_are_unreadable_at_rest_and_open_again(make_network, node, make_node):
    sealer = Sealer({1: b"k" * 32})
    network = make_network(writer=store.Store(sealer.seal, sealer.unseal))
    abp = make_node(2)
    network.add(abp.abp(0x01000001))
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink())
    text = dump(network.db)
    for key in (node.app_key, *all_of(node.keys), *all_of(abp.keys)):
        assert key.value.hex() not in text
    network.restart()
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert isinstance(network.hear(abp.uplink()), Uplink)


def test_keys_sealed_for_another_gateway_leave_the_device_out_and_say_so(make_network, node):
    network = make_network(writer=store.Store(Sealer({1: b"a" * 32}).seal, Sealer({1: b"a" * 32}).unseal))
    network.add(node.config)
    stored = store.Store(unseal=Sealer({1: b"b" * 32}).unseal).load(network.db)
    assert stored.devices == []
    assert stored.unreadable == [str(node.dev_eui)]


def test_a_device_left_out_can_be_registered_anew(make_network, make_node):
    first, second = make_node(1), make_node(2)
    network = make_network(writer=store.Store(Sealer({1: b"a" * 32}).seal, Sealer({1: b"a" * 32}).unseal))
    for node in (first, second):
        network.add(node.config)
        network.join(node)
        network.hear(node.uplink())
    other = Sealer({1: b"b" * 32})
    network.writer = store.Store(other.seal, other.unseal)
    network.server = NetworkServer(
        network.region, writer=network.writer, stored=network.writer.load(network.db), rng=random.Random(1)
    )
    assert network.server.devices() == []
    network.add(first.config)
    network.join(first)
    assert isinstance(network.hear(first.uplink()), Uplink)


def test_no_key_shows_in_lists_or_reprs(joined):
    network, node = joined
    uplink = network.hear(node.uplink())
    text = repr((network.server.devices(), uplink.device, uplink.device.session, node.config, uplink))
    for key in (node.app_key, *all_of(node.keys)):
        assert key.value.hex() not in text
        assert repr(key.value)[2:-1] not in text


def test_a_restart_brings_back_names_codec_and_last_sight(joined):
    network, node = joined
    before = network.server.device(node.dev_eui)
    network.restart()
    after = network.server.device(node.dev_eui)
    for name in (
        "name",
        "codec",
        "thing_id",
        "channel_id",
        "dev_addr",
        "fcnt_up",
        "uplinks",
        "last_seen_ns",
        "join_eui",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert after.rssi_dbm is None  # radio values are those of this run


def test_a_device_is_registered_once(network, node):
    network.add(node.config)
    with pytest.raises(DeviceExists, match=str(node.dev_eui)):
        network.server.add_device(node.config)


def test_the_number_of_devices_is_bounded(make_network, make_node):
    network = make_network(max_devices=2)
    network.add(make_node(1).config)
    network.add(make_node(2).config)
    with pytest.raises(OrderError, match="no more fit"):
        network.server.add_device(make_node(3).config)


def test_a_removed_device_is_unknown_and_may_be_added_again(joined):
    network, node = joined
    network.commit(network.server.remove_device(node.dev_eui))
    with pytest.raises(UnknownDevice):
        network.server.device(node.dev_eui)
    with pytest.raises(UnknownDevice):
        network.server.remove_device(node.dev_eui)
    network.restart()
    assert network.server.devices() == []
    node.dev_nonce = 0  # a node whose memory was erased: the nonces are forgotten with the device
    network.add(node.config)
    network.join(node)
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_the_hubs_log_takes_the_schema_and_the_writes_and_a_replay_is_refused_after_reopening(
    tmp_path, network, node
):
    path = tmp_path / "log.db"
    server = network.server
    recorded = []

    async def first_life():
        log = Log.open(path, migrations=MIGRATIONS)
        await log.write(server.add_device(node.config))
        joined = network.hear(node.join_request(), commit=False)
        await log.write(joined.writes)
        node.hear_accept(joined.downlink.windows[0].data)
        for number in range(3):
            recorded.append(node.uplink(bytes((number,)), confirmed=number == 1))
            uplink = network.hear(recorded[-1], commit=False)
            made = Publisher(boot="b").messages(uplink)
            if uplink.durable:
                await log.append(made.messages, uplink.writes)
            else:
                log.post(made.messages, uplink.writes)
        await log.write(server.queue_downlink(node.dev_eui, 1, b"on", now=network.now()).writes)
        await log.close()

    asyncio.run(first_life())
    db = sqlite3.connect(path)
    stored = store.Store().load(db)
    db.close()
    network.server = NetworkServer(network.region, stored=stored, rng=random.Random(2))
    assert [network.hear(frame, commit=False).reason for frame in recorded[:1] + recorded[2:]] == [
        Reason.REPLAY
    ] * 2
    assert network.hear(node.uplink(), commit=False).downlink is not None


def test_each_migration_has_a_name_of_its_own_and_single_statements():
    assert len({migration.name for migration in store.MIGRATIONS}) == len(store.MIGRATIONS)
    with closing(sqlite3.connect(":memory:")) as db:
        for migration in store.MIGRATIONS:
            for statement in migration.statements:
                db.execute(statement)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert all(name.startswith("lorawan_") for name in tables)


def test_rows_of_the_first_schema_are_read_after_the_second(make_node):
    """A gateway that has run LoRaWAN 1.0.x only: its devices go on as they were."""
    node = make_node()
    node.abp(0x01000001)
    assert node.keys is not None
    eui = str(node.dev_eui)
    with closing(sqlite3.connect(":memory:")) as db:
        first, *later = store.MIGRATIONS
        for statement in first.statements:
            db.execute(statement)
        db.execute(
            "INSERT INTO lorawan_device VALUES (?, 'abp', 'shed', NULL, NULL, 'raw', 't', 'c', 254, -3)",
            (eui,),
        )
        keys = node.keys.f_nwk_s_int.value, node.keys.app_s.value
        db.execute(
            "INSERT INTO lorawan_session VALUES (7, ?, 0, ?, ?, ?, 1, 0, 0, 64, 2, 1, 0)",
            (eui, 0x01000001, *keys),
        )
        db.execute("INSERT INTO lorawan_uplink VALUES (7, 41, 5, 42)")
        for migration in (
            *later,
            *orderstore.MIGRATIONS,
            *macstore.MIGRATIONS,
            *groupstore.MIGRATIONS,
        ):
            for statement in migration.statements:
                db.execute(statement)
        (device,) = store.Store().load(db).devices
    session = device.session
    assert session is not None
    assert (session.fcnt_up, session.fcnt_down.next, session.mac.tx_power, device.uplinks) == (41, 64, 2, 42)
    assert (session.v1_1, session.keys, session.fcnt_down_app) == (False, node.keys, None)
    assert (device.config.profile, device.config.nwk_key, device.battery) == ("default", None, 254)
    assert (device.rj_count1, device.nonce_restart_ns, device.moved) == (-1, 0, False)

"""A device goes on at another gateway without joining, and the first one leaves it alone."""

from __future__ import annotations

import copy
import dataclasses
import json
import random

import msgspec
import pytest

from gateway.lorawan import transfer
from gateway.lorawan.errors import DeviceExists, OrderError
from gateway.lorawan.outcome import Joined, Reason, Uplink
from gateway.lorawan.profile import Profile, Version

THERE = {"thing_id": "thing", "channel_id": "channel"}


def taken(network, value, **how):
    writes, apply = network.server.import_session(value, **{**THERE, **how})
    network.commit(writes)
    apply()


def over_the_wire(exported):
    """As a file holds it."""
    return transfer.read(json.loads(json.dumps(exported.plain())))


@pytest.fixture(params=["1.0", "1.1", "ABP", "ABP 1.1"])
def device(request, node, node_1_1):
    """A device and its registration."""
    chosen = node_1_1 if "1.1" in request.param else node
    return chosen, chosen.abp(0x01000001) if "ABP" in request.param else chosen.config


@pytest.fixture
def moved(make_network, device):
    """Two gateways; the device worked at the first and was moved to the second."""
    node, config = device
    first, second = make_network(), make_network()
    second.mono_ns = first.mono_ns
    first.add(config)
    if config.app_key is not None:
        first.join(node)
    for _ in range(70):
        first.hear(node.uplink(confirmed=True))
        node.hear(first.hear(node.uplink(confirmed=True)).downlink)
    exported = first.server.export_session(node.dev_eui)
    first.commit(first.server.move_away(node.dev_eui, first.now()).writes)
    taken(second, over_the_wire(exported))
    return first, second, node


def test_the_second_gateway_goes_on_where_the_first_was(moved):
    _, second, node = moved
    replayed = node.uplink()
    uplink = second.hear(replayed)
    assert isinstance(uplink, Uplink)
    assert (uplink.fcnt, uplink.device.config.thing_id, uplink.device.uplinks) == (140, "thing", 141)
    for order in (b"on", b"off"):
        second.queue(node, order)
        down = second.hear(node.uplink(confirmed=True)).downlink
        assert node.hear(down)[1] == order  # under counters above all that the first has used
        second.sent(down)
    second.restart()
    assert second.hear(replayed).reason is Reason.REPLAY
    assert isinstance(second.hear(node.uplink()), Uplink)


def test_the_first_gateway_answers_no_more(moved):
    first, _, node = moved
    for _ in range(2):
        refused = first.hear(node.uplink(confirmed=True))
        assert refused.reason is Reason.MOVED_AWAY
        assert refused.downlink is None
        assert (refused.dev_eui, refused.writes) == (node.dev_eui, [])
        first.restart()
    if first.server.registered(node.dev_eui).config.app_key is not None:
        assert first.hear(node.join_request()).reason is Reason.MOVED_AWAY


def test_it_may_come_back_with_all_that_happened_meanwhile(moved):
    first, second, node = moved
    for _ in range(5):
        node.hear(second.hear(node.uplink(confirmed=True)).downlink)
    recorded = node.uplink()
    second.hear(recorded)
    exported = second.server.export_session(node.dev_eui)
    second.commit(second.server.move_away(node.dev_eui, second.now()).writes)
    taken(first, over_the_wire(exported))
    assert first.hear(recorded).reason is Reason.REPLAY
    node.hear(first.hear(node.uplink(confirmed=True)).downlink)
    assert second.hear(node.uplink()).reason is Reason.MOVED_AWAY
    first.restart()
    assert isinstance(first.hear(node.uplink()), Uplink)


def test_a_move_can_be_taken_back_and_no_counter_is_used_twice(moved):
    first, _, node = moved
    first.commit(first.server.take_back(node.dev_eui))
    node.hear(first.hear(node.uplink(confirmed=True)).downlink)
    first.restart()
    node.hear(first.hear(node.uplink(confirmed=True)).downlink)
    assert first.server.take_back(node.dev_eui) == []


def test_joins_go_on_with_nonces_that_were_never_used(joined_1_1, make_network):
    first, node = joined_1_1
    for _ in range(5):
        first.join(node)
    first.hear(node.uplink())
    asked = first.hear(node.rejoin_request(1))
    old = node.rejoin_request(1)
    first.hear(old)
    assert isinstance(asked, Joined)
    second = make_network()
    taken(second, over_the_wire(first.server.export_session(node.dev_eui)))
    second.restart()
    for nonce in range(6):
        replayed = copy.copy(node)
        replayed.dev_nonce = nonce
        assert second.hear(replayed.join_request()).reason is Reason.DEV_NONCE_USED
    assert second.hear(old).reason is Reason.REJOIN_COUNT_USED
    second.join(node)  # its JoinNonce is above all that the device has seen
    assert isinstance(second.hear(node.uplink()), Uplink)


def test_what_was_settled_by_mac_commands_moves_along(joined, make_network):
    first, node = joined
    session = first.server.registered(node.dev_eui).session
    session.mac.tx_power, session.rx2_dr, session.rx2_freq_hz = 3, 4, 869_000_000
    second = make_network()
    taken(second, over_the_wire(first.server.export_session(node.dev_eui)))
    for _ in range(2):
        session = second.server.registered(node.dev_eui).session
        assert (session.mac.tx_power, session.rx2_dr, session.rx2_freq_hz) == (3, 4, 869_000_000)
        second.restart()


def test_waiting_downlinks_fail_with_words_when_their_device_moves(joined):
    network, node = joined
    network.queue(node, b"on")
    due = network.server.move_away(node.dev_eui, network.now())
    network.commit(due.writes)
    (receipt,) = due.receipts
    assert "moved to another gateway" in receipt.reason
    assert network.server.move_away(node.dev_eui, network.now()).writes == []
    network.restart()
    assert not network.server.registered(node.dev_eui).orders


def test_a_device_is_served_at_one_place(joined, make_network):
    network, node = joined
    exported = network.server.export_session(node.dev_eui)
    with pytest.raises(DeviceExists, match="served here already"):
        network.server.import_session(exported, **THERE)
    with pytest.raises(OrderError, match="this gateway is one of US915"):
        make_network("US915").server.import_session(exported, **THERE)
    with pytest.raises(OrderError, match="there is no profile"):
        make_network().server.import_session(msgspec.structs.replace(exported, profile="mine"), **THERE)
    other = make_network(profiles=(Profile("ours", version=Version.V1_0_4),))
    taken(other, exported, profile="ours")
    assert other.server.device_profile(node.dev_eui).name == "ours"
    assert isinstance(other.hear(node.uplink()), Uplink)
    with pytest.raises(OrderError, match="no more fit"):
        make_network(max_devices=0).server.import_session(exported, **THERE)


def test_no_key_shows_in_its_words_and_all_are_in_it(joined_1_1):
    network, node = joined_1_1
    exported = network.server.export_session(node.dev_eui)
    keys = [
        node.app_key,
        node.nwk_key,
        *(getattr(node.keys, each.name) for each in dataclasses.fields(node.keys)),
    ]
    plain = json.dumps(exported.plain())
    for key in keys:
        assert key.value.hex() in plain
        assert key.value.hex() not in repr(exported) + str(exported)


def test_damaged_values_raise_nothing_but_order_error(joined_1_1, make_network):
    network, node = joined_1_1
    plain = network.server.export_session(node.dev_eui).plain()
    network = make_network()
    secrets = {plain["app_key"], plain["nwk_key"], plain["session"]["app_s_key"]}
    rng = random.Random(3)
    wrong = [None, -1, 1 << 70, 1.5, "", "zz", [], {}, True, "00" * 16, "00" * 15 + "é"]
    refused = []
    for _ in range(3000):
        value = copy.deepcopy(plain)
        for _ in range(rng.randrange(1, 3)):
            inside = (
                value["session"] if rng.random() < 0.5 and isinstance(value.get("session"), dict) else value
            )
            name = rng.choice([*inside, "else"])
            if rng.random() < 0.3:
                inside.pop(name, None)
            else:
                inside[name] = rng.choice(wrong)
        try:
            read = transfer.read(value)
            network.server.import_session(read, **THERE)
        except OrderError as error:
            refused.append(str(error))
    assert len(refused) > 1500
    assert not any(secret in words for secret in secrets for words in refused)
    for value in (None, [], "text", 5):
        with pytest.raises(OrderError, match="all of it is wrong"):
            transfer.read(value)

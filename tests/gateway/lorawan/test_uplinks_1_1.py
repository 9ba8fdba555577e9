"""Data frames of LoRaWAN 1.1: acknowledged counters, channels in codes, two downlink counters, repetitions."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.lorawan.frames import build_uplink
from gateway.lorawan.outcome import Reason, Rejected, Uplink
from gateway.lorawan.profile import CounterReset, Profile
from gateway.lorawan.uplinking import CONFIRMED_REPEATS


def test_an_acknowledgement_is_signed_with_the_counter_it_is_for(joined_1_1):
    network, node = joined_1_1
    for text in (b"one", b"two"):
        order = network.queue(node, text, confirmed=True)
        down = network.hear(node.uplink()).downlink
        frame, clear = node.hear(down)
        network.sent(down)
        assert (frame.confirmed, clear) == (True, text)
        uplink = network.hear(node.uplink(ack=True))
        assert uplink.acked == order


def test_an_acknowledgement_for_another_downlink_does_not_verify(joined_1_1):
    network, node = joined_1_1
    network.queue(node, b"one", confirmed=True)
    down = network.hear(node.uplink()).downlink
    node.hear(down)
    network.sent(down)
    refused = network.hear(node.uplink(ack=True, conf_fcnt=node.confirmed_down + 1))
    assert isinstance(refused, Rejected)
    assert len(network.server.registered(node.dev_eui).orders) == 1


def test_after_a_restart_the_acknowledged_counter_is_found_again(joined_1_1):
    network, node = joined_1_1
    network.queue(node, b"one", confirmed=True)
    down = network.hear(node.uplink()).downlink
    node.hear(down)
    network.sent(down)
    network.restart()
    uplink = network.hear(node.uplink(ack=True))
    assert isinstance(uplink, Uplink)


def test_the_channel_and_data_rate_are_part_of_the_code(joined_1_1):
    network, node = joined_1_1
    assert isinstance(network.hear(node.uplink(tx_ch=1, tx_dr=5), freq_hz=868_300_000), Uplink)
    assert isinstance(network.hear(node.uplink(tx_ch=2, tx_dr=3), freq_hz=868_500_000, sf=9), Uplink)
    moved = node.uplink(tx_ch=0, tx_dr=5)  # sent on 868.1 MHz, and replayed on another channel or data rate
    for radio in ({"freq_hz": 868_300_000}, {"sf": 8}, {"freq_hz": 867_900_000}, {"bw_hz": 500_000}):
        refused = network.hear(moved, **radio)
        assert refused.reason is Reason.UNKNOWN_CHANNEL
        assert "numbers its channels otherwise" in refused.detail
        assert refused.writes == []
    assert isinstance(network.hear(moved), Uplink)
    forged = bytearray(node.uplink())
    forged[-1] ^= 1
    assert network.hear(bytes(forged)).reason is Reason.BAD_MIC


def test_a_channel_that_was_added_is_known_by_its_number(make_network, node_1_1):
    network, node = make_network(cflist_hz=(867_100_000, 867_300_000)), node_1_1
    network.add(node.config)
    network.join(node)
    assert isinstance(network.hear(node.uplink(tx_ch=4), freq_hz=867_300_000), Uplink)
    network.restart()
    assert isinstance(network.hear(node.uplink(tx_ch=3), freq_hz=867_100_000), Uplink)


def test_two_counters_count_downlinks(joined_1_1):
    network, node = joined_1_1
    for number in range(100):
        if number % 3 == 0:
            network.queue(node, b"on")
        uplink = network.hear(node.uplink(confirmed=True, fopts=b"\x02"))
        frame, clear = node.hear(uplink.downlink)  # refuses a counter that does not rise
        assert frame.ack
        assert clear == (b"on" if number % 3 == 0 else b"")
        assert frame.fopts[0] == 2
        network.sent(uplink.downlink)
        if number % 30 == 29:
            network.restart()
    assert node.fcnt_down != node.fcnt_down_app


def test_commands_on_port_0_are_under_the_network_key_and_publish_nothing(joined_1_1):
    network, node = joined_1_1
    uplink = network.hear(node.uplink(b"\x02", fport=0))
    assert (uplink.payload, uplink.fport) == (b"", 0)
    assert [type(command).__name__ for command in node.commands(uplink.downlink)] == ["LinkCheckAns"]


def test_fopts_of_a_1_1_session_are_encrypted_on_the_air(joined_1_1):
    network, node = joined_1_1
    phy = node.uplink(fopts=b"\x02")
    assert phy[8:9] != b"\x02"
    down = network.hear(phy).downlink
    assert down.windows[0].data[8:11] != b"\x02"


def test_a_repetition_on_another_channel_is_acknowledged_again_and_not_taken_again(joined_1_1):
    network, node = joined_1_1
    args = {"fport": 1, "payload": b"x", "confirmed": True}
    frames = [
        build_uplink(node.crypto, node.dev_addr, node.fcnt_up, tx_dr=5, tx_ch=channel, **args)
        for channel in range(3)
    ]
    assert len(set(frames)) == 3
    hz = (868_100_000, 868_300_000, 868_500_000)
    assert isinstance(network.hear(frames[0], freq_hz=hz[0]), Uplink)
    node.fcnt_up += 1
    answers = []
    for number in range(1, CONFIRMED_REPEATS + 3):
        repeated = network.hear(frames[number % 3], freq_hz=hz[number % 3])
        assert isinstance(repeated, Rejected)
        answers.append(repeated.downlink is not None)
        if repeated.downlink:
            assert node.hear(repeated.downlink)[0].ack
    assert answers == [True] * CONFIRMED_REPEATS + [False] * 2
    assert repeated.reason is Reason.REPLAY


def test_nothing_is_accepted_twice(joined_1_1):
    network, node = joined_1_1
    recorded = [node.uplink(bytes((number,))) for number in range(40)]
    assert all(isinstance(network.hear(phy), Uplink) for phy in recorded)
    network.restart()
    for phy in recorded:
        assert isinstance(network.hear(phy), Rejected)


def test_an_abp_device_of_1_1_has_four_keys(network, node_1_1):
    network.add(node_1_1.abp(0x01000001))
    for _ in range(3):
        uplink = network.hear(node_1_1.uplink(confirmed=True, fopts=b"\x01\x01"))  # ResetInd
        frame, _ = node_1_1.hear(uplink.downlink)
        assert frame.fopts[:2] == b"\x01\x01"  # ResetConf, version 1
        network.restart()
    assert network.server.registered(node_1_1.dev_eui).session.v1_1


def test_rekey_ind_is_answered(network, node_1_1):
    network.add(node_1_1.config)
    network.join(node_1_1)
    uplink = network.hear(node_1_1.uplink(fopts=b"\x0b\x01"))
    assert node_1_1.hear(uplink.downlink)[0].fopts[:2] == b"\x0b\x01"


# Counters that begin anew, and roll over


@pytest.fixture
def forgetful(make_network, node):
    """An ABP device that keeps no counter over a power cut, and a network that puts up with it."""
    network = make_network(profiles=(Profile("forgetful", counter_reset=CounterReset.ALLOW),))
    network.add(dataclasses.replace(node.abp(0x01000001), profile="forgetful"))
    for _ in range(20):
        network.hear(node.uplink())
    return network, node


def test_a_counter_may_begin_anew_where_the_profile_says_so(forgetful):
    network, node = forgetful
    network.server.registered(node.dev_eui).session.mac.tx_power = 4
    node.fcnt_up = 0
    uplink = network.hear(node.uplink(b"again"), after_s=60)
    assert (uplink.fcnt, uplink.payload, uplink.before) == (0, b"again", 19)
    assert "counts its frames anew, at 0 after 19" in uplink.notes[0]
    session = network.server.registered(node.dev_eui).session
    assert (session.fcnt_up, session.mac.tx_power) == (0, 0)
    network.restart()
    assert network.hear(node.uplink()).fcnt == 1
    network.server.registered(node.dev_eui).session.fcnt_up = 70_000  # beyond the 16 bits of the air
    node.fcnt_up = 3
    assert network.hear(node.uplink(), after_s=60).fcnt == 3


def test_a_late_copy_is_no_counter_that_begins_anew(forgetful):
    network, node = forgetful
    late, last = node.uplink(), node.uplink()
    network.hear(last)
    assert network.hear(last, after_s=0.2).reason is Reason.DUPLICATE
    assert network.hear(late, after_s=3).reason is Reason.REPLAY
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_downlink_counters_go_on_where_the_uplinks_begin_anew(forgetful):
    network, node = forgetful
    before = node.hear(network.hear(node.uplink(confirmed=True)).downlink)
    node.fcnt_up = 0
    after = node.hear(network.hear(node.uplink(confirmed=True), after_s=60).downlink)
    assert after[0].fcnt == before[0].fcnt + 1


def test_elsewhere_a_counter_that_begins_anew_is_refused_and_named(network, node):
    network.add(node.abp(0x01000001))
    for _ in range(20):
        network.hear(node.uplink())
    node.fcnt_up = 0
    reasons = [network.hear(node.uplink(), after_s=60).reason for _ in range(4)]
    assert reasons == [Reason.REPLAY, *[Reason.COUNTER_RESET] * 3]
    assert "counts its frames anew (FCnt 3 after 19)" in network.server.device(node.dev_eui).problem
    node.fcnt_up = 20
    assert isinstance(network.hear(node.uplink()), Uplink)


@pytest.mark.parametrize("kind", ["1.0", "1.1"])
def test_counters_of_32_bits_roll_over_their_16_bits_both_ways(network, node, node_1_1, kind):
    device = node if kind == "1.0" else node_1_1
    network.add(device.abp(0x01000001))
    device.fcnt_up = 65_530
    for counter in (
        (session := network.server.registered(device.dev_eui).session).fcnt_down,
        session.fcnt_down_app,
    ):
        if counter is not None:
            counter.next = counter.ceiling = 65_530
    device.fcnt_down = device.fcnt_down_app = 65_529
    for number in range(12):
        if number % 2:
            network.queue(device, b"on")
        uplink = network.hear(device.uplink(confirmed=True))
        assert uplink.fcnt == 65_530 + number
        device.hear(uplink.downlink)
        network.sent(uplink.downlink)
        if number == 6:
            network.restart()
    assert max(device.fcnt_down, device.fcnt_down_app or 0) > 65_535

"""Joining and rejoining by LoRaWAN 1.1, the fallbacks between versions, and nonces that only rise."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from gateway.lorawan import frames, store
from gateway.lorawan.device import MAX_PENDING_SESSIONS
from gateway.lorawan.outcome import Joined, Reason, Uplink
from gateway.lorawan.profile import DevNonceRule, Profile, Version
from gateway.lorawan.seal import Sealer
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI

HOUR = 3600 * 10**9


def session_of(network, node):
    return network.server.registered(node.dev_eui).session


def test_a_1_1_device_joins_with_two_root_keys(network, node_1_1):
    node = node_1_1
    network.add(node.config)
    joined = network.hear(node.join_request())
    assert isinstance(joined, Joined)
    assert joined.notes == ()
    accept = node.hear_accept(joined.downlink.windows[0].data)
    assert accept.opt_neg
    uplink = network.hear(node.uplink(b"hello", fopts=b"\x02"))
    assert (uplink.payload, uplink.fcnt) == (b"hello", 0)
    assert [type(command).__name__ for command in node.commands(uplink.downlink)] == ["LinkCheckAns"]
    session = session_of(network, node)
    assert session.v1_1
    assert session.keys == node.keys
    assert len({session.keys.f_nwk_s_int, session.keys.s_nwk_s_int, session.keys.nwk_s_enc}) == 3


def test_the_old_session_lives_until_the_first_uplink_of_the_new_one(joined_1_1):
    network, node = joined_1_1
    before = node.crypto, node.dev_addr, node.fcnt_up
    join = network.hear(node.join_request())
    node.hear_accept(join.downlink.windows[0].data)
    after = node.crypto, node.dev_addr, node.fcnt_up
    node.crypto, node.dev_addr, node.fcnt_up = before
    assert isinstance(network.hear(node.uplink()), Uplink)
    node.crypto, node.dev_addr, node.fcnt_up = after
    assert isinstance(network.hear(node.uplink()), Uplink)
    node.crypto, node.dev_addr, node.fcnt_up = before
    node.fcnt_up += 5
    assert network.hear(node.uplink()).reason is Reason.UNKNOWN_DEV_ADDR


def test_everything_survives_a_restart(make_network, node_1_1):
    sealer = Sealer({1: b"k" * 32})
    network = make_network(writer=store.Store(sealer.seal, sealer.unseal))
    node = node_1_1
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink(confirmed=True))
    text = "\n".join(network.db.iterdump()).lower()
    keys = node.keys
    for key in (node.app_key, node.nwk_key, keys.f_nwk_s_int, keys.s_nwk_s_int, keys.nwk_s_enc, keys.app_s):
        assert key.value.hex() not in text
    network.restart()
    session = session_of(network, node)
    assert (session.v1_1, session.keys, session.fcnt_up, session.join_eui) == (True, keys, 0, node.join_eui)
    assert network.server.registered(node.dev_eui).config == node.config
    uplink = network.hear(node.uplink(confirmed=True))
    frame, _ = node.hear(uplink.downlink)  # under counters that were never used
    assert frame.ack
    assert network.hear(frames.build_join_request(node.nwk_key, node.join_eui, node.dev_eui, 0)).reason is (
        Reason.DEV_NONCE_USED
    )


def test_no_key_shows_in_any_words(joined_1_1):
    network, node = joined_1_1
    uplink = network.hear(node.uplink())
    question = network.hear(node.join_request())
    text = repr((uplink, question, uplink.device, uplink.device.session, node.config, node.keys))
    text += str(node.nwk_key) + f"{node.nwk_key}"
    keys = node.keys
    for key in (node.app_key, node.nwk_key, keys.f_nwk_s_int, keys.s_nwk_s_int, keys.nwk_s_enc, keys.app_s):
        assert key.value.hex() not in text
        assert repr(key.value)[2:-1] not in text


# Versions that do not fit


def test_a_1_0_device_registered_as_1_1_gets_a_1_0_session_and_words(network, node, node_1_1):
    config = dataclasses.replace(node.config, nwk_key=node_1_1.nwk_key, profile="v1.1")
    network.add(config)
    joined = network.hear(node.join_request())
    accept = node.hear_accept(joined.downlink.windows[0].data)
    assert not accept.opt_neg
    (note,) = joined.notes
    assert "signs with its AppKey" in note
    assert network.server.device(node.dev_eui).problem == note
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert not session_of(network, node).v1_1


def test_such_a_device_may_draw_its_nonces(network, node, node_1_1):
    network.add(dataclasses.replace(node.config, nwk_key=node_1_1.nwk_key, profile="v1.1"))
    for nonce in (500, 20, 7000):
        node.dev_nonce = nonce
        network.join(node)


def test_a_1_1_device_registered_as_1_0_with_its_nwk_key_falls_back(network, node_1_1):
    node = node_1_1
    network.add(dataclasses.replace(node.config, profile="default"))
    joined = network.hear(node.join_request())
    accept = node.hear_accept(joined.downlink.windows[0].data)
    assert not accept.opt_neg
    assert "choose a profile of version 1.1" in joined.notes[0]
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert not session_of(network, node).v1_1


def test_a_1_1_device_whose_nwk_key_was_entered_as_app_key_falls_back(network, node_1_1):
    node = node_1_1
    network.add(dataclasses.replace(node.config, nwk_key=None, app_key=node.nwk_key))
    joined = network.hear(node.join_request())
    assert "without a NwkKey" in joined.notes[0]
    assert not node.hear_accept(joined.downlink.windows[0].data).opt_neg
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_with_one_key_for_both_a_1_0_device_is_answered_in_its_way_after_two_tries(network, node):
    network.add(dataclasses.replace(node.config, nwk_key=node.app_key, profile="v1.1"))
    opened = []
    for _ in range(3):
        joined = network.hear(node.join_request())
        try:
            opened.append(node.hear_accept(joined.downlink.windows[0].data))
        except frames.FrameError:
            opened.append(None)
    assert opened[:2] == [None, None]
    assert opened[2] is not None
    assert "choose a 1.0.x profile" in joined.notes[0]
    assert isinstance(network.hear(node.uplink()), Uplink)


@pytest.mark.parametrize(("profile", "words"), [("v1.1", "wrong NwkKey"), ("default", "wrong AppKey")])
def test_a_wrong_key_is_named(network, node_1_1, profile, words):
    node = node_1_1
    network.add(dataclasses.replace(node.config, profile=profile))
    node.nwk_key = AES128Key(bytes(16))
    refused = network.hear(node.join_request())
    assert refused.reason is Reason.BAD_MIC
    assert words in refused.detail


# DevNonces


@pytest.fixture
def rising(make_network, node):
    """A 1.0.4 device, whose nonces count."""
    network = make_network(profiles=(Profile("v1.0.4", version=Version.V1_0_4),))
    network.add(dataclasses.replace(node.config, profile="v1.0.4"))
    return network


def test_a_nonce_that_counts_must_rise(rising, node):
    node.dev_nonce = 10
    rising.join(node)
    node.dev_nonce = 12
    rising.join(node)
    for nonce, words in ((11, "not above the last one, 12"), (12, "was used before"), (0, "not above")):
        node.dev_nonce = nonce
        refused = rising.hear(node.join_request())
        assert refused.reason is Reason.DEV_NONCE_USED
        assert words in refused.detail
    rising.restart()
    node.dev_nonce = 11
    assert rising.hear(node.join_request()).reason is Reason.DEV_NONCE_USED
    node.dev_nonce = 13
    rising.join(node)


def test_the_profile_may_say_otherwise(make_network, node):
    drawn = Profile("drawn", version=Version.V1_0_4, dev_nonces=DevNonceRule.ALL)
    network = make_network(profiles=(drawn,))
    network.add(dataclasses.replace(node.config, profile="drawn"))
    for nonce in (10, 5, 65_535, 0):
        node.dev_nonce = nonce
        network.join(node)
    node.dev_nonce = 5
    assert network.hear(node.join_request()).reason is Reason.DEV_NONCE_USED


@pytest.mark.parametrize("profile", ["v1.0.4", "default"])
def test_a_technician_may_let_the_nonces_begin_anew_for_a_while(rising, node, make_node, profile):
    other = make_node(2)
    rising.add(other.config)
    rising.join(other)
    network = rising
    network.commit(network.server.remove_device(node.dev_eui))
    network.add(dataclasses.replace(node.config, profile=profile))
    for _ in range(5):
        network.join(node)
    node.dev_nonce = 0
    assert network.hear(node.join_request()).reason is Reason.DEV_NONCE_USED
    network.commit(network.server.allow_nonce_restart(node.dev_eui, network.now().wall_ns + HOUR))
    network.restart()  # the leave is stored
    node.dev_nonce = 0
    joined = network.hear(node.join_request())
    assert "begin anew" in joined.notes[0]
    node.hear_accept(joined.downlink.windows[0].data)
    network.join(node)
    other.dev_nonce = 0  # leave was given to one device
    assert network.hear(other.join_request()).reason is Reason.DEV_NONCE_USED
    network.restart()
    node.dev_nonce = 1
    assert isinstance(network.hear(node.join_request(), after_s=1), Joined)  # within the hour still
    node.dev_nonce = 1
    assert network.hear(node.join_request(), after_s=5000).reason is Reason.DEV_NONCE_USED
    node.dev_nonce = 2
    assert isinstance(network.hear(node.join_request()), Joined)


def test_leave_that_is_past_is_no_leave(rising, node):
    rising.join(node)
    rising.commit(rising.server.allow_nonce_restart(node.dev_eui, rising.now().wall_ns))
    node.dev_nonce = 0
    assert rising.hear(node.join_request()).reason is Reason.DEV_NONCE_USED


def test_all_nonces_of_a_device_fit_into_8_kib(rising, node):
    nonces = rising.server.registered(node.dev_eui).dev_nonces
    for nonce in range(65_536):
        nonces.add(nonce)
    assert sum(len(page) for _, page in nonces.pages()) == 8192
    assert nonces.highest == 65_535
    assert rising.hear(node.join_request()).reason is Reason.DEV_NONCE_USED


def test_join_nonces_rise_and_are_written_before_the_answer_leaves(joined_1_1):
    network, node = joined_1_1
    seen = [node.last_join_nonce]
    for _ in range(200):
        joined = network.hear(node.join_request())
        assert joined.downlink.after_commit
        seen.append(node.hear_accept(joined.downlink.windows[0].data).join_nonce)
        if len(seen) % 20 == 0:
            network.restart()
    assert seen == sorted(set(seen))


# Rejoin-requests


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_rejoin_request_opens_a_new_session_beside_the_old_one(joined_1_1, kind):
    network, node = joined_1_1
    old = node.crypto, node.dev_addr, node.fcnt_up
    rejoined = network.hear(node.rejoin_request(kind))
    assert isinstance(rejoined, Joined)
    assert (rejoined.rejoin, rejoined.dev_nonce) == (kind, 0)
    assert (rejoined.downlink.windows[0].tmst - rejoined.rx.tmst) % 2**32 == 5_000_000
    assert rejoined.downlink.after_commit
    accept = node.hear_accept(rejoined.downlink.windows[0].data, kind)
    assert accept.opt_neg
    new = node.crypto, node.dev_addr, node.fcnt_up
    node.crypto, node.dev_addr, node.fcnt_up = old
    assert isinstance(network.hear(node.uplink()), Uplink)  # the device has not heard the answer yet
    node.crypto, node.dev_addr, node.fcnt_up = new
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert session_of(network, node).keys == node.keys
    network.restart()
    assert isinstance(network.hear(node.uplink()), Uplink)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_repeated_rejoin_request_is_refused_for_ever(joined_1_1, kind):
    network, node = joined_1_1
    first = node.rejoin_request(kind)
    assert isinstance(network.hear(first), Joined)
    assert network.hear(first, after_s=0.1).reason is Reason.DUPLICATE
    refused = network.hear(first)
    assert refused.reason is Reason.REJOIN_COUNT_USED
    assert refused.writes == []
    network.restart()
    assert network.hear(first).reason is Reason.REJOIN_COUNT_USED
    assert isinstance(network.hear(node.rejoin_request(kind)), Joined)
    assert network.hear(first).reason is Reason.REJOIN_COUNT_USED
    assert isinstance(network.hear(node.uplink()), Uplink)  # the live session has not suffered


def test_rj_count1_outlives_sessions_and_rj_count0_begins_anew_in_each(joined_1_1):
    network, node = joined_1_1
    old = node.rejoin_request(1)
    network.hear(old)
    for _ in range(3):
        node.hear_accept(network.hear(node.rejoin_request(0)).downlink.windows[0].data, 0)
        assert node.rj_count0 == 0
        network.hear(node.uplink())
    network.restart()
    assert network.hear(old).reason is Reason.REJOIN_COUNT_USED


def test_a_rejoin_request_in_a_session_no_uplink_was_sent_in_is_its_first_sign(joined_1_1):
    network, node = joined_1_1
    node.hear_accept(network.hear(node.rejoin_request(0)).downlink.windows[0].data, 0)
    pending_keys = node.keys
    assert session_of(network, node).keys != pending_keys
    again = network.hear(node.rejoin_request(0))
    assert isinstance(again, Joined)
    assert session_of(network, node).keys == pending_keys
    node.hear_accept(again.downlink.windows[0].data, 0)
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_type_2_keeps_the_radio_settings_and_type_0_resets_them(joined_1_1):
    network, node = joined_1_1
    for kind, kept in ((2, 3), (0, 0)):
        session = session_of(network, node)
        session.mac.tx_power, session.rx2_dr, session.rx1_delay_s = 3, 4, 7
        accept = node.hear_accept(network.hear(node.rejoin_request(kind)).downlink.windows[0].data, kind)
        assert (accept.rx2_dr, accept.rx_delay_s) == ((4, 7) if kept else (0, 1))
        network.hear(node.uplink())
        network.restart()
        session = session_of(network, node)
        assert (session.mac.tx_power, session.rx2_dr, session.rx1_delay_s) == (
            kept,
            accept.rx2_dr,
            accept.rx_delay_s,
        )


def test_what_is_wrong_with_a_rejoin_request_is_said(network, node, node_1_1):
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink())
    in_1_0 = SimpleNamespace(dev_eui=node.dev_eui, key=AES128Key(bytes(16)))
    asked = frames.build_rejoin_request(in_1_0.key, 0, in_1_0.dev_eui, 0, net_id=0)
    refused = network.hear(asked)
    assert (refused.reason, "no LoRaWAN 1.1 session" in refused.detail) == (Reason.NOT_JOINED, True)
    asked = frames.build_rejoin_request(in_1_0.key, 1, in_1_0.dev_eui, 0, join_eui=node.join_eui)
    assert network.hear(asked).reason is Reason.NOT_JOINED
    stranger = frames.build_rejoin_request(in_1_0.key, 0, DevEUI(5), 0, net_id=0)
    assert network.hear(stranger).reason is Reason.UNKNOWN_DEV_EUI

    network.add(node_1_1.config)
    network.join(node_1_1)
    network.hear(node_1_1.uplink())
    refused = network.hear(node_1_1.rejoin_request(0, net_id=0x13))
    assert (refused.reason, "network 000013" in refused.detail) == (Reason.NOT_JOINED, True)
    for kind, home in ((0, {"net_id": 0}), (1, {"join_eui": node_1_1.join_eui}), (2, {"net_id": 0})):
        forged = frames.build_rejoin_request(in_1_0.key, kind, node_1_1.dev_eui, 9, **home)
        assert network.hear(forged).reason is Reason.BAD_MIC
    elsewhere = frames.build_rejoin_request(node_1_1.js_int_key, 1, node_1_1.dev_eui, 9, join_eui=JoinEUI(1))
    assert network.hear(elsewhere).reason is Reason.JOIN_EUI_MISMATCH
    assert isinstance(network.hear(node_1_1.rejoin_request(1)), Joined)  # the forged counts were not taken


def test_rejoining_for_ever_keeps_a_few_sessions_only(joined_1_1):
    network, node = joined_1_1
    for _ in range(30):
        network.hear(node.rejoin_request(1))
    device = network.server.registered(node.dev_eui)
    assert len(device.pending) == MAX_PENDING_SESSIONS
    assert network.db.execute("SELECT count(*) FROM lorawan_session").fetchone() == (
        MAX_PENDING_SESSIONS + 1,
    )
    assert isinstance(network.hear(node.uplink()), Uplink)

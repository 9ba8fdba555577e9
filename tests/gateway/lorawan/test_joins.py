"""Joining: what is granted, what is refused in which words, and what a replayed join-request cannot do."""

import collections
import random

from gateway.lorawan import frames
from gateway.lorawan.device import MAX_PENDING_SESSIONS
from gateway.lorawan.outcome import Joined, Reason, Rejected, Uplink
from gateway.lorawan.registry import sessions_of
from gateway.lorawan.types import AES128Key, DevEUI, NetID


def test_a_registered_device_joins_and_its_first_uplink_is_taken(network, node):
    network.add(node.config)
    joined = network.hear(node.join_request())
    assert isinstance(joined, Joined)
    assert joined.downlink.after_commit
    accept = node.hear_accept(joined.downlink.windows[0].data)
    assert NetID(0).owns(accept.dev_addr)
    assert (accept.rx_delay_s, accept.rx1_dr_offset, accept.rx2_dr) == (1, 0, network.region.rx2[1])
    uplink = network.hear(node.uplink(b"hello"))
    assert isinstance(uplink, Uplink)
    assert (uplink.payload, uplink.fcnt, uplink.fport) == (b"hello", 0, 1)
    assert network.server.counters.joins == 1


def test_the_join_accept_leaves_five_and_six_seconds_after_the_request(network, node):
    network.add(node.config)
    joined = network.hear(node.join_request(), sf=9, freq_hz=868_300_000)
    rx1, rx2 = joined.downlink.windows[0], joined.downlink.windows[-1]
    assert (rx1.tmst - joined.rx.tmst) % 2**32 == 5_000_000
    assert (rx1.freq_hz, rx1.modulation.datr) == (868_300_000, "SF9BW125")
    assert (rx2.tmst - joined.rx.tmst) % 2**32 == 6_000_000
    assert (rx2.freq_hz, rx2.modulation.datr) == (869_525_000, "SF12BW125")
    assert rx1.data == rx2.data
    assert rx1.ipol
    assert rx1.ncrc
    assert not rx1.imme


def test_the_accept_carries_the_settings(make_network, node):
    network = make_network(rx1_delay_s=5, rx1_dr_offset=2, rx2_dr=3, cflist_hz=(867_100_000,))
    network.add(node.config)
    accept = network.join(node)
    assert (accept.rx_delay_s, accept.rx1_dr_offset, accept.rx2_dr) == (5, 2, 3)
    assert accept.cflist[:3] == bytes.fromhex("184f84")
    uplink = network.hear(node.uplink(confirmed=True), sf=7)
    assert (uplink.downlink.windows[0].tmst - uplink.rx.tmst) % 2**32 == 5_000_000
    assert uplink.downlink.windows[0].modulation.sf == 9
    assert uplink.downlink.windows[-1].modulation.sf == 9


def test_in_us915_the_accept_masks_channels_and_answers_in_the_500_khz_band(make_network, node):
    network = make_network("US915", uplink_channels=(*range(8, 16), 65))
    network.add(node.config)
    joined = network.hear(node.join_request(), sf=10, freq_hz=903_900_000)  # channel 8
    assert (
        node.hear_accept(joined.downlink.windows[0].data).cflist.hex()
        == "00ff" + 3 * "0000" + "0200" + 5 * "00" + "01"
    )
    rx1, rx2 = joined.downlink.windows[0], joined.downlink.windows[-1]
    assert (rx1.freq_hz, rx1.modulation.datr) == (923_300_000, "SF10BW500")  # downlink channel 8 mod 8
    assert (rx2.freq_hz, rx2.modulation.datr) == (923_300_000, "SF12BW500")


def test_an_unknown_device_is_refused_and_leaves_no_trace(network, node):
    outcome = network.hear(node.join_request())
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.UNKNOWN_DEV_EUI
    assert str(node.dev_eui) in outcome.detail
    assert outcome.writes == []
    assert network.server.devices() == []
    assert network.server.counters.rejected[Reason.UNKNOWN_DEV_EUI] == 1


def test_a_byte_reversed_dev_eui_is_recognised(network, node, make_node):
    network.add(node.config)
    turned = make_node(node.dev_eui.reversed)
    outcome = network.hear(turned.join_request())
    assert outcome.reason is Reason.UNKNOWN_DEV_EUI
    assert "reversed" in outcome.detail
    assert str(node.dev_eui) in outcome.detail


def test_a_wrong_join_eui_is_refused_with_a_hint(network, node):
    network.add(node.config)
    node.join_eui = node.join_eui.reversed
    outcome = network.hear(node.join_request())
    assert outcome.reason is Reason.JOIN_EUI_MISMATCH
    assert "reversed" in outcome.detail


def test_a_wrong_app_key_is_named_and_not_shown(network, node):
    network.add(node.config)
    right, node.app_key = node.app_key, AES128Key(bytes(16))
    outcome = network.hear(node.join_request())
    assert outcome.reason is Reason.BAD_MIC
    assert outcome.detail == f"wrong AppKey: the join-request of {node.dev_eui} does not verify"
    assert right.value.hex() not in repr(outcome)
    assert network.server.device(node.dev_eui).problem == outcome.detail
    node.app_key = right
    network.join(node)
    assert network.server.device(node.dev_eui).problem == ""


def test_an_abp_device_that_asks_to_join_is_told_so(network, node):
    network.add(node.abp(0x01000001))
    assert network.hear(node.join_request()).reason is Reason.NOT_OTAA


def test_a_used_dev_nonce_is_refused_for_ever(joined):
    network, node = joined
    node.dev_nonce = 0
    outcome = network.hear(node.join_request())
    assert outcome.reason is Reason.DEV_NONCE_USED
    assert outcome.detail.startswith("DevNonce 0 was used before")
    network.restart()
    node.dev_nonce = 0
    assert network.hear(node.join_request()).reason is Reason.DEV_NONCE_USED


def test_a_join_request_heard_by_two_gateways_is_one_join(network, node):
    network.add(node.config)
    request = node.join_request()
    assert isinstance(network.hear(request), Joined)
    assert network.hear(request, after_s=0.02).reason is Reason.DUPLICATE
    assert network.hear(request, after_s=2).reason is Reason.DEV_NONCE_USED


def test_a_replayed_join_request_does_not_end_the_live_session(network, node):
    network.add(node.config)
    held_back = node.join_request()  # taken down by an attacker while the gateway could not hear it
    network.join(node)
    network.hear(node.uplink())
    assert isinstance(network.hear(held_back), Joined)  # nothing tells it from a late one
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert network.server.counters.uplinks == 2


def test_a_join_request_held_back_before_the_first_uplink_does_no_harm_either(network, node):
    network.add(node.config)
    held_back = node.join_request()
    network.join(node)
    network.hear(held_back)
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_a_lost_accept_leaves_the_old_session_alive_until_the_new_one_speaks(joined):
    network, node = joined
    old = node.uplink(b"old")
    old_later = node.uplink(b"old, later")
    assert isinstance(network.hear(node.join_request()), Joined)  # the accept is lost
    assert network.hear(old).payload == b"old"
    network.join(node)
    assert network.hear(node.uplink(b"new")).payload == b"new"
    outcome = network.hear(old_later)
    assert outcome.reason is Reason.UNKNOWN_DEV_ADDR


def test_sessions_waiting_for_their_first_uplink_are_bounded(network, node):
    network.add(node.config)
    for _ in range(50):
        assert isinstance(network.hear(node.join_request()), Joined)
    assert network.db.execute("SELECT count(*) FROM lorawan_session").fetchone() == (4,)
    network.join(node)
    assert isinstance(network.hear(node.uplink()), Uplink)
    assert network.db.execute("SELECT count(*) FROM lorawan_session").fetchone() == (1,)


def test_join_nonces_rise_across_restarts_removal_and_lost_writes(network, node):
    network.add(node.config)
    network.join(node)
    for _ in range(3):
        network.restart()
        network.join(node)
    network.commit(network.server.remove_device(node.dev_eui))
    network.add(node.config)
    network.join(node)  # Node checks that each JoinNonce is higher than the last


def test_a_flood_of_unknown_devices_keeps_nothing(network, make_node):
    rng = random.Random(5)
    for _ in range(500):
        network.hear(make_node(rng.getrandbits(64)).join_request(), after_s=0.001)
        assert network.server.devices() == []
    assert network.server.counters.rejected[Reason.UNKNOWN_DEV_EUI] == 500
    assert network.db.total_changes == 0


def test_an_address_is_random_and_inside_the_private_network(network, make_node):
    addresses = set()
    for number in range(20):
        node = make_node(number + 1)
        network.add(node.config)
        addresses.add(network.join(node).dev_addr)
    assert len(addresses) == 20
    assert all(NetID(0).owns(address) for address in addresses)


def test_no_window_in_the_plan_is_reported_instead_of_an_answer(network, node):
    network.add(node.config)
    joined = network.hear(node.join_request(), freq_hz=870_500_000)  # outside every sub-band: RX2 is left
    assert joined.downlink.windows[0].freq_hz == network.region.rx2[0]


def test_proprietary_frames_are_counted_apart(network):
    assert network.hear(b"\xe0" + bytes(18)).reason is Reason.UNSUPPORTED


def test_another_gateways_join_accept_is_not_an_uplink(network, node):
    accept = frames.JoinAccept(1, NetID(0), frames.DevAddr(1), 0, 0, 1)
    assert network.hear(frames.build_join_accept(node.app_key, accept)).reason is Reason.NOT_AN_UPLINK


def containers_of(server):
    """The length of everything in the server that can grow, by where it hangs."""
    lengths, seen, todo = {}, set(), [("server", server)]
    while todo:
        path, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, (dict, list, set, bytearray, collections.deque)):
            lengths[path] = len(thing)
        if isinstance(thing, dict):
            todo += [(f"{path}[{key}]", value) for key, value in thing.items()]
        elif isinstance(thing, (list, tuple, set, collections.deque)):
            todo += [(f"{path}[{place}]", value) for place, value in enumerate(thing)]
        elif type(thing).__module__.startswith("gateway."):
            names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            names += getattr(thing, "__dict__", {})
            todo += [(f"{path}.{name}", getattr(thing, name, None)) for name in names]
    return lengths


def test_a_flood_of_joins_from_unknown_devices_costs_no_memory(joined, make_node):
    network, node = joined
    stranger = make_node(0x1122334455667788)
    refused = network.server.counters.rejected[Reason.UNKNOWN_DEV_EUI]
    before = containers_of(network.server)
    assert len(network.server.every_device()) == 1
    app_key = stranger.app_key
    for number in range(20_000):
        request = frames.build_join_request(app_key, stranger.join_eui, DevEUI(number + 1), number & 0xFFFF)
        outcome = network.server.handle(network.rx(request), bytes(8), network.now())
        assert outcome.reason is Reason.UNKNOWN_DEV_EUI
        assert outcome.writes == []
    assert containers_of(network.server) == before
    assert network.server.counters.rejected[Reason.UNKNOWN_DEV_EUI] == refused + 20_000
    assert isinstance(network.hear(node.uplink()), Uplink)


def test_a_registered_device_that_joins_for_ever_keeps_a_few_sessions_only(network, node):
    network.add(node.config)
    for _ in range(1000):
        network.join(node)
    sizes = containers_of(network.server)
    pages = {path: size for path, size in sizes.items() if "dev_nonces" in path}
    assert sum(pages.values()) <= 256 * 32 + 256
    used = network.server.registered(node.dev_eui).dev_nonces
    assert sum(page.bit_count() for page in (int.from_bytes(p) for _, p in used.pages())) == 1000
    assert len(list(sessions_of(network.server.registered(node.dev_eui)))) == MAX_PENDING_SESSIONS
    assert max(size for path, size in sizes.items() if path not in pages) <= max(
        MAX_PENDING_SESSIONS, len(Reason)
    )


def test_a_flood_of_data_frames_from_strangers_costs_no_memory(joined, make_node):
    network, node = joined
    stranger = make_node(0x1122334455667788)
    before = containers_of(network.server)
    for number in range(2000):
        stranger.abp(0x02000000 + number)
        outcome = network.server.handle(network.rx(stranger.uplink()), bytes(8), network.now())
        assert outcome.reason is Reason.UNKNOWN_DEV_ADDR
    assert containers_of(network.server) == before
    assert isinstance(network.hear(node.uplink()), Uplink)

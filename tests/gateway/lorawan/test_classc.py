"""Class C: orders leave without an uplink, but never into the windows that follow one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gateway.lorawan.profile import DeviceClass, Profile
from radio.gwmp import TxError

SIREN = Profile("siren", device_class=DeviceClass.C, class_c_timeout_s=10, max_downlink_attempts=3)


@pytest.fixture
def siren(make_network, node):
    """A network and a device of class C that was heard ten minutes ago."""
    network = make_network()
    network.server.use_profiles({"siren": SIREN})
    network.add(replace(node.config, profile="siren"))
    network.join(node)
    network.hear(node.uplink())
    network.wait(600)
    return network, node


def test_an_order_leaves_at_once_in_rx2_through_the_gateway_that_heard_the_device(siren):
    network, node = siren
    order = network.queue(node, b"wail", 10)
    ((after_s, downlink),) = network.wait(5)
    assert after_s == 0
    assert (downlink.id, downlink.klass, downlink.gateway.hex()) == (order, "C", "aa555a0000000101")
    (packet,) = downlink.windows
    assert (packet.imme, packet.tmst, packet.tmms) == (True, None, None)
    assert (packet.freq_hz, packet.modulation.sf, packet.powe_dbm) == (869_525_000, 12, 16)
    frame, clear = node.hear(downlink)
    assert (frame.fport, clear, frame.ack, frame.fpending) == (10, b"wail", False, False)
    (receipt,) = network.sent(downlink).receipts
    assert (receipt.state, receipt.window, receipt.attempt) == ("sent", "RXC", 1)
    assert network.wait(60) == []


def test_a_queue_is_drained_one_by_one_without_uplinks(siren):
    network, node = siren
    orders = [network.queue(node, bytes((number,))) for number in range(5)]
    heard = []
    while left := network.wait(1):
        ((_, downlink),) = left
        heard.append(downlink.id)
        node.hear(downlink)
        network.sent(downlink)
    assert heard == orders
    assert network.db.execute("SELECT count(*) FROM lorawan_downlink").fetchone() == (0,)


def test_after_an_uplink_the_order_goes_into_its_windows_as_long_as_there_is_time(siren):
    network, node = siren
    uplink = network.hear(node.uplink())
    assert uplink.downlink is None
    network.mono_ns += 800_000_000
    order = network.queue(node)
    ((after_s, downlink),) = network.wait(5)
    assert (after_s, downlink.id, downlink.names) == (0, order, ("RX1", "RX2"))
    assert [(packet.tmst - uplink.rx.tmst) % 2**32 for packet in downlink.windows] == [1_000_000, 2_000_000]
    assert downlink.gateway.hex() == "aa555a0000000101", "the one whose counter it is"
    network.sent(downlink)
    network.queue(node)
    ((after_s, downlink),) = network.wait(5)
    assert downlink.windows[0].imme, "one answer to an uplink"


def test_later_it_waits_until_the_device_is_back_on_rx2(siren):
    network, node = siren
    assert network.hear(node.uplink()).downlink is None
    network.mono_ns += 801_000_000
    network.queue(node)
    ((after_s, downlink),) = network.wait(5)
    assert after_s == pytest.approx(1.3 - 0.801), "RxDelay, and the time until the device is back on RX2"
    assert downlink.windows[0].imme


def test_after_an_answer_rx2_of_class_a_is_left_free_too(siren):
    network, node = siren
    assert network.hear(node.uplink(confirmed=True)).downlink is not None
    network.queue(node)
    ((after_s, _),) = network.wait(5)
    assert after_s == pytest.approx(2.3)


def test_the_hold_follows_the_rx_delay_of_the_session(make_network, node):
    network = make_network(rx1_delay_s=5)
    network.server.use_profiles({"siren": SIREN})
    network.add(replace(node.config, profile="siren"))
    network.join(node)
    assert network.hear(node.uplink()).downlink is None
    network.mono_ns += 4_900_000_000
    network.queue(node)
    ((after_s, _),) = network.wait(20)
    assert after_s == pytest.approx(0.4)


def test_an_order_that_waits_when_the_device_sends_goes_into_the_answer(siren):
    network, node = siren
    network.hear(node.uplink())
    network.mono_ns += 900_000_000
    order = network.queue(node)
    uplink = network.hear(node.uplink(), after_s=0.1)
    assert (uplink.downlink.id, uplink.downlink.klass, len(uplink.downlink.windows)) == (order, "A", 2)
    assert network.wait(5) == [], "it is on its way"


def test_a_busy_radio_is_asked_again_after_longer_and_longer_pauses(siren):
    network, node = siren
    network.queue(node)
    told = []
    for _ in range(5):
        ((_, downlink),) = network.wait(120, 1)
        told += network.failed(downlink, TxError.COLLISION_PACKET).receipts
    assert [(receipt.state, "duty cycle" in receipt.reason) for receipt in told] == [("queued", True)], (
        "said once"
    )
    ((_, downlink),) = network.wait(120, 1)
    assert downlink.windows[0].imme
    assert network.sent(downlink).receipts[0].attempt == 1, "refusals are no attempts"


def test_pauses_double_from_a_quarter_second_to_a_minute(siren):
    network, node = siren
    network.queue(node)
    pauses = []
    ((_, downlink),) = network.wait(0)
    for _ in range(11):
        network.failed(downlink, TxError.COLLISION_PACKET)
        ((after_s, downlink),) = network.wait(100, 1)
        pauses.append(after_s)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_the_radio_can_never_send_fails_in_its_words(siren):
    network, node = siren
    order = network.queue(node)
    receipts = []
    for _ in range(3):
        ((_, downlink),) = network.wait(30, 1)
        receipts += network.failed(downlink, TxError.TX_FREQ).receipts
    assert (receipts[-1].order_id, receipts[-1].state) == (order, "failed")
    assert "may not send on that frequency" in receipts[-1].reason
    assert network.wait(600) == []


def test_after_a_refusal_the_next_gateway_that_heard_the_device_is_tried(siren):
    network, node = siren
    device = network.server.registered(node.dev_eui)
    near, far = b"near-eui", b"far--eui"
    device.gateways = (near, far)
    network.queue(node)
    ((_, downlink),) = network.wait(1)
    assert downlink.gateway == near
    network.failed(downlink, TxError.COLLISION_PACKET)
    ((_, downlink),) = network.wait(1)
    assert downlink.gateway == far


def test_windows_of_an_uplink_are_for_the_gateway_that_heard_it_whoever_has_refused_before(siren):
    network, node = siren
    device = network.server.registered(node.dev_eui)
    device.gateways = (b"near-eui", b"far--eui")
    network.queue(node)
    ((_, downlink),) = network.wait(1)
    network.hear(node.uplink(), after_s=1)
    network.failed(downlink, TxError.COLLISION_PACKET)
    ((_, downlink),) = network.wait(0.5)
    assert (downlink.names[0], downlink.gateway.hex()) == ("RX1", "aa555a0000000101")


def test_a_confirmed_order_is_repeated_after_the_time_out_and_given_up(siren):
    network, node = siren
    order = network.queue(node, confirmed=True)
    left = []
    for _ in range(3):
        ((after_s, downlink),) = network.wait(11)
        left.append(after_s)
        frame, _ = node.hear(downlink)
        assert frame.confirmed
        network.sent(downlink)
    assert network.wait(11) == []
    (receipt,) = network.receipts
    assert (receipt.order_id, receipt.state, receipt.attempt) == (order, "failed", 3)
    assert receipt.reason.startswith("never acknowledged, sent 3 times")
    assert left[0] == 0


def test_an_uplink_without_an_ack_does_not_cut_the_time_out_short(siren):
    network, node = siren
    order = network.queue(node, confirmed=True)
    ((_, downlink),) = network.wait(1)
    network.sent(downlink)
    crossing = network.hear(node.uplink(), after_s=1)
    assert crossing.downlink is None
    uplink = network.hear(node.uplink(ack=True), after_s=3)
    assert uplink.acked == order
    assert [receipt.state for receipt in uplink.receipts] == ["acknowledged"]
    assert network.wait(60) == []


def test_after_a_restart_what_waits_leaves_and_what_was_sent_may_still_be_acknowledged(siren):
    network, node = siren
    confirmed = network.queue(node, confirmed=True)
    ((_, downlink),) = network.wait(1)
    network.sent(downlink)
    waiting = network.queue(node, b"later")
    network.restart()
    network.server.use_profiles({"siren": SIREN})
    uplink = network.hear(node.uplink(ack=True), after_s=0.5)
    assert uplink.acked == confirmed
    left = [downlink.id for _, downlink in network.wait(10)]
    assert left + ([uplink.downlink.id] if uplink.downlink else []) == [waiting]


def test_an_order_too_long_for_rx2_waits_for_an_uplink_and_holds_up_none(siren):
    network, node = siren
    long, short = network.queue(node, bytes(100)), network.queue(node, b"s")
    ((_, downlink),) = network.wait(60)
    assert downlink.id == short
    network.sent(downlink)
    assert network.hear(node.uplink(), sf=7).downlink.id == long


def test_a_device_of_class_a_is_sent_nothing_unasked(joined):
    network, node = joined
    network.queue(node)
    assert network.wait(86_400) == []


def test_a_device_that_becomes_one_of_class_c_is_sent_what_waits(joined):
    network, node = joined
    order = network.queue(node)
    assert network.wait(60) == []
    device = network.server.registered(node.dev_eui)
    network.server.use_profiles({"siren": SIREN})
    _, apply = network.server.change_device(replace(device.config, profile="siren"))
    apply()
    ((_, downlink),) = network.wait(1)
    assert (downlink.id, downlink.klass) == (order, "C")


def test_an_order_past_its_time_is_not_sent_when_the_radio_is_free_again(siren):
    network, node = siren
    order = network.queue(node, ttl_s=2)
    ((_, downlink),) = network.wait(1)
    network.failed(downlink, TxError.COLLISION_PACKET)
    ((_, downlink),) = network.wait(0.5)
    network.mono_ns += 3 * 10**9
    (receipt,) = network.failed(downlink, TxError.COLLISION_PACKET).receipts
    assert (receipt.order_id, receipt.state, receipt.reason[:7]) == (order, "failed", "expired")
    assert network.wait(60) == []


def test_whatever_happens_no_counter_is_used_twice_and_every_order_ends_once(siren):
    """Orders, uplinks, refusals, time-outs and restarts in any order, some thousand of them."""
    network, node = siren
    rng = random.Random(7)
    ended: dict[str, str] = {}
    counters: set[int] = set()
    orders: set[str] = set()
    acks = False

    def note(receipts):
        for receipt in receipts:
            if receipt.state in ("acknowledged", "failed") or (
                receipt.state == "sent" and not kinds[receipt.order_id]
            ):
                assert receipt.order_id not in ended
                ended[receipt.order_id] = receipt.state

    kinds: dict[str, bool] = {}
    for _ in range(1500):
        match rng.randrange(10):
            case 0 | 1 | 2 if network.server.device(node.dev_eui).queued < 16:
                confirmed = rng.random() < 0.4
                ttl_s = rng.choice((None, 5, 60))
                order = network.queue(node, bytes(rng.randrange(40)), confirmed=confirmed, ttl_s=ttl_s)
                orders.add(order)
                kinds[order] = confirmed
            case 3 | 4:
                outcome = network.hear(node.uplink(ack=acks), after_s=rng.random() * 4)
                acks = False
                note(outcome.receipts)
                if outcome.downlink is not None:
                    assert outcome.downlink.fcnt not in counters
                    counters.add(outcome.downlink.fcnt)
                    if rng.random() < 0.8:
                        note(network.sent(outcome.downlink).receipts)
                        acks = outcome.downlink.confirmed and rng.random() < 0.7
                    else:
                        note(network.failed(outcome.downlink).receipts)
            case 5 if rng.random() < 0.1:
                network.restart()
                network.server.use_profiles({"siren": SIREN})
            case _:
                for _, downlink in network.wait(rng.random() * 5):
                    assert downlink.fcnt not in counters
                    counters.add(downlink.fcnt)
                    if rng.random() < 0.7:
                        note(network.sent(downlink).receipts)
                        acks = acks or (downlink.confirmed and rng.random() < 0.7)
                    else:
                        note(network.failed(downlink, TxError.COLLISION_PACKET).receipts)
                note(network.receipts)
    for _ in range(200):
        for _, downlink in network.wait(100):
            note(network.sent(downlink).receipts)
        note(network.receipts)
    assert set(ended) == orders
    assert set(ended.values()) == {"sent", "acknowledged", "failed"}

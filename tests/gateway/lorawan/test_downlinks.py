"""Orders: queued, sent once or until acknowledged, given up in words."""

import pytest

from gateway.lorawan.errors import OrderError, QueueFull, UnknownDevice
from gateway.lorawan.types import DevEUI


def queue(network, node, payload=b"on", **how):
    return network.queue(node, payload, **how)


def test_an_order_leaves_with_the_next_uplink_in_both_windows(joined):
    network, node = joined
    order = queue(network, node, b"\x01\x02", fport=10)
    uplink = network.hear(node.uplink(), sf=8)
    assert uplink.downlink.id == order
    assert not uplink.downlink.after_commit
    frame, clear = node.hear(uplink.downlink)
    assert (frame.fport, clear, frame.confirmed, frame.fpending) == (10, b"\x01\x02", False, False)
    assert [packet.modulation.sf for packet in uplink.downlink.windows] == [8, 12]
    network.sent(uplink.downlink)
    assert network.hear(node.uplink()).downlink is None
    assert network.db.execute("SELECT count(*) FROM lorawan_downlink").fetchone() == (0,)
    assert network.server.counters.downlinks_sent == 1


def test_orders_leave_one_by_one_in_their_order_with_fpending(joined):
    network, node = joined
    for payload in (b"a", b"b", b"c"):
        queue(network, node, payload)
    heard = []
    for _ in range(3):
        uplink = network.hear(node.uplink())
        frame, clear = node.hear(uplink.downlink)
        heard.append((clear, frame.fpending))
        network.sent(uplink.downlink)
    assert heard == [(b"a", True), (b"b", True), (b"c", False)]


def test_orders_survive_a_restart_in_their_order(joined):
    network, node = joined
    first, second = queue(network, node, b"a"), queue(network, node, b"b")
    network.restart()
    third = queue(network, node, b"c")
    sent = []
    for _ in range(3):
        downlink = network.hear(node.uplink()).downlink
        sent.append(downlink.id)
        network.sent(downlink)
    assert sent == [first, second, third]


def test_a_refused_order_waits_for_the_next_uplink_and_is_given_up_after_eight(joined):
    network, node = joined
    order = queue(network, node)
    for _ in range(8):
        uplink = network.hear(node.uplink())
        assert uplink.downlink.id == order
        network.failed(uplink.downlink)
    assert "TOO_LATE" in network.server.device(node.dev_eui).problem
    assert network.hear(node.uplink()).downlink is None
    assert network.server.counters.orders_dropped == 1
    assert network.server.counters.downlinks_failed == 8


def test_an_unconfirmed_order_nobody_reported_on_counts_as_sent(joined):
    network, node = joined
    queue(network, node)
    assert network.hear(node.uplink()).downlink is not None
    assert network.hear(node.uplink(), after_s=20).downlink is None
    assert network.server.device(node.dev_eui).queued == 1
    uplink = network.hear(node.uplink(), after_s=20)
    assert [(receipt.state, receipt.reason) for receipt in uplink.receipts] == [
        ("sent", "no gateway has told whether it was sent")
    ]
    assert network.server.device(node.dev_eui).queued == 0


def test_a_confirmed_order_is_repeated_under_new_counters_until_acknowledged(joined):
    network, node = joined
    order = queue(network, node, confirmed=True)
    for _ in range(3):
        uplink = network.hear(node.uplink())
        assert uplink.downlink.id == order
        assert uplink.downlink.confirmed
        frame, clear = node.hear(uplink.downlink)
        assert frame.confirmed
        assert clear == b"on"
        network.sent(uplink.downlink)
    uplink = network.hear(node.uplink(ack=True))
    assert uplink.acked == order
    assert uplink.downlink is None
    assert network.server.counters.orders_acked == 1
    network.restart()
    assert network.server.device(node.dev_eui).queued == 0


def test_a_confirmed_order_is_given_up_after_eight_times_and_the_next_one_leaves(joined):
    network, node = joined
    first, second = queue(network, node, confirmed=True), queue(network, node, b"next")
    for _ in range(8):
        uplink = network.hear(node.uplink())
        assert uplink.downlink.id == first
        network.sent(uplink.downlink)
    uplink = network.hear(node.uplink())
    assert any("never acknowledged" in note for note in uplink.notes)
    assert uplink.downlink.id == second


def test_an_ack_without_an_order_means_nothing(joined):
    network, node = joined
    queue(network, node, confirmed=True)
    uplink = network.hear(node.uplink(ack=True))
    assert uplink.acked is None
    assert uplink.downlink is not None


def test_an_order_rides_on_the_ack_of_a_confirmed_uplink(joined):
    network, node = joined
    order = queue(network, node)
    uplink = network.hear(node.uplink(confirmed=True))
    frame, clear = node.hear(uplink.downlink)
    assert frame.ack
    assert clear == b"on"
    assert (uplink.downlink.id, uplink.downlink.after_commit) == (order, True)


def test_an_order_too_long_for_both_windows_waits_for_a_faster_uplink(joined):
    network, node = joined
    order = queue(network, node, bytes(100))
    uplink = network.hear(node.uplink(), sf=12)
    assert uplink.downlink is None
    assert any("waits" in note for note in uplink.notes)
    uplink = network.hear(node.uplink(), sf=7)
    assert uplink.downlink.id == order
    assert [packet.modulation.sf for packet in uplink.downlink.windows] == [7]  # RX2 at SF12 takes 51 bytes


def test_the_ack_leaves_without_an_order_that_does_not_fit(joined):
    network, node = joined
    queue(network, node, bytes(100))
    uplink = network.hear(node.uplink(confirmed=True), sf=12)
    frame, clear = node.hear(uplink.downlink)
    assert frame.ack
    assert clear == b""
    assert frame.fpending


@pytest.mark.parametrize(
    ("fport", "payload"),
    [(0, b"x"), (224, b"x"), (-1, b"x"), (1, bytes(243))],
    ids=["MAC", "test", "negative", "long"],
)
def test_an_order_that_can_never_be_sent_is_refused(joined, fport, payload):
    network, node = joined
    with pytest.raises(OrderError):
        network.queue(node, payload, fport)


def test_the_queue_of_a_device_is_bounded(joined):
    network, node = joined
    for _ in range(network.settings.max_downlinks):
        queue(network, node)
    with pytest.raises(QueueFull, match=str(network.settings.max_downlinks)):
        queue(network, node)


def test_orders_for_nobody_are_refused(network):
    with pytest.raises(UnknownDevice):
        network.server.queue_downlink(DevEUI(1), 1, b"x", now=network.now())


def test_the_order_of_a_removed_device_is_gone(joined):
    network, node = joined
    queue(network, node)
    downlink = network.hear(node.uplink()).downlink
    network.commit(network.server.remove_device(node.dev_eui))
    assert not network.sent(downlink)
    assert not network.failed(downlink)
    for table in ("device", "session", "uplink", "dev_nonce", "downlink", "receipt"):
        assert network.db.execute(f"SELECT count(*) FROM lorawan_{table}").fetchone() == (0,), table


def test_power_stays_below_the_limit_of_the_sub_band(make_network, node):
    network = make_network(max_eirp_dbm=30)
    network.add(node.config)
    joined = network.hear(node.join_request())
    assert [packet.powe_dbm for packet in joined.downlink.windows] == [
        16,  # 868.0 to 868.6: 25 mW ERP
        29,  # 869.4 to 869.65: 500 mW ERP
    ]

"""The queue of a device as a state machine: order, expiry, length, cancelling, restarts; a receipt for each change."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from gateway.lorawan import orderstore
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError, QueueFull
from gateway.lorawan.orders import MAX_TOO_LONG
from gateway.lorawan.outcome import OrderFate, Receipt
from gateway.lorawan.profile import Profile
from gateway.lorawan.receipts import message, pack
from gateway.lorawan.types import DevEUI
from hub import senml
from hub.message import SENML_JSON, TimeQuality
from radio.gwmp import TxError

NOW = Instant(5, 1_764_000_000_500_000_000, TimeQuality.NTP)


def states(receipts):
    return [(receipt.order_id, receipt.state.value) for receipt in receipts]


# As messages


def test_a_receipt_is_a_senml_pack_on_the_devices_channel():
    receipt = Receipt("o-1", DevEUI(9), OrderFate.SENT, "", NOW, "RX2", 7, b"\x02" * 8, 1)
    told = message(
        *(receipt,), topic="0000000000000009", base_name="urn:dev:mac:0000000000000009:", thing_id="t", channel_id="c",
        boot="b",
    )  # fmt: skip
    assert (told.subtopic, told.content_type, told.protocol) == (
        "0000000000000009.downlinks",
        SENML_JSON,
        "lora",
    )
    records = {
        record.name.removeprefix("urn:dev:mac:0000000000000009:"): (record.string_value, record.value)
        for record in senml.decode(SENML_JSON, told.payload, 0)
    }
    assert records == {
        "downlink": ("sent", None),
        "downlink_id": ("o-1", None),
        "downlink_window": ("RX2", None),
        "downlink_gateway": ("02" * 8, None),
        "downlink_fcnt": (None, 7),
    }
    assert all(record.time == 1_764_000_000.5 for record in senml.decode(SENML_JSON, told.payload, 0))


def test_a_clock_that_is_not_set_leaves_the_time_out():
    unset = Instant(5, 100, TimeQuality.UNSET)
    assert b'"bt"' not in pack(Receipt("o", DevEUI(9), OrderFate.FAILED, "why", unset), "x:")


@pytest.mark.parametrize("reason", ['"', "\\", "\x00\u2028", "ü" * 300, "</script>"])
def test_whatever_the_reason_says_it_stays_json(reason):
    records = json.loads(pack(Receipt("o", DevEUI(9), OrderFate.FAILED, reason, NOW), "x:"))
    assert records[2]["vs"] == reason


def test_the_history_of_a_device_is_bounded_and_its_own(network, node):
    for number in range(orderstore.HISTORY + 10):
        for about in (9, 10):
            receipt = Receipt(f"{about}-{number}", DevEUI(about), OrderFate.QUEUED, "", NOW)
            network.commit(orderstore.kept(receipt))
    for about in (9, 10):
        rows = orderstore.history(network.db, str(DevEUI(about)))
        assert [row[0] for row in rows] == [
            f"{about}-{number}" for number in range(orderstore.HISTORY + 9, 9, -1)
        ]


# The queue


def test_the_highest_priority_goes_first_and_equals_keep_their_order(joined):
    network, node = joined
    wanted = [(b"a", 0), (b"b", 5), (b"c", 0), (b"d", 255), (b"e", 5)]
    for payload, priority in wanted:
        network.queue(node, payload, priority=priority)
    network.restart()
    network.queue(node, b"f", priority=5)
    heard = []
    for _ in range(6):
        uplink = network.hear(node.uplink())
        heard.append(node.hear(uplink.downlink)[1])
        network.sent(uplink.downlink)
    assert heard == [b"d", b"b", b"e", b"f", b"a", b"c"]


def test_an_urgent_order_overtakes_a_confirmed_one_between_its_repetitions(joined):
    network, node = joined
    slow = network.queue(node, confirmed=True)
    network.sent(network.hear(node.uplink()).downlink)
    urgent = network.queue(node, b"now", priority=9)
    uplink = network.hear(node.uplink())
    assert uplink.downlink.id == urgent
    network.sent(uplink.downlink)
    assert network.hear(node.uplink()).downlink.id == slow


def test_an_order_expires_with_its_reason_and_is_not_sent(joined):
    network, node = joined
    order = network.queue(node, ttl_s=60)
    assert network.wait(59) == []
    assert network.receipts == []
    network.wait(2)
    assert states(network.receipts) == [(order, "failed")]
    assert network.receipts[0].reason.startswith(
        "expired before it was sent (there was no chance to send it)"
    )
    assert network.hear(node.uplink()).downlink is None
    assert network.db.execute("SELECT count(*) FROM lorawan_downlink").fetchone() == (0,)


def test_expiry_outlives_a_restart_and_a_clock_that_is_set(joined):
    network, node = joined
    order = network.queue(node, ttl_s=60)
    network.mono_ns += 30 * 10**9
    network.restart()
    network.wait(1)
    assert network.receipts == [], "wall time went back with the monotonic clock of this test"
    ahead = replace_wall(network, 3600)
    due = network.server.due(ahead)
    assert states(due.receipts) == [(order, "failed")]


def replace_wall(network, seconds):
    now = network.now()
    return Instant(now.mono_ns, now.wall_ns + seconds * 10**9, now.quality)


def test_a_confirmed_order_that_was_sent_says_so_when_it_expires(joined):
    network, node = joined
    network.queue(node, confirmed=True, ttl_s=30)
    network.sent(network.hear(node.uplink()).downlink)
    network.wait(60)
    assert network.receipts[0].reason == "expired: not acknowledged in time, sent once"
    assert network.hear(node.uplink(ack=True)).acked is None


def test_an_unconfirmed_order_under_way_is_not_expired_but_one_that_was_refused_is(joined):
    network, node = joined
    order = network.queue(node, ttl_s=10)
    downlink = network.hear(node.uplink(), after_s=9).downlink
    network.wait(5)
    assert network.receipts == []
    assert states(network.failed(downlink).receipts) == [(order, "failed")]


def test_a_long_order_lets_shorter_ones_pass_and_is_given_up_in_words(joined):
    network, node = joined
    long, short = network.queue(node, bytes(100)), network.queue(node, b"s")
    uplink = network.hear(node.uplink(), sf=12)
    assert uplink.downlink.id == short
    network.sent(uplink.downlink)
    receipts = []
    for _ in range(MAX_TOO_LONG - 1):
        receipts += network.hear(node.uplink(), sf=12).receipts
    assert states(receipts) == [(long, "failed")]
    assert receipts[0].reason.startswith(
        f"too long: 100 bytes, and 51 fit at the device's data rate ({MAX_TOO_LONG}"
    )


def test_orders_are_cancelled_one_or_all_and_what_was_sent_is_said(joined):
    network, node = joined
    first, second, third = (network.queue(node, confirmed=number == 0) for number in range(3))
    network.sent(network.hear(node.uplink()).downlink)
    due = network.server.cancel_downlink(node.dev_eui, second, network.now())
    network.commit(due.writes)
    assert [receipt.reason for receipt in due.receipts] == ["cancelled"]
    with pytest.raises(OrderError, match="no downlink"):
        network.server.cancel_downlink(node.dev_eui, second, network.now())
    due = network.server.cancel_downlink(node.dev_eui, None, network.now())
    network.commit(due.writes)
    assert [(receipt.order_id, receipt.reason) for receipt in due.receipts] == [
        (first, "cancelled, after it was sent once"),
        (third, "cancelled"),
    ]
    network.restart()
    assert network.server.device(node.dev_eui).queued == 0


@pytest.mark.parametrize(
    "how", [{"priority": -1}, {"priority": 256}, {"ttl_s": 0}, {"ttl_s": -5}, {"ttl_s": 31 * 86_400}]
)
def test_values_outside_their_ranges_are_refused(joined, how):
    network, node = joined
    with pytest.raises(OrderError):
        network.queue(node, **how)


def test_the_bound_of_the_queue_is_a_setting(make_network, node):
    network = make_network(max_downlinks=2)
    network.add(node.config)
    for _ in range(2):
        network.queue(node)
    with pytest.raises(QueueFull, match="2 downlinks wait"):
        network.queue(node)


def test_the_profile_says_how_often_a_confirmed_order_is_sent(network, node):
    network.server.use_profiles({"twice": Profile("twice", max_downlink_attempts=2)})
    network.add(replace(node.config, profile="twice"))
    network.join(node)
    network.hear(node.uplink())
    order = network.queue(node, confirmed=True)
    for _ in range(2):
        network.sent(network.hear(node.uplink()).downlink)
    uplink = network.hear(node.uplink())
    assert states(uplink.receipts) == [(order, "failed")]
    assert uplink.receipts[0].reason.startswith("never acknowledged, sent twice")


# Restarts, at each point of an order's life


@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize("killed", ["queued", "composed", "sent"])
def test_killed_at_any_moment_an_order_is_neither_lost_nor_its_counter_used_again(joined, killed, confirmed):
    network, node = joined
    order = network.queue(node, confirmed=confirmed)
    last = -1
    if killed != "queued":
        downlink = network.hear(node.uplink()).downlink
        last = downlink.fcnt
        if killed == "sent":
            due = network.server.sent(downlink, 1, network.now())
            if confirmed:
                network.commit(due.writes)  # else: killed before the commit
    network.restart()
    uplink = network.hear(node.uplink(ack=confirmed and killed != "queued"))
    if confirmed and killed != "queued":
        assert uplink.acked == order, "it was under way: the acknowledgement counts"
    else:
        assert uplink.downlink.id == order
        assert uplink.downlink.fcnt > last


def test_attempts_are_counted_over_restarts(joined):
    network, node = joined
    network.queue(node, confirmed=True)
    sent = 0
    for _ in range(20):
        uplink = network.hear(node.uplink())
        if uplink.downlink is None:
            break
        sent += 1
        network.sent(uplink.downlink)
        network.restart()
    assert sent == 8


def test_a_report_of_an_attempt_that_is_over_changes_nothing(joined):
    network, node = joined
    order = network.queue(node, confirmed=True)
    first = network.hear(node.uplink()).downlink
    second = network.hear(node.uplink()).downlink
    assert network.failed(first).receipts == []
    assert states(network.sent(first).receipts) == [(order, "sent")], "told late, but told"
    network.sent(second)
    assert network.hear(node.uplink(ack=True)).acked == order


# Any order of events against a model


class Model:
    """What must be true of a queue, kept apart from how the server does it."""

    def __init__(self):
        self.waiting = {}  # id: (priority, number)
        self.ended = {}
        self.number = 0

    def queued(self, order, priority):
        self.number += 1
        self.waiting[order] = (-priority, self.number)

    def first(self):
        return min(self.waiting, key=self.waiting.__getitem__, default=None)

    def note(self, receipts, confirmed):
        for receipt in receipts:
            over = receipt.state in ("acknowledged", "failed") or (
                receipt.state == "sent" and not confirmed[receipt.order_id]
            )
            if over:
                assert receipt.order_id not in self.ended, "an order ends once"
                self.ended[receipt.order_id] = receipt.state.value
                del self.waiting[receipt.order_id]


def drive(network, node, seed, rounds):
    """Random orders, uplinks, reports, cancels and restarts; returns the model and the counters on the air."""
    rng, model, confirmed, counters = random.Random(seed), Model(), {}, []
    acks = False
    for _ in range(rounds):
        match rng.randrange(8):
            case 0 | 1 | 2 if len(model.waiting) < 16:
                priority = rng.randrange(3)
                how = {"confirmed": rng.random() < 0.3, "ttl_s": rng.choice((None, None, 40))}
                order = network.queue(node, rng.randbytes(rng.randrange(40)), priority=priority, **how)
                confirmed[order] = how["confirmed"]
                model.queued(order, priority)
            case 3 if model.waiting and rng.random() < 0.3:
                order = rng.choice(sorted(model.waiting))
                due = network.server.cancel_downlink(node.dev_eui, order, network.now())
                network.commit(due.writes)
                model.note(due.receipts, confirmed)
            case 4 if rng.random() < 0.2:
                network.restart()
                acks = False
            case 5:
                network.wait(rng.random() * 30)
                model.note(network.receipts, confirmed)
            case _:
                uplink = network.hear(node.uplink(ack=acks), after_s=30)
                acks = False
                model.note(uplink.receipts, confirmed)
                downlink = uplink.downlink
                if downlink is None:
                    continue
                counters.append(downlink.fcnt)
                if downlink.id in model.waiting:
                    assert downlink.id == model.first(), "the first of the queue goes"
                if rng.random() < 0.8:
                    model.note(network.sent(downlink).receipts, confirmed)
                    acks = downlink.confirmed and rng.random() < 0.6
                else:
                    model.note(network.failed(downlink, TxError.COLLISION_PACKET).receipts, confirmed)
    return model, counters


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events_keeps_order_counters_and_ends_each_once(joined, seed):
    network, node = joined
    model, counters = drive(network, node, seed, 400)
    assert len(set(counters)) == len(counters)
    assert len(model.ended) > 40
    assert {"sent", "failed", "acknowledged"} == set(model.ended.values())
    kept = {row[0] for row in network.db.execute("SELECT id FROM lorawan_downlink")}
    assert kept == set(model.waiting)


def test_the_model_finds_a_queue_that_forgets_priority(joined, monkeypatch):
    """The control: orders are put at the end, whatever their priority."""
    network, node = joined
    monkeypatch.setattr(type(network), "queue", forgetful(type(network).queue))
    with pytest.raises(AssertionError, match="the first of the queue goes"):
        drive(network, node, 1, 400)


def forgetful(queue):
    def put_last(self, node, payload=b"on", *args, **how):
        order = queue(self, node, payload, *args, **how)
        device = self.server.registered(node.dev_eui)
        newest = next(each for each in device.orders if each.id == order)
        device.orders.remove(newest)
        device.orders.append(newest)
        return order

    return put_last


def test_the_model_finds_a_counter_that_goes_back(joined):
    """The control: after a restart counting begins anew."""
    network, node = joined
    restart = network.restart

    def careless():
        restart()
        session = network.server.registered(node.dev_eui).session
        session.fcnt_down.next = session.fcnt_down.ceiling = 0

    network.restart = careless
    _, counters = drive(network, node, 1, 400)
    assert len(set(counters)) < len(counters)

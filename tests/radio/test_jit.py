"""Which downlinks a transmitter accepts."""

from dataclasses import replace

import pytest

from radio.gwmp import TxError
from radio.jit import ARM_NS, MAX_ADVANCE_NS, MIN_LEAD_NS, MS, TAIL_NS, JitQueue, JitTiming, Transmission
from radio.lora import LoRaModulation

NOW = 1_000_000 * MS


def transmission(start_ns: int, payload: bytes = bytes(12), sf: int = 7) -> Transmission:
    return Transmission(
        1, start_ns, 868_100_000, LoRaModulation(sf, 125_000), 14, True, False, 8, payload
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lead_ns", "error"),
    [
        pytest.param(1000 * MS, TxError.NONE, id="RX1"),
        pytest.param(MIN_LEAD_NS, TxError.NONE, id="just in time"),
        pytest.param(MIN_LEAD_NS - 1, TxError.TOO_LATE, id="a nanosecond late"),
        pytest.param(-200 * MS, TxError.TOO_LATE, id="in the past"),
        pytest.param(MAX_ADVANCE_NS, TxError.NONE, id="at the horizon"),
        pytest.param(MAX_ADVANCE_NS + 1, TxError.TOO_EARLY, id="beyond the horizon"),
    ],
)
def test_an_order_is_accepted_in_its_time_only(lead_ns: int, error: TxError) -> None:
    queue = JitQueue()
    assert queue.offer(transmission(NOW + lead_ns), NOW) is error
    assert len(queue) == (error is TxError.NONE)


def test_orders_may_not_overlap_with_arming_and_tail() -> None:
    queue = JitQueue()
    first = transmission(NOW + 1000 * MS)
    assert queue.offer(first, NOW) is TxError.NONE
    after_ns = first.end_ns + TAIL_NS + ARM_NS
    assert queue.offer(transmission(after_ns - 1), NOW) is TxError.COLLISION_PACKET
    assert queue.offer(transmission(after_ns), NOW) is TxError.NONE
    before_ns = first.start_ns - ARM_NS - TAIL_NS - first.airtime_us * 1000
    assert queue.offer(transmission(before_ns + 1), NOW) is TxError.COLLISION_PACKET
    assert queue.offer(transmission(before_ns), NOW) is TxError.NONE


def test_an_order_that_overlaps_a_beacon_is_told_so() -> None:
    queue = JitQueue()
    beacon = replace(transmission(NOW + 1000 * MS, bytes(17), sf=9), implicit_header=True, preamble=10)
    assert beacon.airtime_us == 152_576  # as sx1276 and LoRaWAN calculators give it for EU868
    assert queue.offer(beacon, NOW) is TxError.NONE
    assert queue.offer(transmission(beacon.start_ns + 50 * MS), NOW) is TxError.COLLISION_BEACON
    assert queue.offer(transmission(beacon.end_ns + TAIL_NS + ARM_NS), NOW) is TxError.NONE


def test_orders_come_out_by_start_and_not_before_arming() -> None:
    queue = JitQueue()
    late, early = transmission(NOW + 2000 * MS), transmission(NOW + 1000 * MS)
    for tx in (late, early):
        assert queue.offer(tx, NOW) is TxError.NONE
    assert queue.next_arm_ns() == early.start_ns - ARM_NS
    assert queue.pop(early.start_ns - ARM_NS - 1) is None
    assert queue.pop(early.start_ns - ARM_NS) is early
    assert queue.next_arm_ns() == late.start_ns - ARM_NS


def test_the_running_transmission_still_holds_its_place() -> None:
    queue = JitQueue()
    long = transmission(NOW + MIN_LEAD_NS, bytes(200), sf=12)
    queue.offer(long, NOW)
    now_ns = long.start_ns
    assert queue.pop(now_ns) is long
    inside = transmission(now_ns + 1000 * MS)
    assert queue.offer(inside, now_ns) is TxError.COLLISION_PACKET
    queue.finished()
    assert queue.offer(inside, now_ns) is TxError.NONE


def test_immediate_orders_go_into_the_first_gap() -> None:
    queue = JitQueue()
    assert queue.earliest_start(1000, NOW) == NOW + MIN_LEAD_NS
    first = transmission(NOW + 20 * MS)
    second = transmission(first.end_ns + 60 * MS)
    queue.offer(first, NOW)
    queue.offer(second, NOW)
    assert queue.earliest_start(3_000, NOW) == NOW + MIN_LEAD_NS
    assert queue.earliest_start(46_000, NOW) == first.end_ns + TAIL_NS + ARM_NS
    assert queue.earliest_start(900_000, NOW) == second.end_ns + TAIL_NS + ARM_NS


def test_the_queue_is_bounded() -> None:
    queue = JitQueue(capacity=3)
    for i in range(3):
        assert queue.offer(transmission(NOW + (i + 1) * 1000 * MS), NOW) is TxError.NONE
    assert queue.offer(transmission(NOW + 9000 * MS), NOW) is TxError.COLLISION_PACKET


def test_a_slow_module_needs_a_longer_lead_and_a_wider_gap() -> None:
    timing = JitTiming(arm_ns=250 * MS, wake_ns=10 * MS, tail_ns=80 * MS)
    queue = JitQueue(timing=timing)
    assert queue.offer(transmission(NOW + 259 * MS), NOW) is TxError.TOO_LATE
    first = transmission(NOW + 260 * MS)
    assert queue.offer(first, NOW) is TxError.NONE
    assert queue.next_arm_ns() == NOW + 10 * MS
    assert queue.offer(transmission(first.end_ns + 329 * MS), NOW) is TxError.COLLISION_PACKET
    assert queue.offer(transmission(first.end_ns + 330 * MS), NOW) is TxError.NONE

"""One uplink heard by several gateways: merged, the best signal first, with no delay where there is one gateway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from gateway.copies import (
    GATEWAY_GONE_NS,
    LOOK_NS,
    MAX_COPIES,
    MAX_GATEWAYS,
    MAX_WAITING,
    Copies,
    CopiesReceiver,
    Heard,
    Merged,
    by_gateway,
)
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from radio.gwmp import RxPacket, TxError
from radio.lora import LoRaModulation

MS = 1_000_000
WINDOW_NS = 100 * MS
A, B, C = b"gatewayA", b"gatewayB", b"gatewayC"


def rx(
    data: bytes = b"x", snr: float = 5.0, rssi: int = -80, stat: int = 1, freq_hz: int = 868_100_000
) -> RxPacket:
    return RxPacket(1, freq_hz, 0, 0, stat, LoRaModulation(7, 125_000), rssi, snr, data)


def at(ns: int) -> Instant:
    return Instant(ns, ns)


def copies(can_answer: Callable[[bytes], bool] = lambda _eui: True) -> Copies:
    return Copies(WINDOW_NS, can_answer)


def known(one: Copies, *euis: bytes) -> Copies:
    for eui in euis:
        one.alone(eui, 0)
    return one


def test_a_frame_waits_for_its_copies_and_the_best_signal_goes_on() -> None:
    one = known(copies(), A, B, C)
    assert one.add(rx(snr=-3), A, at(0)) == []
    assert one.add(rx(snr=7), B, at(40 * MS)) == []
    assert one.next_deadline() == WINDOW_NS
    assert one.due(WINDOW_NS - 1) == []
    assert one.due(WINDOW_NS) == [Merged(Heard(rx(snr=7), B), (Heard(rx(snr=-3), A),), at(0))]
    assert one.next_deadline() is None
    assert (one.counters.merged, one.counters.copies) == (1, 1)


def test_nothing_waits_on_once_all_gateways_have_heard_it() -> None:
    one = known(copies(), A, B)
    one.add(rx(snr=-3), A, at(0))
    (merged,) = one.add(rx(snr=-4), B, at(1))
    assert merged.best.eui == A
    assert one.counters.early == 1


def test_different_frames_are_not_mixed_and_go_on_in_their_order() -> None:
    one = known(copies(), A, B)
    one.add(rx(b"first"), A, at(0))
    one.add(rx(b"second"), A, at(5))
    one.add(rx(b"third"), B, at(7))
    assert [each.best.rx.data for each in one.due(WINDOW_NS + 5)] == [b"first", b"second"]
    assert [each.best.rx.data for each in one.flush()] == [b"third"]


@pytest.mark.parametrize(
    ("mine", "others", "words"),
    [
        (rx(snr=9), rx(snr=2), "SNR"),
        (rx(snr=9, rssi=-60), rx(snr=9, rssi=-90), "RSSI where SNR is equal"),
        (rx(snr=-10), rx(snr=9, stat=-1), "a frame without errors before one with them"),
    ],
)
def test_which_copy_is_the_best(mine: RxPacket, others: RxPacket, words: str) -> None:
    for order in ((A, B), (B, A)):
        one = known(copies(), A, B)
        one.add(mine if order[0] == A else others, order[0], at(0))
        (merged,) = one.add(mine if order[1] == A else others, order[1], at(0))
        assert merged.best.eui == A, words


def test_a_gateway_that_can_be_answered_through_is_better_than_a_stronger_signal() -> None:
    one = known(copies(lambda eui: eui == B), A, B)
    one.add(rx(snr=9), A, at(0))
    (merged,) = one.add(rx(snr=1), B, at(0))
    assert merged.best.eui == B


def test_image_frequencies_and_several_antennas_of_one_gateway_are_copies_too() -> None:
    one = known(copies(), A, B)
    one.add(rx(snr=9), A, at(0))
    one.add(rx(snr=-12, freq_hz=868_300_000), A, at(0))
    (merged,) = one.add(rx(snr=3), B, at(1))
    assert [each.rx.freq_hz for each in (merged.best, *merged.others)] == [
        868_100_000,
        868_100_000,
        868_300_000,
    ]
    assert [each.eui for each in by_gateway(merged.best, merged.others)] == [A, B]


def test_one_gateway_is_alone_until_another_is_heard_and_again_when_that_is_gone() -> None:
    one = copies()
    assert one.alone(A, 0)
    assert not one.alone(B, 1)
    assert not one.alone(A, GATEWAY_GONE_NS)
    assert one.alone(A, GATEWAY_GONE_NS + LOOK_NS + 1)


def test_without_a_window_everybody_is_alone() -> None:
    one = Copies(0, lambda _eui: True)
    assert one.alone(A, 0)
    assert one.alone(B, 0)


def test_what_waits_and_what_is_remembered_has_bounds() -> None:
    one = known(copies(), A, B)
    gone_on = [each for n in range(MAX_WAITING + 7) for each in one.add(rx(b"%d" % n), A, at(n))]
    assert [each.best.rx.data for each in gone_on] == [b"%d" % n for n in range(7)]
    assert one.counters.overflow == 7
    assert len(one.flush()) == MAX_WAITING
    for _ in range(MAX_COPIES + 9):
        one.add(rx(), A, at(0))
    (merged,) = one.flush()
    assert len(merged.others) == MAX_COPIES - 1
    many = copies()
    for number in range(3 * MAX_GATEWAYS):
        many.alone(number.to_bytes(8, "big"), number)
        assert len(many._heard_ns) <= MAX_GATEWAYS


@dataclass
class Following:
    """What stands in for `Uplinks`."""

    direct: list[tuple[RxPacket, ...]] = field(default_factory=list)
    taken: list[tuple[RxPacket, bytes, Instant, Sequence[Heard]]] = field(default_factory=list)

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        self.direct.append(packets)

    def take(self, packet: RxPacket, eui: bytes, now: Instant, others: Sequence[Heard] = ()) -> None:
        self.taken.append((packet, eui, now, others))

    def sent(self, downlink: Downlink, window: int) -> None: ...

    def failed(self, downlink: Downlink, error: TxError) -> None: ...


class Loop:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.timers: list[tuple[int, Callable[[], None]]] = []

    def clock(self) -> Instant:
        return at(self.now_ns)

    def later(self, delay_s: float, act: Callable[[], None]) -> "Loop":
        self.timers.append((self.now_ns + round(delay_s * 1e9), act))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def run_until(self, t_ns: int) -> None:
        while self.timers and self.timers[0][0] <= t_ns:
            self.now_ns, act = self.timers.pop(0)
            act()
        self.now_ns = t_ns


@dataclass
class Bench:
    loop: Loop = field(default_factory=Loop)
    following: Following = field(default_factory=Following)

    def __post_init__(self) -> None:
        self.receiver = CopiesReceiver(self.following, copies(), self.loop.clock, self.loop.later)


def test_one_gateway_is_not_delayed_and_no_clock_is_read_for_it() -> None:
    bench = Bench()
    bench.receiver.receive((rx(b"1"), rx(b"2")), A)
    bench.loop.clock = None  # type: ignore[assignment,method-assign]
    bench.receiver._clock = None  # type: ignore[assignment]
    bench.receiver.receive((rx(b"3"),), A)
    assert bench.following.direct == [(rx(b"1"), rx(b"2")), (rx(b"3"),)]
    assert bench.loop.timers == []


def test_copies_of_two_gateways_go_on_once_with_the_time_of_the_first() -> None:
    bench = Bench()
    bench.receiver.receive((rx(b"0"),), A)
    bench.receiver.receive((rx(b"1", snr=1),), B)
    bench.loop.now_ns = 30 * MS
    bench.receiver.receive((rx(b"1", snr=2), rx(b"2")), A)
    assert bench.following.taken == [(rx(b"1", snr=2), A, at(0), (Heard(rx(b"1", snr=1), B),))]
    bench.loop.run_until(129 * MS)
    assert len(bench.following.taken) == 1
    bench.loop.run_until(130 * MS)
    assert bench.following.taken[1] == (rx(b"2"), A, at(30 * MS), ())
    assert bench.following.direct == [(rx(b"0"),)]


def test_the_only_gateway_left_is_not_delayed_any_more() -> None:
    bench = Bench()
    bench.receiver.receive((rx(b"0"),), A)
    bench.receiver.receive((rx(b"1"),), B)
    bench.loop.run_until(GATEWAY_GONE_NS + 2 * LOOK_NS)
    bench.receiver.receive((rx(b"2"),), A)
    assert bench.following.direct == [(rx(b"0"),), (rx(b"2"),)]
    bench.receiver.receive((rx(b"3"),), B)
    bench.receiver.receive((rx(b"4"),), A)
    assert bench.following.direct == [(rx(b"0"),), (rx(b"2"),)]


def test_what_waits_goes_on_when_the_gateway_ends() -> None:
    bench = Bench()
    bench.receiver.receive((rx(b"0"),), A)
    bench.receiver.receive((rx(b"1"),), B)
    bench.receiver.close()
    assert [packet.data for packet, *_ in bench.following.taken] == [b"1"]
    assert bench.loop.timers == []
    bench.receiver.close()


def test_a_repetition_after_the_window_goes_on_by_itself() -> None:
    bench = Bench()
    bench.receiver.receive((rx(b"0"),), A)
    bench.receiver.receive((rx(b"1"),), B)
    bench.loop.run_until(WINDOW_NS)
    bench.receiver.receive((msgspec.structs.replace(rx(b"1"), tmst=9),), A)
    bench.loop.run_until(3 * WINDOW_NS)
    assert [packet.tmst for packet, *_ in bench.following.taken] == [1, 9]

"""The GWMP server: acknowledges, remembers where to send downlinks, tries RX1, then RX2."""

import itertools
from dataclasses import dataclass, field

import pytest

from gateway.forwarders import Address
from gateway.link import ACK_TIMEOUT_NS, MAX_PENDING, SAY_AGAIN_NS, Link
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.types import DevEUI
from radio import gwmp
from radio.lora import LoRaModulation

EUI = bytes.fromhex("02f10f6a7e000001")
HERE: Address = ("127.0.0.1", 4000)
SF7 = LoRaModulation(7, 125_000)


@dataclass
class Calls:
    received: list[tuple[gwmp.RxPacket, ...]] = field(default_factory=list)
    sent_windows: list[int] = field(default_factory=list)
    failures: list[gwmp.TxError] = field(default_factory=list)

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None:
        assert eui == EUI
        self.received.append(packets)

    def sent(self, downlink: Downlink, window: int) -> None:
        self.sent_windows.append(window)

    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None:
        self.failures.append(error)


@dataclass
class Bench:
    calls: Calls = field(default_factory=Calls)
    out: list[tuple[gwmp.Datagram, Address]] = field(default_factory=list)
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(self.calls, lambda data, address: self.out.append((gwmp.decode(data), address)))

    def feed(self, message: gwmp.Datagram, now_ns: int = 0, address: Address = HERE) -> None:
        self.link.datagram(gwmp.encode(message), address, now_ns)

    def orders(self) -> list[gwmp.PullResp]:
        return [message for message, _ in self.out if isinstance(message, gwmp.PullResp)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tx(tmst: int) -> gwmp.TxPacket:
    return gwmp.TxPacket(tmst, False, 868_100_000, 0, 14, SF7, True, b"\x60" * 12)


def a_downlink() -> Downlink:
    return Downlink("1", DevEUI(1), (tx(1_000_000), tx(2_000_000)), False, 0, False)


def an_uplink() -> gwmp.RxPacket:
    return gwmp.RxPacket(5, 868_100_000, 0, 0, 1, SF7, -80, 7.0, b"\x40" * 13)


def test_frames_are_acknowledged_with_their_token_and_handed_on(bench: Bench) -> None:
    bench.feed(gwmp.PushData(77, EUI, (an_uplink(),)))
    assert bench.out == [(gwmp.PushAck(77), HERE)]
    assert bench.calls.received == [(an_uplink(),)]
    assert bench.link.forwarders.known[EUI].received == 1


def test_downlinks_go_to_the_address_of_the_last_pull_data(bench: Bench) -> None:
    bench.feed(gwmp.PushData(1, EUI, (an_uplink(),)), address=("127.0.0.1", 4001))
    bench.feed(gwmp.PullData(2, EUI), address=("127.0.0.1", 4002))
    bench.link.transmit(a_downlink(), EUI, 0)
    assert bench.out[-1][1] == ("127.0.0.1", 4002)
    assert bench.orders()[-1].txpk.tmst == 1_000_000


def test_a_forwarder_that_refuses_rx1_is_asked_for_rx2(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    bench.link.transmit(a_downlink(), EUI, 0)
    bench.feed(gwmp.TxAck(bench.orders()[-1].token, EUI, gwmp.TxError.TOO_LATE))
    assert bench.orders()[-1].txpk.tmst == 2_000_000
    bench.feed(gwmp.TxAck(bench.orders()[-1].token, EUI))
    assert bench.calls.sent_windows == [2]
    assert bench.calls.failures == []


def test_a_downlink_that_both_windows_refuse_has_failed_with_the_last_reason(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    bench.link.transmit(a_downlink(), EUI, 0)
    for error in (gwmp.TxError.TOO_LATE, gwmp.TxError.COLLISION_PACKET):
        bench.feed(gwmp.TxAck(bench.orders()[-1].token, EUI, error))
    assert bench.calls.failures == [gwmp.TxError.COLLISION_PACKET]


def test_an_order_that_is_never_answered_fails_after_its_deadline(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    bench.link.transmit(a_downlink(), EUI, 0)
    bench.link.expire(ACK_TIMEOUT_NS - 1)
    assert bench.calls.failures == []
    bench.link.expire(ACK_TIMEOUT_NS)
    assert bench.calls.failures == [gwmp.TxError.TOO_LATE]
    assert bench.link.counters["tx_unanswered"] == 1


def test_without_a_forwarder_a_downlink_fails_at_once(bench: Bench) -> None:
    bench.link.transmit(a_downlink(), EUI, 0)
    assert bench.calls.failures == [gwmp.TxError.TOO_LATE]
    assert bench.link.counters["no_forwarder"] == 1


def test_a_tx_ack_of_another_gateway_or_token_changes_nothing(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    bench.link.transmit(a_downlink(), EUI, 0)
    token = bench.orders()[-1].token
    bench.feed(gwmp.TxAck(token ^ 1, EUI))
    assert bench.calls.sent_windows == []
    assert bench.link.counters["unexpected"] == 1


def test_damaged_datagrams_are_counted_and_not_answered(bench: Bench) -> None:
    for data in (b"", b"\x02", b"\x01\0\0\0", b"\x02\0\0\0" + EUI + b"{", b"\xff" * 40):
        bench.link.datagram(data, HERE, 0)
    assert bench.link.counters["malformed"] == 5
    assert bench.out == []


def test_pending_orders_are_bounded(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    for _ in range(MAX_PENDING + 3):
        bench.link.transmit(a_downlink(), EUI, 0)
    assert bench.calls.failures == [gwmp.TxError.COLLISION_PACKET] * 3
    assert bench.link.counters["pending_full"] == 3


def test_a_tx_ack_of_a_gateway_nobody_knows_is_unexpected_and_not_remembered(bench: Bench) -> None:
    bench.feed(gwmp.TxAck(7, EUI))
    assert bench.link.counters["unexpected"] == 1
    assert not bench.link.forwarders.known


def test_a_tx_ack_with_a_token_of_another_gateway_leaves_the_order_waiting(bench: Bench) -> None:
    other = bytes(8)
    bench.feed(gwmp.PullData(2, EUI))
    bench.feed(gwmp.PullData(3, other))
    bench.link.transmit(a_downlink(), EUI, 0)
    token = bench.orders()[-1].token
    bench.feed(gwmp.TxAck(token, other, gwmp.TxError.TOO_LATE))
    assert bench.calls.sent_windows == []
    bench.feed(gwmp.TxAck(token, EUI))
    assert bench.calls.sent_windows == [1]


def test_tokens_of_orders_cannot_be_foretold(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    for _ in range(100):
        bench.link.transmit(a_downlink(), EUI, 0)
    tokens = [order.token for order in bench.orders()]
    assert len(set(tokens)) == 100
    assert len({(b - a) & 0xFFFF for a, b in itertools.pairwise(tokens)}) > 50


def test_nothing_of_a_stranger_in_a_gateways_name_is_taken(bench: Bench) -> None:
    stranger: Address = ("192.0.2.66", 4000)
    bench.feed(gwmp.PullData(2, EUI))
    bench.feed(gwmp.PullData(3, EUI), address=stranger)
    bench.feed(gwmp.PushData(4, EUI, (an_uplink(),)), address=stranger)
    bench.link.transmit(a_downlink(), EUI, 0)
    assert bench.out[-1][1] == HERE
    bench.feed(gwmp.TxAck(bench.orders()[-1].token, EUI), address=stranger)
    assert bench.calls.received == []
    assert bench.calls.sent_windows == []
    assert bench.link.counters["other_address"] == 3
    assert [address for message, address in bench.out if address == stranger] == []


def test_a_forwarder_that_restarts_with_other_ports_is_answered_there(bench: Bench) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    bench.feed(gwmp.PullData(3, EUI), address=(HERE[0], 4999))
    bench.link.transmit(a_downlink(), EUI, 0)
    assert bench.out[-1][1] == (HERE[0], 4999)


def test_tokens_used_again_are_acknowledged_all_the_same(bench: Bench) -> None:
    for _ in range(3):
        bench.feed(gwmp.PushData(0, EUI, (an_uplink(),)))
    assert [message for message, _ in bench.out] == [gwmp.PushAck(0)] * 3
    assert len(bench.calls.received) == 3


def test_rxpk_that_cannot_be_used_are_counted_beside_those_that_can(bench: Bench) -> None:
    data = gwmp.encode(gwmp.PushData(1, EUI, (an_uplink(), an_uplink())))
    bench.link.datagram(data.replace(b'"tmst":5', b'"tmst":-5', 1), HERE, 0)
    assert [len(packets) for packets in bench.calls.received] == [1]
    assert bench.link.counters["rxpk_damaged"] == 1


def test_a_flood_of_nonsense_is_told_of_once_a_minute(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.feed(gwmp.PullData(2, EUI))
    for n in range(1000):
        bench.link.datagram(b"nonsense", HERE, n)
        bench.feed(gwmp.PullData(2, EUI), n, ("192.0.2.66", 1))
    assert len(caplog.records) == 2
    bench.link.datagram(b"nonsense", HERE, SAY_AGAIN_NS)
    assert len(caplog.records) == 3
    assert "1001 datagrams are not understood" in caplog.text

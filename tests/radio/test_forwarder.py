"""The forwarder's protocol without a socket, and its thread against a server on loopback."""

import random
import socket
import threading
from dataclasses import dataclass, field

import pytest

from radio import gwmp
from radio.concentrator import TxResult
from radio.forwarder import ACK_WAIT_NS, MAX_RXPK, MAX_WAITING, SECOND_NS, Forwarder, Out, UdpForwarder, Way
from radio.gwmp import (
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    RxPacket,
    TxAck,
    TxError,
    TxPacket,
    decode,
    encode,
)
from radio.hardware.clock import MonotonicClock
from radio.lora import LoRaModulation

EUI = bytes.fromhex("b827ebfffe000001")
SF7 = LoRaModulation(7, 125_000)
TXPK = TxPacket(1, False, 868_100_000, 0, 14, SF7, True, b"down", True)


def frame(n: int = 0, stat: int = 1) -> RxPacket:
    return RxPacket(n, 868_100_000, 0, 0, stat, SF7, -50, 9.0, bytes((n & 0xFF,)))


@dataclass
class Bench:
    answer: TxResult = field(default_factory=lambda: TxResult(TxError.NONE))
    orders: list[tuple[TxPacket, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = Forwarder(EUI, self.transmit, utc_ns=lambda t_ns: t_ns, rng=random.Random(1))

    def transmit(self, tx: TxPacket, now_ns: int) -> TxResult:
        self.orders.append((tx, now_ns))
        return self.answer


def up(out: list[Out]) -> list[PushData]:
    pushed = [decode(data) for way, data in out if way is Way.UP]
    assert all(isinstance(datagram, PushData) for datagram in pushed)
    return [datagram for datagram in pushed if isinstance(datagram, PushData)]


def test_keepalive_comes_first_and_every_five_seconds() -> None:
    core = Bench().core
    assert core.next_deadline() is None
    sent = []
    for second in range(13):
        sent += [(second, decode(data)) for _, data in core.on_time(second * SECOND_NS)]
    pulls = [(second, datagram) for second, datagram in sent if isinstance(datagram, PullData)]
    assert [second for second, _ in pulls] == [0, 5, 10]
    assert all(datagram.eui == EUI for _, datagram in pulls)


def test_the_server_is_gone_after_three_silent_keepalives() -> None:
    core = Bench().core
    assert not core.connected
    (_, data), *_ = core.on_time(0)
    core.on_datagram(Way.DOWN, encode(PullAck(decode(data).token)), 0)
    assert core.connected
    for i in range(1, 4):
        assert core.connected
        core.on_time(i * 5 * SECOND_NS)
    assert not core.connected


def test_frames_go_up_at_once_in_batches() -> None:
    core = Bench().core
    for n in range(MAX_RXPK + 2):
        core.on_frame(frame(n))
    pushes = up(core.on_time(0))
    assert [len(push.rxpk) for push in pushes] == [MAX_RXPK, 2]
    assert [rx.tmst for push in pushes for rx in push.rxpk] == list(range(MAX_RXPK + 2))
    assert up(core.on_time(1)) == []


def test_too_many_waiting_frames_lose_the_oldest() -> None:
    core = Bench().core
    for n in range(MAX_WAITING + 3):
        core.on_frame(frame(n))
    assert core.counters["frames_dropped"] == 3
    assert up(core.on_time(0))[0].rxpk[0].tmst == 3


def test_the_report_counts_from_one_to_the_next() -> None:
    core = Bench().core
    core.on_time(0)
    for stat in (1, 1, -1):
        core.on_frame(frame(stat=stat))
    (push,) = up(core.on_time(SECOND_NS))
    core.on_datagram(Way.UP, encode(PushAck(push.token)), SECOND_NS)
    core.on_datagram(Way.DOWN, encode(PullResp(7, TXPK)), 2 * SECOND_NS)
    core.on_sent()
    (report,) = up(core.on_time(30 * SECOND_NS))
    assert report.rxpk == ()
    assert report.stat == gwmp.Stat(
        time_ns=30 * SECOND_NS, rxnb=3, rxok=2, rxfw=3, ackr=100.0, dwnb=1, txnb=1
    )
    (empty,) = up(core.on_time(60 * SECOND_NS))
    assert empty.stat is not None
    assert (empty.stat.rxnb, empty.stat.dwnb, empty.stat.ackr) == (
        0,
        0,
        0.0,
    )  # the report itself went unanswered


def test_missing_acknowledgements_are_counted_and_forgotten() -> None:
    core = Bench().core
    core.on_frame(frame())
    (push,) = up(core.on_time(0))
    core.on_frame(frame())
    core.on_time(ACK_WAIT_NS)
    assert core.counters["push_unacked"] == 1
    core.on_datagram(Way.UP, encode(PushAck(push.token)), ACK_WAIT_NS)
    assert core.counters["push_ack_unknown"] == 1


@pytest.mark.parametrize(
    ("result", "ack"),
    [
        (TxResult(TxError.NONE), TxAck(7, EUI)),
        (TxResult(TxError.TOO_LATE), TxAck(7, EUI, TxError.TOO_LATE)),
        (TxResult(TxError.NONE, power_dbm=20), TxAck(7, EUI, TxError.NONE, TxError.TX_POWER, 20)),
    ],
)
def test_an_order_is_answered_with_its_token(result: TxResult, ack: TxAck) -> None:
    bench = Bench(answer=result)
    ((way, data),) = bench.core.on_datagram(Way.DOWN, encode(PullResp(7, TXPK)), 99)
    assert (way, decode(data)) == (Way.DOWN, ack)
    assert bench.orders == [(TXPK, 99)]


def test_what_the_server_should_not_send_is_counted() -> None:
    core = Bench().core
    assert core.on_datagram(Way.DOWN, b"\x02\x00", 0) == []
    assert core.on_datagram(Way.DOWN, encode(PullData(1, EUI)), 0) == []
    assert core.on_datagram(Way.UP, encode(PullResp(1, TXPK)), 0) == []
    assert core.on_datagram(Way.DOWN, encode(PullAck(1)), 0) == []
    assert core.counters == {"datagrams_malformed": 1, "datagrams_unexpected": 2, "pull_ack_unknown": 1}


def test_the_thread_carries_frames_up_and_orders_down() -> None:
    bench = Bench(answer=TxResult(TxError.TX_FREQ))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        udp = UdpForwarder(bench.core, "127.0.0.1", server.getsockname()[1], MonotonicClock())
        stop = threading.Event()
        thread = threading.Thread(target=udp.run, args=(stop,))
        thread.start()
        try:
            data, down = server.recvfrom(4096)
            pull = decode(data)
            assert isinstance(pull, PullData)
            server.sendto(encode(PullAck(pull.token)), down)
            udp.frame(frame(5))
            data, pushed_from = server.recvfrom(4096)
            push = decode(data)
            assert isinstance(push, PushData)
            assert [rx.tmst for rx in push.rxpk] == [5]
            assert pushed_from != down
            server.sendto(encode(PushAck(push.token)), pushed_from)
            server.sendto(encode(PullResp(9, TXPK)), down)
            data, _ = server.recvfrom(4096)
            assert decode(data) == TxAck(9, EUI, TxError.TX_FREQ)
            assert bench.core.connected
        finally:
            stop.set()
            udp.wake()
            thread.join()
            udp.close()


def test_a_server_that_is_not_there_is_counted_and_survived() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    bench = Bench()
    udp = UdpForwarder(bench.core, "127.0.0.1", port, MonotonicClock())
    stop = threading.Event()
    thread = threading.Thread(target=udp.run, args=(stop,))
    thread.start()
    try:
        while not bench.core.counters["server_unreachable"]:
            udp.frame(frame())
        assert thread.is_alive()
    finally:
        stop.set()
        udp.wake()
        thread.join()
        udp.close()

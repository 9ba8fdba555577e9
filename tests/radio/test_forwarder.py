"""The forwarder's protocol, without a socket."""

import itertools
import random
from dataclasses import dataclass, field

import pytest

from radio import gwmp
from radio.complaints import SAY_AGAIN_NS
from radio.concentrator import TxResult
from radio.forwarder import (
    ACK_WAIT_NS,
    KEEPALIVE_SPREAD,
    MAX_ORDERED,
    MAX_RXPK,
    MAX_UNACKED,
    MAX_WAITING,
    SECOND_NS,
    STALE_NS,
    Forwarder,
    Out,
    Way,
)
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


def answered(core: Forwarder, out: list[Out], now_ns: int) -> None:
    """Answer the keepalives among what was sent."""
    for way, data in out:
        if isinstance(datagram := decode(data), PullData):
            core.on_datagram(way, encode(PullAck(datagram.token)), now_ns)


def test_keepalives_come_first_quickly_and_then_within_their_interval_never_in_step() -> None:
    core = Bench().core
    assert core.next_deadline() is None
    pulled: list[int] = []
    now_ns = 0
    while now_ns < 600 * SECOND_NS:
        out = core.on_time(now_ns)
        pulls = [data for way, data in out if way is Way.DOWN]
        assert all(decode(data).eui == EUI for data in pulls)  # type: ignore[union-attr]
        pulled += [now_ns] * len(pulls)
        if len(pulled) > 3:
            answered(core, out, now_ns)
        due_ns = core.next_deadline()
        assert due_ns is not None
        now_ns = due_ns
    assert pulled[:4] == [0, SECOND_NS, 2 * SECOND_NS, 3 * SECOND_NS]
    gaps = [later - earlier for earlier, later in itertools.pairwise(pulled[3:])]
    assert all(KEEPALIVE_SPREAD * 5 * SECOND_NS <= gap <= 5 * SECOND_NS for gap in gaps)
    assert max(gaps) - min(gaps) > 0.05 * 5 * SECOND_NS


def test_the_server_is_gone_after_three_silent_keepalives() -> None:
    core = Bench().core
    assert not core.connected
    answered(core, core.on_time(0), 0)
    assert core.connected
    assert core.status(7 * SECOND_NS)["since_s"] == 7.0
    for i in range(1, 4):
        assert core.connected
        core.on_time(i * 5 * SECOND_NS)
    assert not core.connected


def test_frames_go_up_at_once_in_batches() -> None:
    core = Bench().core
    for n in range(MAX_RXPK + 2):
        core.on_frame(frame(n), 0)
    pushes = up(core.on_time(0))
    assert [len(push.rxpk) for push in pushes] == [MAX_RXPK, 2]
    assert [rx.tmst for push in pushes for rx in push.rxpk] == list(range(MAX_RXPK + 2))
    assert up(core.on_time(1)) == []


def test_too_many_waiting_frames_lose_the_oldest() -> None:
    core = Bench().core
    for n in range(MAX_WAITING + 3):
        core.on_frame(frame(n), 0)
    assert core.counters["frames_dropped"] == 3
    assert up(core.on_time(0))[0].rxpk[0].tmst == 3


def test_the_report_counts_from_one_to_the_next() -> None:
    core = Bench(answer=TxResult(TxError.NONE, id=4)).core
    core.on_time(0)
    for stat in (1, 1, -1):
        core.on_frame(frame(stat=stat), 0)
    (push,) = up(core.on_time(SECOND_NS))
    core.on_datagram(Way.UP, encode(PushAck(push.token)), SECOND_NS)
    core.on_datagram(Way.DOWN, encode(PullResp(7, TXPK)), 2 * SECOND_NS)
    core.on_sent(3)  # of another server
    core.on_sent(4)
    core.on_sent(4)
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
    core.on_frame(frame(), 0)
    (push,) = up(core.on_time(0))
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


def test_a_server_without_the_right_to_order_is_refused_and_counted() -> None:
    orders: list[TxPacket] = []

    def transmit(tx: TxPacket, _now_ns: int) -> TxResult:
        orders.append(tx)
        return TxResult(TxError.NONE)

    core = Forwarder(EUI, transmit, name="ttn", downlinks=False)
    ((way, data),) = core.on_datagram(Way.DOWN, encode(PullResp(7, TXPK)), 0)
    assert (way, decode(data)) == (Way.DOWN, TxAck(7, EUI, TxError.TX_FREQ))
    assert orders == []
    status = core.status(0)
    assert (status["downlinks"], status["downlinks_accepted"], status["downlinks_refused"]) == (False, 0, 1)


def test_an_order_no_sx127x_can_send_is_refused_instead_of_left_unanswered() -> None:
    core = Bench().core
    order = b'\x02\x00\x09\x03{"txpk":{"imme":true,"freq":868.1,"modu":"FSK","datr":50000,"data":"AA=="}}'
    ((_, data),) = core.on_datagram(Way.DOWN, order, 0)
    assert decode(data) == TxAck(9, EUI, TxError.TX_FREQ)
    assert core.on_datagram(Way.UP, order, 0) == []
    assert core.counters["datagrams_unexpected"] == 1


def test_frames_that_waited_too_long_are_dropped_not_replayed() -> None:
    core = Bench().core
    core.on_frame(frame(1), 0)
    core.on_frame(frame(2), SECOND_NS)
    (push,) = up(core.on_time(STALE_NS + 1))
    assert [rx.tmst for rx in push.rxpk] == [2]
    assert core.status(0)["dropped"] == 1


def test_what_is_remembered_has_a_bound() -> None:
    core = Bench(answer=TxResult(TxError.NONE)).core
    for n in range(MAX_UNACKED + 50):
        core.on_frame(frame(n), 0)
        assert len(up(core.on_time(0))) == 1
    assert core.counters["push_unacked"] == 50
    assert core.status(0)["acked_percent"] == 0.0
    ids = iter(range(MAX_ORDERED + 9))
    core = Forwarder(EUI, lambda _tx, _now: TxResult(TxError.NONE, id=next(ids)))
    for _ in range(MAX_ORDERED + 9):
        core.on_datagram(Way.DOWN, encode(PullResp(7, TXPK)), 0)
    core.on_sent(0)  # forgotten
    core.on_sent(MAX_ORDERED)
    assert core.counters["downlinks_sent"] == 1


def test_the_share_of_acknowledged_datagrams_is_that_of_the_last_ones() -> None:
    core = Bench().core
    for n in range(300):
        core.on_frame(frame(n), 0)
        (push,) = up(core.on_time(0))
        if n >= 150 and n % 4:
            core.on_datagram(Way.UP, encode(PushAck(push.token)), 0)
    core.on_time(ACK_WAIT_NS)
    assert core.counters["push_ack"] == 113  # of 150, without each fourth
    assert 0 <= core.status(0)["acked_percent"] < 75


def test_nobody_can_fill_the_journal_with_datagrams(caplog: pytest.LogCaptureFixture) -> None:
    core = Bench().core
    for n in range(1000):
        core.on_datagram(Way.DOWN, b"\x02garbage", n)
    core.on_datagram(Way.DOWN, b"\x02garbage", SAY_AGAIN_NS)
    assert len(caplog.records) == 2
    assert core.counters["datagrams_malformed"] == 1001


def test_times_are_unix_seconds_where_there_is_a_clock() -> None:
    core = Forwarder(EUI, lambda _tx, _now: TxResult(TxError.NONE), utc_ns=lambda t_ns: t_ns + 10**18)
    answered(core, core.on_time(SECOND_NS), 2 * SECOND_NS)
    status = core.status(3 * SECOND_NS)
    assert (status["since"], status["last_ack"], status["since_s"]) == (1e9 + 2, 1e9 + 2, 1.0)
    assert Bench().core.status(0)["since"] is None
    clockless = Forwarder(EUI, lambda _tx, _now: TxResult(TxError.NONE))
    answered(clockless, clockless.on_time(0), 0)
    assert clockless.status(SECOND_NS)["since"] is None


def test_the_position_goes_into_the_report() -> None:
    core = Forwarder(EUI, lambda _tx, _now: TxResult(TxError.NONE), position=lambda: (46.24, 3.2523, 145))
    core.on_time(0)
    (report,) = up(core.on_time(30 * SECOND_NS))
    assert report.stat is not None
    assert (report.stat.lati, report.stat.long, report.stat.alti) == (46.24, 3.2523, 145)

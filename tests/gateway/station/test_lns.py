"""The LNS without a socket: frames as GWMP would hand them in, orders, reports, and what does not come."""

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.types import DevEUI
from gateway.station.lns import (
    CONTEXT_NS,
    MAX_CONTEXTS,
    MAX_MALFORMED,
    MAX_PENDING,
    REPORT_NS,
    Lns,
    Session,
)
from gateway.station.plan import router_config
from gateway.station.registry import KnownGateway
from hub.message import TimeQuality
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation
from radio.regions import get_region

S, US = 1_000_000_000, 1_000_000
EUI = bytes.fromhex("b827ebfffe123456")
GATEWAY = KnownGateway(EUI, "roof", "a-token-of-a-gateway")
REGION = get_region("EU868")
SF7, SF12 = LoRaModulation(7, 125_000), LoRaModulation(12, 125_000)
XTIME = 3 << 56 | 0x5A << 48
UPDF = {
    "msgtype": "updf",
    "MHdr": 0x40,
    "DevAddr": -1061461,
    "FCtrl": 1,
    "FCnt": 62707,
    "FOpts": "FF",
    "FPort": 32,
    "FRMPayload": "2122",
    "MIC": -1549622880,
}


def at(seconds: float, quality: TimeQuality = TimeQuality.NTP) -> Instant:
    return Instant(round(seconds * S), 1_800_000_000 * S + round(seconds * S), quality)


@dataclass
class Bench:
    received: list[RxPacket] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    failures: list[TxError] = field(default_factory=list)
    out: list[dict[str, Any]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    lns: Lns = field(init=False)
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.lns = Lns(self, REGION, router_config(REGION), random.Random(1))
        self.session = self.connect()

    def connect(self, now: Instant | None = None) -> Session:
        session = self.lns.connect(
            GATEWAY, lambda text: self.out.append(json.loads(text)), self.closed.append, "here", now or at(0)
        )
        self.lns.message(session, '{"msgtype":"version","protocol":2}', now or at(0))
        assert self.out.pop()["msgtype"] == "router_config"
        return session

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        assert eui == EUI
        self.received += packets

    def sent(self, downlink: Downlink, window: int) -> None:
        self.reported.append(window)

    def failed(self, downlink: Downlink, error: TxError) -> None:
        self.failures.append(error)

    def say(self, message: dict[str, Any], now: Instant | None = None) -> None:
        self.lns.message(self.session, json.dumps(message), now or at(1))

    def uplink(self, count_us: int, now: Instant | None = None, **changes: Any) -> None:
        upinfo = {"rctx": 3, "xtime": XTIME + count_us, "rssi": -80, "snr": 7.5} | changes.pop("upinfo", {})
        self.say(UPDF | {"DR": 5, "Freq": 868_100_000, "upinfo": upinfo} | changes, now)

    def order(self, downlink: Downlink, now: Instant | None = None) -> dict[str, Any]:
        self.lns.transmit(downlink, EUI, now or at(1.1))
        return self.out.pop()

    def report(self, order: dict[str, Any], **changes: Any) -> None:
        self.say({"msgtype": "dntxed", "diid": order["diid"], "DevEui": order["DevEui"]} | changes)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def packet(
    tmst: int | None, freq_hz: int = 868_100_000, modulation: LoRaModulation = SF7, **changes: Any
) -> TxPacket:
    fields: dict[str, Any] = {
        "imme": False,
        "rfch": 0,
        "powe_dbm": 14,
        "ipol": True,
        "data": b"\x60" * 12,
    } | changes
    return TxPacket(tmst=tmst, freq_hz=freq_hz, modulation=modulation, **fields)


def class_a(rx1_tmst: int, **changes: Any) -> Downlink:
    rx2 = packet((rx1_tmst + US) % (1 << 32), 869_525_000, SF12)
    fields: dict[str, Any] = {"confirmed": False, "fcnt": 0, "after_commit": False} | changes
    return Downlink(id="1", dev_eui=DevEUI(0x70B3D57ED0000001), windows=(packet(rx1_tmst), rx2), **fields)


def test_an_uplink_is_the_frame_that_gwmp_would_hand_in(bench: Bench) -> None:
    bench.uplink(5 * US, upinfo={"rxtime": 1_700_000_000.5})
    (rx,) = bench.received
    assert rx.data.hex() == "40abcdefff01f3f4ff202122a0a1a2a3"
    assert (rx.tmst, rx.freq_hz, rx.modulation, rx.stat) == (5 * US, 868_100_000, SF7, 1)
    assert (rx.rssi_dbm, rx.lsnr_db, rx.time_ns, rx.tmms) == (-80, 7.5, 1_700_000_000_500_000_000, None)
    bench.uplink(6 * US, upinfo={"gpstime": 1_484_035_223_000_000, "rxtime": 5.0})
    assert bench.received[1].tmms == 1_484_035_223_000
    assert bench.received[1].time_ns == 1_800_000_005 * S, "GPS time counts for more"


def test_frames_before_the_configuration_and_of_no_data_rate_are_counted() -> None:
    bench = Bench()
    session = bench.lns.connect(GATEWAY, print, bench.closed.append, "here", at(0))
    bench.session = session
    bench.uplink(1)
    assert (bench.received, bench.lns.counters["too_soon"]) == ([], 1)
    bench.session = bench.connect()
    bench.uplink(1, DR=9)
    assert (bench.received, bench.lns.counters["unknown_data_rate"]) == ([], 1)


@pytest.mark.parametrize("delay_s", range(1, 16))
def test_the_order_names_the_uplink_and_the_delay(bench: Bench, delay_s: int) -> None:
    bench.uplink(5 * US)
    order = bench.order(class_a(5 * US + delay_s * US))
    assert (order["xtime"], order["rctx"], order["RxDelay"], order["dC"]) == (XTIME + 5 * US, 3, delay_s, 0)
    assert (order["RX1DR"], order["RX1Freq"], order["RX2DR"], order["RX2Freq"]) == (
        5,
        868_100_000,
        0,
        869_525_000,
    )
    assert (order["DevEui"], order["pdu"], order["priority"]) == ("70-B3-D5-7E-D0-00-00-01", "60" * 12, 10)


def test_the_counter_of_32_bits_rolls_over_between_uplink_and_answer(bench: Bench) -> None:
    count_us = 9 << 32 | 0xFFFF_FFF0
    bench.uplink(count_us)
    order = bench.order(class_a((0xFFFF_FFF0 + US) % (1 << 32)))
    assert order["xtime"] == XTIME + count_us


def test_a_downlink_with_one_window_is_ordered_for_that_one(bench: Bench) -> None:
    bench.uplink(5 * US)
    only = packet(7 * US, 869_525_000, SF12)
    order = bench.order(Downlink("1", DevEUI(1), (only,), False, 0, False))
    assert (order["RxDelay"], order["RX1DR"], order["RX1Freq"]) == (2, 0, 869_525_000)
    assert "RX2Freq" not in order
    late = packet(21 * US, 869_525_000, SF12)
    order = bench.order(Downlink("1", DevEUI(1), (late,), False, 0, False))
    assert (order["RxDelay"], order["RX2DR"], order["RX2Freq"]) == (15, 0, 869_525_000), (
        "RX2 after RxDelay 15"
    )
    assert "RX1Freq" not in order


@pytest.mark.parametrize(
    ("report", "window"),
    [
        pytest.param({"xtime": XTIME + 6 * US}, 1, id="time of RX1"),
        pytest.param({"xtime": XTIME + 7 * US}, 2, id="time of RX2"),
        pytest.param(
            {"xtime": XTIME + 7 * US, "DR": 5, "Freq": 868_100_000}, 2, id="time says more than channel"
        ),
        pytest.param({"DR": 0, "Freq": 869_525_000}, 2, id="channel of RX2"),
        pytest.param({"DR": 5, "Freq": 868_100_000}, 1, id="channel of RX1"),
        pytest.param({"xtime": 1 << 56 | 9, "DR": 0, "Freq": 869_525_000}, 2, id="time of another unit"),
        pytest.param({}, 1, id="nothing"),
    ],
)
def test_a_report_tells_the_window(bench: Bench, report: dict[str, Any], window: int) -> None:
    bench.uplink(5 * US)
    bench.report(bench.order(class_a(6 * US)), **report)
    assert bench.reported == [window]
    assert bench.session.sent == 1


def test_a_report_counts_once_and_only_for_its_gateway(bench: Bench) -> None:
    bench.uplink(5 * US)
    order = bench.order(class_a(6 * US))
    other = KnownGateway(bytes(8), "", "another-token-than-that")
    stranger = bench.lns.connect(other, print, bench.closed.append, "there", at(1))
    text = json.dumps({"msgtype": "dntxed", "diid": order["diid"], "DevEui": "::1"})
    bench.lns.message(stranger, text, at(1))
    bench.report(order)
    bench.report(order)
    assert (bench.reported, bench.lns.counters["unexpected_reports"]) == ([1], 2)


def test_a_report_that_does_not_come_is_a_downlink_that_was_not_sent(bench: Bench) -> None:
    bench.uplink(5 * US, at(1))
    order = bench.order(class_a(6 * US), at(1.2))
    due_ns = 1 * S + 2 * S + REPORT_NS
    bench.lns.expire(due_ns - 1)
    assert bench.failures == []
    bench.lns.expire(due_ns)
    assert (bench.failures, bench.lns.counters["tx_unreported"]) == ([TxError.TOO_LATE], 1)
    bench.report(order)
    assert (bench.reported, bench.lns.counters["unexpected_reports"]) == ([], 1), "too late to matter"


def test_a_downlink_for_nobody_fails_at_once(bench: Bench) -> None:
    bench.lns.transmit(class_a(6 * US), bytes(8), at(1))
    bench.lns.transmit(class_a(6 * US), EUI, at(1))
    bench.uplink(5 * US)
    strange = packet(6 * US, modulation=LoRaModulation(10, 500_000))
    bench.lns.transmit(Downlink("1", DevEUI(1), (strange,), False, 0, False), EUI, at(1))
    assert bench.failures == [TxError.TOO_LATE, TxError.TOO_LATE, TxError.TX_FREQ]
    counters = bench.lns.counters
    assert (counters["no_gateway"], counters["no_context"], counters["no_data_rate"]) == (1, 1, 1)
    assert bench.out == []


def test_class_c_leaves_in_rx2_at_once_and_class_b_at_its_time(bench: Bench) -> None:
    at_once = packet(None, 869_525_000, SF12, imme=True)
    order = bench.order(Downlink("1", DevEUI(1), (at_once,), False, 0, False))
    assert (order["dC"], order["RX2DR"], order["RX2Freq"]) == (2, 0, 869_525_000)
    assert "RX1Freq" not in order
    assert "xtime" not in order
    bench.report(order)
    timed = packet(None, 869_525_000, SF12, tmms=1_484_035_223_000)
    order = bench.order(Downlink("1", DevEUI(1), (timed,), False, 0, False))
    assert (order["dC"], order["DR"], order["Freq"], order["gpstime"]) == (
        1,
        0,
        869_525_000,
        1_484_035_223_000_000,
    )
    assert bench.reported == [1]


def test_a_join_accept_goes_before_data(bench: Bench) -> None:
    bench.uplink(5 * US)
    assert bench.order(class_a(10 * US, fcnt=None))["priority"] == 20


def test_orders_and_contexts_are_bounded(bench: Bench) -> None:
    for i in range(MAX_CONTEXTS + 10):
        bench.uplink(i * 1000)
    assert len(bench.session.contexts) == MAX_CONTEXTS
    newest = (MAX_CONTEXTS + 9) * 1000
    for _ in range(MAX_PENDING + 1):
        bench.lns.transmit(class_a((newest + US) % (1 << 32)), EUI, at(1.1))
    assert (bench.failures, bench.lns.counters["pending_full"]) == ([TxError.COLLISION_PACKET], 1)
    bench.uplink(5, at(1 + CONTEXT_NS / S + 1))
    assert len(bench.session.contexts) == 1, "their windows are over"


def test_a_taken_over_session_leaves_the_new_one_alone(bench: Bench) -> None:
    old = bench.session
    new = bench.connect(at(2))
    assert "taken over" in bench.closed[0]
    bench.lns.disconnect(old)
    assert bench.lns.reaches(EUI)
    bench.lns.disconnect(new)
    assert not bench.lns.reaches(EUI)


def test_too_much_that_is_not_understood_ends_the_connection(bench: Bench) -> None:
    for _ in range(MAX_MALFORMED):
        bench.lns.message(bench.session, "{", at(1))
    assert bench.closed == []
    bench.lns.message(bench.session, "{", at(1))
    assert bench.closed


def test_the_round_trip_is_measured_by_the_servers_own_time(bench: Bench) -> None:
    bench.uplink(5, at(3), RefTime=1_800_000_002.875)
    (status,) = bench.lns.status(3 * S)
    assert status["round_trip_ms"] == 125.0
    bench.uplink(6, at(3), RefTime=1_700_000_000.0)
    assert bench.lns.status(3 * S)[0]["round_trip_ms"] == 125.0, "a clock was set meanwhile"


def test_damaged_messages_never_end_the_server(bench: Bench) -> None:
    rng = random.Random(11)
    valid = json.dumps(UPDF | {"DR": 5, "Freq": 868_100_000, "upinfo": {"xtime": 5, "rssi": -80, "snr": 7.5}})
    bench.session.malformed = -100_000
    for _ in range(3_000):
        data = bytearray(valid.encode())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        bench.lns.message(bench.session, bytes(data), at(1))
    counters = bench.lns.counters
    assert counters["malformed"] > 1_000
    assert len(bench.received) == counters["uplinks"] > 20


def test_a_frame_for_a_multicast_group_is_an_order_of_class_c_for_no_device(bench: Bench) -> None:
    at_once = packet(None, 869_525_000, SF12, imme=True)
    downlink = Downlink(
        "1", None, (at_once,), False, 7, False, klass="C", gateway=EUI, group="lamps", names=("RXC",)
    )
    order = bench.order(downlink)
    assert (order["dC"], order["RX2DR"], order["RX2Freq"]) == (2, 0, 869_525_000)
    assert order["DevEui"] == "00-00-00-00-00-00-00-00"
    bench.report(order)
    assert bench.reported == [1]

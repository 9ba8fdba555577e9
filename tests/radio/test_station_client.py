"""A radio as a concentrator of an LNS: what goes up, what comes down, and which way a downlink takes."""

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from radio.concentrator import TxResult
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region
from radio.station import times
from radio.station.client import MAX_WAITING, STALE_NS, Client
from radio.station.orders import CLASS_C_PAUSE_NS, CLASS_C_TRIES, MAX_PENDING, UNSENT_NS

S = 1_000_000_000
US = 1_000_000
SF7 = LoRaModulation(7, 125_000)
UPDF = bytes.fromhex("40abcdefff01f3f4ff202122a0a1a2a3")
JREQ = bytes.fromhex("000123456789abcdeff1e3f5e7f9ebfdeff0f1a0a1a2a3")
UTC_NS = 1_800_000_000 * S

# What The Things Stack sends for EU_863_870 (pkg/pfconfig/lbslns): no upchannels, missing data rates as zeros
THINGS_STACK_CONFIG: dict[str, Any] = {
    "msgtype": "router_config",
    "NetID": None,
    "JoinEui": None,
    "region": "EU863",
    "hwspec": "sx1301/1",
    "freq_range": [863000000, 870000000],
    "DRs": [[12 - dr, 125, 0] for dr in range(6)] + [[7, 250, 0], [0, 0, 0]] + [[0, 0, 0]] * 8,
    "sx1301_conf": [
        {
            "radio_0": {"enable": True, "freq": 867500000},
            "radio_1": {"enable": True, "freq": 868500000},
            "chan_multiSF_0": {"enable": True, "radio": 1, "if": -400000},
            "chan_multiSF_1": {"enable": True, "radio": 1, "if": -200000},
            "chan_multiSF_2": {"enable": True, "radio": 1, "if": 0},
            "chan_multiSF_3": {"enable": True, "radio": 0, "if": -400000},
            "chan_multiSF_4": {"enable": False, "radio": 0, "if": 0},
            "chan_Lora_std": {
                "enable": True,
                "radio": 1,
                "if": -200000,
                "bandwidth": 250000,
                "spread_factor": 7,
            },
            "chan_FSK": {"enable": True, "radio": 1, "if": 300000, "datarate": 50000},
        }
    ],
    "nocca": True,
    "nodc": True,
    "nodwell": True,
    "MuxTime": 1_700_000_000.5,
}


@dataclass
class Air:
    """A radio that takes or refuses orders as it is told."""

    orders: list[tuple[TxPacket, int]] = field(default_factory=list)
    errors: list[TxError] = field(default_factory=list)  # of the next orders; then all are taken

    def transmit(self, order: TxPacket, now_ns: int) -> TxResult:
        self.orders.append((order, now_ns))
        error = self.errors.pop(0) if self.errors else TxError.NONE
        if error is not TxError.NONE:
            return TxResult(error, "as the test wants it")
        start_ns = now_ns if order.imme or order.tmst is None else order.tmst * 1000
        return TxResult(TxError.NONE, start_ns=start_ns, id=len(self.orders))


@dataclass
class Bench:
    air: Air
    client: Client
    session: int = 0

    def connect(self, now_ns: int = 0, **changes: Any) -> None:
        (version,) = self.client.on_open(now_ns)
        assert json.loads(version)["msgtype"] == "version"
        assert json.loads(version)["protocol"] == 2
        out = self.client.on_message(json.dumps(THINGS_STACK_CONFIG | changes), now_ns)
        self.session = self.client._session
        assert [json.loads(text)["msgtype"] for text in out] == ["timesync"]

    def up(self, rx: RxPacket, now_ns: int) -> list[dict[str, Any]]:
        self.client.on_frame(rx, now_ns)
        messages = [json.loads(text) for text in self.client.on_time(now_ns)]
        return [message for message in messages if message["msgtype"] != "timesync"]

    def down(self, order: dict[str, Any], now_ns: int) -> None:
        assert self.client.on_message(json.dumps({"msgtype": "dnmsg"} | order), now_ns) == []

    def xtime(self, count_us: int) -> int:
        return self.session << 48 | count_us


def make(*, downlinks: bool = True) -> Bench:
    air = Air()
    client = Client(
        get_region("EU868"),
        air.transmit,
        name="things",
        downlinks=downlinks,
        heard_hz=[868_100_000, 868_300_000],
        utc_ns=lambda mono_ns: UTC_NS + mono_ns,
        rng=random.Random(1),
    )
    return Bench(air, client)


@pytest.fixture
def bench() -> Bench:
    made = make()
    made.connect()
    return made


def heard(data: bytes = UPDF, tmst: int = 5 * US, freq_hz: int = 868_100_000, **changes: Any) -> RxPacket:
    fields: dict[str, Any] = {"stat": 1, "modulation": SF7, "rssi_dbm": -80, "lsnr_db": 7.5} | changes
    return RxPacket(tmst=tmst, freq_hz=freq_hz, chan=0, rfch=0, data=data, **fields)


def order(bench: Bench, **changes: Any) -> dict[str, Any]:
    """A class A downlink as The Things Stack and others write it."""
    return {
        "DevEui": "00-00-00-00-00-00-00-01",
        "dC": 0,
        "diid": 77,
        "pdu": "6001020304050607080910",
        "RxDelay": 1,
        "RX1DR": 5,
        "RX1Freq": 868100000,
        "RX2DR": 0,
        "RX2Freq": 869525000,
        "priority": 25,
        "xtime": bench.xtime(5 * US),
        "rctx": 3,
        "MuxTime": 1_700_000_001.5,
    } | changes


def test_a_frame_goes_up_with_what_was_heard_of_it(bench: Bench) -> None:
    (message,) = bench.up(heard(time_ns=UTC_NS + 5 * S, tmms=1), 6 * S)
    assert message["msgtype"] == "updf"
    assert (message["DevAddr"], message["FCnt"], message["FPort"], message["MIC"]) == (
        -1061461,
        62707,
        32,
        -1549622880,
    )
    assert (message["DR"], message["Freq"]) == (5, 868_100_000)
    info = message["upinfo"]
    assert info["xtime"] == bench.xtime(5 * US)
    assert (info["rssi"], info["snr"], info["rctx"]) == (-80, 7.5, 0)
    assert info["rxtime"] == 1_800_000_005.0
    assert info["gpstime"] == (1_800_000_005 - 315_964_800 + 18) * US
    assert message["RefTime"] == 1_700_000_000.5 + 6, "the server's time plus what has passed since"


def test_without_gnss_no_gps_time_is_claimed(bench: Bench) -> None:
    (message,) = bench.up(heard(time_ns=UTC_NS), 6 * S)
    assert message["upinfo"]["gpstime"] == 0


def test_xtime_goes_on_counting_where_tmst_rolls_over(bench: Bench) -> None:
    wrap_us = 1 << 32
    (message,) = bench.up(heard(tmst=100), (wrap_us + 5000) * 1000)
    assert message["upinfo"]["xtime"] == bench.xtime(wrap_us + 100)
    bench.down(order(bench, xtime=bench.xtime(wrap_us - 500_000), RxDelay=1), (wrap_us - 400_000) * 1000)
    assert bench.air.orders[-1][0].tmst == 500_000


@pytest.mark.parametrize(
    ("rx", "counter"),
    [
        pytest.param(heard(stat=-1), "frames_not_carried", id="damaged"),
        pytest.param(heard(b""), "frames_not_carried", id="empty"),
        pytest.param(heard(b"\x41" + bytes(15)), "frames_not_carried", id="no LoRaWAN"),
        pytest.param(heard(freq_hz=869_525_000), "frames_not_wanted_channel", id="another channel"),
        pytest.param(
            heard(modulation=LoRaModulation(7, 500_000)),
            "frames_not_wanted_data_rate",
            id="another data rate",
        ),
        pytest.param(heard(b"\x40" + bytes(15)), "frames_not_wanted_net_id", id="another network"),
        pytest.param(heard(bytes(23)), "frames_not_wanted_join_eui", id="another join server"),
    ],
)
def test_what_the_server_does_not_want_stays_here_and_is_counted(rx: RxPacket, counter: str) -> None:
    bench = make()
    bench.connect(NetID=[0x7F], JoinEui=[[0xEFCDAB8967452300, 0xEFCDAB8967452301]])
    assert bench.up(rx, 6 * S) == []
    assert bench.client.counters[counter] == 1
    assert [message["msgtype"] for message in bench.up(heard(), 6 * S) + bench.up(heard(JREQ), 6 * S)] == [
        "updf",
        "jreq",
    ]


def test_channels_are_those_of_the_servers_concentrator_settings(bench: Bench) -> None:
    status = bench.client.status(S)
    assert (status["channels"], status["channels_not_heard"]) == (4, 2)
    assert status["connected"]
    for freq_hz, expected in ((868_300_000, 1), (868_500_000, 1), (867_100_000, 1), (867_500_000, 0)):
        assert len(bench.up(heard(freq_hz=freq_hz), 6 * S)) == expected, freq_hz
    wide = heard(freq_hz=868_300_000, modulation=LoRaModulation(7, 250_000))
    assert bench.up(wide, 6 * S)[0]["DR"] == 6


def test_a_class_a_downlink_is_sent_in_rx1_and_reported(bench: Bench) -> None:
    bench.down(order(bench), 5_100_000_000)
    ((packet, _),) = bench.air.orders
    assert packet.tmst == 6 * US
    assert (packet.freq_hz, packet.modulation, packet.powe_dbm) == (868_100_000, SF7, 16)
    assert (packet.ipol, packet.ncrc, packet.imme) == (True, True, False)
    assert packet.data.hex() == "6001020304050607080910"
    assert bench.client.on_sent(99) == [], "another server's"
    (report,) = bench.client.on_sent(1)
    assert (
        json.loads(report).items()
        >= {
            "msgtype": "dntxed",
            "diid": 77,
            "DevEui": "00-00-00-00-00-00-00-01",
            "DR": 5,
            "Freq": 868_100_000,
            "rctx": 3,
            "xtime": bench.xtime(6 * US),
        }.items()
    )
    assert bench.client.on_sent(1) == []


def test_rx2_is_taken_where_rx1_is_refused(bench: Bench) -> None:
    bench.air.errors = [TxError.TOO_LATE]
    bench.down(order(bench), 5_990_000_000)
    rx1, rx2 = (packet for packet, _ in bench.air.orders)
    assert (rx1.tmst, rx2.tmst) == (6 * US, 7 * US)
    assert (rx2.freq_hz, rx2.modulation.datr) == (869_525_000, "SF12BW125")
    (report,) = bench.client.on_sent(2)
    assert json.loads(report)["xtime"] == bench.xtime(7 * US)
    assert json.loads(report)["DR"] == 0


def test_rx2_is_taken_where_rx1_was_accepted_and_then_not_sent(bench: Bench) -> None:
    bench.down(order(bench), 5_100_000_000)
    length_us = airtime_us(SF7, 11, crc=False)
    due_ns = 6 * S + length_us * 1000 + UNSENT_NS
    assert bench.client.next_deadline() == due_ns
    bench.client.on_time(due_ns)
    assert [packet.tmst for packet, _ in bench.air.orders] == [6 * US, 7 * US]
    assert bench.client.counters["downlinks_not_sent"] == 1
    assert bench.client.on_sent(1) == [], "the first came to nothing"
    assert bench.client.on_sent(2)


def test_a_downlink_that_no_window_can_take_is_counted_and_not_reported(bench: Bench) -> None:
    bench.air.errors = [TxError.TOO_LATE, TxError.COLLISION_PACKET]
    bench.down(order(bench), 8 * S)
    assert bench.client.counters["downlinks_failed"] == 1
    assert bench.client.on_sent(1) == bench.client.on_sent(2) == []
    assert bench.client.status(8 * S)["downlinks_refused"] == 1


def test_a_class_c_downlink_leaves_at_once_and_is_tried_again_while_something_is_in_the_way(
    bench: Bench,
) -> None:
    bench.client.on_time(10 * S)
    bench.air.errors = [TxError.COLLISION_PACKET, TxError.COLLISION_PACKET]
    class_c = {"dC": 2, "RX2DR": 3, "RX2Freq": 869525000, "RxDelay": 0}
    plain = {key: value for key, value in order(bench).items() if key not in ("RX1DR", "RX1Freq", "xtime")}
    bench.down(plain | class_c, 10 * S)
    for tries in (1, 2):
        assert bench.client.next_deadline() == 10 * S + tries * CLASS_C_PAUSE_NS
        bench.client.on_time(10 * S + tries * CLASS_C_PAUSE_NS)
    assert [(packet.imme, packet.modulation.datr) for packet, _ in bench.air.orders] == [
        (True, "SF9BW125")
    ] * 3
    (report,) = bench.client.on_sent(3)
    assert json.loads(report)["xtime"] == bench.xtime(10 * US + 2 * CLASS_C_PAUSE_NS // 1000)


def test_a_class_c_downlink_is_given_up_on_in_the_end(bench: Bench) -> None:
    bench.air.errors = [TxError.COLLISION_PACKET] * 100
    plain = {key: value for key, value in order(bench).items() if key not in ("RX1DR", "RX1Freq", "xtime")}
    bench.down(plain | {"dC": 2}, 10 * S)
    for tries in range(1, 20):
        bench.client.on_time(10 * S + tries * CLASS_C_PAUSE_NS)
    assert len(bench.air.orders) == CLASS_C_TRIES + 1
    assert bench.client.counters["downlinks_failed"] == 1


def test_a_class_b_downlink_leaves_at_its_gps_time(bench: Bench) -> None:
    gps_us = 1_484_035_223_000_000
    plain = {key: order(bench)[key] for key in ("DevEui", "diid", "pdu", "rctx")}
    bench.down(plain | {"dC": 1, "DR": 3, "Freq": 869525000, "gpstime": gps_us}, 10 * S)
    assert bench.air.orders[0][0].tmms == gps_us // 1000
    schedule = [
        {"pdu": "e001", "DR": 3, "Freq": 869525000, "gpstime": gps_us},
        {"pdu": "e002", "DR": 3, "Freq": 869525000, "xtime": bench.xtime(20 * US)},
    ]
    bench.client.on_message(json.dumps({"msgtype": "dnsched", "schedule": schedule}), 10 * S)
    assert [(packet.tmms, packet.tmst) for packet, _ in bench.air.orders[1:]] == [
        (gps_us // 1000, None),
        (None, 20 * US),
    ]
    assert bench.client.on_sent(2) == bench.client.on_sent(3) == [], "nobody waits for a report"


@pytest.mark.parametrize(
    ("changes", "counter"),
    [
        pytest.param({"xtime": 5 << 56 | 1 << 48 | 5}, "downlinks_impossible", id="of another session"),
        pytest.param({"RX1DR": 7}, "downlinks_impossible", id="FSK"),
        pytest.param({"RX1Freq": 915000000}, "downlinks_impossible", id="outside of the server's own range"),
        pytest.param({"xtime": None}, "downlinks_impossible", id="no moment"),
        pytest.param({"pdu": ""}, "messages_malformed", id="nothing to send"),
    ],
)
def test_orders_that_cannot_be_followed_reach_no_radio(
    bench: Bench, changes: dict[str, Any], counter: str
) -> None:
    bench.down(order(bench, **changes), 5_100_000_000)
    assert bench.air.orders == []
    assert bench.client.counters[counter] == 1


def test_no_downlink_is_sent_for_a_server_that_may_not() -> None:
    bench = make(downlinks=False)
    bench.connect()
    bench.down(order(bench), 5_100_000_000)
    assert bench.air.orders == []
    assert bench.client.counters["downlinks_refused"] == 1


def test_a_server_controls_nothing_but_the_radio(bench: Bench) -> None:
    for message in (
        {"msgtype": "runcmd", "command": "/bin/sh", "arguments": ["-c", "reboot"]},
        {"msgtype": "rmtsh", "start": 0, "user": "root"},
    ):
        assert bench.client.on_message(json.dumps(message), S) == []
    assert bench.client.counters["remote_control_refused"] == 2
    bench.client.on_message('{"msgtype":"later"}', S)
    assert bench.client.counters["messages_ignored"] == 1


def test_power_is_bounded_by_the_server_the_region_and_the_sub_band() -> None:
    in_rx1 = get_region("EU868").sub_band_for(868_100_000, 125_000)
    assert in_rx1 is not None
    for changes, expected in (({}, 16), ({"max_eirp": 10}, 10), ({"max_eirp": 60}, int(in_rx1.max_eirp_dbm))):
        bench = make()
        bench.connect(**changes)
        bench.down(order(bench), 5_100_000_000)
        assert bench.air.orders[0][0].powe_dbm == expected


def test_frames_wait_for_the_configuration_and_old_ones_are_dropped() -> None:
    bench = make()
    bench.client.on_frame(heard(), 0)
    assert bench.client.on_time(S) == []
    bench.client.on_frame(heard(), STALE_NS)
    bench.client.on_open(STALE_NS + 1)
    out = bench.client.on_message(json.dumps(THINGS_STACK_CONFIG), STALE_NS + 2)
    assert [json.loads(text)["msgtype"] for text in out] == ["updf", "timesync"]
    assert bench.client.counters["frames_dropped"] == 1
    for _ in range(MAX_WAITING + 5):
        bench.client.on_frame(heard(), 0)
    assert bench.client.counters["frames_dropped"] == 6


def test_the_clocks_of_both_sides_are_compared(bench: Bench) -> None:
    ahead_us = 250_000
    gps_us = times.gps_us(UTC_NS + 1_005_000_000) + ahead_us
    answer = {"msgtype": "timesync", "txtime": 1_000_000, "gpstime": gps_us, "MuxTime": 1.5}
    bench.client.on_message(json.dumps(answer), 1_010_000_000)
    status = bench.client.status(2 * S)
    assert (status["round_trip_ms"], status["server_ahead_ms"]) == (10.0, 250.0)
    bench.client.on_message(json.dumps(answer), 9 * S)
    assert bench.client.counters["time_syncs_useless"] == 1, "an answer that took seconds tells nothing"
    bench.client.on_message('{"msgtype":"timesync","txtime":1}', 9 * S)


def test_a_new_connection_is_a_new_session(bench: Bench) -> None:
    before = bench.session
    bench.down(order(bench), 5_100_000_000)
    bench.client.on_close(6 * S)
    assert not bench.client.connected
    assert bench.client.on_sent(1) == [], "its connection is gone"
    bench.connect(7 * S)
    assert 1 <= bench.session <= 255
    assert bench.session != before
    bench.down(order(bench, xtime=before << 48 | 5 * US), 7 * S)
    assert bench.client.counters["downlinks_impossible"] == 1


def test_orders_are_bounded(bench: Bench) -> None:
    for _ in range(MAX_PENDING + 3):
        bench.down(order(bench), 5_100_000_000)
    assert len(bench.air.orders) == MAX_PENDING
    assert bench.client.counters["downlinks_impossible"] == 3

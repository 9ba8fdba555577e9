"""The Basics Station protocol against what other implementations say, and against damaged text.

Vectors are those of LoRa Basics Station 2.0.6 (its self-test of frames, and the configurations its regression tests
send) and of The Things Stack 3.3x (the tests of its `lbslns`, `id6` and `semtechws` packages).
"""

import json
import random
import time
from typing import Any

import pytest

from radio.station import codec, frames, times
from radio.station.errors import StationError
from radio.station.eui import dashes, id6, parse_eui
from radio.station.messages import (
    Channel,
    DataRate,
    Discovery,
    DiscoveryAnswer,
    Order,
    Other,
    RouterConfig,
    Schedule,
    Scheduled,
    Sent,
    TimeSync,
    TimeSyncRequest,
    Uplink,
    Version,
)

UPINFO: dict[str, Any] = {
    "rxtime": 1548059982,
    "rctx": 0,
    "xtime": 12666373963464220,
    "gpstime": 0,
    "rssi": 89,
    "snr": 9.25,
}
RADIO: dict[str, Any] = {"RefTime": 0, "DR": 1, "Freq": 868300000, "upinfo": UPINFO}

# Frames of Basics Station's self-test, with the fields it writes for them
STATION_FRAMES = [
    pytest.param(
        "000123456789abcdeff1e3f5e7f9ebfdeff0f1a0a1a2a3",
        {
            "msgtype": "jreq",
            "MHdr": 0,
            "JoinEui": "EF-CD-AB-89-67-45-23-01",
            "DevEui": "EF-FD-EB-F9-E7-F5-E3-F1",
            "DevNonce": 61936,
            "MIC": -1549622880,
        },
        id="jreq",
    ),
    pytest.param(
        "40abcdefff01f3f4ff202122a0a1a2a3",
        {
            "msgtype": "updf",
            "MHdr": 64,
            "DevAddr": -1061461,
            "FCtrl": 1,
            "FCnt": 62707,
            "FOpts": "FF",
            "FPort": 32,
            "FRMPayload": "2122",
            "MIC": -1549622880,
        },
        id="updf",
    ),
    pytest.param(
        "e0" + "5f" * 15,
        {"msgtype": "propdf", "FRMPayload": "E05F5F5F5F5F5F5F5F5F5F5F5F5F5F5F"},
        id="propdf",
    ),
    pytest.param(
        "20" + "5f" * 15,
        {"msgtype": "jacc", "FRMPayload": "205F5F5F5F5F5F5F5F5F5F5F5F5F5F5F"},
        id="jacc",
    ),
]


@pytest.mark.parametrize(("phy", "fields"), STATION_FRAMES)
def test_a_frame_is_taken_apart_as_basics_station_does_and_put_together_again(
    phy: str, fields: dict[str, Any]
) -> None:
    kind, mine = frames.split(bytes.fromhex(phy))
    assert {"msgtype": kind} | mine == fields
    read = codec.decode_up(json.dumps(fields | RADIO))
    assert isinstance(read, Uplink)
    assert read.phy.hex() == phy
    assert json.loads(codec.encode_up(read)).items() >= fields.items()


@pytest.mark.parametrize(
    "phy",
    [
        pytest.param("", id="nothing"),
        pytest.param("00", id="too short"),
        pytest.param("03" + "5f" * 15, id="another major version"),
        pytest.param("000123456789abcdeff1e3f5e7f9ebfdeff0f1a0a1a2", id="a short join-request"),
        pytest.param("40abcdefff01f3f4ff202122", id="FOpts that do not fit"),
    ],
)
def test_what_is_no_lorawan_frame_is_not_sent(phy: str) -> None:
    with pytest.raises(StationError):
        frames.split(bytes.fromhex(phy))


def test_the_things_stacks_join_request() -> None:
    text = (
        '{"msgtype":"jreq","MHdr":0,"JoinEui":"2222:2222:2222:2222","DevEui":"1111:1111:1111:1111",'
        '"DevNonce":18000,"MIC":12345678,"RefTime":0,"DR":1,"Freq":868300000,"upinfo":{"rxtime":1548059982,'
        '"rctx":0,"xtime":12666373963464220,"gpstime":0,"rssi":89,"snr":9.25}}'
    )
    read = codec.decode_up(text)
    assert isinstance(read, Uplink)
    # MIC 4e61bc00 and DevNonce 4650 as its own decoder expects them
    assert read.phy.hex() == "00" + "22" * 8 + "11" * 8 + "5046" + "4e61bc00"
    assert (read.dr, read.freq_hz, read.rssi_dbm, read.snr_db) == (1, 868_300_000, 89, 9.25)
    assert times.tmst_of(read.xtime) == 12666373963464220 & 0xFFFFFFFF
    assert times.unit_of(read.xtime) == 0
    assert times.session_of(read.xtime) == 12666373963464220 >> 48 == 45


def test_the_things_stacks_spelling_of_the_frame_counter_is_read() -> None:
    text = (
        '{"msgtype":"updf","MHdr":64,"DevAddr":287454020,"FCtrl":49,"Fcnt":25,"FOpts":"FD","FPort":1,'
        '"FRMPayload":"5fcc","MIC":12345678,"RefTime":0,"DR":1,"Freq":868300000,"upinfo":{"rxtime":1548059982,'
        '"rctx":0,"xtime":12666373963464220,"gpstime":0,"rssi":89,"snr":9.25}}'
    )
    read = codec.decode_up(text)
    assert isinstance(read, Uplink)
    assert read.phy.hex() == "40" + "44332211" + "31" + "1900" + "fd" + "01" + "5fcc" + "4e61bc00"


def test_a_receipt_of_the_things_stack() -> None:
    text = (
        '{"msgtype":"dntxed","diid":35,"DevEui":"1111:1111:1111:1111","rctx":0,"xtime":1552906698,'
        '"txtime":1552906698,"gpstime":1552906698}'
    )
    read = codec.decode_up(text)
    assert read == Sent(35, b"\x11" * 8, 0, 1552906698, 1552906698.0, 1552906698)
    old = codec.decode_up('{"msgtype":"dntxed","seqno":7,"DevEui":"::1"}')
    assert old == Sent(7, bytes(7) + b"\x01")


def test_an_order_of_the_things_stack() -> None:
    text = (
        '{"msgtype":"dnmsg","DevEui":"00-00-00-00-00-00-00-01","dC":0,"diid":1,"pdu":"596d78","rctx":2,'
        '"priority":25,"MuxTime":1554300787.123456,"RxDelay":1,"RX1DR":2,"RX1Freq":868500000,'
        '"xtime":4785074617154099}'
    )
    assert codec.decode_down(text) == Order(
        dev_eui=bytes(7) + b"\x01",
        device_class=0,
        diid=1,
        pdu=b"Ymx",
        rctx=2,
        xtime=4785074617154099,
        rx_delay_s=1,
        rx1=(2, 868_500_000),
        priority=25,
        mux_time_s=1554300787.123456,
    )
    ping = (
        '{"msgtype":"dnmsg","DevEui":"00-00-00-00-00-00-00-01","dC":1,"diid":2,"pdu":"596d78","rctx":2,'
        '"priority":25,"MuxTime":1554300787.5,"DR":2,"Freq":869525000,"gpstime":795663266111638}'
    )
    order = codec.decode_down(ping)
    assert isinstance(order, Order)
    assert (order.ping, order.gpstime_us, order.rx1, order.rx2) == (
        (2, 869_525_000),
        795663266111638,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('{"msgtype":"dnmsg","DevEui":"::1","dC":0,"diid":1,"pdu":"60"}', "RX1", id="no window"),
        pytest.param(
            '{"msgtype":"dnmsg","DevEui":"::1","dC":0,"diid":1,"pdu":"60","RX1DR":1}',
            "not both",
            id="half a window",
        ),
        pytest.param(
            '{"msgtype":"dnmsg","DevEui":"::1","dC":0,"pdu":"60","RX1DR":1,"RX1Freq":868100000}',
            "diid",
            id="no number",
        ),
        pytest.param(
            '{"msgtype":"dnmsg","dC":0,"diid":1,"pdu":"60","RX1DR":1,"RX1Freq":868100000}',
            "DevEui",
            id="nobody",
        ),
        pytest.param(
            '{"msgtype":"dnmsg","DevEui":"::1","dC":1,"diid":1,"pdu":"60"}', "class B", id="no ping"
        ),
        pytest.param(
            '{"msgtype":"dnsched","schedule":[{"pdu":"60","DR":1,"Freq":868100000}]}', "time", id="never"
        ),
        pytest.param("[1,2]", "object", id="no object"),
        pytest.param("{", "truncated", id="no JSON"),
    ],
)
def test_orders_that_cannot_be_followed_are_refused(text: str, words: str) -> None:
    with pytest.raises(StationError, match=words):
        codec.decode_down(text)


def test_an_uplinks_own_contradictions_are_refused() -> None:
    updf = {"msgtype": "updf", "MHdr": 64, "DevAddr": 1, "FCtrl": 0, "FCnt": 1, "MIC": 1} | RADIO
    for wrong, words in (
        ({"FOpts": "02"}, "FOpts"),
        ({"FRMPayload": "02"}, "without FPort"),
        ({"FOpts": "zz"}, "hexadecimal"),
        ({"MHdr": 224}, "MHDR"),
        ({"FCnt": 65536}, "<= 65535"),
    ):
        with pytest.raises(StationError, match=words):
            codec.decode_up(json.dumps(updf | wrong))


# The table of The Things Stack's id6 tests
@pytest.mark.parametrize(
    ("text", "eui"),
    [
        ("aa-bb-cc-01-02-03-42-ff", "aabbcc01020342ff"),
        ("aa:bb:cc:01:02:03:42:ff", "aabbcc01020342ff"),
        ("aabb:cc01:0203:42ff", "aabbcc01020342ff"),
        ("aabb:01:203:42ff", "aabb0001020342ff"),
        ("aabb:01::", "aabb000100000000"),
        ("router-aabb:01::", "aabb000100000000"),
        ("::0", "0000000000000000"),
        ("f::1", "000f000000000001"),
        ("0::1", "0000000000000001"),
        ("1::", "0001000000000000"),
        ("router-80::fd46", "008000000000fd46"),
        ("muxs-::0", "0000000000000000"),
        (12302426811387609088, "aabb000100000000"),
    ],
)
def test_euis_are_read_in_every_spelling(text: str | int, eui: str) -> None:
    assert parse_eui(text).hex() == eui
    assert parse_eui(id6(bytes.fromhex(eui))).hex() == eui
    assert parse_eui(dashes(bytes.fromhex(eui))).hex() == eui


@pytest.mark.parametrize(
    "text",
    [
        "aa:bb:cc:01:02:03",
        "aa:bb:cc:01:02:03:42:ff:f2",
        "aa:bb:cc:01:02:03:42:xx",
        "aa:bb:cc:01:02:03:42-01",
        "aa-bb-cc-01-02-03",
        "aa-bb-cc-01-02-03-42-xx",
        -12302426811387609088,
        1 << 64,
        "",
        "1:2:3:4:5",
        "1::2::3",
        "1:2:3::4:5",
        "\u0661::1",
        "a" * 10_000,
    ],
)
def test_what_is_no_eui_is_refused(text: str | int) -> None:
    with pytest.raises(StationError):
        parse_eui(text)


@pytest.mark.parametrize(
    ("eui", "text"),
    [
        ("aabb0001020342ff", "aabb:1:203:42ff"),
        ("0000000000000000", "::0"),
        ("0000000000000001", "::1"),
        ("000f000000000001", "f::1"),
        ("0001000000000000", "1::"),
        ("aabb000100000000", "aabb:1::"),
    ],
)
def test_an_eui_is_written_in_id6(eui: str, text: str) -> None:
    assert id6(bytes.fromhex(eui)) == text


def test_gps_time_counts_the_leap_seconds() -> None:
    # 2017-01-01 00:00:00 UTC is GPS week 1930, 18 seconds into Sunday (IS-GPS-200, and IERS Bulletin C 52)
    assert times.gps_us(1_483_228_800 * 1_000_000_000) == (1930 * 7 * 86400 + 18) * 1_000_000
    for utc_ns in (1_700_000_000_123_456_000, 1_483_228_800_000_000_000):
        assert times.utc_ns(times.gps_us(utc_ns)) == utc_ns


EU863_SIX_CHANNELS = {
    "msgtype": "router_config",
    "region": "EU863",
    "DRs": [[12 - dr, 125, 0] for dr in range(6)] + [[7, 250, 0], [0, 0, 0]] + [[-1, 0, 0]] * 8,
    "max_eirp": 16.0,
    "protocol": 1,
    "freq_range": [863000000, 870000000],
    "JoinEui": None,
    "NetID": None,
    "bcning": None,
    "config": {},
    "hwspec": "sx1301/1",
    "sx1301_conf": [{"chan_FSK": {"enable": False}, "radio_0": {"enable": True, "freq": 868475000}}],
    "upchannels": [[868100000, 0, 5], [868300000, 0, 5], [869525000, 0, 5]],
    "MuxTime": 1700000000.25,
}


def test_a_configuration_of_basics_stations_own_tests() -> None:
    read = codec.decode_down(json.dumps(EU863_SIX_CHANNELS))
    assert isinstance(read, RouterConfig)
    assert read.data_rates[5] == DataRate(7, 125)
    assert read.data_rates[7] == DataRate(0, 0), "FSK"
    assert read.data_rates[8:] == (None,) * 8
    assert read.channels == (
        Channel(868_100_000, 0, 5),
        Channel(868_300_000, 0, 5),
        Channel(869_525_000, 0, 5),
    )
    assert (read.net_ids, read.join_euis) == (None, None)
    again = json.loads(codec.encode_down(read))
    for name in ("region", "DRs", "max_eirp", "freq_range", "hwspec", "sx1301_conf", "upchannels", "MuxTime"):
        assert again[name] == EU863_SIX_CHANNELS[name], name


def test_filters_are_read_as_basics_station_reads_them() -> None:
    text = json.dumps(
        EU863_SIX_CHANNELS | {"NetID": [19, 0x600013], "JoinEui": [[1, 5], ["::6", "::7"], [0, 9], [9, 9]]}
    )
    read = codec.decode_down(text)
    assert isinstance(read, RouterConfig)
    assert read.net_ids == (19, 19), "seven bits count"
    assert read.join_euis == ((1, 5), (6, 7)), "a range from 0 ends the list"
    none = codec.decode_down(json.dumps(EU863_SIX_CHANNELS | {"JoinEui": [], "NetID": []}))
    assert isinstance(none, RouterConfig)
    assert (none.join_euis, none.net_ids) == (None, ())


def test_every_message_comes_back_as_it_was_written() -> None:
    eui = bytes.fromhex("b827ebfffe123456")
    up = [
        Version("2.0.6(rpi/std)", "", "1.0", "rpi", 2, "rmtsh"),
        Sent(5, eui, 1, 1 << 50, 12.5, 7, 3, 868_100_000),
        TimeSyncRequest(123456789),
        TimeSyncRequest(123.456),
        Other("getxtime"),
    ]
    assert [codec.decode_up(codec.encode_up(message)) for message in up] == up
    down = [
        Order(eui, 0, 1, b"\x60\x01", 1, 1 << 50, 5, (5, 868_100_000), (0, 869_525_000), None, 0, 10, 1.5),
        Order(eui, 2, 2, b"\x60", rx2=(0, 869_525_000)),
        Order(eui, 1, 3, b"\x60", ping=(3, 869_525_000), gpstime_us=10**15),
        Schedule(
            (Scheduled(b"\x60", 0, 869_525_000, gpstime_us=10**15), Scheduled(b"\x60", 0, 869_525_000, 1, 9))
        ),
        TimeSync(123, None, 10**15, 1.5),
        TimeSync(123),
        TimeSync(None, 1 << 50, 10**15),
        Other("runcmd"),
    ]
    assert [codec.decode_down(codec.encode_down(message)) for message in down] == down
    assert codec.decode_discovery(codec.encode_discovery(Discovery(eui))) == Discovery(eui)
    answers = [DiscoveryAnswer(eui, bytes(8), "wss://h:1/x"), DiscoveryAnswer(eui, b"", "", "unknown router")]
    assert [codec.decode_discovery_answer(codec.encode_discovery_answer(a)) for a in answers] == answers


def test_the_time_of_a_station_goes_back_as_it_came() -> None:
    request = codec.decode_up('{"msgtype":"timesync","txtime":5029138245781}')
    assert isinstance(request, TimeSyncRequest)
    assert '"txtime":5029138245781' in codec.encode_down(TimeSync(request.txtime, gpstime_us=1))


VALID_UP = [
    codec.encode_up(
        Uplink(bytes.fromhex("40abcdefff01f3f4ff202122a0a1a2a3"), 5, 868_100_000, 1, 1 << 50, -80.0, 7.5)
    ),
    codec.encode_up(
        Uplink(
            bytes.fromhex("000123456789abcdeff1e3f5e7f9ebfdeff0f1a0a1a2a3"), 0, 868_100_000, 0, 5, -80.0, 7.5
        )
    ),
    codec.encode_up(Uplink(b"\xe0" + bytes(15), 0, 868_100_000, 0, 5, -80.0, 7.5)),
    codec.encode_up(Sent(5, bytes(8), 1, 1 << 50, 12.5, 7, 3, 868_100_000)),
    codec.encode_up(Version("2.0.6", "", "1.0", "rpi", 2, "rmtsh")),
    codec.encode_up(TimeSyncRequest(1)),
]
VALID_DOWN = [
    json.dumps(EU863_SIX_CHANNELS | {"JoinEui": [["::1", 7]], "NetID": [1]}),
    codec.encode_down(Order(bytes(8), 0, 1, b"\x60", 1, 1 << 50, 5, (5, 868_100_000), (0, 869_525_000))),
    codec.encode_down(Order(bytes(8), 1, 3, b"\x60", ping=(3, 869_525_000), gpstime_us=10**15)),
    codec.encode_down(Schedule((Scheduled(b"\x60", 0, 869_525_000, gpstime_us=10**15),), 1.0)),
    codec.encode_down(TimeSync(1, 2, 3, 4.0)),
]
VALID_DISCOVERY = [codec.encode_discovery(Discovery(bytes(7) + b"\x01")), '{"router":12302426811387609088}']
VALID_ANSWERS = [codec.encode_discovery_answer(DiscoveryAnswer(bytes(8), bytes(8), "wss://h:1/x"))]
PIECES = (
    '-1 0 1e400 1e-400 NaN null true [] {} [[[]]] "" "\\ud800" "zz" 18446744073709551616 99999999999999999999999 '
    '-9223372036854775809 0.5 "::" "1::2::3" {"a":1} "' + "A" * 600 + '" '
).split()


def damaged(rng: random.Random, text: str) -> str | bytes:
    """One of the ways in which text goes wrong on its way."""
    match rng.randrange(6):
        case 0:
            tree = json.loads(text)
            spot: Any = tree
            for _ in range(rng.randrange(3)):
                inner = [
                    v
                    for v in (spot.values() if isinstance(spot, dict) else spot)
                    if isinstance(v, dict | list) and v
                ]
                if not inner:
                    break
                spot = rng.choice(inner)
            key = rng.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
            mark = "@@damage@@"
            spot[key] = mark
            return json.dumps(tree).replace(f'"{mark}"', rng.choice(PIECES))
        case 1:
            tree = json.loads(text)
            del tree[rng.choice(list(tree))]
            return json.dumps(tree)
        case 2:
            return text[: rng.randrange(len(text))]
        case 3:
            data = bytearray(text.encode())
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)
        case 4:
            at = rng.randrange(len(text))
            return text[:at] + rng.choice(PIECES) + text[at:]
        case _:
            return "[" * rng.randrange(1, 3000) + text


def test_damaged_messages_raise_only_station_error() -> None:
    rng = random.Random(20261122)
    ways = (
        (codec.decode_up, VALID_UP),
        (codec.decode_down, VALID_DOWN),
        (codec.decode_discovery, VALID_DISCOVERY),
        (codec.decode_discovery_answer, VALID_ANSWERS),
    )
    refused = read = 0
    for _ in range(20_000):
        decode, valid = rng.choice(ways)
        text = damaged(rng, rng.choice(valid))
        try:
            message = decode(text)
        except StationError:
            refused += 1
            continue
        read += 1
        if isinstance(message, Uplink):
            codec.encode_up(message)
        if isinstance(message, RouterConfig | Order | Schedule | TimeSync):
            codec.encode_down(message)
    assert refused > 5_000
    assert read > 1_000


def test_hostile_euis_cost_no_time() -> None:
    begun = time.process_time()
    for text in ("a-" * 30 + ":", ":" * 64, "a:" * 32, "router-" * 9 + ":"):
        with pytest.raises(StationError):
            parse_eui(text)
    assert time.process_time() - begun < 5

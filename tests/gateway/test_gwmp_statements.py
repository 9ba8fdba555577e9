"""Both sides of the link against the text of the protocol, statement by statement.

The text is Semtech's PROTOCOL.TXT of packet_forwarder 4.0 and PROTOCOL.md of sx1302_hal 2.1, versions 1.3 to 1.6
of the protocol; the numbers are its sections.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.forwarders import Address
from gateway.link import Link
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.types import DevEUI
from radio.concentrator import TxResult
from radio.forwarder import SECOND_NS, Forwarder, Way
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation

EUI = bytes.fromhex("b827ebfffe123456")
SF7 = LoRaModulation(7, 125_000)
UP: Address = ("192.0.2.1", 40001)
DOWN: Address = ("192.0.2.1", 40002)
RXPK: dict[str, Any] = {
    "tmst": 3512348611,
    "freq": 866.349812,
    "datr": "SF7BW125",
    "codr": "4/6",
    "rssi": -35,
    "data": "-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84",
}
TXPK: dict[str, Any] = {
    "freq": 864.123456,
    "datr": "SF11BW125",
    "data": "H3P3N2i9qc4yt7rK7ldqoeCVJGBybzPY5h1Dd7P7p8v",
}


@dataclass
class Both:
    """A forwarder and a server, and what either has sent and been given."""

    received: list[tuple[RxPacket, ...]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    out: list[tuple[bytes, Address]] = field(default_factory=list)
    fate: list[object] = field(default_factory=list)
    answer: TxResult = field(default_factory=lambda: TxResult(TxError.NONE))
    orders: list[TxPacket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forwarder = Forwarder(EUI, self._transmit, rng=random.Random(7))
        self.server = Link(self, self._send)

    # what the forwarder does

    def sends(self, now_ns: int = 0) -> list[tuple[Way, bytes]]:
        return self.forwarder.on_time(now_ns)

    def ordered(self, txpk: dict[str, Any], token: bytes = b"\x0a\x0b") -> bytes:
        """The TX_ACK to a PULL_RESP with this txpk."""
        wire = b"\x02" + token + b"\x03" + json.dumps({"txpk": txpk}).encode()
        ((way, ack),) = self.forwarder.on_datagram(Way.DOWN, wire, 0)
        assert way is Way.DOWN
        return ack

    def _transmit(self, order: TxPacket, _now_ns: int) -> TxResult:
        self.orders.append(order)
        return self.answer

    # what the server does

    def push(self, body: object, token: bytes = b"\x12\x34") -> None:
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.server.datagram(b"\x02" + token + b"\x00" + EUI + data, UP, 0)

    def pull(self, token: bytes = b"\x56\x78", address: Address = DOWN) -> None:
        self.server.datagram(b"\x02" + token + b"\x02" + EUI, address, 0)

    def downlink(self) -> bytes:
        """A PULL_RESP, as it leaves."""
        self.server.transmit(_downlink(), EUI, 0)
        return self.out[-1][0]

    def _send(self, data: bytes, address: Address) -> None:
        self.happened.append("sent")
        self.out.append((data, address))

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        self.happened.append("received")
        assert eui == EUI
        self.received.append(packets)

    def sent(self, downlink: Downlink, window: int) -> None:
        self.fate.append(window)

    def failed(self, downlink: Downlink, error: TxError) -> None:
        self.fate.append(error)


@pytest.fixture
def both() -> Both:
    return Both()


def a_frame() -> RxPacket:
    return RxPacket(1, 868_100_000, 2, 0, 1, SF7, -50, 9.25, b"frame", time_ns=1_364_746_877_528_002_000)


# 3 Upstream protocol


def test_3_2_push_data_is_version_token_identifier_gateway_and_a_json_object(both: Both) -> None:
    both.forwarder.on_frame(a_frame(), 0)
    (way, wire), *_ = both.sends()
    assert (way, wire[0], wire[3], wire[4:12]) == (Way.UP, 2, 0x00, EUI)
    assert (wire[12:13], wire[-1:]) == (b"{", b"}")
    both.server.datagram(wire, UP, 0)
    assert both.received == [(a_frame(),)] or both.received[0][0].lsnr_db == 9.2


def test_3_2_tokens_are_random(both: Both) -> None:
    tokens = set()
    for n in range(200):
        both.forwarder.on_frame(a_frame(), n)
        tokens |= {wire[1:3] for way, wire in both.sends(n) if way is Way.UP}
    assert len(tokens) == 200


def test_3_3_push_ack_repeats_the_token_and_comes_before_the_packets_are_processed(both: Both) -> None:
    both.push({"rxpk": [RXPK]}, b"\xbe\xef")
    assert both.out == [(b"\x02\xbe\xef\x01", UP)]
    assert both.happened == ["sent", "received"]


def test_1_acknowledgements_measure_the_link_and_nothing_is_sent_again(both: Both) -> None:
    both.forwarder.on_frame(a_frame(), 0)
    pushed = [wire for way, wire in both.sends(0) if way is Way.UP]
    later = [wire for at in range(1, 29) for way, wire in both.sends(at * SECOND_NS) if way is Way.UP]
    assert (len(pushed), later) == (1, [])
    (report,) = [wire for way, wire in both.sends(30 * SECOND_NS) if way is Way.UP]
    assert json.loads(report[12:])["stat"]["ackr"] == 0.0


# 4 Upstream JSON data structure


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("time", "2013-03-31T16:21:17.528002Z", "time_ns", 1_364_746_877_528_002_000),
        ("time", "20130331T162117.528002Z", "time_ns", 1_364_746_877_528_002_000),  # ISO 8601 "compact"
        ("time", "yesterday", "time_ns", None),
        ("tmms", 1_048_782_093_528, "tmms", 1_048_782_093_528),
        ("tmst", 0, "tmst", 0),
        ("tmst", 4_294_967_295, "tmst", 4_294_967_295),
        ("freq", 866.349812, "freq_hz", 866_349_812),  # MHz, Hz precision
        ("freq", 868, "freq_hz", 868_000_000),
        ("chan", 9, "chan", 9),
        ("rfch", 1, "rfch", 1),
        ("mid", 8, "chan", 0),
        ("stat", 1, "stat", 1),
        ("stat", -1, "stat", -1),
        ("stat", 0, "stat", 0),
        ("modu", "LORA", "modulation", LoRaModulation(7, 125_000, 2)),
        ("datr", "SF12BW500", "modulation", LoRaModulation(12, 500_000, 2)),
        ("codr", "4/8", "modulation", LoRaModulation(7, 125_000, 4)),
        ("rssi", -127, "rssi_dbm", -127),
        ("rssis", -130, "rssi_dbm", -35),
        ("lsnr", -7.8, "lsnr_db", -7.8),
        ("lsnr", 5, "lsnr_db", 5.0),
        ("foff", -1234, "foff_hz", -1234),
        ("ftime", 123_456_789, "rssi_dbm", -35),
        ("size", 32, "tmst", 3_512_348_611),
        ("a field of the future", {"deep": [1, None]}, "tmst", 3_512_348_611),
    ],
)
def test_4_the_fields_of_an_rxpk(both: Both, name: str, value: object, read: str, expected: object) -> None:
    both.push({"rxpk": [RXPK | {name: value}]})
    ((packet,),) = both.received
    assert getattr(packet, read) == expected


@pytest.mark.parametrize("text", ["/f8=", "/f8", "_f8", "_f8="])
def test_4_data_is_base64_with_or_without_padding_in_either_alphabet(both: Both, text: str) -> None:
    both.push({"rxpk": [RXPK | {"data": text}]})
    ((packet,),) = both.received
    assert packet.data == b"\xfd\xff"


def test_4_an_fsk_packet_with_its_number_for_a_datarate_is_passed_over_beside_others(both: Both) -> None:
    fsk = {"tmst": 1, "freq": 869.1, "modu": "FSK", "datr": 50000, "rssi": -75, "size": 16}
    both.push({"rxpk": [fsk | {"data": "VEVTVF9QQUNLRVRfMTIzNA=="}, RXPK]})
    assert [packet.tmst for packet in both.received[0]] == [3_512_348_611]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"rxpk": [RXPK, RXPK], "stat": {"rxnb": 2}}, id="packets and status"),
        pytest.param({"stat": {"rxnb": 2}, "rxpk": [RXPK, RXPK]}, id="in either order"),
        pytest.param(
            json.dumps({"rxpk": [RXPK, RXPK], "stat": {"rxnb": 2}}, indent=4).encode(), id="white space"
        ),
        pytest.param(
            json.dumps({"rxpk": [RXPK, RXPK], "stat": {"rxnb": 2}}).encode() + b"\0", id="a zero byte"
        ),
        pytest.param({"rxpk": [RXPK, RXPK], "stat": {"rxnb": 2}, "else": 1}, id="other members"),
    ],
)
def test_4_the_root_object_holds_packets_and_status(both: Both, body: object) -> None:
    both.push(body)
    assert [len(packets) for packets in both.received] == [2]
    stat = both.server.forwarders.known[EUI].stat
    assert stat is not None
    assert stat.rxnb == 2


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("time", "2014-01-12 08:59:28 GMT", "time_ns", 1_389_517_168_000_000_000),  # ISO 8601 "expanded"
        ("lati", 46.24, "lati", 46.24),
        ("long", 3.2523, "long", 3.2523),
        ("alti", 145, "alti", 145),
        ("rxnb", 5, "rxnb", 5),
        ("rxok", 4, "rxok", 4),
        ("rxfw", 3, "rxfw", 3),
        ("ackr", 66.7, "ackr", 66.7),
        ("dwnb", 2, "dwnb", 2),
        ("txnb", 1, "txnb", 1),
        ("temp", 23.2, "temp", 23.2),
        ("pfrm", "SX1301", "rxnb", 0),
    ],
)
def test_4_a_packet_may_hold_a_status_alone(
    both: Both, name: str, value: object, read: str, expected: object
) -> None:
    both.push({"stat": {name: value}})
    stat = both.server.forwarders.known[EUI].stat
    assert getattr(stat, read) == expected
    assert both.received == []
    assert len(both.out) == 1  # acknowledged as any other


def test_4_the_status_of_the_forwarder_has_the_names_of_the_protocol() -> None:
    forwarder = Forwarder(
        EUI,
        lambda _tx, _now: TxResult(TxError.NONE),
        utc_ns=lambda _mono: 1_389_517_168_000_000_000,
        position=lambda: (46.24, 3.2523, 145),
    )
    forwarder.on_time(0)
    (wire,) = [data for way, data in forwarder.on_time(30 * SECOND_NS) if way is Way.UP]
    stat = json.loads(wire[12:])["stat"]
    assert stat["time"] == "2014-01-12 08:59:28 GMT"
    assert set(stat) == {"time", "lati", "long", "alti", "rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb"}


def test_4_a_frame_of_the_forwarder_has_the_names_of_the_protocol(both: Both) -> None:
    both.forwarder.on_frame(a_frame(), 0)
    (rx,) = json.loads(both.sends()[0][1][12:])["rxpk"]
    names = {
        "time",
        "tmst",
        "freq",
        "chan",
        "rfch",
        "stat",
        "modu",
        "datr",
        "codr",
        "rssi",
        "lsnr",
        "size",
        "data",
    }
    assert set(rx) == names
    assert (rx["time"], rx["lsnr"], rx["data"]) == ("2013-03-31T16:21:17.528002Z", 9.2, "ZnJhbWU=")


# 5 Downstream protocol


def test_5_2_pull_data_is_version_token_identifier_and_gateway_sent_again_and_again(both: Both) -> None:
    pulls = [wire for at in range(60) for way, wire in both.sends(at * SECOND_NS) if way is Way.DOWN]
    assert all((wire[0], wire[3], wire[4:]) == (2, 0x02, EUI) for wire in pulls)
    assert len({wire[1:3] for wire in pulls}) == len(pulls) >= 11


def test_5_3_pull_ack_repeats_the_token(both: Both) -> None:
    both.pull(b"\xca\xfe")
    assert both.out == [(b"\x02\xca\xfe\x04", DOWN)]


def test_5_1_orders_come_any_time_after_the_first_pull_data_and_never_before(both: Both) -> None:
    both.push({"stat": {}})
    both.out.clear()
    both.server.transmit(_downlink(), EUI, 0)
    assert (both.out, both.fate) == ([], [TxError.TOO_LATE])
    both.pull()
    both.downlink()
    assert both.out[-1][1] == DOWN  # not where PUSH_DATA came from
    both.pull(address=("192.0.2.1", 50_000))  # the NAT has given another port
    both.downlink()
    assert both.out[-1][1] == ("192.0.2.1", 50_000)


def test_5_4_pull_resp_is_version_token_identifier_and_a_json_object(both: Both) -> None:
    both.pull()
    wire = both.downlink()
    assert (wire[0], wire[3], wire[4:5], wire[-1:]) == (2, 0x03, b"{", b"}")
    assert set(json.loads(wire[4:])) == {"txpk"}
    assert len({both.downlink()[1:3] for _ in range(50)}) == 50


def test_5_5_tx_ack_repeats_the_token_and_names_the_gateway(both: Both) -> None:
    ack = both.ordered(TXPK | {"imme": True}, b"\xab\xcd")
    assert ack[:12] == b"\x02\xab\xcd\x05" + EUI
    assert json.loads(ack[12:]) == {"txpk_ack": {"error": "NONE"}}


@pytest.mark.parametrize("body", [b"", b'{"txpk_ack":{"error":"NONE"}}', b'{"txpk_ack":{}}', b"{}"])
def test_5_5_a_tx_ack_without_json_or_without_an_error_means_none_occurred(both: Both, body: bytes) -> None:
    both.pull()
    token = both.downlink()[1:3]
    both.server.datagram(b"\x02" + token + b"\x05" + EUI + body, DOWN, 0)
    assert both.fate == [1]


# 6 Downstream JSON data structure


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("imme", True, "imme", True),
        ("tmst", 3_512_348_611, "tmst", 3_512_348_611),
        ("tmms", 1_048_782_093_528, "tmms", 1_048_782_093_528),
        ("time", "2013-03-31T16:21:17.528002Z", "tmst", None),  # of older versions, before tmms
        ("freq", 864.123456, "freq_hz", 864_123_456),
        ("rfch", 1, "rfch", 1),
        ("powe", 14, "powe_dbm", 14),
        ("powe", -3, "powe_dbm", -3),
        ("modu", "LORA", "modulation", LoRaModulation(11, 125_000)),
        ("datr", "SF9BW500", "modulation", LoRaModulation(9, 500_000)),
        ("codr", "4/6", "modulation", LoRaModulation(11, 125_000, 2)),
        ("fdev", 3000, "freq_hz", 864_123_456),
        ("ipol", True, "ipol", True),
        ("prea", 6, "preamble", 6),
        ("size", 32, "preamble", None),
        ("ncrc", True, "ncrc", True),
        ("nhdr", False, "ncrc", False),
        ("brd", 0, "rfch", 0),  # ChirpStack's gateway bridge: which board
        ("ant", 0, "rfch", 0),
    ],
)
def test_6_the_fields_of_a_txpk_and_what_holds_without_them(
    both: Both, name: str, value: object, read: str, expected: object
) -> None:
    both.ordered(TXPK | {name: value})
    (order,) = both.orders
    assert getattr(order, read) == expected
    assert len(order.data) == 32  # padding is optional
    plain = Both()
    plain.ordered(TXPK)
    (most,) = plain.orders
    assert (most.imme, most.tmst, most.tmms, most.rfch, most.ipol, most.ncrc) == (
        False,
        None,
        None,
        0,
        False,
        False,
    )


@pytest.mark.parametrize(
    "error",
    ["TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "TX_FREQ", "TX_POWER", "GPS_UNLOCKED"],
)
def test_6_the_errors_of_a_tx_ack(both: Both, error: str) -> None:
    both.answer = TxResult(TxError(error))
    ack = both.ordered(TXPK)
    assert json.loads(ack[12:]) == {"txpk_ack": {"error": error}}
    both.pull()
    for _ in range(2):  # RX1, then RX2
        token = both.downlink()[1:3] if not both.fate and len(both.out) < 2 else both.out[-1][0][1:3]
        both.server.datagram(b"\x02" + token + ack[3:], DOWN, 0)
    assert both.fate == [TxError(error)]


def test_6_a_power_that_cannot_be_had_is_a_warning_with_the_power_used(both: Both) -> None:
    both.answer = TxResult(TxError.NONE, power_dbm=20)
    ack = both.ordered(TXPK | {"powe": 27})
    body = json.loads(ack[12:])["txpk_ack"]
    assert (body["warn"], body["value"]) == ("TX_POWER", 20)
    both.pull()
    token = both.downlink()[1:3]
    both.server.datagram(
        b"\x02" + token + b"\x05" + EUI + b'{"txpk_ack":{"warn":"TX_POWER","value":20}}', DOWN, 0
    )
    assert both.fate == [1]


@pytest.mark.parametrize(
    "txpk",
    [
        pytest.param({"modu": "FSK", "datr": 50000, "fdev": 3000}, id="FSK, the example of section 6"),
        pytest.param({"datr": "SF5BW125"}, id="a spreading factor this radio has not"),
    ],
)
def test_6_what_this_radio_cannot_send_is_refused(both: Both, txpk: dict[str, Any]) -> None:
    ack = both.ordered(TXPK | {"imme": True} | txpk)
    assert json.loads(ack[12:]) == {"txpk_ack": {"error": "TX_FREQ"}}
    assert both.orders == []


def test_6_the_orders_of_the_server_have_the_names_of_the_protocol(both: Both) -> None:
    both.pull()
    txpk = json.loads(both.downlink()[4:])["txpk"]
    names = {"imme", "tmst", "freq", "rfch", "powe", "modu", "datr", "codr", "ipol", "size", "data", "ncrc"}
    assert set(txpk) == names
    assert (txpk["imme"], txpk["ipol"], txpk["ncrc"], txpk["data"]) == (False, True, True, "ZG93bg==")


# What a side is not to be sent


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x02\x00\x01\x01", id="PUSH_ACK"),
        pytest.param(b"\x02\x00\x01\x04", id="PULL_ACK"),
        pytest.param(b'\x02\x00\x01\x03{"txpk":{"freq":868.1,"datr":"SF7BW125","data":""}}', id="PULL_RESP"),
    ],
)
def test_a_server_does_not_answer_what_only_servers_send(both: Both, wire: bytes) -> None:
    both.server.datagram(wire, UP, 0)
    assert both.out == []
    assert both.server.counters["unexpected"] == 1


def _downlink() -> Downlink:
    packet = TxPacket(5, False, 868_100_000, 0, 14, SF7, True, b"down", True)
    return Downlink("1", DevEUI(1), (packet,), False, 0, False)

"""GWMP version 2 against the examples of the protocol text, and against damaged bytes."""

import base64
import json
import random

import msgspec
import pytest

from radio import gwmp
from radio.errors import GwmpError
from radio.gwmp import (
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    RxPacket,
    Stat,
    TxAck,
    TxError,
    TxPacket,
    UnsupportedOrder,
    decode,
    encode,
)
from radio.lora import LoRaModulation

EUI = bytes.fromhex("b827ebfffe123456")

# The example of PROTOCOL.TXT section 4: LoRa and FSK in one datagram, base64 without padding.
RXPK_EXAMPLE = (
    b'{"rxpk":[{"time":"2013-03-31T16:21:17.528002Z","tmst":3512348611,"chan":2,"rfch":0,"freq":866.349812,'
    b'"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/6","rssi":-35,"lsnr":5.1,"size":32,'
    b'"data":"-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84"},'
    b'{"time":"2013-03-31T16:21:17.530974Z","tmst":3512348514,"chan":9,"rfch":1,"freq":869.1,"stat":1,'
    b'"modu":"FSK","datr":50000,"rssi":-75,"size":16,"data":"VEVTVF9QQUNLRVRfMTIzNA=="}]}'
)
STAT_EXAMPLE = (
    b'{"stat":{"time":"2014-01-12 08:59:28 GMT","lati":46.24000,"long":3.25230,"alti":145,'
    b'"rxnb":2,"rxok":2,"rxfw":2,"ackr":100.0,"dwnb":2,"txnb":2}}'
)
TXPK_EXAMPLE = (
    b'{"txpk":{"imme":true,"freq":864.123456,"rfch":0,"powe":14,"modu":"LORA","datr":"SF11BW125",'
    b'"codr":"4/6","ipol":false,"size":32,"data":"H3P3N2i9qc4yt7rK7ldqoeCVJGBybzPY5h1Dd7P7p8v"}}'
)

RX = RxPacket(
    tmst=4_294_967_295,
    freq_hz=868_100_000,
    chan=0,
    rfch=0,
    stat=1,
    modulation=LoRaModulation(7, 125_000),
    rssi_dbm=-57,
    lsnr_db=9.5,
    data=bytes.fromhex("40f17dbe4900020001954378762b11ff0d"),
    time_ns=1_500_000_000_123_456_000,
    foff_hz=-1250,
)
TX = TxPacket(
    tmst=1000,
    imme=False,
    freq_hz=869_525_000,
    rfch=0,
    powe_dbm=27,
    modulation=LoRaModulation(12, 125_000),
    ipol=True,
    data=b"\x20" + bytes(16),
    ncrc=True,
    preamble=8,
)


BEACON = TxPacket(
    None,
    False,
    869_525_000,
    0,
    27,
    LoRaModulation(9, 125_000),
    False,
    bytes(17),
    True,
    preamble=10,
    tmms=1_256_000_000_001,
    nhdr=True,
)


def test_rxpk_example_of_the_protocol() -> None:
    push = decode(b"\x02\x12\x34\x00" + EUI + RXPK_EXAMPLE)
    assert isinstance(push, PushData)
    assert (push.token, push.eui, push.skipped, push.stat) == (0x1234, EUI, 1, None)
    (rx,) = push.rxpk
    assert rx.modulation == LoRaModulation(7, 125_000, 2)
    assert (rx.tmst, rx.freq_hz, rx.chan, rx.stat) == (3_512_348_611, 866_349_812, 2, 1)
    assert (rx.rssi_dbm, rx.lsnr_db, len(rx.data)) == (-35, 5.1, 32)
    assert rx.time_ns == 1_364_746_877_528_002_000


def test_stat_example_of_the_protocol() -> None:
    push = decode(b"\x02\x00\x01\x00" + EUI + STAT_EXAMPLE)
    assert isinstance(push, PushData)
    assert push.rxpk == ()
    assert push.stat == Stat(
        time_ns=1_389_517_168_000_000_000, lati=46.24, long=3.2523, alti=145, rxnb=2, rxok=2, rxfw=2,
        ackr=100.0, dwnb=2, txnb=2,
    )  # fmt: skip


def test_txpk_example_of_the_protocol() -> None:
    resp = decode(b"\x02\xab\xcd\x03" + TXPK_EXAMPLE)
    assert isinstance(resp, PullResp)
    tx = resp.txpk
    assert (resp.token, tx.imme, tx.tmst, tx.freq_hz, tx.powe_dbm) == (0xABCD, True, None, 864_123_456, 14)
    assert tx.modulation == LoRaModulation(11, 125_000, 2)
    assert (tx.ipol, tx.ncrc, tx.preamble, len(tx.data)) == (False, False, None, 32)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        pytest.param(b"\x02\x01\x02\x01", PushAck(0x0102), id="PUSH_ACK"),
        pytest.param(b"\x02\x01\x02\x02" + EUI, PullData(0x0102, EUI), id="PULL_DATA"),
        pytest.param(b"\x02\x01\x02\x04", PullAck(0x0102), id="PULL_ACK"),
        pytest.param(
            b"\x02\x01\x02\x05" + EUI + b'{"txpk_ack":{"error":"COLLISION_PACKET"}}',
            TxAck(0x0102, EUI, TxError.COLLISION_PACKET),
            id="TX_ACK refused",
        ),
        pytest.param(
            b"\x02\x01\x02\x05" + EUI + b'{"txpk_ack":{"error":"NONE"}}', TxAck(0x0102, EUI), id="TX_ACK sent"
        ),
    ],
)
def test_short_datagrams_run_both_ways(wire: bytes, value: gwmp.Datagram) -> None:
    assert decode(wire) == value
    assert encode(value) == wire


@pytest.mark.parametrize("body", [b"", b"\0", b"\r\n", b'{"txpk_ack":{}}'])
def test_tx_ack_without_an_error_means_sent(body: bytes) -> None:
    assert decode(b"\x02\x00\x00\x05" + EUI + body) == TxAck(0, EUI, TxError.NONE)


def test_reduced_power_is_a_warning_with_its_value() -> None:
    ack = TxAck(7, EUI, TxError.NONE, TxError.TX_POWER, 20)
    assert decode(encode(ack)) == ack
    assert decode(b"\x02\x00\x07\x05" + EUI + b'{"txpk_ack":{"warn":"TX_POWER","value":20}}') == ack


@pytest.mark.parametrize(
    "value",
    [
        PushData(0xFFFF, EUI, (RX, RX)),
        PushData(1, EUI, (), Stat(time_ns=1_389_517_168_000_000_000, rxnb=3, temp=40.5)),
        PullResp(2, TX),
        PullResp(3, TxPacket(None, True, 923_300_000, 0, 20, LoRaModulation(10, 500_000), True, b"")),
        PullResp(4, BEACON),
    ],
)
def test_what_is_encoded_decodes_to_the_same(value: gwmp.Datagram) -> None:
    assert decode(encode(value)) == value


def test_a_beacon_is_ordered_by_gps_time_without_header_crc_and_inversion() -> None:
    body = json.loads(encode(PullResp(1, BEACON))[4:])["txpk"]
    assert (body["tmms"], body["nhdr"], body["ncrc"], body["ipol"], body["prea"], body["imme"]) == (
        1_256_000_000_001,
        True,
        True,
        False,
        10,
        False,
    )
    assert "tmst" not in body
    assert "nhdr" not in json.loads(encode(PullResp(2, TX))[4:])["txpk"]  # of other frames it need not speak


def test_wire_form_has_the_fields_of_the_protocol() -> None:
    body = json.loads(encode(PushData(1, EUI, (RX,)))[12:])
    rx = body["rxpk"][0]
    assert rx["time"] == "2017-07-14T02:40:00.123456Z"
    assert (rx["freq"], rx["datr"], rx["codr"], rx["lsnr"], rx["foff"]) == (
        868.1,
        "SF7BW125",
        "4/5",
        9.5,
        -1250,
    )
    assert base64.b64decode(rx["data"]) == RX.data
    tx = json.loads(encode(PullResp(2, TX))[4:])["txpk"]
    assert (tx["tmst"], tx["imme"], tx["powe"], tx["ipol"], tx["ncrc"], tx["prea"]) == (
        1000,
        False,
        27,
        True,
        True,
        8,
    )


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x02\x00\x00", id="header cut"),
        pytest.param(b"\x01\x00\x00\x00" + EUI + b"{}", id="version 1"),
        pytest.param(b"\x02\x00\x00\x06", id="unknown type"),
        pytest.param(b"\x02\x00\x00\x02" + EUI[:7], id="EUI cut"),
        pytest.param(b"\x02\x00\x00\x00" + EUI, id="no JSON"),
        pytest.param(b"\x02\x00\x00\x00" + EUI + b"[]", id="JSON of another shape"),
        pytest.param(b"\x02\x00\x00\x00" + EUI + b"[" * 100_000, id="deep JSON"),
        pytest.param(b"\x02\x00\x00\x05" + EUI + b'{"txpk_ack":{"error":7}}', id="an error that is no word"),
        pytest.param(b"\x02\x00\x00\x03" + TXPK_EXAMPLE.replace(b"32", b"31"), id="size disagrees"),
        pytest.param(b"\x02\x00\x00\x03" + TXPK_EXAMPLE.replace(b"LORA", b"FSK"), id="FSK order"),
        pytest.param(b"\x02\x00\x00\x03" + TXPK_EXAMPLE.replace(b"SF11", b"SF99"), id="no such SF"),
        pytest.param(
            b"\x02\x00\x00\x03" + TXPK_EXAMPLE.replace(b"864.123456", b"1e999"), id="endless frequency"
        ),
    ],
)
def test_what_is_not_gwmp_raises_its_error(wire: bytes) -> None:
    with pytest.raises(GwmpError):
        decode(wire)


def test_bad_token_or_eui_is_refused_when_encoding() -> None:
    with pytest.raises(GwmpError, match="token"):
        encode(PushAck(65_536))
    with pytest.raises(GwmpError, match="8 bytes"):
        encode(PullData(1, b"short"))


def test_gps_time_of_a_frame_runs_both_ways_and_what_only_a_concentrator_measures_is_passed_over() -> None:
    heard = msgspec.structs.replace(RX, tmms=1_340_000_000_123)
    assert decode(encode(PushData(1, EUI, (heard,)))) == PushData(1, EUI, (heard,))
    wire = encode(PushData(1, EUI, (heard,))).replace(b'"rssi":', b'"ftime":123456789,"rssis":-60,"rssi":')
    assert decode(wire) == PushData(1, EUI, (heard,))
    order = msgspec.structs.replace(TX, tmst=None, tmms=1_340_000_001_123)
    assert decode(encode(PullResp(2, order))) == PullResp(2, order)


def test_signal_of_several_antennas_is_that_of_the_best() -> None:
    """A Kerlink concentrator's rxpk as the wild has it (field `jver` 2), with a second antenna added."""
    body = (
        b'{"rxpk":[{"time":"2023-02-22T01:53:31.306224Z","tmst":3800595284,"freq":867.1,"stat":1,"modu":"LORA",'
        b'"datr":"SF9BW125","codr":"4/5","size":21,"data":"QKydCyYAQwMB7iu5QD6sH5u1C+Yh","jver":2,'
        b'"rsig":[{"ant":1,"chan":9,"rssic":-90,"lsnr":-2},{"ant":0,"chan":3,"rssic":-50,"lsnr":13.2}]}]}'
    )
    push = decode(b"\x02\x00\x01\x00" + EUI + body)
    assert isinstance(push, PushData)
    (rx,) = push.rxpk
    assert (rx.rssi_dbm, rx.lsnr_db, rx.chan, rx.data[:5].hex()) == (-50, 13.2, 3, "40ac9d0b26")


def test_one_rxpk_that_cannot_be_used_does_not_cost_the_others() -> None:
    good = json.loads(RXPK_EXAMPLE)["rxpk"][0]
    items = [good, good | {"tmst": -1}, good | {"size": 3}, 7, good | {"tmst": 5}]
    push = decode(b"\x02\x00\x01\x00" + EUI + json.dumps({"rxpk": items, "stat": {"rxnb": "x"}}).encode())
    assert isinstance(push, PushData)
    assert [rx.tmst for rx in push.rxpk] == [good["tmst"], 5]
    assert (push.damaged, push.skipped, push.stat) == (3, 0, None)
    with pytest.raises(GwmpError, match="none of 2 rxpk"):
        decode(b"\x02\x00\x01\x00" + EUI + json.dumps({"rxpk": [good | {"size": 3}, 7]}).encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b'"LORA"', b'"FSK"'), "modulation 'FSK'"),
        ((b'"SF11BW125"', b"50000"), "modulation 'LORA'"),
        ((b"SF11", b"SF99"), "spreading factor 99"),
    ],
)
def test_an_order_that_no_sx127x_gateway_sends_can_still_be_answered(
    change: tuple[bytes, bytes], words: str
) -> None:
    with pytest.raises(UnsupportedOrder, match=words) as caught:
        decode(b"\x02\xab\xcd\x03" + TXPK_EXAMPLE.replace(*change))
    assert caught.value.token == 0xABCD


@pytest.mark.parametrize(
    ("body", "ack"),
    [
        (b'{"txpk_ack":{"error":""}}', TxAck(0, EUI)),
        (b'{"txpk_ack":{"error":"DUTY_CYCLE_OVERFLOW"}}', TxAck(0, EUI, TxError.TX_FREQ)),
        (b'{"txpk_ack":{"error":"QUEUE_FULL"}}', TxAck(0, EUI, TxError.COLLISION_PACKET)),
        (b'{"txpk_ack":{"error":"INTERNAL_ERROR"}}', TxAck(0, EUI, TxError.COLLISION_PACKET)),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":"20"}}', TxAck(0, EUI, warn=TxError.TX_POWER, value=20)),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":"low"}}', TxAck(0, EUI, warn=TxError.TX_POWER)),
        (b'{"txpk_ack":{"warn":"ELSE","value":3}}', TxAck(0, EUI)),
    ],
)
def test_words_of_other_forwarders_in_a_tx_ack(body: bytes, ack: TxAck) -> None:
    assert decode(b"\x02\x00\x00\x05" + EUI + body) == ack


def test_damaged_datagrams_raise_only_gwmp_error() -> None:
    rng = random.Random(0x6A1E)
    seeds = [
        b"\x02\x12\x34\x00" + EUI + RXPK_EXAMPLE,
        b"\x02\x12\x34\x00" + EUI + STAT_EXAMPLE,
        b"\x02\x12\x34\x03" + TXPK_EXAMPLE,
        encode(PushData(1, EUI, (RX,), Stat(rxnb=1))),
        encode(PullResp(2, TX)),
        encode(TxAck(3, EUI, TxError.NONE, TxError.TX_POWER, 14)),
    ]
    splices = [
        b"null",
        b"-1",
        b"1e400",
        b"99999999999999999999",
        b'"',
        b"{",
        b"]",
        b"\xff",
        b"\0",
        b"true",
        b'"-"',
    ]
    for _ in range(6000):
        wire = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(wire))
            match rng.randrange(4):
                case 0:
                    wire[at] ^= 1 << rng.randrange(8)
                case 1:
                    del wire[at : at + rng.randint(1, 12)]
                case 2:
                    wire[at:at] = rng.choice(splices)
                case 3:
                    wire = wire[: at + 1]
            if not wire:
                wire = bytearray(b"\x02")
        try:
            decode(bytes(wire))
        except GwmpError:
            continue


def test_a_refusal_carries_its_reason_and_nothing_that_does_not_print() -> None:
    ack = TxAck(3, EUI, TxError.TOO_LATE, reason="37 ms late: start in 900 us")
    assert decode(encode(ack)) == ack
    body = b'{"txpk_ack":{"error":"TX_FREQ","reason":"a\\nb' + b"x" * 500 + b'"}}'
    read = decode(b"\x02\x00\x00\x05" + EUI + body)
    assert isinstance(read, TxAck)
    assert read.reason == "ab" + "x" * 197

"""MAC commands: bytes as the specification lays them out, both ways, and the table of them all."""

import random

import pytest

from gateway.lorawan import mac
from gateway.lorawan.errors import MacError

# The commands as the specifications list them: name, CID, who sends it, bytes after the CID, first version, class B.
# LoRaWAN 1.0.2 table 4 and 14.2 (class B), 1.0.3 table 5 (DeviceTime), 1.1 tables 5 and 14.
TABLE = """
    ResetInd             01 up   1 1.1   -
    ResetConf            01 down 1 1.1   -
    LinkCheckReq         02 up   0 1.0.0 -
    LinkCheckAns         02 down 2 1.0.0 -
    LinkADRReq           03 down 4 1.0.0 -
    LinkADRAns           03 up   1 1.0.0 -
    DutyCycleReq         04 down 1 1.0.0 -
    DutyCycleAns         04 up   0 1.0.0 -
    RXParamSetupReq      05 down 4 1.0.0 -
    RXParamSetupAns      05 up   1 1.0.0 -
    DevStatusReq         06 down 0 1.0.0 -
    DevStatusAns         06 up   2 1.0.0 -
    NewChannelReq        07 down 5 1.0.0 -
    NewChannelAns        07 up   1 1.0.0 -
    RXTimingSetupReq     08 down 1 1.0.0 -
    RXTimingSetupAns     08 up   0 1.0.0 -
    TxParamSetupReq      09 down 1 1.0.2 -
    TxParamSetupAns      09 up   0 1.0.2 -
    DlChannelReq         0a down 4 1.0.2 -
    DlChannelAns         0a up   1 1.0.2 -
    RekeyInd             0b up   1 1.1   -
    RekeyConf            0b down 1 1.1   -
    ADRParamSetupReq     0c down 1 1.1   -
    ADRParamSetupAns     0c up   0 1.1   -
    DeviceTimeReq        0d up   0 1.0.3 -
    DeviceTimeAns        0d down 5 1.0.3 -
    ForceRejoinReq       0e down 2 1.1   -
    RejoinParamSetupReq  0f down 1 1.1   -
    RejoinParamSetupAns  0f up   1 1.1   -
    PingSlotInfoReq      10 up   1 1.0.0 B
    PingSlotInfoAns      10 down 0 1.0.0 B
    PingSlotChannelReq   11 down 4 1.0.0 B
    PingSlotChannelAns   11 up   1 1.0.0 B
    BeaconTimingReq      12 up   0 1.0.0 B
    BeaconTimingAns      12 down 3 1.0.0 B
    BeaconFreqReq        13 down 3 1.0.0 B
    BeaconFreqAns        13 up   1 1.0.0 B
    DeviceModeInd        20 up   1 1.1   -
    DeviceModeConf       20 down 1 1.1   -
"""
ROWS = [row.split() for row in TABLE.strip().splitlines()]

# Bytes put together by hand from the bit layouts in those texts: section, fields from the highest bit down
UPLINK = [
    pytest.param("0101", mac.ResetInd(1), id="ResetInd: RFU 4, minor 4"),
    pytest.param("02", mac.LinkCheckReq(), id="LinkCheckReq"),
    pytest.param("0307", mac.LinkADRAns(True, True, True), id="LinkADRAns: power, rate, mask; all accepted"),
    pytest.param("0306", mac.LinkADRAns(False, True, True), id="LinkADRAns, mask refused"),
    pytest.param("0305", mac.LinkADRAns(True, False, True), id="LinkADRAns, rate refused"),
    pytest.param("0301", mac.LinkADRAns(True, False, False), id="LinkADRAns, rate and power refused"),
    pytest.param("04", mac.DutyCycleAns(), id="DutyCycleAns"),
    pytest.param(
        "0505", mac.RXParamSetupAns(True, False, True), id="RXParamSetupAns: offset, RX2 rate, channel"
    ),
    pytest.param("06ff1f", mac.DevStatusAns(255, 31), id="DevStatusAns, highest margin"),
    pytest.param("060020", mac.DevStatusAns(0, -32), id="DevStatusAns, lowest margin"),
    pytest.param("06803f", mac.DevStatusAns(128, -1), id="DevStatusAns, margin -1"),
    pytest.param("0703", mac.NewChannelAns(True, True), id="NewChannelAns: rates, frequency"),
    pytest.param("0702", mac.NewChannelAns(False, True), id="NewChannelAns, frequency refused"),
    pytest.param("08", mac.RXTimingSetupAns(), id="RXTimingSetupAns"),
    pytest.param("09", mac.TxParamSetupAns(), id="TxParamSetupAns"),
    pytest.param("0a02", mac.DlChannelAns(False, True), id="DlChannelAns: uplink exists, frequency"),
    pytest.param("0b01", mac.RekeyInd(1), id="RekeyInd"),
    pytest.param("0c", mac.ADRParamSetupAns(), id="ADRParamSetupAns"),
    pytest.param("0d", mac.DeviceTimeReq(), id="DeviceTimeReq"),
    pytest.param("0f01", mac.RejoinParamSetupAns(True), id="RejoinParamSetupAns: RFU 7, TimeOK"),
    pytest.param("0f00", mac.RejoinParamSetupAns(False), id="RejoinParamSetupAns, no clock"),
    pytest.param("1007", mac.PingSlotInfoReq(7), id="PingSlotInfoReq: RFU 5, periodicity 3"),
    pytest.param("1102", mac.PingSlotChannelAns(False, True), id="PingSlotChannelAns: rate, frequency"),
    pytest.param("12", mac.BeaconTimingReq(), id="BeaconTimingReq"),
    pytest.param("1300", mac.BeaconFreqAns(False), id="BeaconFreqAns: RFU 7, frequency"),
    pytest.param("2002", mac.DeviceModeInd(mac.CLASS_C), id="DeviceModeInd, class C"),
]
DOWNLINK = [
    pytest.param("0101", mac.ResetConf(1), id="ResetConf"),
    pytest.param("021401", mac.LinkCheckAns(20, 1), id="LinkCheckAns: margin, gateways"),
    pytest.param(
        "0352070001", mac.LinkADRReq(5, 2, 0x0007, 0, 1), id="LinkADRReq: rate 4, power 4, mask 16, 0"
    ),
    pytest.param(
        "03ff00ff70", mac.LinkADRReq(15, 15, 0xFF00, 7, 0), id="LinkADRReq, keep: RFU 1, control 3, times 4"
    ),
    pytest.param("0407", mac.DutyCycleReq(7), id="DutyCycleReq: RFU 4, exponent 4"),
    pytest.param(
        "0523d2ad84", mac.RXParamSetupReq(2, 3, 869_525_000), id="RXParamSetupReq: RFU 1, offset 3, rate 4"
    ),
    pytest.param("06", mac.DevStatusReq(), id="DevStatusReq"),
    pytest.param("0703184f8450", mac.NewChannelReq(3, 867_100_000, 5, 0), id="NewChannelReq: max 4, min 4"),
    pytest.param("07070000000f", mac.NewChannelReq(7, 0, 0, 15), id="NewChannelReq, removal"),
    pytest.param("0805", mac.RXTimingSetupReq(5), id="RXTimingSetupReq: RFU 4, delay 4"),
    pytest.param("0935", mac.TxParamSetupReq(True, True, 5), id="TxParamSetupReq: RFU 2, down, up, EIRP 4"),
    pytest.param("092d", mac.TxParamSetupReq(True, False, 13), id="TxParamSetupReq, downlinks only"),
    pytest.param("0a01d2ad84", mac.DlChannelReq(1, 869_525_000), id="DlChannelReq"),
    pytest.param("0b01", mac.RekeyConf(1), id="RekeyConf"),
    pytest.param("0c65", mac.ADRParamSetupReq(6, 5), id="ADRParamSetupReq: limit 4, delay 4"),
    pytest.param("0d0102030480", mac.DeviceTimeAns(0x04030201, 0x80), id="DeviceTimeAns: s 32, 1/256 s"),
    # 0b00_101_011_0_010_0100: RFU 2, period 3, retries 3, RFU 1, type 3, rate 4; low byte first
    pytest.param("0e242b", mac.ForceRejoinReq(5, 3, 2, 4), id="ForceRejoinReq"),
    pytest.param("0fa3", mac.RejoinParamSetupReq(10, 3), id="RejoinParamSetupReq: time 4, count 4"),
    pytest.param("10", mac.PingSlotInfoAns(), id="PingSlotInfoAns"),
    pytest.param(
        "11d2ad8403", mac.PingSlotChannelReq(869_525_000, 3), id="PingSlotChannelReq: RFU 4, rate 4"
    ),
    pytest.param("12e80302", mac.BeaconTimingAns(1000, 2), id="BeaconTimingAns: delay 16, channel 8"),
    pytest.param("13d2ad84", mac.BeaconFreqReq(869_525_000), id="BeaconFreqReq"),
    pytest.param("2000", mac.DeviceModeConf(mac.CLASS_A), id="DeviceModeConf, class A"),
]


@pytest.mark.parametrize(("name", "cid", "way", "size", "since", "class_b"), ROWS)
def test_each_command_is_as_the_specification_lists_it(name, cid, way, size, since, class_b):
    kind = getattr(mac, name)
    assert (kind.__name__, kind.CID, kind.SIZE) == (name, int(cid, 16), int(size))
    assert (since, class_b == "B") == (kind.SINCE, kind.CLASS_B)
    assert (mac.UPLINK if way == "up" else mac.DOWNLINK)[int(cid, 16)] is kind


def test_the_table_has_every_command_and_each_has_hand_made_bytes():
    assert len(ROWS) == len(mac.UPLINK) + len(mac.DOWNLINK)
    shown = {type(row.values[1]) for row in UPLINK + DOWNLINK}
    assert shown == {*mac.UPLINK.values(), *mac.DOWNLINK.values()}


@pytest.mark.parametrize(("wire", "command"), UPLINK)
def test_uplink_commands_both_ways(wire, command):
    assert mac.parse_uplink(bytes.fromhex(wire)) == (command,)
    assert command.encode() == bytes.fromhex(wire)


@pytest.mark.parametrize(("wire", "command"), DOWNLINK)
def test_downlink_commands_both_ways(wire, command):
    assert mac.parse_downlink(bytes.fromhex(wire)) == (command,)
    assert command.encode() == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("parse", "table"),
    [pytest.param(mac.parse_uplink, UPLINK, id="up"), pytest.param(mac.parse_downlink, DOWNLINK, id="down")],
)
def test_a_row_of_commands_is_read_in_order_and_every_cut_is_noticed(parse, table):
    wires = [bytes.fromhex(row.values[0]) for row in table]
    commands = tuple(row.values[1] for row in table)
    whole = b"".join(wires)
    assert parse(whole) == commands
    assert mac.encode(commands) == whole
    ends = {sum(map(len, wires[:count])): count for count in range(len(wires) + 1)}
    for end in range(len(whole)):
        if end in ends:
            assert parse(whole[:end]) == commands[: ends[end]]
        else:
            with pytest.raises(MacError, match="cut short") as caught:
                parse(whole[:end])
            assert caught.value.commands == commands[: len(caught.value.commands)]


@pytest.mark.parametrize(("cid", "whose"), [("80", "proprietary"), ("ff", "proprietary"), ("14", "unknown")])
def test_nothing_is_read_after_a_command_of_unknown_length(cid, whose):
    with pytest.raises(MacError, match=f"{whose} MAC command 0x{cid}") as caught:
        mac.parse_uplink(bytes.fromhex(f"0307{cid}0307"))
    assert caught.value.commands == (mac.LinkADRAns(),)


def test_rx_delay_zero_means_one_second():
    assert mac.parse_downlink(b"\x08\x00") == (mac.RXTimingSetupReq(1),)


def test_reserved_bits_are_not_read():
    assert mac.parse_uplink(bytes.fromhex("03ff10ff13ff")) == (
        mac.LinkADRAns(),
        mac.PingSlotInfoReq(7),
        mac.BeaconFreqAns(),
    )
    assert mac.parse_downlink(bytes.fromhex("04f7")) == (mac.DutyCycleReq(7),)
    assert mac.parse_downlink(bytes.fromhex("0ea4eb")) == (mac.ForceRejoinReq(5, 3, 2, 4),)


def test_every_command_has_words_for_people():
    """Those with fields say each of them; none shows a class name or a repr."""
    for row in (*UPLINK, *DOWNLINK):
        command = row.values[1]
        words = mac.fields_in_words(command)
        assert bool(words) == bool(command.SIZE), command
        assert "(" not in words
    assert mac.fields_in_words(mac.LinkADRAns(False, True, False)) == "the channel mask, the power refused"
    assert mac.fields_in_words(mac.DevStatusAns(0, 4)) == "battery on mains, margin 4 dB"


def test_damaged_rows_of_commands_raise_nothing_but_mac_error():
    rng = random.Random(3)
    rows = [bytes.fromhex("".join(row.values[0] for row in table)) for table in (UPLINK, DOWNLINK)]
    for number in range(12_000):
        data = bytearray(rng.choice(rows) if number % 2 else rng.randbytes(rng.randrange(20)))
        for _ in range(rng.randrange(1, 6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        del data[rng.randrange(len(data) + 1) :]
        for parse in (mac.parse_uplink, mac.parse_downlink):
            try:
                commands = parse(bytes(data))
            except MacError as error:
                commands = error.commands
            assert len(mac.encode(commands)) <= len(data)
            for command in commands:
                mac.fields_in_words(command)

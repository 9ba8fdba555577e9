"""MAC commands: bytes as the specification lays them out, both ways."""

import random

import pytest

from gateway.lorawan import mac
from gateway.lorawan.errors import MacError

# Bytes put together by hand from the layouts of LoRaWAN 1.0.2, section 5
UPLINK = [
    pytest.param("02", mac.LinkCheckReq(), id="LinkCheckReq"),
    pytest.param("0307", mac.LinkADRAns(True, True, True), id="LinkADRAns, all accepted"),
    pytest.param("0306", mac.LinkADRAns(False, True, True), id="LinkADRAns, mask refused"),
    pytest.param("0301", mac.LinkADRAns(True, False, False), id="LinkADRAns, rate and power refused"),
    pytest.param("04", mac.DutyCycleAns(), id="DutyCycleAns"),
    pytest.param("0505", mac.RXParamSetupAns(True, False, True), id="RXParamSetupAns"),
    pytest.param("06ff1f", mac.DevStatusAns(255, 31), id="DevStatusAns, highest margin"),
    pytest.param("060020", mac.DevStatusAns(0, -32), id="DevStatusAns, lowest margin"),
    pytest.param("06803f", mac.DevStatusAns(128, -1), id="DevStatusAns, margin -1"),
    pytest.param("0703", mac.NewChannelAns(True, True), id="NewChannelAns"),
    pytest.param("08", mac.RXTimingSetupAns(), id="RXTimingSetupAns"),
    pytest.param("09", mac.TxParamSetupAns(), id="TxParamSetupAns"),
    pytest.param("0a02", mac.DlChannelAns(False, True), id="DlChannelAns"),
    pytest.param("0d", mac.DeviceTimeReq(), id="DeviceTimeReq"),
    pytest.param("0b01", mac.RekeyInd(1), id="RekeyInd of 1.1"),
    pytest.param("1007", mac.PingSlotInfoReq(7), id="PingSlotInfoReq of class B"),
]
DOWNLINK = [
    pytest.param("021401", mac.LinkCheckAns(20, 1), id="LinkCheckAns"),
    pytest.param("0352070001", mac.LinkADRReq(5, 2, 0x0007, 0, 1), id="LinkADRReq"),
    pytest.param("03ff00ff70", mac.LinkADRReq(15, 15, 0xFF00, 7, 0), id="LinkADRReq, keep, 500 kHz"),
    pytest.param("0407", mac.DutyCycleReq(7), id="DutyCycleReq"),
    pytest.param("0523d2ad84", mac.RXParamSetupReq(2, 3, 869_525_000), id="RXParamSetupReq"),
    pytest.param("06", mac.DevStatusReq(), id="DevStatusReq"),
    pytest.param("0703184f8450", mac.NewChannelReq(3, 867_100_000, 5, 0), id="NewChannelReq"),
    pytest.param("0805", mac.RXTimingSetupReq(5), id="RXTimingSetupReq"),
    pytest.param("0935", mac.TxParamSetupReq(True, True, 5), id="TxParamSetupReq"),
    pytest.param("0a01d2ad84", mac.DlChannelReq(1, 869_525_000), id="DlChannelReq"),
    pytest.param("0d0102030480", mac.DeviceTimeAns(0x04030201, 0x80), id="DeviceTimeAns"),
    pytest.param("13d2ad84", mac.BeaconFreqReq(869_525_000), id="BeaconFreqReq of class B"),
]


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


def test_nothing_is_read_after_an_unknown_command():
    with pytest.raises(MacError, match="0x80") as caught:
        mac.parse_uplink(bytes.fromhex("0307800307"))
    assert caught.value.commands == (mac.LinkADRAns(),)


def test_rx_delay_zero_means_one_second():
    assert mac.parse_downlink(b"\x08\x00") == (mac.RXTimingSetupReq(1),)


def test_random_bytes_raise_nothing_but_mac_error():
    rng = random.Random(3)
    for _ in range(20_000):
        data = rng.randbytes(rng.randrange(20))
        for parse in (mac.parse_uplink, mac.parse_downlink):
            try:
                commands = parse(data)
            except MacError as error:
                commands = error.commands
            assert data.startswith(data[: len(mac.encode(commands))])
            assert len(mac.encode(commands)) <= len(data)

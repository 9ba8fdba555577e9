"""The device's MAC layer by itself: commands in, answers and settings out."""

import random

import pytest

from gateway.lorawan import mac
from gateway.lorawan.errors import MacError
from gateway.lorawan.profile import Version
from hw_sim.node_channels import Channel
from hw_sim.node_mac import ADR_ACK_DELAY, ADR_ACK_LIMIT, MacState
from radio.regions import get_region

EU868, US915 = get_region("EU868"), get_region("US915")


def state(adr: bool = True, region=EU868, dr: int = 5) -> MacState:
    return MacState(region, dr, adr=adr)


def answers(device: MacState, *commands: mac.Command) -> tuple[mac.Command, ...]:
    device.heard(commands, snr_db=7.4)
    return mac.parse_uplink(device.take_fopts())


def freqs(device: MacState) -> list[int]:
    return [channel.freq_hz for channel in device.channels()]


def test_a_block_of_link_adr_requests_is_obeyed_as_one_and_answered_one_by_one() -> None:
    device = state()
    block = (mac.LinkADRReq(5, 1, 0b001), mac.LinkADRReq(3, 4, 0b101, nb_trans=2))
    assert answers(device, *block) == (mac.LinkADRAns(), mac.LinkADRAns())
    assert (device.dr, device.tx_power, device.nb_trans) == (3, 4, 2)
    assert freqs(device) == [868_100_000, 868_500_000]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        pytest.param(mac.LinkADRReq(5, 1, 0b1000), mac.LinkADRAns(ch_mask_ok=False), id="unknown channel"),
        pytest.param(mac.LinkADRReq(12, 1, 0b1), mac.LinkADRAns(data_rate_ok=False), id="no such data rate"),
        pytest.param(mac.LinkADRReq(5, 9, 0b1), mac.LinkADRAns(power_ok=False), id="no such power"),
        pytest.param(mac.LinkADRReq(5, 1, 0), mac.LinkADRAns(False, False), id="no channel left"),
    ],
)
def test_a_link_adr_request_that_cannot_be_obeyed_changes_nothing(request_, answer) -> None:
    device = state()
    assert answers(device, request_) == (answer,)
    assert (device.dr, device.tx_power, len(device.channels())) == (5, 0, 3)


def test_fifteen_keeps_data_rate_and_power_and_zero_keeps_the_repetitions() -> None:
    device = state()
    answers(device, mac.LinkADRReq(4, 2, 0b111, nb_trans=3))
    answers(device, mac.LinkADRReq(mac.KEEP, mac.KEEP, 0b010, nb_trans=0))
    assert (device.dr, device.tx_power, device.nb_trans) == (4, 2, 3)
    assert freqs(device) == [868_300_000]


def test_without_adr_only_the_channel_mask_is_followed() -> None:
    device = state(adr=False)
    assert answers(device, mac.LinkADRReq(0, 7, 0b100, nb_trans=5)) == (mac.LinkADRAns(),)
    assert (device.dr, device.tx_power, device.nb_trans) == (5, 0, 1)
    assert freqs(device) == [868_500_000]


def test_us915_masks_a_sub_band_with_control_seven_and_then_zero() -> None:
    device = state(region=US915, dr=3)
    block = (mac.LinkADRReq(3, 5, 0, ch_mask_cntl=7), mac.LinkADRReq(3, 5, 0xFF00, ch_mask_cntl=0))
    assert answers(device, *block) == (mac.LinkADRAns(),) * 2
    assert freqs(device) == [902_300_000 + 200_000 * index for index in range(8, 16)]


def test_receive_settings_are_answered_until_a_downlink_comes() -> None:
    device = state()
    device.heard((mac.RXTimingSetupReq(3), mac.RXParamSetupReq(2, 3, 869_525_000)), 5.0)
    for _ in range(3):
        told = mac.parse_uplink(device.take_fopts())
        assert told == (mac.RXTimingSetupAns(), mac.RXParamSetupAns())
    device.heard((), 5.0)
    assert device.take_fopts() == b""
    assert device.rx_delay_s == 3
    assert device.rx1(Channel(868_100_000, 0, 5), 5)[1].sf == 9  # DR5, offset 2: DR3
    assert device.rx2()[1].sf == 9


def test_an_impossible_receive_setting_is_refused_whole() -> None:
    device = state()
    assert answers(device, mac.RXParamSetupReq(2, 3, 915_000_000)) == (mac.RXParamSetupAns(channel_ok=False),)
    assert (device.rx1_dr_offset, device.rx2_dr) == (0, EU868.rx2[1])


def test_channels_come_go_and_move_their_answers() -> None:
    device = state()
    assert answers(device, mac.NewChannelReq(3, 867_100_000, 5, 0)) == (mac.NewChannelAns(),)
    assert 867_100_000 in freqs(device)
    assert answers(device, mac.DlChannelReq(3, 869_525_000)) == (mac.DlChannelAns(),)
    moved = next(channel for channel in device.channels() if channel.freq_hz == 867_100_000)
    assert device.rx1(moved, 5)[0] == 869_525_000
    assert answers(device, mac.NewChannelReq(3, 0, 5, 0))[-1] == mac.NewChannelAns()
    assert 867_100_000 not in freqs(device)


def test_default_channels_cannot_be_redefined() -> None:
    device = state()
    assert answers(device, mac.NewChannelReq(0, 867_100_000, 5, 0)) == (mac.NewChannelAns(freq_ok=False),)
    assert freqs(device) == list(EU868.default_channels_hz)


def test_status_tells_battery_and_the_downlinks_margin() -> None:
    assert answers(state(), mac.DevStatusReq()) == (mac.DevStatusAns(254, 7),)


def test_answers_that_do_not_fit_are_dropped_from_the_end() -> None:
    told = answers(state(), *[mac.DevStatusReq()] * 6)
    assert told == (mac.DevStatusAns(254, 7),) * 5  # 15 bytes


def test_a_cflist_adds_channels_and_one_of_another_type_is_ignored() -> None:
    # 867.1 to 867.9 MHz as TTN's EU868 join-accepts carry them
    cflist = bytes.fromhex("184f84e85684b85e84886684586e8400")
    device = state()
    device.add_cflist(cflist)
    assert freqs(device)[3:] == [867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000]
    other = state()
    other.add_cflist(cflist[:15] + b"\x01")
    assert len(freqs(other)) == 3


def test_a_device_that_hears_nothing_asks_then_grows_louder_then_slower() -> None:
    device = state(dr=5)
    device.heard((mac.LinkADRReq(5, 3, 0b001),), 5.0)
    asked = [device.count_uplink() for _ in range(ADR_ACK_LIMIT)]
    assert asked == [False] * (ADR_ACK_LIMIT - 1) + [True]
    for _ in range(ADR_ACK_DELAY):
        device.count_uplink()
    assert (device.tx_power, device.dr) == (0, 5)
    for _ in range(ADR_ACK_DELAY):
        device.count_uplink()
    assert device.dr == 4
    for _ in range(5 * ADR_ACK_DELAY):
        device.count_uplink()
    assert device.dr == 0
    assert len(device.channels()) == 3
    device.heard((), 5.0)
    assert not device.count_uplink()


def test_no_commands_whatever_they_ask_leave_a_device_without_a_channel() -> None:
    rng = random.Random(11)
    for region, dr in ((EU868, 5), (US915, 3)):
        device = state(region=region, dr=dr)
        for _ in range(3000):
            try:
                commands = mac.parse_downlink(rng.randbytes(rng.randrange(16)))
            except MacError as error:
                commands = error.commands
            device.heard(commands, rng.uniform(-20, 10))
            mac.parse_uplink(device.take_fopts())
            for channel in device.channels():
                device.rx1(channel, device.dr)
            assert device.channels()
            device.rx2()


# -- by version ----------------------------------------------------------------------------------------


def versioned(version: str, region=EU868, dr: int = 5, *, adr: bool = True) -> MacState:
    return MacState(region, dr, adr=adr, version=Version(version))


@pytest.mark.parametrize(
    ("command", "since"),
    [
        pytest.param(mac.DlChannelReq(0, 869_525_000), "1.0.2", id="DlChannelReq"),
        pytest.param(mac.ADRParamSetupReq(5, 4), "1.1", id="ADRParamSetupReq"),
        pytest.param(mac.RejoinParamSetupReq(3, 4), "1.1", id="RejoinParamSetupReq"),
    ],
)
def test_a_command_of_a_later_version_is_unknown_and_so_is_what_follows(
    command: mac.Command, since: str
) -> None:
    for version in Version:
        device = versioned(version)
        got = answers(device, mac.DutyCycleReq(0), command, mac.DevStatusReq())
        names = [answer.name for answer in got]
        if version < since:
            assert names == ["DutyCycleAns"]
            assert len(device.unanswered) == 2
        else:
            assert {"DutyCycleAns", "DevStatusAns"} < set(names)


def test_fifteen_means_keep_from_1_0_4_on_and_is_refused_before() -> None:
    keep = mac.LinkADRReq(mac.KEEP, mac.KEEP, 0b111)
    for version in ("1.0.4", "1.1"):
        assert answers(versioned(version), keep) == (mac.LinkADRAns(),)
    (refused,) = answers(versioned("1.0.3"), keep)
    assert refused == mac.LinkADRAns(data_rate_ok=False, power_ok=False)


def test_a_device_without_adr_takes_each_request_of_a_block_by_itself() -> None:
    device = versioned("1.0.3", US915, 3, adr=False)
    block = (mac.LinkADRReq(3, 0, 0, ch_mask_cntl=7), mac.LinkADRReq(3, 0, 0xFF00, ch_mask_cntl=0))
    got = answers(device, *block)
    assert not got[0].ch_mask_ok  # type: ignore[attr-defined]
    assert got[1] == mac.LinkADRAns()
    assert len(freqs(device)) == 56  # eight of the first sixteen went off, the rest stayed


def test_1_1_refuses_a_second_block_in_one_downlink() -> None:
    one, other = mac.LinkADRReq(5, 1, 0b001), mac.LinkADRReq(4, 2, 0b010)
    device = versioned("1.1")
    got = answers(device, one, mac.DevStatusReq(), other)
    assert got[0] == mac.LinkADRAns()
    assert got[-1] == mac.LinkADRAns(False, False, False)
    assert device.dr == 5
    assert versioned("1.0.4").version < "1.1"


def test_us915_refuses_fewer_than_two_narrow_channels_unless_it_sends_wide() -> None:
    def block(dr: int, mask: int, wide: int) -> tuple[mac.LinkADRReq, ...]:
        return mac.LinkADRReq(dr, 0, wide, ch_mask_cntl=7), mac.LinkADRReq(dr, 0, mask)

    for dr, mask, wide, ok in ((3, 0b1, 0, False), (3, 0b11, 0, True), (4, 0, 0b1, True)):
        device = versioned("1.0.3", US915, 3)
        got = answers(device, *block(dr, mask, wide))
        assert all(answer.ch_mask_ok for answer in got) == ok  # type: ignore[attr-defined]


def test_us915_takes_blocks_of_eight_by_control_five() -> None:
    device = versioned("1.0.3", US915, 3)
    assert answers(device, mac.LinkADRReq(3, 0, 0b10, ch_mask_cntl=5)) == (mac.LinkADRAns(),)
    assert freqs(device) == [902_300_000 + 200_000 * index for index in range(8, 16)]
    device.dr = 4
    assert freqs(device) == [904_600_000]


def test_a_cflist_of_masks_is_taken_from_1_0_3_on_and_a_list_of_the_other_type_by_nobody() -> None:
    masks = (
        (0).to_bytes(2, "little")
        + (0xFF).to_bytes(2, "little")
        + bytes(4)
        + (0b100).to_bytes(2, "little")
        + bytes(5)
        + b"\x01"
    )
    for version, count in (("1.0.2", 64), ("1.0.3", 8), ("1.1", 8)):
        device = versioned(version, US915, 3)
        device.add_cflist(masks)
        assert len(freqs(device)) == count
    europe = versioned("1.1")
    europe.add_cflist(masks)
    assert len(freqs(europe)) == 3


def test_tx_param_setup_is_obeyed_where_it_belongs_and_repeated_until_heard() -> None:
    asia = get_region("AS923-1")
    device = versioned("1.0.3", asia, 2)
    assert (device.uplink_dwell, device.room) == (True, 11)
    assert answers(device, mac.TxParamSetupReq(False, False, 3)) == (mac.TxParamSetupAns(),)
    assert (device.uplink_dwell, device.room, device.eirp_dbm) == (False, asia.max_payload(2), 13)
    assert mac.parse_uplink(device.take_fopts()) == (mac.TxParamSetupAns(),)
    device.heard((), 5.0, class_a=False)  # class C: the network may not have heard it yet
    assert mac.parse_uplink(device.take_fopts()) == (mac.TxParamSetupAns(),)
    device.heard((), 5.0)
    assert device.take_fopts() == b""
    assert answers(versioned("1.0.3"), mac.TxParamSetupReq(True, True, 3)) == ()


def test_a_device_under_the_dwell_limit_backs_off_no_further_than_it_can_speak() -> None:
    device = versioned("1.0.4", get_region("AS923-1"), 3)
    for _ in range(ADR_ACK_LIMIT + 10 * ADR_ACK_DELAY):
        device.count_uplink()
    assert device.dr == 2


def test_indications_are_said_until_they_are_confirmed() -> None:
    device = versioned("1.1")
    device.indicate(mac.RekeyInd())
    device.indicate(mac.DeviceModeInd(mac.CLASS_C))
    said = (mac.RekeyInd(), mac.DeviceModeInd(mac.CLASS_C))
    for _ in range(2):
        assert mac.parse_uplink(device.take_fopts()) == said
    device.heard((mac.RekeyConf(),), 5.0)
    assert mac.parse_uplink(device.take_fopts()) == said[1:]
    assert not device.indicates(mac.RekeyInd)
    device.heard((mac.DeviceModeConf(mac.CLASS_C),), 5.0)
    assert device.take_fopts() == b""


def test_adr_param_setup_moves_the_limits() -> None:
    device = versioned("1.1")
    assert answers(device, mac.ADRParamSetupReq(3, 2)) == (mac.ADRParamSetupAns(),)
    asked = [device.count_uplink() for _ in range(12)]
    assert asked == [False] * 7 + [True] * 5
    assert device.dr == 4


def test_class_b_settings_are_checked_and_kept() -> None:
    device = versioned("1.0.4")
    got = answers(
        device,
        mac.PingSlotChannelReq(869_525_000, 3),
        mac.BeaconFreqReq(869_525_000),
        mac.PingSlotInfoAns(),
    )
    assert got == (mac.PingSlotChannelAns(), mac.BeaconFreqAns())
    assert (device.ping_slot, device.beacon_hz, device.ping_slots_agreed) == (
        mac.PingSlotChannelReq(869_525_000, 3),
        869_525_000,
        True,
    )
    wrong = answers(device, mac.PingSlotChannelReq(915_000_000, 9), mac.BeaconFreqReq(915_000_000))
    assert wrong == (mac.PingSlotChannelAns(False, False), mac.BeaconFreqAns(False))
    assert device.ping_slot == mac.PingSlotChannelReq(869_525_000, 3)

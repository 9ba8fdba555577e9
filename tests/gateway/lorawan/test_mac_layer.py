"""What the network asks of devices and makes of their answers."""

import pytest

from gateway.lorawan import mac
from gateway.lorawan.macstate import ADR_HISTORY
from gateway.lorawan.outcome import Uplink
from gateway.lorawan.settings import Settings


def start(network, node):
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink(), snr_db=-20.0)  # so that what follows decides the margin
    return network, node


@pytest.fixture
def joined(network, node):
    return start(network, node)


def uplinks(network, node, count, **radio):
    """Uplinks with the ADR bit; the first downlink that comes back, or None."""
    for _ in range(count):
        uplink = network.hear(node.uplink(adr=True), **radio)
        if uplink.downlink is not None:
            return uplink
    return None


def test_link_check_is_answered_with_the_margin(joined):
    network, node = joined
    uplink = network.hear(node.uplink(fopts=b"\x02"), sf=9, snr_db=-2.0)
    assert node.commands(uplink.downlink) == (mac.LinkCheckAns(10, 1),)  # SF9 needs -12.5 dB


def test_commands_before_an_unknown_one_are_obeyed_and_the_fault_is_noted(joined):
    network, node = joined
    uplink = network.hear(node.uplink(fopts=b"\x02\x99\x02"))
    assert node.commands(uplink.downlink) == (mac.LinkCheckAns(14, 1),)
    assert any("0x99" in note for note in uplink.notes)


def test_answers_nobody_asked_for_are_noted_and_harmless(joined):
    network, node = joined
    uplink = network.hear(node.uplink(fopts=bytes.fromhex("030707030405")))
    assert "LinkADRAns without a request" in uplink.notes
    assert "NewChannelAns without a request" in uplink.notes
    assert any("RXParamSetupAns is cut short" in note for note in uplink.notes)
    assert uplink.downlink is None


def test_battery_and_margin_are_asked_for_and_kept(make_network, node):
    network, node = start(make_network(status_interval_s=86_400), node)
    uplink = network.hear(node.uplink())
    assert uplink.downlink is None  # asked once, in the answer to the first uplink; now an hour's patience
    uplink = network.hear(node.uplink(fopts=bytes.fromhex("06fe0a")))
    status = network.server.device(node.dev_eui)
    assert (status.battery, status.margin_db) == (254, 10)
    assert network.hear(node.uplink(), after_s=80_000).downlink is None
    uplink = network.hear(node.uplink(), after_s=10_000)
    assert node.commands(uplink.downlink) == (mac.DevStatusReq(),)
    network.restart()
    assert network.server.device(node.dev_eui).battery == 254
    assert network.hear(node.uplink()).downlink is None


def test_a_strong_device_is_made_faster_and_then_quieter(joined):
    network, node = joined
    uplink = uplinks(network, node, ADR_HISTORY, sf=12, snr_db=2.0)
    # 2 - (-20) - 10 = 12 dB: four steps, DR0 to DR4
    assert node.commands(uplink.downlink) == (mac.LinkADRReq(4, 0, 0, 6, 1),)
    uplink = network.hear(node.uplink(adr=True, fopts=b"\x03\x07"), sf=8, snr_db=2.0)
    assert "LinkADRAns: DR4, power 0 accepted" in uplink.notes
    uplink = uplinks(network, node, ADR_HISTORY, sf=8, snr_db=14.0)
    # 14 - (-10) - 10 = 14 dB: one step to DR5, three to the power
    assert node.commands(uplink.downlink) == (mac.LinkADRReq(5, 3, 0, 6, 1),)
    network.hear(node.uplink(adr=True, fopts=b"\x03\x07"))
    network.restart()
    session = network.hear(node.uplink()).device.session
    assert session.mac.tx_power == 3


def test_a_device_that_is_right_as_it_is_gets_no_downlink(joined):
    network, node = joined
    assert uplinks(network, node, 3 * ADR_HISTORY, sf=7, snr_db=4.0) is None


def test_nothing_is_adapted_without_the_adr_bit_or_against_the_setting(joined, make_network, make_node):
    network, node = joined
    for _ in range(3 * ADR_HISTORY):
        assert network.hear(node.uplink(), sf=12, snr_db=9.0).downlink is None
    network, node = start(make_network(adr=False), make_node(2))
    assert uplinks(network, node, 3 * ADR_HISTORY, sf=12, snr_db=9.0) is None


def test_no_data_rate_is_asked_for_that_the_radios_do_not_hear(make_network, node):
    network, node = start(make_network(adr_max_dr=3), node)
    uplink = uplinks(network, node, ADR_HISTORY, sf=9, snr_db=6.0)
    request = node.commands(uplink.downlink)[0]
    assert (request.data_rate, request.tx_power) == (3, 2)


def test_an_unanswered_request_is_repeated_twice_and_then_rests(joined):
    network, node = joined
    asked = []
    for _ in range(ADR_HISTORY + 40):
        uplink = network.hear(node.uplink(adr=True), sf=12, snr_db=2.0)
        if uplink.downlink is not None:
            asked.append(node.commands(uplink.downlink))
    assert asked == [(mac.LinkADRReq(4, 0, 0, 6, 1),)] * 3


def test_a_refused_data_rate_is_not_asked_for_again(joined):
    network, node = joined
    uplinks(network, node, ADR_HISTORY, sf=12, snr_db=2.0)
    uplink = network.hear(node.uplink(adr=True, fopts=b"\x03\x05"), sf=12, snr_db=2.0)
    assert "LinkADRAns: DR4 refused" in uplink.notes
    uplink = uplinks(network, node, 100, sf=12, snr_db=2.0)
    request = node.commands(uplink.downlink)[0]
    assert (request.data_rate, request.tx_power) == (3, 1)


def test_devices_are_steered_to_the_channels_of_a_small_gateway(make_network, node):
    network = make_network(uplink_channels=(0,))
    network.add(node.config)
    network.join(node)
    uplink = network.hear(node.uplink())
    assert node.commands(uplink.downlink) == (mac.LinkADRReq(5, 0, 0x0001, 0, 1),)  # its own DR and power
    assert network.hear(node.uplink(fopts=b"\x03\x07")).downlink is None
    network.restart()
    assert network.hear(node.uplink()).downlink is None
    # A device that asks whether anybody hears it may be about to open its default channels again.
    uplink = network.hear(node.uplink(adr=True, adr_ack_req=True))
    assert node.commands(uplink.downlink) == (mac.LinkADRReq(5, 0, 0x0001, 0, 1),)


def test_a_changed_steering_setting_reaches_the_devices(make_network, node):
    network, node = start(make_network(uplink_channels=(0,)), node)
    network.hear(node.uplink(fopts=b"\x03\x07"))
    for channels, request in (
        ((0, 2), mac.LinkADRReq(5, 0, 0x0005, 0, 1)),
        (None, mac.LinkADRReq(5, 0, 0, 6, 1)),
    ):
        network.settings = Settings(status_interval_s=0, uplink_channels=channels)
        network.restart()
        uplink = network.hear(node.uplink())
        assert node.commands(uplink.downlink) == (request,)
        assert network.hear(node.uplink(fopts=b"\x03\x07")).downlink is None


def test_a_device_that_will_not_be_steered_is_left_in_peace(make_network, node):
    network, node = start(make_network(uplink_channels=(0,)), node)
    network.hear(node.uplink(fopts=b"\x03\x06"))
    answered = [network.hear(node.uplink()).downlink for _ in range(40)]
    assert answered == [None] * 40


def test_in_us915_the_join_accept_steers_and_an_abp_device_gets_a_block(make_network, node):
    settings = {"uplink_channels": (*range(8, 16), 65)}
    network = make_network("US915", **settings)
    network.add(node.config)
    network.join(node, sf=10, freq_hz=903_900_000)
    assert network.hear(node.uplink(), sf=10, freq_hz=904_100_000).downlink is None
    network = make_network("US915", **settings)
    network.add(node.abp(0x01000009))
    uplink = network.hear(node.uplink(adr=True), sf=7, freq_hz=904_100_000)
    assert node.commands(uplink.downlink) == (
        mac.LinkADRReq(3, 0, 0x0002, 7, 1),
        mac.LinkADRReq(3, 0, 0xFF00, 0, 1),
    )
    # RX1 of channel 9 is downlink channel 1, 500 kHz
    assert (uplink.downlink.windows[0].freq_hz, uplink.downlink.windows[0].modulation.bw_hz) == (
        923_900_000,
        500_000,
    )
    # one answer a request (1.0.2) or one a block (1.1) are both taken
    assert isinstance(network.hear(node.uplink(fopts=b"\x03\x07\x03\x07"), sf=7, freq_hz=904_100_000), Uplink)
    assert network.hear(node.uplink(), sf=7, freq_hz=904_100_000).downlink is None


def test_a_mask_that_fits_into_no_downlink_is_a_wrong_setting(make_network):
    with pytest.raises(ValueError, match="too many groups"):
        make_network("US915", uplink_channels=tuple(range(0, 64, 8)))


@pytest.mark.parametrize(
    "wrong", [{"rx1_delay_s": 0}, {"rx1_dr_offset": 8}, {"cflist_hz": (1,) * 6}, {"uplink_channels": ()}]
)
def test_settings_outside_their_range_are_refused(make_network, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("cflist_hz", "CFList")):
        make_network(**wrong)

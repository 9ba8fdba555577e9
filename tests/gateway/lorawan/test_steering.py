"""Devices are brought to what the radios hear, kept there, and told plainly where it cannot work.

Expected masks and channels are worked out from RP002's tables by hand; the device's side is the simulated node's.
"""

import random

import pytest

from gateway.lorawan import linkadr, mac, macview, steering
from gateway.lorawan.profile import DEFAULT, Profile, Version
from gateway.lorawan.settings import Listener, Settings
from gateway.lorawan.steering import KEEP_ALIVE, advice, plan_of
from hw_sim import node_mac
from radio.regions import get_region

ONE = (Listener(868_100_000, (7,)),)


def plan(region, *heard, **settings):
    listeners = tuple(Listener(hz, sfs if isinstance(sfs, tuple) else (sfs,)) for hz, sfs in heard)
    return plan_of(get_region(region), Settings(heard=listeners, **settings))


def words(region, *heard, **settings):
    listeners = tuple(Listener(hz, sfs if isinstance(sfs, tuple) else (sfs,)) for hz, sfs in heard)
    whole = Settings(heard=listeners, **settings)
    return advice(plan_of(get_region(region), whole), whole)


@pytest.mark.parametrize(
    ("region", "heard", "mode", "narrow", "channels", "rates", "wanted"),
    [
        pytest.param("EU868", [], "off", False, None, None, {}, id="everything is heard"),
        pytest.param("EU868", [(868_100_000, 7)], "auto", True, (0,), {5}, {}, id="one default channel"),
        pytest.param(
            "EU868",
            [(867_100_000, 9)],
            "auto",
            True,
            (3,),
            {3},
            {3: 867_100_000},
            id="one channel of its own",
        ),
        pytest.param(
            "EU868",
            [(868_100_000, 7), (868_300_000, 9)],
            "auto",
            True,
            (0, 1),
            {5, 3},
            {},
            id="two channels at different rates",
        ),
        pytest.param(
            "EU868",
            [(868_100_000, 7), (868_300_000, 7), (868_500_000, 7)],
            "auto",
            False,
            (0, 1, 2),
            {5},
            {},
            id="every default channel at one rate: only the rate is steered",
        ),
        pytest.param("EU868", [(868_100_000, (7, 8))], "auto", True, (0,), {4, 5}, {}, id="a sweep"),
        pytest.param("AS923-1", [(923_200_000, 10)], "auto", True, (0,), {2}, {}, id="AS923"),
        pytest.param("US915", [(902_300_000, 7)], "impossible", False, (0,), {3}, {}, id="one of 64"),
        pytest.param(
            "US915", [(902_300_000, 7), (902_500_000, 7)], "auto", True, (0, 1), {3}, {}, id="two of 64"
        ),
    ],
)
def test_the_plan_follows_from_the_modules(region, heard, mode, narrow, channels, rates, wanted):
    made = plan(region, *heard)
    assert (made.mode, made.narrow, made.channels) == (mode, narrow, channels)
    assert made.rates == (None if rates is None else frozenset(rates))
    assert made.wanted == wanted


def test_steering_off_tells_devices_nothing_but_keeps_rates_to_what_is_heard():
    made = plan("EU868", (868_100_000, 7), steer="off")
    assert (made.narrow, made.rates, made.cflist()) == (False, frozenset({5}), b"")


def test_channels_that_are_set_come_before_the_modules():
    made = plan("EU868", (868_100_000, 7), uplink_channels=(1, 2))
    assert (made.mode, made.channels) == ("set", (1, 2))
    with pytest.raises(ValueError, match="there is no channel 3"):
        plan("EU868", uplink_channels=(3,))
    assert plan("EU868", uplink_channels=(3,), cflist_hz=(867_100_000,)).channels == (3,)


def test_the_join_accept_names_channels_of_our_own_and_masks_of_a_fixed_plan():
    # 867.1 MHz / 100 = 8671000 = 0x844F18, low byte first; type 0
    assert plan("EU868", (867_100_000, 7)).cflist().hex() == "184f84" + "00" * 13
    assert plan("EU868", (868_100_000, 7)).cflist() == b""
    # channels 0 and 1; type 1
    assert plan("US915", (902_300_000, 7), (902_500_000, 7)).cflist().hex() == "0300" + "00" * 13 + "01"


def test_a_device_before_1_0_3_takes_no_masks_from_a_join_accept():
    made = plan("US915", (902_300_000, 7), (902_500_000, 7))
    assert made.after_join(DEFAULT).enabled == 0b11
    assert made.after_join(Profile("old", version=Version.V1_0_2)).enabled == (1 << 72) - 1


def test_each_data_rate_has_the_channels_where_it_is_heard():
    made = plan("EU868", (868_100_000, 7), (868_300_000, 9))
    table = made.after_join(DEFAULT)
    assert (made.mask(table, 5), made.mask(table, 3)) == (0b001, 0b010)
    assert made.mask(table, 0) == 0b011  # heard nowhere: better a channel with a listener than one without


def test_the_expected_share_is_that_of_channels_with_a_listener():
    made = plan("EU868", (868_100_000, 7))
    table = made.after_join(DEFAULT)
    assert made.expected_share(table, 5) == pytest.approx(1 / 3)
    assert made.expected_share(table, 0) == 0.0
    table.enable(0b001)
    assert made.expected_share(table, 5) == 1.0


# Words


def test_one_module_in_eu868_is_explained_with_its_arithmetic():
    said = " ".join(each.words for each in words("EU868", (868_100_000, 7)))
    assert "hears channel 0 at SF7 (DR5)" in said
    assert "33% of its uplinks" in said
    assert "one of 3 default channels" in said
    assert "3 tries on average" in said
    # 1 - (2/3)**8 = 0.961: eight tries, and one device in twenty needs more
    assert "more than 8" in said
    assert f"every {KEEP_ALIVE} uplinks" in said
    assert "ADR bit off" in said
    assert not any(each.serious for each in words("EU868", (868_100_000, 7)))


@pytest.mark.parametrize("region", ["US915", "AU915"])
def test_one_module_in_a_fixed_plan_is_said_not_to_work(region):
    first = get_region(region).uplink_channels()[0]
    said = words(region, (first, 7))
    serious = " ".join(each.words for each in said if each.serious)
    assert f"{region} does not work" in serious
    assert "1 uplink in 64" in serious
    assert "64 tries on average" in serious
    assert "concentrator" in serious


def test_a_module_off_every_default_channel_lets_nobody_join():
    serious = [each.words for each in words("EU868", (867_100_000, 7)) if each.serious]
    assert any("no device can join" in each for each in serious)


def test_a_module_on_no_channel_is_named():
    serious = [each.words for each in words("US915", (902_400_000, 7), (902_300_000, 7), (902_500_000, 7))]
    assert any("902.4 MHz, which is no uplink channel" in each for each in serious)


def test_steering_off_with_one_module_is_said_to_lose_two_thirds():
    serious = [each.words for each in words("EU868", (868_100_000, 7), steer="off") if each.serious]
    assert any("33% of the uplinks" in each and 'steer to "auto"' in each for each in serious)


def test_a_gateway_that_hears_everything_has_nothing_to_explain():
    assert words("EU868") == []


# Devices


class Field:
    """A device that hops over its channels, and a gateway that hears what its modules hear."""

    def __init__(self, network, node, *, adr=True, dr=5):
        self.network, self.node, self.rng = network, node, random.Random(7)
        network.add(node.config)
        self.device = node_mac.MacState(network.region, dr, adr=adr)
        self.plan = network.server.mac.plan
        self.sent = self.heard = self.downlinks = 0
        while True:  # the join lottery
            channel = self.rng.choice(self.device.channels())
            joined = (
                network.hear(node.join_request(), freq_hz=channel.freq_hz) if self._hears(channel) else None
            )
            if joined is not None:
                accept = node.hear_accept(joined.downlink.windows[0].data)
                if accept.cflist:
                    self.device.add_cflist(accept.cflist)
                return

    def _hears(self, channel):
        index = self.network.region.uplink_index(channel.freq_hz)
        if index is None:
            index = next(i for i, hz in self.plan.wanted.items() if hz == channel.freq_hz)
        return self.plan.hears(index, self.device.dr)

    def up(self, count=1, *, deaf=False, heard=True):
        """`deaf`: the device hears no downlink; without `heard` the gateway hears nothing."""
        for _ in range(count):
            ask = self.device.count_uplink()
            channel = self.rng.choice(self.device.channels())
            phy = self.node.uplink(adr=self.device.adr, adr_ack_req=ask, fopts=self.device.take_fopts())
            self.sent += 1
            if not (heard and self._hears(channel)):
                continue
            self.heard += 1
            sf = self.device.modulation.sf
            outcome = self.network.hear(phy, sf=sf, freq_hz=channel.freq_hz, snr_db=-5.0)
            if outcome.downlink is not None:
                self.downlinks += 1
                if not deaf:
                    self.device.heard(self.node.commands(outcome.downlink), 5.0)

    def share_of(self, count):
        sent, heard = self.sent, self.heard
        self.up(count)
        return (self.heard - heard) / (self.sent - sent)

    @property
    def enabled(self):
        return [channel.freq_hz for channel in self.device.channels()]


@pytest.fixture
def field(make_network, make_node):
    def make(region="EU868", *, adr=True, dr=5, heard=ONE, **settings):
        return Field(make_network(region, heard=heard, **settings), make_node(), adr=adr, dr=dr)

    return make


def test_one_module_hears_a_third_before_and_everything_after(field):
    free = field(steer="off")
    assert free.share_of(300) == pytest.approx(1 / 3, abs=0.08)
    steered = field()
    steered.up(20)
    assert steered.enabled == [868_100_000]
    assert steered.share_of(300) == 1.0


def test_a_device_with_adr_off_is_brought_to_the_channel_by_one_request(field):
    steered = field(adr=False)
    steered.up(20)
    assert steered.enabled == [868_100_000]
    assert steered.downlinks == 1


def test_a_steered_device_is_kept_by_a_downlink_in_time_for_ever(field):
    steered = field()
    steered.up(20)
    most = 0
    for _ in range(1500):
        steered.up()
        most = max(most, steered.device.adr_ack_count)
        assert steered.enabled == [868_100_000]
    assert most <= KEEP_ALIVE + 1 < 64
    assert steered.downlinks <= 3 + 1500 / KEEP_ALIVE * 1.2  # the arithmetic that the pages show


def test_without_keep_alive_the_device_would_open_its_channels_again(field, monkeypatch):
    monkeypatch.setattr(steering, "KEEP_ALIVE", 1 << 40)
    monkeypatch.setattr(linkadr, "KEEP_ALIVE", 1 << 40)
    steered = field()
    steered.up(20)
    steered.up(600, deaf=True)
    assert len(steered.enabled) == 3


def test_a_device_that_has_opened_its_channels_is_brought_back(field):
    steered = field()
    steered.up(20)
    steered.up(600, heard=False)  # the gateway is off: the device opens its channels and slows down
    assert len(steered.enabled) == 3
    steered.device.dr = 5  # what another gateway or its owner may do; at another rate it is never heard again
    steered.up(40)
    assert steered.enabled == [868_100_000]


def test_a_channel_of_our_own_is_added_by_the_join_and_the_defaults_are_closed(field):
    heard = (Listener(868_100_000, (7,)), Listener(867_100_000, (7,)))
    steered = field(heard=heard)
    steered.up(20)
    assert sorted(steered.enabled) == [867_100_000, 868_100_000]
    assert steered.share_of(100) == 1.0


def test_adr_never_moves_a_device_to_what_no_module_hears(field):
    heard = (Listener(868_100_000, (10,)), Listener(868_300_000, (9,)))
    steered = field(heard=heard, dr=2)
    for _ in range(400):
        steered.up()
        assert steered.plan.rates is not None
        assert steered.device.dr in steered.plan.rates
    # -5 dB at SF9: 7.5 above the floor, 10 are wanted; so it stays at SF10, on its channel
    assert steered.device.dr == 2
    assert steered.enabled == [868_100_000]
    assert steered.share_of(100) == 1.0


def test_a_data_rate_takes_its_channel_with_it(field):
    heard = (Listener(868_100_000, (12,)), Listener(868_300_000, (10,)))
    steered = field(heard=heard, dr=0)
    steered.up(60)
    # -5 - (-20) - 10 = 5 dB at SF12: one step, to SF11, where nobody listens; so DR0 stays
    assert (steered.device.dr, steered.enabled) == (0, [868_100_000])
    for _ in range(60):
        steered.up()
    network = steered.network
    session = network.server.registered(steered.node.dev_eui).session
    network.server.mac.order(session, {"data_rate": 2})
    steered.up(10)
    assert (steered.device.dr, steered.enabled) == (2, [868_300_000])
    assert steered.share_of(50) == 1.0


def test_the_heard_share_stands_beside_the_expected_one(field):
    free = field(steer="off")
    free.up(300)
    server = free.network.server
    session = server.registered(free.node.dev_eui).session
    share = macview.heard_share(server.mac, session)
    assert share.expected == pytest.approx(1 / 3)
    assert share.recent == pytest.approx(1 / 3, abs=0.15)
    assert "expected 33%: 1 of its 3 channels" in share.words
    assert server.device(free.node.dev_eui).heard_share == share.recent


def test_in_us915_a_device_with_adr_off_gets_one_request_for_whole_banks(make_network, make_node):
    # RP002, US915, ChMaskCntl 5: bit 1 is channels 8 to 15 and wide channel 65
    network, node = make_network("US915", uplink_channels=(*range(8, 16), 65)), make_node(2)
    network.add(node.abp(0x01000009))
    uplink = network.hear(node.uplink(), sf=7, freq_hz=904_100_000)
    assert node.commands(uplink.downlink) == (mac.LinkADRReq(3, 0, 0x0002, 5, 1),)
    network.hear(node.uplink(fopts=b"\x03\x07"), sf=7, freq_hz=904_100_000)
    assert network.hear(node.uplink(), sf=7, freq_hz=904_100_000).downlink is None
    # A mask that is no whole bank takes two commands, and such a device would take each by itself.
    network, node = make_network("US915", uplink_channels=tuple(range(8, 12))), make_node(3)
    network.add(node.abp(0x01000009))
    assert network.hear(node.uplink(), sf=7, freq_hz=904_100_000).downlink is None

"""Margins to data rates, channels to masks; expected masks are worked out from RP002's tables."""

import dataclasses
import random

import pytest

from gateway.lorawan import adr, macview
from gateway.lorawan.mac import LinkADRReq
from gateway.lorawan.profile import Profile
from hw_sim import node_mac
from radio.lora import REQUIRED_SNR_DB, LoRaModulation
from radio.regions import get_region

EU868, US915 = get_region("EU868"), get_region("US915")


def test_margin_is_what_is_left_after_the_demodulation_floor_and_the_installation_margin():
    assert adr.margin_db(5.0, LoRaModulation(12, 125_000), 10.0) == 15.0
    assert adr.margin_db(-7.5, LoRaModulation(7, 125_000), 10.0) == -10.0


@pytest.mark.parametrize(
    ("margin", "before", "after"),
    [
        pytest.param(2.9, (0, 0), (0, 0), id="less than a step"),
        pytest.param(3.0, (0, 0), (1, 0), id="one step is a data rate"),
        pytest.param(15.0, (0, 0), (5, 0), id="all to the data rate"),
        pytest.param(21.0, (0, 0), (5, 2), id="the rest to the power"),
        pytest.param(60.0, (5, 0), (5, 7), id="never beyond the weakest power"),
        pytest.param(-3.1, (5, 4), (5, 2), id="power comes back"),
        pytest.param(-30.0, (3, 1), (3, 0), id="data rate never goes down"),
    ],
)
def test_steps_of_3_db_raise_the_rate_first_and_then_lower_the_power(margin, before, after):
    assert adr.adapt(margin, *before, max_dr=5, max_tx_power=7) == after


@pytest.mark.parametrize(
    ("region", "channels", "expected"),
    [
        pytest.param(EU868, None, [(6, 0)], id="EU868, all"),
        pytest.param(EU868, [0], [(0, 0x0001)], id="EU868, the first channel"),
        pytest.param(EU868, [0, 2, 5], [(0, 0x0025)], id="EU868, some"),
        pytest.param(US915, None, [(6, 0x00FF)], id="US915, all"),
        pytest.param(US915, range(8, 16), [(7, 0), (0, 0xFF00)], id="US915, sub-band 2 without 500 kHz"),
        pytest.param(US915, [*range(8, 16), 65], [(7, 0x0002), (0, 0xFF00)], id="US915, sub-band 2"),
        pytest.param(US915, [15, 16], [(7, 0), (0, 0x8000), (1, 0x0001)], id="US915, across groups"),
        pytest.param(get_region("CN470"), None, [(6, 0)], id="CN470, all"),
        pytest.param(
            get_region("CN470"),
            range(80, 88),
            [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0x00FF)],
            id="CN470 names every group",
        ),
        pytest.param(get_region("CN470-20A"), [32], [(7, 0), (2, 0x0001)], id="CN470-20A, one channel"),
        pytest.param(get_region("CN470-26A"), None, [(3, 0)], id="CN470-26A, all"),
        pytest.param(get_region("CN470-26B"), [0, 47], [(4, 0), (0, 1), (2, 0x8000)], id="CN470-26B, two"),
    ],
)
def test_channels_become_one_block_of_masks(region, channels, expected):
    block = adr.link_adr_block(region, channels, 3, 1, 1)
    assert [(request.ch_mask_cntl, request.ch_mask) for request in block] == expected
    assert all(isinstance(request, LinkADRReq) and request.data_rate == 3 for request in block)


def test_a_cflist_of_frequencies_ends_in_type_0():
    extra = (867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000)
    # the CFList of a published join-accept of The Things Network
    assert adr.cflist(EU868, extra, None).hex() == "184f84e85684b85e84886684586e8400"
    assert adr.cflist(EU868, extra[:1], None).hex() == "184f84" + 13 * "00"
    assert adr.cflist(EU868, (), [0]) == b""


def test_a_cflist_of_masks_ends_in_type_1():
    assert adr.cflist(US915, (), [*range(8, 16), 65]).hex() == "00ff" + 3 * "0000" + "0200" + 5 * "00" + "01"
    assert adr.cflist(US915, (), None) == b""
    assert adr.cflist(get_region("CN470"), (), range(80, 88)).hex() == 10 * "00" + "ff00" + 3 * "00" + "01"


# Limits, repetitions


@pytest.mark.parametrize(
    ("margin", "before", "rates", "after"),
    [
        pytest.param(9.0, (0, 0), (0, 2, 5), (2, 1), id="rates between that are not heard cost no place"),
        pytest.param(5.9, (0, 0), (0, 2, 5), (0, 1), id="a gap too wide is left, power goes down instead"),
        pytest.param(0.0, (6, 0), (0, 5), (5, 0), id="a rate that is not allowed is left for one below"),
        pytest.param(0.0, (0, 0), (3, 4), (3, 0), id="and for the slowest where none is below"),
        pytest.param(30.0, (3, 0), (3,), (3, 7), id="one rate: all goes to the power"),
        pytest.param(-1.4, (5, 3), (5,), (5, 3), id="noise gives no power back"),
        pytest.param(-1.6, (5, 3), (5,), (5, 2), id="a margin clearly negative does"),
    ],
)
def test_only_allowed_rates_are_chosen(margin, before, rates, after):
    assert adr.adapt(margin, *before, max(rates), 7, rates) == after


@pytest.mark.parametrize(
    ("now", "loss", "then"),
    [
        (1, 0.0, 1),
        (2, 0.0, 1),
        (3, 0.04, 2),
        (1, 0.07, 1),
        (3, 0.07, 3),
        (1, 0.2, 2),
        (2, 0.2, 3),
        (1, 0.5, 3),
        (3, 0.9, 3),
        (15, 0.5, 3),
        (0, 0.0, 1),
    ],
)
def test_repetitions_follow_the_loss_as_the_published_table_has_it(now, loss, then):
    """Columns 1, 2, 3 repetitions now; rows below 5 %, 10 %, 30 % and above: 1 1 2, 1 2 3, 2 3 3, 3 3 3."""
    assert adr.repetitions(now, loss) == then


def test_loss_that_steering_explains_calls_for_no_repetitions():
    assert adr.loss_beyond(2 / 3, 1 / 3) == pytest.approx(0.0)
    assert adr.loss_beyond(0.8, 1 / 3) == pytest.approx(0.4)
    assert adr.loss_beyond(0.1, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("channels", "mask"),
    [
        ([*range(8), 64], 0b1),
        ([*range(8, 16), *range(24, 32), 65, 67], 0b1010),
        (range(72), 0xFF),
        (range(8), None),
        ([*range(7), 64], None),
        ([64], None),
    ],
)
def test_whole_banks_of_us915_fit_into_one_command(channels, mask):
    assert adr.banks(US915, list(channels)) == mask
    assert adr.banks(EU868, [0]) is None


# In a loop with a device whose path loss is known


class Path:
    """A device at a place where it is heard with a known SNR at full power, through the whole server."""

    def __init__(self, network, node, snr_db, *, noise_db=0.0, loss=0.0, seed=1, profile=None):
        self.network, self.node = network, node
        config = node.config
        if profile is not None:
            network.server.use_profiles({profile.name: profile})
            config = dataclasses.replace(config, profile=profile.name)
        network.add(config)
        network.join(node)
        self.snr_db, self.noise_db, self.loss = snr_db, noise_db, loss
        self.rng = random.Random(seed)
        self.device = node_mac.MacState(network.region, 0, adr=True)
        self.told = 0

    @property
    def at_gateway_db(self):
        return self.snr_db + self.network.region.tx_power_offset_db[self.device.tx_power]

    def up(self, count):
        for _ in range(count):
            modulation = self.device.modulation
            phy = self.node.uplink(adr=True, fopts=self.device.take_fopts())
            snr_db = self.at_gateway_db + self.rng.gauss(0, self.noise_db)
            lost = all(self.rng.random() < self.loss for _ in range(self.device.nb_trans))
            if lost or snr_db < REQUIRED_SNR_DB[modulation.sf]:
                continue
            outcome = self.network.hear(phy, sf=modulation.sf, snr_db=snr_db)
            if outcome.downlink is not None:
                self.told += 1
                self.device.heard(self.node.commands(outcome.downlink), 5.0)

    @property
    def settled(self):
        return self.device.dr, self.device.tx_power

    @property
    def margin_db(self):
        return self.at_gateway_db - REQUIRED_SNR_DB[self.device.modulation.sf] - 10.0


def optimum(snr_db, region=EU868):
    """By hand from the steps: each 3 dB above what is needed is a data rate, then a power of 2 dB."""
    rate = power = 0
    while rate < 5 and snr_db - REQUIRED_SNR_DB[12 - rate] - 10 >= 3:
        rate += 1
    while power < 7 and snr_db - 2 * power - REQUIRED_SNR_DB[12 - rate] - 10 >= 3:
        power += 1
    return rate, power


@pytest.mark.parametrize("snr_db", [-19.0, -9.0, -6.5, -3.0, 0.0, 2.0, 5.5, 9.0, 14.0, 30.0])
def test_a_device_on_a_quiet_path_comes_to_the_known_optimum(network, node, snr_db):
    path = Path(network, node, snr_db)
    path.up(400)
    expected_rate, expected_power = optimum(snr_db)
    rate, power = path.settled
    # A step of the algorithm is 3 dB, one of a data rate 2.5 and one of the power 2: the last of them may be left.
    assert expected_rate - 1 <= rate <= expected_rate
    assert abs(power - expected_power) <= 2 or rate < expected_rate
    assert path.margin_db >= -1.5 or (rate, power) == (0, 0)
    assert path.margin_db < 3 or (rate, power) == (5, 7)
    told = path.told
    path.up(400)
    assert path.told == told, "a settled device is told nothing more"


def requests_in_noise(make_network, make_node):
    path = Path(make_network(), make_node(), 9.0, noise_db=2.5)
    path.up(400)
    told = path.told
    path.up(3000)
    return path.told - told


def test_noise_rarely_moves_a_settled_device_and_more_often_without_hysteresis(
    make_network, make_node, monkeypatch
):
    """150 conclusions are drawn; with the margin of a step on one side only, noise moves the device to and fro."""
    steady = requests_in_noise(make_network, make_node)
    monkeypatch.setattr(adr, "HYSTERESIS_DB", 0.0)
    assert steady * 1.5 < requests_in_noise(make_network, make_node)
    assert steady <= 20


def test_a_device_that_moves_away_gets_its_power_back(network, node):
    path = Path(network, node, 14.0)
    path.up(300)
    assert path.device.tx_power >= 5
    path.snr_db = 4.0
    path.up(300)
    assert path.device.tx_power <= 1
    assert path.margin_db >= -1.5


def test_lost_frames_are_answered_by_repetitions_and_those_end_with_the_loss(network, node):
    path = Path(network, node, 4.0, loss=0.4, seed=3)
    path.up(300)
    assert path.device.nb_trans == 3
    path.loss = 0.0
    path.up(200)
    assert path.device.nb_trans == 1


def test_a_profile_sets_margin_and_limits(make_network, make_node):
    for number, (profile, expected) in enumerate(
        [
            (Profile("deep", adr_margin_db=20.0), (4, 0)),
            (Profile("slow", max_dr=2), (2, 7)),
            (Profile("quick", min_dr=3), (5, 4)),
            (Profile("loud", max_tx_power=1), (5, 1)),
            (Profile("own", fixed_dr=0), (0, 7)),
            (Profile("none", adr=False), (0, 0)),
        ]
    ):
        path = Path(make_network(), make_node(number + 1), 12.0, profile=profile)
        path.up(400)
        assert path.settled == expected, profile.name
        assert path.settled[0] <= 5


def test_a_profile_limits_repetitions(network, node):
    path = Path(network, node, 4.0, loss=0.5, profile=Profile("twice", max_nb_trans=2))
    path.up(300)
    assert path.device.nb_trans == 2


def test_a_device_that_slows_down_by_itself_is_known_to_be_at_full_power(network, node):
    path = Path(network, node, 14.0)
    path.up(200)
    assert path.device.tx_power > 0
    path.device.tx_power, path.device.dr = 0, 3  # it has heard nothing for long
    path.up(1)
    session = network.server.registered(node.dev_eui).session
    path.up(40)
    view = macview.view(network.server.mac, session)
    assert any("slowed down from DR5 to DR3 by itself" in entry.words for entry in view.trace)
    path.up(60)
    assert path.settled[0] == 5


def test_each_conclusion_is_kept_for_the_page_with_what_it_rests_on(network, node):
    path = Path(network, node, -3.0)
    path.up(60)
    session = network.server.registered(node.dev_eui).session
    first = macview.view(network.server.mac, session).adr.decisions[-1]
    # -3 - (-20) - 10 = 7 dB: two steps
    assert (first.data_rate, first.best_snr_db, first.margin_db, first.loss) == (0, -3.0, 7.0, 0.0)
    assert first.words == "DR2, power 0, each frame 1 x"

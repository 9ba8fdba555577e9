"""Over an air that loses frames both ways, with kills and changed settings between: once it is quiet, what the network
believes of a device is what the device has, and it is what the network wants."""

import random

import pytest

from gateway.lorawan import mac, settling, wants
from gateway.lorawan.profile import Profile, Version
from gateway.lorawan.settings import Listener, Settings
from hw_sim import node_mac
from radio.regions import get_region

REGIONS = ("EU868", "US915", "AU915", "AS923-1", "IN865", "KR920", "EU433")
VERSIONS = (Version.V1_0_0, Version.V1_0_2, Version.V1_0_3, Version.V1_0_4)


def settings_for(region, rng):
    """Some of what an owner may set, as far as the region has it."""
    chosen = {
        "status_interval_s": rng.choice((0, 600)),
        "rx1_delay_s": rng.choice((1, 3, 5)),
        "rx1_dr_offset": rng.choice((0, 1, 2)),
        "max_duty": rng.choice((0, 0, 4)),
        "adr": rng.random() < 0.8,
    }
    channels = region.uplink_channels()
    if region.fixed_plan:
        first = rng.choice((0, 8, 16))
        chosen["uplink_channels"] = rng.choice((None, (*range(first, first + 8), 64 + first // 8)))
    else:
        low, high = region.band_hz
        extra = [hz for hz in range(low + 300_000, high - 300_000, 500_000) if hz not in channels]
        if rng.random() < 0.5:
            chosen["cflist_hz"] = tuple(rng.sample(extra, min(len(extra), rng.randrange(1, 4))))
        if rng.random() < 0.5:
            sf = rng.choice((7, 9))
            chosen["heard"] = tuple(Listener(hz, (sf,)) for hz in rng.sample(channels, rng.randrange(1, 3)))
    return chosen


class Air:
    def __init__(self, make_network, node, seed):
        self.rng = rng = random.Random(seed)
        self.region = get_region(rng.choice(REGIONS))
        self.network = make_network(self.region.name, **settings_for(self.region, rng))
        self.node = node
        profile = Profile("it", version=rng.choice(VERSIONS))
        self.network.server.use_profiles({"it": profile})
        self.network.add(node.abp(0x01000009))
        self.profiles = {"it": profile}
        self.network.server.registered(node.dev_eui).profile = profile
        narrow = [dr for dr, each in self.region.uplink_data_rates.items() if each.bw_hz == 125_000]
        self.device = node_mac.MacState(
            self.region, rng.choice(narrow[2:]), adr=rng.random() < 0.7, version=profile.version
        )
        self.loss = 0.3
        self.snr_db = rng.uniform(-15, 10)

    @property
    def session(self):
        return self.network.server.registered(self.node.dev_eui).session

    def up(self):
        rng, device = self.rng, self.device
        ask = device.count_uplink()
        channels = device.channels()
        assert channels, "the device has no channel left"
        channel = rng.choice(channels)
        phy = self.node.uplink(adr=device.adr, adr_ack_req=ask, fopts=device.take_fopts())
        if rng.random() < self.loss:
            return
        modulation = device.modulation
        outcome = self.network.hear(
            phy, sf=modulation.sf, bw_hz=modulation.bw_hz, freq_hz=channel.freq_hz, snr_db=self.snr_db
        )
        assert not hasattr(outcome, "reason"), outcome.detail
        if outcome.downlink is None or rng.random() < self.loss:
            return
        device.heard(self.node.commands(outcome.downlink), 5.0)
        assert not device.unanswered, f"{device.version} does not know {device.unanswered}"

    def restart(self):
        """Killed; the owner may have changed the settings."""
        if self.rng.random() < 0.5:
            self.network.settings = Settings(**settings_for(self.region, self.rng))
        self.network.restart()
        self.network.server.use_profiles(self.profiles)
        self.network.server.registered(self.node.dev_eui).profile = self.profiles["it"]

    def differences(self):
        """Where the network's belief is not what the device has."""
        session, device, state = self.session, self.device, self.session.mac
        table = state.channels
        believed = {table.freq_hz(index) for index in table if table.is_enabled(index)}
        has = {
            each.freq_hz
            for rate in self.region.uplink_data_rates
            for each in device.table.usable(rate)
            if each.index in device.table.mask
        }
        pairs = {
            "channels": (believed, has),
            "delay": (session.rx1_delay_s, device.rx_delay_s),
            "offset": (session.rx1_dr_offset, device.rx1_dr_offset),
            "rx2": (session.rx2_dr, device.rx2_dr),
            "duty": (1 / (1 << state.max_duty), device.max_duty),
        }
        if device.adr:
            pairs["power"] = (state.tx_power, device.tx_power)
            pairs["repetitions"] = (state.nb_trans, device.nb_trans)
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def unmet(self):
        context = self.network.server.mac.context(self.session)
        want, have = wants.wanted(context), wants.reported(context)
        rests = self.session.mac.rests
        return {n: (v, have.get(n)) for n, v in want.items() if have.get(n) != v and n not in rests}


def live(air, rounds=6):
    for _ in range(rounds):
        for _ in range(air.rng.randrange(5, 60)):
            air.up()
        air.restart()
    air.loss = 0.0
    for _ in range(120):
        air.up()


@pytest.mark.parametrize("seed", range(24))
def test_belief_and_truth_agree_once_the_air_is_quiet(make_network, node, seed):
    air = Air(make_network, node, seed)
    live(air)
    assert air.differences() == {}
    assert air.unmet() == {}


def test_a_network_that_believes_what_it_has_not_heard_is_found_out(make_network, make_node, monkeypatch):
    """The control: a network that takes a refusal for an agreement, and one that takes a request for an answer."""
    monkeypatch.setattr(settling, "refused_words", lambda answer: "")
    monkeypatch.setattr(
        node_mac.MacState, "_rx_param_setup", lambda self, request: mac.RXParamSetupAns(False, False, False)
    )
    wrong = 0
    for seed in range(6):
        air = Air(make_network, make_node(seed + 1), seed)
        live(air)
        wrong += bool(air.differences())
    assert wrong

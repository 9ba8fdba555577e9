"""What is wanted of a device and what it has agreed to: every difference becomes a request, every answer settles it.

The device's side is the simulated node's, which obeys as LoRaMac-node does; frames go through the whole server.
"""

import dataclasses
import json
import random

import pytest

from gateway.lorawan import mac, macstore, macview
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError
from gateway.lorawan.maclayer import QUIET_UPLINKS
from gateway.lorawan.macstate import MAX_TRACE, MacState
from gateway.lorawan.profile import Profile, Version
from hub.message import TimeQuality
from hw_sim import node_mac


class Loop:
    """One device on the air: what it hears it obeys, what it has to answer goes into its next uplink."""

    def __init__(self, network, node, *, adr=True, abp=False, profile=None):
        self.network, self.node = network, node
        config = node.abp(0x01000009) if abp else node.config
        if profile is not None:
            network.server.use_profiles({profile.name: profile})
            config = dataclasses.replace(config, profile=profile.name)
        network.add(config)
        rates = network.region.uplink_data_rates
        fastest = max(rate for rate, each in rates.items() if each.bw_hz == 125_000)
        self.device = node_mac.MacState(network.region, fastest, adr=adr)
        if not abp:
            accept = network.join(node, freq_hz=network.region.uplink_channels()[0])
            self.device.rx1_dr_offset, self.device.rx2_dr = accept.rx1_dr_offset, accept.rx2_dr
            self.device.rx_delay_s = accept.rx_delay_s
            if accept.cflist:
                self.device.add_cflist(accept.cflist)
        self.rng = random.Random(1)
        self.told = []  # commands of the network, a tuple a downlink
        self.windows = []

    def as_1_1(self):
        """A 1.1 session as far as commands go; its frames stay those of 1.0, which this device speaks."""
        assert self.session.crypto is not None
        self.session.v1_1 = True
        self.device.version = Version.V1_1
        return self

    @property
    def session(self):
        return self.network.server.registered(self.node.dev_eui).session

    def up(self, *, heard=True, obeys=True, snr_db=0.0, fopts=None, freq_hz=None, **flags):
        """One uplink of the device; without `heard` nobody receives it, without `obeys` its answer is lost."""
        if fopts is None:
            fopts = self.device.take_fopts()
        channel = self.rng.choice(self.device.channels())
        modulation = self.device.modulation
        phy = self.node.uplink(adr=self.device.adr, fopts=fopts, **flags)
        if not heard:
            return None
        outcome = self.network.hear(
            phy, sf=modulation.sf, bw_hz=modulation.bw_hz, snr_db=snr_db, freq_hz=freq_hz or channel.freq_hz
        )
        if outcome.downlink is not None:
            self.windows.append(outcome.downlink.windows)
            commands = self.node.commands(outcome.downlink)
            if commands:
                self.told.append(commands)
            if obeys:
                self.device.heard(commands, 5.0)
        return outcome

    def until_quiet(self, most=40):
        """Uplinks until the network has asked nothing for three of them."""
        quiet = 0
        for _ in range(most):
            quiet = quiet + 1 if self.up().downlink is None else 0
            if quiet == 3:
                return
        raise AssertionError(f"the network never comes to rest: {self.told[-4:]}")

    @property
    def asked(self):
        return [type(command) for commands in self.told for command in commands]

    def view(self):
        return macview.view(self.network.server.mac, self.session)

    def row(self, name):
        return next(row for row in self.view().settings if row.name == name)


@pytest.fixture
def loop(make_network, make_node):
    def make(region="EU868", *, adr=True, abp=False, profile=None, **settings):
        return Loop(make_network(region, **settings), make_node(), adr=adr, abp=abp, profile=profile)

    return make


def test_a_device_as_it_should_be_is_told_nothing(loop):
    device = loop()
    device.until_quiet()
    assert device.told == []
    assert {row.state for row in device.view().settings} <= {"agreed", "unknown"}


def test_an_abp_device_is_brought_to_the_configured_windows(loop):
    device = loop(abp=True, rx1_delay_s=5, rx1_dr_offset=2, rx2_dr=3, rx2_freq_hz=869_525_000)
    assert device.row("rx_timing").wanted == "RX1 after 5 s"
    assert device.row("rx_timing").reported == "RX1 after 1 s"
    device.until_quiet()
    assert device.told[0] == (mac.RXParamSetupReq(2, 3, 869_525_000), mac.RXTimingSetupReq(5))
    assert (device.device.rx_delay_s, device.device.rx1_dr_offset, device.device.rx2_dr) == (5, 2, 3)
    session = device.session
    assert (session.rx1_delay_s, session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz) == (
        5,
        2,
        3,
        869_525_000,
    )
    device.network.restart()
    session = device.session
    assert (session.rx1_delay_s, session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz) == (
        5,
        2,
        3,
        869_525_000,
    )
    device.told.clear()
    device.until_quiet()
    assert device.told == []


def test_new_windows_count_only_from_the_first_answer_on(loop):
    device = loop(abp=True, rx1_delay_s=5)
    device.up()
    sent = device.network.mono_ns // 1000
    assert device.windows[-1][0].tmst == sent + 1_000_000
    device.up(heard=False)  # the answer is lost; it is sticky, so it comes again
    assert device.session.rx1_delay_s == 1
    device.up(fport=1)
    assert device.session.rx1_delay_s == 5
    # The device repeats its answer until it hears something, so it is sent something, at the new delay.
    assert device.windows[-1][0].tmst == device.network.mono_ns // 1000 + 5_000_000
    assert device.device.take_fopts() == b""


def test_sticky_answers_said_again_are_no_errors(loop):
    device = loop(abp=True, rx1_delay_s=5)
    device.up()
    device.up(obeys=False)
    outcome = device.up(obeys=False)
    assert "RXTimingSetupAns repeated" in outcome.notes
    assert outcome.downlink is not None
    assert device.row("rx_timing").state == "agreed"


def test_a_changed_channel_list_is_defined_and_later_removed_by_frequency_0(loop):
    device = loop(cflist_hz=(867_100_000,))
    device.until_quiet()
    assert device.told == []  # the join-accept had them
    assert device.session.mac.channels.index(867_100_000) == 3
    network = device.network
    network.settings = dataclasses.replace(network.settings, cflist_hz=(867_100_000, 867_300_000))
    network.restart()
    device.until_quiet()
    assert device.told == [(mac.NewChannelReq(4, 867_300_000, 5, 0),)]
    assert device.session.mac.channels.index(867_300_000) == 4
    network.settings = dataclasses.replace(network.settings, cflist_hz=())
    network.restart()
    device.told.clear()
    device.until_quiet()
    assert [command.freq_hz for commands in device.told for command in commands] == [0, 0]
    assert list(device.session.mac.channels) == [0, 1, 2]
    assert sorted(channel.freq_hz for channel in device.device.channels()) == [
        868_100_000,
        868_300_000,
        868_500_000,
    ]


def test_no_channel_is_ever_defined_in_a_fixed_plan_nor_a_default_one(loop):
    device = loop("US915", uplink_channels=tuple(range(8)))
    device.until_quiet()
    assert mac.NewChannelReq not in device.asked
    device = loop("EU868", abp=True, cflist_hz=(867_100_000, 867_300_000))
    device.until_quiet()
    assert {c.ch_index for commands in device.told for c in commands if isinstance(c, mac.NewChannelReq)} == {
        3,
        4,
    }


def test_a_device_that_refuses_a_channel_is_left_alone_longer_each_time(loop):
    device = loop(abp=True, cflist_hz=(868_800_000,))
    asked = []
    for number in range(7 * QUIET_UPLINKS):
        outcome = device.up(fopts=b"\x07\x02" if asked and asked[-1] == number - 1 else b"")
        if outcome.downlink is not None:
            asked.append(number)
    assert asked == [0, 1 + QUIET_UPLINKS, 2 + 3 * QUIET_UPLINKS]
    assert device.row("channel 3").state == "resting"
    assert "the frequency refused" in device.row("channel 3").words


def test_a_device_that_answers_nothing_is_asked_three_times_and_then_rests(loop):
    device = loop(abp=True, max_duty=4)
    asked = [device.up(fopts=b"").downlink is not None for _ in range(QUIET_UPLINKS)]
    assert asked == [True] * 3 + [False] * (QUIET_UPLINKS - 3)
    assert device.row("duty_cycle").words.startswith("no answer to 3 requests")


def test_dwell_time_and_power_are_told_where_the_region_has_the_command(loop):
    device = loop("AS923-1")
    device.until_quiet()
    assert device.told == [(mac.TxParamSetupReq(False, False, 5),)]  # 16 dBm
    assert device.device.uplink_dwell is False
    device = loop("AU915", limit_dwell=True, uplink_channels=tuple(range(8)), abp=True)
    device.until_quiet()
    assert mac.TxParamSetupReq(True, True, 13) in [c for commands in device.told for c in commands]  # 30 dBm
    device = loop("EU868", abp=True)
    device.until_quiet()
    assert device.told == []


@pytest.mark.parametrize(
    ("version", "known"),
    [
        (Version.V1_0_0, {mac.DutyCycleReq}),
        (Version.V1_0_1, {mac.DutyCycleReq}),
        (Version.V1_0_2, {mac.DutyCycleReq, mac.TxParamSetupReq}),
        (Version.V1_0_4, {mac.DutyCycleReq, mac.TxParamSetupReq}),
        (Version.V1_1, {mac.DutyCycleReq, mac.TxParamSetupReq}),  # in a 1.0 session: as a 1.0 device
    ],
)
def test_no_device_is_sent_a_command_that_its_version_lacks(loop, version, known):
    profile = Profile("it", version=version)
    device = loop("AS923-1", profile=profile, abp=True, max_duty=3, adr_ack=(7, 4), rejoin=(5, 5))
    device.device.version = version
    device.until_quiet()
    assert set(device.asked) == known


def test_a_1_1_device_is_told_its_patience_and_when_to_rejoin(loop):
    device = loop(
        abp=True, profile=Profile("new", version=Version.V1_1), adr_ack=(7, 4), rejoin=(5, 6)
    ).as_1_1()
    device.until_quiet()
    assert device.told == [(mac.ADRParamSetupReq(7, 4), mac.RejoinParamSetupReq(5, 6))]
    assert device.session.mac.adr_param == (7, 4)
    device.network.server.mac.force_rejoin(device.session, 0)
    device.told.clear()
    device.up()
    assert device.told == [(mac.ForceRejoinReq(0, 2, 0, 5),)]
    for _ in range(10):
        device.up()
    assert device.asked == [mac.ForceRejoinReq] * 3


def test_only_a_1_1_session_can_be_told_to_rejoin(loop):
    device = loop()
    device.up()
    with pytest.raises(OrderError, match=r"LoRaWAN 1\.1 session"):
        device.network.server.mac.force_rejoin(device.session, 0)


def test_requests_are_sized_by_the_answers_that_the_slowest_uplink_can_carry(loop):
    """In US915 at DR0 an uplink has 11 bytes: five answers of two bytes and one of one, and no more."""
    device = loop(
        "US915", abp=True, rx1_delay_s=5, rx1_dr_offset=1, rx2_dr=9, max_duty=2, status_interval_s=3600
    )
    device.device.dr = 0
    device.up()
    answers = sum(1 + mac.UPLINK[c.CID].SIZE for c in device.told[0])
    assert answers <= 11
    device.until_quiet()
    assert device.device.rx_delay_s == 5


def test_a_request_and_its_answer_are_traced_in_words(loop):
    device = loop(abp=True, rx1_delay_s=5)
    device.up()
    (asked,) = device.view().trace
    assert (asked.way, asked.name, asked.outcome) == ("down", "RXTimingSetupReq", "waits for an answer")
    assert asked.words == "RX1 opens 5 s after an uplink"
    device.up()
    answer, asked = device.view().trace[:2]
    assert (answer.way, answer.name) == ("up", "RXTimingSetupAns")
    assert asked.outcome == "accepted"


def test_the_trace_has_a_bound(loop):
    device = loop()
    for _ in range(MAX_TRACE + 10):
        device.up(fopts=b"\x02\x02")
    assert len(device.view().trace) == MAX_TRACE


def test_a_technicians_orders_come_before_settings_and_survive_a_restart(loop):
    device = loop(adr=True)
    device.up()
    layer = device.network.server.mac
    layer.order(
        device.session, {"data_rate": 3, "tx_power": 2, "rx1_delay_s": 3, "dl_channel_1": 869_525_000}
    )
    device.until_quiet()
    assert (device.device.dr, device.device.tx_power, device.device.rx_delay_s) == (3, 2, 3)
    assert device.session.mac.channels.rx1_hz(868_300_000) == 869_525_000
    device.network.restart()
    device.told.clear()
    device.until_quiet()
    assert device.told == []
    assert device.session.mac.orders["data_rate"] == 3
    device.network.server.mac.order(device.session, {"rx1_delay_s": None, "dl_channel_1": None})
    device.until_quiet()
    assert device.device.rx_delay_s == 1
    assert device.session.mac.channels.rx1_hz(868_300_000) == 868_300_000


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("data_rate", 16, "0 to 15"),
        ("data_rate", 9, "no uplink data rate"),
        ("rx2_dr", 12, "no downlink data rate"),
        ("tx_power", 9, "powers 0 to 7"),
        ("nb_trans", 0, "1 to 15"),
        ("nb_trans", True, "whole number"),
        ("rx1_delay_s", "1", "whole number"),
        ("rx2_freq_hz", 915_000_000, "may not send on 915 MHz"),
        ("dl_channel_16", 869_525_000, "channels 0 to 15"),
        ("dl_channel_x", 869_525_000, "cannot be set"),
        ("colour", 1, "cannot be set"),
    ],
)
def test_orders_that_cannot_be_are_refused_in_words(loop, name, value, words):
    device = loop()
    device.up()
    with pytest.raises(OrderError, match=words):
        device.network.server.mac.order(device.session, {name: value})
    assert device.session.mac.orders == {}


def test_a_reset_makes_the_network_say_everything_again(loop):
    device = loop(abp=True, uplink_channels=(0,), rx1_delay_s=5)
    device.until_quiet()
    before = set(device.asked)
    device.told.clear()
    device.device = node_mac.MacState(device.network.region, 5, adr=True)  # the device has lost everything
    device.network.server.mac.forget(device.session)
    device.until_quiet()
    assert set(device.asked) == before == {mac.LinkADRReq, mac.RXTimingSetupReq}
    assert len(device.device.channels()) == 1


def test_refresh_sends_a_link_adr_request_though_nothing_differs(loop):
    device = loop()
    device.until_quiet()
    device.network.server.mac.refresh(device.session)
    device.up()
    assert device.told == [(mac.LinkADRReq(5, 0, 0, 6, 1),)]
    device.until_quiet()
    assert len(device.told) == 1


def test_an_order_takes_the_place_of_a_request_under_way(loop):
    device = loop()
    device.until_quiet()
    layer = device.network.server.mac
    layer.order(device.session, {"data_rate": 3})
    device.up(obeys=False)
    layer.order(device.session, {"data_rate": 4})
    device.until_quiet()
    assert [commands[0].data_rate for commands in device.told] == [3, 4]
    assert device.device.dr == 4


def test_a_technician_can_ask_for_battery_and_margin_now(loop):
    device = loop(status_interval_s=0)
    device.until_quiet()
    device.network.server.mac.ask_status(device.network.server.registered(device.node.dev_eui))
    device.until_quiet()
    assert device.told == [(mac.DevStatusReq(),)]
    assert device.network.server.device(device.node.dev_eui).battery == 254


def test_the_time_is_told_as_gps_counts_it_and_not_by_a_clock_that_is_not_set(loop):
    device = loop()
    device.device.ask_time()
    now = device.network.mono_ns + 10**10 + 1_760_000_000 * 10**9
    device.up()
    (answer,) = device.told[0]
    # GPS counts from 1980-01-06 (Unix 315964800) and is 18 s ahead of UTC since 2017
    assert answer.gps_s == now // 10**9 - 315_964_800 + 18
    unset = Instant(device.network.mono_ns, 10**18, TimeQuality.UNSET)
    device.network.now = lambda: unset
    device.told.clear()
    device.device.ask_time()
    outcome = device.up()
    assert outcome.downlink is None
    assert any("clock is not set" in note for note in outcome.notes)
    assert "clock is not set" in device.view().trace[0].outcome


def test_the_next_beacon_is_told_where_one_is_sent(loop):
    device = loop()
    assert "no beacon is sent" in device.up(fopts=b"\x12").notes[0]
    device = loop(class_b=True)
    device.up(fopts=b"\x12")
    (answer,) = device.told[0]
    # GPS time at the end of the uplink; beacons are each 128 s of it, and a delay of n is 30 n to 30 n + 30 ms
    gps_ms = device.network.mono_ns // 10**6 + (1_760_000_000 - 315_964_800 + 18) * 1000
    assert answer.delay == (128_000 - gps_ms % 128_000) // 30
    assert answer.channel == 0


def test_commands_of_1_1_in_a_1_0_session_are_noted_and_not_obeyed(loop):
    device = loop()
    outcome = device.up(fopts=b"\x20\x02\x0b\x01")
    assert outcome.downlink is None
    assert device.session.mac.device_class is None
    assert sum("not acted on" in note for note in outcome.notes) == 2


def test_indications_of_a_1_1_device_are_confirmed(loop):
    device = loop(abp=True, profile=Profile("new", version=Version.V1_1)).as_1_1()
    device.up(fopts=b"\x0b\x01\x20\x02")
    assert device.told[0] == (mac.RekeyConf(1), mac.DeviceModeConf(mac.CLASS_C))
    assert device.session.mac.device_class == "C"
    device.session.mac.tx_power = 5
    device.up(fopts=b"\x01\x01")
    assert mac.ResetConf(1) in device.told[1]
    assert device.session.mac.tx_power == 0
    device.network.restart()
    assert device.session.mac.device_class is None


def test_what_is_agreed_travels_with_an_exported_session(loop):
    device = loop(abp=True, uplink_channels=(0, 2), rx1_delay_s=5, max_duty=3)
    device.until_quiet()
    state = device.session.mac
    other = MacState()
    other.restore(state.export())
    other.channels.region = device.network.region
    assert other.agreed() == state.agreed()
    assert [index for index in other.channels if other.channels.is_enabled(index)] == [0, 2]


@pytest.mark.parametrize(
    "damaged",
    [
        {"tx_power": 16},
        {"tx_power": "1"},
        {"enabled": "xyz"},
        {"added": [[3]]},
        {"unknown": 1},
        {"rx": [0, 0]},
        {"orders": {"data_rate": "x"}},
        {"nb_trans": 0},
    ],
)
def test_a_damaged_state_is_refused_whole(damaged):
    state = MacState()
    with pytest.raises(OrderError, match="cannot be read"):
        state.restore(damaged)
    assert state.agreed() == MacState().agreed()


def test_thousands_of_damaged_exports_raise_nothing_but_order_error(loop):
    device = loop(abp=True, uplink_channels=(0, 3), cflist_hz=(867_100_000,), rx1_delay_s=5, max_duty=3)
    device.until_quiet()
    device.network.server.mac.order(device.session, {"dl_channel_1": 869_525_000, "data_rate": 3})
    device.until_quiet()
    good = json.dumps(device.session.mac.export())
    rng = random.Random(17)
    taken = 0
    for _ in range(4000):
        text = list(good)
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.choice('0123456789abcdef[]{}",:-.e')
        try:
            exported = json.loads("".join(text))
        except ValueError:
            continue
        state = MacState()
        try:
            state.restore(exported)
        except OrderError:
            continue
        taken += 1
        again = MacState()
        again.restore(state.export())
        assert again.agreed() == state.agreed()
        state.channels.region = device.network.region
        assert state.channels.enabled >= 0
    assert taken > 100


def test_an_order_for_a_data_rate_says_so_where_the_device_has_adr_off(loop):
    device = loop(adr=False)
    device.up()
    device.network.server.mac.order(device.session, {"data_rate": 3})
    device.until_quiet()
    assert device.told == []
    assert "ADR bit off" in device.row("data_rate").words
    assert "ADR bit off" in device.view().adr.why_not


def test_a_damaged_row_of_the_store_costs_only_what_it_said(loop):
    device = loop(abp=True, max_duty=3)
    device.until_quiet()
    device.network.db.execute("UPDATE lorawan_mac SET agreed = '{broken'")
    device.network.restart()
    device.told.clear()
    device.until_quiet()
    assert device.told == [(mac.DutyCycleReq(3),)]


def test_a_removed_device_leaves_no_row_behind(loop):
    device = loop(abp=True, max_duty=3)
    device.until_quiet()
    rows = "SELECT count(*) FROM lorawan_mac"
    assert device.network.db.execute(rows).fetchone() == (1,)
    device.network.commit(device.network.server.remove_device(device.node.dev_eui))
    assert device.network.db.execute(rows).fetchone() == (0,)


def test_rows_of_the_first_version_are_taken_over(loop):
    """Power and repetitions hold; which channels a plan stood for is not known, so the device is told again."""
    device = loop(uplink_channels=(0,))
    db = device.network.db
    db.execute("DELETE FROM lorawan_mac")
    db.execute("UPDATE lorawan_session SET tx_power = 3, nb_trans = 2, channel_plan = 77, pending = 0")
    db.execute(macstore.MIGRATIONS[0].statements[1])
    device.network.restart()
    assert (device.session.mac.tx_power, device.session.mac.nb_trans) == (3, 2)
    device.up()
    assert device.told == [(mac.LinkADRReq(5, 3, 0x0001, 0, 2),)]


def test_damaged_commands_in_uplinks_never_harm_the_server(loop):
    device = loop(abp=True, rx1_delay_s=5, max_duty=2, uplink_channels=(0,), cflist_hz=(867_100_000,))
    rng = random.Random(11)
    good = [
        b"\x03\x07",
        b"\x05\x07",
        b"\x08",
        b"\x07\x03",
        b"\x0a\x03",
        b"\x04",
        b"\x06\x10\x05",
        b"\x02",
        b"\x0d",
    ]
    for _ in range(1500):
        fopts = bytearray(b"".join(rng.sample(good, rng.randrange(4))))
        for _ in range(rng.randrange(3)):
            if fopts:
                fopts[rng.randrange(len(fopts))] = rng.randrange(256)
        device.up(fopts=bytes(fopts[:15]), obeys=False)
        state = device.session.mac
        assert len(state.trace) <= MAX_TRACE
        assert len(state.pending) <= 16
    macview.view(device.network.server.mac, device.session)
    device.network.restart()

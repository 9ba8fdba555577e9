"""Class B as the network server runs it: who is in it, downlinks in ping slots, beacons and why there are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any

import pytest
from msgspec import structs

from gateway.lorawan import mac
from gateway.lorawan.classb import slots
from gateway.lorawan.classb.beacon import decode
from gateway.lorawan.classb.beacons import AHEAD_MS
from gateway.lorawan.classb.downlinks import COMPOSE_MS, LEAD_MS
from gateway.lorawan.clock import Instant
from gateway.lorawan.gpstime import gps_ms_of_utc
from gateway.lorawan.group import GroupConfig
from gateway.lorawan.profile import DeviceClass, Profile
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevAddr
from hub.message import TimeQuality
from radio import gwmp
from radio.gwmp import TxError

EUI = bytes.fromhex("aa555a0000000101")
ROVER = Profile("rover", device_class=DeviceClass.B, class_b_timeout_s=60, max_downlink_attempts=3)
GOOD = {
    "reachable": True,
    "problem": "",
    "gnss": {"state": "fix", "reason": "", "pps": "gpiod", "fault": None},
    "position": {"latitude": 52.52, "longitude": 13.405, "altitude_m": 34},
    "time": {"gps_time": True, "error_us": 14.2, "source": "pps", "quality": "gnss"},
}
PERIOD = 128


def gps_ms(network: Any) -> int:
    return gps_ms_of_utc(network.now().wall_ns)


def radio_tells(network: Any, **status: Any) -> None:
    """The radio of this machine has told how it is; without words, that all is well."""
    whole = {**GOOD, "mono_ns": network.mono_ns} | status
    if "time" not in status:
        whole["time"] = {**GOOD["time"], "gps_ms": gps_ms(network)}
    network.server.class_b.told(EUI, whole, network.now())


@pytest.fixture
def rover(make_network, node):
    """A network with class B, and a device that listens each 4 s."""
    network = make_network(class_b=True, beacon=False)
    network.server.use_profiles({"rover": ROVER})
    network.add(replace(node.config, profile="rover"))
    network.join(node)
    asked = node.uplink(fopts=mac.PingSlotInfoReq(2).encode())
    answer = network.hear(asked)
    assert mac.PingSlotInfoAns() in node.commands(answer.downlink)
    network.hear(node.uplink(class_b=True))
    network.wait(60)
    return network, node


# --- who is in class B ------------------------------------------------------------------------------


def test_an_order_leaves_in_a_ping_slot_of_its_device_shortly_before_it(rover) -> None:
    network, node = rover
    begun_ms = gps_ms(network)
    order = network.queue(node, b"turn")
    ((after_s, downlink),) = network.wait(10)
    (packet,) = downlink.windows
    assert (downlink.id, downlink.klass, downlink.gateway, downlink.names) == (
        order,
        "B",
        EUI,
        ("ping slot",),
    )
    assert (packet.freq_hz, packet.modulation.datr, packet.ipol, packet.ncrc, packet.nhdr) == (
        869_525_000,
        "SF9BW125",
        True,
        True,
        False,
    )
    assert (packet.imme, packet.tmst) == (False, None)
    assert packet.tmms in [start for start, _ in islice(slots.slots_from(begun_ms, node.dev_addr, 2), 3)]
    ahead_ms = packet.tmms - (begun_ms + after_s * 1000)
    assert LEAD_MS <= ahead_ms <= LEAD_MS + COMPOSE_MS + 1
    frame, clear = node.hear(downlink)
    assert (clear, frame.fopts, frame.fport) == (b"turn", b"", 10)
    (receipt,) = network.sent(downlink).receipts
    assert (receipt.state, receipt.window) == ("sent", "ping slot")


def test_without_the_class_b_bit_an_order_waits_for_an_uplink(rover) -> None:
    network, node = rover
    network.hear(node.uplink())  # it has lost the beacon
    network.wait(10)
    order = network.queue(node)
    assert network.wait(600) == []
    assert network.hear(node.uplink()).downlink.id == order


def test_a_device_that_has_not_told_its_slots_is_class_a_unless_its_profile_does(make_network, node) -> None:
    network = make_network(class_b=True, beacon=False)
    network.server.use_profiles({"rover": ROVER})
    network.add(replace(node.config, profile="rover"))
    network.join(node)
    network.hear(node.uplink(class_b=True))
    network.queue(node)
    assert network.wait(300) == []
    network.server.use_profiles({"rover": replace(ROVER, ping_slot_period_s=32)})
    network.queue(node)
    ((_, downlink),) = network.wait(300, most=1)
    assert downlink.klass == "B"


def test_where_class_b_is_off_its_bit_changes_nothing(make_network, node) -> None:
    network = make_network()
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink(fopts=mac.PingSlotInfoReq(0).encode(), class_b=True))
    network.queue(node)
    assert network.wait(300) == []
    assert "class_b = true" in network.server.class_b_status(network.now()).problem


def test_class_b_survives_a_restart(rover) -> None:
    network, node = rover
    network.restart()
    network.server.use_profiles({"rover": ROVER})
    assert network.server.class_b_status(network.now()).devices == 1
    network.hear(node.uplink(class_b=True))
    network.wait(5)
    network.queue(node)
    assert [downlink.klass for _, downlink in network.wait(10)] == ["B"]


def test_a_class_c_profile_outranks_the_bit(make_network, node) -> None:
    network = make_network(class_b=True, beacon=False)
    network.server.use_profiles({"siren": Profile("siren", device_class=DeviceClass.C)})
    network.add(replace(node.config, profile="siren"))
    network.join(node)
    network.hear(node.uplink(fopts=mac.PingSlotInfoReq(0).encode(), class_b=True))
    network.wait(10)
    network.queue(node)
    assert [downlink.klass for _, downlink in network.wait(10)] == ["C"]


# --- slots ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", range(8))
def test_every_order_finds_its_device_s_slot_by_a_reckoning_of_its_own(
    make_network, make_node, period
) -> None:
    network = make_network(class_b=True, beacon=False)
    network.server.use_profiles({"rover": ROVER})
    rng = Random(period)
    for number in range(6):
        node = make_node(0x70B3D57ED0000100 + number)
        network.add(replace(node.config, profile="rover"))
        network.join(node)
        network.hear(node.uplink(fopts=mac.PingSlotInfoReq(period).encode(), class_b=True))
        network.wait(rng.uniform(5, 200))
        network.queue(node)
        ((_, downlink),) = network.wait(2 * PERIOD + 2)
        tmms = downlink.windows[0].tmms
        beacon_s = tmms // 128_000 * 128
        offset = slots.ping_offset(beacon_s, node.dev_addr, period)
        slot, rest = divmod(tmms - beacon_s * 1000 - 2120 - 1, 30)
        assert rest == 0
        assert slot % (32 << period) == offset
        network.sent(downlink)


def test_while_the_device_may_expect_an_answer_no_ping_slot_is_used(rover) -> None:
    network, node = rover
    network.hear(node.uplink(class_b=True))
    begun_ms = gps_ms(network)
    network.queue(node)
    ((_, downlink),) = network.wait(20)
    assert downlink.windows[0].tmms >= begun_ms + 3000  # RX1 after 1 s, RX2 after 2 s, and its frame


def test_ping_slots_move_where_the_device_has_agreed(make_network, node) -> None:
    network = make_network(class_b=True, beacon=False)
    network.server.use_profiles({"rover": replace(ROVER, ping_slot_freq_hz=868_300_000, ping_slot_dr=5)})
    network.add(replace(node.config, profile="rover"))
    network.join(node)
    asked = network.hear(node.uplink(fopts=mac.PingSlotInfoReq(0).encode()))
    for _ in range(3):  # other requests may come first
        found = [c for c in node.commands(asked.downlink) if isinstance(c, mac.PingSlotChannelReq)]
        if found:
            break
        asked = network.hear(node.uplink(confirmed=True))
    assert found == [mac.PingSlotChannelReq(868_300_000, 5)]
    network.hear(node.uplink(fopts=mac.PingSlotChannelAns().encode(), class_b=True))
    network.wait(10)
    network.queue(node)
    ((_, downlink),) = network.wait(10)
    assert (downlink.windows[0].freq_hz, downlink.windows[0].modulation.sf) == (868_300_000, 7)


def test_ping_slots_hop_in_a_region_whose_beacon_does(make_network, node) -> None:
    network = make_network("US915", class_b=True, beacon=False)
    network.server.use_profiles({"rover": ROVER})
    network.add(replace(node.config, profile="rover"))
    radio = {"freq_hz": 902_300_000, "sf": 7}
    network.join(node, **radio)
    network.hear(node.uplink(fopts=mac.PingSlotInfoReq(0).encode(), class_b=True), **radio)
    seen = set()
    for _ in range(4):
        network.wait(PERIOD)
        network.queue(node)
        ((_, downlink),) = network.wait(PERIOD)
        packet = downlink.windows[0]
        channel = (node.dev_addr + packet.tmms // 128_000) % 8
        assert (packet.freq_hz, packet.modulation.datr) == (923_300_000 + 600_000 * channel, "SF12BW500")
        seen.add(channel)
        network.sent(downlink)
    assert len(seen) > 1


def test_an_order_too_long_for_the_slots_waits_and_lets_a_shorter_one_by(rover) -> None:
    network, node = rover
    network.queue(node, bytes(150))  # DR3 takes 115
    short = network.queue(node, b"x")
    ((_, downlink),) = network.wait(10)
    assert downlink.id == short
    network.sent(downlink)
    assert network.wait(300) == []


# --- what becomes of them ---------------------------------------------------------------------------


def test_a_confirmed_order_is_repeated_after_its_time_out_and_given_up_in_the_end(rover) -> None:
    network, node = rover
    network.queue(node, confirmed=True)
    times = []
    for _ in range(3):
        ((after_s, downlink),) = network.wait(200, most=1)
        times.append(after_s)
        node.hear(downlink)
        network.sent(downlink)
    assert all(60 - 2 < after_s < 60 + 6 for after_s in times[1:])
    assert network.wait(300) == []
    assert network.receipts[-1].state == "failed"
    assert "never acknowledged, sent 3 times" in network.receipts[-1].reason


def test_an_acknowledgement_ends_it(rover) -> None:
    network, node = rover
    order = network.queue(node, confirmed=True)
    ((_, downlink),) = network.wait(10)
    network.sent(downlink)
    assert network.hear(node.uplink(class_b=True, ack=True)).acked == order
    assert network.wait(300) == []


def test_an_uplink_without_acknowledgement_does_not_repeat_it_early(rover) -> None:
    network, node = rover
    network.queue(node, confirmed=True)
    ((_, downlink),) = network.wait(10)
    network.sent(downlink)
    assert network.hear(node.uplink(class_b=True)).downlink is None
    assert network.wait(30) == []


def test_a_refused_order_takes_another_slot_under_a_new_counter(rover) -> None:
    network, node = rover
    network.queue(node)
    ((_, first),) = network.wait(10)
    network.failed(first, TxError.COLLISION_PACKET)
    ((_, second),) = network.wait(10)
    assert second.id == first.id
    assert second.fcnt > first.fcnt
    assert second.windows[0].tmms > first.windows[0].tmms


def test_a_gateway_without_gps_time_is_left_alone_and_the_order_says_why(rover) -> None:
    network, node = rover
    network.queue(node)
    ((_, downlink),) = network.wait(10)
    network.failed(downlink, TxError.GPS_UNLOCKED)
    assert network.wait(300) == []
    device = network.server.registered(node.dev_eui)
    assert "has no GPS time" in device.orders[0].held
    assert network.hear(node.uplink(class_b=True)).downlink is not None  # class A still works


def test_without_any_time_nothing_is_sent_by_gps_time(rover) -> None:
    network, node = rover
    network.now = lambda: Instant(network.mono_ns, network.mono_ns, TimeQuality.UNSET)
    network.queue(node)
    assert network.wait(100) == []
    assert "nobody knows the time" in network.server.registered(node.dev_eui).orders[0].held


def test_a_gateway_s_own_gps_time_is_enough(rover) -> None:
    network, node = rover
    right = network.now
    network.now = lambda: Instant(network.mono_ns, network.mono_ns, TimeQuality.UNSET)
    phy = node.uplink(class_b=True)
    rx = network.rx(phy)
    told = structs.replace(rx, tmms=gps_ms_of_utc(right().wall_ns))
    network.commit(network.server.handle(told, EUI, network.now()).writes)
    network.wait(5)
    network.queue(node)
    assert [downlink.klass for _, downlink in network.wait(10)] == ["B"]


def test_a_class_b_group_is_sent_in_its_own_slots_and_each_gateway_takes_another(make_network, node) -> None:
    network = make_network(class_b=True, beacon=False)
    keys = AES128Key(bytes(range(16))), AES128Key(bytes(range(16, 32)))
    other = bytes.fromhex("aa555a0000000202")
    config = GroupConfig(
        name="lamps",
        mc_addr=DevAddr(0x01ABCDEF),
        nwk_s_key=keys[0],
        app_s_key=keys[1],
        device_class=DeviceClass.B,
        ping_period=1,
        gateways=(EUI, other),
    )
    network.commit(network.server.groups.set_up(config))
    queued = network.server.queue_group_downlink("lamps", 5, b"dim", now=network.now())
    network.commit(queued.writes)
    sent = []
    while left := network.wait(20, most=1):
        ((_, downlink),) = left
        sent.append(downlink)
        network.sent(downlink)
    assert [downlink.gateway for downlink in sent] == [EUI, other]
    times = [downlink.windows[0].tmms for downlink in sent]
    assert times[0] < times[1]
    for tmms in times:
        found = next(slots.slots_from(tmms, 0x01ABCDEF, 1))
        assert found[0] == tmms
    assert len({downlink.windows[0].data for downlink in sent}) == 1
    assert sent[0].windows[0].freq_hz == 869_525_000


# --- beacons ----------------------------------------------------------------------------------------


def beacons(network: Any, seconds: float) -> list[Any]:
    return [downlink for _, downlink in network.wait(seconds) if downlink.klass == "beacon"]


def test_a_beacon_is_ordered_each_128_s_twenty_seconds_ahead(make_network) -> None:
    network = make_network(class_b=True)
    radio_tells(network)
    found = []
    for _ in range(40):
        begun_ms = gps_ms(network)
        for after_s, downlink in network.wait(10):
            found.append((begun_ms + after_s * 1000, downlink))
        radio_tells(network)
    assert len(found) == 4
    for number, (at_ms, downlink) in enumerate(found):
        (packet,) = downlink.windows
        assert packet.tmms % 128_000 == 1
        if number:  # the first one was due when the radio told its time
            assert packet.tmms - at_ms == pytest.approx(AHEAD_MS, abs=2)
        assert (packet.freq_hz, packet.modulation.datr, packet.powe_dbm) == (869_525_000, "SF9BW125", 16)
        assert (packet.nhdr, packet.ncrc, packet.ipol, packet.preamble) == (True, True, False, 10)
        assert (downlink.gateway, downlink.dev_eui, downlink.after_commit) == (EUI, None, False)
        frame = decode(packet.data, 9)
        assert frame.time_s == packet.tmms // 1000
        assert frame.place == pytest.approx((52.52, 13.405), abs=1e-4)
        assert frame.precision == 3  # 14 us of the clock and 100 us of a user-space start are over 100 us
    assert network.server.counters.downlinks == 0


def test_beacons_and_ping_slots_come_through_gwmp_as_they_are(rover) -> None:
    network, node = rover
    network.queue(node)
    ((_, ping),) = network.wait(10)
    sender = replace(network.settings, beacon=True, beacon_gateways=(EUI,))
    server = NetworkServer(network.region, settings=sender)
    (beacon,) = server.class_b.due(network.now()).downlinks or server.class_b.beacons.due(
        gps_ms(network) // 128_000 * 128_000 + 120_000, network.now()
    )
    for packet in (ping.windows[0], beacon.windows[0]):
        assert gwmp.decode(gwmp.encode(gwmp.PullResp(7, packet))) == gwmp.PullResp(7, packet)


def test_a_basics_station_is_not_asked_for_beacons(make_network) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,))
    downlink = beacons(network, PERIOD)[0]
    network.failed(downlink, TxError.TX_FREQ)  # as gateway.station answers it
    assert "may not send there" in network.server.class_b_status(network.now()).last[-1].outcome


def test_beacons_hop_in_us915(make_network) -> None:
    network = make_network("US915", class_b=True, beacon_gateways=(EUI,))
    packets = [downlink.windows[0] for downlink in beacons(network, 9 * PERIOD)]
    assert [(p.freq_hz - 923_300_000) // 600_000 for p in packets] == [p.tmms // 128_000 % 8 for p in packets]
    assert {(p.modulation.datr, len(p.data)) for p in packets} == {("SF12BW500", 23)}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(
            {"reachable": False, "problem": "connection refused"}, "connection refused", id="no radio"
        ),
        pytest.param(
            {"gnss": None, "time": {"gps_time": False, "error_us": 8200.0, "source": "ntp"}},
            r"no GNSS receiver \(\[gnss\] port and pps_line\): its clock \(ntp\) may be wrong by 8\.2 ms",
            id="NTP only",
        ),
        pytest.param(
            {
                "gnss": {"pps": None, "fault": None, "state": "fix"},
                "time": {"error_us": 350_000.0, "source": "nmea"},
            },
            r"pulse is not connected .*350 ms",
            id="no pulse",
        ),
        pytest.param(
            {"gnss": {"pps": "gpiod", "fault": None, "state": "cold", "reason": "no fix yet"}, "time": {}},
            "receiver is cold",
            id="cold",
        ),
        pytest.param(
            {"gnss": {"pps": "gpiod", "fault": "no such device", "state": "silent"}, "time": {}},
            "cannot be read: no such device",
            id="unplugged",
        ),
        pytest.param({"time": 7, "gnss": 3, "position": "here"}, "pulse is not connected", id="nonsense"),
    ],
)
def test_without_good_time_no_beacon_is_ordered_and_the_status_says_why(make_network, status, words) -> None:
    network = make_network(class_b=True)
    for _ in range(30):
        radio_tells(network, **status)
        assert beacons(network, 10) == []
        shown = network.server.class_b_status(network.now())
        assert not shown.beacon
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(shown.problem)


def test_when_the_time_becomes_good_beacons_begin_and_when_it_is_lost_they_end(make_network) -> None:
    network = make_network(class_b=True)
    bad = {"gnss": None, "time": {"gps_time": False}}
    counts = []
    for status in (bad, {}, bad):
        count = 0
        for _ in range(26):
            radio_tells(network, **status)
            count += len(beacons(network, 10))
        counts.append(count)
    assert counts[0] == 0
    assert counts[1] in (2, 3)
    assert counts[2] == 0


def test_a_radio_that_has_gone_silent_sends_none(make_network) -> None:
    network = make_network(class_b=True)
    radio_tells(network)
    beacons(network, 40)
    assert beacons(network, 3 * PERIOD) == []
    assert "does not answer" in network.server.class_b_status(network.now()).problem


def test_what_gateways_answer_is_told(make_network) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,))
    ((_, first),) = network.wait(PERIOD, most=1)
    network.sent(first)
    ((_, second),) = network.wait(PERIOD, most=1)
    network.failed(second, TxError.GPS_UNLOCKED)
    shown = network.server.class_b_status(network.now())
    assert shown.counters["sent"] == shown.counters["refused"] == 1
    assert [seen.outcome for seen in shown.last] == ["sent", "the gateway has no GPS time"]
    assert "answered that it has no GPS time" in shown.problem
    assert beacons(network, 2 * PERIOD) == []  # it is left alone for ten minutes
    network.wait(600)
    assert beacons(network, PERIOD)


def test_a_beacon_elsewhere_is_told_to_devices_of_class_b(make_network, node) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,), beacon_hz=868_300_000)
    assert {downlink.windows[0].freq_hz for downlink in beacons(network, 3 * PERIOD)} == {868_300_000}
    network.server.use_profiles({"rover": ROVER})
    network.add(replace(node.config, profile="rover"))
    network.join(node)
    asked = []
    for _ in range(4):
        answer = network.hear(node.uplink(confirmed=True))
        asked += [c for c in node.commands(answer.downlink) if isinstance(c, mac.BeaconFreqReq)]
    assert asked
    assert asked[0] == mac.BeaconFreqReq(868_300_000)


def test_a_share_of_the_beacons_is_drawn_by_lot(make_network) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,), beacon_share=0.5)
    assert 25 <= len(beacons(network, 80 * PERIOD)) <= 55


def test_a_region_without_known_beacons_and_a_frequency_that_is_not_open_are_told(make_network) -> None:
    china = make_network("CN470-20A", class_b=True, beacon_gateways=(EUI,))
    assert beacons(china, 3 * PERIOD) == []
    assert "no beacon is known for CN470-20A" in china.server.class_b_status(china.now()).problem
    korea = make_network("KR920", class_b=True, beacon_gateways=(EUI,))
    assert beacons(korea, 3 * PERIOD) == []
    assert "923.1 MHz is not open" in korea.server.class_b_status(korea.now()).problem


def test_a_gateway_without_place_tells_its_number(make_network) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,))
    downlink = beacons(network, PERIOD)[0]
    frame = decode(downlink.windows[0].data, 9)
    assert (frame.info_desc, frame.place, frame.info) == (3, None, bytes.fromhex("000000010100"))


def test_a_jump_of_the_clock_orders_no_beacon_twice(make_network) -> None:
    network = make_network(class_b=True, beacon_gateways=(EUI,))
    shift = [0]
    right = network.now
    network.now = lambda: Instant(right().mono_ns, right().wall_ns + shift[0], TimeQuality.NTP)
    times = [downlink.windows[0].tmms for downlink in beacons(network, 3 * PERIOD)]
    shift[0] = -200 * 10**9
    times += [downlink.windows[0].tmms for downlink in beacons(network, 5 * PERIOD)]
    assert len(times) == len(set(times))

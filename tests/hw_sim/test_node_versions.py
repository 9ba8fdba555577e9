"""Devices of LoRaWAN 1.0.0 to 1.1, of class A and C, sound and broken, against the network server."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from gateway.lorawan import crypto, frames, mac
from gateway.lorawan.clock import Instant
from gateway.lorawan.frames import JoinReqType
from gateway.lorawan.orders import NEVER_NS
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Reason, Rejected, Uplink
from gateway.lorawan.profile import DeviceClass, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hub.message import TimeQuality
from hw_sim.air import Air
from hw_sim.concentrator import Ack, SimConcentrator, plan_for
from hw_sim.drift import Oscillator
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.node import Node
from hw_sim.node_config import MulticastGroup, NodeConfig, NodeFault
from hw_sim.node_join import JoinState
from hw_sim.node_session import GroupSession
from hw_sim.records import FrameRecord
from hw_sim.registering import profiles_of, registration, set_up_groups
from hw_sim.sx1276 import SX1276
from radio.gwmp import RxPacket, TxError
from radio.regions import get_region

S = 1_000_000_000
CALM = AirSettings(fading_db=0.0, decode_width_db=1e-6)
KEY, NWK_KEY = AES128Key(bytes(range(16))), AES128Key(bytes(range(16, 32)))
EUI = DevEUI(0x02F1000000000001)
GATEWAY = bytes(8)
START_S = 1_790_000_000  # Unix time at the beginning
GPS_MS = (START_S - 315_964_800 + 18) * 1000
ABP_KEYS = {
    "app_key": None,
    "nwk_key": None,
    "dev_addr": DevAddr(0x00123456),
    "nwk_s_key": AES128Key(bytes(16)),
    "app_s_key": AES128Key(bytes(15) + b"\x01"),
}
SIRENS = MulticastGroup(
    name="sirens",
    dev_addr=DevAddr(0x00ABCDEF),
    nwk_s_key=AES128Key(b"n" * 16),
    app_s_key=AES128Key(b"a" * 16),
)


@dataclass
class Field:
    """One device, one concentrator, a server that answers at once, and the frames between them."""

    kernel: Kernel
    air: Air
    server: NetworkServer
    concentrator: SimConcentrator
    node: Node
    outcomes: list[Outcome] = field(default_factory=list)
    frames: list[FrameRecord] = field(default_factory=list)
    answers: bool = True
    due: object = None

    def run(self, seconds: float) -> None:
        self.kernel.run_until(self.kernel.now_ns + round(seconds * S))

    def now(self) -> Instant:
        return Instant(self.kernel.now_ns, START_S * S + self.kernel.now_ns, TimeQuality.NTP)

    def take(self, heard: tuple[RxPacket, ...]) -> None:
        for rx in heard:
            outcome = self.server.handle(rx, GATEWAY, self.now())
            self.outcomes.append(outcome)
            if outcome.downlink is not None and self.answers:
                self.send(outcome.downlink)
        self.look_later()

    def send(self, downlink: Downlink) -> None:
        for window, order in enumerate(downlink.windows, 1):
            ack = self.concentrator.order(order)
            if ack.error == "NONE":
                self.server.sent(downlink, window, self.now())
                return
        self.server.failed(downlink, ack.error, self.now())

    def look_later(self) -> None:
        due_ns = self.server.next_due_ns(self.now())
        if due_ns < NEVER_NS:
            self.kernel.at(max(self.kernel.now_ns, due_ns), self.look)

    def look(self) -> None:
        if self.server.next_due_ns(self.now()) <= self.kernel.now_ns:
            for downlink in self.server.due(self.now()).downlinks:
                self.send(downlink)
            self.look_later()

    def order(self, payload: bytes, *, confirmed: bool = False) -> None:
        self.server.queue_downlink(EUI, 2, payload, confirmed, now=self.now())
        self.look_later()

    def of(self, kind: type) -> list:
        return [outcome for outcome in self.outcomes if isinstance(outcome, kind)]

    def reasons(self) -> set[Reason]:
        return {outcome.reason for outcome in self.of(Rejected)}

    def uplinks(self) -> list[bytes]:
        return [frame.payload for frame in self.frames if not frame.iq_inverted]


Make = Callable[..., Field]


@pytest.fixture
def make_field() -> Make:
    def make(
        *,
        network: dict | None = None,
        air: AirSettings = CALM,
        registered: dict | None = None,
        gps: bool = False,
        **changes,
    ) -> Field:
        version = Version(changes.pop("version", "1.0.3"))
        settings = {
            "name": "node",
            "dev_eui": EUI,
            "version": version,
            "app_key": KEY,
            "nwk_key": NWK_KEY if version.is_1_1 else None,
            "x_m": 200.0,
            "adr": False,
            "first_s": (1.0, 1.0),
            "interval_s": (20.0, 20.0),
        } | changes
        config = NodeConfig(**settings)
        sound = replace(config, **registered) if registered else config
        region = get_region(sound.region)
        kernel = Kernel(5)
        medium = Air(kernel, air)
        options = {"status_interval_s": 0, "adr": False, "steer": "off"} | (network or {})
        server = NetworkServer(region, settings=Settings(**options), rng=random.Random(1))
        server.use_profiles(profiles_of([sound]))
        server.add_device(registration(sound))
        set_up_groups(server, config.groups, [sound])
        plan = replace(plan_for(region), gps_ms=GPS_MS if gps else None)
        concentrator = SimConcentrator(kernel, medium, "gateway", plan)
        chip = SX1276(kernel, config.name)
        medium.add(chip, config.x_m, config.y_m)
        node = Node(kernel, chip, config)
        made = Field(kernel, medium, server, concentrator, node)
        concentrator.on_frames = made.take
        medium.records.observe(made.frames.append)
        medium.records.observe(node.on_air)
        node.start()
        return made

    return make


def class_of(name: str) -> DeviceClass:
    return DeviceClass(name)


# -- versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("otaa", [True, False], ids=["OTAA", "ABP"])
def test_a_device_of_every_version_talks_both_ways(make_field: Make, version: Version, otaa: bool) -> None:
    keys = {} if otaa else dict(ABP_KEYS)
    if version.is_1_1 and not otaa:
        keys |= {"s_nwk_s_int_key": AES128Key(b"s" * 16), "nwk_s_enc_key": AES128Key(b"e" * 16)}
    field = make_field(version=version, confirmed_share=0.5, link_check_every=2, **keys)
    field.run(60)
    field.order(b"first", confirmed=True)
    field.order(b"second")
    field.run(240)
    node = field.node
    node.stop()
    field.run(15)
    assert node.joined
    assert node.session is not None
    assert node.session.v1_1 == version.is_1_1
    assert node.counters.joins == otaa
    assert len(field.of(Uplink)) == node.counters.uplinks > 8
    assert node.counters.acks == node.counters.confirmed > 1
    assert node.counters.missed == node.counters.refused == 0
    assert {frame.payload for frame in node.received if frame.fport == 2} == {b"first", b"second"}
    assert node.mac.link_margin_db is not None
    assert field.server.counters.orders_acked == 1
    assert field.reasons() == set()


def test_a_device_of_1_1_hides_its_mac_commands_and_says_rekey_until_it_is_confirmed(
    make_field: Make,
) -> None:
    field = make_field(version="1.1")
    field.answers = False
    field.run(5)
    field.answers = True
    field.run(30)
    first = frames.parse(next(phy for phy in field.uplinks() if phy[0] >> 5 == 2))
    assert isinstance(first, frames.DataFrame)
    assert len(first.fopts) == len(mac.RekeyInd().encode())
    assert first.fopts != mac.RekeyInd().encode()
    field.run(60)
    assert not field.node.mac.indicates(mac.RekeyInd)


def test_a_device_of_1_1_joins_a_network_that_speaks_1_0(make_field: Make) -> None:
    # Registered as a 1.0.4 device: its one key is what the device has as NwkKey.
    old = {"version": Version.V1_0_4, "app_key": NWK_KEY, "nwk_key": None}
    field = make_field(version="1.1", registered=old, confirmed_share=1.0)
    field.run(120)
    assert field.node.session is not None
    assert not field.node.session.v1_1
    assert field.node.mac.version == Version.V1_0_4
    assert field.node.counters.acks >= 3


def test_counted_nonces_go_on_after_a_loss_of_power_and_random_ones_are_new(make_field: Make) -> None:
    for version in ("1.0.2", "1.0.4", "1.1"):
        field = make_field(version=version, power_losses_s=(60.0, 120.0))
        field.run(200)
        assert field.node.counters.power_losses == 2
        assert len(field.of(Joined)) == 3
        nonces = [joined.dev_nonce for joined in field.of(Joined)]
        assert nonces == ([0, 1, 2] if version != "1.0.2" else nonces)
        assert len(set(nonces)) == 3
        assert field.reasons() == set()


def test_an_abp_device_keeps_its_counters_over_a_loss_of_power(make_field: Make) -> None:
    field = make_field(power_losses_s=(100.0,), **ABP_KEYS)
    field.run(300)
    fcnts = [uplink.fcnt for uplink in field.of(Uplink)]
    assert fcnts == sorted(set(fcnts))
    assert field.reasons() == set()


def test_a_join_nonce_that_does_not_rise_is_refused_from_1_0_4_on() -> None:
    def config(version: str) -> NodeConfig:
        keys = {"nwk_key": NWK_KEY} if version == "1.1" else {}
        return NodeConfig(name="n", dev_eui=EUI, version=Version(version), app_key=KEY, **keys)

    accept = frames.JoinAccept(
        join_nonce=7, net_id=frames.NetID(0), dev_addr=DevAddr(1), rx1_dr_offset=0, rx2_dr=0, rx_delay_s=1
    )
    for version, refused in (("1.0.3", False), ("1.0.4", True)):
        device = JoinState(config(version), random.Random(1))
        phy = frames.build_join_accept(KEY, accept)
        request = device.request()
        device.accept(request, device.open(request, phy))
        if refused:
            with pytest.raises(frames.FrameError, match="JoinNonce 7"):
                device.open(request, phy)
        else:
            device.open(request, phy)


# -- MAC commands that need the world ------------------------------------------------------------------


def test_a_device_learns_the_time_to_a_few_milliseconds(make_field: Make) -> None:
    field = make_field(version="1.0.3", time_every=2)
    field.run(120)
    assert field.node.gps_offset_ns is not None
    assert field.node.gps_offset_ns == pytest.approx(GPS_MS * 1_000_000, abs=20_000_000)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_rejoin_gives_a_new_session(make_field: Make, kind: int) -> None:
    field = make_field(version="1.1", confirmed_share=1.0)
    field.run(60)
    assert field.node.session is not None
    before = field.node.session.dev_addr, field.node.session.keys.app_s.value
    field.node.rejoin(kind)
    field.run(120)
    node = field.node
    assert node.counters.rejoins == 1
    after = node.session.dev_addr, node.session.keys.app_s.value
    assert after[1] != before[1]
    assert not node.mac.indicates(mac.RekeyInd)
    assert node.counters.acks >= node.counters.confirmed - 1
    assert [joined.rejoin for joined in field.of(Joined)] == [None, kind]


def test_a_network_may_order_a_rejoin_and_a_device_that_roams_asks_by_itself(make_field: Make) -> None:
    field = make_field(version="1.1", rejoin_every_s=100.0)
    field.run(250)
    assert field.node.counters.rejoins == 2
    field = make_field(version="1.1")
    field.run(60)
    state = field.node.mac
    state.force_rejoin = mac.ForceRejoinReq(period=0, max_retries=2, rejoin_type=2, data_rate=5)
    field.answers = False
    field.node._rejoins.obey(state)
    field.run(200)
    requests = [phy for phy in field.uplinks() if phy[0] >> 5 == 6 and phy[1] == JoinReqType.REJOIN_2]
    assert len(requests) == 3  # the order, and two more tries
    assert [int.from_bytes(phy[13:15], "little") for phy in requests] == [0, 1, 2]


def test_rejoins_come_at_the_pace_of_rejoin_param_setup(make_field: Make) -> None:
    field = make_field(version="1.1", interval_s=(10.0, 10.0))
    field.run(30)
    field.node.mac.heard((mac.RejoinParamSetupReq(max_time=15, max_count=0),), 5.0)
    field.node._rejoins.obey(field.node.mac)
    field.run(420)
    kinds = [phy[1] for phy in field.uplinks() if phy[0] >> 5 == 6]
    assert kinds == [JoinReqType.REJOIN_0]  # after 16 uplinks; the new session was told nothing yet


# -- class C and groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0.3", "1.0.4", "1.1"])
def test_class_c_hears_at_once_and_answers_soon(make_field: Make, version: str) -> None:
    field = make_field(
        version=version,
        device_class=class_of("C"),
        interval_s=(600.0, 600.0),
        network={"rx2_dr": 3},
    )
    field.run(200)
    uplinks = field.node.counters.uplinks
    ordered_ns = field.kernel.now_ns
    field.order(b"on", confirmed=True)
    field.run(20)
    (frame,) = [frame for frame in field.node.received if frame.fport == 2]
    assert (frame.payload, frame.window, frame.confirmed) == (b"on", 0, True)
    assert frame.at_ns - ordered_ns < S
    assert field.server.counters.orders_acked == 1
    assert field.node.counters.uplinks == uplinks + 1
    assert not field.node.mac.indicates(mac.DeviceModeInd)


def test_class_c_gives_rx1_priority_and_its_receiver_back_to_rx2(make_field: Make) -> None:
    field = make_field(device_class=class_of("C"), confirmed_share=1.0, network={"rx2_dr": 3})
    field.run(200)
    assert field.node.counters.acks == field.node.counters.confirmed > 5
    assert {start.window for start in field.node.starts} == {1}
    assert field.node._exchange.radio.listens_on
    assert field.node.chip.warnings == {}


def test_a_class_a_device_hears_nothing_outside_its_windows(make_field: Make) -> None:
    field = make_field(groups=(SIRENS,), interval_s=(600.0, 600.0))
    field.run(100)
    field.server.queue_group_downlink("sirens", 3, b"hear", now=field.now())
    field.look_later()
    field.run(100)
    assert field.node.counters.multicast == field.node.counters.missed == 0


def test_a_group_is_heard_by_its_members_once_each_counter(make_field: Make) -> None:
    field = make_field(device_class=class_of("C"), groups=(SIRENS,), interval_s=(600.0, 600.0))
    field.run(100)
    for number in range(3):
        field.server.queue_group_downlink("sirens", 3, bytes((number,)), now=field.now())
    field.look_later()
    field.run(60)
    heard = [frame.payload for frame in field.node.received if frame.group == SIRENS.dev_addr]
    assert heard == [b"\0", b"\1", b"\2"]
    assert field.node.counters.multicast == 3


def test_a_group_takes_neither_old_frames_nor_confirmed_ones_nor_commands() -> None:
    group = GroupSession(SIRENS)
    keys = group._crypto
    build = partial(frames.build_downlink, keys, SIRENS.dev_addr)
    good = build(5, fport=3, payload=b"x")
    group.accept(group.open(good))
    for bad in (
        good,
        build(6, fport=3, payload=b"x", confirmed=True),
        build(6, fport=3, payload=b"x", fopts=mac.DevStatusReq().encode()),
        build(6, fport=0, payload=mac.DevStatusReq().encode()),
        build(6, fport=3, payload=b"x", ack=True),
    ):
        assert not group.is_mine(bad)
        with pytest.raises(frames.FrameError):
            group.open(bad)
    assert group.open(build(6, fport=3, payload=b"y")).payload == b"y"


# -- what devices get wrong ----------------------------------------------------------------------------


def faulty(make_field: Make, fault: NodeFault, **changes: object) -> Field:
    field = make_field(faults=frozenset({fault}), **changes)
    field.run(240)
    return field


@pytest.mark.parametrize(
    ("fault", "changes", "reason"),
    [
        (NodeFault.WRONG_ROOT_KEY, {}, Reason.BAD_MIC),
        (NodeFault.WRONG_ROOT_KEY, {"version": "1.1"}, Reason.BAD_MIC),
        (NodeFault.WRONG_JOIN_EUI, {"join_eui": JoinEUI(4)}, Reason.JOIN_EUI_MISMATCH),
        (NodeFault.SWAPPED_DEV_EUI, {}, Reason.UNKNOWN_DEV_EUI),
        (NodeFault.WRONG_NWK_S_KEY, ABP_KEYS, Reason.BAD_MIC),
    ],
)
def test_a_device_with_a_wrong_identity_is_refused_for_it(
    make_field: Make, fault: NodeFault, changes: dict, reason: Reason
) -> None:
    field = faulty(make_field, fault, **changes)
    assert field.reasons() == {reason}
    assert field.of(Uplink) == field.of(Joined) == []


def test_a_stuck_dev_nonce_joins_once(make_field: Make) -> None:
    field = faulty(make_field, NodeFault.STUCK_DEV_NONCE, power_losses_s=(60.0,))
    assert len(field.of(Joined)) == 1
    assert Reason.DEV_NONCE_USED in field.reasons()


def test_a_counter_of_dev_nonces_that_begins_anew_is_refused(make_field: Make) -> None:
    options = {"version": "1.0.4", "power_losses_s": (40.0, 80.0, 120.0)}
    sound = make_field(**options)
    sound.run(240)
    assert sound.reasons() == set()
    field = faulty(make_field, NodeFault.FORGETS_DEV_NONCE, **options)
    assert field.reasons() & {Reason.DEV_NONCE_USED}


def test_an_abp_device_that_forgets_its_counters_is_refused_as_a_replay(make_field: Make) -> None:
    field = faulty(make_field, NodeFault.FORGETS_COUNTERS, power_losses_s=(120.0,), **ABP_KEYS)
    assert field.reasons()
    assert len(field.of(Uplink)) < field.node.counters.uplinks


def test_sixteen_bits_of_a_counter_are_too_few_after_65535(make_field: Make) -> None:
    for faults, verified in ((frozenset(), True), (frozenset({NodeFault.SHORT_COUNTER}), False)):
        field = make_field(faults=faults, **ABP_KEYS)
        field.node.session.fcnt_up = 65_530
        field.run(300)
        fcnts = [uplink.fcnt for uplink in field.of(Uplink)]
        assert (max(fcnts) > 65_536) == verified
        assert bool(field.reasons()) != verified


def test_a_deaf_device_sends_and_hears_nothing(make_field: Make) -> None:
    field = faulty(make_field, NodeFault.DEAF)
    assert not field.node.joined
    assert len(field.of(Joined)) > 1
    assert field.node.counters.join_requests > 1


def test_windows_that_open_late_miss_every_answer(make_field: Make) -> None:
    for late_ms, joined in ((0.0, True), (8.0, True), (40.0, False), (-40.0, False)):
        field = make_field(rx_late_ms=late_ms)
        field.run(120)
        assert field.node.joined == joined
        assert (field.node.counters.missed > 0) != joined


def test_a_device_for_another_region_is_not_heard(make_field: Make) -> None:
    field = make_field(region="US915", dr=3, registered={"region": "EU868", "dr": 5})
    field.run(120)
    assert field.outcomes == []
    assert field.node.counters.join_requests > 2


def test_a_device_may_leave_commands_unanswered_or_refuse_them(make_field: Make) -> None:
    network = {"adr": True, "status_interval_s": 60, "cflist_hz": (867_100_000,)}
    base = {"adr": True, "interval_s": (10.0, 10.0), "dr": 3, "x_m": 50.0, "network": network}
    sound = make_field(**base)
    sound.run(900)
    assert sound.node.mac.dr == 5
    mute = faulty(make_field, NodeFault.IGNORES_MAC, **base)
    mute.run(660)
    assert mute.node.mac.dr == 3
    refusing = faulty(make_field, NodeFault.REFUSES_ADR, **base)
    refusing.run(660)
    assert refusing.node.mac.dr == 3
    assert mute.node.counters.uplinks > 20


def test_a_device_may_agree_to_channels_and_keep_hopping(make_field: Make) -> None:
    steer = {"adr": True, "steer": "auto", "uplink_channels": (0,)}
    used = {}
    for faults in (frozenset(), frozenset({NodeFault.KEEPS_CHANNELS})):
        field = make_field(network=steer, adr=True, faults=faults, interval_s=(10.0, 10.0))
        field.run(400)
        late = [frame.freq_hz for frame in field.frames[-30:] if not frame.iq_inverted]
        used[bool(faults)] = {round(freq_hz, -5) for freq_hz in late}
    assert used == {False: {868_100_000}, True: {868_100_000, 868_300_000, 868_500_000}}


def test_an_old_frame_sent_again_is_refused_as_a_replay(make_field: Make) -> None:
    field = make_field(faults=frozenset({NodeFault.REPEATS_OLD}), interval_s=(50.0, 60.0))
    field.run(600)
    assert Reason.REPLAY in field.reasons()
    fcnts = [uplink.fcnt for uplink in field.of(Uplink)]
    assert fcnts == sorted(set(fcnts))


def test_a_clock_that_runs_fast_misses_a_late_join_accept_first(make_field: Make) -> None:
    field = make_field(clock=Oscillator(5_000.0))  # 25 ms in five seconds
    field.run(60)
    assert not field.node.joined


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nwk_key": NWK_KEY}, "nwk_key"),
        ({"version": Version.V1_1}, "nwk_key"),
        ({"rejoin_every_s": 5.0}, "rejoin_every_s"),
        ({"periodicity": 8}, "periodicity"),
    ],
)
def test_a_device_that_cannot_be_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NodeConfig(name="n", dev_eui=EUI, app_key=KEY, **changes)


# -- class B -------------------------------------------------------------------------------------------

BELLS = replace(SIRENS, name="bells", dev_addr=DevAddr(0x00ABCD00), periodicity=2)
CLASS_B = {
    "version": "1.0.4",
    "device_class": DeviceClass.B,
    "periodicity": 2,
    "interval_s": (200.0, 200.0),
    "network": {"class_b": True, "beacon_gateways": (GATEWAY,)},
}


def test_class_b_finds_the_beacon_and_hears_in_its_ping_slots(make_field: Make) -> None:
    field = make_field(gps=True, groups=(BELLS,), **CLASS_B)
    field.run(700)
    node = field.node
    assert node.in_class_b
    assert node.counters.beacons >= 3
    assert node.counters.beacons_missed == 0
    assert field.of(Uplink)[-1].device.session.mac.class_b
    for number in range(4):
        field.order(bytes((number,)), confirmed=number == 3)
        field.run(11)
    field.server.queue_group_downlink("bells", 3, b"ring", now=field.now())
    field.look_later()
    field.run(60)
    frames_ = [(frame.payload, frame.window) for frame in node.received if frame.fport == 2]
    assert frames_ == [(bytes((number,)), 0) for number in range(4)]
    assert node.counters.multicast == 1
    assert field.server.counters.orders_acked == 1
    assert node.counters.missed == 0
    assert node.chip.warnings == {}


def test_class_b_without_a_beacon_stays_class_a(make_field: Make) -> None:
    field = make_field(gps=True, **(CLASS_B | {"network": {"class_b": False}}))
    field.run(900)
    assert not field.node.in_class_b
    assert field.node.counters.beacons == 0
    field.order(b"later")
    field.run(250)
    assert [frame.window for frame in field.node.received if frame.fport == 2] == [1]


def test_class_b_goes_on_for_a_while_without_beacons_and_then_says_so(make_field: Make) -> None:
    field = make_field(gps=True, clock=Oscillator(2.0), **CLASS_B)
    field.run(500)
    assert field.node.in_class_b
    field.concentrator.order = lambda packet: Ack(TxError.GPS_UNLOCKED)  # type: ignore[method-assign]
    field.run(1000)
    assert field.node.in_class_b
    assert field.node.counters.beacons_missed >= 6
    field.run(57 * 128)
    assert not field.node.in_class_b


def test_whatever_comes_down_damaged_is_refused_and_nothing_else_escapes() -> None:
    rng = random.Random(11)
    config = NodeConfig(name="n", dev_eui=EUI, version=Version.V1_1, app_key=KEY, nwk_key=NWK_KEY)
    joining = JoinState(config, rng)
    request = joining.request()
    js_int_key, _ = crypto.join_server_keys(NWK_KEY, EUI)
    accept = frames.JoinAccept(3, frames.NetID(0), DevAddr(7), 0, 0, 1, opt_neg=True)
    accepted = frames.build_join_accept(
        NWK_KEY, accept, js_int_key=js_int_key, join_eui=joining.join_eui, dev_nonce=request.nonce
    )
    session = joining.accept(request, joining.open(request, accepted))
    group = GroupSession(SIRENS)
    down = frames.build_downlink(
        session._crypto, session.dev_addr, 5, fport=2, payload=b"hello", fopts=b"\x06", confirmed=True
    )
    shout = frames.build_downlink(group._crypto, SIRENS.dev_addr, 5, fport=3, payload=b"all")
    targets = [(session.open, down), (group.open, shout), (partial(joining.peek, request), accepted)]
    for opens, good in targets:
        opens(good)
    escaped = 0
    for _ in range(6000):
        opens, good = rng.choice(targets)
        bad = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        cut = bytes(bad[: rng.randint(0, len(bad))]) if rng.random() < 0.3 else bytes(bad)
        if cut == good:
            continue
        try:
            opens(cut)
        except frames.FrameError:
            continue
        escaped += 1
    assert escaped == 0


def test_an_uplink_in_the_middle_of_a_beacon_costs_that_beacon_and_no_other(make_field: Make) -> None:
    field = make_field(gps=True, **CLASS_B)
    field.run(500)
    assert field.node.in_class_b
    heard = field.node.counters.beacons
    into_s = (GPS_MS + field.kernel.now_ns // 1_000_000) / 1000 % 128
    field.run(128 - into_s - 0.02)
    field.node.trigger()  # while the window is prepared
    field.run(20)
    assert field.node.counters.beacons == heard
    assert field.node.counters.beacons_missed == 1
    field.run(256)
    assert field.node.counters.beacons == heard + 2
    assert field.node.in_class_b

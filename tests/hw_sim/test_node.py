"""Devices against the real network server, through real chips on both sides, in virtual time."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gateway.lorawan import frames, mac
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation
from gateway.lorawan.device import DeviceConfig as Registration
from gateway.lorawan.server import Downlink, Joined, NetworkServer, Rejected, Uplink
from gateway.lorawan.settings import Settings as NetworkSettings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from hub.message import TimeQuality
from hw_sim.air import Air
from hw_sim.drift import Climate, Oscillator
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.node import Node
from hw_sim.node_config import DevNonceMode, NodeConfig
from hw_sim.node_radio import DirectBus, receive_window
from hw_sim.records import FrameRecord
from hw_sim.sx1276 import SX1276
from radio.gwmp import RxPacket, TxPacket
from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.regions import get_region
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

US, MS, S = 1_000, 1_000_000, 1_000_000_000
KEY = AES128Key(bytes(range(16)))
EUI = DevEUI(0x02F1000000000001)
CALM = AirSettings(fading_db=0.0, decode_width_db=1e-6)
TX_START_NS = 175 * US  # standby to the first symbol
EU868 = get_region("EU868")


@dataclass
class Gateway:
    """The network's half: receivers of their own, one transmitter, and a server that answers at once.

    `window` says in which receive window to answer, `late_ns` how far off; `answers` False keeps silent.
    """

    kernel: Kernel
    air: Air
    server: NetworkServer
    sf: int = 7
    channels_hz: tuple[int, ...] = EU868.default_channels_hz
    window: int = 1
    late_ns: int = 0
    instead: bytes = b""  # sent in place of the server's frame
    answers: bool = True
    outcomes: list = field(default_factory=list)

    def __post_init__(self) -> None:
        for channel in self.channels_hz:
            self._receiver(channel)
        chip = SX1276(self.kernel, "gateway-tx")
        self.air.add(chip, group="mast")
        self._tx = Chip(DirectBus(chip))
        self._tx.start()

    def _receiver(self, freq_hz: int) -> None:
        simulated = SX1276(self.kernel, f"gateway-{freq_hz}")
        self.air.add(simulated, group="mast")
        chip = Chip(DirectBus(simulated))
        modulation = LoRaModulation(self.sf, 125_000)
        chip.start()
        chip.configure_receive(Settings(freq_hz, modulation))
        chip.map_dio0(Dio0.RX_DONE)
        chip.command(Mode.RXCONT)

        def edge(line: str, level: bool, t_ns: int) -> None:
            if line == "dio0" and level:
                end_ns = t_ns - rx_done_latency_ns(modulation.sf, modulation.bw_hz)
                self.kernel.after(0, lambda: self._uplink(chip, freq_hz, modulation, end_ns))

        simulated.on_dio = edge

    def _uplink(self, chip: Chip, freq_hz: int, modulation: LoRaModulation, end_ns: int) -> None:
        packet, _ = chip.read_packet()
        if packet is None or not packet.crc_ok:
            return
        rx = RxPacket(
            tmst=end_ns // US & 0xFFFFFFFF,
            freq_hz=freq_hz,
            chan=0,
            rfch=0,
            stat=1,
            modulation=modulation,
            rssi_dbm=packet.rssi_dbm,
            lsnr_db=packet.snr_db,
            data=packet.payload,
        )
        outcome = self.server.handle(rx, bytes(8), Instant(end_ns, end_ns, TimeQuality.NTP))
        self.outcomes.append(outcome)
        if outcome.downlink is not None and self.answers:
            self._send(outcome.downlink, rx.tmst, end_ns)

    def _send(self, downlink: Downlink, tmst: int, end_ns: int) -> None:
        packet: TxPacket = downlink.windows[0 if self.window == 1 else -1]
        assert packet.tmst is not None
        due_ns = end_ns // US * US + (packet.tmst - tmst) % (1 << 32) * US + self.late_ns
        settings = Settings(packet.freq_hz, packet.modulation, iq_inverted=packet.ipol, crc=not packet.ncrc)

        def prepare() -> None:
            self._tx.set_mode(Mode.STDBY)
            self._tx.configure_transmit(settings, Power(14), self.instead or packet.data)
            self._tx.clear_flags(Irq(0xFF))

        self.kernel.at(due_ns - 5 * MS, prepare)
        self.kernel.at(due_ns - TX_START_NS, lambda: self._tx.command(Mode.TX))
        self.server.sent(downlink, self.window, Instant(end_ns, end_ns))

    def of(self, kind: type) -> list:
        return [outcome for outcome in self.outcomes if isinstance(outcome, kind)]


@dataclass
class Field:
    """One device, one gateway, and the frames between them."""

    kernel: Kernel
    air: Air
    gateway: Gateway
    node: Node
    frames: list[FrameRecord] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        self.kernel.run_until(self.kernel.now_ns + round(seconds * S))

    def uplinks(self) -> list[FrameRecord]:
        return [frame for frame in self.frames if not frame.iq_inverted]

    def channels(self, last: int = 0) -> Counter[int]:
        """How often the device used each channel, in Hz as plans name them; the chip tunes in 61 Hz steps."""
        return Counter(round(frame.freq_hz, -3) for frame in self.uplinks()[-last:])


Make = Callable[..., Field]


@pytest.fixture
def make_field() -> Make:
    def make(*, sf: int = 7, network: dict | None = None, boot: int = 0, seed: int = 5, **changes) -> Field:
        kernel = Kernel(seed)
        air = Air(kernel, CALM)
        settings = {
            "name": "node",
            "dev_eui": EUI,
            "app_key": KEY,
            "x_m": 200.0,
            "dr": 12 - sf,
            "adr": False,
            "first_s": (1.0, 1.0),
            "interval_s": (20.0, 20.0),
        } | changes
        config = NodeConfig(**settings)
        options = {"status_interval_s": 0, "adr": False} | (network or {})
        server = NetworkServer(EU868, settings=NetworkSettings(**options), rng=random.Random(1))
        server.add_device(
            Registration(
                dev_eui=config.dev_eui,
                activation=Activation.OTAA if config.otaa else Activation.ABP,
                app_key=config.app_key,
                dev_addr=config.dev_addr,
                nwk_s_key=config.nwk_s_key,
                app_s_key=config.app_s_key,
            )
        )
        chip = SX1276(kernel, config.name)
        air.add(chip, config.x_m, config.y_m)
        node = Node(kernel, chip, config, boot=boot)
        made = Field(kernel, air, Gateway(kernel, air, server, sf=sf), node)
        air.records.observe(made.frames.append)
        air.records.observe(node.on_air)
        node.start()
        return made

    return make


ABP = {
    "app_key": None,
    "dev_addr": DevAddr(0x00123456),
    "nwk_s_key": AES128Key(bytes(16)),
    "app_s_key": AES128Key(bytes(15) + b"\x01"),
}


# -- joining -------------------------------------------------------------------------------------------


def test_a_device_joins_and_its_uplinks_are_read_by_the_network(make_field: Make) -> None:
    field = make_field()
    field.run(120)
    counters = field.node.counters
    assert (counters.joins, counters.join_requests) == (1, 1)
    uplinks = field.gateway.of(Uplink)
    assert len(uplinks) == counters.uplinks >= 4
    assert [uplink.fcnt for uplink in uplinks] == list(range(len(uplinks)))
    assert all(uplink.payload[:2] == b"\x01\x67" for uplink in uplinks)  # Cayenne LPP: temperature, channel 1


def test_an_abp_device_sends_without_joining(make_field: Make) -> None:
    field = make_field(**ABP)
    field.run(60)
    assert field.node.counters.join_requests == 0
    assert len(field.gateway.of(Uplink)) == field.node.counters.uplinks >= 2


def test_a_join_accept_in_the_second_window_serves_as_well(make_field: Make) -> None:
    field = make_field()
    field.gateway.window = 2
    field.run(30)
    assert field.node.counters.joins == 1
    assert [start.window for start in field.node.starts] == [2]


def test_a_device_that_nobody_answers_tries_to_join_more_and_more_slowly(make_field: Make) -> None:
    field = make_field()
    field.gateway.answers = False
    field.run(3 * 3600)
    starts = [frame.start_ns / S for frame in field.uplinks()]
    assert not field.node.joined
    first_hour = [start for start in starts if start < 3600]
    airtime_s = field.uplinks()[0].airtime_ns / S
    assert len(first_hour) * airtime_s <= 0.01 * 3600
    assert (len(starts) - len(first_hour)) * airtime_s <= 0.001 * 2 * 3600 * 1.1


def test_nonces_differ_between_lives_and_the_network_refuses_none(make_field: Make) -> None:
    for mode in DevNonceMode:
        nonces = [
            field.gateway.of(Joined)[0].dev_nonce
            for field in (make_field(dev_nonce=mode, boot=boot) for boot in (0, 1))
            if field.run(20) is None
        ]
        assert len(set(nonces)) == 2


def test_counted_nonces_begin_at_zero_and_rise(make_field: Make) -> None:
    field = make_field(dev_nonce=DevNonceMode.COUNTER)
    field.gateway.answers = False
    field.run(60)
    nonces = [frames.parse(frame.payload).dev_nonce for frame in field.uplinks()]
    assert nonces == list(range(len(nonces)))
    assert len(nonces) >= 3


# -- receive windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sf", "symbols", "offset_us"),
    [
        pytest.param(7, 24, -8192, id="SF7: 24 symbols, as an SPI trace of LoRaMac-node shows"),
        pytest.param(12, 6, 32768, id="SF12: the least"),
    ],
)
def test_a_window_is_centred_on_the_preamble(sf: int, symbols: int, offset_us: int) -> None:
    window = receive_window(LoRaModulation(sf, 125_000), 10 * MS)
    assert (window.symbols, window.offset_ns) == (symbols, offset_us * US)


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("sf", [7, 9, 12])
def test_an_exact_downlink_is_heard_in_its_window(make_field: Make, sf: int, window: int) -> None:
    field = make_field(sf=sf, confirmed_share=1.0, interval_s=(60.0, 60.0))
    field.gateway.window = window
    field.run(400)
    node = field.node
    assert node.counters.joins == 1
    assert node.counters.acks >= 2
    assert node.counters.uplinks - node.counters.acks <= 1  # the last one may still wait for its window
    assert node.counters.missed == 0
    assert {start.window for start in node.starts} == {window}
    assert all(abs(start.error_ns) <= US for start in node.starts)


@pytest.mark.parametrize(
    ("late_ms", "heard"),
    [
        pytest.param(-11, True, id="11 ms early: the edge"),
        pytest.param(11, True, id="11 ms late: the edge"),
        pytest.param(-15, False, id="15 ms early"),
        pytest.param(15, False, id="15 ms late"),
    ],
)
def test_a_downlink_outside_the_window_is_really_missed(make_field: Make, late_ms: int, heard: bool) -> None:
    """The limits measured for LoRaMac-node at SF7 are -11 and +11 ms."""
    field = make_field(**ABP, confirmed_share=1.0)
    field.gateway.late_ns = late_ms * MS
    field.run(4)
    counters = field.node.counters
    assert (counters.acks, counters.missed) == ((1, 0) if heard else (0, 1))
    if heard:
        assert abs(field.node.starts[0].error_ns - late_ms * MS) <= US


def test_a_missed_confirmed_uplink_is_repeated_with_its_counter_until_it_is_acknowledged(
    make_field: Make,
) -> None:
    field = make_field(**ABP, confirmed_share=1.0, interval_s=(500.0, 500.0))
    field.gateway.late_ns = 15 * MS
    field.run(10)
    field.gateway.late_ns = 0
    field.run(60)
    counters = field.node.counters
    assert (counters.uplinks, counters.acks, counters.unacknowledged) == (1, 1, 0)
    assert counters.retransmissions == counters.missed >= 1
    assert len({frame.payload for frame in field.uplinks()}) == 1
    assert len(field.gateway.of(Uplink)) == 1  # the network takes the repeats for what they are


def test_a_confirmed_uplink_is_given_up_after_eight_tries(make_field: Make) -> None:
    field = make_field(**ABP, confirmed_share=1.0, interval_s=(500.0, 500.0))
    field.gateway.answers = False
    field.run(300)
    assert len(field.uplinks()) == 8
    assert field.node.counters.unacknowledged == 1
    assert field.node.fcnt_up == 1


def test_a_clock_that_is_off_shifts_the_window(make_field: Make) -> None:
    """A slow device of 0.9 % opens RX1 9 ms late and hears no downlink that is 5 ms early."""
    for ppm, acks in ((0.0, 1), (-9000.0, 0)):
        field = make_field(**ABP, confirmed_share=1.0, clock=Oscillator(ppm))
        field.gateway.late_ns = -5 * MS
        field.run(4)
        assert field.node.counters.acks == acks


@pytest.mark.parametrize(
    ("oscillator", "t_s", "temperature_c", "ppm"),
    [
        pytest.param(Oscillator(20.0), 1e6, 70.0, 20.0, id="constant"),
        pytest.param(Oscillator(0.0, ppm_per_c=-0.5), 0, 45.0, -10.0, id="with the temperature"),
        pytest.param(Oscillator(5.0, ppm_per_c2=-0.034), 0, -25.0, -80.0, id="a tuning fork in the cold"),
        pytest.param(Oscillator(1.0, ppm_per_day=0.2), 10 * 86_400, 25.0, 3.0, id="older"),
    ],
)
def test_how_far_off_an_oscillator_is(oscillator, t_s, temperature_c, ppm) -> None:
    assert oscillator.ppm_at(t_s, temperature_c) == pytest.approx(ppm)


def test_a_day_is_warmest_in_the_afternoon() -> None:
    climate = Climate(10.0, 8.0)
    assert climate.at(15 * 3600) == pytest.approx(18.0)
    assert climate.at(27 * 3600) == pytest.approx(2.0)


def test_a_clock_that_drifts_loses_its_downlinks_in_the_cold_of_the_night(make_field: Make) -> None:
    """9000 ppm slow at 3 in the morning, right in the afternoon; downlinks come 5 ms early."""
    climate = Climate(15.0, 10.0)  # 25 degrees at 15:00, 5 at 3:00
    for hour, acks in ((15, 1), (3, 0)):
        field = make_field(
            **ABP,
            confirmed_share=1.0,
            clock=Oscillator(ppm_per_c=450.0),
            climate=climate,
            appears_s=hour * 3600.0,
        )
        field.gateway.late_ns = -5 * MS
        field.run(hour * 3600 + 4)
        assert field.node.counters.acks == acks


def test_a_crystal_that_drifts_shows_in_the_frequency(make_field: Make) -> None:
    field = make_field(
        **ABP, channels_hz=(868_100_000,), crystal=Oscillator(ppm_per_day=10.0), interval_s=(7200.0, 7200.0)
    )
    field.run(86_400)
    first, last = field.uplinks()[0], field.uplinks()[-1]
    assert last.freq_hz - first.freq_hz == pytest.approx(8681 * 22 / 24, abs=100)


def test_a_device_appears_and_vanishes(make_field: Make) -> None:
    field = make_field(**ABP, appears_s=100.0, vanishes_s=200.0, interval_s=(8.0, 8.0))
    field.run(400)
    times_s = [frame.start_ns / S for frame in field.uplinks()]
    assert 100 < min(times_s) < 103
    assert max(times_s) < 200
    assert len(times_s) == pytest.approx(10, abs=2)


def test_a_device_that_loses_power_stops_in_the_middle_of_its_frame(make_field: Make) -> None:
    field = make_field(**ABP, sf=12, vanishes_s=1.5)
    field.run(30)
    (frame,) = field.uplinks()
    assert frame.aborted
    assert frame.end_ns == round(1.5 * S)


def test_a_device_sends_in_bursts(make_field: Make) -> None:
    field = make_field(**ABP, burst=3, burst_gap_s=(1.0, 1.0), interval_s=(60.0, 60.0), dr=5)
    field.run(190)
    gaps = [b.start_ns - a.start_ns for a, b in pairwise(field.uplinks())]
    assert [gap > 30 * S for gap in gaps][:8] == [False, False, True] * 2 + [False, False]


def test_an_alarm_sends_at_once_and_again_after_what_is_under_way(make_field: Make) -> None:
    field = make_field(**ABP, interval_s=(500.0, 500.0))
    field.run(50)
    assert len(field.uplinks()) == 1
    field.node.trigger()
    field.node.trigger()
    field.run(30)
    assert len(field.uplinks()) == 3
    field.run(400)
    assert len(field.uplinks()) == 3


def test_a_replayed_downlink_is_refused(make_field: Make) -> None:
    field = make_field(**ABP, confirmed_share=1.0)
    field.run(4)
    assert field.node.counters.acks == 1
    answer = next(frame.payload for frame in field.frames if frame.iq_inverted)
    field.gateway.instead = answer
    field.run(21)
    assert field.node.counters.refused == 1
    assert field.node.counters.acks == 1


# -- the MAC layer ----------------------------------------------------------------------------------------


def test_application_downlinks_arrive_and_confirmed_ones_are_acknowledged(make_field: Make) -> None:
    field = make_field()
    field.run(30)
    field.gateway.server.queue_downlink(EUI, 42, b"open", confirmed=True, now=Instant(0, 0))
    field.run(60)
    (received,) = [each for each in field.node.received if each.fport == 42]
    assert (received.payload, received.confirmed) == (b"open", True)
    assert [uplink.acked for uplink in field.gateway.of(Uplink)].count(None) < len(field.gateway.of(Uplink))


def test_battery_and_margin_are_told_when_asked(make_field: Make) -> None:
    field = make_field(network={"status_interval_s": 3600})
    field.run(120)
    status = field.gateway.server.device(EUI)
    assert status.battery == 254
    assert status.margin_db is not None


def test_a_link_check_is_answered(make_field: Make) -> None:
    field = make_field(link_check_every=2)
    field.run(90)
    assert field.node.mac.link_margin_db is not None


def test_the_network_steers_a_device_with_adr_to_one_channel(make_field: Make) -> None:
    field = make_field(adr=True, network={"uplink_channels": (1,), "adr": True, "adr_max_dr": 5})
    field.run(900)
    assert {channel.freq_hz for channel in field.node.mac.channels()} == {868_300_000}
    assert set(field.channels(last=5)) == {868_300_000}


def test_channels_of_the_cflist_are_used(make_field: Make) -> None:
    field = make_field(network={"cflist_hz": (867_100_000,)})
    field.run(20 * 60)
    assert set(field.channels()) == {868_100_000, 868_300_000, 868_500_000, 867_100_000}


def test_channels_are_hopped_evenly(make_field: Make) -> None:
    field = make_field(**ABP)
    field.run(3600)
    used = field.channels()
    assert set(used) == set(EU868.default_channels_hz)
    assert max(used.values()) < 1.6 * min(used.values())


def test_a_device_kept_to_one_channel_stays_there(make_field: Make) -> None:
    field = make_field(channels_hz=(868_500_000,))
    field.run(200)
    assert set(field.channels()) == {868_500_000}
    assert field.node.counters.joins == 1


# -- duty cycle -------------------------------------------------------------------------------------------


def test_a_device_that_wants_to_talk_all_day_keeps_its_duty_cycle(make_field: Make) -> None:
    """Without a limit it would send more than a third of the time; its band allows 1 %."""
    field = make_field(sf=12, **ABP, interval_s=(0.0, 0.0))
    field.gateway.answers = False
    field.run(24 * 3600)
    ends = [(frame.end_ns, frame.airtime_ns) for frame in field.uplinks()]
    for hour in range(24):
        used_ns = sum(airtime for end, airtime in ends if hour * 3600 * S <= end < (hour + 1) * 3600 * S)
        assert 33 * S < used_ns <= 36 * S + ends[0][1]
    assert field.node.counters.airtime_us * US >= sum(airtime for _, airtime in ends)


def test_a_duty_cycle_request_of_the_network_is_obeyed(make_field: Make) -> None:
    field = make_field(**ABP, interval_s=(0.0, 0.0))
    field.node.mac.heard([mac.DutyCycleReq(10)], 5.0)
    field.gateway.answers = False
    field.run(4 * 3600)
    used_ns = sum(frame.airtime_ns for frame in field.uplinks())
    assert used_ns <= 4 * 3600 * S / 1024 + field.uplinks()[0].airtime_ns


def test_a_stopped_device_ends_what_it_has_begun_and_begins_nothing(make_field: Make) -> None:
    field = make_field(**ABP, confirmed_share=1.0)
    field.gateway.late_ns = 15 * MS
    field.run(2)
    field.node.stop()
    field.gateway.late_ns = 0
    field.run(300)
    assert (field.node.counters.uplinks, field.node.counters.acks) == (1, 1)


def test_the_same_seed_gives_the_same_history(make_field: Make) -> None:
    histories = []
    for _ in range(2):
        field = make_field(confirmed_share=0.5, interval_s=(10.0, 30.0), sensors=("temperature", "gps"))
        field.run(600)
        histories.append([(frame.start_ns, frame.freq_hz, frame.payload) for frame in field.frames])
    assert histories[0] == histories[1]
    assert len(histories[0]) > 20


def test_nothing_a_device_does_to_its_chip_is_doubtful(make_field: Make) -> None:
    field = make_field(confirmed_share=0.5)
    field.run(300)
    assert field.node.chip.warnings == {}
    assert not field.gateway.of(Rejected)

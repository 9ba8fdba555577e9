"""A concentrator on the air: eight channels, all spreading factors, few demodulators, one transmitter."""

from dataclasses import replace

import pytest

from hw_sim.air import Air
from hw_sim.concentrator import (
    CAPACITY,
    MAX_ADVANCE_US,
    ConcentratorPlan,
    SimConcentrator,
    WideChannel,
    plan_for,
)
from hw_sim.errors import KernelError
from hw_sim.forwarder import SimForwarder, Way
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.node_radio import DirectBus
from hw_sim.records import Fate
from hw_sim.sx1276 import SX1276
from radio import gwmp
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Irq, Mode, Power, Settings

US, MS, S = 1_000, 1_000_000, 1_000_000_000
CALM = AirSettings(fading_db=0.0, decode_width_db=1e-6)
CHANNELS = (868_100_000, 868_300_000, 868_500_000, 867_100_000)
EUI = bytes(range(8))
SF7, SF9, SF12 = (LoRaModulation(sf, 125_000) for sf in (7, 9, 12))


class Bench:
    """A concentrator and as many senders as a test wants."""

    def __init__(self, **plan: object) -> None:
        self.kernel = Kernel(seed=3)
        self.air = Air(self.kernel, CALM)
        self.heard: list[RxPacket] = []
        self.heard_ns: list[int] = []
        settings = {"channels_hz": CHANNELS} | plan
        self.concentrator = SimConcentrator(
            self.kernel, self.air, "mast", ConcentratorPlan(**settings), self.take, group="mast"
        )
        self.senders = 0

    def take(self, frames: tuple[RxPacket, ...]) -> None:
        self.heard += frames
        self.heard_ns.append(self.kernel.now_ns)

    def send(
        self,
        payload: bytes = b"hello",
        *,
        at_s: float = 0.01,
        freq_hz: int = 868_100_000,
        modulation: LoRaModulation = SF7,
        x_m: float = 100.0,
        inverted: bool = False,
    ) -> None:
        """One frame of a chip of its own."""
        self.senders += 1
        simulated = SX1276(self.kernel, f"sender-{self.senders}")
        self.air.add(simulated, x_m)
        chip = Chip(DirectBus(simulated))
        chip.start()
        chip.set_mode(Mode.STDBY)
        settings = Settings(freq_hz, modulation, iq_inverted=inverted)
        chip.configure_transmit(settings, Power(14), payload)
        chip.clear_flags(Irq(0xFF))
        self.kernel.at(round(at_s * S), lambda: chip.command(Mode.TX))

    def run(self, seconds: float) -> None:
        self.kernel.run_until(self.kernel.now_ns + round(seconds * S))

    def fates(self) -> list[Fate]:
        frames = sorted(self.air.records.frames, key=lambda frame: frame.number)
        return [frame.fate("mast") for frame in frames if frame.sender != "mast"]

    def order(self, *, in_us: int = 200_000, **changes: object) -> TxError:
        values = {
            "tmst": (self.concentrator.now_us + in_us) % (1 << 32),
            "imme": False,
            "freq_hz": 869_525_000,
            "rfch": 0,
            "powe_dbm": 14,
            "modulation": SF9,
            "ipol": True,
            "data": b"order",
            "ncrc": True,
        } | changes
        return self.concentrator.order(TxPacket(**values)).error  # type: ignore[arg-type]


# -- receiving -----------------------------------------------------------------------------------------


def test_every_channel_hears_every_spreading_factor_at_once() -> None:
    bench = Bench()
    sent = {}
    for number, freq_hz in enumerate(CHANNELS):
        for sf in range(7, 13):
            payload = bytes((number, sf))
            sent[payload] = freq_hz, sf
            bench.send(
                payload, freq_hz=freq_hz, modulation=LoRaModulation(sf, 125_000), at_s=0.01 + number * 3
            )
    bench.run(20)
    assert {rx.data: (rx.freq_hz, rx.modulation.sf) for rx in bench.heard} == sent
    assert {rx.chan for rx in bench.heard} == {0, 1, 2, 3}
    assert all(rx.stat == 1 and rx.tmms is None for rx in bench.heard)


def test_a_frame_carries_the_counter_of_its_last_symbol_and_waits_for_the_host() -> None:
    bench = Bench(counter_us=(1 << 32) - 50_000)
    bench.send(at_s=0.02)
    bench.run(0.1)
    (rx,) = bench.heard
    (record,) = bench.air.records.frames
    assert bench.heard_ns[0] % (10 * MS) == 0
    assert 0 <= bench.heard_ns[0] - record.end_ns < 10 * MS
    assert rx.tmst == ((1 << 32) - 50_000 + record.end_ns // US) % (1 << 32)


def test_what_is_on_no_channel_of_its_own_or_is_a_downlink_is_not_matched() -> None:
    bench = Bench()
    bench.send(freq_hz=867_900_000)
    bench.send(freq_hz=868_300_000, inverted=True)
    bench.send(freq_hz=868_500_000, modulation=LoRaModulation(7, 250_000))
    bench.run(1)
    assert bench.fates() == [Fate.NOT_MATCHED] * 3
    assert bench.heard == []


def test_the_wide_channel_hears_its_one_spreading_factor() -> None:
    broad = LoRaModulation(8, 500_000)
    bench = Bench(channels_hz=(903_900_000,), wide=WideChannel(904_600_000, broad))
    bench.send(b"broad", freq_hz=904_600_000, modulation=broad)
    bench.send(b"other", freq_hz=904_600_000, modulation=LoRaModulation(9, 500_000), at_s=0.5)
    bench.run(1)
    assert [(rx.data, rx.chan, rx.modulation) for rx in bench.heard] == [(b"broad", 1, broad)]


def test_more_frames_at_a_time_than_demodulators_are_lost_and_counted() -> None:
    for demodulators, expected in ((16, 4), (3, 3)):
        bench = Bench(demodulators=demodulators)
        for number, freq_hz in enumerate(CHANNELS):
            bench.send(bytes((number,)), freq_hz=freq_hz, modulation=SF12)
        bench.run(5)
        assert len(bench.heard) == expected
        assert bench.concentrator.counters.no_demodulator == 4 - expected
        assert bench.fates().count(Fate.DEAF) == 4 - expected


def test_two_frames_of_one_channel_and_spreading_factor_collide_and_of_two_do_not() -> None:
    bench = Bench()
    bench.send(b"first")
    bench.send(b"again", at_s=0.02)
    bench.send(b"other", at_s=0.02, modulation=SF9)
    bench.run(1)
    assert [rx.data for rx in bench.heard] == [b"other"]
    assert Fate.RECEIVED not in bench.fates()[:2]


def test_a_damaged_frame_is_kept_back_unless_wanted() -> None:
    for wanted in (False, True):
        bench = Bench(crc_errors=wanted)
        bench.send(bytes(60), at_s=0.01)
        bench.send(bytes(60), at_s=0.06, x_m=101.0)  # too late to take the lock, strong enough to damage
        bench.run(1)
        assert [rx.stat for rx in bench.heard] == ([-1] if wanted else [])
        assert bench.concentrator.counters.crc_errors == 1


def test_a_weak_frame_is_below_sensitivity_and_reports_follow_the_air() -> None:
    bench = Bench()
    bench.send(b"far", x_m=20_000)
    bench.send(b"near", x_m=300, at_s=1)
    bench.run(2)
    assert bench.fates() == [Fate.BELOW_SENSITIVITY, Fate.RECEIVED]
    (rx,) = bench.heard
    reception = bench.air.records.frames[-1].receptions["mast"]
    assert (rx.rssi_dbm, rx.lsnr_db) == (round(reception.rssi_dbm), 12.0)


def test_a_name_is_used_once() -> None:
    bench = Bench()
    with pytest.raises(KernelError, match="already"):
        SimConcentrator(bench.kernel, bench.air, "mast", plan_for(get_region("EU868")), bench.take)


def test_with_gps_time_frames_carry_it() -> None:
    bench = Bench(gps_ms=1_400_000_000_000)
    bench.send()
    bench.run(1)
    assert bench.heard[0].tmms == 1_400_000_000_000 + bench.air.records.frames[0].end_ns // MS


# -- sending -------------------------------------------------------------------------------------------


def test_an_order_leaves_at_its_microsecond_and_the_concentrator_is_deaf_meanwhile() -> None:
    bench = Bench()
    assert bench.order(in_us=500_000) is TxError.NONE
    bench.send(b"under way", at_s=0.49)
    bench.send(b"meanwhile", at_s=0.51, freq_hz=868_300_000)
    bench.send(b"afterwards", at_s=1.0)
    bench.run(2)
    (down,) = [frame for frame in bench.air.records.frames if frame.sender == "mast"]
    assert (down.start_ns, down.payload, down.iq_inverted, down.crc) == (500 * MS, b"order", True, False)
    assert (down.freq_hz, down.power_dbm) == (869_525_000, 14)
    assert bench.fates() == [Fate.DEAF, Fate.DEAF, Fate.RECEIVED]
    assert [rx.data for rx in bench.heard] == [b"afterwards"]


def test_a_full_duplex_concentrator_hears_while_it_sends() -> None:
    bench = Bench(full_duplex=True)
    bench.order(in_us=500_000)
    bench.send(b"meanwhile", at_s=0.51, x_m=20.0)
    bench.run(2)
    assert [rx.data for rx in bench.heard] == [b"meanwhile"]


@pytest.mark.parametrize(
    ("in_us", "error"),
    [
        pytest.param(10_000, TxError.TOO_LATE, id="10 ms ahead"),
        pytest.param(-200_000, TxError.TOO_EARLY, id="past: an hour ahead by its counter"),
        pytest.param(MAX_ADVANCE_US + 1, TxError.TOO_EARLY, id="too far ahead"),
        pytest.param(60_000, TxError.NONE, id="in time"),
    ],
)
def test_orders_are_refused_as_the_reference_forwarder_does(in_us: int, error: TxError) -> None:
    bench = Bench(counter_us=1 << 33)
    assert bench.order(in_us=in_us) is error
    assert bench.concentrator.counters.refused[error] == (error is not TxError.NONE)


def test_orders_that_overlap_collide_also_with_the_one_on_the_air() -> None:
    bench = Bench()
    airtime = airtime_us(SF9, 5, crc=False)
    assert bench.order(in_us=200_000) is TxError.NONE
    assert bench.order(in_us=200_000 + airtime // 2) is TxError.COLLISION_PACKET
    bench.run(0.25)
    assert bench.order(in_us=50_000) is TxError.COLLISION_PACKET
    bench.run(1)
    assert bench.order(in_us=50_000) is TxError.NONE


def test_an_immediate_order_goes_out_at_once_and_the_next_one_behind_it() -> None:
    bench = Bench()
    for _ in range(3):
        assert bench.order(imme=True, tmst=None) is TxError.NONE
    bench.run(2)
    starts = [frame.start_ns for frame in bench.air.records.frames]
    assert starts[0] <= 100 * MS
    ends = [frame.end_ns for frame in bench.air.records.frames]
    assert all(start > end for start, end in zip(starts[1:], ends, strict=False))


def test_a_gps_time_is_kept_with_gnss_and_refused_without() -> None:
    assert Bench().order(tmst=None, tmms=1_000_500) is TxError.GPS_UNLOCKED
    bench = Bench(gps_ms=1_000_000, counter_ppm=20.0)
    assert bench.order(tmst=None, tmms=1_060_500) is TxError.NONE
    bench.run(62)
    assert bench.air.records.frames[0].start_ns == pytest.approx(60_500 * MS, abs=2 * US)


def test_frequency_and_power_have_limits() -> None:
    bench = Bench(tx_band_hz=(863_000_000, 870_000_000), max_power_dbm=20)
    assert bench.order(freq_hz=923_300_000) is TxError.TX_FREQ
    ack = bench.concentrator.order(
        TxPacket(bench.concentrator.now_us + 100_000, False, 869_525_000, 0, 27, SF9, True, b"loud")
    )
    assert (ack.error, ack.power_dbm) == (TxError.NONE, 20)
    bench.run(1)
    assert bench.air.records.frames[0].power_dbm == 20


def test_the_queue_is_bounded() -> None:
    bench = Bench()
    answers = [bench.order(in_us=1_000_000 * (number + 1)) for number in range(CAPACITY + 1)]
    assert answers == [TxError.NONE] * CAPACITY + [TxError.COLLISION_PACKET]


# -- plans ---------------------------------------------------------------------------------------------


def test_each_region_has_a_plan() -> None:
    eu = plan_for(get_region("EU868"))
    assert len(eu.channels_hz) == 8
    assert eu.channels_hz[:3] == (868_100_000, 868_300_000, 868_500_000)
    us = plan_for(get_region("US915"))
    assert us.channels_hz == tuple(range(903_900_000, 905_400_000, 200_000))
    assert us.wide == WideChannel(904_600_000, LoRaModulation(8, 500_000))
    assert plan_for(get_region("AU915")).wide == WideChannel(917_500_000, LoRaModulation(8, 500_000))
    for name in ("AS923-1", "AS923-3", "IN865", "KR920"):
        region = get_region(name)
        plan = plan_for(region)
        assert len(plan.channels_hz) >= 3
        assert all(region.band_hz[0] <= hz <= region.band_hz[1] for hz in plan.channels_hz)


@pytest.mark.parametrize("wrong", [{"channels_hz": ()}, {"channels_hz": (1, 1)}, {"demodulators": 0}])
def test_an_impossible_plan_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"concentrator"):
        ConcentratorPlan(**({"channels_hz": CHANNELS} | wrong))  # type: ignore[arg-type]


# -- its forwarder -------------------------------------------------------------------------------------


def forwarded(**plan: object) -> tuple[Bench, SimForwarder, list[tuple[gwmp.Datagram, Way]]]:
    bench = Bench(**plan)
    out: list[tuple[gwmp.Datagram, Way]] = []
    forwarder = SimForwarder(
        bench.kernel,
        bench.concentrator,
        EUI,
        lambda data, way: out.append((gwmp.decode(data), way)),
    )
    return bench, forwarder, out


def test_the_forwarder_speaks_gwmp_both_ways() -> None:
    bench, forwarder, out = forwarded()
    bench.send(b"up")
    bench.run(0.2)
    pulls = [each for each in out if isinstance(each[0], gwmp.PullData)]
    pushes = [each for each in out if isinstance(each[0], gwmp.PushData)]
    assert pulls == [(gwmp.PullData(1, EUI), Way.DOWN)]
    assert [(push.rxpk[0].data, way) for push, way in pushes] == [(b"up", Way.UP)]
    out.clear()
    tx = TxPacket(bench.concentrator.now_us + 100_000, False, 869_525_000, 0, 14, SF9, True, b"down")
    forwarder.receive(gwmp.encode(gwmp.PullResp(77, tx)))
    forwarder.receive(gwmp.encode(gwmp.PullResp(78, tx)))
    assert [datagram for datagram, _ in out] == [
        gwmp.TxAck(77, EUI),
        gwmp.TxAck(78, EUI, TxError.COLLISION_PACKET),
    ]
    bench.run(1)
    assert bench.air.records.frames[-1].payload == b"down"


def test_the_forwarder_keeps_its_path_open_and_reports() -> None:
    bench, forwarder, out = forwarded()
    bench.run(61)
    pulls = sum(isinstance(datagram, gwmp.PullData) for datagram, _ in out)
    stats = [datagram.stat for datagram, _ in out if isinstance(datagram, gwmp.PushData)]
    assert (pulls, len(stats)) == (13, 2)
    for answer in (gwmp.PushAck(1), gwmp.PullAck(2), gwmp.PullData(3, EUI)):
        forwarder.receive(gwmp.encode(answer))
    forwarder.receive(b"\x02\x00")
    assert forwarder.counters == {"acknowledged": 1, "pulled": 1, "unexpected": 1, "malformed": 1}


def test_a_power_beyond_the_amplifier_is_told() -> None:
    bench, forwarder, out = forwarded(max_power_dbm=20)
    tx = TxPacket(None, True, 869_525_000, 0, 27, SF9, True, b"down")
    forwarder.receive(gwmp.encode(gwmp.PullResp(5, tx)))
    assert out[-1][0] == gwmp.TxAck(5, EUI, warn=TxError.TX_POWER, value=20)
    assert bench.order(imme=True, tmst=None) is TxError.NONE


# -- a lossy air ---------------------------------------------------------------------------------------


def test_a_share_of_frames_is_destroyed_for_everybody_alike() -> None:
    kernel = Kernel(seed=3)
    air = Air(kernel, replace(CALM, loss=0.25))
    plan = ConcentratorPlan(channels_hz=CHANNELS, crc_errors=True)
    heard: dict[str, list[RxPacket]] = {"one": [], "two": []}
    for name, frames in heard.items():
        SimConcentrator(kernel, air, name, plan, frames.extend)
    simulated = SX1276(kernel, "sender")
    air.add(simulated, 100.0)
    chip = Chip(DirectBus(simulated))
    chip.start()
    chip.set_mode(Mode.STDBY)
    for number in range(400):
        chip.configure_transmit(Settings(868_100_000, SF7), Power(14), number.to_bytes(2))
        chip.clear_flags(Irq(0xFF))
        chip.command(Mode.TX)
        kernel.run_until(kernel.now_ns + 100 * MS)
    damaged = {name: [i for i, rx in enumerate(frames) if rx.stat < 0] for name, frames in heard.items()}
    assert damaged["one"] == damaged["two"]
    assert 70 <= len(damaged["one"]) <= 130
    assert len(heard["one"]) == 400

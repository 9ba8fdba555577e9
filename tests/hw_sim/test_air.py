"""The air: who hears whom, who drowns whom, and the books kept of it."""

import math
import random
from dataclasses import replace

import pytest

from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.errors import KernelError
from hw_sim.interference import (
    CROCE,
    GOURSAUD,
    LORASIM,
    Interference,
    PayloadRule,
    channels_overlap,
    selectivity_db,
    spectral_share,
)
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings, Antenna
from hw_sim.mobility import AtEnd, Way
from hw_sim.phy import Waveform
from hw_sim.propagation import BOR, NS3, OULU, PathLoss, ShadowField, noise_floor_dbm
from hw_sim.records import Fate
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation, airtime_us

US, MS, S = 1_000, 1_000_000, 1_000_000_000
SYMBOL_NS = 1_024_000  # SF7, 125 kHz


# Published formulas, evaluated by hand.
@pytest.mark.parametrize(
    ("model", "distance_m", "loss_db"),
    [
        pytest.param(OULU, 1_000, 128.95, id="Oulu at its reference"),
        pytest.param(OULU, 10_000, 152.15, id="Oulu at 10 km"),
        pytest.param(BOR, 40, 127.41, id="Bor at its reference"),
        pytest.param(BOR, 400, 148.21, id="Bor at 400 m"),
        pytest.param(NS3, 1_000, 120.5, id="ns-3 at 1 km"),
        pytest.param(NS3, 0, 7.7, id="closer than a metre"),
    ],
)
def test_path_loss(model, distance_m, loss_db):
    assert model.loss_db(distance_m) == pytest.approx(loss_db, abs=0.01)


@pytest.mark.parametrize(("bw_hz", "floor_dbm"), [(125_000, -117), (250_000, -114), (500_000, -111)])
def test_noise_floor(bw_hz, floor_dbm):
    assert noise_floor_dbm(bw_hz) == pytest.approx(floor_dbm, abs=0.1)


@pytest.mark.parametrize("sf", range(7, 13))
@pytest.mark.parametrize("length", [0, 1, 13, 51, 222, 255])
@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_time_on_air_agrees_with_the_gateways_formula(sf, length, crc, implicit):
    mod = LoRaModulation(sf, 125_000, 3)
    wave = Waveform(868e6, mod, sf > 10, implicit, crc, False, 0x34, 10, length, 0)
    expected = airtime_us(mod, length, preamble=10, crc=crc, implicit_header=implicit)
    assert -(-wave.airtime_ns() // 1000) == expected


def test_matrices_hold_the_published_numbers():
    assert CROCE[0] == (1, -8, -9, -9, -9, -9)
    assert CROCE[5] == (-25, -25, -25, -24, -23, 1)
    assert [row[i] for i, row in enumerate(GOURSAUD)] == [6] * 6
    assert GOURSAUD[2][:2] == (-27, -27)
    assert LORASIM[0][0] == 6


@pytest.mark.parametrize(
    ("distance_hz", "bw_hz", "overlap"),
    [
        (30_000, 125_000, True),
        (31_000, 125_000, False),
        (60_000, 250_000, True),
        (120_000, 500_000, True),
        (121_000, 500_000, False),
    ],
)
def test_channels_overlap_by_lorasims_rule(distance_hz, bw_hz, overlap):
    assert channels_overlap(868e6, bw_hz, 868e6 + distance_hz, bw_hz) is overlap


class Field:
    """A receiver in the middle and senders around it, by the power that arrives from each."""

    def __init__(self, kernel, make_bench, settings=None, receivers=1):
        self.kernel = kernel
        self.make_bench = make_bench
        self.air = Air(kernel, settings or AirSettings(fading_db=0.0, decode_width_db=1e-6))
        self.rx = [make_bench(f"rx{i}") for i in range(receivers)]
        for bench in self.rx:
            self.air.add(bench.chip, group="mast" if receivers > 1 else None)
            bench.setup()
        self.senders = {}

    def sender(self, name, power_dbm, **setup):
        """A chip so far away that its 14 dBm arrive as `power_dbm`."""
        loss_db = 14 - power_dbm
        distance = 1000 * 10 ** ((loss_db - OULU.reference_db) / OULU.slope_db)
        bench = self.make_bench(name)
        self.air.add(bench.chip, distance)
        bench.setup(**setup)
        self.senders[name] = bench
        return bench

    def send(self, name, after_ns=0, length=20):
        bench = self.senders[name]
        bench.load(bytes((len(self.senders),)) * length)
        self.kernel.after(after_ns, lambda: bench.write(reg.OP_MODE, 0x83))

    def listen(self):
        for bench in self.rx:
            bench.write(reg.OP_MODE, 0x85)
        self.kernel.run_until(self.kernel.now_ns + MS)

    def fates(self, receiver="rx0"):
        self.kernel.run_until(self.kernel.now_ns + 20 * S)
        return {frame.sender: frame.fate(receiver) for frame in self.air.records.frames}


@pytest.fixture
def field(kernel, make_bench):
    return Field(kernel, make_bench)


@pytest.mark.parametrize(
    ("stronger_db", "fates"),
    [
        pytest.param(2.0, (Fate.RECEIVED, Fate.COLLIDED), id="the first is 2 dB stronger"),
        pytest.param(0.5, (Fate.CRC_ERROR, Fate.COLLIDED), id="the first is 0.5 dB stronger"),
        pytest.param(
            -10.0, (Fate.CRC_ERROR, Fate.COLLIDED), id="the later one is stronger: it damages and is lost"
        ),
    ],
)
def test_a_frame_in_the_payload_of_another_on_the_same_channel(field, stronger_db, fates):
    field.sender("a", -90.0)
    field.sender("b", -90.0 - stronger_db)
    field.listen()
    field.send("a", length=60)
    field.send("b", after_ns=40 * MS)
    assert field.fates() == dict(zip("ab", fates, strict=True))


def test_a_stronger_frame_takes_over_a_receiver_that_is_still_in_the_preamble(field):
    field.sender("weak", -100.0)
    field.sender("strong", -90.0)
    field.listen()
    field.send("weak")
    field.send("strong", after_ns=6 * SYMBOL_NS)
    assert field.fates() == {"weak": Fate.COLLIDED, "strong": Fate.RECEIVED}


def test_a_stronger_frame_in_the_last_five_preamble_symbols_or_the_header_destroys_both(field):
    field.sender("weak", -100.0)
    field.sender("strong", -90.0)
    field.listen()
    field.send("weak", length=60)
    field.send("strong", after_ns=14 * SYMBOL_NS, length=60)
    assert field.fates() == {"weak": Fate.COLLIDED, "strong": Fate.COLLIDED}
    assert field.rx[0].read(reg.IRQ_FLAGS) == 0


def test_a_weaker_frame_that_ends_early_in_the_preamble_does_no_harm(field):
    field.sender("a", -90.0)
    field.sender("b", -90.0)
    field.send("a", length=60)  # the receiver is not on yet, so "a" cannot hold it
    field.kernel.run_until(field.kernel.now_ns + 20 * MS)
    field.listen()
    ends_ns = airtime_us(LoRaModulation(7, 125_000), 60) * US - 21 * MS
    field.send("b", after_ns=ends_ns - 2 * SYMBOL_NS)
    assert field.fates() == {"a": Fate.DEAF, "b": Fate.RECEIVED}


def test_the_receiver_is_free_again_for_the_next_frame_at_once(field):
    field.sender("a", -90.0)
    field.sender("b", -90.0)
    field.listen()
    field.send("a")
    field.send("b", after_ns=airtime_us(LoRaModulation(7, 125_000), 20) * US)
    assert field.fates() == {"a": Fate.RECEIVED, "b": Fate.RECEIVED}


def test_a_brush_of_less_than_a_symbol_with_the_payload_is_tolerated(field):
    field.sender("a", -90.0)
    field.sender("b", -90.0)
    field.listen()
    field.send("a")
    field.send("b", after_ns=airtime_us(LoRaModulation(7, 125_000), 20) * US - SYMBOL_NS // 2)
    assert field.fates()["a"] is Fate.RECEIVED


@pytest.mark.parametrize(("weaker_db", "fate"), [(7.5, Fate.RECEIVED), (8.5, Fate.CRC_ERROR)])
def test_another_spreading_factor_harms_only_when_it_is_8_db_stronger(field, weaker_db, fate):
    field.sender("sf7", -90.0)
    field.sender("sf8", -90.0 + weaker_db, sf=8)
    field.listen()
    field.send("sf7", length=60)
    field.send("sf8", after_ns=40 * MS, length=60)
    assert field.fates() == {"sf7": fate, "sf8": Fate.NOT_MATCHED}


def test_interferers_of_one_kind_add_up(field):
    field.sender("a", -90.0)
    for name in ("b", "c"):
        field.sender(name, -92.0)
    field.listen()
    field.send("a", length=60)
    field.send("b", after_ns=40 * MS)
    assert field.fates()["a"] is Fate.RECEIVED
    field.send("a", length=60)
    for name in ("b", "c"):
        field.send(name, after_ns=40 * MS)
    assert field.fates()["a"] is Fate.CRC_ERROR


def test_frames_on_other_channels_do_not_touch(field):
    field.sender("a", -100.0)
    field.sender("b", -60.0, freq_hz=868_300_000)
    field.listen()
    field.send("a", length=60)
    field.send("b", after_ns=40 * MS)
    assert field.fates() == {"a": Fate.RECEIVED, "b": Fate.NOT_MATCHED}


def test_another_bandwidth_on_the_channel_harms_when_it_is_strong(field):
    field.sender("narrow", -90.0)
    field.sender("wide", -60.0, bw=8)
    field.listen()
    field.send("narrow", length=60)
    field.send("wide", after_ns=40 * MS)
    assert field.fates()["narrow"] is Fate.CRC_ERROR


def test_a_sending_chip_is_deaf(field):
    field.sender("a", -90.0)
    field.listen()
    field.rx[0].write(reg.OP_MODE, 0x81)
    field.rx[0].load(bytes(100))
    field.rx[0].write(reg.OP_MODE, 0x83)
    field.send("a", after_ns=20 * MS)
    assert field.fates()["a"] is Fate.DEAF


@pytest.mark.parametrize(
    ("arriving_dbm", "fate"),
    [pytest.param(-110.0, Fate.DEAF, id="weak"), pytest.param(-90.0, Fate.RECEIVED, id="strong enough")],
)
def test_sending_deafens_the_other_receivers_of_the_mast_to_weak_frames(
    kernel, make_bench, arriving_dbm, fate
):
    field = Field(kernel, make_bench, receivers=2)
    field.rx[0].setup(freq_hz=869_525_000)
    field.sender("node", arriving_dbm)
    field.rx[1].write(reg.OP_MODE, 0x85)
    field.rx[0].load(bytes(60))
    field.rx[0].write(reg.OP_MODE, 0x83)
    field.send("node", after_ns=20 * MS)
    assert field.fates("rx1")["node"] is fate


def test_the_mast_is_not_deaf_once_the_sending_is_over(kernel, make_bench):
    field = Field(kernel, make_bench, receivers=2)
    field.rx[0].setup(freq_hz=869_525_000)
    field.sender("node", -110.0)
    field.rx[1].write(reg.OP_MODE, 0x85)
    field.rx[0].load(b"x")
    field.rx[0].write(reg.OP_MODE, 0x83)
    field.send("node", after_ns=100 * MS)
    assert field.fates("rx1")["node"] is Fate.RECEIVED


def test_a_mast_mate_on_the_same_channel_is_heard_loudly(kernel, make_bench):
    field = Field(kernel, make_bench, receivers=2)
    field.rx[1].write(reg.OP_MODE, 0x85)
    field.rx[0].load(b"x")
    field.rx[0].write(reg.OP_MODE, 0x83)
    assert field.fates("rx1") == {"rx0": Fate.RECEIVED}
    assert field.air.records.frames[-1].receptions["rx1"].rssi_dbm == pytest.approx(14 - 35)


def test_fading_is_drawn_anew_for_every_frame_from_the_seed():
    def levels(seed):
        kernel = Kernel(seed)
        air = Air(kernel, AirSettings(fading_db=3.0))
        tx, rx = SX1276(kernel, "tx"), SX1276(kernel, "rx")
        air.add(tx)
        air.add(rx, 100.0)
        for chip in (tx, rx):
            chip.spi(bytes((0x81, 0x80)))
        rx.spi(bytes((0x81, 0x85)))
        for _ in range(200):
            tx.spi(bytes((0x81, 0x83)))
            kernel.run_until(kernel.now_ns + 100 * MS)
        return [frame.receptions["rx"].rssi_dbm for frame in air.records.frames]

    first = levels(5)
    assert first == levels(5)
    assert first != levels(6)
    mean = sum(first) / len(first)
    assert math.sqrt(sum((x - mean) ** 2 for x in first) / len(first)) == pytest.approx(3.0, abs=0.5)


def test_shadowing_is_one_draw_for_each_pair_of_places(kernel, make_bench):
    field = Field(kernel, make_bench, AirSettings(path_loss=PathLoss(100.0, 100.0, 20.0, 6.0), fading_db=0.0))
    field.listen()
    field.sender("a", -90.0)
    for _ in range(3):
        field.send("a")
        field.fates()
    levels = {frame.receptions["rx0"].rssi_dbm for frame in field.air.records.frames}
    assert len(levels) == 1


def test_antenna_gains_count_at_both_ends(kernel, make_bench):
    air = Air(kernel, AirSettings(fading_db=0.0))
    tx, rx = make_bench("tx"), make_bench("rx")
    air.add(tx.chip, antenna_gain_dbi=3.0)
    air.add(rx.chip, 1000.0, antenna_gain_dbi=2.0)
    for end in (tx, rx):
        end.setup()
    rx.write(reg.OP_MODE, 0x85)
    tx.load(b"x")
    tx.write(reg.OP_MODE, 0x83)
    tx.run(S)
    assert air.records.frames[-1].receptions["rx"].rssi_dbm == pytest.approx(14 - 128.95 + 5)


def test_two_chips_of_one_name_cannot_be_told_apart_in_the_records(kernel, make_bench):
    air = Air(kernel)
    air.add(make_bench("same").chip)
    with pytest.raises(KernelError):
        air.add(make_bench("same").chip)


def test_records_are_bounded_and_counters_are_not(kernel, make_bench):
    field = Field(kernel, make_bench, AirSettings(fading_db=0.0, keep_frames=10))
    field.sender("a", -90.0)
    field.listen()
    seen = []
    stop = field.air.records.observe(seen.append)
    for _ in range(25):
        field.send("a")
        kernel.run_until(kernel.now_ns + S)
    assert len(field.air.records.frames) == 10
    assert field.air.records.counters["rx0"] == {Fate.RECEIVED: 25}
    assert field.air.records.sent == 25
    assert [record.number for record in seen] == list(range(1, 26))
    stop()
    field.send("a")
    kernel.run_until(kernel.now_ns + S)
    assert len(seen) == 25


def test_a_record_tells_who_sent_what_when(field):
    field.sender("a", -90.0)
    field.listen()
    began = field.kernel.now_ns
    field.send("a", length=3)
    field.fates()
    record = field.air.records.frames[-1]
    assert (record.sender, record.payload, record.start_ns - began) == ("a", b"\x01\x01\x01", 175 * US)
    assert record.modulation == LoRaModulation(7, 125_000, 1)
    assert record.freq_hz == pytest.approx(868_100_000, abs=31)
    assert record.receptions["rx0"].rssi_dbm == pytest.approx(-90.0)
    assert record.receptions["rx0"].snr_db == pytest.approx(27.0, abs=0.1)


# -- beside the channel -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_hz", "expected_db"),
    [
        pytest.param(10_000, 50.0, id="not less than what any neighbour loses"),
        pytest.param(200_000, 59.0, id="the next channel"),
        pytest.param(1_000_000, 73.0, id="where it is measured"),
        pytest.param(-2_000_000, 79.0, id="below it as above"),
        pytest.param(100_000_000, 95.0, id="not more than a receiver can tell"),
    ],
)
def test_selectivity_grows_by_20_db_a_decade(offset_hz, expected_db):
    assert selectivity_db(offset_hz, 73.0) == pytest.approx(expected_db, abs=0.05)


def faintest_heard(kernel, make_bench, settings, freq_hz, power=0xFC):
    """The weakest of a ladder of frames that a receiver decodes while its neighbour on the mast sends."""
    field = Field(kernel, make_bench, settings, receivers=2)
    field.rx[0].setup(freq_hz=freq_hz)
    field.rx[0].write(reg.PA_CONFIG, power)
    field.rx[1].write(reg.OP_MODE, 0x85)
    levels = [dbm / 2 for dbm in range(-250, -120)]
    for dbm in levels:
        field.sender(f"{dbm}", dbm)
        field.rx[0].load(bytes(60))
        field.rx[0].write(reg.OP_MODE, 0x83)
        field.send(f"{dbm}", after_ns=20 * MS)
        kernel.run_until(kernel.now_ns + S)
    heard = [float(f.sender) for f in field.air.records.frames if f.fate("rx1") is Fate.RECEIVED]
    return min(level for level in heard)


CALM = AirSettings(fading_db=0.0, decode_width_db=1e-6)


@pytest.mark.parametrize(
    ("settings", "freq_hz", "faintest_dbm"),
    [
        # -21 dBm arrive; -21 - 76 dB = -97 dBm of noise, and 7.5 dB below that SF7 is still decoded
        pytest.param(CALM, 869_525_000, -104.5, id="1.4 MHz away"),
        pytest.param(CALM, 868_300_000, -87.5, id="on the next channel"),
        pytest.param(replace(CALM, isolation_db=60), 869_525_000, -123.4, id="25 dB more isolation"),
        # -11 dBm compress the amplifier by 10 dB, but the noise of 1.4 MHz away is what counts
        pytest.param(replace(CALM, isolation_db=25), 869_525_000, -94.5, id="10 dB less isolation"),
        # what is left where nothing leaks: 30 dB above the blocking level cost 30 dB of sensitivity
        pytest.param(
            replace(CALM, selectivity_db=200, isolation_db=35, blocking_dbm=-51),
            869_525_000,
            -94.6,
            id="compression alone",
        ),
    ],
)
def test_a_senders_neighbour_on_the_mast_loses_so_much_sensitivity(
    kernel, make_bench, settings, freq_hz, faintest_dbm
):
    assert faintest_heard(kernel, make_bench, settings, freq_hz) == pytest.approx(faintest_dbm, abs=0.8)


def test_a_strong_stranger_beside_the_channel_deafens_as_well(field):
    field.sender("wanted", -115.0)
    field.sender("stranger", -30.0, freq_hz=868_300_000)
    field.listen()
    field.send("stranger", length=60)
    field.send("wanted", after_ns=20 * MS)
    assert field.fates()["wanted"] is Fate.DEAF


def test_the_rssi_register_sees_a_neighbour_that_leaks(kernel, make_bench):
    field = Field(kernel, make_bench, receivers=2)
    field.rx[0].setup(freq_hz=868_300_000)
    field.listen()
    quiet = field.rx[1].read(reg.RSSI)
    field.rx[0].write(reg.OP_MODE, 0x81)
    field.rx[0].load(bytes(60))
    field.rx[0].write(reg.OP_MODE, 0x83)
    kernel.run_until(kernel.now_ns + 20 * MS)
    assert field.rx[1].read(reg.RSSI) - quiet == pytest.approx(-80 + 117, abs=5)


# -- noise --------------------------------------------------------------------------------------------


def jammer(distance_m=1000.0):
    return Antenna("jammer", distance_m)


def test_noise_in_the_channel_drowns_a_frame(field):
    field.sender("a", -100.0)
    field.listen()
    field.send("a", length=60)
    field.kernel.after(60 * MS, lambda: field.air.make_noise(jammer(), 20 * MS, 868_100_000, 125_000, 40.0))
    assert field.fates() == {"a": Fate.CRC_ERROR}


def test_noise_in_the_preamble_keeps_a_receiver_from_locking(field):
    field.sender("a", -100.0)
    field.listen()
    field.send("a", length=60)
    field.air.make_noise(jammer(), 200 * MS, 868_100_000, 125_000, 40.0)
    assert field.fates() == {"a": Fate.JAMMED}


def test_only_the_share_of_the_noise_within_the_channel_counts(field):
    """40 dBm from 1 km arrive as -89 dBm; of 10 MHz, a channel of 125 kHz gets 19 dB less."""
    assert spectral_share(868.1e6, 125_000, 868.1e6, 10_000_000) == pytest.approx(1 / 80)
    field.sender("a", -112.0)
    field.sender("b", -118.0)
    field.listen()
    for name in "ab":
        field.send(name)
        field.air.make_noise(jammer(), 200 * MS, 868_100_000, 10_000_000, 40.0)
        field.kernel.run_until(field.kernel.now_ns + S)
    assert field.fates() == {"a": Fate.RECEIVED, "b": Fate.JAMMED}


def test_noise_on_another_channel_does_no_harm(field):
    field.sender("a", -110.0)
    field.listen()
    field.send("a", length=60)
    field.air.make_noise(jammer(), 200 * MS, 868_500_000, 125_000, 20.0)
    assert field.fates() == {"a": Fate.RECEIVED}


def test_noise_is_over_when_it_is_over(field):
    field.sender("a", -110.0)
    field.listen()
    field.air.make_noise(jammer(), 20 * MS, 868_100_000, 125_000, 40.0)
    field.send("a", after_ns=30 * MS)
    assert field.fates() == {"a": Fate.RECEIVED}


# -- false headers --------------------------------------------------------------------------------------


def listen_for_hours(kernel, make_bench, hours, sf=7, rate=20.0):
    """A receiver alone with its noise."""
    field = Field(kernel, make_bench, AirSettings(false_headers_per_hour=rate))
    bench = field.rx[0]
    bench.setup(sf=sf)
    dones = []

    def on_dio(line, level, t_ns):
        if line == "dio0" and level:
            dones.append(t_ns)
            kernel.after(0, lambda: bench.write(reg.IRQ_FLAGS, 0xFF))

    bench.chip.on_dio = on_dio
    bench.write(reg.OP_MODE, 0x85)
    kernel.run_until(hours * 3600 * S)
    return dones


def test_noise_passes_for_a_header_as_often_as_asked(kernel, make_bench):
    dones = listen_for_hours(kernel, make_bench, 50)
    assert len(dones) == pytest.approx(50 * 20, rel=0.1)


def test_slower_symbols_hold_fewer_false_headers(kernel, make_bench):
    dones = listen_for_hours(kernel, make_bench, 200, sf=10)
    assert len(dones) == pytest.approx(200 * 20 / 8, rel=0.15)


def test_a_false_header_blocks_the_receiver_until_its_frame_would_have_ended(kernel, make_bench):
    field = Field(kernel, make_bench, AirSettings(fading_db=0.0, false_headers_per_hour=1e6))
    field.sender("a", -60.0)
    headers = []
    field.rx[0].setup(dio=(0x01, 0))  # DIO3: ValidHeader
    field.rx[0].chip.on_dio = lambda line, level, t_ns: (
        headers.append(t_ns) if line == "dio3" and level else None
    )
    field.listen()
    while not headers:
        kernel.run_until(kernel.now_ns + MS)
    field.send("a", length=1)
    kernel.run_until(kernel.now_ns + 60 * MS)
    if field.rx[0].read(reg.IRQ_FLAGS) & reg.RX_DONE:
        pytest.fail("the header of this seed is too short for the test")
    assert field.air.records.frames[-1].fate("rx0") is Fate.DEAF
    kernel.run_until(kernel.now_ns + S)
    assert field.rx[0].read(reg.IRQ_FLAGS) & reg.RX_DONE


def test_without_the_knob_noise_is_noise(kernel, make_bench):
    dones = listen_for_hours(kernel, make_bench, 50, rate=0.0)
    assert dones == []


# -- places -----------------------------------------------------------------------------------------------


def test_a_shadow_is_gaussian_and_fades_with_distance():
    """Over many fields: mean 0, deviation 1, and a correlation of 1/e where the correlation distance says so."""
    fields = [ShadowField(random.Random(seed), 50.0) for seed in range(800)]
    here = [field.at((0, 0), (100, 100), 0) for field in fields]
    assert sum(here) / len(here) == pytest.approx(0, abs=0.1)
    assert sum(x * x for x in here) / len(here) == pytest.approx(1, abs=0.1)
    for moved_m, expected in ((5, math.exp(-0.1)), (50, math.exp(-1)), (250, math.exp(-5))):
        there = [field.at((0, 0), (100 + moved_m, 100), 0) for field in fields]
        together = sum(a * b for a, b in zip(here, there, strict=True)) / len(here)
        assert together == pytest.approx(expected, abs=0.1)


def test_a_shadow_may_change_with_time():
    fields = [ShadowField(random.Random(seed), 50.0, lasting_s=60.0) for seed in range(800)]
    now = [field.at((0, 0), (9, 9), 0) for field in fields]
    for later_s, expected in ((6, math.exp(-0.1)), (60, math.exp(-1))):
        later = [field.at((0, 0), (9, 9), later_s) for field in fields]
        together = sum(a * b for a, b in zip(now, later, strict=True)) / len(now)
        assert together == pytest.approx(expected, abs=0.1)


def test_all_antennas_of_a_mast_stand_in_one_shadow(kernel, make_bench):
    settings = AirSettings(path_loss=PathLoss(100.0, 100.0, 20.0, 6.0), fading_db=0.0)
    field = Field(kernel, make_bench, settings, receivers=3)
    field.listen()
    field.sender("a", -90.0)
    field.send("a")
    field.fates()
    levels = {reception.rssi_dbm for reception in field.air.records.frames[-1].receptions.values()}
    assert len(levels) == 1


WAY = ((0.0, 0.0), (30.0, 0.0), (30.0, 40.0))


@pytest.mark.parametrize(
    ("at_end", "t_s", "place"),
    [
        pytest.param(AtEnd.STAY, 0, (0, 0), id="before it leaves"),
        pytest.param(AtEnd.STAY, 18, (15, 0), id="on the first leg"),
        pytest.param(AtEnd.STAY, 48, (30, 30), id="round the corner"),
        pytest.param(AtEnd.STAY, 500, (30, 40), id="there"),
        pytest.param(AtEnd.RETURN, 8 + 72 / 1.5, (30, 38), id="on its way back"),
        pytest.param(AtEnd.RETURN, 8 + 141 / 1.5, (1, 0), id="and out again"),
        pytest.param(AtEnd.CIRCLE, 8 + 95 / 1.5, (15, 20), id="the straight way home"),
        pytest.param(AtEnd.CIRCLE, 8 + 121 / 1.5, (1, 0), id="the second round"),
    ],
)
def test_a_way(at_end, t_s, place):
    way = Way(WAY, 1.5, at_end, leaves_s=8)
    assert way.at(t_s) == pytest.approx((place[0], place[1]), abs=0.01)


@pytest.mark.parametrize("wrong", [(((0.0, 0.0),), 1.0), (WAY, 0.0)], ids=["one point", "no speed"])
def test_a_way_nobody_can_go(wrong):
    with pytest.raises(ValueError, match=r"way|speed"):
        Way(*wrong)


def test_a_device_on_the_move_is_heard_as_strongly_as_where_it_is(kernel, make_bench):
    air = Air(kernel, AirSettings(fading_db=0.0))
    tx, rx = make_bench("tx"), make_bench("rx")
    air.add(tx.chip, way=Way(((100.0, 0.0), (10_000.0, 0.0)), 90.0))
    air.add(rx.chip)
    for end in (tx, rx):
        end.setup()
    rx.write(reg.OP_MODE, 0x85)
    for t_s in (0, 10, 100):
        kernel.run_until(max(kernel.now_ns, t_s * S))
        tx.load(b"x")
        tx.write(reg.OP_MODE, 0x83)
        kernel.run_until(kernel.now_ns + S)
        expected = 14 - OULU.loss_db(100 + 90 * air.records.frames[-1].start_ns / S)
        assert air.records.frames[-1].receptions["rx"].rssi_dbm == pytest.approx(expected)


# -- rules ------------------------------------------------------------------------------------------------


def test_by_the_energy_rule_a_short_overlap_needs_more_power(kernel, make_bench):
    """10 ms of 113: an interferer as strong as the frame brings a tenth of its energy, 10 dB below it."""
    rules = Interference(payload_rule=PayloadRule.ENERGY)
    field = Field(kernel, make_bench, replace(CALM, interference=rules))
    field.sender("a", -90.0)
    field.sender("equal", -90.0)
    field.sender("loud", -78.0)
    field.listen()
    ends_ns = airtime_us(LoRaModulation(7, 125_000), 60) * US
    for name, fate in (("equal", Fate.RECEIVED), ("loud", Fate.CRC_ERROR)):
        field.send("a", length=60)
        field.send(name, after_ns=ends_ns - 10 * MS)
        field.kernel.run_until(field.kernel.now_ns + S)
        assert [f.fate("rx0") for f in field.air.records.frames if f.sender == "a"][-1] is fate


def test_whoever_watches_is_told_when_receivers_and_noise_were_on(field):
    spans, bursts = [], []
    field.air.records.listening_observers.append(spans.append)
    field.air.records.noise_observers.append(bursts.append)
    field.listen()
    began = field.kernel.now_ns - MS + 100 * US
    field.air.make_noise(jammer(), 5 * MS, 868_100_000, 125_000, 0.0)
    field.kernel.run_until(field.kernel.now_ns + 10 * MS)
    assert [span.end_ns for span in field.air.listening_spans()] == [field.kernel.now_ns]
    field.rx[0].write(reg.OP_MODE, 0x81)
    (span,), (burst,) = spans, bursts
    assert (span.receiver, span.start_ns, span.end_ns) == ("rx0", began, field.kernel.now_ns)
    assert (burst.source, burst.end_ns - burst.start_ns) == ("jammer", 5 * MS)
    assert field.air.listening_spans() == []


def test_a_receiver_that_comes_later_was_not_deaf_before(kernel, make_bench):
    field = Field(kernel, make_bench)
    field.sender("a", -90.0)
    field.send("a")
    field.fates()
    late = make_bench("late")
    field.air.add(late.chip)
    field.send("a")
    field.fates()
    assert field.air.records.counters["late"] == {Fate.DEAF: 1}
    assert field.air.records.counters["a"] == {}

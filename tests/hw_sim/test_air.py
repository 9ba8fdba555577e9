"""The air: who hears whom, who drowns whom, and the books kept of it."""

import math
import random
from collections import Counter

import pytest

from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.errors import KernelError
from hw_sim.interference import ALOHA, CROCE, GOURSAUD, LORASIM, Interference, channels_overlap
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.phy import Waveform
from hw_sim.propagation import BOR, NS3, OULU, PathLoss, noise_floor_dbm
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


def test_decoding_near_the_floor_is_a_logistic_curve(kernel, make_bench):
    field = Field(kernel, make_bench, AirSettings(fading_db=0.0, decode_width_db=0.5))
    field.listen()
    # p = 1 / (1 + exp(-margin / width))
    for margin_db, expected in ((-1.0, 0.119), (0.0, 0.5), (1.0, 0.881)):
        name = f"at {margin_db}"
        field.sender(name, noise_floor_dbm(125_000) - 7.5 + margin_db)
        for _ in range(300):
            field.send(name, length=4)
            kernel.run_until(kernel.now_ns + 100 * MS)
        counter = Counter(f.fate("rx0") for f in field.air.records.frames if f.sender == name)
        assert counter[Fate.RECEIVED] / 300 == pytest.approx(expected, abs=0.08)
        assert counter[Fate.CRC_ERROR] > 0 or margin_db > 0


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


# Closed form: a frame survives if no other starts within its vulnerable time. Both overlaps count (2 T), less the three
# first upchirps, of which a receiver needs none, and the symbol of payload it tolerates.
@pytest.mark.parametrize("load", [0.2, 0.5, 1.0])
def test_pure_aloha_throughput_follows_the_closed_form(load):
    kernel = Kernel(seed=11)
    interference = Interference(matrix=ALOHA)
    air = Air(kernel, AirSettings(fading_db=0.0, interference=interference, keep_frames=1))
    gateway = SX1276(kernel, "gateway")
    air.add(gateway)
    gateway.spi(bytes((0x81, 0x80)))
    gateway.spi(bytes((0x81, 0x85)))
    mod = LoRaModulation(7, 125_000)
    wave = Waveform(434_000_000, mod, False, False, True, False, 0x12, 8, 20, 0)
    airtime_ns = wave.airtime_ns()
    nodes = [SX1276(kernel, f"node{i}") for i in range(40)]
    for node in nodes:
        air.add(node, 100.0)
    rng = random.Random(7)
    busy_until = {node.name: 0 for node in nodes}
    frames = 6000
    at_ns = MS
    for _ in range(frames):
        at_ns += round(rng.expovariate(load / airtime_ns))
        free = [node for node in nodes if busy_until[node.name] < at_ns]
        node = rng.choice(free)
        busy_until[node.name] = at_ns + airtime_ns
        kernel.at(at_ns, lambda node=node: air.transmit(node, wave, bytes(20), 14.0))
    kernel.run_until(at_ns + S)
    counter = air.records.counters["gateway"]
    vulnerable_ns = 2 * airtime_ns - 4 * mod.symbol_ns
    expected = math.exp(-load * vulnerable_ns / airtime_ns)
    assert counter[Fate.RECEIVED] / frames == pytest.approx(expected, rel=0.05)
    assert sum(counter.values()) == frames

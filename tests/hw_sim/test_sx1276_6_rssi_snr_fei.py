"""Section 6 of the SX127x notes: signal strength, signal-to-noise ratio, frequency error."""

import pytest

from hw_sim import registers as reg
from hw_sim import settings
from hw_sim.propagation import OULU
from hw_sim.records import Fate

MS, S = 1_000_000, 1_000_000_000
FLOORS = {6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


def distance_for_snr(snr_db: float) -> float:
    """Where 14 dBm arrive with this SNR at 125 kHz (noise -117 dBm)."""
    loss_db = 14 - (snr_db - 117.03)
    return 1000 * 10 ** ((loss_db - OULU.reference_db) / OULU.slope_db)


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


@pytest.mark.parametrize(("freq_hz", "offset"), [(868_100_000, -157), (434_000_000, -164)], ids=["HF", "LF"])
@pytest.mark.parametrize("snr_db", [8.0, 3.0, -3.0, -6.0])
def test_packet_rssi_and_snr_read_by_the_datasheets_rule(make_link, freq_hz, offset, snr_db):
    link = make_link(distance_for_snr(snr_db))
    link.setup(freq_hz=freq_hz)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    snr = signed(link.rx.read(reg.PKT_SNR)) / 4
    code = link.rx.read(reg.PKT_RSSI)
    rssi = offset + 16 / 15 * code if snr >= 0 else offset + code + snr
    assert snr == pytest.approx(snr_db, abs=0.2)
    assert rssi == pytest.approx(snr_db - 117, abs=1.0)


def test_a_negative_snr_is_stored_as_twos_complement_quarters(make_link):
    link = make_link(distance_for_snr(-5.0))
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.read(reg.PKT_SNR) == pytest.approx(256 - 20, abs=1)


def test_the_demodulator_reports_no_more_than_its_ceiling(make_link):
    link = make_link(10.0)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert signed(link.rx.read(reg.PKT_SNR)) / 4 == 12


@pytest.mark.parametrize(("freq_hz", "offset"), [(868_100_000, -157), (434_000_000, -164)], ids=["HF", "LF"])
def test_live_rssi_is_noise_on_a_quiet_channel_and_the_signal_while_one_is_there(make_link, freq_hz, offset):
    link = make_link(1000.0)
    link.setup(freq_hz=freq_hz)
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(MS)
    quiet = {link.rx.read(reg.RSSI) + offset for _ in range(20)}
    assert len(quiet) > 1
    assert all(-122 <= level <= -112 for level in quiet)
    link.tx.load(bytes(50))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(50 * MS)
    assert link.rx.read(reg.RSSI) + offset == pytest.approx(14 - 128.95, abs=3)


@pytest.mark.parametrize(("sf", "floor_db"), FLOORS.items())
@pytest.mark.parametrize(
    ("above_db", "fate"), [(0.5, Fate.RECEIVED), (-0.5, Fate.CRC_ERROR), (-2.0, Fate.BELOW_SENSITIVITY)]
)
def test_required_snr_by_spreading_factor(make_link, sf, floor_db, above_db, fate):
    link = make_link(distance_for_snr(floor_db + above_db))
    for end in (link.tx, link.rx):
        end.setup(sf=sf)
        if sf == 6:
            end.write(reg.MODEM_CONFIG1, 0x73)
            end.write(reg.DETECT_OPTIMIZE, 0x45)
            end.write(reg.DETECTION_THRESHOLD, 0x0C)
    link.rx.write(reg.PAYLOAD_LENGTH, 5)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate


@pytest.mark.parametrize("bw", [7, 8, 9], ids=["125k", "250k", "500k"])
@pytest.mark.parametrize("ppm", [0.0, 12.0, -12.0])
def test_fei_reads_the_senders_frequency_error(kernel, make_bench, make_link, bw, ppm):
    link = make_link()
    link.tx.chip.crystal_ppm = ppm
    link.setup(bw=bw)
    if bw == 9:
        for end in (link.tx, link.rx):
            end.write(reg.HIGH_BW_OPTIMIZE1, 0x02)
            end.write(reg.HIGH_BW_OPTIMIZE2, 0x64)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    code = int.from_bytes(link.rx.burst(reg.FEI, 3), "big")
    code -= (code & 0x80000) << 1
    bw_khz = {7: 125, 8: 250, 9: 500}[bw]
    assert code * 2**24 / 32e6 * bw_khz / 500 == pytest.approx(868.1 * ppm, abs=1)


@pytest.mark.parametrize(("error_hz", "fate"), [(31_000, Fate.RECEIVED), (32_000, Fate.NOT_MATCHED)])
def test_a_receiver_follows_a_quarter_of_the_bandwidth(link, error_hz, fate):
    link.tx.setup(freq_hz=868_100_000 + error_hz)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate


def test_modem_status_follows_a_reception_and_keeps_the_coding_rate_of_the_last_header(link):
    link.tx.write(reg.MODEM_CONFIG1, 0x76)  # 4/7
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(50))
    link.tx.write(reg.OP_MODE, 0x83)
    assert link.rx.read(reg.MODEM_STAT) == 0x10
    link.run(10 * MS)
    assert link.rx.read(reg.MODEM_STAT) == 0x07
    link.run(20 * MS)
    assert link.rx.read(reg.MODEM_STAT) == 3 << 5 | 0x0F
    link.run(S)
    assert link.rx.read(reg.MODEM_STAT) == 3 << 5 | 0x10


@pytest.mark.parametrize(
    ("freq_hz", "offset"),
    [
        (434_000_000, -164),
        (524_999_999, -164),
        (525_000_000, -157),
        (863_000_000, -157),  # an offset chosen by 868.0 MHz would be wrong here
        (867_900_000, -157),
        (915_000_000, -157),
    ],
)
def test_the_port_and_so_the_offset_follow_the_frequency(freq_hz, offset):
    assert settings.rssi_offset_dbm(freq_hz) == offset


# The datasheet's formula backwards, by hand: Hz * 32e6 / 2^24 * 500 / BW[kHz].
@pytest.mark.parametrize(
    ("error_hz", "bw_hz", "code"),
    [
        (0, 125_000, 0),
        (1000, 125_000, 7629),
        (-1000, 125_000, 0x100000 - 7629),
        (-1000, 500_000, 0x100000 - 1907),
        (300_000, 7_800, 0x7FFFF),
        (-300_000, 7_800, 0x80000),
    ],
)
def test_fei_is_a_20_bit_twos_complement_number_positive_for_a_sender_above(error_hz, bw_hz, code):
    assert settings.fei_code(error_hz, bw_hz) == code


def test_live_rssi_reads_zero_while_nothing_listens(bench):
    bench.setup()
    assert bench.read(reg.RSSI) == 0

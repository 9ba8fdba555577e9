"""Section 7 of the SX127x notes: settings that bite."""

import pytest

from hw_sim import registers as reg
from hw_sim.errors import Misuse, Rule
from hw_sim.records import Fate

S = 1_000_000_000


@pytest.mark.parametrize(
    ("tx_iq", "rx_iq", "fate"),
    [
        pytest.param(0x27, 0x27, Fate.RECEIVED, id="uplink: both normal"),
        pytest.param(0x26, 0x67, Fate.RECEIVED, id="downlink 0x26, LoRaMac-node receives with 0x67"),
        pytest.param(0x66, 0x66, Fate.RECEIVED, id="downlink 0x66, RadioLib receives with 0x66"),
        pytest.param(0x26, 0x66, Fate.RECEIVED, id="RX looks at bit 6 only"),
        pytest.param(0x67, 0x67, Fate.NOT_MATCHED, id="0x67 leaves TX normal"),
        pytest.param(0x67, 0x27, Fate.RECEIVED, id="0x67 sends like 0x27"),
        pytest.param(0x27, 0x67, Fate.NOT_MATCHED, id="gateway beacon is not heard inverted"),
        pytest.param(0x26, 0x27, Fate.NOT_MATCHED, id="a downlink is not heard by gateways"),
        pytest.param(0x27, 0x26, Fate.RECEIVED, id="RX ignores bit 0"),
    ],
)
def test_iq_inversion(link, tx_iq, rx_iq, fate):
    link.tx.write(reg.INVERT_IQ, tx_iq)
    link.rx.write(reg.INVERT_IQ, rx_iq)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate


@pytest.mark.parametrize(
    ("freq_hz", "second", "warned"),
    [
        (868_100_000, 0x64, False),
        (434_000_000, 0x7F, False),
        (868_100_000, 0x7F, True),
        (434_000_000, 0x64, True),
    ],
)
def test_erratum_2_1_wants_band_dependent_values_at_500_khz(bench, freq_hz, second, warned):
    bench.setup(freq_hz=freq_hz, bw=9)
    bench.write(reg.HIGH_BW_OPTIMIZE1, 0x02)
    bench.write(reg.HIGH_BW_OPTIMIZE2, second)
    bench.write(reg.OP_MODE, 0x85)
    bench.run(S)
    assert bool(bench.chip.warnings["erratum 2.1 unattended"]) is warned


def test_erratum_2_1_unattended_costs_sensitivity_at_500_khz(make_link):
    link = make_link(1100.0)
    link.setup(bw=9)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    plain = link.rx.read(reg.PKT_SNR)
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.HIGH_BW_OPTIMIZE1, 0x02)
    link.rx.write(reg.HIGH_BW_OPTIMIZE2, 0x64)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert (link.rx.read(reg.PKT_SNR) - plain) & 0xFF == 12  # 3 dB


def test_erratum_2_1_other_bandwidths_want_0x03(bench):
    bench.setup()
    bench.write(reg.HIGH_BW_OPTIMIZE1, 0x02)
    bench.write(reg.OP_MODE, 0x85)
    bench.run(S)
    assert bench.chip.warnings["erratum 2.1 unattended"] == 1


@pytest.mark.parametrize(
    ("bw", "if_freq", "optimize", "warned"),
    [
        pytest.param(0, (0x48, 0x00), 0x43, False, id="7.8 kHz"),
        pytest.param(1, (0x44, 0x00), 0x43, False, id="10.4 kHz"),
        pytest.param(5, (0x44, 0x00), 0x43, False, id="41.7 kHz"),
        pytest.param(6, (0x40, 0x00), 0x43, False, id="62.5 kHz"),
        pytest.param(7, (0x40, 0x00), 0x43, False, id="125 kHz"),
        pytest.param(8, (0x40, 0x00), 0x43, False, id="250 kHz"),
        pytest.param(9, (0x40, 0x00), 0xC3, False, id="500 kHz"),
        pytest.param(7, (0x45, 0x55), 0xC3, True, id="125 kHz as after reset"),
        pytest.param(7, (0x44, 0x00), 0x43, True, id="125 kHz with the narrow band's value"),
        pytest.param(7, (0x40, 0x55), 0x43, True, id="125 kHz with 0x30 as after reset"),
        pytest.param(7, (0x40, 0x00), 0xC3, True, id="125 kHz with automatic IF"),
        pytest.param(9, (0x40, 0x00), 0x43, True, id="500 kHz without automatic IF"),
    ],
)
def test_erratum_2_3_wants_its_intermediate_frequency(bench, bw, if_freq, optimize, warned):
    bench.setup()
    bench.write(reg.MODEM_CONFIG1, bw << 4 | 0x02)
    bench.write(reg.IF_FREQ1, *if_freq)
    bench.write(reg.DETECT_OPTIMIZE, optimize)
    bench.write(reg.OP_MODE, 0x85)
    bench.run(S)
    assert bool(bench.chip.warnings["erratum 2.3 unattended"]) is warned


@pytest.mark.parametrize(("shift_hz", "fate"), [(20_800, Fate.RECEIVED), (0, Fate.NOT_MATCHED)])
def test_erratum_2_3_narrow_receivers_need_their_frequency_shifted_up(link, shift_hz, fate):
    link.tx.setup()
    link.rx.setup(freq_hz=868_100_000 + shift_hz)
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, 0x32)
        end.write(reg.IF_FREQ1, 0x44, 0x00)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate


@pytest.mark.parametrize(("sf", "bit"), [(7, 0x08), (11, 0x00), (12, 0x00)])
def test_a_wrong_low_data_rate_bit_means_no_interoperation(link, sf, bit):
    link.setup(sf=sf)
    link.tx.write(reg.MODEM_CONFIG3, 0x04 | bit)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(wait_ns=10 * S)
    assert link.fate() is Fate.CRC_ERROR


@pytest.mark.parametrize(
    ("sf", "bw", "needed"), [(10, 7, False), (11, 7, True), (12, 7, True), (11, 8, False), (12, 8, True)]
)
def test_low_data_rate_bit_from_16_ms_symbols_up_changes_the_time_on_air(link, sf, bw, needed):
    from radio.lora import LoRaModulation, airtime_us

    link.setup(sf=sf, bw=bw)
    link.tx.write(reg.MODEM_CONFIG3, 0x0C if needed else 0x04)
    link.send(bytes(30), wait_ns=10 * S)
    assert -(-link.last.airtime_ns // 1000) == airtime_us(LoRaModulation(sf, 125_000 << (bw - 7)), 30)


# Section 9: milliseconds on air for 13, 23 and 51 bytes with CRC.
@pytest.mark.parametrize(
    ("sf", "times_ms"),
    [
        (7, (46, 62, 103)),
        (8, (82, 113, 185)),
        (9, (165, 206, 329)),
        (10, (289, 371, 616)),
        (11, (578, 823, 1315)),
        (12, (1155, 1483, 2466)),
    ],
)
def test_time_on_air(link, sf, times_ms):
    link.setup(sf=sf)
    for length, expected in zip((13, 23, 51), times_ms, strict=True):
        link.send(bytes(length))
        assert link.last.airtime_ns / 1e6 == pytest.approx(expected, abs=1)


# Data sheet 4.1.1.7 by hand: 10 bytes at SF7 with CRC are 28 symbols with a header, 23 without, and 12.25 before.
@pytest.mark.parametrize(("implicit", "symbols"), [(False, 40.25), (True, 35.25)])
def test_a_frame_without_header_is_shorter_by_it(link, implicit, symbols):
    link.setup()
    link.tx.write(reg.MODEM_CONFIG1, 0x72 | implicit)
    link.send(bytes(10))
    assert link.last.airtime_ns == pytest.approx(symbols * 1_024_000, abs=1)


def test_sf6_needs_the_implicit_header(bench):
    bench.setup()
    bench.write(reg.MODEM_CONFIG2, 0x64)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, 0x85)
    assert caught.value.rule is Rule.SF6_EXPLICIT


@pytest.mark.parametrize(
    ("sf", "optimize", "threshold", "fate"),
    [
        (6, 0x45, 0x0C, Fate.RECEIVED),
        (6, 0x43, 0x0C, Fate.NOT_MATCHED),
        (6, 0x45, 0x0A, Fate.NOT_MATCHED),
        (7, 0x43, 0x0A, Fate.RECEIVED),
        (7, 0x45, 0x0A, Fate.NOT_MATCHED),
        (7, 0x43, 0x0C, Fate.NOT_MATCHED),
    ],
)
def test_the_detector_must_be_set_for_the_spreading_factor(link, sf, optimize, threshold, fate):
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, 0x73)
        end.write(reg.MODEM_CONFIG2, sf << 4 | 0x04)
        end.write(reg.PAYLOAD_LENGTH, 5)
    link.rx.write(reg.DETECT_OPTIMIZE, optimize)
    link.rx.write(reg.DETECTION_THRESHOLD, threshold)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate


@pytest.mark.parametrize(
    ("pa_config", "pa_dac", "ocp", "power_dbm"),
    [
        pytest.param(0x80, 0x84, 0x2B, 2, id="PA_BOOST least"),
        pytest.param(0xFC, 0x84, 0x2B, 14, id="PA_BOOST 14"),
        pytest.param(0x8F, 0x84, 0x2B, 17, id="PA_BOOST most"),
        pytest.param(0x8F, 0x87, 0x3B, 20, id="+20 dBm with 240 mA"),
        pytest.param(0x8F, 0x87, 0x31, 20, id="+20 dBm with 140 mA"),
        pytest.param(0x8F, 0x87, 0x2B, 17, id="+20 dBm cut by the 100 mA limit"),
        pytest.param(0x8F, 0x85, 0x3B, 17, id="PaDac neither 0x84 nor 0x87"),
        pytest.param(0x8A, 0x87, 0x2B, 15, id="PaDac shifts by 3 dB"),
        pytest.param(0x7F, 0x84, 0x2B, -26, id="RFO is not connected"),
    ],
)
def test_output_power(link, pa_config, pa_dac, ocp, power_dbm):
    link.tx.write(reg.PA_CONFIG, pa_config)
    link.tx.write(reg.PA_DAC, pa_dac)
    link.tx.write(reg.OCP, ocp)
    link.send()
    assert link.last.power_dbm == pytest.approx(power_dbm)


@pytest.mark.parametrize(("pa_config", "power_dbm"), [(0x7F, 14.0), (0x4F, 13.2), (0x70, 0.0)])
def test_output_power_of_a_module_with_rfo_connected(make_link, pa_config, power_dbm):
    link = make_link()
    link.tx.chip.rfo_wired = True
    link.tx.write(reg.PA_CONFIG, pa_config)
    link.send()
    assert link.last.power_dbm == pytest.approx(power_dbm)


@pytest.mark.parametrize(
    ("tx_word", "rx_word", "fate"), [(0x34, 0x34, Fate.RECEIVED), (0x12, 0x34, Fate.NOT_MATCHED)]
)
def test_sync_words_keep_networks_apart_without_a_trace(link, tx_word, rx_word, fate):
    link.tx.write(reg.SYNC_WORD, tx_word)
    link.rx.write(reg.SYNC_WORD, rx_word)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is fate
    assert bool(link.rx.read(reg.IRQ_FLAGS)) is (fate is Fate.RECEIVED)


def test_preamble_is_the_programmed_one_and_4_25_symbols(link):
    times = []
    for symbols in (8, 10):
        link.tx.write(reg.PREAMBLE_MSB, 0, symbols)
        link.send()
        times.append(link.last.airtime_ns)
    assert times[1] - times[0] == 2 * 1_024_000


def test_hopping_and_fixed_frequency_do_not_meet(link):
    link.rx.write(reg.HOP_PERIOD, 0xFF)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.NOT_MATCHED


def test_a_header_longer_than_max_payload_length_is_dropped_without_a_flag(link):
    link.rx.write(reg.MAX_PAYLOAD_LENGTH, 10)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(bytes(11))
    assert link.rx.read(reg.IRQ_FLAGS) == 0
    link.send(bytes(10))
    assert link.rx.read(reg.IRQ_FLAGS) == 0x50


@pytest.mark.parametrize(("length", "fate"), [(5, Fate.RECEIVED), (4, Fate.CRC_ERROR), (6, Fate.CRC_ERROR)])
def test_implicit_header_needs_the_right_length(link, length, fate):
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, 0x73)
    link.rx.write(reg.PAYLOAD_LENGTH, length)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"hello")
    assert link.fate() is fate
    assert link.rx.read(reg.RX_NB_BYTES) == length


@pytest.mark.parametrize(("tx", "rx", "fate"), [(0x73, 0x72, Fate.NOT_MATCHED), (0x72, 0x73, Fate.CRC_ERROR)])
def test_both_ends_must_agree_on_the_header(link, tx, rx, fate):
    link.tx.write(reg.MODEM_CONFIG1, tx)
    link.rx.write(reg.MODEM_CONFIG1, rx)
    link.rx.write(reg.PAYLOAD_LENGTH, 5)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"hello")
    assert link.fate() is fate


def test_implicit_header_takes_the_payload_crc_from_the_register(link):
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, 0x73)
        end.write(reg.MODEM_CONFIG2, 0x70)
    link.rx.write(reg.PAYLOAD_LENGTH, 5)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"hello")
    assert link.rx.read(reg.HOP_CHANNEL) & 0x40 == 0
    assert link.rx.fetch() == b"hello"


@pytest.mark.parametrize(
    ("code", "bw_hz", "if_freq"),
    [(0, 7_800, 0x48), (1, 10_400, 0x44), (2, 15_600, 0x44), (4, 31_250, 0x44), (5, 41_700, 0x44)],
)
@pytest.mark.parametrize("shifted", [True, False])
def test_erratum_2_3_shift_is_one_bandwidth_and_for_receiving_only(link, code, bw_hz, if_freq, shifted):
    link.rx.setup(freq_hz=868_100_000 + bw_hz * shifted)
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, code << 4 | 0x02)
        end.write(reg.MODEM_CONFIG3, 0x0C)
        end.write(reg.IF_FREQ1, if_freq, 0x00)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(wait_ns=10 * S)
    assert link.last.freq_hz == pytest.approx(868_100_000, abs=61)
    assert link.fate() is (Fate.RECEIVED if shifted else Fate.NOT_MATCHED)


@pytest.mark.parametrize("if_freq", [(0x40, 0x00), (0x00, 0x44)], ids=["other value", "in 0x30 instead"])
def test_erratum_2_3_shift_hangs_on_the_value_in_0x2f(link, if_freq):
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, 0x32)
        end.write(reg.IF_FREQ1, *if_freq)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.RECEIVED


@pytest.mark.parametrize("code", [6, 7, 8], ids=["62.5k", "125k", "250k"])
def test_erratum_2_3_shifts_nothing_from_62_5_khz_up(link, code):
    link.setup()
    for end in (link.tx, link.rx):
        end.write(reg.MODEM_CONFIG1, code << 4 | 0x02)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.RECEIVED


@pytest.mark.parametrize(
    ("mode", "invert", "second", "counted"),
    [
        pytest.param(0x83, 0x27, 0x1D, 0, id="uplink or beacon"),
        pytest.param(0x83, 0x26, 0x19, 0, id="downlink"),
        pytest.param(0x83, 0x66, 0x19, 0, id="downlink 0x66"),
        pytest.param(0x83, 0x26, 0x1D, 1, id="downlink, half done"),
        pytest.param(0x83, 0x27, 0x19, 1, id="uplink, half undone"),
        pytest.param(0x85, 0x27, 0x1D, 0, id="gateway listens"),
        pytest.param(0x85, 0x67, 0x19, 0, id="device listens"),
        pytest.param(0x85, 0x67, 0x1D, 1, id="device listens, half done"),
    ],
)
def test_the_second_inversion_register_goes_with_the_first(bench, mode, invert, second, counted):
    bench.setup()
    bench.write(reg.INVERT_IQ, invert)
    bench.write(reg.INVERT_IQ2, second)
    bench.load(b"x")
    bench.write(reg.OP_MODE, mode)
    assert bench.chip.warnings["InvertIQ2 does not fit InvertIQ"] == counted


def test_a_header_too_long_counts_as_none_and_ends_rxsingle_in_rx_timeout(link):
    link.rx.write(reg.MAX_PAYLOAD_LENGTH, 10)
    link.rx.write(reg.OP_MODE, 0x86)
    link.send(bytes(11))
    assert link.rx.read(reg.IRQ_FLAGS) == 0x80
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(bytes(11))
    assert link.rx.burst(reg.VALID_HEADER_CNT, 4) == bytes(4)


def test_two_ends_that_hop_alike_meet(link):
    for end in (link.tx, link.rx):
        end.write(reg.HOP_PERIOD, 10)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.RECEIVED


def test_a_frequency_written_during_cad_counts_from_the_next_start_on(link):
    link.tx.load(b"x")
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(2_000_000)
    link.rx.write(reg.OP_MODE, 0x87)
    link.rx.write(reg.FRF_MSB, 0x6C, 0x80, 0x00)
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == 0x05

"""Time on air against the published formula's figures, and the GWMP spellings."""

import pytest

from radio.lora import REQUIRED_SNR_DB, LoRaModulation, airtime_us, rx_done_latency_ns

# Frames of 13, 23 and 51 bytes with CRC, 8 symbols of preamble, 125 kHz: milliseconds by the calculator.
AIRTIME_MS = {
    7: (46, 62, 103),
    8: (82, 113, 185),
    9: (165, 206, 329),
    10: (289, 371, 616),
    11: (578, 823, 1315),
    12: (1155, 1483, 2466),
}


@pytest.mark.parametrize("sf", AIRTIME_MS)
def test_airtime_matches_the_calculator(sf: int) -> None:
    mod = LoRaModulation(sf, 125_000)
    assert tuple(round(airtime_us(mod, n) / 1000) for n in (13, 23, 51)) == AIRTIME_MS[sf]


def test_airtime_counts_crc_header_and_preamble() -> None:
    mod = LoRaModulation(7, 125_000)
    assert airtime_us(mod, 51) == 102_656
    assert airtime_us(mod, 12, crc=False) == 41_216
    # Class B beacon: SF9, 17 bytes, implicit header, no CRC, 10 symbols of preamble.
    beacon = LoRaModulation(9, 125_000)
    assert airtime_us(beacon, 17, preamble=10, crc=False, implicit_header=True) == 152_576


def test_wider_bands_are_faster_in_proportion() -> None:
    assert airtime_us(LoRaModulation(10, 500_000), 20) * 4 == airtime_us(LoRaModulation(10, 125_000), 20)


@pytest.mark.parametrize(
    ("sf", "bw_hz", "needed"),
    [(10, 125_000, False), (11, 125_000, True), (12, 125_000, True), (11, 250_000, False),
     (12, 250_000, True), (12, 500_000, False)],
)  # fmt: skip
def test_low_data_rate_optimize_from_16_ms_symbols(sf: int, bw_hz: int, needed: bool) -> None:
    assert LoRaModulation(sf, bw_hz).low_data_rate_optimize is needed


def test_symbol_durations() -> None:
    assert LoRaModulation(7, 125_000).symbol_ns == 1_024_000
    assert LoRaModulation(12, 125_000).symbol_ns == 32_768_000
    assert LoRaModulation(7, 7_800).symbol_ns == 16_384_000


@pytest.mark.parametrize(
    ("datr", "codr", "mod"),
    [
        ("SF7BW125", "4/5", LoRaModulation(7, 125_000, 1)),
        ("SF12BW500", "4/8", LoRaModulation(12, 500_000, 4)),
        ("SF9BW62.5", "4/6", LoRaModulation(9, 62_500, 2)),
        ("SF8BW41.7", "4/7", LoRaModulation(8, 41_700, 3)),
    ],
)
def test_data_rate_spelling_runs_both_ways(datr: str, codr: str, mod: LoRaModulation) -> None:
    assert LoRaModulation.parse(datr, codr) == mod
    assert (mod.datr, mod.codr) == (datr, codr)


@pytest.mark.parametrize(
    ("datr", "codr"),
    [("SF5BW125", "4/5"), ("SF13BW125", "4/5"), ("SF7BW126", "4/5"), ("", "4/5"), ("SF7BW125 ", "4/5"),
     ("SF7BW125", "OFF"), ("SF7BW125", "4/9"), ("50000", "4/5"), ("SF\u0667BW125", "4/5")],
)  # fmt: skip
def test_unknown_spellings_raise_value_error(datr: str, codr: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        LoRaModulation.parse(datr, codr)


def test_rx_done_latency_scales_with_bandwidth() -> None:
    assert rx_done_latency_ns(7, 125_000) == 0
    assert rx_done_latency_ns(12, 125_000) == 31_189_000
    assert rx_done_latency_ns(10, 500_000) == 7_049_000 // 4
    assert rx_done_latency_ns(8, 62_500) == 2 * 1_648_000


def test_required_snr_falls_by_two_and_a_half_a_step() -> None:
    assert REQUIRED_SNR_DB[7] == -7.5
    assert all(REQUIRED_SNR_DB[sf] - REQUIRED_SNR_DB[sf + 1] == 2.5 for sf in range(6, 12))

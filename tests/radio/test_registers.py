"""Register contents against the datasheet and the sequences of well-known stacks."""

import pytest

from radio.lora import LoRaModulation
from radio.sx127x import registers as r
from radio.sx127x.registers import Power, Settings

SF7 = LoRaModulation(7, 125_000)


@pytest.mark.parametrize(
    ("freq_hz", "word"),
    [(868_100_000, 0xD90666), (434_000_000, 0x6C8000), (915_000_000, 0xE4C000), (869_525_000, 0xD9619A)],
)
def test_frequency_words(freq_hz: int, word: int) -> None:
    assert r.frf(freq_hz) == word


def test_gateway_receives_normal_iq_with_the_public_sync_word() -> None:
    values = r.for_receive(Settings(868_100_000, SF7))
    expected = {
        0x06: 0xD9, 0x07: 0x06, 0x08: 0x66, 0x1D: 0x72, 0x1E: 0x74, 0x1F: 0x64, 0x20: 0, 0x21: 8, 0x23: 0xFF,
        0x24: 0, 0x26: 0x04, 0x31: 0x43, 0x33: 0x27, 0x36: 0x03, 0x37: 0x0A, 0x39: 0x34, 0x3B: 0x1D,
        0x2F: 0x40, 0x30: 0x00, 0x0E: 0, 0x0F: 0,
    }  # fmt: skip
    assert {k: values[k] for k in expected} == expected


def test_device_receives_inverted_iq() -> None:
    values = r.for_receive(Settings(868_100_000, SF7, iq_inverted=True, crc=False))
    assert (values[0x33], values[0x3B], values[0x1E]) == (0x67, 0x19, 0x70)


def test_downlink_is_inverted_by_a_cleared_bit_0_and_carries_no_crc() -> None:
    values = r.for_transmit(Settings(868_100_000, SF7, iq_inverted=True, crc=False), Power(14), 12)
    assert (values[0x33], values[0x3B], values[0x1E], values[0x22]) == (0x26, 0x19, 0x70, 12)


def test_uplink_and_beacon_are_sent_with_normal_iq() -> None:
    values = r.for_transmit(Settings(868_100_000, SF7), Power(14), 12)
    assert (values[0x33], values[0x3B]) == (0x27, 0x1D)


@pytest.mark.parametrize(
    ("sf", "bw_hz", "config_1", "config_2", "config_3"),
    [
        (7, 125_000, 0x72, 0x74, 0x04),
        (10, 125_000, 0x72, 0xA4, 0x04),
        (11, 125_000, 0x72, 0xB4, 0x0C),
        (12, 125_000, 0x72, 0xC4, 0x0C),
        (12, 250_000, 0x82, 0xC4, 0x0C),
        (12, 500_000, 0x92, 0xC4, 0x04),
    ],
)
def test_modem_configuration(sf: int, bw_hz: int, config_1: int, config_2: int, config_3: int) -> None:
    values = r.for_receive(Settings(868_100_000, LoRaModulation(sf, bw_hz)))
    assert (values[0x1D], values[0x1E], values[0x26]) == (config_1, config_2, config_3)


def test_coding_rate_and_implicit_header() -> None:
    values = r.for_receive(
        Settings(868_100_000, LoRaModulation(6, 125_000, 4), implicit_header=True, payload_length=17)
    )
    assert (values[0x1D], values[0x1E], values[0x22]) == (0x79, 0x64, 17)
    assert (values[0x31], values[0x37]) == (0x45, 0x0C)


@pytest.mark.parametrize(
    ("freq_hz", "bw_hz", "contents", "shift_hz"),
    [
        (868_100_000, 500_000, {0x36: 0x02, 0x3A: 0x64, 0x31: 0xC0}, 0),
        (434_000_000, 500_000, {0x36: 0x02, 0x3A: 0x7F, 0x31: 0xC0}, 0),
        (868_100_000, 125_000, {0x36: 0x03, 0x31: 0x40, 0x2F: 0x40, 0x30: 0x00}, 0),
        (868_100_000, 41_700, {0x36: 0x03, 0x31: 0x40, 0x2F: 0x44, 0x30: 0x00}, 41_700),
        (868_100_000, 7_800, {0x36: 0x03, 0x31: 0x40, 0x2F: 0x48, 0x30: 0x00}, 7_800),
    ],
)
def test_errata_2_1_and_2_3(freq_hz: int, bw_hz: int, contents: dict[int, int], shift_hz: int) -> None:
    assert r.errata(freq_hz, bw_hz) == (contents, shift_hz)


def test_errata_shift_is_for_receiving_only() -> None:
    settings = Settings(868_100_000, LoRaModulation(9, 20_800))
    sent = r.for_transmit(settings, Power(14), 1)
    heard = r.for_receive(settings)
    assert sent[0x06] << 16 | sent[0x07] << 8 | sent[0x08] == r.frf(868_100_000)
    assert heard[0x06] << 16 | heard[0x07] << 8 | heard[0x08] == r.frf(868_120_800)


@pytest.mark.parametrize(
    ("dbm", "pa_boost", "pa_config", "ocp", "pa_dac"),
    [
        (2, True, 0xF0, 0x2B, 0x84),
        (14, True, 0xFC, 0x2B, 0x84),
        (17, True, 0xFF, 0x2B, 0x84),
        (18, True, 0xFD, 0x3B, 0x87),
        (20, True, 0xFF, 0x3B, 0x87),
        (14, False, 0x7E, 0x2B, 0x84),
        (0, False, 0x70, 0x2B, 0x84),
        (-4, False, 0x00, 0x2B, 0x84),
    ],
)
def test_power_amplifier(dbm: int, pa_boost: bool, pa_config: int, ocp: int, pa_dac: int) -> None:
    values = r.power_amplifier(Power(dbm, pa_boost))
    assert (values[0x09], values[0x0B], values[0x4D], values[0x0A]) == (pa_config, ocp, pa_dac, 0x09)


@pytest.mark.parametrize(("raw", "snr_db"), [(0x26, 9.5), (0, 0.0), (0xFF, -0.25), (0xD8, -10.0)])
def test_snr_is_signed(raw: int, snr_db: float) -> None:
    assert r.packet_snr_db(raw) == snr_db


@pytest.mark.parametrize(
    ("raw", "snr_db", "freq_hz", "dbm"),
    [(60, 9.5, 868_100_000, -93), (30, -10.0, 868_100_000, -137), (60, 0.0, 434_000_000, -100),
     (60, 5, 862_500_000, -93)],
)  # fmt: skip
def test_rssi_by_port_and_below_the_noise(raw: int, snr_db: float, freq_hz: int, dbm: int) -> None:
    assert r.packet_rssi_dbm(raw, snr_db, freq_hz) == dbm


def test_frequency_error_is_twenty_bits_signed() -> None:
    # Fei * 2^24 / 32 MHz * BW / 500 kHz (datasheet 4.1.5)
    assert r.frequency_error_hz(bytes((0x00, 0x1D, 0xCD)), 125_000) == 1000
    assert r.frequency_error_hz(bytes((0x0F, 0xE2, 0x33)), 125_000) == -1000


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings(100_000_000, SF7),
        lambda: Settings(868_100_000, LoRaModulation(6, 125_000)),
        lambda: Settings(868_100_000, SF7, sync_word=256),
        lambda: Settings(868_100_000, SF7, preamble=5),
        lambda: Settings(868_100_000, SF7, symbol_timeout=3),
        lambda: Settings(868_100_000, SF7, payload_length=0),
        lambda: Power(21),
        lambda: Power(15, pa_boost=False),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"not|outside|only"):
        make()

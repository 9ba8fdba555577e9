"""Regional parameters against the figures of RP002."""

from pathlib import Path

import pytest

from radio.lora import LoRaModulation
from radio.regions import get_region, profile_names, region_names

EU = get_region("EU868")
US = get_region("US915")


def test_eu868_channels_windows_and_power() -> None:
    assert EU.uplink_channels() == (868_100_000, 868_300_000, 868_500_000)
    assert EU.rx2 == (869_525_000, 0)
    assert (EU.fixed_plan, EU.cflist_type, EU.adr_max_dr) == (False, 0, 5)
    assert [EU.tx_power_dbm(i) for i in range(EU.max_tx_power_index + 1)] == [16, 14, 12, 10, 8, 6, 4, 2]


@pytest.mark.parametrize(
    ("dr", "sf", "bw_hz", "size"),
    [
        (0, 12, 125_000, 51),
        (2, 10, 125_000, 51),
        (3, 9, 125_000, 115),
        (5, 7, 125_000, 242),
        (6, 7, 250_000, 242),
    ],
)
def test_eu868_data_rates(dr: int, sf: int, bw_hz: int, size: int) -> None:
    assert EU.data_rates[dr] == LoRaModulation(sf, bw_hz)
    assert EU.dr_of(LoRaModulation(sf, bw_hz, 3)) == dr
    assert EU.max_payload(dr) == size


def test_fsk_is_a_data_rate_without_a_lora_modulation() -> None:
    assert EU.data_rates[7] is None
    assert EU.dr_of(LoRaModulation(12, 500_000)) is None


@pytest.mark.parametrize(("dr", "offset", "rx1_dr"), [(5, 0, 5), (5, 5, 0), (0, 3, 0), (3, 2, 1)])
def test_eu868_rx1_keeps_the_frequency_and_steps_down(dr: int, offset: int, rx1_dr: int) -> None:
    assert EU.rx1(867_100_000, dr, offset) == (867_100_000, rx1_dr)


@pytest.mark.parametrize(
    ("freq_hz", "dr", "offset", "expected"),
    [
        (902_300_000, 0, 0, (923_300_000, 10)),
        (902_500_000, 3, 0, (923_900_000, 13)),
        (914_900_000, 1, 3, (927_500_000, 8)),  # channel 63
        (903_000_000, 4, 0, (923_300_000, 13)),  # channel 64
        (914_200_000, 4, 1, (927_500_000, 13)),  # channel 71
    ],
)
def test_us915_rx1_uses_the_channel_index_modulo_eight(
    freq_hz: int, dr: int, offset: int, expected: tuple[int, int]
) -> None:
    assert US.rx1(freq_hz, dr, offset) == expected


def test_us915_plan() -> None:
    assert len(US.uplink_channels()) == 72
    assert US.rx2 == (923_300_000, 8)
    assert (US.fixed_plan, US.cflist_type, US.adr_max_dr) == (True, 1, 3)
    assert US.data_rates[8] == LoRaModulation(12, 500_000)
    assert US.dr_of(LoRaModulation(8, 500_000)) == 4  # the uplink's number, not DR12 of the downlink
    assert [US.max_payload(dr) for dr in (0, 1, 2, 3, 8)] == [11, 53, 125, 242, 53]
    assert US.tx_power_dbm(10) == 10


@pytest.mark.parametrize("freq_hz", [902_400_000, 868_100_000])
def test_us915_rx1_of_a_foreign_frequency_is_an_error(freq_hz: int) -> None:
    with pytest.raises(ValueError, match="no uplink channel"):
        US.rx1(freq_hz, 0)


def test_unknown_numbers_raise_value_error() -> None:
    with pytest.raises(ValueError, match="RX1DROffset 6"):
        EU.rx1(868_100_000, 5, 6)
    with pytest.raises(ValueError, match="DR14"):
        EU.rx1(868_100_000, 14)
    with pytest.raises(ValueError, match="DR14"):
        EU.max_payload(14)
    with pytest.raises(ValueError, match="TXPower 8"):
        EU.tx_power_dbm(8)
    with pytest.raises(ValueError, match="'XX1'"):
        get_region("XX1")


@pytest.mark.parametrize(
    ("freq_hz", "duty"),
    [(868_100_000, 0.01), (868_500_000, 0.01), (867_900_000, 0.01), (869_525_000, 0.1), (868_900_000, 0.001),
     (868_650_000, None), (869_300_000, None), (862_900_000, None), (868_580_000, None)],
)  # fmt: skip
def test_eu868_sub_bands(freq_hz: int, duty: float | None) -> None:
    band = EU.sub_band_for(freq_hz, 125_000)
    assert (band.duty if band else None) == duty


def test_us915_gateway_sends_on_downlink_channels_only() -> None:
    assert US.sub_band_for(923_300_000, 500_000) is not None
    assert US.sub_band_for(923_400_000, 500_000) is None
    assert US.sub_band_for(902_300_000, 125_000) is None


@pytest.mark.parametrize("name", region_names())
def test_every_region_is_consistent(name: str) -> None:
    region = get_region(name)
    freq_hz, dr = region.rx2
    assert region.downlink_data_rates[dr]
    assert region.sub_band_for(freq_hz, region.downlink_data_rates[dr].bw_hz) is not None
    for uplink_dr, mod in region.uplink_data_rates.items():
        assert region.dr_of(mod) == uplink_dr
        assert region.max_payload(uplink_dr) > 0
        _, rx1_dr = region.rx1(region.uplink_channels()[0], uplink_dr)
        assert rx1_dr in region.data_rates
    assert region.adr_max_dr in region.uplink_data_rates


def test_the_documentation_lists_every_region_with_its_limits() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/regions.md").read_text("utf-8")
    rows = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if "|" in line
    }
    for name in region_names():
        region = get_region(name)
        (about,) = (row for row in rows if row[0] == name and len(row) == 8)
        assert about[3] == f"{region.rx2[0] / 1e6:.10g} DR{region.rx2[1]}"
        assert about[4] == f"{region.max_eirp_dbm:g} dBm, {len(region.tx_power_offset_db)}"
        if not region.fixed_plan:
            assert about[1] == " ".join(f"{hz / 1e6:.10g}" for hz in region.uplink_channels())
        for band in region.sub_bands:
            duty = "none" if band.duty == 1 else f"{band.duty:.1%}"
            sources = "one" if "sub_bands" in region.unverified else "two"
            assert (name, str(band), duty, f"{band.max_eirp_dbm:g} dBm", sources) in rows
    for profile in profile_names():
        assert f"| `{profile}` |" in page

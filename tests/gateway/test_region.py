"""The region that the configuration names, for radio and network server alike, and what `config check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import config as configuration
from gateway.cli import app
from gateway.radio_process import RadioFailed, radio_config
from gateway.region import region_of
from gateway.settings import Config

EUI = '[gateway]\neui = "02f10f6a7e000001"\n'


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "fluxgate.toml"
    path.write_text(text)
    return configuration.load(path)


def check(tmp_path: Path, text: str) -> tuple[int, str, str]:
    path = tmp_path / "fluxgate.toml"
    path.write_text(text)
    answer = CliRunner().invoke(app, ["config", "check", "--config", str(path)])
    return answer.exit_code, answer.stdout, answer.stderr


def test_national_limits_hold_for_radio_and_network_server(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f'{EUI}region = "IN865"\n'
        "[radio]\ncable_loss_db = 1.5\nlimit_dwell = true\n"
        "[[radio.module]]\nfreq_hz = 865_062_500\n"
        "[[radio.sub_band]]\nmin_hz = 865_000_000\nmax_hz = 867_000_000\nmax_eirp_dbm = 30.0\n",
    )
    region, radio = region_of(config), radio_config(config)
    assert radio.region_data == region
    band = region.sub_band_for(866_550_000, 125_000)
    assert band is not None
    assert (band.max_eirp_dbm, band.duty) == (30.0, 1.0)
    assert (radio.cable_loss_db, radio.limit_dwell) == (1.5, True)
    assert "sub_band" in configuration.show(config)


def test_a_profile_chooses_among_sources_that_disagree(tmp_path: Path) -> None:
    config = load(tmp_path, f'{EUI}region = "IN865"\nregion_profile = "rp002-1.0.5"\n')
    assert region_of(config).max_tx_power_index == 14
    assert region_of(load(tmp_path, f'{EUI}region = "IN865"\n')).max_tx_power_index == 10
    with pytest.raises(ValueError, match="region profile 'mine' is not one of"):
        region_of(load(tmp_path, f'{EUI}region_profile = "mine"\n'))


def test_check_says_what_does_not_fit_the_region_and_how_to_mend_it(tmp_path: Path) -> None:
    code, _, said = check(tmp_path, f'{EUI}region = "US915"\n[[radio.module]]\nfreq_hz = 868_100_000\n')
    assert code == 1
    assert (
        "fluxgate: [radio]: module dragino-hat/0 listens at 868.1 MHz, where no device of US915 sends" in said
    )
    assert "[gateway] region to EU868" in said


def test_check_notes_what_is_doubtful_and_is_content(tmp_path: Path) -> None:
    code, out, _ = check(tmp_path, f'{EUI}region = "KR920"\n[[radio.module]]\nfreq_hz = 922_100_000\n')
    assert code == 0
    assert "note: KR920 asks to listen before each downlink" in out
    assert out.endswith("the configuration is valid\n")


def test_check_of_a_gateway_without_modules_looks_at_its_region(tmp_path: Path) -> None:
    assert check(tmp_path, EUI)[0] == 0
    code, _, said = check(tmp_path, f'{EUI}region = "MARS1"\n')
    assert code == 1
    assert "region 'MARS1' is not one of EU868" in said


def test_a_sub_band_that_cannot_be_is_refused(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"{EUI}[[radio.module]]\n"
        "[[radio.sub_band]]\nmin_hz = 869_000_000\nmax_hz = 868_000_000\nmax_eirp_dbm = 14.0\n",
    )
    with pytest.raises(RadioFailed, match="its lower end must lie below"):
        radio_config(config)

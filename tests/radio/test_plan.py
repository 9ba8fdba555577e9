"""Settings that cannot work in their region are refused with a remedy; doubtful ones are said."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from radio.config import ModuleConfig, RadioConfig, Role
from radio.plan import PlannedModule, doubts, problems
from radio.regions import SubBand, get_region, region_names

BOARD = "fluxgate-sim-4"


def module(index: int = 0, freq_hz: int = 868_100_000, role: Role = Role.RXTX, **rest: Any) -> ModuleConfig:
    return ModuleConfig(BOARD, index, freq_hz, role=role, **rest)


def config(*modules: ModuleConfig, **rest: Any) -> RadioConfig:
    return RadioConfig(modules=modules or (module(),), gateway_eui=bytes(8), **rest)


@pytest.mark.parametrize(
    ("region", "one", "rest", "words"),
    [
        pytest.param(
            "EU868", module(freq_hz=915_200_000), {},
            ["listens at 915.2 MHz, where no device of EU868 sends", "868.1, 868.3, 868.5 MHz", "region to AU915"],
            id="another continent's frequency",
        ),
        pytest.param(
            "US915", module(), {},
            ["where no device of US915 sends", "one of its 72 channels, of which 902.3 MHz is the nearest",
             "or [gateway] region to EU868"],
            id="a region that was forgotten",
        ),
        pytest.param(
            "US915", module(freq_hz=902_400_000), {}, ["902.3 MHz is the nearest"], id="between two channels"
        ),
        pytest.param(
            "US915", module(freq_hz=903_000_000, sf=8), {},
            ["SF8BW125, which is no uplink data rate of US915 at 903 MHz", "one of SF8BW500"],
            id="a narrow data rate on a wide channel",
        ),
        pytest.param(
            "US915", module(freq_hz=902_300_000, sf=12), {},
            ["SF12BW125", "one of SF10BW125, SF9BW125, SF8BW125, SF7BW125"],
            id="a spreading factor North America does not have",
        ),
        pytest.param(
            "EU868", module(sf=9, bw_hz=250_000), {},
            ["listens for SF9BW250", "SF12BW125, SF11BW125, SF10BW125, SF9BW125, SF8BW125, SF7BW125, SF7BW250"],
            id="a bandwidth Europe has at SF7 only",
        ),
        pytest.param(
            "KR920", module(freq_hz=922_100_000, bw_hz=250_000), {}, ["SF7BW250"], id="KR920 has no 250 kHz"
        ),
        pytest.param("CN470", module(freq_hz=470_400_000), {}, ["one of its 96 channels"], id="CN470"),
        pytest.param(
            "EU868", module(), {"antenna_gain_dbi": 15.0},
            ["cannot go below 2 dBm", "that is 17 dBm EIRP", "868-868.6 MHz allows 16.15 dBm", "cable_loss_db"],
            id="an antenna with too much gain",
        ),
        pytest.param(
            "EU433", module(freq_hz=433_175_000), {"antenna_gain_dbi": 11.0, "cable_loss_db": 0.5},
            ["12.5 dBm EIRP", "allows 12.15 dBm"],
            id="EU433 allows little",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_a_remedy(
    region: str, one: ModuleConfig, rest: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=re.escape(words[0])) as refused:
        config(one, region=region, **rest)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("name", region_names())
def test_every_region_works_on_its_first_channel(name: str) -> None:
    region = get_region(name)
    modulation = region.uplink_data_rates[max(region.uplink_data_rates) if not region.fixed_plan else 3]
    one = module(freq_hz=region.uplink_channels()[0], sf=modulation.sf, bw_hz=modulation.bw_hz)
    assert config(one, region=name).region_data.name == name


def test_a_module_that_only_sends_may_have_any_frequency() -> None:
    config(module(freq_hz=902_300_000), module(1, role=Role.TX), region="US915")
    config(module(), module(1, 915_000_000, role=Role.TX), antenna_gain_dbi=2.0)


def test_a_strong_antenna_is_fine_where_the_cable_or_the_sub_band_takes_it() -> None:
    config(antenna_gain_dbi=15.0, cable_loss_db=3.0)
    config(module(role=Role.RX), antenna_gain_dbi=20.0)
    config(module(), module(1, role=Role.TX), module(2, 868_300_000, role=Role.RX), antenna_gain_dbi=14.0)
    with pytest.raises(ValueError, match="cable_loss_db 99"):
        config(cable_loss_db=99.0)


def test_every_modulation_of_a_sweep_is_looked_at() -> None:
    config(module(freq_hz=902_300_000, sweep_sfs=(7, 10)), region="US915")
    with pytest.raises(ValueError, match="SF11BW125"):
        config(module(freq_hz=902_300_000, sweep_sfs=(7, 11)), region="US915")


def test_measurements_may_listen_anywhere_and_still_send_lawfully_only() -> None:
    config(module(freq_hz=915_000_000, bw_hz=500_000), any_channel=True)
    with pytest.raises(ValueError, match="cannot go below"):
        config(module(freq_hz=868_100_000), any_channel=True, antenna_gain_dbi=19.0)


def test_national_limits_take_the_place_of_the_regions() -> None:
    wide = SubBand(921_000_000, 924_000_000, 0.1, 27.0)
    asia = config(module(freq_hz=922_200_000), region="AS923-1", sub_bands=(wide,))
    assert asia.region_data.sub_band_for(922_200_000, 125_000) == wide
    assert not any("one source" in doubt for doubt in asia.doubts)
    with pytest.raises(ValueError, match=r"no sub-band is open to gateways at 923\.2 MHz"):
        config(
            module(freq_hz=922_200_000),
            region="AS923-1",
            sub_bands=(SubBand(921_000_000, 922_900_000, 0.1, 27.0),),
        )


@pytest.mark.parametrize(("low", "high", "duty"), [(5, 4, 1.0), (0, 4, 1.0), (1, 2, 0.0), (1, 2, 1.5)])
def test_a_sub_band_that_cannot_be_is_refused(low: int, high: int, duty: float) -> None:
    with pytest.raises(ValueError, match="sub-band"):
        SubBand(low, high, duty, 14)


def planned(**rest: Any) -> PlannedModule:
    return replace(module().planned, **rest)


def test_hardware_that_does_not_reach_its_windows_is_refused() -> None:
    low_band = ((433_050_000, 434_790_000),)
    listens = [*problems(get_region("EU868"), [planned(bands_hz=low_band)], 0, 0)]
    assert "cannot be tuned to 868.1 MHz" in listens[0]
    assert "cannot send at 869.525 MHz, the second receive window of EU868" in listens[1]
    assert "role rx" in listens[1]
    deaf = [*problems(get_region("KR920"), [planned(freq_hz=922_100_000, senses=False)], 0, 0)]
    assert deaf == [f"module {BOARD}/0 cannot listen before it talks, as KR920 asks: give it the role rx"]
    assert [
        *problems(get_region("KR920"), [planned(freq_hz=922_100_000, senses=False, transmits=False)], 0, 0)
    ] == []


def test_one_module_on_a_default_channel_leaves_nothing_to_say() -> None:
    assert config().doubts == ()


@pytest.mark.parametrize(
    ("region", "modules", "words"),
    [
        pytest.param("EU868", [module(role=Role.RX)], "this gateway will never answer", id="nobody sends"),
        pytest.param("EU868", [module(), module(1)], "both listen for SF7BW125 at 868.1 MHz", id="twice the same"),
        pytest.param("EU868", [module(freq_hz=867_100_000)], "none can join by radio", id="no join channel"),
        pytest.param(
            "EU868", [module(), module(1, 867_100_000)], "add it to [lorawan] cflist_hz", id="a further channel"
        ),
        pytest.param(
            "EU868", [module(), module(1, 868_650_000)], "answered in RX2 only", id="between the sub-bands"
        ),
        pytest.param(
            "US915", [module(freq_hz=903_900_000), module(1, 902_300_000)],
            "hear channels 0, 8 of US915, in sub-bands 1, 2", id="two sub-bands",
        ),
        pytest.param(
            "US915", [module(freq_hz=903_900_000)],
            "uplink_channels = [8]; about one join in 64 will be heard", id="one of 64",
        ),
        pytest.param(
            "US915", [module(freq_hz=903_900_000), module(1, 904_600_000, sf=8, bw_hz=500_000)],
            "(sub-band 2)", id="the wide channel of a sub-band belongs to it",
        ),
        pytest.param("KR920", [module(freq_hz=922_100_000)], "listen before each downlink", id="LBT"),
        pytest.param("AS923-2", [module(freq_hz=921_400_000)], "limit_dwell = true", id="dwell"),
        pytest.param(
            "IN865", [module(freq_hz=865_062_500)],
            "come from one source (865-867 MHz, no duty cycle, 16.15 dBm EIRP)", id="unverified",
        ),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_said(region: str, modules: list[ModuleConfig], words: str) -> None:
    said = config(*modules, region=region).doubts
    assert any(words in doubt for doubt in said), said


def test_a_limit_that_is_kept_is_no_doubt() -> None:
    said = config(module(freq_hz=921_400_000), region="AS923-2", limit_dwell=True).doubts
    assert not any("limit_dwell" in doubt for doubt in said)


def test_doubts_have_no_problem_with_anything() -> None:
    """Whatever passes the problems can be told about."""
    for name in region_names():
        region = get_region(name)
        for freq_hz in region.uplink_channels():
            one = planned(freq_hz=freq_hz)
            assert all(isinstance(doubt, str) for doubt in doubts(region, [one], limit_dwell=False))

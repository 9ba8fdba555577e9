"""What the demonstration takes from a scenario before its processes start."""

import asyncio
from pathlib import Path

import pytest

from gateway.demo.demo import DemoFailed, Options, run
from gateway.demo.prepare import scenario_radio
from gateway.radio_process import radio_config
from gateway.settings import Config, GatewaySection
from hw_sim.scenario import load

US = """
region = "US915"
[[gateway.module]]
board = "dragino-hat"
freq_hz = 902_300_000
sf = 8
[[nodes]]
sf = 8
channels_hz = [902_300_000]
"""


def test_the_gateway_is_set_up_as_the_simulated_radio() -> None:
    region, radio = asyncio.run(scenario_radio("demo"))
    config = Config(gateway=GatewaySection(eui="02f10f6a7e000001", region=region), radio=radio)
    assert radio_config(config).modules == load("demo").modules


def test_region_and_module_of_a_scenario_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "us.toml").write_text(US)
    region, radio = asyncio.run(scenario_radio(str(tmp_path / "us.toml")))
    assert region == "US915"
    assert [(module.freq_hz, module.sf, module.role) for module in radio.module] == [(902_300_000, 8, "rxtx")]


def test_a_scenario_that_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("colour = 1\n")
    with pytest.raises(DemoFailed, match=r"odd\.toml, line 1: colour: no such setting"):
        asyncio.run(run(Options(headless=True, scenario=str(tmp_path / "odd.toml"), keep=tmp_path / "kept")))

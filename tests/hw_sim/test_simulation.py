"""Whole scenarios in virtual time: the shipped ones keep what they promise, and a broken promise is found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from hw_sim.scenario import load, parse, shipped
from hw_sim.simulation import Simulation

S = 1_000_000_000
PROMISING = ("drift", "faults", "jammer", "mix", "oneradio", "roofs", "town", "versions")
SMALL = """\
duration_s = 60
[gateway]
[[gateway.module]]
board = "dragino-hat"
[[nodes]]
count = 2
channels_hz = [868_100_000]
[expect]
joined = "all"
lost = 0
"""


def run(text_or_name: str, seconds: float | None = None, seed: int | None = None) -> tuple[dict, list]:
    scenario = load(text_or_name) if text_or_name in shipped() else parse(text_or_name)
    simulation = Simulation(scenario, seed)
    simulation.start()
    try:
        simulation.run(scenario.duration_s if seconds is None else seconds)
        return simulation.counts(), simulation.verdicts()
    finally:
        simulation.close()


@pytest.mark.parametrize("name", PROMISING)
def test_a_shipped_scenario_keeps_its_promises(name: str) -> None:
    counts, verdicts = run(name)
    assert [str(verdict) for verdict in verdicts if not verdict.holds] == []
    assert len(verdicts) >= 4
    assert counts["frames"] > 40


def test_every_shipped_scenario_that_promises_something_is_tested() -> None:
    assert {name for name in shipped() if load(name).expectations} == set(PROMISING)


def test_fates_add_up_to_the_frames() -> None:
    counts, _ = run("jammer", 230)
    fates = (
        "received",
        "crc_error",
        "below_sensitivity",
        "collided",
        "jammed",
        "deaf",
        "not_matched",
        "truncated",
    )
    assert sum(counts[fate] for fate in fates) == counts["frames"]
    assert counts["jammed"] > 0


def test_the_same_seed_gives_the_same_counts_and_another_does_not() -> None:
    first, again, other = run("roofs", 100)[0], run("roofs", 100)[0], run("roofs", 100, seed=99)[0]
    assert first == again
    assert first != other


def test_a_promise_that_is_not_kept_is_found() -> None:
    """The control: devices that nobody hears."""
    _, verdicts = run(SMALL.replace("[[nodes]]", "[[nodes]]\nsf = 12"))
    assert [(each.expectation.metric, each.holds) for each in verdicts] == [("joined", False), ("lost", True)]


def test_a_radio_that_loses_frames_is_found() -> None:
    """The control of `lost`: frames that a module has received and that never reach the server."""
    scenario = parse(SMALL)
    simulation = Simulation(scenario)
    simulation.start()
    simulation._on_frame = lambda *_: None  # type: ignore[method-assign]
    simulation.run(60)
    simulation.close()
    assert simulation.counts()["lost"] == simulation.counts()["received"] > 0


def test_a_downlink_nobody_ordered_is_found() -> None:
    """The control of `wrong`: a register of the transmitter changes right before it sends."""
    scenario = parse(SMALL + '[[faults]]\nkind = "setting"\nat_s = 600\n')
    simulation = Simulation(scenario)
    simulation.start()
    (chip,) = simulation.world.chips.values()
    transmit = simulation.world.air.transmit

    def disturbed(sender: object, wave, payload: bytes, power_dbm: float) -> None:
        if sender is chip:
            wave = replace(wave, freq_hz=wave.freq_hz + 200_000)
        transmit(sender, wave, payload, power_dbm)

    simulation.world.air.transmit = disturbed  # type: ignore[method-assign]
    simulation.run(60)
    simulation.close()
    assert simulation.counts()["wrong"] == simulation.counts()["downlinks"] > 0


def test_the_command_judges_and_reports(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    arguments = ["sim", "run", str(tmp_path / "small.toml"), "--report", str(tmp_path / "counts.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "ok   joined: expected all, got 100 % (2 of 2)" in result.output
    assert json.loads((tmp_path / "counts.json").read_text())["joined"] == 2


def test_the_command_fails_where_an_expectation_does(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL.replace("lost = 0", "uplinks = 1000"))
    result = CliRunner().invoke(app, ["sim", "run", str(tmp_path / "small.toml")])
    assert result.exit_code == 1
    assert "FAIL uplinks: expected 1000" in result.output


def test_the_command_names_line_and_key_of_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL.replace("count = 2", "number = 2"))
    result = CliRunner().invoke(app, ["sim", "run", str(tmp_path / "small.toml")])
    assert result.exit_code == 1
    assert "small.toml, line 6: nodes[0].number: no such setting" in result.output


def test_the_command_lists_what_is_shipped() -> None:
    result = CliRunner().invoke(app, ["sim", "list"])
    assert {line.split()[0] for line in result.output.splitlines()} == set(shipped())


def test_the_command_compares_with_theory() -> None:
    result = CliRunner().invoke(app, ["sim", "theory", "--frames", "20"])
    assert "aloha" in result.output
    assert result.exit_code == 1  # twenty frames tell nothing

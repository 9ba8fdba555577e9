"""Scenario files: what is read, what is drawn from the seed, what is refused and where."""

import contextlib
import random

import pytest

from gateway.lorawan.types import DevEUI
from hw_sim.kernel import Kernel
from hw_sim.scenario import ScenarioError, load, parse, shipped
from hw_sim.world import build

S = 1_000_000_000
GOOD = """\
seed = 7

[gateway]
x_m = 10

[[gateway.module]]
freq_hz = 868_300_000
role = "rx"

[[nodes]]
name = "door"
dev_eui = "02f1000000000099"
app_key = "000102030405060708090a0b0c0d0e0f"
x_m = 5
y_m = -5

[[nodes]]
count = 3
name = "climate"
interval_s = [5, 10]
"""


def test_a_file_becomes_modules_and_devices_spelled_out() -> None:
    scenario = parse(GOOD)
    assert [module.freq_hz for module in scenario.modules] == [868_300_000]
    assert [node.name for node in scenario.nodes] == ["door", "climate-1", "climate-2", "climate-3"]
    door = scenario.nodes[0]
    assert (door.dev_eui, door.x_m, door.y_m) == (DevEUI(0x02F1000000000099), 5, -5)
    assert scenario.nodes[1].interval_s == (5, 10)


def test_generated_devices_differ_and_come_from_the_seed() -> None:
    nodes, again, other = parse(GOOD).nodes, parse(GOOD).nodes, parse(GOOD.replace("7", "8", 1)).nodes
    assert nodes == again
    assert len({node.app_key.value for node in nodes}) == len({node.dev_eui for node in nodes}) == 4
    assert len({(node.x_m, node.y_m) for node in nodes}) == 4
    assert nodes[1].app_key != other[1].app_key


def test_one_more_device_changes_no_other() -> None:
    fewer, more = parse(GOOD).nodes, parse(GOOD.replace("count = 3", "count = 4")).nodes
    assert more[: len(fewer)] == fewer


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        pytest.param("seed = 7", "seed = -1", 1, "seed", id="out of range"),
        pytest.param("seed = 7", 'region = "MOON"', 1, "region", id="unknown region"),
        pytest.param("x_m = 10", "height_m = 3", 4, "gateway.height_m", id="no such setting"),
        pytest.param("868_300_000", '"868.3"', 7, "gateway.module[0].freq_hz", id="wrong type"),
        pytest.param('role = "rx"', 'role = "ears"', 8, "gateway.module[0].role", id="unknown role"),
        pytest.param('role = "rx"', 'board = "bread"', 6, "gateway.module[0]", id="unknown board"),
        pytest.param("02f1000000000099", "02f1", 12, "nodes[0].dev_eui", id="short EUI"),
        pytest.param("0e0f", "0e0g", 13, "nodes[0].app_key", id="no hex key"),
        pytest.param("count = 3", "count = 0", 18, "nodes[1].count", id="no devices"),
        pytest.param("[5, 10]", "[10, 5]", 20, "nodes[1].interval_s", id="span the wrong way round"),
        pytest.param("[5, 10]", "[5]", 20, "nodes[1].interval_s", id="half a span"),
        pytest.param("count = 3", "count = 3\nx_m = 1", 19, "nodes[1].x_m", id="many in one place"),
        pytest.param('"climate"', '"door"\nsf = 13', 20, "nodes[1].sf", id="no such spreading factor"),
        pytest.param("count = 3", 'sensors = ["nose"]', 17, "nodes[1]", id="no such sensor"),
        pytest.param(
            "count = 3", 'dev_eui = "02f1000000000099"', 18, "nodes[1].dev_eui", id="identity used twice"
        ),
        pytest.param("x_m = 10", "x_m = ", 4, "", id="no TOML"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line_and_key(old: str, new: str, line: int, key: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD.replace(old, new, 1), "mine.toml")
    assert (caught.value.line, caught.value.key) == (line, key)
    assert f"mine.toml, line {line}" in str(caught.value)


def test_a_key_never_shows_in_an_error() -> None:
    secret = "000102030405060708090a0b0c0d0eXX"
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD.replace("000102030405060708090a0b0c0d0e0f", secret))
    assert "0d0e" not in str(caught.value)


def test_no_damage_to_a_file_raises_anything_else() -> None:
    rng = random.Random(3)
    for _ in range(3000):
        damaged = list(GOOD)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.choice('[]"=.-_0123456789\nabx')
        with contextlib.suppress(ScenarioError):
            parse("".join(damaged))


def test_a_scenario_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(ScenarioError, match="demo"):
        load("atlantis")


def test_the_promised_scenarios_are_shipped_and_build() -> None:
    assert {"demo", "day", "single"} <= set(shipped())
    for name in shipped():
        scenario = load(name)
        world = build(scenario, Kernel(scenario.seed))
        assert len(world.nodes) == len(scenario.nodes)
        assert list(world.chips) == [module.name for module in scenario.modules]


def test_the_demonstration_has_eight_otaa_devices_and_a_transmitter_of_its_own() -> None:
    scenario = load("demo")
    assert len(scenario.nodes) == 8
    assert all(node.otaa and node.dr == 5 for node in scenario.nodes)
    assert [module.role for module in scenario.modules] == ["rx", "rx", "rx", "tx"]
    kernel = Kernel(scenario.seed)
    world = build(scenario, kernel)
    kernel.run_until(10 * S)
    assert any(
        record.sender == node.config.name for record in world.air.records.frames for node in world.nodes
    )
    assert min(record.start_ns for record in world.air.records.frames) < 4 * S  # joined 6 s later


def test_the_same_file_gives_the_same_world() -> None:
    histories = []
    for _ in range(2):
        scenario = load("demo")
        kernel = Kernel(scenario.seed)
        world = build(scenario, kernel)
        kernel.run_until(120 * S)
        histories.append(
            [(frame.sender, frame.start_ns, frame.payload) for frame in world.air.records.frames]
        )
    assert histories[0] == histories[1]


def test_a_later_life_uses_other_nonces() -> None:
    payloads = []
    for boot in (0, 1):
        scenario = load("demo")
        kernel = Kernel(scenario.seed)
        world = build(scenario, kernel, boot=boot)
        kernel.run_until(20 * S)
        payloads.append({frame.payload for frame in world.air.records.frames})
    assert not payloads[0] & payloads[1]

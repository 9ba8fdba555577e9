"""Scenario files: what is read, what is drawn from the seed, what is refused and where."""

import contextlib
import random
import re
from pathlib import Path

import msgspec
import pytest

from gateway.lorawan.types import DevEUI
from hw_sim.chip_faults import ChipFault
from hw_sim.expect import METRICS, Expectation
from hw_sim.kernel import Kernel
from hw_sim.mobility import AtEnd
from hw_sim.registering import profile_of, registration
from hw_sim.rn2483 import Rn2483Table
from hw_sim.scenario import load, parse, shipped
from hw_sim.scenario_lines import ScenarioError
from hw_sim.scenario_tables import (
    AirTable,
    BurstTable,
    ConcentratorTable,
    DownlinkTable,
    FaultTable,
    GatewayTable,
    InterferenceTable,
    ModuleTable,
    MulticastTable,
    NodeTable,
    ScenarioTable,
)
from hw_sim.simulation import Simulation
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


RICH = """\
title = "Everything there is"
seed = 3
duration_s = 120

[air]
path_loss = "bor"
shadowing_db = 4
shadowing_m = 30
shadowing_s = 600
fading = "rayleigh"
interference = "goursaud"
isolation_db = 30
selectivity_db = 70
blocking_dbm = -25
false_headers_per_hour = 3

[[gateway]]
name = "roof"
[[gateway.module]]
role = "rx"
crystal_ppm = 2.5
[[gateway.module]]
index = 1
role = "tx"

[[gateway]]
name = "church"
x_m = 800
[[gateway.module]]
role = "rx"
[[gateway.rn2483]]
port = "modem"
sf = 9

[[nodes]]
count = 2
name = "bus"
way_m = [[0, 0], [500, 0], [500, 500]]
speed_m_s = 8.0
at_end = "circle"
leaves_s = [0, 60]
clock_ppm = [-20, 20]
clock_ppm_per_c2 = -0.034
crystal_ppm_per_c = 0.1
temperature_c = 10
temperature_swing_c = 8

[[nodes]]
name = "visitor"
appears_s = 30
vanishes_s = 90
burst = 3
burst_gap_s = [1, 2]

[[interference]]
name = "welder"
power_dbm = 20
bw_hz = 2_000_000
from_s = 20
until_s = 60
on_s = [0.1, 0.5]
off_s = 2

[[interference]]
kind = "lora"
sf = 9
off_s = [1, 5]

[[bursts]]
at_s = 60
within_s = 2
nodes = "bus-*"

[[faults]]
at_s = 5
module = "roof/*"
kind = "spi_flip"
every_s = 10

[expect]
lost = 0
received = ">= 50 %"
joined = "all"
downlinks = "1 to 500"
"""


def test_every_section_becomes_values() -> None:
    scenario = parse(RICH)
    assert scenario.duration_s == 120
    assert (scenario.air.path_loss.shadowing_db, scenario.air.shadowing_s) == (4, 600)
    assert (scenario.air.fading, scenario.air.interference.matrix[0][0]) == ("rayleigh", 6)
    roof, church = scenario.gateways
    assert (roof.name, [module.role for module in roof.modules], roof.crystals_ppm) == (
        "roof",
        ["rx", "tx"],
        (2.5, 0.0),
    )
    assert (church.x_m, [modem.port for modem in church.rn2483]) == (800, ["modem"])
    bus, other_bus, visitor = scenario.nodes
    assert bus.way is not None
    assert (bus.way.at_end, bus.way.points[1]) == (AtEnd.CIRCLE, (500, 0))
    assert 0 <= bus.way.leaves_s <= 60
    assert other_bus.way is not None
    assert bus.way.leaves_s != other_bus.way.leaves_s
    assert bus.clock.ppm != other_bus.clock.ppm
    assert abs(bus.clock.ppm) <= 20
    assert (bus.climate.mean_c, bus.climate.swing_c) == (10, 8)
    assert (visitor.appears_s, visitor.vanishes_s, visitor.burst) == (30, 90, 3)
    welder, stranger = scenario.sources
    assert (welder.on_s, welder.off_s, welder.frames) == ((0.1, 0.5), (2, 2), None)
    assert (stranger.name, stranger.frames) == ("interference-2", (9, 23))
    assert scenario.faults[0].modules == ("roof/fluxgate-sim-4/0", "roof/fluxgate-sim-4/1")
    assert (scenario.faults[0].kind, scenario.faults[0].until_s) == ("spi_flip", 120)
    assert scenario.bursts[0].nodes == ("bus-1", "bus-2")
    assert [each.metric for each in scenario.expectations] == ["lost", "received", "joined", "downlinks"]


WIDE = """\
seed = 4
region = "US915"

[air]
loss = 0.2

[gateway]
x_m = 3
[gateway.concentrator]
sub_band = 1
demodulators = 8
gnss = true

[[multicast]]
name = "sirens"
periodicity = 3

[[nodes]]
name = "valve"
version = "1.1"
class = "C"
multicast = ["sirens"]
faults = ["deaf", "ignores_mac"]
power_losses_s = [60]
rejoin_every_s = 3600

[[nodes]]
name = "given"
version = "1.1"
activation = "abp"
region = "EU868"

[[downlinks]]
at_s = 10
nodes = "val*"
payload = "0aff"

[[downlinks]]
at_s = 20
every_s = 5
until_s = 60
multicast = "sirens"
"""


def test_a_concentrator_groups_and_devices_of_1_1_become_values() -> None:
    scenario = parse(WIDE)
    plan = scenario.gateways[0].concentrator
    assert plan is not None
    assert (plan.channels_hz[0], plan.demodulators, plan.gps_ms) == (902_300_000, 8, 1_456_401_618_000)
    assert plan.wide is not None
    assert plan.wide.freq_hz == 903_000_000
    assert scenario.air.loss == 0.2
    valve, given = scenario.nodes
    assert (valve.version, valve.device_class, valve.counts_nonces) == ("1.1", "C", True)
    assert valve.groups == scenario.groups
    assert scenario.groups[0].periodicity == 3
    assert valve.faults == {"deaf", "ignores_mac"}
    assert valve.nwk_key not in (None, valve.app_key)
    assert (given.region, given.dr) == ("EU868", 5)
    keys = {given.nwk_s_key, given.s_nwk_s_int_key, given.nwk_s_enc_key, given.app_s_key}
    assert len(keys) == 4
    first, second = scenario.downlinks
    assert (first.nodes, first.payload, first.every_s) == (("valve",), b"\x0a\xff", None)
    assert (second.nodes, second.group, second.until_s) == ((), "sirens", 60)
    assert registration(valve).profile == profile_of(valve).name == "LoRaWAN-1.1-C"
    assert registration(given).s_nwk_s_int_key == given.s_nwk_s_int_key


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('multicast = ["sirens"]', 'multicast = ["bells"]', "nodes[0].multicast"),
        ('"deaf", ', '"mute", ', "nodes[0].faults"),
        ("rejoin_every_s = 3600", "rejoin_every_s = 0", "nodes[0].rejoin_every_s"),
        ('multicast = "sirens"', 'multicast = "bells"', "downlinks[1].multicast"),
        ('nodes = "val*"', 'nodes = "van*"', "downlinks[0].nodes"),
        ('region = "EU868"', 'region = "MOON"', "nodes[1].region"),
        ("sub_band = 1", "channels_hz = [902300000, 902300000]", "gateway.concentrator"),
        ("[gateway.concentrator]", "[[gateway.module]]\n[gateway.concentrator]", "gateway.concentrator"),
        ("periodicity = 3", 'app_s_key = "00"', "multicast[0].app_s_key"),
        ("[[multicast]]", '[[multicast]]\nname = "sirens"\n[[multicast]]', "multicast[1].name"),
    ],
)
def test_what_cannot_be_of_concentrators_and_groups_is_refused(old: str, new: str, key: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(WIDE.replace(old, new))
    assert caught.value.key == key


def test_a_rich_scenario_runs_twice_alike() -> None:
    histories = []
    for _ in range(2):
        kernel = Kernel(3)
        world = build(parse(RICH), kernel)
        noise = []
        world.air.records.noise_observers.append(noise.append)
        kernel.run_until(120 * S)
        frames = [(frame.sender, frame.start_ns, frame.payload) for frame in world.air.records.frames]
        histories.append((frames, noise))
    assert histories[0] == histories[1]
    frames, noise = histories[0]
    assert {sender for sender, _, _ in frames} == {"bus-1", "bus-2", "visitor", "interference-2"}
    assert 5 < len(noise) < 25
    assert 20 * S <= noise[0].start_ns < noise[-1].end_ns <= 60 * S


@pytest.mark.parametrize(
    ("value", "counts", "holds"),
    [
        pytest.param(0, (0, 100), True, id="none"),
        pytest.param(0, (1, 100), False, id="one too many"),
        pytest.param(">= 95 %", (95, 100), True, id="just"),
        pytest.param(">= 95 %", (94, 100), False, id="not quite"),
        pytest.param("<= 3", (3, 100), True, id="at most"),
        pytest.param("> 3", (3, 100), False, id="more than"),
        pytest.param("all", (100, 100), True, id="all"),
        pytest.param("all", (99, 100), False, id="not all"),
        pytest.param("all", (0, 0), True, id="all of nothing"),
        pytest.param("10 to 20", (20, 100), True, id="between"),
        pytest.param("10 to 20 %", (30, 100), False, id="not between"),
        pytest.param(12.0, (12, 100), True, id="a number with a point"),
    ],
)
def test_expectations_are_judged(value: object, counts: tuple[int, int], holds: bool) -> None:
    verdict = Expectation.parse("received", value).judge({"received": counts[0], "frames": counts[1]})
    assert verdict.holds is holds
    assert str(counts[0]) in str(verdict)


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
        pytest.param("868_300_000", "915_200_000", 6, "gateway.module[0]", id="a channel of another region"),
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


@pytest.mark.parametrize(
    ("old", "new", "at", "key"),
    [
        pytest.param("x_m = 800", "x_m = true", "x_m = 800", "gateway[1].x_m", id="in the second gateway"),
        pytest.param(
            "sf = 9\n\n[[nodes", "sf = 13\n\n[[nodes", "", "gateway[1].rn2483[0].sf", id="its modem"
        ),
        pytest.param('"church"', '"roof"', "", "gateway[1].name", id="a name used twice"),
        pytest.param("index = 1", "index = 0", "", "gateway[0].module[1].index", id="a module used twice"),
        pytest.param("[500, 500]]", "[500]]", "", "nodes[0].way_m[2]", id="half a point"),
        pytest.param("[[0, 0], [500, 0], [500, 500]]", "[[0, 0]]", "", "nodes[0].way_m", id="no way"),
        pytest.param("[-20, 20]", "[20, -20]", "", "nodes[0].clock_ppm", id="span the wrong way round"),
        pytest.param(
            "vanishes_s = 90", "vanishes_s = 9", "[[nodes]]\nname", "nodes[1]", id="gone before it came"
        ),
        pytest.param(
            "until_s = 60",
            "until_s = 10",
            "[[interference]]\nname",
            "interference[0]",
            id="over before it begins",
        ),
        pytest.param('"welder"', '"visitor"', "", "interference[0].name", id="the name of a device"),
        pytest.param('"bus-*"', '"tram-*"', "", "bursts[0].nodes", id="nobody of that name"),
        pytest.param('"spi_flip"', '"rust"', "", "faults[0].kind", id="no such fault"),
        pytest.param('"roof/*"', '"cellar/*"', "", "faults[0].module", id="no such module"),
        pytest.param("lost = 0", "lots = 0", "", "expect.lots", id="no such count"),
        pytest.param('">= 50 %"', '"about half"', "", "expect.received", id="nothing to judge"),
        pytest.param('"1 to 500"', '"5 %"', "", "expect.downlinks", id="a share of nothing"),
    ],
)
def test_what_cannot_be_in_a_rich_file_is_refused_with_its_place(
    old: str, new: str, at: str, key: str
) -> None:
    line = RICH[: RICH.index(at or old)].count("\n") + 1
    with pytest.raises(ScenarioError) as caught:
        parse(RICH.replace(old, new, 1), "mine.toml")
    assert (caught.value.line, caught.value.key) == (line, key)


def test_a_key_never_shows_in_an_error() -> None:
    secret = "000102030405060708090a0b0c0d0eXX"
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD.replace("000102030405060708090a0b0c0d0e0f", secret))
    assert "0d0e" not in str(caught.value)


def test_no_damage_to_a_file_raises_anything_else() -> None:
    rng = random.Random(3)
    for number in range(4000):
        damaged = list(RICH if number % 2 else GOOD)
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
        several = len(scenario.gateways) > 1
        names = [name for plan in scenario.gateways for name in plan.module_names(several)]
        assert list(world.chips) == names


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


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scenarios.md").read_text()


@pytest.mark.parametrize("metric", METRICS)
def test_the_page_tells_every_count_as_the_code_does(metric: str) -> None:
    among, meaning = METRICS[metric]
    assert f"| `{metric}` | {among or '-'} | {meaning} |" in PAGE


def test_the_page_tells_every_shipped_scenario_and_every_fault() -> None:
    assert all(f"| `{name}` | {load(name).title} |" in PAGE for name in shipped())
    assert all(f"`{fault}`" in PAGE for fault in ChipFault)


@pytest.mark.parametrize(
    "table",
    [
        ScenarioTable,
        AirTable,
        GatewayTable,
        ModuleTable,
        NodeTable,
        InterferenceTable,
        BurstTable,
        FaultTable,
        ConcentratorTable,
        MulticastTable,
        DownlinkTable,
        Rn2483Table,
    ],
    ids=lambda table: table.__name__,
)
def test_the_page_tells_every_setting(table: type[msgspec.Struct]) -> None:
    missing = [
        name
        for name in table.__struct_encode_fields__
        if f"`{name}`" not in PAGE and f"[{name}]" not in PAGE and f"gateway.{name}]" not in PAGE
    ]
    assert missing == []


EXAMPLES = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "[[nodes]]" in text]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_of_the_page_runs_and_keeps_its_promises(text: str) -> None:
    simulation = Simulation(parse(text))
    simulation.start()
    simulation.run(min(300, simulation.scenario.duration_s))
    verdicts = simulation.verdicts()
    simulation.close()
    assert simulation.counts()["received"] > 0
    assert [str(verdict) for verdict in verdicts if not verdict.holds] == []

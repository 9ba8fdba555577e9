"""A scenario: gateway modules, devices and the air between them, from one TOML file.

`load` and `parse` check everything that a file can get wrong and name its line and key (`ScenarioError`). What the
file leaves out, places, identities and keys of many devices, is drawn from its seed: one file, one world.
`hw_sim.world` builds it.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hw_sim.chip_faults import ChipFault
from hw_sim.drift import Climate, Oscillator
from hw_sim.expect import Expectation
from hw_sim.gnss import GnssTable
from hw_sim.interference import MATRICES, Interference
from hw_sim.links import AirSettings, Fading
from hw_sim.mobility import AtEnd, Way
from hw_sim.node_config import DevNonceMode, NodeConfig
from hw_sim.propagation import BOR, NS3, OULU
from hw_sim.rn2483 import Rn2483Table, module_of
from hw_sim.scenario_lines import ScenarioError, blame
from hw_sim.scenario_tables import (
    MAX_GATEWAYS,
    MAX_NODES,
    AirTable,
    GatewayTable,
    InterferenceTable,
    NodeTable,
    ScenarioTable,
)
from hw_sim.sources import SourceConfig
from radio.config import ModuleConfig, with_roles
from radio.lora import LoRaModulation
from radio.plan import problems
from radio.regions import get_region

PATH_LOSS: Final = {"oulu": OULU, "bor": BOR, "ns3": NS3}
# Generated identities: locally administered EUI-64s (second-lowest bit of the first byte set).
EUI_BASE: Final = 0x02F1_0000_0000_0000


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """A gateway: its mast and what is on it."""

    name: str
    x_m: float
    y_m: float
    antenna_gain_dbi: float
    modules: tuple[ModuleConfig, ...]
    crystals_ppm: tuple[float, ...]  # of the modules
    rn2483: tuple[Rn2483Table, ...] = ()
    gnss: GnssTable | None = None

    @property
    def all_modules(self) -> tuple[ModuleConfig, ...]:
        """Modules and modems, as the radio's settings have them."""
        return (*self.modules, *(module_of(modem) for modem in self.rn2483))

    def module_names(self, several: bool) -> tuple[str, ...]:
        """What the air calls its modules; one of `several` gateways puts its own name before theirs."""
        prefix = f"{self.name}/" if several else ""
        return tuple(prefix + module.name for module in self.modules)


@dataclass(frozen=True, slots=True)
class Burst:
    """So many devices report something within a while."""

    at_s: float
    within_s: float
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A defect of some modules, at these times."""

    modules: tuple[str, ...]  # as the air calls them
    kind: ChipFault
    for_s: float
    at_s: float
    every_s: float | None
    until_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario, every device spelled out."""

    title: str
    seed: int
    region: str
    duration_s: float
    air: AirSettings
    gateways: tuple[GatewayPlan, ...]
    nodes: tuple[NodeConfig, ...]
    sources: tuple[SourceConfig, ...] = ()
    bursts: tuple[Burst, ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    expectations: tuple[Expectation, ...] = ()

    @property
    def modules(self) -> tuple[ModuleConfig, ...]:
        """Of the first gateway."""
        return self.gateways[0].modules

    @property
    def antenna_gain_dbi(self) -> float:
        """Of the first gateway."""
        return self.gateways[0].antenna_gain_dbi


def shipped() -> tuple[str, ...]:
    """The names of the scenarios that come with Fluxgate."""
    folder = files("hw_sim").joinpath("scenarios")
    return tuple(
        sorted(each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml"))
    )


def load(name: str | Path) -> Scenario:
    """A scenario by its name or, for one of the user's own, by the path of its file. Raises ScenarioError."""
    if str(name) in shipped():
        return parse(files("hw_sim").joinpath(f"scenarios/{name}.toml").read_text("utf-8"), f"{name}.toml")
    try:
        return parse(Path(name).read_text("utf-8"), str(name))
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({error}); shipped are {', '.join(shipped())}"
        raise ScenarioError(str(name), 0, "", problem) from error


def parse(text: str, source: str = "scenario") -> Scenario:
    """The text of a scenario file. Raises ScenarioError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ScenarioError(source, int(line[1]) if line else 0, "", f"not TOML: {error}") from error
    try:
        table = msgspec.convert(tree, ScenarioTable)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        path = re.findall(r"\w+", where)
        if unknown := re.search(r"unknown field `(\w+)`", problem):
            path.append(unknown[1])
            problem = "no such setting"
        if path[:1] == ["gateway"] and isinstance(tree.get("gateway"), dict) and path[1:2] == ["0"]:
            del path[1]
        raise blame(source, text, path, problem) from error
    return _Checker(source, text).scenario(table)


class _Checker:
    """From tables to values; a ValueError of any of them becomes a ScenarioError with its place."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._text = text

    def scenario(self, table: ScenarioTable) -> Scenario:
        try:
            get_region(table.region)
        except ValueError as error:
            raise self._blame(["region"], error) from error
        gateways = tuple(self._gateways(table))
        nodes = tuple(self._nodes(table, gateways[0]))
        if len(nodes) > MAX_NODES:
            raise self._blame(["nodes"], f"{len(nodes)} devices; {MAX_NODES} is the most")
        names = {node.name for node in nodes}
        ports = {modem.port for gateway in gateways for modem in gateway.rn2483}
        if both := names & ports:
            raise self._blame(["gateway", "rn2483"], f"{min(both)} is the name of a device as well")
        names |= ports
        return Scenario(
            title=table.title,
            seed=table.seed,
            region=table.region,
            duration_s=table.duration_s,
            air=_air(table.air),
            gateways=gateways,
            nodes=nodes,
            sources=tuple(self._sources(table, names)),
            bursts=tuple(self._bursts(table, nodes)),
            faults=tuple(self._faults(table, gateways)),
            expectations=tuple(self._expectations(table)),
        )

    def _gateways(self, table: ScenarioTable) -> Iterator[GatewayPlan]:
        several = isinstance(table.gateway, list)
        tables = table.gateway if isinstance(table.gateway, list) else [table.gateway]
        if not 1 <= len(tables) <= MAX_GATEWAYS:
            raise self._blame(["gateway"], f"{len(tables)} gateways; 1 to {MAX_GATEWAYS} can be")
        names: set[str] = set()
        ports: set[str] = set()
        for number, gateway in enumerate(tables):
            path = ["gateway", str(number)] if several else ["gateway"]
            name = f"{gateway.name}-{number + 1}" if several and gateway.name == "gateway" else gateway.name
            if name in names:
                raise self._blame([*path, "name"], f"{name} is used twice")
            names.add(name)
            if not gateway.module and not gateway.rn2483:
                raise self._blame(path, "a gateway needs a [[gateway.module]]")
            for index, modem in enumerate(gateway.rn2483):
                if modem.port in ports:
                    raise self._blame([*path, "rn2483", str(index), "port"], f"{modem.port} is used twice")
                ports.add(modem.port)
                try:
                    module_of(modem)
                except ValueError as error:
                    raise self._blame([*path, "rn2483", str(index)], error) from error
            plan = GatewayPlan(
                name=name,
                x_m=gateway.x_m,
                y_m=gateway.y_m,
                antenna_gain_dbi=gateway.antenna_gain_dbi,
                modules=tuple(self._modules(gateway, path)),
                crystals_ppm=tuple(module.crystal_ppm for module in gateway.module),
                rn2483=tuple(gateway.rn2483),
                gnss=gateway.gnss,
            )
            self._fits(plan, table.region, path)
            yield plan

    def _fits(self, plan: GatewayPlan, region: str, at: list[str]) -> None:
        """Every module fits the region (`radio.plan`)."""
        for index, module in enumerate(with_roles(plan.all_modules)):
            serial = index - len(plan.modules)
            path = [*at, "module", str(index)] if serial < 0 else [*at, "rn2483", str(serial)]
            for problem in problems(get_region(region), [module.planned], plan.antenna_gain_dbi, 0.0):
                raise self._blame(path, problem)

    def _modules(self, gateway: GatewayTable, at: list[str]) -> Iterator[ModuleConfig]:
        used: set[tuple[str, int]] = set()
        for index, module in enumerate(gateway.module):
            path = [*at, "module", str(index)]
            settings = msgspec.structs.asdict(module)
            del settings["crystal_ppm"]
            try:
                made = ModuleConfig(**settings)
            except ValueError as error:
                raise self._blame(path, error) from error
            if (made.board, made.index) in used:
                raise self._blame([*path, "index"], f"module {made.name} is used twice")
            used.add((made.board, made.index))
            yield made

    def _sources(self, table: ScenarioTable, taken: set[str]) -> Iterator[SourceConfig]:
        for index, source in enumerate(table.interference):
            path = ["interference", str(index)]
            name = f"{source.name}-{index + 1}" if source.name == "interference" else source.name
            if name in taken:
                raise self._blame([*path, "name"], f"{name} is used twice")
            taken.add(name)
            try:
                yield _source(source, name)
            except ValueError as error:
                raise self._blame(path, error) from error

    def _bursts(self, table: ScenarioTable, nodes: tuple[NodeConfig, ...]) -> Iterator[Burst]:
        for index, burst in enumerate(table.bursts):
            names = tuple(node.name for node in nodes if fnmatchcase(node.name, burst.nodes))
            if not names:
                raise self._blame(["bursts", str(index), "nodes"], f"no device is called {burst.nodes}")
            yield Burst(burst.at_s, burst.within_s, names)

    def _faults(self, table: ScenarioTable, gateways: tuple[GatewayPlan, ...]) -> Iterator[FaultPlan]:
        several = len(gateways) > 1
        modules = [name for gateway in gateways for name in gateway.module_names(several)]
        for index, fault in enumerate(table.faults):
            path = ["faults", str(index)]
            try:
                kind = ChipFault(fault.kind)
            except ValueError:
                problem = f"{fault.kind!r} is no fault; there are {', '.join(ChipFault)}"
                raise self._blame([*path, "kind"], problem) from None
            chosen = tuple(name for name in modules if fnmatchcase(name, fault.module))
            if not chosen:
                problem = f"no module is called {fault.module}; there are {', '.join(modules)}"
                raise self._blame([*path, "module"], problem)
            until_s = table.duration_s if fault.until_s is None else fault.until_s
            yield FaultPlan(chosen, kind, fault.for_s, fault.at_s, fault.every_s, until_s)

    def _expectations(self, table: ScenarioTable) -> Iterator[Expectation]:
        for metric, value in table.expect.items():
            try:
                yield Expectation.parse(metric, value)
            except ValueError as error:
                raise self._blame(["expect", metric], error) from error

    def _nodes(self, table: ScenarioTable, gateway: GatewayPlan) -> Iterator[NodeConfig]:
        number = 0
        seen: set[object] = set()
        for index, kind in enumerate(table.nodes):
            path = ["nodes", str(index)]
            if kind.count > 1:
                for key in ("dev_eui", "app_key", "dev_addr", "nwk_s_key", "app_s_key", "x_m", "y_m"):
                    if getattr(kind, key):
                        raise self._blame([*path, key], "belongs to one device, and count asks for several")
            for copy in range(kind.count):
                number += 1
                suffix = f"-{copy + 1}" if kind.count > 1 else ""
                node = self._node(table, gateway, kind, number, suffix, path)
                for key in ("name", "dev_eui"):
                    if (value := getattr(node, key)) in seen:
                        raise self._blame([*path, key], f"{value} is used twice")
                    seen.add(value)
                yield node

    def _node(
        self,
        table: ScenarioTable,
        gateway: GatewayPlan,
        kind: NodeTable,
        number: int,
        suffix: str,
        path: list[str],
    ) -> NodeConfig:
        rng = Random(f"{table.seed}/{number}")  # each device's own, so that one more changes no other
        draw = _Draw(rng, table.seed, number)
        key = ""
        try:
            key = "dev_eui"
            dev_eui = DevEUI.parse(kind.dev_eui) if kind.dev_eui else draw.dev_eui
            key = "join_eui"
            join_eui = JoinEUI.parse(kind.join_eui)
            secrets: dict[str, Any] = {}
            if kind.activation == "otaa":
                key = "app_key"
                secrets = {key: AES128Key.parse(kind.app_key) if kind.app_key else draw.key("app")}
            else:
                key = "dev_addr"
                secrets[key] = DevAddr.parse(kind.dev_addr) if kind.dev_addr else draw.dev_addr
                for key in ("nwk_s_key", "app_s_key"):
                    given = getattr(kind, key)
                    secrets[key] = AES128Key.parse(given) if given else draw.key(key)
            key = "sf"
            dr = get_region(table.region).dr_of(LoRaModulation(kind.sf, kind.bw_hz))
            if dr is None:
                raise ValueError(f"{table.region} has no data rate of SF{kind.sf} at {kind.bw_hz} Hz")
            spans: dict[str, tuple[float, float]] = {}
            for key in ("first_s", "interval_s", "burst_gap_s", "leaves_s", "clock_ppm", "crystal_ppm"):
                spans[key] = _span(getattr(kind, key))
            key = "way_m"
            way = None
            if kind.way_m:
                points = tuple((x, y) for x, y in kind.way_m)
                leaves_s = draw.uniform("leaves_s", spans["leaves_s"])
                way = Way(points, kind.speed_m_s, AtEnd(kind.at_end), leaves_s)
            key = ""
            x_m, y_m = draw.place(gateway, kind.radius_m)
            return NodeConfig(
                name=kind.name + suffix,
                dev_eui=dev_eui,
                join_eui=join_eui,
                region=table.region,
                channels_hz=tuple(kind.channels_hz),
                dr=dr,
                adr=kind.adr,
                dev_nonce=DevNonceMode(kind.dev_nonce),
                x_m=x_m if kind.x_m is None else kind.x_m,
                y_m=y_m if kind.y_m is None else kind.y_m,
                way=way,
                appears_s=kind.appears_s,
                vanishes_s=kind.vanishes_s,
                first_s=spans["first_s"],
                interval_s=spans["interval_s"],
                burst=kind.burst,
                burst_gap_s=spans["burst_gap_s"],
                confirmed_share=kind.confirmed_share,
                fport=kind.fport,
                sensors=tuple(kind.sensors),
                link_check_every=kind.link_check_every,
                rx_error_ms=kind.rx_error_ms,
                clock=Oscillator(
                    draw.uniform("clock_ppm", spans["clock_ppm"]),
                    kind.clock_ppm_per_c,
                    kind.clock_ppm_per_c2,
                    kind.clock_ppm_per_day,
                ),
                crystal=Oscillator(draw.uniform("crystal_ppm", spans["crystal_ppm"]), kind.crystal_ppm_per_c),
                climate=Climate(kind.temperature_c, kind.temperature_swing_c),
                **secrets,
            )
        except ValueError as error:
            raise self._blame([*path, key] if key else path, error) from error

    def _blame(self, path: list[str], problem: object) -> ScenarioError:
        return blame(self._source, self._text, path, str(problem))


class _Draw:
    """What a device gets that its table does not give."""

    def __init__(self, rng: Random, seed: int, number: int) -> None:
        self._seed = seed
        self._number = number
        self._angle = rng.uniform(0, 2 * math.pi)
        self._share = math.sqrt(rng.uniform(0.01, 1))  # even over the disc, but not under the mast

    @property
    def dev_eui(self) -> DevEUI:
        return DevEUI(EUI_BASE | (self._seed & 0xFFFF) << 16 | self._number)

    @property
    def dev_addr(self) -> DevAddr:
        return DevAddr(Random(f"{self._seed}/{self._number}/dev_addr").randrange(1 << 25))  # NwkID 0

    def key(self, use: str) -> AES128Key:
        return AES128Key(Random(f"{self._seed}/{self._number}/{use}").randbytes(16))

    def uniform(self, use: str, span: tuple[float, float]) -> float:
        return Random(f"{self._seed}/{self._number}/{use}").uniform(*span) if span[0] < span[1] else span[0]

    def place(self, gateway: GatewayPlan, radius_m: float) -> tuple[float, float]:
        distance_m = radius_m * self._share
        return (
            gateway.x_m + distance_m * math.cos(self._angle),
            gateway.y_m + distance_m * math.sin(self._angle),
        )


def _span(given: float | list[float]) -> tuple[float, float]:
    """A number is a span of its own. Raises ValueError for one the wrong way round."""
    low, high = given if isinstance(given, list) else (given, given)
    if low > high:
        raise ValueError("the first number is the smaller one")
    return low, high


def _air(table: AirTable) -> AirSettings:
    path_loss = PATH_LOSS[table.path_loss]
    if table.shadowing_db is not None:
        path_loss = replace(path_loss, shadowing_db=table.shadowing_db)
    return AirSettings(
        path_loss=path_loss,
        interference=Interference(MATRICES[table.interference]),
        fading=Fading(table.fading),
        fading_db=table.fading_db,
        shadowing_m=table.shadowing_m,
        shadowing_s=table.shadowing_s,
        isolation_db=table.isolation_db,
        selectivity_db=table.selectivity_db,
        blocking_dbm=table.blocking_dbm,
        false_headers_per_hour=table.false_headers_per_hour,
    )


def _source(table: InterferenceTable, name: str) -> SourceConfig:
    """Raises ValueError."""
    return SourceConfig(
        name=name,
        x_m=table.x_m,
        y_m=table.y_m,
        power_dbm=table.power_dbm,
        freq_hz=table.freq_hz,
        bw_hz=table.bw_hz,
        from_s=table.from_s,
        until_s=table.until_s,
        on_s=_span(table.on_s),
        off_s=_span(table.off_s),
        frames=(table.sf, table.size) if table.kind == "lora" else None,
    )

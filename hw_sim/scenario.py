"""A scenario: gateway modules, devices and the air between them, from one TOML file.

`load` and `parse` check everything that a file can get wrong and name its line and key (`ScenarioError`). What the
file leaves out, places, identities and keys of many devices, is drawn from its seed: one file, one world.
`hw_sim.world` builds it.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from hw_sim.chip_faults import ChipFault
from hw_sim.concentrator import ConcentratorPlan, plan_for
from hw_sim.expect import Expectation
from hw_sim.gnss import GnssTable
from hw_sim.interference import MATRICES, Interference
from hw_sim.links import AirSettings, Fading
from hw_sim.node_config import MulticastGroup, NodeConfig
from hw_sim.propagation import BOR, NS3, OULU
from hw_sim.rn2483 import Rn2483Table, module_of
from hw_sim.scenario_lines import ScenarioError, blame
from hw_sim.scenario_nodes import Devices, Misplaced, groups_of, span_of
from hw_sim.scenario_tables import (
    MAX_GATEWAYS,
    MAX_NODES,
    AirTable,
    ConcentratorTable,
    GatewayTable,
    InterferenceTable,
    ScenarioTable,
)
from hw_sim.sources import SourceConfig
from radio.config import ModuleConfig, with_roles
from radio.plan import problems
from radio.regions import get_region

GPS_START_MS: Final = 1_456_401_618_000  # GPS time at the beginning of a run: 2026-03-01T12:00:00 UTC
PATH_LOSS: Final = {"oulu": OULU, "bor": BOR, "ns3": NS3}


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
    concentrator: ConcentratorPlan | None = None

    @property
    def all_modules(self) -> tuple[ModuleConfig, ...]:
        """Modules and modems, as the radio's settings have them."""
        return (*self.modules, *(module_of(modem) for modem in self.rn2483))

    def module_names(self, several: bool) -> tuple[str, ...]:
        """What the air calls its modules; one of `several` gateways puts its own name before theirs."""
        prefix = f"{self.name}/" if several else ""
        return tuple(prefix + module.name for module in self.modules)

    def concentrator_name(self, several: bool) -> str:
        """What the air calls its concentrator."""
        return f"{self.name}/concentrator" if several else "concentrator"


@dataclass(frozen=True, slots=True)
class Burst:
    """So many devices report something within a while."""

    at_s: float
    within_s: float
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DownlinkPlan:
    """What an application orders, and when: for devices by name, or for a group."""

    at_s: float
    every_s: float | None
    until_s: float
    nodes: tuple[str, ...]
    group: str
    fport: int
    payload: bytes
    confirmed: bool


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
    groups: tuple[MulticastGroup, ...] = ()
    downlinks: tuple[DownlinkPlan, ...] = ()
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
        try:
            groups = groups_of(table)
            nodes = tuple(Devices(table, groups, (gateways[0].x_m, gateways[0].y_m)).all())
        except Misplaced as error:
            raise self._blame(error.path, error) from error
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
            groups=tuple(groups.values()),
            downlinks=tuple(self._downlinks(table, nodes)),
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
            if gateway.concentrator is not None and (gateway.module or gateway.rn2483 or gateway.gnss):
                problem = "it is a gateway of its own: no module, rn2483 or gnss beside it"
                raise self._blame([*path, "concentrator"], problem)
            if not gateway.module and not gateway.rn2483 and gateway.concentrator is None:
                raise self._blame(path, "a gateway needs a [[gateway.module]] or [gateway.concentrator]")
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
                concentrator=self._concentrator(gateway.concentrator, table.region, path),
            )
            self._fits(plan, table.region, path)
            yield plan

    def _concentrator(
        self, table: ConcentratorTable | None, region: str, at: list[str]
    ) -> ConcentratorPlan | None:
        if table is None:
            return None
        try:
            usual = plan_for(get_region(region), table.sub_band - 1)
            return replace(
                usual,
                channels_hz=tuple(table.channels_hz) or usual.channels_hz,
                demodulators=table.demodulators,
                full_duplex=table.full_duplex,
                counter_ppm=table.counter_ppm,
                gps_ms=GPS_START_MS if table.gnss else None,
            )
        except ValueError as error:
            raise self._blame([*at, "concentrator"], error) from error

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

    def _downlinks(self, table: ScenarioTable, nodes: tuple[NodeConfig, ...]) -> Iterator[DownlinkPlan]:
        groups = {group.name for group in table.multicast}
        for index, order in enumerate(table.downlinks):
            path = ["downlinks", str(index)]
            names = tuple(node.name for node in nodes if fnmatchcase(node.name, order.nodes))
            if order.multicast and order.multicast not in groups:
                raise self._blame([*path, "multicast"], f"no [[multicast]] is called {order.multicast}")
            if not order.multicast and not names:
                raise self._blame([*path, "nodes"], f"no device is called {order.nodes}")
            yield DownlinkPlan(
                at_s=order.at_s,
                every_s=order.every_s,
                until_s=table.duration_s if order.until_s is None else order.until_s,
                nodes=() if order.multicast else names,
                group=order.multicast,
                fport=order.fport,
                payload=bytes.fromhex(order.payload),
                confirmed=order.confirmed,
            )

    def _expectations(self, table: ScenarioTable) -> Iterator[Expectation]:
        for metric, value in table.expect.items():
            try:
                yield Expectation.parse(metric, value)
            except ValueError as error:
                raise self._blame(["expect", metric], error) from error

    def _blame(self, path: list[str], problem: object) -> ScenarioError:
        return blame(self._source, self._text, path, str(problem))


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
        loss=table.loss,
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
        on_s=span_of(table.on_s),
        off_s=span_of(table.off_s),
        frames=(table.sf, table.size) if table.kind == "lora" else None,
    )

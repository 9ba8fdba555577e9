"""A scenario: gateway modules, devices and the air between them, from one TOML file.

`load` and `parse` check everything that a file can get wrong and name its line and key (`ScenarioError`). What the
file leaves out, places, identities and keys of many devices, is drawn from its seed: one file, one world.
`hw_sim.world` builds it.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hw_sim.errors import SimError
from hw_sim.links import AirSettings
from hw_sim.node import DevNonceMode, NodeConfig
from hw_sim.propagation import BOR, NS3, OULU
from radio.config import ModuleConfig
from radio.lora import LoRaModulation
from radio.regions import get_region

PATH_LOSS: Final = {"oulu": OULU, "bor": BOR, "ns3": NS3}
MAX_NODES: Final = 10_000
# Generated identities: locally administered EUI-64s (second-lowest bit of the first byte set).
EUI_BASE: Final = 0x02F1_0000_0000_0000

Span = Annotated[list[Annotated[float, Meta(ge=0, le=86_400)]], Meta(min_length=2, max_length=2)]


class ScenarioError(SimError):
    """A scenario that cannot be. `line` is 0 where no line is to blame."""

    def __init__(self, source: str, line: int, key: str, problem: str) -> None:
        self.source, self.line, self.key, self.problem = source, line, key, problem
        place = f"{source}, line {line}" if line else source
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AirTable(_Table, frozen=True, kw_only=True):
    """Between the antennas."""

    path_loss: Literal["oulu", "bor", "ns3"] = "oulu"
    fading_db: Annotated[float, Meta(ge=0, le=20)] = 1.0  # standard deviation, per frame and receiver
    isolation_db: Annotated[float, Meta(ge=0, le=120)] = 35.0  # between the gateway's antennas
    false_headers_per_hour: Annotated[float, Meta(ge=0, le=1000)] = 0.0


class ModuleTable(_Table, frozen=True, kw_only=True):
    """One module of the gateway, named as in its configuration."""

    board: str = "fluxgate-sim-4"
    index: Annotated[int, Meta(ge=0, le=7)] = 0
    freq_hz: int = 868_100_000
    sf: Annotated[int, Meta(ge=6, le=12)] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    role: Literal["rx", "tx", "rxtx"] = "rxtx"


class GatewayTable(_Table, frozen=True, kw_only=True):
    """Where the gateway stands and what it hears with."""

    x_m: float = 0.0
    y_m: float = 0.0
    antenna_gain_dbi: Annotated[float, Meta(ge=-10, le=20)] = 0.0
    module: Annotated[list[ModuleTable], Meta(min_length=1, max_length=8)]


class NodeTable(_Table, frozen=True, kw_only=True):
    """One device, or `count` of a kind."""

    count: Annotated[int, Meta(ge=1, le=MAX_NODES)] = 1
    name: Annotated[str, Meta(pattern=r"^[\w.-]{1,48}$")] = "node"  # with a number where there are several
    activation: Literal["otaa", "abp"] = "otaa"
    dev_eui: str = ""
    join_eui: str = "0000000000000000"
    app_key: str = ""
    dev_addr: str = ""
    nwk_s_key: str = ""
    app_s_key: str = ""
    dev_nonce: Literal["random", "counter"] = "random"
    x_m: float | None = None  # of one device; several are placed at random
    y_m: float | None = None
    radius_m: Annotated[float, Meta(gt=0, le=50_000)] = 500.0
    sf: Annotated[int, Meta(ge=7, le=12)] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    adr: bool = True
    channels_hz: list[int] = []
    first_s: Span = msgspec.field(default_factory=lambda: [1.0, 8.0])
    interval_s: Span = msgspec.field(default_factory=lambda: [20.0, 30.0])
    confirmed_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    fport: Annotated[int, Meta(ge=1, le=223)] = 1
    sensors: list[str] = msgspec.field(default_factory=lambda: ["temperature", "humidity"])
    link_check_every: Annotated[int, Meta(ge=0)] = 0
    rx_error_ms: float = 10.0
    clock_ppm: Annotated[float, Meta(ge=-1000, le=1000)] = 0.0
    crystal_ppm: Annotated[float, Meta(ge=-100, le=100)] = 0.0


class ScenarioTable(_Table, frozen=True, kw_only=True):
    """The whole file."""

    title: str = ""
    seed: Annotated[int, Meta(ge=0)] = 0
    region: str = "EU868"
    air: AirTable = AirTable()
    gateway: GatewayTable
    nodes: Annotated[list[NodeTable], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario, every device spelled out."""

    title: str
    seed: int
    region: str
    air: AirSettings
    gateway_x_m: float
    gateway_y_m: float
    antenna_gain_dbi: float
    modules: tuple[ModuleConfig, ...]
    nodes: tuple[NodeConfig, ...]


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
        raise _blame(source, text, path, problem) from error
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
        nodes = tuple(self._nodes(table))
        if len(nodes) > MAX_NODES:
            raise self._blame(["nodes"], f"{len(nodes)} devices; {MAX_NODES} is the most")
        air = table.air
        return Scenario(
            title=table.title,
            seed=table.seed,
            region=table.region,
            air=AirSettings(
                path_loss=PATH_LOSS[air.path_loss],
                fading_db=air.fading_db,
                isolation_db=air.isolation_db,
                false_headers_per_hour=air.false_headers_per_hour,
            ),
            gateway_x_m=table.gateway.x_m,
            gateway_y_m=table.gateway.y_m,
            antenna_gain_dbi=table.gateway.antenna_gain_dbi,
            modules=tuple(self._modules(table.gateway)),
            nodes=nodes,
        )

    def _modules(self, gateway: GatewayTable) -> Iterator[ModuleConfig]:
        used: set[tuple[str, int]] = set()
        for index, module in enumerate(gateway.module):
            path = ["gateway", "module", str(index)]
            try:
                made = ModuleConfig(**msgspec.structs.asdict(module))
            except ValueError as error:
                raise self._blame(path, error) from error
            if (made.board, made.index) in used:
                raise self._blame([*path, "index"], f"module {made.name} is used twice")
            used.add((made.board, made.index))
            yield made

    def _nodes(self, table: ScenarioTable) -> Iterator[NodeConfig]:
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
                node = self._node(table, kind, number, suffix, path)
                for key in ("name", "dev_eui"):
                    if (value := getattr(node, key)) in seen:
                        raise self._blame([*path, key], f"{value} is used twice")
                    seen.add(value)
                yield node

    def _node(
        self, table: ScenarioTable, kind: NodeTable, number: int, suffix: str, path: list[str]
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
            for key in ("first_s", "interval_s"):
                low, high = getattr(kind, key)
                if low > high:
                    raise ValueError("the first number is the smaller one")
            key = ""
            x_m, y_m = draw.place(table.gateway, kind.radius_m)
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
                first_s=(kind.first_s[0], kind.first_s[1]),
                interval_s=(kind.interval_s[0], kind.interval_s[1]),
                confirmed_share=kind.confirmed_share,
                fport=kind.fport,
                sensors=tuple(kind.sensors),
                link_check_every=kind.link_check_every,
                rx_error_ms=kind.rx_error_ms,
                clock_ppm=kind.clock_ppm,
                crystal_ppm=kind.crystal_ppm,
                **secrets,
            )
        except ValueError as error:
            raise self._blame([*path, key] if key else path, error) from error

    def _blame(self, path: list[str], problem: object) -> ScenarioError:
        return _blame(self._source, self._text, path, str(problem))


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

    def place(self, gateway: GatewayTable, radius_m: float) -> tuple[float, float]:
        distance_m = radius_m * self._share
        return (
            gateway.x_m + distance_m * math.cos(self._angle),
            gateway.y_m + distance_m * math.sin(self._angle),
        )


def _blame(source: str, text: str, path: list[str], problem: str) -> ScenarioError:
    spelled = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path).removeprefix(".")
    return ScenarioError(source, _find_line(text, path), spelled, problem)


def _find_line(text: str, path: list[str]) -> int:
    """The line that assigns the deepest part of `path` the text spells out; 0 where it spells none."""
    seen: dict[str, int] = {}
    here: list[str] = []
    best_line = best_depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#")[0].strip()
        if stripped.startswith("["):
            name = stripped.strip("[] ")
            here = name.split(".")
            if stripped.startswith("[["):
                here.append(str(seen.get(name, 0)))
                seen[name] = seen.get(name, 0) + 1
            spelled = here
        elif "=" in stripped:
            spelled = [*here, stripped.split("=")[0].strip().strip("\"'")]
        else:
            continue
        if best_depth < len(spelled) <= len(path) and spelled == path[: len(spelled)]:
            best_line, best_depth = number, len(spelled)
    return best_line

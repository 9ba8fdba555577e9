"""The devices of a scenario, every one spelled out: what their tables leave out is drawn from the seed."""

import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

from gateway.lorawan.profile import DeviceClass, Version
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hw_sim.drift import Climate, Oscillator
from hw_sim.mobility import AtEnd, Way
from hw_sim.node_config import DevNonceMode, MulticastGroup, NodeConfig, NodeFault
from hw_sim.scenario_tables import MulticastTable, NodeTable, ScenarioTable
from radio.lora import LoRaModulation
from radio.regions import get_region

# Generated identities: locally administered EUI-64s (second-lowest bit of the first byte set).
EUI_BASE: Final = 0x02F1_0000_0000_0000
_OF_ONE: Final = (
    "dev_eui",
    "app_key",
    "nwk_key",
    "dev_addr",
    "nwk_s_key",
    "s_nwk_s_int_key",
    "nwk_s_enc_key",
    "app_s_key",
    "x_m",
    "y_m",
)
_SPANS: Final = ("first_s", "interval_s", "burst_gap_s", "leaves_s", "clock_ppm", "crystal_ppm")


class Misplaced(Exception):
    """Something that cannot be, and the path of the setting that says so."""

    def __init__(self, path: list[str], problem: object) -> None:
        super().__init__(str(problem))
        self.path = path


def groups_of(table: ScenarioTable) -> dict[str, MulticastGroup]:
    """The multicast groups by name. Raises Misplaced."""
    groups: dict[str, MulticastGroup] = {}
    for index, kind in enumerate(table.multicast):
        path = ["multicast", str(index)]
        if kind.name in groups:
            raise Misplaced([*path, "name"], f"{kind.name} is used twice")
        groups[kind.name] = _group(table, kind, index, path)
    return groups


def _group(table: ScenarioTable, kind: MulticastTable, index: int, path: list[str]) -> MulticastGroup:
    def key(use: str, given: str) -> AES128Key:
        drawn = Random(f"{table.seed}/multicast/{index}/{use}").randbytes(16)
        return AES128Key.parse(given) if given else AES128Key(drawn)

    name = ""
    try:
        name = "dev_addr"
        drawn = Random(f"{table.seed}/multicast/{index}/dev_addr").randrange(1 << 25)
        dev_addr = DevAddr.parse(kind.dev_addr) if kind.dev_addr else DevAddr(drawn)
        name = "nwk_s_key"
        nwk_s_key = key(name, kind.nwk_s_key)
        name = "app_s_key"
        app_s_key = key(name, kind.app_s_key)
    except ValueError as error:
        raise Misplaced([*path, name], error) from error
    return MulticastGroup(
        name=kind.name,
        dev_addr=dev_addr,
        nwk_s_key=nwk_s_key,
        app_s_key=app_s_key,
        periodicity=kind.periodicity,
    )


class Devices:
    """Makes the devices of one scenario; the first gateway's place is in the middle of those placed by radius."""

    def __init__(
        self, table: ScenarioTable, groups: Mapping[str, MulticastGroup], middle_m: tuple[float, float]
    ) -> None:
        self._table = table
        self._groups = groups
        self._middle_m = middle_m

    def all(self) -> Iterator[NodeConfig]:
        """Raises Misplaced."""
        number = 0
        seen: set[object] = set()
        for index, kind in enumerate(self._table.nodes):
            path = ["nodes", str(index)]
            if kind.count > 1:
                for key in _OF_ONE:
                    if getattr(kind, key):
                        problem = "belongs to one device, and count asks for several"
                        raise Misplaced([*path, key], problem)
            for copy in range(kind.count):
                number += 1
                suffix = f"-{copy + 1}" if kind.count > 1 else ""
                node = self._node(kind, number, suffix, path)
                for key in ("name", "dev_eui"):
                    if (value := getattr(node, key)) in seen:
                        raise Misplaced([*path, key], f"{value} is used twice")
                    seen.add(value)
                yield node

    def _node(self, kind: NodeTable, number: int, suffix: str, path: list[str]) -> NodeConfig:
        table = self._table
        rng = Random(f"{table.seed}/{number}")  # each device's own, so that one more changes no other
        draw = _Draw(rng, table.seed, number)
        version = Version(kind.version)
        region = kind.region or table.region
        key = ""
        try:
            key = "region"
            get_region(region)
            key = "dev_eui"
            dev_eui = DevEUI.parse(kind.dev_eui) if kind.dev_eui else draw.dev_eui
            key = "join_eui"
            join_eui = JoinEUI.parse(kind.join_eui)
            secrets: dict[str, Any] = {}
            if kind.activation == "otaa":
                names = {"app_key": "app"} | ({"nwk_key": "nwk"} if version.is_1_1 else {})
            else:
                key = "dev_addr"
                secrets[key] = DevAddr.parse(kind.dev_addr) if kind.dev_addr else draw.dev_addr
                further = ("s_nwk_s_int_key", "nwk_s_enc_key") if version.is_1_1 else ()
                names = {name: name for name in ("nwk_s_key", "app_s_key", *further)}
            for key, use in names.items():
                given = getattr(kind, key)
                secrets[key] = AES128Key.parse(given) if given else draw.key(use)
            key = "sf"
            dr = get_region(region).dr_of(LoRaModulation(kind.sf, kind.bw_hz))
            if dr is None:
                raise ValueError(f"{region} has no data rate of SF{kind.sf} at {kind.bw_hz} Hz")
            spans: dict[str, tuple[float, float]] = {}
            for key in _SPANS:
                spans[key] = span_of(getattr(kind, key))
            key = "way_m"
            way = None
            if kind.way_m:
                points = tuple((x, y) for x, y in kind.way_m)
                leaves_s = draw.uniform("leaves_s", spans["leaves_s"])
                way = Way(points, kind.speed_m_s, AtEnd(kind.at_end), leaves_s)
            key = "multicast"
            groups = tuple(self._member_of(name) for name in kind.multicast)
            key = "faults"
            faults = frozenset(_fault(name) for name in kind.faults)
            key = ""
            x_m, y_m = draw.place(self._middle_m, kind.radius_m)
            return NodeConfig(
                name=kind.name + suffix,
                dev_eui=dev_eui,
                version=version,
                device_class=DeviceClass(kind.device_class),
                groups=groups,
                join_eui=join_eui,
                region=region,
                channels_hz=tuple(kind.channels_hz),
                dr=dr,
                adr=kind.adr,
                dev_nonce=None if kind.dev_nonce is None else DevNonceMode(kind.dev_nonce),
                x_m=x_m if kind.x_m is None else kind.x_m,
                y_m=y_m if kind.y_m is None else kind.y_m,
                way=way,
                appears_s=kind.appears_s,
                vanishes_s=kind.vanishes_s,
                power_losses_s=tuple(kind.power_losses_s),
                faults=faults,
                first_s=spans["first_s"],
                interval_s=spans["interval_s"],
                burst=kind.burst,
                burst_gap_s=spans["burst_gap_s"],
                confirmed_share=kind.confirmed_share,
                fport=kind.fport,
                sensors=tuple(kind.sensors),
                link_check_every=kind.link_check_every,
                time_every=kind.time_every,
                rejoin_every_s=kind.rejoin_every_s,
                periodicity=kind.periodicity,
                rx_error_ms=kind.rx_error_ms,
                rx_late_ms=kind.rx_late_ms,
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
            raise Misplaced([*path, key] if key else path, error) from error

    def _member_of(self, name: str) -> MulticastGroup:
        group = self._groups.get(name)
        if group is None:
            raise ValueError(f"no [[multicast]] is called {name}")
        return group


def _fault(name: str) -> NodeFault:
    try:
        return NodeFault(name)
    except ValueError:
        raise ValueError(f"{name!r} is no fault of a device; there are {', '.join(NodeFault)}") from None


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

    def place(self, middle_m: tuple[float, float], radius_m: float) -> tuple[float, float]:
        distance_m = radius_m * self._share
        return (
            middle_m[0] + distance_m * math.cos(self._angle),
            middle_m[1] + distance_m * math.sin(self._angle),
        )


def span_of(given: float | list[float]) -> tuple[float, float]:
    """A number is a span of its own. Raises ValueError for one the wrong way round."""
    low, high = given if isinstance(given, list) else (given, given)
    if low > high:
        raise ValueError("the first number is the smaller one")
    return low, high

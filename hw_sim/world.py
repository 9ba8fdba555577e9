"""A scenario come to life on a kernel: the air, the gateways' chips on their pins, the devices, what disturbs them."""

from collections import Counter
from dataclasses import dataclass, field

from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.concentrator import SimConcentrator
from hw_sim.gnss import SimGnss, build_gnss
from hw_sim.kernel import Kernel
from hw_sim.node import Node
from hw_sim.records import FrameRecord
from hw_sim.rn2483 import Place, SimRn2483, build_rn2483
from hw_sim.scenario import Burst, FaultPlan, GatewayPlan, Scenario
from hw_sim.sources import SECOND_NS, Source
from hw_sim.sx1276 import SX1276

MIDDLE_DEG = (52.52, 13.405)  # latitude and longitude of x = y = 0
METRES_A_DEGREE = (111_320.0, 67_700.0)  # there


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway's hardware."""

    plan: GatewayPlan
    board: Board  # its pins and SPI; hosts and fakes run on it
    chips: dict[
        str, SX1276
    ]  # by what the air calls them: the module's name, after the gateway's where there are several
    modems: dict[str, SimRn2483]  # by port
    gnss: SimGnss | None = None
    concentrator: SimConcentrator | None = None  # in place of all those

    @property
    def names(self) -> tuple[str, ...]:
        """What the air calls its modules and modems, or its concentrator."""
        if self.concentrator is not None:
            return (self.concentrator.name,)
        return (*self.chips, *(self.modems[modem.port].chip.name for modem in self.plan.rn2483))

    @property
    def receivers(self) -> tuple[str, ...]:
        """What the air calls those of them that listen."""
        if self.concentrator is not None:
            return (self.concentrator.name,)
        modules = zip(self.chips, self.plan.modules, strict=True)
        return (
            *(name for name, module in modules if module.role.receives),
            *(self.modems[modem.port].chip.name for modem in self.plan.rn2483 if modem.role != "tx"),
        )


@dataclass(frozen=True, slots=True)
class World:
    """Everything a scenario consists of. Run it with `kernel.run` or `kernel.run_until`."""

    scenario: Scenario
    kernel: Kernel
    air: Air
    sites: tuple[Site, ...]
    nodes: tuple[Node, ...]
    injected: Counter[str] = field(default_factory=Counter)  # faults, by the chip's name

    @property
    def board(self) -> Board:
        """Of the first gateway."""
        return self.sites[0].board

    @property
    def chips(self) -> dict[str, SX1276]:
        """Of all gateways, by what the air calls them."""
        return {name: chip for site in self.sites for name, chip in site.chips.items()}

    @property
    def receivers(self) -> tuple[str, ...]:
        """What the air calls everything that listens on a gateway."""
        return tuple(name for site in self.sites for name in site.receivers)

    def node(self, name: str) -> Node:
        """The device of this name. Raises KeyError."""
        for node in self.nodes:
            if node.config.name == name:
                return node
        raise KeyError(name)


def build(scenario: Scenario, kernel: Kernel, *, strict: bool = True, boot: int = 0) -> World:
    """Set everything up and power the devices on; nothing happens before the kernel runs.

    The kernel's seed decides what happens; make it with the scenario's. `boot` counts earlier lives of the same
    devices: a network that remembers them refuses nonces they have used.
    """
    air = Air(kernel, scenario.air)
    several = len(scenario.gateways) > 1
    sound = strict and not scenario.faults  # what a disturbed driver does would be misuse of a sound chip
    sites = tuple(_site(plan, kernel, air, sound, several) for plan in scenario.gateways)
    nodes = tuple(_node(scenario, kernel, air, index, strict, boot) for index in range(len(scenario.nodes)))

    def tell(record: FrameRecord) -> None:
        if record.iq_inverted:
            for node in nodes:
                node.on_air(record)

    air.records.observe(tell)
    for node in nodes:
        node.start()
    for source in scenario.sources:
        Source(kernel, air, source).start()
    world = World(scenario, kernel, air, sites, nodes)
    for number, burst in enumerate(scenario.bursts):
        _queue(world, burst, number)
    for fault in scenario.faults:
        _break(world, fault)
    return world


def _site(plan: GatewayPlan, kernel: Kernel, air: Air, strict: bool, several: bool) -> Site:
    board = Board(kernel)
    chips: dict[str, SX1276] = {}
    names = plan.module_names(several)
    for name, module, crystal_ppm in zip(names, plan.modules, plan.crystals_ppm, strict=True):
        wiring = module.wiring
        chip = SX1276(kernel, name, strict=strict, crystal_ppm=crystal_ppm)
        dio = {0: wiring.dio0} | ({} if wiring.dio1 is None else {1: wiring.dio1})
        board.connect(chip, wiring.spi, dio, wiring.reset)
        air.add(chip, plan.x_m, plan.y_m, antenna_gain_dbi=plan.antenna_gain_dbi, group=plan.name)
        chips[name] = chip
    place = Place(plan.x_m, plan.y_m, plan.antenna_gain_dbi, plan.name)
    modems = build_rn2483(list(plan.rn2483), kernel, air, place)
    gnss = build_gnss(plan.gnss, kernel, board)
    board.serial.update((port, modem.wire) for port, modem in modems.items())
    if gnss is not None:
        board.serial[gnss.table.port] = gnss.wire
    concentrator = None
    if plan.concentrator is not None:
        concentrator = SimConcentrator(
            kernel,
            air,
            plan.concentrator_name(several),
            plan.concentrator,
            x_m=plan.x_m,
            y_m=plan.y_m,
            antenna_gain_dbi=plan.antenna_gain_dbi,
            group=plan.name,
        )
    return Site(plan, board, chips, modems, gnss, concentrator)


def _node(scenario: Scenario, kernel: Kernel, air: Air, index: int, strict: bool, boot: int) -> Node:
    config = scenario.nodes[index]
    chip = SX1276(kernel, config.name, strict=strict)
    air.add(chip, config.x_m, config.y_m, way=config.way)
    x_m, y_m = config.way.at(0) if config.way else (config.x_m, config.y_m)
    place = (MIDDLE_DEG[0] + y_m / METRES_A_DEGREE[0], MIDDLE_DEG[1] + x_m / METRES_A_DEGREE[1])
    return Node(kernel, chip, config, place_deg=place, boot=boot)


def _queue(world: World, burst: Burst, number: int) -> None:
    """All its devices report within its time, each at an instant of its own."""
    rng = world.kernel.rng(f"burst/{number}")
    for name in burst.nodes:
        at_s = burst.at_s + rng.uniform(0, burst.within_s)
        world.kernel.at(round(at_s * SECOND_NS), world.node(name).trigger)


def _break(world: World, fault: FaultPlan) -> None:
    """A defect now and then."""
    kernel = world.kernel
    chips = [world.chips[name] for name in fault.modules]

    def strike() -> None:
        for chip in chips:
            chip.faults.inject(fault.kind, round(fault.for_s * SECOND_NS))
            world.injected[chip.name] += 1
        if (
            fault.every_s is not None
            and kernel.now_ns + fault.every_s * SECOND_NS < fault.until_s * SECOND_NS
        ):
            kernel.after(round(fault.every_s * SECOND_NS), strike)

    kernel.at(round(fault.at_s * SECOND_NS), strike)

"""A scenario come to life on a kernel: the air, the gateway's chips on their pins, and the devices."""

from dataclasses import dataclass

from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.kernel import Kernel
from hw_sim.node import Node
from hw_sim.records import FrameRecord
from hw_sim.scenario import Scenario
from hw_sim.sx1276 import SX1276

MAST = "gateway"  # the antenna group of all modules
MIDDLE_DEG = (52.52, 13.405)  # latitude and longitude of x = y = 0
METRES_A_DEGREE = (111_320.0, 67_700.0)  # there


@dataclass(frozen=True, slots=True)
class World:
    """Everything a scenario consists of. Run it with `kernel.run` or `kernel.run_until`."""

    scenario: Scenario
    kernel: Kernel
    air: Air
    board: Board  # the gateway's pins and SPI; hosts and fakes run on it
    chips: dict[str, SX1276]  # the gateway's, by module name such as "fluxgate-sim-4/0"
    nodes: tuple[Node, ...]

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
    board = Board(kernel)
    chips: dict[str, SX1276] = {}
    for module in scenario.modules:
        wiring = module.wiring
        chip = SX1276(kernel, module.name, strict=strict)
        dio = {0: wiring.dio0} | ({} if wiring.dio1 is None else {1: wiring.dio1})
        board.connect(chip, wiring.spi, dio, wiring.reset)
        place = scenario.gateway_x_m, scenario.gateway_y_m
        air.add(chip, *place, antenna_gain_dbi=scenario.antenna_gain_dbi, group=MAST)
        chips[module.name] = chip
    nodes = tuple(_node(scenario, kernel, air, index, strict, boot) for index in range(len(scenario.nodes)))

    def tell(record: FrameRecord) -> None:
        if record.iq_inverted:
            for node in nodes:
                node.on_air(record)

    air.records.observe(tell)
    for node in nodes:
        node.start()
    return World(scenario, kernel, air, board, chips, nodes)


def _node(scenario: Scenario, kernel: Kernel, air: Air, index: int, strict: bool, boot: int) -> Node:
    config = scenario.nodes[index]
    chip = SX1276(kernel, config.name, strict=strict, crystal_ppm=config.crystal_ppm)
    air.add(chip, config.x_m, config.y_m)
    place = (
        MIDDLE_DEG[0] + config.y_m / METRES_A_DEGREE[0],
        MIDDLE_DEG[1] + config.x_m / METRES_A_DEGREE[1],
    )
    return Node(kernel, chip, config, place_deg=place, boot=boot)

"""How fast the simulator is: a day of eight nodes against the driver's own threads, all in virtual time.

Run: .venv/bin/python tests/bench/bench_hw_sim.py [uplinks]
"""

import sys
import time

from hw_sim import platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.records import Fate
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.config import ModuleConfig, RadioConfig, Role
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation
from radio.service import Radio
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Mode, Power, Settings

BOARD = "fluxgate-sim-4"
CHANNELS_HZ = (868_100_000, 868_300_000, 868_500_000)
DAY_NS = 86_400 * 1_000_000_000
NODES = 8


class DirectBus:
    """SPI without time, for nodes that live in events."""

    def __init__(self, chip: SX1276) -> None:
        self._chip = chip

    def xfer(self, data: bytes) -> bytes:
        return self._chip.spi(data)


def main(uplinks: int) -> None:
    """One day; every uplink is answered in RX1 by the fourth module."""
    kernel = Kernel(seed=1)
    air = Air(kernel)
    modules = [SX1276(kernel, f"module{i}") for i in range(4)]
    for module in modules:
        air.add(module, antenna_gain_dbi=2.0, group="mast")
    board = get_board(BOARD)
    host = LocalHost(kernel, Board.wired(kernel, board, modules))
    configs = [ModuleConfig(BOARD, i, freq_hz=hz, role=Role.RX) for i, hz in enumerate(CHANNELS_HZ)]
    config = RadioConfig(modules=(*configs, ModuleConfig(BOARD, 3, role=Role.TX)), gateway_eui=bytes(8))
    answers: list[TxError] = []

    def on_frame(rx: RxPacket, end_ns: int) -> None:
        at = (rx.tmst + 1_000_000) % 2**32
        order = TxPacket(at, False, rx.freq_hz, 0, 14, rx.modulation, True, b"down", True)
        answers.append(radio.transmit(order, end_ns).error)

    radio = Radio(config, platforms.lockstep(host), on_frame)
    began = time.perf_counter()
    radio.start()
    kernel.await_clients(4)
    rng = kernel.rng("bench")
    nodes = [SX1276(kernel, f"node{i}") for i in range(NODES)]
    for i, node in enumerate(nodes):
        air.add(node, 300.0 + 200 * i)
        node.spi(b"\x81\x80")
    mod = LoRaModulation(7, 125_000)

    def send(node: SX1276, channel_hz: int) -> None:
        chip = Chip(DirectBus(node))
        chip.write(0x01, 0x81)
        chip.configure_transmit(Settings(channel_hz, mod), Power(14), bytes(23))
        chip.command(Mode.TX)

    for n in range(uplinks):
        node, channel_hz = nodes[n % NODES], rng.choice(CHANNELS_HZ)
        at_ns = (n + 1) * (DAY_NS // (uplinks + 2)) + rng.randrange(1_000_000_000)
        kernel.at(at_ns, lambda node=node, channel_hz=channel_hz: send(node, channel_hz))  # type: ignore[misc]
    kernel.run_until(DAY_NS)
    took_s = time.perf_counter() - began
    radio.ask_to_stop()
    kernel.run_until(DAY_NS + 1_000_000_000)
    radio.stop()
    kernel.close()
    received = sum(air.records.counters[module.name][Fate.RECEIVED] for module in modules)
    transfers = sum(chip.transfers for chip in modules)
    sent = sum(error is TxError.NONE for error in answers)
    print(
        f"a day, {uplinks} uplinks, {received} received, {sent} of {len(answers)} answers accepted: {took_s:.1f} s"
    )
    print(f"{kernel.events_run} events, {transfers} SPI transfers of the gateway")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)

"""The thread that owns a module: two of them on one bus, and how long a dead chip is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from hw_sim.air import Air
from hw_sim.board import Board as SimBoard
from hw_sim.hosts import LocalHost, SimBus, SimClock, SimLines
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276
from radio.boards import Board, ModuleWiring, get_board
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.hardware.gpio import pins_of
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation
from radio.owner import LAST_RETRY_NS, ModuleOwner
from radio.service import Platform, Radio
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Settings
from radio.sx127x.roaming import RoamingModem

if TYPE_CHECKING:
    from tests.radio.conftest import Bench, Carrier

SECOND = 1000 * MS
SF7 = LoRaModulation(7, 125_000)
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
LISTEN = Settings(868_100_000, SF7)
SIM = "fluxgate-sim-4"


class SharedBus(SimBus):
    """Two chips behind one controller: a transfer waits for the one that is running."""

    busy_until: dict[int, int]

    def xfer(self, data: bytes) -> bytes:
        host, (bus, _device) = self._host, self._where
        wait_ns = self.busy_until.get(bus, 0) - host.now_ns()
        if wait_ns > 0:
            host.delay(wait_ns)
        self.busy_until[bus] = host.now_ns() + 20_000 + len(data) * 8_000_000_000 // self._speed_hz
        return super().xfer(data)


def sharing(carrier: Carrier) -> Platform:
    """The carrier's platform, with the two modules of each controller in each other's way."""
    busy_until: dict[int, int] = {}

    def bus(board: Board, wiring: ModuleWiring) -> SharedBus:
        made = SharedBus(carrier.host, *wiring.spi, board.spi_hz)
        made.busy_until = busy_until
        return made

    plain = carrier.platform
    return Platform(bus=bus, lines=plain.lines, clock=plain.clock)


def test_two_modules_on_one_bus_work_side_by_side(carrier: Carrier) -> None:
    """CE0 listens, CE1 sends, by default: neither loses anything to the other, in the air or on the wires."""
    heard: list[RxPacket] = []
    modules = (ModuleConfig(SIM, 0), ModuleConfig(SIM, 1))
    config = RadioConfig(modules=modules, gateway_eui=bytes(8), tx_lead_us=0)
    radio = Radio(config, sharing(carrier), lambda rx, _end_ns: heard.append(rx))
    carrier.start(radio)
    device = carrier.device("device")
    for n in range(40):
        device.sends(SECOND + n * 330 * MS, LISTEN, UP + bytes(180) + bytes((n,)))
    starts_ns = [SECOND + n * 700 * MS + n * n * 7 * MS for n in range(9)]

    def order(start_ns: int) -> None:
        down = TxPacket(start_ns // 1000, False, 869_525_000, 0, 14, SF7, True, b"down" + bytes(90), True)
        assert radio.transmit(down, start_ns - 500 * MS).error is TxError.NONE

    for start_ns in starts_ns:
        carrier.kernel.at(start_ns - 500 * MS, lambda start_ns=start_ns: order(start_ns))
    carrier.run_until(30 * SECOND)
    sent = [frame for frame in carrier.frames if frame.sender == "module1"]
    assert len(sent) == len(starts_ns)
    assert all(
        abs(frame.start_ns - start_ns) < 400_000 for frame, start_ns in zip(sent, starts_ns, strict=True)
    )
    assert [rx.data[-1] for rx in heard] == list(range(40))
    status = radio.status(30 * SECOND)["modules"]
    assert [module["role"] for module in status] == ["rx", "tx"]
    assert [module["faults_by_kind"] for module in status] == [{}, {}]
    carrier.stop(radio)


def test_a_chip_that_was_dead_for_long_works_again_within_seconds(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    chip = bench.chip
    bench.at(SECOND, lambda: setattr(chip.faults, "spi_reads", 0x00))
    bench.run_until(300 * SECOND)
    assert bench.state == "DOWN"
    assert bench.owner.modem.health.by_kind.total() == 1  # one fault, however often it was tried
    tries = chip.transfers
    bench.run_until(310 * SECOND)
    assert chip.transfers - tries < 50
    chip.faults.spi_reads = None
    bench.run_until(310 * SECOND + LAST_RETRY_NS + 100 * MS)
    assert bench.state == "LISTENING"
    assert bench.owner.modem.health.recovered == 1


def test_what_there_is_to_know_is_plain_values(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    bench.at(1500 * MS, lambda: bench.chip.drop_out(1))
    bench.run_until(3 * SECOND)
    status = bench.owner.status(3 * SECOND)
    assert status["kind"] == "sx127x"
    assert status["faults_by_kind"] == {"mode": 1}
    assert status["recovered"] == 1
    assert status["detection_ms"]["last"] <= 1100
    assert status["recovery_ms"]["worst"] < 5


@pytest.mark.parametrize("spi_hz", [500_000, 2_000_000, 8_000_000])
def test_a_long_downlink_starts_in_time_over_a_slow_bus(spi_hz: int) -> None:
    kernel = Kernel(seed=1)
    chip = SX1276(kernel, "gateway")
    air = Air(kernel)
    air.add(chip)
    board = get_board("generic")
    host = LocalHost(kernel, SimBoard.wired(kernel, board, [chip]))
    modem = RoamingModem(Chip(SimBus(host, 0, 0, spi_hz)), LISTEN, 0x34)
    lines = SimLines(host, pins_of(board.module(0)))
    owner = ModuleOwner(
        "slow", modem, lines, SimClock(host), lambda _owner, _event: None, has_reset=True, spi_hz=spi_hz
    )
    stop = threading.Event()
    kernel.spawn(lambda: owner.run(stop), "slow")
    tx = Transmission(1, 2 * SECOND, 869_525_000, SF7, 20, True, False, 8, bytes(255))
    kernel.run_until(SECOND)
    assert owner.submit(tx, SECOND) is TxError.NONE
    kernel.run_until(3 * SECOND)
    (frame,) = air.records.frames
    kernel.close()
    assert frame.payload == tx.payload
    assert abs(frame.start_ns - tx.start_ns) <= 20_000

"""The driver's Linux side on the fake `spidev`, `gpiod` and `RPi.GPIO` of the simulator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from hw_sim import fakes
from hw_sim.fakes import rpi_gpio
from hw_sim.hosts import FreeHost, SimClock
from hw_sim.platforms import real_time_on_fakes
from radio.boards import get_board, parse_board
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import RxPacket
from radio.hardware.gpio import GpiodLines, GpioError, RpiGpioLines, open_lines, pins_of
from radio.hardware.spi import SpidevBus
from radio.jit import MS
from radio.lora import LoRaModulation
from radio.seam import Lines
from radio.service import Platform, Radio
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from tests.radio.conftest import Carrier

SECOND = 1000 * MS
SF7 = LoRaModulation(7, 125_000)
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
BOARD = "fluxgate-sim-4"
CONFIG = RadioConfig(modules=(ModuleConfig(BOARD),), gateway_eui=bytes(8), tx_lead_us=0)


@pytest.fixture
def machine(carrier: Carrier) -> Iterator[Carrier]:
    """A carrier whose host the fake modules work on."""
    fakes.install(carrier.host)
    yield carrier
    fakes.uninstall()


@pytest.mark.parametrize(
    ("gpio", "kind", "coarse"), [("gpiod", GpiodLines, 0), ("rpi-gpio", RpiGpioLines, 1)]
)
def test_both_backends_carry_a_frame(machine: Carrier, gpio: str, kind: type[Lines], coarse: int) -> None:
    heard: list[RxPacket] = []
    made: list[Lines] = []

    def lines(board, wiring, clock):  # type: ignore[no-untyped-def]
        made.append(open_lines(gpio, board, wiring, clock.now_ns))
        return made[-1]

    platform = Platform(
        bus=lambda board, wiring: SpidevBus(*wiring.spi, board.spi_hz),
        lines=lines,
        clock=lambda _name: SimClock(machine.host),
    )
    radio = Radio(CONFIG, platform, lambda rx, _end_ns: heard.append(rx))
    machine.start(radio)
    machine.device("device").sends(SECOND, Settings(868_100_000, SF7), UP)
    machine.run_until(3 * SECOND)
    machine.stop(radio)
    assert [rx.data for rx in heard] == [UP]
    assert [type(line) for line in made] == [kind]
    assert radio.concentrator.counters["rx_coarse"] == coarse
    end_us = machine.frames[0].end_ns // 1000
    assert 0 <= heard[0].tmst - end_us <= (1000 if coarse else 1)


def test_auto_prefers_kernel_time_stamps(machine: Carrier) -> None:
    board = get_board(BOARD)
    lines = open_lines("auto", board, board.module(0), lambda: 0)
    assert isinstance(lines, GpiodLines)
    lines.close()


def test_auto_falls_back_where_the_board_has_no_such_gpio_chip(machine: Carrier) -> None:
    board = parse_board("b", 'gpio_chip_labels = ["none"]\n[[module]]\nspi = [0, 0]\ndio0 = 4')
    lines = open_lines("auto", board, board.module(0), lambda: 0)
    assert isinstance(lines, RpiGpioLines)
    lines.close()


def test_each_backend_says_what_it_lacks(machine: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpi_gpio, "emulate_broken_edges", True)
    board = parse_board("b", 'gpio_chip_labels = ["none"]\n[[module]]\nspi = [0, 0]\ndio0 = 4')
    with pytest.raises(GpioError, match=r"gpiod: no GPIO chip labelled none.*rpi-gpio: Failed to add edge"):
        open_lines("auto", board, board.module(0), lambda: 0)


def test_a_line_is_driven_and_read(machine: Carrier) -> None:
    wiring = get_board(BOARD).module(0)
    lines = GpiodLines(pins_of(wiring), get_board(BOARD).gpio_chip_labels)
    assert lines.get("reset")
    lines.set("reset", False)
    assert not lines.get("reset")
    assert lines.read_edges() == []
    lines.close()


def test_a_missing_spi_device_is_an_os_error(machine: Carrier) -> None:
    with pytest.raises(FileNotFoundError):
        SpidevBus(7, 0, 8_000_000)


def test_the_whole_linux_platform_runs_in_real_time(carrier_for: Callable[[], Carrier]) -> None:
    carrier = carrier_for()
    platform = real_time_on_fakes(FreeHost(carrier.kernel, carrier.host.board))
    heard = threading.Event()
    stop = threading.Event()
    world = threading.Thread(target=carrier.kernel.run, kwargs={"pace": 1.0, "stop": stop})
    radio = Radio(CONFIG, platform, lambda _rx, _end_ns: heard.set())
    try:
        world.start()
        radio.start()
        device = carrier.device("device")
        for i in range(1, 200):  # until the machine has found time for one of them
            device.sends(i * SECOND // 2, Settings(868_100_000, SF7), UP)
        assert heard.wait(90)
        assert radio.concentrator.counters["rx_coarse"] == 0
    finally:
        radio.stop()
        stop.set()
        world.join()
        fakes.uninstall()

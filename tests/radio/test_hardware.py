"""The driver's Linux side on the fake `spidev`, `gpiod` and `RPi.GPIO` of the simulator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from hw_sim import fakes
from hw_sim.fakes import lgpio, packages, rpi_gpio
from hw_sim.hosts import FreeHost, SimClock
from hw_sim.platforms import real_time_on_fakes
from radio.boards import Board, ModuleWiring, get_board, parse_board
from radio.config import ModuleConfig, RadioConfig
from radio.errors import BusyError, GpioError
from radio.gwmp import RxPacket
from radio.hardware.gpio import open_lines, pins_of
from radio.hardware.gpiod_lines import GpiodLines
from radio.hardware.lgpio_lines import LgpioLines, monotonic_of
from radio.hardware.polling_lines import PollingLines
from radio.hardware.rpi_gpio_lines import RpiGpioLines
from radio.hardware.spi import SpidevBus
from radio.jit import MS
from radio.lora import LoRaModulation
from radio.seam import Clock, Lines
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


def hears_one_frame(machine: Carrier, gpio: str) -> tuple[Radio, RxPacket, Lines]:
    """A radio on the machine's fakes, and what it made of the frame that a device sent it."""
    heard: list[RxPacket] = []
    made: list[Lines] = []

    def lines(board: Board, wiring: ModuleWiring, clock: Clock) -> Lines:
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
    status = radio.status(machine.kernel.now_ns)
    machine.stop(radio)
    (rx,) = heard
    assert rx.data == UP
    assert status["modules"][0]["backend"] == made[0].backend
    return radio, rx, made[0]


def late_us(machine: Carrier, rx: RxPacket) -> int:
    """How far a frame's time stamp is behind the end of its last symbol."""
    return rx.tmst - machine.frames[0].end_ns // 1000


@pytest.mark.parametrize(("gpio", "kind"), [("gpiod", GpiodLines), ("lgpio", LgpioLines)])
def test_frames_through_kernel_stamps_have_their_microsecond(
    machine: Carrier, gpio: str, kind: type[Lines]
) -> None:
    radio, rx, lines = hears_one_frame(machine, gpio)
    assert isinstance(lines, kind)
    assert radio.concentrator.counters["rx_coarse"] == 0
    assert 0 <= late_us(machine, rx) <= 1


def test_frames_through_rpi_gpio_are_marked_as_coarse(machine: Carrier) -> None:
    radio, rx, lines = hears_one_frame(machine, "rpi-gpio")
    assert isinstance(lines, RpiGpioLines)
    assert radio.concentrator.counters["rx_coarse"] == 1
    assert 0 <= late_us(machine, rx) <= 1000


@pytest.mark.parametrize(("lacking", "within_us"), [((), 500), (("RPi",), 1000)], ids=["pin", "flags"])
def test_polling_finds_the_frame_and_halves_the_interval_for_its_time(
    machine: Carrier, lacking: tuple[str, ...], within_us: int
) -> None:
    packages.lack(*lacking)
    radio, rx, lines = hears_one_frame(machine, "polling")
    assert isinstance(lines, PollingLines)
    assert lines.fileno() is None
    assert radio.concentrator.counters["rx_coarse"] == 1
    assert abs(late_us(machine, rx)) <= within_us + 100  # and what a look itself takes


def test_polling_is_not_busy(machine: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    radio, _, _ = hears_one_frame(machine, "polling")
    waits = 3000 / 1  # ms of the run, one look each
    assert machine.kernel.events_run < 3 * waits
    assert radio.failure is None


# -- which one `auto` takes


def automatic(text: str = "") -> Lines:
    board = parse_board("b", text + "[[module]]\nspi = [0, 0]\ndio0 = 4\nreset = 17")
    return open_lines("auto", board, board.module(0), lambda: 0)


def test_auto_prefers_gpiod_then_lgpio_then_rpi_gpio_then_polling(
    machine: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    taken = []
    for lacking in ("none", "gpiod", "lgpio", "RPi"):
        packages.lack(lacking)
        caplog.clear()
        lines = automatic()
        taken.append((lines.backend, caplog.records[-1].levelname if caplog.records else ""))
        lines.close()
    assert taken == [("gpiod", ""), ("lgpio", ""), ("rpi-gpio", "WARNING"), ("polling", "WARNING")]
    assert "no edges" in caplog.text
    assert "class A downlinks may miss their window" in caplog.text


def test_the_choice_is_logged_with_what_it_means(machine: Carrier, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    automatic().close()
    assert "module on SPI 0.0: lines through gpiod, edges stamped by the kernel" in caplog.text


def test_debians_libgpiod_1_is_named_with_what_to_install_instead(
    machine: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    packages.have_libgpiod_1()
    lines = automatic()
    lines.close()
    assert lines.backend == "lgpio"
    assert "gpiod installed is version 1.6.3" in caplog.text
    assert "install version 2" in caplog.text


def test_a_kernel_from_6_6_on_makes_rpi_gpio_fall_back_to_polling_its_pins(
    machine: Carrier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages.lack("gpiod", "lgpio")
    monkeypatch.setattr(rpi_gpio, "emulate_broken_edges", True)
    lines = automatic()
    assert lines.backend == "polling"
    lines.set("reset", False)
    assert not lines.get("reset")
    lines.close()
    assert "Failed to add edge detection: this RPi.GPIO cannot watch edges on kernels from 6.6" in caplog.text
    assert "install gpiod" in caplog.text


def test_rpi_gpio_on_a_pi_5_leaves_only_the_chips_flags(
    machine: Carrier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages.lack("gpiod", "lgpio")
    monkeypatch.setattr(rpi_gpio, "emulate_unknown_pi", True)
    lines = automatic()
    assert lines.backend == "polling"
    lines.set("reset", False)
    assert lines.get("reset")  # nobody drives it
    lines.close()
    assert "Cannot determine SOC peripheral base address" in caplog.text


def test_a_board_without_this_machines_gpio_chip_goes_on_with_what_needs_none(machine: Carrier) -> None:
    lines = automatic('gpio_chip_labels = ["none"]\n')
    assert lines.backend == "rpi-gpio"
    lines.close()


@pytest.mark.parametrize(
    ("gpio", "problem"),
    [
        ("gpiod", "no GPIO chip labelled none; found pinctrl-bcm2711"),
        ("lgpio", "no GPIO chip labelled none; found pinctrl-bcm2711"),
        ("rpi-gpio", "Failed to add edge detection"),
    ],
)
def test_a_backend_that_was_asked_for_says_what_it_lacks(
    machine: Carrier, monkeypatch: pytest.MonkeyPatch, gpio: str, problem: str
) -> None:
    monkeypatch.setattr(rpi_gpio, "emulate_broken_edges", True)
    board = parse_board("b", 'gpio_chip_labels = ["none"]\n[[module]]\nspi = [0, 0]\ndio0 = 4')
    with pytest.raises(GpioError, match=f"{gpio}: .*{problem}"):
        open_lines(gpio, board, board.module(0), lambda: 0)


def test_a_machine_without_any_library_is_told_what_to_install(machine: Carrier) -> None:
    packages.lack("gpiod", "lgpio", "RPi", "spidev")
    with pytest.raises(GpioError, match=r"gpiod: .*; lgpio: .*; rpi-gpio: .*; polling: .*fluxgate\[pi\]"):
        automatic()


@pytest.mark.parametrize("gpio", ["auto", "gpiod", "lgpio"])
def test_a_line_that_another_program_holds_is_not_taken_from_it(machine: Carrier, gpio: str) -> None:
    if gpio == "lgpio":
        lgpio.gpio_claim_input(lgpio.gpiochip_open(0), 4)
    board = get_board(BOARD)
    held = None if gpio == "lgpio" else GpiodLines({"dio0": 4}, board.gpio_chip_labels)
    with pytest.raises(BusyError, match="4"):
        open_lines(gpio, board, board.module(0), lambda: 0)
    if held is not None:
        held.close()


def test_two_programs_cannot_have_one_chip(machine: Carrier) -> None:
    first = SpidevBus(0, 0, 1_000_000)
    with pytest.raises(BusyError, match=r"another program holds /dev/spidev0\.0"):
        SpidevBus(0, 0, 1_000_000)
    assert SpidevBus(0, 0, 1_000_000, shared=True).xfer(b"\x42\x00") == b"\x00\x12"
    SpidevBus(0, 1, 1_000_000).close()
    first.close()
    SpidevBus(0, 0, 1_000_000).close()


# -- lines


@pytest.mark.parametrize(
    ("tick_ns", "expected"),
    [
        pytest.param(5 * SECOND, (5 * SECOND, False), id="monotonic, kernel 5.7 and later"),
        pytest.param(10**18 - SECOND, (5 * SECOND, False), id="wall clock, kernel 5.6"),
        pytest.param(10**15, (6 * SECOND, True), id="neither"),
    ],
)
def test_a_tick_of_lgpio_is_brought_to_the_monotonic_clock(tick_ns: int, expected: tuple[int, bool]) -> None:
    assert monotonic_of(tick_ns, 6 * SECOND, 10**18) == expected


def test_lgpio_stamps_of_an_old_kernel_keep_their_microsecond(
    machine: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lgpio, "stamp_offset_ns", 10**18)
    lines: list[LgpioLines] = []
    now_ns = machine.host.now_ns
    lines.append(LgpioLines({"dio0": 4}, ("pinctrl-bcm2711",), now_ns, lambda: now_ns() + 10**18))
    machine.kernel.at(SECOND, lambda: machine.host.board.set_level(4, True))
    machine.run_until(2 * SECOND)
    (edge,) = lines[0].read_edges()
    lines[0].close()
    machine.run_until(3 * SECOND)
    assert (edge.line, edge.rising, edge.coarse) == ("dio0", True, False)
    assert abs(edge.t_ns - SECOND) <= 1000


def test_errors_of_lgpio_are_ours(machine: Carrier) -> None:
    lines = LgpioLines({"dio0": 4}, ("pinctrl-bcm2711",), machine.host.now_ns)
    lgpio.gpiochip_close(0)  # the controller is gone
    with pytest.raises(GpioError, match="unknown handle"):
        lines.get("dio0")
    with pytest.raises(GpioError):
        lines.set("dio0", True)
    assert lgpio.gpiochip_open(0) == 0
    lines.close()
    machine.run_until(SECOND)


@pytest.mark.parametrize("backend", ["gpiod", "lgpio", "rpi-gpio"])
def test_a_reset_line_that_is_let_go_shows_the_chips_own_resistor(machine: Carrier, backend: str) -> None:
    board = get_board(BOARD)
    lines = open_lines(backend, board, board.module(0), lambda: 0)
    assert isinstance(lines, GpiodLines | LgpioLines | RpiGpioLines)
    lines.set("reset", False)
    assert not lines.get("reset")
    machine.run_until(machine.kernel.now_ns + MS)
    lines.let_go("reset")
    assert lines.get("reset")
    lines.drive("reset")
    lines.set("reset", False)
    assert not lines.get("reset")
    lines.read_edges()
    machine.host.board.set_level(4, True)
    machine.run_until(machine.kernel.now_ns + MS)
    assert [edge.line for edge in lines.read_edges()] == ["dio0"]  # still watched
    lines.close()
    machine.run_until(SECOND)


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

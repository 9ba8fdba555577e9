"""`fluxgate radio probe`: every wiring fault, made on the simulated board, is named in words that mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from hw_sim import fakes
from hw_sim.air import Air
from hw_sim.board import Board as SimBoard
from hw_sim.fakes import packages, rpi_gpio
from hw_sim.hosts import SimClock
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276
from hw_sim.wiring import Fault, MiswiredHost, Wires
from radio.boards import Board, get_board, parse_board
from radio.hardware.gpiod_lines import GpiodLines
from radio.hardware.machine import LinuxMachine
from radio.hardware.spi import SpidevBus
from radio.observe import observe
from radio.probe import (
    Finding,
    Kind,
    Level,
    Observations,
    SelfTest,
    SpeedTrial,
    judge,
    recommended_hz,
    worst,
)

HERE = (0, 0)
GENERIC = get_board("generic")  # SPI 0.0 at 2 MHz, DIO0 on GPIO 25, reset on GPIO 24


@dataclass
class Workbench:
    """A strict chip on a mast of its own, wired as the test wants it, and a Pi that looks at it."""

    wires: dict[tuple[int, int], Wires] = field(default_factory=dict)
    spi: tuple[int, int] = HERE
    dio0: int | None = 25
    reset: int | None = 24
    board: Board = GENERIC

    def __post_init__(self) -> None:
        self.kernel = Kernel(seed=1)
        self.air = Air(self.kernel)
        self.chip = SX1276(self.kernel, "chip")
        self.air.add(self.chip)
        board = SimBoard(self.kernel)
        board.connect(self.chip, self.spi, {} if self.dio0 is None else {0: self.dio0}, self.reset)
        self.host = MiswiredHost(self.kernel, board, self.wires)
        fakes.install(self.host)

    def look(self, gpio: str = "auto") -> Observations:
        machine = LinuxMachine(gpio, SimClock(self.host))
        return observe(machine, self.board, self.board.module(0), "generic/0")

    def faults(self, gpio: str = "auto") -> list[Finding]:
        findings = judge(self.look(gpio))
        assert not self.air.records.frames  # it never sends
        return [finding for finding in findings if finding.level is Level.FAULT]

    def fault(self, gpio: str = "auto") -> Finding:
        (finding,) = self.faults(gpio)
        return finding


@pytest.fixture
def workbench() -> Iterator[Callable[..., Workbench]]:
    made: list[Workbench] = []

    def make(**how: object) -> Workbench:
        made.append(Workbench(**how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    fakes.uninstall()
    for each in made:
        each.kernel.close()


Make = Callable[..., Workbench]


# -- nothing wrong


@pytest.mark.parametrize("gpio", ["gpiod", "lgpio"])
def test_a_clean_board_gives_a_clean_report(workbench: Make, gpio: str) -> None:
    seen = workbench().look(gpio)
    findings = judge(seen)
    assert worst(findings) is Level.OK
    assert [finding.kind for finding in findings] == [
        Kind.VERSION, Kind.LINES, Kind.RESET, Kind.SPEED, Kind.MODES, Kind.CRYSTAL, Kind.DIO0,
    ]  # fmt: skip
    text = "\n".join(finding.text for finding in findings)
    assert "SX1276/77/78/79 answers on /dev/spidev0.0, version 0x12" in text
    assert "reset by GPIO 24 works" in text
    assert "SPI holds up to 10 MHz; recommended 8 MHz, the board has 2 MHz" in text
    assert "DIO0 reaches GPIO 25" in text
    assert seen.crystal_ppm is not None
    assert abs(seen.crystal_ppm) < 100
    assert seen.crystal_error_ppm < 200


def test_the_chip_is_left_asleep_and_was_never_misused(workbench: Make) -> None:
    bench = workbench()
    bench.look()
    assert bench.chip.mode == 0
    assert [w for w in bench.chip.warnings if "erratum" not in w] == []


def test_a_window_that_noise_made_longer_is_measured_again(
    workbench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SX1276._time_out
    calls: list[int] = []

    def late(chip: SX1276) -> None:
        calls.append(1)
        if len(calls) == 2:  # the long window of the first try
            chip.kernel.after(20_000_000, lambda: real(chip))
        else:
            real(chip)

    monkeypatch.setattr(SX1276, "_time_out", late)
    seen = workbench().look()
    assert len(calls) == 4
    assert seen.crystal_ppm is not None
    assert abs(seen.crystal_ppm) < 100


def test_a_kernel_that_cannot_let_a_line_go_leaves_only_that_unknown(
    workbench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_lines: GpiodLines, _name: str) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(GpiodLines, "let_go", refuse)
    seen = workbench().look()
    assert seen.reset_floats_high is None
    assert worst(judge(seen)) is Level.OK


def test_rpi_gpio_and_polling_are_enough_to_look_but_said_to_be_worse(
    workbench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpi_gpio, "emulate_broken_edges", True)
    bench = workbench()
    packages.lack("gpiod", "lgpio")
    findings = judge(bench.look())
    assert [f.kind for f in findings if f.level is Level.WARNING] == [Kind.LINES]
    assert worst(findings) is Level.WARNING
    assert "gpiod" in next(f.remedy for f in findings if f.kind is Kind.LINES)


def test_a_board_without_reset_line_is_told_what_that_means(workbench: Make) -> None:
    board = parse_board("b", "[[module]]\nspi = [0, 0]\ndio0 = 25")
    findings = judge(workbench(board=board, reset=None).look())
    assert [(f.kind, f.level) for f in findings if f.level is not Level.OK] == [(Kind.RESET, Level.WARNING)]


# -- one fault at a time


def test_no_power_is_told_by_the_reset_pin_that_nobody_pulls_up(workbench: Make) -> None:
    bench = workbench(wires={HERE: Wires(Fault.UNPOWERED)})
    bench.host.unpowered_resets.add(24)
    fault = bench.fault()
    assert fault.kind is Kind.POWER
    assert "no power" in fault.text
    assert "3.3 V" in fault.remedy


def test_swapped_miso_and_mosi_are_named(workbench: Make) -> None:
    fault = workbench(wires={HERE: Wires(Fault.SWAPPED)}).fault()
    assert fault.kind is Kind.SWAPPED
    assert "has power" in fault.text
    assert "MISO and MOSI swapped" in fault.text
    assert "GPIO 9" in fault.remedy
    assert "GPIO 10" in fault.remedy


def test_joined_miso_and_mosi_are_named(workbench: Make) -> None:
    fault = workbench(wires={HERE: Wires(Fault.SHORTED)}).fault()
    assert fault.kind is Kind.SHORTED
    assert "MISO and MOSI are joined" in fault.text


def test_an_open_miso_is_told_by_a_chip_that_obeys_without_answering(workbench: Make) -> None:
    fault = workbench(wires={HERE: Wires(Fault.MISO_OPEN)}).fault()
    assert fault.kind is Kind.MISO
    assert "MISO is not connected" in fault.text


@pytest.mark.parametrize("nobody", [Fault.NOBODY, Fault.PULLED_UP])
def test_a_wrong_chip_select_is_told_by_the_chip_on_another_one(workbench: Make, nobody: Fault) -> None:
    fault = workbench(wires={HERE: Wires(nobody)}, spi=(0, 1)).fault()
    assert fault.kind is Kind.CHIP_SELECT
    assert "answers on /dev/spidev0.1" in fault.text
    assert "spi = [0, 1]" in fault.remedy


def test_a_loose_wire_is_told_by_answers_that_change(workbench: Make) -> None:
    fault = workbench(wires={HERE: Wires(Fault.NOISY)}).fault()
    assert fault.kind is Kind.NOISE
    assert "loose" in fault.text


def test_a_wrong_reset_pin_is_told_by_registers_that_survive(workbench: Make) -> None:
    fault = workbench(reset=23).fault()
    assert fault.kind is Kind.RESET
    assert "GPIO 24 does not reset the chip" in fault.text


def test_an_unwired_dio0_is_named(workbench: Make) -> None:
    fault = workbench(dio0=None).fault()
    assert fault.kind is Kind.DIO0
    assert "DIO0 is not wired" in fault.text


def test_dio0_on_another_pin_is_found_there(workbench: Make) -> None:
    fault = workbench(dio0=22).fault()
    assert fault.kind is Kind.DIO0
    assert "it is on GPIO 22" in fault.text
    assert "dio0 = 22" in fault.remedy


def test_two_modules_whose_chip_selects_have_changed_places_are_told(workbench: Make) -> None:
    two = "".join(f"[[module]]\nspi = [0, {i}]\ndio0 = {25 - i}\nreset = {22 + i}\n" for i in (0, 1))
    bench = workbench(board=parse_board("b", two), dio0=24, reset=23, wires={(0, 1): Wires(Fault.NOBODY)})
    faults = {fault.kind: fault for fault in bench.faults()}
    assert set(faults) == {Kind.RESET, Kind.DIO0}
    assert "GPIO 24, which is DIO0 of module 1" in faults[Kind.DIO0].text
    assert "swap the NSS wires" in faults[Kind.DIO0].remedy


def sx1262(data: bytes) -> bytes:
    return b"\xa2" * len(data)


def registers(values: dict[int, int]) -> Callable[[bytes], bytes]:
    """A chip that reads these and keeps nothing."""

    def answer(data: bytes) -> bytes:
        return bytes([0, *(values.get((data[0] & 0x7F) + i, 0x5A) for i in range(len(data) - 1))])

    return answer


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        pytest.param(registers({0x42: 0x22}), "SX1272", id="SX1272"),
        pytest.param(registers({0x42: 0x00 | 0x05, 0x10: 0x24}), "RFM69", id="RFM69"),
        pytest.param(sx1262, "SX1262", id="SX1262"),
        pytest.param(registers({0x42: 0x5A}), "not an SX1276", id="something else"),
        pytest.param(lambda data: bytes((0, *data[:-1])), "a byte later", id="answers a byte late"),
    ],
)
def test_another_chip_is_named(workbench: Make, answers: Callable[[bytes], bytes], name: str) -> None:
    fault = workbench(wires={HERE: Wires(answers=answers)}).fault()
    assert fault.kind is Kind.OTHER_CHIP
    assert name in fault.text
    assert "RFM95" in fault.remedy


def test_a_speed_the_wires_do_not_carry_is_walked_down(workbench: Make) -> None:
    wires = {HERE: Wires(clean_up_to_hz=5_000_000)}
    fast = parse_board("b", "spi_hz = 8_000_000\n[[module]]\nspi = [0, 0]\ndio0 = 25\nreset = 24")
    bench = workbench(wires=wires, board=fast)
    fault = bench.fault()
    assert fault.kind is Kind.SPEED
    assert "loses bits at the board's 8 MHz; it holds up to 5 MHz" in fault.text
    assert "spi_hz = 4_000_000" in fault.remedy


def test_a_speed_without_margin_is_a_warning(workbench: Make) -> None:
    board = replace(GENERIC, spi_hz=5_000_000)
    findings = judge(workbench(wires={HERE: Wires(clean_up_to_hz=5_000_000)}, board=board).look())
    assert [(f.kind, f.level) for f in findings if f.level is not Level.OK] == [(Kind.SPEED, Level.WARNING)]


def test_a_running_radio_process_is_named(workbench: Make) -> None:
    bench = workbench()
    held = SpidevBus(0, 0, 1_000_000)
    fault = bench.fault()
    held.close()
    assert fault.kind is Kind.BUSY
    assert "/dev/spidev0.0" in fault.text
    assert "systemctl stop fluxgate-radio" in fault.remedy


def test_a_program_that_holds_a_line_is_named(workbench: Make) -> None:
    bench = workbench()
    held = GpiodLines({"dio0": 25}, GENERIC.gpio_chip_labels)
    assert bench.fault().kind is Kind.BUSY
    held.close()
    assert bench.faults() == []


def test_spi_that_is_switched_off_is_named_with_the_boards_line(workbench: Make) -> None:
    board = parse_board("b", 'config_txt = ["dtoverlay=spi1-2cs"]\n[[module]]\nspi = [1, 1]\ndio0 = 25')
    fault = workbench(board=board).fault()
    assert fault.kind is Kind.SPI_DEVICE
    assert "/dev/spidev1.1 cannot be opened" in fault.text
    assert "dtoverlay=spi1-2cs" in fault.remedy


def test_a_missing_library_is_named_with_what_to_install(workbench: Make) -> None:
    bench = workbench()
    packages.lack("spidev")
    fault = bench.fault()
    assert "spidev" in fault.text
    assert "fluxgate[pi]" in fault.remedy


def test_a_fault_is_only_found_where_there_is_one(workbench: Make) -> None:
    """The control of all tests above: the same bench, once the wires are right."""
    bench = workbench(wires={HERE: Wires(Fault.SWAPPED)})
    assert bench.fault().kind is Kind.SWAPPED
    bench.wires[HERE].fault = Fault.NOTHING
    assert bench.faults() == []


# -- the judgement alone

CLEAN = Observations(
    "m", HERE, 4_000_000, 25, 24,
    backend="gpiod",
    versions=(0x12,) * 16,
    reset_floats_high=True,
    reset_works=True,
    canary_held=True,
    speeds=(SpeedTrial(10_000_000, 40, 0), SpeedTrial(8_000_000, 40, 0)),
    modes_us=(("STDBY", 60.0),),
    crystal_ppm=3.0,
    crystal_error_ppm=100.0,
    self_test=SelfTest(True, True, True, 2100.0),
)  # fmt: skip
SILENT: dict[str, object] = {"versions": (0,) * 16, "self_test": SelfTest(False, False)}


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (SILENT | {"reset_floats_high": None}, Kind.POWER, "no power, NSS on another"),
        ({"versions": (0x12, 0x12, 0x32)}, Kind.NOISE, "0x12, 0x32"),
        ({"lora_refused": True}, Kind.CANARY, "LoRa mode"),
        ({"canary_held": False}, Kind.CANARY, "does not keep"),
        ({"modes_us": (("STDBY", 30_000.0),)}, Kind.MODES, "slow"),
        ({"crystal_ppm": 4000.0}, Kind.CRYSTAL, "no 32 MHz crystal"),
        ({"crystal_ppm": -4000.0}, Kind.CRYSTAL, "no 32 MHz crystal"),
        ({"self_test": SelfTest(False, False)}, Kind.DIO0, "does not end"),
        ({"self_test": SelfTest(True, False, level=True)}, Kind.DIO0, "no edge was reported by gpiod"),
        ({"lines_problem": "no GPIO chip"}, Kind.LINES, "no GPIO chip"),
        ({"speeds": (SpeedTrial(500_000, 40, 3),)}, Kind.SPEED, "every clock"),
        (SILENT | {"spi": (1, 0)}, Kind.SWAPPED, "MISO and MOSI swapped"),
    ],
)
def test_judgement(changes: dict[str, object], kind: Kind, words: str) -> None:
    finding = next(f for f in judge(replace(CLEAN, **changes)) if f.level is Level.FAULT)  # type: ignore[arg-type]
    assert finding.kind is kind
    assert words in finding.text
    assert finding.remedy


def test_pins_of_the_auxiliary_spi_are_named_for_it() -> None:
    (finding, *_) = judge(replace(CLEAN, spi=(1, 0), versions=(0,) * 16, self_test=None))
    assert "GPIO 19" in finding.remedy
    (finding, *_) = judge(replace(CLEAN, spi=(5, 0), versions=(0,) * 16, self_test=None))
    assert "GPIO 19" not in finding.remedy


def test_the_clean_observations_are_clean() -> None:
    assert worst(judge(CLEAN)) is Level.OK


@pytest.mark.parametrize(
    ("held_mhz", "expected_mhz"),
    [
        ((10, 8), 8),
        ((8, 6), 6),
        ((5, 4), 4),
        ((4, 3), 3),
        ((2, 1), 1),
        ((1, 0.5), 0.5),
        ((0.5,), 0.5),
        ((), None),
    ],
)
def test_the_recommended_clock_has_a_fifth_of_margin(
    held_mhz: tuple[float, ...], expected_mhz: float | None
) -> None:
    trials = [SpeedTrial(round(mhz * 1e6), 40, 0) for mhz in held_mhz]
    trials.append(SpeedTrial(20_000_000, 40, 1))
    expected = None if expected_mhz is None else round(expected_mhz * 1e6)
    assert recommended_hz(trials) == expected


def test_writes_of_the_speed_walk_never_are_a_flip_away_from_sending() -> None:
    from radio.observe import _SAFE_LOW_BITS

    transmit = 0b011
    for low in _SAFE_LOW_BITS:
        assert transmit not in {low, low ^ 1, low ^ 2, low ^ 4}

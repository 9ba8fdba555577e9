"""`fluxgate radio bench`: what is measured, how it is summed up, and what a machine is then good for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw_sim import fakes
from hw_sim.board import Board as SimBoard
from hw_sim.hosts import LocalHost, SimClock
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.hardware.gpio import pins_of
from radio.hardware.machine import LinuxMachine
from radio.latency import Verdict, What, measure, overall, summarise, table

US = 1_000
GENERIC = get_board("generic")  # 2 MHz


@pytest.fixture
def machine() -> Iterator[LinuxMachine]:
    kernel = Kernel(seed=1)
    host = LocalHost(kernel, SimBoard.wired(kernel, GENERIC, [SX1276(kernel, "chip")]))
    fakes.install(host)
    yield LinuxMachine("auto", SimClock(host))
    fakes.uninstall()
    kernel.close()


def test_all_four_are_measured_where_there_is_a_module(machine: LinuxMachine) -> None:
    wiring = GENERIC.module(0)
    bus = machine.bus(wiring.spi, GENERIC.spi_hz)
    lines = machine.lines(GENERIC, wiring, pins_of(wiring))
    rows = {row.what: row for row in measure(machine.clock, bus, lines, 868_100_000, 20)}
    lines.close()
    bus.close()
    assert set(rows) == set(What)
    assert all(row.count == 20 for row in rows.values())
    # The simulated machine: 20 us a transfer and the bits at 2 MHz; waking is exact.
    assert rows[What.SHORT].percentiles[0] == pytest.approx(28, abs=1)
    assert rows[What.LONG].percentiles[0] == pytest.approx(20 + 255 * 4, abs=1)
    assert rows[What.WAKE].highest < 1
    assert rows[What.EDGE].highest < 5
    assert overall(list(rows.values())) in (Verdict.GOOD, Verdict.USABLE)


def test_without_hardware_waking_is_measured_alone(machine: LinuxMachine) -> None:
    assert [row.what for row in measure(machine.clock, None, None, 868_100_000, 10)] == [What.WAKE]


def test_edges_without_the_kernels_stamp_are_not_measured(machine: LinuxMachine) -> None:
    wiring = GENERIC.module(0)
    bus = machine.bus(wiring.spi, GENERIC.spi_hz)
    lines = LinuxMachine("rpi-gpio", machine.clock).lines(GENERIC, wiring, pins_of(wiring))
    rows = measure(machine.clock, bus, lines, 868_100_000, 10)
    lines.close()
    assert What.EDGE not in {row.what for row in rows}


@pytest.mark.parametrize(
    ("what", "p99_us", "verdict"),
    [
        (What.WAKE, 20, Verdict.GOOD),
        (What.WAKE, 300, Verdict.USABLE),
        (What.WAKE, 60_000, Verdict.UNFIT),
        (What.SHORT, 30, Verdict.GOOD),
        (What.SHORT, 219, Verdict.USABLE),
        (What.SHORT, 900, Verdict.UNFIT),
        (What.LONG, 600, Verdict.GOOD),
        (What.EDGE, 150, Verdict.GOOD),
    ],
)
def test_the_99th_percentile_decides(what: What, p99_us: int, verdict: Verdict) -> None:
    samples = [1 * US] * 980 + [p99_us * US] * 20
    row = summarise(what, samples)
    assert (row.percentiles, row.highest, row.verdict) == ((1.0, 1.0, float(p99_us)), float(p99_us), verdict)


def test_one_hiccup_in_a_thousand_does_not_decide_but_is_shown() -> None:
    row = summarise(What.WAKE, [1 * US] * 999 + [80_000 * US])
    assert (row.verdict, row.highest) == (Verdict.GOOD, 80_000.0)


def test_a_machine_is_as_good_as_its_worst_row() -> None:
    rows = [summarise(What.WAKE, [400 * US]), summarise(What.SHORT, [20 * US])]
    assert overall(rows) is Verdict.USABLE
    assert overall([]) is Verdict.UNFIT


def test_nothing_measured_is_no_summary() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise(What.WAKE, [])


def test_the_table_has_every_row_with_its_judgement() -> None:
    lines = table("plain", [summarise(What.WAKE, [400 * US]), summarise(What.SHORT, [20 * US])])
    assert len(lines) == 3
    assert "400.0" in lines[1]
    assert "usable" in lines[1]
    assert "good" in lines[2]

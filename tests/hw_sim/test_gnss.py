"""The simulated GNSS receiver by itself: what it says, when, and its pulse."""

from collections.abc import Iterator

import pytest

from hw_sim.board import Board
from hw_sim.edges import Trigger, Watch
from hw_sim.errors import KernelError
from hw_sim.gnss import GnssTable, SimGnss, build_gnss, sentence
from hw_sim.kernel import Kernel
from radio.gnss import ubx
from radio.gnss.nmea import Rmc, parse
from radio.gnss.stream import Splitter

MS = 1_000_000
S = 1_000_000_000


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel(seed=1)
    yield made
    made.close()


def said(sim: SimGnss, kernel: Kernel, until_s: float) -> list[str]:
    kernel.run_until(round(until_s * S))
    return sim.wire.take().decode().splitlines()


def test_checksums_are_those_of_the_standard() -> None:
    assert sentence("GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1") == (
        b"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n"
    )


def test_it_starts_cold_and_every_sentence_can_be_read(kernel: Kernel) -> None:
    sim = SimGnss(kernel, GnssTable(cold_start_s=10))
    lines = said(sim, kernel, 10.9) + said(sim, kernel, 20.9)
    rmcs = [one for line in lines if isinstance(one := parse(line.encode()), Rmc)]
    assert [rmc.valid for rmc in rmcs] == [False] * 9 + [True] * 11
    assert rmcs[0].time is None
    assert rmcs[-1].time is not None
    assert rmcs[-1].time.second == 12 * 3600 + 20


def test_the_pulse_comes_with_the_true_second_as_the_host_s_clock_has_it(kernel: Kernel) -> None:
    board = Board(kernel)
    watch = Watch({18: Trigger.RISING})
    board.add_watch(watch)
    build_gnss(GnssTable(cold_start_s=1, host_ppm=100.0, jitter_us=0.0), kernel, board)
    kernel.run_until(30 * S)
    times = [edge.t_ns for edge in watch.take()]
    assert len(times) == 29
    assert times[:2] == [1 * S + 103_000, 2 * S + 203_000]
    assert times[-1] == 29 * S + 29 * 100_000 + 3_000


def test_without_a_table_there_is_no_receiver(kernel: Kernel) -> None:
    assert build_gnss(None, kernel, Board(kernel)) is None


def test_sentences_take_their_time_on_the_wire(kernel: Kernel) -> None:
    sim = SimGnss(kernel, GnssTable(cold_start_s=1, delay_ms=100))
    kernel.run_until(4 * S + 99 * MS)
    sim.wire.take()
    kernel.run_until(4 * S + 160 * MS)
    assert sim.wire.take() == b""  # 60 characters at 9600 baud are 63 ms; nothing was handed over before
    kernel.run_until(4 * S + 700 * MS)
    assert len(sim.wire.take()) > 200


def test_it_answers_what_the_leap_seconds_are(kernel: Kernel) -> None:
    sim = SimGnss(kernel, GnssTable(cold_start_s=1))
    kernel.run_until(5 * S + 800 * MS)
    sim.wire.take()
    sim.wire.hear(ubx.poll())
    kernel.run_until(5 * S + 900 * MS)
    (piece,) = Splitter(9600).feed(sim.wire.take(), 0)
    report = ubx.parse_timels(piece.data)
    assert report is not None
    assert report.current_s == 18


def test_each_fault_does_what_it_says(kernel: Kernel) -> None:
    sim = SimGnss(kernel, GnssTable(cold_start_s=0), Board(kernel))
    kernel.run_until(3 * S + 900 * MS)
    pulses = sim.counters["pulses"]
    sim.wire.take()
    sim.fail("no_pps")
    sim.fail("spoof_days", 5.0)
    (rmc, *_rest) = said(sim, kernel, 4.9)
    assert ",060326," in rmc
    assert sim.counters["pulses"] == pulses
    sim.fail("rollover")
    (rmc, *_rest) = said(sim, kernel, 5.9)
    assert ",160706," in rmc  # 1024 weeks before 2026-03-01
    sim.fail("honest")
    sim.fail("jump_m", 100_000.0)
    (rmc, *_rest) = said(sim, kernel, 6.9)
    assert ",5325." in rmc
    sim.fail("fix_lost")
    (rmc, *_rest) = said(sim, kernel, 7.9)
    assert ",V," in rmc
    sim.fail("no_nmea")
    assert said(sim, kernel, 8.9) == []
    with pytest.raises(KernelError, match="no fault"):
        sim.fail("coffee")

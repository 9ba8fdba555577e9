"""A sweep over two or three spreading factors: who gets which share of time, what it hears, and what it says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hw_sim.chip_faults import ChipFault
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation, airtime_us
from radio.sx127x.modem import Fault, Received, Sent
from radio.sx127x.registers import Settings
from radio.sx127x.sweep import Rota

if TYPE_CHECKING:
    from tests.radio.conftest import Bench

SECOND = 1000 * MS
FREQ_HZ = 868_100_000
START = SECOND


def settings(sf: int) -> Settings:
    return Settings(FREQ_HZ, LoRaModulation(sf, 125_000))


def send(bench: Bench, sf: int, frames: int, *, from_ns: int = START) -> int:
    """`frames` frames at moments that hit the round at every phase; when the last is over."""
    t_ns = from_ns
    for n in range(frames):
        bench.device_sends(t_ns, settings(sf), bytes((sf, n)) * 6)
        t_ns += airtime_us(LoRaModulation(sf, 125_000), 12) * 1000 + 97 * MS + n * 211_000
    return t_ns


@pytest.mark.parametrize("sfs", [(7, 8), (7, 9), (7, 8, 9), (10, 11, 12), (12, 7)])
def test_every_spreading_factor_gets_the_same_share_of_time(sfs: tuple[int, ...]) -> None:
    rota = Rota(sfs)
    looks = Counter(rota.next() for _ in range(4200))
    time = {sf: count << sf for sf, count in looks.items()}
    assert set(time) == set(sfs)
    assert max(time.values()) - min(time.values()) <= 1 << max(sfs)


def test_the_round_begins_with_the_shortest_preamble_and_leaves_none_out() -> None:
    rota = Rota((9, 7, 8))
    assert [rota.next() for _ in range(7)] == [7, 8, 9, 7, 7, 8, 7]


@pytest.mark.parametrize("sfs", [(7, 8, 9), (10, 11, 12)])
def test_a_sweep_hears_a_share_of_every_spreading_factor(
    bench_for: Callable[..., Bench], sfs: tuple[int, ...]
) -> None:
    bench = bench_for(settings(sfs[0]), sweep_sfs=sfs)
    frames = 18
    end_ns = START
    for sf in sfs:
        end_ns = send(bench, sf, frames, from_ns=end_ns)
    bench.run_until(end_ns + SECOND)
    heard = Counter(event.modulation.sf for event in bench.of(Received))
    sweep = bench.owner.modem.sweep
    assert sweep is not None
    for sf in sfs:
        counts = sweep.counts[sf]
        assert counts.frames == counts.headers == heard[sf] >= 1
        assert counts.detections == counts.frames + counts.timeouts <= counts.looks
    assert bench.of(Fault) == []
    status = sweep.status()
    assert status["sfs"] == sorted(sfs)
    for sf in sfs:
        counts = sweep.counts[sf]
        assert status["per_sf"][str(sf)]["hit_rate"] == round(counts.frames / counts.detections, 4)


@pytest.mark.parametrize("sf", [8, 12])
def test_a_frame_heard_by_a_sweep_is_stamped_with_its_own_spreading_factors_delay(
    bench_for: Callable[..., Bench], sf: int
) -> None:
    bench = bench_for(settings(sf), sweep_sfs=(sf - 1, sf))
    bench.run_until(send(bench, sf, 16) + SECOND)
    heard = bench.of(Received)
    assert heard
    by_payload = {frame.payload: frame for frame in bench.frames}
    for event in heard:
        frame = by_payload[event.packet.payload]
        assert abs(event.end_ns - frame.end_ns) <= 1000
        assert event.modulation == frame.modulation
        assert not event.coarse


def test_a_module_without_dio1_finds_the_end_of_a_pursuit_by_asking(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8), without=("dio1",))
    bench.run_until(send(bench, 7, 24) + SECOND)
    sweep = bench.owner.modem.sweep
    assert sweep is not None
    counts = sweep.counts[7]
    assert counts.frames == len(bench.of(Received)) >= 2
    assert counts.timeouts == counts.detections - counts.frames > 0
    assert bench.of(Fault) == []


def test_noise_is_looked_at_and_nothing_comes_of_it(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8))
    bench.run_until(3 * SECOND)
    sweep = bench.owner.modem.sweep
    assert sweep is not None
    assert [counts.detections for counts in sweep.counts.values()] == [0, 0]
    status = sweep.status()["per_sf"]
    assert status["7"]["hit_rate"] is None
    assert status["7"]["looks"] > 1.9 * status["8"]["looks"] > 0
    assert bench.of(Fault) == []


def test_a_downlink_leaves_in_time_in_the_middle_of_a_sweep(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8, 9))
    tx = Transmission(
        1, 3 * SECOND + 17, FREQ_HZ, LoRaModulation(9, 125_000), 14, True, False, 8, b"downlink"
    )
    bench.at(2 * SECOND, lambda: bench.owner.submit(tx, 2 * SECOND))
    bench.run_until(3 * SECOND + 500 * MS)
    end_ns = send(bench, 8, 24, from_ns=3 * SECOND + 500 * MS)
    bench.run_until(end_ns + SECOND)
    (sent,) = bench.of(Sent)
    assert abs(sent.start_ns - tx.start_ns) <= 20_000
    assert len(bench.of(Received)) >= 2  # and it sweeps on
    assert bench.of(Fault) == []


def test_a_chip_that_loses_its_settings_in_a_sweep_is_set_up_again(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8))
    bench.chip.strict = False  # it answers nonsense while it starts
    bench.at(2 * SECOND, bench.chip.power_cycle)
    bench.run_until(4 * SECOND)
    assert len(bench.of(Fault)) == 1
    assert bench.owner.fault == ""
    bench.run_until(send(bench, 7, 24, from_ns=4 * SECOND) + SECOND)
    assert bench.of(Received)


@pytest.mark.parametrize("fault", [ChipFault.LOST_EDGE, ChipFault.SPI_NOISE, ChipFault.MODE_LEFT])
def test_a_sweep_goes_on_after_a_fault_and_sends_nothing(
    bench_for: Callable[..., Bench], fault: ChipFault
) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8))
    bench.chip.strict = False
    bench.at(SECOND + 201 * MS, lambda: bench.chip.faults.inject(fault))
    bench.run_until(send(bench, 7, 24, from_ns=4 * SECOND) + SECOND)
    assert bench.owner.fault == ""
    assert bench.of(Received)
    assert {frame.sender for frame in bench.frames} == {"device"}
    if fault is ChipFault.LOST_EDGE:
        assert bench.owner.modem.counters.edges_lost >= 1


def test_a_sweep_over_one_spreading_factor_or_four_is_none(bench_for: Callable[..., Bench]) -> None:
    for sfs in ((7,), (7, 7), (7, 8, 9, 10)):
        with pytest.raises(ValueError, match="2 to 3 different"):
            bench_for(replace(settings(7)), sweep_sfs=sfs)

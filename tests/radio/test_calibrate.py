"""`fluxgate radio calibrate` on the simulated mast: it finds the delays that the model has."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from hw_sim.hosts import SimBus, SimClock, SimLines
from radio.calibrate import CalibrationFailed, Calibrator, Station, plan
from radio.calibration import Calibration
from radio.dutycycle import DutyCycle
from radio.hardware.gpio import pins_of
from radio.ledger import Booking
from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.regions import SubBand, get_region
from radio.seam import Edge

if TYPE_CHECKING:
    from tests.radio.conftest import Carrier

US = 1_000
EU868 = get_region("EU868")


class JitteredLines(SimLines):
    """Edges stamped late, as a kernel does: 2 to 10 us, one in ten up to 100."""

    dice = random.Random(7)

    def read_edges(self) -> list[Edge]:
        return [replace(edge, t_ns=edge.t_ns + self._late_ns()) for edge in super().read_edges()]

    def _late_ns(self) -> int:
        return self.dice.randrange(2 * US, (100 if self.dice.random() < 0.1 else 10) * US)


class PolledLines(SimLines):
    backend = "polling"


@dataclass
class Books:
    """The duty cycle, without a disk; `writes` bookings have to wait for it first."""

    duty: DutyCycle
    booked_us: int = 0
    writes: int = 0

    def try_reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> Booking:
        if self.writes:
            self.writes -= 1
            return Booking.NOT_WRITTEN
        if not self.duty.try_reserve(band, start_ns, airtime_us, now_ns):
            return Booking.OVER_BUDGET
        self.booked_us += airtime_us
        return Booking.DONE

    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None:
        self.duty.release(band, start_ns, airtime_us)


def calibrator(carrier: Carrier, lines: type[SimLines] = SimLines, **options: object) -> Calibrator:
    host = carrier.host
    stations = []
    for index in (0, 1):
        wiring = carrier.board.module(index)
        bus = SimBus(host, *wiring.spi, carrier.board.spi_hz)
        stations.append(Station(f"m{index}", carrier.board, wiring, bus, lines(host, pins_of(wiring))))
    made = Calibrator(
        (stations[0], stations[1]),
        SimClock(host),
        EU868,
        Books(DutyCycle(EU868.sub_bands)),
        say=lambda _line: None,
    )
    for name, value in options.items():
        setattr(made, name, value)
    return made


def off_us(found: Calibration) -> dict[str, float]:
    """How far each value is from the model's."""
    return {
        LoRaModulation(sf, bw).datr: (each.latency_ns - rx_done_latency_ns(sf, bw)) / US
        for (sf, bw), each in found.measured.items()
    }


def test_the_models_delays_are_found_within_two_microseconds(carrier: Carrier) -> None:
    work = calibrator(carrier)
    found = work.run()
    off = off_us(found)
    assert set(off) == {"SF7BW250", *(f"SF{sf}BW125" for sf in range(7, 13))}
    assert max(map(abs, off.values())) <= 2
    assert found.rejected == ()
    assert found.start_measured
    assert abs(found.start_latency_ns - 40 * US) <= 2 * US
    assert found.modules == ("m0", "m1")


def test_kernel_jitter_is_taken_out_by_the_median(carrier: Carrier) -> None:
    found = calibrator(carrier, JitteredLines).run()
    assert len(found.measured) == 7
    assert max(map(abs, off_us(found).values())) <= 5


def test_a_table_that_is_wrong_for_these_chips_is_corrected(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it measures, and does not merely repeat the table."""
    monkeypatch.setattr("hw_sim.modem.rx_done_latency_ns", lambda sf, bw_hz: 777 * US)
    found = calibrator(carrier).run()
    assert {round(each.latency_ns / US) for each in found.measured.values()} <= {776, 777, 778}


def test_it_sends_at_the_lowest_power_where_the_region_allows_it_and_books_all_of_it(
    carrier: Carrier,
) -> None:
    work = calibrator(carrier)
    assert isinstance(work.books, Books)
    work.run()
    frames = carrier.frames
    assert {frame.freq_hz for frame in frames} <= {869_525_024}
    assert {round(frame.power_dbm) for frame in frames} == {2}
    assert sum(frame.end_ns - frame.start_ns for frame in frames) // US <= work.books.booked_us
    assert len(frames) == 2 * (5 * 5 + 3 * 2)


def test_an_exhausted_duty_cycle_ends_it_with_what_was_found(carrier: Carrier) -> None:
    band = EU868.sub_band_for(869_525_000, 125_000)
    assert band is not None
    work = calibrator(carrier)
    assert isinstance(work.books, Books)
    work.books.duty.try_reserve(band, 0, 360_000_000 - 2_000_000, 0)
    found = work.run()
    assert (7, 125_000) in found.measured
    assert (12, 125_000) not in found.measured
    assert any("duty cycle" in reason for reason in work.left_out)


def test_bookings_that_wait_for_the_disk_are_waited_for(carrier: Carrier) -> None:
    work = calibrator(carrier, books=Books(DutyCycle(EU868.sub_bands), writes=3))
    assert (7, 125_000) in work.run().measured


def test_modules_that_do_not_hear_each_other_are_said_to(carrier: Carrier) -> None:
    class DeafLines(SimLines):
        def fileno(self) -> int | None:
            return None

        def read_edges(self) -> list[Edge]:
            return []

    with pytest.raises(CalibrationFailed, match="do not hear each other"):
        calibrator(carrier, DeafLines).run()


def test_edges_without_the_kernels_time_are_refused(carrier: Carrier) -> None:
    with pytest.raises(CalibrationFailed, match=r"through polling.*install gpiod"):
        calibrator(carrier, PolledLines).run()
    assert carrier.frames == []


def test_it_can_be_stopped_between_two_frames(carrier: Carrier) -> None:
    left = iter([False] * 6 + [True] * 100)
    with pytest.raises(CalibrationFailed):
        calibrator(carrier, stop=lambda: next(left)).run()
    assert len(carrier.frames) == 6


def test_both_modules_are_left_asleep(carrier: Carrier) -> None:
    calibrator(carrier).run()
    assert [carrier.host.board.chip(0, device).mode for device in (0, 1)] == [0, 0]


# -- where and what


@pytest.mark.parametrize(
    ("region", "measured", "left_out"),
    [
        ("EU868", 7, 0),
        ("US915", 6, 4),
        ("AS923-1", 5, 2),
        ("KR920", 6, 0),
    ],
)
def test_only_what_the_region_allows_is_planned(region: str, measured: int, left_out: int) -> None:
    steps, reasons = plan(get_region(region), 2)
    assert (len(steps), len(reasons)) == (measured, left_out), [
        (s.modulation.datr, s.freq_hz) for s in steps
    ] + reasons


def test_where_the_region_asks_it_listens_before_each_frame(carrier: Carrier) -> None:
    region = get_region("KR920")
    assert region.lbt is not None
    found = calibrator(carrier, region=region, books=Books(DutyCycle(region.sub_bands))).run()
    assert len(found.measured) == 6
    assert max(map(abs, off_us(found).values())) <= 2


def test_an_antenna_too_strong_for_the_lowest_power_leaves_nothing(carrier: Carrier) -> None:
    steps, reasons = plan(EU868, 30)
    assert steps == []
    assert "30 dBm" in reasons[0]

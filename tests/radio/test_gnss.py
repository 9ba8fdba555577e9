"""A GNSS receiver on its wire in virtual time: states, labels, holdover, and what is not believed."""

import threading
from collections.abc import Callable, Iterator

import pytest

from hw_sim.board import Board
from hw_sim.gnss import GnssTable, SimGnss
from hw_sim.hosts import LocalHost, SimClock, SimLines
from hw_sim.kernel import Kernel
from hw_sim.uart import SimSerial
from radio.gnss.config import GnssConfig
from radio.gnss.owner import GnssOwner
from radio.gnss.receiver import NEXT, Event, Receiver, State
from radio.timebase import MS, SECOND_NS, SystemTime, TimeBase

S = SECOND_NS
LINE = 18
QUICK = GnssTable(cold_start_s=5, host_ppm=12.5)


class Bench:
    """A receiver on a wire and a pulse line, the thread that reads it, and the time that comes of it."""

    def __init__(
        self, table: GnssTable, *, pulse: bool, system_error_ns: int | None, privacy: int | None
    ) -> None:
        self.kernel = Kernel(seed=5)
        board = Board(self.kernel)
        host = LocalHost(self.kernel, board)
        self.sim = SimGnss(self.kernel, table, board)
        self.system_error_ns = system_error_ns
        self.time = TimeBase(system=self._system)
        self.receiver = Receiver(self.time, table.baud, privacy)
        lines = SimLines(host, {"pps": LINE}) if pulse else None
        self.owner = GnssOwner(self.receiver, SimSerial(host, self.sim.wire), SimClock(host), lines)
        self.stop = threading.Event()
        self.kernel.spawn(lambda: self.owner.run(self.stop), "gnss")

    def _system(self) -> SystemTime:
        """The machine's clock: right, where it is synchronised; else of 1970, as a Pi's without network."""
        now_ns = self.kernel.now_ns
        if self.system_error_ns is None:
            return SystemTime(now_ns, now_ns, None)
        return SystemTime(now_ns, self.sim.utc_ns(now_ns), self.system_error_ns)

    def run(self, seconds: float) -> None:
        self.kernel.run_until(self.kernel.now_ns + round(seconds * S))

    @property
    def state(self) -> State:
        return self.receiver.state

    @property
    def quality(self) -> str:
        return self.time.quality_at(self.kernel.now_ns)

    @property
    def error_ns(self) -> int:
        """How wrong the gateway's UTC is now."""
        utc_ns = self.time.utc_ns(self.kernel.now_ns)
        assert utc_ns is not None
        return abs(utc_ns - self.sim.utc_ns(self.kernel.now_ns))

    @property
    def in_bounds(self) -> bool:
        """Is it at most as wrong as it says?"""
        bound_ns = self.time.error_ns(self.kernel.now_ns)
        return bound_ns is not None and self.error_ns <= bound_ns


@pytest.fixture
def bench_for() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(
        table: GnssTable = QUICK,
        *,
        pulse: bool = True,
        system_error_ns: int | None = None,
        privacy: int | None = None,
    ) -> Bench:
        made.append(Bench(table, pulse=pulse, system_error_ns=system_error_ns, privacy=privacy))
        return made[-1]

    yield make
    for bench in made:
        bench.kernel.close()


def test_from_a_cold_start_to_microseconds(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    assert bench.state is State.SILENT
    bench.run(4)
    assert bench.state is State.COLD
    assert bench.quality == "unset"
    assert bench.time.gps_ms(bench.kernel.now_ns) is None
    bench.run(3)
    assert bench.state is State.FIX
    assert bench.quality == "gnss"
    bench.run(200)
    assert bench.error_ns < 15_000
    assert bench.in_bounds
    assert bench.time.ppm == pytest.approx(12.5, abs=0.1)
    now_ns = bench.kernel.now_ns
    gps_ms = bench.time.gps_ms(now_ns)
    assert gps_ms is not None
    assert abs(gps_ms - (bench.sim.utc_ns(now_ns) // MS - 315_964_800_000 + 18_000)) <= 1
    status = bench.owner.status(now_ns)
    assert status["latitude"] == pytest.approx(52.52, abs=1e-3)
    assert status["satellites"] == 9
    assert status["edges_labelled"] > 190
    assert bench.time.leap.source == "receiver"  # it was asked


@pytest.mark.parametrize("ppm", [-60.0, -1.1, 33.3])
def test_the_ppm_of_any_crystal_is_found_within_a_tenth(bench_for: Callable[..., Bench], ppm: float) -> None:
    bench = bench_for(GnssTable(cold_start_s=5, host_ppm=ppm))
    bench.run(150)
    assert bench.time.ppm == pytest.approx(ppm, abs=0.1)


def test_a_lost_fix_is_held_over_within_its_growing_bound(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("fix_lost")
    bounds = []
    for _ in range(4):
        bench.run(120)
        assert bench.state is State.LOST
        assert bench.quality == "gnss"
        assert bench.in_bounds
        bounds.append(bench.time.error_ns(bench.kernel.now_ns) or 0)
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]
    bench.sim.fail("fix")
    bench.run(30)
    assert bench.state is State.FIX
    assert bench.error_ns < 15_000


def test_pulses_without_sentences_are_counted_on_but_begin_nothing(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    bench.sim.fail("no_nmea")
    bench.run(60)
    assert bench.quality == "unset"  # nobody has said which second it is
    assert bench.receiver.counters["edges"] > 50
    bench.sim.fail("nmea")
    bench.run(60)
    bench.sim.fail("no_nmea")
    bench.run(600)
    assert bench.state is State.SILENT
    assert bench.receiver.counters["edges_by_reckoning"] > 500
    assert bench.error_ns < 15_000
    assert bench.in_bounds


def test_sentences_without_pulses_are_good_to_a_third_of_a_second(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(pulse=False)
    bench.run(60)
    assert bench.state is State.FIX
    assert bench.quality == "gnss"
    assert bench.in_bounds
    assert bench.time.gps_ms(bench.kernel.now_ns) is None
    late = bench_for(GnssTable(cold_start_s=5, delay_ms=600), pulse=False)
    late.run(60)
    assert late.in_bounds


def test_when_the_pulse_is_lost_the_line_goes_on_and_then_the_sentences(
    bench_for: Callable[..., Bench],
) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("no_pps")
    bench.run(120)
    assert bench.time.status(bench.kernel.now_ns)["source"] == "pps"
    assert bench.in_bounds
    bench.sim.fail("pps")
    bench.run(20)
    assert bench.time.status(bench.kernel.now_ns)["age_s"] < 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [("jump_s", 3.0), ("jump_s", -1.0), ("spoof_days", 1.0), ("spoof_days", -7.0), ("rollover", 0.0)],
)
def test_a_jump_of_its_time_is_not_believed(bench_for: Callable[..., Bench], kind: str, value: float) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail(kind, value)
    bench.run(30)
    assert bench.state is State.SUSPECT
    assert bench.receiver.reason
    assert bench.in_bounds
    assert bench.error_ns < MS
    bench.sim.fail("honest")
    bench.run(20)
    assert bench.state is State.FIX
    assert bench.in_bounds


def test_believed_at_once_the_same_jump_spoils_the_time(
    bench_for: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receiver, "_doubt", lambda *_args: "")
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("jump_s", 3.0)
    bench.run(30)
    assert not bench.in_bounds


def test_a_jump_that_stays_is_followed_after_a_minute(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("jump_s", 3.0)
    bench.run(90)
    assert bench.state is State.FIX
    assert bench.receiver.counters["jumps_followed"] == 1
    assert abs(bench.error_ns - 3 * S) < MS


def test_against_the_network_s_time_no_jump_is_ever_followed(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(system_error_ns=20 * MS)
    bench.run(60)
    bench.sim.fail("spoof_days", 2.0)
    bench.run(120)
    assert bench.state is State.SUSPECT
    assert "network" in bench.receiver.reason
    assert bench.error_ns < 2 * MS


def test_a_receiver_that_lies_from_the_start_is_not_believed(bench_for: Callable[..., Bench]) -> None:
    for kind, word in (("rollover", "week number"), ("spoof_days", "too far ahead")):
        bench = bench_for()
        bench.sim.fail(kind, 366 * 30.0)
        bench.run(60)
        assert bench.state is State.SUSPECT
        assert word in bench.receiver.reason
        assert bench.quality == "unset"
        assert bench.receiver.position is None


def test_a_place_that_jumps_is_followed_only_when_it_stays(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("jump_m", 50_000.0)
    bench.run(40)
    position = bench.receiver.position
    assert position is not None
    assert position.latitude == pytest.approx(52.52, abs=1e-3)
    bench.run(40)
    position = bench.receiver.position
    assert position is not None
    assert position.latitude == pytest.approx(52.97, abs=0.01)


def test_the_place_is_told_as_roughly_as_asked(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(
        GnssTable(cold_start_s=2, latitude=52.523456, longitude=-13.412345, altitude_m=30.0), privacy=1
    )
    bench.run(10)
    position = bench.receiver.position
    assert position is not None
    assert (position.latitude, position.longitude) == (52.5, -13.4)
    assert position.altitude_m in (20, 30, 40)


def test_noise_and_lost_bytes_cost_sentences_and_nothing_else(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    rng = bench.kernel.rng("noise")

    def damage(data: bytes) -> bytes:
        if rng.random() < 0.3:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(3) + data[at + 2 :]
        return data

    bench.sim.wire.damage = damage
    bench.run(200)
    assert bench.state is State.FIX
    assert bench.receiver.counters["sentences_damaged"] > 100
    assert bench.error_ns < 30_000
    assert bench.in_bounds


def test_an_adapter_pulled_out_and_put_back_is_opened_again(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for()
    bench.run(60)
    bench.sim.fail("unplug")
    bench.run(30)
    assert bench.owner.fault
    assert bench.state is State.SILENT
    assert bench.quality == "gnss"
    bench.sim.fail("plug")
    bench.run(90)
    assert bench.owner.fault == ""
    assert bench.state is State.FIX


def test_a_leap_second_is_lived_through(bench_for: Callable[..., Bench]) -> None:
    """Fed by hand: 23:59:60 at the end of 2026, with the pulse of each second."""
    time = TimeBase()
    receiver = Receiver(time, 9600)
    day = [("235957", "311226"), ("235958", "311226"), ("235959", "311226"), ("235960", "311226")]
    day += [("000000", "010127"), ("000001", "010127"), ("000002", "010127")]
    for i, (clock, date) in enumerate(day):
        receiver.on_edge(i * S)
        body = f"GNRMC,{clock}.00,A,5231.2,N,01324.3,E,,,{date},,,A".encode()
        total = 0
        for byte in body:
            total ^= byte
        receiver.on_bytes(b"$" + body + f"*{total:02X}\r\n".encode(), i * S + 200 * MS)
    assert receiver.state is State.FIX
    assert time.rejected == 0
    assert time.leap.at_utc(1_798_761_600) == 19  # 2027-01-01
    utc_ns = [time.utc_ns(i * S) for i in range(7)]
    assert [None if t is None else t // S - 1_798_761_600 for t in utc_ns] == [-3, -2, -1, 0, 0, 1, 2]
    first, last = time.gps_of(0), time.gps_of(6 * S)
    assert first is not None
    assert last is not None
    assert last - first == pytest.approx(6 * S, abs=100)


def test_every_event_has_its_place_in_every_state() -> None:
    assert set(NEXT) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"baud": 1234}, "baud"),
        ({"pps_line": 18}, "pps_line without port"),
        ({"port": "/dev/ttyAMA0", "pps_line": 99}, "pps_line 99"),
        ({"latitude": 52.0}, "belong together"),
        ({"latitude": 91.0, "longitude": 0.0}, "latitude"),
        ({"latitude": 1.0, "longitude": 181.0}, "longitude"),
        ({"privacy_digits": 9}, "privacy_digits"),
        ({"leap_s": 99}, "leap_seconds"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        GnssConfig(**settings)  # type: ignore[arg-type]

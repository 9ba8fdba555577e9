"""The gateway's time from edges, messages and the system's clock: slopes, bounds, and which source is used."""

import random

import pytest

from radio.gnss.leap import BUILT_IN, fixed
from radio.timebase import MS, SECOND_NS, SystemTime, TimeBase, Timeline, fit

GPS0 = 1_456_000_000  # a second in 2026
US = 1000


def edges(
    ppm: float, count: int, *, jitter_us: float = 0.0, first_ns: int = 5 * SECOND_NS, seed: int = 1
) -> list[tuple[int, int]]:
    """Edges as a clock that is `ppm` fast stamps them."""
    rng = random.Random(seed)
    return [
        (first_ns + round(i * SECOND_NS * (1 + ppm * 1e-6) + abs(rng.gauss(0, jitter_us)) * US), GPS0 + i)
        for i in range(count)
    ]


def base_of(pairs: list[tuple[int, int]]) -> TimeBase:
    base = TimeBase()
    for mono_ns, gps_s in pairs:
        base.add_edge(mono_ns, gps_s)
    return base


@pytest.mark.parametrize("ppm", [-40.0, -3.3, 0.0, 0.7, 12.5, 95.0])
def test_the_crystal_s_error_is_found_within_a_tenth_of_a_ppm(ppm: float) -> None:
    for seed in range(5):
        base = base_of(edges(ppm, 140, jitter_us=5, seed=seed))
        assert base.ppm == pytest.approx(ppm, abs=0.1)


def test_the_status_names_one_moment_in_three_ways() -> None:
    base = base_of(edges(0.0, 20))
    mono_ns = (1 << 32) * 1000 + 7_000_000 + 5 * SECOND_NS
    status = base.status(mono_ns)
    assert status["tmst"] == 5_007_000
    since_s = mono_ns // SECOND_NS - 5
    assert status["utc_ms"] // 1000 == BUILT_IN.unix_s(GPS0 + since_s)
    assert base_of(edges(0.0, 20)).status(24 * SECOND_NS)["gps_ms"] == (GPS0 + 19) * 1000


def test_too_few_edges_do_not_tell_the_crystal_s_error() -> None:
    errors = [abs((base_of(edges(12.5, 8, jitter_us=5, seed=seed)).ppm or 0) - 12.5) for seed in range(20)]
    assert max(errors) > 0.1  # the bound above is one that can be missed


def test_conversions_are_each_other_s_inverse_and_exact_where_the_clock_is() -> None:
    base = base_of(edges(0.0, 20))
    mono_ns = 5 * SECOND_NS + 19 * SECOND_NS + 250 * MS
    assert base.gps_ms(mono_ns) == (GPS0 + 19) * 1000 + 250
    assert base.mono_of_gps_ms((GPS0 + 19) * 1000 + 250) == mono_ns
    assert base.utc_ns(mono_ns) == BUILT_IN.unix_s(GPS0 + 19) * SECOND_NS + 250 * MS
    line = Timeline(10**15, 1_456 * 10**15, 37e-6, 0, 0, "pps")
    for off_ns in (-(10**13), -1, 0, 1, 10**9, 10**13):
        assert abs(line.mono_of(line.at(10**15 + off_ns)) - 10**15 - off_ns) <= 1


def test_the_bound_holds_through_an_hour_without_edges() -> None:
    for seed in range(8):
        ppm = 20.0
        base = base_of(edges(ppm, 140, jitter_us=5, seed=seed))
        bounds = []
        for after_s in (0, 1, 60, 600, 3600):
            true_s = 139 + after_s
            mono_ns = 5 * SECOND_NS + round(true_s * SECOND_NS * (1 + ppm * 1e-6))
            gps_ns, error_ns = base.gps_of(mono_ns), base.error_ns(mono_ns)
            assert gps_ns is not None
            assert error_ns is not None
            assert abs(gps_ns - (GPS0 + true_s) * SECOND_NS) <= error_ns
            bounds.append(error_ns)
        assert bounds == sorted(bounds)
        assert bounds[0] < 20 * US
        assert 5 * MS < bounds[-1] < 20 * MS


def test_gps_time_is_withheld_where_it_is_not_known_to_a_millisecond() -> None:
    base = base_of(edges(20.0, 140, jitter_us=5))
    last_ns = edges(20.0, 140, jitter_us=5)[-1][0]
    assert base.gps_ms(last_ns + 60 * SECOND_NS) is not None
    assert base.gps_ms(last_ns + 3600 * SECOND_NS) is None
    assert base.mono_of_gps_ms(GPS0 * 1000) is None
    assert base.quality == "gnss"  # still good to milliseconds
    assert base.quality_at(last_ns + 10 * 86_400 * SECOND_NS) == "unset"


def test_a_time_too_far_ahead_for_the_crystal_is_withheld() -> None:
    base = base_of(edges(20.0, 140, jitter_us=5))
    assert base.mono_of_gps_ms((GPS0 + 140 + 60) * 1000) is not None
    assert base.mono_of_gps_ms((GPS0 + 3600) * 1000) is None  # 2 ppm of an hour are 7 ms


def test_an_edge_that_does_not_fit_is_left_out() -> None:
    pairs = edges(5.0, 60, jitter_us=2)
    base = base_of(pairs[:59])
    ppm = base.ppm
    assert not base.add_edge(pairs[59][0] + 3 * MS, pairs[59][1])
    assert base.rejected == 1
    assert base.ppm == ppm


def test_a_new_line_is_begun_where_ten_edges_agree_on_it() -> None:
    pairs = edges(5.0, 60)
    base = base_of(pairs)
    shifted = [(mono_ns + 3 * MS, gps_s) for mono_ns, gps_s in edges(5.0, 90)[60:]]
    taken = [base.add_edge(*pair) for pair in shifted]
    assert taken == [False] * 10 + [True] * 20
    assert base.restarts == 1


def test_ten_edges_at_random_are_never_followed() -> None:
    rng = random.Random(4)
    base = base_of(edges(5.0, 60))
    for i in range(60, 160):
        base.add_edge(5 * SECOND_NS + i * SECOND_NS + rng.randrange(2 * MS, 400 * MS), GPS0 + i)
    assert base.restarts == 0


def test_messages_alone_are_good_to_a_third_of_a_second() -> None:
    rng = random.Random(3)
    base = TimeBase()
    for i in range(40):
        base.add_message(i * SECOND_NS + rng.randrange(80 * MS, 600 * MS), (GPS0 + i) * SECOND_NS)
    mono_ns = 41 * SECOND_NS
    gps_ns, error_ns = base.gps_of(mono_ns), base.error_ns(mono_ns)
    assert gps_ns is not None
    assert error_ns is not None
    assert abs(gps_ns - (GPS0 + 41) * SECOND_NS) <= error_ns < 400 * MS
    assert base.quality == "gnss"
    assert base.gps_ms(mono_ns) is None


class Machine:
    """The system's clock of a test."""

    def __init__(self, error_ns: int | None) -> None:
        self.error_ns = error_ns
        self.now_ns = 0
        self.asked = 0

    def __call__(self) -> SystemTime:
        self.asked += 1
        return SystemTime(self.now_ns, 1_780_000_000 * SECOND_NS + self.now_ns, self.error_ns)


def test_the_source_with_the_smallest_bound_is_used() -> None:
    machine = Machine(20 * MS)
    base = TimeBase(system=machine)
    assert base.quality_at(0) == "ntp"
    assert base.gps_ms(0) is None  # not to a millisecond
    base.add_message(0, GPS0 * SECOND_NS)
    assert base.quality_at(1) == "ntp"  # 20 ms against 350
    machine.error_ns = 300 * US
    machine.now_ns = 2 * SECOND_NS
    assert base.gps_ms(2 * SECOND_NS) == (1_780_000_002 - 315_964_800 + 18) * 1000
    for mono_ns, gps_s in edges(3.0, 10):
        base.add_edge(mono_ns, gps_s)
    machine.now_ns = 15 * SECOND_NS
    assert base.status(15 * SECOND_NS)["source"] == "pps"
    assert base.quality == "gnss"


def test_a_clock_nobody_keeps_right_is_used_and_vouched_for_by_nobody() -> None:
    base = TimeBase(system=Machine(None))
    assert base.utc_ns(0) == 1_780_000_000 * SECOND_NS
    assert base.quality == "unset"
    assert base.error_ns(0) is None
    assert base.gps_ms(0) is None
    assert base.status(0)["quality"] == "unset"
    assert TimeBase().utc_ns(0) is None


def test_the_system_is_asked_once_a_second_at_most() -> None:
    machine = Machine(None)
    base = TimeBase(system=machine)
    for i in range(100):
        machine.now_ns = i * 100 * MS
        base.utc_ns(machine.now_ns)
    assert machine.asked == 10


def test_leap_seconds_are_said_to_be_unsure_after_their_expiry() -> None:
    base = TimeBase(system=Machine(20 * MS))  # in May 2026
    assert base.status(0)["leap_sure"]
    base = TimeBase(leap=fixed(19))
    assert base.status(0)["leap_source"] == "setting"
    late = TimeBase(system=lambda: SystemTime(0, 1_790_000_000 * SECOND_NS, MS))  # in September 2026
    assert not late.status(0)["leap_sure"]
    assert late.status(0)["leap_s"] == 18


def test_four_edges_make_a_line_and_three_do_not() -> None:
    points = [(mono_ns, gps_s * SECOND_NS) for mono_ns, gps_s in edges(1.0, 4)]
    assert fit(points[:3]) is None
    made = fit(points)
    assert made is not None
    assert made[0].rate == pytest.approx(-1e-6, abs=1e-9)

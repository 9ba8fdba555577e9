"""How many frames are heard, from the gaps in FCnt."""

import random

import pytest

from gateway.lorawan.heardrate import MAX_GAP, RECENT, HeardRate


def counted(*counters):
    rate, before = HeardRate(), None
    for fcnt in counters:
        rate.add(before, fcnt)
        before = fcnt
    return rate


def test_before_the_first_frame_nothing_is_known():
    rate = HeardRate()
    assert (rate.share, rate.overall, rate.frames) == (None, None, 0)


def test_a_gap_is_as_many_missed_frames():
    rate = counted(10, 11, 14)
    assert (rate.heard, rate.missed) == (3, 2)
    assert rate.share == rate.overall == pytest.approx(3 / 5)


def test_the_share_is_over_the_last_frames_and_the_overall_over_all():
    rate = counted(*range(0, 300, 3), *range(300, 400))
    assert rate.share == 1.0
    assert rate.overall == 0.5
    assert rate.frames == RECENT


def test_a_new_session_and_a_counter_set_back_are_no_gaps():
    rate = counted(5, 6)
    rate.add(None, 900)  # joined anew
    rate.add(900, 0)  # the device has lost its counter, and its profile lets it begin again
    rate.add(0, 1)
    assert (rate.heard, rate.missed) == (5, 0)


def test_the_gap_over_a_restart_of_the_gateway_is_not_the_radios_fault():
    rate = HeardRate()
    rate.add(100, 500)  # FCntUp 100 comes from the store
    assert (rate.heard, rate.missed, rate.share) == (1, 0, 1.0)


def test_a_gap_too_long_to_be_missed_frames_does_not_count():
    assert counted(0, MAX_GAP + 1).missed == 0
    assert counted(0, MAX_GAP).missed == MAX_GAP - 1
    assert counted(0, MAX_GAP).share == 1 / RECENT


def test_a_third_of_the_frames_shows_as_a_third():
    rng = random.Random(4)
    rate = counted(*(fcnt for fcnt in range(3000) if rng.random() < 1 / 3))
    assert rate.overall == pytest.approx(1 / 3, abs=0.03)
    assert rate.share == pytest.approx(1 / 3, abs=0.15)


def test_the_share_agrees_with_counting_by_hand():
    rng = random.Random(5)
    for _ in range(40):
        fcnts = sorted(rng.sample(range(400), rng.randrange(1, 300)))
        rate = counted(*fcnts)
        last = range(max(fcnts[0], fcnts[-1] - RECENT + 1), fcnts[-1] + 1)
        assert rate.share == sum(fcnt in set(fcnts) for fcnt in last) / len(last)


@pytest.mark.parametrize(
    ("counters", "loss"),
    [
        pytest.param(range(20), 0.0, id="none"),
        pytest.param(range(0, 40, 2), 1 - 20 / 39, id="every other"),
        pytest.param([0, 50, *range(100, 120)], 0.0, id="long ago"),
        pytest.param(range(10), 0.0, id="too few to tell"),
        pytest.param(range(0, 600, 30), 1 - 4 / 100, id="more than are remembered"),
    ],
)
def test_the_loss_is_among_the_last_frames_that_came(counters, loss):
    assert counted(*counters).loss(20) == pytest.approx(loss)

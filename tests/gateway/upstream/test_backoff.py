import itertools
import random

import pytest

from gateway.upstream.backoff import Backoff


def outage(seconds: float, seed: int) -> list[float]:
    """Times of the attempts of one outage in which each attempt fails at once."""
    backoff = Backoff(rng=random.Random(seed))
    attempts = [0.0]
    while attempts[-1] < seconds:
        attempts.append(attempts[-1] + backoff.pause_s(attempts[-1]))
    return attempts


@pytest.mark.parametrize("seed", range(20))
def test_after_a_minute_no_two_attempts_are_closer_than_a_second(seed: int) -> None:
    attempts = outage(3600, seed)
    late = [time for time in attempts if time >= 60]
    assert min(after - before for before, after in itertools.pairwise(late)) >= 1.0


def test_a_broker_that_returns_is_tried_again_within_half_a_minute() -> None:
    attempts = outage(7 * 86_400, seed=1)
    assert max(after - before for before, after in itertools.pairwise(attempts)) <= 30.0


def test_two_gateways_do_not_return_in_step() -> None:
    assert not set(outage(3600, 1)[1:]) & set(outage(3600, 2)[1:])


def test_a_new_outage_starts_with_short_pauses_again() -> None:
    backoff = Backoff(rng=random.Random(3))
    for second in range(100):
        backoff.pause_s(float(second))
    backoff.reset()
    assert backoff.pause_s(1000.0) <= 0.5


def test_a_very_long_outage_overflows_nothing() -> None:
    backoff = Backoff(rng=random.Random(4))
    assert all(backoff.pause_s(float(second)) <= 30.0 for second in range(5000))

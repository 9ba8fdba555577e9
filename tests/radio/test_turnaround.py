"""The thinking time of an RN2483, learnt from answers that may be read late."""

import random

import pytest

from radio.turnaround import FIRST_GUESS_NS, LONGEST_NS, Turnaround

MS = 1_000_000


def test_before_any_answer_it_is_guessed_and_then_taken_from_plain_commands() -> None:
    turnaround = Turnaround()
    assert turnaround.estimate_ns(20) == FIRST_GUESS_NS
    for delay_ns in (3 * MS, 1 * MS, 2 * MS):
        turnaround.plain(delay_ns)
    assert turnaround.estimate_ns(20) == 1 * MS


def test_behind_a_slow_adapter_the_quickest_answers_count() -> None:
    rng = random.Random(1)
    turnaround = Turnaround()
    for _ in range(60):
        size = rng.randrange(5, 250)
        turnaround.transmit(size, MS + 12_000 * size + rng.randrange(16 * MS))
    errors_ms = [(turnaround.estimate_ns(size) - MS - 12_000 * size) / MS for size in (10, 60, 120, 240)]
    assert all(abs(error) < 4 for error in errors_ms)


@pytest.mark.parametrize("size", [5, 50, 250])
def test_a_line_over_the_length_is_found_exactly_where_nothing_is_late(size: int) -> None:
    turnaround = Turnaround()
    for other in (10, 20, 200):
        turnaround.transmit(other, MS + 12_000 * other)
    assert turnaround.estimate_ns(size) == pytest.approx(MS + 12_000 * size, abs=10)


def test_what_is_no_thinking_time_is_left_out() -> None:
    turnaround = Turnaround()
    turnaround.plain(-1)
    turnaround.plain(LONGEST_NS + 1)
    turnaround.transmit(10, LONGEST_NS + 1)
    assert turnaround.estimate_ns(10) == FIRST_GUESS_NS
    assert turnaround.status() == {"plain_us": None, "tx_us": FIRST_GUESS_NS // 1000, "measured": 0}

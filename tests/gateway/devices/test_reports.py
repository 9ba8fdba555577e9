"""Missed reports by the clock that is handed in."""

import pytest

from gateway.devices.reports import NONE, Missed, State, missed, state

SECOND = 10**9
HOUR = 3600 * SECOND


@pytest.mark.parametrize(
    ("after_s", "count"),
    [(0, 0), (3600, 0), (5399, 0), (5400, 1), (7200, 1), (9000, 2), (86_400, 23)],
)
def test_a_report_is_missed_half_an_interval_after_it_was_due(after_s: int, count: int) -> None:
    found = missed(5 * HOUR, 3600, 0, 5 * HOUR + after_s * SECOND)
    assert found == (Missed(count, 6 * HOUR) if count else NONE)


def test_short_and_long_intervals_have_a_grace_with_bounds() -> None:
    assert missed(0, 10, 0, 69 * SECOND).count == 0
    assert missed(0, 10, 0, 70 * SECOND).count == 1
    assert missed(0, 86_400, 0, 25 * HOUR).count == 1


def test_nothing_is_missed_without_an_expectation() -> None:
    assert missed(0, 0, 0, 1000 * HOUR) == NONE
    assert missed(None, 60, 0, 1000 * HOUR) == NONE


def test_what_came_while_the_gateway_was_off_is_not_counted() -> None:
    assert missed(0, 3600, 100 * HOUR, 101 * HOUR) == NONE
    assert missed(0, 3600, 100 * HOUR, 102 * HOUR) == Missed(1, 101 * HOUR)


def test_a_clock_that_goes_back_misses_nothing() -> None:
    assert missed(100 * HOUR, 60, 0, 0) == NONE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, State.OK),
        ({"battery": 25}, State.LOW_BATTERY),
        ({"battery": 26}, State.OK),
        ({"battery": 0}, State.OK),
        ({"battery": 255}, State.OK),
        ({"missing": Missed(1, 0), "battery": 1}, State.OVERDUE),
        ({"last_seen_ns": None}, State.NEVER_HEARD),
        ({"problem": "wrong AppKey", "last_seen_ns": None}, State.REFUSED),
        ({"moved": True, "problem": "x"}, State.MOVED),
    ],
)
def test_the_gravest_state_is_told(change: dict[str, object], expected: State) -> None:
    facts: dict[str, object] = {
        "moved": False,
        "problem": "",
        "last_seen_ns": 1,
        "missing": NONE,
        "battery": None,
    }
    assert state(**(facts | change)) is expected  # type: ignore[arg-type]


def test_a_device_that_was_moved_needs_no_attention() -> None:
    assert [each for each in State if not each.needs_attention] == [State.MOVED, State.OK]

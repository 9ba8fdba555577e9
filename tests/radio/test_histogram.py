import json

import pytest

from radio.histogram import Histogram


def test_a_value_on_a_bound_counts_below_it_and_what_is_above_all_bounds_counts_last() -> None:
    histogram = Histogram((-20, 0, 20), "us")
    for value in (-1000, -20, -19, 0, 20, 21, 1000):
        histogram.add(value)
    assert histogram.status() == {
        "unit": "us",
        "bounds": [-20, 0, 20],
        "counts": [2, 2, 1, 2],
        "count": 7,
        "sum": 2,
        "min": -1000,
        "max": 1000,
    }


def test_an_empty_histogram_has_neither_least_nor_greatest_and_is_plain_json() -> None:
    status = Histogram((1, 2), "us").status()
    assert status["count"] == 0
    assert status["min"] is None
    assert status["max"] is None
    assert json.loads(json.dumps(status)) == status


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1)])
def test_bounds_that_do_not_rise_are_refused(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not rise"):
        Histogram(bounds, "us")

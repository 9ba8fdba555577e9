"""Token buckets by name."""

from __future__ import annotations

import pytest

from hub.rates import Rates


def test_a_bucket_fills_with_time_and_their_number_is_bounded() -> None:
    rates = Rates(2.0, 4, names=3)
    assert [rates.wait_s("a", 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert rates.wait_s("a", 0.5) == 0.0
    assert rates.wait_s("a", 0.75) == 0.25
    assert [rates.wait_s("a", 1e6) for _ in range(5)][-1] == 0.5
    for name in "bcd":
        rates.wait_s(name, 1e6)
    assert rates.wait_s("a", 1e6) == 0.0, "the one used longest ago begins anew"


def test_what_has_happened_is_owed_and_paid_off_with_time() -> None:
    rates = Rates(2.0, 4)
    assert rates.owes_s("a", 4, 0.0) == 0.0
    assert rates.owes_s("a", 3, 0.0) == 1.5
    assert rates.owes_s("a", 1, 0.5) == 1.5, "one paid, one more taken"
    assert rates.owes_s("b", 1, 0.5) == 0.0
    assert rates.wait_s("a", 1.0) == pytest.approx(1.5), "two owed, and one to take"
    assert rates.owes_s("a", 0, 2.0) == 0.0
    assert rates.owes_s("a", 5, 100.0) == 0.5, "no more than the burst is saved up"

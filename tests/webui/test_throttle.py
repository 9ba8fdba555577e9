"""Guessing gets slow, honest mistakes do not."""

from __future__ import annotations

from webui import throttle
from webui.throttle import Throttle


def test_five_tries_are_free_then_waits_double() -> None:
    guard = Throttle()
    waits = []
    now = 0.0
    for _ in range(20):
        waits.append(guard.wait_s("a", now))
        now += waits[-1]
        guard.failed("a", now)
    assert waits[:8] == [0, 0, 0, 0, 0, 2, 4, 8]
    assert max(waits) == throttle.MAX_WAIT_S


def test_waiting_is_told_in_seconds_left() -> None:
    guard = Throttle()
    for _ in range(5):
        guard.failed("a", 100.0)
    assert guard.wait_s("a", 100.5) == 1.5
    assert guard.wait_s("b", 100.5) == 0


def test_success_and_time_forgive() -> None:
    guard = Throttle()
    for _ in range(8):
        guard.failed("a", 0.0)
        guard.failed("b", 0.0)
    guard.succeeded("a")
    assert guard.wait_s("a", 0.0) == 0
    assert guard.wait_s("b", throttle.FORGET_AFTER_S + 1) == 0


def test_a_flood_of_addresses_takes_no_more_room() -> None:
    guard = Throttle()
    for at in range(throttle.MAX_ADDRESSES + 500):
        guard.failed(f"10.0.{at // 256}.{at % 256}", float(at) / 1000)
    assert len(guard._failures) == throttle.MAX_ADDRESSES

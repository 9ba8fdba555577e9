"""A few kills of a process that books time on air; the long run is a command (`tests/torture/airtime.py`)."""

from __future__ import annotations

from torture import airtime


def test_what_was_granted_before_a_kill_is_known_after_it() -> None:
    found = airtime.run(3, seed=1)
    assert found["granted"] > 0
    assert (found["kills"], found["forgotten"], found["damaged"]) == (3, 0, 0)


def test_the_harness_finds_a_ledger_that_writes_nothing_ahead() -> None:
    # A kill before anything was sent forgets nothing: another one, then.
    assert any(airtime.run(1, seed=seed, forgetful=True)["forgotten"] > 0 for seed in range(2, 10))

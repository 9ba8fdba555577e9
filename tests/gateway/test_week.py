"""A simulated day or less of what `tests/torture/week.py` does for a week: devices of all versions and classes.

Each claim has its control: without ADR nothing converges, unsteered a third is heard, a book that is wrong is noticed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # torture.*, whose short version this is

from torture import week
from torture.week_world import RegionWorld

KINDS = len(week.KINDS)


@pytest.mark.parametrize("region", ["EU868", "US915", "AS923-1"])
def test_a_mixed_fleet_joins_and_every_uplink_heard_is_in_the_log_once(region: str, tmp_path: Path) -> None:
    found = week.live_through(region, tmp_path, days=0.25, devices=KINDS, seed=3)
    print(found)
    assert found.joined == KINDS
    assert found.heard > 150
    assert found.joins >= KINDS - 2  # of the twelve two are personalised
    assert (found.stored, found.twice, found.lost) == (found.heard, 0, 0)
    assert found.heard_unacked == 0
    # Unheard before they are steered
    assert found.confirmed - found.acked <= (10 if region == "US915" else 0)
    assert found.sure_arrived == found.sure_orders > 0
    assert found.orders_arrived >= 0.75 * found.orders  # a tenth of the frames is destroyed
    assert found.at_once >= 0.8 * found.orders_arrived
    assert found.group_arrived == found.group_expected > 0
    assert not found.class_b.startswith("0/")
    assert set(found.rejected) <= {"duplicate"}


def test_on_a_clean_air_class_c_is_reached_within_a_second_and_data_rates_become_the_best(
    tmp_path: Path,
) -> None:
    found = week.live_through("IN865", tmp_path, days=1.0, devices=6, seed=5, loss=0.0)
    print(found)
    assert found.orders_arrived == found.orders > 0
    assert found.at_once >= 0.9 * found.orders  # else the device had just sent, or the gateway was sending
    assert found.worst_s < 5
    assert found.group_arrived == found.group_expected
    assert found.rejoins >= 2
    assert found.converged >= found.adaptive - 1 == 5  # one has just begun a new session


def test_control_without_adr_nothing_converges(tmp_path: Path) -> None:
    found = week.live_through(
        "EU868", tmp_path, days=0.4, devices=6, seed=5, loss=0.0, radius_m=700.0, adr=False
    )
    assert found.converged == 0
    assert found.lost == found.twice == 0


def test_control_a_frame_taken_twice_or_never_is_noticed(tmp_path: Path) -> None:
    world = RegionWorld(week.scenario("EU868", 2, 4, days=0.1), tmp_path)
    try:
        world.run(4000)
        world.end()
        assert (world.accepted_twice(), world.never_stored()) == (0, 0)
        one = next(iter(world.book.heard))
        world.book.heard.remove(one)
        assert (world.accepted_twice(), world.never_stored()) == (1, 0)
        world.book.heard |= {one, (one[0], one[1], one[2] + 1000)}
        assert (world.accepted_twice(), world.never_stored()) == (0, 1)
    finally:
        world.close()


def test_devices_are_steered_to_the_one_channel_that_is_heard_and_unsteered_a_third_is() -> None:
    steered = week.steered(1.0, 1)
    unsteered = week.steered(1.0, 1, steer="off")
    print(steered, unsteered)
    assert steered.joined == unsteered.joined == steered.devices
    assert steered.share >= 0.97
    assert 0.2 <= unsteered.share <= 0.47
    assert abs(steered.told - steered.share) < 0.05
    assert abs(unsteered.told - unsteered.share) < 0.1


def test_the_same_seed_gives_the_same_week(tmp_path: Path) -> None:
    first, second = (
        week.live_through("EU868", tmp_path / str(number), days=0.06, devices=KINDS, seed=2)
        for number in range(2)
    )
    first.seconds = second.seconds = 0
    assert first == second

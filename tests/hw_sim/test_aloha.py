"""A population that sends at random, against pure ALOHA's closed form; `fluxgate sim theory` runs it longer."""

import pytest

from hw_sim.closed_forms import WITHIN, aloha


@pytest.mark.parametrize(
    ("load", "frames"),
    [
        pytest.param(0.1, 1500, id="G = 0.1"),
        pytest.param(0.25, 2000, id="G = 0.25"),
        pytest.param(0.5, 4000, id="G = 0.5, the peak"),
        pytest.param(0.75, 5000, id="G = 0.75"),
    ],
)
def test_throughput_is_g_times_e_to_the_minus_2g(load: float, frames: int) -> None:
    assert aloha(load, frames).error <= WITHIN


@pytest.mark.parametrize("load", [0.1, 1.0])
def test_without_collisions_the_check_fails(load: float) -> None:
    assert aloha(load, 500, collisions=False).error > 5 * WITHIN


def test_the_same_seed_gives_the_same_run() -> None:
    assert aloha(0.5, 300, seed=4) == aloha(0.5, 300, seed=4)
    assert aloha(0.5, 300, seed=4) != aloha(0.5, 300, seed=5)

"""Two senders and one receiver: who is received, against closed forms; `fluxgate sim theory` runs it longer."""

import pytest

from hw_sim.closed_forms import WITHIN, capture, rayleigh_capture, sensitivity, threshold


@pytest.mark.parametrize("ratio_db", [-4.0, 3.0])
def test_capture_among_lognormal_fading_follows_the_normal_distribution(ratio_db: float) -> None:
    assert capture(ratio_db, 2000).error <= WITHIN


@pytest.mark.parametrize("ratio_db", [-2.0, 6.0])
def test_capture_among_rayleigh_fading_follows_its_closed_form(ratio_db: float) -> None:
    assert rayleigh_capture(ratio_db, 2000).error <= WITHIN


@pytest.mark.parametrize("ratio_db", [-1.0, 0.95, 1.05, 3.0])
def test_without_fading_capture_is_a_step_at_the_measured_threshold(ratio_db: float) -> None:
    assert threshold(ratio_db, 5).error == 0


@pytest.mark.parametrize("margin_db", [-0.5, 0.7])
def test_decoding_near_the_floor_is_a_logistic_curve(margin_db: float) -> None:
    assert sensitivity(margin_db, 2000).error <= WITHIN


@pytest.mark.parametrize("experiment", [capture, rayleigh_capture, threshold, sensitivity])
def test_without_collisions_or_noise_the_check_fails(experiment: object) -> None:
    assert experiment(0.0, 100, collisions=False).error > 5 * WITHIN  # type: ignore[operator]

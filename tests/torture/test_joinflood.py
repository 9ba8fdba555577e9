"""A flood of strangers beside fifty known devices, in short; `run.py flood` takes minutes of it."""

from torture import joinflood


def test_a_flood_of_strangers_costs_no_known_frame_and_leaves_nothing_behind() -> None:
    result = joinflood.run(40, 3, rate=100, traced=False)
    assert result.strangers == 4000
    assert result.sent > 90
    assert result.loss == 0
    assert result.refused["a stranger was taken"] == 0
    assert result.granted == result.joins
    assert result.messages == 2 * result.taken
    assert result.answered > 50
    assert result.growth <= 500
    assert result.good


def test_what_is_remembered_of_strangers_is_found() -> None:
    kept = {"strangers": [object() for _ in range(5000)]}
    assert joinflood.elements_of([kept]) > 5000

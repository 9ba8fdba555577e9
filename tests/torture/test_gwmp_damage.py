"""A few thousand damaged datagrams through both sides of GWMP; `run.py gwmp` takes a million."""

from torture import gwmp_damage


def test_damaged_datagrams_harm_neither_side() -> None:
    result = gwmp_damage.run(4000, 1)
    assert result.problems == []
    assert result.valid > 200


def test_a_decoder_that_lets_other_errors_out_is_found() -> None:
    assert any("Error" in problem for problem in gwmp_damage.careless_run(2000, 1).problems)


def test_a_log_line_for_every_datagram_is_found() -> None:
    assert any("log lines" in problem for problem in gwmp_damage.talkative_run(2000, 1).problems)

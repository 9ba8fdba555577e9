"""A few thousand damaged messages through both ends of the LNS protocol; `run.py station` takes a million."""

from torture import station_damage


def test_damaged_messages_harm_neither_end() -> None:
    result = station_damage.run(4000, 1)
    assert result.problems == []
    assert result.valid > 200


def test_a_codec_that_lets_other_errors_out_is_found() -> None:
    assert any("Error" in problem for problem in station_damage.careless_run(1000, 1).problems)


def test_a_log_line_for_every_message_is_found() -> None:
    assert any("log lines" in problem for problem in station_damage.talkative_run(2000, 1).problems)

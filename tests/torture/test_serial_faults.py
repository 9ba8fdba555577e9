"""A few faults of serial devices; `serial_faults.py` and `gnss_faults.py` take hundreds, and hours."""

from torture import gnss_faults, serial_faults


def test_faults_of_an_rn2483_are_mended_and_nothing_is_sent_wrongly() -> None:
    outcome = serial_faults.series(24, 1)
    assert outcome.problems == []
    assert max(max(times) for times in outcome.mended.values()) <= 5_000_000_000
    assert outcome.heard > 40


def test_without_pings_and_reading_back_some_are_not() -> None:
    with serial_faults.checks_off():
        assert serial_faults.series(16, 1).problems


def test_the_time_is_never_worse_than_said() -> None:
    run, faults = gnss_faults.series(0.4, 2)
    assert run.beyond == []
    assert run.precise > 150
    assert faults.total() >= 5


def test_a_receiver_that_is_always_believed_spoils_the_time() -> None:
    with gnss_faults.credulous():
        run, _faults = gnss_faults.series(0.4, 1)
    assert run.beyond

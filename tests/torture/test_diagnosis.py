"""Each fault once or twice; `run.py diagnosis` takes as many seeds as wanted and prints the table."""

from torture import diagnosis, diagnosis_air


def test_what_is_wrong_is_named_for_each_kind_of_fault() -> None:
    result = diagnosis.run(2)
    assert len(result.said) >= 25
    assert result.share >= diagnosis.RIGHT, result.table()


def test_without_looking_for_likely_mistakes_the_diagnosis_falls_behind() -> None:
    assert diagnosis.run(1, hypotheses=False).share < 0.85


def test_devices_on_the_air_are_told_what_is_wrong_with_them() -> None:
    result = diagnosis_air.run(1, hours=0.3, healthy=2, faults=("wrong_root_key", "swapped_dev_eui", "deaf"))
    assert result.wrong == []
    assert result.false_alarms == []

"""Damaged inputs for every protocol, in short; `python tests/torture/run.py fuzz` is the long run."""

from __future__ import annotations

import pytest
from torture import fuzz
from torture.fuzz_targets import SLOW, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_raise_only_what_is_declared(name: str) -> None:
    result = fuzz.run(name, TARGETS[name], 1500 if name in SLOW else 20_000, seed=1)
    print(result)
    assert result.problems == []
    assert result.inputs >= 1500
    assert result.valid > result.inputs // 100  # mutations get behind the first checks
    assert result.log_lines < 400


def test_control_an_undeclared_error_is_found() -> None:
    result = fuzz.run("sabotaged", fuzz.sabotaged(TARGETS["mqtt 3.1.1 decoder"]), 20_000, seed=1)
    assert any("put in on purpose" in problem for problem in result.problems)

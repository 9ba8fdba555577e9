"""Failing calls to the disk, in short; `python tests/torture/run.py faults` makes every call fail in turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from torture import faults


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_after_a_failing_call_nothing_is_acknowledged_that_is_not_durable() -> None:
    findings = faults.run(36, seed=1)
    print(findings)
    assert findings.problems == []
    assert findings.met >= 34  # of a kind of call that a life needs once or not at all, none may come
    assert len(findings.by_call) >= 5


def test_control_a_hub_that_acknowledges_early_is_found_out() -> None:
    findings = faults.run(300, seed=2, early=True)
    assert any("lost" in problem for problem in findings.problems)

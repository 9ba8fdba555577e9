"""kill -9 of the gateway under load on every door, in short; `python tests/torture/run.py kills` is the long run."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from torture import kills
from torture.loads import DOORS, Account

from hub.message import Message


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # asyncio warns of each connection that the kill cut
    yield
    logging.disable(logging.NOTSET)


def test_kills_lose_nothing_acknowledged_and_store_nothing_twice_on_any_door() -> None:
    findings = kills.run(40, seed=1)
    print(findings)
    assert findings.problems == []
    assert findings.kills == 40
    assert findings.by_load.keys() == DOORS.keys()
    assert min(findings.by_load.values()) > 10


def test_control_a_gateway_that_acknowledges_early_loses() -> None:
    findings = kills.run(5, seed=2, early=True)
    assert any("lost" in problem for problem in findings.problems)


def test_control_a_gateway_that_acknowledges_early_loses_wills() -> None:
    findings = kills.run(5, seed=3, doors=("mqtt wills",), early=True)
    assert any("lost" in problem and "will-" in problem for problem in findings.problems)


def test_control_a_will_that_is_published_behind_a_goodbye_is_found() -> None:
    torture = kills.Torture.__new__(kills.Torture)
    torture.account, torture.loads = Account(), []
    torture.account.dropped.add("gone-1")
    published = Message("c", "wills", "thing", "mqtt", "application/octet-stream", b"gone-1", 0)
    assert torture._compare([]) == []
    assert torture._compare([published]) == ["1 wills published behind a goodbye: ['gone-1']"]

"""Real-time priority: asked for where it is missing, left alone where systemd has granted it, never fatal."""

import logging
import os

import pytest
from pytest_mock import MockerFixture

from radio.hardware.realtime import PRIORITY, prefer_thread

REFUSED = PermissionError(1, "Operation not permitted")


def test_an_ordinary_thread_asks_for_fifo(mocker: MockerFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_OTHER)
    asked = mocker.patch("os.sched_setscheduler")
    prefer_thread()
    asked.assert_called_once_with(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


@pytest.mark.parametrize("policy", [os.SCHED_FIFO, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK])
def test_what_systemd_has_granted_is_left_alone_without_a_word(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture, policy: int
) -> None:
    mocker.patch("os.sched_getscheduler", return_value=policy)
    asked = mocker.patch("os.sched_setscheduler", side_effect=REFUSED)
    with caplog.at_level(logging.DEBUG):
        prefer_thread()
    asked.assert_not_called()
    assert caplog.records == []


def test_a_refusal_is_told_and_nothing_more(mocker: MockerFixture, caplog: pytest.LogCaptureFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_OTHER)
    mocker.patch("os.sched_setscheduler", side_effect=REFUSED)
    with caplog.at_level(logging.INFO):
        prefer_thread()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no real-time priority" in caplog.text

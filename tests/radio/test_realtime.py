"""Real-time priority: asked for where it is missing, left alone where systemd has granted it, never fatal.
Garbage collection: never between arming and TxDone, and in time when nobody has anything to start."""

import gc
import logging
import os
import resource
import threading
from collections.abc import Iterator

import pytest
from pytest_mock import MockerFixture

from radio.hardware.realtime import PRIORITY, Granted, Quiet, prefer_thread

REFUSED = PermissionError(1, "Operation not permitted")
SECOND = 1_000_000_000


@pytest.fixture
def collector() -> Iterator[None]:
    """Python's collector as it was, whatever a test did to it."""
    yield
    gc.enable()


def test_an_ordinary_thread_asks_for_fifo(mocker: MockerFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_OTHER)
    asked = mocker.patch("os.sched_setscheduler")
    assert prefer_thread()
    asked.assert_called_once_with(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


@pytest.mark.parametrize("policy", [os.SCHED_FIFO, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK])
def test_what_systemd_has_granted_is_left_alone_without_a_word(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture, policy: int
) -> None:
    mocker.patch("os.sched_getscheduler", return_value=policy)
    asked = mocker.patch("os.sched_setscheduler", side_effect=REFUSED)
    with caplog.at_level(logging.DEBUG):
        assert prefer_thread()
    asked.assert_not_called()
    assert caplog.records == []


def test_a_refusal_is_told_and_nothing_more(mocker: MockerFixture, caplog: pytest.LogCaptureFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_OTHER)
    mocker.patch("os.sched_setscheduler", side_effect=REFUSED)
    with caplog.at_level(logging.INFO):
        assert not prefer_thread()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no real-time priority" in caplog.text


def test_what_was_refused_stands_in_the_status_with_what_to_do(mocker: MockerFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_OTHER)
    mocker.patch("os.sched_setscheduler", side_effect=REFUSED)
    mocker.patch("os.geteuid", return_value=1000)
    mocker.patch("resource.getrlimit", return_value=(65536, 65536))
    mocker.patch("gc.freeze")
    mocker.patch("sys.setswitchinterval")
    granted = Granted()
    granted.thread("a")
    granted.process()
    status = granted.status()
    assert (status["priority"], status["memory_locked"]) == (False, False)
    assert "rtprio" in status["advice"][0]
    assert "memlock" in status["advice"][1]
    assert not granted.has_priority("a")


def test_what_was_granted_needs_no_advice(mocker: MockerFixture) -> None:
    mocker.patch("os.sched_getscheduler", return_value=os.SCHED_FIFO)
    mocker.patch("resource.getrlimit", return_value=(resource.RLIM_INFINITY,) * 2)
    mocker.patch("ctypes.CDLL").return_value.mlockall.return_value = 0
    mocker.patch("gc.freeze")
    mocker.patch("sys.setswitchinterval")
    granted = Granted()
    granted.thread("a")
    granted.process()
    assert granted.status() == {"priority": True, "memory_locked": True, "advice": []}
    assert granted.has_priority("a")
    assert not granted.has_priority("one that never asked")


def test_nothing_is_collected_while_any_module_has_a_start_ahead(collector: None) -> None:
    quiet = Quiet()
    quiet.hold("a")
    quiet.hold("b")
    quiet.hold("b")
    assert not gc.isenabled()
    quiet.release("b")
    quiet.release("b")
    assert not gc.isenabled()
    quiet.release("a")
    assert gc.isenabled()


def test_a_collector_that_was_off_before_stays_off(collector: None) -> None:
    gc.disable()
    quiet = Quiet()
    quiet.hold("a")
    quiet.release("a")
    assert not gc.isenabled()


def test_holding_from_many_threads_ends_with_the_last_release(collector: None) -> None:
    quiet = Quiet()

    def module(name: str) -> None:
        for _ in range(500):
            quiet.hold(name)
            assert not gc.isenabled()
            quiet.release(name)

    failures: list[object] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    threads = [threading.Thread(target=module, args=(f"m{i}",)) for i in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert failures == []
    assert gc.isenabled()


def test_idle_time_is_used_to_collect_but_only_with_room_before_every_start(
    mocker: MockerFixture, collector: None
) -> None:
    collect = mocker.patch("gc.collect")
    quiet = Quiet()
    quiet.rest("a", None, 0)
    quiet.rest("b", None, 0)
    later = Quiet.EVERY_NS
    quiet.rest("a", later + Quiet.ROOM_NS - 1, later)  # its own start is near
    quiet.rest("b", None, later)  # and the other module's is for b as well
    assert collect.call_count == 0
    quiet.hold("b")
    quiet.rest("a", None, later + SECOND)  # b has one in hand
    assert collect.call_count == 0
    quiet.release("b")
    quiet.rest("a", later + 2 * SECOND, later + SECOND)
    quiet.rest("a", None, later + 3 * SECOND)  # collected a moment ago
    assert collect.call_count == quiet.collections == 1

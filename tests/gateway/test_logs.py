"""The log of a process: bounded whatever strangers send, one line a message, nothing forged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gateway import logs

Lines = list[str]


class Keeper(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def logger(clock: Clock, lines: Lines) -> Iterator[logging.Logger]:
    keeper = Keeper(lines)
    keeper.setFormatter(logs.OneLine())
    keeper.addFilter(logs.Sparing(clock))
    logger = logging.getLogger("test of logs")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(keeper)
    yield logger
    logger.removeHandler(keeper)


def test_a_flood_of_one_kind_is_cut_and_counted(logger: logging.Logger, lines: Lines, clock: Clock) -> None:
    for number in range(20_000):
        logger.info("stranger %d refused", number)
    logger.warning("another kind is still heard")
    assert len(lines) == logs.LINES + 1
    assert "left out" in lines[logs.LINES - 1]
    assert lines[-1] == "WARNING test of logs: another kind is still heard"
    clock.now_s = logs.PERIOD_S
    logger.info("stranger %d refused", 20_000)
    assert lines[-1].endswith(
        f"stranger 20000 refused (and {20_000 - logs.LINES} more like this before, left out)"
    )
    logger.info("stranger %d refused", 20_001)
    assert lines[-1].endswith("stranger 20001 refused")


def test_what_is_remembered_about_kinds_is_bounded(logger: logging.Logger, lines: Lines) -> None:
    for number in range(2 * logs.MAX_KINDS):
        logger.info(f"kind {number}")
    assert len(lines) == 2 * logs.MAX_KINDS
    sparing = logger.handlers[0].filters[0]
    assert isinstance(sparing, logs.Sparing)
    assert len(sparing._kinds) == logs.MAX_KINDS


def test_a_strangers_text_cannot_forge_a_line(logger: logging.Logger, lines: Lines) -> None:
    logger.info("login of %s refused", "eve\nERROR gateway.app: all is lost\x1b[2J")
    assert lines == [r"INFO test of logs: login of eve\nERROR gateway.app: all is lost\x1b[2J refused"]


def test_a_traceback_keeps_its_lines(logger: logging.Logger, lines: Lines) -> None:
    try:
        raise ValueError("ours")
    except ValueError:
        logger.exception("a bug")
    assert lines[0].startswith("ERROR test of logs: a bug\nTraceback")

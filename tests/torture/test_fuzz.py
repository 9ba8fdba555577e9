"""Damaged inputs for every protocol, in short; `python tests/torture/run.py fuzz` is the long run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from torture import fuzz, fuzz_web
from torture.fuzz_targets import DOORS, ENTRANCES, PARSERS, TARGETS

from hub.http.connection import BoundedProtocol
from hub.http.sse import Streams
from hub.mqtt.connection import Connection
from hub.mqtt.subscribing import Subscribing


# Of a certificate with a serial number below zero cryptography only warns yet, as of a few more oddities.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_raise_only_what_is_declared(name: str) -> None:
    count = 4000 if name in PARSERS else 400 if name in ENTRANCES else 1000
    result = fuzz.run(name, TARGETS[name], count, seed=1)
    print(result)
    assert result.problems == []
    assert result.inputs == count
    # Mutations get behind the first checks, but nobody guesses a key.
    assert result.valid > result.inputs // 100 or name == "bearer"
    assert result.log_lines < 400


def test_control_an_undeclared_error_is_found() -> None:
    result = fuzz.run("sabotaged", fuzz.sabotaged(TARGETS["mqtt 3.1.1 decoder"]), 20_000, seed=1)
    assert any("put in on purpose" in problem for problem in result.problems)


def test_control_an_error_behind_a_door_is_found(mocker: Any) -> None:
    mocker.patch.object(Connection, "_pubrel", side_effect=IndexError("the fault put in on purpose"))
    result = fuzz.run("sabotaged", DOORS["mqtt 3.1.1 session"], 1000, seed=1)
    assert any("put in on purpose" in problem for problem in result.problems)


def test_control_an_error_in_the_framing_is_found(mocker: Any) -> None:
    mocker.patch.object(
        BoundedProtocol, "send_400_response", side_effect=IndexError("the fault put in on purpose")
    )
    result = fuzz.run("sabotaged", TARGETS["http framing"], 500, seed=1)
    assert any("put in on purpose" in problem for problem in result.problems)


def test_control_a_door_that_answers_no_more_is_found(mocker: Any) -> None:
    mocker.patch.object(Subscribing, "subscribe")
    result = fuzz.run("sabotaged", DOORS["mqtt 5 session"], 500, seed=1)
    assert any("does nothing wrong" in problem for problem in result.problems)


def test_control_a_stream_that_is_never_given_back_is_found(mocker: Any) -> None:
    @contextlib.contextmanager
    def kept(shares: Streams, caller: str) -> Iterator[None]:
        shares.open += 1
        yield

    mocker.patch.object(Streams, "taken", kept)
    mocker.patch.object(fuzz_web, "PATIENCE_FIRST", 50)
    result = fuzz.run("sabotaged", DOORS["websocket"], 500, seed=1)
    assert any("streams are held" in problem for problem in result.problems)

"""Copies of other gateways' messages are known by their identity, within bounds, and nothing else is taken for one."""

import random

import pytest

from gateway import nats_seen
from gateway.nats_seen import WINDOW, Seen
from hub.errors import WireError
from hub.message import OCTET_STREAM, Message


def message(number: int, gateway: str = "aa", channel: str = "c") -> Message:
    return Message(channel, "", "t", "mqtt", OCTET_STREAM, b"", 1, origin=f"{gateway}/{number}")


def test_stored_ones_are_known_in_any_order_and_no_others() -> None:
    seen = Seen()
    for number in (5, 3, 9):
        assert message(number) not in seen
        seen.add(message(number))
    assert [number for number in range(20) if message(number) in seen] == [3, 5, 9]
    assert message(5, gateway="bb") not in seen
    assert message(5, channel="d") not in seen  # whose sender may have no rights to this one


def test_what_is_older_than_the_window_is_taken_for_new() -> None:
    seen = Seen()
    for number in (1, 2, WINDOW, WINDOW + 1):
        seen.add(message(number))
    assert [message(n) in seen for n in (1, 2, WINDOW, WINDOW + 1)] == [False, True, True, True]
    seen.add(message(1))  # long gone
    assert message(1) not in seen
    seen.add(message(10 * WINDOW))  # as after a crash, when numbers go on in another block
    assert [message(n) in seen for n in (WINDOW, 10 * WINDOW)] == [False, True]


def test_as_a_set_would_have_it_whatever_comes_within_the_window() -> None:
    rng = random.Random(6)
    seen, known, newest = Seen(), set(), 0
    for _ in range(5000):
        newest += rng.choice((0, 1, 1, 3, 50))
        number = max(1, newest - rng.randrange(400))
        assert (message(number) in seen) == (number in known)
        seen.add(message(number))
        known.add(number)


def test_windows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_seen, "MAX_WINDOWS", 3)
    seen = Seen()
    for gateway in ("a", "b", "c", "a", "d"):
        seen.add(message(1, gateway))
    assert len(seen) == 3
    assert [message(1, gateway) in seen for gateway in "abcd"] == [True, False, True, True]


def test_what_has_no_identity_is_said() -> None:
    nameless = Message("c", "", "t", "mqtt", OCTET_STREAM, b"", 1)
    with pytest.raises(WireError):
        Seen().add(nameless)

"""Pauses between guesses: they grow, they are bounded in number and memory, and they never shut the owner out."""

from __future__ import annotations

import pytest

from hub import lockout
from hub.errors import TooManyTries
from hub.lockout import FREE_TRIES, LONGEST_PAUSE_S, Lockout, network_of

ELSEWHERE = "198.51.100.7"


def wrong(guard: Lockout, now_s: float, address: str = ELSEWHERE, **more: object) -> float:
    """Guess wrong; seconds to wait where the guess was not let through."""
    try:
        guard.begin(now_s, address, **({"account": "owner"} | more))  # type: ignore[arg-type]
    except TooManyTries as refused:
        return refused.retry_after_s or -1.0
    return 0.0


def test_the_pause_doubles_up_to_its_bound_and_is_forgotten_after_an_hour_without_a_try() -> None:
    guard, now, pauses = Lockout(), 0.0, []
    for _ in range(FREE_TRIES):
        assert wrong(guard, now) == 0.0
    for n in range(12):
        pauses.append(wrong(guard, now, f"198.51.100.{n}"))
        now += pauses[-1]
        assert wrong(guard, now, f"198.51.100.{n}") == 0.0
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 64, 120]
    assert max(pauses) == LONGEST_PAUSE_S
    now += lockout.FORGET_AFTER_S + 1
    assert [wrong(guard, now) for _ in range(FREE_TRIES)] == [0.0] * FREE_TRIES


def test_a_right_one_forgives_what_the_same_address_had_wrong_and_nothing_else() -> None:
    guard = Lockout()
    for _ in range(4):
        wrong(guard, 0.0)
    guard.right(guard.begin(0.0, ELSEWHERE, account="owner"))
    assert [wrong(guard, 0.0) for _ in range(FREE_TRIES)] == [0.0] * FREE_TRIES

    guard = Lockout()
    for n in range(4):
        wrong(guard, 0.0, f"198.51.100.{n}")
    guard.right(guard.begin(0.0, "192.0.2.1", account="owner"))
    assert wrong(guard, 0.0) == 0.0
    assert wrong(guard, 0.0) > 0.0, "the attacker's tries still count"


def test_what_was_neither_right_nor_wrong_is_as_if_it_had_not_been() -> None:
    guard = Lockout()
    for _ in range(100):
        guard.take_back(guard.begin(0.0, ELSEWHERE, account="owner"))
    assert wrong(guard, 0.0) == 0.0


@pytest.mark.parametrize("place", [{"device": "phone"}, {"known": True}])
def test_a_known_place_waits_for_its_own_tries_only(place: dict[str, object]) -> None:
    guard = Lockout()
    for n in range(200):
        wrong(guard, 0.0, f"198.51.100.{n}")
    assert wrong(guard, 0.0, "192.0.2.1") > 0.0
    assert [wrong(guard, 0.0, "192.0.2.1", **place) for _ in range(FREE_TRIES + 1)] == [0.0] * FREE_TRIES + [
        1.0
    ]


def test_a_known_device_is_not_held_up_by_its_neighbours_address() -> None:
    guard = Lockout()
    for n in range(lockout.FREE_TRIES_OF_ADDRESS + 5):
        wrong(guard, 0.0, account="", name=f"user{n}@example.org")
    assert wrong(guard, 0.0) > 0.0
    assert wrong(guard, 0.0, device="phone") == 0.0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2%eth0", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_line_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_no_number_of_guesses_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("MAX_UNKNOWN", "MAX_KNOWN_PLACES", "MAX_ADDRESSES"):
        monkeypatch.setattr(lockout, bound, 100)
    guard = Lockout()
    for n in range(1000):
        wrong(guard, 0.0, f"10.0.{n % 256}.{n // 256}", account="", name=f"{n}@example.org")
        wrong(guard, 0.0, f"10.1.{n % 256}.{n // 256}", known=True)
        wrong(guard, 0.0, "10.2.0.1", device=f"device {n}")
    assert (len(guard._unknown), len(guard._places), len(guard._addresses)) == (100, 100, 100)
    assert len(guard._accounts) == 0


def test_the_command_at_the_machine_ends_all_pauses_of_an_account() -> None:
    guard = Lockout()
    for _ in range(50):
        wrong(guard, 0.0)
        wrong(guard, 0.0, account="other")
    guard.lift("owner")
    assert wrong(guard, 0.0) == 0.0
    assert wrong(guard, 0.0, "192.0.2.1", account="other") > 0.0
    guard.lift()
    assert wrong(guard, 0.0, "192.0.2.1", account="other") == 0.0

"""Where a server is found: waits, their spread, several addresses, a name that moves."""

import random
import socket

from radio.route import (
    ASK_AGAIN_NS,
    FIRST_WAIT_NS,
    LONGEST_WAIT_NS,
    MAX_ADDRESSES,
    NEXT_ADDRESS_NS,
    SECOND_NS,
    SPREAD,
    Endpoint,
    Route,
    resolve,
)


def at(host: str) -> Endpoint:
    return Endpoint(socket.AF_INET, (host, 1700))


A, B, C = at("192.0.2.1"), at("192.0.2.2"), at("192.0.2.3")
SIX = Endpoint(socket.AF_INET6, ("2001:db8::1", 1700, 0, 0))


def route() -> Route:
    return Route(random.Random(1))


def asked_at(one: Route, now_ns: int) -> int:
    """The time at which the route asks for its name next; it is asked then."""
    due_ns = one.next_deadline(now_ns)
    assert due_ns is not None
    if due_ns > now_ns:
        assert not one.due(due_ns - 1)
    assert one.due(due_ns)
    return due_ns


def test_the_name_is_asked_for_at_once_and_only_once_at_a_time() -> None:
    one = route()
    assert one.due(0)
    assert not one.due(10**18)
    assert one.next_deadline(0) is None
    assert one.resolved([A], 0)
    assert one.endpoint == A


def test_waits_double_up_to_their_bound_and_are_spread_at_random() -> None:
    one = route()
    now_ns, waits = 0, []
    assert one.due(now_ns)
    for _ in range(12):
        one.unresolved(now_ns)
        due_ns = asked_at(one, now_ns)
        waits.append(due_ns - now_ns)
        now_ns = due_ns
    for n, wait in enumerate(waits):
        full = min(LONGEST_WAIT_NS, FIRST_WAIT_NS << n)
        assert SPREAD * full <= wait <= full
    assert len(set(waits[-5:])) == 5


def test_gateways_that_lost_a_server_together_come_back_apart() -> None:
    dues = set()
    for seed in range(50):
        one = Route(random.Random(seed))
        one.due(0)
        for _ in range(6):
            one.unresolved(0)
        due_ns = one.next_deadline(0)
        assert due_ns is not None
        dues.add(due_ns // SECOND_NS)
    assert len(dues) > 30
    assert max(dues) - min(dues) > 50


def test_every_address_of_a_name_is_tried_before_it_waits() -> None:
    one = route()
    now_ns, used = 0, []
    assert one.due(now_ns)
    for _ in range(4):
        assert one.resolved([SIX, A, B], now_ns)
        used.append(one.endpoint)
        due_ns = asked_at(one, now_ns)
        if len(used) < 3:
            assert due_ns - now_ns == NEXT_ADDRESS_NS
        elif len(used) == 3:
            assert due_ns - now_ns > NEXT_ADDRESS_NS / 2
        now_ns = due_ns
    assert used == [SIX, A, B, SIX]


def test_a_server_that_answers_is_asked_for_now_and_then_and_kept_while_its_name_holds() -> None:
    one = route()
    one.due(0)
    one.resolved([A, B], 0)
    one.answered(SECOND_NS)
    due_ns = asked_at(one, SECOND_NS)
    assert SPREAD * ASK_AGAIN_NS <= due_ns - SECOND_NS <= ASK_AGAIN_NS
    assert not one.resolved([B, A], due_ns)  # another order is no move
    assert (one.endpoint, one.moves) == (A, 0)


def test_a_name_that_moves_is_followed_while_the_old_place_still_answers() -> None:
    one = route()
    one.due(0)
    one.resolved([A], 0)
    one.answered(0)
    due_ns = asked_at(one, 0)
    assert one.resolved([C], due_ns)
    assert (one.endpoint, one.moves) == (C, 1)


def test_silence_asks_again_at_once_and_uses_fresh_sockets_even_for_the_same_address() -> None:
    one = route()
    one.due(0)
    one.resolved([A], 0)
    one.answered(0)
    one.silent(7 * SECOND_NS)
    assert asked_at(one, 7 * SECOND_NS) == 7 * SECOND_NS
    assert one.resolved([A], 7 * SECOND_NS)
    one.silent(8 * SECOND_NS)  # still silent: no sooner
    due_ns = one.next_deadline(8 * SECOND_NS)
    assert due_ns is not None
    assert due_ns >= 7 * SECOND_NS + SPREAD * FIRST_WAIT_NS
    one.answered(9 * SECOND_NS)
    one.silent(10 * SECOND_NS)
    assert one.due(10 * SECOND_NS)  # the waits began anew


def test_a_name_that_cannot_be_resolved_any_more_leaves_the_address_in_use() -> None:
    one = route()
    one.due(0)
    one.resolved([A], 0)
    one.answered(0)
    asked_at(one, 0)
    one.unresolved(ASK_AGAIN_NS)
    assert one.endpoint == A
    asked_at(one, ASK_AGAIN_NS)
    assert not one.resolved([], 2 * ASK_AGAIN_NS)
    assert one.endpoint == A


def test_addresses_of_a_name_are_bounded() -> None:
    one = route()
    one.due(0)
    many = [at(f"198.51.100.{n}") for n in range(200)]
    used = set()
    now_ns = 0
    for _ in range(3 * MAX_ADDRESSES):
        one.resolved(many, now_ns)
        used.add(one.endpoint)
        now_ns = asked_at(one, now_ns)
    assert len(used) == MAX_ADDRESSES


def test_addresses_of_both_families_are_resolved_and_shown() -> None:
    assert [str(each) for each in resolve("127.0.0.1", 1700)] == ["127.0.0.1:1700"]
    assert [str(each) for each in resolve("::1", 1700)] == ["[::1]:1700"]

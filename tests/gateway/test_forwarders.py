"""Which packet forwarders are listened to: a list, an address each, bounds; and what is said of the others."""

from gateway.forwarders import (
    FORGOTTEN_NS,
    KEEPS_ADDRESS_NS,
    MAX_GATEWAYS,
    MAX_OF_ONE_HOST,
    SHOWN_NS,
    Forwarder,
    Forwarders,
    Refusal,
)

EUI = bytes.fromhex("02f10f6a7e000001")
OTHER = bytes.fromhex("02f10f6a7e000002")
SECOND = 1_000_000_000


def eui(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_a_gateway_keeps_its_address_while_it_is_heard_there() -> None:
    forwarders = Forwarders()
    first = forwarders.admit(EUI, "192.0.2.1", 0)
    assert isinstance(first, Forwarder)
    first.downlink_address = ("192.0.2.1", 4000)
    assert forwarders.admit(EUI, "192.0.2.66", KEEPS_ADDRESS_NS - 1) is Refusal.OTHER_ADDRESS
    assert forwarders.admit(EUI, "192.0.2.1", KEEPS_ADDRESS_NS - 1) is first
    assert forwarders.admit(EUI, "192.0.2.66", KEEPS_ADDRESS_NS) is Refusal.OTHER_ADDRESS
    assert first.downlink_address == ("192.0.2.1", 4000)
    (words,) = forwarders.problems(KEEPS_ADDRESS_NS)
    assert "192.0.2.66 speaks in the name of this gateway, which is at 192.0.2.1" in words
    assert forwarders.problems(KEEPS_ADDRESS_NS + SHOWN_NS + 1) == []


def test_a_gateway_that_was_silent_may_come_back_from_another_address() -> None:
    forwarders = Forwarders()
    first = forwarders.admit(EUI, "192.0.2.1", 0)
    assert isinstance(first, Forwarder)
    first.downlink_address = ("192.0.2.1", 4000)
    assert forwarders.admit(EUI, "198.51.100.9", KEEPS_ADDRESS_NS) is first
    assert (first.host, first.moves, first.downlink_address) == ("198.51.100.9", 1, None)


def test_only_the_listed_gateways_are_listened_to() -> None:
    forwarders = Forwarders([EUI])
    assert forwarders.admit(OTHER, "192.0.2.1", 0) is Refusal.NOT_ALLOWED
    assert isinstance(forwarders.admit(EUI, "192.0.2.1", 0), Forwarder)
    (words,) = forwarders.problems(0)
    assert "gateway 02f10f6a7e000002 at 192.0.2.1 is not listened to" in words
    assert "`gateways` in [lorawan]" in words
    for number in range(1000):
        assert forwarders.admit(eui(number), "192.0.2.1", 0) is Refusal.NOT_ALLOWED
    assert list(forwarders.known) == [EUI]


def test_many_listed_gateways_may_be_behind_one_address() -> None:
    listed = [eui(number) for number in range(MAX_GATEWAYS)]
    forwarders = Forwarders(listed)
    assert all(isinstance(forwarders.admit(each, "192.0.2.1", 0), Forwarder) for each in listed)


def test_a_flood_of_forged_gateways_does_not_push_out_those_that_are_there() -> None:
    forwarders = Forwarders()
    mine = forwarders.admit(EUI, "192.0.2.1", 0)
    for number in range(2, 5000):
        forwarders.admit(eui(number), "192.0.2.66", 1)
    assert len(forwarders.known) == MAX_OF_ONE_HOST + 1
    for number in range(5000, 10_000):
        forwarders.admit(eui(number), f"192.0.2.{number % 250}", 2)
    assert len(forwarders.known) == MAX_GATEWAYS
    assert forwarders.admit(eui(1), "198.51.100.1", 3) is Refusal.TOO_MANY
    assert forwarders.admit(EUI, "192.0.2.1", 4) is mine
    assert any("too many of them" in words for words in forwarders.problems(4))


def test_the_longest_silent_gateway_makes_room_once_it_was_silent_for_long() -> None:
    forwarders = Forwarders()
    for number in range(MAX_GATEWAYS):
        forwarders.admit(eui(number), f"192.0.2.{number}", number * SECOND)
    assert forwarders.admit(EUI, "198.51.100.1", FORGOTTEN_NS - 1) is Refusal.TOO_MANY
    assert isinstance(forwarders.admit(EUI, "198.51.100.1", FORGOTTEN_NS), Forwarder)
    assert eui(0) not in forwarders.known
    assert len(forwarders.known) == MAX_GATEWAYS


def test_a_restarted_counter_is_told_from_one_that_wraps() -> None:
    forwarder = Forwarder(EUI, "192.0.2.1", 0)
    forwarder.heard(2**32 - 500_000, 0)
    forwarder.heard(500_000, SECOND)
    forwarder.heard(10_500_000, 11 * SECOND)
    forwarder.heard(10_400_000, 11 * SECOND)  # of the same datagram, or late
    assert forwarder.restarts == 0
    forwarder.heard(1000, 12 * SECOND)
    assert forwarder.restarts == 1
    forwarder.heard(2**31 + 1000, 13 * SECOND)
    assert forwarder.restarts == 2

"""The session state machine, without a socket or a clock."""

from __future__ import annotations

import random

import pytest

from hub.mqtt.moments import Moment
from hub.mqtt.packets import Will
from hub.mqtt.properties import Properties
from hub.mqtt.reasons import PacketError
from hub.mqtt.session import NEVER, Flight, Session, Subscription


def a_session(*, window: int = 4, max_receiving: int = 3) -> Session:
    return Session("thing", "client", kept=True, window=window, max_receiving=max_receiving)


def test_packet_ids_rise_and_skip_those_in_flight() -> None:
    session = a_session()
    assert [session.send(seq, 1) for seq in (10, 11, 12)] == [1, 2, 3]
    assert session.room == 1
    assert session.acknowledged(2)
    assert session.send(13, 1) == 4


def test_packet_ids_wrap_behind_65535_without_reusing_one_in_flight() -> None:
    session = a_session(window=10)
    first = session.send(0, 1)
    used = []
    for seq in range(1, 65_540):
        packet_id = session.send(seq, 1)
        assert 1 <= packet_id <= 65_535
        assert packet_id != first
        used.append(packet_id)
        session.acknowledged(packet_id)
    assert used[65_533:65_536] == [65_535, 2, 3]


def test_qos_2_goes_from_sent_over_released_to_done() -> None:
    session = a_session()
    packet_id = session.send(7, 2)
    assert not session.completed(packet_id)
    assert session.received(packet_id)
    assert not session.received(packet_id)
    assert list(session.to_resend()) == [(packet_id, Flight(7, 2, released=True))]
    assert session.completed(packet_id)
    assert not session.completed(packet_id)
    assert session.room == 4


def test_acknowledgement_of_the_wrong_kind_is_a_protocol_error() -> None:
    session = a_session()
    one, two = session.send(1, 1), session.send(2, 2)
    with pytest.raises(PacketError):
        session.acknowledged(two)
    with pytest.raises(PacketError):
        session.received(one)


def test_acknowledgement_of_nothing_is_harmless() -> None:
    session = a_session()
    assert not session.acknowledged(9)
    assert not session.received(9)
    assert not session.completed(9)
    assert not session.release(9)


def test_received_qos_2_id_counts_once_until_released() -> None:
    session = a_session()
    assert session.begin_receiving(5)
    assert not session.begin_receiving(5)
    assert session.release(5)
    assert session.begin_receiving(5)


def test_open_qos_2_ids_are_bounded() -> None:
    session = a_session(max_receiving=3)
    for packet_id in (1, 2, 3):
        session.begin_receiving(packet_id)
    with pytest.raises(PacketError):
        session.begin_receiving(4)


def test_resend_keeps_ids_and_order() -> None:
    session = a_session()
    for seq in (30, 31, 32):
        session.send(seq, 1)
    session.acknowledged(1)
    session.send(33, 2)
    assert [(key, flight.seq) for key, flight in session.to_resend()] == [
        (2, 31),
        (3, 32),
        (4, 33),
    ]


def test_kept_session_reads_back_what_it_wrote() -> None:
    session = a_session()
    session.subscriptions["channels/c/messages/#"] = Subscription(2, 17)
    session.cursor = 99
    session.send(98, 1)
    session.received(session.send(99, 2))
    session.begin_receiving(12)
    session.waiting["c/a.b"] = None
    other = a_session()
    other.load(session.state())
    assert other.state() == session.state()
    assert list(other.to_resend()) == list(session.to_resend())
    assert other.subscriptions == {"channels/c/messages/#": Subscription(2, 17)}
    assert not other.begin_receiving(12)
    assert other.send(100, 1) == 3


def test_damaged_row_is_one_error() -> None:
    session = a_session()
    session.send(1, 2)
    row = session.state()
    rng = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(row)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            a_session().load(bytes(damaged))
        except ValueError:
            continue


def test_retention_waits_for_what_is_in_flight_but_not_for_retained_copies() -> None:
    session = a_session()
    session.cursor = 50
    assert session.needed_from() == 50
    session.send(5, 1, retained="c/a")
    assert session.needed_from() == 50
    session.send(40, 1)
    two = session.send(30, 2)
    assert session.needed_from() == 29
    session.received(two)
    assert session.needed_from() == 39


def test_what_is_owed_from_the_last_connection_is_outside_the_window_until_it_is_sent_again() -> None:
    session = a_session(window=4)
    for seq in range(4):
        session.send(seq, 1 + seq % 2)
    session.received(2)
    session.connected(2)  # the client takes two at a time now
    assert session.may_resend()
    session.resent(1)
    session.resent(3)
    assert not session.may_resend()
    assert session.room == 0
    session.acknowledged(1)
    assert session.may_resend()
    session.resent(4)
    session.completed(2)
    session.acknowledged(3)
    assert session.room == 1
    session.received(4)
    session.completed(4)
    assert session.room == 2


def test_a_message_the_client_refuses_leaves_the_window() -> None:
    session = a_session(window=1)
    packet_id = session.send(1, 2)
    assert session.room == 0
    session.received(packet_id)
    session.drop(packet_id)
    assert session.room == 1
    assert not session.completed(packet_id)


def test_qos_1_of_a_shared_subscription_can_be_taken_back_and_qos_2_not() -> None:
    session = a_session()
    session.send(10, 1, group="g/x")
    session.send(11, 2, group="g/x")
    session.send(12, 1, group="h/x")
    session.send(13, 1)
    assert session.flying("g/x") == [10]
    assert session.take_back("g/x") == [10]
    assert [flight.seq for _, flight in session.to_resend()] == [11, 12, 13]


def test_a_row_of_the_first_version_is_read() -> None:
    session = a_session()
    row = b'{"subscriptions":{"a":{"qos":1,"since":3}},"cursor":7,'
    session.load(row + b'"in_flight":{"5":{"seq":6,"qos":1}},"receiving":[9],"waiting":["c/a"]}')
    assert session.subscriptions == {"a": Subscription(1, 3)}
    assert (session.cursor, session.expiry_s, session.ended, session.will) == (7, NEVER, None, None)
    assert not session.begin_receiving(9)


def test_a_row_holds_the_will_and_the_options() -> None:
    session = a_session()
    properties = Properties(will_delay_s=30, correlation_data=b"\xff\x00", user=(("a", "b"),))
    session.will = Will("t", b"\x00\xff", 1, True, properties)
    session.ended = Moment("boot", 1.5, 10**18, True)
    session.expiry_s = 60
    session.subscriptions["f"] = Subscription(1, 2, True, True, 7, "application/senml+cbor")
    other = a_session()
    other.load(session.state())
    assert (other.will, other.ended, other.expiry_s) == (session.will, session.ended, 60)
    assert other.subscriptions == session.subscriptions
    assert other.no_local

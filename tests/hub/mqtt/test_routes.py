"""The routes know whether anybody may get a message after its commit; only then is each looked at there."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hub.message import Message, Properties, size_of
from hub.mqtt.routes import Interest, Routes
from hub.mqtt.session import Subscription
from hub.mqtt.sharing import Group
from hub.topics import parse_filter

FILTER = "channels/c/messages/#"


def routes() -> Routes:
    return Routes(cast(Any, SimpleNamespace(passing=0)))


def interest(qos: int, filter_: str = FILTER) -> Interest:
    return Interest(cast(Any, object()), filter_, parse_filter(filter_), Subscription(qos, 0))


def test_without_subscriptions_nobody_gets_anything_after_the_commit() -> None:
    assert not routes().later


def test_a_subscription_of_qos_0_gets_nothing_after_the_commit() -> None:
    known = routes()
    known.add(interest(0))
    assert not known.later


@pytest.mark.parametrize("qos", [1, 2])
def test_one_of_a_higher_qos_does_until_it_is_removed(qos: int) -> None:
    known = routes()
    own, plain = interest(qos), interest(0)
    known.add(own)
    known.add(plain)
    assert known.later
    known.remove(plain)
    assert known.later
    known.remove(own)
    assert not known.later


def test_the_last_of_several_counts() -> None:
    known = routes()
    first, second = interest(1), interest(2, "channels/+/messages")
    known.add(first)
    known.add(second)
    known.remove(first)
    assert known.later
    known.remove(second)
    assert not known.later


def test_what_was_added_or_removed_twice_counts_once() -> None:
    known = routes()
    own, other = interest(1), interest(1)
    known.add(own)
    known.add(own)
    known.add(other)
    known.remove(own)
    known.remove(own)
    assert known.later
    known.remove(other)
    assert not known.later


def test_a_group_gets_messages_after_the_commit_whatever_its_members_asked_for() -> None:
    known = routes()
    group = Group(f"share/{FILTER}", parse_filter(FILTER), 0)
    known.add_group(group)
    assert known.later
    known.remove_group(group)
    assert not known.later


def test_messages_together_have_the_size_of_each() -> None:
    told = Properties(response_topic="a/b", correlation_data=b"123", user=(("name", "value"),))
    messages = [
        Message("c", "", "t", "mqtt", "", b"", 0),
        Message("c", "", "t", "mqtt", "", b"12345", 0),
        Message("c", "", "t", "mqtt", "", b"1", 0, properties=told),
    ]
    assert size_of(messages) == sum(each.size for each in messages) == 6 + 3 + 3 + 9

"""PUBLISH: MQTT 3.1.1 and 5.0, 3.3."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5

MALFORMED = (0x81, 0x82)
RAP = 0x08  # subscription option: retain as published (5.0, 3.8.3.1)
NEW_ONLY, NEVER = 0x10, 0x20  # retain handling 1 and 2


def test_dup_is_set_on_redelivery_only(open_arena: Any, version: int) -> None:
    """Whatever the publisher's DUP was; the server's own is for what it sends again."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b", "keeper", kept=True)
            await listener.subscribe((arena.topic, 2))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"1", 1, dup=True)
            await sender.published(arena.topic, b"2", 2, dup=True)
            first = [await listener.message(acknowledge=False) for _ in range(2)]
            assert [m.dup for m in first] == [False, False]
            listener.cut()
            again = await arena.client("b", "keeper", kept=True)
            second = [await again.message() for _ in range(2)]
            assert [(m.payload, m.dup) for m in second] == [(b"1", True), (b"2", True)]

    asyncio.run(main())


def test_dup_at_qos_0_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.publish(arena.topic, b"x", dup=True)
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_qos_0_arrives_without_dup(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            sender.publish(arena.topic, b"x")
            found = await listener.message()
            assert (found.qos, found.dup, found.packet_id) == (0, False, 0)

    asyncio.run(main())


def test_qos_3_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.publish(arena.topic, b"x", 3, packet_id=1)
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_last_retained_message_is_shown_to_new_subscribers(
    open_arena: Any, version: int, qos: int
) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            sender = await arena.client("a")
            where = arena.topic + "/state"
            for payload in (b"old", b"new"):
                if qos:
                    await sender.published(where, payload, qos, retain=True)
                else:
                    sender.publish(where, payload, retain=True)
            await sender.fence()
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/+", 2))
            found = await listener.message()
            assert (found.topic, found.payload, found.retain) == (where, b"new", True)
            assert found.qos == qos
            assert await listener.fence() == []

    asyncio.run(main())


def test_a_retained_qos_0_message_takes_the_place_of_the_one_before(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            sender = await arena.client("a")
            await sender.published(arena.topic, b"old", 2, retain=True)
            sender.publish(arena.topic, b"new", retain=True)
            await sender.fence()
            listener = await arena.client("b")
            await listener.subscribe((arena.topic, 1))
            seen = await listener.fence()
            assert [m.payload for m in seen] in ([b"new"], [])

    asyncio.run(main())


def test_retain_is_clear_for_an_established_subscription(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 1))
            await sender.published(arena.topic, b"x", retain=True)
            assert not (await listener.message()).retain

    asyncio.run(main())


def test_retain_is_clear_for_what_waited_in_a_session(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            await keeper.leave()
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", retain=True)
            again = await arena.client("b", "keeper", kept=True)
            found = await again.message()
            assert (found.payload, found.retain) == (b"x", False)
            assert await again.fence() == []

    asyncio.run(main())


def test_an_empty_retained_message_is_delivered_and_clears(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            early, sender = await arena.client("b", "early"), await arena.client("a")
            await sender.published(arena.topic, b"on", retain=True)
            await early.subscribe((arena.topic, 1))
            assert (await early.message()).payload == b"on"
            await sender.published(arena.topic, b"", retain=True)
            found = await early.message()
            assert (found.payload, found.retain) == (b"", False)
            late = await arena.client("b", "late")
            await late.subscribe((arena.topic, 1))
            assert await late.fence() == []

    asyncio.run(main())


def test_without_retain_what_is_retained_stays(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            sender = await arena.client("a")
            await sender.published(arena.topic, b"kept", retain=True)
            await sender.published(arena.topic, b"passing")
            await sender.published(arena.topic, b"")
            listener = await arena.client("b")
            await listener.subscribe((arena.topic, 1))
            assert (await listener.message()).payload == b"kept"
            assert await listener.fence() == []

    asyncio.run(main())


def test_topic_is_the_first_field(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            for body in (b"", b"\0", b"\0\x05chan", wire.two(65_535) + b"channels"):
                client = await arena.client()
                client.send(wire.packet(wire.PUBLISH, body))
                await client.closed_for(*MALFORMED, 0x90)

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["/+", "/#", "/a+b", "/a#", "/+/x", "#"])
def test_wildcards_in_a_topic_name_close(open_arena: Any, version: int, ending: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.publish(arena.topic + ending, b"x", 1)
            await client.closed_for(*MALFORMED, 0x90)

    asyncio.run(main())


@pytest.mark.parametrize(
    "text", ["{t}", "{t}/#", "{t}/+", "{t}/a", "{t}/+/b", "/{t}/a", "mainflux/{t}/a", "mainflux/{t}/#"]
)
def test_topics_match_the_filter_they_are_delivered_for(open_arena: Any, version: int, text: str) -> None:
    def matches(text: str, topic: str) -> bool:
        wanted, levels = text.split("/"), topic.split("/")
        for n, level in enumerate(wanted):
            if level == "#":
                return True
            if n >= len(levels) or level not in ("+", levels[n]):
                return False
        return len(wanted) == len(levels)

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            wanted = text.format(t=arena.topic)
            assert await listener.subscribe((wanted, 1)) == (1,)
            for below in ("", "/a", "/a/b"):
                await sender.published(arena.topic + below, b"x")
            seen = [packet.topic for packet in await listener.fence()]
            assert seen
            assert all(matches(wanted, topic) for topic in seen)

    asyncio.run(main())


def test_each_qos_has_its_answer(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.publish(arena.topic, b"0")
            assert await client.fence() == []
            client.publish(arena.topic, b"1", 1)
            assert (await client.read()).kind == wire.PUBACK
            client.publish(arena.topic, b"2", 2)
            assert (await client.read()).kind == wire.PUBREC

    asyncio.run(main())


def test_overlapping_subscriptions_respect_the_highest_qos(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe(
                (arena.topic + "/#", 0), (arena.topic + "/a", 2), (arena.topic + "/+", 1)
            )
            await sender.published(arena.topic + "/a", b"x", 2)
            seen = [await listener.message()]
            seen += [p for p in await listener.fence() if p.kind == wire.PUBLISH]
            assert max(m.qos for m in seen) == 2
            assert len(seen) == 1

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publish_that_is_not_allowed_closes_in_3_1_1(open_arena: Any, qos: int) -> None:
    """Of the two answers the version knows, this server gives the honest one: no acknowledgement."""

    async def main() -> None:
        async with open_arena(V4) as arena:
            client = await arena.client("stranger")
            client.publish(arena.topic, b"x", qos)
            assert await client.end() == []

    asyncio.run(main())


@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_that_is_not_allowed_is_answered_in_5_0(open_arena: Any, qos: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client, listener = await arena.client("stranger"), await arena.client("b")
            await listener.subscribe((arena.topic, 2))
            answer = await client.published(arena.topic, b"x", qos)
            assert answer.code == 0x87
            assert await client.fence() == []
            assert await listener.fence() == []

    asyncio.run(main())


# 5.0 only


def test_retain_handling_0_shows_retained_messages_each_time(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await sender.published(arena.topic, b"on", retain=True)
            for _ in range(2):
                await listener.subscribe((arena.topic, 1))
                assert (await listener.message()).payload == b"on"
                assert await listener.fence() == []

    asyncio.run(main())


def test_retain_handling_1_shows_them_to_a_new_subscription_only(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await sender.published(arena.topic, b"on", retain=True)
            await listener.subscribe((arena.topic, 1 | NEW_ONLY))
            assert (await listener.message()).payload == b"on"
            await listener.subscribe((arena.topic, 1 | NEW_ONLY))
            assert await listener.fence() == []
            await listener.unsubscribe(arena.topic)
            await listener.subscribe((arena.topic, 1 | NEW_ONLY))
            assert (await listener.message()).payload == b"on"

    asyncio.run(main())


def test_retain_handling_2_shows_none(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await sender.published(arena.topic, b"on", retain=True)
            await listener.subscribe((arena.topic, 1 | NEVER))
            assert await listener.fence() == []
            await sender.published(arena.topic, b"live", retain=True)
            assert (await listener.message()).payload == b"live"

    asyncio.run(main())


@pytest.mark.parametrize("option", [0, RAP])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retain_as_published_keeps_the_flag(open_arena: Any, option: int, qos: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await listener.subscribe((arena.topic, qos | option))
            for retain in (True, False):
                await sender.published(arena.topic, b"x", 2, retain=retain)
                found = await listener.message()
                assert (found.retain, found.qos) == (retain and option == RAP, qos)

    asyncio.run(main())


def test_retain_as_published_holds_for_what_waited(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1 | RAP))
            await keeper.leave()
            sender = await arena.client("a")
            for retain in (True, False):
                await sender.published(arena.topic, b"x", retain=retain)
        async with open_arena(V5) as arena:
            again = await arena.client("b", "keeper", kept=True)
            assert [(await again.message()).retain for _ in range(2)] == [True, False]

    asyncio.run(main())


USERS = [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]
WHOLE: list[tuple[str, Any]] = [
    ("payload_format_indicator", 1),
    ("content_type", "text/plain; charset=utf-8"),
    ("response_topic", "anything/at all"),
    ("correlation_data", bytes(range(256))),
    *(("user_property", pair) for pair in USERS),
]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("way", ["live", "kept", "retained", "restarted"])
def test_properties_of_a_message_pass_unaltered(open_arena: Any, qos: int, way: str) -> None:
    if way in ("kept", "restarted") and not qos:
        return  # messages of QoS 0 do not wait

    def check(found: wire.Packet) -> None:
        assert found.payload == b"\xc3\xa4"
        for name, value in WHOLE[:4]:
            assert found.get(name) == value, name
        pairs = found.all("user_property")
        assert [pair for pair in pairs if pair in USERS] == USERS

    async def send(arena: Any) -> None:
        sender = await arena.client("a")
        if qos:
            await sender.published(arena.topic, b"\xc3\xa4", qos, props=WHOLE, retain=way == "retained")
        else:
            sender.publish(arena.topic, b"\xc3\xa4", props=WHOLE, retain=way == "retained")
        await sender.fence()

    async def main() -> None:
        async with open_arena(V5) as arena:
            if way == "retained":
                await send(arena)
                late = await arena.client("b")
                await late.subscribe((arena.topic, 2))
                check(await late.message())
                return
            listener = await arena.client("b", "keeper", kept=True)
            await listener.subscribe((arena.topic, 2))
            if way != "live":
                await listener.leave()
            await send(arena)
            if way == "live":
                check(await listener.message())
            elif way == "kept":
                check(await (await arena.client("b", "keeper", kept=True)).message())
        if way == "restarted":
            async with open_arena(V5) as arena:
                check(await (await arena.client("b", "keeper", kept=True)).message())

    asyncio.run(main())


def test_properties_of_a_message_do_not_reach_3_1_1(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b", version=V4)
            await listener.subscribe((arena.topic, 1))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", props=WHOLE)
            assert (await listener.message()).payload == b"x"
            await listener.leave()
            back = await arena.client("b")
            await back.subscribe((arena.topic, 1))
            old = await arena.client("a", version=V4)
            await old.published(arena.topic, b"y")
            assert (await back.message()).payload == b"y"

    asyncio.run(main())


def test_a_message_that_has_expired_is_not_delivered(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            await keeper.leave()
            sender = await arena.client("a")
            await sender.published(arena.topic, b"short", props=[("message_expiry_interval", 10)])
            await sender.published(arena.topic, b"long", props=[("message_expiry_interval", 100)])
            await sender.published(arena.topic, b"ever")
            arena.pass_time(20)
            again = await arena.client("b", "keeper", kept=True)
            assert [(await again.message()).payload for _ in range(2)] == [b"long", b"ever"]
            assert await again.fence() == []

    asyncio.run(main())


def test_expiry_counts_down_while_a_message_waits(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", props=[("message_expiry_interval", 100)])
            assert (await keeper.message()).get("message_expiry_interval") in (99, 100)
            await keeper.leave()
            await sender.published(arena.topic, b"y", props=[("message_expiry_interval", 100)])
            arena.pass_time(30)
            again = await arena.client("b", "keeper", kept=True)
            assert (await again.message()).get("message_expiry_interval") in (69, 70)

    asyncio.run(main())


def test_a_retained_message_expires(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender = await arena.client("a")
            props = [("message_expiry_interval", 100)]
            await sender.published(arena.topic, b"x", retain=True, props=props)
            arena.pass_time(40)
            early = await arena.client("b", "early")
            await early.subscribe((arena.topic, 1))
            assert (await early.message()).get("message_expiry_interval") in (59, 60)
            arena.pass_time(70)
            late = await arena.client("b", "late")
            await late.subscribe((arena.topic, 1))
            assert await late.fence() == []

    asyncio.run(main())


def test_a_topic_alias_stands_for_its_topic(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await listener.subscribe((arena.topic + "/#", 1))
            maximum = sender.connack.get("topic_alias_maximum") or 0
            assert maximum >= 1, "no topic aliases are offered"
            for alias in {1, maximum}:
                props = [("topic_alias", alias)]
                for topic in (f"{arena.topic}/{alias}", "", ""):
                    await sender.published(topic, b"x", props=props)
                    assert (await listener.message()).topic == f"{arena.topic}/{alias}"
            await sender.published(arena.topic + "/new", b"x", props=[("topic_alias", 1)])  # given again
            await sender.published("", b"x", props=[("topic_alias", 1)])
            assert [(await listener.message()).topic for _ in range(2)] == [arena.topic + "/new"] * 2

    asyncio.run(main())


def test_a_topic_alias_ends_with_its_connection(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("topic_alias", 1)]
            first = await arena.client("a", "keeper", kept=True)
            await first.published(arena.topic, b"x", props=props)
            first.cut()
            second = await arena.client("a", "keeper", kept=True)
            second.publish("", b"x", 1, props=props)
            await second.closed_for(0x82, 0x94)

    asyncio.run(main())


@pytest.mark.parametrize("alias", ["0", "beyond", "unknown", "missing"])
def test_a_topic_alias_that_is_wrong_closes(open_arena: Any, alias: str) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            maximum = client.connack.get("topic_alias_maximum") or 0
            match alias:
                case "0":
                    client.publish(arena.topic, b"x", props=[("topic_alias", 0)])
                case "beyond":
                    client.publish(arena.topic, b"x", props=[("topic_alias", maximum + 1)])
                case "unknown":
                    client.publish("", b"x", props=[("topic_alias", 1)])
                case "missing":
                    client.publish("", b"x")
            await client.closed_for(*MALFORMED, 0x90, 0x94)

    asyncio.run(main())


@pytest.mark.parametrize(
    "props",
    [
        pytest.param([("response_topic", "a/+/b")], id="wildcard in the response topic"),
        pytest.param([("response_topic", "#")], id="response topic #"),
        pytest.param([("response_topic", b"\xff")], id="response topic not UTF-8"),
        pytest.param([("content_type", b"\xc3\x28")], id="content type not UTF-8"),
        pytest.param([("payload_format_indicator", 2)], id="payload format 2"),
        pytest.param([("payload_format_indicator", 1)] * 2, id="payload format twice"),
        pytest.param([("message_expiry_interval", 1)] * 2, id="expiry twice"),
        pytest.param([("topic_alias", 1)] * 2, id="alias twice"),
        pytest.param([("response_topic", "a")] * 2, id="response topic twice"),
        pytest.param([("correlation_data", b"a")] * 2, id="correlation data twice"),
        pytest.param([("content_type", "a")] * 2, id="content type twice"),
        pytest.param([("subscription_identifier", 1)], id="subscription identifier from a client"),
    ],
)
def test_properties_of_publish_that_are_wrong_close(open_arena: Any, props: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            client.publish(arena.topic, b"x", props=props)
            await client.closed_for(*MALFORMED, 0x90)

    asyncio.run(main())


def test_subscription_identifiers_come_with_their_messages(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            for identifier, text in ((1, "/#"), (268_435_455, "/a"), (7, "/b")):
                props = [("subscription_identifier", identifier)]
                await listener.subscribe((arena.topic + text, 1), props=props)
            await listener.subscribe((arena.topic + "/+", 2))
            await sender.published(arena.topic + "/a", b"x", 2)
            seen = [await listener.message()]
            seen += [p for p in await listener.fence() if p.kind == wire.PUBLISH]
            assert sorted(n for m in seen for n in m.all("subscription_identifier")) == [1, 268_435_455]
            assert len(seen) == 1  # one copy, so all identifiers are on it
            await sender.published(arena.topic + "/c/d", b"x")
            assert (await listener.message()).all("subscription_identifier") == [1]

    asyncio.run(main())


def test_subscription_identifiers_survive_and_are_replaced(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1), props=[("subscription_identifier", 5)])
            await keeper.leave()
        async with open_arena(V5) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert (await keeper.message()).all("subscription_identifier") == [5]
            await keeper.subscribe((arena.topic, 1), props=[("subscription_identifier", 6)])
            await sender.published(arena.topic, b"x")
            assert (await keeper.message()).all("subscription_identifier") == [6]
            await keeper.subscribe((arena.topic, 1))
            await sender.published(arena.topic, b"x")
            assert (await keeper.message()).all("subscription_identifier") == []

    asyncio.run(main())


def test_message_of_several_kilobytes_of_user_properties_is_bounded(open_arena: Any) -> None:
    """They are stored and sent on; more than the server takes is refused, not cut."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            many = [("user_property", ("k" * 1000, "v" * 60_000))] * 4
            client.publish(arena.topic, b"x", 1, props=many)
            answer = await client.read()
            assert answer.kind in (wire.PUBACK, wire.DISCONNECT)
            assert answer.code >= 0x80

    asyncio.run(main())

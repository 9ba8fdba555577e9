"""Topic names, filters and shared subscriptions: MQTT 3.1.1, 4.7; 5.0, 4.7, 4.8."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V5

BAD_FILTER = (0x81, 0x82, 0x8F, 0x90)


async def filter_is_refused(client: Any, text: str | bytes) -> None:
    """Closed for, or answered with a failure: never granted."""
    client.send(wire.subscribe(client.version, 1, [(text, 0)]))
    seen = await client.read_until_closed_or(wire.SUBACK)
    for packet in seen:
        if packet.kind == wire.SUBACK:
            assert packet.codes[0] >= 0x80


@pytest.mark.parametrize("ending", ["/#/a", "/a#", "/#a", "/a+", "/+a", "/a/+b/c", "/##", "/++", "#", "+"])
def test_wildcards_stand_alone_in_their_level(open_arena: Any, version: int, ending: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await filter_is_refused(await arena.client(), arena.topic + ending)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        pytest.param("/#", ["", "/a", "/a/b", "/a/b/c"], id="#"),
        pytest.param("/+", ["/a"], id="+"),
        pytest.param("/a/#", ["/a", "/a/b", "/a/b/c"], id="a/#"),
        pytest.param("/+/b", ["/a/b"], id="+/b"),
        pytest.param("/+/+/c", ["/a/b/c"], id="+/+/c"),
        pytest.param("/+/#", ["/a", "/a/b", "/a/b/c"], id="+/#"),
        pytest.param("/A", [], id="another case"),
        pytest.param("", [""], id="the channel"),
    ],
)
def test_wildcards_match_levels(open_arena: Any, version: int, text: str, hits: list[str]) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic + text, 0))
            for below in ("", "/a", "/a/b", "/a/b/c"):
                await sender.published(arena.topic + below, b"x")
            seen = [packet.topic.removeprefix(arena.topic) for packet in await listener.fence()]
            assert seen == hits

    asyncio.run(main())


@pytest.mark.parametrize("text", ["#", "+/#", "+/info", "$SYS/#", "$SYS/broker/uptime", "channels/#", "/#"])
def test_dollar_topics_and_the_whole_tree_are_not_for_things(
    open_arena: Any, version: int, text: str
) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            assert (await client.subscribe((text, 0)))[0] >= 0x80
            arena.pass_time(100)
            assert await client.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$SYS", "$share/g/x", "$other/x", "$"])
def test_dollar_topics_are_not_published_to(open_arena: Any, version: int, topic: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.publish(topic, b"x", 1)
            answer = await client.end() if version != V5 else [await client.read()]
            assert all(packet.code >= 0x80 for packet in answer)

    asyncio.run(main())


def test_empty_topics_and_filters_are_refused(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client("a", "one")
            client.publish("", b"x", 1)
            await client.closed_for(*BAD_FILTER)
            await filter_is_refused(await arena.client("a", "two"), "")
            client = await arena.client("a", "three")
            client.send(wire.unsubscribe(version, 1, [""]))
            await client.closed_for(*BAD_FILTER)

    asyncio.run(main())


@pytest.mark.parametrize("what", ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_topics_of_65535_bytes_do_no_harm(open_arena: Any, version: int, what: str) -> None:
    """The longest the format can say; this server takes less, and says so."""

    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            long = (arena.topic + "/" + "x" * 65_535)[:65_535]
            match what:
                case "PUBLISH":
                    client.publish(long, b"x", 1)
                    kind = wire.PUBACK
                case "SUBSCRIBE":
                    client.send(wire.subscribe(version, 1, [(long, 0)]))
                    kind = wire.SUBACK
                case _:
                    client.send(wire.unsubscribe(version, 1, [long]))
                    kind = wire.UNSUBACK
            seen = await client.read_until_closed_or(kind)
            codes = [code for packet in seen for code in (packet.code, *packet.codes) if code]
            assert what == "UNSUBSCRIBE" or all(code >= 0x80 for code in codes)
            assert (await arena.client("b")).connack.code == 0

    asyncio.run(main())


@pytest.mark.parametrize("levels", [200, 5000])
def test_topics_of_many_levels_do_no_harm(open_arena: Any, version: int, levels: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client("a", "one")
            await filter_is_refused(client, arena.topic + "/a" * levels)
            other = await arena.client("a", "two")
            other.publish(arena.topic + "/a" * levels, b"x", 1)
            seen = await other.read_until_closed_or(wire.PUBACK)
            assert all(packet.code >= 0x80 for packet in seen)

    asyncio.run(main())


def test_topics_are_compared_to_the_letter(open_arena: Any, version: int) -> None:
    """Case, spaces, Unicode forms that look the same: different topics."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            composed, decomposed = "\u00e9", "e\u0301"
            for below in ("/Room", "/a b", "/" + composed):
                await listener.subscribe((arena.topic + below, 0))
            for below in (
                "/room",
                "/ab",
                "/a  b",
                "/" + decomposed,
                "/Room ",
                "/Room",
                "/a b",
                "/" + composed,
            ):
                await sender.published(arena.topic + below, b"x")
            seen = [packet.topic.removeprefix(arena.topic) for packet in await listener.fence()]
            assert seen == ["/Room", "/a b", "/" + composed]

    asyncio.run(main())


@pytest.mark.parametrize(("written", "kept"), [("/a.b", "/a/b"), ("/a//b", "/a/b"), ("/a/", "/a")])
def test_a_dot_or_an_empty_level_stands_for_a_slash(
    open_arena: Any, version: int, written: str, kept: str
) -> None:
    """Where this server departs from 4.7.3: one address, however it is spelled, as on the other doors."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic + "/#", 0))
            await sender.published(arena.topic + written, b"x")
            assert (await listener.message()).topic == arena.topic + kept

    asyncio.run(main())


# Shared subscriptions, 5.0 only


@pytest.mark.parametrize(
    "text", ["$share/{t}", "$share//{t}", "$share/g", "$share/g/", "$share/+/{t}", "$share/a#/{t}"]
)
def test_a_shared_subscription_names_its_group_and_filter(open_arena: Any, text: str) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            await filter_is_refused(await arena.client(), text.format(t=arena.topic))

    asyncio.run(main())


def test_a_message_goes_to_one_of_a_group(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            group = [await arena.client("b", name) for name in ("one", "two", "three")]
            for client in group:
                assert await client.subscribe(("$share/g/" + arena.topic + "/#", 1)) == (1,)
            alone = await arena.client("b", "alone")
            await alone.subscribe((arena.topic + "/#", 1))
            sender = await arena.client("a")
            for n in range(30):
                await sender.published(arena.topic + "/x", b"%d" % n)
            shared = []
            for client in group:
                seen = await client.fence()
                for packet in seen:
                    await client.acknowledge(packet)
                shared.append([packet.payload for packet in seen])
            assert sorted(itertools.chain(*shared)) == sorted(b"%d" % n for n in range(30))
            assert sum(bool(part) for part in shared) > 1
            assert len([p for p in await alone.fence() if p.kind == wire.PUBLISH]) == 30

    asyncio.run(main())


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_shared_subscription_keeps_to_its_granted_qos(open_arena: Any, granted: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client, sender = await arena.client("b"), await arena.client("a")
            assert await client.subscribe(("$share/g/" + arena.topic, granted)) == (granted,)
            for qos in (1, 2):
                await sender.published(arena.topic, b"x", qos)
                assert (await client.message()).qos == min(qos, granted)

    asyncio.run(main())


def test_a_shared_qos_2_message_is_completed_by_who_began_it(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            one, two = [await arena.client("b", name, kept=True) for name in ("one", "two")]
            for client in (one, two):
                await client.subscribe(("$share/g/" + arena.topic, 2))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", 2)
            got = {id(client): await client.fence() for client in (one, two)}
            name, client = ("one", one) if got[id(one)] else ("two", two)
            other = two if client is one else one
            (found,) = got[id(client)]
            client.send(wire.ack(V5, wire.PUBREC, found.packet_id))
            await client.expect(wire.PUBREL)
            client.cut()
            await arena.gone(2)
            assert await other.fence() == []
            again = await arena.client("b", name, kept=True)
            assert (await again.expect(wire.PUBREL)).packet_id == found.packet_id
            again.send(wire.ack(V5, wire.PUBCOMP, found.packet_id))
            assert await again.fence() == []
            assert await other.fence() == []

    asyncio.run(main())


def test_a_shared_qos_2_message_begun_with_one_goes_to_no_other(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            one = await arena.client("b", "one")  # its session ends with its connection
            await one.subscribe(("$share/g/" + arena.topic, 2))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", 2)
            found = await one.message(acknowledge=False)
            two = await arena.client("b", "two")
            await two.subscribe(("$share/g/" + arena.topic, 2))
            one.send(wire.ack(V5, wire.PUBREC, found.packet_id))
            await one.expect(wire.PUBREL)
            one.cut()
            await arena.gone(2)
            assert await two.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC])
def test_a_shared_message_that_was_refused_goes_to_no_other(open_arena: Any, kind: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            group = [await arena.client("b", name) for name in ("one", "two")]
            for client in group:
                await client.subscribe(("$share/g/" + arena.topic, 2))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x", 1 if kind == wire.PUBACK else 2)
            for client in group:
                for packet in await client.fence():
                    client.send(wire.ack(V5, kind, packet.packet_id, 0x83))
            for client in group:
                assert await client.fence() == []

    asyncio.run(main())


def test_retained_messages_are_not_shown_to_a_shared_subscription(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, client = await arena.client("a"), await arena.client("b")
            await sender.published(arena.topic, b"x", retain=True)
            await client.subscribe(("$share/g/" + arena.topic, 1))
            assert await client.fence() == []

    asyncio.run(main())


def test_a_group_is_left_with_unsubscribe(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client, sender = await arena.client("b"), await arena.client("a")
            shared = "$share/g/" + arena.topic
            await client.subscribe((shared, 1))
            assert await client.unsubscribe(arena.topic) == (0x11,)
            assert await client.unsubscribe(shared) == (0,)
            await sender.published(arena.topic, b"x")
            assert await client.fence() == []

    asyncio.run(main())


def test_a_shared_subscription_of_a_foreign_channel_is_refused(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client("stranger")
            assert (await client.subscribe(("$share/g/" + arena.topic, 1)))[0] >= 0x80

    asyncio.run(main())


def test_sharing_is_no_way_around_in_3_1_1(open_arena: Any) -> None:
    """3.1.1 does not know shared subscriptions; one is refused or kept to the same rights."""

    async def main() -> None:
        async with open_arena(4) as arena:
            client = await arena.client("stranger")
            assert (await client.subscribe(("$share/g/" + arena.topic, 1)))[0] == 0x80

    asyncio.run(main())

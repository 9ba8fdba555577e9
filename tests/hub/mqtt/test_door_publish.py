"""Publishing and subscribing through a socket: what is acknowledged, what delivered, under which topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.access import Principal

Open = Callable[..., Any]


def test_qos_0_reaches_every_subscriber_and_the_publisher_itself(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            for client in (a, b):
                assert await client.subscribe((client.topic + "/#", 0)) == b"\x00"
            a.publish(a.topic + "/room/1", b"hello")
            for client in (a, b):
                assert await client.message() == (a.topic + "/room/1", b"hello", 0, 0, False, False)
            await world.hub.log.write(())
            (kept,) = world.hub.log.read(0)
            assert (kept.publisher, kept.protocol, kept.subtopic) == (world.ids["a"], "mqtt", "room.1")

    asyncio.run(main())


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_is_at_the_lower_of_published_and_granted_qos(
    open_world: Open, published: int, granted: int
) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            assert await b.subscribe((b.topic, granted)) == bytes((granted,))
            a.publish(a.topic, b"x", published, 7 if published else 0)
            topic, payload, qos, packet_id, retain, dup = await b.message()
            assert (topic, payload, retain, dup) == (b.topic, b"x", False, False)
            assert qos == min(published, granted)
            assert (packet_id > 0) == (qos > 0)

    asyncio.run(main())


def test_puback_and_pubrec_come_when_the_message_is_in_the_log(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            a.publish(a.topic, b"one", 1, 1)
            assert await a.read() == (0x40, b"\x00\x01")
            assert [m.payload for m in world.hub.log.read(0)] == [b"one"]
            a.publish(a.topic, b"two", 2, 2)
            assert await a.read() == (0x50, b"\x00\x02")
            assert [m.payload for m in world.hub.log.read(0)] == [b"one", b"two"]
            a.send(b"\x62\x02\x00\x02")
            assert await a.read() == (0x70, b"\x00\x02")

    asyncio.run(main())


def test_publishes_of_one_read_share_commits_and_are_answered_in_order(
    open_world: Open,
) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            before = world.hub.log.counters.commits
            for packet_id in range(1, 101):
                a.publish(a.topic, b"%d" % packet_id, 1, packet_id)
            answers = [await a.read() for _ in range(100)]
            assert answers == [(0x40, packet_id.to_bytes(2, "big")) for packet_id in range(1, 101)]
            assert [m.payload for m in world.hub.log.read(0)] == [b"%d" % n for n in range(1, 101)]
            assert world.hub.log.counters.commits - before < 20

    asyncio.run(main())


def test_qos_2_sent_twice_before_release_is_published_once(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            a.publish(a.topic, b"once", 2, 9)
            a.publish(a.topic, b"once", 2, 9, dup=True)
            assert [await a.read() for _ in range(2)] == [(0x50, b"\x00\x09")] * 2
            a.send(b"\x62\x02\x00\x09")
            assert await a.read() == (0x70, b"\x00\x09")
            a.publish(a.topic, b"another", 2, 9)
            assert await a.read() == (0x50, b"\x00\x09")
            assert [m.payload for m in world.hub.log.read(0)] == [b"once", b"another"]

    asyncio.run(main())


def test_overlapping_filters_deliver_once_at_the_highest_qos(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            codes = await b.subscribe((b.topic + "/#", 0), (b.topic + "/x", 1), (b.topic + "/+", 0))
            assert codes == b"\x00\x01\x00"
            a.publish(a.topic + "/x", b"m", 1, 1)
            assert (await b.message())[2] == 1
            assert await b.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asked", "published", "received"),
    [
        pytest.param("{}/+/temp", "{}/room/temp", "{}/room/temp", id="one level"),
        pytest.param("{}/#", "{}", "{}", id="rest includes its parent"),
        pytest.param("mainflux/{}/#", "{}/x", "mainflux/{}/x", id="the prefix of 2017"),
        pytest.param("/{}", "mainflux/{}", "/{}", id="leading slash"),
        pytest.param("{}/senml-json", "{}/senml-json", "{}/senml-json", id="content type in the topic"),
        pytest.param("{}/a/b", "{}/a.b", "{}/a/b", id="dots are levels"),
        pytest.param("{}/a", "{}/a/ct/application_senml-json", "{}/a", id="the media type of 2018"),
    ],
)
def test_a_subscriber_gets_the_topic_in_the_form_it_asked_for(
    open_world: Open, asked: str, published: str, received: str
) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((asked.format(b.topic), 0))
            a.publish(published.format(a.topic), b'[{"n":"t","v":1}]')
            assert (await b.message())[0] == received.format(b.topic)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b'[{"n":"temp","u":"Cel","v":21.5}]', "application/senml+json"),
        (b'{"temp": 21.5}', "application/json"),
        (b"[1, 2", "application/octet-stream"),
        (b"\x01\x02", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_content_type_is_what_the_bytes_are(open_world: Open, payload: bytes, content_type: str) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            a.publish(a.topic, payload, 1, 1)
            assert await a.read() == (0x40, b"\x00\x01")
            assert [m.content_type for m in world.hub.log.read(0)] == [content_type]

    asyncio.run(main())


def test_unsubscribed_filter_delivers_no_more(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            await a.subscribe((a.topic, 0))
            a.packet(0xA2, b"\x00\x05" + len(a.topic).to_bytes(2, "big") + a.topic.encode())
            assert await a.read() == (0xB0, b"\x00\x05")
            a.publish(a.topic, b"unheard")
            assert await a.fence() == []

    asyncio.run(main())


def test_messages_of_other_doors_arrive_at_the_granted_qos(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            b = await world.client("b")
            await b.subscribe((b.topic + "/#", 1))
            principal = Principal("thing", world.ids["a"])
            await world.hub.publish(principal, "http", world.channel, "up", "application/octet-stream", b"h")
            assert (await b.message())[:3] == (b.topic + "/up", b"h", 1)

    asyncio.run(main())

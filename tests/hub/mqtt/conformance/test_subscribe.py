"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK: MQTT 3.1.1 and 5.0, 3.8 to 3.11."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5

MALFORMED = (0x81, 0x82)
NO_LOCAL = 0x04


@pytest.mark.parametrize("what", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_a_request_without_a_filter_closes(open_arena: Any, version: int, what: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            make: Any = wire.subscribe if what == "SUBSCRIBE" else wire.unsubscribe
            client.send(make(version, 1, []))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_a_filter_without_its_options_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            props = b"\0" if version == V5 else b""
            client.send(wire.packet(wire.SUBSCRIBE, b"\0\x01" + props + wire.text(arena.topic)))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("options", [0x03, 0x40, 0x80, 0xC0])
def test_reserved_subscription_options_close(open_arena: Any, version: int, options: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.subscribe(version, 1, [(arena.topic, options)]))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("options", [0x04, 0x08, 0x10, 0x20])
def test_options_of_5_0_are_reserved_bits_in_3_1_1(open_arena: Any, options: int) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            client = await arena.client()
            client.send(wire.subscribe(V4, 1, [(arena.topic, options)]))
            await client.closed_for()

    asyncio.run(main())


def test_retain_handling_3_closes(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            client.send(wire.subscribe(V5, 1, [(arena.topic, 0x30)]))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscribe_is_answered_with_what_was_granted(open_arena: Any, version: int, qos: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.subscribe(version, 0x1234, [(arena.topic, qos)]))
            answer = await client.expect(wire.SUBACK)
            assert (answer.packet_id, answer.codes) == (0x1234, (qos,))

    asyncio.run(main())


def test_each_filter_has_its_code_in_their_order(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client("b")
            codes = await client.subscribe(
                (arena.topic, 2),
                ("channels/elsewhere/messages", 1),
                (arena.topic + "/a", 0),
                ("not/ours", 2),
                (arena.topic + "/b", 1),
            )
            assert [code if code < 0x80 else "refused" for code in codes] == [2, "refused", 0, "refused", 1]
            sender = await arena.client("a")
            for below in ("", "/a", "/b"):
                await sender.published(arena.topic + below, b"x", 2)
            seen = [await client.message() for _ in range(3)]
            assert sorted((m.topic.removeprefix(arena.topic), m.qos) for m in seen) == [
                ("", 2),
                ("/a", 0),
                ("/b", 1),
            ]

    asyncio.run(main())


def test_many_filters_are_as_many_requests(open_arena: Any, version: int) -> None:
    """The same filter twice in one SUBSCRIBE: the later one holds."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            assert await listener.subscribe((arena.topic, 2), (arena.topic, 0)) == (2, 0)
            await sender.published(arena.topic, b"x", 2)
            assert (await listener.message()).qos == 0
            assert await listener.fence() == []

    asyncio.run(main())


def test_the_same_filter_replaces_the_subscription(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await sender.published(arena.topic, b"kept", retain=True)
            for qos in (0, 2, 1):
                await listener.subscribe((arena.topic, qos))
                found = await listener.message()
                assert (found.payload, found.retain) == (b"kept", True)
                await sender.published(arena.topic, b"live", 2)
                found = await listener.message()
                assert (found.payload, found.qos) == (b"live", qos)
                assert await listener.fence() == []

    asyncio.run(main())


def test_nothing_is_lost_while_a_subscription_is_replaced(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 1))
            for n in range(60):
                sender.publish(arena.topic, b"%d" % n, 1)
                if n % 5 == 0:
                    listener.send(wire.subscribe(version, 1000 + n, [(arena.topic, 1)]))
                    await asyncio.sleep(0)
            seen = []
            while len(seen) < 60:
                packet = await listener.read()
                if packet.kind == wire.PUBLISH:
                    seen.append(packet.payload)
                    await listener.acknowledge(packet)
            assert seen == [b"%d" % n for n in range(60)]

    asyncio.run(main())


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_is_at_the_lower_qos(open_arena: Any, version: int, published: int, granted: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            assert await listener.subscribe((arena.topic, granted)) == (granted,)
            if published:
                await sender.published(arena.topic, b"x", published)
            else:
                sender.publish(arena.topic, b"x")
            assert (await listener.message()).qos == min(published, granted)

    asyncio.run(main())


def test_unsubscribe_compares_filters_to_the_letter(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic + "/+", 1))
            for other in (arena.topic + "/#", arena.topic + "/a", arena.topic, arena.topic + "/+/"):
                await listener.unsubscribe(other)
            await sender.published(arena.topic + "/a", b"x")
            assert (await listener.message()).payload == b"x"
            await listener.unsubscribe(arena.topic + "/+")
            await sender.published(arena.topic + "/a", b"y")
            assert await listener.fence() == []

    asyncio.run(main())


def test_unsubscribe_is_answered_where_nothing_was_subscribed(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            codes = await client.unsubscribe(arena.topic + "/never")
            assert codes == (() if version == V4 else (0x11,))

    asyncio.run(main())


def test_several_filters_are_unsubscribed_with_one_answer(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe(
                (arena.topic + "/a", 1), (arena.topic + "/b", 1), (arena.topic + "/c", 1)
            )
            codes = await listener.unsubscribe(arena.topic + "/a", arena.topic + "/x", arena.topic + "/b")
            assert codes == (() if version == V4 else (0, 0x11, 0))
            for below in ("/a", "/b", "/c"):
                await sender.published(arena.topic + below, b"x")
            assert (await listener.message()).topic == arena.topic + "/c"
            assert await listener.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_begun_is_completed_after_unsubscribe(open_arena: Any, version: int, qos: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b", "keeper", kept=True), await arena.client("a")
            await listener.subscribe((arena.topic, qos))
            await sender.published(arena.topic, b"begun", qos)
            begun = await listener.message(acknowledge=False)
            await listener.unsubscribe(arena.topic)
            await sender.published(arena.topic, b"later", qos)
            listener.cut()
            again = await arena.client("b", "keeper", kept=True)
            found = await again.message()
            assert (found.payload, found.packet_id, found.dup) == (b"begun", begun.packet_id, True)
            assert await again.fence() == []

    asyncio.run(main())


# 5.0 only


def test_no_local_keeps_a_clients_own_messages_from_it(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            both, other = await arena.client("a", "both"), await arena.client("a", "other")
            await both.subscribe((arena.topic, 1 | NO_LOCAL))
            await both.published(arena.topic, b"own")
            await other.published(arena.topic, b"of another client of the same thing")
            assert (await both.message()).payload == b"of another client of the same thing"
            assert await both.fence() == []
            await both.subscribe((arena.topic, 1))
            await both.published(arena.topic, b"own")
            assert (await both.message()).payload == b"own"

    asyncio.run(main())


def test_no_local_holds_for_what_waited_in_the_session(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5, in_flight=1) as arena:
            both = await arena.client("a", "both", kept=True)
            await both.subscribe((arena.topic, 1 | NO_LOCAL))
            other = await arena.client("b")
            await other.published(arena.topic, b"1")
            held = await both.message(acknowledge=False)
            await both.published(arena.topic, b"own")
            await other.published(arena.topic, b"2")
            await both.acknowledge(held)
            assert (await both.message()).payload == b"2"
            assert await both.fence() == []

    asyncio.run(main())


def test_no_local_on_a_shared_subscription_closes(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            client.send(wire.subscribe(V5, 1, [("$share/g/" + arena.topic, 1 | NO_LOCAL)]))
            await client.closed_for(0x82, 0x81)

    asyncio.run(main())


@pytest.mark.parametrize("identifiers", [[0], [1, 2]])
def test_subscription_identifiers_that_are_wrong_close(open_arena: Any, identifiers: list[int]) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            props = [("subscription_identifier", n) for n in identifiers]
            client.send(wire.subscribe(V5, 1, [(arena.topic, 0)], props))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_answers_stay_within_the_clients_packet_size(open_arena: Any) -> None:
    """Reasons in words are left out where SUBACK, UNSUBACK, PUBACK or PUBREC would be too large."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("maximum_packet_size", 12)]
            client = await arena.client(props=props)
            nowhere = "channels/elsewhere/messages"
            client.send(wire.subscribe(V5, 7, [(nowhere, 0)]))
            answers = [await client.expect(wire.SUBACK)]
            client.send(wire.unsubscribe(V5, 8, [nowhere]))
            answers.append(await client.expect(wire.UNSUBACK))
            for qos in (1, 2):
                answers.append(await client.published(nowhere, b"x", qos))
                assert answers[-1].code >= 0x80
            assert max(answer.size for answer in answers) <= 12
            client.send(b"\x00\x00")
            last = await client.end()
            assert [packet.kind for packet in last] == [wire.DISCONNECT]
            assert last[0].size <= 12

    asyncio.run(main())


def test_user_properties_of_requests_are_taken(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client(props=[("user_property", ("a", "b"))] * 2)
            pair = [("user_property", ("a", "b")), ("user_property", ("a", "c"))]
            await client.subscribe((arena.topic, 2), props=pair)
            client.send(wire.unsubscribe(V5, 50, [arena.topic + "/x"], pair))
            await client.expect(wire.UNSUBACK)
            sender = await arena.client("b")
            await sender.published(arena.topic, b"x", 2)
            found = await client.message(acknowledge=False)
            client.send(wire.ack(V5, wire.PUBREC, found.packet_id, 0, pair))
            assert (await client.expect(wire.PUBREL)).code == 0
            client.send(wire.ack(V5, wire.PUBCOMP, found.packet_id, 0, [("reason_string", "done"), *pair]))
            assert await client.fence() == []
            await client.leave(0, [("reason_string", "bye"), *pair])

    asyncio.run(main())

"""Session state, the QoS exchanges, redelivery, order and flow control: 3.1.1, 4.1 to 4.6; 5.0, 4.1 to 4.6, 4.9."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V4, V5


def test_session_lasts_while_its_connection_does(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            arena.pass_time(100_000)
            await sender.published(arena.topic, b"x", 2)
            found = await listener.message(acknowledge=False)
            arena.pass_time(100_000)
            await listener.acknowledge(found)
            assert await listener.fence() == []

    asyncio.run(main())


def test_qos_1_is_acknowledged_with_its_identifier_each_time(open_arena: Any, version: int) -> None:
    """After PUBACK the same identifier is a new message, whatever DUP says."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 1))
            for dup in (False, True, True):
                await sender.published(arena.topic, b"x", 1, packet_id=9, dup=dup)
            for _ in range(3):
                assert (await listener.message()).payload == b"x"
            assert await listener.fence() == []

    asyncio.run(main())


def test_qos_2_counts_once_until_it_is_released(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            for dup in (False, True, False):
                sender.publish(arena.topic, b"x", 2, packet_id=9, dup=dup)
                answer = await sender.expect(PUBREC)
                assert (answer.packet_id, answer.code < 0x80) == (9, True)
            for _ in range(2):  # a PUBREL that comes again is answered again
                sender.send(wire.ack(version, PUBREL, 9))
                assert (await sender.expect(PUBCOMP)).packet_id == 9
            await sender.published(arena.topic, b"y", 2, packet_id=9)  # a new message by now
            assert [(await listener.message()).payload for _ in range(2)] == [b"x", b"y"]
            assert await listener.fence() == []

    asyncio.run(main())


def test_qos_2_counts_once_over_a_lost_connection(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic, 2))
            sender = await arena.client("a", "sender", kept=True)
            sender.publish(arena.topic, b"x", 2, packet_id=9)
            await sender.expect(PUBREC)
            sender.cut()
            again = await arena.client("a", "sender", kept=True)
            again.publish(arena.topic, b"x", 2, packet_id=9, dup=True)
            assert (await again.expect(PUBREC)).packet_id == 9
            again.send(wire.ack(version, PUBREL, 9))
            await again.expect(PUBCOMP)
            assert (await listener.message()).payload == b"x"
            assert await listener.fence() == []

    asyncio.run(main())


def test_qos_2_counts_once_over_a_restart(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            sender = await arena.client("a", "sender", kept=True)
            sender.publish(arena.topic, b"x", 2, packet_id=9)
            await sender.expect(PUBREC)
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic, 2))
            again = await arena.client("a", "sender", kept=True)
            assert again.connack.session_present
            again.publish(arena.topic, b"x", 2, packet_id=9, dup=True)
            assert (await again.expect(PUBREC)).packet_id == 9
            again.send(wire.ack(version, PUBREL, 9))
            await again.expect(PUBCOMP)
            assert await listener.fence() == []

    asyncio.run(main())


def test_the_server_sends_qos_2_in_four_steps(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            await sender.published(arena.topic, b"x", 2)
            found = await listener.message(acknowledge=False)
            assert (found.qos, found.dup) == (2, False)
            for _ in range(2):  # a PUBREC that comes again is answered again
                listener.send(wire.ack(version, PUBREC, found.packet_id))
                assert (await listener.expect(PUBREL)).packet_id == found.packet_id
            listener.send(wire.ack(version, PUBCOMP, found.packet_id))
            assert await listener.fence() == []

    asyncio.run(main())


def test_unacknowledged_packets_are_sent_again_in_their_order(open_arena: Any, version: int) -> None:
    """Same identifiers, DUP set, PUBREL where PUBREC had come; and not at any other time."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b", "keeper", kept=True), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            for n, qos in enumerate((1, 2, 2, 1)):
                await sender.published(arena.topic, b"%d" % n, qos)
            first = [await listener.message(acknowledge=False) for _ in range(4)]
            listener.send(wire.ack(version, PUBREC, first[1].packet_id))
            await listener.expect(PUBREL)
            arena.pass_time(1000)
            assert await listener.fence() == []  # nothing is repeated within a connection
            for _ in range(2):
                listener.cut()
                listener = await arena.client("b", "keeper", kept=True)
                again = [await listener.read() for _ in range(4)]
                assert [(p.kind, p.packet_id) for p in again] == [
                    (PUBLISH, first[0].packet_id),
                    (PUBREL, first[1].packet_id),
                    (PUBLISH, first[2].packet_id),
                    (PUBLISH, first[3].packet_id),
                ]
                assert all(p.dup for p in again if p.kind == PUBLISH)
                assert [p.payload for p in again if p.kind == PUBLISH] == [b"0", b"2", b"3"]

    asyncio.run(main())


def test_unacknowledged_packets_survive_a_restart(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b", "keeper", kept=True), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            for n in range(2):
                await sender.published(arena.topic, b"%d" % n, 2)
            first = [await listener.message(acknowledge=False) for _ in range(2)]
            listener.send(wire.ack(version, PUBREC, first[0].packet_id))
            await listener.expect(PUBREL)
        async with open_arena(version) as arena:
            listener = await arena.client("b", "keeper", kept=True)
            again = [await listener.read() for _ in range(2)]
            assert [(p.kind, p.packet_id) for p in again] == [
                (PUBREL, first[0].packet_id),
                (PUBLISH, first[1].packet_id),
            ]
            listener.send(wire.ack(version, PUBCOMP, first[0].packet_id))
            await listener.acknowledge(again[1])
            assert await listener.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_a_publisher_keep_their_order(open_arena: Any, version: int, qos: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic + "/#", 2))
            for n in range(200):
                sender.publish(f"{arena.topic}/{n % 3}", b"%d" % n, qos)
            seen = []
            while len(seen) < 200:
                packet = await listener.read()
                if packet.kind == PUBLISH:
                    seen.append(packet)
                    if qos:
                        kind = PUBACK if qos == 1 else PUBREC
                        listener.send(wire.ack(version, kind, packet.packet_id))
                else:
                    assert packet.kind == PUBREL
                    listener.send(wire.ack(version, PUBCOMP, packet.packet_id))
            assert [m.payload for m in seen] == [b"%d" % n for n in range(200)]

    asyncio.run(main())


def test_acknowledgements_come_in_the_order_of_their_messages(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            for packet_id in (7, 3, 9, 1):
                client.publish(arena.topic, b"x", 1, packet_id=packet_id)
            assert [(await client.expect(PUBACK)).packet_id for _ in range(4)] == [7, 3, 9, 1]
            for packet_id in (7, 3, 9, 1):
                client.publish(arena.topic, b"x", 2, packet_id=packet_id)
            assert [(await client.expect(PUBREC)).packet_id for _ in range(4)] == [7, 3, 9, 1]
            client.send(*(wire.ack(version, PUBREL, packet_id) for packet_id in (9, 1, 7, 3)))
            assert [(await client.expect(PUBCOMP)).packet_id for _ in range(4)] == [9, 1, 7, 3]

    asyncio.run(main())


@pytest.mark.parametrize("kind", [PUBACK, PUBREC, PUBREL, PUBCOMP])
def test_acknowledgements_of_nothing_do_no_harm(open_arena: Any, version: int, kind: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.ack(version, kind, 77))
            seen = await client.fence()
            wanted = {PUBREC: [PUBREL], PUBREL: [PUBCOMP]}.get(kind, [])
            assert [packet.kind for packet in seen] == wanted
            assert all(packet.packet_id == 77 for packet in seen)
            if version == V5:
                assert all(packet.code == 0x92 for packet in seen)

    asyncio.run(main())


def test_every_matching_session_gets_what_the_server_took(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            names = ["one", "two", "three"]
            for name in names:
                client = await arena.client("b", name, kept=True)
                await client.subscribe((arena.topic + "/#", 1))
                if name != "one":
                    await client.leave()
            sender = await arena.client("a")
            await sender.published(arena.topic + "/x", b"x")
            for name in names:
                client = await arena.client("b", name, kept=True)
                assert (await client.message()).payload == b"x"

    asyncio.run(main())


# 5.0 only


def test_session_is_discarded_when_it_has_expired(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("session_expiry_interval", 30)]
            client = await arena.client("b", "keeper", clean=False, props=props)
            await client.subscribe((arena.topic, 1))
            await client.leave()
            arena.pass_time(31)
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            again = await arena.client("b", "keeper", clean=False, props=props)
            assert not again.connack.session_present
            assert await again.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 3])
def test_no_more_is_in_flight_than_the_client_receives(open_arena: Any, qos: int, maximum: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("receive_maximum", maximum)]
            listener, sender = await arena.client("b", props=props), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            for n in range(maximum + 4):
                await sender.published(arena.topic, b"%d" % n, qos)
            sender.publish(arena.topic, b"free")  # QoS 0 does not count
            seen = await listener.fence()
            held = [p for p in seen if p.qos]
            assert len(held) == maximum
            assert [p.payload for p in seen if not p.qos] == [b"free"]
            if qos == 2:  # PUBREC alone gives no room back
                listener.send(wire.ack(V5, PUBREC, held[0].packet_id))
                assert [p.kind for p in await listener.fence()] == [PUBREL]
                listener.send(wire.ack(V5, PUBCOMP, held[0].packet_id))
            else:
                listener.send(wire.ack(V5, PUBACK, held[0].packet_id))
            assert [p.payload for p in await listener.fence()] == [b"%d" % maximum]

    asyncio.run(main())


def test_other_packets_pass_while_the_window_is_full(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client("b", props=[("receive_maximum", 1)])
            await client.subscribe((arena.topic, 1))
            sender = await arena.client("a")
            for _ in range(3):
                await sender.published(arena.topic, b"x")
            held = await client.message(acknowledge=False)
            assert await client.subscribe((arena.topic + "/other", 1)) == (1,)
            assert await client.unsubscribe(arena.topic + "/other") == (0,)
            await client.published(arena.topic + "/mine", b"y", 2)
            assert await client.fence() == []
            await client.acknowledge(held)
            assert (await client.message()).payload == b"x"

    asyncio.run(main())


@pytest.mark.parametrize("kind", [PUBACK, PUBREC])
def test_a_message_the_client_refuses_is_not_sent_again(open_arena: Any, kind: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("receive_maximum", 1)]
            listener = await arena.client("b", "keeper", kept=True, props=props)
            await listener.subscribe((arena.topic, 2))
            sender = await arena.client("a")
            await sender.published(arena.topic, b"bad", 1 if kind == PUBACK else 2)
            await sender.published(arena.topic, b"good")
            found = await listener.message(acknowledge=False)
            listener.send(wire.ack(V5, kind, found.packet_id, 0x83, [("reason_string", "no")]))
            assert (await listener.message()).payload == b"good"  # the window is free again, without PUBREL
            listener.cut()
            again = await arena.client("b", "keeper", kept=True)
            assert await again.fence() == []

    asyncio.run(main())


def test_what_was_refused_may_be_sent_again_under_its_identifier(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            sender, listener = await arena.client("a"), await arena.client("b")
            await listener.subscribe((arena.topic, 2))
            refused = await sender.published("channels/elsewhere/messages", b"x", 2, packet_id=5)
            assert refused.code >= 0x80
            await sender.published(arena.topic, b"new", 2, packet_id=5)
            assert (await listener.message()).payload == b"new"

    asyncio.run(main())


def test_more_than_the_server_receives_closes(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5, receiving=5) as arena:
            client = await arena.client()
            maximum = client.connack.get("receive_maximum") or 65_535
            assert maximum <= 1000
            for n in range(maximum + 1):
                client.publish(arena.topic, b"x", 2, packet_id=n + 1)
            await client.closed_for(0x93)

    asyncio.run(main())


def test_expiry_does_not_stop_an_exchange_that_has_begun(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener, sender = await arena.client("b", "keeper", kept=True), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            props = [("message_expiry_interval", 10)]
            sender.publish(arena.topic, b"x", 2, packet_id=9, props=props)
            await sender.expect(PUBREC)
            found = await listener.message(acknowledge=False)
            listener.cut()
            arena.pass_time(20)
            sender.send(wire.ack(V5, PUBREL, 9))
            assert (await sender.expect(PUBCOMP)).code == 0
            again = await arena.client("b", "keeper", kept=True)
            repeated = await again.message()
            assert (repeated.packet_id, repeated.dup) == (found.packet_id, True)

    asyncio.run(main())


def test_sessions_of_both_versions_are_the_same(open_arena: Any) -> None:
    """A client that moves to 5.0 keeps its session, and back."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            old = await arena.client("b", "keeper", version=V4, kept=True)
            await old.subscribe((arena.topic, 1))
            await old.leave()
            new = await arena.client("b", "keeper", version=V5, kept=True)
            assert new.connack.session_present
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert (await new.message()).payload == b"x"
            await new.leave()
            back = await arena.client("b", "keeper", version=V4, kept=True)
            assert back.connack.session_present

    asyncio.run(main())

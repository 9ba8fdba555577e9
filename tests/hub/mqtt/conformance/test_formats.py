"""Text, lengths, fixed headers and packet identifiers: 3.1.1, 1.5, 2; 5.0, 1.5, 2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.test_connect import BAD_TEXT
from tests.hub.mqtt.conformance.wire import V4, V5

MALFORMED = (0x81, 0x82)
BAD_TOPIC = (*MALFORMED, 0x8F, 0x90)


@pytest.mark.parametrize("bad", BAD_TEXT)
@pytest.mark.parametrize("where", ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_damaged_text_closes(open_arena: Any, version: int, where: str, bad: bytes) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            topic = arena.topic.encode() + b"/" + bad
            match where:
                case "PUBLISH":
                    client.publish(topic, b"x")
                case "SUBSCRIBE":
                    client.send(wire.subscribe(version, 1, [(topic, 0)]))
                case _:
                    client.send(wire.unsubscribe(version, 1, [topic]))
            await client.closed_for(*BAD_TOPIC)

    asyncio.run(main())


def test_byte_order_mark_is_a_character_like_others(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            with_mark, without = f"{arena.topic}/\ufeffx", f"{arena.topic}/x"
            await listener.subscribe((with_mark, 0))
            await sender.published(without, b"without")
            await sender.published(with_mark, b"with")
            found = await listener.message()
            assert (found.topic, found.payload) == (with_mark, b"with")

    asyncio.run(main())


def test_text_beyond_the_basic_plane_passes_unchanged(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            topic = f"{arena.topic}/A\U0002a6d4/ä ö"
            await listener.subscribe((topic, 0))
            await sender.published(topic, b"x")
            assert (await listener.message()).topic == topic

    asyncio.run(main())


@pytest.mark.parametrize("size", [100, 127, 128, 16_383, 16_384, 200_000])
def test_lengths_of_every_size_pass_both_ways(open_arena: Any, version: int, size: int) -> None:
    """The strict reader takes the shortest form only."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 1))
            overhead = len(wire.publish(version, arena.topic, b"", 1, 1)) - 2
            payload = bytes(size - overhead if size > overhead else size)
            await sender.published(arena.topic, payload)
            assert (await listener.message()).payload == payload

    asyncio.run(main())


def test_a_length_of_five_bytes_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(b"\x30\x80\x80\x80\x80\x01")
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_a_property_length_of_five_bytes_closes(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            body = wire.text(arena.topic) + b"\x80\x80\x80\x80\x01"
            client.send(wire.packet(wire.PUBLISH, body + bytes(10)))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_packets_may_arrive_in_any_pieces(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client("a")
            stream = (
                wire.subscribe(version, 1, [(arena.topic, 1)])
                + wire.publish(version, arena.topic, b"x" * 200, 1, 2)
                + wire.PING
            )
            for at in range(len(stream)):
                client.send(stream[at : at + 1])
                await asyncio.sleep(0)
            kinds = [(await client.read()).kind for _ in range(4)]
            assert sorted(kinds) == sorted([wire.SUBACK, wire.PUBACK, wire.PUBLISH, wire.PINGRESP])

    asyncio.run(main())


BODIES = {
    wire.PUBACK: b"\0\x01",
    wire.PUBREC: b"\0\x01",
    wire.PUBREL: b"\0\x01",
    wire.PUBCOMP: b"\0\x01",
    wire.PINGREQ: b"",
    wire.DISCONNECT: b"",
}


@pytest.mark.parametrize(
    "kind", [*BODIES, wire.SUBSCRIBE, wire.UNSUBSCRIBE], ids=lambda kind: wire.NAMES[kind]
)
def test_wrong_flags_close(open_arena: Any, version: int, kind: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            body = BODIES.get(kind)
            if body is None:
                body = b"\0\x01" + (b"\0" if version == V5 else b"") + wire.text(arena.topic)
                body += b"\0" if kind == wire.SUBSCRIBE else b""
            for flags in set(range(16)) - {wire.FLAGS.get(kind, 0)}:
                client = await arena.client()
                client.send(wire.packet(kind, body, flags))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [0, wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PINGRESP])
def test_packets_that_no_client_sends_close(open_arena: Any, version: int, kind: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.packet(kind, b"\0\x01\0"[: 0 if kind == wire.PINGRESP else 3]))
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["PUBLISH 1", "PUBLISH 2", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_packet_identifier_0_closes(open_arena: Any, version: int, kind: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(
                {
                    "PUBLISH 1": wire.publish(version, arena.topic, b"x", 1, 0),
                    "PUBLISH 2": wire.publish(version, arena.topic, b"x", 2, 0),
                    "SUBSCRIBE": wire.subscribe(version, 0, [(arena.topic, 0)]),
                    "UNSUBSCRIBE": wire.unsubscribe(version, 0, [arena.topic]),
                }[kind]
            )
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP])
def test_an_acknowledgement_without_its_identifier_closes(open_arena: Any, version: int, kind: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            for body in (b"", b"\x01"):
                client = await arena.client()
                client.send(wire.packet(kind, body))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_no_packet_identifier_at_qos_0(open_arena: Any, version: int) -> None:
    """Both ways: what stands behind the topic is payload, and the strict reader finds the same."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            sender.publish(arena.topic, b"\x00\x07rest")
            found = await listener.message()
            assert (found.payload, found.qos, found.packet_id) == (b"\x00\x07rest", 0, 0)

    asyncio.run(main())


def test_identifiers_of_the_server_are_not_in_use(open_arena: Any, version: int) -> None:
    """Each unacknowledged message has an identifier of its own; one that is free comes back."""

    async def main() -> None:
        async with open_arena(version, in_flight=8) as arena:
            listener, sender = await arena.client("b"), await arena.client("a")
            await listener.subscribe((arena.topic, 2))
            for n in range(12):
                await sender.published(arena.topic, b"%d" % n, 1 + n % 2)
            held = [await listener.message(acknowledge=False) for _ in range(8)]
            assert len({m.packet_id for m in held}) == 8
            assert all(m.packet_id for m in held)
            await listener.acknowledge(held[0])
            after = await listener.message(acknowledge=False)
            assert after.packet_id not in {m.packet_id for m in held[1:]}

    asyncio.run(main())


def test_answers_carry_the_identifier_of_their_request(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            for packet_id in (1, 0x0102, 0xFFFF):
                client.send(wire.subscribe(version, packet_id, [(arena.topic + "/none", 0)]))
                assert (await client.expect(wire.SUBACK)).packet_id == packet_id
                client.send(wire.unsubscribe(version, packet_id, [arena.topic + "/none"]))
                assert (await client.expect(wire.UNSUBACK)).packet_id == packet_id
                for qos in (1, 2):
                    await client.published(arena.topic, b"x", qos, packet_id=packet_id)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [wire.PINGREQ, wire.DISCONNECT])
def test_bytes_behind_the_last_field_close(open_arena: Any, kind: int) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            client = await arena.client()
            client.send(wire.packet(kind, b"\0"))
            await client.closed_for()

    asyncio.run(main())


def test_bytes_behind_the_last_field_close_in_5_0(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for data in (
                wire.packet(wire.PINGREQ, b"\0"),
                wire.packet(wire.DISCONNECT, b"\0\0\0"),
                wire.packet(wire.PUBACK, b"\0\x01\0\0\0"),
                wire.packet(wire.PUBREL, b"\0\x01\0\x05\x1f\0\x01x\0"),
            ):
                client = await arena.client()
                client.send(data)
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


BELONGS = {  # 2.2.2.2, of packets that a client sends
    "PUBLISH": wire.FROM_SERVER[wire.PUBLISH] - {"subscription_identifier"},
    "SUBSCRIBE": {"subscription_identifier", "user_property"},
    "UNSUBSCRIBE": {"user_property"},
    "PUBACK": {"reason_string", "user_property"},
    "DISCONNECT": {"session_expiry_interval", "reason_string", "user_property"},
}


@pytest.mark.parametrize("kind", BELONGS)
def test_properties_stand_only_where_they_belong(open_arena: Any, kind: str) -> None:
    """Each property that 2.2.2.2 does not have in this packet; that the others are taken has tests of its own."""

    def packet(topic: str, props: Any) -> bytes:
        return {
            "PUBLISH": wire.publish(V5, topic, b"x", props=props),
            "SUBSCRIBE": wire.subscribe(V5, 1, [(topic, 0)], props),
            "UNSUBSCRIBE": wire.unsubscribe(V5, 1, [topic], props),
            "PUBACK": wire.ack(V5, wire.PUBACK, 1, 0, props),
            "DISCONNECT": wire.disconnect(V5, 0, props),
        }[kind]

    async def main() -> None:
        async with open_arena(V5) as arena:
            for name in sorted(wire.IDENTIFIERS.keys() - BELONGS[kind]):
                form = wire.IDENTIFIERS[name][1]
                value: Any = {"pair": ("a", "b"), "text": "x", "binary": b"x"}.get(form, 1)
                client = await arena.client()
                client.send(packet(arena.topic, [(name, value)]))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_an_unknown_property_closes(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for identifier in (0x00, 0x04, 0x7F, 0xFF):
                client = await arena.client()
                body = wire.text(arena.topic) + b"\x02" + bytes((identifier, 1))
                client.send(wire.packet(wire.PUBLISH, body))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_properties_longer_than_the_packet_close(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for tail in (b"\x05\x01\x00", b"\x02\x26\x00", b"\x03\x02\x00\x00"):
                client = await arena.client()
                client.send(wire.packet(wire.PUBLISH, wire.text(arena.topic) + tail))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_both_halves_of_a_user_property_are_text(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for pair in ((b"\xff", "x"), ("x", b"\xff"), (b"a\0b", "x"), ("x", b"\xed\xa0\x80")):
                client = await arena.client()
                client.publish(arena.topic, b"x", props=[("user_property", pair)])
                await client.closed_for(*MALFORMED)

    asyncio.run(main())


def test_properties_of_length_0_are_said(open_arena: Any) -> None:
    """The strict reader misses the length where a server leaves it out of CONNACK, PUBLISH or SUBACK."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client("a")
            await client.subscribe((arena.topic, 1))
            await client.published(arena.topic, b"")
            assert (await client.message()).payload == b""
            await client.unsubscribe(arena.topic)

    asyncio.run(main())

"""CONNECT: MQTT 3.1.1 and 5.0, 3.1."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5, Packet, Will

MALFORMED = (0x81, 0x82)


def only_a_refusal(version: int, seen: list[Packet]) -> None:
    """Before it is connected a client is told nothing (3.1.1), or by CONNACK why not (5.0)."""
    if version == V4:
        assert seen == []
    else:
        assert [packet.kind for packet in seen] in ([], [wire.CONNACK])
        assert all(packet.code >= 0x80 for packet in seen)


async def turned_away(arena: Any, data: bytes) -> None:
    client = await arena.dial()
    client.send(data)
    only_a_refusal(arena.version, await client.end())


FIRST: list[Any] = [
    pytest.param(lambda v, t: wire.publish(v, t, b"x"), id="PUBLISH"),
    pytest.param(lambda v, t: wire.subscribe(v, 1, [(t, 0)]), id="SUBSCRIBE"),
    pytest.param(lambda v, t: wire.unsubscribe(v, 1, [t]), id="UNSUBSCRIBE"),
    pytest.param(lambda v, t: wire.PING, id="PINGREQ"),
    pytest.param(lambda v, t: wire.disconnect(v), id="DISCONNECT"),
    pytest.param(lambda v, t: wire.ack(v, wire.PUBREL, 1), id="PUBREL"),
    pytest.param(lambda v, t: wire.packet(wire.CONNACK, b"\0\0"), id="CONNACK"),
    pytest.param(lambda v, t: wire.auth(0x18, [("authentication_method", "x")]), id="AUTH"),
    pytest.param(lambda v, t: wire.packet(0, b""), id="type 0"),
]


@pytest.mark.parametrize("first", FIRST)
def test_first_packet_has_to_be_connect(open_arena: Any, version: int, first: Any) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.dial()
            client.send(first(version, arena.topic))
            assert await client.end() == []

    asyncio.run(main())


def test_second_connect_closes_with_protocol_error(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(arena.connect_wire("a", "of-a"))
            await client.closed_for(0x82)

    asyncio.run(main())


def test_another_protocol_name_is_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            for name in (b"mqtt", b"MQTX", b"", b"HTTP/1.1"):
                await turned_away(arena, arena.connect_wire("a", "c", name=name))

    asyncio.run(main())


@pytest.mark.parametrize("level", [0, 1, 2, 6, 127, 255])
def test_unknown_protocol_level_is_answered_and_closed(open_arena: Any, level: int) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            reader, writer = await asyncio.open_connection("127.0.0.1", arena.world.door.port)
            writer.write(wire.connect(level, "c", **arena.login("a")))
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await writer.wait_closed()
            assert answer in (b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00") or (
                answer[:1] == b"\x20" and answer[2:4] == b"\x00\x84"
            )

    asyncio.run(main())


def test_reserved_connect_flag_is_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await turned_away(arena, arena.connect_wire("a", "c", flags=0xC3))

    asyncio.run(main())


def test_a_clean_start_discards_the_session(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            await keeper.leave()
            again = await arena.client("b", "keeper", clean=True)
            assert not again.connack.session_present
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert await again.fence() == []
            await again.leave()
            last = await arena.client("b", "keeper", kept=True)
            assert not last.connack.session_present
            assert await last.fence() == []

    asyncio.run(main())


def test_a_session_is_resumed_with_its_subscriptions(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            assert not keeper.connack.session_present
            await keeper.subscribe((arena.topic + "/#", 1))
            await keeper.leave()
            again = await arena.client("b", "keeper", kept=True)
            assert again.connack.session_present
            sender = await arena.client("a")
            await sender.published(arena.topic + "/x", b"x")
            assert (await again.message()).payload == b"x"

    asyncio.run(main())


def test_messages_of_qos_1_and_2_wait_for_an_absent_client(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 2))
            await keeper.leave()
            sender = await arena.client("a")
            for qos in (1, 2):
                await sender.published(arena.topic, b"%d" % qos, qos)
            again = await arena.client("b", "keeper", kept=True)
            seen = [await again.message() for _ in range(2)]
            assert [(m.payload, m.qos, m.dup) for m in seen] == [(b"1", 1, False), (b"2", 2, False)]

    asyncio.run(main())


def test_sessions_outlive_the_server(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            await keeper.leave()
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
        async with open_arena(version) as arena:
            again = await arena.client("b", "keeper", kept=True)
            assert again.connack.session_present
            assert (await again.message()).payload == b"x"

    asyncio.run(main())


def test_retained_messages_outlive_the_session(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            sender = await arena.client("a", "short")
            await sender.published(arena.topic + "/state", b"on", retain=True)
            await sender.leave()
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/state", 1))
            assert (await listener.message()).payload == b"on"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cut", "malformed", "timeout", "takeover"])
def test_the_will_is_published_when_the_connection_is_lost(open_arena: Any, version: int, how: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 2))
            will = arena.will(b"gone", qos=1)
            client = await arena.client("a", "willing", will=will, keepalive=10)
            assert await listener.fence() == []
            match how:
                case "cut":
                    client.cut()
                case "malformed":
                    client.send(b"\x00\x00")
                case "timeout":
                    arena.pass_time(16)
                case "takeover":
                    await arena.client("a", "willing")
            found = await listener.message()
            assert (found.topic, found.payload, found.qos) == (arena.topic + "/will", b"gone", 1)
            assert not found.retain
            assert await listener.fence() == []

    asyncio.run(main())


def test_disconnect_removes_the_will(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            client = await arena.client("a", "willing", will=arena.will())
            await client.leave()
            await arena.gone(1)
            assert await listener.fence() == []

    asyncio.run(main())


def test_a_will_is_published_once(open_arena: Any, version: int) -> None:
    """Published, it is no part of the session any more: the next loss of the connection has no will."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            first = await arena.client("a", "willing", kept=True, will=arena.will(b"once", qos=1))
            first.cut()
            assert (await listener.message()).payload == b"once"
            second = await arena.client("a", "willing", kept=True)
            second.cut()
            await arena.gone(1)
            assert await listener.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(0x08, id="QoS 1 without a will"),
        pytest.param(0x10, id="QoS 2 without a will"),
        pytest.param(0x20, id="retain without a will"),
    ],
)
def test_will_flags_without_a_will_are_turned_away(open_arena: Any, version: int, flags: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await turned_away(arena, arena.connect_wire("a", "c", flags=0xC2 | flags))

    asyncio.run(main())


def test_will_of_qos_3_is_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await turned_away(arena, arena.connect_wire("a", "c", will=arena.will(qos=3)))

    asyncio.run(main())


def test_will_flag_without_its_fields_is_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await turned_away(arena, wire.connect(version, "c", flags=0x06))
            await turned_away(arena, arena.connect_wire("a", "c", flags=0xC6))

    asyncio.run(main())


def test_will_fields_without_the_flag_are_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await turned_away(arena, wire.connect(version, "c", will=arena.will(), flags=0x02))

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_will_is_published_at_its_qos_and_retained_as_asked(
    open_arena: Any, version: int, qos: int, retain: bool
) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 2))
            (await arena.client("a", "w", will=arena.will(b"off", qos=qos, retain=retain))).cut()
            found = await listener.message()
            assert (found.payload, found.qos, found.retain) == (b"off", qos, False)
            late = await arena.client("b", "late")
            await late.subscribe((arena.topic + "/will", 2))
            if retain:
                found = await late.message()
                assert (found.payload, found.qos, found.retain) == (b"off", qos, True)
            assert await late.fence() == []

    asyncio.run(main())


def test_will_topic_with_a_wildcard_is_turned_away(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            for topic in (arena.topic + "/+", arena.topic + "/#", ""):
                client = await arena.dial()
                client.send(arena.connect_wire("a", "c", will=Will(topic, b"x")))
                seen = await client.end()
                assert all(packet.kind == wire.CONNACK and packet.code for packet in seen)

    asyncio.run(main())


def test_user_name_and_password_stand_where_their_flags_say(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            login = arena.login("a")
            await turned_away(arena, wire.connect(version, "c", flags=0xC2))  # both missing
            await turned_away(arena, wire.connect(version, "c", user=login["user"], flags=0xC2))
            await turned_away(arena, wire.connect(version, "c", **login, flags=0x82))  # password too many
            await turned_away(arena, wire.connect(version, "c", **login, flags=0x02))  # both too many

    asyncio.run(main())


def test_password_without_user_name_is_turned_away_in_3_1_1(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            key = arena.login("a")["password"]
            await turned_away(arena, wire.connect(V4, "c", password=key))

    asyncio.run(main())


def test_password_without_user_name_is_enough_in_5_0(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.dial()
            client.send(wire.connect(V5, "c", password=arena.login("a")["password"]))
            assert (await client.expect(wire.CONNACK)).code == 0

    asyncio.run(main())


def test_silence_of_one_and_a_half_keep_alives_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client(keepalive=10)
            assert client.connack.get("server_keep_alive") is None
            await client.fence()
            arena.pass_time(14)
            assert await client.fence() == []
            arena.pass_time(14)
            await client.fence()
            arena.pass_time(16)
            await client.closed_for(0x8D)

    asyncio.run(main())


def test_keep_alive_0_never_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client(keepalive=0)
            arena.pass_time(1e6)
            assert await client.fence() == []

    asyncio.run(main())


def test_payload_fields_are_read_in_their_order(open_arena: Any, version: int) -> None:
    """Each field is told apart from the others by what the server does with it."""

    async def main() -> None:
        async with open_arena(version) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            client = await arena.client("a", "the id", kept=True, will=arena.will(b"the will", qos=1))
            client.cut()
            assert (await listener.message()).payload == b"the will"
            again = await arena.client("a", "the id", kept=True)
            assert again.connack.session_present

    asyncio.run(main())


def test_client_id_tells_sessions_of_one_thing_apart(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            one = await arena.client("b", "one", kept=True)
            await one.subscribe((arena.topic, 1))
            await one.leave()
            other = await arena.client("b", "other", kept=True)
            assert not other.connack.session_present
            again = await arena.client("b", "one", kept=True)
            assert again.connack.session_present

    asyncio.run(main())


def test_client_id_has_to_be_there(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            head = wire.binary(b"MQTT") + bytes((version, 2)) + b"\0\0"
            props = b"\0" if version == V5 else b""
            await turned_away(arena, wire.packet(wire.CONNECT, head + props))

    asyncio.run(main())


BAD_TEXT = [
    pytest.param(b"\xc3\x28", id="no continuation"),
    pytest.param(b"\xff", id="no such byte"),
    pytest.param(b"\xed\xa0\x80", id="surrogate"),
    pytest.param(b"\xc0\x80", id="overlong NUL"),
    pytest.param(b"a\x00b", id="NUL"),
    pytest.param(b"\xf4\x90\x80\x80", id="beyond U+10FFFF"),
]


@pytest.mark.parametrize("bad", BAD_TEXT)
@pytest.mark.parametrize("where", ["client id", "user name", "will topic"])
def test_text_of_connect_has_to_be_utf_8(open_arena: Any, version: int, where: str, bad: bytes) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            match where:
                case "client id":
                    data = arena.connect_wire("a", bad)
                case "user name":
                    data = arena.connect_wire("a", "c", user=bad)
                case _:
                    data = arena.connect_wire("a", "c", will=Will(bad, b"x"))
            await turned_away(arena, data)

    asyncio.run(main())


@pytest.mark.parametrize(
    "client_id", ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"]
)
def test_client_ids_of_letters_and_digits_are_let_in(open_arena: Any, version: int, client_id: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            assert (await arena.client("a", client_id)).connack.code == 0

    asyncio.run(main())


def test_empty_client_id_is_a_session_of_its_own(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            one, two = await arena.client("a", ""), await arena.client("a", "")
            await one.subscribe((arena.topic, 1))
            await two.published(arena.topic, b"x")
            assert (await one.message()).payload == b"x"
            assert await two.fence() == []
            if version == V5:
                names = [client.connack.get("assigned_client_identifier") for client in (one, two)]
                assert all(names)
                assert names[0] != names[1]
                named = await arena.client("a", "mine")
                assert named.connack.get("assigned_client_identifier") is None

    asyncio.run(main())


def test_an_assigned_client_id_can_be_used_again(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            first = await arena.client("b", "", kept=True)
            name = first.connack.get("assigned_client_identifier")
            await first.subscribe((arena.topic, 1))
            await first.leave()
            again = await arena.client("b", name, kept=True)
            assert again.connack.session_present

    asyncio.run(main())


def test_empty_client_id_may_not_ask_for_a_kept_session_in_3_1_1(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            assert (await arena.refused(2, client_id="", clean=False)).code == 2

    asyncio.run(main())


def test_wrong_credentials_are_answered_and_closed(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            wrong = "wrong key of enough characters"
            await arena.refused(*((4, 5) if version == V4 else (0x86, 0x87)), password=wrong)
            # The key is that of another
            await arena.refused(*((4, 5) if version == V4 else (0x86, 0x87)), user=arena.world.ids["b"])

    asyncio.run(main())


def test_the_same_client_id_takes_the_session_over(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            first = await arena.client("b", "same", kept=True)
            await first.subscribe((arena.topic, 1))
            second = await arena.client("b", "same", kept=True)
            assert second.connack.session_present
            await first.closed_for(0x8E)
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert (await second.message()).payload == b"x"

    asyncio.run(main())


def test_nothing_behind_a_refused_connect_is_looked_at(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.dial()
            client.send(
                arena.connect_wire("a", "c", password="wrong key of enough characters"),
                wire.subscribe(version, 1, [(arena.topic, 1)]),
                wire.publish(version, arena.topic, b"x", 1, 2),
            )
            assert [packet.kind for packet in await client.end()] == [wire.CONNACK]
            assert (await arena.client()).connack.code == 0
            await arena.world.hub.log.write(())
            assert arena.world.hub.log.read(0) == []

    asyncio.run(main())


def test_packets_may_follow_connect_at_once(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.dial()
            client.send(
                arena.connect_wire("a", "c"),
                wire.subscribe(version, 1, [(arena.topic, 0)]),
                wire.publish(version, arena.topic, b"x", 1, 2),
                wire.PING,
            )
            seen = {(await client.read()).kind for _ in range(5)}
            assert seen == {wire.CONNACK, wire.SUBACK, wire.PUBACK, wire.PUBLISH, wire.PINGRESP}

    asyncio.run(main())


# 5.0 only


@pytest.mark.parametrize(
    "props",
    [
        pytest.param([("receive_maximum", 0)], id="receive maximum 0"),
        pytest.param([("maximum_packet_size", 0)], id="maximum packet size 0"),
        pytest.param([("request_problem_information", 2)], id="request problem information 2"),
        pytest.param([("request_response_information", 2)], id="request response information 2"),
        pytest.param([("session_expiry_interval", 1)] * 2, id="a property twice"),
        pytest.param([("authentication_data", b"x")], id="authentication data without a method"),
        pytest.param([("topic_alias", 1)], id="a property of PUBLISH"),
        pytest.param([("assigned_client_identifier", "x")], id="a property of CONNACK"),
        pytest.param([("will_delay_interval", 1)], id="a property of the will"),
    ],
)
def test_connect_properties_that_are_wrong_are_turned_away(open_arena: Any, props: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.dial()
            client.send(arena.connect_wire("a", "c", props=props))
            seen = await client.end()
            assert [packet.kind for packet in seen] == [wire.CONNACK]
            assert seen[0].code in MALFORMED

    asyncio.run(main())


@pytest.mark.parametrize(
    "props",
    [
        pytest.param([("topic_alias", 1)], id="a property of PUBLISH"),
        pytest.param([("session_expiry_interval", 1)], id="a property of CONNECT"),
        pytest.param([("will_delay_interval", 1)] * 2, id="a property twice"),
        pytest.param([("payload_format_indicator", 2)], id="payload format 2"),
        pytest.param([("response_topic", "a/#")], id="response topic with a wildcard"),
    ],
)
def test_will_properties_that_are_wrong_are_turned_away(open_arena: Any, props: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.dial()
            client.send(arena.connect_wire("a", "c", will=arena.will(props=props)))
            seen = await client.end()
            assert [packet.kind for packet in seen] == [wire.CONNACK]
            assert seen[0].code in (*MALFORMED, 0x90)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("properties", "present"),
    [
        pytest.param([], False, id="absent"),
        pytest.param([("session_expiry_interval", 0)], False, id="0"),
        pytest.param([("session_expiry_interval", 60)], True, id="60 s"),
        pytest.param([("session_expiry_interval", 0xFFFFFFFF)], True, id="never"),
    ],
)
def test_session_is_kept_as_long_as_its_expiry_says(open_arena: Any, properties: Any, present: bool) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            first = await arena.client("b", "keeper", clean=False, props=properties)
            await first.subscribe((arena.topic, 1))
            await first.leave()
            arena.pass_time(50)
            again = await arena.client("b", "keeper", clean=False, props=properties)
            assert again.connack.session_present == present
            await again.leave()
            arena.pass_time(70)
            last = await arena.client("b", "keeper", clean=False, props=properties)
            assert last.connack.session_present == (properties == [("session_expiry_interval", 0xFFFFFFFF)])

    asyncio.run(main())


def test_session_outlives_a_connection_longer_than_its_expiry(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("session_expiry_interval", 10)]
            client = await arena.client("b", "keeper", props=props)
            await client.subscribe((arena.topic, 1))
            arena.pass_time(1000)
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert (await client.message()).payload == b"x"
            await client.leave()
            arena.pass_time(5)
            again = await arena.client("b", "keeper", clean=False, props=props)
            assert again.connack.session_present

    asyncio.run(main())


def test_no_packet_is_larger_than_the_client_takes(open_arena: Any) -> None:
    """A message too large for the client counts as delivered; the ones around it arrive."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            limit = 400
            listener = await arena.client("b", "small", kept=True, props=[("maximum_packet_size", limit)])
            await listener.subscribe((arena.topic, 1))
            sender = await arena.client("a")
            for payload in (b"before", bytes(limit), b"between", bytes(3 * limit), b"after"):
                await sender.published(arena.topic, payload)
            seen = [await listener.message() for _ in range(3)]
            assert [m.payload for m in seen] == [b"before", b"between", b"after"]
            assert await listener.fence() == []
            assert max(m.size for m in seen) <= limit
            await listener.leave()
            again = await arena.client("b", "small", kept=True)
            assert await again.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("maximum", [0, 1, 3])
def test_topic_aliases_stay_within_what_the_client_takes(open_arena: Any, maximum: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("topic_alias_maximum", maximum)] if maximum else []
            listener = await arena.client("b", props=props)
            await listener.subscribe((arena.topic + "/#", 1))
            sender = await arena.client("a")
            names: dict[int, str] = {}
            for n in range(20):
                where = f"{arena.topic}/{n % 5}"
                await sender.published(where, b"x")
                found = await listener.message()
                alias = found.get("topic_alias")
                assert alias is None or 0 < alias <= maximum
                if alias and found.topic:
                    names[alias] = found.topic
                assert (found.topic or names[alias]) == where

    asyncio.run(main())


def test_response_information_is_not_sent_unasked(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for props in ([], [("request_response_information", 0)]):
                client = await arena.client("a", "c", props=props)
                assert client.connack.get("response_information") is None

    asyncio.run(main())


@pytest.mark.parametrize("wanted", [0, 1])
def test_reasons_in_words_only_where_they_are_wanted(open_arena: Any, wanted: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client(props=[("request_problem_information", wanted)])
            denied = await client.published("channels/elsewhere/messages", b"x")
            assert denied.code >= 0x80
            client.send(wire.subscribe(V5, 9, [("channels/elsewhere/messages", 0)]))
            refused = await client.expect(wire.SUBACK)
            assert refused.codes[0] >= 0x80
            if not wanted:
                assert denied.props == ()
                assert refused.props == ()

    asyncio.run(main())


def test_will_waits_for_its_delay(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            will = arena.will(b"late", qos=1, props=[("will_delay_interval", 30)])
            (await arena.client("a", "w", kept=True, will=will)).cut()
            await arena.gone(1)
            arena.pass_time(29)
            assert await listener.fence() == []
            arena.pass_time(2)
            assert (await listener.message()).payload == b"late"

    asyncio.run(main())


def test_will_does_not_wait_longer_than_the_session(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            will = arena.will(b"end", qos=1, props=[("will_delay_interval", 300)])
            (await arena.client("a", "w", will=will, props=[("session_expiry_interval", 20)])).cut()
            await arena.gone(1)
            arena.pass_time(19)
            assert await listener.fence() == []
            arena.pass_time(2)
            assert (await listener.message()).payload == b"end"

    asyncio.run(main())


def test_will_is_not_sent_where_the_client_is_back_before_its_delay(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            will = arena.will(b"late", qos=1, props=[("will_delay_interval", 30)])
            (await arena.client("a", "w", kept=True, will=will)).cut()
            await arena.gone(1)
            arena.pass_time(20)
            back = await arena.client("a", "w", kept=True)
            assert back.connack.session_present
            arena.pass_time(60)
            assert await listener.fence() == []

    asyncio.run(main())


def test_will_of_a_session_that_a_clean_start_ends_is_sent(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            will = arena.will(b"ended", qos=1, props=[("will_delay_interval", 30)])
            (await arena.client("a", "w", kept=True, will=will)).cut()
            await arena.gone(1)
            await arena.client("a", "w", clean=True)
            assert (await listener.message()).payload == b"ended"

    asyncio.run(main())


def test_properties_of_the_will_arrive_with_it_in_their_order(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            users = [("z", "1"), ("a", "2"), ("z", "3")]
            props = [
                ("payload_format_indicator", 1),
                ("content_type", "text/plain"),
                ("response_topic", arena.topic + "/answer"),
                ("correlation_data", b"\x00\x01"),
                *(("user_property", pair) for pair in users),
            ]
            (await arena.client("a", "w", will=arena.will(b"x", qos=1, props=props))).cut()
            found = await listener.message()
            for name, value in props[:4]:
                assert found.get(name) == value, name
            assert [pair for pair in found.all("user_property") if pair in users] == users

    asyncio.run(main())

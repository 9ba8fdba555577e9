"""PINGREQ, DISCONNECT, AUTH and errors: MQTT 3.1.1, 3.12 to 3.14, 4.8; 5.0, 3.12 to 3.15, 4.12, 4.13."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V5

MALFORMED = (0x81, 0x82)


def test_a_ping_is_answered(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.PING * 3)
            assert [(await client.read()).kind for _ in range(3)] == [wire.PINGRESP] * 3

    asyncio.run(main())


def test_nothing_behind_disconnect_is_looked_at(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(wire.disconnect(version), wire.publish(version, arena.topic, b"x", 1, 1), wire.PING)
            assert await client.end() == []
            await (await arena.client()).fence()
            assert arena.world.hub.log.read(0) == []

    asyncio.run(main())


def test_disconnect_is_not_sent_before_connack(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            for data in (b"\x00\x00", b"\x10\xff\xff\xff\xff\x01", wire.PING, b"\x10\x02\x00\x00"):
                client = await arena.dial()
                client.send(data)
                assert wire.DISCONNECT not in {packet.kind for packet in await client.end()}

    asyncio.run(main())


def test_a_fault_closes_this_connection_and_no_other(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            good, bad = await arena.client("b"), await arena.client("a")
            await good.subscribe((arena.topic, 1))
            bad.send(b"\x36\x02\x00\x00")
            await bad.closed_for(*MALFORMED)
            sender = await arena.client("a")
            await sender.published(arena.topic, b"x")
            assert (await good.message()).payload == b"x"

    asyncio.run(main())


def test_a_packet_too_large_closes_at_its_header(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(b"\x30\xff\xff\xff\x7f")
            await client.closed_for(0x95, *MALFORMED)

    asyncio.run(main())


# 5.0 only


@pytest.mark.parametrize(
    "code", [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
)
def test_only_a_normal_disconnection_drops_the_will(open_arena: Any, code: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            client = await arena.client("a", "w", will=arena.will(b"will", qos=1))
            await client.leave(code)
            if code:
                assert (await listener.message()).payload == b"will"
            assert await listener.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("code", [0x01, 0x03, 0x8E, 0xA3, 0xFF])
def test_a_disconnect_reason_that_is_no_clients_is_a_fault(open_arena: Any, code: int) -> None:
    """Answered or not, the connection closes and the will is published."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            listener = await arena.client("b")
            await listener.subscribe((arena.topic + "/will", 1))
            client = await arena.client("a", "w", will=arena.will(b"will", qos=1))
            client.send(wire.disconnect(V5, code))
            seen = await client.end()
            assert [packet.kind for packet in seen] in ([], [wire.DISCONNECT])
            assert (await listener.message()).payload == b"will"

    asyncio.run(main())


def test_disconnect_may_change_the_expiry(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client("a", "keeper", kept=True)
            await client.leave(0, [("session_expiry_interval", 0)])
            again = await arena.client("a", "keeper", kept=True)
            assert not again.connack.session_present
            await again.leave(0, [("session_expiry_interval", 10_000)])
            arena.pass_time(5000)
            last = await arena.client("a", "keeper", kept=True)
            assert last.connack.session_present

    asyncio.run(main())


def test_disconnect_may_not_give_an_expiry_to_a_session_that_had_none(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client("a", "c")
            client.send(wire.disconnect(V5, 0, [("session_expiry_interval", 60)]))
            await client.closed_for(0x82)
            again = await arena.client("a", "c", clean=False)
            assert not again.connack.session_present

    asyncio.run(main())


def test_after_a_fault_the_server_says_why_and_nothing_more(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client, sender = await arena.client("b"), await arena.client("a")
            await client.subscribe((arena.topic, 0))
            client.send(b"\x00\x00")
            for _ in range(5):
                sender.publish(arena.topic, b"x")
            await sender.fence()
            kinds = [packet.kind for packet in await client.end()]
            assert kinds[-1] == wire.DISCONNECT
            assert kinds.count(wire.DISCONNECT) == 1

    asyncio.run(main())


def test_an_authentication_method_is_refused(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("authentication_method", "SCRAM-SHA-256"), ("authentication_data", b"n,,n=a,r=b")]
            answer = await arena.refused(0x8C, props=props)
            assert answer.get("authentication_method") is None

    asyncio.run(main())


def test_auth_is_never_sent_unasked(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            assert client.connack.get("authentication_method") is None
            assert client.connack.get("authentication_data") is None
            assert await client.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wire.auth(0x18, [("authentication_method", "x")]), id="continue"),
        pytest.param(wire.auth(0x19, [("authentication_method", "x")]), id="authenticate again"),
        pytest.param(wire.auth(0x00, []), id="success"),
        pytest.param(wire.packet(wire.AUTH, b""), id="empty"),
        pytest.param(wire.packet(wire.AUTH, b"\x18\x00", 1), id="flags"),
    ],
)
def test_auth_from_a_client_without_a_method_closes(open_arena: Any, data: bytes) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            client = await arena.client()
            client.send(data)
            await client.closed_for(*MALFORMED)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP])
def test_an_unknown_reason_code_closes(open_arena: Any, kind: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            for code in (0x01, 0x7F, 0xFF):
                client = await arena.client()
                client.send(wire.ack(V5, kind, 1, code))
                await client.closed_for(*MALFORMED)

    asyncio.run(main())

"""CONNACK: MQTT 3.1.1 and 5.0, 3.2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5

WRONG = "wrong key of enough characters"


def test_connack_is_the_first_packet_also_with_a_backlog(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 2))
            sender = await arena.client("a")
            for n in range(5):
                await sender.published(arena.topic, b"%d" % n, 1 + n % 2)
            keeper.cut()
            again = await arena.client("b", "keeper", kept=True)  # expects CONNACK first
            assert again.connack.session_present
            seen = await again.fence()
            assert len(seen) == 5
            assert wire.CONNACK not in {packet.kind for packet in seen}

    asyncio.run(main())


def test_there_is_one_connack_in_a_connection(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            client = await arena.client()
            client.send(arena.connect_wire("a", "other"))
            assert wire.CONNACK not in {packet.kind for packet in await client.end()}

    asyncio.run(main())


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_session_present_says_whether_there_is_one(
    open_arena: Any, version: int, clean: bool, known: bool
) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            if known:
                await (await arena.client("a", "keeper", kept=True)).leave()
            client = await arena.client("a", "keeper", clean=clean)
            assert client.connack.code == 0
            assert client.connack.session_present == (known and not clean)

    asyncio.run(main())


def test_a_refusal_has_no_session_and_closes(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            await (await arena.client("a", "keeper", kept=True)).leave()
            answer = await arena.refused(4, 5, 0x86, 0x87, client_id="keeper", clean=False, password=WRONG)
            assert not answer.session_present

    asyncio.run(main())


def test_a_refusal_leaves_the_session_of_its_owner_alone(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            keeper = await arena.client("b", "keeper", kept=True)
            await keeper.subscribe((arena.topic, 1))
            await arena.refused(4, 5, 0x86, 0x87, thing="b", client_id="keeper", clean=True, password=WRONG)
            other = await arena.client("a", "keeper", clean=True)  # the same client id, another thing
            await other.published(arena.topic, b"x")
            assert (await keeper.message()).payload == b"x"

    asyncio.run(main())


def test_a_busy_server_says_so(open_arena: Any, version: int) -> None:
    async def main() -> None:
        async with open_arena(version, connections=1) as arena:
            await arena.client("a", "first")
            await arena.refused(*((3,) if version == V4 else (0x88, 0x89, 0x97, 0x9F)), client_id="second")

    asyncio.run(main())


def test_a_fault_without_a_return_code_is_not_answered_in_3_1_1(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V4) as arena:
            client = await arena.dial()
            client.send(arena.connect_wire("a", "c", flags=0xC3))
            assert await client.end() == []

    asyncio.run(main())


def test_what_is_not_said_is_there(open_arena: Any) -> None:
    """A property left out of CONNACK means: QoS 2, retained messages, wildcards and the rest are offered."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            connack = (await arena.client()).connack
            for name, value in (
                ("maximum_qos", None),
                ("retain_available", 1),
                ("wildcard_subscription_available", 1),
                ("subscription_identifier_available", 1),
                ("shared_subscription_available", 1),
            ):
                assert connack.get(name) in (None, value), name
            assert connack.get("receive_maximum") in (None, *range(1, 65_536))
            assert connack.get("maximum_packet_size") is None or connack.get("maximum_packet_size") > 262_144
            assert connack.get("server_reference") is None

    asyncio.run(main())


@pytest.mark.parametrize("limit", [5, 20, 60])
def test_a_refusal_stays_within_the_clients_packet_size(open_arena: Any, limit: int) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            props = [("maximum_packet_size", limit)]
            answer = await arena.refused(0x86, 0x87, password=WRONG, props=props)
            assert answer.size <= limit

    asyncio.run(main())


def test_a_refusal_says_why(open_arena: Any) -> None:
    async def main() -> None:
        async with open_arena(V5) as arena:
            answer = await arena.refused(0x86, 0x87, password=WRONG)
            assert answer.get("reason_string")
            assert WRONG not in answer.get("reason_string")

    asyncio.run(main())

"""MQTT behind a proxy: the listener that demands a PROXY header, and the others, which refuse one."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hub.http.proxies import Proxies
from hub.proxy_protocol import SIGNATURE
from tests.hub.mqtt.conftest import Client
from tests.hub.pki import Authority

Open = Callable[..., Any]

FAR = b"PROXY TCP4 192.0.2.7 10.0.0.1 50123 1883\r\n"
FAR_2 = SIGNATURE + bytes.fromhex("2111000cc00002070a000001c3cb075b")
COUNTED = ("connections_accepted", "refused_connections")
TRUSTED = Proxies(["127.0.0.1"]).trusts


async def reached(world: Any, port: int, first: bytes = b"", tls: ssl.SSLContext | None = None) -> Client:
    """A connection on which `first` was sent before anything else, TLS included."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    if tls is not None:
        await writer.start_tls(tls)
    return cast(Client, world.keep(Client(reader, writer)))


async def refusals(world: Any) -> list[tuple[str, str]]:
    await asyncio.to_thread(world.hub.audit.flush)
    with world.hub.audit.reader() as reader:
        return [(line.address, line.detail) for line in reader.lines("kind = 'proxy'", [], 10)]


def test_both_versions_of_the_header_give_the_clients_address_to_policies(open_world: Open) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["gateway"],
        "actions": ["connect"],
        "effect": "deny",
        "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "192.0.2.0/24"}}},
    }

    async def main() -> None:
        async with open_world() as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            near = b"PROXY TCP4 198.51.100.7 10.0.0.1 50123 1883\r\n"
            health = SIGNATURE + bytes.fromhex("20000000")
            for announced in (FAR, FAR_2, near, health):
                client = await reached(world, port, announced)
                client.connect("sensor", world.ids["a"], world.keys["a"])
                assert await client.read() == (0x20, b"\x00\x00"), "there is no policy yet"
                client.cut()
            world.hub.registry.change_policies({"far": json.dumps(policy)}, 0.0)
            for announced, code in ((FAR, 5), (FAR_2, 5), (near, 0), (health, 0)):
                client = await reached(world, port, announced)
                client.connect("sensor", world.ids["a"], world.keys["a"])
                assert await client.read() == (0x20, bytes((0, code)))
                client.cut()

    asyncio.run(main())


def test_the_header_may_come_in_pieces_and_together_with_mqtt(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            for announced in (FAR, FAR_2):
                client = await reached(world, port)
                for byte in announced:
                    client.send(bytes((byte,)))
                    await client.writer.drain()
                    await asyncio.sleep(0)
                client.connect("sensor", world.ids["a"], world.keys["a"])
                assert await client.read() == (0x20, b"\x00\x00")
                client.cut()

    asyncio.run(main())


def test_strangers_of_one_address_leave_places_to_those_of_others(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(unauthenticated=20, unauthenticated_per_address=2) as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            near = b"PROXY TCP4 198.51.100.7 10.0.0.1 50123 1883\r\n"

            async def waiting(announced: bytes) -> Client:
                """Accepted, and nothing sent: a PINGREQ begins no CONNECT and ends it, so it is only half sent."""
                before = sum(world.door.counters[name] for name in COUNTED)
                client = await reached(world, port, announced + b"\xc0")
                while sum(world.door.counters[name] for name in COUNTED) == before:  # noqa: ASYNC110 (a gauge, not an event)
                    await asyncio.sleep(0)
                return client

            mine = [await waiting(FAR) for _ in range(2)]
            assert world.door.counters["refused_connections"] == 0
            assert await (await waiting(FAR)).closed()
            assert world.door.counters["refused_connections"] == 1
            others = await waiting(near)
            assert world.door.counters["refused_connections"] == 1
            mine[0].cut()
            while len(world.door._waiting) > 2:  # noqa: ASYNC110 (a gauge, not an event)
                await asyncio.sleep(0)
            await waiting(FAR)
            assert world.door.counters["refused_connections"] == 1
            for _ in range(5):  # the own host, whose proxies carry everybody's, is not counted
                await world.dial()
            await world.client("b")
            assert world.door.counters["refused_connections"] == 1
            others.cut()

    asyncio.run(main())


def test_tls_may_follow_the_header(open_world: Open, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    trust = ssl.create_default_context(cafile=str(authority.cert))
    trust.check_hostname = False

    async def main() -> None:
        async with open_world() as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED, ssl=context)
            client = await reached(world, port, FAR_2, trust)
            client.connect("sensor", world.ids["a"], world.keys["a"])
            assert await client.read() == (0x20, b"\x00\x00")
            client.cut()

    asyncio.run(main())


def test_the_listener_demands_the_header_and_takes_it_from_trusted_proxies_only(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            elsewhere = world.door.listen_behind_proxy("127.0.0.1", 0, Proxies(["10.0.0.0/8"]).trusts)
            client = await reached(world, port)
            client.connect("sensor", world.ids["a"], world.keys["a"])
            assert await client.closed()
            assert await (await reached(world, elsewhere, FAR)).closed()
            assert await refusals(world) == [
                ("127.0.0.1", "this listener is for trusted proxies only (http.trusted_proxies)"),
                ("127.0.0.1", "a connection begins with a PROXY header here"),
            ]
            assert world.door.counters["refused_announcements"] == 2

    asyncio.run(main())


def test_every_other_listener_refuses_the_header(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            for announced in (FAR, FAR_2):
                assert await (await reached(world, world.door.port, announced)).closed()
            assert await refusals(world) == [("127.0.0.1", "a PROXY header is taken on mqtt.proxy_port only")]

    asyncio.run(main())


def test_connections_that_say_nothing_are_bounded_in_number_and_time(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(unauthenticated=2) as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            clients = [await reached(world, port, FAR[:9]) for _ in range(3)]
            assert await clients[2].closed()
            assert [why for _, why in await refusals(world)] == [
                "too many connections that have not said whose they are"
            ]
        async with open_world(connect_timeout_s=0.2) as world:
            port = world.door.listen_behind_proxy("127.0.0.1", 0, TRUSTED)
            assert await (await reached(world, port, FAR[:9])).closed()
            assert {why for _, why in await refusals(world)} == {
                "too many connections that have not said whose they are",
                "no PROXY header has come",
            }

    asyncio.run(main())

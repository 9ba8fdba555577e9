"""The sockets: from which address an answer comes, what was sent to everybody, hosts without IPv6, start and end."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest
import uvloop

from hub.coap import CoapDoor
from hub.coap.admission import Address
from hub.coap.packets import CON, RST, Code, Opt, decode, encode_empty
from hub.topics import parse_filter

PING = encode_empty(CON, 0x1234)
PONG = encode_empty(RST, 0x1234)
PATIENCE_S = 20.0
GROUP = "224.0.1.187"  # All CoAP Nodes (RFC 7252, 12.8)


async def ask(family: int, host: str, port: int, wire: bytes) -> bytes:
    """The answer to one datagram, from exactly the address that was asked: the socket is connected."""
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((host, port))
        client.send(wire)
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().sock_recv(client, 2048)


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_answer_comes_from_the_address_that_was_asked(open_world: Any, host: str) -> None:
    async def main() -> None:
        async with open_world(host=host) as world:
            for asked in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
                assert await ask(socket.AF_INET, asked, world.door.port, PING) == PONG

    asyncio.run(main())


def test_ipv6_is_served_where_the_host_has_it(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(host="") as world:
            if socket.AF_INET6 in world.door._sockets:
                assert await ask(socket.AF_INET6, "::1", world.door.port, PING) == PONG
            assert await ask(socket.AF_INET, "127.0.0.1", world.door.port, PING) == PONG

    asyncio.run(main())


def test_host_without_ipv6_is_served_over_ipv4(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIPv6(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **more: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *args, **more)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("hub.coap.door.socket.socket", WithoutIPv6)
            async with open_world(host="") as world:
                patch.undo()
                assert list(world.door._sockets) == [socket.AF_INET]
                assert await ask(socket.AF_INET, "127.0.0.1", world.door.port, PING) == PONG

    asyncio.run(main())


def test_what_was_sent_to_everybody_is_not_answered(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(host="0.0.0.0") as world:
            port = world.door.port
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member,
            ):
                # Another program's membership is enough for the kernel to hand group messages to the door too.
                joined = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
                member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
                client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                client.setblocking(False)
                client.bind(("127.0.0.1", 0))
                client.sendto(PING, (GROUP, port))
                client.sendto(PING, ("127.255.255.255", port))
                client.sendto(encode_empty(CON, 0x4321), ("127.0.0.1", port))
                async with asyncio.timeout(PATIENCE_S):
                    answer = await asyncio.get_running_loop().sock_recv(client, 2048)
                assert answer == encode_empty(RST, 0x4321)
                assert world.counters["dropped_group"] == 2

    asyncio.run(main())


def test_door_runs_on_the_loop_of_the_gateway(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            assert (await client.post(b"x", fmt=42)).code == Code.CHANGED
            assert (await client.ask(Code.GET)).payload == b"x"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_port_that_is_taken_is_said(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            second = CoapDoor(world.hub, "127.0.0.1", world.door.port)
            with pytest.raises(OSError, match="in use"):
                await second.start()
            await second.close()

    asyncio.run(main())


def test_request_that_waits_for_the_disk_is_answered_before_the_door_closes(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            sent: list[bytes] = []
            world.door.endpoint.send = lambda data, _address: sent.append(data)
            world.door.receive(world.request(Code.POST, payload=b"x", fmt=42), Address(("192.0.2.1", 1)))
            assert sent == []
            await world.door.close()
            assert decode(sent[0]).code == Code.CHANGED

    asyncio.run(main())


def test_client_that_has_gone_costs_a_counter_and_one_line(
    open_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hub.coap")

    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.request(Code.GET, sub="x", options=((Opt.OBSERVE, b""),))
            await client.read()
            await client.pong()
            await client.fence()
            client.transport.close()  # from now on the kernel answers with ICMP
            publisher = await world.client()
            for n in range(40):
                await publisher.post(b"%d" % n, fmt=42, sub="x")
            for _ in range(60):
                world.pass_time(2)
            assert (world.counters["observers_now"], world.counters["lost_observers"]) == (0, 1)
            for n in range(20):  # nowhere that a datagram could go to
                world.door._send(PING, Address(("255.255.255.255", n + 1)))
            assert world.counters["send_errors"] == 20

    asyncio.run(main())
    assert len(caplog.records) == 1


def test_value_that_was_forgotten_during_its_search_is_kept_up_to_date(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(last_values=1) as world:
            client = await world.client()
            for n in range(300):
                principal = world.hub.authenticate_thing(world.keys["b"])
                sub = "one" if n == 0 else "other"
                world.hub.post(principal, "http", world.channel, sub, "application/octet-stream", b"%d" % n)
            await world.hub.log.flush()
            values = world.door._messages.values
            one, other = (
                parse_filter(f"channels/{world.channel}/messages/{sub}") for sub in ("one", "other")
            )
            searching = asyncio.create_task(values.search(one))
            await asyncio.sleep(0)
            assert (await values.search(other)).payload == b"299"  # pushes the first out
            assert (await searching).payload == b"0"
            await client.post(b"new", fmt=42, sub="one")
            assert (await client.ask(Code.GET, sub="one")).payload == b"new"

    asyncio.run(main())


def test_everything_a_door_holds_is_bounded_by_its_limits(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(downloads=3, downloads_bytes=5000, exchanges_bytes=2000) as world:
            client = await world.client()
            downloads = world.door._messages.downloads
            for n in range(6):
                await client.post(b"x" * 1500, fmt=42, sub=f"s{n}")
                first = await client.ask(Code.GET, sub=f"s{n}", options=((Opt.BLOCK2, b"\x02"),))
                assert first.uint(Opt.SIZE2) == 1500
            assert len(downloads) == 3
            for n in range(300):
                await client.post(b"x", thing="stranger" if n % 2 else "a")
            assert world.counters["forgotten_exchanges"] > 0
            assert world.door.endpoint.exchanges._bytes <= 2000

    asyncio.run(main())

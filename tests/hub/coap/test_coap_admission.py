"""What an unproven address can get out of the door, whatever it sends; and what strangers cost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hub.coap import MIGRATIONS, CoapDoor, Limits, admission
from hub.coap.admission import Address, Admission, Rates, Refused
from hub.coap.packets import CON, RST, Code, Opt, Packet, encode_empty, uint
from hub.coap.resource import LINKS
from hub.hub import Hub
from tests.hub.coap.seeds import CHANNEL, KEY, SEEDS, damage

HERE = Address(("192.0.2.1", 40000))
THERE = Address(("192.0.2.2", 40000))
WELL_KNOWN = (".well-known", "core")


class Mute(CoapDoor):
    """A door whose datagrams go nowhere but into a book."""

    book: Counter[Address]
    thing = ""
    passed_s = 0.0

    def __init__(self, *args: Any, **more: Any) -> None:
        self.book = Counter()
        self.out: list[tuple[bytes, Address]] = []
        super().__init__(*args, **more)

    def _send(self, data: bytes, address: Address) -> None:
        self.book[address] += len(data)
        self.out.append((data, address))


async def storm(
    folder: Path, seed: int, count: int, addresses: int, **limits: Any
) -> tuple[Counter[Address], Mute]:
    """Send `count` random datagrams from addresses that never answer; bytes in by address, and the door.

    Most addresses are seen once, `addresses` of them again and again. The channel's last value is a large one.
    """
    hub = Hub.open(folder, migrations=MIGRATIONS)
    thing, _ = hub.registry.create_thing("node", key=KEY)
    hub.registry.create_channel("room", id=CHANNEL)
    hub.registry.connect([CHANNEL], [thing.id])
    now = [1000.0]
    door = Mute(hub, "127.0.0.1", 0, limits=Limits(**limits), clock=lambda: now[0])
    door.thing = thing.id
    await door.start()
    rng = random.Random(seed)
    came: Counter[Address] = Counter()
    principal = hub.authenticate_thing(KEY)
    assert principal is not None
    for n in range(count):
        number = rng.randrange(addresses) if rng.random() < 0.4 else 1000 + n
        address = Address((f"198.51.{number >> 8}.{number & 255}", 5683))
        wire = rng.choice(SEEDS)
        if rng.random() < 0.6:
            wire = damage(rng, wire)
        if rng.random() < 0.05:
            wire = rng.randbytes(rng.randrange(40))
        came[address] += len(wire)
        door.receive(wire, address)
        if n % 20 == 0:
            await asyncio.sleep(0)
        if n % 200 == 0:
            hub.post(principal, "http", CHANNEL, "", "application/octet-stream", b"x" * 1000)
            now[0] += rng.random() * 30
            door.tick()
        if n % 500 == 0:
            await hub.log.flush()
    await hub.log.flush()
    for _ in range(200):
        now[0] += 2
        door.tick()
    door.passed_s = now[0] - 1000.0
    await door.close()
    await hub.close()
    return came, door


@pytest.mark.parametrize(("seed", "links"), [(1, LINKS), (2, LINKS * 20)], ids=["as it is", "long links"])
def test_no_address_gets_more_than_three_times_what_it_sent(
    tmp_path: Path, seed: int, links: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "hub.coap")
    monkeypatch.setattr("hub.coap.resource.LINKS", links)
    came, door = asyncio.run(storm(tmp_path, seed, 6000, 200, stranger_rate=1e6, stranger_burst=1e6))
    assert {address: sent for address, sent in door.book.items() if sent > 3 * came[address]} == {}
    assert sum(door.book.values()) > sum(came.values()) / 5  # they were answered
    assert door.counters["published"] > 50
    assert door.counters["lost_observers"] > 5
    assert (door.counters["echo_challenges"] > 50) == (links != LINKS)
    lines = [record.getMessage() for record in caplog.records]
    assert all(f"of {door.thing}: " in line for line in lines)  # what a stranger sends is not worth a line
    assert len(lines) <= door.passed_s
    assert door.counters["log_lines_held"] > len(lines)


def test_the_test_above_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.coap.endpoint.AMPLIFICATION", 1000)
    came, door = asyncio.run(storm(tmp_path, 1, 3000, 200, stranger_rate=1e6, stranger_burst=1e6))
    assert any(sent > 3 * came[address] for address, sent in door.book.items())


def test_strangers_are_answered_at_a_bounded_rate_and_things_beside_them_are_not_slowed(
    open_world: Any,
) -> None:
    async def main() -> None:
        async with open_world(stranger_rate=1, stranger_burst=5) as world:
            client = await world.client()
            for _ in range(20):
                client.request(Code.POST, None, queries=("auth=guess",))
            for _ in range(20):
                client.send(b"\x40\x01\x00\x01\xff")  # malformed
            client.request(Code.POST, payload=b"good", fmt=42)
            answers = [await client.read() for _ in range(6)]
            assert [packet.code for packet in answers] == [Code.UNAUTHORIZED] * 5 + [Code.CHANGED]
            assert world.counters["dropped_strangers"] == 15
            assert world.counters["malformed"] == 20

    asyncio.run(main())


def test_flood_of_one_address_is_dropped_before_it_is_parsed(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(address_rate=10, address_burst=20) as world:
            send = world.door.receive
            for n in range(100):
                send(encode_empty(CON, n), HERE)
            assert world.counters["dropped_rate"] == 80
            send(encode_empty(CON, 1), THERE)
            assert world.counters["dropped_rate"] == 80
            world.now[0] += 1
            send(encode_empty(CON, 1), HERE)
            assert world.counters["dropped_rate"] == 80

    asyncio.run(main())


def test_six_bytes_are_not_answered_with_a_thousand(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.send(b"\x40\x01\x00\x01\xb1\x00")
            assert len((await client.read()).payload) <= 12

    asyncio.run(main())


def test_links_that_are_too_large_for_the_question_are_shown_after_a_challenge(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"x" * 1000, fmt=42)
            short = world.request(Code.GET, None, path=WELL_KNOWN, token=b"")
            client.send(short)
            assert (await client.read()).code == Code.CONTENT
            monster = b"x" * 200
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("hub.coap.resource.LINKS", monster)
                client.send(short)
                challenge = await client.read()
                assert (challenge.code, challenge.payload) == (Code.UNAUTHORIZED, b"")
                echo = challenge.first(Opt.ECHO)
                options = ((Opt.ECHO, echo),)
                client.send(world.request(Code.GET, None, path=WELL_KNOWN, token=b"", options=options))
                assert (await client.read()).payload == monster
                client.send(short)
                assert (await client.read()).payload == monster
                world.pass_time(601)
                client.send(short)
                assert (await client.read()).code == Code.UNAUTHORIZED

    asyncio.run(main())


def test_echo_proves_only_the_address_it_was_sent_to_and_only_for_a_while() -> None:
    door = Admission(Limits(), b"s" * 32)
    value = door.echo(HERE, 100.0)
    assert door.check_echo(value, HERE, 100.0)
    assert door.check_echo(value, HERE, 160.0)
    assert not door.check_echo(value, HERE, 161.0)
    assert not door.check_echo(value, HERE, 99.0)
    assert not door.check_echo(value, THERE, 100.0)
    assert not Admission(Limits(), b"t" * 32).check_echo(value, HERE, 100.0)
    for at in range(len(value)):
        forged = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        assert not door.check_echo(forged, HERE, 100.0)
    for end in range(len(value)):
        assert not door.check_echo(value[:end], HERE, 100.0)


def test_proven_addresses_are_bounded_and_forgotten_in_time() -> None:
    door = Admission(Limits(proven_addresses=2), b"s" * 32)
    addresses = [Address((f"192.0.2.{n}", 1)) for n in range(3)]
    for address in addresses:
        door.prove(address, 0.0)
    assert [door.proven(address, 1.0) for address in addresses] == [False, True, True]
    assert not door.proven(addresses[2], 601.0)


def test_hosts_of_one_ipv6_network_share_a_rate() -> None:
    door = Admission(Limits(address_rate=1, address_burst=2), b"s" * 32)
    ping = encode_empty(CON, 1)
    taken = [door.admit(ping, Address((f"2001:db8::{n}", 1, 0, 0)), 0.0) for n in range(3)]
    assert [isinstance(one, Packet) for one in taken] == [True, True, False]
    assert isinstance(door.admit(ping, Address(("2001:db8:0:1::1", 1, 0, 0)), 0.0), Packet)
    link_local = door.admit(ping, Address(("fe80::1%eth0", 1, 0, 2)), 0.0)
    assert isinstance(link_local, Packet)


def test_rates_are_kept_in_fixed_memory() -> None:
    rates = Rates(1.0, 3.0, b"k" * 32)
    size = len(rates._free_at)
    for n in range(20_000):
        rates.take(b"%d" % n, 0.0)
    assert len(rates._free_at) == size == admission.SLOTS
    fresh = Rates(1.0, 3.0, b"k" * 32)
    assert [fresh.take(b"a", now) for now in (0, 0, 0, 0, 0.9, 1.1, 10, 10, 10, 10)] == [
        True, True, True, False, False, True, True, True, True, False,
    ]  # fmt: skip


def test_malformed_is_reset_and_what_is_not_for_us_is_passed_over(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.send(b"\x40\x01\x12\x34\xff")
            assert await client.read() == Packet(RST, 0, 0x1234, b"")
            client.send(encode_empty(CON, 0x1235))
            assert await client.read() == Packet(RST, 0, 0x1235, b"")
            client.send(b"\x40\x45\x12\x36")  # an answer to what was never asked
            assert await client.read() == Packet(RST, 0, 0x1236, b"")
            for wire in (
                b"\x50\x01\x12\x34\xff",
                b"\x50\x45\x12\x37",
                b"\x60\x00\x12\x38",
                b"\x80\x01\x00\x01",
            ):
                client.send(wire)
            assert await client.fence() == []

    asyncio.run(main())


def test_refused_datagram_says_which_counter_rises() -> None:
    door = Admission(Limits(), bytes(32))
    assert door.admit(b"", HERE, 0.0) == Refused(None, "malformed")
    refused = door.admit(b"\x40\x01\x12\x34\xff", HERE, 0.0)
    assert refused == Refused(encode_empty(RST, 0x1234), "malformed")


def test_own_fault_is_logged_once_a_second_and_the_next_datagram_is_served(
    open_world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()

            def broken(_exchange: object) -> None:
                raise RuntimeError("a bug")

            with monkeypatch.context() as patch:
                patch.setattr(world.door._messages, "handle", broken)
                for _ in range(5):
                    client.request(Code.POST)
                await client.fence()
            assert len(caplog.records) == 1
            assert world.counters["log_lines_held"] == 4
            assert (await client.post()).code == Code.CHANGED

    asyncio.run(main())


def test_refusals_of_things_are_logged_at_most_once_a_second(
    open_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hub.coap")

    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            for _ in range(20):
                assert (await client.post(b"[]", fmt=110)).code == Code.BAD_REQUEST
            for _ in range(20):
                assert (await client.post(thing=None)).code == Code.UNAUTHORIZED
            world.now[0] += 1
            assert (await client.post(thing="stranger")).code == Code.FORBIDDEN
            assert world.counters["log_lines_held"] == 19

    asyncio.run(main())
    first, second = [record.getMessage() for record in caplog.records]
    assert "4.00" in first
    assert "4.03 the thing is not connected to the channel" in second


def test_options_of_the_answer_are_within_what_is_reckoned(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"x" * 3000, fmt=42)
            answer = await client.ask(Code.GET, options=((Opt.OBSERVE, uint(0)),))
            assert sum(len(value) + 2 for _, value in answer.options) <= 48

    asyncio.run(main())

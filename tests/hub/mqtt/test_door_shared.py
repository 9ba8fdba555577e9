"""Shared subscriptions (MQTT 5.0, 4.8.2): who gets what, and what becomes of it when a member goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire

Open = Callable[..., Any]


def share(site: Any, group: str = "g", below: str = "/#") -> str:
    return f"$share/{group}/{site.topic}{below}"


async def payloads(client: Any) -> list[bytes]:
    """What has arrived, not acknowledged."""
    return [packet.payload for packet in await client.fence() if packet.kind == wire.PUBLISH]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member_in_turn(open_site: Open, qos: int) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            members = [await site.client("b", f"m{n}") for n in range(3)]
            for member in members:
                assert await member.subscribe((share(site), qos)) == (qos,)
            for n in range(9):
                if qos:
                    await sender.published(site.topic, b"%d" % n, qos)
                else:
                    sender.publish(site.topic, b"%d" % n)
            await sender.fence()
            got = [await payloads(member) for member in members]
            assert [len(each) for each in got] == [3, 3, 3]
            assert sorted(payload for each in got for payload in each) == [b"%d" % n for n in range(9)]

    asyncio.run(main())


def test_groups_are_apart_and_beside_ordinary_subscriptions(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender, one, two = [await site.client("b", name) for name in "abc"]
            await one.subscribe((share(site, "g"), 1), (share(site, "h"), 1))
            await two.subscribe((share(site, "g"), 1), (site.topic, 1))
            for n in range(2):
                await sender.published(site.topic, b"%d" % n)
            got = sorted(await payloads(one) + await payloads(two))
            assert got == [b"0"] * 3 + [b"1"] * 3

    asyncio.run(main())


def test_retained_messages_are_not_shown_to_a_group(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender, member = await site.client("a"), await site.client("b")
            await sender.published(site.topic, b"state", retain=True)
            await member.subscribe((share(site), 1))
            assert await payloads(member) == []

    asyncio.run(main())


def test_unacknowledged_qos_1_goes_to_another_member_when_the_connection_ends(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            first = await site.client("b", "m1")
            await first.subscribe((share(site), 1))
            for n in range(3):
                await sender.published(site.topic, b"%d" % n)
            assert await payloads(first) == [b"0", b"1", b"2"]
            second = await site.client("b", "m2", kept=True)
            await second.subscribe((share(site), 1))
            first.cut()
            got = [await second.message() for _ in range(3)]
            assert [(m.payload, m.dup) for m in got] == [(b"0", False), (b"1", False), (b"2", False)]
            assert await payloads(second) == []

    asyncio.run(main())


def test_begun_qos_2_stays_with_its_session_and_the_rest_goes_on(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            keeper = await site.client("b", "keeper", kept=True)
            await keeper.subscribe((share(site), 2))
            await sender.published(site.topic, b"begun", 2)
            begun = await keeper.message(acknowledge=False)
            other = await site.client("b", "other")
            await other.subscribe((share(site), 2))
            keeper.cut()
            await site.gone(2)
            await sender.published(site.topic, b"next", 2)
            assert (await other.message()).payload == b"next"
            assert await payloads(other) == []
            keeper = await site.client("b", "keeper", kept=True)
            again = await keeper.message()
            assert (again.payload, again.packet_id, again.dup) == (b"begun", begun.packet_id, True)

    asyncio.run(main())


def test_messages_wait_for_a_group_whose_members_are_away_also_over_a_restart(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            for name in ("m1", "m2"):
                member = await site.client("b", name, kept=True)
                await member.subscribe((share(site), 1))
                await member.leave()
            assert (await sender.published(site.topic, b"0")).code == 0
            await sender.published(site.topic, b"1", 2)
            assert (await sender.published(site.topic + "-", b"elsewhere")).code == 0x90
        async with open_site() as site:
            sender = await site.client("a")
            await sender.published(site.topic, b"2")
            member = await site.client("b", "m2", kept=True)
            assert [(await member.message()).payload for _ in range(3)] == [b"0", b"1", b"2"]
            await member.leave()
            other = await site.client("b", "m1", kept=True)
            assert await payloads(other) == []

    asyncio.run(main())


def test_what_a_member_without_kept_session_held_is_given_out_again_after_a_restart(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            short = await site.client("b", "short")
            await short.subscribe((share(site), 1))
            await sender.published(site.topic, b"held")
            assert await payloads(short) == [b"held"]
            keeper = await site.client("b", "keeper", kept=True)
            await keeper.subscribe((share(site), 1))
            await keeper.leave()
        async with open_site() as site:
            keeper = await site.client("b", "keeper", kept=True)
            assert (await keeper.message()).payload == b"held"

    asyncio.run(main())


def test_full_members_are_passed_over_and_the_rest_waits_in_the_log(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            small = await site.client("b", "small", props=[("receive_maximum", 1)])
            large = await site.client("b", "large", props=[("receive_maximum", 3)])
            for member in (small, large):
                await member.subscribe((share(site), 1))
            for n in range(8):
                await sender.published(site.topic, b"%d" % n)
            held = [packet for member in (small, large) for packet in await member.fence()]
            assert len(held) == 4
            for packet in held[1:]:
                await large.acknowledge(packet)
            got = [packet.payload for packet in held] + [(await large.message()).payload for _ in range(4)]
            assert sorted(got) == [b"%d" % n for n in range(8)]
            assert await payloads(small) == []

    asyncio.run(main())


def test_member_that_lost_its_right_gets_nothing_more(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender, member = await site.client("a"), await site.client("b")
            own = await site.client("a", "member")
            for client in (member, own):
                await client.subscribe((share(site), 1))
            site.world.hub.registry.disconnect([site.world.channel], [site.world.ids["b"]])
            await member.closed_for(0x98)
            for n in range(3):
                await sender.published(site.topic, b"%d" % n)
            assert await payloads(own) == [b"0", b"1", b"2"]
            stranger = await site.client("stranger")
            assert await stranger.subscribe((share(site), 1)) == (0x87,)

    asyncio.run(main())


def test_groups_are_bounded_and_end_with_their_last_member(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(shared_groups=2) as site:
            member = await site.client("b")
            wanted = [(share(site, f"g{n}"), 1) for n in range(3)]
            assert await member.subscribe(*wanted) == (1, 1, 0x97)
            assert site.world.door.counters["refused_subscriptions"] == 1
            assert await member.unsubscribe(wanted[0][0], wanted[2][0]) == (0, 0x11)
            assert await member.subscribe(wanted[2]) == (1,)
            await member.leave()
            assert site.world.door.delivery.shared.groups == {}

    asyncio.run(main())


def test_group_of_an_expired_session_is_no_more(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            member = await site.client("b", clean=False, props=[("session_expiry_interval", 100)])
            await member.subscribe((share(site), 1))
            await member.leave()
            assert len(site.world.door.delivery.shared.groups) == 1
            site.pass_time(101)
            assert site.world.door.delivery.shared.groups == {}
            await site.world.door.intake.drain()
            assert site.world.hub.log.query("SELECT * FROM mqtt_group") == []

    asyncio.run(main())


def test_a_client_of_3_1_1_may_share_too(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            members = [await world.client("b", name) for name in ("m1", "m2")]
            for member in members:
                assert await member.subscribe((f"$share/g/{world.topic}", 1)) == b"\x01"
            for n in (1, 2):
                a.publish(world.topic, b"x", 1, n)
                await a.read()
            assert [len(await member.fence()) for member in members] == [1, 1]

    asyncio.run(main())

"""A client of MQTT 5 whom retention overtakes is told how many messages it missed: by CONNACK or PUBLISH."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.mqtt.session import Session
from tests.hub.mqtt.conformance import wire

Open = Callable[..., Any]
SENT = 400
PATIENCE_S = 60.0  # on a machine whose disk is busy
SLOW = ("receive_maximum", 2)
LASTING = ("session_expiry_interval", 1000)


async def flooded(site: Any, sender: Any, count: int = SENT) -> None:
    """More messages than the log keeps; returns when it has let go of those that are too many."""
    for n in range(count):
        sender.publish(site.topic, b"%d" % n, 1)
    for _ in range(count):
        await sender.expect(wire.PUBACK)
    log = site.world.hub.log
    async with asyncio.timeout(PATIENCE_S):
        while log.committed_seq - log.first_seq > log.limits.max_messages + 64:  # noqa: ASYNC110 (a gauge)
            await asyncio.sleep(0)


def missed(packet: Any) -> list[int]:
    return [int(value) for name, value in packet.all("user_property") if name == "missed"]


async def all_of(client: Any, last: bytes = b"%d" % (SENT - 1)) -> list[Any]:
    """What comes up to the last message, acknowledged."""
    found = [await client.message()]
    while found[-1].payload != last:
        found.append(await client.message())
    return found


def test_a_connected_client_that_falls_behind_is_told_once_with_the_next_message(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender, slow = await site.client("a"), await site.client("b", props=[SLOW])
            await slow.subscribe((site.topic, 1))
            await flooded(site, sender)
            found = await all_of(slow)
            assert [missed(packet) for packet in found[:2]] == [[], []]  # sent before there was a loss
            told = [count for packet in found for count in missed(packet)]
            assert sum(told) == SENT - len(found) > 0
            assert missed(found[2])
            assert site.world.door.counters["lost_to_retention"] == sum(told)

    asyncio.run(main())


def test_the_control_nothing_is_told_where_nothing_is_missing(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender, slow = await site.client("a"), await site.client("b", props=[SLOW])
            await slow.subscribe((site.topic, 1))
            await flooded(site, sender)
            found = await all_of(slow)
            assert len(found) == SENT
            assert not [count for packet in found for count in missed(packet)]

    asyncio.run(main())


def test_who_did_not_acknowledge_being_told_is_told_again(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender = await site.client("a")
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            await slow.subscribe((site.topic, 1))
            await flooded(site, sender)
            await slow.message()
            await slow.message()
            (count,) = missed(await slow.message(acknowledge=False))
            slow.cut()
            await site.gone(1)
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            assert missed(slow.connack) == [count]
            slow.cut()  # nor is CONNACK known to be read
            await site.gone(1)
        async with open_site(log_messages=100) as site:  # and over a restart
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            assert missed(slow.connack) == [count]
            found = await all_of(slow)
            assert not [count for packet in found for count in missed(packet)]
            await slow.fence()
            await slow.leave()
            await site.gone(0)
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            assert slow.connack.session_present
            assert missed(slow.connack) == []

    asyncio.run(main())


def test_what_was_in_flight_and_is_gone_counts(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender = await site.client("a")
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            await slow.subscribe((site.topic, 1))
            await sender.published(site.topic, b"first")
            await slow.message(acknowledge=False)
            await slow.leave()
            await site.gone(1)
            await flooded(site, sender)
            slow = await site.client("b", "slow", clean=False, props=[SLOW, LASTING])
            found = await all_of(slow)
            told = [count for packet in [slow.connack, *found] for count in missed(packet)]
            assert sum(told) == SENT + 1 - len(found)

    asyncio.run(main())


def test_a_client_that_takes_no_larger_packet_gets_its_message_without(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender, probe = await site.client("a"), await site.client("b", "probe")
            await probe.subscribe((site.topic, 1))
            await sender.published(site.topic, b"399")
            exact = [SLOW, ("maximum_packet_size", (await probe.message()).size + 4)]  # numbers get longer
            await probe.leave()
            slow = await site.client("b", props=exact)
            await slow.subscribe((site.topic, 1))
            await flooded(site, sender)
            found = await all_of(slow)
            assert not [count for packet in found for count in missed(packet)]
            assert 2 < len(found) < SENT

    asyncio.run(main())


@pytest.mark.parametrize("kept", [False, True])
def test_a_shared_subscription_tells_the_member_that_gets_its_next_message(
    open_site: Open, kept: bool
) -> None:
    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender, slow = await site.client("a"), await site.client("b", kept=kept, props=[SLOW])
            await slow.subscribe((f"$share/g/{site.topic}", 1))
            await flooded(site, sender)
            found = await all_of(slow)
            told = [count for packet in found for count in missed(packet)]
            assert sum(told) == SENT - len(found) > 0

    asyncio.run(main())


def test_a_client_of_3_1_1_gets_the_rest_and_is_told_nothing(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(log_messages=100, in_flight=2) as site:
            sender, slow = await site.client("a"), await site.client("b", version=wire.V4)
            await slow.subscribe((site.topic, 1))
            await flooded(site, sender)
            found = await all_of(slow)
            assert 2 < len(found) < SENT
            assert site.world.door.counters["lost_to_retention"] == SENT - len(found)

    asyncio.run(main())


def test_a_packet_that_told_and_was_dropped_has_not_told() -> None:
    session = Session("thing", "client", kept=True, window=4, max_receiving=3)
    session.missed = 7
    told = session.send(1, 1)
    session.telling = told, session.untold
    assert session.untold == 0
    session.drop(told)
    assert session.untold == 7


def test_rows_of_before_there_was_anything_to_tell_are_read() -> None:
    session = Session("thing", "client", kept=True, window=4, max_receiving=3)
    session.load(b'{"subscriptions":{},"cursor":5,"in_flight":{},"receiving":[],"waiting":[]}')
    assert (session.cursor, session.missed) == (5, 0)

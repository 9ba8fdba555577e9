"""What time decides, over restarts of the gateway and reboots of its machine: expiry of sessions and wills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.message import TimeQuality
from hub.mqtt.moments import Moment, moment, on_this_clock, seconds_since
from tests.hub.mqtt.conformance import wire

Open = Callable[..., Any]
HOUR_NS = 3_600_000_000_000


def at(hours: float, quality: TimeQuality = TimeQuality.NTP) -> Callable[[], tuple[int, TimeQuality]]:
    """A wall clock that stands still."""
    return lambda: (int(hours * HOUR_NS), quality)


def expiring(seconds: int) -> dict[str, Any]:
    return {"clean": False, "props": [("session_expiry_interval", seconds)]}


@pytest.mark.parametrize("later_s", [99, 101])
def test_session_expires_on_the_monotonic_clock_over_a_restart(open_site: Open, later_s: int) -> None:
    async def main() -> None:
        async with open_site(at_s=5000.0) as site:
            client = await site.client("b", "keeper", **expiring(100))
            await client.leave()
            site.pass_time(1)
        async with open_site(at_s=5000.0 + later_s) as site:
            site.pass_time(0)
            client = await site.client("b", "keeper", **expiring(100))
            assert client.connack.session_present == (later_s < 100)
            assert site.world.door.counters["sessions_expired"] == (later_s > 100)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("before", "after", "mono_s", "present"),
    [
        pytest.param(at(10), at(10.5), 0.0, True, id="half of it by the wall clock"),
        pytest.param(at(10), at(11.5), 0.0, False, id="longer by the wall clock"),
        pytest.param(at(10), at(9), 0.0, True, id="a wall clock that went back"),
        pytest.param(at(10), at(99, TimeQuality.UNSET), 0.0, True, id="nobody knows the time now"),
        pytest.param(at(10, TimeQuality.UNSET), at(99), 0.0, True, id="nobody knew the time then"),
        pytest.param(at(10, TimeQuality.UNSET), at(99), 3601.0, False, id="but this run was long enough"),
    ],
)
def test_over_a_reboot_only_a_trusted_wall_clock_counts(
    open_site: Open, before: Any, after: Any, mono_s: float, present: bool
) -> None:
    async def main() -> None:
        async with open_site(boot="first", clock=before) as site:
            await (await site.client("b", "keeper", **expiring(3600))).leave()
        async with open_site(boot="second", clock=after, at_s=7.0) as site:
            site.world.pass_time(mono_s)
            client = await site.client("b", "keeper", **expiring(3600))
            assert client.connack.session_present is present

    asyncio.run(main())


def test_the_wall_clock_may_be_set_after_the_start(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(boot="first", clock=at(10)) as site:
            await (await site.client("b", "keeper", **expiring(3600))).leave()
        async with open_site(boot="second", clock=at(0, TimeQuality.UNSET)) as site:
            site.world.pass_time(10)
            assert site.world.door.counters["sessions_expired"] == 0
            site.world.hub.clock = at(11.5)
            site.world.pass_time(1)
            assert site.world.door.counters["sessions_expired"] == 1

    asyncio.run(main())


def stamps(packet: Any) -> tuple[str, str]:
    said = dict(packet.all("user_property"))
    return said["created_ns"], said["time"]


def test_time_found_wrong_is_corrected_in_kept_shared_and_retained_messages_over_a_restart(
    open_site: Open,
) -> None:
    async def main() -> None:
        wrong = {"boot": "b-1", "clock": at(1, TimeQuality.UNSET)}
        async with open_site(**wrong) as site:
            keeper = await site.client("b", "keeper", **expiring(1000))
            await keeper.subscribe((site.topic, 1))
            sharer = await site.client("b", "sharer", **expiring(1000))
            await sharer.subscribe((f"$share/g/{site.topic}", 1))
            for client in (keeper, sharer):
                await client.leave()
            sender = await site.client("a")
            await sender.published(site.topic, b"early", retain=True)
            site.world.hub.log.correct("another boot", 7 * HOUR_NS, TimeQuality.NTP)
            fresh = await site.client("b", "before")
            await fresh.subscribe((site.topic, 1))
            # Control: until this boot's clock is set, the message says what was known.
            assert stamps(await fresh.message()) == (str(HOUR_NS), "unset")
            site.world.hub.log.correct("b-1", 2 * HOUR_NS, TimeQuality.NTP)
            await site.world.hub.log.flush()
        async with open_site(boot="b-1", clock=at(3)) as site:
            mended = (str(3 * HOUR_NS), "ntp")
            for name in ("keeper", "sharer"):
                client = await site.client("b", name, **expiring(1000))
                assert client.connack.session_present
                found = await client.message()
                assert (found.payload, *stamps(found)) == (b"early", *mended), name
            fresh = await site.client("b", "after")
            await fresh.subscribe((site.topic, 1))
            kept = await fresh.message()
            assert (kept.retain, *stamps(kept)) == (True, *mended)

    asyncio.run(main())


def test_moments_are_compared_as_far_as_they_can_be() -> None:
    started = Moment("b", 100.0, 0, False)
    now = moment("b", 150.0, (20 * 10**9, TimeQuality.NTP))
    assert seconds_since(Moment("b", 120.0, 0, False), now, started) == 30
    assert seconds_since(Moment("b", 999.0, 0, False), now, started) == 0
    assert seconds_since(Moment("a", 1.0, 0, True), now, started) == 50
    assert on_this_clock(Moment("b", 120.0, 0, False), now, started).mono_s == 120.0
    assert on_this_clock(Moment("a", 1.0, -(10**12), True), now, started).mono_s == 150.0 - 1020
    untrusted = Moment("a", 1.0, -(10**12), False)
    assert on_this_clock(untrusted, now, started) is untrusted


def delayed(site: Any, seconds: int, payload: bytes = b"late", **more: Any) -> wire.Will:
    return wire.Will(site.topic + "/will", payload, props=[("will_delay_interval", seconds)], **more)


async def wills(client: Any) -> list[bytes]:
    return [packet.payload for packet in await client.fence() if packet.kind == wire.PUBLISH]


def test_will_waits_for_its_delay_and_is_dropped_when_the_client_is_back(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener = await site.client("b")
            await listener.subscribe((site.topic + "/will", 0))
            client = await site.client("a", "dying", will=delayed(site, 30), **expiring(100))
            client.cut()
            await site.gone(1)
            site.pass_time(29)
            assert await wills(listener) == []
            assert site.world.door.counters["wills_waiting"] == 1
            client = await site.client("a", "dying", will=delayed(site, 30), **expiring(100))
            site.pass_time(40)
            assert await wills(listener) == []
            client.cut()
            await site.gone(1)
            site.pass_time(31)
            assert await wills(listener) == [b"late"]
            site.pass_time(40)
            assert await wills(listener) == []
            assert site.world.door.counters["wills"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("how", ["expiry", "clean start", "expiry 0"])
def test_will_is_due_when_its_session_ends_before_the_delay(open_site: Open, how: str) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener = await site.client("b")
            await listener.subscribe((site.topic + "/will", 0))
            expiry = expiring(0 if how == "expiry 0" else 20)
            client = await site.client("a", "dying", will=delayed(site, 1000), **expiry)
            client.cut()
            await site.gone(1)
            if how != "expiry 0":
                assert await wills(listener) == []
            if how == "expiry":
                site.pass_time(21)
            elif how == "clean start":
                await site.client("a", "dying", clean=True)
            assert await wills(listener) == [b"late"]

    asyncio.run(main())


def test_waiting_will_survives_a_restart_and_is_published_once(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(at_s=1000.0) as site:
            client = await site.client("a", "dying", will=delayed(site, 60, qos=1), **expiring(1000))
            client.cut()
            await site.gone(0)
        for start_s, expected in ((1030.0, []), (1070.0, [b"late"]), (1100.0, [b"late"])):
            async with open_site(at_s=start_s) as site:
                site.pass_time(1)
                await site.world.door.intake.drain()
                assert [m.payload for m in site.world.hub.log.read(0)] == expected

    asyncio.run(main())


def test_will_of_a_kept_session_is_published_after_the_gateway_was_killed(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            await site.client("a", "dying", will=delayed(site, 5), **expiring(1000))
            await site.world.door.intake.drain()
            rows = site.world.hub.log.query("SELECT thing, client, state FROM mqtt_session")
        async with open_site() as site:
            # As the row was while the client was connected: that is what a kill leaves.
            write = ("UPDATE mqtt_session SET state = ? WHERE client = ?", (rows[0][2], rows[0][1]))
            await site.world.hub.log.write([write])
        async with open_site() as site:
            listener = await site.client("b")
            await listener.subscribe((site.topic + "/will", 0))
            site.pass_time(4)
            assert await wills(listener) == []
            site.pass_time(2)
            assert await wills(listener) == [b"late"]

    asyncio.run(main())


def test_will_of_a_thing_that_was_removed_or_lost_its_right_is_not_published(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            registry, ids = site.world.hub.registry, site.world.ids
            for name in ("a", "b"):
                client = await site.client(name, "dying", will=delayed(site, 5), **expiring(1000))
                client.cut()
            await site.gone(0)
            registry.disconnect([site.world.channel], [ids["a"]])
            registry.remove_thing(ids["b"])
            site.pass_time(6)
            await site.world.hub.log.write(())
            assert site.world.hub.log.read(0) == []
            assert site.world.door.counters["wills"] == 0

    asyncio.run(main())


def test_longest_expiry_is_a_limit_and_said(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(session_expiry_s=50) as site:
            client = await site.client("b", "keeper", **expiring(100))
            assert client.connack.get("session_expiry_interval") == 50
            await client.leave(0, [("session_expiry_interval", 1000)])
            site.pass_time(51)
            assert site.world.door.counters["sessions_expired"] == 1
            short = await site.client("b", "short", **expiring(10))
            assert short.connack.get("session_expiry_interval") is None

    asyncio.run(main())


@pytest.mark.parametrize("waited_s", [4, 6])
def test_message_expiry_counts_down_while_it_waits_and_then_it_is_gone(
    open_site: Open, waited_s: int
) -> None:
    async def main() -> None:
        async with open_site() as site:
            keeper = await site.client("b", "keeper", **expiring(1000))
            await keeper.subscribe((site.topic, 1))
            await keeper.leave()
            sender = await site.client("a")
            props = [("message_expiry_interval", 5)]
            await sender.published(site.topic, b"short", props=props)
            await sender.published(site.topic + "/state", b"state", retain=True, props=props)
            await sender.published(site.topic, b"long")
            site.pass_time(waited_s)
            keeper = await site.client("b", "keeper", **expiring(1000))
            got = [await keeper.message()]
            if waited_s < 5:
                assert got[0].get("message_expiry_interval") == 5 - waited_s
                got.append(await keeper.message())
            assert got[-1].payload == b"long"
            await keeper.subscribe((site.topic + "/state", 0))
            assert await wills(keeper) == ([b"state"] if waited_s < 5 else [])
            assert site.world.door.counters["expired"] == (0 if waited_s < 5 else 2)
            site.pass_time(60)
            assert len(site.world.door.retained) == 0

    asyncio.run(main())


def test_setting_the_clock_expires_nothing(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(clock=at(0, TimeQuality.UNSET)) as site:
            keeper = await site.client("b", "keeper", **expiring(1000))
            await keeper.subscribe((site.topic, 1))
            await keeper.leave()
            sender = await site.client("a")
            await sender.published(site.topic, b"x", props=[("message_expiry_interval", 5)])
            site.world.hub.clock = at(1_000_000)
            keeper = await site.client("b", "keeper", **expiring(1000))
            found = await keeper.message()
            assert (found.payload, found.get("message_expiry_interval")) == (b"x", 5)

    asyncio.run(main())

"""Kept sessions: what a client finds when it comes back, to the same server and to one that started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]


def test_kept_session_gets_what_was_published_meanwhile_in_order(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            b, present = await world.session("b", "keeper", clean=False)
            assert not present
            await b.subscribe((b.topic + "/#", 1))
            b.send(b"\xe0\x00")
            assert await b.closed()
            for n in range(5):
                a.publish(a.topic, b"%d" % n, n % 3, n + 1 if n % 3 else 0)
                await a.fence()
            b, present = await world.session("b", "keeper", clean=False)
            assert present
            got = [await b.message() for _ in range(3)]
            assert [(m[1], m[2], m[5]) for m in got] == [(b"1", 1, False), (b"2", 1, False), (b"4", 1, False)]
            assert await b.fence() == []

    asyncio.run(main())


def test_clean_connect_drops_the_kept_session(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 1))
            b.cut()
            await world.gone()
            b, present = await world.session("b", "keeper", clean=True)
            assert not present
            b.cut()
            await world.gone()
            b, present = await world.session("b", "keeper", clean=False)
            assert not present
            b.publish(b.topic, b"x")
            assert await b.fence() == []

    asyncio.run(main())


def test_unacknowledged_messages_come_again_with_dup_same_ids_and_order(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 2))
            for n in range(1, 5):
                a.publish(a.topic, b"%d" % n, 1 + n % 2, n)
            first = {m[1]: m for m in [await b.message() for _ in range(4)]}
            b.send(b"\x40\x02" + first[b"2"][3].to_bytes(2, "big"))
            b.send(b"\x50\x02" + first[b"1"][3].to_bytes(2, "big"))
            assert await b.read() == (0x62, first[b"1"][3].to_bytes(2, "big"))
            b.cut()
            await world.gone(1)
            b, present = await world.session("b", "keeper", clean=False)
            assert present
            again = [await b.read() for _ in range(3)]
            ids = {n: first[n][3].to_bytes(2, "big") for n in first}
            expected = {
                b"1": (0x62, ids[b"1"]),
                b"3": (0x3C, len(b.topic).to_bytes(2, "big") + b.topic.encode() + ids[b"3"] + b"3"),
                b"4": (0x3A, len(b.topic).to_bytes(2, "big") + b.topic.encode() + ids[b"4"] + b"4"),
            }
            order = sorted(expected, key=lambda n: first[n][3])
            assert again == [expected[n] for n in order]

    asyncio.run(main())


def test_kept_session_survives_a_restart_with_its_subscription_cursor_and_ids(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 2))
            a.publish(a.topic, b"two", 2, 1)
            assert (await a.read())[0] == 0x50
            held = await b.message()
            b.publish(b.topic + "/up", b"half", 2, 77)
            assert await b.read() == (0x50, b"\x00\x4d")
        async with open_world() as world:
            a = await world.client("a")
            a.publish(a.topic, b"later", 1, 1)
            assert (await a.read())[0] == 0x40
            b, present = await world.session("b", "keeper", clean=False)
            assert present
            assert await b.message() == (*held[:5], True)
            assert (await b.message())[1] == b"later"
            b.publish(b.topic + "/up", b"half", 2, 77, dup=True)
            assert await b.read() == (0x50, b"\x00\x4d")
            assert [m.payload for m in world.hub.log.read(0)] == [b"two", b"half", b"later"]
            b.send(b"\x62\x02\x00\x4d")
            assert await b.read() == (0x70, b"\x00\x4d")

    asyncio.run(main())


def test_session_of_another_thing_with_the_same_client_id_is_not_touched(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            b, _ = await world.session("b", "same", clean=False)
            await b.subscribe((b.topic, 1))
            b.cut()
            await world.gone()
            stranger, present = await world.session("stranger", "same", clean=True)
            assert not present
            assert await stranger.fence() == []
            bad = await world.dial()
            bad.connect("same", world.ids["b"], "no key of b, but as long", clean=True)
            assert await bad.read() == (0x20, b"\x00\x04")
            _, present = await world.session("b", "same", clean=False)
            assert present

    asyncio.run(main())


def test_takeover_closes_the_old_connection_and_keeps_the_session(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            old, _ = await world.session("b", "keeper", clean=False)
            await old.subscribe((old.topic, 1))
            new, present = await world.session("b", "keeper", clean=False)
            assert present
            assert await old.closed()
            new.publish(new.topic, b"x", 1, 1)
            assert {(await new.read())[0] for _ in range(2)} == {0x40, 0x32}
            assert world.door.counters["takeovers"] == 1

    asyncio.run(main())


def test_full_window_waits_in_the_log_and_goes_on_as_acknowledgements_come(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(in_flight=3) as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic, 1))
            for n in range(20):
                a.publish(a.topic, b"%d" % n, 1, n + 1)
            for _ in range(20):
                assert (await a.read())[0] == 0x40
            assert len(await b.fence()) == 3
            got = []
            for packet_id in (1, 2, 3):
                b.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
            while len(got) < 17:
                _, payload, _, packet_id, _, dup = await b.message()
                assert not dup
                got.append(payload)
                b.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
            assert got == [b"%d" % n for n in range(3, 20)]
            assert await b.fence() == []

    asyncio.run(main())


def test_subscription_does_not_bring_what_is_older_than_itself(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(in_flight=1) as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic + "/x", 1))
            b.cut()
            await world.gone(1)
            for n, (sub, payload) in enumerate([("/x", b"first"), ("/y", b"before"), ("/x", b"second")], 1):
                a.publish(a.topic + sub, payload, 1, n)
                await a.read()
            b, _ = await world.session("b", "keeper", clean=False)
            assert (await b.message())[1] == b"first"
            await b.subscribe((b.topic + "/y", 1), packet_id=2)
            a.publish(a.topic + "/y", b"after", 1, 9)
            b.send(b"\x40\x02\x00\x01")
            _, payload, _, packet_id, _, _ = await b.message()
            assert payload == b"second"
            b.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
            assert (await b.message())[1] == b"after"

    asyncio.run(main())


def test_damaged_session_row_starts_afresh_and_says_so(
    open_world: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world() as world:
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 1))
            b.cut()
            await world.gone()
            await world.hub.log.write([("UPDATE mqtt_session SET state = '{'", ())])
            await world.door.intake.drain()
            await world.hub.log.write([("UPDATE mqtt_session SET state = '{'", ())])
        async with open_world() as world:
            _, present = await world.session("b", "keeper", clean=False)
            assert not present

    asyncio.run(main())
    assert "damaged" in caplog.text


def test_messages_lost_to_retention_are_counted_not_hidden(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(log_messages=100) as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 1))
            b.cut()
            await world.gone(1)
            for n in range(400):
                a.publish(a.topic, b"%d" % n, 1, n + 1)
            for _ in range(400):
                await a.read()
            b, _ = await world.session("b", "keeper", clean=False)
            first = int((await b.message())[1])
            assert first > 0
            assert world.door.counters["lost_to_retention"] == first

    asyncio.run(main())


def test_sessions_far_behind_read_the_log_in_turn_and_go_over_to_what_is_in_memory(
    open_world: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.mqtt.delivery.TAIL_MESSAGES", 10)
    monkeypatch.setattr("hub.mqtt.delivery.SCAN_ROWS", 7)
    monkeypatch.setattr("hub.mqtt.delivery.LOG_ROWS", 7)

    async def main() -> None:
        async with open_world(in_flight=4) as world:
            a = await world.client("a")
            readers = [await world.client("b", f"reader-{n}") for n in range(3)]
            for b in readers:
                await b.subscribe((b.topic + "/wanted", 1))
            for n in range(300):
                a.publish(a.topic + ("/wanted" if n % 3 else "/other"), b"%d" % n, 1, n + 1)
            for _ in range(300):
                await a.read()

            async def all_of(b: Any) -> list[int]:
                got = []
                while len(got) < 200:
                    _, payload, _, packet_id, _, dup = await b.message()
                    assert not dup
                    got.append(int(payload))
                    b.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
                return got

            for got in await asyncio.gather(*map(all_of, readers)):
                assert got == [n for n in range(300) if n % 3]
            assert [await b.fence() for b in readers] == [[], [], []]

    asyncio.run(main())

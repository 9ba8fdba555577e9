"""Each bound of the door is filled, and what happens then is what `limits` says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from hub.mqtt.replies import encode_publish

Open = Callable[..., Any]


async def refused(
    client: Any, world: Any, thing: str = "a", client_id: str = "one more", **connect: Any
) -> bytes:
    client.connect(client_id, world.ids[thing], world.keys[thing], **connect)
    first, body = await client.read()
    assert first == 0x20
    assert await client.closed()
    return body


def test_no_connect_in_time_closes(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(connect_timeout_s=10) as world:
            silent, slow, good = await world.dial(), await world.dial(), await world.client("a")
            slow.send(b"\x10\x20\x00")
            await good.fence()
            world.pass_time(9)
            assert world.door.counters["connect_timeouts"] == 0
            world.pass_time(2)
            assert await silent.closed()
            assert await slow.closed()
            assert world.door.counters["connect_timeouts"] == 2
            assert await good.fence() == []

    asyncio.run(main())


def test_a_large_first_packet_closes_before_it_has_arrived(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(connect_bytes=200) as world:
            client = await world.dial()
            client.send(b"\x10\xff\x7f")
            assert await client.closed()
            assert world.door.counters["malformed"] == 1

    asyncio.run(main())


def test_connections_without_connect_are_bounded(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(unauthenticated=2) as world:
            waiting = [await world.dial() for _ in range(2)]
            assert await (await world.dial()).closed()
            assert world.door.counters["refused_connections"] == 1
            waiting[0].connect("c", world.ids["a"], world.keys["a"])
            assert await waiting[0].read() == (0x20, b"\x00\x00")
            await world.client("b")

    asyncio.run(main())


@pytest.mark.parametrize("limit", ["connections", "connections_per_thing"])
def test_connections_are_bounded_but_a_takeover_is_always_let_in(open_world: Open, limit: str) -> None:
    async def main() -> None:
        async with open_world(**{limit: 2}) as world:
            for n in range(2):
                await world.client("a", f"c{n}")
            assert await refused(await world.dial(), world) == b"\x00\x03"
            assert world.door.counters["refused_connections"] == 1
            await world.client("a", "c1")
            if limit == "connections_per_thing":
                await world.client("b")

    asyncio.run(main())


@pytest.mark.parametrize("limit", ["sessions", "sessions_per_thing"])
def test_kept_sessions_are_bounded_and_one_can_be_cleared(open_world: Open, limit: str) -> None:
    async def main() -> None:
        async with open_world(**{limit: 2}) as world:
            for n in range(2):
                await world.session("a", f"c{n}", clean=False)
            assert await refused(await world.dial(), world, clean=False) == b"\x00\x03"
            assert world.door.counters["refused_sessions"] == 1
            await world.session("a", "c0", clean=True)
            await world.session("a", "one more", clean=False)

    asyncio.run(main())


def test_a_packet_larger_than_allowed_closes(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(packet_bytes=1000) as world:
            client = await world.client("a")
            client.send(b"\x30\xe6\x07")  # 998 bytes and this header: 1001
            assert await client.closed()
            assert world.door.counters["malformed"] == 1

    asyncio.run(main())


def test_subscriptions_of_a_session_are_bounded(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(subscriptions=2) as world:
            client = await world.client("a")
            filters = [(f"{client.topic}/{n}", 0) for n in range(3)]
            assert await client.subscribe(*filters) == b"\x00\x00\x80"
            assert await client.subscribe(filters[0], packet_id=2) == b"\x00"
            assert world.door.counters["refused_subscriptions"] == 1

    asyncio.run(main())


def test_open_qos_2_ids_are_bounded(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(receiving=2) as world:
            client = await world.client("a")
            for packet_id in (1, 2, 3):
                client.publish(client.topic, b"x", 2, packet_id)
            assert await client.closed()
            assert world.door.counters["malformed"] == 1

    asyncio.run(main())


def test_slow_reader_loses_qos_0_counted_and_no_qos_1(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(buffered_bytes=64 << 10) as world:
            a, slow = await world.client("a"), await world.client("b", keepalive=0)
            await slow.subscribe((slow.topic + "/0", 0), (slow.topic + "/1", 1))
            slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
            payload = bytes(20_000)
            count = 0
            while not world.door.counters["dropped_qos0"]:
                a.publish(a.topic + "/0", payload)
                await a.fence()
                count += 1
            a.publish(a.topic + "/1", b"kept", 1, 1)
            await a.read()
            connection = next(c for c in world.door._live.values() if c.principal.id == world.ids["b"])
            assert connection._transport.get_write_buffer_size() <= (64 << 10) + 2 * len(payload)
            slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
            got = [(await slow.message())[0].rpartition("/")[2] for _ in range(count)]
            assert got == ["0"] * (count - 1) + ["1"]
            assert world.door.counters["dropped_qos0"] == 1

    asyncio.run(main())


def test_reading_pauses_while_the_log_is_behind_and_nothing_is_lost(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(uncommitted_messages=10) as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic, 0))
            for n in range(500):
                a.publish(a.topic, b"%d" % n)
                if n % 50 == 0:
                    await asyncio.sleep(0)
            got = [(await b.message())[1] for _ in range(500)]
            assert got == [b"%d" % n for n in range(500)]
            await a.fence()
            assert world.door.counters["paused_reads"] > 0

    asyncio.run(main())


def test_a_thing_that_publishes_too_fast_is_not_read_for_a_while(
    open_world: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world(publish_rate=0.01, publish_burst=5) as world:
            a, b = await world.client("a", keepalive=10), await world.client("b", keepalive=0)
            second = await world.client("a", "another-of-a")
            await b.subscribe((b.topic + "/#", 0))
            a.send(b"".join(encode_publish(a.topic.encode(), b"%d" % n, 0) for n in range(20)))  # one read
            got = [(await b.message())[1] for _ in range(20)]
            assert got == [b"%d" % n for n in range(20)], "what was read is taken"
            (paced,) = [each for each in world.door._live.values() if each.paused]
            assert paced.session.client_id == "of-a"
            assert world.door.counters["paced_reads"] >= 1
            assert caplog.text.count("publishes faster than publish_rate allows") == 1
            second.publish(a.topic, b"21")  # what the thing owes holds for each of its connections
            await b.message()
            assert sum(each.paused for each in world.door._live.values()) == 2
            b.publish(b.topic, b"in time", 1, 1)
            await b.read()
            world.pass_time(100.0)  # silence while it is not read from is not the client's
            assert world.door.counters["keepalive_timeouts"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_comes_behind_a_connect_counts_and_is_read_on(
    open_world: Open, runner: Callable[..., None]
) -> None:
    async def main() -> None:
        async with open_world(publish_rate=100.0, publish_burst=1) as world:
            b, a = await world.client("b"), await world.dial()
            await b.subscribe((b.topic + "/#", 0))
            wires: list[bytes] = []
            a.send = wires.append
            # A will has to be durable before the answer, and nothing is read until then.
            a.connect("early", world.ids["a"], world.keys["a"], will=(a.topic + "/will", b"", 0, False))
            for n in range(10):
                a.publish(a.topic, b"%d" % n)
            del a.send
            a.send(b"".join(wires))
            assert (await a.read())[0] == 0x20
            assert [(await b.message())[1] for _ in range(10)] == [b"%d" % n for n in range(10)]
            assert await a.fence() == []
            assert world.door.counters["paced_reads"] >= 1

    runner(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_thing_that_publishes_too_fast_is_read_again_and_loses_nothing(
    open_world: Open, caplog: pytest.LogCaptureFixture, qos: int
) -> None:
    async def main() -> None:
        async with open_world(publish_rate=100.0, publish_burst=5) as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic + "/#", 0))
            for n in range(30):
                a.publish(a.topic, b"%d" % n, qos, n + 1 if qos else 0)
            assert [(await b.message())[1] for _ in range(30)] == [b"%d" % n for n in range(30)]
            if qos:
                assert len([await a.read() for _ in range(30)]) == 30
            assert await a.fence() == []
            assert world.door.counters["paced_reads"] >= 1
            assert not any(each.paused for each in world.door._live.values())
            a.send(b"".join(encode_publish(a.topic.encode(), b"more", 0) for _ in range(10)))
            assert await a.fence() == []
            assert world.door.counters["paced_reads"] >= 2
            assert caplog.text.count("publishes faster than publish_rate allows") == 1

    asyncio.run(main())


def test_a_thing_within_its_rate_is_never_paused(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(publish_rate=1.0, publish_burst=20) as world:
            a = await world.client("a")
            for n in range(20):
                a.publish(a.topic, b"%d" % n, 2, n + 1)
            assert len([await a.read() for _ in range(20)]) == 20
            assert world.door.counters["paced_reads"] == 0

    asyncio.run(main())


def test_who_is_paused_for_two_reasons_is_read_when_both_are_over(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            (connection,) = world.door._live.values()
            connection.pause()
            connection.pause()
            connection.resume()
            assert connection.paused
            assert not connection._transport.is_reading()
            connection.resume()
            assert await a.fence() == []

    asyncio.run(main())


def test_a_paused_client_may_be_gone_before_it_is_read_again(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(publish_rate=10.0, publish_burst=1) as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic, 0))
            for n in range(5):
                a.publish(a.topic, b"%d" % n)
            a.writer.write(b"\xe0\x00")
            assert [(await b.message())[1] for _ in range(5)] == [b"%d" % n for n in range(5)]
            await world.gone(1)
            world.pass_time(10.0)
            await asyncio.sleep(0.5)  # until it would have been read again
            assert await b.fence() == []

    asyncio.run(main())


def test_retained_messages_are_bounded_and_the_rest_still_delivered(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(retained_messages=2, retained_bytes=100) as world:
            a, b = await world.client("a"), await world.client("b")
            for n, payload in enumerate([b"x", b"y" * 100, b"z" * 99, b"w"]):
                a.publish(f"{a.topic}/{n}", payload, 1, n + 1, retain=True)
                await a.read()
            assert world.door.counters["refused_retained"] == 2
            await b.subscribe((b.topic + "/#", 0))
            assert [(await b.message())[1] for _ in range(2)] == [b"x", b"z" * 99]
            assert len(world.hub.log.read(0)) == 4

    asyncio.run(main())


def test_silence_of_one_and_a_half_keepalives_closes(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, patient = await world.client("a", keepalive=10), await world.client("b", keepalive=0)
            world.pass_time(14.9)
            assert await client.fence() == []
            world.pass_time(14.9)
            world.pass_time(0.2)
            assert await client.closed()
            assert world.door.counters["keepalive_timeouts"] == 1
            assert await patient.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "wire",
    ["0000", "f000", "3003000161", "c000", "100c00044d5154540502003c0000", "ffffffffffff", "16030100"],
)
def test_garbage_before_connect_closes_and_leaves_nothing(open_world: Open, wire: str) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.dial()
            client.send(bytes.fromhex(wire))
            client.writer.write_eof()
            while not client.reader.at_eof():
                await client.reader.read(100)
            await world.client("a")
            assert not world.door._waiting
            assert not world.door._closing

    asyncio.run(main())


def test_unknown_protocol_level_is_told_so(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.dial()
            client.packet(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c")
            assert await client.read() == (0x20, b"\x00\x01")
            assert await client.closed()

    asyncio.run(main())


def test_what_is_buffered_for_all_clients_is_shared_among_them(open_world: Open) -> None:
    async def main() -> None:
        async with open_world(buffered_total_bytes=400_000, buffered_bytes=300_000) as world:
            for n in range(4):
                await world.client("a", f"c{n}")
            world.pass_time(1)
            limits = {c._transport.get_write_buffer_limits()[1] for c in world.door._live.values()}
            assert limits == {100_000}

    asyncio.run(main())

"""Who gets in, who may publish and listen, what a retained message and a will are allowed, and revocation."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from hub.authority.judge import Shown
from hub.message import TimeQuality
from hub.mqtt.entry import BAD_CREDENTIALS, NO_CREDENTIALS, Login, Refusal, authenticate
from hub.mqtt.packets import Connect

Open = Callable[..., Any]


@pytest.mark.parametrize(
    ("user", "key", "code"),
    [
        pytest.param("{a}", "{key}", 0, id="thing id and its key"),
        pytest.param("", "{key}", 0, id="empty user name and a key"),
        pytest.param("{a}", "{key}x", 4, id="wrong key"),
        pytest.param("{b}", "{key}", 4, id="key of another thing"),
        pytest.param("{a}", "", 4, id="empty key"),
        pytest.param("{a}", None, 5, id="no password"),
        pytest.param(None, None, 5, id="no user name"),
    ],
)
def test_connect_is_answered_by_what_it_shows(
    open_world: Open, user: str | None, key: str | None, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world() as world:
            caplog.set_level(logging.INFO)
            client = await world.dial()
            names = {"a": world.ids["a"], "b": world.ids["b"], "key": world.keys["a"]}
            client.connect(
                "c", user and user.format(**names), key.format(**names) if key is not None else None
            )
            assert await client.read() == (0x20, bytes((0, code)))
            if code:
                assert await client.closed()
                assert world.door.counters["refused_credentials"] == 1
                assert world.door.counters["connections_now"] == 0
                assert {4: BAD_CREDENTIALS, 5: NO_CREDENTIALS}[code].why in caplog.text
                assert world.keys["a"] not in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize(
    "wanted",
    [
        "{topic}",
        "#",
        "+/+/messages",
        "channels/+/messages",
        "channels/#",
        "channels/{channel}/#",
        "channels/{channel}/+",
        "$SYS/#",
        "channels/no-such-channel/messages",
        "{topic}/" + "/".join("x" * 40),
    ],
)
def test_subscription_that_is_not_allowed_is_refused_in_suback(open_world: Open, wanted: str) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = "stranger" if wanted == "{topic}" else "a"
            client = await world.client(thing)
            filter_ = wanted.format(topic=client.topic, channel=world.channel)
            assert await client.subscribe((filter_, 1)) == b"\x80"
            assert world.door.counters["refused_subscriptions"] == 1
            if thing == "a":
                assert await client.subscribe((filter_, 1), (client.topic, 1), packet_id=2) == b"\x80\x01"

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "topic", ["{topic}", "somewhere/else", "$SYS/x", "channels/{channel}", "{topic}/" + "/".join("x" * 40)]
)
def test_publish_that_is_not_allowed_is_not_acknowledged_and_closes(
    open_world: Open, topic: str, qos: int
) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client("stranger" if topic == "{topic}" else "a")
            client.publish(
                topic.format(topic=client.topic, channel=world.channel), b"x", qos, 1 if qos else 0
            )
            assert await client.closed()
            assert world.door.counters["refused_publishes"] == 1
            await world.hub.log.write(())
            assert world.hub.log.read(0) == []

    asyncio.run(main())


def test_invalid_senml_under_a_senml_topic_closes_and_is_not_kept(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client("a")
            client.publish(client.topic + "/senml-json", b'[{"n":"x"', 1, 1)
            assert await client.closed()
            assert world.door.counters["refused_contents"] == 1
            assert world.hub.log.read(0) == []

    asyncio.run(main())


def test_revoked_channel_cuts_the_live_subscriber_and_stops_the_publisher(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic, 0))
            a.publish(a.topic, b"x")
            await b.message()
            world.hub.registry.disconnect([world.channel], [world.ids["a"], world.ids["b"]])
            assert await b.closed()
            assert world.door.counters["revoked"] == 1
            a.publish(a.topic, b"y")
            assert await a.closed()

    asyncio.run(main())


def test_rotated_key_and_removed_thing_cut_live_sessions(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            world.hub.registry.rotate_key(world.ids["a"])
            assert await a.closed()
            assert await b.fence() == []
            world.hub.registry.remove_thing(world.ids["b"])
            assert await b.closed()
            assert world.door.counters["revoked"] == 2
            await world.hub.log.write(())
            await world.door.intake.drain()
            assert world.hub.log.query("SELECT * FROM mqtt_session") == []

    asyncio.run(main())


def test_kept_subscription_is_asked_for_again_when_its_owner_comes_back(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            b, _ = await world.session("b", "keeper", clean=False)
            await b.subscribe((b.topic, 1))
            a.publish(a.topic, b"in flight", 1, 1)
            await b.message()
            b.cut()
            await world.gone(1)
            a.publish(a.topic, b"waiting", 1, 2)
            assert [await a.read() for _ in range(2)] == [(0x40, b"\x00\x01"), (0x40, b"\x00\x02")]
            world.hub.registry.disconnect([world.channel], [world.ids["b"]])
            b, present = await world.session("b", "keeper", clean=False)
            assert present
            assert await b.fence() == []

    asyncio.run(main())


def test_retained_message_is_shown_to_new_subscribers_until_cleared(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a = await world.client("a")
            for n in (1, 2):
                a.publish(a.topic + "/state", b"%d" % n, 1, n, retain=True)
                assert await a.read() == (0x40, n.to_bytes(2, "big"))
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            assert await b.subscribe((b.topic + "/#", 2)) == b"\x02"
            assert (await b.message())[:5] == (b.topic + "/state", b"2", 1, 1, True)
            a.publish(a.topic + "/state", b"3", 0, retain=True)
            assert (await b.message())[1:5] == (b"3", 0, 0, False)
            await b.subscribe((b.topic + "/+", 0), packet_id=2)
            assert (await b.message())[1:5] == (b"3", 0, 0, True)
            a.publish(a.topic + "/state", b"", 1, 3, retain=True)
            assert await a.read() == (0x40, b"\x00\x03")
            assert (await b.message())[1] == b""
            await b.subscribe((b.topic + "/#", 1), packet_id=3)
            assert await b.fence() == []

    asyncio.run(main())


def test_retained_message_of_a_publisher_that_lost_its_right_is_not_shown(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            a, b = await world.client("a"), await world.client("b")
            for qos in (0, 1):
                a.publish(f"{a.topic}/{qos}", b"x", qos, qos, retain=True)
            assert await a.read() == (0x40, b"\x00\x01")
            world.hub.registry.disconnect([world.channel], [world.ids["a"]])
            await b.subscribe((b.topic + "/#", 1))
            assert await b.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("ending", "published"),
    [
        pytest.param("cut", True, id="connection lost"),
        pytest.param("disconnect", False, id="DISCONNECT"),
        pytest.param("malformed", True, id="protocol error"),
        pytest.param("silence", True, id="keepalive"),
        pytest.param("takeover", True, id="takeover"),
    ],
)
def test_will_is_published_unless_the_client_said_goodbye(
    open_world: Open, ending: str, published: bool
) -> None:
    async def main() -> None:
        async with open_world() as world:
            b = await world.client("b", keepalive=0)
            await b.subscribe((b.topic + "/#", 1))
            a = await world.client("a", "dying", keepalive=10, will=(b.topic + "/gone", b"bye", 1, True))
            match ending:
                case "cut":
                    a.cut()
                case "disconnect":
                    a.send(b"\xe0\x00")
                case "malformed":
                    a.send(b"\xf0\x00")
                case "silence":
                    world.pass_time(15.1)
                case "takeover":
                    await world.client("a", "dying")
            if ending != "cut":
                assert await a.closed()
            if published:
                assert (await b.message())[:3] == (b.topic + "/gone", b"bye", 1)
            else:
                assert await b.fence() == []
            assert world.door.counters["wills"] == published
            await b.subscribe((b.topic + "/gone", 0), packet_id=2)
            assert len(await b.fence()) == published

    asyncio.run(main())


def test_will_to_a_forbidden_topic_is_refused_at_connect_and_at_the_end(open_world: Open) -> None:
    async def main() -> None:
        async with open_world() as world:
            stranger = await world.dial()
            will = (stranger.topic, b"x", 0, False)
            stranger.connect("c", world.ids["stranger"], world.keys["stranger"], will=will)
            assert await stranger.read() == (0x20, b"\x00\x05")
            a = await world.client("a", will=will)
            world.hub.registry.disconnect([world.channel], [world.ids["a"]])
            a.cut()
            await world.gone()
            assert world.door.counters["wills"] == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("certificate", "user", "password", "accepted"),
    [
        pytest.param("{a}", None, None, True, id="nothing else"),
        pytest.param("{a}", "{a}", None, True, id="its user name"),
        pytest.param("{a}", "", "{key}", True, id="its key"),
        pytest.param("{a}", "{b}", None, False, id="another user name"),
        pytest.param("{b}", None, "{key}", False, id="the key of another thing"),
        pytest.param("{a}", "{a}", "wrong", False, id="a wrong key"),
        pytest.param("nobody", None, None, False, id="a thing that is no more"),
    ],
)
def test_a_certificate_is_enough_and_what_else_is_shown_has_to_agree(
    open_world: Open, certificate: str, user: str | None, password: str | None, accepted: bool
) -> None:
    async def main() -> None:
        async with open_world() as world:
            names = {"a": world.ids["a"], "b": world.ids["b"], "key": world.keys["a"]}
            shown = password.format(**names).encode() if password is not None else None
            packet = Connect(5, True, 60, "c", None, user and user.format(**names), shown)
            thing = certificate.format(**names)
            login = authenticate(world.hub, packet, Shown(thing), "127.0.0.1")
            if accepted:
                assert isinstance(login, Login)
                assert login.principal.id == thing
            else:
                assert isinstance(login, Refusal)

    asyncio.run(main())


@pytest.mark.parametrize("qos", [0, 1])
def test_right_that_ends_by_the_hour_ends_for_what_is_subscribed(open_world: Open, qos: int) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["channels/<.*>"],
        "actions": ["deliver"],
        "effect": "deny",
        "conditions": {
            "current_time": {"type": "TimeOfDayCondition", "options": {"from": "18:00", "to": "23:00"}}
        },
    }
    now_s = [17 * 3600]

    def clock() -> tuple[int, TimeQuality]:
        return now_s[0] * 1_000_000_000, TimeQuality.NTP

    async def main() -> None:
        async with open_world(clock=clock) as world:
            world.hub.registry.change_policies({"evening": json.dumps(policy)}, 0.0)
            a, b = await world.client("a"), await world.client("b")
            await b.subscribe((b.topic, qos))
            for hour, seen in ((17, [b"17"]), (18, []), (23, [b"23"])):
                now_s[0] = hour * 3600
                a.publish(a.topic, b"%d" % hour, qos, 1 if qos else 0)
                await a.fence()
                await world.hub.log.write(())
                got = [body for first, body in await b.fence() if first >> 4 == 3]
                assert [body[-2:] for body in got] == seen
                if got and qos:
                    b.send(b"\x40\x02" + got[0][-4:-2])

    asyncio.run(main())

"""What the door adds to MQTT 5: identity and form of messages, refusals with a reason, bounds, `$SYS`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from hub.message import Message, TimeQuality
from hub.mqtt.system import TOPICS, matches
from tests.hub.mqtt.conformance import wire

Open = Callable[..., Any]
PACK = b'[{"bn":"urn:dev:mac:01:","n":"temp","u":"Cel","v":21.5}]'


def clock() -> tuple[int, TimeQuality]:
    return 1_700_000_000_123_456_789, TimeQuality.GNSS


def identity(packet: Any) -> dict[str, str]:
    return dict(packet.all("user_property"))


# Identity


def test_each_message_says_where_it_came_from_behind_what_its_publisher_said(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(clock=clock, gateway="0102030405060708") as site:
            listener, sender = await site.client("b"), await site.client("a")
            await listener.subscribe((site.topic, 1))
            await sender.published(site.topic, b"x", props=[("user_property", ("seq", "mine"))])
            found = await listener.message()
            (stored,) = site.world.hub.log.read(0)
            assert found.all("user_property") == [
                ("seq", "mine"),
                ("gateway", "0102030405060708"),
                ("seq", str(stored.seq)),
                ("publisher", site.world.ids["a"]),
                ("protocol", "mqtt"),
                ("created_ns", "1700000000123456789"),
                ("time", "gnss"),
            ]

    asyncio.run(main())


def test_a_message_of_another_door_brings_its_content_type_and_origin(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener = await site.client("b")
            await listener.subscribe((site.topic, 1))
            who = (site.world.ids["a"], "http", "application/senml+json")
            message = Message(site.world.channel, "", *who, PACK, 1, origin="aa11/77")
            await site.world.hub.log.append((message,))
            found = await listener.message()
            assert found.get("content_type") == "application/senml+json"
            said = identity(found)
            assert (said["gateway"], said["seq"], said["protocol"]) == ("aa11", "77", "http")

    asyncio.run(main())


@pytest.mark.parametrize("takes", [0, 255])
def test_session_that_is_taken_up_is_told_how_much_retention_took_from_it(
    open_site: Open, takes: int
) -> None:
    kept: dict[str, Any] = {"clean": False, "props": [("session_expiry_interval", 1000)]}
    small = [("maximum_packet_size", takes)] if takes else []

    async def main() -> None:
        async with open_site(log_messages=100) as site:
            sender, keeper = await site.client("a"), await site.client("b", "keeper", **kept)
            assert not keeper.connack.all("user_property")
            await keeper.subscribe((site.topic, 1))
            await keeper.leave()
            await sender.published(site.topic, b"0")
            keeper = await site.client("b", "keeper", **kept)
            assert keeper.connack.session_present
            assert not keeper.connack.all("user_property"), "nothing is missing"
            assert (await keeper.message()).payload == b"0"
            await keeper.leave()
            for n in range(1, 400):
                await sender.published(site.topic, b"%d" % n)
            again = {**kept, "props": [*kept["props"], *small]}
            keeper = await site.client("b", "keeper", **again)
            first = int((await keeper.message()).payload)
            assert first > 1
            lost = site.world.door.counters["lost_to_retention"]
            assert keeper.connack.all("user_property") == ([] if takes else [("missed", str(lost))])
            # What was in flight when the client left, and was never acknowledged, is gone as well.
            assert lost in (first - 1, first)

    asyncio.run(main())


# Form


@pytest.mark.parametrize(
    ("accept", "content_type", "converted"),
    [
        ("application/senml+cbor", "application/senml+cbor", True),
        ("application/senml+json", "application/senml+json", False),
        ("text/html", "application/senml+json", False),
    ],
)
def test_subscriber_gets_senml_in_the_form_it_accepts(
    open_site: Open, accept: str, content_type: str, converted: bool
) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener, sender = await site.client("b"), await site.client("a")
            await listener.subscribe((site.topic, 1), props=[("user_property", ("accept", accept))])
            await sender.published(site.topic, PACK, retain=True)
            for found in [await listener.message(), await retained(site, accept)]:
                assert found.get("content_type") == content_type
                if converted:
                    assert cbor2.loads(found.payload)[0][0] == "temp"
                else:
                    assert found.payload == PACK
            await sender.published(site.topic, b"no pack")
            found = await listener.message()
            assert (found.payload, found.get("content_type")) == (b"no pack", "application/octet-stream")

    asyncio.run(main())


async def retained(site: Any, accept: str) -> Any:
    late = await site.client("b", "late")
    await late.subscribe((site.topic, 1), props=[("user_property", ("accept", accept))])
    return await late.message()


def test_what_need_not_be_converted_keeps_the_type_its_publisher_gave(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener, sender = await site.client("b"), await site.client("a")
            accept = [("user_property", ("accept", "application/senml+cbor"))]
            await listener.subscribe((site.topic, 1), props=accept)
            said = [("payload_format_indicator", 1), ("content_type", "text/x-log")]
            await sender.published(site.topic, b"line", props=said)
            found = await listener.message()
            assert (found.payload, found.get("content_type")) == (b"line", "text/x-log")
            assert found.get("payload_format_indicator") == 1

    asyncio.run(main())


def test_cbor_that_only_the_topic_has_named_comes_with_its_content_type(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener, sender = await site.client("b"), await site.client("a")
            await listener.subscribe((site.topic, 1))
            await sender.published(f"{site.topic}/senml-cbor", cbor2.dumps([{0: "t", 2: 1}]))
            assert (await listener.message()).get("content_type") == "application/senml+cbor"

    asyncio.run(main())


def test_content_type_of_senml_is_taken_at_its_word_and_any_other_forwarded(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener, sender = await site.client("b"), await site.client("a")
            await listener.subscribe((site.topic, 1))
            cbor = cbor2.dumps([{0: "t", 2: 1}])
            for payload, said, kept in (
                (cbor, "application/senml+cbor", "application/senml+cbor"),
                (b"\x00", "image/x-dots", "application/octet-stream"),
                (b"{", "application/json", "application/octet-stream"),
            ):
                await sender.published(site.topic, payload, props=[("content_type", said)])
                assert (await listener.message()).get("content_type") == said
                assert site.world.hub.log.read(0)[-1].content_type == kept
            answer = await sender.published(
                site.topic, b"no cbor", props=[("content_type", "application/senml+cbor")]
            )
            assert answer.code == 0x99

    asyncio.run(main())


# Refusals


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    ("topic", "payload", "props", "code"),
    [
        pytest.param("channels/other/messages", b"x", [], 0x87, id="not authorized"),
        pytest.param("elsewhere", b"x", [], 0x90, id="topic name invalid"),
        pytest.param("{}", b"\xff", [("payload_format_indicator", 1)], 0x99, id="payload format invalid"),
        pytest.param("{}/senml-json", b"[{", [], 0x99, id="no SenML"),
    ],
)
def test_a_publish_that_is_refused_is_told_why_and_the_connection_stays(
    open_site: Open, qos: int, topic: str, payload: bytes, props: Any, code: int
) -> None:
    async def main() -> None:
        async with open_site() as site:
            client = await site.client("a")
            if not qos:
                client.publish(topic.format(site.topic), payload, props=props)
                await client.closed_for(code)
                return
            answer = await client.published(topic.format(site.topic), payload, qos, props=props)
            assert answer.code == code
            assert answer.get("reason_string")
            assert (await client.published(site.topic, b"fine", qos)).code in (0, 0x10)
            assert [m.payload for m in site.world.hub.log.read(0)] == [b"fine"]
            mute = await site.client("a", "mute", props=[("request_problem_information", 0)])
            answer = await mute.published(topic.format(site.topic), payload, qos, props=props)
            assert answer.get("reason_string") is None

    asyncio.run(main())


def test_payload_larger_than_the_hub_takes_is_a_quota(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(packet_bytes=1 << 20) as site:
            client = await site.client("a")
            size = site.world.hub.settings.max_payload + 1
            assert (await client.published(site.topic, bytes(size))).code == 0x97
            client.publish(site.topic, bytes(size))
            await client.closed_for(0x95)

    asyncio.run(main())


def test_publisher_is_told_where_nobody_subscribed(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            assert (await sender.published(site.topic, b"x")).code == 0x10
            keeper = await site.client("b", "keeper", kept=True)
            await keeper.subscribe((site.topic + "/#", 0))
            assert (await sender.published(site.topic, b"x")).code == 0
            await keeper.message()
            await keeper.leave()
            assert (await sender.published(site.topic, b"x")).code == 0
            await (await site.client("b", "keeper", clean=True)).leave()
            assert (await sender.published(site.topic, b"x")).code == 0x10

    asyncio.run(main())


class Disk(sqlite3.Connection):
    """A database whose disk is full while `full` is set."""

    full = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and Disk.full:
            super().execute("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return super().execute(sql, *args)


@pytest.mark.parametrize("qos", [1, 2])
def test_on_a_full_disk_a_publish_is_refused_and_the_connection_stays(
    open_site: Open, monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    async def main() -> None:
        async with open_site(database=Disk) as site:
            client = await site.client("a")
            await client.published(site.topic, b"before", qos)
            monkeypatch.setattr("hub.log_writer.PROBE_S", 0.01)
            monkeypatch.setattr(Disk, "full", True)
            for _ in range(3):
                answer = await client.published(site.topic, b"lost", qos)
                assert answer.code == 0x97
                assert "full" in answer.get("reason_string")
            client.send(wire.PING)
            await client.expect(wire.PINGRESP)
            monkeypatch.setattr(Disk, "full", False)
            async with asyncio.timeout(20):
                while (await client.published(site.topic, b"after", qos)).code == 0x97:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert [m.payload for m in site.world.hub.log.read(0)] == [b"before", b"after"]

    asyncio.run(main())


def test_a_session_taken_up_on_a_full_disk_goes_on_when_there_is_room(
    open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_site(database=Disk) as site:
            keeper = await site.client("b", "keeper", kept=True)
            await keeper.subscribe((site.topic, 2))
            await keeper.leave()
            sender = await site.client("a")
            await sender.published(site.topic, b"waiting", 2)
            monkeypatch.setattr("hub.log_writer.PROBE_S", 0.01)
            monkeypatch.setattr(Disk, "full", True)
            assert (await sender.published(site.topic, b"lost")).code == 0x97
            keeper = await site.client("b", "keeper", kept=True)
            assert keeper.connack.session_present
            keeper.send(wire.PING)
            await keeper.expect(wire.PINGRESP)
            monkeypatch.setattr(Disk, "full", False)
            async with asyncio.timeout(20):
                while (await sender.published(site.topic, b"after", 2)).code == 0x97:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            site.pass_time(1)
            assert [(await keeper.message()).payload for _ in range(2)] == [b"waiting", b"after"]

    asyncio.run(main())


# Bounds


def test_retained_messages_that_wait_for_the_window_are_remembered_once(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            sender = await site.client("a")
            for n in range(10):
                await sender.published(f"{site.topic}/{n}", b"%d" % n, retain=True)
            listener = await site.client("b", props=[("receive_maximum", 1)])
            for n in range(50):
                listener.send(wire.subscribe(wire.V5, n + 1, [(site.topic + "/#", 1)]))
            await listener.fence()
            (connection,) = [c for c in site.world.door._live.values() if c.session.waiting]
            assert len(connection.session.waiting) <= 10

    asyncio.run(main())


def test_topic_aliases_are_bounded_in_both_directions(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(topic_aliases=3) as site:
            listener = await site.client("b", props=[("topic_alias_maximum", 100)])
            sender = await site.client("a")
            assert sender.connack.get("topic_alias_maximum") == 3
            await listener.subscribe((site.topic + "/#", 0))
            for _ in range(2):
                for n in range(5):
                    sender.publish(f"{site.topic}/{n}", b"x")
                await sender.fence()
            found = [packet for packet in await listener.fence() if packet.kind == wire.PUBLISH]
            assert [packet.get("topic_alias") for packet in found] == [1, 2, 3, None, None] * 2
            assert [packet.topic == "" for packet in found] == [False] * 5 + [True] * 3 + [False] * 2
            sender.publish(site.topic, b"x", props=[("topic_alias", 4)])
            await sender.closed_for(0x94)
            assert site.world.door.counters["malformed"] == 1

    asyncio.run(main())


def test_user_properties_are_bounded(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            client = await site.client("a")
            pair = ("user_property", ("name", "value"))
            assert (await client.published(site.topic, b"x", props=[pair] * 64)).code == 0x10
            client.publish(site.topic, b"x", 1, props=[pair] * 65)
            await client.closed_for(0x97)
            assert site.world.door.counters["refused_properties"] == 1

    asyncio.run(main())


def test_reading_pauses_while_too_many_bytes_are_uncommitted(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(uncommitted_bytes=100_000) as site:
            client, listener = await site.client("a"), await site.client("b")
            await listener.subscribe((site.topic, 0))
            for n in range(100):
                client.publish(site.topic, b"%03d" % n + bytes(20_000))
                if n % 10 == 0:
                    await asyncio.sleep(0)
            got = [(await listener.message()).payload[:3] for _ in range(100)]
            assert got == [b"%03d" % n for n in range(100)]
            assert site.world.door.counters["paused_reads"] > 0

    asyncio.run(main())


def test_packet_larger_than_the_client_takes_is_left_out_and_counted(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            listener = await site.client("b", props=[("maximum_packet_size", 500)])
            await listener.subscribe((site.topic, 1))
            sender = await site.client("a")
            for n in range(3):
                await sender.published(site.topic, b"%d" % n * (1000 if n == 1 else 1), 1)
            assert [(await listener.message()).payload for _ in range(2)] == [b"0", b"2"]
            assert site.world.door.counters["dropped_too_large"] == 1

    asyncio.run(main())


def test_bounds_of_connections_sessions_and_subscriptions_are_quotas(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(connections_per_thing=2, sessions_per_thing=1, subscriptions=1) as site:
            client = await site.client("a", "c1", kept=True)
            assert await client.subscribe((site.topic, 0), (site.topic + "/x", 0)) == (0, 0x97)
            props = [("session_expiry_interval", 5)]
            await site.refused(0x97, client_id="c2", props=props)
            await site.client("a", "c2")
            answer = await site.refused(0x97, client_id="c3")
            assert "connections" in answer.get("reason_string")
            counters = site.world.door.counters
            assert (counters["refused_sessions"], counters["refused_connections"]) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize(("asked", "told"), [(0, 60), (61, 60), (60, None), (30, None)])
def test_server_keep_alive_bounds_what_the_client_asks_for(
    open_site: Open, asked: int, told: int | None
) -> None:
    async def main() -> None:
        async with open_site(max_keepalive_s=60) as site:
            client = await site.client("a", keepalive=asked)
            assert client.connack.get("server_keep_alive") == told
            site.pass_time(91)
            await client.closed_for(0x8D)

    asyncio.run(main())


def test_response_information_is_a_topic_the_client_may_use(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            asks = [("request_response_information", 1)]
            client = await site.client("a", props=asks)
            topic = client.connack.get("response_information")
            assert topic.startswith(site.topic)
            assert await client.subscribe((topic, 1)) == (1,)
            assert (await site.client("b")).connack.get("response_information") is None
            assert (await site.client("stranger", props=asks)).connack.get("response_information") is None

    asyncio.run(main())


# Users and $SYS


async def admin(site: Any, token: str = "", **more: Any) -> Any:
    return await site.client(user="admin@example.org", password=token or token_of(site), **more)


def token_of(site: Any) -> str:
    registry = site.world.hub.registry
    user = registry.user_by_email("admin@example.org")
    if user is None:
        user = registry.create_user("admin@example.org", "correct horse battery staple")
    token: str = registry.issue_token(user.id, site.world.hub.clock()[0] / 1e9)
    return token


def test_user_subscribes_with_a_token_and_may_not_publish(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            user = await admin(site)
            assert await user.subscribe((site.topic + "/#", 1)) == (1,)
            assert await user.subscribe(("channels/nowhere/messages", 1)) == (0x87,)
            await (await site.client("a")).published(site.topic, b"x")
            assert (await user.message()).payload == b"x"
            assert (await user.published(site.topic, b"x")).code == 0x87
            await site.refused(0x86, user="admin@example.org", password="wrong")
            await site.refused(0x86, user="other@example.org", password=token_of(site))
            will = site.will()
            await site.refused(0x87, user="admin@example.org", password=token_of(site), will=will)

    asyncio.run(main())


def test_revoked_token_ends_the_users_connection(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            token = token_of(site)
            user, other = await admin(site, token), await admin(site, client_id="other")
            assert site.world.hub.registry.revoke_token(token)
            await user.closed_for(0x98)
            assert await other.fence() == []

    asyncio.run(main())


def test_token_that_runs_out_ends_the_users_connection(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            user = await admin(site)
            site.pass_time(86_400 * 366)
            await user.closed_for(0x98)

    asyncio.run(main())


def test_system_topics_are_shown_at_once_and_again_each_interval(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            user = await admin(site)
            props = [("subscription_identifier", 7)]
            assert await user.subscribe(("$SYS/#", 2), props=props) == (0,)
            first = {packet.topic: packet for packet in await user.fence()}
            assert set(first) == set(TOPICS)
            assert all(packet.retain and packet.qos == 0 for packet in first.values())
            assert all(packet.get("subscription_identifier") == 7 for packet in first.values())
            assert first["$SYS/broker/version"].payload == b"1.2.3"
            assert first["$SYS/broker/clients/connected"].payload == b"1"
            site.pass_time(9)
            assert await user.fence() == []
            await site.client("a")
            site.pass_time(1)
            again = {packet.topic: packet for packet in await user.fence()}
            assert set(again) == set(TOPICS)
            assert not any(packet.retain for packet in again.values())
            assert again["$SYS/broker/clients/connected"].payload == b"2"
            assert again["$SYS/broker/uptime"].payload == b"10"
            await user.unsubscribe("$SYS/#")
            site.pass_time(10)
            assert await user.fence() == []

    asyncio.run(main())


@pytest.mark.parametrize("filter_", ["$SYS/#", "$SYS/broker/version", "$SYS", "$SYS/+/uptime"])
def test_things_never_see_system_topics(open_site: Open, filter_: str) -> None:
    async def main() -> None:
        async with open_site() as site:
            thing = await site.client("a")
            assert await thing.subscribe((filter_, 0)) == (0x87,)
            assert await thing.subscribe((f"$share/g/{filter_}", 0)) == (0x8F,)
            assert await thing.subscribe(("#", 0), ("+/broker/#", 0)) == (0x8F, 0x8F)
            site.pass_time(11)
            assert await thing.fence() == []

    asyncio.run(main())


def test_nobody_publishes_to_system_topics(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            for client in (await site.client("a"), await admin(site, client_id="u")):
                assert (await client.published("$SYS/broker/version", b"9")).code == 0x90

    asyncio.run(main())


def test_system_filters_match_as_topics_do() -> None:
    assert matches("$SYS/#", "$SYS/broker/uptime")
    assert matches("$SYS/+/uptime", "$SYS/broker/uptime")
    assert not matches("$SYS/+", "$SYS/broker/uptime")
    assert not matches("$SYS/broker/uptime/more", "$SYS/broker/uptime")
    assert not matches("$SYS", "$SYS/broker/uptime")


def test_users_kept_session_has_its_system_subscription_when_it_comes_back(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            user = await admin(site, client_id="u", kept=True)
            await user.subscribe(("$SYS/broker/uptime", 0))
            assert len(await user.fence()) == 1
            await user.leave()
            again = await admin(site, client_id="u", kept=True)
            assert again.connack.session_present
            site.pass_time(10)
            assert [packet.topic for packet in await again.fence()] == ["$SYS/broker/uptime"]
            user_id = site.world.hub.registry.user_by_email("admin@example.org").id
            site.world.hub.registry.create_user("second@example.org", "correct horse battery staple")
            site.world.hub.registry.remove_user(user_id)
            await again.closed_for(0x98)
            assert len(site.world.door.sessions) == 0

    asyncio.run(main())


def test_properties_count_towards_the_bound_of_what_is_retained(open_site: Open) -> None:
    async def main() -> None:
        async with open_site(retained_bytes=100_000) as site:
            sender = await site.client("a")
            props = [("correlation_data", bytes(40_000)), ("user_property", ("n", "v" * 8000))]
            for n in range(4):
                await sender.published(f"{site.topic}/{n}", b"x", retain=True, props=props)
            assert len(site.world.door.retained) == 2
            assert site.world.door.counters["refused_retained"] == 2
            await sender.published(f"{site.topic}/0", b"", retain=True)
            await sender.published(f"{site.topic}/1", b"", retain=True)
            assert site.world.door.retained.bytes == 0

    asyncio.run(main())


def test_filters_of_any_kind_are_bounded_in_length(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            long = "x" * 2000
            user = await admin(site)
            wanted = [f"$SYS/{long}", f"$share/{long}/{site.topic}", f"{site.topic}/{long}"]
            assert await user.subscribe(*((text, 0) for text in wanted)) == (0x8F, 0x8F, 0x8F)

    asyncio.run(main())

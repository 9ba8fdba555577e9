"""The hub as doors use it: who may publish what, and what a refusal says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hub.access import Principal
from hub.database import Migration
from hub.errors import AccessDenied, BadMessage, HubError, TooLarge, TopicError, UnsupportedType
from hub.history import Query
from hub.hub import MAX_PAYLOAD, Hub, HubSettings
from hub.log import Log
from hub.message import JSON, OCTET_STREAM, SENML_JSON, TimeQuality

PACK = b'[{"n":"a","v":1}]'
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
NOW = 1_700_000_000_000_000_000


def run(folder: Path, body: Callable[[Hub, Principal, str], Awaitable[None]]) -> None:
    """A hub with one thing connected to one channel."""

    async def main() -> None:
        hub = Hub.open(folder / "data", clock=lambda: (NOW, TimeQuality.GNSS))
        thing, key = hub.registry.create_thing("node")
        channel = hub.registry.create_channel("site")
        hub.registry.connect([channel.id], [thing.id])
        principal = hub.authenticate_thing(key)
        assert principal
        await body(hub, principal, channel.id)
        await hub.close()

    asyncio.run(main())


def test_a_published_message_is_durable_and_says_who_when_and_what(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        seq = await hub.publish(me, "http", channel, "/a//b/", JSON, PACK)
        message = hub.log.read_one(seq)
        assert message
        assert (message.channel, message.subtopic, message.publisher) == (channel, "a.b", me.id)
        assert (message.protocol, message.content_type, message.payload) == ("http", SENML_JSON, PACK)
        assert (message.created_ns, message.time) == (NOW, TimeQuality.GNSS)
        assert message.boot == BOOT
        assert (await hub.history.query(Query(channel))).total == 1
        assert hub.counters.accepted == 1

    run(tmp_path, body)


def test_post_promises_nothing_and_submit_calls_back(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        assert hub.post(me, "mqtt", channel, "", SENML_JSON, PACK, qos=0) == 1
        assert hub.log.committed_seq == 0
        answer: asyncio.Future[HubError | None] = asyncio.get_running_loop().create_future()
        assert hub.submit(me, "mqtt", channel, "", SENML_JSON, PACK, answer.set_result, qos=1) == 2
        assert await answer is None
        assert [message.qos for message in hub.log.read(0)] == [0, 1]

    run(tmp_path, body)


def test_who_is_not_connected_is_denied_before_anything_is_looked_at(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        stranger, _ = hub.registry.create_thing()
        for who, where in (
            (Principal.of_thing(stranger), channel),
            (me, "no-such-channel"),
            (Principal("user", "nobody"), channel),
            (Principal.internal("history"), channel),
        ):
            with pytest.raises(AccessDenied):
                await hub.publish(who, "http", where, "*bad*", "text/plain", bytes(MAX_PAYLOAD + 1))
        assert hub.counters.denied == 4
        assert hub.log.counters.appended == 0

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("subtopic", "content_type", "payload", "refusal", "status"),
    [
        ("a/*", SENML_JSON, PACK, TopicError, 400),
        ("", SENML_JSON, b"[]", BadMessage, 400),
        ("", SENML_JSON, b'[{"n":"a"}]', BadMessage, 400),
        ("", JSON, b"{", BadMessage, 400),
        ("", "text/plain", PACK, UnsupportedType, 415),
        ("", OCTET_STREAM, bytes(MAX_PAYLOAD + 1), TooLarge, 413),
    ],
)
def test_bad_messages_are_refused_with_their_wire_reply(
    tmp_path: Path, subtopic: str, content_type: str, payload: bytes, refusal: type[HubError], status: int
) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        with pytest.raises(refusal) as raised:
            hub.post(me, "http", channel, subtopic, content_type, payload)
        assert raised.value.http_status == status
        assert raised.value.reason
        assert hub.log.counters.appended == 0

    run(tmp_path, body)


def test_the_largest_payload_is_taken(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        await hub.publish(me, "http", channel, "", OCTET_STREAM, bytes(MAX_PAYLOAD))

    run(tmp_path, body)


def test_a_new_key_or_a_disconnection_ends_publishing_at_once(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        hub.post(me, "mqtt", channel, "", SENML_JSON, PACK)
        key = hub.registry.rotate_key(me.id)
        with pytest.raises(AccessDenied, match="new key"):
            hub.post(me, "mqtt", channel, "", SENML_JSON, PACK)
        again = hub.authenticate_thing(key)
        assert again
        hub.post(again, "mqtt", channel, "", SENML_JSON, PACK)
        hub.registry.disconnect([channel], [me.id])
        with pytest.raises(AccessDenied, match="not connected"):
            hub.post(again, "mqtt", channel, "", SENML_JSON, PACK)
        assert hub.authenticate_thing("no such key") is None

    run(tmp_path, body)


def test_a_user_is_known_by_a_live_token(tmp_path: Path) -> None:
    async def body(hub: Hub, me: Principal, channel: str) -> None:
        user = hub.registry.create_user("a@example.org", "a password")
        token = hub.registry.issue_token(user.id, 0.0)
        assert hub.authenticate_bearer(token, 60.0) == Principal("user", user.id)
        assert hub.authenticate_bearer(token, 1e9) is None
        assert hub.authenticate_bearer("x", 60.0) is None

    run(tmp_path, body)


def test_writes_of_a_door_commit_with_the_message(tmp_path: Path) -> None:
    async def main() -> None:
        table = Migration("door/1", ("CREATE TABLE retained(topic TEXT PRIMARY KEY, seq INTEGER)",))
        hub = Hub.open(tmp_path, migrations=[table])
        thing, key = hub.registry.create_thing()
        channel = hub.registry.create_channel()
        hub.registry.connect([channel.id], [thing.id])
        me = hub.authenticate_thing(key)
        assert me
        write = ("INSERT INTO retained VALUES (?, ?)", ("x", 1))
        await hub.publish(me, "mqtt", channel.id, "", SENML_JSON, PACK, also=[write])
        assert hub.log.query("SELECT * FROM retained") == [("x", 1)]
        await hub.close()

    asyncio.run(main())


def test_settings_reach_their_parts(tmp_path: Path) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path, settings=HubSettings(commit_interval_s=60.0, max_messages=10, max_payload=5))
        assert isinstance(hub.log, Log)
        assert hub.log.commit_interval_s == 60.0
        thing, key = hub.registry.create_thing()
        channel = hub.registry.create_channel()
        hub.registry.connect([channel.id], [thing.id])
        me = hub.authenticate_thing(key)
        assert me
        with pytest.raises(TooLarge):
            hub.post(me, "http", channel.id, "", OCTET_STREAM, b"123456")
        for _ in range(30):
            await hub.publish(me, "http", channel.id, "", OCTET_STREAM, b"12345")
        assert hub.log.message_count <= 11
        await hub.close()

    asyncio.run(main())


def test_a_data_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path / "deep" / "data")
        assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700
        await hub.close()

    asyncio.run(main())

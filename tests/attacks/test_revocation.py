"""A right that is taken away ends everything that lives by it: on every door, in every way it can be taken.

How fast is measured by tests/bench/bench_revocation.py; here, that it ends and that nothing more is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hub.access import Access
from hub.mqtt.packets import Will
from hub.mqtt.session import Session
from hub.tokens.scopes import parse
from tests.attacks.clocks import Time
from tests.attacks.live import DOORS, PATIENCE_S, WAYS, Credential, Listener, Subject
from tests.hub.mqtt.conftest import Client

RunSite = Callable[..., None]


@contextlib.asynccontextmanager
async def listening(
    s: Any, subject: Subject, credential: Credential, doors: tuple[str, ...]
) -> AsyncIterator[dict[str, Listener]]:
    listeners = {name: DOORS[name]() for name in doors}
    try:
        for each in listeners.values():
            await each.open(s, credential, subject.channel)
        yield listeners
    finally:
        for each in listeners.values():
            with contextlib.suppress(AttributeError):  # it was never opened
                await each.close()


@pytest.mark.parametrize("kind", sorted({kind for _, kind, _ in WAYS}))
def test_what_is_open_ends_with_the_right(site: RunSite, kind: str) -> None:
    async def scenario(s: Any) -> None:
        for number, (way, shown, doors) in enumerate(WAYS):
            if shown == kind:
                await ends(s, f"field-{number}", way, kind, doors)

    site(scenario)


async def ends(s: Any, name: str, way: str, kind: str, doors: tuple[str, ...]) -> None:
    """One right taken away in one way, with a listener on each door."""
    subject = Subject.new(s, name)
    credential = subject.credential(kind)
    async with listening(s, subject, credential, doors) as listeners:
        await subject.publish()
        for each in listeners.values():
            await each.hears(1)
        await asyncio.to_thread(subject.revoke, way, credential)
        for door, each in listeners.items():
            async with asyncio.timeout(PATIENCE_S):
                await each.over.wait()
            assert each.heard == 1, (way, door)
        if way != "channel removed":
            await subject.publish()
            assert {door: each.heard for door, each in listeners.items()} == dict.fromkeys(doors, 1), way


def test_what_has_its_time_passed_ends_by_itself(site: RunSite, time: Time) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        credential = subject.credential("thing API key", expires_s=s.hub.now_s() + 3600)
        async with listening(s, subject, credential, tuple(DOORS)) as listeners:
            time.passes(3600)
            for each in listeners.values():
                async with asyncio.timeout(PATIENCE_S):
                    await each.over.wait()
        assert s.hub.registry.grants.of_owner("thing", subject.thing_id).total == 0

    site(scenario, clock=time.clock)


def test_a_change_that_takes_nothing_away_ends_nothing(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        other = Subject.new(s, "yard")
        credential = subject.credential("thing API key")
        async with listening(s, subject, credential, tuple(DOORS)) as listeners:
            for way in ("key rotated", "connection cut", "thing removed", "user removed"):
                await asyncio.to_thread(other.revoke, way, other.credential("thing key"))
            await asyncio.to_thread(s.hub.registry.rotate_key, subject.thing_id)  # not the key that was shown
            assert credential.grant is not None
            await asyncio.to_thread(s.hub.registry.grants.narrow, credential.grant.id, parse("messages:read"))
            await subject.publish()
            for each in listeners.values():
                await each.hears(1)
                assert not each.over.is_set()

    site(scenario)


def test_without_being_told_what_is_open_stays_open(site: RunSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the seam tells nobody that a right is gone, and MQTT and CoAP go on listening."""
    monkeypatch.setattr(Access, "_registry_changed", lambda *_: None)

    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        credential = subject.credential("thing API key")
        async with listening(s, subject, credential, ("mqtt", "coap")) as listeners:
            await asyncio.to_thread(subject.revoke, "grant removed", credential)
            await s.client.get("/health")
            assert not any(each.over.is_set() for each in listeners.values())

    site(scenario)


# What waits: kept sessions, messages in flight, wills


@contextlib.asynccontextmanager
async def session(s: Any, credential: Credential, present: bool, **connect: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", s.mqtt.port)
    client = Client(reader, writer)
    client.connect("kept", credential.username, credential.value, clean=False, **connect)
    assert await client.read() == (0x20, bytes((present, 0)))
    try:
        yield client
    finally:
        writer.transport.abort()


def kept_session(s: Any, subject: Subject, credential: Credential) -> Session:
    """The door's side of what `session` opened."""
    grant = f"#{credential.grant.id}" if credential.grant is not None else ""
    found: Session | None = s.mqtt.sessions.get((subject.thing_id + grant, "kept"))
    assert found is not None
    return found


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_queued_or_in_flight_is_not_sent_after_the_right_is_gone(site: RunSite, qos: int) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        credential = subject.credential("thing API key")
        async with session(s, credential, False) as client:
            await client.subscribe((f"channels/{subject.channel}/messages/#", qos))
            await subject.publish()
            assert (await client.message())[2] == qos  # in flight: not acknowledged
        await subject.publish()  # queued
        assert credential.grant is not None
        await asyncio.to_thread(s.hub.registry.grants.narrow, credential.grant.id, parse("messages:write"))
        async with session(s, credential, True) as client:
            kept = kept_session(s, subject, credential)
            async with asyncio.timeout(PATIENCE_S):
                while kept.in_flight:  # until the door has come to it
                    assert await client.fence() == []
            assert await client.fence() == []
            assert kept.subscriptions == {}

    site(scenario)


def test_a_kept_session_of_a_key_goes_with_the_key_and_the_things_own_stays(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        own, key = subject.credential("thing key"), subject.credential("thing API key")
        for credential in (own, key):
            async with session(s, credential, False) as client:
                await client.subscribe((f"channels/{subject.channel}/messages/#", 1))
        assert len(s.mqtt.sessions) == 2
        assert key.grant is not None
        await asyncio.to_thread(s.hub.registry.grants.remove, key.grant.id)
        async with asyncio.timeout(PATIENCE_S):
            async with session(s, own, True) as client:
                assert await client.fence() == []
        assert len(s.mqtt.sessions) == 1

    site(scenario)


@pytest.mark.parametrize(("kind", "way"), [("thing key", "key rotated"), ("thing API key", "grant removed")])
def test_a_will_is_not_published_for_a_key_that_is_void(site: RunSite, kind: str, way: str) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        credential = subject.credential(kind)
        if credential.grant is not None:
            rights = parse("messages:read messages:write")
            await asyncio.to_thread(s.hub.registry.grants.narrow, credential.grant.id, rights)
        will = (f"channels/{subject.channel}/messages/will", b"boo", 1, False)
        async with session(s, credential, False, will=will) as client:
            await client.subscribe((f"channels/{subject.channel}/messages", 1))
            kept = kept_session(s, subject, credential)
            await asyncio.to_thread(subject.revoke, way, credential)
            assert await client.closed()
            kept.will = Will(*will)
            s.mqtt.wills.leave_late(kept, ended=False)  # as when a delay is over
        await subject.publish()
        assert [message.payload for message in s.hub.log.read(0)] == [b'[{"n":"t","v":1}]']

    site(scenario)


def test_who_does_not_read_gets_nothing_of_what_was_buffered_for_him(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        subject = Subject.new(s, "field")
        credential = subject.credential("thing key")
        reader, writer = await asyncio.open_connection("127.0.0.1", s.mqtt.port)
        client = Client(reader, writer)
        client.connect("slow", credential.username, credential.value)
        await client.read()
        await client.subscribe((f"channels/{subject.channel}/messages/#", 0))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        payload = b"x" * 200_000
        async with asyncio.timeout(PATIENCE_S):
            while not s.mqtt.unsent_bytes():
                s.hub.post(subject.writer, "http", subject.channel, "", "application/octet-stream", payload)
                await asyncio.sleep(0)
        await asyncio.to_thread(subject.revoke, "connection cut", credential)
        await s.client.get("/health")
        assert s.mqtt.unsent_bytes() == 0
        writer.transport.abort()

    site(scenario)

"""A whole site to attack: every door on a real socket, people of every role, and a foreign organisation.

A test asks for `site` and hands it a scenario, `async def scenario(s: Site) -> None`. Within it
`async with s.refused_once("access"):` demands that what happens inside leaves exactly one refusal in the audit log, of
that kind; `s.accepted()` that it leaves none, for the negative control of each attack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import argon2
import httpx
import pytest

from hub import coap, mqtt, passwords
from hub.audit_chain import Line
from hub.http import MIGRATIONS
from hub.http.app import HttpApp, create_app
from hub.http.door import HttpDoor
from hub.http.proxies import Proxies
from hub.hub import Clock, Hub, HubSettings, system_clock
from hub.mqtt import websocket
from hub.passwords import hash_password
from hub.registry import User
from hub.users import ROLES
from tests.attacks.clocks import Time

PASSWORD = "four or five easy words"  # of everybody
OWNER = "owner@example.org"
PATIENCE_S = 10.0

_encoded: dict[int, str] = {}


def encoded() -> str:
    """The hash of PASSWORD, made once by each hasher: argon2 is slow on purpose."""
    hasher = id(passwords._hasher)
    if hasher not in _encoded:
        _encoded[hasher] = hash_password(PASSWORD)
    return _encoded[hasher]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Passwords cost next to nothing; gives the passwords that were held against a hash."""
    checked: list[str] = []

    class Hasher(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
            checked.append(str(password))
            return super().verify(hash, password)

    hasher = Hasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("nobody has this password"))
    return checked


@pytest.fixture
def time() -> Time:
    return Time()


@dataclass
class Person:
    """Somebody with an account, signed in."""

    user: User
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @property
    def login(self) -> dict[str, str]:
        return {"email": self.user.email, "password": PASSWORD}


@dataclass
class Device:
    """A thing and the channel it is connected to."""

    id: str
    key: str = field(repr=False)
    channel: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Thing {self.key}"}

    @property
    def messages(self) -> str:
        return f"/channels/{self.channel}/messages"


@dataclass
class Organisation:
    """A group with an administrator of its own (who is a member of the gateway), a thing and a channel."""

    id: str
    person: Person
    device: Device


@dataclass
class Site:
    """A running hub with all of its doors. `owner` claimed it; `people` has one account of each role."""

    hub: Hub
    app: HttpApp
    http: HttpDoor
    mqtt: mqtt.MqttDoor
    coap: coap.CoapDoor
    client: httpx.AsyncClient
    people: dict[str, Person]
    device: Device
    home: Organisation
    foreign: Organisation

    @property
    def owner(self) -> Person:
        return self.people["admin"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.http.port}"

    @property
    def coap_url(self) -> str:
        return f"coap://127.0.0.1:{self.coap.port}"

    def person(self, email: str, role: str) -> Person:
        """Somebody new, signed in."""
        return sign_up(self.hub, email, role)

    def organisation(self, name: str) -> Organisation:
        """Another group with everything in it."""
        return found_organisation(self.hub, name)

    async def request(self, method: str, path: str, as_: Any = None, **more: Any) -> httpx.Response:
        """Over HTTP, as a Person or a Device, or as nobody."""
        headers = {**(as_.headers if as_ else {}), **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    def refusals(self, after: int = 0) -> list[Line]:
        """Refusals in the audit log with a number above `after`, oldest first; what was gathered is among them."""
        return [line for line in self.audited(after) if line.outcome == "refused"]

    def audited(self, after: int = 0) -> list[Line]:
        """Everything in the audit log with a number above `after`, oldest first."""
        assert self.hub.audit.flush(gathered=True)
        if not self.hub.audit.path.exists():
            return []
        with self.hub.audit.reader() as reader:
            return reader.lines("n > ?", (after,), 100_000)[::-1]

    @asynccontextmanager
    async def refused_once(self, kind: str, *, who: str | None = None) -> AsyncIterator[None]:
        """What happens inside leaves one refusal of this kind (and of `who`, where given) in the audit log."""
        before = len(self.audited())
        yield
        found: list[Line] = []
        for _ in range(int(PATIENCE_S / 0.01)):  # a door may still be at work on it
            if found := self.refusals(before):
                break
            await asyncio.sleep(0.01)
        assert [(line.kind, line.count) for line in found] == [(kind, 1)], found
        assert who is None or found[0].who == who, found

    @asynccontextmanager
    async def accepted(self) -> AsyncIterator[None]:
        """What happens inside leaves no refusal in the audit log."""
        before = len(self.audited())
        yield
        assert self.refusals(before) == []


Scenario = Callable[[Site], Awaitable[None]]
RunSite = Callable[..., None]


def sign_up(hub: Hub, email: str, role: str) -> Person:
    """An account with PASSWORD, and a token of it."""
    user = hub.registry.create_account(email, encoded(), role)
    return Person(user, hub.registry.issue_token(user.id, hub.clock()[0] / 1e9))


def found_organisation(hub: Hub, name: str) -> Organisation:
    """A group with an administrator, a thing and a channel."""
    group = hub.registry.groups.create(name, now_s=hub.clock()[0] / 1e9)
    person = sign_up(hub, f"{name}@example.org", "member")
    hub.registry.groups.assign_users(group.id, [person.user.id], "admin")
    return Organisation(group.id, person, _device(hub, name, group.id))


def _device(hub: Hub, name: str, group: str = "") -> Device:
    thing, key = hub.registry.create_thing(f"sensor of {name}", group=group)
    channel = hub.registry.create_channel(f"field of {name}", group=group)
    hub.registry.connect([channel.id], [thing.id])
    return Device(thing.id, key, channel.id)


@asynccontextmanager
async def open_site(
    folder: Path, proxies: Proxies | None = None, clock: Clock = system_clock, **door_settings: Any
) -> AsyncIterator[Site]:
    """A claimed site in `folder`, behind `proxies` where some are trusted."""
    hub = Hub.open(
        folder,
        migrations=(*MIGRATIONS, *mqtt.MIGRATIONS, *coap.MIGRATIONS),
        settings=HubSettings(commit_interval_s=0.05, max_messages=10_000),
        clock=clock,
    )
    broker = mqtt.MqttDoor(hub, "127.0.0.1", 0)
    app = create_app(hub, mqtt=websocket.asgi_app(broker), proxies=proxies)
    http = HttpDoor(hub, app, **door_settings)
    constrained = coap.CoapDoor(hub, "127.0.0.1", 0)
    for door in (http, broker, constrained):
        await door.start()
    people = {"admin": sign_up(hub, OWNER, "admin")}  # the first account claims the gateway
    people |= {role: sign_up(hub, f"{role}@example.org", role) for role in ROLES if role != "admin"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{http.port}", trust_env=False, timeout=30
    ) as client:
        home, foreign = found_organisation(hub, "home"), found_organisation(hub, "foreign")
        device = _device(hub, "nobody")
        try:
            yield Site(hub, app, http, broker, constrained, client, people, device, home, foreign)
        finally:
            for door in (constrained, broker, http):
                await door.close()
            await hub.close()


@pytest.fixture
def site(tmp_path: Path) -> RunSite:
    """Run a scenario against a fresh site."""

    def run(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with open_site(tmp_path / "data", **settings) as here:
                await scenario(here)

        asyncio.run(main())

    return run

"""Who may publish to and read which channel: the same on HTTP, MQTT, WebSocket and CoAP, and what `hub.access` says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiocoap
import aiomqtt
import httpx
import pytest
import websockets

from hub import coap, mqtt
from hub.access import Action, Principal, Resource
from hub.http import MIGRATIONS
from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.hub import Hub, HubSettings
from hub.registry import Rights
from hub.registry_items import EVENTS

PACK = b'[{"n":"t","v":1}]'
PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody signs in with a password here, and hashing would cost more than all the rest."""
    monkeypatch.setattr("hub.registry_people.hash_password", lambda *given: "unused")


@dataclass
class Caller:
    """Somebody with a credential: `name` and `secret` for MQTT, the header for HTTP and WebSocket."""

    principal: Principal
    name: str
    secret: str
    header: str


class World:
    """A hub with all doors, two organisations, a channel of each, and callers of every kind."""

    def __init__(
        self, hub: Hub, http: HttpDoor, broker: mqtt.MqttDoor, constrained: coap.CoapDoor, context: Any
    ) -> None:
        self.hub, self.http, self.mqtt, self.coap, self.context = hub, http, broker, constrained, context
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.port}", verify=False, timeout=30)
        registry = hub.registry
        registry.create_user("owner@example.org", "correct horse")
        make = registry.groups.create
        self.ours, theirs = make("ours", now_s=1.0).id, make("theirs", now_s=1.0).id
        self.channels = {
            "ours": registry.create_channel(group=self.ours).id,
            "theirs": registry.create_channel(group=theirs).id,
            "events": registry.create_channel(id=EVENTS).id,
            "nobody's": "0" * 36,
        }
        self.callers: dict[str, Caller] = {}
        for name, rights in (
            ("both", Rights.BOTH),
            ("publishes", Rights.PUBLISH),
            ("reads", Rights.SUBSCRIBE),
        ):
            self._thing(name, self.ours, "ours", rights)
        self._thing("foreign", theirs, "theirs", Rights.BOTH)
        self._thing("alone", "", "", Rights.BOTH)
        self._thing("listens to events", "", "events", Rights.BOTH)
        for role in ("admin", "technician", "viewer", "member"):
            self._person(role, role, "")
        for role in ("viewer", "admin"):
            self._person(f"{role} of ours", "member", role)
        registry.change_policies(
            {
                "quiet": json.dumps(
                    {
                        "subjects": [f"things/{self.callers['both'].principal.id}"],
                        "actions": ["<subscribe|deliver>"],
                        "resources": [f"channels/{self.channels['ours']}/messages<.*>"],
                        "effect": "deny",
                    }
                ),
                "guest": json.dumps(
                    {
                        "subjects": [
                            f"users/{self.callers['member'].principal.id}",
                            f"things/{self.callers['alone'].principal.id}",
                        ],
                        "actions": ["<subscribe|deliver|publish>"],
                        "resources": [f"channels/{self.channels['theirs']}/messages<.*>"],
                        "effect": "allow",
                    }
                ),
            },
            0.0,
        )

    def _thing(self, name: str, group: str, channel: str, rights: Rights) -> None:
        thing, key = self.hub.registry.create_thing(name, group=group)
        if channel:
            self.hub.registry.connect([self.channels[channel]], [thing.id], rights)
        self.callers[name] = Caller(Principal.of_thing(thing), thing.id, key, f"Thing {key}")

    def _person(self, name: str, role: str, there: str) -> None:
        registry = self.hub.registry
        user = registry.create_user(f"{name.replace(' ', '-')}@example.org", "correct horse", role)
        if there:
            registry.groups.assign_users(self.ours, [user.id], there)
        token = registry.issue_token(user.id, self.hub.now_s())
        self.callers[name] = Caller(Principal.of_user(user), user.email, token, f"Bearer {token}")

    def decided(self, caller: Caller, action: Action, channel: str) -> bool:
        return self.hub.access.decide(caller.principal, action, Resource(channel)).allowed


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    hub = Hub.open(
        folder,
        migrations=(*MIGRATIONS, *mqtt.MIGRATIONS, *coap.MIGRATIONS),
        settings=HubSettings(commit_interval_s=0.01),
    )
    http, broker, constrained = (
        HttpDoor(hub, create_app(hub)),
        mqtt.MqttDoor(hub, "127.0.0.1", 0),
        coap.CoapDoor(hub, "127.0.0.1", 0),
    )
    for door in (http, broker, constrained):
        await door.start()
    context = await aiocoap.Context.create_client_context()
    made = World(hub, http, broker, constrained, context)
    try:
        yield made
    finally:
        await made.client.aclose()
        await context.shutdown()
        for door in (constrained, broker, http):
            await door.close()
        await hub.close()


async def by_http(w: World, caller: Caller, channel: str) -> tuple[bool, bool]:
    """Whether a message is published, and whether what the channel holds is read."""
    headers = {"authorization": caller.header, "content-type": "application/senml+json"}
    path = f"/channels/{channel}/messages"
    sent = (await w.client.post(path, content=PACK, headers=headers)).status_code
    read = (await w.client.get(path, headers=headers)).status_code
    async with w.client.stream("GET", path, headers={**headers, "accept": "text/event-stream"}) as followed:
        follows = followed.status_code
    assert sent in (202, 403)
    assert read in (200, 403, 404)
    assert follows == read, "a page and a stream are the same right"
    return sent == 202, read == 200


async def by_websocket(w: World, caller: Caller, channel: str) -> tuple[bool, bool]:
    url = f"ws://127.0.0.1:{w.http.port}/channels/{channel}/messages?envelope=true"
    try:
        async with websockets.connect(url, additional_headers={"Authorization": caller.header}) as socket:
            head = '{"id":"1","content_type":"application/senml+json","payload":'
            await socket.send(head + PACK.decode() + "}")
            async with asyncio.timeout(PATIENCE_S):
                while (answer := json.loads(await socket.recv()))["type"] not in ("ack", "error"):
                    continue
            return answer["type"] == "ack", True
    except websockets.InvalidStatus as refusal:
        if refusal.response.status_code not in (403, 404):
            raise
        return False, False


async def by_mqtt(w: World, caller: Caller, channel: str) -> tuple[bool, bool]:
    async with aiomqtt.Client(
        "127.0.0.1",
        w.mqtt.port,
        username=caller.name,
        password=caller.secret,
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        before = w.hub.log.committed_seq
        await client.publish(f"channels/{channel}/messages", PACK, qos=1)
        sent = w.hub.log.committed_seq > before
        (granted,) = await client.subscribe(f"channels/{channel}/messages/#", qos=1)
    return sent, (granted if isinstance(granted, int) else granted.value) < 0x80


async def by_coap(w: World, caller: Caller, channel: str) -> tuple[bool, bool]:
    """For things; people have no way in by CoAP."""
    uri = f"coap://127.0.0.1:{w.coap.port}/channels/{channel}/messages?auth={caller.secret}"
    post = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=PACK, content_format=110)
    get = aiocoap.Message(code=aiocoap.GET, uri=uri)
    sent = await asyncio.wait_for(w.context.request(post).response, PATIENCE_S)
    read = await asyncio.wait_for(w.context.request(get).response, PATIENCE_S)
    if caller.principal.kind == "user":
        assert {sent.code, read.code} == {aiocoap.UNAUTHORIZED}
    else:
        assert sent.code in (aiocoap.CHANGED, aiocoap.FORBIDDEN)
        assert read.code in (aiocoap.CONTENT, aiocoap.NOT_FOUND, aiocoap.FORBIDDEN)
    return sent.code == aiocoap.CHANGED, read.code in (aiocoap.CONTENT, aiocoap.NOT_FOUND)


def test_each_door_lets_everybody_do_what_access_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            allowed = 0
            for who, caller in w.callers.items():
                for where, channel in w.channels.items():
                    sends = w.decided(caller, Action.PUBLISH, channel)
                    reads = w.decided(caller, Action.SUBSCRIBE, channel)
                    person = caller.principal.kind == "user"
                    expected = {
                        by_http: (sends, reads),
                        by_mqtt: (sends, reads),
                        by_websocket: (sends and reads, reads),  # a socket is opened by who may read
                        by_coap: (sends and not person, reads and not person),
                    }
                    got = {door: await door(w, caller, channel) for door in expected}
                    assert got == expected, (who, where)
                    allowed += sends + reads
            assert allowed == ALLOWED

    asyncio.run(main())


# What the callers and channels above come to, counted by hand from docs/groups.md and docs/policies.md:
# both: publishes (reading is denied to it); publishes; reads; foreign 2 in its own; alone 2 by the policy; who listens
# to events reads them; an administrator reads 3, technician and viewer 2 each, the member 1 by the policy, and the
# viewer and the administrator of our group 1 each.
ALLOWED = 1 + 1 + 1 + 2 + 2 + 1 + 3 + 2 + 2 + 1 + 1 + 1


@pytest.mark.parametrize("how", ["taken out", "moved", "let go", "removed"])
def test_a_membership_that_ends_ends_what_is_open(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            caller, channel = w.callers["viewer of ours"], w.channels["ours"]
            groups = w.hub.registry.groups
            url = f"ws://127.0.0.1:{w.http.port}/channels/{channel}/messages"
            path = f"/channels/{channel}/messages"
            headers = {"authorization": caller.header, "accept": "text/event-stream"}
            async with (
                websockets.connect(url, additional_headers={"Authorization": caller.header}) as socket,
                aiomqtt.Client(
                    "127.0.0.1",
                    w.mqtt.port,
                    username=caller.name,
                    password=caller.secret,
                    protocol=aiomqtt.ProtocolVersion.V5,
                ) as client,
                w.client.stream("GET", path, headers=headers) as followed,
            ):
                await client.subscribe(f"channels/{channel}/messages/#", qos=1)
                assert followed.status_code == 200
                match how:
                    case "taken out":
                        await asyncio.to_thread(groups.unassign_users, w.ours, [caller.principal.id])
                    case "moved":
                        other = groups.create("other", now_s=1.0).id
                        await asyncio.to_thread(groups.assign, other, "channels", [channel])
                    case "let go":
                        await asyncio.to_thread(groups.unassign, w.ours, "channels", [channel])
                    case "removed":
                        await asyncio.to_thread(groups.remove, w.ours)
                speaker = w.callers["publishes"]
                sent = {"authorization": speaker.header, "content-type": "application/senml+json"}
                assert (await w.client.post(path, content=PACK, headers=sent)).status_code == 202
                async with asyncio.timeout(PATIENCE_S):
                    frames: list[str | bytes] = []
                    with contextlib.suppress(websockets.ConnectionClosed):
                        frames += [frame async for frame in socket]
                    assert frames == [], "closed, and nothing came before"
                    assert PACK.decode() not in "".join([text async for text in followed.aiter_text()])
                    with pytest.raises(aiomqtt.MqttError):
                        await anext(client.messages)

    asyncio.run(main())

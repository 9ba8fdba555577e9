"""One policy decides the same on MQTT, HTTP, WebSocket and CoAP, and reaches sessions that are already open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiocoap
import aiomqtt
import httpx
import pytest
import websockets

from hub import coap, mqtt
from hub.http import MIGRATIONS
from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.hub import Hub

PACK = b'[{"n":"t","v":1}]'
PATIENCE_S = 10


@dataclass
class World:
    """A hub with its doors, a thing and the channel it is connected to."""

    hub: Hub
    http: HttpDoor
    mqtt: mqtt.MqttDoor
    coap: coap.CoapDoor
    thing: str
    key: str
    channel: str

    def put(self, effect: str, action: str, **conditions: object) -> None:
        document = {
            "subjects": [f"things/{self.thing}"],
            "actions": [action],
            "resources": [f"channels/{self.channel}/messages<(/.*)?>"],
            "effect": effect,
            "conditions": conditions,
        }
        self.hub.registry.change_policies({"p": json.dumps(document)}, 0)


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    hub = Hub.open(folder, migrations=(*MIGRATIONS, *mqtt.MIGRATIONS, *coap.MIGRATIONS))
    thing, key = hub.registry.create_thing("sensor")
    channel = hub.registry.create_channel("field")
    hub.registry.connect([channel.id], [thing.id])
    http = HttpDoor(hub, create_app(hub))
    broker = mqtt.MqttDoor(hub, "127.0.0.1", 0)
    constrained = coap.CoapDoor(hub, "127.0.0.1", 0)
    for door in (http, broker, constrained):
        await door.start()
    try:
        yield World(hub, http, broker, constrained, thing.id, key, channel.id)
    finally:
        for door in (constrained, broker, http):
            await door.close()
        await hub.close()


async def by_http(w: World) -> bool:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{w.http.port}", timeout=30) as client:
        headers = {"authorization": f"Thing {w.key}", "content-type": "application/senml+json"}
        answer = await client.post(f"/channels/{w.channel}/messages", content=PACK, headers=headers)
    assert answer.status_code in (202, 403)
    return answer.status_code == 202


async def by_mqtt(w: World) -> bool:
    async with aiomqtt.Client(
        "127.0.0.1", w.mqtt.port, username=w.thing, password=w.key, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        before = w.hub.log.committed_seq
        refused = w.mqtt.counters["refused_publishes"]
        await client.publish(f"channels/{w.channel}/messages", PACK, qos=1)
        stored = w.hub.log.committed_seq > before
        assert stored or w.mqtt.counters["refused_publishes"] > refused
    return stored


async def by_websocket(w: World) -> bool:
    url = f"ws://127.0.0.1:{w.http.port}/channels/{w.channel}/messages?envelope=true"
    async with websockets.connect(url, additional_headers={"Authorization": f"Thing {w.key}"}) as socket:
        head = '{"id":"1","content_type":"application/senml+json","payload":'
        await socket.send(head + PACK.decode() + "}")
        async with asyncio.timeout(PATIENCE_S):
            while (answer := json.loads(await socket.recv()))["type"] not in ("ack", "error"):
                continue
    assert answer["type"] == "ack" or answer["status"] == 403
    return bool(answer["type"] == "ack")


async def by_coap(w: World) -> bool:
    context = await aiocoap.Context.create_client_context()
    try:
        uri = f"coap://127.0.0.1:{w.coap.port}/channels/{w.channel}/messages?auth={w.key}"
        request = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=PACK, content_format=110)
        answer = await asyncio.wait_for(context.request(request).response, PATIENCE_S)
    finally:
        await context.shutdown()
    assert answer.code in (aiocoap.CHANGED, aiocoap.FORBIDDEN)
    return bool(answer.code == aiocoap.CHANGED)


DOORS = {"http": by_http, "mqtt": by_mqtt, "ws": by_websocket, "coap": by_coap}


def condition(kind: str, **options: object) -> dict[str, object]:
    return {"type": kind, "options": options}


@pytest.mark.parametrize(
    ("conditions", "allowed"),
    [
        pytest.param(None, True, id="no policy"),
        pytest.param({}, False, id="denied"),
        pytest.param({"source_ip": condition("CIDRCondition", cidr="127.0.0.0/8")}, False, id="from here"),
        pytest.param({"source_ip": condition("CIDRCondition", cidr="10.0.0.0/8")}, True, id="from elsewhere"),
        pytest.param({"payload_size": condition("NumberCondition", min=len(PACK))}, False, id="as large"),
        pytest.param({"payload_size": condition("NumberCondition", min=len(PACK) + 1)}, True, id="larger"),
        pytest.param({"owner": condition("EqualsSubjectCondition")}, True, id="nobody owns it"),
    ],
)
def test_every_door_decides_the_same(
    tmp_path: Path, conditions: dict[str, object] | None, allowed: bool
) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            if conditions is not None:
                w.put("deny", "publish", **conditions)
            assert {name: await publish(w) for name, publish in DOORS.items()} == dict.fromkeys(
                DOORS, allowed
            )

    asyncio.run(main())


def test_each_door_is_known_by_its_protocol(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            for protocol in DOORS:
                w.put("deny", "publish", protocol=condition("StringEqualCondition", equals=protocol))
                decided = {name: await publish(w) for name, publish in DOORS.items()}
                assert decided == {name: name != protocol for name in DOORS}

    asyncio.run(main())


def test_a_policy_silences_a_subscription_that_is_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            writer, writer_key = w.hub.registry.create_thing("writer")
            w.hub.registry.connect([w.channel], [writer.id])
            listener = World(w.hub, w.http, w.mqtt, w.coap, w.thing, w.key, w.channel)
            speaker = World(w.hub, w.http, w.mqtt, w.coap, writer.id, writer_key, w.channel)
            async with aiomqtt.Client(
                "127.0.0.1",
                w.mqtt.port,
                username=w.thing,
                password=w.key,
                protocol=aiomqtt.ProtocolVersion.V5,
            ) as client:
                await client.subscribe(f"channels/{w.channel}/messages/#", qos=1)
                assert await by_http(speaker)
                async with asyncio.timeout(PATIENCE_S):
                    assert (await anext(client.messages)).payload == PACK
                    listener.put("deny", "<subscribe|deliver>")
                    with pytest.raises(aiomqtt.MqttError):  # rights were revoked: the session is cut
                        await anext(client.messages)

    asyncio.run(main())


def test_a_policy_about_delivery_hides_part_of_a_channel(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            document = {
                "Statement": {
                    "Effect": "Deny",
                    "Principal": f"things/{w.thing}",
                    "Action": "Receive",
                    "Resource": f"channels/{w.channel}/messages/secret*",
                }
            }
            w.hub.registry.change_policies({"p": json.dumps(document)}, 0)
            async with aiomqtt.Client("127.0.0.1", w.mqtt.port, username=w.thing, password=w.key) as client:
                await client.subscribe(f"channels/{w.channel}/messages/#", qos=1)
                for below in ("secret", "secret/a", "open"):
                    await client.publish(f"channels/{w.channel}/messages/{below}", PACK, qos=1)
                async with asyncio.timeout(PATIENCE_S):
                    assert str((await anext(client.messages)).topic).endswith("/open")

    asyncio.run(main())


def test_reading_hides_what_would_not_be_delivered(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            document = {
                "Statement": {
                    "Effect": "Deny",
                    "Principal": f"things/{w.thing}",
                    "Action": "Receive",
                    "Resource": f"channels/{w.channel}/messages/secret*",
                }
            }
            headers = {"authorization": f"Thing {w.key}", "content-type": "application/senml+json"}
            path = f"/channels/{w.channel}/messages"
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{w.http.port}", headers=headers, timeout=30
            ) as client:
                for below in ("/open", "/secret"):
                    assert (await client.post(path + below, content=PACK)).status_code == 202

                async def seen(**more: str) -> set[str]:
                    answer = (await client.get(path, params=more)).json()
                    return {each["subtopic"] for each in answer["messages"]}

                assert await seen() == {"open", "secret"}
                w.hub.registry.change_policies({"p": json.dumps(document)}, 0)
                assert await seen() == {"open"}
                assert await seen(subtopic="secret") == set()
                exported = await client.get(path, params={"export": "csv"})
                assert "open" in exported.text
                assert "secret" not in exported.text
            context = await aiocoap.Context.create_client_context()
            try:
                for below, code in (("open", aiocoap.CONTENT), ("secret", aiocoap.NOT_FOUND)):
                    uri = f"coap://127.0.0.1:{w.coap.port}{path}/{below}?auth={w.key}"
                    response = context.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
                    assert (await asyncio.wait_for(response, PATIENCE_S)).code == code
            finally:
                await context.shutdown()

    asyncio.run(main())

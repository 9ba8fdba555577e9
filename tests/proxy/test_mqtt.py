"""MQTT through nginx: plain, with TLS opened by nginx or by the gateway, over WebSocket; clients keep their address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets

from hub.mqtt.fields import encode_length
from tests.hub.mqtt.conftest import Client
from tests.proxy.conftest import DEADLINE_S, Certified, Front, certify

WAYS = ("mqtt", "mqtts", "mqtts_passed")
FAR = "127.0.0.99"


@contextlib.asynccontextmanager
async def reached(
    front: Front, way: str, address: str = "127.0.0.9", certified: Certified | None = None
) -> AsyncIterator[Client]:
    """A client that has not said CONNECT yet."""
    context = None
    if way != "mqtt":
        context = front.trust
        if certified is not None:
            context.load_cert_chain(certified.cert, certified.key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", front.nginx.ports[way], ssl=context, local_addr=(address, 0)
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def connack(client: Client, client_id: str, user: str | None, key: str | None, **more: Any) -> bytes:
    client.connect(client_id, user, key, **more)
    first, body = await client.read()
    assert first == 0x20
    return body


@pytest.mark.parametrize("way", WAYS)
def test_a_kept_session_gets_what_was_published_while_it_was_away(front: Front, way: str) -> None:
    async def scenario() -> None:
        device = front.site.device
        topic = f"channels/{device.channel}/messages"
        async with reached(front, way) as client:
            assert await connack(client, way, device.id, device.key, clean=False) == b"\x00\x00"
            assert await client.subscribe((f"{topic}/away/{way}", 1)) == b"\x01"
        async with reached(front, way) as client:
            assert await connack(client, f"{way}-2", device.id, device.key) == b"\x00\x00"
            client.publish(f"{topic}/away/{way}", b"hello", 1, 7)
            assert await client.read() == (0x40, b"\x00\x07"), "it is on the disk"
        async with reached(front, way) as client:
            assert await connack(client, way, device.id, device.key, clean=False) == b"\x01\x00"
            assert (await client.message())[:2] == (f"{topic}/away/{way}", b"hello")

    front.run(scenario())


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_key_is_refused_with_the_clients_address(front: Front, way: str) -> None:
    async def scenario() -> None:
        before = len(await asyncio.to_thread(front.site.audited))
        address = f"127.0.0.{20 + WAYS.index(way)}"
        async with reached(front, way, address) as client:
            assert await connack(client, "x", front.site.device.id, "wrong") == b"\x00\x04"
        lines = await asyncio.to_thread(front.site.refusals, before)
        assert [(line.address, line.door) for line in lines] == [(address, "mqtt")]

    front.run(scenario())


def test_a_thing_shows_its_certificate_to_the_gateway_behind_a_passed_connection(front: Front) -> None:
    async def scenario() -> None:
        device = front.site.device
        certified = await certify(front, device.id)
        async with reached(front, "mqtts_passed", certified=certified) as client:
            assert await connack(client, "certified", device.id, None) == b"\x00\x00"
            client.publish(f"channels/{device.channel}/messages", b"1", 1, 1)
            assert await client.read() == (0x40, b"\x00\x01")
            revoke = front.site.hub.registry.certificates.revoke
            await asyncio.to_thread(revoke, [certified.serial], front.site.hub.now_s())
            async with asyncio.timeout(DEADLINE_S):
                assert await client.closed()

    front.run(scenario())


def test_a_policy_about_addresses_holds_through_stream_http_and_websocket_alike(front: Front) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["<.*>"],
        "actions": ["connect", "publish", "subscribe"],
        "effect": "deny",
        "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": f"{FAR}/32"}}},
    }

    async def reaches(address: str) -> list[bool]:
        """Whether a thing gets in from there: on the three ways of MQTT, over WebSocket, and by HTTP."""
        device = front.site.device
        found = []
        for way in WAYS:
            async with reached(front, way, address) as client:
                found.append(await connack(client, "p", device.id, device.key) == b"\x00\x00")
        async with front.client(address) as client:
            sent = await client.post(
                device.messages,
                content=b"1",
                headers={**device.headers, "content-type": "application/octet-stream"},
            )
            found.append(sent.status_code == 202)
        url = front.origin.replace("https", "wss") + device.messages
        shown = {"additional_headers": device.headers, "ssl": front.trust, "proxy": None}
        with contextlib.suppress(websockets.InvalidStatus):
            async with websockets.connect(url, local_addr=(address, 0), **shown):  # type: ignore[arg-type]
                found.append(True)
        return [*found, False][: len(WAYS) + 2]

    async def scenario() -> None:
        registry, now_s = front.site.hub.registry, front.site.hub.now_s()
        assert await reaches(FAR) == [True] * 5
        await asyncio.to_thread(registry.change_policies, {"far": json.dumps(policy)}, now_s)
        try:
            assert await reaches(FAR) == [False] * 5
            assert await reaches("127.0.0.98") == [True] * 5
        finally:
            await asyncio.to_thread(registry.change_policies, {"far": None}, now_s)

    front.run(scenario())


def test_mqtt_over_websocket_ends_with_the_key(front: Front) -> None:
    async def scenario() -> None:
        registry = front.site.hub.registry
        thing, key = registry.create_thing("over WebSocket")
        url = front.origin.replace("https", "wss") + "/mqtt"
        offered = [websockets.Subprotocol("mqtt")]
        async with websockets.connect(url, subprotocols=offered, ssl=front.trust, proxy=None) as socket:
            assert socket.subprotocol == "mqtt"
            texts = ("client", thing.id, key)
            payload = b"".join(len(each).to_bytes(2, "big") + each.encode() for each in texts)
            body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + payload
            await socket.send(b"\x10" + encode_length(len(body)) + body)
            assert await socket.recv() == b"\x20\x02\x00\x00"
            await asyncio.to_thread(registry.rotate_key, thing.id)
            async with asyncio.timeout(DEADLINE_S):
                await socket.wait_closed()

    front.run(scenario())


def test_mosquittos_own_clients_come_through(front: Front) -> None:
    device = front.site.device
    port = str(front.nginx.ports["mqtts"])
    tls = ["--cafile", str(front.authority.cert), "-h", "127.0.0.1", "-p", port]
    login = ["-u", device.id, "-P", device.key, "-t", f"channels/{device.channel}/messages/mosquitto"]
    subscriber = subprocess.Popen(
        ["stdbuf", "-oL", "mosquitto_sub", *tls, *login, "-C", "1", "-W", "20", "-d"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert subscriber.stdout is not None
    for line in subscriber.stdout:
        if "Subscribed" in line:
            break
    sent = subprocess.run(
        ["mosquitto_pub", *tls, *login, "-q", "1", "-m", "21.5"], capture_output=True, check=False
    )
    assert sent.returncode == 0, sent.stderr
    assert "21.5\n" in subscriber.stdout.read()
    subscriber.stdout.close()
    assert subscriber.wait(20) == 0

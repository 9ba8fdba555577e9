"""The gateway's listeners: TLS beside plain, CoAP, MQTT over WebSocket, and what a wrong setting is told."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import types
from pathlib import Path
from typing import Any

import aiocoap
import httpx
import msgspec
import paho.mqtt.client as paho
import pytest
from aiocoap.oscore import NotAProtectedMessage

from gateway import app, doors
from gateway.demo.broker import free_port
from gateway.errors import StartFailed
from gateway.settings import Config, HttpSection, MqttSection, TlsSection
from hub.message import Message
from tests.hub.pki import Authority

PACK = b'[{"n":"temp","u":"Cel","v":21.5}]'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(config: Config, authority: Authority) -> Config:
    """The test's settings with a TLS listener beside each plain one."""
    pair = authority.server()
    return msgspec.structs.replace(
        config,
        tls=TlsSection(cert_file=str(pair.cert), key_file=str(pair.key), client_ca_file=str(authority.cert)),
        mqtt=MqttSection(port=0, tls_host="127.0.0.1", tls_port=free_port()),
        http=HttpSection(port=0, workshop_port=0, tls_host="127.0.0.1", tls_port=free_port()),
    )


def new_thing(s: Any) -> tuple[str, str, str]:
    """Id and key of a thing, and the channel it is connected to."""
    registry = s.gateway.core.hub.registry
    thing, key = registry.create_thing("tester")
    channel = registry.create_channel("test")
    registry.connect([channel.id], [thing.id])
    return thing.id, key, channel.id


def stored(s: Any) -> list[Message]:
    found: list[Message] = s.gateway.core.hub.log.read(0)
    return found


def publish_over_mqtt(port: int, channel: str, **options: Any) -> paho.MQTTErrorCode:
    """One QoS 1 message; returns when it is acknowledged. `options`: user, tls, transport."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        protocol=paho.MQTTv5,
        transport=options.get("transport", "tcp"),
    )
    if "tls" in options:
        client.tls_set_context(options["tls"])
    client.username_pw_set(*options.get("user", ("", None)))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        sent = client.publish(f"channels/{channel}/messages/room", PACK, qos=1)
        sent.wait_for_publish(10)
        return sent.rc
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_certificate_stands_for_its_thing_over_mqtt_and_https(
    site: Any, tls: Config, authority: Authority
) -> None:
    async def main() -> None:
        async with site(tls) as s:
            thing, _, channel = new_thing(s)
            pair = authority.issue(thing)
            context = ssl.create_default_context(cafile=str(authority.cert))
            context.load_cert_chain(pair.cert, pair.key)
            doors = s.gateway.doors
            await asyncio.to_thread(publish_over_mqtt, doors.mqtt_tls_port, channel, tls=context)
            async with httpx.AsyncClient(verify=context, timeout=30) as client:
                answer = await client.post(
                    f"https://127.0.0.1:{doors.https_port}/channels/{channel}/messages/room",
                    content=PACK,
                    headers={"content-type": "application/senml+json"},
                )
            assert answer.status_code == 202, answer.text
            assert [(each.publisher, each.protocol) for each in stored(s)] == [
                (thing, "mqtt"),
                (thing, "http"),
            ]

    asyncio.run(main())


def test_without_certificate_or_key_nobody_publishes_over_tls(
    site: Any, tls: Config, authority: Authority
) -> None:
    async def main() -> None:
        async with site(tls) as s:
            _, _, channel = new_thing(s)
            context = ssl.create_default_context(cafile=str(authority.cert))
            async with httpx.AsyncClient(verify=context, timeout=30) as client:
                url = f"https://127.0.0.1:{s.gateway.doors.https_port}/channels/{channel}/messages"
                answer = await client.post(url, content=PACK)
            assert answer.status_code == 401
            assert stored(s) == []

    asyncio.run(main())


def test_coap_and_mqtt_over_websocket_reach_the_same_log(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            thing, key, channel = new_thing(s)
            client = await aiocoap.Context.create_client_context()
            uri = f"coap://127.0.0.1:{s.gateway.doors.coap.port}/channels/{channel}/messages/room?auth={key}"
            answer = await client.request(
                aiocoap.Message(code=aiocoap.POST, uri=uri, payload=PACK, content_format=110)
            ).response
            await client.shutdown()
            assert answer.code == aiocoap.CHANGED, answer.payload
            await asyncio.to_thread(
                *(publish_over_mqtt, s.gateway.http.port, channel), transport="websockets", user=(thing, key)
            )
            assert [each.protocol for each in stored(s)] == ["coap", "mqtt"]

    asyncio.run(main())


def test_the_rates_that_are_set_hold_at_every_door(site: Any, config: Config) -> None:
    limited = msgspec.structs.replace(
        config,
        mqtt=MqttSection(port=0, publish_rate=5.0, publish_burst=2),
        http=HttpSection(port=0, workshop_port=0, publish_rate=0.001, publish_burst=2, stranger_rate=0.0),
    )

    def flood(port: int, user: tuple[str, str], channel: str) -> None:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set(*user)
        client.connect("127.0.0.1", port)
        client.loop_start()
        for n in range(10):
            client.publish(f"channels/{channel}/messages/fast", b"%d" % n)
        client.publish(f"channels/{channel}/messages/fast", b"last", qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()

    async def main() -> None:
        async with site(limited) as s:
            thing, key, channel = new_thing(s)
            await asyncio.to_thread(flood, s.gateway.doors.mqtt.port, (thing, key), channel)
            assert [each.payload for each in stored(s)] == [*(b"%d" % n for n in range(10)), b"last"]
            assert s.gateway.doors.mqtt.counters["paced_reads"] > 0
            url = f"http://127.0.0.1:{s.gateway.http.port}/channels/{channel}/messages"
            headers = {"authorization": key, "content-type": "application/senml+json"}
            async with httpx.AsyncClient(timeout=30) as client:
                answers = [await client.post(url, content=PACK, headers=headers) for _ in range(3)]
            assert [each.status_code for each in answers] == [202, 202, 429]
            assert doors.http_limits(limited).stranger_rate == 0.0

    asyncio.run(main())


def test_an_oscore_context_made_over_the_api_stands_for_its_thing_until_it_is_removed(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiocoap's client imports the library of EDHOC, which is not used here and has no wheels for every machine.
    monkeypatch.setitem(sys.modules, "lakers", types.ModuleType("lakers"))

    async def main() -> None:
        async with site() as s:
            await s.claim()
            thing, _, channel = new_thing(s)
            answer = await s.api.post(f"/things/{thing}/oscore")
            assert answer.status_code == 201, answer.text
            made = answer.json()
            assert (await s.api.get(f"/things/{thing}/oscore")).json() == {"sender_ids": [made["sender_id"]]}
            folder = tmp_path / "context"
            folder.mkdir()
            settings = {
                "algorithm": made["algorithm"],
                "secret_hex": made["master_secret"],
                "salt_hex": made["master_salt"],
                "sender-id_hex": made["sender_id"],
                "recipient-id_hex": made["recipient_id"],
            }
            (folder / "secret.json").write_text(json.dumps(settings))
            client = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
            uri = f"coap://127.0.0.1:{s.gateway.doors.coap.port}/channels/{channel}/messages/room"
            client.client_credentials.load_from_dict(
                {f"coap://127.0.0.1:{s.gateway.doors.coap.port}/*": {"oscore": {"basedir": f"{folder}/"}}}
            )

            def request() -> Any:
                message = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=PACK, content_format=110)
                return client.request(message).response

            try:
                assert (await request()).code == aiocoap.CHANGED
                assert [each.publisher for each in stored(s)] == [thing]
                gone = await s.api.delete(f"/things/{thing}/oscore/{made['sender_id']}")
                assert gone.status_code == 204
                # 4.01 in clear: who cannot be known cannot be protected
                with pytest.raises(NotAProtectedMessage):
                    await request()
            finally:
                await client.shutdown()
            assert len(stored(s)) == 1
            again = await s.api.delete(f"/things/{thing}/oscore/{made['sender_id']}")
            assert again.status_code == 404

    asyncio.run(main())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        pytest.param(
            TlsSection(cert_file="/nowhere.pem", key_file="/nowhere.key"), "/nowhere.pem", id="no such file"
        ),
    ],
)
def test_a_tls_port_without_a_usable_certificate_is_a_sentence(
    config: Config, section: TlsSection, said: str
) -> None:
    wrong = msgspec.structs.replace(config, tls=section, mqtt=MqttSection(port=0, tls_port=free_port()))

    async def main() -> None:
        async with app.running(wrong):
            pass

    with pytest.raises(StartFailed, match=said):
        asyncio.run(main())

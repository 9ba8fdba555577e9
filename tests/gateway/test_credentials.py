"""All credentials of a thing in one view, and the end of all of them; certificates with the clients people have."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from websockets.asyncio.client import connect

from gateway.demo.broker import free_port
from gateway.settings import Config, HttpSection, MqttSection

PACK = '[{"n":"temp","u":"Cel","v":21.5}]'


@pytest.fixture
def tls(config: Config) -> Config:
    """TLS doors and nothing said of certificates: as after the first start."""
    return msgspec.structs.replace(
        config,
        mqtt=MqttSection(port=0, tls_host="127.0.0.1", tls_port=free_port()),
        http=HttpSection(port=0, workshop_port=0, tls_host="127.0.0.1", tls_port=free_port()),
    )


async def run(*command: str | Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def with_certificate(s: Any, folder: Path) -> tuple[str, str, dict[str, Any]]:
    """A thing, a channel it is on, and its certificate in files, as docs/certificates.md has it."""
    registry = s.gateway.core.hub.registry
    thing, _ = registry.create_thing("pump 7")
    channel = registry.create_channel("pumps")
    registry.connect([channel.id], [thing.id])
    made = await s.api.post("/certs", json={"thing_id": thing.id})
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    (folder / "pump.pem").write_text(body["certificate"])
    (folder / "pump.key").write_text(body["private_key"])
    authority = await s.api.get("/certs/authority", headers={"authorization": ""})
    assert authority.text == body["authority"]
    (folder / "authority.pem").write_text(authority.text)
    return thing.id, channel.id, body


def test_the_clients_people_have_come_in_with_a_certificate(site: Any, tls: Config, tmp_path: Path) -> None:
    pem, key, ca = (tmp_path / each for each in ("pump.pem", "pump.key", "authority.pem"))

    async def main() -> None:
        async with site(tls) as s:
            await s.claim()
            thing, channel, made = await with_certificate(s, tmp_path)
            doors, stored = s.gateway.doors, s.gateway.core.hub.log
            topic = f"channels/{channel}/messages"
            base = f"https://localhost:{doors.https_port}"
            mutual = ("--cafile", ca, "--cert", pem, "--key", key)
            code, output = await run(
                *("mosquitto_pub", "-h", "localhost", "-p", str(doors.mqtt_tls_port), *mutual),
                *("-q", "1", "-t", topic, "-m", PACK),
            )
            assert code == 0, output
            posting = ("-H", "Content-Type: application/senml+json", "-d", PACK, f"{base}/{topic}")
            curl = ("curl", "-sS", "--noproxy", "*", "--cacert", ca, "--cert", pem, "--key", key)
            code, output = await run(*curl, *posting)
            assert json.loads(output) == {"response": "message sent"}
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(pem, key)
            async with connect(
                f"wss://localhost:{doors.https_port}/{topic}?envelope=1", ssl=context, proxy=None
            ) as ws:
                await ws.send(json.dumps({"id": 1, "payload": json.loads(PACK)}))
                assert json.loads(await ws.recv())["type"] == "ack"
            await asyncio.to_thread(publish_by_paho, doors.https_port, topic, context)
            found = stored.read(0)
            assert {each.publisher for each in found} == {thing}
            assert sorted(each.protocol for each in found) == ["http", "mqtt", "mqtt", "ws"]
            code, output = await run(
                *(
                    "openssl",
                    "s_client",
                    "-connect",
                    f"localhost:{doors.https_port}",
                    "-CAfile",
                    ca,
                    "-brief",
                ),
                *("-verify_return_error", "-verify_hostname", "localhost"),
            )
            assert "Verification: OK" in output, output
            code, output = await run("openssl", "x509", "-in", ca, "-noout", "-fingerprint", "-sha256")
            shown = (await s.api.get("/certs/authorities")).json()["root"]["fingerprint"]
            assert output.strip().endswith(shown)
            # Revoked: told why, at once.
            gone = await s.api.delete(f"/certs/{made['serial']}", params={"reason": "stolen"})
            assert gone.status_code == 204, gone.text
            code, output = await run(*curl, *posting)
            assert "it was revoked: stolen" in output
            code, output = await run(
                *("mosquitto_pub", "-V", "5", "-h", "localhost", "-p", str(doors.mqtt_tls_port), *mutual),
                *("-q", "1", "-t", topic, "-m", PACK),
            )
            assert code != 0
            assert "Not authorized" in output
            (tmp_path / "denied.pem").write_text((await s.api.get("/certs/deny-list")).text)
            verify = ("openssl", "verify", "-crl_check", "-CAfile", ca, "-CRLfile", tmp_path / "denied.pem")
            code, output = await run(*verify, "-untrusted", pem, pem)
            assert "certificate revoked" in output
            assert len(stored.read(0)) == 4

    asyncio.run(main())


def publish_by_paho(port: int, topic: str, context: ssl.SSLContext) -> None:
    """One message by MQTT over WebSocket, acknowledged."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, transport="websockets")
    client.tls_set_context(context)
    client.connect("localhost", port)
    client.loop_start()
    try:
        client.publish(topic, PACK, qos=1).wait_for_publish(20)
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_thing_renews_its_certificate_by_showing_it(site: Any, tls: Config, tmp_path: Path) -> None:
    """The commands of docs/certificates.md."""
    pem, key, ca, csr, new = (
        tmp_path / each for each in ("pump.pem", "pump.key", "authority.pem", "new.csr", "new.key")
    )

    async def main() -> None:
        async with site(tls) as s:
            await s.claim()
            thing, _, made = await with_certificate(s, tmp_path)
            ask = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            ask += ["-subj", "/CN=thing"]
            assert (await run(*ask, "-keyout", new, "-out", csr))[0] == 0
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(pem, key)
            base = f"https://localhost:{s.gateway.doors.https_port}"
            async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
                answer = await client.post(f"{base}/certs/renew", json={"csr": csr.read_text()})
            assert answer.status_code == 201, answer.text
            renewed = answer.json()
            assert "private_key" not in renewed
            assert renewed["thing_id"] == thing
            pem.write_text(renewed["certificate"])
            _, output = await run(
                *("curl", "-sS", "--noproxy", "*", "--cacert", ca, "--cert", pem, "--key", new),
                *("-H", "Content-Type: application/json", "-d", json.dumps({"csr": csr.read_text()})),
                f"{base}/certs/renew",
            )
            assert json.loads(output)["thing_id"] == thing
            listed = (await s.api.get("/certs", params={"thing_id": thing})).json()
            assert listed["total"] == 3
            assert [each.get("renews") for each in listed["certs"]] == [
                renewed["serial"],
                made["serial"],
                None,
            ]

    asyncio.run(main())


def test_all_credentials_of_a_thing_are_shown_and_end_together(
    site: Any, tls: Config, tmp_path: Path
) -> None:
    async def main() -> None:
        async with site(tls) as s:
            await s.claim()
            thing, channel, made = await with_certificate(s, tmp_path)
            oscore = (await s.api.post(f"/things/{thing}/oscore")).json()
            rotated = await s.api.post(f"/things/{thing}/oscore/{oscore['sender_id']}/rotate")
            assert rotated.status_code == 201, rotated.text
            assert rotated.json()["master_secret"] != oscore["master_secret"]
            again = await s.api.post(f"/things/{thing}/oscore/{oscore['sender_id']}/rotate")
            assert again.status_code == 404
            key = (await s.api.post("/keys", json={"name": "spare", "thing_id": thing})).json()
            shown = (await s.api.get(f"/things/{thing}/credentials")).json()
            assert shown["key_version"] == 1
            assert shown["keys"] == [{"id": key["id"], "name": "spare"}]
            assert [each["serial"] for each in shown["certificates"]] == [made["serial"]]
            assert shown["oscore"] == [rotated.json()["sender_id"]]
            secrets = (key["value"], made["private_key"], rotated.json()["master_secret"])
            assert not any(secret in json.dumps(shown) for secret in secrets)
            context = ssl.create_default_context(cafile=tmp_path / "authority.pem")
            context.load_cert_chain(tmp_path / "pump.pem", tmp_path / "pump.key")
            url = f"wss://localhost:{s.gateway.doors.https_port}/channels/{channel}/messages"
            async with connect(url, ssl=context, proxy=None) as ws:
                gone = await s.api.delete(f"/things/{thing}/credentials")
                assert gone.status_code == 204, gone.text
                async with asyncio.timeout(20):
                    await ws.wait_closed()
            shown = (await s.api.get(f"/things/{thing}/credentials")).json()
            assert (shown["key_version"], shown["keys"], shown["oscore"]) == (2, [], [])
            assert [each["state"] for each in shown["certificates"]] == ["revoked"]
            assert (await s.api.get("/things/nobody/credentials")).status_code == 404

    asyncio.run(main())

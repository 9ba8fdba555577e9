"""The lines of the workshop of June 2017, typed into a shell against a running gateway; a credential is all they lack.

`localhost:7070` and MQTT's 1883 stand as on the slides: the test reads them as the ports that its gateway has. What
the slides did not have, since nobody asked who was there, comes from `$USER` (a person) and `$AS` (a device).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from gateway.demo.broker import free_port
from gateway.settings import Config, HttpSection

PACK = '[{"bn":"urn:dev:ow:10e2073a01080063","bver":5,"n":"temp","u":"Cel","v":23.1}]'
JSON = "-H 'Content-Type: application/json'"
SENML = "-H 'Content-Type: application/senml+json'"
CURL_TIMEOUT_S = 20


@dataclass
class Answer:
    """What a line printed; for a `curl -i` its status, headers and JSON."""

    text: str
    errors: str
    code: int

    @property
    def status(self) -> int:
        found = re.findall(r"^HTTP/\S+ (\d+)", self.text, re.MULTILINE)
        assert found, (self.text, self.errors)
        return int(found[-1])

    @property
    def headers(self) -> dict[str, str]:
        head = self.text.replace("\r", "").split("\n\n")[-2]
        lines = (line.partition(": ") for line in head.splitlines()[1:])
        return {name.lower(): value for name, _, value in lines}

    @property
    def json(self) -> Any:
        return json.loads(self.text.replace("\r", "").split("\n\n")[-1])


@dataclass
class Workshop:
    """A terminal beside a gateway that serves 2017's clients on a port of their own."""

    site: Any
    variables: dict[str, str] = field(default_factory=dict)

    async def start(self, line: str) -> asyncio.subprocess.Process:
        """Type a line of the slides."""
        doors = self.site.gateway.doors
        line = line.replace("localhost:7070", f"127.0.0.1:{doors.workshop_port}")
        line = re.sub(r"^(mosquitto_(?:pub|sub)) ", rf"\1 -p {doors.mqtt.port} ", line)
        line = re.sub(r"^mosquitto_sub ", "stdbuf -oL mosquitto_sub ", line)  # what it prints is waited for
        line = re.sub(r"^curl ", f"curl -sS --max-time {CURL_TIMEOUT_S} ", line)
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", f"exec {line}"),
            env={"PATH": "/usr/bin:/bin:/usr/local/bin", **self.variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, line: str) -> Answer:
        process = await self.start(line)
        out, errors = await asyncio.wait_for(process.communicate(), 2 * CURL_TIMEOUT_S)
        assert process.returncode is not None
        return Answer(out.decode(), errors.decode(), process.returncode)

    async def device(self, name: str = "DEVICE", key: str = "KEY") -> None:
        made = await self('curl -i -X POST localhost:7070/devices -H "$USER"')
        self.variables[name], self.variables[key] = made.json["id"], made.json["key"]

    async def channel(self, name: str = "CHANNEL") -> None:
        made = await self(
            "curl -i -X POST localhost:7070/channels -H \"$USER\" -H 'Content-Type: application/json' -d '{}'"
        )
        self.variables[name] = made.json["id"]

    async def plugged(self) -> None:
        """A device plugged into a channel, with its key in `$AS`."""
        await self.device()
        await self.channel()
        plugged = await self(
            "curl -i -X POST localhost:7070/devices/$DEVICE/plug -H \"$USER\" -H 'Content-Type: application/json'"
            ' -d "[\\"$CHANNEL\\"]"'
        )
        assert plugged.status == 200, plugged.text
        self.variables["AS"] = f"Authorization: Thing {self.variables['KEY']}"


Opened = Callable[[], AbstractAsyncContextManager[Workshop]]


@pytest.fixture
def workshop(site: Any, config: Config) -> Opened:
    """A claimed gateway and a terminal."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Workshop]:
        http = HttpSection(port=0, workshop_port=free_port())
        async with site(msgspec.structs.replace(config, http=http)) as s:
            await s.claim()
            yield Workshop(s, {"USER": f"Authorization: {s.api.headers['authorization']}", "PACK": PACK})

    return opened


def run(workshop: Opened, scenario: Callable[[Workshop], Any]) -> None:
    async def main() -> None:
        async with workshop() as shell:
            await scenario(shell)

    asyncio.run(main())


def test_a_gateway_serves_clients_of_2017_on_port_7070_unless_told_otherwise() -> None:
    assert Config().http.workshop_port == 7070


def test_a_gateway_starts_where_another_program_has_the_port_of_2017(
    site: Any, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(port: int) -> None:
        http = HttpSection(port=0, workshop_port=port)
        async with site(msgspec.structs.replace(config, http=http)) as s:
            assert (await s.api.get("/claim")).json() == {"claimed": False}
            assert s.gateway.doors.workshop_port == 0

    with socket.create_server(("127.0.0.1", 0)) as other:
        asyncio.run(main(other.getsockname()[1]))
    assert "http.workshop_port sets another" in caplog.text


def test_devices_and_channels_are_made_read_edited_and_removed(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        status = await shell("curl -i localhost:7070/status")
        assert (status.status, status.json) == (200, {"running": True})

        made = await shell('curl -i -X POST localhost:7070/devices -H "$USER"')
        assert made.status == 201
        assert made.json["response"] == "created"
        assert made.headers["location"] == f"/devices/{made.json['id']}"
        shell.variables["DEVICE"] = made.json["id"]
        named = await shell(
            "curl -i -X POST localhost:7070/devices -H \"$USER\" -H 'Content-Type: application/json'"
            ' -d \'{"name":"weio","description":"on the roof"}\''
        )
        assert named.status == 201
        listed = await shell('curl -i "localhost:7070/devices?climit=10" -H "$USER"')
        assert {each["id"] for each in listed.json} == {made.json["id"], named.json["id"]}
        edited = await shell(
            "curl -i -X PUT localhost:7070/devices/$DEVICE -H \"$USER\" -H 'Content-Type: application/json'"
            ' -d \'{"name":"lamp"}\''
        )
        assert edited.json == {"response": "updated", "id": made.json["id"]}
        shown = await shell('curl -i localhost:7070/devices/$DEVICE -H "$USER"')
        assert shown.json["name"] == "lamp"

        channel = await shell(
            f'curl -i -X POST localhost:7070/channels -H "$USER" {JSON} -d \'{{"name":"field"}}\''
        )
        assert (channel.status, channel.json["response"]) == (201, "created")
        assert channel.headers["location"] == f"/channels/{channel.json['id']}"
        shell.variables["CHANNEL"] = channel.json["id"]
        assert (await shell('curl -i localhost:7070/channels/$CHANNEL -H "$USER"')).json["name"] == "field"

        plugged = await shell(
            "curl -i -X POST localhost:7070/devices/$DEVICE/plug -H \"$USER\" -H 'Content-Type: application/json'"
            ' -d "[\\"$CHANNEL\\"]"'
        )
        assert plugged.json == {"response": "plugged", "id": made.json["id"]}
        shown = await shell('curl -i localhost:7070/devices/$DEVICE -H "$USER"')
        assert shown.json["channels"] == [channel.json["id"]]
        for verb in ("unplug", "plug", "unplug"):
            done = await shell(
                f'curl -i -X POST localhost:7070/channels/$CHANNEL/{verb} -H "$USER"'
                ' -H \'Content-Type: application/json\' -d "[\\"$DEVICE\\"]"'
            )
            assert done.json == {"response": f"{verb}ged", "id": channel.json["id"]}

        gone = await shell('curl -i -X DELETE localhost:7070/devices/$DEVICE -H "$USER"')
        assert gone.json == {"response": "deleted", "id": made.json["id"]}
        assert (await shell('curl -i localhost:7070/devices/$DEVICE -H "$USER"')).status == 404
        for line in ("-X POST localhost:7070/devices", "localhost:7070/devices"):
            assert (await shell(f"curl -i {line}")).status == 401, "a line of 2017 without a credential"

    run(workshop, scenario)


def test_messages_are_sent_by_curl_and_read_between_two_times(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        await shell.plugged()
        empty = await shell(
            'curl -i "localhost:7070/channels/$CHANNEL/messages?start_time=0&end_time=1" -H "$AS"'
        )
        assert (empty.status, empty.json) == (200, {"response": "no results found"})
        sent = await shell(
            f'curl -i -X POST localhost:7070/channels/$CHANNEL/messages {SENML} -d "$PACK" -H "$AS"'
        )
        assert (sent.status, sent.json) == (202, {"response": "message sent"})
        old = await shell(f'curl -i -X POST localhost:7070/channels/$CHANNEL/msg {SENML} -d "$PACK" -H "$AS"')
        assert (old.status, old.json) == (202, {"response": "message sent"})
        bytes_ = await shell(
            "curl -i -X POST localhost:7070/channels/$CHANNEL/messages -H 'Content-Type: application/octet-stream'"
            ' --data-binary "$(printf \'\\001\\002\')" -H "$AS"'
        )
        assert bytes_.status == 202
        unknown = await shell(
            "curl -i -X POST localhost:7070/channels/$CHANNEL/messages -H 'Content-Type: text/plain' -d x -H \"$AS\""
        )
        assert unknown.status == 415
        wrong = await shell(
            f"curl -i -X POST localhost:7070/channels/$CHANNEL/messages {SENML} -d '{{}}' -H \"$AS\""
        )
        assert wrong.status == 400

        for path in ("messages?start_time=0&end_time=99999999999", "msg"):
            for credential in ("$AS", "$USER"):
                read = await shell(f'curl -i "localhost:7070/channels/$CHANNEL/{path}" -H "{credential}"')
                assert read.status == 200
                assert [(each["name"], each["value"], each["unit"]) for each in read.json] == 2 * [
                    ("urn:dev:ow:10e2073a01080063temp", 23.1, "Cel")
                ], (path, read.text)
                assert {each["publisher"] for each in read.json} == {shell.variables["DEVICE"]}
                assert {each["channel"] for each in read.json} == {shell.variables["CHANNEL"]}
        spoofed = await shell(
            f"curl -i -X POST localhost:7070/channels/$CHANNEL/messages {SENML} -d \"$PACK\" -H 'Client-ID: someone'"
        )
        assert spoofed.status in (400, 401), "a Client-ID that no proxy vouches for is no credential"

    run(workshop, scenario)


BY_A_DEVICE = (
    '-H "Authorization: Thing $KEY"',
    '-H "Authorization: $KEY"',
    '-H "Authorization: Basic $BASIC"',
    '-u "$DEVICE:$KEY"',
)


def test_a_device_shows_its_key_in_each_form_of_header(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        await shell.plugged()
        device, right = shell.variables["DEVICE"], shell.variables["KEY"]
        for key, statuses in ((right, (202, 200)), (right + "x", (401, 401))):
            shell.variables["KEY"] = key
            shell.variables["BASIC"] = base64.b64encode(f"{device}:{key}".encode()).decode()
            for credential in BY_A_DEVICE:
                line = f'curl -i -X POST localhost:7070/channels/$CHANNEL/messages {SENML} -d "$PACK" {credential}'
                sent = await shell(line)
                read = await shell(
                    f'curl -i "localhost:7070/channels/$CHANNEL/messages?start_time=0" {credential}'
                )
                assert (sent.status, read.status) == statuses, credential
        read = await shell('curl -i "localhost:7070/channels/$CHANNEL/messages?start_time=0" -H "$USER"')
        assert len(read.json) == len(BY_A_DEVICE)

    run(workshop, scenario)


def test_a_person_shows_a_token_as_bearer_and_bare(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        shell.variables["TOKEN"] = shell.variables["USER"].rpartition(" ")[2]
        for form in ("Bearer $TOKEN", "bearer $TOKEN", "$TOKEN"):
            made = await shell(f'curl -i -X POST localhost:7070/devices -H "Authorization: {form}"')
            assert made.status == 201, form
        for form in ("Thing $TOKEN", "Bearer ${TOKEN}x", "${TOKEN}x"):
            refused = await shell(f'curl -i -X POST localhost:7070/devices -H "Authorization: {form}"')
            assert refused.status == 401, form

    run(workshop, scenario)


@pytest.mark.parametrize(
    "topic", ["mainflux/channels/$CHANNEL/messages/senml-json", "channels/$CHANNEL/messages/senml-json"]
)
def test_mosquitto_pub_and_sub_meet_on_the_topics_of_the_slides(workshop: Opened, topic: str) -> None:
    async def scenario(shell: Workshop) -> None:
        await shell.plugged()
        listening = await shell.start(f"mosquitto_sub -t {topic} -u $DEVICE -P $KEY -d -C 2 -F 'got %t %p'")
        assert listening.stdout is not None
        async with asyncio.timeout(20):
            async for line in listening.stdout:
                if line.startswith(b"Subscribed"):
                    break
        # What one wrote with curl, the other sees over MQTT.
        published = await shell(f'mosquitto_pub -q 1 -t {topic} -m "$PACK" -u $DEVICE -P $KEY')
        assert (published.code, published.errors) == (0, "")
        sent = await shell(
            f'curl -i -X POST localhost:7070/channels/$CHANNEL/messages {SENML} -d "$PACK" -H "$AS"'
        )
        assert sent.status == 202
        out, _ = await asyncio.wait_for(listening.communicate(), 20)
        got = [line.split(" ", 2)[1:] for line in out.decode().splitlines() if line.startswith("got ")]
        exact = topic.replace("$CHANNEL", shell.variables["CHANNEL"])
        assert [each[0] for each in got] == [exact, exact]
        assert all(json.loads(each[1])[0]["v"] == 23.1 for each in got)
        read = await shell('curl -i "localhost:7070/channels/$CHANNEL/messages?start_time=0" -H "$USER"')
        assert sorted(each["protocol"] for each in read.json) == ["http", "mqtt"]

    run(workshop, scenario)


def test_mosquitto_pub_sends_to_the_channel_alone_and_bytes_as_bytes(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        await shell.plugged()
        for line in (
            '-i $DEVICE -t mainflux/channels/$CHANNEL -m "$PACK"',
            '-t mainflux/channels/$CHANNEL/messages/octet-stream -m "$PACK"',
        ):
            published = await shell(f"mosquitto_pub -q 1 {line} -u $DEVICE -P $KEY")
            assert (published.code, published.errors) == (0, "")
        log = shell.site.gateway.core.hub.log
        kept = [
            message.content_type for message in log.read(0) if message.channel == shell.variables["CHANNEL"]
        ]
        assert kept == ["application/senml+json", "application/octet-stream"]
        no_pack = await shell(
            "mosquitto_pub -V 5 -q 1 -t mainflux/channels/$CHANNEL/messages/senml-json -m '{}' -u $DEVICE -P $KEY"
        )
        assert "failed" in (no_pack.text + no_pack.errors).lower() or no_pack.code != 0

    run(workshop, scenario)


def test_mqtt_without_the_credential_is_refused_and_says_so(workshop: Opened) -> None:
    async def scenario(shell: Workshop) -> None:
        await shell.plugged()
        topic = '-t mainflux/channels/$CHANNEL/messages/senml-json -m "$PACK"'
        for line in (topic, f"{topic} -u $DEVICE -P ${{KEY}}x", f"{topic} -i $DEVICE"):
            refused = await shell(f"mosquitto_pub {line}")
            assert refused.code != 0, line
            assert re.search("not authori[sz]ed|bad user", refused.errors, re.IGNORECASE), refused.errors
        assert not [
            message
            for message in shell.site.gateway.core.hub.log.read(0)
            if message.channel == shell.variables["CHANNEL"]
        ]

    run(workshop, scenario)

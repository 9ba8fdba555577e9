"""Clients people have: mosquitto_sub and curl at the doors, mosquitto as the upstream broker with an outage."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from gateway.demo.broker import free_port
from gateway.settings import Config, UpstreamSection

OUTAGE_S = 60


async def run(*command: str, timeout_s: float = 20) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), timeout_s)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def line_with(process: asyncio.subprocess.Process, start: str) -> str:
    """The next line of a command's output that begins like this."""
    assert process.stdout is not None
    seen = []
    async with asyncio.timeout(20):
        async for line in process.stdout:
            if line.decode().startswith(start):
                return line.decode()
            seen.append(line)
    raise AssertionError(f"no line begins with {start!r}: {seen}")


def test_mosquitto_sub_sees_an_uplink_with_a_things_key_and_is_refused_without(
    site: Any, device: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            topic = f"channels/{made.channel_id}/messages/#"
            sub = ["mosquitto_sub", "-p", str(s.gateway.mqtt.port), "-t", topic, "-W", "15"]
            login = ["-u", made.thing_id, "-P", made.thing_key]
            listening = await asyncio.create_subprocess_exec(
                *("stdbuf", "-oL"),
                *sub,
                *login,
                "-d",
                "-C",
                "1",
                "-F",
                "got %t %p",
                stdout=asyncio.subprocess.PIPE,
            )
            assert await line_with(listening, "Subscribed")
            await s.forwarder.push(device.uplink())
            _, got, body = (await line_with(listening, "got ")).split(" ", 2)
            assert await listening.wait() == 0
            assert got == f"channels/{made.channel_id}/messages/{device.dev_eui}"
            assert json.loads(body)[0]["v"] == 26.9

            code, out, errors = await run(*sub, "-C", "1")
            assert (code, out) == (5, "")
            assert "not authorised" in errors
            code, out, errors = await run(*sub, "-u", made.thing_id, "-P", "wrong key wrong key", "-C", "1")
            assert (code, out) in ((4, ""), (5, ""))
            code, out, errors = await run(
                *("mosquitto_sub", "-p", str(s.gateway.mqtt.port), "-t", "#", "-W", "5"), *login, "-C", "1"
            )
            assert "denied" in (out + errors).lower()

    asyncio.run(main())


def test_curl_posts_and_reads_senml(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            url = f"http://127.0.0.1:{s.gateway.http.port}/channels/{made.channel_id}/messages"
            key = ["-H", f"Authorization: Thing {made.thing_key}"]
            pack = '[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1}]'
            post = [
                "curl",
                "-sS",
                "-w",
                "%{http_code}",
                "-H",
                "Content-Type: application/senml+json",
                "-d",
                pack,
            ]
            assert (await run(*post, *key, url))[1].endswith("202")
            assert (await run(*post, url))[1].endswith("401")
            await s.forwarder.push(device.uplink())
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 3)
            _, out, _ = await run(
                "curl", "-sS", *key, f"{url}?name=urn:dev:mac:{device.dev_eui}:temperature_1"
            )
            page = json.loads(out)
            assert page["total"] == 1
            record = page["messages"][0]
            assert (record["value"], record["unit"], record["publisher"]) == (26.9, "Cel", made.thing_id)
            _, out, _ = await run("curl", "-sS", *key, f"{url}?protocol=http")
            assert [record["value"] for record in json.loads(out)["messages"]] == [23.1]

    asyncio.run(main())


class Broker:
    """mosquitto on one port, to be stopped and started, with an observer that subscribes whenever it is up."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._observer: Client | None = None
        self.order: list[tuple[str, str]] = []  # (topic, seq) as they came

    async def start(self) -> None:
        command = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert command, "mosquitto is not installed"
        self._process = await asyncio.to_thread(subprocess.Popen, [command, "-c", str(self._config)])
        subscribed = asyncio.Event()
        loop = asyncio.get_running_loop()
        observer = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        observer.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
        observer.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        observer.on_message = self._on_message
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(observer.connect, "127.0.0.1", self.port)
                    break
                await asyncio.sleep(0.05)
            observer.loop_start()
            await subscribed.wait()
        self._observer = observer

    async def stop(self) -> None:
        assert self._process is not None
        assert self._observer is not None
        self._process.terminate()
        await asyncio.to_thread(self._process.wait)
        self._observer.loop_stop()

    def _on_message(self, client: Client, user: object, message: MQTTMessage) -> None:
        properties = dict(message.properties.UserProperty)  # type: ignore[union-attr]
        self.order.append((message.topic, properties["seq"]))


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path)


@contextlib.asynccontextmanager
async def uplinks(s: Any, *devices: Any) -> AsyncIterator[None]:
    """Uplinks of all devices in turn, twenty a second, as long as the block runs."""

    stopping = False

    async def send() -> None:
        while not stopping:
            for device in devices:
                await s.forwarder.push(device.uplink())
                await asyncio.sleep(0.05)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        # Not cancelled: up to Python 3.11 a wait that ends at that moment loses it (CPython #86296)
        stopping = True
        await task


@pytest.mark.timeout(240)
def test_the_upstream_broker_receives_every_uplink_also_those_of_an_outage(
    site: Any, config: Config, device: Any, another_device: Any, broker: Broker
) -> None:
    upstream = UpstreamSection(name="cloud", host="127.0.0.1", port=broker.port, tls=False)
    config = msgspec.structs.replace(config, upstream=(upstream,))

    async def main() -> None:
        await broker.start()
        async with site(config) as s:
            await s.add(device)
            await s.add(another_device)
            async with uplinks(s, device, another_device):
                await s.until(lambda: len(broker.order) > 40)
                await broker.stop()
                await asyncio.sleep(OUTAGE_S)
                assert s.gateway.source.upstream()[0]["state"] == "offline"
                assert s.gateway.source.upstream()[0]["queued"] > 10 * OUTAGE_S
                await broker.start()
                await asyncio.sleep(2)
            log = s.gateway.core.hub.log
            await s.until(lambda: not log.pending)
            await s.until(lambda: len({seq for _, seq in broker.order}) == log.committed_seq, timeout_s=60)
            sent = device.fcnt + another_device.fcnt + 2
            assert log.committed_seq == 2 * sent
            assert {int(seq) for _, seq in broker.order} == set(range(1, 2 * sent + 1))
            for one in (device, another_device):
                first_time = dict.fromkeys(
                    int(seq) for topic, seq in broker.order if topic.endswith(f"/{one.dev_eui}")
                )
                assert list(first_time) == sorted(first_time), "not in the device's order"
        await broker.stop()

    asyncio.run(main())

"""What a gateway with trusted proxies in its settings listens on and believes, and what it says to wrong settings."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import app, cli_processes
from gateway.demo.broker import free_port
from gateway.errors import StartFailed
from gateway.settings import Config, HttpSection, MqttSection
from tests.hub.mqtt.conftest import Client

FAR = b"PROXY TCP4 192.0.2.7 127.0.0.1 50123 1883\r\n"


def behind(config: Config, **mqtt: Any) -> Config:
    """The test's settings with the own host as trusted proxy."""
    http = HttpSection(port=0, workshop_port=0, trusted_proxies=("127.0.0.1", "2001:db8::/64"))
    return msgspec.structs.replace(config, http=http, mqtt=MqttSection(port=0, **mqtt))


def test_mqtt_and_http_know_the_callers_address_from_a_trusted_proxy(site: Any, config: Config) -> None:
    async def main() -> None:
        async with site(behind(config, proxy_port=free_port())) as s:
            doors, hub = s.gateway.doors, s.gateway.core.hub
            assert f"MQTT behind a proxy on {doors.mqtt_proxy_port}" in str(doors)
            reader, writer = await asyncio.open_connection("127.0.0.1", doors.mqtt_proxy_port)
            writer.write(FAR)
            client = Client(reader, writer)
            client.connect("c", "nobody", "wrong")
            assert (await client.read())[0] == 0x20
            writer.close()
            await s.api.get("/things", headers={"X-Forwarded-For": "192.0.2.8", "Authorization": "Bearer x"})
            await asyncio.to_thread(hub.audit.flush)
            with hub.audit.reader() as lines:
                found = {(line.door, line.address) for line in lines.lines("outcome = 'refused'", [], 10)}
            assert found == {("mqtt", "192.0.2.7"), ("http", "192.0.2.8")}

    asyncio.run(main())


def test_the_tls_listener_behind_a_proxy_shows_the_gateways_certificate(site: Any, config: Config) -> None:
    async def main() -> None:
        async with site(behind(config, proxy_tls_port=free_port())) as s:
            hub = s.gateway.core.hub
            thing, key = hub.registry.create_thing("sensor")
            root = hub.registry.authority.root
            context = ssl.create_default_context(cadata=root.encoded)
            reader, writer = await asyncio.open_connection("127.0.0.1", s.gateway.doors.mqtt_proxy_tls_port)
            writer.write(FAR)
            await writer.start_tls(context, server_hostname="127.0.0.1")
            client = Client(reader, writer)
            client.connect("c", thing.id, key)
            assert await client.read() == (0x20, b"\x00\x00")
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trusted_proxies": ("10.0.0.1/24",)}, r"http\.trusted_proxies: 10\.0\.0\.1/24 has host bits set"),
        ({"trusted_proxies": ("proxy.local",)}, r"http\.trusted_proxies: 'proxy\.local' does not appear"),
        ({}, r"mqtt\.proxy_port is for proxies: name them in http\.trusted_proxies"),
    ],
)
def test_settings_that_make_no_sense_are_told(config: Config, settings: dict[str, Any], says: str) -> None:
    async def main() -> None:
        http = HttpSection(port=0, workshop_port=0, **settings)
        wrong = msgspec.structs.replace(config, http=http, mqtt=MqttSection(port=0, proxy_port=free_port()))
        with pytest.raises(StartFailed, match=says):
            async with app.running(wrong):
                pass

    asyncio.run(main())


@pytest.mark.parametrize(
    ("setting", "told"),
    [("", ["--trusted-proxy", "10.0.0.5"]), ('forwarded_header = "forwarded"\n', [])],
    ids=["X-Forwarded-For", "Forwarded, which the pages do not read"],
)
def test_the_pages_are_told_whom_to_trust(tmp_path: Path, mocker: Any, setting: str, told: list[str]) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(f"[http]\ntrusted_proxies = ['10.0.0.5']\n{setting}[gateway]\ndata_dir = '{tmp_path}'\n")
    started = mocker.patch("os.execve", side_effect=SystemExit)
    with pytest.raises(SystemExit):
        cli_processes.webui(path)
    command = started.call_args.args[1]
    assert [part for part in command if part in ("--trusted-proxy", "10.0.0.5")] == told

"""docs/proxy.md tells the truth: its headers, files, ports, limits and examples are those of the code and the files."""

from __future__ import annotations

import re

from gateway.config import parse
from hub.http import proxies
from hub.http.enforce import ENDPOINTS
from hub.policy.documents import read
from hub.proxy_protocol import MAX_BLOCK
from tests.proxy.conftest import PORTS, SHIPPED

ROOT = SHIPPED.parents[1]
PAGE = (ROOT / "docs" / "proxy.md").read_text()
BELIEVED = PAGE.partition("## Who is believed")[2].partition("**MQTT**")[0]


def headers_of(text: str) -> set[str]:
    return set(re.findall(r"`((?:X-|Client-|Forwarded)[\w-]*)`", text))


def test_each_header_that_is_looked_at_is_in_the_table_and_no_other() -> None:
    table = "\n".join(line.split("|")[1] for line in BELIEVED.splitlines() if line.startswith("| `"))
    looked_at = {name.decode() for name in proxies._NAMING | proxies._WAY} | {"x-fluxgate-pages"}
    assert {name.lower() for name in headers_of(table)} == looked_at


def test_headers_of_the_question_and_the_answer_are_those_of_the_endpoint() -> None:
    question, _, answer = PAGE.partition("## /auth/check")[2].partition("| answer | |")
    for parameter in ENDPOINTS[0].parameters:
        assert f"`{parameter.name}`" in question
    assert headers_of(answer.partition("| 401")[0]) == set(ENDPOINTS[0].headers)


def test_each_file_and_port_of_the_configuration_is_named() -> None:
    for path in (SHIPPED / "fluxgate" / "site").glob("*.conf"):
        assert f"`site/{path.name}`" in PAGE
    for name in re.findall(r"`(?:fluxgate/)?((?:parts|site)/[\w-]+\.conf|(?:http|stream)\.conf)`", PAGE):
        assert (SHIPPED / "fluxgate" / name).is_file(), name
    table = PAGE.partition("| port |")[2].partition("\n\n")[0]
    ports = {int(port) for port in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert ports == set(PORTS.values())
    listened = {
        int(port)
        for path in SHIPPED.rglob("*.conf")
        for port in re.findall(r"^\s*listen (\d+)", path.read_text(), re.M)
    }
    assert listened == ports


def test_numbers_are_those_of_the_files_and_the_code() -> None:
    http = (SHIPPED / "fluxgate" / "http.conf").read_text()
    for said, written in (
        ("200 connections", "limit_conn fluxgate_connections 200;"),
        ("100 requests a second", "zone=fluxgate_requests:10m rate=100r/s;"),
        ("(400 at once)", "zone=fluxgate_requests burst=400 nodelay;"),
        ("30 tries of a password a minute", "zone=fluxgate_sign_in:2m rate=30r/m;"),
        ("more than 4 MiB", "client_max_body_size 4m;"),
    ):
        assert said in PAGE
        assert written in http
    assert f"at most {proxies.MAX_HOPS} proxies and {proxies.MAX_FORWARDED} characters" in PAGE
    assert f"{MAX_BLOCK} bytes" in PAGE


def test_the_examples_are_good_ones() -> None:
    config = parse(re.findall(r"```toml\n(.*?)```", PAGE, re.S)[0])
    assert config.http.trusted_proxies == ("127.0.0.1",)
    mqtt = (SHIPPED / "fluxgate" / "site" / "mqtt.conf").read_text()
    assert f"server 127.0.0.1:{config.mqtt.proxy_port};" in mqtt
    assert f"server 127.0.0.1:{config.mqtt.proxy_tls_port};" in mqtt
    assert len(read("page", re.findall(r"```json\n(.*?)```", PAGE, re.S)[0])) == 2
    services = (SHIPPED / "fluxgate" / "site" / "services.conf").read_text()
    for line in re.findall(r"```nginx\n(.*?)```", PAGE, re.S)[0].splitlines():
        assert f"#{line.partition('  #')[0].rstrip()}" in services

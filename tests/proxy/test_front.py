"""The real nginx in front of everything: TLS, the API and the pages under one name, roles, streams, limits."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
from typing import Any

import httpx
import pytest
import websockets

from tests.hub.mqtt.conftest import Client
from tests.hub.pki import Authority
from tests.proxy.conftest import DEADLINE_S, SHIPPED, Front, Nginx

SENML = {"content-type": "application/senml+json"}
PACK = b'[{"n":"temperature","u":"Cel","v":21.5}]'


def test_the_shipped_files_are_a_configuration_that_nginx_takes(tmp_path: Any) -> None:
    nginx = Nginx(tmp_path, Authority(tmp_path))
    nginx.write({})
    found = nginx.test()
    assert found.returncode == 0, found.stderr
    warnings = [line for line in found.stderr.splitlines() if "[warn]" in line]
    # nginx 1.25 has another word for it, which 1.22 of Debian 12 does not know.
    assert [line for line in warnings if '"listen ... http2" directive is deprecated' not in line] == []


def test_every_location_that_passes_requests_on_takes_foreign_headers_out_first() -> None:
    clean = {"headers", "hygiene", "question", "service"}
    found = 0
    for path in sorted(SHIPPED.rglob("*.conf")):
        text = re.sub(r"^\s*#(?=\S| {4})|^\s*# .*$|\s# .*$", "", path.read_text(), flags=re.M)
        assert "rewrite" not in text
        for block in re.findall(r"^\s*location [^{]*{(.*?)^\s*}", text, re.M | re.S):
            before, passes, _ = block.partition("proxy_pass http")
            if passes:
                found += 1
                assert clean & set(re.findall(r"include fluxgate/parts/(\w+)\.conf;", before)), (path, block)
    assert found > 12


def test_plain_http_leads_to_tls_and_other_names_lead_nowhere(front: Front) -> None:
    async def scenario() -> None:
        port = front.nginx.ports["http"]
        head = b"GET /things?a=%2e HTTP/1.1\r\nHost: fluxgate.local:99\r\nConnection: close\r\n\r\n"
        answer = await front.raw(head, "http")
        assert answer.startswith(b"HTTP/1.1 308 ")
        assert b"\r\nLocation: https://fluxgate.local/things?a=%2e\r\n" in answer
        for name in ("http", "https"):
            evil = await front.raw(head.replace(b"fluxgate.local:99", b"evil.example"), name)
            assert evil.startswith(b"HTTP/1.1 421 "), evil
        assert port

    front.run(scenario())


def test_tls_is_of_this_decade(front: Front) -> None:
    async def scenario() -> None:
        async with front.client() as client:
            answer = await client.get("/health")
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"] == "max-age=2592000"
            assert "nginx/" not in answer.headers["server"]
        old = front.trust
        old.minimum_version = ssl.TLSVersion.TLSv1_1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", front.nginx.ports["https"], ssl=old)

    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        front.run(scenario())


def test_each_role_may_through_the_proxy_what_it_may_without(front: Front) -> None:
    async def scenario() -> None:
        people = front.site.people
        cases = [
            ("GET", "/things", {"viewer", "technician", "admin"}),
            ("GET", "/api/things", {"viewer", "technician", "admin"}),
            ("PUT", f"/api/things/{front.site.device.id}", {"technician", "admin"}),
            ("GET", "/users", {"admin"}),
            ("GET", "/policies", {"admin"}),
            ("GET", "/api/audit", {"admin"}),
        ]
        async with front.client() as client:
            for method, path, roles in cases:
                body = {"content": b'{"name": "sensor"}', "headers": {"content-type": "application/json"}}
                for role, person in people.items():
                    sent = {**body["headers"], **person.headers}  # type: ignore[dict-item]
                    answer = await client.request(
                        method, path, headers=sent, content=body["content"] if method == "PUT" else None
                    )
                    allowed = (
                        answer.status_code == 200 and answer.headers["content-type"] == "application/json"
                    )
                    # A member sees a list of his own: nothing of the gateway's.
                    if role == "member" and method == "GET" and path.endswith("/things"):
                        assert answer.json()["total"] == 0
                    else:
                        assert allowed is (role in roles), (method, path, role, answer.text)
                assert (await client.request(method, path)).status_code in (401, 303), (method, path)

    front.run(scenario())


def test_pages_and_the_api_live_under_one_name(front: Front) -> None:
    async def scenario() -> None:
        async with front.client() as client:
            start = await client.get("/", follow_redirects=True)
            assert start.url.path == "/login"
            assert start.headers["content-type"].startswith("text/html")
            assert start.headers["set-cookie"].startswith("__Host-fluxgate=")
            token = start.text.partition('name="form_token" value="')[2].partition('"')[0]
            login = {**front.site.owner.login, "passphrase": front.site.owner.login["password"]}
            done = await client.post(
                "/login",
                data={**login, "form_token": token},
                headers={"Origin": front.origin, "Sec-Fetch-Site": "same-origin"},
            )
            assert done.status_code == 303, done.text
            for page in ("/policies", "/devices", "/groups"):
                shown = await client.get(page)
                assert shown.headers["content-type"].startswith("text/html"), page
            listed = await client.get("/policies", headers=front.site.owner.headers)
            assert listed.headers["content-type"] == "application/json"
            client.cookies.set("theme", "dark", domain="127.0.0.1")
            maps = await client.get("/maps/x?y=1")
            assert maps.status_code == 200
            assert f"X-Fluxgate-Subject: users/{front.site.owner.user.id}\r\n" in maps.text
            assert "X-Fluxgate-Role: admin\r\n" in maps.text
            assert "theme=dark" in maps.text
            assert "fluxgate=" not in maps.text
            for header, value in (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")):
                stolen = await client.get("/maps/x", headers={header: value})
                assert stolen.status_code == 403
        async with front.client() as client:
            stranger = await client.get("/maps/x?y=1")
            assert (stranger.status_code, stranger.headers["location"]) == (
                303,
                f"{front.origin}/login?next=/maps/x?y=1",
            )

    front.run(scenario())


def test_messages_are_published_and_read(front: Front) -> None:
    async def scenario() -> None:
        device = front.site.device
        async with front.client() as client:
            for path in (device.messages, f"/http{device.messages}/roof%2Feast", f"/api{device.messages}"):
                sent = await client.post(path, content=PACK, headers={**SENML, **device.headers})
                assert sent.status_code == 202, sent.text
            read = await client.get(device.messages, headers=device.headers)
            assert {each.get("subtopic", "") for each in read.json()["messages"]} == {"", "roof.east"}
            assert (await client.post(device.messages, content=PACK, headers=SENML)).status_code == 401

    front.run(scenario())


def test_event_streams_come_at_once_and_end_with_the_right(front: Front) -> None:
    async def scenario() -> None:
        site, device = front.site, front.site.device
        person = site.person("stream@example.org", "viewer")
        async with front.client() as client:
            sent = {**person.headers, "accept": "text/event-stream"}
            async with client.stream("GET", device.messages, headers=sent) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                lines = stream.aiter_lines()
                assert await anext(lines) == ": open"
                await client.post(device.messages, content=PACK, headers={**SENML, **device.headers})
                async with asyncio.timeout(10):
                    while not (line := await anext(lines)).startswith("data:"):
                        pass
                assert json.loads(line[5:])
                await asyncio.to_thread(site.hub.registry.remove_user, person.user.id)
                loop = asyncio.get_running_loop()
                taken_s = loop.time()
                async with asyncio.timeout(10):
                    async for _ in lines:
                        pass
                assert loop.time() - taken_s < 5, "it ends by itself, within about a second"

    front.run(scenario())


def test_what_is_too_large_is_refused_and_what_is_allowed_passes(front: Front) -> None:
    async def scenario() -> None:
        device = front.site.device
        async with front.client() as client:
            octets = {**device.headers, "content-type": "application/octet-stream"}
            assert (
                await client.post(device.messages, content=b"x" * 262_144, headers=octets)
            ).status_code == 202
            by_gateway = await client.post(device.messages, content=b"x" * 262_145, headers=octets)
            assert (by_gateway.status_code, by_gateway.headers["content-type"]) == (
                413,
                "application/problem+json",
            )
            by_proxy = await client.post(device.messages, content=b"x" * (5 << 20), headers=octets)
            assert (by_proxy.status_code, by_proxy.headers["content-type"]) == (413, "text/html")

    front.run(scenario())


def test_a_slow_client_occupies_the_proxy_and_not_the_gateway(front: Front) -> None:
    async def scenario() -> None:
        device = front.site.device
        before = front.site.http.wire.open
        head = f"POST {device.messages} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        head += f"Authorization: Thing {device.key}\r\nContent-Length: 100\r\n\r\n"
        writers = []
        for _ in range(20):
            reader, writer = await front.dial("https")
            writer.write(head.encode() + b"x")
            writers.append((reader, writer))
        async with front.client() as client:
            assert (await client.get("/health")).status_code == 200
        assert front.site.http.wire.open <= before + 2, "no slow request has reached the gateway"
        reader, writer = writers[0]
        writer.write(b"x" * 99)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        for _, writer in writers:
            writer.close()

    front.run(scenario())


def test_tries_of_a_password_are_counted_by_address(front: Front) -> None:
    async def scenario() -> None:
        async with front.client("127.0.0.77") as client:
            login = {"email": "nobody@example.org", "password": "wrong wrong wrong"}
            codes = [(await client.post("/tokens", json={})).status_code]
            while codes[-1] != 429 and len(codes) < 200:
                codes.append((await client.post("/tokens", json={})).status_code)
            assert codes[0] == 400
            assert codes[-1] == 429
        async with front.client("127.0.0.78") as client:
            assert (await client.post("/api/tokens", json=login)).status_code == 401

    front.run(scenario())


def test_a_right_that_is_taken_away_is_gone_with_the_next_request(front: Front) -> None:
    async def scenario() -> None:
        site = front.site
        person = site.person("leaving@example.org", "technician")
        thing, key = site.hub.registry.create_thing("leaving")
        site.hub.registry.connect([site.device.channel], [thing.id])
        async with front.client() as client:

            async def codes() -> list[int]:
                published = await client.post(
                    site.device.messages, content=PACK, headers={**SENML, "authorization": f"Thing {key}"}
                )
                listed = await client.get("/things", headers=person.headers)
                solved = await client.get("/solver/x", headers=person.headers)
                return [published.status_code, listed.status_code, solved.status_code]

            assert await codes() == [202, 200, 200]
            await asyncio.to_thread(site.hub.registry.disconnect, [site.device.channel], [thing.id])
            await asyncio.to_thread(site.hub.registry.remove_user, person.user.id)
            assert await codes() == [403, 401, 401]

    front.run(scenario())


def test_a_wrong_password_on_the_page_is_audited_with_the_browsers_address(front: Front) -> None:
    async def scenario() -> None:
        before = len(await asyncio.to_thread(front.site.audited))
        async with front.client("127.0.0.88") as client:
            shown = await client.get("/login")
            token = shown.text.partition('name="form_token" value="')[2].partition('"')[0]
            wrong = {
                "email": "viewer@example.org",
                "password": "wrong wrong wrong",
                "passphrase": "wrong wrong wrong",
            }
            origin = {"Origin": front.origin}
            tried = await client.post("/login", data={**wrong, "form_token": token}, headers=origin)
            assert tried.status_code in (200, 400, 401, 403), tried.text
        lines = await asyncio.to_thread(front.site.refusals, before)
        assert [(line.kind, line.address) for line in lines] == [("sign-in", "127.0.0.88")]

    front.run(scenario())


def test_a_websocket_on_a_channel_carries_both_ways_and_ends_with_the_right(front: Front) -> None:
    async def scenario() -> None:
        registry, channel = front.site.hub.registry, front.site.device.channel
        url = front.origin.replace("https", "wss") + front.site.device.messages
        things = [registry.create_thing(f"socket {number}") for number in range(2)]
        registry.connect([channel], [thing.id for thing, _ in things])
        one, two = (
            websockets.connect(
                url, additional_headers={"Authorization": f"Thing {key}"}, ssl=front.trust, proxy=None
            )
            for _, key in things
        )
        async with one as first, two as second:
            await first.send('[{"n":"level","v":1.5}]')
            assert await asyncio.wait_for(second.recv(), 10) == '[{"n":"level","v":1.5}]'
            await asyncio.to_thread(registry.disconnect, [channel], [things[1][0].id])
            async with asyncio.timeout(DEADLINE_S):
                await second.wait_closed()
            assert second.close_code == 1008

    front.run(scenario())


def test_oauth_is_found_and_its_page_is_the_pages(front: Front) -> None:
    async def scenario() -> None:
        async with front.client() as client:
            found = await client.get("/.well-known/openid-configuration")
            assert found.headers["content-type"] == "application/json"
            keys = await client.get("/oauth/jwks")
            assert keys.json()["keys"]
            assert (await client.post("/oauth/token")).headers["content-type"] == "application/json"
            page = await client.get("/oauth/authorize?client_id=x")
            assert "json" not in page.headers["content-type"]

    front.run(scenario())


def test_http_2_is_spoken_and_no_less_strict(front: Front) -> None:
    """By curl, which speaks it; in HTTP/2 a header's name is in small letters anyway."""
    device = front.site.device
    curl = ["curl", "-sS", "--http2", "--cacert", str(front.authority.cert), "--interface", "127.0.0.9"]
    curl += ["-o", "/dev/null", "-w", "%{http_version} %{http_code}", f"{front.origin}{device.messages}"]
    publish = ["-H", f"Authorization: Thing {device.key}", "-H", "Content-Type: application/json", "-d", "{}"]

    def status(*more: str) -> str:
        return subprocess.run([*curl, *publish, *more], capture_output=True, text=True, check=True).stdout

    assert status() == "2 202"
    assert status("-H", f"Client-ID: {front.site.foreign.device.id}") == "2 403"
    assert status("-H", "Transfer-Encoding: chunked", "--http1.1") == "1.1 202"


def test_a_caller_over_ipv6_is_known_by_its_address(front: Front) -> None:
    async def scenario() -> None:
        before = len(await asyncio.to_thread(front.site.audited))
        ports = front.nginx.ports
        async with httpx.AsyncClient(verify=False, timeout=30) as client:
            shown = {"Host": "localhost", "Authorization": "Bearer wrong"}
            answer = await client.get(f"https://[::1]:{ports['https']}/things", headers=shown)
            assert answer.status_code == 401
        reader, writer = await asyncio.open_connection("::1", ports["mqtt"])
        device = Client(reader, writer)
        device.connect("c", front.site.device.id, "wrong")
        assert (await device.read())[0] == 0x20
        writer.close()
        lines = await asyncio.to_thread(front.site.refusals, before)
        assert [(line.door, line.address) for line in lines] == [("http", "::1"), ("mqtt", "::1")]

    front.run(scenario())

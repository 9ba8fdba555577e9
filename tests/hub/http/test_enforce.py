"""`/auth/check`: what a trusted proxy is told of a request, and which paths it is told to refuse."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from hub.http.enforce import BadPath, read_foreign, read_target
from hub.http.proxies import Proxies
from tests.attacks.conftest import Site, open_site

TRUSTED = Proxies(["127.0.0.1"])


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/", "/"),
        ("/things?name=a/../b//c", "/things"),
        ("/channels/c/messages/a%2Fb", "/channels/c/messages/a/b"),
        ("/a%20b/%C3%A9t%C3%A9", "/a b/été"),
        ("/a;b=c/.well-known/x..y/...", "/a;b=c/.well-known/x..y/..."),
    ],
)
def test_plain_paths_are_read_as_the_app_reads_them(uri: str, path: str) -> None:
    assert read_target(uri).path == path


TWO_WAYS = [
    pytest.param("", id="nothing"),
    pytest.param("http://evil.example/things", id="absolute form"),
    pytest.param("things", id="no slash"),
    pytest.param("/auth/../users", id="dots"),
    pytest.param("/auth/./users", id="dot"),
    pytest.param("/auth/..", id="dots at the end"),
    pytest.param("/%2e%2e/users", id="escaped dots"),
    pytest.param("/.%2E/users", id="half escaped dots"),
    pytest.param("/..%2fusers", id="dots and an escaped slash"),
    pytest.param("//users", id="two slashes"),
    pytest.param("/a/%2Fusers", id="escaped second slash"),
    pytest.param("/users%00", id="NUL"),
    pytest.param("/users%0d%0aX: y", id="a line end"),
    pytest.param("/users\\..\\things", id="backslash"),
    pytest.param("/users%5cthings", id="escaped backslash"),
    pytest.param("/users%c0%ae", id="overlong UTF-8"),
    pytest.param("/users%ff", id="not UTF-8"),
    pytest.param("/users%2", id="half an escape"),
    pytest.param("/users%zz", id="no escape"),
    pytest.param("/users#part", id="fragment"),
    pytest.param("/us ers", id="space"),
    pytest.param("/users\t", id="tab"),
    pytest.param("/usérs", id="not ASCII"),
    pytest.param("/users%e2%80%ae", id="a character that turns text round"),
    pytest.param("/" + "a" * 9000, id="very long"),
]


@pytest.mark.parametrize("uri", TWO_WAYS)
def test_what_two_programs_may_read_in_two_ways_is_refused(uri: str) -> None:
    with pytest.raises(BadPath):
        read_target(uri)
    with pytest.raises(BadPath):
        read_foreign(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "/a;jsessionid=1/b",
        "/..;/admin",
        "/a%2fb",
        "/a%3bb",
        "/a%252e%252e/b",
        "/admin.",
        "/admin./x",
        "/admin%20",
        "/x%ef%bc%8fadmin",
        "/%e2%80%a5/admin",
    ],
)
def test_for_another_service_more_is_refused_since_nobody_knows_how_it_reads(uri: str) -> None:
    with pytest.raises(BadPath):
        read_foreign(uri)


def test_only_its_own_error_escapes_from_damaged_targets() -> None:
    chance = random.Random(9112)
    seeds = ["/channels/c/messages/a%2Fb?x=1", "/a%20b/%C3%A9t%C3%A9", "/things/bulk"]
    for _ in range(5000):
        text = list(chance.choice(seeds))
        for _ in range(chance.randrange(1, 5)):
            text.insert(chance.randrange(len(text) + 1), chance.choice("%/.;\\2ef0\x00\x7f \xe9?#"))
        try:
            path = read_target("".join(text)).path
        except BadPath:
            continue
        parts = path.split("/")[1:]
        assert not {".", ".."} & set(parts), (
            "what is let through means the same with and without dots taken away"
        )
        assert "" not in parts[:-1]
        assert path.isprintable()


class Asking:
    """The proxy's side of the question."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def ask(self, method: str, uri: str, as_: Any = None, **headers: str) -> httpx.Response:
        sent = {"X-Original-Method": method, "X-Original-URI": uri, **(as_.headers if as_ else {}), **headers}
        return await self.site.client.get("/auth/check", headers=sent)

    async def status(self, method: str, uri: str, as_: Any = None, **headers: str) -> int:
        return (await self.ask(method, uri, as_, **headers)).status_code


def at_site(tmp_path: Any, scenario: Any, proxies: Proxies = TRUSTED) -> None:
    async def main() -> None:
        async with open_site(tmp_path / "data", proxies) as site:
            await scenario(Asking(site))

    asyncio.run(main())


def test_a_request_to_the_api_is_allowed_as_the_api_itself_would(tmp_path: Any) -> None:
    async def scenario(at: Asking) -> None:
        site = at.site
        viewer, technician, admin = (site.people[role] for role in ("viewer", "technician", "admin"))
        thing = site.device
        messages = thing.messages
        cases = [
            ("GET", "/health", None, 200),
            ("GET", "/things", None, 401),
            ("GET", "/things", viewer, 200),
            ("HEAD", "/things?limit=1", viewer, 200),
            ("OPTIONS", "/things", None, 200),
            ("PUT", f"/things/{thing.id}", viewer, 403),
            ("PUT", f"/things/{thing.id}", technician, 200),
            ("PUT", f"/api/things/{thing.id}", technician, 200),
            ("GET", "/users", technician, 403),
            ("GET", "/users", admin, 200),
            ("GET", "/things", thing, 403),
            ("POST", messages, thing, 200),
            ("POST", f"/http{messages}/roof/east", thing, 200),
            ("POST", messages, None, 401),
            ("POST", messages, admin, 403),
            ("POST", site.foreign.device.messages, thing, 403),
            ("GET", messages, thing, 200),
            ("GET", messages, viewer, 200),
            ("GET", messages, site.foreign.person, 403),
            ("GET", site.foreign.device.messages, site.foreign.person, 200),
            ("POST", f"/channels/{thing.channel}/messages/bad*name", thing, 403),
            ("GET", "/mqtt", None, 200),
            ("GET", "/nowhere", admin, 403),
            ("DELETE", "/health", admin, 403),
            ("TRACE", "/things", admin, 403),
        ]
        found = [(method, uri, await at.status(method, uri, who)) for method, uri, who, _ in cases]
        assert found == [(method, uri, code) for method, uri, _, code in cases]

    at_site(tmp_path, scenario)


def test_the_answer_tells_who_asks_and_may_not_be_kept(tmp_path: Any) -> None:
    async def scenario(at: Asking) -> None:
        device, viewer = at.site.device, at.site.people["viewer"]
        as_thing = await at.ask("POST", device.messages, device)
        assert as_thing.headers["client-id"] == device.id
        assert as_thing.headers["x-fluxgate-subject"] == f"things/{device.id}"
        assert as_thing.headers["cache-control"] == "no-store"
        as_user = await at.ask("GET", "/things", viewer)
        assert as_user.headers["x-fluxgate-subject"] == f"users/{viewer.user.id}"
        assert (as_user.headers["x-fluxgate-role"], as_user.headers["x-fluxgate-name"]) == (
            "viewer",
            "viewer@example.org",
        )
        assert "client-id" not in as_user.headers
        nobody = await at.ask("GET", "/health")
        assert not {"client-id", "x-fluxgate-subject"} & set(nobody.headers)
        stranger = await at.ask("GET", "/things")
        assert stranger.headers["www-authenticate"].startswith("Bearer")

    at_site(tmp_path, scenario)


def test_another_service_is_for_its_role_its_scope_and_whom_policies_name(tmp_path: Any) -> None:
    policy = [
        {
            "subjects": ["things/<.*>"],
            "actions": ["proxy"],
            "resources": ["proxy/maps.example/tiles<.*>"],
            "effect": "allow",
        },
        {
            "subjects": ["users/<.*>"],
            "actions": ["proxy"],
            "resources": ["proxy/maps.example/admin<.*>"],
            "effect": "deny",
            "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "192.0.2.0/24"}}},
        },
    ]

    async def scenario(at: Asking) -> None:
        site = at.site
        viewer, admin, member = (site.people[role] for role in ("viewer", "admin", "member"))
        maps = {"X-Fluxgate-Upstream": "maps.example"}
        for_viewers = {**maps, "X-Fluxgate-Role": "viewer"}
        assert await at.status("GET", "/tiles/1", **maps) == 401
        assert await at.status("GET", "/tiles/1", viewer, **maps) == 403
        assert await at.status("GET", "/tiles/1", admin, **maps) == 200
        assert await at.status("GET", "/tiles/1", viewer, **for_viewers) == 200
        assert await at.status("GET", "/tiles/1", member, **for_viewers) == 403
        assert await at.status("GET", "/tiles/1", site.device, **for_viewers) == 403
        put = await site.request("PUT", "/policies/maps", admin, content=json.dumps(policy))
        assert put.status_code == 201, put.text
        assert await at.status("GET", "/tiles/1", site.device, **for_viewers) == 200
        assert await at.status("GET", "/other", site.device, **for_viewers) == 403
        far = {**for_viewers, "X-Forwarded-For": "192.0.2.9"}
        assert await at.status("GET", "/admin/x", admin, **for_viewers) == 200
        assert await at.status("GET", "/admin/x", admin, **far) == 403
        for trick in ("/x/../admin/x", "//admin/x", "/%61dmin;/x", "/admin%2fx", "/x/%2e%2e/admin/x"):
            assert await at.status("GET", trick, admin, **far) == 403, trick
        assert await at.status("GET", "/%61dmin/x", admin, **far) == 403, "an escape is no other path"
        for scope, verb, code in (
            ("proxy:read:maps.example", "GET", 200),
            ("proxy:read:maps.example", "POST", 403),
            ("proxy:read:other.example", "GET", 403),
            ("things:read", "GET", 403),
            ("proxy:write", "DELETE", 200),
        ):
            made = await site.request("POST", "/keys", admin, json={"name": scope + verb, "scopes": [scope]})
            assert made.status_code == 201, made.text
            key = {"authorization": f"Bearer {made.json()['value']}"}
            assert await at.status(verb, "/tiles/1", **for_viewers, **key) == code, (scope, verb)
        for wrong in ({"X-Fluxgate-Upstream": "Maps Example"}, {**maps, "X-Fluxgate-Role": "king"}):
            assert await at.status("GET", "/", admin, **wrong) == 400

    at_site(tmp_path, scenario)


def test_nobody_but_a_trusted_proxy_gets_an_answer(tmp_path: Any) -> None:
    async def scenario(at: Asking) -> None:
        assert await at.status("GET", "/things", at.site.owner) == 400
        assert (await at.site.client.get("/auth/check", headers=at.site.owner.headers)).status_code == 400

    at_site(tmp_path, scenario, Proxies(["10.0.0.1"]))


def test_a_thing_that_the_proxy_names_publishes_as_in_2017_and_agrees_with_its_credential(
    tmp_path: Any,
) -> None:
    async def scenario(at: Asking) -> None:
        site, device = at.site, at.site.device
        pack = {"content": b'[{"n":"t","v":1}]', "headers": {"Content-Type": "application/senml+json"}}

        async def publish(**headers: str) -> int:
            sent = {**pack["headers"], **headers}  # type: ignore[dict-item]
            return (
                await site.client.post(device.messages, content=pack["content"], headers=sent)
            ).status_code

        assert await publish(**{"Client-ID": device.id}) == 202
        assert site.hub.log.read(0)[-1].publisher == device.id
        assert await publish(**{"Client-ID": device.id}, **device.headers) == 202
        async with site.refused_once("proxy"):
            assert await publish(**{"Client-ID": site.foreign.device.id}, **device.headers) == 400
        async with site.refused_once("proxy"):
            assert await publish(**{"Client-ID": "nobody"}) == 400
        assert await publish(**{"Client-ID": site.foreign.device.id}) == 403, "its channel is another"
        assert len(site.hub.log.read(0)) == 2
        answer = await site.client.get("/things", headers={"Client-ID": device.id})
        assert answer.status_code == 401, "it is a word for publishing, not for managing"

    at_site(tmp_path, scenario)


def test_a_certificate_that_the_proxy_has_verified_counts_as_shown_here(tmp_path: Any) -> None:
    async def scenario(at: Asking) -> None:
        site, device = at.site, at.site.device
        now_s = site.hub.now_s()
        issued = await asyncio.to_thread(site.hub.registry.certificates.issue, device.id, now_s, "test")
        leaf = issued.chain[: issued.chain.index("-----END") + len("-----END CERTIFICATE-----\n")]
        passed = {"X-Fluxgate-Client-Certificate": quote(leaf)}
        assert await at.status("POST", device.messages, **passed) == 200
        await asyncio.to_thread(site.hub.registry.certificates.revoke, [issued.certificate.serial], now_s)
        async with site.refused_once("certificate"):
            assert await at.status("POST", device.messages, **passed) == 401
        async with site.refused_once("certificate"):
            broken = {"X-Fluxgate-Client-Certificate": quote("-----BEGIN CERTIFICATE-----")}
            assert await at.status("POST", device.messages, **broken) == 401

    at_site(tmp_path, scenario)

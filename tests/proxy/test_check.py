"""auth_request with the real nginx: other services by role, policy and scope, the front of 2017, certificates."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from hub.http.door import HttpDoor
from tests.attacks.conftest import Person
from tests.proxy.conftest import Front, certify

SENML = {"content-type": "application/senml+json"}
PACK = b'[{"n":"temperature","v":21.5}]'


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


async def key_of(front: Front, person: Person, *scopes: str) -> dict[str, str]:
    """An API key of somebody, as headers."""
    body = {"name": " ".join(scopes), "scopes": list(scopes)}
    made = await front.site.request("POST", "/keys", person, json=body)
    assert made.status_code == 201, made.text
    return bearer(made.json()["value"])


def test_a_service_is_for_its_role_and_learns_who_asks_and_nothing_he_has_shown(front: Front) -> None:
    async def scenario() -> None:
        people = front.site.people
        async with front.client() as client:
            for role, code in (("member", 403), ("viewer", 403), ("technician", 200), ("admin", 200)):
                answer = await client.get("/solver/a?b=c", headers=people[role].headers)
                assert answer.status_code == code, role
            sent = {**people["admin"].headers, "Cookie": "a=1; __Host-fluxgate=secret; b=2"}
            head = (await client.get("/solver/a?b=c", headers=sent)).text
            assert head.startswith("GET /solver/a?b=c HTTP/1.1\r\n")
            assert f"X-Fluxgate-Subject: users/{people['admin'].user.id}\r\n" in head
            assert "X-Fluxgate-Name: owner@example.org\r\n" in head
            assert "X-Forwarded-For: 127.0.0.9\r\n" in head
            assert "Cookie: a=1; b=2\r\n" in head
            assert "authorization" not in head.lower()
            assert "secret" not in head
            assert (await client.get("/solver/a")).status_code == 401
            assert "www-authenticate" in (await client.get("/solver/a")).headers

    front.run(scenario())


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("__Host-fluxgate=s", ""),
        ("fluxgate=s", ""),
        ("fluxgate=s; a=1", "a=1"),
        ("a=1; fluxgate=s", "a=1"),
        ("a=1; __Host-fluxgate=s; b=2", "a=1; b=2"),
        ("a=1;fluxgate=s;b=2", "a=1;b=2"),
        ("fluxgate=s; fluxgate=s", ""),
        ("a=1; fluxgate=s; b=2; __Host-fluxgate=s", ""),
        ("a=1; b=2", "a=1; b=2"),
    ],
)
def test_the_cookie_of_the_pages_never_reaches_another_service(front: Front, sent: str, passed: str) -> None:
    async def scenario() -> None:
        async with front.client() as client:
            answer = await client.get("/solver/", headers={**front.site.owner.headers, "Cookie": sent})
            found = [line[8:] for line in answer.text.split("\r\n") if line.lower().startswith("cookie: ")]
            assert found == ([passed] if passed else [])

    front.run(scenario())


def test_policies_and_scopes_decide_about_services(front: Front) -> None:
    policy = [
        {
            "subjects": ["things/<.*>"],
            "actions": ["proxy"],
            "resources": ["proxy/solver.example/solver/jobs<.*>"],
            "effect": "allow",
        },
        {
            "subjects": ["users/<.*>"],
            "actions": ["proxy"],
            "resources": ["proxy/solver.example/solver/admin<.*>"],
            "effect": "deny",
        },
    ]

    async def scenario() -> None:
        site = front.site
        admin = site.people["admin"]
        reading = await key_of(front, admin, "proxy:read:solver.example")
        other = await key_of(front, admin, "proxy:read:maps.example", "things:read")
        change = site.hub.registry.change_policies
        async with front.client() as client:

            async def code(method: str, path: str, headers: dict[str, str]) -> int:
                return (await client.request(method, f"/solver/{path}", headers=headers)).status_code

            assert await code("GET", "jobs", reading) == 200
            assert await code("POST", "jobs", reading) == 403
            assert await code("GET", "jobs", other) == 403
            assert await code("GET", "jobs", site.device.headers) == 403
            assert await code("GET", "admin", admin.headers) == 200
            await asyncio.to_thread(change, {"solver": json.dumps(policy)}, site.hub.now_s())
            try:
                assert await code("GET", "jobs/1", site.device.headers) == 200
                assert await code("GET", "other", site.device.headers) == 403
                assert await code("GET", "admin", admin.headers) == 403
                assert await code("GET", "%61dmin", admin.headers) == 403
            finally:
                await asyncio.to_thread(change, {"solver": None}, site.hub.now_s())

    front.run(scenario())


def test_the_front_of_2017_names_the_publisher_after_it_has_asked(front: Front) -> None:
    async def scenario() -> None:
        device, foreign = front.site.device, front.site.foreign.device
        base = f"http://127.0.0.1:{front.nginx.ports['of_2017']}"
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.9")
        async with httpx.AsyncClient(base_url=base, transport=transport, timeout=30) as client:

            async def publish(path: str, **headers: str) -> int:
                sent = {**SENML, **headers}
                return (await client.post(path, content=PACK, headers=sent)).status_code

            assert await publish(device.messages, **device.headers) == 202
            last = front.site.hub.log.read(front.site.hub.log.committed_seq - 1)[-1]
            assert (last.publisher, last.protocol) == (device.id, "http")
            assert await publish(foreign.messages, **device.headers) == 403
            assert await publish(device.messages) == 401
            read = await client.get(device.messages, headers=device.headers)
            assert read.status_code == 200
            assert (await client.get("/things", headers=front.site.owner.headers)).status_code == 404
            for name in ("Client-ID", "client-id", "CLIENT-ID"):
                assert await publish(device.messages, **{name: foreign.id}, **device.headers) == 403

    front.run(scenario())


def test_a_thing_that_shows_a_certificate_to_nginx_needs_no_key(front: Front) -> None:
    async def scenario() -> None:
        device = front.site.device
        certified = await certify(front, device.id)
        context = front.trust
        context.load_cert_chain(certified.cert, certified.key)
        async with front.client(verify=context) as client:

            async def codes() -> list[int]:
                sent = await client.post(device.messages, content=PACK, headers=SENML)
                return [sent.status_code, (await client.get(device.messages)).status_code]

            assert await codes() == [202, 200]
            origin = {"Origin": "https://evil.example"}
            assert (await client.get(device.messages, headers=origin)).status_code == 401
            revoke = front.site.hub.registry.certificates.revoke
            await asyncio.to_thread(revoke, [certified.serial], front.site.hub.now_s())
            assert await codes() == [401, 401]
        async with front.client() as client:
            forged = {"X-Fluxgate-Client-Certificate": "-----BEGIN%20CERTIFICATE-----"}
            assert (
                await client.post(device.messages, content=PACK, headers={**SENML, **forged})
            ).status_code == 403

    front.run(scenario())


def test_nobody_asks_the_question_from_outside(front: Front) -> None:
    async def scenario() -> None:
        question: dict[str, Any] = {"X-Original-Method": "GET", "X-Original-URI": "/things"}
        async with front.client() as client:
            for path in (
                "/fluxgate-check",
                "/fluxgate-check-page",
                "/auth/check",
                "/api/auth/check",
                "/gate",
            ):
                for headers in ({}, question):
                    answer = await client.get(path, headers={**front.site.owner.headers, **headers})
                    assert answer.status_code == 404, path

    front.run(scenario())


def test_a_gateway_that_does_not_answer_lets_nobody_pass(front: Front) -> None:
    async def scenario() -> None:
        site = front.site
        async with front.client() as client:
            assert (await client.get("/solver/x", headers=site.owner.headers)).status_code == 200
            await site.http.close()
            try:
                assert (await client.get("/solver/x", headers=site.owner.headers)).status_code == 500
            finally:
                site.http = HttpDoor(site.hub, site.app, port=site.http.port)
                await site.http.start()
            assert (await client.get("/solver/x", headers=site.owner.headers)).status_code == 200

    front.run(scenario())

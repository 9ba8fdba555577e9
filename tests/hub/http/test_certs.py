"""Certificates over the API: who may, what is listed, and the authority's own requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.authority import profile
from hub.message import TimeQuality

Run = Callable[..., None]
NOW = 1_800_000_000.0
DAY_S = 86_400.0
PASSPHRASE = "a passphrase for the safe"


def with_right_clock(site: Any) -> None:
    site.hub.clock = lambda: (int(NOW * 1e9), TimeQuality.NTP)
    site.token = site.hub.registry.issue_token(site.hub.registry.users()[0].id, NOW)


async def sign_up(site: Any, email: str, role: str) -> dict[str, str]:
    """Headers of somebody new."""
    user = await asyncio.to_thread(site.hub.registry.create_user, email, "correct horse", role)
    return {"authorization": f"Bearer {site.hub.registry.issue_token(user.id, site.hub.now_s())}"}


def test_who_manages_a_thing_manages_its_certificates_and_nobody_else(run: Run) -> None:
    async def scenario(site: Any) -> None:
        registry = site.hub.registry
        ours = registry.groups.create("ours", now_s=NOW)
        theirs = registry.groups.create("theirs", now_s=NOW)
        thing, _ = registry.create_thing("pump", group=ours.id)
        people = {"tech": await sign_up(site, "tech@example.org", "member")}
        for name, group, role in (
            ("tech", ours, "technician"),
            ("viewer", ours, "viewer"),
            ("foreigner", theirs, "admin"),
        ):
            people.setdefault(
                name,
                people["tech"] if name == "tech" else await sign_up(site, f"{name}@example.org", "member"),
            )
            user = registry.user_by_email(f"{name}@example.org")
            registry.groups.assign_users(group.id, [user.id], role)

        async def ask(who: str, method: str, path: str, body: Any = None) -> Any:
            return await site.client.request(method, path, headers=people[who], json=body)

        body = {"thing_id": thing.id}
        assert (await ask("viewer", "POST", "/certs", body)).status_code == 403
        assert (await ask("foreigner", "POST", "/certs", body)).status_code == 404
        made = await ask("tech", "POST", "/certs", body)
        assert made.status_code == 201, made.text
        assert made.headers["cache-control"] == "no-store"
        path = made.headers["location"]
        assert (await ask("viewer", "GET", path)).json()["thing_id"] == thing.id
        assert (await ask("foreigner", "GET", path)).status_code == 404
        assert (await ask("foreigner", "DELETE", path)).status_code == 404
        assert (await ask("viewer", "DELETE", path)).status_code == 403
        for who, number in (("tech", 1), ("viewer", 1), ("foreigner", 0)):
            assert (await ask(who, "GET", "/certs")).json()["total"] == number
        assert (await ask("foreigner", "GET", f"/certs?thing_id={thing.id}")).status_code == 404
        assert (await ask("tech", "GET", "/certs/authorities")).status_code == 403
        assert (await ask("tech", "DELETE", f"{path}?reason=lost")).status_code == 204
        shown = (await ask("tech", "GET", path)).json()
        assert (shown["state"], shown["reason"]) == ("revoked", "lost")
        registry.remove_thing(thing.id)
        assert (await ask("tech", "GET", path)).status_code == 404
        assert (await site.get(path)).json()["state"] == "revoked", "administrators see what was"

    run(scenario)


def test_certificates_are_listed_searched_and_paged(run: Run) -> None:
    async def scenario(site: Any) -> None:
        with_right_clock(site)
        registry = site.hub.registry
        other, _ = registry.create_thing("Boiler 3")
        issue = registry.certificates.issue
        long = issue(site.thing_id, NOW, "users/u").certificate.serial
        short = issue(other.id, NOW, "users/u", life_s=DAY_S).certificate.serial
        over = issue(other.id, NOW - 2 * DAY_S, "users/u", life_s=DAY_S).certificate.serial
        gone = issue(other.id, NOW, "users/u").certificate.serial
        registry.certificates.revoke([gone], NOW, "lost")
        for query, serials in (
            ("", [gone, over, short, long]),
            ("?state=good", [short, long]),
            ("?state=over", [over]),
            ("?state=revoked", [gone]),
            ("?state=good&expiring_s=90000", [short]),
            (f"?thing_id={site.thing_id}", [long]),
            ("?q=BOILER", [gone, over, short]),
            (f"?q={long[3:20]}", [long]),
            ("?limit=1&offset=2", [short]),
        ):
            answer = (await site.get(f"/certs{query}")).json()
            assert [each["serial"] for each in answer["certs"]] == serials, query
        assert (await site.get("/certs?limit=1")).json()["total"] == 4
        for query in ("?state=x", "?limit=0", "?limit=101", "?expiring_s=-1", f"?q={'x' * 129}"):
            assert (await site.get(f"/certs{query}")).status_code == 400, query
        assert (await site.get("/certs/nothing")).status_code == 404
        all_of = await site.client.delete(f"/things/{other.id}/certs", headers=site.user)
        assert all_of.status_code == 204
        assert (await site.get("/certs?state=good")).json()["total"] == 1

    run(scenario)


def test_what_cannot_be_made_is_told_why(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for body, status, words in (
            ({}, 400, "thing_id"),
            ({"thing_id": "nothing"}, 404, "no such thing"),
            ({"thing_id": site.thing_id, "ttl_s": 1}, 400, "ttl_s"),
            ({"thing_id": site.thing_id, "csr": "x"}, 400, "openssl req"),
            ({"thing_id": site.thing_id, "csr": "x" * 9000}, 400, "csr"),
        ):
            answer = await site.post("/certs", body)
            assert answer.status_code == status, answer.text
            assert words in answer.json()["detail"]
        plain = await site.client.post("/certs/renew", json={"csr": "x"}, headers=site.thing)
        assert plain.status_code == 400
        assert "show the certificate" in plain.json()["detail"]
        assert (await site.client.post("/certs/renew", json={"csr": "x"})).status_code == 401

    run(scenario)


def test_the_authority_is_open_and_its_keys_are_the_administrators(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for path in ("/certs/authority", "/certs/deny-list"):
            assert (await site.client.get(path)).status_code == 404
        nothing = (await site.get("/certs/authorities")).json()
        assert (nothing["root"], nothing["issuing"], nothing["foreign"]) == (None, [], [])
        assert (await site.post("/certs", {"thing_id": site.thing_id})).status_code == 201
        answer = await site.client.get("/certs/authority")
        root = x509.load_pem_x509_certificate(answer.content)
        shown = (await site.get("/certs/authorities")).json()
        assert answer.headers["x-fingerprint-sha256"] == shown["root"]["fingerprint"]
        denied = x509.load_pem_x509_crl((await site.client.get("/certs/deny-list")).content)
        assert denied.issuer.rfc4514_string() == shown["issuing"][0]["subject"]
        technician = await sign_up(site, "tech@example.org", "technician")
        key = "/certs/authority/root-key"
        forbidden = await site.client.post(key, json={"passphrase": PASSPHRASE}, headers=technician)
        assert forbidden.status_code == 403
        assert (await site.post(key, {"passphrase": "short"})).status_code == 400
        exported = await site.post(key, {"passphrase": PASSPHRASE})
        assert exported.headers["cache-control"] == "no-store"
        text = exported.json()["pem"]
        assert load_pem_private_key(text.encode(), PASSPHRASE.encode()).public_key() == root.public_key()
        for status in (204, 409):
            assert (await site.client.delete(key, headers=site.user)).status_code == status
        assert (await site.post("/certs/authority/successor", {})).status_code == 409
        given = {"key": text, "passphrase": PASSPHRASE}
        followed = await site.post("/certs/authority/successor", given)
        assert len(followed.json()["issuing"]) == 2, followed.text
        assert followed.json()["root_key_here"] is False
        assert (await site.client.put(key, json=given, headers=site.user)).status_code == 204
        assert (await site.get("/certs/authorities")).json()["root_key_here"] is True
        theirs = profile.pem([profile.make_root("Plant", (), NOW).certificate])
        added = await site.post("/certs/authorities", {"certificates": theirs})
        (foreign,) = added.json()["foreign"]
        assert (await site.post("/certs/authorities", {"certificates": theirs})).status_code == 409
        assert (await site.post("/certs/authorities", {"certificates": "x"})).status_code == 400
        for status in (204, 404):
            gone = await site.client.delete(f"/certs/authorities/{foreign['id']}", headers=site.user)
            assert gone.status_code == status
        assert site.hub.audit.flush(gathered=True)
        with site.hub.audit.reader() as reader:
            lines = reader.lines("kind = ? AND outcome = ?", ("certificate", "done"), 100)
        said = [line.detail for line in lines]
        for words in (
            "made, for things/",
            "exported",
            "taken off",
            "followed",
            "again",
            "others are trusted",
        ):
            assert any(words in each for each in said), words
        assert not any(PASSPHRASE in each for each in said)

    run(scenario)

"""Attacks on the claim and on codes of authenticator apps: races, guesses, codes played in again."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pyotp.totp import TOTP

from hub.http import MIGRATIONS
from hub.http.app import ENDPOINTS, create_app
from hub.http.door import HttpDoor
from hub.http.table import BEFORE_CLAIM, Needs
from hub.hub import Hub
from hub.lockout import Lockout
from tests.attacks.clocks import Time, moved_by, sign_in
from tests.webui.double import Visitor
from webui import app as webui
from webui.config import WebuiConfig

RunSite = Callable[..., None]

WRONG = "this is not the password"
HOUR_S = 3600.0

# Codes


def with_codes(s: Any, time: Time) -> TOTP:
    """Have the owner sign in with a code from now on."""
    totp = TOTP(s.hub.registry.totp.begin(s.owner.user.id, s.owner.user.email).secret)
    s.recovery = s.hub.registry.totp.confirm(s.owner.user.id, totp.at(int(time.wall_s)), time.wall_s, True)
    time.passes(60)
    return totp


def test_a_code_is_good_once(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        totp = with_codes(s, time)
        asked = await sign_in(s, s.owner.login)
        assert (asked.status_code, asked.json()["totp"]) == (401, True)
        code, earlier = totp.at(int(time.wall_s)), totp.at(int(time.wall_s) - 30)
        answers = await asyncio.gather(*(sign_in(s, {**s.owner.login, "code": code}) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401]
        s.hub.sign_in.lift()
        for replayed in (code, earlier):
            async with s.refused_once("totp"):
                answer = await sign_in(s, {**s.owner.login, "code": replayed})
                assert (answer.status_code, answer.json()["totp"]) == (401, True)
        time.passes(30)
        again = await sign_in(s, {**s.owner.login, "code": totp.at(int(time.wall_s))})
        assert again.status_code == 201  # the negative control: a fresh one is taken
        for expected in (201, 401):
            answer = await sign_in(s, {**s.owner.login, "code": s.recovery[0]})
            assert answer.status_code == expected

    site(scenario, clock=time.clock)


def test_guessing_codes_with_the_right_password_is_slow(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        with_codes(s, time)
        tried = 0
        login = (s.owner.user.email, s.owner.login["password"])
        for n in range(1000):
            with pytest.raises(Exception, match=r"code|wrong") as refused:
                s.hub.sign_in.sign_in(*login, code=f"{n:06d}" if n % 2 else "", address="198.51.100.7")
            tried += refused.typename == "SignInRefused" and n % 2
            time.passes(3.6)
        assert 10 < tried <= 100

    site(scenario, clock=time.clock)


def test_a_code_without_the_password_says_nothing(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        totp = with_codes(s, time)
        for code in (totp.at(int(time.wall_s)), "000000"):
            answer = await sign_in(s, {**s.owner.login, "password": WRONG, "code": code})
            assert (answer.status_code, "totp" in answer.json()) == (401, False)

    site(scenario, clock=time.clock)


def test_a_stolen_session_cannot_turn_codes_on_or_off(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        async with s.refused_once("sign-in"):
            answer = await s.request("POST", "/users/totp", s.owner, json={"password": WRONG})
            assert answer.status_code == 401
        totp = with_codes(s, time)
        proof = {"password": WRONG, "code": totp.at(int(time.wall_s))}
        for method, path in (("DELETE", "/users/totp"), ("POST", "/users/totp/recovery")):
            async with s.refused_once("sign-in"):
                assert (await s.request(method, path, s.owner, json=proof)).status_code == 401
        proof = {**proof, "password": s.owner.login["password"], "code": "000000"}
        async with s.refused_once("totp"):
            assert (await s.request("DELETE", "/users/totp", s.owner, json=proof)).status_code == 401
        assert s.hub.registry.totp.on(s.owner.user.id)

    site(scenario, clock=time.clock)


def test_who_must_have_a_code_only_looks_until_he_has(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        s.hub.registry.second_factor_for = frozenset({"admin"})
        s.hub.registry.epoch += 1
        async with s.refused_once("access"):
            assert (await s.request("GET", "/users", s.owner)).status_code == 403
        profile = (await s.request("GET", "/users/profile", s.owner)).json()
        assert (profile["role"], profile["totp_needed"]) == ("admin", True)
        begun = await s.request("POST", "/users/totp", s.owner, json={"password": s.owner.login["password"]})
        code = TOTP(begun.json()["secret"]).at(int(time.wall_s))
        assert (
            await s.request("POST", "/users/totp/confirm", s.owner, json={"code": code})
        ).status_code == 201
        assert (await s.request("GET", "/users", s.owner)).status_code == 200
        proof = {"password": s.owner.login["password"], "code": "000000"}
        assert (await s.request("DELETE", "/users/totp", s.owner, json=proof)).status_code == 403

    site(scenario, clock=time.clock)


# The claim


async def with_unclaimed(folder: Path, scenario: Callable[[Hub, httpx.AsyncClient], Any]) -> None:
    hub = Hub.open(folder, migrations=MIGRATIONS)
    door = HttpDoor(hub, create_app(hub))
    await door.start()
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{door.port}", trust_env=False, timeout=30
        ) as client:
            await scenario(hub, client)
    finally:
        await door.close()
        await hub.close()


def test_fifty_who_hold_the_code_make_one_owner(tmp_path: Path, cheap: list[str]) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        hub.sign_in.lockout = Lockout()
        code = hub.registry.claim_code()

        def claim(n: int) -> Any:
            body = {"code": code, "email": f"racer{n}@example.org", "password": "four or five words"}
            return client.post("/claim", json=body, timeout=30)

        answers = await asyncio.gather(*(claim(n) for n in range(50)))
        counts = Counter(answer.status_code for answer in answers)
        assert counts[201] == 1
        assert set(counts) <= {201, 409, 429, 503}
        assert len(hub.registry.users()) == 1
        hub.audit.flush()
        with hub.audit.reader() as reader:
            assert len(reader.lines("kind = 'claim' AND outcome = 'done'", (), 100)) == 1

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_before_the_claim_only_the_claim_and_the_health_answer(tmp_path: Path) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        answered = set()
        for row in ENDPOINTS:
            if row.needs in (Needs.ANY, Needs.THING):
                continue  # for things, of which there are none
            path = row.path.replace(":path", "").replace("{", "").replace("}", "")
            answer = await client.request(
                row.method, path, content=b"{}", headers={"content-type": "application/json"}
            )
            if answer.status_code not in (401, 403):
                answered.add(row.path)
        assert answered == BEFORE_CLAIM

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_before_the_claim_the_pages_lead_to_the_claim_and_show_nothing_else(tmp_path: Path) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        app = webui.create_app(WebuiConfig(api_url=str(client.base_url).rstrip("/")))

        def walk() -> None:
            visitor = Visitor(app.test_client())
            shown = set()
            for rule in app.url_map.iter_rules():
                path = re.sub(r"<[^<>]+>", "1", rule.rule)
                for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                    answer = visitor.client.open(path, method=method)
                    if answer.status_code == 200:
                        shown.add(path)
                    elif answer.status_code == 303:
                        assert urlsplit(answer.location).path in ("/login", "/claim"), path
                    else:
                        assert answer.status_code in (401, 403, 404), (method, path)
            assert shown == {"/claim"}
            assert urlsplit(visitor.get("/login").location).path == "/claim"
            visitor.get("/claim")
            login = {"email": "a@example.org", "password": "four or five words"}
            assert visitor.post("/login", login).status_code == 403

        await asyncio.to_thread(walk)
        webui.close(app)

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_guessing_the_claim_code_is_slow_and_uses_it_up(tmp_path: Path, cheap: list[str], time: Time) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        hub.sign_in.monotonic = lambda: time.mono_s
        code = hub.registry.claim_code()
        for n in range(20):
            body = {"code": f"0000-{n:04d}", "email": "thief@example.org", "password": "four or five words"}
            await client.post("/claim", json=body)
            time.passes(HOUR_S)
        assert not hub.registry.claimed
        body = {"code": code, "email": "thief@example.org", "password": "four or five words"}
        assert (await client.post("/claim", json=body)).status_code == 429, "used up"
        time.passes(HOUR_S)
        body["code"] = hub.registry.claim_code()
        assert body["code"] != code
        assert (await client.post("/claim", json=body)).status_code == 201

    asyncio.run(with_unclaimed(tmp_path, scenario))
